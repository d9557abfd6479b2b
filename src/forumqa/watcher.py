"""Looks at the corpus folder every few seconds and says when it has changed and come to rest.

A look is a listing with sizes and times, 0.1 s for ten thousand files. The system's notices of
changed files are not used: they do not cross network shares, which is where an office keeps its
articles, and a look would still have to follow each.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from forumqa.schema import ForumQAError

log = logging.getLogger(__name__)

# A full disk or a rebuild by hand passes; trying in vain costs as much as a rebuild.
_RETRY = 60.0


class Watcher:
    """A thread that calls ``rebuild`` after ``look`` has returned something new twice in a row.

    ``look`` returns stamps by file. Twice, because a file that is being copied in is not read half.
    ``built`` are the stamps of what is in the index already. A failure is logged and kept in
    ``problem`` until a rebuild succeeds; the watch goes on, and tries again a minute later or when
    a file changes.
    """

    def __init__(self, look: Callable[[], Mapping[str, str]], rebuild: Callable[[], Any],
                 interval: float, built: Mapping[str, str] | None = None) -> None:  # fmt: skip
        self.interval = interval
        self.problem = ""
        self._look, self._rebuild = look, rebuild
        self._built = built
        self._again = 0.0
        self._seen: Mapping[str, str] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forumqa-watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End. A rebuild at hand is waited for three seconds, and publishes or leaves nothing."""
        self._stop.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout=3)

    def step(self) -> bool:
        """Look once; return whether a rebuild was tried."""
        try:
            now = self._look()
            if now != self._seen:
                self._seen = now
                return False
            if now == self._built and not (self.problem and time.monotonic() >= self._again):
                return False
            self._built = now
            self._rebuild()
            self.problem = ""
            return True
        except (ForumQAError, OSError) as error:
            self._fail(str(error))
        except Exception as error:
            # Our own bug must not end the watch, and must be seen.
            log.exception("The rebuild of a changed corpus failed.")
            self._fail(f"The rebuild failed: {error!r}")
        return True

    def _fail(self, reason: str) -> None:
        if reason != self.problem:
            log.warning("%s", reason)
        self.problem = reason
        self._again = time.monotonic() + _RETRY

    def _run(self) -> None:
        while not self._stop.is_set():
            self.step()
            self._stop.wait(self.interval)
