"""The engine, driven through its binding, against the oracle: any conversation, in any order.

Both are told the same: frames of clients, decisions of a driver, broadcasts, losses. The engine's
bytes go through transports that stall now and then and leave in slices. In the end every client has
what the oracle owes it, in that order, and the driver was asked the same questions. What is kept
as history is the same at any moment.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import oracle
from core.driver import Driver, Handle, Transport
from oracle import BINARY, CLOSE, CONTINUATION, PING, TEXT
from oracle_hub import Asked, Channel, Client, Frame, OracleHub, Outcome, Route

ROUTES = [
    Route("room:"),
    Route("news:", stream=True),
    Route("guarded:", intercept=frozenset({"secret"})),
    Route("log:", stream=True, keeps=3),
]
TOPICS = ["room:1", "room:2", "room:é", "news:1", "guarded:1", "log:1", "log:é"]
CAP = 3
MAX_MESSAGE = 500

some = st.integers(0, 40)
refs = st.sampled_from(['"1"'] * 4 + ['"2"', '"3"', "null", "1"])
named = st.sampled_from(TOPICS * 2 + ["room:1"] * 4 + ["nowhere", "phoenix"])
events = st.sampled_from(
    ["phx_join", "ask"] * 5 + ["phx_leave"] * 2 + ["heartbeat", "phx_reply", "é"]
)
bodies = st.sampled_from([b"{}", b'{"a":[1,"\xc3\xbc"]}', b"null"])
data = bodies | st.binary(max_size=4)
bad = st.sampled_from([b"", b"[]", b"{}", b"\xff", b"[1,2,3,4,5]", b"x" * (MAX_MESSAGE + 1)])
yes_or_no = st.booleans()

# How often each step is taken, and with what; a step is a method of `Pair`.
STEPS: dict[str, tuple[int, tuple[st.SearchStrategy[Any], ...]]] = {
    "say": (30, (some, refs, refs, named, events, data, yes_or_no, some)),
    "join_ok": (12, (some, data, yes_or_no)),
    "publish": (
        12,
        (
            named | st.sampled_from(["log:1", "log:2", "log:é"]),
            st.sampled_from(["shout", "secret"]),
            data,
            yes_or_no,
            st.none() | some,
        ),
    ),
    "slice": (12, ()),
    "reply": (4, (some, st.none() | refs, st.sampled_from(["ok", "é"]), data, yes_or_no)),
    "push": (4, (some, st.sampled_from(["e", "é", "x" * 256]), data, yes_or_no)),
    "finish_leave": (3, (some, refs)),
    "stall": (3, (some,)),
    "read": (3, (some,)),
    "open": (2, (yes_or_no,)),
    "join_error": (2, (some, bodies)),
    "end": (2, (some, yes_or_no)),
    "ping": (2, (some, st.binary(max_size=3))),
    "garbage": (1, (some, st.sampled_from([TEXT, BINARY, CLOSE, CONTINUATION]), bad)),
    "close": (1, (some,)),
    "lost": (1, (some,)),
}
WHAT = [what for what, (weight, _) in STEPS.items() for _ in range(weight)]


@st.composite
def step(draw: st.DrawFn) -> tuple[Any, ...]:
    what = draw(st.sampled_from(WHAT))
    return (what, *(draw(argument) for argument in STEPS[what][1]))


conversations = st.lists(step(), min_size=20, max_size=120)


def json_or(payload: bytes, binary: bool) -> bytes:
    """A payload that is legal for its kind."""
    if binary or payload in (b"{}", b"null") or payload.startswith(b'{"a"'):
        return payload
    return b"[]"


class Pair:
    """The engine and the oracle, side by side."""

    def __init__(self, log_bytes: int, history_bytes: int) -> None:
        self.driver = Driver(log_bytes=log_bytes, history_bytes=history_bytes)
        hub = self.hub = self.driver.hub
        mount = hub.mount(path="/socket", max_channels=CAP, max_message=MAX_MESSAGE, idle_ms=0)
        for route in ROUTES:
            number = hub.route(
                stream=route.stream,
                delivery="every",
                intercept=sorted(route.intercept),
                history_size=route.keeps,
                history_ttl_ms=1 << 40,
            )
            hub.expose(mount, route.prefix + "*", number)
            if route.stream:
                self.driver.streams.add(number)
        self.mount = mount
        self.oracle = OracleHub(ROUTES, CAP, MAX_MESSAGE, history_bytes)
        self.placed: dict[tuple[str, int, int], list[object]] = {}
        self.clients: list[tuple[int, Transport, Client]] = []
        self.channels: list[tuple[Handle, Channel]] = []
        for pick, v1 in enumerate([False, False, True]):
            self.open(v1)
            for topic in ("room:1", "guarded:1"):
                self.say(pick, '"1"', '"1"', topic, "phx_join", b"{}", False, 0)
        for pick in range(3):
            self.join_ok(pick, b"{}", False)

    def open(self, v1: bool) -> None:
        conn, transport = self.driver.open(self.mount, v1=v1)
        self.clients.append((conn, transport, self.oracle.open(v1)))

    def client(self, pick: int) -> tuple[int, Transport, Client]:
        return self.clients[pick % len(self.clients)]

    def channel(self, pick: int) -> tuple[Handle, Channel] | None:
        return self.channels[pick % len(self.channels)] if self.channels else None

    # -- steps

    def say(
        self,
        pick: int,
        join_ref: str,
        reference: str,
        topic: str,
        event: str,
        payload: bytes,
        binary: bool,
        cut: int,
    ) -> None:
        client = self.client(pick)[2]
        names = [join_ref, reference, oracle.quote(topic), oracle.quote(event)]
        if client.v1:
            keys = ["join_ref", "ref", "topic", "event"]
            members = [f'"{key}":{name}' for key, name in zip(keys, names, strict=True)]
            head = "{" + ",".join(members) + ',"payload":'
            op, frame = TEXT, head.encode() + json_or(payload, False) + b"}"
        elif binary:
            texts = [name.strip('"').encode() for name in names]
            lengths = bytes(len(text) for text in texts)
            op, frame = BINARY, b"\0" + lengths + b"".join(texts) + payload
        else:
            op, frame = TEXT, f"[{','.join(names)},".encode() + json_or(payload, False) + b"]"
        if 0 < cut < len(frame) and cut % 5 == 0:
            self.frame(pick, op, False, frame[:cut])
            op, frame = CONTINUATION, frame[cut:]
        self.frame(pick, op, True, frame)

    def ping(self, pick: int, payload: bytes) -> None:
        self.frame(pick, PING, True, payload)

    def garbage(self, pick: int, op: int, payload: bytes) -> None:
        self.frame(pick, op, True, payload)

    def frame(self, pick: int, op: int, fin: bool, payload: bytes) -> None:
        conn, _, client = self.client(pick)
        self.hub.frame(conn, op, fin, payload)
        asked = self.oracle.frame(client, op, fin, payload)
        self.same_questions([] if asked is None else [asked])

    def same_questions(self, expected: list[Asked]) -> None:
        """Messages and leaves first, then the joins that wait. What is for a channel that has ended
        meanwhile is nobody's."""
        self.hub.start_joins()
        asked, self.driver.asked = self.driver.asked, []
        freed, self.oracle.freed = self.oracle.freed, []
        live = [one for one in expected + freed if self.oracle.live(one.channel)]
        live.sort(key=lambda one: one.what == "join")
        assert len(asked) == len(live)
        for (what, handle, event, payload, binary, reference), one in zip(asked, live, strict=True):
            assert what == one.what
            assert (payload, binary) == (one.payload, one.binary)
            if what == "join":
                assert event == one.channel.topic
                one.channel.handled = not one.channel.route.stream
                self.channels.append((handle, one.channel))
            else:
                assert (event, reference) == (one.event, one.reference)
                assert (handle, one.channel) in self.channels

    def outcome(self, call: Any, expected: Outcome) -> None:
        if expected == "unencodable":
            with pytest.raises(ValueError, match="does not fit a binary frame"):
                call()
        else:
            assert call() is (expected == "sent")

    def join_ok(self, pick: int, payload: bytes, binary: bool) -> None:
        for handle, channel in self.channels[pick % 3 :: 3]:
            body = json_or(payload, binary)
            place = self.hub.position(channel.topic) if self.oracle.live(channel) else None
            expected = self.oracle.join_ok(channel, body, binary, place)
            self.outcome(lambda h=handle, b=body: self.hub.join_ok(h.sub, b, binary), expected)
            self.same_questions([])

    def join_error(self, pick: int, payload: bytes) -> None:
        if found := self.channel(pick):
            handle, channel = found
            expected = self.oracle.join_error(channel, payload)
            assert self.hub.join_error(handle.sub, payload) is (expected == "sent")
            self.same_questions([])

    def reply(self, pick: int, ref: str | None, status: str, payload: bytes, binary: bool) -> None:
        if found := self.channel(pick):
            handle, channel = found
            body = json_or(payload, binary)
            expected = self.oracle.reply(channel, ref, status, body, binary)
            self.outcome(lambda: self.hub.reply(handle.sub, ref, status, body, binary), expected)

    def push(self, pick: int, event: str, payload: bytes, binary: bool) -> None:
        if found := self.channel(pick):
            handle, channel = found
            body = json_or(payload, binary)
            expected = self.oracle.push(channel, event, body, binary)
            self.outcome(lambda: self.hub.push(handle.sub, event, body, binary), expected)

    def finish_leave(self, pick: int, reference: str) -> None:
        if found := self.channel(pick):
            handle, channel = found
            self.oracle.finish_leave(channel, reference)
            self.hub.finish_leave(handle.sub, reference)
            self.same_questions([])

    def end(self, pick: int, crash: bool) -> None:
        if found := self.channel(pick):
            handle, channel = found
            expected = self.oracle.end(channel, crash)
            assert self.hub.end(handle.sub, crash) is expected
            self.same_questions([])

    def publish(
        self, topic: str, event: str, payload: bytes, binary: bool, pick: int | None
    ) -> None:
        found = None if pick is None else self.channel(pick)
        body = json_or(payload, binary)
        exclude = found[1] if found else None
        sub = found[0].sub if found else 0
        position, asked = self.hub.publish(topic, event, body, binary, None, sub)
        offset = None if position is None else position[1]
        expected = self.oracle.publish(topic, event, body, binary, exclude, offset)
        asked = asked or []
        handles = [handle for handle, channel in self.channels if channel in expected]
        assert sorted(handle.sub for handle in asked) == sorted(handle.sub for handle in handles)
        self.same_history(topic)

    def close(self, pick: int) -> None:
        conn, _, client = self.client(pick)
        self.oracle.close(client, 1001, "bye")
        self.hub.close(conn, 1001, "bye")

    def lost(self, pick: int) -> None:
        if len(self.clients) > 1:
            conn, transport, client = self.clients.pop(pick % len(self.clients))
            self.oracle.lost(client)
            self.oracle.clients.remove(client)
            self.hub.lost(conn)
            self.hears_the_beginning(transport, client)

    def stall(self, pick: int) -> None:
        self.client(pick)[1].stuck = True

    def read(self, pick: int) -> None:
        conn, transport, _ = self.client(pick)
        transport.stuck = False
        transport.let_go()
        self.hub.resume(conn)

    def slice(self) -> None:
        self.driver.slice()

    # -- comparisons

    def same_history(self, topic: str) -> None:
        kept = self.hub.history(topic)
        assert [message[1:] for message in kept] == self.oracle.kept.get(topic, [])
        if kept:
            first, last = kept[0][0], kept[-1][0]
            assert [offset for offset, *_ in kept] == list(range(first, last + 1))
            epoch, offset = self.hub.position(topic)
            assert offset == last
            assert self.hub.recover(topic, epoch, first - 1) == kept
            assert self.hub.recover(topic, epoch, last) == []
            if first > 1:
                assert self.hub.recover(topic, epoch, first - 2) is None
            for number, *message in kept:
                place = (topic, epoch, number)
                assert self.placed.setdefault(place, message) == message, "one place, one message"
        assert self.hub.stats()["history_bytes"] == self.oracle.cost()

    def same_ends(self) -> None:
        pairs = {id(handle): channel for handle, channel in self.channels}
        ended = [(pairs[id(handle)], why) for handle, why in self.driver.ended]
        assert ended == self.oracle.ended

    def same_complaints(self) -> None:
        codes = [code for _, code, _ in self.driver.complaints]
        assert codes == [code for _, code, _ in self.oracle.complaints]

    @staticmethod
    def apart(frames: list[Frame], client: Client) -> tuple[list[Frame], list[Frame]]:
        """What may overtake broadcasts, and the rest. The words of a close are the engine's own."""
        aside = [frame for frame in frames if frame in client.aside]
        said = [frame for frame in frames if frame not in client.aside]
        return aside, [(op, data[:2] if op == CLOSE else data) for op, data in said]

    def hears_the_beginning(self, transport: Transport, client: Client) -> None:
        aside, said = self.apart(transport.frames(), client)
        owed_aside, owed = self.apart(client.aside + client.said, client)
        assert said == owed[: len(said)]
        assert aside == owed_aside[: len(aside)]

    def finish(self) -> None:
        for pick in range(len(self.clients)):
            self.read(pick)
        self.driver.turn()
        for _, transport, client in self.clients:
            aside, said = self.apart(transport.frames(), client)
            owed_aside, owed = self.apart(client.aside + client.said, client)
            assert said == owed
            assert aside == owed_aside
        self.same_ends()
        self.same_complaints()
        for topic in [*TOPICS, "log:2"]:
            self.same_history(topic)
        stats = self.hub.stats()
        assert stats["outbox_bytes"] == 0
        assert stats["channels"] == sum(len(client.channels) for client in self.oracle.clients)
        for conn, _, _ in self.clients:
            self.hub.lost(conn)
        self.driver.turn()
        stats = self.hub.stats()
        assert (stats["connections"], stats["channels"]) == (0, 0)
        assert stats["topics"] == len(self.oracle.kept)


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(
    conversations,
    st.sampled_from([64 << 20, 200, 0]),
    st.sampled_from([64 << 20, 3000, 1300, 0]),
)
def test_any_conversation_goes_as_the_oracle_says(
    conversation: list[tuple[Any, ...]], log_bytes: int, history_bytes: int
) -> None:
    pair = Pair(log_bytes, history_bytes)
    for what, *arguments in conversation:
        getattr(pair, what)(*arguments)
    pair.finish()
