"""Leaving without a stampede: clients are told to come back, a few at a time, then work is
finished.

Clients told together reconnect together, to whatever instance is left. So the closes are spread
over a window. Pure arithmetic first (:func:`quota`), then the one coroutine that acts on it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

__all__ = ["SERVICE_RESTART", "DrainOptions", "Drained", "drain", "quota"]

_log = structlog.get_logger("moda.drain")

SERVICE_RESTART = 1012
TICK = 0.05
"""Seconds between two batches."""


@dataclass(frozen=True, slots=True)
class DrainOptions:
    """``window`` seconds over which clients are told, ``deadline`` seconds until the process must
    be gone.
    """

    window: float = 5.0
    deadline: float = 30.0


@dataclass(frozen=True, slots=True)
class Drained:
    """How it went.

    ``left`` connections did not answer the close; ``flushed`` says all accepted work is durable.
    """

    told: int
    left: int
    flushed: bool
    seconds: float


def quota(remaining: int, elapsed: float, window: float) -> int:
    """How many of ``remaining`` to tell now so that all are told when ``window`` ends.

    >>> quota(1000, 0.0, 5.0), quota(10, 4.97, 5.0), quota(3, 9.0, 5.0), quota(0, 0.0, 5.0)
    (10, 10, 3, 0)
    """
    if remaining <= 0:
        return 0
    ticks = max(1.0, (window - elapsed) / TICK)
    return min(remaining, math.ceil(remaining / ticks))


async def drain(
    options: DrainOptions,
    *,
    connections: Callable[[], int],
    close_some: Callable[[int, int], int],
    flush: Callable[[], Awaitable[None]],
    hurry: asyncio.Event,
) -> Drained:
    """Closes every connection with 1012 within the window, waits for them to go, then flushes.

    ``close_some(n, code)`` tells up to ``n`` connections that were not told before and returns how
    many it told. ``flush`` returns when everything accepted is durable; it gets what is left of the
    deadline. ``hurry`` set ends the waiting, not the flush. Raises nothing.
    """
    start = time.monotonic()
    # A part of the deadline is the flush's, whatever the clients do.
    patience = max(options.window, options.deadline * 0.6)
    told = 0
    open_at_start = connections()
    while told < open_at_start and not hurry.is_set():
        elapsed = time.monotonic() - start
        count = close_some(quota(open_at_start - told, elapsed, options.window), SERVICE_RESTART)
        told += count
        if count == 0:
            break
        await asyncio.sleep(TICK)
    # Those that came in while we told the others, and all the rest if somebody is in a hurry.
    told += close_some(max(0, connections()), SERVICE_RESTART)
    # The hub counts in Rust and tells nobody: it is asked.
    while connections() and not hurry.is_set() and time.monotonic() - start < patience:  # noqa: ASYNC110
        await asyncio.sleep(TICK)
    left = connections()
    flushed = True
    try:
        async with asyncio.timeout(max(0.1, options.deadline - (time.monotonic() - start))):
            await flush()
    except TimeoutError:
        flushed = False
        _log.error("drain.flush_timeout", deadline=options.deadline)
    except Exception:
        flushed = False
        _log.exception("drain.flush_failed")
    return Drained(told, left, flushed, time.monotonic() - start)
