"""Stand-ins: a clock that is turned by hand, samplers, a subscriber's request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from moda.channel import JoinRequest
from moda.telemetry.metrics import GatewayCounters, HostReading, Reading


class HandClock:
    """Seconds that pass only when somebody says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    async def pause(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


class CountingSampler:
    """Readings whose counters grow by 10 per second of the clock; counts how often it is asked."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.reads = 0

    async def read(self) -> Reading:
        self.reads += 1
        messages = int((self.clock.now - 1000.0) * 10)
        return reading(self.clock.now, gateway={"connections": 3, "messages_in": messages})


def reading(
    clock: float = 1000.0,
    *,
    gateway: GatewayCounters | None = None,
    http_ms: tuple[float, ...] | None = None,
    lag_ms: tuple[float, ...] | None = None,
    tasks: int = 5,
    **host: Any,
) -> Reading:
    """A reading with a load average, an RSS and whatever else is given."""
    facts: dict[str, Any] = {"load_1m": 0.42, "rss": 50_000_000, **host}
    return Reading(
        unix_s=1_740_440_600.0 + clock,
        host=HostReading(clock=clock, cpus=facts.pop("cpus", 2), **facts),
        gateway=gateway if gateway is not None else {},
        tasks=tasks,
        http_ms=http_ms,
        lag_ms=lag_ms,
    )


async def until(happened: Callable[[], object]) -> None:
    """Lets the loop turn until something has happened; a test that waits for ever fails instead."""
    async with asyncio.timeout(30):
        while not happened():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.001)


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancels tasks and waits for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def request(payload: Any = None) -> JoinRequest:
    """A join of the metrics topic."""
    return JoinRequest("telemetry:metrics", {}, {} if payload is None else payload)
