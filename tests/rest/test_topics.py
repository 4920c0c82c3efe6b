"""What the HTTP API tells of topics, beside what their subscribers and publishers were told."""

from __future__ import annotations

import base64
import time

from gateway import until
from json_client import JsonClient
from moda.errors import Unavailable
from phoenix import Phoenix


async def test_a_topic_says_who_hears_it_by_transport_and_where_it_stands(api):
    plain = await JsonClient.open(f"ws://127.0.0.1:{api.running.port}/ws")
    phoenix = await Phoenix.open(api.running.ws())
    await plain.subscribe("room:1")
    await phoenix.join("room:1")
    published = (await api.publish("room:1")).body
    state = (await api.get("/topics/room:1")).body
    assert state == {
        "topic": "room:1",
        "subscribers": {"json": 1, "phoenix/2": 1},
        "published": 1,
        **published,
    }
    await phoenix.close()
    await plain.close()


async def test_a_topic_nobody_is_on_is_there_and_one_that_nothing_serves_is_not(api):
    assert (await api.get("/topics/plain:1")).body == {
        "topic": "plain:1",
        "subscribers": {},
        "published": 0,
        "epoch": None,
        "offset": None,
    }
    answer = await api.get("/topics/nowhere")
    assert (answer.status, answer.body["error"]["code"]) == (404, "unmatched_topic")
    assert (await api.history("nowhere")).body["error"]["code"] == "unmatched_topic"
    assert (await api.history("plain:1")).body["error"]["code"] == "no_history"


async def test_a_topic_says_who_is_present(api):
    nobody = {"topic": "full:1", "count": 0, "presences": {}}
    assert (await api.get("/topics/full:1/presence")).body == nobody
    first, second = await Phoenix.open(api.running.ws()), await Phoenix.open(api.running.ws())
    await first.join("full:1")
    await second.join("full:1")
    body = (await api.get("/topics/full:1/presence")).body
    assert body["count"] == 2
    assert [len(one["metas"]) for one in body["presences"].values()] == [1, 1]
    assert body["presences"] == api.running.gateway.presence("full:1")
    await first.close()
    await until(lambda: api.running.gateway.presence("full:1").keys() < body["presences"].keys())
    assert (await api.get("/topics/full:1/presence")).body["count"] == 1
    await second.close()
    assert (await api.get("/topics/plain:1/presence")).body["count"] == 0
    assert (await api.get("/topics/nowhere/presence")).status == 404


async def test_a_topic_may_have_any_name(api):
    for topic in ("room:a/b", "room:a%2Fb", "room:ü ?#&", "kept:x/../y", "room:\u0000"):
        assert (await api.publish(topic, payload={"topic": topic})).status == 200
        page = (await api.history(topic)).body
        assert page["topic"] == topic
        assert [message["payload"] for message in page["messages"]] == [{"topic": topic}]
    answer = await api.get("/topics/room:%ff")
    assert (answer.status, answer.body["error"]["code"]) == (400, "invalid_topic")


async def test_topics_come_in_pages_in_order_from_memory_and_database(api):
    names = [f"{kind}:{n}" for kind in ("room", "kept") for n in range(7)]
    await api.batch(*[{"topic": name, "event": "said"} for name in names])
    seen: list[str] = []
    after = ""
    while True:
        page = (await api.get(f"/topics?limit=3&after={after}")).body
        assert page["complete"] is True
        seen += [state["topic"] for state in page["topics"]]
        if page["next"] is None:
            break
        assert len(page["topics"]) == 3
        after = page["next"]
    assert seen == sorted(names)
    assert all(state["offset"] == 1 for state in page["topics"])
    found = (await api.get("/topics?pattern=kept:*&limit=1000")).body["topics"]
    assert [state["topic"] for state in found] == sorted(names)[:7]
    for exact in ("kept:3", "room:3"):
        found = (await api.get(f"/topics?pattern={exact}")).body["topics"]
        assert [state["topic"] for state in found] == [exact]
    assert (await api.get("/topics?pattern=room")).body["topics"] == []


async def test_a_page_of_topics_says_that_the_database_could_not_add_to_it(api, monkeypatch):
    await api.batch({"topic": "room:1", "event": "a"}, {"topic": "kept:1", "event": "a"})

    async def away(**options):
        raise Unavailable("away")

    monkeypatch.setattr(api.running.gateway.hub.durable.log, "topics", away)
    page = (await api.get("/topics")).body
    assert (page["complete"], [state["topic"] for state in page["topics"]]) == (False, ["room:1"])


