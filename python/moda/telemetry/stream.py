"""``telemetry:metrics``: chart points pushed at an interval, one metric per event.

A topic is one fan-out: whatever is broadcast on it reaches all its subscribers. A client may ask
for an interval (``interval_ms`` in the join payload), and there are three ways to bring the two
together:

- Everybody gets the smallest interval anybody asked for. One client asking for 250 ms then sends
  8 times the traffic to everybody else: with 10,000 subscribers and 17 metrics, 680,000 deliveries
  per second where there were 85,000, caused by one anonymous join. Refused.
- A timer per subscriber: Python work per subscriber per tick. Refused.
- **One fan-out per interval** (a lane, :mod:`moda.telemetry.pace`): everybody gets what they
  asked for, rounded to the next slower rung of a short ladder, nobody gets more than that, and the
  join reply states the effective value, which stays true for the whole subscription.

The last one is what happens when the gateway can hold several fan-outs behind one topic on the
wire (:data:`Attach`). Without that there is one lane, the server's: its interval is what it is, and
the join reply says so. Either way a reading is taken once per tick and shared by every lane that is
due, so sampling costs the same for one subscriber and for ten thousand.

A stream has no history: what was measured before a client joined is not repeated to it. A client
that is alone in its lane gets its first points at once, another one with the lane's next tick.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any, Final, Protocol

from moda.channel import JoinRequest, Stream
from moda.errors import Reject
from moda.message import ServiceStatus
from moda.telemetry.metrics import Compat, Reading, points
from moda.telemetry.pace import MAX_INTERVAL_MS, MIN_INTERVAL_MS, Lane, Pace

__all__ = [
    "EVENT",
    "TOPIC",
    "Attach",
    "Broadcast",
    "Sampling",
    "Seated",
    "Telemetry",
    "interval_of",
]

TOPIC: Final = "telemetry:metrics"
EVENT: Final = "metric"


class Broadcast(Protocol):
    """What the stream needs of the gateway. ``topic`` is :data:`TOPIC` or a lane's own."""

    def __call__(
        self, topic: str, event: str, payload: Mapping[str, Any], *, key: str | None = None
    ) -> None: ...


class Sampling(Protocol):
    """Where readings come from (:class:`moda.telemetry.sampler.Sampler`)."""

    async def read(self) -> Reading: ...


Attach = Callable[[JoinRequest, str], None]
"""``attach(request, fanout)``: seats this join, if accepted, at ``fanout`` in place of its topic.

``fanout`` is a name inside the gateway (:meth:`Telemetry.fanout`). It is broadcast to like a topic,
and its frames carry the topic that the subscriber joined.
"""

Seated = Callable[[str], int]
"""``seated(fanout)``: how many subscribers one lane has now; the topic itself is the server's lane."""


def interval_of(payload: Any) -> int | None:
    """The interval a join payload asks for in milliseconds, or None when it asks for none.

    Accepts a missing payload, an object without ``interval_ms``, and a whole number from 250 to
    60000 (``500.0`` is one: JSON does not tell it from ``500``). Anything else is a Reject that
    says what came and what is accepted.
    """
    if payload is None:
        return None
    if not isinstance(payload, dict):
        raise Reject(f"the join payload must be an object, got {_kind(payload)}")
    asked = payload.get("interval_ms")
    if asked is None:
        return None
    whole = isinstance(asked, int) or (isinstance(asked, float) and asked.is_integer())
    if isinstance(asked, bool) or not whole or not MIN_INTERVAL_MS <= asked <= MAX_INTERVAL_MS:
        raise Reject(
            f"interval_ms must be a whole number from {MIN_INTERVAL_MS} to {MAX_INTERVAL_MS}, "
            f"got {_kind(asked)}"
        )
    return int(asked)


