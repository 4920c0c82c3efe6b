"""A picows protocol that leaves the loop to others: an exchange that floods us must not hold up our
clients.

A transport reads for as long as a read fills the room it is given, and picows doubles its room each
time that happens: a flood was handled a megabyte and more in one go. Here a read gets at most
`QUANTUM` bytes of picows' room, and after a full one the loop has a turn before the next. What is not
read waits in the kernel, where TCP slows the sender down.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

QUANTUM: Final = 8192
"""Bytes read and handled in one turn: half a millisecond of small messages."""


class Turns:
    """Stands between a transport and ``protocol``, to be set as the transport's protocol."""

    def __init__(self, protocol: Any, transport: Any) -> None:
        self._protocol = protocol
        self._transport = transport
        self._given = 0

    def is_buffered_protocol(self) -> bool:
        """How aiofastnet asks."""
        return True

    def get_buffer(self, hint: int) -> memoryview:
        room: memoryview = self._protocol.get_buffer(hint)[:QUANTUM]
        self._given = len(room)
        return room

    def buffer_updated(self, count: int) -> None:
        if count == self._given and not self._transport.is_closing():
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._resume)
        self._protocol.buffer_updated(count)

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._protocol.connection_lost(error)
