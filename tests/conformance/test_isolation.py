"""One channel's trouble is that channel's: not its socket's, not its neighbours'."""

from __future__ import annotations

import asyncio

import pytest

from gateway import until
from moda import Channel, Gateway, Reply, Stream
from moda.hub import Hub
from moda.wire import conversation
from phoenix import CRASHED, OK, error
from raw import CONTINUATION, TEXT, frame, request

REPLY = "phx_reply"


async def test_a_slow_join_blocks_neither_heartbeat_nor_other_channels_nor_pushes_to_them(
    running, house, connect
):
    client = await connect(running)
    await client.join("room:quick")
    await client.send("2", "2", "room:slow", "phx_join", {"wait": {"at": "last"}})
    await house.waiting.wait()
    await client.send(None, "3", "phoenix", "heartbeat", {})
    await client.expect(None, "3", "phoenix", REPLY, OK)
    await client.send("1", "4", "room:quick", "echo", {})
    await client.expect("1", "4", "room:quick", REPLY, OK)
    house.gateway.broadcast("room:quick", "news", {})
    await client.expect(None, None, "room:quick", "news", {})
    await client.join("room:third", ref="5")
    house.gate.set()
    await client.expect("2", "2", "room:slow", REPLY, {"status": "ok", "response": {"at": "last"}})


async def test_a_slow_handler_blocks_its_own_channel_alone(running, house, connect):
    client = await connect(running)
    await client.join("room:a", ref="1")
    await client.join("room:b", ref="2")
    await client.send("1", "3", "room:a", "wait", {})
    await house.waiting.wait()
    await client.send("2", "4", "room:b", "echo", {})
    await client.expect("2", "4", "room:b", REPLY, OK)
    house.gateway.broadcast("room:a", "news", {})
    await client.expect(None, None, "room:a", "news", {})
    house.gate.set()
    await client.expect("1", "3", "room:a", REPLY, OK)


async def test_messages_sent_while_a_join_is_decided_are_handled_after_it(running, house, connect):
    client = await connect(running)
    await client.send("1", "1", "room:a", "phx_join", {"wait": {}})
    await client.send("1", "2", "room:a", "echo", {"n": 2})
    await client.send("1", "3", "room:a", "echo", {"n": 3})
    await house.waiting.wait()
    await client.silence()
    house.gate.set()
    await client.expect("1", "1", "room:a", REPLY, OK)
    await client.expect("1", "2", "room:a", REPLY, {"status": "ok", "response": {"n": 2}})
    await client.expect("1", "3", "room:a", REPLY, {"status": "ok", "response": {"n": 3}})


async def test_one_channel_of_a_hundred_crashes_and_ninety_nine_answer(running, connect):
    client = await connect(running)
    for n in range(100):
        await client.join(f"room:{n}", ref=f"j{n}")
    await client.send("j50", "x", "room:50", "crash", {})
    await client.expect("j50", "j50", "room:50", "phx_error", CRASHED)
    for n in range(100):
        if n != 50:
            await client.send(f"j{n}", "y", f"room:{n}", "echo", {"n": n})
            await client.expect(
                f"j{n}", "y", f"room:{n}", REPLY, {"status": "ok", "response": {"n": n}}
            )


async def test_a_channel_whose_inbox_is_full_answers_busy_and_recovers(house, serve, connect):
    house.gateway.configure(Hub(inbox_messages=5))
    running = await serve(house.gateway)
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "first", "room:a", "wait", {})
    await house.waiting.wait()
    for n in range(8):
        await client.send("1", str(n), "room:a", "echo", {"n": n})
    for n in range(5, 8):
        await client.expect("1", str(n), "room:a", REPLY, error("busy"))
    await client.silence()
    house.gate.set()
    await client.expect("1", "first", "room:a", REPLY, OK)
    for n in range(5):
        await client.expect("1", str(n), "room:a", REPLY, {"status": "ok", "response": {"n": n}})
    await client.send("1", "9", "room:a", "echo", {})
    await client.expect("1", "9", "room:a", REPLY, OK)


