"""One reading of everything, taken off the loop where it touches the operating system.

Measured on two CPUs: all of psutil's readings together take 75 microseconds (CPU times 15, memory
27, process 28, load average 1). They are nevertheless taken in a worker thread, because the time is
the kernel's and not ours: the same three files under ``/proc`` take milliseconds on a
machine with hundreds of CPUs and interrupts, and longer when memory is short, which is exactly when
somebody looks at the chart. What is left for the loop is 50 microseconds per tick with both windows
full (counters, percentiles, 17 points published) and the hand-over; all of a tick, thread
included, is 0.24 ms of CPU, or 0.012 % of a core at the default interval.

Two figures that look harmless are left out on purpose. The number of open files is a directory
listing, which takes 5 ms with 10,000 connections and gives up the GIL at every entry; the
connection count says the same. The private memory (USS) walks all page tables.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter, time
from typing import Any, Protocol, TypeVar

import psutil

from moda.aggregate import LatencyWindow
from moda.telemetry.lag import LoopLag
from moda.telemetry.metrics import GatewayCounters, HostReading, Reading

__all__ = ["Host", "HostReader", "Sampler", "count_tasks"]

T = TypeVar("T")

log = logging.getLogger(__name__)


class Host(Protocol):
    """Where host readings come from."""

    def read(self) -> HostReading:
        """One reading. Called in a worker thread, never twice at the same time."""


class HostReader:
    """Host readings by psutil.

    CPU shares are not taken from ``psutil.cpu_percent``: it remembers its last call per *thread*,
    and a pool does not promise which thread runs the next one. The raw times are read instead and
    subtracted by whoever holds two readings.
    """

    __slots__ = ("_clock", "_cpus", "_mute", "_process")

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._process: psutil.Process | None = None
        self._cpus = usable_cpus()
        self._mute: set[str] = set()

    def read(self) -> HostReading:
        """Reads the host. What the platform refuses is None and logged once; nothing is raised.

        Each figure stands by itself: a file of ``/proc`` that is empty, denied or odd costs what is
        read from it.
        """
        if self._process is None:  # making one reads /proc as well
            self._process = self._try("process", psutil.Process)
        process_cpu = memory = None
        if self._process is not None:
            process_cpu = self._try("process.cpu_times", self._process.cpu_times)
            memory = self._try("process.memory_info", self._process.memory_info)
        cpu = self._try("cpu_times", lambda: cpu_seconds(psutil.cpu_times()))
        busy, total = (None, None) if cpu is None else cpu
        machine = self._try("virtual_memory", psutil.virtual_memory)
        load = self._try("getloadavg", psutil.getloadavg)
        return HostReading(
            clock=self._clock(),
            cpus=self._cpus,
            load_1m=None if load is None else load[0],
            cpu_busy_s=busy,
            cpu_total_s=total,
            memory_used=None if machine is None else machine.total - machine.available,
            process_cpu_s=None if process_cpu is None else process_cpu.user + process_cpu.system,
            rss=None if memory is None else memory.rss,
        )

    def _try(self, name: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except Exception as error:  # psutil parses: an odd file is an IndexError or a KeyError, too
            if name not in self._mute:
                self._mute.add(name)
                log.warning("telemetry reading %s is not available here: %s", name, error)
            return None


def cpu_seconds(times: Any) -> tuple[float, float]:
    """(busy, total) seconds of a ``psutil.cpu_times()`` result, over all CPUs.

    Linux counts time given to virtual machines twice, as guest and as user, so guest time is
    taken off the total; waiting for a disk is idle time.
    """
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


def usable_cpus() -> int:
    """How many CPUs this process may run on: its affinity where there is such a thing."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return os.cpu_count() or 1 if affinity is None else len(affinity(0))


def count_tasks() -> int:
    """How many asyncio tasks are alive.

    ``asyncio.all_tasks()`` builds a set of them: 3 ms for 20,000 tasks, on the loop, every tick.
    Up to Python 3.13 the registry it reads is a weak set whose length is at hand (it still
    counts a task that has finished until it is collected). From 3.14 on the registry is a list
    inside the interpreter with no length to ask for, and the set is built.
    """
    if sys.version_info >= (3, 14):
        return len(asyncio.all_tasks())
    registry: Any = asyncio.tasks
    if sys.version_info >= (3, 12):
        return len(registry._scheduled_tasks) + len(registry._eager_tasks)
    return len(registry._all_tasks)


class Sampler:
    """Takes a :class:`Reading`: host, gateway counters, HTTP latency, loop lag.

    ``counters`` and ``tasks`` are called on the loop, once per reading, and must be cheap. ``http``
    holds milliseconds stamped with ``clock``. ``span`` is how many seconds back the HTTP and
    lag percentiles look. ``offload`` runs the host reading; the default is a worker thread.
    """

    def __init__(
        self,
        *,
        host: Host,
        counters: Callable[[], GatewayCounters],
        http: LatencyWindow | None,
        lag: LoopLag,
        span: float,
        tasks: Callable[[], int] = count_tasks,
        clock: Callable[[], float] = perf_counter,
        wall: Callable[[], float] = time,
        offload: Callable[[Callable[[], HostReading]], Awaitable[HostReading]] = asyncio.to_thread,
    ) -> None:
        self._host = host
        self._counters = counters
        self._http = http
        self._lag = lag
        self._span = span
        self._tasks = tasks
        self._clock = clock
        self._wall = wall
        self._offload = offload

    async def read(self) -> Reading:
        """One reading, everything in it of (nearly) the same moment."""
        host = await self._offload(self._host.read)
        since = self._clock() - self._span
        return Reading(
            unix_s=self._wall(),
            host=host,
            gateway=self._counters(),
            tasks=self._tasks(),
            http_ms=_tail(self._http, (50, 95), since),
            lag_ms=_tail(self._lag.window, (50, 95, 100), since),
        )


def _tail(
    window: LatencyWindow | None, percents: tuple[int, ...], since: float
) -> tuple[float, ...] | None:
    found = None if window is None else window.percentiles(percents, since)
    return None if found is None else tuple(found.tolist())
