"""A connection's first milliseconds: one request head, and who gets the transport for it.

    a mount's path      the mount decides, then picows takes over (WebSocket)
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
from http import HTTPStatus
from typing import Any, cast

import structlog
from picows import WSAutoPingStrategy, WSListener, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # not in its stub

from moda._session import Intake, layout_known
from moda.serve.door import Door
from moda.serve.head import HeadError, normalised_head, parse_head, upgrade_fault
from moda.serve.line import Line
from moda.serve.proxies import TrustedProxies
from moda.upgrade import Accepted, Mount, Refused, Upgrade

__all__ = ["Front", "answer", "upgrade_of"]

_log = structlog.get_logger("moda.door")

_END = b"\r\n\r\n"
MAX_TAIL = 65536
"""Bytes kept for a client that talks on before it is let in; beyond that it is not read."""

READ_BUFFER = 2048
"""First size of picows' read buffer, its least: an idle connection keeps it."""


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

    __slots__ = ("_door", "_head", "_headers", "_mount", "_tail", "_task", "_transport", "_version")

    def __init__(self, door: Door) -> None:
        self._door = door
        self._head: bytes | bytearray = b""
        self._tail = b""
        self._task: asyncio.Task[Accepted | Refused] | None = None
        self._transport: asyncio.Transport | None = None

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only
        door = self._door
        if door.sockets() >= door.options.max_sockets:
            door.on_refusal("sockets")
            stream.abort()
            return
        self._transport = stream
        door.watch(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._door.unwatch(self)
        self._transport = None
        if self._task is not None:
            self._task.cancel()

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
            end = self._head.find(_END, max(0, known - 3))
            data = bytes(self._head) if end >= 0 else data
        else:
            end = data.find(_END)
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

    # -- deciding

    def adopt(
        self,
        transport: asyncio.Transport,
        mount: Mount,
        upgrade: Upgrade,
        version: str,
        tail: bytes,
    ) -> None:
        """Takes a connection from the plain side, whose parser met a request for a mount."""
        self._transport = transport
        self._door.watch(self)
        change_protocol(transport, self)
        self._decide(mount, upgrade, version, tail)

    def _read(self, raw: bytes, tail: bytes) -> None:
        transport = self._transport
        assert transport is not None
        try:
            head = parse_head(raw)
        except HeadError as error:
            self._turn_away(_bad_request(str(error), "head"))
            return
        found = self._door.mount_of(head.path)
        if found is None:  # a head whose first line and whose parse disagree
            self._turn_away(_bad_request("the request is not HTTP/1.1", "head"))
            return
        mount, variables = found
        upgrade = upgrade_of(
            transport,
            self._door.options.trusted,
            head.method,
            head.path,
            head.query,
            head.headers,
            variables,
        )
        self._decide(mount, upgrade, head.version, tail)

    def _decide(self, mount: Mount, upgrade: Upgrade, version: str, tail: bytes) -> None:
        door = self._door
        self._mount, self._version, self._tail = mount, version, tail
        self._headers = list(upgrade.headers)
        if door.shut or door.full():
            self._turn_away(door.come_back("shutting_down" if door.shut else "full"))
            return
        try:
            outcome = mount.accept_now(upgrade)
        except BaseException:
            _log.exception("connect.failed", path=mount.path)
            outcome = Refused(500, reason="connect_failed")
        if outcome is not None:
            self._act(outcome)
            return
        door.deciding += 1
        self._task = asyncio.get_running_loop().create_task(self._wait_for(mount, upgrade))
        # Not in the task itself: one cancelled before its first step never runs a line of it.
        self._task.add_done_callback(self._decided)

    def _decided(self, task: asyncio.Task[Accepted | Refused]) -> None:
        self._door.deciding -= 1
        if self._task is not task or self._transport is None:
            return
        self._task = None
        # The client is there and the door has not given up: who cancelled was the hook.
        self._act(Refused(500, reason="connect_failed") if task.cancelled() else task.result())

    async def _wait_for(self, mount: Mount, upgrade: Upgrade) -> Accepted | Refused:
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

    def _act(self, outcome: Accepted | Refused) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if isinstance(outcome, Refused):
            self._turn_away(outcome)
            return
        fault = upgrade_fault(self._headers, self._version)
        if fault is not None:
            headers = (
                ("content-type", "text/plain; charset=utf-8"),
                ("sec-websocket-version", "13"),
            )
            self._turn_away(Refused(400, fault.encode(), headers, "upgrade"))
            return
        self._hand_over(outcome)

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
        transport.set_protocol(plain)  # type: ignore[arg-type]  # a protocol by shape
        plain.connection_made(transport)
        plain.data_received(data)

    def _turn_away(self, refused: Refused) -> None:
        if self._transport is None:
            return
        self._door.turned_away(refused)
        transport = self._leave()
        transport.write(answer(refused))
        transport.close()

    def _hand_over(self, accepted: Accepted) -> None:
        """Gives the transport to picows: a minimal head, then what the client has sent since."""
        try:
            # Not in picows' hands: it would send the text of an exception to the client.
            listener = accepted.listener()
        except Exception:
            _log.exception("connect.failed", path=self._mount.path)
            self._turn_away(Refused(500, reason="connect_failed"))
            return
        fed = normalised_head(self._headers) + self._tail
        mount = self._mount
        transport = self._leave()
        # With no room in the transport's buffer it writes at once and says when it holds bytes:
        # the hub writes to the socket itself and must know whether something is in front of it.
        transport.set_write_buffer_limits(0)
        line = Line(transport, self._door.on_error, listener)
        protocol = WSProtocol(
            None,  # host_port and ws_path: a client's
            None,
            False,  # is_client_side
            _factory(listener, accepted.headers),
            line,
            True,  # disconnect_on_exception
            None,  # no handshake timeout: the door has its own
            False,  # no auto ping
            None,
            None,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # no auto pong: a pong must not overtake what the hub has queued
            mount.max_frame_size,
            None,
            READ_BUFFER,
        )
        intake = Intake(protocol, line) if layout_known else protocol
        change_protocol(transport, intake)
        transport.resume_reading()
        protocol.connection_made(line)
        feed(intake, line, fed)


def feed(intake: Intake, line: Line, data: bytes) -> None:
    """Hands bytes to picows as a transport would, until it finds a fault in them."""
    rest = memoryview(data)
    while rest and not line.failed:
        buffer = intake.get_buffer(-1)
        size = min(len(buffer), len(rest))
        buffer[:size] = rest[:size]
        del buffer
        intake.buffer_updated(size)
        rest = rest[size:]


def _factory(
    listener: WSListener, headers: Sequence[tuple[str, str]]
) -> Callable[[Any], WSListener | WSUpgradeResponseWithListener]:
    if not headers:
        return lambda _: listener
    response = WSUpgradeResponse.create_101_response(headers)
    return lambda _: WSUpgradeResponseWithListener(response, listener)


def upgrade_of(
    transport: asyncio.Transport,
    trusted: TrustedProxies,
    method: str,
    path: str,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    variables: dict[str, str],
) -> Upgrade:
    """An :class:`Upgrade` from a head's parts and the transport it came over."""
    peer = transport.get_extra_info("peername")
    client = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) and len(peer) >= 2 else None
    secure = transport.get_extra_info("sslcontext") is not None
    client, secure = trusted.seen_through(client, secure, headers)
    return Upgrade(method, path, query, headers, client, secure, variables)


def _bad_request(text: str, reason: str) -> Refused:
    return Refused(400, text.encode(), (("content-type", "text/plain; charset=utf-8"),), reason)


def answer(refused: Refused) -> bytes:
    """The bytes of a refusal. The connection closes after it."""
    try:
        phrase = HTTPStatus(refused.status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {refused.status} {phrase}"]
    lines.extend(f"{name}: {value}" for name, value in refused.headers)
    lines.append(f"content-length: {len(refused.body)}")
    lines.append("connection: close")
    return "\r\n".join(lines).encode("latin-1") + _END + refused.body
