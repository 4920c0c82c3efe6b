"""A slow and obvious twin of the engine's hub and conversation, for Rust to be compared with.

One Phoenix server in plain dictionaries: what every client is owed is appended to its list at the
moment it is said, what is kept of a topic to that topic's. No runs, slices, outboxes or sockets.
It has its own codec (``oracle.py``) and the rules of Phoenix 1.8 as ``docs/wire.md`` tells them;
where a join is slow it keeps to the engine's documented answer, since there the reference blocks
the socket.

Heartbeat answers and pongs are listed apart (``Client.aside``): they may overtake broadcasts, and
nothing else may.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import oracle
from oracle import BINARY, CLOSE, PING, PONG, TEXT

Frame = tuple[int, bytes]
"""Opcode and payload."""

Outcome = Literal["sent", "ended", "unencodable"]

MESSAGE_BYTES, TOPIC_BYTES = 128, 1024
"""What a kept message costs beside its event and payload, and a topic beside its name."""

UNMATCHED = b'{"reason":"unmatched topic"}'


@dataclass(frozen=True, slots=True)
class Route:
    """What serves the topics that begin with ``prefix``."""

    prefix: str
    stream: bool = False
    intercept: frozenset[str] = frozenset()
    keeps: int = 0
    """How many of a topic's messages are kept as its history."""


@dataclass(eq=False, slots=True)
class Channel:
    """One client's place on one topic, from its join to its end."""

    client: Client
    topic: str
    join_ref: str
    push_ref: str
    reference: str
    route: Route
    state: Literal["joining", "joined", "leaving"] = "joining"
    owed_close: str | None = None
    held: list[oracle.Inbound] = field(default_factory=list)
    handled: bool = False
    """Whether the driver keeps something that receives this channel's messages."""


MAX_JOINS = 16
"""Joins that wait behind one that is undecided."""


@dataclass(eq=False, slots=True)
class Client:
    v1: bool
    said: list[Frame] = field(default_factory=list)
    aside: list[Frame] = field(default_factory=list)
    channels: dict[str, Channel] = field(default_factory=dict)
    assembler: oracle.Assembler = field(default_factory=oracle.Assembler)
    open: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """What the driver is asked: ``what`` is join, message or leave."""

    what: str
    channel: Channel
    event: str = ""
    payload: bytes = b""
    binary: bool = False
    reference: str | None = None


