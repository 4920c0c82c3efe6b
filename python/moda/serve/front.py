"""A connection's first milliseconds: one request head, and who gets the transport for it.

    a mount's path      the mount decides, then its connection takes over (a WebSocket, or an answer
                        without an end)
    anything else       uvicorn's protocol takes over (plain HTTP, see serve/plain.py)

uvicorn could read every head and hand the upgrades on, and does so for a second request on a
kept-alive connection. As the first reader it costs 0.5 KB that stay with each WebSocket and a
quarter of the connections per second (12k against 16k, one core): it makes a parser, a flow
control, two address lookups and a scope before it knows it is not needed. The front needs a head
and a dictionary.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import structlog

from moda.serve.addresses import Address
from moda.serve.door import Door
from moda.serve.head import (
    END,
    HeadError,
    host_fault,
    not_http,
    parse_head,
    split_target,
    switching,
    upgrade_fault,
)
from moda.serve.line import Ending, part
from moda.serve.proxies import TrustedProxies
from moda.serve.rebinding import is_loopback
from moda.upgrade import (
    Accepted,
    Connection,
    Mount,
    Peer,
    Refused,
    Streamed,
    Upgrade,
    bad_request,
)
from moda.wire.sent import remember, remembered

__all__ = ["Front", "answer", "arrived_on_loopback", "peer_of"]

_log = structlog.get_logger("moda.door")

MAX_TAIL = 65536
"""Bytes kept for a client that talks on before it is let in; beyond that it is not read."""


class _Vacant(asyncio.Protocol):
    """Put in between two protocols of a transport.

    uvloop keeps the bound ``data_received`` of a protocol when a buffered one takes over, and with
    it that protocol, for the life of the connection. A static function binds nothing.
    """

    data_received = staticmethod(lambda data: None)


_VACANT = _Vacant()


def change_protocol(transport: asyncio.Transport, protocol: Any) -> None:
    """Sets a transport's protocol and leaves no reference to the one before."""
    transport.set_protocol(_VACANT)
    transport.set_protocol(protocol)


