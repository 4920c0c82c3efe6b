"""Event streams at ``/sse``: the same topics, joins and offsets as for sockets, over one GET."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest

from event_stream import EventReader
from gateway import Running, until
from moda import Channel, Gateway, History, Raw, Refuse, Reject, Stop, Stream
from moda.serve.door import DoorOptions
from moda.wire.phoenix import MountOptions
from moda.wire.token import TokenRule

OpenStream = Callable[..., Awaitable[EventReader]]


class Room(Channel):
    async def join(self, payload: Any) -> Any:
        if payload.get("refuse"):
            raise Reject("not you")
        if payload.get("crash"):
            raise RuntimeError("asked to")
        return {"you": payload}

    async def joined(self) -> None:
        if self.params.get("room") == "greets":
            self.push("hello", {"to": "you"})

    async def handle(self, event: str, payload: Any) -> Stop | None:
        if event == "stop":
            return Stop("normal")
        raise RuntimeError("asked to")


def declared() -> Gateway:
    gateway = Gateway(builtins=False)
    gateway.channel("room:{room}")(Room)
    gateway.channel("log:{name}", history=History(size=5))(Room)
    gateway.channel("news")(Stream())
    gateway.channel("path/{rest}")(Stream())
    return gateway


@pytest.fixture
async def running(serve) -> Running:
    return await serve(declared())


@pytest.fixture
async def stream() -> AsyncIterator[OpenStream]:
    opened: list[EventReader] = []

    async def begin(running: Running, target: str, **options: Any) -> EventReader:
        reader = await EventReader.open(running, target, **options)
        opened.append(reader)
        return reader

    yield begin
    for reader in opened:
        await reader.close()


async def test_the_answer_is_an_event_stream_that_no_proxy_keeps(running, stream):
    reader = await stream(running, "/sse?topic=news")
    assert reader.status == 200
    assert reader.headers == {
        "content-type": "text/event-stream",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
        "connection": "close",
    }
    told = await reader.next()
    assert reader.comments == 1
    assert (told.event, told.json) == (
        "subscribed",
        {"type": "subscribed", "topic": "news", "response": {}},
    )


async def test_a_message_is_the_object_that_json_sockets_get_for_the_default_listener(
    running, stream
):
    reader = await stream(running, "/sse/room:a")
    await reader.next()
    running.gateway.broadcast("room:a", "said", {"text": "hi"})
    block = await reader.next()
    assert (block.event, block.last_id) == ("message", "")
    assert block.data == '{"type":"event","topic":"room:a","event":"said","payload":{"text":"hi"}}'


async def test_line_ends_between_the_tokens_of_a_payload_are_lines_of_data(running, stream):
    reader = await stream(running, "/sse/news")
    await reader.next()
    for json in (b'{\n"a":1}', b'{\r\n"a"\r:\n1}', b'{"a":\r\n\r1}'):
        running.gateway.broadcast("news", "said", Raw(json))
        assert (await reader.message())["payload"] == {"a": 1}


@pytest.mark.parametrize(
    ("target", "topic"),
    [
        ("/sse/room:a", "room:a"),
        ("/sse/room%3Aa", "room:a"),
        ("/sse/room:%C3%A9", "room:é"),
        ("/sse?topic=room%3A%20b", "room: b"),
        ("/sse?topic=room:+b", "room: b"),
        ("/sse/path/room", "path/room"),
        ("/sse/path%2Froom", "path/room"),
        ("/sse/?topic=news", "news"),
        ("//sse?topic=news", "news"),
    ],
)
async def test_a_topic_is_named_in_the_path_or_the_query(running, stream, target, topic):
    reader = await stream(running, target)
    assert (await reader.next()).json["topic"] == topic


async def test_the_rest_of_the_query_is_what_the_join_gets(running, stream):
    target = "/sse?topic=room:a&token=x&name=ann&deep[a]=1&lastEventId=9.9"
    reader = await stream(running, target)
    told = (await reader.next()).json
    assert told["response"] == {"you": {"name": "ann", "deep": {"a": "1"}}}


async def test_topics_named_twice_are_subscribed_once(running, stream):
    reader = await stream(running, "/sse/news?topic=room:a&topic=news&topic=room:a")
    told = [(await reader.next()).json["topic"] for _ in range(2)]
    assert sorted(told) == ["news", "room:a"]
    running.gateway.broadcast("news", "said", {})
    assert (await reader.message())["topic"] == "news"
    assert running.stats["channels"] == 2


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/sse?topic=nowhere", 404, "unmatched_topic"),
        ("/sse?topic=room:a&refuse=1", 403, "refused"),
        ("/sse?topic=room:a&crash=1", 500, "refused"),
        ("/sse?topic=nowhere&topic=room:a&refuse=1", 403, "refused"),
    ],
)
async def test_a_stream_of_which_nothing_comes_is_an_answer_in_json(
    running, stream, target, status, code
):
    reader = await stream(running, target)
    assert (reader.status, reader.headers["content-type"]) == (status, "application/json")
    body = await reader.body()
    assert len(body) == int(reader.headers["content-length"])
    assert orjson.loads(body)["code"] == code
    await until(lambda: not running.stats["connections"])


async def test_a_topic_that_is_refused_is_an_event_where_others_live(running, stream):
    reader = await stream(running, "/sse?topic=room:a&topic=nowhere&topic=news&refuse=1")
    blocks = [await reader.next() for _ in range(3)]
    errors = [block.json["code"] for block in blocks if block.event == "error"]
    assert sorted(errors) == ["refused", "unmatched_topic"]
    running.gateway.broadcast("news", "said", {"n": 1})
    assert (await reader.message())["payload"] == {"n": 1}


async def test_a_request_without_a_topic_says_how_to_name_one(running, stream):
    reader = await stream(running, "/sse")
    assert reader.status == 400
    assert b"?topic=room:1" in await reader.body()


async def test_more_topics_than_a_connection_may_have_are_a_bad_request(running, stream):
    query = "&".join(f"topic=room:{n}" for n in range(101))
    reader = await stream(running, f"/sse?{query}")
    assert (reader.status, await reader.body()) == (400, b"a stream takes 100 topics, got 101")


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE"])
async def test_other_methods_are_told_which_are_allowed(running, stream, method):
    reader = await stream(running, "/sse?topic=news", method=method)
    assert (reader.status, reader.headers["allow"]) == (405, "GET, OPTIONS")


@pytest.mark.parametrize(
    "how",
    [
        lambda last: ("/sse/log:a", {"last_event_id": last}),
        lambda last: (f"/sse/log:a?lastEventId={last}", {}),
        lambda last: (f"/sse/log:a?last_event_id={last}", {}),
        # What a browser sends when it comes back outranks what its URL began with.
        lambda last: ("/sse/log:a?lastEventId=1.1", {"last_event_id": last}),
    ],
)
async def test_a_reader_that_comes_back_gets_what_it_missed_and_then_what_is_new(
    running, stream, how
):
    first = await stream(running, "/sse/log:a")
    assert (await first.next()).json["offset"] == 0
    for n in range(1, 4):
        running.gateway.broadcast("log:a", "line", {"n": n})
    assert (await first.message())["offset"] == 1
    last = first.last_id
    assert last == f"{running.gateway.position('log:a').epoch}.1"
    await first.close()
    target, headers = how(last)
    back = await stream(running, target, **headers)
    told = await back.next()
    assert (told.json["recovered"], told.json["missed"], told.last_id) == (True, 2, last)
    running.gateway.broadcast("log:a", "line", {"n": 4})
    heard = [await back.message() for _ in range(3)]
    assert [message["offset"] for message in heard] == [2, 3, 4]
    assert [message["payload"]["n"] for message in heard] == [2, 3, 4]


async def test_a_reader_of_several_topics_comes_back_to_all_of_them(running, stream):
    target = "/sse?topic=log:a&topic=log:b&topic=news"
    first = await stream(running, target)
    for _ in range(3):
        await first.next()
    running.gateway.broadcast("log:a", "line", {"n": 1})
    running.gateway.broadcast("log:b", "line", {"n": 2})
    assert (await first.message())["topic"] == "log:a"
    last = first.last_id
    await first.close()
    back = await stream(running, target, last_event_id=last)
    heard = [await back.next() for _ in range(4)]
    told = [block.json for block in heard if block.event == "subscribed"]
    recovered = {begun["topic"]: begun.get("recovered") for begun in told}
    assert recovered == {"log:a": True, "log:b": True, "news": None}
    missed = [block.json for block in heard if block.event == "message"]
    assert [(message["topic"], message["offset"]) for message in missed] == [("log:b", 1)]


@pytest.mark.parametrize("last", ["nonsense", "1.1", "0000.1", "%00", "9" * 400])
async def test_an_id_nobody_gave_is_told_and_no_error(running, stream, last):
    running.gateway.broadcast("log:a", "line", {"n": 1})
    reader = await stream(running, "/sse/log:a", last_event_id=last)
    told = (await reader.next()).json
    assert told["recovered"] is False
    assert told["why"] in ("invalid_id", "epoch")
    running.gateway.broadcast("log:a", "line", {"n": 2})
    assert (await reader.message())["payload"] == {"n": 2}


async def test_a_stream_that_ended_in_good_order_is_not_come_back_to(running, stream):
    reader = await stream(running, "/sse/room:a", last_event_id="closed")
    assert reader.status == 204
    assert "content-length" not in reader.headers
    assert await reader.body() == b""


async def test_a_channel_may_push_to_a_reader(running, stream):
    reader = await stream(running, "/sse/room:greets")
    assert (await reader.message())["payload"] == {"to": "you"}


async def test_a_token_in_the_query_or_a_header_opens_what_the_operator_closed(serve, stream):
    gateway = declared()
    gateway.configure(sockets=MountOptions(tokens=TokenRule.of("required", ["right"])))
    running = await serve(gateway)
    for target, headers, status in [
        ("/sse/news", {}, 403),
        ("/sse/news?token=wrong", {}, 403),
        ("/sse/news?token=right", {}, 200),
        ("/sse/news", {"authorization": "Bearer right"}, 200),
        ("/sse/news", {"authorization": "Bearer wrong"}, 403),
    ]:
        reader = await stream(running, target, **headers)
        assert reader.status == status, (target, headers)


async def test_the_connect_hook_of_the_default_socket_decides_here_too(serve, stream):
    gateway = declared()
    seen: list[Any] = []

    @gateway.connect
    async def admit(connect: Any) -> str:
        seen.append((connect.token, connect.params, connect.path))
        if connect.params.get("who") != "ann":
            raise Refuse(401)
        return "ann"

    running = await serve(gateway)
    assert (await stream(running, "/sse/news?who=bob")).status == 401
    reader = await stream(running, "/sse/news?who=ann", authorization="Bearer t")
    assert reader.status == 200
    assert seen[1] == ("t", {"who": "ann", "topic": "news"}, "/sse/news")


class TestOrigins:
    @pytest.fixture
    async def running(self, serve) -> Running:
        gateway = declared()
        gateway.socket("/sse", origins=["same", "https://app.example"])
        return await serve(gateway)

    async def test_a_page_that_may_be_here_may_read(self, running, stream):
        reader = await stream(running, "/sse/news", origin="https://app.example")
        assert reader.status == 200
        assert reader.headers["access-control-allow-origin"] == "https://app.example"
        assert reader.headers["access-control-allow-credentials"] == "true"
        assert reader.headers["vary"] == "origin"

    async def test_a_stranger_is_refused_and_may_not_read_why(self, running, stream):
        reader = await stream(running, "/sse/news", origin="https://evil.example")
        assert reader.status == 403
        assert "access-control-allow-origin" not in reader.headers
        assert running.refusals == ["origin"]

    async def test_a_refusal_can_be_read_by_a_page_that_may_be_here(self, running, stream):
        for target, status in [("/sse/nowhere", 404), ("/sse/room:a?refuse=1", 403), ("/sse", 400)]:
            reader = await stream(running, target, origin="https://app.example")
            assert reader.status == status
            assert reader.headers["access-control-allow-origin"] == "https://app.example"

    async def test_a_preflight_names_what_may_be_sent(self, running, stream):
        asked = {"access_control_request_headers": "authorization"}
        options = {"method": "OPTIONS", "origin": "https://app.example", **asked}
        reader = await stream(running, "/sse/news", **options)
        assert reader.status == 204
        assert "authorization" in reader.headers["access-control-allow-headers"]
        assert reader.headers["access-control-allow-methods"] == "GET"
        evil = {**options, "origin": "https://evil.example"}
        assert (await stream(running, "/sse/news", **evil)).status == 403


async def test_any_origin_may_read_without_credentials_where_the_operator_says_any(serve, stream):
    gateway = declared()
    gateway.socket("/sse", origins="any")
    reader = await stream(await serve(gateway), "/sse/news", origin="https://x.example")
    assert reader.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in reader.headers


async def test_sockets_and_streams_share_topics_and_offsets(running, stream, connect):
    reader = await stream(running, "/sse/log:a")
    phoenix = await connect(running)
    await phoenix.join("log:a")
    await reader.next()
    for n in (1, 2):
        running.gateway.broadcast("log:a", "line", {"n": n})
        await phoenix.expect(None, f"@{n}", "log:a", "line", {"n": n})
        assert (await reader.message())["offset"] == n


async def test_what_a_reader_sends_is_not_read_and_bounded(running, stream):
    reader = await stream(running, "/sse/news")
    await reader.next()
    reader.writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.writer.drain()
    running.gateway.broadcast("news", "said", {"n": 1})
    assert (await reader.message())["payload"] == {"n": 1}
    reader.writer.write(b"x" * 200_000)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.next()
    await until(lambda: not running.stats["connections"])


async def test_a_reader_that_goes_leaves_nothing(running, stream):
    readers = [await stream(running, "/sse?topic=room:a&topic=news") for _ in range(5)]
    for reader in readers:
        await reader.next()
        await reader.close()
    await until(lambda: not running.stats["connections"] and not running.stats["channels"])
    assert running.stats["mounts"]["/sse"] == 0


async def test_a_kept_alive_connection_may_ask_for_a_stream(running, stream):
    reader = await stream(running, "/health")
    assert reader.status == 200
    await reader.reader.readexactly(int(reader.headers["content-length"]))
    reader.writer.write(b"GET /sse/news HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await reader.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream")
    assert (await reader.next()).event == "subscribed"


async def test_http_1_0_is_served_as_proxies_speak_it(running, stream):
    reader = await stream(running, "/sse/news", version="1.0")
    assert (await reader.next()).event == "subscribed"


async def test_streams_count_as_connections_and_are_turned_away_over_the_cap(serve, stream):
    running = await serve(declared(), door=DoorOptions(max_connections=1))
    first = await stream(running, "/sse/news")
    assert (await first.next()).event == "subscribed"
    second = await stream(running, "/sse/news")
    assert second.status == 503
    assert second.headers["retry-after"]


async def test_a_drain_is_told_in_the_stream(running, stream):
    reader = await stream(running, "/sse/news")
    await reader.next()
    running.gateway.hub.close_some(10, 1012, "restart")
    block = await reader.next()
    assert (block.event, block.json) == (
        "close",
        {"type": "close", "code": 1012, "reason": "restart"},
    )
    assert await reader.body() == b""


async def test_a_stream_of_ones_own_has_its_path_and_rules(serve, stream):
    gateway = declared()
    gateway.socket("/feed", dialect="sse", max_channels=1)
    gateway.channel("own", sockets=["/feed"])(Stream())
    running = await serve(gateway)
    assert (await (await stream(running, "/feed/own")).next()).event == "subscribed"
    assert (await stream(running, "/feed?topic=own&topic=news")).status == 400
    assert (await stream(running, "/sse/own")).status == 404
