"""Stand-ins: a clock that is turned by hand, a gateway that writes down what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from moda.channel import JoinRequest, Stream
from moda.message import Delivery, History, Raw, ServiceStatus
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


@dataclass
class FakeRegistrar:
    """Writes down every registration and every broadcast."""

    streams: dict[str, Stream] = field(default_factory=dict)
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    works: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    probes: dict[str, Callable[[], ServiceStatus]] = field(default_factory=dict)
    sent: list[tuple[str, str, Any, str | None]] = field(default_factory=list)

    def channel(
        self,
        pattern: str,
        *,
        delivery: Delivery | None = None,
        history: History | None = None,
        max_subscribers: int | None = None,
    ) -> Callable[[Any], Any]:
        def register(serves: Any) -> Any:
            self.streams[pattern] = serves
            self.policies[pattern] = {"delivery": delivery, "history": history}
            return serves

        return register

    def broadcast(
        self,
        topic: str,
        event: str,
        payload: Mapping[str, Any] | Raw | bytes,
        *,
        key: str | None = None,
    ) -> None:
        self.sent.append((topic, event, payload, key))

    def background(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self.works[name] = work

    def service(self, name: str, probe: Callable[[], ServiceStatus]) -> None:
        self.probes[name] = probe

    def to(self, topic: str) -> list[Any]:
        """The payloads that were broadcast to a topic."""
        return [payload for sent_to, _, payload, _ in self.sent if sent_to == topic]


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
