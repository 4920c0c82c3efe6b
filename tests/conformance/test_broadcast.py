"""Who hears a broadcast, in which form, in which order."""

from __future__ import annotations

import asyncio
import threading

import pytest

from moda import Channel, Gateway, Raw
from phoenix import CRASHED, OK, broadcast, pushed

REPLY = "phx_reply"


async def test_a_broadcast_reaches_every_subscriber_the_sender_included_without_refs(
    running, connect
):
    clients = [await connect(running) for _ in range(3)]
    for client in clients:
        await client.join("room:a")
    await clients[0].send("1", "2", "room:a", "shout", {"n": 1})
    for client in clients:
        await client.expect(None, None, "room:a", "said", {"n": 1})


async def test_broadcast_from_leaves_out_the_sending_channel_alone(running, connect):
    sender = await connect(running)
    other = await connect(running)
    await sender.join("room:a")
    await other.join("room:a")
    await sender.send("1", "2", "room:a", "shout_from", {"n": 1})
    await other.expect(None, None, "room:a", "said", {"n": 1})
    await sender.silence()


async def test_broadcast_from_is_about_the_channel_and_not_the_person(running, connect):
    """Two tabs of one person are two channels: the other tab hears."""
    first = await connect(running)
    second = await connect(running)
    await first.join("room:a")
    await second.join("room:a")
    await first.join("room:b", ref="2")
    await first.send("2", "3", "room:b", "shout_from", {"to": "b"})
    await first.send("1", "4", "room:a", "shout_from", {"to": "a"})
    await second.expect(None, None, "room:a", "said", {"to": "a"})
    await first.silence()


async def test_a_broadcast_stays_on_its_topic(running, connect):
    client = await connect(running)
    await client.join("room:a", ref="1")
    await client.join("room:ab", ref="2")
    running.gateway.broadcast("room:a", "said", {"n": 1})
    running.gateway.broadcast("room:", "said", {"n": 2})
    running.gateway.broadcast("room:A", "said", {"n": 3})
    await client.expect(None, None, "room:a", "said", {"n": 1})
    await client.silence()


async def test_the_gateway_broadcasts_from_outside_any_channel(running, connect, connect_v1):
    client = await connect(running)
    old = await connect_v1(running)
    await client.join("room:a")
    await old.join("room:a")
    running.gateway.broadcast("room:a", "news", {"n": 1})
    await client.expect(None, None, "room:a", "news", {"n": 1})
    await old.expect("room:a", "news", {"n": 1}, None)


async def test_the_gateway_broadcasts_from_any_thread(running, connect):
    client = await connect(running)
    await client.join("room:a")
    thread = threading.Thread(
        target=lambda: [running.gateway.broadcast("room:a", "news", {"n": n}) for n in range(50)]
    )
    thread.start()
    for n in range(50):
        await client.expect(None, None, "room:a", "news", {"n": n})
    await asyncio.to_thread(thread.join)


async def test_a_broadcast_nobody_can_encode_raises_in_the_thread_that_made_it(running, connect):
    client = await connect(running)
    await client.join("room:a")

    def shout(payload: object, event: str = "news") -> str:
        with pytest.raises((TypeError, ValueError)) as caught:
            running.gateway.broadcast("room:a", event, payload)
        return str(caught.value)

    assert "a payload is a dict, Raw(json bytes) or bytes" in await asyncio.to_thread(shout, [1])
    assert "not JSON serializable" in await asyncio.to_thread(shout, {"n": object()})
    assert "255 bytes" in await asyncio.to_thread(shout, b"data", "e" * 256)
    await client.silence()


async def test_a_payload_changed_after_its_broadcast_from_a_thread_went_out_as_it_was(
    running, connect
):
    client = await connect(running)
    await client.join("room:a")

    def shout() -> None:
        payload = {"n": 1}
        running.gateway.broadcast("room:a", "news", payload)
        payload["n"] = 2

    # Called on this thread's time: the loop has no turn between the call and the change.
    thread = threading.Thread(target=shout)
    thread.start()
    thread.join()
    await client.expect(None, None, "room:a", "news", {"n": 1})


