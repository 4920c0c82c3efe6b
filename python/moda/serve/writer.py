"""Log lines to a descriptor that may not be read, without anybody waiting for it.

A pipe holds 64 KB. Once its reader stops, a write to it blocks for as long as the reader likes, and
with the loop's thread the whole gateway. So a thread of its own writes: whoever logs puts a line into
a queue and goes on. The queue is bounded in bytes. What does not fit is dropped and counted, and the
log says how many lines are missing as soon as it can be written again.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable

__all__ = ["DEFAULT_BYTES", "LineWriter"]

DEFAULT_BYTES = 1 << 20
"""What waits in memory at most: some thousand lines, seconds of a busy log."""

PIECE = 1 << 16
"""Bytes of one write: what a pipe holds. Room in the queue is given back as pieces are written."""


class LineWriter:
    """Writes lines to ``descriptor`` in the order of :meth:`write`, from a thread of its own.

    ``most`` bytes may wait. ``notice(count)`` makes the line that says how many are missing.
    ``dropped`` counts the lines that found no room, ``failed`` those the system refused to write (a
    full disk, a reader that is gone).
    """

    def __init__(self, descriptor: int, most: int, notice: Callable[[int], str]) -> None:
        self.dropped = 0
        self.failed = 0
        self._descriptor = descriptor
        self._most = most
        self._notice = notice
        self._unsaid = 0
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        """An empty queue and a thread: at the start, and in a forked child, which has no threads."""
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        # Reentrant: a signal's handler or a finalizer may log while its own thread is in here.
        self._changed = threading.Condition(threading.RLock())
        threading.Thread(target=self._run, name="moda-log", daemon=True).start()

    def write(self, line: str) -> None:
        """Queues one line, without its end. Never waits, raises nothing for a full queue."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._changed:
            if self._waiting + len(data) > self._most:
                self.dropped += 1
                self._unsaid += 1
                return
            self._lines.append(data)
            self._waiting += len(data)
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Waits until everything queued was written, ``seconds`` at most. False if it was not."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting == 0, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._lines:
                    self._changed.wait()
                batch = b"".join(self._lines)
                lines = len(self._lines)
                self._lines.clear()
                # Dropped lines came after all that found room.
                unsaid, self._unsaid = self._unsaid, 0
            if unsaid:
                said = self._notice(unsaid).encode("utf-8", "backslashreplace") + b"\n"
                with self._changed:
                    self._waiting += len(said)
                batch += said
            if not self._put(batch):
                self.failed += lines

    def _put(self, batch: bytes) -> bool:
        """Writes all of it, however long that takes; gives back room piece by piece."""
        left = memoryview(batch)
        while left:
            try:
                written = os.write(self._descriptor, left[:PIECE])
            except BlockingIOError:
                # Somebody else who shares it has made it non-blocking.
                select.select([], [self._descriptor], [])
                continue
            except (OSError, ValueError):
                self._taken(len(left))
                return False
            left = left[written:]
            self._taken(written)
        return True

    def _taken(self, size: int) -> None:
        with self._changed:
            self._waiting -= size
            self._changed.notify_all()
