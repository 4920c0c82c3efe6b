"""One limit for all lines that a client can cause: so many of a kind at once, then one a second.

A client may send bad frames, crash a channel or fail a request as often as the network lets it. Each
line tells an operator something; the thousandth of its kind tells nothing and fills a disk. The limit
stands where every line passes, so that a line added tomorrow is limited too. It begins when the port
is open: before that no client can cause anything, and a start may have much to say.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Hashable
from typing import Any

import structlog
from structlog.types import EventDict

__all__ = ["BURST", "PER_SECOND", "Repeats", "repeats"]

BURST = 20
"""Lines of a kind at once."""

PER_SECOND = 1.0
"""Lines of a kind after that."""

MAX_KINDS = 1000
"""Kinds remembered. Past it, new ones share what is left to their event: a reason may be any text."""

UNTOLD = "untold_before"
"""The field that says how many lines of this kind were left out since the last one."""

# What tells lines of one event apart, where it is a word of the code or of a document.
_TELLING = ("reason", "warning", "problem", "channel", "step", "job", "service", "code")

OURS = "moda."
LIBRARIES = ("uvicorn", "asyncio", "picows", "litestar", "aiofastnet", "websockets", "h11")
"""Loggers of what moda is built with. An application's own lines are its own to limit."""


class Repeats:
    """Says of each line whether it is written. ``on`` False lets everything pass.

    ``untold`` counts the lines left out since the start.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.on = False
        self.untold = 0
        self._clock = clock
        self._kinds: dict[Hashable, tuple[float, int]] = {}

    def admit(self, kind: Hashable, general: Hashable) -> int | None:
        """How many lines of this kind were left out before this one; None to leave out this one, too.

        ``general`` is the kind's own kind: there are few of those.
        """
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            kind = general
        now, pause = self._clock(), 1 / PER_SECOND
        due, untold = self._kinds.get(kind, (now, 0))
        due = max(due, now)
        if due - now > (BURST - 1) * pause:
            self._kinds[kind] = (due, untold + 1)
            self.untold += 1
            return None
        self._kinds[kind] = (due + pause, 0)
        return untold

    def processor(self, logger: Any, _method: str, event: EventDict) -> EventDict:
        """For lines of moda's own loggers, before anything is formatted."""
        name = getattr(logger, "name", "")
        if not self.on or not isinstance(name, str) or not name.startswith(OURS):
            return event
        general = (name, str(event.get("event"))[:80])
        telling = (*(str(event.get(field, ""))[:80] for field in _TELLING), _failure(event))
        untold = self.admit((general, telling), general)
        if untold is None:
            raise structlog.DropEvent
        if untold:
            event[UNTOLD] = untold
        return event

    def filter(self, record: logging.LogRecord) -> bool:
        """For lines of the libraries, which come through the standard library's logging."""
        library = record.name.partition(".")[0]
        if not self.on or library not in LIBRARIES:
            return True
        kind = record.exc_info[0] if record.exc_info else None
        untold = self.admit((record.name, str(record.msg)[:80], kind), library)
        if untold:
            setattr(record, UNTOLD, untold)
        return untold is not None


def _failure(event: EventDict) -> str:
    """The class of the exception a line is about, so that a frequent one does not hide a rare one."""
    failure = event.get("exc_info")
    if isinstance(failure, tuple):
        failure = failure[1]
    elif failure is True:
        failure = sys.exc_info()[1]
    if isinstance(failure, BaseException):
        return type(failure).__name__
    text = event.get("error")
    head = text.partition(":")[0] if isinstance(text, str) else ""
    return head if head.isidentifier() and len(head) <= 80 else ""


repeats = Repeats()
"""The process has one log, so it has one of these."""
