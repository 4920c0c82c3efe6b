"""The hub as Python sees it: what a payload may be, who hears a topic in the process, what is kept."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import pytest
from structlog.testing import capture_logs

from moda import Raw
from moda.hub import RESERVED, Hub, encode, encode_response


class TestEncode:
    """A payload becomes bytes once, and only payloads the wire knows do."""

    @pytest.mark.parametrize(
        ("payload", "encoded"),
        [
            ({}, (b"{}", False)),
            ({"é": [1, None]}, ('{"é":[1,null]}'.encode(), False)),
            (OrderedDict(a=1), (b'{"a":1}', False)),
            (MappingProxyType({"a": 1}), (b'{"a":1}', False)),
            ({"a": MappingProxyType({"b": 1})}, (b'{"a":{"b":1}}', False)),
            (Raw(b'{"a": 1.10}'), (b'{"a": 1.10}', False)),
            (b"", (b"", True)),
            (b"\x00\xff", (b"\x00\xff", True)),
            (bytearray(b"ab"), (b"ab", True)),
            (memoryview(b"abc")[1:], (b"bc", True)),
        ],
    )
    def test_what_a_payload_may_be(self, payload, encoded):
        assert encode(payload) == encoded

    @pytest.mark.parametrize("payload", [None, [], "text", 5, True, object(), {"a"}])
    def test_anything_else_is_named_with_what_is_taken(self, payload):
        with pytest.raises(TypeError) as caught:
            encode(payload)
        text = str(caught.value)
        assert text.endswith(f"got {type(payload).__name__}")
        assert "a dict, Raw(json bytes) or bytes" in text

    @pytest.mark.parametrize("payload", [{"a": object()}, {1: 2}, {"a": 1 << 70}])
    def test_a_map_that_json_cannot_hold_raises(self, payload):
        with pytest.raises(TypeError):
            encode(payload)

    @pytest.mark.parametrize(
        ("response", "encoded"),
        [(None, b"null"), ([1], b"[1]"), ("text", b'"text"'), (0, b"0"), (False, b"false")],
    )
    def test_a_response_may_be_any_json_value(self, response, encoded):
        assert encode_response(response) == (encoded, False)
        assert encode_response(MappingProxyType({})) == (b"{}", False)
        assert encode_response(b"\x01") == (b"\x01", True)
        assert encode_response(Raw(b"[1, 2]")) == (b"[1, 2]", False)


class TestListening:
    """Code in the process hears a topic as a client would."""

    def test_a_listener_hears_its_topic_until_it_stops(self):
        hub = Hub()
        heard: list[tuple[str, bytes, bool]] = []
        stop = hub.listen("prices", lambda *news: heard.append(news))
        hub.publish("prices", "tick", {"n": 1})
        hub.publish("other", "tick", {"n": 2})
        hub.publish("prices", "raw", b"\x01")
        stop()
        hub.publish("prices", "tick", {"n": 3})
        stop()
        assert heard == [("tick", b'{"n":1}', False), ("raw", b"\x01", True)]

    def test_a_listener_that_fails_is_not_the_publishers_failure_nor_its_neighbours(self):
        hub = Hub()
        heard: list[str] = []

        def broken(event: str, data: bytes, binary: bool) -> None:
            raise RuntimeError("a bug")

        hub.listen("prices", broken)
        hub.listen("prices", lambda event, data, binary: heard.append(event))
        with capture_logs() as logs:
            hub.publish("prices", "tick", {})
        assert heard == ["tick"]
        assert [(log["event"], log["topic"]) for log in logs] == [("hub.listener.failed", "prices")]

    def test_a_listener_may_stop_itself_while_it_is_called(self):
        hub = Hub()
        heard: list[int] = []
        stops: list[Any] = []

        def once(event: str, data: bytes, binary: bool) -> None:
            heard.append(1)
            stops[0]()

        stops.append(hub.listen("prices", once))
        hub.listen("prices", lambda *_: heard.append(2))
        hub.publish("prices", "tick", {})
        hub.publish("prices", "tick", {})
        assert heard == [1, 2, 2]


class TestPublishing:
    """A broadcast with nobody to hear it, and what it raises."""

    def test_a_topic_nobody_has_joined_costs_nothing_and_keeps_nothing(self):
        hub = Hub()
        for n in range(10):
            hub.publish(f"room:{n}", "news", {"n": n})
        stats = hub.stats()
        assert (stats["published"], stats["topics"], stats["deliveries"]) == (10, 0, 0)
        assert hub.subscribers("room:1") == 0

    @pytest.mark.parametrize(("topic", "event"), [("t" * 256, "e"), ("t", "é" * 128)])
    def test_a_binary_broadcast_names_its_parts_in_255_bytes(self, topic, event):
        hub = Hub()
        with pytest.raises(ValueError, match="at most 255 bytes"):
            hub.publish(topic, event, b"data")
        hub.publish(topic, event, {"json": "has no such limit"})
        assert hub.stats()["published"] == 1

    @pytest.mark.parametrize("event", sorted(RESERVED))
    def test_no_broadcast_is_an_event_of_the_protocol(self, event):
        hub = Hub()
        with pytest.raises(ValueError, match=f"'{event}' is an event of the protocol itself"):
            hub.publish("room:a", event, {})
        hub.publish("room:a", f"{event}d", {})
        assert hub.stats()["published"] == 1

    def test_preparing_is_safe_on_any_thread(self):
        hub = Hub()
        prepared: list[Any] = []
        thread = threading.Thread(target=lambda: prepared.append(hub.prepare("t", "e", {"n": 1})))
        thread.start()
        thread.join()
        assert prepared == [("t", "e", b'{"n":1}', False, None)]


class TestLife:
    """The hub on a loop."""

    async def test_errands_are_waited_for_and_so_are_those_they_start(self):
        hub = Hub()
        done: list[str] = []

        async def second() -> None:
            await asyncio.sleep(0)
            done.append("second")

        async def first() -> None:
            await asyncio.sleep(0)
            hub.errand(second())
            done.append("first")

        hub.errand(first())
        await hub.errands_done()
        assert done == ["first", "second"]
        await hub.errands_done()

    async def test_a_publisher_that_waits_lets_the_loop_have_a_turn_even_when_nobody_listens(self):
        hub = Hub()
        turned = False

        def turn() -> None:
            nonlocal turned
            turned = True

        asyncio.get_running_loop().call_soon(turn)
        await hub.drained()
        assert turned

    async def test_it_starts_and_stops_and_starts_again(self):
        hub = Hub()
        for _ in range(2):
            hub.start(lambda *_: None, lambda *_: None)
            hub.stop()
            hub.stop()
        assert hub.connections() == 0
        assert hub.disconnect("nobody") == 0
        assert hub.close_some(5, 1012) == 0
