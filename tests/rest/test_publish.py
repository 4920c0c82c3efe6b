"""Publishing over HTTP: what is answered, what subscribers get, and nothing twice."""

from __future__ import annotations

import asyncio
import base64
import sqlite3

from json_client import JsonClient
from moda.errors import Unavailable


async def test_a_message_is_published_and_its_position_told(api):
    client = await JsonClient.open(f"ws://127.0.0.1:{api.running.port}/ws")
    began = await client.subscribe("room:1")
    answer = await api.publish("room:1", payload={"text": "a\u00e9", "n": 1.10})
    assert answer.status == 200
    assert answer.body == {"epoch": began["epoch"], "offset": 1}
    event = await client.event()
    assert (event["topic"], event["event"], event["offset"]) == ("room:1", "said", 1)
    assert event["payload"] == {"text": "a\u00e9", "n": 1.10}
    await client.close()


async def test_a_topic_without_history_has_no_position(api):
    heard = api.hears("plain:1")
    assert (await api.publish("plain:1")).body == {"epoch": None, "offset": None}
    assert heard == [("said", b"{}", False)]


async def test_a_payload_travels_as_the_bytes_it_came_as(api):
    heard = api.hears("plain:1")
    text = b'{"big": 123456789012345678901234567890, "money":1.10,  "a":"\\u00e9"}'
    answer = await api.ask(
        "POST", "/publish", b'{"topic":"plain:1","event":"said","payload":  ' + text + b"}"
    )
    assert answer.status == 200
    assert heard == [("said", text, False)]


async def test_bytes_come_in_base64_and_go_out_binary(api):
    heard = api.hears("plain:1")
    data = bytes(range(256))
    encoded = base64.b64encode(data).decode()
    assert (await api.publish("plain:1", payload=encoded, encoding="base64")).status == 200
    assert heard == [("said", data, True)]


async def test_every_message_of_a_batch_has_its_own_result_in_order(api):
    heard = api.hears("room:1")
    answer = await api.batch(
        {"topic": "room:1", "event": "said", "payload": {"n": 1}},
        {"topic": "nowhere", "event": "said"},
        {"topic": "room:1", "event": "phx_reply"},
        {"topic": "kept:1", "event": "said", "payload": {"n": 2}},
        {"topic": 7, "event": "said"},
        "no object",
        {"topic": "room:1", "event": "said", "payload": [1]},
        {"topic": "room:1", "event": "said", "paylod": {}},
        {"topic": "room:1", "event": "said", "payload": {"n": 3}},
    )
    assert answer.status == 200
    results = answer.body["results"]
    assert [result.get("offset", result.get("code")) for result in results] == [
        1, "unmatched_topic", "reserved_event", 1, "invalid_message", "invalid_message",
        "invalid_payload", "invalid_message", 2,
    ]  # fmt: skip
    assert results[1]["received"] == "nowhere"
    assert "paylod" in results[7]["message"]
    assert [data for _, data, _ in heard] == [b'{"n": 1}', b'{"n": 3}']


