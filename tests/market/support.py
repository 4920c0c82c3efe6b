"""What several tests of this folder lean on: a slow twin of the Rust cutter, and stand-ins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import orjson

from moda.channel import Stream
from moda.market.feed import Tick
from moda.market.pacing import Clock, SystemClock
from moda.market.settings import MarketSettings
from moda.market.sources import Source, State
from moda.market.upstream import Upstream
from moda.message import Raw, ServiceStatus


def unwrap_twin(frame: bytes) -> tuple[str, bytes, str | None, int | None]:
    """`moda._core.unwrap_combined`, slow and obvious: try every slice that could be the event."""
    try:
        frame.decode()
    except UnicodeDecodeError:
        return "rubbish", b"not_utf8", None, None
    try:
        whole = orjson.loads(frame)
    except orjson.JSONDecodeError:
        return "rubbish", b"not_json", None, None
    if not isinstance(whole, dict):
        return "rubbish", b"not_an_event", None, None
    if isinstance(whole.get("stream"), str) and isinstance(whole.get("data"), dict | list):
        data = _slice_of(frame, whole["data"])
        return _known(data, whole["data"])
    if isinstance(whole.get("e"), str):
        return _known(frame.strip(), whole)
    if "result" in whole and "id" in whole:
        return "control", frame, None, None
    refusal = whole.get("error", whole)
    if isinstance(refusal, dict) and {"code", "msg"} <= refusal.keys():
        return "control", frame, None, None
    return "rubbish", b"not_an_event", None, None


def _known(data: bytes, event: Any) -> tuple[str, bytes, str | None, int | None]:
    fields = event if isinstance(event, dict) else {}
    at_ms = fields.get("E") if type(fields.get("E")) is int else None
    if fields.get("e") == "serverShutdown":
        return "shutdown", data, None, at_ms
    symbol = fields.get("s") if isinstance(fields.get("s"), str) else None
    return "event", data, symbol, at_ms


def _slice_of(frame: bytes, value: Any) -> bytes:
    opening, closing = (b"{", b"}") if isinstance(value, dict) else (b"[", b"]")
    start = frame.index(b'"data"') + len(b'"data"')
    start = frame.index(opening, start)
    end = frame.find(closing, start)
    while end >= 0:
        piece = frame[start : end + 1]
        with suppress(orjson.JSONDecodeError):
            if orjson.loads(piece) == value:
                return piece
        end = frame.find(closing, end + 1)
    raise AssertionError(f"no slice of {frame!r} is its data")


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


class FakeRegistrar:
    """The gateway as a capability sees it, writing down what it is told."""

    def __init__(self) -> None:
        self.channels: dict[str, tuple[Any, dict[str, Any]]] = {}
        self.sent: list[tuple[str, str, Any, str | None]] = []
        self.work: dict[str, Callable[[], Awaitable[None]]] = {}
        self.probes: dict[str, Callable[[], ServiceStatus]] = {}

    def channel(self, pattern: str, **policy: Any) -> Callable[[Any], Any]:
        def register(served: Any) -> Any:
            assert isinstance(served, Stream)
            self.channels[pattern] = (served, policy)
            return served

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
        self.work[name] = work

    def service(self, name: str, probe: Callable[[], ServiceStatus]) -> None:
        self.probes[name] = probe


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


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something to become true. The bound is for a broken build, not for a slow one."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


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
    """An upstream that is quick to lose patience, cut by the twin, with repeatable jitter."""
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
        unwrap=unwrap_twin,
        trust=trust,
    )
