"""Events, their replies, and leaving: each rule of the protocol as a transcript, frame for frame."""

from __future__ import annotations

import asyncio

import pytest

from moda import Channel, Gateway
from phoenix import OK, UNMATCHED, error

CLOSE = "phx_close"
REPLY = "phx_reply"


# -- events and replies


async def test_an_event_with_the_joins_ref_or_with_null_is_handled(running, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "echo", {"n": 1})
    await client.expect("1", "2", "room:a", REPLY, {"status": "ok", "response": {"n": 1}})
    await client.send(None, "3", "room:a", "echo", {"n": 2})
    await client.expect("1", "3", "room:a", REPLY, {"status": "ok", "response": {"n": 2}})


async def test_a_stale_event_is_dropped_without_an_answer_and_counted(running, connect):
    client = await connect(running)
    await client.join("room:a", ref="2")
    for stale in ("1", 2, "", [2]):
        await client.send(stale, "3", "room:a", "echo", {})
    await client.silence()
    assert running.stats["stale"] == 4


async def test_a_reply_has_any_status_and_any_response(running, connect):
    client = await connect(running)
    await client.join("room:a")
    for status, response in (("error", None), ("é☃", [1, "2"]), ("", {"deep": {"er": []}})):
        answer = {"status": status, "response": response}
        await client.send("1", "2", "room:a", "reply", answer)
        await client.expect("1", "2", "room:a", REPLY, answer)
    await client.send("1", "3", "room:a", "status_only", {})
    await client.expect("1", "3", "room:a", REPLY, {"status": "accepted", "response": {}})


async def test_a_handler_that_does_not_reply_sends_nothing(running, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "nothing", {})
    await client.send("1", "3", "room:a", "echo", {"fence": True})
    await client.expect("1", "3", "room:a", REPLY, {"status": "ok", "response": {"fence": True}})