async def test_durable_messages_of_a_request_are_one_commit_and_dense(api):
    heard = api.hears("kept:b")
    answer = await api.batch(
        *[
            {"topic": f"kept:{'ab'[n % 2]}", "event": "said", "payload": {"n": n}}
            for n in range(100)
        ]
    )
    results = answer.body["results"]
    assert [result["offset"] for result in results] == [n // 2 + 1 for n in range(100)]
    assert [data for _, data, _ in heard] == [b'{"n": %d}' % n for n in range(1, 100, 2)]
    page = (await api.history("kept:b", "limit=1000")).body
    assert [message["payload"]["n"] for message in page["messages"]] == list(range(1, 100, 2))
    assert len({message["time"] for message in page["messages"]}) == 1


NO_REQUESTS = [
    (b"", "invalid_json"),
    (b"[]", "invalid_json"),
    (b'{"topic": "room:1", "event": "a"', "invalid_json"),
    (b'{"topic": "room:1", "event": "a", "payload": {"a": "\xff"}}', "invalid_json"),
    (b'{"messages": []}', "invalid_batch"),
    (b'{"messages": [%s]}' % b",".join([b"{}"] * 1001), "invalid_batch"),
    (b'{"messages": {}}', "invalid_json"),
    (b"[" * 100_000, "invalid_json"),
    (b'{"event": "a"}', "invalid_message"),
    (b'{"topic": "", "event": "a"}', "invalid_topic"),
    (b'{"topic": "room:1", "event": ""}', "invalid_event"),
    (b'{"topic": "room:1", "event": "%s"}' % (b"e" * 1025), "invalid_event"),
    (b'{"topic": "\\ud800", "event": "a"}', "invalid_json"),
    (b'{"topic": "room:1", "event": "phx_close"}', "reserved_event"),
    (b'{"topic": "room:1", "event": "a", "payload": null}', "invalid_payload"),
    (b'{"topic": "room:1", "event": "a", "payload": {"a": "\\ud800"}}', "invalid_json"),
    (b'{"topic": "room:1", "event": "a", "payload": "?", "encoding": "base64"}', "invalid_payload"),
    (b'{"topic": "room:1", "event": "a", "payload": {}, "encoding": "base64"}', "invalid_payload"),
    (b'{"topic": "room:1", "event": "a", "encoding": "hex"}', "invalid_encoding"),
    (b'{"topic": "room:%s", "event": "a", "payload": "AA==", "encoding": "base64"}' % (b"x" * 300), "invalid_topic"),
    (b'{"topic": "kept:%s", "event": "a"}' % (b"x" * 300), "invalid_topic"),
    (b'{"topic": "room:1", "event": "a", "key": "%s"}' % (b"k" * 1025), "invalid_key"),]  # fmt: skip


async def test_a_request_that_is_none_says_what_is_wrong(api):
    for body, code in NO_REQUESTS:
        answer = await api.ask("POST", "/publish", body)
        assert (answer.status, answer.body["error"]["code"]) == (400, code), body[:80]
        assert answer.body["error"]["message"]
        assert answer.body["error"]["request_id"]


async def test_a_topic_that_nothing_serves_is_not_found(api):
    answer = await api.publish("nowhere")
    assert (answer.status, answer.body["error"]["received"]) == (404, "nowhere")


async def test_too_large_a_body_is_refused_before_it_is_read(api):
    reader, writer = await asyncio.open_connection("127.0.0.1", api.running.port)
    writer.write(
        b"POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n"
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 20)
    assert b" 413 " in head
    writer.close()


async def test_a_payload_is_bounded_as_a_client_s_message_is(begin):
    api = await begin(MODA_MAX_MESSAGE="1k")
    answer = await api.publish("room:1", payload={"text": "x" * 1024})
    assert (answer.status, answer.body["error"]["accepted"]) == (413, {"most": 1024})
    encoded = base64.b64encode(bytes(1025)).decode()
    answer = await api.publish("room:1", payload=encoded, encoding="base64")
    assert answer.status == 400
    encoded = base64.b64encode(bytes(1024)).decode()
    assert (await api.publish("room:1", payload=encoded, encoding="base64")).status == 200


class TestOnce:
    """The header Idempotency-Key."""

    async def test_the_same_request_again_gets_the_same_answer_and_publishes_nothing(self, api):
        for topic in ("room:1", "plain:1", "kept:1"):
            heard = api.hears(topic)
            body = {"topic": topic, "event": "said", "payload": {"n": 1}}
            answers = [
                await api.ask("POST", "/publish", body, idempotency_key=topic) for _ in range(3)
            ]
            assert [answer.status for answer in answers] == [200, 200, 200]
            assert answers[0].body == answers[1].body == answers[2].body
            assert len(heard) == 1, topic

    async def test_two_at_once_publish_once(self, api):
        heard = api.hears("kept:1")
        body = {"messages": [{"topic": "kept:1", "event": "said"}] * 3}
        answers = await asyncio.gather(
            *[api.ask("POST", "/publish", body, idempotency_key="one") for _ in range(8)]
        )
        assert {str(answer.body) for answer in answers} == {str(answers[0].body)}
        assert [result["offset"] for result in answers[0].body["results"]] == [1, 2, 3]
        assert len(heard) == 3

    async def test_a_key_of_another_request_is_a_conflict(self, api):
        await api.ask("POST", "/publish", {"topic": "room:1", "event": "a"}, idempotency_key="one")
        other = {"topic": "room:1", "event": "b"}
        answer = await api.ask("POST", "/publish", other, idempotency_key="one")
        assert (answer.status, answer.body["error"]["code"]) == (409, "key_reused")
        assert (await api.ask("POST", "/publish", other, idempotency_key="two")).status == 200

    async def test_a_key_that_cannot_be_kept_is_refused(self, api):
        body = {"topic": "room:1", "event": "a"}
        for key in ("", "two words", "k" * 256):
            answer = await api.ask("POST", "/publish", body, idempotency_key=key)
            assert answer.body["error"]["code"] == "invalid_idempotency_key"

    async def test_durable_messages_are_remembered_over_a_restart(self, begin):
        body = {"messages": [{"topic": f"kept:{n % 3}", "event": "said"} for n in range(9)]}
        first = await begin()
        before = await first.ask("POST", "/publish", body, idempotency_key="one")
        await first.running.stop()
        second = await begin()
        heard = second.hears("kept:1")
        after = await second.ask("POST", "/publish", body, idempotency_key="one")
        assert after.body == before.body
        assert heard == []
        other = await second.ask(
            "POST", "/publish", {"topic": "kept:1", "event": "b"}, idempotency_key="one"
        )
        assert other.status == 409

    async def test_what_failed_for_a_passing_reason_is_tried_again_and_nothing_else(
        self, api, monkeypatch
    ):
        memory, durable = api.hears("room:1"), api.hears("kept:1")
        messages = [
            {"topic": "room:1", "event": "said"},
            {"topic": "kept:1", "event": "said"},
            {"topic": "nowhere", "event": "said"},
        ]
        log = api.running.gateway.hub.durable.log

        def away(batch, *, key=None):
            raise Unavailable("the database at secret.example is away", 3.0)

        with monkeypatch.context() as patched:
            patched.setattr(log, "append", away)
            failed = (await api.batch(*messages, idempotency_key="one")).body["results"]
        again = (await api.batch(*messages, idempotency_key="one")).body["results"]
        assert (failed[0]["offset"], failed[2]["code"]) == (1, "unmatched_topic")
        assert (failed[1]["code"], failed[1]["retry_after"]) == ("unavailable", 3.0)
        assert "secret" not in failed[1]["message"]
        assert again[0] == failed[0]
        assert again[1]["offset"] == 1
        assert (len(memory), len(durable)) == (1, 1)


class TestDatabaseAway:
    async def test_one_durable_message_gets_503_and_when_to_come_back(self, begin, tmp_path):
        api = await begin()
        await api.publish("kept:1")
        locked = sqlite3.connect(tmp_path / "moda.db", isolation_level=None)
        locked.execute("BEGIN EXCLUSIVE")
        answer = await api.publish("kept:1")
        assert (answer.status, answer.body["error"]["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert (await api.publish("room:1")).status == 200
        locked.execute("ROLLBACK")
        locked.close()
        async with asyncio.timeout(20):
            while (answer := await api.publish("kept:1")).status == 503:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert answer.body["offset"] == 2

    async def test_messages_of_a_batch_fail_alone(self, api, monkeypatch):
        def away(batch, *, key=None):
            raise Unavailable("away", 2.0)

        monkeypatch.setattr(api.running.gateway.hub.durable.log, "append", away)
        answer = await api.batch(
            {"topic": "kept:1", "event": "a"}, {"topic": "plain:1", "event": "a"}
        )
        assert answer.status == 200
        assert answer.body["results"][0]["code"] == "unavailable"
        assert answer.body["results"][1] == {"epoch": None, "offset": None}


async def test_disconnect_closes_the_sockets_of_an_id(begin):
    from moda import Gateway, Socket

    gateway = Gateway(builtins=False)

    @gateway.connect
    async def admit(connect):
        return Socket(id="user:1")

    api = await begin(gateway)
    clients = [await JsonClient.open(f"ws://127.0.0.1:{api.running.port}/ws") for _ in range(2)]
    assert (await api.ask("POST", "/disconnect", {"id": "user:2"})).body == {"closed": 0}
    assert (await api.ask("POST", "/disconnect", {"id": "user:1"})).body == {"closed": 2}
    for client in clients:
        await asyncio.wait_for(client.socket.wait_closed(), 20)
        assert client.socket.close_code == 1001
    answer = await api.ask("POST", "/disconnect", {"name": "user:1"})
    assert (answer.status, answer.body["error"]["code"]) == (400, "invalid_message")


async def test_outcomes_are_counted(api):
    await api.batch({"topic": "room:1", "event": "a"}, {"topic": "nowhere", "event": "a"})
    body = {"topic": "room:1", "event": "a"}
    for _ in range(2):
        await api.ask("POST", "/publish", body, idempotency_key="one")

    def scrape() -> str:
        import urllib.request

        with urllib.request.urlopen(api.running.url + "/metrics", timeout=20) as answer:
            return answer.read().decode()

    lines = (await asyncio.to_thread(scrape)).splitlines()
    assert 'moda_http_publish_messages_total{outcome="published"} 2.0' in lines
    assert 'moda_http_publish_messages_total{outcome="refused"} 1.0' in lines
    assert "moda_http_publish_repeats_total 1.0" in lines
