"""What several tests of this folder lean on: a slow twin of the Rust cutter, and stand-ins."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import pytest

import oracle
from moda._core import unwrap_combined
from moda.market.feed import Tick
from moda.market.pacing import Clock, SystemClock
from moda.market.settings import MarketSettings
from moda.market.sources import Source, State
from moda.market.upstream import Upstream


def unwrap_twin(frame: bytes) -> tuple[str, bytes, str | None, int | None]:
    """`moda._core.unwrap_combined`, by the slow and obvious reader of `oracle`."""
    try:
        found = oracle.unwrap_combined(frame)
    except oracle.Refused as refused:
        raise ValueError(refused.label) from None
    if isinstance(found, oracle.Answer):
        return "answer", found.result.encode(), None, None
    if isinstance(found, oracle.Refusal):
        return "refusal", found.message.encode(), None, None
    return found.kind or "", found.data, found.symbol, found.time


UNWRAPS = [pytest.param(unwrap_twin, id="twin"), pytest.param(unwrap_combined, id="core")]


class Recorder:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.ticks: list[Tick] = []
        self.shifts: list[tuple[State, str]] = []

    def tick(self, tick: Tick) -> None:
        self.ticks.append(tick)

    def shift(self, state: State, reason: str) -> None:
        self.shifts.append((state, reason))

    @property
    def state(self) -> State | None:
        """The last state told; None before the first."""
        return self.shifts[-1][0] if self.shifts else None

    @property
    def reason(self) -> str:
        return self.shifts[-1][1] if self.shifts else ""

    @property
    def states(self) -> list[State]:
        """The states in order, repetitions left out."""
        told = [state for state, _ in self.shifts]
        return [state for at, state in enumerate(told) if at == 0 or told[at - 1] != state]

    def times(self, symbol: str) -> list[int]:
        return [tick.at_ms for tick in self.ticks if tick.symbol == symbol]


class LeapingClock(SystemClock):
    """The real clock, which a test may push forward by hours while sockets work as ever."""

    def __init__(self) -> None:
        self.leapt = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.leapt


class HandClock:
    """A clock that moves only when somebody sleeps: a day passes in no time.

    `pause` turns a sleep into a real one of no length, so that other tasks get their turn.
    """

    def __init__(self, unix: float = 1_740_441_600.0) -> None:
        self.now = 1000.0
        self._unix = unix - self.now

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self._unix + self.now

    async def sleep(self, seconds: float) -> None:
        self.now += max(0.0, seconds)
        await asyncio.sleep(0)


def ascending(times: list[int]) -> bool:
    """Each greater than the one before."""
    return all(earlier < later for earlier, later in itertools.pairwise(times))


def count(source: Source, name: str) -> float:
    """One plain counter of a source."""
    value = source.report().counters[name]
    assert isinstance(value, float)
    return value


async def until(
    condition: Callable[[], object],
    *,
    doing: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Wait for something to become true, `doing` something again and again meanwhile.

    The bound is for a broken build, not for a slow one.
    """
    async with asyncio.timeout(20.0):
        while not condition():
            if doing is not None:
                await doing()
            await asyncio.sleep(0.005 if doing is None else 0.02)


@asynccontextmanager
async def running(source: Source, sink: Recorder) -> AsyncIterator[asyncio.Task[None]]:
    """Run a source into a sink for as long as the block lasts."""
    task = asyncio.create_task(source.run(sink))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def upstream(
    url: str, *symbols: str, clock: Clock | None = None, trust: Any = None, **settings: Any
) -> Upstream:
    """An upstream that is quick to lose patience, with repeatable jitter."""
    quick: dict[str, Any] = {
        "stale_after": 1.0,
        "reconnect_min": 0.02,
        "reconnect_max": 0.2,
        "healthy_after": 0.0,
        "handover": 10.0,
    }
    chosen = MarketSettings(
        source="binance", url=url, symbols=symbols or ("btcusdt", "ethusdt"), **(quick | settings)
    )
    return Upstream(
        chosen,
        clock or SystemClock(),
        random=Random(7),
        trust=trust,
    )