def _kind(value: Any) -> str:
    """What a client sent, in its own (JSON) words, and short whatever its size."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"{value:.15g}" if abs(value) < 1e15 else "a number beyond 1e15"
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "an object"
        case bytes() | bytearray() | memoryview():
            return "binary data"
        case _:
            return "null"


class Telemetry(Stream):
    """The stream behind :data:`TOPIC`. Register one instance, run :meth:`run` in the background.

    ``interval_ms`` is the server's interval and ``broadcast`` the gateway's. ``attach`` lets every
    client have its own interval, ``seated`` lets the first one in a lane have its points
    at once and an abandoned lane end; each may be None where the gateway cannot do it. ``pause``
    waits that many seconds or until woken, and is replaced by tests.
    """

    def __init__(
        self,
        sampler: Sampling,
        broadcast: Broadcast,
        *,
        interval_ms: int = 2000,
        compat: Compat = "beam",
        attach: Attach | None = None,
        seated: Seated | None = None,
        clock: Callable[[], float] = perf_counter,
        pause: Callable[[float], Awaitable[object]] | None = None,
    ) -> None:
        self._sampler = sampler
        self._broadcast = broadcast
        self._compat: Compat = compat
        self._attach = attach
        self._seated = seated
        self._clock = clock
        self._pause = pause or self._sleep
        self._wake = asyncio.Event()
        self._pace = Pace(interval_ms, laned=attach is not None, now_s=clock())
        self._own: Lane = next(iter(self._pace.lanes))
        self._sampled_s: float | None = None

    async def join(self, request: JoinRequest) -> dict[str, int]:
        """Answers ``{"interval_ms": n}``: the interval this subscriber gets while it stays."""
        asked_ms = interval_of(request.payload)
        now_s = self._clock()
        lane, made = self._pace.ask(asked_ms, now_s)
        fanout = self.fanout(lane)
        if self._attach is not None and lane is not self._own:
            self._attach(request, fanout)
        alone = made
        if self._seated is not None and self._seated(fanout) == 0:
            self._pace.hurry(lane, now_s)
            alone = True
        if alone:
            self._wake.set()
        return {"interval_ms": lane.interval_ms}

    def fanout(self, lane: Lane) -> str:
        """The name of a lane inside the gateway: the topic for the server's own lane.

        Patterns match whole topics, so no client can join a lane by its name.
        """
        return TOPIC if lane is self._own else f"{TOPIC}\0{lane.interval_ms}"

    async def run(self) -> None:
        """Ticks until cancelled."""
        while True:
            await self.tick()
            await self._pause(self._pace.wait_s(self._clock()))

    async def tick(self) -> None:
        """Sends their points to the lanes that are due, all from one reading. Usually one lane."""
        due = self._pace.take_due(self._clock())
        if not due:
            return
        now = await self._sampler.read()
        first = self._base(now)
        for lane in due:
            fanout = self.fanout(lane)
            for point in points(lane.before or first, now, self._compat):
                self._broadcast(fanout, EVENT, point, key=point["name"])
            lane.before = now
        self._sampled_s = self._clock()
        count = self._seated
        if count is not None:
            self._pace.retire(lambda lane: count(self.fanout(lane)), self._sampled_s)

    def health(self) -> ServiceStatus:
        """``up``, or ``degraded`` when no reading came for three intervals."""
        interval_ms = self._own.interval_ms
        age_s = None if self._sampled_s is None else self._clock() - self._sampled_s
        fresh = age_s is not None and age_s <= 3 * interval_ms / 1000
        return ServiceStatus(
            "up" if fresh else "degraded",
            {
                "interval_ms": interval_ms,
                "last_sample_age_s": None if age_s is None else round(age_s, 3),
                "intervals_ms": sorted(lane.interval_ms for lane in self._pace.lanes),
            },
        )

    def _base(self, now: Reading) -> Reading | None:
        """What a lane's first rates are taken from: the server's last tick, if long enough ago."""
        own = self._own.before
        if own is None or (now.host.clock - own.host.clock) * 1000 < MIN_INTERVAL_MS:
            return None
        return own

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()