async def test_what_waits_is_bounded_in_bytes_for_all_channels_of_a_connection_together(
    house, serve, connect
):
    house.gateway.configure(Hub(inbox_bytes=1500))
    running = await serve(house.gateway)
    client, other = await connect(running), await connect(running)
    await client.join("room:a")
    await client.send("1", "first", "room:a", "wait", {})
    await house.waiting.wait()
    await client.send("1", "0", "room:a", "echo", {"pad": "x" * 400})
    await client.send("2", "2", "room:b", "phx_join", {"wait": {}})
    await client.send("2", "3", "room:b", "echo", {"pad": "x" * 400})
    await client.expect("2", "3", "room:b", REPLY, error("busy"))
    await client.send("1", "4", "room:a", "echo", {"pad": "x" * 400})
    await client.expect("1", "4", "room:a", REPLY, error("busy"))
    assert 0 < running.stats["inbox_bytes"] <= 1500
    assert running.stats["inbox_refused"]["connection"] == 2
    await other.join("room:a")
    house.gate.set()
    await until(lambda: running.stats["inbox_bytes"] == 0)


async def test_a_join_that_takes_too_long_is_answered_and_the_next_one_is_asked(serve, connect):
    gateway = Gateway(builtins=False)
    gateway.configure(Hub(join_seconds=0.05))
    asked = []

    @gateway.channel("room")
    class Slow(Channel):
        async def join(self, payload):
            asked.append(payload)
            if payload.get("slow"):
                await asyncio.sleep(3600)

    @gateway.channel("news")
    class News(Stream):
        async def join(self, request):
            await asyncio.sleep(3600)

    running = await serve(gateway)
    client = await connect(running)
    await client.send("1", "1", "room", "phx_join", {"slow": True})
    await client.send("2", "2", "room", "phx_join", {})
    await client.expect("1", "1", "room", REPLY, error("join timed out"))
    await client.expect("2", "2", "room", REPLY, OK)
    await client.send("3", "3", "news", "phx_join", {})
    await client.expect("3", "3", "news", REPLY, error("join timed out"))
    assert running.stats["timeouts"] == {"join": 2, "handler": 0}


async def test_a_handler_that_takes_too_long_crashes_its_channel_alone(serve, connect):
    gateway = Gateway(builtins=False)
    gateway.configure(Hub(handler_seconds=0.05))

    @gateway.channel("room:{name}")
    class Slow(Channel):
        async def handle(self, event, payload):
            if event == "slow":
                await asyncio.sleep(3600)
            return Reply()

    running = await serve(gateway)
    client = await connect(running)
    await client.join("room:a")
    await client.join("room:b", ref="2")
    await client.send("1", "3", "room:a", "slow", {})
    await client.expect("1", "1", "room:a", "phx_error", CRASHED)
    await client.send("2", "4", "room:b", "quick", {})
    await client.expect("2", "4", "room:b", REPLY, OK)
    assert running.stats["timeouts"] == {"join": 0, "handler": 1}


async def test_a_client_that_joins_in_a_loop_is_told_busy_and_its_neighbour_is_served(
    running, house, connect
):
    greedy, neighbour = await connect(running), await connect(running)
    await neighbour.join("room:b")
    await greedy.send("0", "0", "room:a", "phx_join", {"wait": {}})
    await house.waiting.wait()
    for n in range(1, 40):
        await greedy.send(str(n), str(n), "room:a", "phx_join", {})
    for n in range(17, 40):
        await greedy.expect(str(n), str(n), "room:a", REPLY, error("busy"))
    await neighbour.send("1", "2", "room:b", "echo", {})
    await neighbour.expect("1", "2", "room:b", REPLY, OK)
    house.gate.set()
    await greedy.expect("0", "0", "room:a", REPLY, OK)
    for n in range(1, 17):
        await greedy.expect(str(n), str(n), "room:a", REPLY, OK)
        await greedy.expect(str(n - 1), str(n - 1), "room:a", "phx_close", {})
    assert running.stats["inbox_refused"]["joins"] == 23


async def test_a_channel_that_cannot_keep_up_with_what_it_intercepts_ends_and_holds_no_more(
    serve, connect, monkeypatch
):
    monkeypatch.setattr(conversation, "MAX_WAITING", 5)
    gateway = Gateway(builtins=False)
    gate = asyncio.Event()

    @gateway.channel("room")
    class Slow(Channel):
        intercept = frozenset({"news"})

        async def outgoing(self, event, payload):
            await gate.wait()
            self.push(event, payload)

    running = await serve(gateway)
    client = await connect(running)
    await client.join("room")
    for n in range(8):
        gateway.broadcast("room", "news", {"n": n})
    await client.expect("1", "1", "room", "phx_error", CRASHED)
    await client.silence()
    assert gateway.subscribers("room") == 0


