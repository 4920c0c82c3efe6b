"""Plain JSON at ``/ws``: the same channels, the same messages, the same offsets as for Phoenix clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import websockets

from gateway import Running
from json_client import JsonClient
from moda import Channel, Gateway, History, Refuse, Reject, Reply, Stream

OpenJson = Callable[..., Awaitable[JsonClient]]


class Room(Channel):
    async def join(self, payload: Any) -> Any:
        if payload.get("refuse"):
            raise Reject("not you")
        return {"you": payload}

    async def handle(self, event: str, payload: Any) -> Reply | None:
        match event:
            case "shout":
                self.broadcast("said", payload)
                return Reply("ok", {"heard": True})
            case "bytes":
                self.broadcast("raw", b"\x00\xff")
            case "crash":
                raise RuntimeError("asked to")
        return None


@pytest.fixture
async def running(serve) -> Running:
    gateway = Gateway(builtins=False)
    gateway.channel("room:{room}")(Room)
    gateway.channel("log:{name}", history=History(size=5))(Room)
    gateway.channel("news")(Stream())
    return await serve(gateway)


@pytest.fixture
async def connect_json() -> AsyncIterator[OpenJson]:
    clients: list[JsonClient] = []

    async def begin(running: Running, path: str = "/ws", **options: Any) -> JsonClient:
        client = await JsonClient.open(f"ws://127.0.0.1:{running.port}{path}", **options)
        clients.append(client)
        return client

    yield begin
    for client in clients:
        await client.close()


async def test_the_server_says_first_what_it_speaks(running, connect_json):
    client = await connect_json(running)
    assert client.welcome == {"type": "welcome", "protocol": "moda", "version": 1}


async def test_a_client_subscribes_publishes_and_hears_what_others_say(running, connect_json):
    ann, bob = await connect_json(running), await connect_json(running)
    answer = await ann.subscribe("room:a", params={"name": "ann"})
    assert answer["type"] == "subscribed"
    assert answer["response"] == {"you": {"name": "ann"}}
    await bob.subscribe("room:a")
    reply = await ann.ask(type="publish", topic="room:a", event="shout", payload={"text": "hi"})
    assert (reply["type"], reply["status"]) == ("reply", "ok")
    said = {"type": "event", "topic": "room:a", "event": "said", "payload": {"text": "hi"}}
    assert await ann.event() == said
    assert await bob.event() == said


async def test_phoenix_and_json_clients_share_a_topic(running, connect, connect_json):
    old, new = await connect(running), await connect_json(running)
    await old.join("room:a")
    await new.subscribe("room:a")
    await new.send(type="publish", topic="room:a", event="shout", payload={"from": "json"})
    await old.expect(None, None, "room:a", "said", {"from": "json"})
    await old.send("1", "2", "room:a", "shout", {"from": "phoenix"})
    heard = [await new.event() for _ in range(2)]
    assert [event["payload"] for event in heard] == [{"from": "json"}, {"from": "phoenix"}]


async def test_bytes_travel_as_base64_and_say_so(running, connect_json):
    client = await connect_json(running)
    await client.subscribe("room:a")
    await client.send(type="publish", topic="room:a", event="bytes")
    event = await client.event()
    assert (event["encoding"], event["payload"]) == ("base64", "AP8=")


async def test_a_client_that_comes_back_gets_what_it_missed_under_the_offsets_phoenix_clients_see(
    running, connect, connect_json
):
    witness = await connect(running)
    await witness.join("log:a")
    client = await connect_json(running)
    here = await client.subscribe("log:a")
    assert here["offset"] == 0
    await client.close()
    for n in range(1, 4):
        running.gateway.broadcast("log:a", "line", {"n": n})
        await witness.expect(None, f"@{n}", "log:a", "line", {"n": n})
    client = await connect_json(running)
    since = {"epoch": here["epoch"], "offset": 1}
    back = await client.subscribe("log:a", since=since)
    assert (back["recovered"], back["missed"], back["offset"]) == (True, 2, 3)
    running.gateway.broadcast("log:a", "line", {"n": 4})
    heard = [await client.event() for _ in range(3)]
    assert [event["offset"] for event in heard] == [2, 3, 4]
    assert [event["payload"]["n"] for event in heard] == [2, 3, 4]


async def test_a_phoenix_client_that_comes_back_names_its_place_in_the_join(running, connect):
    for n in range(1, 8):
        running.gateway.broadcast("log:a", "line", {"n": n})
    epoch, offset = running.gateway.position("log:a")
    client = await connect(running)
    recover = {"recover": {"epoch": epoch, "offset": 5}}
    await client.send("1", "1", "log:a", "phx_join", recover)
    place = {"epoch": epoch, "offset": offset, "recovered": True, "missed": 2}
    response = {"you": recover, **place}
    await client.expect("1", "1", "log:a", "phx_reply", {"status": "ok", "response": response})
    for n in (6, 7):
        await client.expect(None, f"@{n}", "log:a", "line", {"n": n})
    late = await connect(running)
    await late.send("1", "1", "log:a", "phx_join", {"recover": {"epoch": epoch, "offset": 1}})
    answer = (await late.receive())[4]["response"]
    assert (answer["recovered"], answer["why"]) == (False, "expired")


async def test_a_refused_subscription_says_why_and_the_connection_goes_on(running, connect_json):
    client = await connect_json(running)
    answer = await client.subscribe("room:a", params={"refuse": True})
    assert (answer["type"], answer["code"]) == ("error", "refused")
    assert answer["response"] == {"reason": "not you"}
    assert (await client.subscribe("room:a"))["type"] == "subscribed"


async def test_a_crash_ends_the_subscription_alone(running, connect_json):
    client = await connect_json(running)
    await client.subscribe("room:a")
    await client.subscribe("room:b")
    await client.send(type="publish", topic="room:a", event="crash")
    ended = await client.event()
    assert (ended["type"], ended["topic"], ended["reason"]) == ("unsubscribed", "room:a", "crashed")
    answer = await client.ask(type="publish", topic="room:b", event="shout", payload={})
    assert answer["status"] == "ok"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("}", "invalid_json"),
        ('"text"', "invalid_json"),
        ('{"type":"publish","topic":"room:zzz","event":"e"}', "not_subscribed"),
        ('{"type":"subscribe","topic":"nowhere"}', "unmatched_topic"),
        (b"\x00", "not_text"),
    ],
)
async def test_every_mistake_is_answered_with_what_came_and_what_is_accepted(
    running, connect_json, message, code
):
    client = await connect_json(running)
    await client.socket.send(message)
    error = await client.next()
    assert (error["type"], error["code"]) == ("error", code)
    assert error["message"]
    assert isinstance(error["accepted"], list)
    assert (await client.ask(type="ping"))["type"] == "pong"


async def test_the_connect_hook_of_the_default_socket_decides_here_too(serve, connect_json):
    gateway = Gateway(builtins=False)
    gateway.channel("room:{room}")(Room)

    @gateway.connect
    async def admit(connect: Any) -> str:
        if connect.params.get("token") != "right":
            raise Refuse(403)
        return "somebody"

    running = await serve(gateway)
    with pytest.raises(websockets.InvalidStatus):
        await connect_json(running, "/ws?token=wrong")
    client = await connect_json(running, "/ws?token=right")
    assert client.welcome["type"] == "welcome"


async def test_a_socket_of_ones_own_may_speak_json(serve, connect_json):
    gateway = Gateway(builtins=False)
    gateway.channel("room:{room}", sockets=["/feed"])(Room)
    gateway.socket("/feed", dialect="json")
    running = await serve(gateway)
    client = await connect_json(running, "/feed")
    assert (await client.subscribe("room:a"))["type"] == "subscribed"
    elsewhere = await connect_json(running)
    assert (await elsewhere.subscribe("room:a"))["code"] == "unmatched_topic"
