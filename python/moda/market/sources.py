"""The port prices come through, and the two sources that need no network.

A source is run, not iterated: it calls a `Sink`. An async iterator would put a queue and a wake-up
between the socket and the hub (a loop turn of latency, and memory when the reader is late), and an
async generator cannot own tasks that must die with it. `run` is one coroutine the supervisor can
cancel and start again; everything a source opened is closed when it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec

from moda.errors import ConfigurationError
from moda.market.feed import Rubbish, Tick, read_event
from moda.market.pacing import Clock
from moda.market.settings import VARIABLES, MarketSettings, SourceKind
from moda.market.simulation import Market

State = Literal["live", "stale", "simulated"]


class Sink(Protocol):
    """Where a source delivers. Both calls return at once and never raise on a source's account."""

    def tick(self, tick: Tick) -> None:
        """One event, in the order it is to be published."""
        ...

    def shift(self, state: State, reason: str) -> None:
        """The source's state. May be called again with the same state; `reason` is for people.

        "live": ticks are flowing from the exchange. "stale": they are not, so the last price is
        not the present one. "simulated": what flows is not the exchange's present market.
        """
        ...


@dataclass(slots=True)
class Report:
    """What a source tells `/health` (`detail`, any JSON) and `/metrics` (`counters`)."""

    detail: dict[str, Any] = field(default_factory=dict)
    counters: dict[str, float | dict[str, float]] = field(default_factory=dict)


class Source(Protocol):
    """One origin of prices.

    Ticks of one symbol arrive with growing `at_ms` for as long as `run` goes on, except where a
    replay starts over. `run` ends only by being cancelled or by raising; after either it may be
    called again and starts afresh, but the counters of `report` never go back.
    """

    kind: SourceKind

    async def run(self, sink: Sink) -> None: ...

    def report(self) -> Report: ...


class Simulated:
    """The invented market of `simulation.py`, one tick per symbol and second."""

    kind: SourceKind = "simulated"

    def __init__(self, settings: MarketSettings, clock: Clock) -> None:
        self._symbols = settings.symbols
        self._seed = settings.seed
        self._clock = clock

    async def run(self, sink: Sink) -> None:
        clock = self._clock
        market = Market(self._symbols, self._seed, int(clock.time() * 1000))
        sink.shift("simulated", "prices are invented by this server, not taken from a market")
        due = clock.monotonic()
        while True:
            # Deadlines, not pauses, or the cost of each step would make the market run slow. A
            # second that was missed is skipped: a burst of old prices helps nobody.
            due = max(due + 1.0, clock.monotonic())
            await clock.sleep(due - clock.monotonic())
            for tick in market.step(int(clock.time() * 1000)):
                sink.tick(tick)

    def report(self) -> Report:
        return Report(detail={"symbols": len(self._symbols), "seed": self._seed})


class _Line(msgspec.Struct, frozen=True):
    """The members of a recorded line that matter; `data` keeps its bytes."""

    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    at: int | None = None
    e: str | None = None


CHECKED_LINES: Final = 1000
"""Lines of a recording that are read before the start: 12 ms of them, where a day of a busy symbol
(130 MB) took twelve seconds in which no port was open."""

_DECODER: Final = msgspec.json.Decoder(_Line)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One tick of a file and when it happened, in ms on the recording's own clock."""

    at_ms: int
    tick: Tick


class Replay:
    """A file of recorded frames, at the pace at which they happened.

    One JSON value per line: a raw event, a combined frame (`{"stream":..,"data":..}`), or either
    with a member `"at"`: the millisecond it was received, which then sets the pace instead of the
    event's own `E`. Only a line with `data` is cut; a raw line is forwarded as it stands. Blank
    lines and the exchange's own shutdown notices are skipped. docs/prices.md tells users of it.
    """

    kind: SourceKind = "replay"

    def __init__(self, settings: MarketSettings, clock: Clock) -> None:
        self._path = Path(settings.replay_file)
        self._speed = settings.replay_speed
        self._loop = settings.replay_loop
        self._limit = settings.max_message
        self._clock = clock
        self._line = 0
        self._rounds = 0

    def check(self) -> None:
        """Read the first :data:`CHECKED_LINES`. Raises ConfigurationError naming the bad one.

        A bad line further on ends the run when it is reached, with the same error.
        """
        ticks = 0
        for _ in self.read():
            ticks += 1
            if self._line >= CHECKED_LINES:
                break
        self._line = 0
        if not ticks:
            raise self._wrong(0, "holds no tick")

    def read(self) -> Iterator[Recorded]:
        """The file's ticks in order. Raises ConfigurationError at the first bad line."""
        try:
            if self._path.exists() and not self._path.is_file():
                # A pipe would be waited for, and nobody would know for what.
                raise self._wrong(0, "is no regular file")
            with self._path.open("rb") as lines:
                number = 0
                while line := lines.readline(self._limit + 2):
                    number += 1
                    self._line = number
                    if len(line.rstrip(b"\r\n")) > self._limit:
                        raise self._wrong(number, f"is longer than {self._limit} bytes")
                    recorded = self._parse(number, line.strip())
                    if recorded is not None:
                        yield recorded
        except OSError as error:
            raise self._wrong(0, f"cannot be read: {error.strerror or error}") from error

    async def run(self, sink: Sink) -> None:
        clock = self._clock
        sink.shift("simulated", f"replay of {self._path.name}")
        while True:
            started, first_ms = clock.monotonic(), None
            for recorded in self.read():
                if first_ms is None:
                    first_ms = recorded.at_ms
                due = started + (recorded.at_ms - first_ms) / 1000.0 / self._speed
                # Sleeping even when late gives the loop its turn: a fast replay of a long file
                # must not be the only thing this process does.
                await clock.sleep(due - clock.monotonic())
                sink.tick(recorded.tick)
            self._rounds += 1
            if not self._loop:
                sink.shift("stale", f"replay of {self._path.name} ended")
                await asyncio.get_running_loop().create_future()
            # A round of one line, or of none, must not spin.
            await clock.sleep(max(0.05, 1.0 / self._speed))

    def report(self) -> Report:
        return Report(
            detail={"file": self._path.name, "line": self._line, "rounds": self._rounds},
            counters={"replay_rounds": float(self._rounds)},
        )

    def _parse(self, number: int, line: bytes) -> Recorded | None:
        if not line:
            return None
        try:
            parts = _DECODER.decode(line)
        except msgspec.MsgspecError as error:
            raise self._wrong(number, f"is no recorded frame: {error}") from None
        data = line if isinstance(parts.data, msgspec.UnsetType) else bytes(parts.data)
        meaning = read_event(data, None)
        if isinstance(meaning, Rubbish):
            if meaning.reason == "unexpected_event" and b'"serverShutdown"' in data:
                return None
            raise self._wrong(
                number, f"is {meaning.reason}; it takes a 24hrMiniTicker event, raw or under data"
            )
        return Recorded(meaning.at_ms if parts.at is None else parts.at, meaning)

    def _wrong(self, number: int, what: str) -> ConfigurationError:
        where = f"{self._path}, line {number}," if number else f"{self._path}"
        return ConfigurationError(f"{VARIABLES['source']}: {where} {what}")
