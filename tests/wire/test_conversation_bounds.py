"""What one channel may take: its turn of the loop, its inbox, its rate."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from moda import Channel, Reply
from moda.hub import Hub
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


async def test_broadcasts_that_wait_for_a_channel_that_intercepts_are_bounded(talk, monkeypatch):
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
    news = b'{"pad":"' + b"x" * 60 + b'"}'
    room.conversation.outgoing("news", news, False)
    room.say("the client's own are the engine's to bound", "y" * 60, '"3"')
    assert room.told[1:] == []
    room.conversation.outgoing("news", news, False)
    assert room.told[1:] == [("end", "crash")]
    await room.idle()
    assert room.conversation._bytes == 0


# -- deadlines


def watched(hub: Hub) -> None:
    """The hub's watch, at a time when everything is overdue."""
    for work in list(hub.under_way):
        hub.under_way.pop(work)
        work.overdue()


async def test_a_join_past_its_deadline_is_refused_and_cancelled(talk):
    ended = asyncio.Event()

    class Room(Channel):
        async def join(self, payload):
            try:
                await asyncio.sleep(3600)
            finally:
                ended.set()

    room = talk(Room)
    room.begin()
    await asyncio.sleep(0)
    with capture_logs() as lines:
        watched(room.hub)
    await ended.wait()
    await room.idle()
    assert room.told == [("join_error", {"reason": "join timed out"})]
    assert [(line["event"], line["topic"]) for line in lines] == [
        ("channel.join.timeout", "room:a")
    ]
    assert (room.hub.timeouts, room.hub.under_way) == ({"join": 1, "handler": 0}, {})


@pytest.mark.parametrize("callback", ["joined", "handle", "outgoing"])
async def test_a_callback_past_its_deadline_is_a_crash_that_names_the_event(talk, callback):
    left = []

    class Room(Channel):
        async def joined(self):
            if callback == "joined":
                await asyncio.sleep(3600)

        async def handle(self, event, payload):
            await asyncio.sleep(3600)

        async def outgoing(self, event, payload):
            await asyncio.sleep(3600)

        async def leave(self, reason):
            left.append(reason)

    room = talk(Room)
    room.begin()
    await asyncio.sleep(0)
    if callback == "handle":
        await room.idle()
        room.say("slow")
    elif callback == "outgoing":
        await room.idle()
        room.conversation.outgoing("news", b"{}", False)
    await asyncio.sleep(0)
    with capture_logs() as lines:
        watched(room.hub)
    await room.idle()
    assert room.told[1:] == [("end", "crash")]
    event = {"joined": "joined", "handle": "slow", "outgoing": "news"}[callback]
    told = [(line["event"], line["topic"], line["event_name"]) for line in lines]
    assert told == [("channel.handler.timeout", "room:a", event)]
    assert (left, room.hub.timeouts["handler"]) == (["crash"], 1)


async def test_without_deadlines_nothing_is_watched(talk):
    class Room(Channel):
        async def handle(self, event, payload):
            await asyncio.sleep(0)

    room = talk(Room, hub=Hub(join_seconds=0, handler_seconds=0))
    room.begin()
    assert not room.hub.under_way
    await room.idle()
    room.say("e")
    await asyncio.sleep(0)
    assert not room.hub.under_way
    await room.idle()


async def test_an_idle_channel_is_not_watched_and_a_busy_one_from_its_latest_message(talk):
    gate = asyncio.Event()

    class Room(Channel):
        async def handle(self, event, payload):
            await gate.wait()

    room = talk(Room)
    await room.join()
    assert not room.hub.under_way
    room.say("e")
    await asyncio.sleep(0)
    assert list(room.hub.under_way) == [room.conversation]
    gate.set()
    await room.idle()
    assert not room.hub.under_way


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


async def test_what_is_taken_from_the_inbox_is_told_to_the_engine(talk):
    class Room(Channel):
        async def handle(self, event, payload):
            return None

    room = talk(Room, rate=Rate(2, 60))
    await room.join()
    for n in range(3):
        room.say("e", n)
    await room.idle()
    assert room.engine.taken_bytes == 3, "also of the one over its rate"


@pytest.mark.parametrize("count", [3, 7, 9, 49, 60, 97])
async def test_a_rate_whose_count_does_not_divide_its_period_admits_all_of_it_at_once(
    talk, monkeypatch, count
):
    monkeypatch.setattr("moda.wire.conversation.time.monotonic", lambda: 123_456.789)

    class Room(Channel):
        async def handle(self, event, payload):
            return Reply("ok", payload)

    room = talk(Room, rate=Rate(count, 1.0))
    await room.join()
    for n in range(count + 1):
        room.say("e", n)
    await room.idle()
    assert sum(told[2] == "ok" for told in room.told[1:]) == count
    assert [told[2] for told in room.told[1:]].count("error") == 1
