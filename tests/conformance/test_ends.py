"""Channels that end from the server's side, and what their end leaves standing."""

from __future__ import annotations

import asyncio

import pytest

from moda import Channel, Gateway
from phoenix import CRASHED, OK, UNMATCHED, PhoenixV1
from raw import TEXT, Raw, frame

REPLY = "phx_reply"
CLOSE = "phx_close"
ERROR = "phx_error"


@pytest.mark.parametrize("reason", ["normal", "shutdown"])
async def test_a_normal_stop_closes_and_the_topic_is_free(running, house, connect, reason):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "stop", {"reason": reason})
    await client.expect("1", "1", "room:a", CLOSE, {})
    await client.send("1", "3", "room:a", "echo", {})
    await client.expect(None, "3", "room:a", REPLY, UNMATCHED)
    await client.join("room:a", ref="4")
    assert await house.goodbyes() == [("room:a", reason)]


async def test_any_other_stop_is_an_error_that_the_client_joins_again_after(
    running, house, connect
):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "stop", {"reason": "moved"})
    await client.expect("1", "1", "room:a", ERROR, CRASHED)
    await client.silence()
    assert await house.goodbyes() == [("room:a", "moved")]


@pytest.mark.parametrize(
    ("reason", "event", "payload"), [("normal", CLOSE, {}), ("moved", ERROR, CRASHED)]
)
async def test_a_stop_with_a_reply_replies_first(running, connect, reason, event, payload):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "stop", {"reason": reason, "reply": {"bye": 1}})
    await client.expect("1", "2", "room:a", REPLY, {"status": "ok", "response": {"bye": 1}})
    await client.expect("1", "1", "room:a", event, payload)


async def test_a_crash_is_told_without_a_reply_and_everything_else_lives(running, house, connect):
    client = await connect(running)
    other = await connect(running)
    await client.join("room:a", ref="1")
    await client.join("room:b", ref="2")
    await other.join("room:a")
    await client.send("1", "3", "room:a", "crash", {})
    await client.expect("1", "1", "room:a", ERROR, CRASHED)
    await client.send("2", "4", "room:b", "echo", {})
    await client.expect("2", "4", "room:b", REPLY, OK)
    await other.send("1", "2", "room:a", "shout", {"n": 1})
    await other.expect(None, None, "room:a", "said", {"n": 1})
    await client.send("1", "5", "room:a", "echo", {})
    await client.expect(None, "5", "room:a", REPLY, UNMATCHED)
    await client.join("room:a", ref="6")
    assert await house.goodbyes() == [("room:a", "crash")]


async def test_an_event_without_a_clause_is_a_crash(running, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "no such event", {})
    await client.expect("1", "1", "room:a", ERROR, CRASHED)


async def test_a_crash_of_spawned_work_is_the_channels_crash(running, house, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "crash_beside", {})
    await client.expect("1", "1", "room:a", ERROR, CRASHED)
    await client.silence()
    assert await house.goodbyes() == [("room:a", "crash")]


async def test_a_cancellation_nobody_asked_for_is_a_crash_and_not_a_channel_that_hangs(
    running, house, connect
):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "cancel", {})
    await client.expect("1", "1", "room:a", ERROR, CRASHED)
    assert await house.goodbyes() == [("room:a", "crash")]


async def test_messages_behind_the_one_that_crashed_are_not_handled(running, house, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "wait", {})
    await client.send("1", "3", "room:a", "crash", {})
    await client.send("1", "4", "room:a", "echo", {})
    await house.waiting.wait()
    house.gate.set()
    await client.expect("1", "2", "room:a", REPLY, OK)
    await client.expect("1", "1", "room:a", ERROR, CRASHED)
    await client.silence()


async def test_a_broadcast_is_not_heard_by_a_channel_that_has_ended(running, house, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "crash", {})
    await client.expect("1", "1", "room:a", ERROR, CRASHED)
    house.gateway.broadcast("room:a", "said", {})
    await client.silence()
    assert house.gateway.subscribers("room:a") == 0


async def test_a_crash_in_joined_comes_behind_the_join_reply(serve, connect):
    gateway = Gateway(builtins=False)

    @gateway.channel("room")
    class Broken(Channel):
        async def joined(self) -> None:
            self.push("before", {})
            raise RuntimeError("told to")

    client = await connect(await serve(gateway))
    await client.join("room")
    await client.expect("1", None, "room", "before", {})
    await client.expect("1", "1", "room", ERROR, CRASHED)


async def test_a_crash_in_leave_is_seen_by_nobody(serve, connect):
    gateway = Gateway(builtins=False)
    said_goodbye = asyncio.Event()

    @gateway.channel("room")
    class Broken(Channel):
        async def leave(self, reason: str) -> None:
            said_goodbye.set()
            raise RuntimeError("told to")

    client = await connect(await serve(gateway))
    await client.join("room")
    await client.send("1", "2", "room", "phx_leave", {})
    await client.expect("1", "2", "room", REPLY, OK)
    await client.expect("1", "1", "room", CLOSE, {})
    await said_goodbye.wait()
    await client.silence()


async def test_every_way_a_connection_goes_ends_its_channels_as_closed(
    running, house, connect, raw
):
    polite = await connect(running)
    await polite.join("room:polite")
    await polite.close()
    rude = await raw(running)
    await rude.upgrade()
    await join(rude, "room:rude")
    rude.reset()
    half = await raw(running)
    await half.upgrade()
    await join(half, "room:half")
    half.half_close()
    await half.ended()
    assert await house.goodbyes(3) == [
        ("room:half", "closed"),
        ("room:polite", "closed"),
        ("room:rude", "closed"),
    ]


async def test_the_end_of_the_gateway_is_told_to_channels_as_shutdown(serve, connect, house):
    running = await serve(house.gateway)
    client = await connect(running)
    await client.join("room:a")
    ending = asyncio.create_task(running.server.stop())
    assert (await client.closed())[0] == 1012
    await client.close()
    await ending
    assert await house.goodbyes() == [("room:a", "shutdown")]


async def test_v1_hears_of_a_stop_and_of_a_crash(running, connect_v1):
    client: PhoenixV1 = await connect_v1(running)
    await client.send("room:a", "phx_join", {}, "1", join_ref="1")
    await client.expect("room:a", REPLY, OK, "1")
    await client.send("room:a", "stop", {"reason": "normal", "reply": {}}, "2", join_ref="1")
    await client.expect("room:a", REPLY, OK, "2")
    await client.expect("room:a", CLOSE, {}, "1")
    await client.join("room:b", ref="3")
    await client.send("room:b", "crash", {}, "4")
    await client.expect("room:b", ERROR, CRASHED, None)


async def join(client: Raw, topic: str) -> None:
    """A join over a bare connection."""
    await client.send(frame(f'["1","1","{topic}","phx_join",{{}}]'))
    opcode, payload = await client.receive()
    assert opcode == TEXT
    assert b'"status":"ok"' in payload
