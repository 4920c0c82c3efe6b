"""An exchange whose every connection ends in a TCP reset, at a chosen moment of its life.

It runs on a thread of its own with blocking sockets: a reset must reach the gateway at any point of
its loop's turn, not only where another task of the same loop hands over.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import socket
import struct
import threading
from collections.abc import Callable
from typing import Final, Self

MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TICK: Final = (
    b'{"stream":"btcusdt@miniTicker","data":{"e":"24hrMiniTicker","E":1740441600000,"s":"BTCUSDT",'
    b'"c":"1.0","o":"1.0","h":"1.0","l":"1.0","v":"1.0","q":"1.0"}}'
)
PATIENCE: Final = 5.0


def frame(opcode: int, payload: bytes) -> bytes:
    """A server's frame: whole, unmasked, below 64 KB."""
    size = len(payload)
    head = (
        bytes((0x80 | opcode, size))
        if size < 126
        else struct.pack("!BBH", 0x80 | opcode, 126, size)
    )
    return head + payload


def answer(request: bytes, connection: bytes = b"Connection: Upgrade\r\n") -> bytes:
    """The 101 to an upgrade request, with the given Connection header lines."""
    for line in request.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"sec-websocket-key":
            digest = hashlib.sha1(value.strip() + MAGIC, usedforsecurity=False).digest()
            accept = base64.b64encode(digest)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        + connection
        + b"Sec-WebSocket-Accept: "
        + accept
        + b"\r\n\r\n"
    )


def head(peer: socket.socket) -> bytes:
    """Everything up to the end of a request's head."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = peer.recv(4096)
        if not piece:
            raise ConnectionResetError
        got += piece
    return got


def at_accept(peer: socket.socket) -> None:
    pass


def with_the_request_unread(peer: socket.socket) -> None:
    peer.recv(1)


def in_the_middle_of_the_answer(peer: socket.socket) -> None:
    peer.sendall(answer(head(peer))[:60])


def after_the_answer(peer: socket.socket) -> None:
    peer.sendall(answer(head(peer)))


def in_the_middle_of_a_frame(peer: socket.socket) -> None:
    peer.sendall(answer(head(peer)) + frame(1, TICK) + frame(1, TICK)[:40])


def while_we_close(peer: socket.socket) -> None:
    peer.sendall(answer(head(peer)) + frame(1, TICK) + frame(8, struct.pack("!H", 1001)))


def after_our_close(peer: socket.socket) -> None:
    peer.sendall(answer(head(peer)) + frame(8, struct.pack("!H", 1001)))
    peer.recv(8)


PHASES: Final = (
    at_accept,
    with_the_request_unread,
    in_the_middle_of_the_answer,
    after_the_answer,
    in_the_middle_of_a_frame,
    while_we_close,
    after_our_close,
)


class Resetting:
    """``with Resetting(phases) as exchange``: its ``url``, and how many it has ``reset``.

    Each connection plays the next of ``phases``, over and over, and is then reset.
    """

    def __init__(self, phases: tuple[Callable[[socket.socket], None], ...]) -> None:
        self._phases = itertools.cycle(phases)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.reset = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        # Closing a listener does not wake the thread that accepts on it.
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        for phase in self._phases:
            peer, _ = self._listener.accept()
            if self._over:
                peer.close()
                return
            peer.settimeout(PATIENCE)
            with contextlib.suppress(OSError):  # the gateway was first
                phase(peer)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            self.reset += 1