@pytest.mark.parametrize("reason", ["left", "closed", "replaced"])
async def test_the_end_of_a_channel_cancels_its_handler_and_what_it_spawned(serve, connect, reason):
    gateway = Gateway(builtins=False)
    order: list[str] = []
    started = asyncio.Event()
    ended = asyncio.Event()

    @gateway.channel("room")
    class Busy(Channel):
        async def join(self, payload):
            self.second = payload.get("second", False)

        async def handle(self, event, payload):
            self.spawn(self.work())
            await self.hang("handler")

        async def work(self):
            started.set()
            await self.hang("spawned")

        async def hang(self, name):
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                order.append(name)

        async def leave(self, why):
            if not self.second:
                order.append(f"leave {why}")
                ended.set()

    client = await connect(await serve(gateway))
    await client.join("room")
    await client.send("1", "2", "room", "go", {})
    await started.wait()
    if reason == "closed":
        await client.close()
    elif reason == "replaced":
        await client.send("3", "3", "room", "phx_join", {"second": True})
    else:
        # A leave waits for the handler, so the server ends what never returns by a second leave
        # of the connection itself.
        await client.send("1", "4", "room", "phx_leave", {})
        await client.close()
        reason = "closed"
    await ended.wait()
    assert sorted(order[:2]) == ["handler", "spawned"]
    assert order[2] == f"leave {reason}"


async def test_a_stop_from_spawned_work_ends_the_channel(serve, connect):
    gateway = Gateway(builtins=False)
    reasons: list[str] = []

    @gateway.channel("room")
    class Timed(Channel):
        async def handle(self, event, payload):
            self.spawn(self.later(payload["reason"]))
            return Reply("ok")

        async def later(self, reason):
            self.push("closing", {})
            self.stop(reason)

        async def leave(self, why):
            reasons.append(why)

    client = await connect(await serve(gateway))
    for ref, (reason, event, payload) in enumerate(
        [("normal", "phx_close", {}), ("moved", "phx_error", CRASHED)]
    ):
        await client.join("room", ref=f"{ref}")
        await client.send(f"{ref}", "x", "room", "go", {"reason": reason})
        await client.expect(f"{ref}", "x", "room", REPLY, OK)
        await client.expect(f"{ref}", None, "room", "closing", {})
        await client.expect(f"{ref}", f"{ref}", "room", event, payload)
    await client.silence()
    assert reasons == ["normal", "moved"]


# -- clients that stop in the middle


SPOKEN = [
    request(),
    frame('["1","1","room:a","phx_join",{}]'),
    frame('["1","2","room:a","echo",{"n":1}]'),
    frame('["1","3","room:a","ec', TEXT, fin=False),
    frame('ho",{"n":2}]', CONTINUATION),
]


async def test_a_hundred_clients_stop_at_a_hundred_places_and_none_is_left_behind(
    running, house, raw, connect
):
    whole = b"".join(SPOKEN)
    clients = []
    for n in range(100):
        client = await raw(running)
        await client.send(whole[: 1 + n * (len(whole) - 1) // 99])
        if n % 3 == 0:
            client.half_close()
        elif n % 3 == 1:
            client.reset()
        else:
            client.close()
        clients.append(client)
    for n, client in enumerate(clients):
        if n % 3 == 0:
            answered = await client.ended()
            # What was complete before the end was answered before the end.
            assert answered.startswith(b"HTTP/1.1 101") == (
                len(SPOKEN[0]) <= 1 + n * (len(whole) - 1) // 99
            )
    watcher = await connect(running)
    await watcher.join("room:a")
    while running.stats["connections"] > 1 or running.server.door.waiting:
        await watcher.silence()
    assert house.gateway.subscribers("room:a") == 1
    assert all(reason == "closed" for _, reason in house.ended)


async def test_a_client_that_half_closes_gets_the_answers_to_what_it_sent_and_is_closed(
    running, raw
):
    client = await raw(running)
    await client.upgrade()
    await client.send(frame('[null,"1","phoenix","heartbeat",{}]'))
    client.half_close()
    assert b'"status":"ok"' in await client.ended()
