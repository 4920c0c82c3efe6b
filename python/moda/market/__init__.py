"""Market prices: `chart:prices`, from the exchange, from a recording, or invented.

Reads top to bottom: `feed` (what a frame means), `pacing` (when to act), `simulation` (a market
that does not exist) are pure; `link` and `upstream` hold the connection; `sources` is the port;
`prices` is the channel.
"""

from __future__ import annotations

from moda.channel import Registrar
from moda.market.pacing import Clock, SystemClock
from moda.market.prices import TOPIC, Prices
from moda.market.settings import MarketSettings
from moda.market.sources import Replay, Simulated, Source
from moda.market.upstream import Upstream

__all__ = ["MarketSettings", "Prices", "check", "install"]


def install(gateway: Registrar, settings: MarketSettings, clock: Clock | None = None) -> Prices:
    """Put `chart:prices` on the gateway, with its source under supervision.

    Raises ConfigurationError if a replay file cannot be read or holds a bad line. The returned
    channel's `counters()` feed `/metrics`.
    """
    clock = clock or SystemClock()
    prices = Prices(gateway, _source(settings, clock), clock)
    gateway.channel(TOPIC, delivery="latest")(prices)
    gateway.background("prices", prices.run)
    gateway.service("prices", prices.probe)
    return prices


def check(settings: MarketSettings) -> None:
    """Look at the beginning of a recording, where that is the source.

    Raises ConfigurationError as :func:`install` would. An exchange is asked when it is needed.
    """
    if settings.kind == "replay":
        Replay(settings, SystemClock()).check()


def _source(settings: MarketSettings, clock: Clock) -> Source:
    if settings.kind == "binance":
        return Upstream(settings, clock)
    if settings.kind == "replay":
        replay = Replay(settings, clock)
        replay.check()
        return replay
    return Simulated(settings, clock)
