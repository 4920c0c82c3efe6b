"""One WebSocket connection to the exchange: frames in, pongs and subscriptions out.

A link judges nothing. It reassembles messages, answers pings, spends the request budget, and tells
its owner what arrived and, once, that it is over. Who leads, what is stale and when to try again
is `upstream.py`.

Pings are answered here and not by picows (which would echo the payload just as well), because a
pong is a message like any other to the exchange's limit of 5 per second, and must share one budget
with subscriptions. RFC 6455 section 5.5.3 lets the latest ping stand for those before it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol
from urllib.parse import quote

from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSProtocolError,
    WSTransport,
)

from moda.errors import ModaError
from moda.market.handshake import connect
from moda.market.pacing import Budget, Clock, Watch
from moda.market.settings import VARIABLES
from moda.market.turns import Turns

SENDS_PER_SECOND: Final = 4
"""One less than the exchange allows: its second and ours do not start together."""

URL_BYTES: Final = 4000
"""Longest request target. Proxies and servers commonly stop at 4 to 8 KB for the whole head."""

STREAMS_PER_REQUEST: Final = 100


class DialError(ModaError):
    """No connection came about. `reason` is for people; `wait` is what the peer asked for, in s."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        self.reason = reason
        self.wait = wait
        super().__init__(reason)


class Owner(Protocol):
    """Who a link reports to. Called from the transport's callbacks."""

    def message(self, link: Link, data: bytes) -> None: ...
    def rubbish(self, link: Link, reason: str) -> None: ...
    def lost(self, link: Link, reason: str) -> None: ...


def plan(base: str, symbols: Sequence[str]) -> tuple[str, list[bytes]]:
    """The URL to open and the SUBSCRIBE requests to send after it.

    As many streams as fit are named in the URL, so that the usual handful needs no request at all
    and data flows with the upgrade; the rest is subscribed to, 100 at a time. A URL is ASCII, so
    letters of other scripts are percent-encoded there, and are themselves (UTF-8) in a request.
    """
    streams = [f"{symbol}@miniTicker" for symbol in symbols]
    encoded = [quote(stream, safe="@") for stream in streams]
    fitting, size = 0, 0
    while fitting < len(streams) and size + len(encoded[fitting]) < URL_BYTES:
        size += len(encoded[fitting]) + 1
        fitting += 1
    rest = streams[fitting:]
    requests = []
    for index, start in enumerate(range(0, len(rest), STREAMS_PER_REQUEST)):
        names = ",".join(f'"{name}"' for name in rest[start : start + STREAMS_PER_REQUEST])
        requests.append(f'{{"method":"SUBSCRIBE","params":[{names}],"id":{index + 1}}}'.encode())
    return f"{base.rstrip('/')}/stream?streams={'/'.join(encoded[:fitting])}", requests


