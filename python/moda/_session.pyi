"""The picows listener of one connection (Cython, see cython/_session.pxd)."""

from picows import WSFrame, WSListener, WSTransport
from typing_extensions import disjoint_base

from moda._core import Hub
from moda.channel import Socket

can_give_back: bool
"""Whether picows' connection object has the layout this module was built for; without it read
buffers are left as they are."""

@disjoint_base
class Session(WSListener):
    """Hands a connection's frames to the engine. Made by a mount once the handshake is decided.

    ``mount`` is the number :meth:`Hub.mount` gave, ``v1`` whether the client speaks serializer 1.
    """

    def __init__(self, hub: Hub, mount: int, v1: bool, socket: Socket) -> None: ...
    @property
    def connection(self) -> int:
        """The hub's number of this connection; 0 before the handshake is over."""
    def on_ws_connected(self, transport: WSTransport) -> None: ...
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None: ...
    def on_ws_disconnected(self, transport: WSTransport) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def give_back(self, transport: WSTransport) -> None:
        """Returns the read buffer's memory after a large message. Called by the loop."""
