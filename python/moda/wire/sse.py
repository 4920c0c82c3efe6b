"""Server-sent events: a GET whose answer is a stream of the messages of its topics.

The mount decides as the ones of sockets do (origin, token, the application's connect hook), reads the
topics, the parameters of their joins and where the client has been, and hands the transport to a
protocol that does next to nothing: the engine writes the answer, head included, because the
status is known only when the first join is decided (``rust/core/src/dialect/sse``). What clients see
is in ``docs/sse.md``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from socket import IPPROTO_TCP, TCP_USER_TIMEOUT
from typing import Final

import orjson

from moda._core import Hub as Core
from moda.channel import NO_PARAMS, Socket
from moda.hub import Hub
from moda.principal import Principal
from moda.upgrade import Accepted, Refused, Streamed, Upgrade, bad_request
from moda.upgrade import Mount as DoorMount
from moda.wire.expiry import Expiry
from moda.wire.handshake import Negotiated, stranger
from moda.wire.phoenix import Mount, MountOptions
from moda.wire.query import all_values

__all__ = ["SIGN_SECONDS", "EventStream", "StreamMount", "allowed_to_read"]

SIGN_SECONDS: Final = 15.0
"""The longest silence of a stream: proxies close what is silent for a minute, some for half of that."""

GONE_SECONDS: Final = 60
"""How long the kernel waits for a peer to acknowledge what it was sent: four comments."""

MAX_HEARD: Final = 65536
"""Bytes a client may send behind its request, which asks for nothing, before it is cut off."""

MAX_TOPIC: Final = 1024
"""Bytes of a topic's name, as on sockets."""

CLOSED: Final = "closed"
"""The last ``id`` of a stream whose topics all closed in good order (``dialect/sse/id.rs``)."""

OWN_PARAMETERS: Final = frozenset({"topic", "token", "lastEventId", "last_event_id"})

Headers = tuple[tuple[str, str], ...]

Opening = tuple[int, int, Socket, bytes]
"""Mount, codec, socket, and the request as the engine takes it."""


class EventStream:
    """One client's connection, from its request to its end. The engine writes to the socket.

    Implements :class:`moda.upgrade.StreamConnection`.
    """

    __slots__ = ("_conn", "_ended", "_expiry", "_heard", "_hub", "_opening", "_transport")

    def __init__(self, hub: Core, opening: Opening, expiry: Expiry | None = None) -> None:
        self._hub = hub
        self._opening: Opening | None = opening
        self._expiry = expiry
        self._conn = 0
        self._heard = 0

    def begin(self, transport: asyncio.Transport, ended: Callable[[], None]) -> None:
        """Opens the connection in the engine and says what it asks for."""
        assert self._opening is not None
        self._transport: asyncio.Transport | None = transport
        self._ended: Callable[[], None] | None = ended
        mount, codec, socket, request = self._opening
        self._opening = None
        client = transport.get_extra_info("socket")
        # The client says nothing, so that it is gone shows in what it does not acknowledge.
        client.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, GONE_SECONDS * 1000)
        secure = transport.get_extra_info("ssl_object") is not None
        descriptor = None if secure else client.fileno()
        self._conn = self._hub.open(mount, codec, descriptor, transport, socket, socket.id)
        if self._expiry is not None:
            self._expiry.watch(self._conn, socket, tell=False)
            socket._refresh = partial(self._expiry.refresh, self._conn)
        self._hub.message(self._conn, True, request)

    def data_received(self, data: bytes) -> None:
        self._heard += len(data)
        if self._heard > MAX_HEARD and self._transport is not None:
            self._transport.abort()

    def eof_received(self) -> bool | None:
        return None  # the transport closes

    def hold(self) -> None:
        """A stream asks once: there is nothing more to read."""

    def pause_writing(self) -> None:
        """The hub knows: it gave the transport the bytes."""

    def resume_writing(self) -> None:
        self._hub.resume(self._conn)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        ended, self._ended = self._ended, None
        if self._expiry is not None:
            self._expiry.forget(self._conn)
        try:
            self._hub.lost(self._conn)
        finally:
            if ended is not None:
                ended()


