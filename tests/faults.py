"""A TCP proxy that breaks on command: what a network does to a connection, without a network.

It stands between clients and a gateway and forwards bytes until it is told otherwise. Faults are
commands and not probabilities, so a test that fails once fails always. Directions are "up" (client
to gateway) and "down".
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from collections.abc import Iterator
from typing import Literal, Self

Direction = Literal["up", "down"]
BOTH: tuple[Direction, ...] = ("up", "down")
CHUNK = 65_536


class _Pipe:
    """One direction of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.forwarded = 0

    def reset(self) -> None:
        """Ends the receiving side's connection with a RST."""
        transport = self.writer.transport
        sock = transport.get_extra_info("socket")
        if sock is not None and not transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class Proxy:
    """``async with Proxy(port) as proxy`` listens on ``proxy.port`` and forwards to ``port``."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._pipes: dict[Direction, list[_Pipe]] = {"up": [], "down": []}
        self._refusing = False
        self._room: dict[Direction, float] = {}
        self._delay = 0.0
        self._slice = CHUNK
        self.accepted = 0
        self.restore()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """Connections that are forwarded now."""
        return len(self._pipes["up"])

    def forwarded(self, direction: Direction) -> int:
        """Bytes that open connections have had in one direction."""
        return sum(pipe.forwarded for pipe in self._pipes[direction])

    # -- faults

    def cut(self, direction: Direction | None = None, *, after: int = 0) -> None:
        """Forwards ``after`` more bytes in a direction (both: None), then nothing; nobody is told."""
        for one in BOTH if direction is None else (direction,):
            self._room[one] = after

    def delay(self, seconds: float) -> None:
        """Holds every piece back for so long before it is forwarded."""
        self._delay = seconds

    def throttle(self, size: int) -> None:
        """Forwards at most ``size`` bytes at a time, each piece in a turn of its own."""
        self._slice = size

    def refuse(self) -> None:
        """Cuts new connections as soon as they are made."""
        self._refusing = True

    def restore(self) -> None:
        """Ends every fault but those that have ended a connection."""
        self._refusing = False
        self._delay = 0.0
        self._slice = CHUNK
        self._room = dict.fromkeys(BOTH, math.inf)

    def reset(self) -> None:
        """Ends all connections with a RST to both sides."""
        for pipe in self._all():
            pipe.reset()

    def half_close(self, direction: Direction) -> None:
        """Tells the receivers of a direction that nothing more will come; the other one goes on."""
        for pipe in self._pipes[direction]:
            pipe.writer.write_eof()

    # -- forwarding

    def _all(self) -> Iterator[_Pipe]:
        for direction in BOTH:
            yield from tuple(self._pipes[direction])

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._refusing:
            _Pipe(reader, writer).reset()
            return
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(
            "127.0.0.1", self._upstream
        )
        up, down = _Pipe(reader, upstream_writer), _Pipe(upstream_reader, writer)
        self._pipes["up"].append(up)
        self._pipes["down"].append(down)
        try:
            await asyncio.gather(self._forward(up, "up"), self._forward(down, "down"))
        except ConnectionError:
            # One side is gone without a goodbye: so it is for the other.
            up.reset()
            down.reset()
        finally:
            self._pipes["up"].remove(up)
            self._pipes["down"].remove(down)
            up.writer.close()
            down.writer.close()

    async def _forward(self, pipe: _Pipe, direction: Direction) -> None:
        while data := await pipe.reader.read(CHUNK):
            while data:
                size = int(min(len(data), self._slice, self._room[direction]))
                if size == 0:
                    await asyncio.sleep(0.002)
                    continue
                piece, data = data[:size], data[size:]
                self._room[direction] -= size
                await asyncio.sleep(self._delay)
                pipe.writer.write(piece)
                await pipe.writer.drain()
                pipe.forwarded += size
        if pipe.writer.can_write_eof() and not pipe.writer.transport.is_closing():
            pipe.writer.write_eof()