class OracleHub:
    """All clients of one mount. ``ended`` and ``complaints`` tell what the driver did not ask for."""

    def __init__(
        self,
        routes: list[Route],
        max_channels: int,
        max_message: int,
        history_bytes: int = 64 << 20,
    ) -> None:
        self.routes = routes
        self.history_bytes = history_bytes
        self.kept: dict[str, list[tuple[str, bytes, bool]]] = {}
        """Event, payload and whether it is binary; the topic published to longest ago stands first."""
        self.max_channels = max_channels
        self.max_message = max_message
        self.clients: list[Client] = []
        self.ended: list[tuple[Channel, str]] = []
        self.freed: list[Asked] = []
        """What decisions let the driver be asked."""
        self.complaints: list[tuple[Client, int, str]] = []

    def open(self, v1: bool) -> Client:
        client = Client(v1)
        self.clients.append(client)
        return client

    # -- frames in

    def frame(self, client: Client, op: int, fin: bool, payload: bytes) -> Asked | None:
        if not client.open:
            return None
        try:
            message = client.assembler.push(op, fin, False, payload, self.max_message)
        except oracle.Refused as refused:
            code = refused.detail
            assert isinstance(code, int)
            self._complain(client, code, "violation")
            return None
        if message is None:
            return None
        op, data = message
        if op == CLOSE:
            self.close(client, oracle.close_reply(data), "")
        elif op == PING:
            client.aside.append((PONG, data))
        elif op in (TEXT, BINARY):
            try:
                return self._dispatch(client, self._decode(client, op, data))
            except oracle.Refused as refused:
                self._complain(client, 1011, refused.label)
        return None

    @staticmethod
    def _decode(client: Client, op: int, data: bytes) -> oracle.Inbound:
        if client.v1:
            if op == BINARY:
                raise oracle.Refused("binary_in_v1")
            return oracle.decode_v1(data)
        return oracle.decode_text(data) if op == TEXT else oracle.decode_binary(data)

    def _complain(self, client: Client, code: int, reason: str) -> None:
        self.complaints.append((client, code, reason))
        self.close(client, code, reason)

    def _dispatch(self, client: Client, message: oracle.Inbound) -> Asked | None:
        topic, event = message.topic, message.event
        if topic == "phoenix" and event == "heartbeat":
            client.aside.append(self._reply_frame(client, "null", message, "ok", b"{}"))
            return None
        channel = None if topic is None else client.channels.get(topic)
        if channel is not None and channel.state == "joining":
            theirs = message.join_ref in ("null", channel.join_ref)
            joins = sum(held.event == "phx_join" for held in channel.held)
            if event == "phx_join" and joins >= MAX_JOINS:
                busy = b'{"reason":"busy"}'
                self._answer(client, message.join_ref, message, "error", busy)
            elif event == "phx_join" or theirs or joins:
                channel.held.append(message)
            return None
        if event == "phx_join" and topic is not None and topic != "phoenix":
            return self._join(client, topic, message)
        if channel is None:
            if event == "phx_leave":
                self._answer(client, message.join_ref, message, "ok", b"{}")
            else:
                self._answer(client, "null", message, "error", UNMATCHED)
            return None
        if message.join_ref not in ("null", channel.join_ref):
            return None
        if event == "phx_leave":
            return self._leave(channel, message.reference)
        return self._event(channel, message)

    def _join(self, client: Client, topic: str, message: oracle.Inbound) -> Asked | None:
        route = next((r for r in self.routes if topic.startswith(r.prefix)), None)
        if route is None:
            self._answer(client, "null", message, "error", UNMATCHED)
            return None
        owed = self._replaced(client, topic)
        if len(client.channels) >= self.max_channels:
            refusal = b'{"reason":"too many channels joined"}'
            self._answer(client, message.join_ref, message, "error", refusal)
            return None
        null = message.join_ref == "null"
        push_ref = message.reference if null else message.join_ref
        channel = Channel(client, topic, message.join_ref, push_ref, message.reference, route)
        channel.owed_close = owed
        client.channels[topic] = channel
        payload, binary = _content(message)
        return Asked("join", channel, payload=payload, binary=binary)

    def _replaced(self, client: Client, topic: str) -> str | None:
        old = client.channels.pop(topic, None)
        if old is None:
            return None
        if old.handled:
            self.ended.append((old, "replaced"))
        return old.join_ref

    def _replay(self, channel: Channel) -> None:
        """What waited for a decision is taken now, in its order; behind another join it waits on."""
        held, channel.held = channel.held, []
        for message in held:
            asked = self._dispatch(channel.client, message)
            if asked is not None:
                self.freed.append(asked)

    def _leave(self, channel: Channel, reference: str) -> Asked | None:
        if channel.state == "leaving":
            return None
        if channel.state == "joined" and channel.handled:
            channel.state = "leaving"
            return Asked("leave", channel, reference=reference)
        self.finish_leave(channel, reference)
        if channel.handled:
            self.ended.append((channel, "left"))
        return None

    def _event(self, channel: Channel, message: oracle.Inbound) -> Asked | None:
        if channel.state == "leaving":
            return None
        if channel.route.stream:
            if message.reference != "null":
                refusal = b'{"reason":"push-only topic"}'
                self._answer(channel.client, channel.push_ref, message, "error", refusal)
            return None
        payload, binary = _content(message)
        reference = None if message.reference == "null" else message.reference
        return Asked("message", channel, message.event, payload, binary, reference)

    # -- what the driver says

    def live(self, channel: Channel) -> bool:
        return channel.client.channels.get(channel.topic) is channel

    def join_ok(
        self, channel: Channel, response: bytes, binary: bool, place: tuple[int, int] | None
    ) -> Outcome:
        """``place`` is (epoch, offset) of the topic when it keeps a log."""
        if not self.live(channel) or channel.state != "joining":
            return "ended"
        if place is not None and not binary and response[:1] == b"{":
            epoch, offset = place
            own = response.strip()[1:-1].strip()
            told = f'"epoch":{epoch},"offset":{offset}'.encode()
            response = b"{" + own + (b"," if own else b"") + told + b"}"
        try:
            self._join_reply(channel, "ok", response, binary)
        except oracle.TooLong:
            self.join_error(channel, b'{"reason":"join crashed"}')
            return "unencodable"
        channel.state = "joined"
        self._replay(channel)
        return "sent"

    def join_error(self, channel: Channel, response: bytes) -> Outcome:
        if not self.live(channel) or channel.state != "joining":
            return "ended"
        self._join_reply(channel, "error", response, False)
        del channel.client.channels[channel.topic]
        self._replay(channel)
        return "sent"

    def _join_reply(self, channel: Channel, status: str, response: bytes, binary: bool) -> None:
        client, refs = channel.client, (channel.join_ref, channel.reference)
        if binary:
            client.said.append(self._binary_reply(client, *refs, channel.topic, status, response))
        else:
            self._reply(client, *refs, channel.topic, status, response)
        self._pay(channel)

    def _pay(self, channel: Channel) -> None:
        if channel.owed_close is not None:
            self._end_frame(channel.client, channel.owed_close, channel.topic, crash=False)
            channel.owed_close = None

    def reply(
        self, channel: Channel, reference: str | None, status: str, response: bytes, binary: bool
    ) -> Outcome:
        if not self.live(channel) or channel.state == "joining":
            return "ended"
        refs = (channel.push_ref, reference or "null")
        client = channel.client
        if not binary:
            self._reply(client, *refs, channel.topic, status, response)
            return "sent"
        try:
            client.said.append(self._binary_reply(client, *refs, channel.topic, status, response))
        except oracle.TooLong:
            return "unencodable"
        return "sent"

    def push(self, channel: Channel, event: str, payload: bytes, binary: bool) -> Outcome:
        if not self.live(channel) or channel.state == "joining":
            return "ended"
        client, names = channel.client, (channel.push_ref, channel.topic, event)
        if not binary:
            write = oracle.v1_push if client.v1 else oracle.text_push
            client.said.append((TEXT, write(*names, payload)))
            return "sent"
        try:
            if client.v1:
                raise oracle.TooLong("data", len(payload))
            client.said.append((BINARY, oracle.binary_push(*names, payload)))
        except oracle.TooLong:
            return "unencodable"
        return "sent"

    def finish_leave(self, channel: Channel, reference: str) -> None:
        if not self.live(channel):
            return
        client, topic = channel.client, channel.topic
        del client.channels[topic]
        self._abandoned(channel, b'{"reason":"left"}')
        self._reply(client, channel.push_ref, reference, topic, "ok", b"{}")
        self._end_frame(client, channel.join_ref, topic, crash=False)
        self._replay(channel)

    def end(self, channel: Channel, crash: bool) -> bool:
        """Whether there was something of the driver's to end."""
        if not self.live(channel):
            return False
        client, topic = channel.client, channel.topic
        del client.channels[topic]
        self._abandoned(channel, b'{"reason":"join crashed"}')
        self._end_frame(client, channel.join_ref, topic, crash)
        self._replay(channel)
        return channel.handled

    def _abandoned(self, channel: Channel, response: bytes) -> None:
        if channel.state == "joining":
            self._join_reply(channel, "error", response, False)

    def publish(
        self,
        topic: str,
        event: str,
        payload: bytes,
        binary: bool,
        exclude: Channel | None,
        offset: int | None,
    ) -> list[Channel]:
        """Returns the channels that intercept the event. ``offset`` is its number in the log."""
        self._keep(topic, event, payload, binary)
        intercepting: list[Channel] = []
        for client in self.clients:
            channel = client.channels.get(topic)
            if channel is None or channel.state == "joining" or channel is exclude:
                continue
            if event in channel.route.intercept:
                intercepting.append(channel)
            elif not binary:
                write = oracle.v1_broadcast if client.v1 else oracle.text_broadcast
                client.said.append((TEXT, write(topic, event, payload, offset)))
            elif not client.v1:
                client.said.append((BINARY, oracle.binary_broadcast(topic, event, payload)))
        return intercepting

    def _keep(self, topic: str, event: str, payload: bytes, binary: bool) -> None:
        route = next((r for r in self.routes if topic.startswith(r.prefix)), None)
        if route is None or not route.keeps:
            return
        kept = [*self.kept.pop(topic, []), (event, payload, binary)]
        self.kept[topic] = kept[-route.keeps :]
        while self.cost() > self.history_bytes:
            oldest = next(iter(self.kept))
            del self.kept[oldest][0]
            if not self.kept[oldest]:
                del self.kept[oldest]

    def cost(self) -> int:
        """Bytes of all that is kept."""
        return sum(
            TOPIC_BYTES
            + len(topic.encode())
            + sum(MESSAGE_BYTES + len(event.encode()) + len(data) for event, data, _ in kept)
            for topic, kept in self.kept.items()
        )

    def close(self, client: Client, code: int, reason: str) -> None:
        if client.open:
            client.said.append((CLOSE, oracle.close_payload(code, reason)))
            self.lost(client)

    def lost(self, client: Client) -> None:
        client.open = False
        for channel in client.channels.values():
            if channel.handled:
                self.ended.append((channel, "closed"))
        client.channels.clear()

    # -- frames out

    def _answer(
        self, client: Client, join_ref: str, to: oracle.Inbound, status: str, response: bytes
    ) -> None:
        client.said.append(self._reply_frame(client, join_ref, to, status, response))

    @staticmethod
    def _reply_frame(
        client: Client, join_ref: str, to: oracle.Inbound, status: str, response: bytes
    ) -> Frame:
        write = oracle.v1_reply if client.v1 else oracle.text_reply
        return TEXT, write(join_ref, to.reference, to.topic_json, status, response)

    @staticmethod
    def _reply(
        client: Client, join_ref: str, reference: str, topic: str, status: str, response: bytes
    ) -> None:
        write = oracle.v1_reply if client.v1 else oracle.text_reply
        frame = write(join_ref, reference, oracle.quote(topic), status, response)
        client.said.append((TEXT, frame))

    @staticmethod
    def _binary_reply(
        client: Client, join_ref: str, reference: str, topic: str, status: str, data: bytes
    ) -> Frame:
        if client.v1:
            raise oracle.TooLong("data", len(data))
        return BINARY, oracle.binary_reply(join_ref, reference, topic, status, data)

    @staticmethod
    def _end_frame(client: Client, join_ref: str, topic: str, crash: bool) -> None:
        if client.v1:
            write = oracle.v1_error if crash else oracle.v1_close
        else:
            write = oracle.text_error if crash else oracle.text_close
        client.said.append((TEXT, write(join_ref, topic)))


def _content(message: oracle.Inbound) -> tuple[bytes, bool]:
    if isinstance(message.payload, bytes):
        return message.payload, True
    return message.payload.encode(), False
