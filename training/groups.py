"""Reads what training.prepare wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.sources import Pair


def read_rows(path: Path) -> list[Any]:
    """All rows of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_groups(work: Path) -> dict[str, list[Pair]]:
    """Pairs by group name, in order of name."""
    return {
        path.stem: [(row[0], row[1]) for row in read_rows(path)]
        for path in sorted((work / "groups").glob("*.jsonl"))
    }
