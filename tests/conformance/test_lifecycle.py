"""Heartbeats and joins: each rule of the protocol as a transcript, frame for frame.

Serializer 2.0.0, text. What the binary form and serializer 1.0.0 do differently is in
``test_frames.py``; where moda differs from Phoenix on purpose, ``docs/wire.md`` says so and the
test's name does.
"""

from __future__ import annotations

import pytest

from phoenix import OK, UNMATCHED, error

from .app import build

CLOSE = "phx_close"
REPLY = "phx_reply"


# -- heartbeat and what belongs to nobody


async def test_a_heartbeat_needs_no_join_and_its_reply_has_no_join_ref(running, connect):
    client = await connect(running)
    await client.send("whatever", "7", "phoenix", "heartbeat", {"any": "payload"})
    await client.expect(None, "7", "phoenix", REPLY, OK)


async def test_the_phoenix_topic_is_otherwise_one_that_nobody_serves(running, connect):
    client = await connect(running)
    await client.send(None, "1", "phoenix", "ping", {})
    await client.expect(None, "1", "phoenix", REPLY, UNMATCHED)
    await client.send("2", "2", "phoenix", "phx_join", {})
    await client.expect(None, "2", "phoenix", REPLY, UNMATCHED)
    await client.send("2", "3", "phoenix", "phx_leave", {})
    await client.expect("2", "3", "phoenix", REPLY, OK)  # as any topic that is not joined


async def test_joining_a_topic_without_a_route_is_unmatched_and_drops_the_join_ref(
    running, connect
):
    client = await connect(running)
    await client.send("1", "1", "nobody:home", "phx_join", {})
    await client.expect(None, "1", "nobody:home", REPLY, UNMATCHED)


async def test_an_event_on_a_topic_not_joined_is_unmatched(running, connect):
    client = await connect(running)
    await client.send("1", "9", "room:a", "echo", {})
    await client.expect(None, "9", "room:a", REPLY, UNMATCHED)


# -- join


async def test_a_join_is_answered_with_both_refs_and_an_empty_response(running, connect):
    client = await connect(running)
    await client.send("11", "1", "room:a", "phx_join", {})
    await client.expect("11", "1", "room:a", REPLY, OK)


async def test_what_join_returns_is_the_response(running, connect):
    client = await connect(running)
    for ref, answer in enumerate(({"n": [1, 2]}, [1, None], "text", 5, False)):
        await client.send(str(ref), str(ref), f"room:{ref}", "phx_join", {"answer": answer})
        await client.expect(
            str(ref), str(ref), f"room:{ref}", REPLY, {"status": "ok", "response": answer}
        )


async def test_the_join_reply_comes_before_what_joined_pushes(running, connect):
    client = await connect(running)
    await client.send("4", "4", "room:pushes", "phx_join", {})
    await client.expect("4", "4", "room:pushes", REPLY, OK)
    await client.expect("4", None, "room:pushes", "welcome", {"first": True})


async def test_a_join_reply_comes_before_a_broadcast_made_after_it(running, connect):
    client = await connect(running)
    other = await connect(running)
    await other.join("room:a")
    await client.send("1", "1", "room:a", "phx_join", {})
    await client.expect("1", "1", "room:a", REPLY, OK)
    await other.send("1", "2", "room:a", "shout", {"n": 1})
    await client.expect(None, None, "room:a", "said", {"n": 1})


async def test_nothing_published_before_a_join_is_heard_by_it(running, house, connect):
    client = await connect(running)
    for n in range(20):
        house.gateway.broadcast("room:a", "said", {"n": n})
    await client.join("room:a")
    await client.silence()


async def test_a_refused_join_gets_an_error_reply_and_nothing_else(running, house, connect):
    client = await connect(running)
    await client.send("1", "1", "room:a", "phx_join", {"refuse": "full"})
    await client.expect("1", "1", "room:a", REPLY, error("full"))
    await client.send("2", "2", "room:a", "phx_join", {"refuse": {"reason": "full", "limit": 5}})
    await client.expect(
        "2", "2", "room:a", REPLY, {"status": "error", "response": {"reason": "full", "limit": 5}}
    )
    await client.silence()
    await client.send("2", "3", "room:a", "echo", {})
    await client.expect(None, "3", "room:a", REPLY, UNMATCHED)
    await client.join("room:a", ref="4")
    assert house.ended == []


