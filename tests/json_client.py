"""A client of the plain JSON dialect, as a user would write one: `websockets` and `json`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import websockets

TIMEOUT = 5.0


class JsonClient:
    """``await JsonClient.open(url)``; ``welcome`` is what the server said first."""

    def __init__(self, socket: websockets.ClientConnection, welcome: dict[str, Any]) -> None:
        self.socket = socket
        self.welcome = welcome
        self.events: list[dict[str, Any]] = []

    @classmethod
    async def open(cls, url: str, **options: Any) -> JsonClient:
        socket = await websockets.connect(url, compression=None, **options)
        return cls(socket, json.loads(await asyncio.wait_for(socket.recv(), TIMEOUT)))

    async def send(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def next(self) -> dict[str, Any]:
        return json.loads(await asyncio.wait_for(self.socket.recv(), TIMEOUT))

    async def ask(self, **message: Any) -> dict[str, Any]:
        """Sends a message with an id and returns the answer with that id; events are kept."""
        await self.send(id="asked", **message)
        while True:
            heard = await self.next()
            if heard.get("id") == "asked":
                return heard
            self.events.append(heard)

    async def subscribe(self, topic: str, **more: Any) -> dict[str, Any]:
        return await self.ask(type="subscribe", topic=topic, **more)

    async def event(self) -> dict[str, Any]:
        return self.events.pop(0) if self.events else await self.next()

    async def close(self) -> None:
        await self.socket.close()
