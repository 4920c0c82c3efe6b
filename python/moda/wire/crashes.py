"""What an application's code may do wrong, and what is written about it.

A callback that raises has crashed, whatever it raised: a library's ``sys.exit`` or a Rust panic
(both no ``Exception``) would otherwise end the gateway, or leave a client waiting for ever. A real
Ctrl-C never comes this way: the loop handles that signal itself.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

from moda.wire.private import told
from moda.wire.sent import parameters, remembered

__all__ = ["Crashes", "crashes", "deliberate"]

SECONDS: Final = 1.0
"""A traceback of the same kind of crash is written once in so long."""

LINES: Final = 20
"""Lines of the same kind of crash in that time; more are only counted."""

MAX_KINDS: Final = 1000
"""Kinds of crash remembered. Classes are few; exception classes could be made without end."""

LONGEST: Final = 500
"""Characters of an exception in a line without its traceback."""


def deliberate(error: BaseException) -> bool:
    """Whether this task is being ended from outside. Anything else is the failure of its own code.

    That is a cancellation somebody asked for, not one of something it awaited; and the end of a
    coroutine whose loop is gone.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    if isinstance(error, GeneratorExit):
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return True
    return False


class Crashes:
    """Logs crashes: of each kind one traceback and :data:`LINES` lines a second, then their number.

    A client may crash a channel as often as it can join it: one that did so wrote 0.6 MB of
    tracebacks a second, and its lines alone would be 0.2. A kind is the class, the line's name and the
    exception's class, so that a frequent crash does not hide a rare one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[tuple[Any, ...], tuple[float, int]] = {}

    def log(
        self,
        log: Any,
        event: str,
        of: Any,
        error: BaseException,
        *,
        sent: Mapping[str, Any] | None = None,
        **about: Any,
    ) -> None:
        """Writes one crash. ``of`` is whose, ``about`` the line's other fields.

        ``sent`` are parameters of a client's query, which the line does not repeat.
        """
        if sent:
            with remembered(parameters(sent), b""):
                self._log(log, event, of, error, about)
        else:
            self._log(log, event, of, error, about)

    def _log(
        self, log: Any, event: str, of: Any, error: BaseException, about: dict[str, Any]
    ) -> None:
        kind = (of, event, type(error))
        about["channel"] = getattr(of, "__name__", None) or type(of).__name__
        now = self._clock()
        until, unsaid = self._kinds.get(kind, (now, 0))
        if now < until:
            self._kinds[kind] = (until, unsaid + 1)
            if unsaid >= LINES:
                return
            clean = told(error)
            said = clean[1] if clean else "".join(traceback.format_exception_only(error)).strip()
            log.error(event, error=said[:LONGEST], traceback="once a second", **about)
            return
        if len(self._kinds) >= MAX_KINDS:
            self._kinds.clear()
        self._kinds[kind] = (now + SECONDS, 0)
        if unsaid:
            about["repeated"] = unsaid
        clean = told(error)
        if clean is not None:
            log.error(event, exception=clean[0], **about)
            return
        log.error(event, exc_info=error, **about)


crashes: Final = Crashes()
"""The process has one log, so it has one of these."""
