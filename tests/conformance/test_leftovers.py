"""What clients leave behind: nothing, however they come and go, and whatever the code raises."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from gateway import until
from moda import Channel, Gateway, JoinRequest, Reply, Socket, Stream
from moda.wire import phoenix
from phoenix import CRASHED, OK, error

REPLY = "phx_reply"
CLOSE = "phx_close"
ERROR = "phx_error"


class Slow(Stream):
    """Decides when its gate opens."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.waiting = 0

    async def join(self, request: JoinRequest) -> Any:
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1


@pytest.mark.parametrize("end", ["closed", "left", "replaced"])
async def test_clients_that_ask_a_stream_and_go_hold_no_place_of_its_topic(serve, connect, end):
    gateway, slow = Gateway(builtins=False), Slow()
    gateway.channel("news", max_subscribers=3)(slow)
    running = await serve(gateway)
    askers = [await connect(running) for _ in range(3)]
    for client in askers:
        await client.send("1", "1", "news", "phx_join", {})
    await until(lambda: slow.waiting == 3)
    late = await connect(running)
    full = await late.ask("1", "1", "news", "phx_join", {})
    assert full["response"] == {"reason": "too many subscribers", "limit": 3}
    for client in askers:
        if end == "closed":
            await client.close()
        elif end == "left":
            await client.send("1", "2", "news", "phx_leave", {})
    if end == "left":
        # Each is decided first, as the reference does it: until then it holds its place.
        slow.gate.set()
        for client in askers:
            await client.expect("1", "1", "news", REPLY, OK)
            await client.expect("1", "2", "news", REPLY, OK)
            await client.expect("1", "1", "news", CLOSE, {})
    if end == "replaced":
        # It takes its own place again, so the topic is as full as before.
        await askers[0].send("2", "2", "news", "phx_join", {})
        slow.gate.set()
        await askers[0].expect("1", "1", "news", REPLY, OK)
        await askers[0].expect("2", "2", "news", REPLY, OK)
        await askers[0].expect("1", "1", "news", CLOSE, {})
        return
    await until(lambda: slow.waiting == 0)
    await late.send("2", "2", "news", "phx_join", {})
    slow.gate.set()
    await late.expect("2", "2", "news", REPLY, OK)
    assert gateway.subscribers("news") == 1


async def test_a_hook_may_give_one_socket_to_everybody(serve, connect):
    gateway, slow, shared = Gateway(builtins=False), Slow(), Socket(principal="anybody")
    gateway.connect(lambda asked: shared)
    gateway.channel("news")(slow)
    running = await serve(gateway)
    clients = [await connect(running) for _ in range(20)]
    for client in clients:
        await client.send("1", "1", "news", "phx_join", {})
    await until(lambda: slow.waiting == 20)
    slow.gate.set()
    for client in clients:
        await client.expect("1", "1", "news", REPLY, OK)


async def test_ended_channels_are_freed_and_nobody_has_to_collect_them(serve, connect):
    gateway = Gateway(builtins=False)
    alive: weakref.WeakSet[Channel] = weakref.WeakSet()

    @gateway.channel("room:{name}")
    class Room(Channel):
        async def join(self, payload):
            alive.add(self)

        async def leave(self, reason):
            self.broadcast_from("gone", {"reason": reason})

    running = await serve(gateway)
    gc.disable()
    try:
        client = await connect(running)
        for n in range(10):
            await client.join(f"room:{n}", ref=str(n))
        assert len(alive) == 10
        await client.send("0", "10", "room:0", "phx_leave", {})
        await client.send("11", "11", "room:1", "phx_join", {})
        await until(lambda: len(alive) == 9)
        await client.close()
        await until(lambda: not alive)
    finally:
        gc.enable()


async def test_a_client_that_joins_and_leaves_in_a_loop_waits_for_its_goodbyes(
    serve, connect, monkeypatch
):
    monkeypatch.setattr(phoenix, "MAX_GOODBYES", 2)
    gateway, gate = Gateway(builtins=False), asyncio.Event()

    @gateway.channel("room:{name}")
    class Room(Channel):
        async def leave(self, reason):
            await gate.wait()

    running = await serve(gateway)
    client, other = await connect(running), await connect(running)
    for n in ("1", "2"):
        await client.join("room:a", ref=n)
        await client.send(n, n, "room:a", "phx_leave", {})
        await client.expect(n, n, "room:a", REPLY, OK)
        await client.expect(n, n, "room:a", CLOSE, {})
    await client.send("3", "3", "room:a", "phx_join", {})
    await client.expect("3", "3", "room:a", REPLY, error("busy"))
    await other.join("room:a")
    gate.set()
    await gateway.hub.errands_done()
    await client.join("room:a", ref="4")


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, BaseException, GeneratorExit])
async def test_code_that_wants_to_end_the_process_ends_its_channel(serve, connect, kind):
    gateway = Gateway(builtins=False)

    @gateway.channel("room:{name}")
    class Room(Channel):
        async def join(self, payload):
            if payload == "exit":
                raise kind

        async def handle(self, event, payload):
            if event == "spawn":
                self.spawn(self.work())
            elif event == "exit":
                raise kind
            return Reply()

        async def work(self):
            raise kind

    @gateway.channel("news:{name}")
    class News(Stream):
        async def join(self, request):
            raise kind

    running = await serve(gateway)
    client, neighbour = await connect(running), await connect(running)
    await neighbour.join("room:a")
    for topic in ("room:a", "news:a"):
        await client.send("1", "1", topic, "phx_join", "exit")
        await client.expect("1", "1", topic, REPLY, error("join crashed"))
    await client.join("room:a", ref="2")
    await client.send("2", "3", "room:a", "exit", {})
    await client.expect("2", "2", "room:a", ERROR, CRASHED)
    await client.join("room:a", ref="4")
    await client.send("4", "5", "room:a", "spawn", {})
    await client.expect("4", "5", "room:a", REPLY, OK)
    await client.expect("4", "4", "room:a", ERROR, CRASHED)
    assert await neighbour.ask("1", "2", "room:a", "still", {}) == OK


async def test_an_event_longer_than_is_kept_is_refused_and_the_channel_lives(running, connect):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "\U0001f600" * 257, {})
    await client.expect("1", "2", "room:a", REPLY, error("event or ref too long"))
    await client.send("1", "3", "room:a", "echo", {})
    await client.expect("1", "3", "room:a", REPLY, OK)
    assert running.stats["oversized"] == 1
