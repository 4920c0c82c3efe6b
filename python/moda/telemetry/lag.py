"""How late the event loop is: the wait of a task that is ready to run.

An asyncio loop runs one callback at a time. Whatever blocks it (a long handler, a burst of sends,
a garbage collection, a machine short of CPU) delays everything else by the same amount, and
nothing in asyncio reports it. The probe sleeps for a fixed time and measures how much longer it
took to be running again: that is what every other ready task waited, too.

Ten probes per second cost an otherwise idle server 0.15 % of a core, nearly all of it for being
woken, and a busy one a fraction of that. A block is seen for its length less one sleep at worst;
one shorter than the sleep is hit by some probes and missed by others, which is what percentiles
over many probes are for. libuv, and so uvloop, counts timers in whole milliseconds: up to 1 ms of
lag is its rounding and not a wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Final

from moda.aggregate import Histogram, LatencyWindow

__all__ = ["LAG_BOUNDS_S", "LoopLag"]

LAG_BOUNDS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Buckets of the histogram: from the timer's own rounding to a stall nobody can overlook."""


class LoopLag:
    """The probe and what it has measured.

    ``window`` holds milliseconds, stamped with ``clock``, for charts; ``histogram`` holds seconds
    since the start, for ``/metrics``. Run :meth:`run` once, on the loop to be measured.
    """

    __slots__ = ("_clock", "_period", "_sleep", "histogram", "window")

    def __init__(
        self,
        period: float = 0.1,
        *,
        clock: Callable[[], float] = perf_counter,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._period = period
        self._clock = clock
        self._sleep = sleep
        # Two minutes of probes: longer than any span a chart looks back over.
        self.window = LatencyWindow(1024)
        self.histogram = Histogram(LAG_BOUNDS_S)

    async def run(self) -> None:
        """Probes until cancelled."""
        period, clock = self._period, self._clock
        while True:
            asked = clock()
            await self._sleep(period)
            now = clock()
            # A timer may fire a rounding error early; nobody waited a negative time.
            late = max(now - asked - period, 0.0)
            self.histogram.observe(late)
            self.window.record(late * 1000, now)