class TestHistory:
    """Memory and database alike: ``room`` holds ten messages, ``kept`` nine thousand."""

    async def test_pages_lead_to_the_newest_without_gap_or_repeat(self, api):
        for topic in ("room:1", "kept:1"):
            await api.batch(
                *[{"topic": topic, "event": f"e{n}", "payload": {"n": n}} for n in range(1, 9)]
            )
            query, offsets = "limit=3", []
            while True:
                page = (await api.history(topic, query)).body
                assert (page["first"], page["offset"], page["gap"]) == (1, 8, None)
                for message in page["messages"]:
                    offsets.append(message["offset"])
                    assert message["event"] == f"e{message['offset']}"
                    assert message["payload"] == {"n": message["offset"]}
                    assert abs(message["time"] - time.time() * 1000) < 60_000
                if page["next"] is None:
                    break
                query = f"limit=3&since={page['next']}"
            assert offsets == list(range(1, 9))

    async def test_the_last_few_and_those_of_a_time(self, api):
        for topic in ("room:1", "kept:1"):
            await api.batch(*[{"topic": topic, "event": "said"} for _ in range(8)])
            page = (await api.history(topic, "last=3")).body
            assert [message["offset"] for message in page["messages"]] == [6, 7, 8]
            page = (await api.history(topic, "last=99&limit=2")).body
            assert [message["offset"] for message in page["messages"]] == [1, 2]
            now = int(time.time() * 1000)
            page = (await api.history(topic, f"since_time={now - 60_000}")).body
            assert len(page["messages"]) == 8
            page = (await api.history(topic, f"since_time={now + 60_000}")).body
            assert page["messages"] == []

    async def test_a_position_that_cannot_be_continued_says_why(self, api):
        for topic, first in (("room:1", 6), ("kept:1", 1)):
            await api.batch(*[{"topic": topic, "event": "said"} for _ in range(15)])
            epoch = (await api.history(topic)).body["epoch"]
            page = (await api.history(topic, f"since={epoch}.13")).body
            assert ([m["offset"] for m in page["messages"]], page["gap"]) == ([14, 15], None)
            page = (await api.history(topic, f"since={epoch}.15")).body
            assert (page["messages"], page["gap"], page["next"]) == ([], None, None)
            page = (await api.history(topic, f"since={epoch}.16")).body
            assert (page["messages"], page["gap"]) == ([], "ahead")
            page = (await api.history(topic, f"since={epoch - 1}.13")).body
            assert (page["messages"][0]["offset"], page["gap"]) == (first, "epoch")
        page = (
            await api.history("room:1", f"since={(await api.history('room:1')).body['epoch']}.2")
        ).body
        assert (page["messages"][0]["offset"], page["gap"]) == (6, "expired")

    async def test_a_topic_without_a_message_yet_is_empty(self, api):
        for topic in ("room:new", "kept:new"):
            page = (await api.history(topic)).body
            assert (page["offset"], page["first"], page["messages"]) == (0, 1, [])
            told = (await api.publish(topic)).body
            assert told == {"epoch": page["epoch"], "offset": 1}

    async def test_bytes_come_as_base64(self, api):
        encoded = base64.b64encode(b"\x00\xff").decode()
        for topic in ("room:1", "kept:1"):
            await api.publish(topic, payload=encoded, encoding="base64")
            (message,) = (await api.history(topic)).body["messages"]
            assert (message["payload"], message["encoding"]) == (encoded, "base64")

    async def test_a_page_is_bounded_in_bytes(self, api):
        for topic in ("room:1", "kept:1"):
            for _ in range(3):
                await api.publish(topic, payload={"text": "x" * 200_000})
            page = (await api.history(topic)).body
            assert len(page["messages"]) == 1
            assert page["next"] == f"{page['epoch']}.1"

    async def test_a_question_that_is_none_is_refused(self, api):
        for query in (
            "since=1",
            "since=a.b",
            "since=1.-1",
            "since=99999999999999999999.1",
            "since=%C2%B2.1",
            "last=0",
            "limit=0",
            "limit=1001",
            "limit=x",
            "since_time=-1",
            "last=1&since=1.1",
        ):
            assert (await api.history("room:1", query)).status == 400, query

    async def test_a_database_that_is_away_is_503(self, api, monkeypatch):
        async def away(*arguments, **options):
            raise Unavailable("away", 2.5)

        monkeypatch.setattr(api.running.gateway.hub.durable.log, "position", away)
        answer = await api.history("kept:1")
        assert (answer.status, answer.headers["retry-after"]) == (503, "3")
        assert (await api.history("room:1")).status == 200
        assert (await api.get("/topics/kept:1")).status == 200