class Front(asyncio.Protocol):
    """A connection until its first head is read and decided. Lives for milliseconds."""

    __slots__ = (
        "_address",
        "_door",
        "_head",
        "_headers",
        "_key",
        "_mount",
        "_tail",
        "_task",
        "_transport",
        "_version",
    )

    def __init__(self, door: Door, address: Address | None = None) -> None:
        self._door = door
        self._address = address
        self._head: bytes | bytearray = b""
        self._key: bytes | None = None
        self._tail = b""
        self._task: asyncio.Task[Accepted | Streamed | Refused] | None = None
        self._transport: asyncio.Transport | None = None

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only
        door = self._door
        if self._address is None:  # TLS has asked before the handshake
            peer = stream.get_extra_info("peername")
            outcome = door.admit(peer[0] if isinstance(peer, tuple) else "")
            if isinstance(outcome, Refused):
                # Before its head is read, so the answer may be lost to a reset. Who reads first
                # learns why.
                door.turned_away(outcome)
                stream.write(answer(outcome))
                stream.close()
                return
            self._address = outcome
        self._transport = stream
        door.watch(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._door.unwatch(self)
        self._transport = None
        self.leave()
        task, self._task = self._task, None  # a task that has ended keeps its frame, and us in it
        if task is not None:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self._task is not None:
            self._tail += data
            if len(self._tail) > MAX_TAIL:
                self._transport.pause_reading()
            return
        if self._head:
            assert isinstance(self._head, bytearray)
            known = len(self._head)
            self._head += data
            end = self._head.find(END, max(0, known - 3))
            data = bytes(self._head) if end >= 0 else data
        else:
            end = data.find(END)
        if end < 0:
            self._head = self._head or bytearray(data)
            if len(self._head) > self._door.options.max_head:
                self._turn_away(Refused(431, reason="head_too_large"))
        elif end > self._door.options.max_head:
            self._turn_away(Refused(431, reason="head_too_large"))
        elif self._door.claims(data):
            self._read(data[: end + 4], data[end + 4 :])
        else:
            self._leave_to_plain(data)

    def overdue(self) -> None:
        """The handshake timeout has passed, or the door closes."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            self._turn_away(
                self._door.come_back("shutting_down" if self._door.shut else "connect_timeout")
            )
        elif self._head:
            self._turn_away(Refused(408, reason="head_timeout"))
        elif self._transport is not None:
            # Opened in advance, as browsers do, and never used: nobody waits for an answer.
            self._transport.abort()

    @property
    def expendable(self) -> bool:
        """Whether nothing but a head is waited for."""
        return self._task is None

    def shed(self) -> None:
        """Ends for the sake of another."""
        transport = self._transport
        self.leave()
        if transport is not None:
            self._leave()
            transport.abort()

    def leave(self) -> None:
        """The address has one connection less. Nothing if another object answers for it now."""
        address, self._address = self._address, None
        if address is not None:
            address.leave()

    # -- deciding

    def adopt(
        self,
        transport: asyncio.Transport,
        address: Address | None,
        mount: Mount,
        upgrade: Upgrade,
        version: str,
        tail: bytes,
    ) -> None:
        """Takes a connection from the plain side, whose parser met a request for a mount."""
        self._transport = transport
        self._address = address
        self._door.watch(self)
        change_protocol(transport, self)
        self._decide(mount, upgrade, version, tail)

    def _read(self, raw: bytes, tail: bytes) -> None:
        transport = self._transport
        assert transport is not None
        try:
            head = parse_head(raw)
            path, query = split_target(head.target)
        except HeadError as error:
            self._turn_away(not_http(raw, str(error)))
            return
        fault = host_fault(head.headers, head.version)
        if fault is not None:
            self._turn_away(bad_request(fault, "head"))
            return
        found = self._door.mount_of(path)
        if found is None:  # a head whose first line and whose parse disagree
            self._turn_away(bad_request("the request is not HTTP/1.1", "head"))
            return
        mount, variables = found
        peer = partial(peer_of, transport, self._door.options.trusted, head.headers)
        local = partial(arrived_on_loopback, transport)
        upgrade = Upgrade(head.method, path, query, head.headers, variables, peer, local)
        self._key = head.key
        self._decide(mount, upgrade, head.version, tail)

    def _decide(self, mount: Mount, upgrade: Upgrade, version: str, tail: bytes) -> None:
        door = self._door
        self._mount, self._version, self._tail = mount, version, tail
        self._headers = upgrade.headers
        if door.shut or door.full():
            self._turn_away(door.come_back("shutting_down" if door.shut else "full"))
            return
        try:
            outcome = mount.accept_now(upgrade)
        except BaseException:
            with remembered(upgrade.headers, upgrade.query):
                _log.exception("connect.failed", path=mount.path)
            outcome = Refused(500, reason="connect_failed")
        if outcome is not None:
            self._act(outcome)
            return
        door.deciding += 1
        self._task = asyncio.get_running_loop().create_task(self._wait_for(mount, upgrade))
        # Not in the task itself: one cancelled before its first step never runs a line of it.
        self._task.add_done_callback(self._decided)

    def _decided(self, task: asyncio.Task[Accepted | Streamed | Refused]) -> None:
        self._door.deciding -= 1
        if self._task is not task or self._transport is None:
            return
        self._task = None
        # The client is there and the door has not given up: who cancelled was the hook.
        self._act(Refused(500, reason="connect_failed") if task.cancelled() else task.result())

    async def _wait_for(self, mount: Mount, upgrade: Upgrade) -> Accepted | Streamed | Refused:
        remember(upgrade.headers, upgrade.query)
        try:
            return await mount.accept(upgrade)
        except asyncio.CancelledError:
            if self._transport is not None:
                _log.exception("connect.failed", path=mount.path)
            raise
        except BaseException:
            # SystemExit, too: a hook decides about one client and not about the gateway.
            _log.exception("connect.failed", path=mount.path)
            return Refused(500, reason="connect_failed")

    def _act(self, outcome: Accepted | Streamed | Refused) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if isinstance(outcome, Refused):
            self._turn_away(outcome)
            return
        if isinstance(outcome, Streamed):
            self._stream(outcome)
            return
        if self._key is None:
            fault = upgrade_fault(self._headers, self._version)
            if fault is not None:
                self._turn_away(bad_request(fault, "upgrade", ("sec-websocket-version", "13")))
                return
            self._key = next(value for name, value in self._headers if name == b"sec-websocket-key")
        self._hand_over(outcome, self._key)

    # -- leaving

    def _leave(self) -> asyncio.Transport:
        """Ends this object's part: nothing of it stays with the transport."""
        transport = self._transport
        assert transport is not None
        self._door.unwatch(self)
        self._transport = None
        self._head = b""
        return transport

    def _leave_to_plain(self, data: bytes) -> None:
        if self._door.shut:
            self._turn_away(self._door.come_back("shutting_down"))
            return
        plain = self._door.plain()
        transport = self._leave()
        plain.address, self._address = self._address, None
        transport.set_protocol(plain)  # type: ignore[arg-type]  # a protocol by shape
        plain.connection_made(transport)
        plain.data_received(data)

    def _turn_away(self, refused: Refused) -> None:
        if self._transport is None:
            return
        self._door.turned_away(refused)
        transport = self._leave()
        transport.write(answer(refused))
        part(transport)

    def _hand_over(self, accepted: Accepted, key: bytes) -> None:
        """Gives the transport to the mount's connection, with what came since the head."""
        transport = self._transport
        assert transport is not None
        try:
            connection = accepted.connection()
            begin = connection.begin
            ending = Ending(transport, self._address)
            welcome = switching(key, accepted.headers)
        except Exception:
            self._failed()
            return
        tail = self._tail
        self._give_away(connection)
        transport.write(welcome)
        if not self._begun(begin, transport, ending):
            return
        if tail:
            transport.resume_reading()
            feed(connection, tail)

    def _stream(self, streamed: Streamed) -> None:
        """Gives the transport to a connection that answers by itself. What the client has sent since
        its head is not looked at, as what it will send is not."""
        transport = self._transport
        assert transport is not None
        try:
            connection = streamed.connection()
            begin = connection.begin
            ending = Ending(transport, self._address)
        except Exception:
            self._failed()
            return
        paused = len(self._tail) > MAX_TAIL
        self._give_away(connection)
        if paused:
            transport.resume_reading()
        self._begun(begin, transport, ending)

    def _begun(
        self,
        begin: Callable[[Any, Callable[[], None]], None],
        transport: asyncio.Transport,
        ending: Ending,
    ) -> bool:
        try:
            begin(transport, ending)
        except Exception:
            with remembered(self._headers, b""):
                _log.exception("connect.failed", path=self._mount.path)
            self._door.on_error("listener_failed")
            transport.abort()
            return False
        return True

    def _give_away(self, protocol: Any) -> None:
        """Lets the transport have another protocol, which answers for its address from now on."""
        transport = self._leave()
        self._address = None
        # With no room in the transport's buffer it writes at once and says when it holds bytes:
        # the hub writes to the socket itself and must know whether something is in front of it.
        transport.set_write_buffer_limits(0)
        change_protocol(transport, protocol)

    def _failed(self) -> None:
        with remembered(self._headers, b""):
            _log.exception("connect.failed", path=self._mount.path)
        self._turn_away(Refused(500, reason="connect_failed"))


def feed(connection: Connection, data: bytes) -> None:
    """Hands bytes to a connection as a transport would."""
    rest = memoryview(data)
    while rest:
        buffer = connection.get_buffer(-1)
        size = min(len(buffer), len(rest))
        buffer[:size] = rest[:size]
        del buffer
        connection.buffer_updated(size)
        rest = rest[size:]


def peer_of(
    transport: asyncio.Transport,
    trusted: TrustedProxies,
    headers: Sequence[tuple[bytes, bytes]],
) -> Peer:
    """Who is at the other end: of the connection, or of the trusted proxy's that forwards for it."""
    peer = transport.get_extra_info("peername")
    client = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) and len(peer) >= 2 else None
    secure = transport.get_extra_info("sslcontext") is not None
    return trusted.seen_through(client, secure, headers)


def arrived_on_loopback(transport: asyncio.Transport) -> bool:
    """Whether a connection was made to a loopback address of this machine."""
    return is_loopback(transport.get_extra_info("sockname"))


def answer(refused: Refused) -> bytes:
    """The bytes of a refusal. The connection closes after it."""
    try:
        phrase = HTTPStatus(refused.status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {refused.status} {phrase}"]
    lines.extend(f"{name}: {value}" for name, value in refused.headers)
    if refused.status != 204:  # which may not have one (RFC 9110 section 8.6)
        lines.append(f"content-length: {len(refused.body)}")
    lines.append("connection: close")
    return "\r\n".join(lines).encode("latin-1") + END + refused.body
