"""A door on loopback, on uvloop as in production, and a client that sees every byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from moda.serve.door import DoorOptions
from moda.serve.face import Face
from moda.serve.server import Plan, Server, ServerOptions
from moda.upgrade import Accepted, Mount, Refused, Upgrade

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3: the answer to that key

Answer = Accepted | Refused | None


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


class Echo:
    """The least a connection does: echoes whole, short messages, answers pings and closes."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self.told = False
        self._room = bytearray(1 << 16)
        self._came = b""

    def begin(self, transport: asyncio.Transport, ended: Callable[[], None]) -> None:
        self.transport = transport
        self.ended = ended
        self.hall.open.append(self)

    def get_buffer(self, _hint: int) -> memoryview:
        return memoryview(self._room)

    def buffer_updated(self, count: int) -> None:
        self._came += self._room[:count]
        while len(self._came) >= 2:
            first, size = self._came[0], self._came[1] & 0x7F
            if not self._came[1] & 0x80:
                self._came = b""
                self.send_close(1002)
                self.transport.close()
                return
            start = {126: 8, 127: 14}.get(size, 6)
            if start > 6:
                size = int.from_bytes(self._came[2 : start - 4], "big")
            if len(self._came) < start + size:
                return
            mask = self._came[start - 4 : start]
            payload = bytes(
                b ^ mask[at % 4] for at, b in enumerate(self._came[start : start + size])
            )
            self._came = self._came[start + size :]
            self.frame(first & 0x0F, payload)

    def frame(self, opcode: int, payload: bytes) -> None:
        if opcode == 8:
            self.send(8, payload[:2])
            self.transport.close()
        else:
            self.send(10 if opcode == 9 else opcode, payload)

    def send(self, opcode: int, payload: bytes) -> None:
        """Writes a frame to the client."""
        size = len(payload)
        wide = size >= 65536
        length = bytes((126 + wide,)) + size.to_bytes(8 if wide else 2, "big")
        if size < 126:
            length = bytes((size,))
        self.transport.write(bytes((0x80 | opcode,)) + length + payload)

    def send_close(self, code: int) -> None:
        self.told = True
        self.send(8, code.to_bytes(2, "big"))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        self.hall.open.remove(self)
        self.hall.gone.set()
        self.ended()

    def pause_writing(self) -> None:
        self.hall.paused += 1

    def resume_writing(self) -> None:
        self.hall.resumed += 1


@dataclass
class Hall:
    """One mount's connections and what it was asked. ``now`` and ``later`` are its decisions."""

    path: str = "/socket/websocket"
    headers: tuple[tuple[str, str], ...] = ()
    now: Callable[[Upgrade], Answer] | None = None
    later: Callable[[Upgrade], Awaitable[Accepted | Refused]] | None = None
    asked: list[Upgrade] = field(default_factory=list)
    open: list[Echo] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    paused: int = 0
    resumed: int = 0
    cancelled: bool = False

    def accepted(self) -> Accepted:
        return Accepted(lambda: Echo(self), self.headers)

    def accept_now(self, upgrade: Upgrade) -> Answer:
        self.asked.append(upgrade)
        if self.later is not None:
            return None
        return self.now(upgrade) if self.now is not None else self.accepted()

    async def accept(self, upgrade: Upgrade) -> Accepted | Refused:
        assert self.later is not None
        try:
            return await self.later(upgrade)
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    def close_some(self, count: int, code: int) -> int:
        told = 0
        for echo in list(self.open):
            if told < count and not echo.told:
                echo.send_close(code)
                told += 1
        return told


@dataclass
class House:
    """A running server, its first hall, and the reasons it counted."""

    server: Server
    hall: Hall
    refusals: list[str]
    errors: list[str]

    @property
    def port(self) -> int:
        return self.server.port


BuildHouse = Callable[..., Awaitable[House]]


@pytest.fixture
async def house() -> AsyncIterator[BuildHouse]:
    """Builds a server: ``await house(hall, door=DoorOptions(...), face=..., ...)``."""
    running: list[tuple[Server, list[Mount]]] = []

    async def build(
        hall: Hall | None = None,
        *more: Mount,
        door: DoorOptions | None = None,
        face: Face | None = None,
        plan: dict[str, Any] | None = None,
        **options: Any,
    ) -> House:
        hall = hall or Hall()
        refusals: list[str] = []
        errors: list[str] = []
        halls = [hall, *more]
        server = Server(
            Plan(
                ServerOptions(port=0, door=door or DoorOptions(), **options),
                face or Face("test", dict),
                halls,
                connections=lambda: sum(len(one.open) for one in halls if isinstance(one, Hall)),
                close_some=hall.close_some,
                on_refusal=refusals.append,
                on_error=errors.append,
                **(plan or {}),
            )
        )
        await server.start()
        running.append((server, halls))
        return House(server, hall, refusals, errors)

    yield build
    for server, halls in running:
        server.hurry.set()
        await server.stop()
        for hall in halls:
            assert isinstance(hall, Hall)
            for echo in list(hall.open):
                echo.transport.abort()
            await until(lambda hall=hall: not hall.open)


@dataclass
class Response:
    """An HTTP answer as it came."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for known, value in self.headers if known == name), None)


class Client:
    """A TCP connection that writes what it is told and reads answers and frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self) -> Response:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = []
        for line in lines:
            name, _, value = line.partition(":")
            headers.append((name.strip().lower(), value.strip()))
        answer = Response(int(first.split()[1]), headers, b"")
        length = answer.header("content-length")
        if length:
            answer.body = await self.reader.readexactly(int(length))
        elif answer.header("transfer-encoding") == "chunked":
            while size := int(await self.reader.readline(), 16):
                answer.body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
        return answer

    async def upgrade(
        self, target: str = "/socket/websocket", *extra: str, **changed: str | None
    ) -> Response:
        await self.send(request(target, *extra, **changed))
        return await self.response()

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload."""
        first, second = await self.reader.readexactly(2)
        assert not second & 0x80, "a server masks nothing"
        length = second
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        elif length == 127:
            length = int.from_bytes(await self.reader.readexactly(8), "big")
        return first & 0x0F, await self.reader.readexactly(length)

    async def ended(self) -> bytes:
        """What comes until the server closes."""
        return await self.reader.read()

    async def close(self) -> None:
        self.writer.close()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    """Opens clients: ``await connect(port)``; closes them at the end."""
    clients: list[Client] = []

    async def open_client(port: int, **options: Any) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 22, **options))
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        client.writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(2):
                await client.writer.wait_closed()


def request(target: str = "/socket/websocket", *extra: str, **changed: str | None) -> bytes:
    """An upgrade request. ``changed`` replaces (or with None removes) one of the usual headers."""
    headers: dict[str, str | None] = {
        "host": "localhost:4001",
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec_websocket_version": "13",
        "sec_websocket_key": KEY,
    }
    headers.update(changed)
    lines = [
        f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value is not None
    ]
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines, *extra, "", ""]).encode("latin-1")


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True) -> bytes:
    """A client's frame, masked with zeros so that a test can read it."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes(((0x80 if fin else 0) | opcode,)) + length + b"\0\0\0\0" + payload


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that no event tells, ten seconds at most."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def close_code(payload: bytes) -> int:
    return int.from_bytes(payload[:2], "big")


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    """A plain request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: localhost", *headers, "", ""]).encode()


def joined(parts: Iterable[bytes]) -> bytes:
    return b"".join(parts)
