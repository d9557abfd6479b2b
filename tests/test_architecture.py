"""The layer table of CONTRIBUTING.md holds, and importing forumqa stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "src" / "forumqa"
LAYERS = [
    {"schema", "text", "answertype"},
    {"calibration", "chunking", "duplicates", "loaders", "lexical", "dense", "llm", "fetch"},
    {"store"},
    {"indexer", "retrieval", "answering", "intake", "watcher", "worker"},
    {"engine"},
    {"evaluation", "webui"},
    {"cli"},
]
# Small exceptions with their reasons in DECISIONS.md: answers and measurements are made of rankings.
ALLOWED = {("answering", "retrieval")}


def modules_imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "forumqa":
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


def test_a_module_imports_only_from_layers_below() -> None:
    layer = {name: i for i, names in enumerate(LAYERS) for name in names}
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own in ("__init__", "__main__"):
            continue
        assert own in layer, f"{own} has no place in the layer table"
        for other in modules_imported(path) & layer.keys():
            below = layer[other] < layer[own] or other == own
            assert below or (own, other) in ALLOWED, f"{path.name} imports {other}"


def test_import_is_light() -> None:
    heavy = (
        "{'torch','faiss','gradio','sentence_transformers','kiwipiepy','numpy','tokenizers',"
        "'lxml','trafilatura','pypdfium2','olefile'}"
    )
    code = f"import sys, forumqa; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_worker_of_the_loaders_starts_light() -> None:
    heavy = "{'torch','faiss','kiwipiepy','numpy','lxml','trafilatura','pypdfium2','olefile'}"
    code = f"import sys, forumqa.loaders.worker; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_question_needs_neither_torch_nor_kiwi(forum_index: Path) -> None:
    code = (
        "import sys, forumqa; forumqa.ask('포럼은 어디에서 열렸나요?', index=sys.argv[1]); "
        "print(sorted({'torch','sentence_transformers','kiwipiepy','gradio','lxml'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(forum_index)], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