async def test_a_message_without_a_ref_gets_its_direct_reply_with_ref_null(running, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", None, "room:a", "echo", {"n": 1})
    await client.expect("1", None, "room:a", REPLY, {"status": "ok", "response": {"n": 1}})


async def test_a_deferred_reply_to_a_message_without_a_ref_is_a_crash(running, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", None, "room:a", "deferred", {})
    await client.expect("1", "1", "room:a", "phx_error", {"reason": "channel_crash"})


async def test_several_replies_to_one_ref_go_out_as_they_are_made(running, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "twice", {})
    await client.expect("1", "2", "room:a", REPLY, {"status": "ok", "response": {"n": 1}})
    await client.expect("1", "2", "room:a", REPLY, {"status": "late", "response": {"n": 2}})


async def test_a_deferred_reply_arrives_while_later_messages_are_answered(running, house, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "deferred", {})
    await client.send("1", "3", "room:a", "echo", {})
    await client.expect("1", "3", "room:a", REPLY, OK)
    house.gate.set()
    await client.expect("1", "2", "room:a", REPLY, {"status": "ok", "response": {"deferred": True}})


async def test_a_deferred_reply_dies_with_its_channel(running, house, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "deferred", {})
    await house.waiting.wait()
    await client.send("1", "3", "room:a", "phx_leave", {})
    await client.expect("1", "3", "room:a", REPLY, OK)
    await client.expect("1", "1", "room:a", CLOSE, {})
    house.gate.set()
    await client.silence()


@pytest.mark.parametrize("event", ["phx_reply", "phx_close", "phx_error", "heartbeat"])
async def test_events_that_are_special_on_the_way_out_are_an_applications_on_the_way_in(
    running, connect, event
):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", event, {})
    await client.expect("1", "1", "room:a", "phx_error", {"reason": "channel_crash"})


async def test_messages_of_one_channel_are_handled_one_at_a_time_in_order(running, house, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "wait", {"n": 0})
    for n in range(3, 10):
        await client.send("1", str(n), "room:a", "echo", {"n": n})
    await house.waiting.wait()
    await client.silence()
    house.gate.set()
    await client.expect("1", "2", "room:a", REPLY, {"status": "ok", "response": {"n": 0}})
    for n in range(3, 10):
        await client.expect("1", str(n), "room:a", REPLY, {"status": "ok", "response": {"n": n}})


# -- leave


@pytest.mark.parametrize("join_ref", ["1", None])
async def test_a_leave_is_answered_and_then_closed(running, house, connect, join_ref):
    client = await connect(running)
    await client.join("room:a")
    await client.send(join_ref, "2", "room:a", "phx_leave", {"any": 1})
    await client.expect("1", "2", "room:a", REPLY, OK)
    await client.expect("1", "1", "room:a", CLOSE, {})
    await client.silence()  # what leave() pushes has nobody to go to
    assert await house.goodbyes() == [("room:a", "left")]


async def test_a_stale_leave_is_ignored_and_the_channel_stays_joined(running, house, connect):
    client = await connect(running)
    await client.join("room:a", ref="2")
    await client.send("1", "3", "room:a", "phx_leave", {})
    await client.silence()
    await client.send("2", "4", "room:a", "echo", {})
    await client.expect("2", "4", "room:a", REPLY, OK)
    assert house.ended == []


async def test_leaving_a_topic_not_joined_is_answered_with_the_join_ref_as_sent_and_no_close(
    running, connect
):
    client = await connect(running)
    for join_ref in ("8", None, 8):
        await client.send(join_ref, "9", "room:a", "phx_leave", {})
        await client.expect(join_ref, "9", "room:a", REPLY, OK)
    await client.send("8", "9", "no route", "phx_leave", {})
    await client.expect("8", "9", "no route", REPLY, OK)
    await client.silence()


async def test_messages_sent_before_a_leave_are_handled_before_it(running, house, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "wait", {})
    await client.send("1", "3", "room:a", "echo", {})
    await client.send("1", "4", "room:a", "phx_leave", {})
    await house.waiting.wait()
    house.gate.set()
    await client.expect("1", "2", "room:a", REPLY, OK)
    await client.expect("1", "3", "room:a", REPLY, OK)
    await client.expect("1", "4", "room:a", REPLY, OK)
    await client.expect("1", "1", "room:a", CLOSE, {})


async def test_what_is_sent_behind_a_leave_and_before_its_close_meets_silence(
    running, house, connect
):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "wait", {})
    await client.send("1", "3", "room:a", "phx_leave", {})
    await client.send("1", "4", "room:a", "echo", {})
    await client.send("1", "5", "room:a", "phx_leave", {})
    await house.waiting.wait()
    await client.silence()
    house.gate.set()
    await client.expect("1", "2", "room:a", REPLY, OK)
    await client.expect("1", "3", "room:a", REPLY, OK)
    await client.expect("1", "1", "room:a", CLOSE, {})
    await client.send("1", "6", "room:a", "echo", {})
    await client.expect(None, "6", "room:a", REPLY, UNMATCHED)


async def test_a_client_may_leave_while_its_join_is_decided(running, house, connect):
    client = await connect(running)
    await client.send("1", "1", "room:a", "phx_join", {"wait": {}})
    await house.waiting.wait()
    await client.send("1", "2", "room:a", "phx_leave", {})
    await client.silence()
    house.gate.set()
    await client.expect("1", "1", "room:a", REPLY, OK)
    await client.expect("1", "2", "room:a", REPLY, OK)
    await client.expect("1", "1", "room:a", CLOSE, {})
    assert await house.goodbyes() == [("room:a", "left")]


async def test_a_leave_during_joined_waits_for_it(serve, connect):
    gate = asyncio.Event()
    gateway = Gateway(builtins=False)

    @gateway.channel("room:{name}")
    class Slow(Channel):
        async def joined(self) -> None:
            self.push("before", {})
            await gate.wait()
            self.push("after", {})

    client = await connect(await serve(gateway))
    await client.join("room:a")
    await client.expect("1", None, "room:a", "before", {})
    await client.send("1", "2", "room:a", "phx_leave", {})
    await client.silence()
    gate.set()
    await client.expect("1", None, "room:a", "after", {})
    await client.expect("1", "2", "room:a", REPLY, OK)
    await client.expect("1", "1", "room:a", CLOSE, {})


# -- push-only topics


async def test_a_stream_answers_its_join_with_topic_and_params(running, connect):
    client = await connect(running)
    assert await client.join("ticker:btc") == {"topic": "ticker:btc", "params": {"name": "btc"}}


async def test_a_stream_refuses_and_crashes_as_a_channel_does(running, connect):
    client = await connect(running)
    await client.send("1", "1", "ticker:a", "phx_join", {"refuse": "full"})
    await client.expect("1", "1", "ticker:a", REPLY, error("full"))
    await client.send("2", "2", "ticker:a", "phx_join", {"crash": "bug"})
    await client.expect("2", "2", "ticker:a", REPLY, error("join crashed"))


async def test_a_message_to_a_stream_is_answered_by_the_engine(running, connect):
    client = await connect(running)
    await client.join("ticker:a")
    await client.send("1", "2", "ticker:a", "anything", {})
    await client.expect("1", "2", "ticker:a", REPLY, error("push-only topic"))
    await client.send("1", None, "ticker:a", "anything", {})
    await client.silence()


async def test_a_stream_is_left_like_any_channel(running, connect):
    client = await connect(running)
    await client.join("ticker:a")
    await client.send("1", "2", "ticker:a", "phx_leave", {})
    await client.expect("1", "2", "ticker:a", REPLY, OK)
    await client.expect("1", "1", "ticker:a", CLOSE, {})
