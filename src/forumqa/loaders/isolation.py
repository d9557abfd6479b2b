"""Loading in a process of its own: a file that crashes, hangs or bloats a parser fails alone."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import weakref
from pathlib import PurePosixPath

from forumqa.loaders import load
from forumqa.schema import Document, LoadFailed

# A report of 500 pages takes about two seconds.
SECONDS = 60.0
# Address space, not memory in use; the largest file that may be read needs about half.
MEGABYTES = 2048
# Read in this process: nothing but decoding.
IN_PROCESS = {".txt"}
# The exit status of a worker that had no memory left.
OUT_OF_MEMORY = 77


class _Ended(Exception):
    """The worker ended without a reply."""


class IsolatedLoader:
    """Loads files in a worker process, which starts with the first that needs it and, if it dies,
    again with the next. For one thread at a time."""

    def __init__(self, seconds: float = SECONDS, megabytes: int = MEGABYTES) -> None:
        self._seconds, self._megabytes = seconds, megabytes
        self._process: subprocess.Popen[bytes] | None = None

    def load(self, data: bytes, document_id: str) -> Document:
        """Return the document in ``data``, as :func:`forumqa.loaders.load` does. Raises LoadFailed,
        also where its reader crashed, took too long or too much memory."""
        suffix = PurePosixPath(document_id).suffix.lower()
        if suffix in IN_PROCESS:
            return load(data, document_id)
        used = self._process is not None
        try:
            return self._ask(data, document_id)
        except _Ended as error:
            # What earlier files have left behind is not this one's fault.
            if used:
                return self.load(data, document_id)
            raise LoadFailed(f"{error}; open the file in its program and save it again") from None

    def close(self) -> None:
        """End the worker, if there is one."""
        if self._process is not None:
            _end(self._process)
            self._process = None

    def _ask(self, data: bytes, document_id: str) -> Document:
        process = self._process = self._process or self._start()
        assert process.stdin and process.stdout
        overdue = threading.Event()

        def stop() -> None:
            overdue.set()
            process.kill()

        timer = threading.Timer(self._seconds, stop)
        timer.daemon = True
        timer.start()
        request = {"id": document_id, "size": len(data), "seconds": self._seconds}
        reply = b""
        with contextlib.suppress(OSError):
            process.stdin.write(json.dumps(request).encode() + b"\n" + data)
            process.stdin.flush()
            reply = process.stdout.readline()
        timer.cancel()
        if reply.endswith(b"\n"):
            answer = json.loads(reply)
            if "failed" in answer:
                raise LoadFailed(answer["failed"])
            return Document.from_dict(answer["document"])
        self.close()
        if overdue.is_set():
            raise LoadFailed(
                f"reading the file took over {self._seconds:.0f} seconds; split it, or save it anew"
            )
        if process.returncode == OUT_OF_MEMORY:
            raise _Ended(f"reading the file took over {self._megabytes} MiB of memory")
        raise _Ended("the reader of this format crashed on the file")

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "forumqa.loaders.worker", str(self._megabytes)]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path},
        )
        weakref.finalize(self, _end, process)
        return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()
