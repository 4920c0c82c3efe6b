"""A client that does not read: what it costs the gateway, what it gets, what others notice.

The kernel takes some megabytes before a reader is slow at all (loopback sockets grow), so these
tests publish until the engine says that it met one.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway import Running, until
from moda import Channel, Gateway, Stream
from moda.hub import Hub
from moda.message import Raw as RawJson
from raw import CLOSE, TEXT, Raw, frame

BUDGET = 256 * 1024
PAD = "x" * 16_000
SLACK = 128 * 1024
"""One run of broadcasts and one message may be on top of a budget before it is enforced."""


def gateway_of(delivery: str) -> Gateway:
    gateway = Gateway(builtins=False)
    gateway.configure(Hub(outbox_bytes=BUDGET))
    gateway.channel("news", delivery=delivery)(Stream)
    gateway.channel("other")(Stream)
    return gateway


async def stopped_reader(running: Running, raw, topic: str = "news") -> Raw:
    """A client that has joined and now reads nothing, with as little kernel buffer as there is."""
    client = await raw(running, receive_buffer=4096)
    await client.upgrade()
    await client.send(frame(json.dumps(["1", "1", topic, "phx_join", {}])))
    opcode, payload = await client.receive()
    assert (opcode, b'"status":"ok"' in payload) == (TEXT, True)
    return client


async def read_news(client: Raw) -> tuple[str, int] | None:
    """The next message's key and number; None for the server's close."""
    opcode, payload = await client.receive()
    if opcode == CLOSE:
        assert int.from_bytes(payload[:2], "big") == 1013
        return None
    news = json.loads(payload)
    assert news[:4] == [None, None, "news", "news"], news
    return news[4]["key"], news[4]["n"]


async def publish(gateway: Gateway, n: int, key: str = "a") -> None:
    gateway.broadcast("news", "news", {"key": key, "n": n, "pad": PAD}, key=key)
    await gateway.drained()


async def test_under_every_a_reader_over_budget_is_closed_with_1013_after_an_unbroken_prefix(
    serve, raw, connect
):
    gateway = gateway_of("every")
    running = await serve(gateway)
    slow = await stopped_reader(running, raw)
    quick = await connect(running)
    await quick.join("news")
    n = most = 0
    while not running.stats["slow_closed"]:
        await publish(gateway, n)
        most = max(most, running.stats["outbox_bytes"])
        await quick.expect(None, None, "news", "news", {"key": "a", "n": n, "pad": PAD})
        n += 1
    assert most <= BUDGET + SLACK
    assert running.stats["closes"] == {1013: 1}
    assert gateway.subscribers("news") == 1
    got = []
    while (news := await read_news(slow)) is not None:
        got.append(news)
    assert got == [("a", n) for n in range(len(got))]
    assert 0 < len(got) < n
    await publish(gateway, n)
    await quick.expect(None, None, "news", "news", {"key": "a", "n": n, "pad": PAD})


async def test_under_latest_a_slow_reader_stays_and_gets_the_newest_of_each_key_when_it_reads_again(
    serve, raw, connect
):
    gateway = gateway_of("latest")
    running = await serve(gateway)
    slow = await stopped_reader(running, raw)
    quick = await connect(running)
    await quick.join("news")
    n = most = after = 0
    while after < 100:
        after += running.stats["short_sends"] > 0
        key = "abc"[n % 3]
        await publish(gateway, n, key)
        most = max(most, running.stats["outbox_bytes"])
        await quick.expect(None, None, "news", "news", {"key": key, "n": n, "pad": PAD})
        n += 1
    assert most <= SLACK
    newest = {"abc"[n % 3]: n for n in range(n - 3, n)}
    last: dict[str, int] = {}
    order: list[int] = []
    while last != newest:
        key, number = await read_news(slow)
        last[key] = number
        order.append(number)
    assert order == sorted(order)
    assert len(order) + running.stats["conflated"] == n
    assert running.stats["slow_closed"] == 0
    await publish(gateway, n, "a")
    assert await read_news(slow) == ("a", n)


DOCUMENT = b"""
asyncapi: 3.0.0
info: {title: News, version: 1.0.0}
channels:
  news:
    address: news
    x-moda: {delivery: latest, key: /key, publish: clients}
    messages:
      news: {payload: {type: object}}
