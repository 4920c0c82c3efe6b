"""Old and new clients, text and binary, on one topic."""

from __future__ import annotations

import pytest

from phoenix import OK, binary_push, broadcast, replied


async def test_v1_and_v2_hear_each_other(running, connect, connect_v1):
    new = await connect(running)
    old = await connect_v1(running)
    await new.join("room:a")
    await old.join("room:a")
    await new.send("1", "2", "room:a", "shout_from", {"by": "new"})
    await old.expect("room:a", "said", {"by": "new"}, None)
    await old.send("room:a", "shout_from", {"by": "old"}, "2")
    await new.expect(None, None, "room:a", "said", {"by": "old"})
    await new.silence()
    await old.silence()


async def test_one_broadcast_is_encoded_for_each_kind_of_subscriber(running, connect, connect_v1):
    news = [await connect(running) for _ in range(2)]
    olds = [await connect_v1(running) for _ in range(2)]
    for client in (*news, *olds):
        await client.join("room:a")
    for n in range(10):
        running.gateway.broadcast("room:a", "text", {"n": n, "é": "☃"})
        running.gateway.broadcast("room:a", "bytes", bytes((n,)))
    for client in news:
        for n in range(10):
            await client.expect(None, None, "room:a", "text", {"n": n, "é": "☃"})
            assert await client.receive() == broadcast("room:a", "bytes", bytes((n,)))
    for client in olds:
        for n in range(10):
            await client.expect("room:a", "text", {"n": n, "é": "☃"}, None)
        await client.silence()


async def test_one_client_mixes_text_and_binary_on_one_channel(running, connect):
    client = await connect(running)
    await client.join("room:a", ref="7")
    for n in range(5):
        await client.send("7", f"t{n}", "room:a", "echo", {"n": n})
        await client.write(binary_push("7", f"b{n}", "room:a", "echo", bytes((n,))))
    for n in range(5):
        await client.expect(
            "7", f"t{n}", "room:a", "phx_reply", {"status": "ok", "response": {"n": n}}
        )
        assert await client.receive() == replied("7", f"b{n}", "room:a", "ok", bytes((n,)))


@pytest.mark.parametrize("first", ["v1", "v2"])
async def test_a_codec_is_served_from_the_first_subscriber_to_the_last_that_speaks_it(
    running, connect, connect_v1, first
):
    new = await connect(running)
    old = await connect_v1(running)
    order = [old, new] if first == "v1" else [new, old]
    for client in order:
        await client.join("room:a")
    running.gateway.broadcast("room:a", "n", {"n": 1})
    await new.expect(None, None, "room:a", "n", {"n": 1})
    await old.expect("room:a", "n", {"n": 1}, None)
    leaver, stayer = order
    if leaver is new:
        await new.send("1", "9", "room:a", "phx_leave", {})
        await new.expect("1", "9", "room:a", "phx_reply", OK)
        await new.expect("1", "1", "room:a", "phx_close", {})
    else:
        await old.send("room:a", "phx_leave", {}, "9")
        await old.expect("room:a", "phx_reply", OK, "9")
        await old.expect("room:a", "phx_close", {}, None)
    running.gateway.broadcast("room:a", "n", {"n": 2})
    if stayer is new:
        await new.expect(None, None, "room:a", "n", {"n": 2})
    else:
        await old.expect("room:a", "n", {"n": 2}, None)
    await leaver.silence()
