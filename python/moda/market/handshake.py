"""From a URL to an open WebSocket, on the event loop's own transport.

picows' `ws_connect` prefers the transports of the package aiofastnet, which it depends on. Those ask
the loop to watch a descriptor one turn after the connection was made, and do not look whether it was
closed meanwhile (aiofastnet 1.2.0, `SelectorSocketTransport.__init__`: `call_soon(add_reader, ...)`).
An exchange that resets at that moment leaves a watch on a number that belongs to nobody, and then to
whichever client of ours connects next: that client is never read, or the loop aborts the process.
uvloop's own transport has no such state, libuv forgets a descriptor before it closes it. So the
connection is made here, and picows gets it the way the door gives it those of clients.

It also stands between the two while the answer is read, because RFC 6455 section 4.1 asks that the
Connection header *contain* the token "Upgrade", in whatever list and however many lines, and picows
takes nothing but the one word.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final
from urllib.parse import urljoin

from picows import WSError, WSHandshakeError, WSListener
from picows.picows import WSAutoPingStrategy, WSProtocol  # type: ignore[attr-defined]  # no stub
from picows.url import parse_url

HEAD_BYTES: Final = 16 * 1024
"""What picows takes of a head; a longer one is passed on as it is, for picows to refuse."""

REDIRECTS: Final = 2

_END: Final = b"\r\n\r\n"


class _Quiet:
    """What picows may log to: nothing. Every end is told to the owner, who logs it once.

    It is not a `logging.Logger` on purpose: picows makes a child of one per connection.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name logging gave it
        return False

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        pass

    log = debug = info = warning = error = exception = _nothing


_QUIET: Final = _Quiet()


async def connect(
    listener: WSListener,
    url: str,
    patience: float,
    max_frame: int,
    trust: ssl.SSLContext | None = None,
) -> None:
    """Open `url` and hand the connection to `listener`, by its `on_ws_connected`.

    `patience` (s) bounds TLS, and again the upgrade; TCP is the caller's to bound. `trust` replaces
    the system's certificate store. At most two redirects are followed, none from wss to ws. Raises
    OSError, TimeoutError, or picows' WSError, whose WSHandshakeError holds the answer. Returns
    without having called the listener if the peer hung up during the upgrade.

    Whatever is raised, a cancellation too, leaves no connection behind.
    """
    redirects = 0
    while True:
        try:
            await _attempt(listener, url, patience, max_frame, trust)
            return
        except WSHandshakeError as error:
            redirects += 1
            if redirects > REDIRECTS:
                raise
            url = redirected(url, error)


async def _attempt(
    listener: WSListener,
    url: str,
    patience: float,
    max_frame: int,
    trust: ssl.SSLContext | None,
) -> None:
    target = parse_url(url)
    protocol = WSProtocol(
        target.netloc,
        target.resource_name,
        True,  # a client
        lambda *_: listener,
        _QUIET,
        True,  # an exception of the listener's ends the connection
        patience,
        False,  # no pings: the listener's owner watches for data
        patience,
        patience,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,  # no pongs: the listener has a budget for them
        max_frame,
        None,
        HEAD_BYTES,
    )
    secure: dict[str, Any] = {}
    if target.is_secure:
        secure = {"ssl": trust or True, "ssl_handshake_timeout": patience}
    loop = asyncio.get_running_loop()
    transport, answer = await loop.create_connection(
        lambda: Answer(protocol), target.host, target.port, **secure
    )
    try:
        if answer.failed is not None:
            raise answer.failed
        await protocol.wait_until_handshake_complete()
    except BaseException:
        transport.abort()
        raise


def redirected(url: str, error: WSHandshakeError) -> str:
    """Where a refusal points to; raises it when it points nowhere that may be followed."""
    response = error.response
    if response is None or int(response.status) not in (301, 302, 303, 307, 308):
        raise error
    where = response.headers.get("Location")
    if where is None:
        raise WSError(f"redirected with HTTP {int(response.status)} and no Location") from error
    target = urljoin(url, where)
    if parse_url(url).is_secure and not parse_url(target).is_secure:
        raise WSError("redirected from wss to ws, which would drop the encryption") from error
    return target


class Answer(asyncio.BufferedProtocol):
    """Holds what arrives back until the head of the answer is whole, then leaves the rest to picows."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._held = bytearray(HEAD_BYTES)
        self._size = 0
        self._transport: Any = None
        self.failed: OSError | None = None
        """Why picows could not take the connection; it must not hear of its end then."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        try:
            self._protocol.connection_made(transport)
        except OSError as error:
            # It sets options of the socket, which a peer that is gone already can make fail.
            self.failed = error

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._held)[self._size :]

    def buffer_updated(self, nbytes: int) -> None:
        self._size += nbytes
        head, end, rest = bytes(self._held[: self._size]).partition(_END)
        if not end and self._size < HEAD_BYTES:
            return
        self._transport.set_protocol(self._protocol)
        data = memoryview(tidy(head) + end + rest)
        while data:
            room = self._protocol.get_buffer(-1)
            size = min(len(room), len(data))
            room[:size] = data[:size]
            data = data[size:]
            self._protocol.buffer_updated(size)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.failed is None:
            self._protocol.connection_lost(exc)


def tidy(head: bytes) -> bytes:
    """A response's head with its Connection headers made one, if one of them says Upgrade.

    >>> tidy(b"HTTP/1.1 101 Switching Protocols\\r\\nconnection: keep-alive, UPGRADE")
    b'HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade'

    Everything else stays as it is, in its order.
    """
    first, *lines = head.split(b"\r\n")
    kept: list[bytes] = []
    tokens: set[bytes] = set()
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon and name.lower() == b"connection":
            tokens.update(token.strip(b" \t").lower() for token in value.split(b","))
        else:
            kept.append(line)
    if b"upgrade" not in tokens:
        return head
    return b"\r\n".join([first, *kept, b"Connection: Upgrade"])
