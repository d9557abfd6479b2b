"""A rebuild in a process of its own, so that questions keep this one to themselves.

Threads would share the interpreter: a full rebuild is minutes of Python. The other process is
``forumqa rebuild`` as anybody runs it; progress and report come back as lines of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from forumqa.schema import BuildReport, ForumQAError, Progress, Settings


def rebuild(
    corpus: Path, index: Path, settings: Settings, progress: Progress | None = None
) -> BuildReport:
    """Run ``forumqa rebuild`` and return its report. Raises ForumQAError with what it says."""
    command = [sys.executable, "-m", "forumqa", "rebuild", "--json", "--progress-json"]
    command += ["--corpus", str(corpus), "--index", str(index)]
    chosen = {
        f"FORUMQA_{name.upper()}": getattr(settings, name)
        for name in ("embedder", "query_prompt", "passage_prompt")
    }
    source = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    # The report goes through a file: a pipe that nobody empties while progress is read would fill.
    with (
        tempfile.TemporaryFile() as report,
        subprocess.Popen(
            command,
            env={**os.environ, **chosen, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            stdout=report,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        ) as process,
    ):
        assert process.stderr is not None
        last = ""
        try:
            for line in process.stderr:
                step = _step(line)
                if step is None:
                    last = line.strip() or last
                elif progress:
                    progress(*step)
            process.wait()
        except BaseException:
            # Half a build harms nothing: the next one clears it away.
            process.kill()
            raise
        report.seek(0)
        output = report.read()
    if process.returncode:
        reason = last.removeprefix("forumqa: ")
        raise ForumQAError(
            reason or f"The rebuild of {index} ended early ({process.returncode}); run it again."
        )
    return _report(json.loads(output))


def _step(line: str) -> tuple[int, int, str] | None:
    if not line.startswith("["):
        return None
    try:
        done, total, what = json.loads(line)
    except ValueError:
        return None
    return int(done), int(total), str(what)


def _report(facts: Mapping[str, Any]) -> BuildReport:
    values: dict[str, Any] = {field.name: facts[field.name] for field in fields(BuildReport)}
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
    return BuildReport(**values)
