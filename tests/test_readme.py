"""The README's commands exist and its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forumqa.cli import _parser
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_line_parses() -> None:
    lines = re.findall(r"^forumqa (.+)$", README, re.M)
    assert len(lines) >= 6
    for line in lines:
        line = re.sub(r"\[[^\]]*\]", "", line.partition("#")[0]).replace("…", "")
        words = re.findall(r'"[^"]*"|\S+', line)
        _parser().parse_args([word.strip('"') for word in words])


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M)


def test_the_python_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "corpus").symlink_to(ROOT / "corpus", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", README, re.S)
    assert code
    exec(compile(code[1], "README.md", "exec"), {})
    assert "플랫폼" in capsys.readouterr().out
