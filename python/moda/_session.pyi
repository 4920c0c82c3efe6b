"""An open WebSocket between the event loop and the engine (Cython, see cython/_session.pxd)."""

from asyncio import Transport
from collections.abc import Callable

from typing_extensions import disjoint_base

from moda._core import Hub
from moda.channel import Socket

@disjoint_base
class Scratch:
    """Memory that the connections of one thread read into."""

@disjoint_base
class Session:
    """Hands a connection's bytes to the engine. Made by a mount once the handshake is decided.

    Implements :class:`moda.upgrade.Connection`. Reads 8 KiB a turn of small frames, and of a long one
    no more than itself. ``mount`` is the number :meth:`Hub.mount` gave, ``codec`` the one of
    :meth:`Hub.codec`.
    """

    def __init__(self, hub: Hub, mount: int, codec: int, socket: Socket) -> None: ...
    @property
    def connection(self) -> int:
        """The hub's number of this connection; 0 before it has begun."""
    def begin(self, transport: Transport, ended: Callable[[], None]) -> None:
        """The connection is open: ``transport`` has this protocol and the handshake's answer. ``ended``
        is called when it is lost."""
    def get_buffer(self, hint: int) -> memoryview: ...
    def buffer_updated(self, count: int) -> None: ...
    def resume(self) -> None: ...
    def hold(self) -> None:
        """Reads no further for one to three seconds."""
    def let_go(self) -> None: ...
    def eof_received(self) -> bool: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, error: Exception | None) -> None: ...
