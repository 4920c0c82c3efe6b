"""The gateway that the system benches measure: `moda serve benches.server:gateway`.

It holds what an application would write and nothing faster: a push-only stream, a channel that
answers, a room that broadcasts, and a control channel through which the load generator has it
publish. The generator stamps nothing itself: `at` is this process's `time.monotonic_ns()`, which
on one machine is the clock the generator subtracts it from.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from moda import Channel, Gateway, Reply, Stream

DOCUMENT = b"""
asyncapi: 3.0.0
info: {title: Benches, version: 1.0.0}
channels:
  relay:
    address: bench:relay:{pair}
    parameters: {pair: {description: Which two}}
    messages: {said: {name: said}}
    x-moda: {publish: clients}
"""

gateway = Gateway(asyncapi=DOCUMENT)


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `publish` asks for; every broadcast is `bytes` long as Phoenix V2 text."""

    topic: str
    count: int
    per_turn: int = 1
    bytes: int = 120
    interval_us: int = 0


def tick(topic: str, sequence: int, size: int) -> dict[str, Any]:
    """The payload of one broadcast: its number (from 1), the time, and padding up to `size`."""
    at = time.monotonic_ns()
    bare = len(f'[null,null,"{topic}","tick",{{"seq":{sequence},"at":{at},"pad":""}}]')
    return {"seq": sequence, "at": at, "pad": "." * max(0, size - bare)}


async def publish(order: Order) -> dict[str, float]:
    """Publishes as ordered and returns how long it took, in seconds of this process.

    Without an interval the next turn begins when every frame of the last has been written, which
    is what the bare `send` loop it is compared with does. With one, turns begin by the clock and
    wait for nobody: a reader that has stopped must not slow the publisher.
    """
    begun = time.monotonic()
    turn = 0
    for first in range(1, order.count + 1, order.per_turn):
        for sequence in range(first, min(first + order.per_turn, order.count + 1)):
            gateway.broadcast(order.topic, "tick", tick(order.topic, sequence, order.bytes))
        if order.interval_us:
            turn += 1
            await asyncio.sleep(begun + turn * order.interval_us / 1e6 - time.monotonic())
        else:
            await gateway.drained()
    return {"count": order.count, "seconds": time.monotonic() - begun}


@gateway.channel("bench:stream", delivery="every")
class Everything(Stream):
    """A push-only topic whose subscribers must receive every broadcast."""


@gateway.channel("bench:drop", delivery="drop")
class Ephemeral(Stream):
    """The same, for broadcasts a slow reader may miss."""


@gateway.channel("bench:channel")
class Answers(Channel):
    """A channel that answers `ping` from Python."""

    async def handle(self, event: str, payload: Any) -> Reply:
        return Reply("ok", {})


@gateway.channel("bench:room:{room}")
class Room(Channel):
    """A chat room: what one says, all hear, the speaker included."""

    async def handle(self, event: str, payload: Any) -> Reply:
        self.broadcast("said", payload)
        return Reply("ok", {})


@gateway.channel("bench:passes:{pair}")
class Passes(Channel):
    """A relay as an application writes it: what one says, the others hear."""

    async def handle(self, event: str, payload: Any) -> None:
        self.broadcast_from(event, payload)


@gateway.channel("bench:control")
class Control(Channel):
    """Takes the orders of the load generator."""

    async def handle(self, event: str, payload: Any) -> Reply:
        if event != "publish":
            return Reply("error", {"reason": f"unknown event {event!r}, takes 'publish'"})
        try:
            order = msgspec.convert(payload, Order)
        except msgspec.ValidationError as error:
            return Reply("error", {"reason": str(error)})
        return Reply("ok", await publish(order))
