"""WebSockets of the mounted application: uvicorn's own, within the door's bounds.

moda's sockets are served by its engine. An application beside it may have some of its own (a chat
of another framework, say); they are few, so a well-kept library serves them, for many times the
memory. They count under the cap of connections; whom they let in (Origin, tokens) is the
application's own affair.

What uvicorn leaves unbounded is bounded here: a head its library cannot read (it waits for another),
an application that does not decide, a client that does not read.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from moda.serve.front import answer
from moda.upgrade import Refused, bad_request

if TYPE_CHECKING:
    from moda.serve.addresses import Address

__all__ = ["AppSocket"]

UNREAD = 60.0
"""Seconds in which a client that has something to read must have read some of it."""


class AppSocket(WebSocketsSansIOProtocol):
    """One connection of the mounted application.

    Counted among the door's ``deciding`` until the application accepts it, which it has the
    handshake timeout for, then in ``server_state.app_sockets`` while it lasts.
    """

    expendable = False

    def __init__(self, config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.address: Address | None = None
        self._state = server_state
        self._door = server_state.door
        self._deciding = self._accepted = False
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._deciding = True
        self._door.deciding += 1
        self._door.watch(self)
        super().connection_made(transport)
        if self.transport.get_write_buffer_size():
            self.pause_writing()  # told to the protocol before us

    def connection_lost(self, exc: Exception | None) -> None:
        self._decided()
        if self._accepted:
            self._state.app_sockets -= 1
        if self.address is not None:
            self.address.leave()
        self._read_again()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if not self.handshake_initiated:
            self._refuse(bad_request("the request is no WebSocket handshake", "upgrade"))

    def start_keepalive(self) -> None:
        """Called by uvicorn when the application has accepted."""
        self._decided()
        self._accepted = True
        self._state.app_sockets += 1
        super().start_keepalive()

    def shutdown(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    # -- deadlines

    def overdue(self) -> None:
        """The application has not decided in time, or the door closes."""
        shut = self._door.shut
        self._refuse(self._door.come_back("shutting_down" if shut else "connect_timeout"))

    def shed(self) -> None:
        """Never called: an application's decision is waited for."""

    def _decided(self) -> None:
        if self._deciding:
            self._deciding = False
            self._door.deciding -= 1
            self._door.unwatch(self)

    def _refuse(self, refused: Refused) -> None:
        """Answers and closes; the application hears of a client that has gone."""
        self._decided()
        if self.transport.is_closing():
            return
        self._door.turned_away(refused)
        self.transport.write(answer(refused))
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._wait_for_reader()

    def resume_writing(self) -> None:
        self._read_again()
        super().resume_writing()

    def _wait_for_reader(self) -> None:
        held = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(UNREAD, self._still_unread, held)

    def _still_unread(self, held: int) -> None:
        if self.transport.get_write_buffer_size() < held:
            self._wait_for_reader()
        else:
            self.transport.abort()

    def _read_again(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
