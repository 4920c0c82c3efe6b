"""A channel that has ended is gone, with everything its application kept in it.

The gateway lets the collector look seldom, so nothing may wait for it: these tests switch it off.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest
import structlog

from gateway import until
from moda import Channel, Reject, Reply, Stop
from moda.wire import conversation as module


@pytest.fixture(autouse=True)
def nothing_is_collected() -> Iterator[None]:
    # Written as in production: the default draws every frame's locals, and so keeps them.
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        logger_factory=structlog.ReturnLoggerFactory(),
    )
    gc.disable()
    yield
    gc.enable()


class Room(Channel):
    """Does in each callback what the test's payload says."""

    async def join(self, payload):
        self.state = {"self": self.topic}
        match payload:
            case "refuse":
                raise Reject
            case "crash":
                raise RuntimeError("told to")
            case "exit":
                raise SystemExit
            case "wait":
                await asyncio.Event().wait()
            case "spawned crash":
                self.spawn(self.work(payload))
                await asyncio.Event().wait()

    async def handle(self, event, payload):
        match event:
            case "crash":
                raise RuntimeError("told to")
            case "stop":
                return Stop("normal", Reply())
            case "call stop":
                self.stop()
            case "wait":
                await asyncio.Event().wait()
            case "spawn":
                self.spawn(self.work(payload))
        return None

    async def work(self, payload):
        if payload == "spawned crash":
            raise RuntimeError("told to")
        await asyncio.Event().wait()

    async def outgoing(self, event, payload):
        await asyncio.Event().wait()


class Polite(Room):
    """The same with a goodbye."""

    async def leave(self, reason):
        await asyncio.sleep(0)
        self.push("too late", {})
        self.reply('"1"', Reply())
        self.broadcast("gone", {"reason": reason})
        self.spawn(self.work("never"))


@pytest.mark.parametrize("kind", [Room, Polite])
@pytest.mark.parametrize("payload", ["refuse", "crash", "exit", "wait", "spawned crash"])
async def test_a_channel_whose_join_comes_to_nothing_is_freed(talk, kind, payload):
    room = talk(kind)
    gone = weakref.ref(room.conversation.channel)
    room.begin(payload)
    await asyncio.sleep(0)
    if payload == "wait":
        room.conversation.ended("closed")
    await room.idle()
    del room
    await until(lambda: gone() is None)


@pytest.mark.parametrize("kind", [Room, Polite])
@pytest.mark.parametrize(
    "end",
    [
        "left", "left while busy", "closed", "replaced", "closed while busy", "crash", "stop",
        "call stop", "spawned crash", "spawned", "overrun",
    ],
)  # fmt: skip
async def test_a_channel_is_freed_by_every_end_of_it(talk, kind, end, monkeypatch):
    room = talk(kind)
    gone = weakref.ref(room.conversation.channel)
    await room.join()
    match end:
        case "left":
            room.conversation.leaving('"9"')
        case "left while busy":
            room.say("hello")
            room.conversation.leaving('"9"')
        case "closed" | "replaced":
            room.conversation.ended(end)
        case "closed while busy":
            room.say("wait")
            await asyncio.sleep(0)
            room.conversation.ended("closed")
        case "spawned crash" | "spawned":
            room.say("spawn", end)
            await room.idle()
            await asyncio.sleep(0)
            room.conversation.ended("closed")
        case "overrun":
            monkeypatch.setattr(module, "MAX_WAITING", 1)
            for _ in range(3):
                room.conversation.outgoing("news", b"{}", False)
                await asyncio.sleep(0)
        case _:
            room.say(end)
    await room.idle()
    del room
    await until(lambda: gone() is None)


async def test_a_channel_somebody_keeps_after_its_end_does_nothing_but_broadcast(talk):
    room = talk(Room)
    await room.join()
    channel = room.conversation.channel
    room.conversation.ended("closed")
    channel.push("e", {})
    channel.reply('"1"', Reply())
    channel.stop("again", Reply())
    channel.spawn(channel.work("never"))
    channel.broadcast("e", {"n": 1})
    channel.broadcast_from("e", {"n": 2})
    assert room.told[1:] == [("publish", "room:a", "e", {"n": n}, None, 0) for n in (1, 2)]
