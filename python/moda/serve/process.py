"""The one process: its loop, its signals, its exit code.

uvicorn would end the process by re-raising the signal that asked for a clean exit. A supervisor
reads that as a crash; here SIGTERM answered in time is exit code 0.

The loop answers signals, as long as it runs. The deadline and the second signal must work when it
does not: :class:`moda._core.Guard` hears every signal in a thread of its own, without Python.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading

import structlog
import uvloop

from moda._core import Guard
from moda.serve.logs import flush_logs
from moda.serve.repeats import repeats
from moda.serve.server import Plan, Server
from moda.serve.watchdog import stack_of

__all__ = ["announce", "run", "wait_for_the_start"]

_log = structlog.get_logger("moda.server")

LEAVE = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""Signals that ask to leave."""

ECHO = 0.5
"""Seconds in which the same signal again is the same wish: a shell signals the whole process group,
and ``make`` passes its own copy on to us 3 ms later. That is nobody in a hurry.
"""

LATE = 2.0
"""Seconds after the drain's deadline in which its last steps, each cut by itself, may still end."""

LAST_WORDS = 0.5
"""Seconds for the last line to be made, and again for the log to be written."""

GRACE = 1.5
"""Seconds after which the guard ends a process that did not end itself."""


def wait_for_the_start() -> None:
    """Lets SIGHUP pass until there is something to reload. By default it would end the process."""
    signal.signal(signal.SIGHUP, _pass)


def _pass(*_: object) -> None:
    """Not SIG_IGN, which every child process would inherit."""


def _guarded(deadline: float) -> None:
    """Has every signal heard outside of Python too, from now on. On the loop's thread, while it runs."""
    loops = signal.set_wakeup_fd(-1)
    guard = Guard(
        leave=LEAVE,
        forward=loops,
        deadline_ms=round((deadline + LATE) * 1000),
        echo_ms=round(ECHO * 1000),
        grace_ms=round(GRACE * 1000),
    )
    signal.set_wakeup_fd(guard.fileno(), warn_on_full_buffer=False)
    threading.Thread(
        target=_end_in_time, args=(guard, deadline), name="moda-guard", daemon=True
    ).start()


def _end_in_time(guard: Guard, deadline: float) -> None:
    code = guard.wait()
    if code is None:
        return
    # Whoever holds the loop may hold the log as well.
    last = threading.Thread(target=_last_words, args=(code, deadline), daemon=True)
    last.start()
    last.join(LAST_WORDS)
    flush_logs(LAST_WORDS)
    os._exit(code)


def _last_words(code: int, deadline: float) -> None:
    if code > 128:
        _log.warning("server.killed", signal=signal.Signals(code - 128).name)
        return
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    _log.critical("server.overdue", deadline=deadline, stack=stack_of(frame))


async def _serve(plan: Plan) -> int:
    loop = asyncio.get_running_loop()
    asked, again = asyncio.Event(), asyncio.Event()

    def leave(number: int) -> None:
        if not asked.is_set():
            name = signal.Signals(number).name
            _log.info("server.stopping", signal=name, again=f"after {ECHO:g} s: exits at once")
            asked.set()

    for number in LEAVE:
        loop.add_signal_handler(number, leave, number)
    loop.add_signal_handler(signal.SIGHUP, again.set)
    _guarded(plan.options.drain.deadline)
    server = Server(plan)
    await server.start()
    announce(server)
    # Nobody could cause a line before.
    repeats.on = True
    reloading = loop.create_task(_reload(server, again))
    await asked.wait()
    reloading.cancel()
    return 0 if await server.stop() else 1


async def _reload(server: Server, again: asyncio.Event) -> None:
    """Reloads at each SIGHUP, one after the other."""
    while True:
        await again.wait()
        again.clear()
        await server.reload()


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
    """Runs the gateway until SIGTERM, SIGINT or SIGQUIT; returns the exit code: 0 clean, 1 if
    something was left undone.

    ConfigurationError if it cannot start. A second signal (but see :data:`ECHO`) ends the process at
    once with 128 and its number, and :data:`LATE` after the drain's deadline it ends with 1, whatever
    holds the loop. SIGHUP reloads.
    """
    return uvloop.run(_serve(plan))