async def test_a_join_that_crashes_says_so_and_the_socket_stays(running, house, connect):
    client = await connect(running)
    await client.send("1", "1", "room:a", "phx_join", {"crash": "a bug"})
    await client.expect("1", "1", "room:a", REPLY, error("join crashed"))
    await client.silence()
    await client.join("room:a", ref="2")
    assert house.ended == []


async def test_joining_with_a_null_join_ref_lends_the_ref_to_pushes_but_not_to_the_end(
    running, connect
):
    client = await connect(running)
    await client.send(None, "5", "room:a", "phx_join", {})
    await client.expect(None, "5", "room:a", REPLY, OK)
    await client.send(None, "6", "room:a", "push", {"event": "e", "payload": {}})
    await client.expect("5", None, "room:a", "e", {})
    await client.send(None, "7", "room:a", "echo", {"n": 1})
    await client.expect("5", "7", "room:a", REPLY, {"status": "ok", "response": {"n": 1}})
    await client.send("5", "8", "room:a", "echo", {})
    await client.silence()  # the stored join_ref is null: 5 is stale
    await client.send(None, "9", "room:a", "phx_leave", {})
    await client.expect("5", "9", "room:a", REPLY, OK)
    await client.expect(None, None, "room:a", CLOSE, {})


async def test_a_crash_after_a_join_with_a_null_join_ref_carries_null_too(running, connect):
    client = await connect(running)
    await client.send(None, "5", "room:a", "phx_join", {})
    await client.expect(None, "5", "room:a", REPLY, OK)
    await client.send(None, "6", "room:a", "crash", {})
    await client.expect(None, None, "room:a", "phx_error", {"reason": "channel_crash"})


async def test_messages_behind_a_join_that_is_refused_are_unmatched(running, connect):
    client = await connect(running)
    await client.send("4", "4", "room:b", "phx_join", {"refuse": "no"})
    await client.send("4", "5", "room:b", "echo", {})
    await client.expect("4", "4", "room:b", REPLY, error("no"))
    await client.expect(None, "5", "room:b", REPLY, UNMATCHED)
    await client.silence()


# -- joining again


async def test_a_second_join_replaces_the_first_and_the_old_close_follows_the_new_reply(
    running, house, connect
):
    client = await connect(running)
    await client.send("1", "1", "room:pushes", "phx_join", {})
    await client.expect("1", "1", "room:pushes", REPLY, OK)
    await client.expect("1", None, "room:pushes", "welcome", {"first": True})
    await client.send("2", "3", "room:pushes", "phx_join", {})
    await client.expect("2", "3", "room:pushes", REPLY, OK)
    await client.expect("1", "1", "room:pushes", CLOSE, {})
    await client.expect("2", None, "room:pushes", "welcome", {"first": True})
    await client.silence()
    assert await house.goodbyes() == [("room:pushes", "replaced")]
    assert running.stats["channels"] == 1


@pytest.mark.parametrize(
    ("payload", "reason"), [({"refuse": "no"}, "no"), ({"crash": "bug"}, "join crashed")]
)
async def test_a_second_join_that_fails_still_ends_the_first(running, connect, payload, reason):
    client = await connect(running)
    await client.join("room:a")
    await client.send("2", "2", "room:a", "phx_join", payload)
    await client.expect("2", "2", "room:a", REPLY, error(reason))
    await client.expect("1", "1", "room:a", CLOSE, {})
    await client.send("1", "3", "room:a", "echo", {})
    await client.expect(None, "3", "room:a", REPLY, UNMATCHED)


async def test_a_join_behind_an_undecided_one_waits_for_its_own_answer(running, house, connect):
    client = await connect(running)
    await client.send("1", "1", "room:a", "phx_join", {"wait": {}})
    await house.waiting.wait()
    await client.send("2", "2", "room:a", "phx_join", {"answer": {"n": 2}})
    await client.silence()
    house.gate.set()
    await client.expect("1", "1", "room:a", REPLY, OK)
    await client.expect("2", "2", "room:a", REPLY, {"status": "ok", "response": {"n": 2}})
    await client.expect("1", "1", "room:a", CLOSE, {})
    assert await house.goodbyes() == [("room:a", "replaced")]


