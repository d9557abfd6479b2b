# Two commands: `make run` and `make test`. Everything lives in .venv.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: run test lint clean

run: $(STAMP)
	$(BIN)/forumqa serve --rebuild

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy


# constraints.txt pins torch: an open range may bring gigabytes of GPU libraries that nothing uses.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv index/generations index/CURRENT
