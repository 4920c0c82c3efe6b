"""The Python package `realtime` (Supabase), unchanged, against a real gateway.

Its protocol, read from version 2.34.1, sets what can be tested. It connects to ``URL/websocket``
with ``vsn=1.0.0``, so it speaks the object format; its heartbeats carry a null ref. `channel(name)`
always joins ``realtime:name``, and of what arrives it keeps the events of a fixed list
(``broadcast``, the presence events, ``postgres_changes``, ``system``) and logs the rest as
unrecognized. So rooms of a user's gateway work in full, and the built-in topics can be joined and
their events seen arriving.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from realtime import (
    AsyncRealtimeChannel,
    AsyncRealtimeClient,
    Message,
    RealtimeSubscribeStates,
)

from .server import Running

WITHIN = 30.0

States = list[tuple[RealtimeSubscribeStates, str]]


@asynccontextmanager
async def client(server: Running) -> AsyncIterator[AsyncRealtimeClient]:
    made = AsyncRealtimeClient(server.socket, auto_reconnect=False)
    await made.connect()
    try:
        yield made
    finally:
        await made.close()


async def subscribed(channel: AsyncRealtimeChannel) -> States:
    """Joins; the states the package reported on the way, with the words of their errors."""
    states: States = []
    await asyncio.wait_for(
        channel.subscribe(lambda state, error: states.append((state, str(error or "")))), WITHIN
    )
    return states


async def until(what: str, check: Callable[[], Any]) -> None:
    for _ in range(int(WITHIN / 0.02)):
        if check():
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"waited in vain for {what}")


def room(own: bool = False, ack: bool = False) -> Any:
    return {
        "config": {
            "broadcast": {"self": own, "ack": ack},
            "presence": {"key": "", "enabled": False},
            "private": False,
        }
    }


async def test_it_connects_in_the_format_of_version_one(running: Running) -> None:
    async with client(running) as made:
        assert made.endpoint_url() == f"{running.socket}/websocket?vsn=1.0.0"
        assert made.is_connected


async def test_its_heartbeats_with_a_null_ref_leave_the_socket_open(rooms: Running) -> None:
    async with client(rooms) as made:
        for _ in range(3):
            await made.send(Message(topic="phoenix", event="heartbeat", payload={}, ref=None))
        assert (await subscribed(made.channel("room:hall")))[0][0] == "SUBSCRIBED"
        assert made.is_connected


async def test_a_broadcast_reaches_the_other_client_of_the_room_and_not_its_sender(
    rooms: Running,
) -> None:
    heard: dict[str, list[Any]] = {"ann": [], "bob": []}
    async with client(rooms) as ann, client(rooms) as bob:
        lines = {}
        for name, made in (("ann", ann), ("bob", bob)):
            lines[name] = made.channel("room:hall").on_broadcast("*", heard[name].append)
            assert await subscribed(lines[name]) == [(RealtimeSubscribeStates.SUBSCRIBED, "")]
        await lines["ann"].send_broadcast("said", {"text": "grüß dich", "n": 1})
        await until("what Ann said", lambda: heard["bob"])
        await lines["bob"].send_broadcast("said", {"text": "hello", "n": 2})
        await until("what Bob said", lambda: heard["ann"])
    assert [message["payload"] for message in heard["bob"]] == [{"text": "grüß dich", "n": 1}]
    assert [message["payload"] for message in heard["ann"]] == [{"text": "hello", "n": 2}]
    assert heard["bob"][0]["event"] == "said"


async def test_a_client_that_asks_for_its_own_broadcasts_gets_them(rooms: Running) -> None:
    heard: list[Any] = []
    async with client(rooms) as made:
        channel = made.channel("room:echo", room(own=True)).on_broadcast("said", heard.append)
        await subscribed(channel)
        await channel.send_broadcast("said", {"n": 1})
        await until("the echo", lambda: heard)
    assert heard[0]["payload"] == {"n": 1}


async def test_a_push_is_acknowledged_where_the_client_asked_for_it(rooms: Running) -> None:
    replies: list[str] = []
    async with client(rooms) as made:
        channel = made.channel("room:acknowledged", room(ack=True))
        await subscribed(channel)
        push = await channel.push("broadcast", {"type": "broadcast", "event": "e", "payload": {}})
        push.receive("ok", lambda _: replies.append("ok"))  # type: ignore[call-overload]
        await until("the acknowledgement", lambda: replies)
    assert replies == ["ok"]


async def test_messages_keep_their_order(rooms: Running) -> None:
    heard: list[int] = []
    async with client(rooms) as ann, client(rooms) as bob:
        speaker, listener = ann.channel("room:order"), bob.channel("room:order")
        listener.on_broadcast("n", lambda message: heard.append(message["payload"]["n"]))
        await subscribed(speaker)
        await subscribed(listener)
        for number in range(200):
            await speaker.send_broadcast("n", {"n": number})
        await until("all of them", lambda: len(heard) == 200)
    assert heard == list(range(200))


async def test_a_refusal_is_told_in_the_words_of_the_channel(rooms: Running) -> None:
    async with client(rooms) as made:
        states = await subscribed(made.channel("room:closed"))
        assert states[0][0] == "CHANNEL_ERROR"
        assert json.loads(states[0][1]) == {"reason": "this room is closed"}


async def test_a_topic_nobody_serves_is_refused_and_the_socket_lives_on(rooms: Running) -> None:
    async with client(rooms) as made:
        states = await subscribed(made.channel("nobody"))
        assert json.loads(states[0][1]) == {"reason": "unmatched topic"}
        assert (await subscribed(made.channel("room:hall")))[0][0] == "SUBSCRIBED"


async def test_leaving_closes_the_channel_and_a_new_one_can_join(rooms: Running) -> None:
    async with client(rooms) as made:
        channel = made.channel("room:door")
        states = await subscribed(channel)
        channel.subscribe_callback = lambda state, error: states.append((state, str(error or "")))
        await channel.unsubscribe()
        await until("the close", lambda: channel.is_closed)
        assert states[-1][0] == "CLOSED"
        assert (await subscribed(made.channel("room:door")))[0][0] == "SUBSCRIBED"


@pytest.mark.parametrize(
    ("topic", "event"), [("telemetry:metrics", "metric"), ("chart:prices", "price_tick")]
)
async def test_a_built_in_topic_is_joined_and_its_events_arrive(
    topic: str, event: str, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    async with client(running) as made:
        # `channel()` would prefix the topic; the channel itself takes it as it is.
        channel = AsyncRealtimeChannel(made, topic)
        made.channels[topic] = channel
        with caplog.at_level(logging.ERROR, logger="realtime"):
            assert await subscribed(channel) == [(RealtimeSubscribeStates.SUBSCRIBED, "")]
            await until(event, lambda: f'"event":"{event}"' in caplog.text)
        assert channel.is_joined
        await asyncio.wait_for(channel.unsubscribe(), WITHIN)
