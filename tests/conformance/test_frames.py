"""What a frame may look like on the way in, and what it looks like on the way out.

Serializer 2.0.0 as text and as binary, serializer 1.0.0; the byte layouts are in ``docs/wire.md``.
"""

from __future__ import annotations

import pytest

from phoenix import OK, UNMATCHED, binary_push, error, pushed, replied

REPLY = "phx_reply"

# -- V2 text


async def test_elements_past_the_fifth_are_ignored(running, connect):
    client = await connect(running)
    await client.send(None, "1", "phoenix", "heartbeat", {}, "sixth", ["seventh"])
    await client.expect(None, "1", "phoenix", REPLY, OK)


async def test_white_space_and_escapes_change_nothing(running, connect):
    client = await connect(running)
    await client.write(
        ' [ "1" ,\n"1", "room:\\u0061"\t, "phx_join" , {"answer": {"x" : "\\u00e9"}} ] '
    )
    await client.expect("1", "1", "room:a", REPLY, {"status": "ok", "response": {"x": "é"}})
    await client.send("\u0031", "2", "room:a", "echo", {})
    await client.expect("1", "2", "room:a", REPLY, OK)


@pytest.mark.parametrize("ref", [1, 1.5, True, ["a"], {"b": 1}, "", "☃", '"quoted"', None])
async def test_a_ref_comes_back_as_the_term_it_was(running, connect, ref):
    client = await connect(running)
    await client.send("1", ref, "room:a", "phx_join", {})
    await client.expect("1", ref, "room:a", REPLY, OK)
    await client.send("1", ref, "room:a", "echo", {})
    await client.expect("1", ref, "room:a", REPLY, OK)


@pytest.mark.parametrize(("joined", "sent"), [(1, "1"), ("1", 1), (1, 1.0), ("", None)])
async def test_join_refs_are_compared_strictly(running, connect, joined, sent):
    client = await connect(running)
    await client.send(joined, "1", "room:a", "phx_join", {})
    await client.expect(joined, "1", "room:a", REPLY, OK)
    await client.send(sent, "2", "room:a", "echo", {})
    if sent is None:
        await client.expect(joined, "2", "room:a", REPLY, OK)
    await client.silence()


@pytest.mark.parametrize("topic", [5, None, ["room:a"], {}, True])
async def test_a_topic_that_is_no_string_matches_nothing_and_comes_back(running, connect, topic):
    client = await connect(running)
    for event in ("phx_join", "echo", "heartbeat"):
        await client.send("1", "2", topic, event, {})
        await client.expect(None, "2", topic, REPLY, UNMATCHED)


@pytest.mark.parametrize("payload", [None, [], [1, {"a": None}], "text", 0, -1.5, True, ""])
async def test_an_inbound_payload_may_be_any_json_value(running, connect, payload):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "reply", {"status": "ok", "response": {"p": payload}})
    await client.expect("1", "2", "room:a", REPLY, {"status": "ok", "response": {"p": payload}})
    await client.send("1", "3", "room:a", "echo", payload)
    await client.expect("1", "3", "room:a", REPLY, {"status": "ok", "response": payload})