async def test_raw_json_is_forwarded_byte_for_byte(running, connect):
    client = await connect(running)
    await client.join("room:a")
    running.gateway.broadcast("room:a", "news", Raw(b'{"price": 1.10, "b":1,"b":2}'))
    assert await client.read() == '[null,null,"room:a","news",{"price": 1.10, "b":1,"b":2}]'


async def test_one_broadcast_is_text_for_all_and_bytes_are_binary_for_those_who_speak_it(
    running, connect, connect_v1
):
    new = await connect(running)
    old = await connect_v1(running)
    await new.join("room:a")
    await old.join("room:a")
    await new.send("1", "2", "room:a", "shout", {"n": 1})
    await new.send("1", "3", "room:a", "shout_bytes", {"hex": "00ff"})
    await new.send("1", "4", "room:a", "shout", {"n": 2})
    await new.expect(None, None, "room:a", "said", {"n": 1})
    assert await new.receive() == broadcast("room:a", "said", b"\x00\xff")
    await new.expect(None, None, "room:a", "said", {"n": 2})
    await old.expect("room:a", "said", {"n": 1}, None)
    await old.expect("room:a", "said", {"n": 2}, None)
    assert running.stats["unencodable"] == 1


@pytest.mark.parametrize("payload", [None, [], "text", 5, True])
async def test_a_broadcast_that_is_neither_map_nor_bytes_crashes_its_sender_and_sends_nothing(
    running, connect, payload
):
    sender = await connect(running)
    other = await connect(running)
    await sender.join("room:a")
    await other.join("room:a")
    await sender.send("1", "2", "room:a", "shout_rubbish", payload)
    await sender.expect("1", "1", "room:a", "phx_error", CRASHED)
    await other.silence()


@pytest.mark.parametrize("payload", [None, [], "text", 5])
async def test_a_push_that_is_neither_map_nor_bytes_crashes_its_channel(running, connect, payload):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "push", {"event": "e", "payload": payload})
    await client.expect("1", "1", "room:a", "phx_error", CRASHED)


async def test_one_sender_is_heard_in_order_over_broadcasts_pushes_and_replies(running, connect):
    sender = await connect(running)
    other = await connect(running)
    await sender.join("room:a")
    await other.join("room:a")
    for n in range(0, 90, 3):
        await sender.send("1", str(n), "room:a", "shout", {"n": n})
        await sender.send("1", str(n), "room:a", "push", {"event": "p", "payload": {"n": n + 1}})
        await sender.send("1", str(n), "room:a", "echo", {"n": n + 2})
    for n in range(0, 90, 3):
        await sender.expect(None, None, "room:a", "said", {"n": n})
        await sender.expect("1", None, "room:a", "p", {"n": n + 1})
        await sender.expect(
            "1", str(n), "room:a", REPLY, {"status": "ok", "response": {"n": n + 2}}
        )
        await other.expect(None, None, "room:a", "said", {"n": n})


async def test_topics_of_one_turn_reach_a_client_in_the_order_they_were_published(running, connect):
    client = await connect(running)
    await client.join("room:a", ref="1")
    await client.join("room:b", ref="2")
    order = ["a", "b", "a", "a", "b", "b", "b", "a"]
    for n, room in enumerate(order):
        running.gateway.broadcast(f"room:{room}", "news", {"n": n})
    for n, room in enumerate(order):
        await client.expect(None, None, f"room:{room}", "news", {"n": n})


async def test_a_heartbeat_does_not_wait_behind_a_fan_out_but_a_reply_keeps_its_place(
    running, connect
):
    client = await connect(running)
    await client.join("room:a")
    await client.send("1", "2", "room:a", "shout", {"n": 1})
    await client.send("1", "3", "room:a", "echo", {})
    await client.expect(None, None, "room:a", "said", {"n": 1})
    await client.expect("1", "3", "room:a", REPLY, OK)


# -- interception