class StreamMount(Mount):
    """One path of streams; ``path/{topic}`` is the stream of that topic."""

    streams = True
    """For the start's message: its address is no socket's."""

    def __init__(
        self, hub: Hub, options: MountOptions, number: int, expiry: Expiry | None = None
    ) -> None:
        super().__init__(hub, options, number, expiry)
        self._several = hub.core.codec("sse/many")

    def doors(self) -> list[DoorMount]:
        return [self, _OfOneTopic(self)]

    def accept_now(self, upgrade: Upgrade) -> Accepted | Streamed | Refused | None:
        outcome = super().accept_now(upgrade)
        return self._readable(upgrade, outcome) if isinstance(outcome, Refused) else outcome

    async def accept(self, upgrade: Upgrade) -> Accepted | Streamed | Refused:
        outcome = await super().accept(upgrade)
        return self._readable(upgrade, outcome) if isinstance(outcome, Refused) else outcome

    def _readable(self, upgrade: Upgrade, refused: Refused) -> Refused:
        """A refusal that pages which may be here can read, too."""
        if refused.reason == "origin":
            return refused
        headers = allowed_to_read(upgrade, self.options)
        return replace(refused, headers=(*refused.headers, *headers))

    def _read(self, upgrade: Upgrade) -> Negotiated | Refused:
        if upgrade.method == "OPTIONS":
            return stranger(upgrade, self.options.handshake.origins) or preflight(upgrade)
        if upgrade.method != "GET":
            return Refused(405, headers=(("allow", "GET, OPTIONS"),), reason="method")
        negotiated = super()._read(upgrade)
        if isinstance(negotiated, Refused):
            return negotiated
        topics = _topics(upgrade)
        if not topics:
            return bad_request(
                "a stream takes a topic: ?topic=room:1, and &topic=room:2 for a second one", "topic"
            )
        if len(topics) > self.options.max_channels:
            most = self.options.max_channels
            return bad_request(f"a stream takes {most} topics, got {len(topics)}", "topic")
        longest = max(len(topic.encode()) for topic in topics)
        if longest > MAX_TOPIC:
            return bad_request(f"a topic takes {MAX_TOPIC} bytes, got {longest}", "topic")
        if _last_id(upgrade, negotiated) == CLOSED:
            return Refused(204, reason="closed")
        # A connect hook gets it as the token, as it does a socket's ``authToken``.
        bearer = upgrade.header(b"authorization")
        if negotiated.token is None and bearer is not None and bearer[:7].lower() == b"bearer ":
            negotiated.token = bearer[7:].strip().decode("latin-1")
        return negotiated

    def _accepted(
        self, upgrade: Upgrade, negotiated: Negotiated, socket: Socket, identity: Principal
    ) -> Accepted | Streamed:
        ending = self._identify(socket, identity)
        topics = _topics(upgrade)
        params = {
            name: value for name, value in negotiated.params.items() if name not in OWN_PARAMETERS
        }
        if not params and "token" not in negotiated.params:
            # What names the stream is not worth a dictionary each. A token stays: what a channel's
            # crash writes is cleared of the values in there.
            socket.params = NO_PARAMS
        lines = "".join(
            f"{name}: {value}\r\n" for name, value in allowed_to_read(upgrade, self.options)
        )
        request = {"topics": topics, "params": params, "lines": lines}
        last = _last_id(upgrade, negotiated)
        if last:
            request["since"] = last
        codec = self._codecs[2] if len(topics) == 1 else self._several
        opening = (self.number, codec, socket, orjson.dumps(request))
        hub = self._hub.core
        return Streamed(lambda: EventStream(hub, opening, ending))


class _OfOneTopic:
    """The other path of a mount. Implements :class:`moda.upgrade.Mount`."""

    def __init__(self, mount: StreamMount) -> None:
        self._mount = mount
        self.path = f"{mount.path}/{{topic...}}"
        self.accept_now = mount.accept_now
        self.accept = mount.accept


def allowed_to_read(upgrade: Upgrade, options: MountOptions) -> Headers:
    """The header lines that let a page of an admitted origin read an answer (Fetch, "CORS protocol").

    A rule that names origins lets their pages send cookies along, as sockets do; one that admits all
    does not.
    """
    origins = upgrade.header_values(b"origin")
    if len(origins) != 1:
        return ()
    if not options.handshake.origins.checked:
        return (("access-control-allow-origin", "*"),)
    return (
        ("access-control-allow-origin", origins[0].decode("latin-1")),
        ("access-control-allow-credentials", "true"),
        ("vary", "origin"),
    )


def preflight(upgrade: Upgrade) -> Refused:
    """What a page that sends headers of its own is told before it sends them."""
    asked = upgrade.header(b"access-control-request-headers")
    headers: Headers = (("access-control-allow-methods", "GET"), ("access-control-max-age", "3600"))
    if asked:
        headers += (
            ("access-control-allow-headers", "authorization, cache-control, last-event-id"),
        )
    return Refused(204, headers=headers, reason="preflight")


def _topics(upgrade: Upgrade) -> list[str]:
    """The topics of a URL in their order, each once."""
    in_path = upgrade.variables.get("topic")
    named = [] if in_path is None else [in_path]
    return list(dict.fromkeys([*named, *all_values(upgrade.query, "topic")]))


def _last_id(upgrade: Upgrade, negotiated: Negotiated) -> str | None:
    header = upgrade.header(b"last-event-id")
    if header is not None:
        return header.decode("latin-1")
    for name in ("lastEventId", "last_event_id"):
        value = negotiated.params.get(name)
        if value is not None:
            return value if isinstance(value, str) else "?"  # a tree is no id, and is told so
    return None
