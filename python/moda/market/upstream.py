"""Staying connected to an exchange that cuts, stalls, warns, refuses and lies about being alive.

Two roles, at most one link in each. The *leader* is published. The *candidate* is on its way to
replace it: being dialled, connected, or already delivering into a handover. Everything that
happens is one of five synchronous steps (a message, a loss, the end of a dial, a beat of the
clock, a wish for a candidate), so no step can find another half done.

| event                     | leader                        | candidate                         |
|---------------------------|-------------------------------|-----------------------------------|
| silent for `stale_after`  | dropped                       | dropped, another after backoff    |
| cut or closed             | dropped                       | dropped, another after backoff    |
| `serverShutdown`, old age | kept, a candidate is made     | dropped, if there is a leader     |
| its first tick            | published, as all after it    | leads, or starts a handover       |

A dropped leader is followed at once by a candidate that has delivered; without one the state is
"stale" and a candidate is made after the backoff.

State "stale" is told the moment there is no leader, not `stale_after` later: a price that cannot
change is not live, however fresh it looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final

import structlog

from moda._core import unwrap_combined
from moda.market.feed import Answer, Rotate, Rubbish, Tick, Unwrap, read
from moda.market.link import DialError, Link, dial, plan
from moda.market.pacing import Backoff, Clock, Handover, Watch
from moda.market.settings import MarketSettings, SourceKind
from moda.market.sources import Report, Sink, State

LOG: Final[Any] = structlog.get_logger("moda.market")

BEAT: Final = 0.25
"""Seconds between looks at the clock; shorter when `stale_after` asks for it."""

_SHOWN: Final = 10


class Upstream:
    """The exchange as a source. See `sources.Source` for the contract.

    `trust` replaces the system's certificate store, `unwrap` the Rust cutter, `random` the jitter.
    """

    kind: SourceKind = "binance"

    def __init__(
        self,
        settings: MarketSettings,
        clock: Clock,
        *,
        random: Random | None = None,
        unwrap: Unwrap = unwrap_combined,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._random = random or Random()  # noqa: S311 - spreads reconnects, guards nothing
        self._unwrap = unwrap
        self._trust = trust
        self._symbols = frozenset(symbol.upper() for symbol in settings.symbols)
        self._url, self._requests = plan(settings.url, settings.symbols)
        self._period = min(BEAT, settings.stale_after / 8)
        self._counts: Counter[str] = Counter()
        self._rubbish: Counter[str] = Counter()
        self._seen: dict[str, float] = {}
        self._silent_seconds = 0.0
        self._last_error = ""
        self._number = 0
        self._sink: Sink | None = None
        self._start()

    def _start(self) -> None:
        self._backoff = Backoff(
            self._settings.reconnect_min, self._settings.reconnect_max, self._random
        )
        self._leader: Link | None = None
        self._candidate: Link | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._due: float | None = None
        self._not_before = float("-inf")
        self._handover: Handover | None = None
        self._tail: Handover | None = None
        self._tail_until = 0.0
        self._newest: dict[str, int] = {}
        self._state: State = "stale"
        self._silent_since: float | None = None
        self._crash: Exception | None = None

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled. Raises only what the sink raised."""
        self._sink = sink
        self._start()
        self._tell("stale", "connecting")
        self._want(0.0)
        try:
            while self._crash is None:
                await self._clock.sleep(self._period)
                self._beat()
            raise self._crash
        finally:
            await self._let_go()

    def report(self) -> Report:
        now = self._clock.monotonic()
        leader, late = self._leader, self._settings.stale_after
        # One symbol may stop while others flow; that is shown, not acted upon, because a symbol
        # that nobody trades looks the same.
        ages = {symbol: now - self._seen.get(symbol, -1e9) for symbol in sorted(self._symbols)}
        silent = [symbol for symbol, age in ages.items() if age > late]
        age = None
        if leader is not None and leader.connected_at is not None:
            age = round(now - leader.connected_at, 3)
        return Report(
            detail={
                "url": self._settings.url,
                "connection_age": age,
                "replacing": self._candidate is not None,
                "symbols": len(self._symbols),
                "silent": len(silent),
                "silent_first": silent[:_SHOWN],
                "last_error": self._last_error,
            },
            counters={
                **{name: float(self._counts[name]) for name in _COUNTERS},
                "silent_seconds": self._silent_seconds,
                "rubbish": {reason: float(count) for reason, count in self._rubbish.items()},
            },
        )

    # -- what links report (`link.Owner`)

    def message(self, link: Link, data: bytes) -> None:
        if link is not self._leader and link is not self._candidate:
            return
        meaning = read(data, self._symbols, self._unwrap)
        if isinstance(meaning, Tick):
            link.watch.data()
            self._seen[meaning.symbol] = self._clock.monotonic()
            self._tick(link, meaning)
        elif isinstance(meaning, Rotate):
            self._counts["shutdown_notices"] += 1
            LOG.info("prices.shutdown_notice", connection=link.number)
            self._retire(link)
        elif isinstance(meaning, Answer):
            if meaning.problem is not None:
                self._counts["requests_refused"] += 1
                self._last_error = f"subscription refused: {meaning.problem}"
                LOG.warning("prices.request_refused", problem=meaning.problem)
        elif isinstance(meaning, Rubbish):
            self.rubbish(link, meaning.reason)

    def rubbish(self, link: Link, reason: str) -> None:
        self._rubbish[reason] += 1
        if self._rubbish[reason] == 1:
            LOG.warning("prices.rubbish", reason=reason, connection=link.number)

    def lost(self, link: Link, reason: str) -> None:
        if link is self._leader:
            self._counts["losses"] += 1
            self._last_error = reason
            LOG.warning("prices.connection_lost", connection=link.number, reason=reason)
            self._lose_leader(reason)
        elif link is self._candidate:
            self._drop_candidate(reason)

    # -- ticks and roles

    def _tick(self, link: Link, tick: Tick) -> None:
        if link is self._leader:
            if self._tail is not None and not self._tail.admits(tick):
                self._counts["duplicates"] += 1
                return
            self._publish(tick)
            if self._handover is not None:
                self._handover.delivered(tick.symbol)
        elif self._leader is None:
            self._lead(link)
            self._publish(tick)
        else:
            if self._handover is None:
                self._handover = Handover(self._newest, self._clock.monotonic())
            self._handover.hold(tick)
        if self._handover is not None and self._handover.complete:
            self._hand_over()

    def _publish(self, tick: Tick) -> None:
        self._newest[tick.symbol] = tick.at_ms
        self._counts["ticks"] += 1
        self._to_sink(lambda sink: sink.tick(tick))

    def _lead(self, link: Link) -> None:
        link.delivered_at = self._clock.monotonic()
        self._leader, self._candidate, self._newest = link, None, {}
        LOG.info("prices.live", connection=link.number)
        self._tell("live", f"connection {link.number}")
        if link.retiring:
            self._want(self._backoff.next())

    def _hand_over(self) -> None:
        """The candidate becomes the leader, without a hole and without a repetition."""
        old, new, handover = self._leader, self._candidate, self._handover
        if new is None or handover is None:
            return
        fresh, duplicates = handover.finish()
        # The filter for what the old one had already delivered goes by the exchange's time stamps,
        # so it is given a limit: one stamp from the future must not silence a symbol for good.
        self._handover, self._tail = None, handover
        self._tail_until = self._clock.monotonic() + self._settings.handover
        self._counts["duplicates"] += duplicates
        if old is not None:
            self._counts["rotations"] += 1
            old.close()
        self._lead(new)
        for tick in fresh:
            self._publish(tick)

    def _lose_leader(self, reason: str) -> None:
        self._leader = None
        if self._handover is not None:
            self._hand_over()
            return
        self._tell("stale", reason)
        self._want(self._backoff.next())

    def _drop_candidate(self, reason: str) -> None:
        link, self._candidate, self._handover = self._candidate, None, None
        if link is not None:
            link.abort()
        self._counts["attempts_failed"] += 1
        self._last_error = reason
        LOG.warning("prices.attempt_failed", reason=reason)
        if self._leader is None:
            self._tell("stale", reason)
        self._want(self._backoff.next())

    def _retire(self, link: Link) -> None:
        """Replace a link that still works."""
        if link.retiring:
            return
        link.retiring = True
        if link is self._leader:
            # "At once", says the exchange, and once is fine; an exchange that says so on every
            # connection must not be answered with a storm of them.
            self._want(0.0 if self._healthy(link) else self._backoff.next())
        elif self._leader is not None:
            self._drop_candidate("the new connection announced its own end")
        # A candidate with no leader to wait for may still deliver until it is cut, and is then
        # all there is: `_lead` looks for its replacement.

    # -- attempts

    def _want(self, delay: float) -> None:
        """A candidate is needed, `delay` seconds from now at the latest."""
        if self._candidate is not None:
            return
        now = self._clock.monotonic()
        due = max(now + delay, self._not_before)
        self._due = due if self._due is None else min(self._due, due)
        if self._due <= now:
            self._attempt()

    def _attempt(self) -> None:
        self._due = None
        self._number += 1
        self._counts["attempts"] += 1
        settings, now = self._settings, self._clock.monotonic()
        watch = Watch(settings.stale_after, self._period, now)
        link = Link(self, self._number, self._requests, watch, self._clock, settings.max_message)
        link.rotate_at = now + settings.rotate_after * self._random.uniform(0.95, 1.0)
        self._candidate = link
        self._dialling = asyncio.get_running_loop().create_task(self._dial(link))

    async def _dial(self, link: Link) -> None:
        settings = self._settings
        LOG.info("prices.connect.started", connection=link.number, url=settings.url)
        try:
            await dial(link, self._url, settings.connect_timeout, settings.max_message, self._trust)
        except DialError as error:
            if link is self._candidate:
                self._not_before = self._clock.monotonic() + error.wait
                self._drop_candidate(error.reason)
        except Exception as error:
            # Not a failure `dial` knows of: a bug, ours or a library's. It must not end the feed.
            LOG.exception("prices.connect.failed", connection=link.number)
            if link is self._candidate:
                self._drop_candidate(f"{type(error).__name__}: {error}")
        else:
            LOG.info("prices.connect.complete", connection=link.number)

    # -- the clock

    def _beat(self) -> None:
        now, settings = self._clock.monotonic(), self._settings
        leader, candidate = self._leader, self._candidate
        if leader is not None:
            leader.beat(now)
            if not leader.proved and self._healthy(leader):
                # Once per connection: resetting for as long as it lasts would let the attempts to
                # replace it come every half second when the exchange refuses them.
                leader.proved = True
                self._backoff.reset()
            if leader.watch.beat(now):
                self._counts["stalls"] += 1
                reason = f"no data for {settings.stale_after:g} s on an open connection"
                LOG.warning("prices.stalled", connection=leader.number)
                self._last_error = reason
                leader.abort()
                self._lose_leader(reason)
            elif now >= leader.rotate_at:
                self._retire(leader)
        # Only if it still is the candidate: the leader's end may just have promoted it.
        if candidate is not None and candidate is self._candidate and candidate.connected:
            candidate.beat(now)
            if candidate.watch.beat(now):
                self._drop_candidate(f"connected, then no data for {settings.stale_after:g} s")
        if self._handover is not None and now - self._handover.started >= settings.handover:
            self._hand_over()
        if self._tail is not None and now >= self._tail_until:
            self._tail = None
        if self._due is not None and now >= self._due and self._candidate is None:
            self._attempt()

    def _healthy(self, link: Link) -> bool:
        if link.delivered_at is None:
            return False
        return self._clock.monotonic() - link.delivered_at >= self._settings.healthy_after

    def _tell(self, state: State, reason: str) -> None:
        now = self._clock.monotonic()
        if state == "stale" and self._state == "live":
            self._counts["gaps"] += 1
            self._silent_since = max(self._seen.values(), default=now)
        elif state == "live" and self._silent_since is not None:
            self._silent_seconds += now - self._silent_since
            self._silent_since = None
        self._state = state
        self._to_sink(lambda sink: sink.shift(state, reason))

    def _to_sink(self, call: Callable[[Sink], None]) -> None:
        if self._sink is None or self._crash is not None:
            return
        try:
            call(self._sink)
        except Exception as error:
            # It happened in a transport's callback, where raising would only close the socket;
            # `run` raises it at its next beat.
            self._crash = error

    async def _let_go(self) -> None:
        self._sink = None
        for link in (self._leader, self._candidate):
            if link is not None:
                link.close()
        self._leader = self._candidate = None
        if self._dialling is not None and not self._dialling.done():
            self._dialling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._dialling


_COUNTERS: Final = (
    "ticks",
    "attempts",
    "attempts_failed",
    "losses",
    "stalls",
    "rotations",
    "shutdown_notices",
    "gaps",
    "duplicates",
    "requests_refused",
)