async def test_a_payload_python_cannot_hold_is_one_messages_problem(running, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.write('["1","2","room:a","echo",{"n":1e999}]')
    frame = await client.receive()
    assert frame[:4] == ["1", "2", "room:a", REPLY]
    assert frame[4]["status"] == "error"
    assert frame[4]["response"]["reason"] == "invalid payload"
    await client.write('["3","3","room:b","phx_join",{"n":1e999}]')
    frame = await client.receive()
    assert frame[:4] == ["3", "3", "room:b", REPLY]
    assert frame[4]["response"]["reason"] == "invalid payload"
    await client.send("1", "4", "room:a", "echo", {})
    await client.expect("1", "4", "room:a", REPLY, OK)


async def test_text_beyond_ascii_travels_in_topic_event_and_payload(running, connect):
    client = await connect(running)
    await client.join("room:комната 🚪")
    await client.send(
        "1", "2", "room:комната 🚪", "push", {"event": 'привет\n"', "payload": {"é": "\u2028"}}
    )
    await client.expect("1", None, "room:комната 🚪", 'привет\n"', {"é": "\u2028"})


async def test_a_topic_of_more_than_255_bytes_works_as_text_and_crashes_its_channel_as_binary(
    running, connect
):
    client = await connect(running)
    topic = "room:" + "a" * 251
    await client.join(topic)
    await client.send("1", "2", topic, "shout", {"n": 1})
    await client.expect(None, None, topic, "said", {"n": 1})
    await client.send("1", "3", topic, "push_bytes", {"event": "e", "hex": "00"})
    await client.expect("1", "1", topic, "phx_error", {"reason": "channel_crash"})


async def test_a_topic_join_ref_or_ref_past_a_kilobyte_is_refused(running, connect):
    client = await connect(running)
    too_long = error("topic, join_ref or ref too long")
    topic = "room:" + "a" * 1020
    await client.send("1", "1", topic, "phx_join", {})
    await client.expect(None, "1", topic, REPLY, too_long)
    for join_ref, ref in (("x" * 1025, "1"), ("1", "x" * 1025)):
        await client.send(join_ref, ref, "room:a", "phx_join", {})
        await client.expect(None, ref, "room:a", REPLY, too_long)
    await client.join("room:" + "a" * 1019)


# -- V2 binary


async def test_a_binary_push_reaches_the_handler_as_bytes_and_a_bytes_reply_is_binary(
    running, connect
):
    client = await connect(running)
    await client.join("room:a", ref="12")
    await client.write(binary_push("12", "123", "room:a", "echo", b"\x00\xff\x01"))
    assert await client.receive() == replied("12", "123", "room:a", "ok", b"\x00\xff\x01")


async def test_the_golden_layouts(running, connect):
    client = await connect(running)
    await client.join("room:ü", ref="12")
    await client.write(
        bytes.fromhex("00 02 03 07 04 3132 313233 726f6f6d3ac3bc 6563686f 656667".replace(" ", ""))
    )
    assert await client.receive() == bytes.fromhex(
        "01 02 03 07 02 3132 313233 726f6f6d3ac3bc 6f6b 656667".replace(" ", "")
    )
    await client.send("12", "1", "room:ü", "push_bytes", {"event": "é", "hex": "0a0b"})
    assert await client.receive() == bytes.fromhex(
        "00 02 07 02 3132 726f6f6d3ac3bc c3a9 0a0b".replace(" ", "")
    )
    await client.send("12", "2", "room:ü", "shout_bytes", {"hex": "0c"})
    assert await client.receive() == bytes.fromhex(
        "02 07 04 726f6f6d3ac3bc 73616964 0c".replace(" ", "")
    )


async def test_binary_data_may_be_empty_and_may_be_large(running, connect):
    client = await connect(running)
    await client.join("room:a")
    for data in (b"", bytes(range(256)) * 400):
        await client.write(binary_push("1", "2", "room:a", "echo", data))
        assert await client.receive() == replied("1", "2", "room:a", "ok", data)


async def test_a_binary_reply_carries_its_status_and_a_null_ref_as_nothing(running, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "reply_bytes", {"status": "partial", "hex": "01"})
    assert await client.receive() == replied("1", "2", "room:a", "partial", b"\x01")
    await client.send("1", None, "room:a", "reply_bytes", {"status": "ok", "hex": "02"})
    assert await client.receive() == replied("1", "", "room:a", "ok", b"\x02")


async def test_a_join_may_be_answered_in_binary(running, connect):
    client = await connect(running)
    await client.send("1", "1", "room:a", "phx_join", {"bytes": "00ff"})
    assert await client.receive() == replied("1", "1", "room:a", "ok", b"\x00\xff")
    await client.send("2", "2", "ticker:a", "phx_join", {"bytes": "01"})
    assert await client.receive() == replied("2", "2", "ticker:a", "ok", b"\x01")
    await client.send("1", "3", "room:a", "echo", {})
    await client.expect("1", "3", "room:a", REPLY, OK)


async def test_join_leave_and_heartbeat_work_as_binary_and_are_answered_in_text(running, connect):
    client = await connect(running)
    await client.write(binary_push("", "7", "phoenix", "heartbeat", b"rubbish"))
    await client.expect(None, "7", "phoenix", REPLY, OK)
    await client.write(binary_push("1", "1", "room:a", "phx_join", b"raw join payload"))
    await client.expect("1", "1", "room:a", REPLY, OK)
    await client.write(binary_push("1", "2", "nowhere", "e", b""))
    await client.expect(None, "2", "nowhere", REPLY, UNMATCHED)
    await client.write(binary_push("1", "3", "room:a", "phx_leave", b""))
    await client.expect("1", "3", "room:a", REPLY, OK)
    await client.expect("1", "1", "room:a", "phx_close", {})


async def test_empty_binary_refs_are_empty_strings_and_not_null(running, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.write(binary_push("", "2", "room:a", "echo", b""))
    await client.silence()
    await client.write(binary_push("1", "", "room:a", "echo", b"x"))
    assert await client.receive() == replied("1", "", "room:a", "ok", b"x")


async def test_a_join_with_a_number_as_join_ref_makes_binary_messages_stale(running, connect):
    client = await connect(running)
    await client.send(1, "1", "room:a", "phx_join", {})
    await client.expect(1, "1", "room:a", REPLY, OK)
    await client.write(binary_push("1", "2", "room:a", "echo", b""))
    await client.silence()
    assert running.stats["stale"] == 1
    await client.send(1, "3", "room:a", "push_bytes", {"event": "e", "hex": "00"})
    assert await client.receive() == pushed("1", "room:a", "e", b"\x00")


async def test_an_event_of_more_than_255_bytes_crashes_the_channel_that_pushes_it(running, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "push_bytes", {"event": "e" * 256, "hex": "00"})
    await client.expect("1", "1", "room:a", "phx_error", {"reason": "channel_crash"})
    await client.join("room:a", ref="3")
    await client.send("3", "4", "room:a", "reply_bytes", {"status": "s" * 256, "hex": "00"})
    await client.expect("3", "3", "room:a", "phx_error", {"reason": "channel_crash"})


# -- V1


async def test_v1_is_what_a_client_without_vsn_speaks(running, connect_v1):
    client = await connect_v1(running)
    await client.send("phoenix", "heartbeat", {}, "7")
    await client.expect("phoenix", REPLY, OK, "7")
    await client.join("room:a", ref="1")
    await client.send("room:a", "echo", {"n": 1}, "2")
    await client.expect("room:a", REPLY, {"status": "ok", "response": {"n": 1}}, "2")
    await client.send("room:a", "push", {"event": "e", "payload": {"n": 2}}, "3")
    await client.expect("room:a", "e", {"n": 2}, None)
    await client.send("room:a", "shout", {"n": 3}, "4")
    await client.expect("room:a", "said", {"n": 3}, None)


async def test_v1_leaves_and_its_close_tells_the_join_ref_as_ref_when_there_was_one(
    running, connect_v1
):
    client = await connect_v1(running)
    await client.join("room:a", ref="1")
    await client.send("room:a", "phx_leave", {}, "2")
    await client.expect("room:a", REPLY, OK, "2")
    await client.expect("room:a", "phx_close", {}, None)
    await client.send("room:a", "phx_join", {}, "3", join_ref="3")
    await client.expect("room:a", REPLY, OK, "3")
    await client.send("room:a", "phx_leave", {}, "4", join_ref="3")
    await client.expect("room:a", REPLY, OK, "4")
    await client.expect("room:a", "phx_close", {}, "3")


async def test_v1_drops_a_stale_join_ref_and_reports_a_crash(running, connect_v1):
    client = await connect_v1(running)
    await client.send("room:a", "phx_join", {}, "1", join_ref="1")
    await client.expect("room:a", REPLY, OK, "1")
    await client.send("room:a", "echo", {}, "2", join_ref="0")
    await client.silence()
    await client.send("room:a", "crash", {}, "3", join_ref="1")
    await client.expect("room:a", "phx_error", {"reason": "channel_crash"}, "1")


async def test_v1_joins_again_and_hears_of_errors(running, connect_v1):
    client = await connect_v1(running)
    await client.send("nobody:home", "phx_join", {}, "1")
    await client.expect("nobody:home", REPLY, UNMATCHED, "1")
    await client.send("room:a", "phx_join", {"refuse": "full"}, "2")
    await client.expect("room:a", REPLY, error("full"), "2")
    await client.join("room:a", ref="3")
    await client.join("room:a", ref="4")
    await client.expect("room:a", "phx_close", {}, None)
    await client.send("room:a", "echo", {}, "5")
    await client.expect("room:a", REPLY, OK, "5")


@pytest.mark.parametrize("event", ["push_bytes", "reply_bytes"])
async def test_binary_for_a_v1_client_crashes_the_channel_that_sends_it(running, connect_v1, event):
    client = await connect_v1(running)
    await client.join("room:a")
    await client.send("room:a", event, {"event": "e", "status": "ok", "hex": "00"}, "2")
    await client.expect("room:a", "phx_error", {"reason": "channel_crash"}, None)


@pytest.mark.parametrize("topic", ["room:a", "ticker:a"])
async def test_a_binary_join_answer_to_a_v1_client_is_a_crashed_join(running, connect_v1, topic):
    client = await connect_v1(running)
    await client.send(topic, "phx_join", {"bytes": "00"}, "1")
    await client.expect(topic, REPLY, error("join crashed"), "1")
    await client.silence()