async def test_a_leave_behind_an_undecided_join_follows_its_answer(running, house, connect):
    client = await connect(running)
    await client.send("1", "1", "room:a", "phx_join", {"wait": {}})
    await house.waiting.wait()
    await client.send("1", "2", "room:a", "echo", {"n": 1})
    await client.send("1", "3", "room:a", "phx_leave", {})
    await client.silence()
    house.gate.set()
    await client.expect("1", "1", "room:a", REPLY, OK)
    await client.expect("1", "2", "room:a", REPLY, {"status": "ok", "response": {"n": 1}})
    await client.expect("1", "3", "room:a", REPLY, OK)
    await client.expect("1", "1", "room:a", CLOSE, {})
    assert await house.goodbyes() == [("room:a", "left")]


async def test_messages_of_the_old_join_are_stale_after_the_new_one(running, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.join("room:a", ref="2")
    await client.expect("1", "1", "room:a", CLOSE, {})
    await client.send("1", "3", "room:a", "echo", {})
    await client.silence()
    await client.send("2", "4", "room:a", "echo", {})
    await client.expect("2", "4", "room:a", REPLY, OK)


async def test_a_leave_followed_by_a_join_leaves_and_joins(running, house, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "phx_leave", {})
    await client.send("3", "3", "room:a", "phx_join", {})
    await client.expect("1", "2", "room:a", REPLY, OK)
    await client.expect("1", "1", "room:a", CLOSE, {})
    await client.expect("3", "3", "room:a", REPLY, OK)
    await client.silence()
    assert await house.goodbyes() == [("room:a", "left")]


async def test_a_join_behind_a_leave_that_waits_for_a_handler_replaces_the_leaving_channel(
    running, house, connect
):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "wait", {})
    await client.send("1", "3", "room:a", "phx_leave", {})
    await client.send("4", "4", "room:a", "phx_join", {})
    await client.expect("4", "4", "room:a", REPLY, OK)
    await client.expect("1", "1", "room:a", CLOSE, {})
    await client.silence()
    assert await house.goodbyes() == [("room:a", "replaced")]


# -- the cap


async def test_a_hundred_channels_fit_one_socket_and_the_next_is_told(running, connect):
    client = await connect(running)
    for n in range(100):
        await client.join(f"room:{n}", ref=str(n))
    await client.send("100", "100", "room:one more", "phx_join", {})
    await client.expect("100", "100", "room:one more", REPLY, error("too many channels joined"))
    await client.silence()


async def test_a_second_join_of_a_joined_topic_needs_no_place_of_its_own(serve, connect):
    running = await serve(build(max_channels=2).gateway)
    client = await connect(running)
    await client.join("room:a", ref="1")
    await client.join("room:b", ref="2")
    await client.join("room:a", ref="3")
    await client.expect("1", "1", "room:a", CLOSE, {})
    await client.send("4", "4", "room:c", "phx_join", {})
    await client.expect("4", "4", "room:c", REPLY, error("too many channels joined"))
    await client.send("2", "5", "room:b", "phx_leave", {})
    await client.expect("2", "5", "room:b", REPLY, OK)
    await client.expect("2", "2", "room:b", CLOSE, {})
    await client.join("room:c", ref="6")


async def test_joins_under_way_count_for_the_cap(serve, connect):
    house = build(max_channels=2)
    client = await connect(await serve(house.gateway))
    await client.send("1", "1", "room:a", "phx_join", {"wait": {}})
    await client.send("2", "2", "room:b", "phx_join", {"wait": {}})
    await client.send("3", "3", "room:c", "phx_join", {})
    await client.expect("3", "3", "room:c", REPLY, error("too many channels joined"))
    house.gate.set()
    await client.expect("1", "1", "room:a", REPLY, OK)
    await client.expect("2", "2", "room:b", REPLY, OK)
