"""WebSockets of the mounted application: uvicorn's own, within the door's bounds.

moda's sockets are served by its engine. An application beside it may have some of its own (a chat
of another framework, say); they are few, so a well-kept library serves them, for many times the
memory. They count under the cap of connections; whom they let in (Origin, tokens) is the
application's own affair.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

__all__ = ["AppSocket"]


class AppSocket(WebSocketsSansIOProtocol):
    """One connection of the mounted application, counted in ``server_state`` while it lasts."""

    def __init__(self, config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._state = server_state

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._state.app_sockets += 1
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.app_sockets -= 1
        super().connection_lost(exc)
