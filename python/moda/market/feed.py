"""What one frame from the exchange means, decided without I/O.

Every subscriber of ``chart:prices`` is sent the exchange's own bytes, spliced unread into a
Phoenix frame. One bad event would therefore break the frame of every client at once: a stray
quote makes invalid JSON, a stray byte makes invalid UTF-8, which browsers answer by closing the
connection (1007). So nothing leaves this file as a `Tick` unless it is one whole JSON object, in
UTF-8, with the nine members the contract promises (`priceTick` in the AsyncAPI document), for a
symbol that was asked for. Everything else is named and counted, never forwarded and never fatal:
the next frame is usually fine.

The cutting itself (finding where ``data`` begins and ends inside ``{"stream":..,"data":..}``) is
done by Rust, which knows the offsets; a decode and re-encode in Python would change bytes (`1.10`
and `1.1` are one number, and two prices to a reader who counts digits).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from moda._core import unwrap_combined

Unwrap = Callable[[bytes], tuple[str, bytes, str | None, int | None]]
"""What `moda._core.unwrap_combined` is: frame -> (kind, data, symbol, event time in ms).

| kind        | data                        | symbol, time                |
|-------------|-----------------------------|-----------------------------|
| an `e`      | the event's exact bytes     | its `s` and `E`, or None    |
| ""          | an event without an `e`     | its `s` and `E`, or None    |
| "answer"    | the result of a request     | None, None                  |
| "refusal"   | why a request was refused   | None, None                  |

Anything else raises ValueError with the reason, one of the names in `RUBBISH`.
"""

# A price is digits with at most one point: no sign, no exponent, no NaN. The bound on the digits
# keeps a hostile upstream from making readers parse a megabyte as one number.
_DECIMAL: Final = re.compile(r"[0-9]{1,30}(?:\.[0-9]{1,30})?")
_DECIMAL_MEMBERS: Final = ("c", "o", "h", "l", "v", "q")


@dataclass(frozen=True, slots=True)
class Tick:
    """One 24 h mini ticker, ready to forward.

    `data` is the event exactly as the exchange wrote it. `symbol` is its `s` ("BTCUSDT"), `at_ms`
    its `E` (milliseconds since the epoch by the exchange's clock).
    """

    data: bytes
    symbol: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Rotate:
    """The exchange is about to cut this connection (`serverShutdown`): open another now."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a control request of ours; `problem` is None when it was granted."""

    problem: str | None


@dataclass(frozen=True, slots=True)
class Rubbish:
    """A frame that is none of the above. `reason` is one of the `RUBBISH` names."""

    reason: str


Meaning = Tick | Rotate | Answer | Rubbish

RUBBISH: Final = frozenset(
    {
        "binary",  # a binary frame: JSON streams are text
        "too_big",  # fragments that together exceed the message limit
        "not_utf8",
        "not_json",  # not one whole JSON value
        "too_deep",  # nested past any event's depth
        "not_an_event",  # JSON, but neither an event, nor an answer
        "unexpected_event",  # an event that is not a 24hrMiniTicker
        "unexpected_symbol",  # a symbol nobody asked for
        "missing_member",  # one of e, E, s, c, o, h, l, v, q is absent or of another type
        "bad_number",  # a price or volume that is not a plain decimal
    }
)


def read(frame: bytes, symbols: frozenset[str] | None, unwrap: Unwrap = unwrap_combined) -> Meaning:
    """Say what a text frame from the exchange means. Never raises on any input.

    `symbols` are the ones asked for, upper case as in `s`; None accepts any. An unbounded set of
    symbols would be an unbounded set of conflation keys, so live sources always pass theirs.
    """
    try:
        kind, data, _, _ = unwrap(frame)
    except ValueError as error:
        reason = str(error)
        return Rubbish(reason if reason in RUBBISH else "not_an_event")
    if kind == "24hrMiniTicker":
        return read_event(data, symbols)
    if kind == "serverShutdown":
        return Rotate()
    if kind == "answer":
        return Answer(None)
    if kind == "refusal":
        return Answer(data.decode("utf-8", "replace")[:200])
    return Rubbish("unexpected_event" if kind else "not_an_event")


def read_event(data: bytes, symbols: frozenset[str] | None) -> Tick | Rubbish:
    """Check one raw event and keep its bytes. Also what a replay file's lines go through."""
    try:
        event: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        return Rubbish("not_json")
    if not isinstance(event, dict):
        return Rubbish("not_an_event")
    if event.get("e") != "24hrMiniTicker":
        return Rubbish("unexpected_event" if isinstance(event.get("e"), str) else "not_an_event")
    symbol, at_ms = event.get("s"), event.get("E")
    if not isinstance(symbol, str) or type(at_ms) is not int:
        return Rubbish("missing_member")
    if symbols is not None and symbol not in symbols:
        return Rubbish("unexpected_symbol")
    for member in _DECIMAL_MEMBERS:
        number = event.get(member)
        if not isinstance(number, str):
            return Rubbish("missing_member")
        if _DECIMAL.fullmatch(number) is None:
            return Rubbish("bad_number")
    return Tick(data, symbol, at_ms)
