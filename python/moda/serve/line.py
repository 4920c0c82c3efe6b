"""The end of a connection, seen from the door: nobody is waited for without end, and nothing of it
stays.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moda.serve.addresses import Address

__all__ = ["GONE", "LINGER", "Ending", "part"]

LINGER = 5.0
"""Seconds a closing connection may take to read what is left for it."""


class _Gone:
    """The protocol of a transport whose connection is lost.

    uvloop's TLS transport keeps the bound ``get_buffer`` and ``buffer_updated`` of its last buffered
    protocol, and with them all that hangs on it: a cycle of 38 KB. Static functions bind nothing.
    """

    _scratch = memoryview(bytearray(65536))

    @staticmethod
    def get_buffer(_hint: int) -> memoryview:
        return _Gone._scratch

    @staticmethod
    def buffer_updated(_count: int) -> None:
        """Dropped."""


GONE = _Gone()


def part(transport: asyncio.Transport) -> None:
    """Closes when what is buffered has gone out, at the latest after :data:`LINGER`."""
    if transport.get_write_buffer_size():
        asyncio.get_running_loop().call_later(LINGER, transport.abort)
    transport.close()


class Ending:
    """What an open WebSocket calls when it is lost. One per connection, and so with slots."""

    __slots__ = ("_address", "_transport")

    def __init__(self, transport: asyncio.Transport, address: Address | None) -> None:
        self._transport: asyncio.Transport | None = transport
        self._address = address

    def __call__(self) -> None:
        """The address has one connection less, and nothing refers in a circle. Once."""
        address, self._address = self._address, None
        if address is not None:
            address.leave()
        transport, self._transport = self._transport, None
        if transport is not None and transport.get_extra_info("sslcontext") is not None:
            transport.set_protocol(GONE)  # type: ignore[arg-type]  # a buffered protocol by shape