async def test_an_intercepted_broadcast_is_pushed_by_the_channel_changed_or_not_at_all(
    running, connect
):
    client = await connect(running)
    await client.join("tower:a", ref="1")
    await client.send("1", "2", "tower:a", "shout", {"n": 1})
    await client.expect("1", None, "tower:a", "said", {"n": 1, "seen": True})
    await client.send("1", "3", "tower:a", "shout", {"secret": True})
    await client.send("1", "4", "tower:a", "shout_other", {"n": 2})
    await client.expect(None, None, "tower:a", "other", {"n": 2})


async def test_an_intercepted_binary_broadcast_is_a_binary_push(running, connect):
    client = await connect(running)
    await client.join("tower:a", ref="1")
    running.gateway.broadcast("tower:a", "said", b"\x01\x02")
    assert await client.receive() == pushed("1", "tower:a", "said", b"\x02\x01")


async def test_interception_is_each_channels_own(serve, connect, connect_v1):
    gateway = Gateway(builtins=False)

    @gateway.channel("room:plain")
    class Plain(Channel):
        async def handle(self, event, payload):
            self.broadcast_from("said", payload)

    @gateway.channel("room:{name}")
    class Censor(Channel):
        intercept = frozenset({"said"})

        async def handle(self, event, payload):
            self.broadcast_from("said", payload)

        async def outgoing(self, event, payload):
            self.push(event, {"by": self.socket.params.get("who"), **payload})

    running = await serve(gateway)
    ann = await connect(running, params={"who": "ann"})
    bob = await connect(running, params={"who": "bob"})
    await ann.join("room:a")
    await bob.join("room:a")
    await ann.send("1", "2", "room:a", "say", {"n": 1})
    await bob.expect("1", None, "room:a", "said", {"by": "bob", "n": 1})
    await ann.silence()
    plain = await connect(running)
    await plain.join("room:plain")
    gateway.broadcast("room:plain", "said", {"n": 2})
    await plain.expect(None, None, "room:plain", "said", {"n": 2})


async def test_a_crash_in_outgoing_ends_that_channel_alone(serve, connect):
    gateway = Gateway(builtins=False)

    @gateway.channel("room")
    class Fragile(Channel):
        intercept = frozenset({"said"})

        async def outgoing(self, event, payload):
            if self.socket.params.get("who") == payload["victim"]:
                raise RuntimeError("told to")
            self.push(event, payload)

    running = await serve(gateway)
    ann = await connect(running, params={"who": "ann"})
    bob = await connect(running, params={"who": "bob"})
    await ann.join("room")
    await bob.join("room")
    gateway.broadcast("room", "said", {"victim": "ann"})
    await ann.expect("1", "1", "room", "phx_error", CRASHED)
    await bob.expect("1", None, "room", "said", {"victim": "ann"})


# -- patterns


async def test_the_first_declared_pattern_that_matches_serves_a_topic(serve, connect):
    gateway = Gateway(builtins=False)

    def named(name):
        class Named(Channel):
            async def join(self, payload):
                return {"served_by": name, "params": self.params}

        return Named

    for pattern in ("food:*", "foo*", "room:lobby", "room:{id}", "{kind}/{id}/x", "all:*"):
        gateway.channel(pattern)(named(pattern))
    client = await connect(await serve(gateway))
    cases = {
        "food:": ("food:*", {}),
        "food:a:b": ("food:*", {}),
        "foo": ("foo*", {}),
        "food": ("foo*", {}),
        "room:lobby": ("room:lobby", {}),
        "room:lobby2": ("room:{id}", {"id": "lobby2"}),
        "room:a:b": ("room:{id}", {"id": "a:b"}),
        "k/1/x": ("{kind}/{id}/x", {"kind": "k", "id": "1"}),
    }
    for topic, (pattern, params) in cases.items():
        assert await client.join(topic) == {"served_by": pattern, "params": params}
    for topic in ("fo", "room:", "all", "", "k/1/y", "Room:lobby"):
        await client.send("9", "9", topic, "phx_join", {})
        await client.expect(
            None, "9", topic, REPLY, {"status": "error", "response": {"reason": "unmatched topic"}}
        )
