"""Plain HTTP: uvicorn's httptools protocol, with a bound on heads and a way back to the door.

A connection comes here with its first request when that names no mount. Later requests of a
kept-alive connection are read here, and one of them may be for a mount: a proxy that pools its
connections upgrades one it has used before. Such a request is handed back to a
:class:`~moda.serve.front.Front` that has the head already.

uvicorn bounds neither the size nor the time of a head; both are bounded here.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from moda.serve.door import Door
from moda.serve.front import Front, answer, upgrade_of
from moda.serve.head import HeadError, split_target
from moda.upgrade import Mount, Refused, Upgrade

__all__ = ["PlainHttp"]


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
        self._claimed: tuple[Mount, Upgrade, str] | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.unwatch(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        tail = b""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            tail = data[upgrade.args[0] :]
            if self._claimed is None:
                self._another_protocol()
        except httptools.HttpParserError:
            self._refuse(Refused(400, b"the request is not HTTP/1.1", reason="head"))
            return
        if self._claimed is not None:
            self._give_back(tail)
        elif self._head_size >= 0:
            if self._head_size == 0:
                # It began in this chunk, behind other bytes perhaps: counted from the next one on.
                self._door.watch(self)
                self._head_size = 1
                return
            self._head_size += len(data)
            if self._head_size > self._door.options.max_head:
                self._refuse(Refused(431, reason="head_too_large"))

    def overdue(self) -> None:
        """A head that began has not ended in time."""
        self._refuse(Refused(408, reason="head_timeout"))

    # -- the parser's callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_size = 0

    def on_headers_complete(self) -> None:
        if self._head_size > 0:
            self._door.unwatch(self)
        self._head_size = -1
        found = None
        try:
            path, query = split_target(self.url)
            found = self._door.mount_of(path)
        except HeadError:
            pass  # the parent meets the same fault and answers it
        if found is None:
            super().on_headers_complete()
            return
        mount, variables = found
        method = self.parser.get_method().decode("ascii")
        headers = [(name, value.strip(b" \t")) for name, value in self.headers]
        upgrade = upgrade_of(
            self.transport, self._door.options.trusted, method, path, query, headers, variables
        )
        self._claimed = (mount, upgrade, self.parser.get_http_version())

    def on_body(self, body: bytes) -> None:
        if self._claimed is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._claimed is None:
            super().on_message_complete()

    # -- leaving

    def _another_protocol(self) -> None:
        """An upgrade we do not make (h2c, or a WebSocket on a path of nobody's) is served as what
        it also is: a GET.

        The parser takes no further request on this connection, so it ends with the answer. A
        mounted application that speaks WebSocket gets it if uvicorn finds a WebSocket library
        installed.
        """
        if self._should_upgrade():
            self.handle_websocket_upgrade()
        elif self.cycle is not None:
            self.cycle.keep_alive = False

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
        if refused is not None and (self.cycle is None or self.cycle.response_complete):
            self._door.on_refusal(refused.reason)
            self.transport.write(answer(refused))
        self.transport.close()
