"""A market that does not exist, in the exchange's own words.

`make serve` must show moving prices on a machine without a network, and tests need a feed that
obeys every rule a real one does. So the events are the exchange's to the byte (member order, no
white space, plain decimals), and the numbers hang together as in a real 24 h rolling ticker:
`o` is what was traded first in the window, `h` and `l` bound everything since, `v` and `q` add up
the window's trades and fall only when old ones leave it. The window is full from the first event,
because a chart that opens with o = h = l = c and volume 0 looks broken.

Prices follow geometric random walks that share one market factor (coins fall together) and are
drawn back to where they began, or a gateway left running for a month would quote bitcoin at a
cent. Floats live only inside the walk; a price becomes a whole number of ticks at once, and every
sum and comparison after that is between integers, so the decimals printed are exact.

Pure: the caller passes the time of each step, and a seed makes the run repeatable.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from moda.market.feed import Tick

WINDOW_MS: Final = 86_400_000
BUCKET_MS: Final = 600_000
"""The window slides by whole buckets: 144 of them hold a day in a few KB per symbol."""

STAMPS: Final = 16
"""How many different ms the symbols of one step are stamped with."""

_VOLATILITY: Final = 0.6  # of a year, the order of a large coin's
_CORRELATION: Final = 0.7  # of each coin with the market factor
_REVERSION: Final = 1.0 / (3 * 86_400.0)  # drawn back within days, so that a day looks free
_YEAR: Final = 365.0 * 86_400.0
_MIX: Final = math.sqrt(1.0 - _CORRELATION**2)


@dataclass(frozen=True, slots=True)
class Instrument:
    """One symbol's scale: a price is `ticks / 10**price_digits`, a quantity likewise."""

    symbol: str
    start: float
    price_digits: int
    quantity_digits: int


# Start prices of the contract's own examples, then rounder ones for what people try first.
_KNOWN: Final = {
    "BTCUSDT": (96_543.21, 2, 5),
    "ETHUSDT": (3_421.56, 2, 4),
    "BNBUSDT": (640.10, 2, 3),
    "SOLUSDT": (188.42, 2, 3),
    "XRPUSDT": (2.5134, 4, 1),
    "ADAUSDT": (0.7421, 4, 1),
    "DOGEUSDT": (0.24518, 5, 0),
}


def instrument(symbol: str) -> Instrument:
    """The scale of a symbol (upper case). An unknown one gets a price derived from its name.

    The same name always gets the same price: a restart must not move the market tenfold.
    """
    if symbol in _KNOWN:
        return Instrument(symbol, *_KNOWN[symbol])
    spread = zlib.crc32(symbol.encode()) / 0xFFFF_FFFF
    start = 10.0 ** (spread * 5.0 - 2.0)  # 0.01 .. 1000
    price_digits = 2 if start >= 100 else 4 if start >= 1 else 6
    return Instrument(symbol, start, price_digits, 3 if start >= 10 else 1)


@dataclass(slots=True)
class _Bucket:
    """Ten minutes of trading, in ticks and lots; `turnover` is the exact sum of their products."""

    start_ms: int
    open: int
    high: int
    low: int
    volume: int = 0
    turnover: int = 0


