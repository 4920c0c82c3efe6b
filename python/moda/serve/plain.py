"""Plain HTTP: uvicorn's httptools protocol, with a bound on heads and a way back to the door.

A connection comes here with its first request when that names no mount. Later requests of a
kept-alive connection are read here, and one of them may be for a mount: a proxy that pools its
connections upgrades one it has used before. Such a request is handed back to a
:class:`~moda.serve.front.Front` that has the head already.

uvicorn bounds nothing of what a client may do to a connection; it is bounded here:

- the size and the time of a head, and the time between two pieces of a body;
- bytes that are neither head nor body (trailers, chunk extensions): dropped, and counted like a head;
- what is neither: a connection whose first bytes begin no request is an idle one;
- requests sent ahead: one is read at a time, the rest waits as the bytes it came in, and then in the
  kernel. uvicorn answers them one after the other as well, but makes an object of 13 KB for each;
- answers nobody reads: any byte the kernel does not take starts a timer.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from moda.serve.addresses import Address
from moda.serve.door import Door
from moda.serve.front import Front, answer, arrived_on_loopback, peer_of
from moda.serve.head import (
    END,
    HeadError,
    asks_for_websocket,
    host_fault,
    not_http,
    split_target,
)
from moda.serve.line import part
from moda.upgrade import Mount, Refused, Upgrade, bad_request

if TYPE_CHECKING:
    from moda.serve.mounted import AppSocket

__all__ = ["PlainHttp"]

BODY_PIECE = 4096
"""Bytes of a body parsed before it is looked at whether more than the body came."""

WRITE_TIMEOUT = 60.0
"""Seconds a client may take to read what the kernel could not hold for it."""


class PlainHttp(HttpToolsProtocol):
    """One plain HTTP connection."""

    def __init__(
        self,
        door: Door,
        config: Config,
        state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(config, state, app_state, loop)
        self.address: Address | None = None
        self._door = door
        self._replaying = False  # whether the parser reads a head it has read before
        self._fault: Refused | None = None  # what is wrong with a head that can be read
        self._head_size = -1  # bytes of a head that has begun, -1 outside of one
        self._in_message = False
        self._moved = False  # whether the parser met anything but trailers in this piece
        self._odd = 0  # bytes since it did
        self._ahead = b""  # what came behind a request that is not answered yet, from _at on
        self._at = 0
        self._unread: asyncio.TimerHandle | None = None
        self._claimed: tuple[Mount, Upgrade, str] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if transport.get_extra_info("sslcontext") is None:
            # pause_writing then tells of any byte the kernel did not take. uvloop's TLS transport
            # does not always come back from there, and tells of what is over 64 KiB.
            transport.set_write_buffer_limits(0)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.unwatch(self)
        self._door.idle.pop(self, None)
        if self.address is not None:
            self.address.leave()
        self._read_again()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self._ahead = b""

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(WRITE_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        self._read_again()
        super().resume_writing()

    def _read_again(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    # -- bytes

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._ahead:
            self._ahead = self._ahead[self._at :] + data
            self._at = 0
            self.flow.pause_reading()  # an application that waits for its client's end reads on
        else:
            self._take(data, 0)

    def _take(self, data: bytes, at: int) -> None:
        """Reads from ``at`` on, up to the end of the first request that is not answered at once."""
        view = memoryview(data)
        while at < len(data):
            if not self._in_message and self._answering():
                self._ahead, self._at = data, at
                self.flow.pause_reading()
                return
            if self._in_message and self._head_size < 0:
                end = at + BODY_PIECE
            else:
                end = data.find(END, at) + len(END)
                end = end if end >= len(END) else len(data)
                if max(self._head_size, 0) + end - at > self._door.options.max_head:
                    self._refuse(Refused(431, reason="head_too_large"))
                    return
            at = self._parse(view[at:end], data, at)
            if at < 0:
                return
        if not self._in_message and not self._answering() and not self.timeout_keep_alive_task:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        if self._in_message and self._head_size < 0 and self._answering():
            # The next piece of the body has as long as a head.
            self._door.unwatch(self)
            self._door.watch(self)

    def _parse(self, piece: memoryview, data: bytes, at: int) -> int:
        """Gives the parser a piece of ``data``, which begins at ``at``.

        Returns where the next one begins, or -1 when this object is done with the rest.
        """
        self._moved = False
        tail = b""
        end = at + len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            end = at + upgrade.args[0]
            tail = data[end:]
            if self._claimed is None and self._fault is None and not self._stays_plain(tail):
                return -1
        except httptools.HttpParserError:
            # The preface of HTTP/2 is met only behind its head, which reads as one of ours.
            preface = self.parser.get_method() == b"PRI"
            self._refuse(not_http(b" HTTP/2.0" if preface else bytes(piece)))
            return -1
        if self._fault is not None:
            self._refuse(self._fault)
            return -1
        if self._claimed is not None:
            self._give_back(tail)
            return -1
        if self._head_size >= 0:
            if self._head_size == 0:
                self._door.watch(self)
            self._head_size += len(piece)
        self._odd = 0 if self._moved else self._odd + len(piece)
        if self._odd > self._door.options.max_head:
            self._refuse(Refused(431, reason="head_too_large"))
            return -1
        return end

    @property
    def idle(self) -> bool:
        """Whether a request may still come and none is under way."""
        return not self._in_message and not self._answering()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def on_response_complete(self) -> None:
        if self._head_size < 0:
            self._door.unwatch(self)
        super().on_response_complete()
        if not self._in_message and not self._ahead and not self.transport.is_closing():
            self._door.idle[self] = None
        if self._ahead:
            self.flow.pause_reading()
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self.transport.is_closing() or not self._ahead:
            return
        data, at = self._ahead, self._at
        self._ahead, self._at = b"", 0
        self.flow.resume_reading()
        self._take(data, at)

    @property
    def expendable(self) -> bool:
        """Whether a head that began is all there is; see ``Door.idle`` for what is between two."""
        return self._head_size >= 0 and not self._answering()

    def shed(self) -> None:
        """Ends for the sake of another."""
        address, self.address = self.address, None
        if address is not None:
            address.leave()
        self.transport.abort()

    def overdue(self) -> None:
        """A head that began has not ended in time, or a body stays out that somebody waits for."""
        if self._head_size < 0 and self.flow.read_paused:
            self._door.watch(self)  # we are the one who does not read
            return
        self._refuse(
            Refused(408, reason="head_timeout" if self._head_size >= 0 else "body_timeout")
        )

    # -- the parser's callbacks

    def on_message_begin(self) -> None:
        if self._replaying:
            return
        # Here and not where bytes arrive: what is no request does not keep a connection open.
        self._door.idle.pop(self, None)
        self._unset_keepalive_if_required()
        super().on_message_begin()
        self._in_message = self._moved = True
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        if not self._replaying:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_size >= 0:  # a trailer else: no application gets to see one
            self._moved = True
            super().on_header(name, value)

    def on_chunk_header(self) -> None:
        self._moved = True

    def on_headers_complete(self) -> None:
        if self._head_size > 0:
            self._door.unwatch(self)
        self._head_size = -1
        self._moved = True
        if self._replaying:
            return
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._fault = not_http(b" HTTP/" + version.encode())
            return
        fault = host_fault(self.headers, version)
        if fault is not None:
            self._fault = bad_request(fault, "head")
            return
        found = None
        try:
            path, query = split_target(self.url)
            found = self._door.mount_of(path)
        except HeadError:
            pass  # the parent meets the same fault and answers it
        if found is None:
            super().on_headers_complete()
            if self._door.shut and self.cycle is not None:
                self.cycle.keep_alive = False  # its task has not begun, so the answer says so
            return
        mount, variables = found
        method = self.parser.get_method().decode("ascii")
        headers = [(name, value.strip(b" \t")) for name, value in self.headers]
        peer = partial(peer_of, self.transport, self._door.options.trusted, headers)
        local = partial(arrived_on_loopback, self.transport)
        upgrade = Upgrade(method, path, query, headers, variables, peer, local)
        self._claimed = (mount, upgrade, version)

    def on_body(self, body: bytes) -> None:
        self._moved = True
        if self._claimed is None and self._fault is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._ignores_upgrade():
            return  # the parser thinks so; it has not seen the body, see _stays_plain
        self._in_message = False
        self._moved = True
        self._door.unwatch(self)
        if self._claimed is None and self._fault is None:
            super().on_message_complete()

    # -- leaving

    def _ignores_upgrade(self) -> bool:
        """Whether the parser is at a request that names an upgrade nobody here will make."""
        return (
            self._claimed is None
            and self._fault is None
            and self.parser.should_upgrade()
            and self.parser.get_method() != b"CONNECT"
            and not self._should_upgrade()
        )

    def _should_upgrade(self) -> bool:
        method, version = self.scope["method"], self.parser.get_http_version()
        return self._should_upgrade_to_ws() and asks_for_websocket(method, version, self.headers)

    def _stays_plain(self, tail: bytes) -> bool:
        """The parser has met an upgrade that is not moda's own. Whether its connection stays here.

        A WebSocket of the mounted application does not. All else (h2c, which Java's client asks for
        with every request, or a WebSocket where nothing is mounted) is served as what it also is.
        The parser takes what follows such a head for another protocol, body included; a new one
        reads the head again, without the Upgrade.
        """
        if self._should_upgrade():
            self._upgrade_app(tail)
            return False
        method = self.parser.get_method()
        if method == b"CONNECT":
            if self.cycle is not None:
                self.cycle.keep_alive = False
            return False
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (method, self.url, version)]
        lines.extend(b"%s: %s" % pair for pair in self.headers if pair[0] != b"upgrade")
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._replaying = True
        try:
            self.parser.feed_data(b"\r\n".join(lines) + END)
        finally:
            self._replaying = False
        return True

    def _upgrade_app(self, tail: bytes) -> None:
        """Gives the connection to a WebSocket of the mounted application."""
        if self._door.full():
            self._refuse(self._door.come_back("full"))
            return
        self._read_again()
        self._door.unwatch(self)
        self._unset_keepalive_if_required()
        self.handle_websocket_upgrade()
        protocol = cast(
            "AppSocket", self.transport.get_protocol()
        )  # the class of the configuration
        protocol.address, self.address = self.address, None
        self.parser = None  # type: ignore[assignment]  # the parser refers back to us
        self.cycle = None  # type: ignore[assignment]
        if tail and not self.transport.is_closing():
            protocol.data_received(tail)

    def _give_back(self, tail: bytes) -> None:
        assert self._claimed is not None
        mount, upgrade, version = self._claimed
        self._claimed = None
        if self.cycle is not None and not self.cycle.response_complete:
            # Sent before the answer to the request in front of it: no client of ours does, and the
            # connection cannot be given away while that answer is being written.
            self._refuse(None)
            return
        transport = self._forget()
        address, self.address = self.address, None
        Front(self._door).adopt(transport, address, mount, upgrade, version, tail)

    def _forget(self) -> asyncio.Transport:
        """Unties this object from the server, so that it is freed when the transport has another
        protocol.
        """
        self._unset_keepalive_if_required()
        self._read_again()
        self.connections.discard(self)
        self._door.unwatch(self)
        transport = self.transport
        self.parser = None  # type: ignore[assignment]  # the parser refers back to us
        self.cycle = None  # type: ignore[assignment]
        return transport

    def _refuse(self, refused: Refused | None) -> None:
        """Answers unless an answer is under way, and closes."""
        self._door.unwatch(self)
        if self.transport.is_closing():
            return
        if refused is not None:
            self._door.on_refusal(refused.reason)
            if (
                self.cycle is None
                or self.cycle.response_complete
                or not self.cycle.response_started
            ):
                self.transport.write(answer(refused))
        part(self.transport)
