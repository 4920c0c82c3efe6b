"""When to act: silence, retries, the request budget and the change of connection, without I/O.

Each class here is one rule of time. None of them sleeps or reads a clock: the caller passes
`now`, so a day passes in a test as fast as it can be written down.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from random import Random
from typing import Final, Protocol

from moda.market.feed import Tick


class Clock(Protocol):
    """Time as this capability needs it; tests drive one by hand."""

    def monotonic(self) -> float:
        """Seconds that only grow, for measuring spans."""
        ...

    def time(self) -> float:
        """Unix seconds, for telling people when."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; zero or less gives the loop one turn."""
        ...


class SystemClock:
    """The machine's clocks and the running loop's timer."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class Watch:
    """Tells a connection that went silent from a process that was busy.

    Only data counts as life. Exchanges are known to answer pings for hours on a stream that has
    stopped, so a watchdog fed by pongs never barks; and one fed by the wall clock barks whenever
    the loop was blocked, though the missing data lies unread in the socket. Hence two rules:

    - silence is added up beat by beat, and no beat adds more than two periods, however long the
      loop was away between two of them;
    - a beat that came late never condemns. It waits for the next one, a full period later, by when
      the loop has read whatever the kernel held. Only one such delay is granted in a row, so a
      process that is always late still finds out.
    """

    __slots__ = ("_deferred", "_last", "_period", "_silence", "_stale_after")

    def __init__(self, stale_after: float, period: float, now: float) -> None:
        self._stale_after = stale_after
        self._period = period
        self._last = now
        self._silence = 0.0
        self._deferred = False

    def data(self) -> None:
        """A tick arrived."""
        self._silence = 0.0

    def beat(self, now: float) -> bool:
        """Call once per period. True: the stream is silent and the loop is not to blame."""
        elapsed = now - self._last
        self._last = now
        self._silence += min(elapsed, 2 * self._period)
        if self._silence < self._stale_after:
            self._deferred = False
            return False
        if elapsed > 2 * self._period and not self._deferred:
            self._deferred = True
            return False
        self._deferred = False
        return True


class Backoff:
    """Delays between attempts: doubling from `initial` to `maximum` seconds, jittered.

    The first delay falls anywhere in 0..initial, the others in the upper half of their step: when
    an exchange drops everyone at once, its clients must not all come back at once. The exchange
    allows 300 attempts per 5 minutes and address; with the defaults 5 minutes of refusals make
    about 20.
    """

    __slots__ = ("_initial", "_maximum", "_random", "_step")

    def __init__(self, initial: float, maximum: float, random: Random) -> None:
        self._initial = initial
        self._maximum = maximum
        self._random = random
        self._step = 0

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        step = self._step
        self._step = step + 1
        if step == 0:
            return self._random.uniform(0.0, self._initial)
        ceiling = min(self._maximum, self._initial * 2.0 ** min(step, 40))
        return self._random.uniform(ceiling / 2, ceiling)

    def reset(self) -> None:
        """The connection has proved itself: the next failure starts from `initial` again."""
        self._step = 0


class Budget:
    """At most `count` messages in any window of `seconds` seconds.

    The exchange closes a connection that sends it more than 5 messages in a second, and pongs are
    messages too, so subscriptions and pongs draw on one budget.
    """

    __slots__ = ("_count", "_seconds", "_spent")

    def __init__(self, count: int, seconds: float) -> None:
        self._count = count
        self._seconds = seconds
        self._spent: deque[float] = deque(maxlen=count)

    def take(self, now: float) -> bool:
        """True if one more message may leave now; it is then counted as sent."""
        if len(self._spent) == self._count and now - self._spent[0] <= self._seconds:
            return False
        self._spent.append(now)
        return True


MAX_HELD: Final = 8192
"""Ticks a handover may hold: 1024 symbols for 8 seconds. More than that ends the handover."""


class Handover:
    """The moment in which two connections carry the same feed, old and new.

    The old one goes on being published as it arrives; the new one is held. When, for every symbol
    the old one ever carried, the old has delivered an event as new as the first held one, the two
    streams overlap and nothing can fall between them: what was held and is newer than the old
    one's last is the continuation. Published that way the feed has no duplicate, no hole and no
    step back in time, which neither "switch at once" (loses what the old had in flight) nor
    "publish both, drop seen (symbol, E)" (publishes a late event after a newer one) can promise.
    """

    __slots__ = ("_first", "_held", "_lagging", "_newest", "started")

    def __init__(self, newest: dict[str, int], now: float) -> None:
        """`newest` is the caller's own `E` per symbol of the old connection, read at each step."""
        self.started = now
        self._newest = newest
        self._held: list[Tick] = []
        self._first: dict[str, int] = {}
        self._lagging = set(newest)

    def hold(self, tick: Tick) -> None:
        """A tick of the new connection."""
        self._held.append(tick)
        if tick.symbol not in self._first:
            self._first[tick.symbol] = tick.at_ms
            self.delivered(tick.symbol)

    def delivered(self, symbol: str) -> None:
        """`newest[symbol]` moved: the old connection delivered a tick of it."""
        first = self._first.get(symbol)
        if first is not None and self._newest.get(symbol, -1) >= first:
            self._lagging.discard(symbol)
        else:
            self._lagging.add(symbol)

    @property
    def complete(self) -> bool:
        """True: finishing now loses nothing (or holding on would cost too much memory)."""
        return bool(self._held) and (not self._lagging or len(self._held) >= MAX_HELD)

    def finish(self) -> tuple[list[Tick], int]:
        """What to publish of the held ticks, in order, and how many were duplicates.

        Call once. The old connection must deliver no more; `admits` filters the new one's next.
        """
        held, self._held = self._held, []
        fresh = [tick for tick in held if self.admits(tick)]
        return fresh, len(held) - len(fresh)

    def admits(self, tick: Tick) -> bool:
        """After `finish`: False for a tick the old connection had delivered already.

        The old one may have been ahead, so repetitions can still come once it is gone.
        """
        last = self._newest.get(tick.symbol)
        if last is None:
            return True
        if tick.at_ms <= last:
            return False
        del self._newest[tick.symbol]
        return True
