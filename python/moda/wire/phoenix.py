"""Phoenix sockets: mounts that decide who connects, and joins that reach the application.

A mount is one path with its own rules (`wire/handshake.py` has the handshake itself). The dispatch
is what the engine calls for every join it cannot answer alone: it finds the route's channel or
stream and starts the decision; the socket goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog

from moda._session import Session
from moda.channel import NO_PARAMS, Channel, Connect, JoinRequest, Socket, Stream
from moda.errors import ConfigurationError, Refuse, Reject
from moda.hub import Hub, encode_response
from moda.upgrade import Accepted, Refused, Upgrade
from moda.wire.conversation import Check, Conversation, read_join
from moda.wire.handshake import HandshakeOptions, Negotiated, negotiate

__all__ = ["ConnectHook", "Dispatch", "Mount", "MountOptions", "Route"]

log = structlog.get_logger("moda.socket")

ConnectHook = Callable[[Connect], Any | Awaitable[Any]]
"""Decides on a connection: returns a :class:`Socket`, any principal, or None; raises :class:`Refuse`."""


@dataclass(frozen=True, slots=True)
class Route:
    """What serves a topic pattern: a Channel class, or one Stream for all."""

    pattern: str
    serves: type[Channel] | Stream
    max_subscribers: int | None = None
    check: Check | None = None


@dataclass(frozen=True, slots=True)
class MountOptions:
    """One socket mount. ``path`` is the mount's own (``/socket``); clients connect to ``path + /websocket``."""

    path: str = "/socket"
    max_channels: int = 100
    max_message_bytes: int = 1 << 20
    idle_seconds: float = 60.0
    handshake: HandshakeOptions = field(default_factory=HandshakeOptions)
    connect: ConnectHook | None = None


class Dispatch:
    """Joins, from the engine to the application."""

    def __init__(self, hub: Hub, routes: list[Route]) -> None:
        self._hub = hub
        self._routes = routes
        self._joining: set[asyncio.Task[None]] = set()

    def join(
        self,
        sub: int,
        route: int,
        socket: Socket,
        topic: str,
        params: dict[str, str],
        payload: bytes,
        binary: bool,
    ) -> Conversation | None:
        """Called by the engine. What is returned receives the channel's messages; a stream has none."""
        target = self._routes[route]
        full = target.max_subscribers
        if full is not None and self._hub.subscribers(topic) >= full:
            refusal = orjson.dumps({"reason": "too many subscribers", "limit": full})
            self._hub.core.join_error(sub, refusal)
            return None
        serves = target.serves
        if isinstance(serves, Stream):
            work = self._join_stream(serves, target.check, sub, socket, topic, params, payload, binary)
            task = asyncio.get_running_loop().create_task(work)
            self._joining.add(task)
            task.add_done_callback(self._joining.discard)
            return None
        channel = serves()
        channel.topic = topic
        channel.params = params
        channel.socket = socket
        conversation = Conversation(self._hub, sub, channel, target.check)
        conversation.begin(payload, binary)
        return conversation

    async def _join_stream(
        self,
        stream: Stream,
        check: Check | None,
        sub: int,
        socket: Socket,
        topic: str,
        params: dict[str, str],
        payload: bytes,
        binary: bool,
    ) -> None:
        core = self._hub.core
        try:
            value = read_join(payload, binary, check)
            answer = await stream.join(JoinRequest(topic, params, value, socket))
            data, as_binary = encode_response(answer)
        except Reject as reject:
            core.join_error(sub, encode_response(reject.response)[0])
        except Exception:
            log.exception("stream.join.failed", topic=topic)
            core.join_error(sub, b'{"reason":"join crashed"}')
        else:
            core.join_ok(sub, data, as_binary)


class Mount:
    """One socket path. Implements :class:`moda.upgrade.Mount`."""

    def __init__(self, hub: Hub, options: MountOptions, number: int) -> None:
        self.options = options
        self._hub = hub
        self._number = number

    @property
    def path(self) -> str:
        return self.options.path.rstrip("/") + "/websocket"

    @property
    def max_frame_size(self) -> int:
        return self.options.max_message_bytes

    def accept_now(self, upgrade: Upgrade) -> Accepted | Refused | None:
        negotiated = negotiate(upgrade, self.options.handshake)
        if isinstance(negotiated, Refused):
            return negotiated
        if self.options.connect is None:
            return self._accepted(negotiated, Socket(params=_params(negotiated, upgrade)))
        return None

    async def accept(self, upgrade: Upgrade) -> Accepted | Refused:
        negotiated = negotiate(upgrade, self.options.handshake)
        if isinstance(negotiated, Refused):
            return negotiated
        hook = self.options.connect
        params = _params(negotiated, upgrade)
        if hook is None:
            return self._accepted(negotiated, Socket(params=params))
        connect = Connect(
            params=params,
            headers={
                name.decode("latin-1"): value.decode("latin-1") for name, value in upgrade.headers
            },
            client=upgrade.client,
            token=negotiated.token,
            path=upgrade.path,
        )
        try:
            answer = hook(connect)
            if inspect.isawaitable(answer):
                answer = await answer
        except Refuse as refuse:
            return Refused(refuse.status, refuse.body.encode(), reason="connect")
        return self._accepted(negotiated, _socket(answer, params))

    def _accepted(self, negotiated: Negotiated, socket: Socket) -> Accepted:
        protocol = negotiated.protocol
        headers = () if protocol is None else (("Sec-WebSocket-Protocol", protocol),)
        hub, number, v1 = self._hub.core, self._number, negotiated.vsn == 1
        return Accepted(lambda: Session(hub, number, v1, socket), headers)


def _params(negotiated: Negotiated, upgrade: Upgrade) -> Mapping[str, Any]:
    """Query and path parameters. Nearly every client sends ``vsn`` alone: that is not worth a dictionary each."""
    params = negotiated.params
    if upgrade.variables:
        return {**params, **upgrade.variables}
    if len(params) == 1 and "vsn" in params:
        return _ONLY_VSN.setdefault(str(params["vsn"]), {"vsn": str(params["vsn"])}) if len(_ONLY_VSN) < 64 else params
    return params or NO_PARAMS


_ONLY_VSN: dict[str, dict[str, str]] = {}


def _socket(answer: Any, params: Mapping[str, Any]) -> Socket:
    if isinstance(answer, Socket):
        if answer.params is NO_PARAMS:
            answer.params = params
        if answer.id is not None and not isinstance(answer.id, str):
            raise ConfigurationError(f"a socket id is a str or None, got {answer.id!r}")
        return answer
    return Socket(principal=answer, params=params)
