"""The process that reads files for :class:`forumqa.loaders.isolation.IsolatedLoader`.

On standard input, for each file, a line of JSON (``id``, ``size``, ``seconds``) and its bytes; on
standard output a line of JSON with the document, or with the reason why there is none.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from dataclasses import asdict

from forumqa.loaders import load
from forumqa.loaders.isolation import OUT_OF_MEMORY
from forumqa.schema import LoadFailed


def main() -> None:
    limit_memory(int(sys.argv[1]))
    # What a library prints must not end up among the replies.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        data = sys.stdin.buffer.read(request["size"])
        if hasattr(signal, "alarm"):
            # Should the other side be gone, nobody else ends this.
            signal.alarm(int(request["seconds"]) + 5)
        try:
            reply = json.dumps(_reply(data, request["id"])).encode() + b"\n"
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        replies.write(reply)
        replies.flush()
        if hasattr(signal, "alarm"):
            signal.alarm(0)


def _reply(data: bytes, document_id: str) -> dict[str, object]:
    try:
        return {"document": asdict(load(data, document_id))}
    except LoadFailed as error:
        return {"failed": str(error)}
    except ImportError as error:
        return {"failed": f"a package is missing ({error}); install forumqa anew: make run"}
    except MemoryError:
        raise
    except Exception as error:
        # A parser's own failure on a file it should have refused: named, and the next file is read.
        kind = type(error).__name__
        return {"failed": f"the file is damaged ({kind}); open it in its program and save it again"}


def limit_memory(megabytes: int) -> None:
    """Bound the address space of this process, where the system can (POSIX)."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        size = megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


if __name__ == "__main__":
    main()