class _Book:
    """One symbol: where its walk stands and what its window holds."""

    __slots__ = ("_base", "_buckets", "_turnover", "_volume", "item", "price", "walk")

    def __init__(self, item: Instrument) -> None:
        self.item = item
        self.walk = 0.0  # log distance from the start price
        self._base = item.start * 10**item.price_digits
        self.price = max(1, round(self._base))
        self._buckets: deque[_Bucket] = deque()
        self._volume = 0
        self._turnover = 0

    def move(self, market: float, own: float, seconds: float) -> None:
        """One step of the walk: `market` and `own` are standard normal draws."""
        spread = _VOLATILITY * math.sqrt(seconds / _YEAR)
        pull = math.exp(-_REVERSION * seconds)
        self.walk = self.walk * pull + spread * (_CORRELATION * market + _MIX * own)
        self.price = max(1, round(self._base * math.exp(self.walk)))

    def trade(self, at_ms: int, lots: int) -> None:
        """Trade `lots` at the present price and let what is a day old leave the window."""
        buckets = self._buckets
        start_ms = at_ms - at_ms % BUCKET_MS
        if not buckets or buckets[-1].start_ms < start_ms:
            buckets.append(_Bucket(start_ms, self.price, self.price, self.price))
        bucket = buckets[-1]
        bucket.high = max(bucket.high, self.price)
        bucket.low = min(bucket.low, self.price)
        bucket.volume += lots
        bucket.turnover += lots * self.price
        self._volume += lots
        self._turnover += lots * self.price
        while buckets[0].start_ms <= at_ms - WINDOW_MS:
            gone = buckets.popleft()
            self._volume -= gone.volume
            self._turnover -= gone.turnover

    def tick(self, at_ms: int) -> Tick:
        """The window as the exchange would report it at `at_ms`."""
        digits, item = self.item.price_digits, self.item
        high = max(bucket.high for bucket in self._buckets)
        low = min(bucket.low for bucket in self._buckets)
        text = (
            f'{{"e":"24hrMiniTicker","E":{at_ms},"s":"{item.symbol}"'
            f',"c":"{decimal(self.price, digits)}"'
            f',"o":"{decimal(self._buckets[0].open, digits)}"'
            f',"h":"{decimal(high, digits)}","l":"{decimal(low, digits)}"'
            f',"v":"{decimal(self._volume, item.quantity_digits)}"'
            f',"q":"{decimal(self._turnover, digits + item.quantity_digits)}"}}'
        )
        return Tick(text.encode(), item.symbol, at_ms)


def decimal(value: int, digits: int) -> str:
    """Print a whole number of 10**-digits exactly. `value` is not negative.

    >>> decimal(9654321, 2), decimal(5, 3), decimal(7, 0)
    ('96543.21', '0.005', '7')
    """
    if digits == 0:
        return str(value)
    text = str(value).rjust(digits + 1, "0")
    return f"{text[:-digits]}.{text[-digits:]}"


class Market:
    """All symbols together. `step` is to be called about once a second.

    >>> market = Market(["btcusdt"], seed=1, now_ms=1_740_441_600_000)
    >>> [tick.symbol for tick in market.step(1_740_441_601_000)]
    ['BTCUSDT']
    """

    def __init__(self, symbols: Sequence[str], seed: int | None, now_ms: int) -> None:
        """`symbols` in any case; `now_ms` is when the market opens its eyes, a day already full."""
        self._random = Random(seed)  # noqa: S311 - a market, not a secret
        self._now_ms = now_ms
        first_ms = now_ms - now_ms % BUCKET_MS - WINDOW_MS + BUCKET_MS
        self._books = [_Book(instrument(symbol.upper())) for symbol in symbols]
        for at_ms in range(first_ms, now_ms, BUCKET_MS):
            self._trade(at_ms, BUCKET_MS / 1000.0)

    def step(self, now_ms: int) -> list[Tick]:
        """Move to `now_ms` and report every symbol once, in the order given.

        `E` only ever grows, per symbol by at least 1 ms, even if the machine's clock is set back.
        """
        elapsed_ms = max(1, now_ms - self._now_ms)
        self._now_ms += elapsed_ms
        self._trade(self._now_ms, min(elapsed_ms, BUCKET_MS) / 1000.0)
        # Real tickers are not stamped alike; a few ms between symbols keep readers honest.
        return [book.tick(self._now_ms - index % STAMPS) for index, book in enumerate(self._books)]

    def _trade(self, at_ms: int, seconds: float) -> None:
        draw = self._random.gauss
        market = draw(0.0, 1.0)
        for book in self._books:
            book.move(market, draw(0.0, 1.0), seconds)
            # About 20,000 of the quote currency change hands per second, more when it moves.
            worth = 20_000.0 * seconds * self._random.expovariate(1.0)
            price = book.price / 10**book.item.price_digits
            lots = round(worth / price * 10**book.item.quantity_digits)
            book.trade(at_ms, max(1, lots))
