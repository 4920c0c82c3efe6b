"""A stack tells which topic and event it works for."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from gateway import until
from moda import Channel, Gateway, Stream
from moda.wire.working import working

SEEN: list[dict[str, Any]] = []


def look() -> None:
    """What a thread would read of this stack."""
    frame: FrameType = sys._getframe()
    SEEN.append(working(frame))


@pytest.fixture(autouse=True)
def fresh() -> None:
    SEEN.clear()


class Room(Channel):
    async def join(self, payload):
        look()
        return {}

    async def handle(self, event, payload):
        self._inner()

    def _inner(self):
        look()

    async def leave(self, reason):
        look()


class Feed(Stream):
    async def join(self, request):
        look()
        return {}


async def test_a_channels_callbacks_are_named_with_topic_and_event(gateway, serve, connect):
    gateway.channel("room:{id}")(Room)
    client = await connect(await serve(gateway))
    await client.join("room:7")
    await client.send("1", "2", "room:7", "paint", {})
    await client.send("1", "3", "room:7", "phx_leave", {})
    await until(lambda: len(SEEN) == 3)
    assert SEEN == [
        {"topic": "room:7", "event_name": "phx_join", "callback": "Room.join"},
        {"topic": "room:7", "event_name": "paint", "callback": "Room.handle"},
        {"topic": "room:7", "event_name": "phx_leave", "callback": "Room.leave"},
    ]


async def test_a_streams_join_is_named_too(gateway, serve, connect):
    gateway.channel("feed:{id}")(Feed)
    client = await connect(await serve(gateway))
    await client.join("feed:1")
    assert SEEN == [{"topic": "feed:1", "event_name": "phx_join", "callback": "Feed.join"}]


def test_a_stack_of_no_channel_names_nothing():
    look()
    assert SEEN == [{}]
    assert working(None) == {}


@pytest.fixture
def gateway() -> Gateway:
    return Gateway(builtins=False)
