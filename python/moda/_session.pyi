"""What stands before and behind picows on one connection (Cython, see cython/_session.pxd)."""

from typing import Any, final

from picows import WSFrame, WSListener, WSTransport
from typing_extensions import disjoint_base

from moda._core import Hub
from moda.channel import Socket

@final
class Intake:
    """A picows protocol that reads 8 KiB a turn of small frames and gives its buffer back.

    ``transport`` is what the protocol reads from, or a stand-in with its ``pause_reading``,
    ``resume_reading`` and ``is_closing``. To be set as the transport's protocol in place of
    ``protocol``. TypeError for anything but picows' own protocol.
    """

    def __init__(self, protocol: Any, transport: Any) -> None: ...
    @staticmethod
    def upgraded(line: Any, listener: WSListener, max_frame_size: int) -> Intake:
        """A protocol for the server's side of a WebSocket whose request somebody else has judged.

        ``line`` is its transport and its logger (:class:`moda.serve.line.Line`). Next the
        transport is given this protocol, then the answer is written, then comes :meth:`begin`.
        """
    def begin(self) -> None:
        """Calls the listener's ``on_ws_connected``; closes with 1011 if that raises."""
    @property
    def capacity(self) -> int:
        """Bytes of memory the read buffer takes now."""
    def is_buffered_protocol(self) -> bool: ...
    def get_buffer(self, hint: int) -> memoryview: ...
    def buffer_updated(self, count: int) -> None: ...
    def resume(self) -> None: ...
    def give_back(self) -> None: ...
    def eof_received(self) -> bool: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, error: Exception | None) -> None: ...

@disjoint_base
class Session(WSListener):
    """Hands a connection's frames to the engine. Made by a mount once the handshake is decided.

    ``mount`` is the number :meth:`Hub.mount` gave, ``codec`` the one of :meth:`Hub.codec`.
    """

    def __init__(self, hub: Hub, mount: int, codec: int, socket: Socket) -> None: ...
    @property
    def connection(self) -> int:
        """The hub's number of this connection; 0 before the handshake is over."""
    def on_ws_connected(self, transport: WSTransport) -> None: ...
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None: ...
    def on_ws_disconnected(self, transport: WSTransport) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def failed(self, code: int) -> None:
        """picows is about to close for bytes that are no frame. Called by the connection's line."""
