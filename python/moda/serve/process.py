"""The one process: its loop, its signals, its exit code.

uvicorn would end the process by re-raising the signal that asked for a clean exit. A supervisor
reads that as a crash; here SIGTERM answered in time is exit code 0.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time

import structlog
import uvloop

from moda.serve.server import Plan, Server

__all__ = ["announce", "run"]

_log = structlog.get_logger("moda.server")

ECHO = 0.5
"""Seconds in which the same signal again is the same wish: a shell signals the whole process group,
and ``make`` passes its own copy on to us 3 ms later. That is nobody in a hurry.
"""


class Wish:
    """What a signal means after those before it.

    >>> wish = Wish()
    >>> [wish.heard(number, now) for number, now in [(15, 0.0), (15, 0.003), (2, 0.1), (15, 9.0)]]
    ['first', 'echo', 'again', 'again']
    """

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def heard(self, number: int, now: float) -> str:
        """``first``: leave. ``echo``: the same wish, see :data:`ECHO`. ``again``: leave at once."""
        if self._first is None:
            self._first = (number, now)
            return "first"
        known, since = self._first
        return "echo" if number == known and now - since < ECHO else "again"


async def _serve(plan: Plan) -> int:
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    wish = Wish()

    def on_signal(number: int) -> None:
        name = signal.Signals(number).name
        heard = wish.heard(number, time.monotonic())
        if heard == "echo":
            return
        if heard == "again":
            _log.warning("server.killed", signal=name)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(128 + number)
        _log.info("server.stopping", signal=name, again=f"after {ECHO:g} s: exits at once")
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    server = Server(plan)
    await server.start()
    announce(server)
    await asked.wait()
    # If a step blocks the loop itself no timeout of the loop helps: a thread does. It is never
    # called off: what hangs may come after the drain, and a process that is gone needs no watching.
    watchdog = threading.Timer(plan.options.drain.deadline + 5.0, os._exit, (1,))
    watchdog.daemon = True
    watchdog.start()
    clean = await server.stop()
    return 0 if clean else 1


def announce(server: Server) -> None:
    """Says where to look: lines for a person at a terminal, one event for a log."""
    lines = server.describe()
    if sys.stdout.isatty():
        width = max(len(label) for label, _ in lines)
        print(flush=True)
        for label, text in lines:
            print(f"  {label:<{width}}  {text}", flush=True)
        print(flush=True)
    else:
        fields: dict[str, str] = {}
        for label, text in lines:
            name = label.lower().replace(" ", "_")
            fields[name] = f"{fields[name]}, {text}" if name in fields else text
        _log.info("server.started", **fields)


def run(plan: Plan) -> int:
    """Runs the gateway until SIGTERM or SIGINT; returns the exit code: 0 clean, 1 if something was
    left undone.

    ConfigurationError if it cannot start. A second signal (but see :data:`ECHO`) ends the process at
    once.
    """
    return uvloop.run(_serve(plan))
