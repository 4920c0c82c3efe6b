"""What holds the loop: a thread looks, since the loop itself cannot.

Everybody is served by one loop. A handler that computes or sleeps without ``await`` stops all of
them, and nothing says which. A task of the loop stamps the time twenty times a second; a thread sees
when the stamp is overdue, and writes down the loop's stack while what holds it is still there. The
engine's callbacks need no mark for it: what runs is on the stack, and ``about`` reads topic and event
from there. Forty wake-ups a second cost 0.7 % of a core (measured, idle), a message nothing.

Code that keeps the interpreter's lock keeps the thread from looking, too. Then the stamp's own task
says afterwards that the loop was blocked, without a stack.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import structlog

__all__ = ["DEFAULT_MS", "LoopWatch", "stack_of"]

_log = structlog.get_logger("moda.loop")

DEFAULT_MS = 250
"""Milliseconds somebody may hold the loop before the log says so."""

PERIOD = 0.05
"""Seconds between two stamps, and between two looks."""

DEEPEST = 30
"""Frames of a stack that are written, the innermost ones."""


def stack_of(frame: FrameType | None) -> list[str]:
    """Where a thread stands, innermost last, as ``file:line function``. No values, no source."""
    lines: list[str] = []
    while frame is not None and len(lines) < DEEPEST:
        code = frame.f_code
        lines.append(f"{code.co_filename}:{frame.f_lineno} {code.co_qualname}")
        frame = frame.f_back
    return lines[::-1]


class LoopWatch:
    """Logs and counts what holds the loop for longer than ``seconds``.

    ``about(frame)`` names what the innermost frame works for, as fields of the line. ``blocked`` is
    how often it happened. Run :meth:`run` once, on the loop to be watched.
    """

    def __init__(
        self, seconds: float, about: Callable[[FrameType], Mapping[str, Any]] = lambda frame: {}
    ) -> None:
        self.blocked = 0
        self._seconds = seconds
        self._about = about
        self._due = 0.0
        self._seen = 0.0
        """The stamp whose delay the thread has written down."""

    async def run(self) -> None:
        """Stamps the time until cancelled, with the thread beside it."""
        over = threading.Event()
        self._due = time.monotonic() + PERIOD
        threading.Thread(
            target=self._look, args=(threading.get_ident(), over), name="moda-watchdog", daemon=True
        ).start()
        try:
            while True:
                self._due = due = time.monotonic() + PERIOD
                await asyncio.sleep(PERIOD)
                self._back(due, time.monotonic() - due)
        finally:
            over.set()

    def _back(self, due: float, late: float) -> None:
        if self._seen == due:
            _log.warning("loop.resumed", seconds=round(late, 3))
        elif late > self._seconds:
            self.blocked += 1
            _log.warning(
                "loop.blocked",
                seconds=round(late, 3),
                problem="the stack could not be read meanwhile",
            )

    def _look(self, ident: int, over: threading.Event) -> None:
        looked = time.monotonic()
        while not over.wait(PERIOD):
            now, before = time.monotonic(), looked
            looked = now
            due = self._due
            if now - due <= self._seconds or due == self._seen:
                continue
            if now - before > PERIOD + self._seconds:
                continue  # this thread did not run either: the process was stopped, or had no CPU
            self._tell(ident, due, now)

    def _tell(self, ident: int, due: float, now: float) -> None:
        # In a function of its own: a frame that this thread remembered would keep what the callback
        # worked with (its channel, the payload) until the next one is late.
        frame = sys._current_frames().get(ident)
        if frame is None or due != self._due:
            return
        self._seen = due
        self.blocked += 1
        _log.warning(
            "loop.blocked",
            seconds=round(now - due, 3),
            **self._named(frame),
            stack=stack_of(frame),
        )

    def _named(self, frame: FrameType) -> Mapping[str, Any]:
        # It reads what another thread works on: whatever is odd there is no reason to stop looking.
        try:
            return self._about(frame)
        except Exception as error:
            return {"unnamed": type(error).__name__}