class Link(WSListener):
    """One connection, from the attempt to the end. Its owner hears `lost` at most once."""

    def __init__(
        self,
        owner: Owner,
        number: int,
        requests: Sequence[bytes],
        watch: Watch,
        clock: Clock,
        max_message: int,
    ) -> None:
        self.number = number
        self.watch = watch
        self.connected_at: float | None = None
        self.delivered_at: float | None = None
        """When it began to lead. This and the next three are the owner's notes on it."""
        self.rotate_at = float("inf")
        self.retiring = False
        self.proved = False
        self._owner = owner
        self._clock = clock
        self._transport: WSTransport | None = None
        self._requests = deque(requests)
        self._budget = Budget(SENDS_PER_SECOND, 1.0)
        self._ping: bytes | None = None
        self._parts: bytearray | None = None
        self._max_message = max_message
        self._over = False
        self._refused = False
        self._reason = "connection cut"
        self._end: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """The upgrade is done; data may flow."""
        return self.connected_at is not None

    def beat(self, now: float) -> None:
        """Send what waits, as far as the budget goes. Pongs first: a missing one costs the link."""
        transport = self._transport
        if transport is None or self._over:
            return
        if self._ping is not None and self._budget.take(now):
            transport.send_pong(self._ping)
            self._ping = None
        while self._requests and self._budget.take(now):
            transport.send(WSMsgType.TEXT, self._requests.popleft())

    def close(self) -> None:
        """End it without a word to the owner, telling the peer."""
        self._over = True
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.send_close(WSCloseCode.OK)
            self._transport.disconnect()

    def abort(self) -> None:
        """End it without a word to anyone: the peer is not listening."""
        self._over = True
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    # -- called by picows

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._read_by_turns(transport)
        self._end = asyncio.get_running_loop().create_task(self._mourn(transport))
        if self._over:
            # Given up while the upgrade was under way.
            transport.disconnect(graceful=False)
            return
        self.connected_at = self._clock.monotonic()
        self.beat(self.connected_at)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._over or self._refused:
            return
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            # No extension was agreed on: whatever the bytes are (compressed, say), they are no price.
            self._refused = True
            raise WSProtocolError(WSCloseCode.PROTOCOL_ERROR, "reserved bits are set")
        kind = frame.msg_type
        if kind == WSMsgType.TEXT or kind == WSMsgType.CONTINUATION:
            self._text(frame)
        elif kind == WSMsgType.PING:
            self._ping = frame.get_payload_as_bytes()
            self.beat(self._clock.monotonic())
        elif kind == WSMsgType.CLOSE:
            self._reason = _farewell(frame.get_payload_as_bytes())
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
        elif kind == WSMsgType.BINARY:
            self._owner.rubbish(self, "binary")

    def _read_by_turns(self, transport: WSTransport) -> None:
        """An exchange that floods us must leave the loop to our clients."""
        under = transport.underlying_transport
        under.set_protocol(Turns(under.get_protocol(), under))  # type: ignore[arg-type]  # by shape

    async def _mourn(self, transport: WSTransport) -> None:
        # Not `on_ws_disconnected`: only the wait also tells what picows itself objected to (a
        # frame too big, a masked frame), and an exception nobody waits for is logged as a bug.
        try:
            await transport.wait_disconnected()
        except WSProtocolError as error:
            self._reason = f"protocol error: {error}"
        except Exception as error:
            self._reason = f"{type(error).__name__}: {error}"
        if not self._over:
            self._over = True
            self._owner.lost(self, self._reason)

    def _text(self, frame: WSFrame) -> None:
        # The exchange does not fragment; what stands between it and us may.
        if frame.msg_type == WSMsgType.TEXT and frame.fin:
            self._owner.message(self, frame.get_payload_as_bytes())
            return
        if frame.msg_type == WSMsgType.TEXT:
            self._parts = bytearray()
        if self._parts is None:
            return
        self._parts += frame.get_payload_as_memoryview()
        if len(self._parts) > self._max_message:
            self._parts = None
            self._owner.rubbish(self, "too_big")
        elif frame.fin:
            whole, self._parts = bytes(self._parts), None
            self._owner.message(self, whole)


async def dial(
    link: Link,
    url: str,
    patience: float,
    max_message: int,
    trust: ssl.SSLContext | None = None,
) -> None:
    """Connect `link` to `url`; TLS by the scheme, certificates checked against the system's store.

    `patience` (s) bounds TCP and TLS, then the upgrade. Raises DialError if no connection came
    about, whatever the cause. `trust` replaces the system's certificate store.
    """
    try:
        # TLS and the upgrade have a limit of their own; this one bounds finding the address and TCP,
        # and them together.
        async with asyncio.timeout(2 * patience):
            await connect(link, url, patience, max_message, trust)
    except TimeoutError:
        link.abort()
        raise DialError(f"no answer within {patience:g} s") from None
    except WSHandshakeError as error:
        raise _refused(error) from None
    except (OSError, WSError) as error:
        raise DialError(f"{type(error).__name__}: {error}") from None
    if not link.connected:
        raise DialError("connection cut during the upgrade")


def _refused(error: WSHandshakeError) -> DialError:
    response = error.response
    if response is None:
        return DialError(f"upgrade failed: {error}")
    status = int(response.status)
    if status == 451:
        return DialError(
            "upgrade refused with HTTP 451: not served from this place; "
            f"{VARIABLES['url']}=wss://data-stream.binance.vision:443 may be"
        )
    # 429 and 418 are the exchange's "slow down" and "banned", with the wait in seconds.
    after = response.headers.get("Retry-After", "")
    wait = min(float(after), 3600.0) if after.isascii() and after.isdigit() else 0.0
    return DialError(f"upgrade refused with HTTP {status}", wait)


def _farewell(payload: bytes) -> str:
    if len(payload) < 2:
        return "closed by the exchange without a code"
    said = payload[2:102].decode("utf-8", "replace")
    code = int.from_bytes(payload[:2], "big")
    return f"closed by the exchange with {code}" + (f": {said}" if said else "")
