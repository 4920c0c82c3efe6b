"""What the soak's gateways serve: rooms for honest clients, firehoses for readers that stop."""

from __future__ import annotations

import asyncio
from typing import Any

from moda import Channel, Gateway, Raw, Reply, Stream
from moda.message import Delivery

gateway = Gateway()

FIREHOSES: tuple[Delivery, ...] = ("every", "latest", "drop")
PAGE = Raw(b'{"pad":"' + b"." * 4000 + b'"}')
PAUSE = 0.02


@gateway.channel("soak:room:{name}")
class Room(Channel):
    """What one says, the others hear; the speaker gets its number back."""

    async def handle(self, event: str, payload: Any) -> Reply:
        if event == "say" and isinstance(payload, dict):
            self.broadcast_from("said", payload)
            return Reply("ok", {"n": payload.get("n")})
        return Reply("error", {"reason": "say something"})


@gateway.channel("soak:patient")
class Patient(Channel):
    """A join that takes its time, as one that asks a database does."""

    async def join(self, payload: Any) -> None:
        await asyncio.sleep(5.0)


for delivery in FIREHOSES:
    gateway.channel(f"soak:firehose:{delivery}", delivery=delivery)(Stream)


async def spray() -> None:
    """200 KB a second on every firehose."""
    while True:
        for delivery in FIREHOSES:
            gateway.broadcast(f"soak:firehose:{delivery}", "page", PAGE)
        await asyncio.sleep(PAUSE)


gateway.background("spray", spray)