"""


async def test_under_latest_the_key_is_found_in_what_anybody_publishes_and_nothing_without_it_is_lost(
    serve, raw, connect
):
    gateway = Gateway(asyncapi=DOCUMENT, builtins=False)
    running = await serve(gateway)
    slow = await stopped_reader(running, raw)
    n = after = 0
    keyless: list[int] = []
    while after < 100:
        after += running.stats["short_sends"] > 0
        payload: dict[str, Any] = {"n": n, "pad": PAD, "key": "abc"[n % 3]}
        if after % 10 == 5:
            payload["key"] = None
            keyless.append(n)
        match n % 4:
            case 0:
                gateway.broadcast("news", "news", payload)
            case 1:
                gateway.broadcast("news", "news", RawJson(json.dumps(payload).encode()))
            case 2:
                gateway.hub.publish("news", "news", payload)
            case 3:
                relayed = await connect(running)
                await relayed.join("news")
                await relayed.ask("1", "2", "news", "news", payload)
                await relayed.close()
        await gateway.drained()
        n += 1
    newest = {"abc"[number % 3]: number for number in range(n) if number not in keyless}
    last: dict[str | None, int] = {}
    got: list[int] = []
    while {key: last.get(key) for key in newest} != newest:
        news = await read_news(slow)
        assert news is not None
        last[news[0]] = news[1]
        got.append(news[1])
    assert got == sorted(got)
    assert running.stats["conflated"] > 0
    assert [number for number in keyless if number <= got[-1]] == [
        number for number in got if number in keyless
    ]


async def test_under_drop_a_slow_reader_stays_and_misses_what_did_not_fit(serve, raw, connect):
    gateway = gateway_of("drop")
    running = await serve(gateway)
    slow = await stopped_reader(running, raw)
    quick = await connect(running)
    await quick.join("news")
    n = most = 0
    while running.stats["dropped"] < 100:
        await publish(gateway, n)
        most = max(most, running.stats["outbox_bytes"])
        await quick.expect(None, None, "news", "news", {"key": "a", "n": n, "pad": PAD})
        n += 1
    assert most <= SLACK
    # It reads what fitted, then is served again; what was dropped stays dropped.
    received = n - running.stats["dropped"]
    got = [await read_news(slow) for _ in range(received)]
    assert got == [("a", number) for number in range(received)]
    marker = n
    while running.stats["dropped"] > n - received or marker == n:
        dropped = running.stats["dropped"]
        await publish(gateway, marker)
        marker += 1
        if running.stats["dropped"] == dropped:
            break
    assert await read_news(slow) == ("a", marker - 1)
    assert running.stats["slow_closed"] == 0


@pytest.mark.parametrize("delivery", ["latest", "drop"])
async def test_a_reply_to_a_slow_reader_is_never_dropped(serve, raw, delivery):
    gateway = gateway_of(delivery)
    running = await serve(gateway)
    slow = await stopped_reader(running, raw)
    n = 0
    while not running.stats["short_sends"]:
        await publish(gateway, n)
        n += 1
    await publish(gateway, n)
    await slow.send(frame('[null,"7","phoenix","heartbeat",{}]'))
    while True:
        opcode, payload = await slow.receive()
        message = json.loads(payload)
        if message[1] == "7":
            break
    assert message == [None, "7", "phoenix", "phx_reply", {"status": "ok", "response": {}}]
    assert opcode == TEXT


async def test_a_channel_that_pushes_to_a_client_that_does_not_read_is_bounded_too(serve, raw):
    gateway = Gateway(builtins=False)
    gateway.configure(Hub(outbox_bytes=BUDGET))
    ended: list[str] = []

    @gateway.channel("flood")
    class Flood(Channel):
        async def joined(self) -> None:
            while True:
                self.push("drop", {"pad": PAD})
                await gateway.drained()

        async def leave(self, reason: str) -> None:
            ended.append(reason)

    running = await serve(gateway)
    client = await stopped_reader(running, raw, "flood")
    assert (await client.closed())[0] == 1013
    assert running.stats["slow_closed"] == 1
    while not ended:
        await gateway.drained()
    assert ended == ["closed"]


async def test_a_slow_reader_of_one_topic_does_not_delay_another_topics_subscribers(
    serve, raw, connect
):
    gateway = gateway_of("every")
    running = await serve(gateway)
    slow = [await stopped_reader(running, raw) for _ in range(10)]
    other = await connect(running)
    await other.join("other")
    n = 0
    while running.stats["slow_closed"] < len(slow):
        await publish(gateway, n)
        gateway.broadcast("other", "tick", {"n": n})
        await other.expect(None, None, "other", "tick", {"n": n})
        n += 1
    assert running.stats["outbox_bytes"] <= SLACK


async def test_a_slow_reader_that_vanishes_frees_what_was_kept_for_it(serve, raw):
    gateway = gateway_of("every")
    running = await serve(gateway)
    slow = await stopped_reader(running, raw)
    n = 0
    while not running.stats["outbox_bytes"]:
        await publish(gateway, n)
        n += 1
    slow.reset()
    while running.stats["connections"]:
        await publish(gateway, n)
    assert running.stats["outbox_bytes"] == 0
    assert gateway.subscribers("news") == 0


# -- a burst, and all of them together


async def test_a_member_that_reads_has_a_burst_of_eight_megabytes_though_it_is_slower(serve, raw):
    gateway = Gateway(builtins=False)
    gateway.channel("news")(Stream)
    running = await serve(gateway)
    client = await stopped_reader(running, raw)
    count = 8 * 1024 // 16
    for n in range(count):
        await publish(gateway, n)
    most = running.stats["outbox_bytes"]
    assert most > 1 << 20, "more than the budget of one who does not read"
    for n in range(count):
        assert await read_news(client) == ("a", n)
    assert running.stats["slow_closed"] == 0


async def test_a_burst_to_a_member_that_takes_nothing_for_the_time_of_a_stall_closes_it(
    serve, raw, monkeypatch
):
    monkeypatch.setattr("moda.hub.SWEEP_SECONDS", 0.02)
    gateway = Gateway(builtins=False)
    gateway.configure(Hub(outbox_bytes=BUDGET, outbox_burst=64 << 20, stall_seconds=0.2))
    gateway.channel("news")(Stream)
    running = await serve(gateway)
    client = await stopped_reader(running, raw)
    n = 0
    while running.stats["outbox_bytes"] <= 2 * BUDGET and not running.stats["slow_closed"]:
        await publish(gateway, n)
        n += 1
    await until(lambda: running.stats["slow_closed"])
    got = []
    while (news := await read_news(client)) is not None:
        got.append(news)
    assert got == [("a", n) for n in range(len(got))]


async def test_a_burst_past_its_ceiling_closes_a_member_that_reads_too_slowly(serve, raw):
    gateway = Gateway(builtins=False)
    gateway.configure(Hub(outbox_bytes=BUDGET, outbox_burst=4 * BUDGET))
    gateway.channel("news")(Stream)
    running = await serve(gateway)
    await stopped_reader(running, raw)
    n = most = 0
    while not running.stats["slow_closed"]:
        await publish(gateway, n)
        most = max(most, running.stats["outbox_bytes"])
        n += 1
    assert 3 * BUDGET < most <= 4 * BUDGET + SLACK


TOTAL = 8 << 20


async def test_all_readers_that_stop_share_one_budget_and_those_who_are_owed_most_go_first(
    serve, raw
):
    gateway = Gateway(builtins=False)
    gateway.configure(Hub(outbox_bytes=4 << 20, outboxes_bytes=TOTAL))

    @gateway.channel("flood:*")
    class Flood(Channel):
        async def handle(self, event: str, payload: Any) -> None:
            for _ in range(payload["count"]):
                self.push("drop", {"pad": PAD})
                await gateway.drained()

    running = await serve(gateway)
    clients = []
    for n in range(40):
        clients.append(client := await stopped_reader(running, raw, f"flood:{n}"))
        # Past the kernel's buffers, each by another amount below its own budget.
        await client.send(frame(json.dumps(["1", "2", f"flood:{n}", "go", {"count": 300}])))
    most = 0
    while running.stats["budget_closed"] < 10:
        most = max(most, running.stats["outboxes_bytes"])
        await gateway.drained()
    assert most <= TOTAL + (1 << 20)
    assert running.stats["slow_closed"] == running.stats["budget_closed"]
    assert running.stats["closes"] == {1013: running.stats["budget_closed"]}


async def test_a_broadcast_that_many_stopped_readers_wait_for_is_memory_once(serve, raw):
    gateway = Gateway(builtins=False)
    gateway.configure(Hub(outbox_bytes=1 << 20, outboxes_bytes=TOTAL))
    gateway.channel("news")(Stream)
    running = await serve(gateway)
    slow = [await stopped_reader(running, raw) for _ in range(20)]
    n = 0
    while running.stats["outbox_bytes"] < len(slow) * 500_000:
        await publish(gateway, n)
        n += 1
        assert not running.stats["slow_closed"]
    assert running.stats["outboxes_bytes"] < TOTAL
    for client in slow:
        client.reset()
    while running.stats["connections"]:
        await publish(gateway, n)
    await gateway.drained()
    assert running.stats["outboxes_bytes"] == 0
