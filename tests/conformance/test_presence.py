"""Presence on the wire: the frames of Phoenix (`docs/presence.md`), for channels and for streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway import Running, until
from json_client import JsonClient
from moda import Channel, Gateway, JoinRequest, PresenceError, Reply, Socket, Stop, Stream
from phoenix import Phoenix

Connect = Callable[..., Awaitable[Phoenix]]

ERRORS: dict[str, type[Exception]] = {
    "presence": PresenceError,
    "value": ValueError,
    "type": TypeError,
}


class Room(Channel):
    """Does what it is told: ``{"do": [[call, key, meta], ...]}``."""

    async def joined(self) -> None:
        if self.topic == "room:auto":
            self.track(self.socket.id or "guest", {"at": "home"})

    async def handle(self, event: str, payload: Any) -> Reply | Stop | None:
        if event == "crash":
            raise RuntimeError("asked to")
        if event == "stop":
            return Stop("normal")
        if event == "list":
            return Reply("ok", self.presence())
        try:
            match event, payload:
                case "track", {"key": key, **rest}:
                    self.track(key, rest.get("meta"))
                case "update", {"key": key, "meta": meta}:
                    self.update(key, meta)
                case "untrack", {"key": key}:
                    self.untrack(key)
        except PresenceError as error:
            return Reply("error", {"reason": error.reason, "message": str(error)})
        except (TypeError, ValueError) as error:
            return Reply("error", {"reason": type(error).__name__, "message": str(error)})
        return Reply()


class Named(Stream):
    async def join(self, request: JoinRequest) -> Any:
        if isinstance(name := request.payload.get("name"), str):
            request.track(name, {"via": "stream"})


@pytest.fixture
async def running(serve) -> Running:
    gateway = Gateway(builtins=False)
    gateway.channel("room:{room}", presence="list")(Room)
    gateway.channel("plain:{room}")(Room)
    gateway.channel("crowd", presence="count")(Stream())
    gateway.channel("stage:{name}", presence="list")(Named())

    @gateway.connect
    async def admit(connect: Any) -> Socket:
        return Socket(id=connect.params.get("user"))

    return await serve(gateway)


@pytest.fixture
async def client(running) -> AsyncIterator[Connect]:
    clients: list[Phoenix] = []

    async def begin(**params: str) -> Phoenix:
        made = await Phoenix.open(running.ws(**params))
        clients.append(made)
        return made

    yield begin
    for made in clients:
        await made.close()


async def joined(made: Phoenix, topic: str = "room:a", **payload: Any) -> dict[str, Any]:
    """Joins; the payload of the presence event that follows the answer."""
    await made.join(topic, payload)
    join_ref, ref, where, event, first = await made.receive()
    assert [join_ref, ref, where] == ["1", None, topic]
    assert event in ("presence_state", "presence_count")
    return first


async def diff(made: Phoenix, topic: str = "room:a") -> tuple[dict[str, Any], dict[str, Any]]:
    """The next frame, a diff: who joined and who left."""
    join_ref, ref, where, event, payload = await made.receive()
    assert [join_ref, ref, where, event] == [None, None, topic, "presence_diff"]
    assert list(payload) == ["joins", "leaves"]
    return payload["joins"], payload["leaves"]


async def asks(made: Phoenix, event: str, topic: str = "room:a", **payload: Any) -> Any:
    return await made.ask("1", "7", topic, event, payload)


async def test_a_joiner_is_told_who_is_there_and_the_others_that_it_came_and_went(client):
    ann, bob = await client(), await client()
    assert await joined(ann) == {}
    assert await asks(ann, "track", key="ann", meta={"device": "phone"}) == {
        "status": "ok",
        "response": {},
    }
    joins, leaves = await diff(ann)
    meta = joins["ann"]["metas"][0]
    assert (meta["device"], leaves) == ("phone", {})
    assert len(meta["phx_ref"]) == 16
    assert await joined(bob) == joins
    await asks(bob, "track", key="bob")
    assert list((await diff(ann))[0]) == ["bob"]
    await bob.close()
    joins, leaves = await diff(ann)
    assert (joins, list(leaves)) == ({}, ["bob"])


async def test_an_update_is_one_diff_that_names_the_reference_before(client):
    ann = await client()
    await joined(ann)
    await asks(ann, "track", key="ann", meta={"typing": False})
    old = (await diff(ann))[0]["ann"]["metas"][0]
    await asks(ann, "update", key="ann", meta={**old, "typing": True})
    joins, leaves = await diff(ann)
    assert leaves == {"ann": {"metas": [old]}}
    new = joins["ann"]["metas"][0]
    assert (new["typing"], new["phx_ref_prev"]) == (True, old["phx_ref"])
    assert new["phx_ref"] != old["phx_ref"]
    await asks(ann, "untrack", key="ann")
    assert await diff(ann) == ({}, {"ann": {"metas": [new]}})


@pytest.mark.parametrize("end", ["leave", "crash", "stop", "disconnect", "join again"])
async def test_however_a_channel_ends_it_is_present_no_more(client, running, end):
    ann, bob = await client(), await client(user="bob")
    await joined(ann)
    await joined(bob)
    await asks(bob, "track", key="bob")
    await diff(ann)
    match end:
        case "leave":
            await bob.send("1", "8", "room:a", "phx_leave", {})
        case "disconnect":
            assert running.gateway.disconnect("bob") == 1
        case "join again":
            await bob.send("9", "9", "room:a", "phx_join", {})
        case _:
            await bob.send("1", "8", "room:a", end, {})
    joins, leaves = await diff(ann)
    assert (joins, list(leaves)) == ({}, ["bob"])
    assert running.gateway.presence("room:a") == {}


async def test_one_user_in_two_tabs_is_one_key_with_two_metas(client):
    tabs = [await client(user="ann") for _ in range(2)]
    await joined(tabs[0], "room:auto")
    await diff(tabs[0], "room:auto")
    await joined(tabs[1], "room:auto")
    await diff(tabs[1], "room:auto")
    await diff(tabs[0], "room:auto")
    listed = await asks(tabs[0], "list", "room:auto")
    assert [meta["at"] for meta in listed["response"]["ann"]["metas"]] == ["home", "home"]
    await tabs[1].close()
    joins, leaves = await diff(tabs[0], "room:auto")
    assert (joins, len(leaves["ann"]["metas"])) == ({}, 1)


async def test_keys_are_opaque(client):
    keys = ["__proto__", "", "constructor", "é🦀", '"\\\n', "\x00", "1"]
    ann = await client()
    await joined(ann)
    for key in keys:
        await ann.send("1", "7", "room:a", "track", {"key": key})
    seen: dict[str, Any] = {}
    while len(seen) < len(keys):
        frame = await ann.receive()
        if frame[3] == "presence_diff":
            seen |= frame[4]["joins"]
    assert sorted(seen) == sorted(keys)
    bob = await client()
    assert sorted(await joined(bob)) == sorted(keys)


@pytest.mark.parametrize(
    ("event", "topic", "payload", "reason", "says"),
    [
        ("track", "room:a", {"key": "ann"}, "already_tracked", "update('ann', meta)"),
        ("update", "room:a", {"key": "bob", "meta": {}}, "nopresence", "track('bob', meta)"),
        ("track", "plain:a", {"key": "ann"}, "undeclared", 'presence="list"'),
        ("untrack", "plain:a", {"key": "ann"}, "undeclared", 'presence="list"'),
        ("track", "room:a", {"key": "k" * 1025}, "ValueError", "at most 1024 bytes, got 1025"),
        ("track", "room:a", {"key": "b", "meta": {"x": "y" * 20000}}, "ValueError", "16384"),
        ("track", "room:a", {"key": "b", "meta": [1]}, "TypeError", "mapping, got list"),
        ("track", "room:a", {"key": 7}, "TypeError", "str, got int"),
    ],
)
async def test_what_cannot_be_done_says_why(client, event, topic, payload, reason, says):
    ann = await client()
    await ann.join(topic)
    if topic == "room:a":
        await ann.receive()
        await asks(ann, "track", key="ann")
        await diff(ann)
    answer = await asks(ann, event, topic, **payload)
    assert (answer["status"], answer["response"]["reason"]) == ("error", reason)
    assert says in answer["response"]["message"]
    await ann.silence()


async def test_a_channel_without_presence_is_sent_none(client):
    ann = await client()
    await ann.join("plain:a")
    assert (await asks(ann, "list", "plain:a"))["response"] == {}
    await ann.silence()


async def test_many_changes_at_once_are_one_frame(client):
    ann = await client()
    await joined(ann)
    for n in range(50):
        await ann.send("1", None, "room:a", "track", {"key": str(n)})
    await ann.send("1", "last", "room:a", "list", {})
    diffs = 0
    while (frame := await ann.receive())[1] != "last":
        diffs += frame[3] == "presence_diff"
    known = len(frame[4]["response"])
    joins, _ = await diff(ann)
    assert known == 50
    assert diffs + 1 < 50
    assert len(joins) > 1


async def test_subscribers_of_a_stream_are_present_by_its_declaration(client, running):
    bob = await client(user="bob")
    await joined(bob, "stage:a")
    assert list((await diff(bob, "stage:a"))[0]) == ["bob"]
    named = await client(user="carol")
    await joined(named, "stage:a", name="the singer")
    joins, _ = await diff(bob, "stage:a")
    assert joins["the singer"]["metas"][0]["via"] == "stream"
    nameless = await client()
    await joined(nameless, "stage:a")
    (key,) = (await diff(bob, "stage:a"))[0]
    assert key.startswith("connection:")
    assert sorted(running.gateway.presence("stage:a")) == sorted(["bob", "the singer", key])


async def test_a_counted_topic_is_told_how_many_there_are(client, running):
    bob, ann = await client(user="bob"), await client(user="ann")
    assert await joined(bob, "crowd") == {"count": 0}
    await bob.expect(None, None, "crowd", "presence_count", {"count": 1})
    assert await joined(ann, "crowd") == {"count": 1}
    for made in (bob, ann):
        await made.expect(None, None, "crowd", "presence_count", {"count": 2})
    await bob.close()
    await ann.expect(None, None, "crowd", "presence_count", {"count": 1})
    assert list(running.gateway.presence("crowd")) == ["ann"]


async def test_json_clients_are_told_the_same_as_events(client, running):
    phoenix = await client(user="ann")
    await joined(phoenix, "stage:a")
    whole = (await diff(phoenix, "stage:a"))[0]
    json = await JsonClient.open(f"ws://127.0.0.1:{running.port}/ws")
    await json.subscribe("stage:a")
    about = {"type": "event", "topic": "stage:a"}
    assert await json.event() == {**about, "event": "presence_state", "payload": whole}
    heard = await json.event()
    assert heard["event"] == "presence_diff"
    assert (heard["payload"]["joins"], heard["payload"]["leaves"]) == (
        await diff(phoenix, "stage:a")
    )
    await json.close()


async def test_a_topic_that_nobody_is_on_keeps_nothing(client, running):
    core = running.gateway.hub.core
    ann = await client()
    await joined(ann)
    await asks(ann, "track", key="ann")
    assert b'"count":1' in (core.presence("room:a") or b"")
    await ann.close()
    await until(lambda: core.presence("room:a") is None)
