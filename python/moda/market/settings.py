"""Where prices come from and how patient to be: every number of this capability, checked once.

Values arrive from the environment (`from_environment`) or from Python. Both roads end in
`__post_init__`, so both get the same error, and it always names the variable: whoever reads it is
at a terminal with an environment, not in this file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from moda.errors import ConfigurationError

SourceKind = Literal["simulated", "binance", "replay"]

DAY: Final = 86_400.0
MAX_SYMBOLS: Final = 1024
"""The exchange carries 1024 streams on one connection; we ask for one stream per symbol."""

# What exchanges trade: "btcusdt", "1000satsusdt", "btcusdt_261225", and names in any script. The
# letters are Unicode's (\w is letters, digits and the underscore), so no quote, slash, @ or white
# space can get into a stream's name.
_SYMBOL: Final = re.compile(r"\w{1,40}")


@dataclass(frozen=True, slots=True)
class MarketSettings:
    """Settings of `chart:prices`. Spans are seconds. Raises ConfigurationError on any bad value.

    `source`
        "simulated" (the default: needs no network, and says so to every client), "binance", or
        "replay:FILE".
    `url`
        scheme, host and port of the exchange. Where the main host is not allowed (HTTP 451),
        wss://data-stream.binance.vision:443 serves the same market data.
    `symbols`
        exchange symbols in lower case, as in its stream names: letters of any script, digits and
        underscores.
    `stale_after`
        seconds without one tick of any symbol after which the feed is called stale and a new
        connection is made. The default suits symbols that trade every second; a list of rarely
        traded ones needs more.
    `rotate_after`
        age at which a connection is replaced. The exchange cuts at 24 h; the margin is for the
        replacement to fail a few times. Each connection takes 0..5 % off, so that many gateways
        started together do not rotate together.
    `reconnect_min`, `reconnect_max`
        first and longest delay between attempts to connect.
    `connect_timeout`
        for TCP and TLS, and again for the upgrade.
    `healthy_after`
        how long a connection must deliver before its failures start over at `reconnect_min`.
    `handover`
        how long two connections may overlap while the new one catches up with the old.
    `max_message`
        bytes of one upstream message.
    `seed`
        makes the simulated source repeatable; None draws a new one at every start.
    `replay_speed`
        1 replays at the recorded pace, 10 ten times as fast.
    `replay_loop`
        start over at the end of the file. Off by default: event times then jump back, which charts
        that only append refuse; the state "stale" at the end is the honest default.
    """

    source: str = "simulated"
    url: str = "wss://stream.binance.com:9443"
    symbols: tuple[str, ...] = ("btcusdt", "ethusdt")
    stale_after: float = 4.0
    rotate_after: float = DAY - 600.0
    reconnect_min: float = 0.5
    reconnect_max: float = 30.0
    connect_timeout: float = 5.0
    healthy_after: float = 10.0
    handover: float = 5.0
    max_message: int = 65_536
    seed: int | None = None
    replay_speed: float = 1.0
    replay_loop: bool = False

    def __post_init__(self) -> None:
        _check_source(self.source)
        _check_url(self.url)
        _check_symbols(self.symbols)
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _wrong(name, value, _range(name))
            if not (math.isfinite(value) and low <= value <= high):
                raise _wrong(name, value, _range(name))
        if isinstance(self.max_message, float):
            raise _wrong("max_message", self.max_message, "a whole number of bytes")
        if self.reconnect_min > self.reconnect_max:
            raise _wrong(
                "reconnect_min",
                self.reconnect_min,
                f"at most {VARIABLES['reconnect_max']} ({self.reconnect_max:g})",
            )
        if self.seed is not None and not isinstance(self.seed, int):
            raise _wrong("seed", self.seed, "a whole number, or nothing for a new one each start")

    @property
    def kind(self) -> SourceKind:
        """The source without its argument."""
        if self.source.startswith("replay:"):
            return "replay"
        return "binance" if self.source == "binance" else "simulated"

    @property
    def replay_file(self) -> str:
        """The FILE of "replay:FILE"; empty for the other sources."""
        return self.source.removeprefix("replay:") if self.kind == "replay" else ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> MarketSettings:
        """Read the variables of `VARIABLES`; what is absent or empty keeps its default."""
        given: dict[str, Any] = {}
        for name, variable in VARIABLES.items():
            text = environ.get(variable, "").strip()
            if text:
                given[name] = _PARSERS.get(name, _number)(name, text)
        return cls(**given)


VARIABLES: Final[dict[str, str]] = {
    "source": "MODA_PRICES",
    "url": "MODA_PRICES_URL",
    "symbols": "MODA_PRICES_SYMBOLS",
    "stale_after": "MODA_PRICES_STALE_AFTER",
    "rotate_after": "MODA_PRICES_ROTATE_AFTER",
    "reconnect_min": "MODA_PRICES_RECONNECT_MIN",
    "reconnect_max": "MODA_PRICES_RECONNECT_MAX",
    "connect_timeout": "MODA_PRICES_CONNECT_TIMEOUT",
    "healthy_after": "MODA_PRICES_HEALTHY_AFTER",
    "handover": "MODA_PRICES_HANDOVER",
    "max_message": "MODA_PRICES_MAX_MESSAGE",
    "seed": "MODA_PRICES_SEED",
    "replay_speed": "MODA_PRICES_REPLAY_SPEED",
    "replay_loop": "MODA_PRICES_REPLAY_LOOP",
}
"""Field -> environment variable."""

# The low ends keep a typo from becoming a reconnect storm or a busy loop. stale_after may go well
# under a second for upstreams faster than the exchange's one tick per second.
_RANGES: Final[dict[str, tuple[float, float]]] = {
    "stale_after": (0.1, 3600.0),
    "rotate_after": (1.0, DAY),
    "reconnect_min": (0.01, 60.0),
    "reconnect_max": (0.01, 600.0),
    "connect_timeout": (0.1, 60.0),
    "healthy_after": (0.0, 3600.0),
    "handover": (0.1, 60.0),
    "max_message": (1024, 16 * 1024 * 1024),
    "replay_speed": (0.001, 100_000.0),
}


def _range(name: str) -> str:
    low, high = _RANGES[name]
    # Whole bounds are written out: 1.67772e+07 is no number of bytes.
    return "a number from " + " to ".join(
        str(bound) if isinstance(bound, int) else f"{bound:g}" for bound in (low, high)
    )


def _wrong(name: str, got: object, takes: str) -> ConfigurationError:
    shown = repr(got)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return ConfigurationError(f"{VARIABLES[name]}: got {shown}, takes {takes}")


def _check_source(source: object) -> None:
    if source in ("simulated", "binance"):
        return
    if isinstance(source, str) and source.startswith("replay:") and len(source) > len("replay:"):
        return
    raise _wrong("source", source, '"simulated", "binance" or "replay:FILE"')


def _check_url(url: object) -> None:
    takes = "ws:// or wss:// with a host, an optional port and path, and no query or user"
    if not isinstance(url, str) or not url.isascii():
        raise _wrong("url", url, takes)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _wrong("url", url.rpartition("@")[2], takes) from None
    if "@" in url:
        # The exchange takes no password, and one repeated here would end up in a log.
        raise _wrong("url", f"{parts.scheme}://(hidden)@{parts.hostname}", takes)
    wrong = parts.query or parts.fragment or port == 0
    if parts.scheme not in ("ws", "wss") or not parts.hostname or wrong:
        raise _wrong("url", url, takes)


def _check_symbols(symbols: object) -> None:
    takes = (
        f"1 to {MAX_SYMBOLS} different symbols, comma separated, each 1 to 40 letters, digits and "
        'underscores (lower case, as in "btcusdt,ethusdt")'
    )
    if not isinstance(symbols, tuple) or not 1 <= len(symbols) <= MAX_SYMBOLS:
        raise _wrong("symbols", symbols, takes)
    for symbol in symbols:
        if not isinstance(symbol, str) or _SYMBOL.fullmatch(symbol) is None:
            raise _wrong("symbols", symbol, takes)
        if symbol != symbol.lower():
            raise _wrong("symbols", symbol, takes)
    # Events name a symbol in upper case: what is one there ("s" and the long s) is one here.
    traded = [symbol.upper() for symbol in symbols]
    if len(set(traded)) != len(traded):
        twice = next(s for s in symbols if traded.count(s.upper()) > 1)
        raise _wrong("symbols", f"{twice} twice", takes)


def _text(_: str, text: str) -> str:
    return text


def _list(_: str, text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _wrong(name, text, _range(name)) from None


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _wrong(name, text, "a whole number") from None


def _switch(name: str, text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "on": True}
    known |= {"0": False, "false": False, "no": False, "off": False}
    if text.lower() not in known:
        raise _wrong(name, text, "on or off (also 1/0, true/false, yes/no)")
    return known[text.lower()]


_PARSERS: Final[dict[str, Callable[[str, str], Any]]] = {
    "source": _text,
    "url": _text,
    "symbols": _list,
    "max_message": _whole,
    "seed": _whole,
    "replay_loop": _switch,
}
