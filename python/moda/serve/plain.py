"""Plain HTTP: uvicorn's httptools protocol, with a bound on heads and a way back to the door.

A connection comes here with its first request when that names no mount. Later requests of a
kept-alive connection are read here, and one of them may be for a mount: a proxy that pools its
connections upgrades one it has used before. Such a request is handed back to a
:class:`~moda.serve.front.Front` that has the head already.

uvicorn bounds nothing of what a client may do to a connection; it is bounded here:

- the size and the time of a head, and the time between two pieces of a body;
- bytes that are neither head nor body (trailers, chunk extensions): dropped, and counted like a head;
- requests sent ahead: one is read at a time, the rest waits as the bytes it came in, and then in the
  kernel. uvicorn answers them one after the other as well, but makes an object of 13 KB for each;
- answers nobody reads: any byte the kernel does not take starts a timer.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from moda.serve.door import Door
from moda.serve.front import Front, answer, arrived_on_loopback, peer_of
from moda.serve.head import END, HeadError, split_target
from moda.upgrade import Mount, Refused, Upgrade

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
        self._door = door
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
        self._read_again()
        super().connection_lost(exc)

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
            if not self._parse(view[at:end], data, at):
                return
            at = end
        if self._in_message and self._head_size < 0 and self._answering():
            # The next piece of the body has as long as a head.
            self._door.unwatch(self)
            self._door.watch(self)

    def _parse(self, piece: memoryview, data: bytes, at: int) -> bool:
        """Gives the parser a piece of ``data``; False when this object is done with the rest."""
        self._moved = False
        tail = b""
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            tail = data[at + upgrade.args[0] :]
            if self._claimed is None:
                self._another_protocol(tail)
                return False
        except httptools.HttpParserError:
            self._refuse(Refused(400, b"the request is not HTTP/1.1", reason="head"))
            return False
        if self._claimed is not None:
            self._give_back(tail)
            return False
        if self._head_size >= 0:
            if self._head_size == 0:
                self._door.watch(self)
            self._head_size += len(piece)
        self._odd = 0 if self._moved else self._odd + len(piece)
        if self._odd > self._door.options.max_head:
            self._refuse(Refused(431, reason="head_too_large"))
            return False
        return True

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
        # Here and not where bytes arrive: what is no request does not keep a connection open.
        self._unset_keepalive_if_required()
        super().on_message_begin()
        self._in_message = self._moved = True
        self._head_size = 0

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
        self._claimed = (mount, upgrade, self.parser.get_http_version())

    def on_body(self, body: bytes) -> None:
        self._moved = True
        if self._claimed is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        self._moved = True
        self._door.unwatch(self)
        if self._claimed is None:
            super().on_message_complete()

    # -- leaving

    def _another_protocol(self, tail: bytes) -> None:
        """An upgrade that is not moda's own: a WebSocket of the mounted application, else (h2c, or
        nothing is mounted) it is served as what it also is, a GET.

        The parser takes no further request on this connection, so it ends with the answer.
        """
        if not self._should_upgrade():
            if self.cycle is not None:
                self.cycle.keep_alive = False
            return
        if self._door.full():
            self._refuse(self._door.come_back("full"))
            return
        self._door.unwatch(self)
        self._unset_keepalive_if_required()
        self.handle_websocket_upgrade()
        if tail and not self.transport.is_closing():
            protocol = self.transport.get_protocol()
            assert isinstance(protocol, asyncio.Protocol)
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
        Front(self._door).adopt(transport, mount, upgrade, version, tail)

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
        self.transport.close()
