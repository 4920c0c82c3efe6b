"""The wire is cut, slowed, reset and half closed; the gateway and stock clients get over it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError

from faults import Proxy
from gateway import PATIENCE, Running, until
from moda import Channel, Gateway, Reply
from phoenix import OK, Phoenix
from raw import TEXT, Raw, frame

SCRIPT = Path(__file__).with_name("reconnect.mjs")
JOIN = frame('["1","1","room:a","phx_join",{}]')


@pytest.fixture
def ended() -> list[str]:
    """The reasons of ``leave`` callbacks."""
    return []


@pytest.fixture
async def running(serve, ended) -> Running:
    gateway = Gateway(builtins=False)

    @gateway.channel("room:{name}")
    class Room(Channel):
        async def handle(self, event: str, payload: Any) -> Reply:
            return Reply("ok", payload)

        async def leave(self, reason: str) -> None:
            ended.append(reason)

    return await serve(gateway)


@pytest.fixture
async def proxy(running) -> AsyncIterator[Proxy]:
    async with Proxy(running.port) as one:
        yield one


@pytest.fixture
async def through(proxy) -> AsyncIterator[Any]:
    """Opens V2 clients behind the proxy."""
    clients: list[Phoenix] = []

    async def begin() -> Phoenix:
        client = await Phoenix.open(f"ws://127.0.0.1:{proxy.port}/socket/websocket?vsn=2.0.0")
        clients.append(client)
        return client

    yield begin
    for client in clients:
        client.socket.transport.abort()


async def raw_through(proxy: Proxy) -> Raw:
    client = await Raw.open(proxy.port)
    await client.upgrade()
    return client


async def test_a_proxy_that_is_told_nothing_changes_nothing(running, proxy, through):
    client = await through()
    await client.join("room:a")
    await client.send("1", "2", "room:a", "echo", {"pad": "x" * 300_000})
    answer = {"status": "ok", "response": {"pad": "x" * 300_000}}
    await client.expect("1", "2", "room:a", "phx_reply", answer)
    assert (proxy.accepted, proxy.connections) == (1, 1)


async def test_a_frame_cut_in_the_middle_and_never_ended_is_nobodys_message(
    running, proxy, ended, connect
):
    neighbour = await connect(running)
    await neighbour.join("room:a")
    client = await raw_through(proxy)
    await client.send(JOIN)
    await client.receive()
    message = frame('["1","2","room:a","echo",{"n":1}]')
    before = running.stats["messages_in"]
    forwarded = proxy.forwarded("up")
    proxy.cut("up", after=len(message) // 2)
    await client.send(message)
    await until(lambda: proxy.forwarded("up") == forwarded + len(message) // 2)
    await neighbour.silence()
    assert running.gateway.subscribers("room:a") == 2
    proxy.reset()
    await until(lambda: ended == ["closed"])
    assert running.stats["messages_in"] == before + 1  # the neighbour's question
    assert running.stats["undecodable"] == {}
    assert running.stats["violations"] == {}
    client.close()


@pytest.mark.parametrize("at", [1, 2, 5, 7, 20])
async def test_a_frame_cut_in_the_middle_and_ended_later_is_one_message(running, proxy, at):
    client = await raw_through(proxy)
    await client.send(JOIN)
    await client.receive()
    before = proxy.forwarded("up")
    proxy.cut("up", after=at)
    await client.send(frame('["1","2","room:a","echo",{"n":1}]'))
    await until(lambda: proxy.forwarded("up") == before + at)
    proxy.restore()
    opcode, payload = await client.receive()
    assert opcode == TEXT
    expected = ["1", "2", "room:a", "phx_reply", {"status": "ok", "response": {"n": 1}}]
    assert json.loads(payload) == expected
    client.close()


async def test_an_upgrade_request_that_stops_half_way_holds_no_connection(running, proxy):
    client = await Raw.open(proxy.port)
    proxy.cut("up", after=30)
    await client.send(b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    await until(lambda: running.server.door.waiting)
    assert running.stats["connections"] == 0
    proxy.reset()
    await until(lambda: not running.server.door.waiting)
    client.close()


async def test_a_reset_in_the_middle_of_a_fan_out_takes_nobody_else_with_it(
    running, proxy, ended, connect, through
):
    stay = [await connect(running) for _ in range(5)]
    go = [await through() for _ in range(5)]
    for pair in zip(stay, go, strict=True):
        for client in pair:
            await client.join("room:a")
    for n in range(300):
        running.gateway.broadcast("room:a", "news", {"n": n, "pad": "x" * 2000})
        if n == 150:
            proxy.reset()
        if n % 10 == 0:
            await asyncio.sleep(0)
    for client in stay:
        for n in range(300):
            await client.expect(None, None, "room:a", "news", {"n": n, "pad": "x" * 2000})
        await client.silence()
    await until(lambda: running.stats["connections"] == 5)
    await until(lambda: ended == ["closed"] * 5)
    assert running.gateway.subscribers("room:a") == 5
    assert running.stats["outbox_bytes"] == 0


async def test_a_slow_network_delivers_everything_in_order(running, proxy, through):
    client = await through()
    await client.join("room:a")
    proxy.throttle(7)
    for n in range(50):
        running.gateway.broadcast("room:a", "news", {"n": n})
        await client.send("1", str(n), "room:a", "echo", {"n": n})
    expected = [[None, None, "room:a", "news", {"n": n}] for n in range(50)]
    replies = [
        ["1", str(n), "room:a", "phx_reply", {"status": "ok", "response": {"n": n}}]
        for n in range(50)
    ]
    got = [await client.receive() for _ in range(100)]
    assert [one for one in got if one[3] == "news"] == expected
    assert [one for one in got if one[3] == "phx_reply"] == replies


async def test_a_half_closed_client_is_answered_and_then_closed(running, proxy, ended):
    client = await raw_through(proxy)
    await client.send(JOIN)
    await client.receive()
    await client.send(frame('[null,"9","phoenix","heartbeat",{}]'))
    opcode, payload = await client.receive()
    assert (opcode, json.loads(payload)[4]) == (TEXT, OK)
    proxy.half_close("up")
    assert await client.ended() == b""
    await until(lambda: ended == ["closed"])
    client.close()


async def test_a_client_cut_off_in_silence_is_found_by_the_idle_sweep(serve, ended, monkeypatch):
    monkeypatch.setattr("moda.hub.SWEEP_SECONDS", 0.02)
    gateway = Gateway(builtins=False)
    gateway.socket("/socket", idle_seconds=0.2)

    @gateway.channel("room:{name}")
    class Room(Channel):
        async def leave(self, reason: str) -> None:
            ended.append(reason)

    running = await serve(gateway)
    async with Proxy(running.port) as proxy:
        client = await raw_through(proxy)
        await client.send(JOIN)
        await client.receive()
        proxy.cut()
        await until(lambda: ended == ["closed"])
        assert running.stats["closes"] == {1002: 1}
        client.close()


class Stock:
    """The stock client as a process: its words as they come."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def word(self) -> list[Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self.process.stdout.readline()
        assert line, "the client has ended"
        words: list[Any] = json.loads(line)
        return words

    async def until(self, *words: Any) -> list[list[Any]]:
        """Reads up to these words; what came before them."""
        before = []
        while (heard := await self.word()) != list(words):
            before.append(heard)
        return before


