"""A reader of event streams over a bare socket: the bytes as they come, taken apart as browsers do."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass, field
from typing import Any

from gateway import PATIENCE, Running


@dataclass
class Block:
    """One dispatched event (HTML Standard, "Interpreting an event stream")."""

    event: str
    data: str
    last_id: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class EventReader:
    """One GET. ``status`` and ``headers`` are there once :meth:`open` has returned."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    last_id: str = ""
    comments: int = 0

    @classmethod
    async def open(
        cls,
        running: Running,
        target: str,
        *,
        method: str = "GET",
        version: str = "1.1",
        **headers: str,
    ) -> EventReader:
        """Asks for ``target``; ``headers`` with _ for -."""
        context = ssl._create_unverified_context() if running.tls else None
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=context)
        lines = [f"{method} {target} HTTP/{version}", "Host: 127.0.0.1"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        opened = cls(reader, writer)
        async with asyncio.timeout(PATIENCE):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        opened.status = int(head[0].split(" ")[1])
        for line in head[1:-2]:
            name, _, value = line.partition(": ")
            assert name not in opened.headers, f"{name} is sent twice"
            opened.headers[name] = value
        return opened

    async def body(self) -> bytes:
        """All that follows, to the end of the connection."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    async def next(self) -> Block:
        """The next event. ConnectionError at the end of the stream; half a block is none."""
        event, data = "message", []
        async with asyncio.timeout(PATIENCE):
            while True:
                line = (await self.reader.readline()).decode()
                if not line.endswith("\n"):
                    raise ConnectionError("the stream has ended")
                name, _, value = line[:-1].partition(":")
                value = value.removeprefix(" ")
                if line == "\n":
                    if data:
                        return Block(event, "\n".join(data), self.last_id)
                elif name == "":
                    self.comments += 1
                elif name == "data":
                    data.append(value)
                elif name == "event":
                    event = value
                elif name == "id":
                    self.last_id = value
                else:
                    raise AssertionError(f"{line!r} is no field of an event stream")

    async def message(self) -> Any:
        """The next event without a name, as JSON; others are passed over."""
        while True:
            block = await self.next()
            if block.event == "message":
                return block.json

    async def close(self) -> None:
        self.writer.close()
