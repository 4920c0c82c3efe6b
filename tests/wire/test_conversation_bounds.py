"""What one channel may take: its turn of the loop, its inbox, its rate."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from moda import Channel, Reply
from moda.wire import conversation as module
from moda.wire.conversation import Rate


@pytest.mark.parametrize(("turn", "order"), [(-1.0, "abababab"), (3600.0, "aaaabbbb")])
async def test_a_channel_lets_others_have_their_turn_between_two_of_its_messages(
    talk, monkeypatch, turn, order
):
    monkeypatch.setattr(module, "TURN_SECONDS", turn)
    handled: list[str] = []

    class Room(Channel):
        async def handle(self, event, payload):
            handled.append(event)

    rooms = {name: talk(Room) for name in "ab"}
    for room in rooms.values():
        await room.join()
    for name, room in rooms.items():
        for _ in range(4):
            room.say(name)
    for room in rooms.values():
        await room.idle()
    assert "".join(handled) == order


@pytest.mark.parametrize("busy", [1, 5, 20])
async def test_busy_channels_share_one_turn_of_the_loop(talk, monkeypatch, busy):
    """On a clock that a message moves by a fiftieth of a turn."""
    clock = SimpleNamespace(now=0.0, monotonic=time.monotonic)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(module, "time", clock)
    turns = [0]

    class Room(Channel):
        async def handle(self, event, payload):
            turns[-1] += 1
            clock.now += module.TURN_SECONDS / 50

    first = talk(Room)
    rooms = [first, *(talk(Room, hub=first.hub) for _ in range(busy - 1))]
    for room in rooms:
        await room.join()
    for room in rooms:
        for _ in range(200):
            room.say("e", ref=None)
    while any(room.conversation._task is not None for room in rooms):
        await asyncio.sleep(0)
        turns.append(0)
    # The first turn finds nobody waiting. From then on: a turn's worth, and what each goes over it.
    assert max(turns[2:]) <= 50 + 2 * busy
    assert sum(turns) == 200 * busy


# -- bounds


async def test_the_inbox_is_bounded_and_what_is_intercepted_counts(talk, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 100)
    gate = asyncio.Event()

    class Room(Channel):
        async def handle(self, event, payload):
            await gate.wait()

        async def outgoing(self, event, payload):
            """Dropped."""

    room = talk(Room)
    await room.join()
    room.say("first")
    await asyncio.sleep(0)
    room.conversation.outgoing("news", b'{"pad":"' + b"x" * 60 + b'"}', False)
    room.say("second", "y" * 60, '"3"')
    room.say("third" * 6, "", '"4"')
    room.say("a", "", '"' + "5" * 30 + '"')
    assert room.told[1:] == [
        ("reply", ref, "error", {"reason": "busy"}) for ref in ('"3"', '"4"', '"' + "5" * 30 + '"')
    ]
    room.say("without a ref", "y" * 60, None)
    assert room.hub.busy == 4
    gate.set()
    await room.idle()
    assert room.conversation._bytes == 0


async def test_a_rate_admits_a_burst_of_its_count_and_then_one_per_interval(talk, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("moda.wire.conversation.time.monotonic", lambda: now)

    class Room(Channel):
        async def handle(self, event, payload):
            return Reply("ok", payload)

    room = talk(Room, rate=Rate(4, 2.0))
    await room.join()

    async def burst(count: int) -> int:
        before = len(room.told)
        for n in range(count):
            room.say("e", n)
        await room.idle()
        return sum(told[2] == "ok" for told in room.told[before:])

    assert await burst(6) == 4
    assert room.told[1] == (
        "reply",
        '"2"',
        "error",
        {"reason": "rate limited", "limit": "4 in 2 s"},
    )
    now += 0.5
    assert await burst(3) == 1
    now += 100.0
    assert await burst(9) == 4
    told = len(room.told)
    room.say("e", 1, None)
    await room.idle()
    assert len(room.told) == told
    assert room.hub.rate_limited == 2 + 2 + 5 + 1
