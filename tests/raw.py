"""A TCP connection with no manners: for what a library would refuse to send or would tidy away.

Everything is a function of bytes; :class:`Raw` only carries them. Frames are masked with a key of
ones so that a forgotten mask shows.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from gateway import PATIENCE

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3: the answer to that key

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASK = b"\x11\x22\x33\x44"


def frame(
    payload: bytes | str,
    opcode: int = TEXT,
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    length: int | None = None,
) -> bytes:
    """A client's frame, wrong on request. ``length`` announces another length than that sent."""
    data = payload.encode() if isinstance(payload, str) else payload
    size = len(data) if length is None else length
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 65536:
        head = bytes((first, bit | 126)) + struct.pack("!H", size)
    else:
        head = bytes((first, bit | 127)) + struct.pack("!Q", size)
    if not masked:
        return head + data
    key = MASK * (len(data) // 4 + 1)
    whole = int.from_bytes(data, "big") ^ int.from_bytes(key[: len(data)], "big")
    return head + MASK + whole.to_bytes(len(data), "big")


def close_frame(code: int | None = None, reason: bytes = b"") -> bytes:
    return frame(b"" if code is None else struct.pack("!H", code) + reason, CLOSE)


def request(target: str = "/socket/websocket?vsn=2.0.0", **headers: str | None) -> bytes:
    """An upgrade request. ``headers`` replaces (None: removes) one of the usual; _ stands for -."""
    usual: dict[str, str | None] = {
        "host": "127.0.0.1",
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec_websocket_version": "13",
        "sec_websocket_key": KEY,
    }
    usual.update(headers)
    lines = [
        f"{name.replace('_', '-')}: {value}" for name, value in usual.items() if value is not None
    ]
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""]).encode()


class Raw:
    """A TCP connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, *, receive_buffer: int | None = None, **options: Any) -> Raw:
        """``receive_buffer`` bytes of the kernel's are all that a server can push unread."""
        client = socket.socket()
        client.setblocking(False)
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
        limit = 1 << 16 if receive_buffer is None else 1 << 12
        return cls(*await asyncio.open_connection(sock=client, limit=limit, **options))

    async def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))
        await self.writer.drain()

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """An HTTP answer: status, headers, and the body its content-length announces."""
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            pairs = (line.partition(":") for line in lines)
            headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(first.split()[1]), headers, body

    async def upgrade(self, target: str = "/socket/websocket?vsn=2.0.0", **headers: Any) -> None:
        """Becomes a WebSocket."""
        await self.send(request(target, **headers))
        status, answer, _ = await self.response()
        assert (status, answer.get("sec-websocket-accept")) == (101, ACCEPT)

    async def receive(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload. A server's frame is whole and never masked."""
        async with asyncio.timeout(PATIENCE):
            first, second = await self.reader.readexactly(2)
            assert first & 0xF0 == 0x80, f"fin alone is set, got {first:#x}"
            assert not second & 0x80, "a server masks nothing"
            size = second
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8), "big")
            return first & 0x0F, await self.reader.readexactly(size)

    async def closed(self) -> tuple[int | None, bytes]:
        """Waits for the server's close frame, dropping what comes before; its code and reason."""
        while True:
            opcode, payload = await self.receive()
            if opcode == CLOSE:
                return (int.from_bytes(payload[:2], "big") if payload else None), payload[2:]

    async def ended(self) -> bytes:
        """What comes until the server hangs up."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    def reset(self) -> None:
        """Cuts the connection with a RST: no goodbye, unread data lost."""
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.writer.transport.abort()

    def half_close(self) -> None:
        """Says that nothing more will be sent, and goes on reading."""
        self.writer.write_eof()

    def close(self) -> None:
        self.writer.transport.abort()