@pytest.fixture
async def stock(proxy) -> AsyncIterator[Stock]:
    node = shutil.which("node")
    assert node is not None, "the stock client needs Node: install Node 20 or newer"
    process = await asyncio.create_subprocess_exec(
        node,
        str(SCRIPT),
        f"ws://127.0.0.1:{proxy.port}/socket",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    yield Stock(process)
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()


async def test_the_stock_client_joins_again_after_every_cut(running, proxy, ended, stock):
    assert await stock.until("joined") == [["open"]]
    running.gateway.broadcast("room:a", "news", {"n": 1})
    assert await stock.word() == ["news", 1]
    for round_ in range(3):
        proxy.reset()
        before = await stock.until("open")
        assert ["close", 1006] in before
        await until(lambda: running.gateway.subscribers("room:a") == 1)
        running.gateway.broadcast("room:a", "news", {"n": 10 + round_})
        await stock.until("news", 10 + round_)
    assert ended == ["closed"] * 3


async def test_the_stock_client_comes_back_when_the_network_does(running, proxy, ended, stock):
    await stock.until("joined")
    proxy.refuse()
    proxy.reset()
    await until(lambda: ended == ["closed"])
    refused = proxy.accepted
    await until(lambda: proxy.accepted > refused + 2)
    proxy.restore()
    proxy.delay(0.05)
    await stock.until("open")
    await until(lambda: running.gateway.subscribers("room:a") == 1)
    running.gateway.broadcast("room:a", "news", {"n": 2})
    await stock.until("news", 2)


async def test_a_client_library_sees_a_reset_as_a_lost_connection(running, proxy, through):
    client = await through()
    await client.join("room:a")
    proxy.reset()
    with pytest.raises(ConnectionClosedError):
        await client.receive()
    again = await through()
    await again.join("room:a")
