"""Phoenix sockets: mounts that decide who connects, and joins that reach the application.

A mount is one path with its own rules (`wire/handshake.py` has the handshake itself). The dispatch
is what the engine calls for every join it cannot answer alone: it finds the route's channel or
stream and starts the decision; the socket goes on meanwhile.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

import orjson
import structlog

from moda import asyncapi
from moda._session import Session
from moda.channel import NO_PARAMS, Channel, Connect, JoinRequest, Socket, Stream
from moda.errors import ConfigurationError, Denied, Refuse, Reject, StoreError
from moda.hub import Hub, encode_join
from moda.principal import ANONYMOUS, Authenticator, Principal
from moda.upgrade import Accepted, Refused, Streamed, Upgrade
from moda.upgrade import Mount as DoorMount
from moda.wire.conversation import Conversation, Rate
from moda.wire.crashes import crashes, deliberate
from moda.wire.decision import CRASHED, Check, StreamJoin, read_join, refusal, unavailable
from moda.wire.expiry import EndingSession, Expiry
from moda.wire.handshake import HandshakeOptions, Negotiated, negotiate
from moda.wire.pace import JoinPace
from moda.wire.token import TokenRule, authentication_refused, presented_token

__all__ = ["ConnectHook", "Dispatch", "Mount", "MountOptions", "Rate", "Route", "SocketDialect"]

log = structlog.get_logger("moda.socket")

MAX_GOODBYES: Final = 256
"""``leave`` callbacks and cancelled tasks that may be under way for one connection before its joins are answered with
``busy``. Leaving and joining in a loop would otherwise be a way to fill the memory."""

SocketDialect = Literal["phoenix", "json", "sse"]

ConnectHook = Callable[[Connect], Any | Awaitable[Any]]
"""Decides on a connection: returns a :class:`Socket`, any principal, or None; raises :class:`Refuse`."""


@dataclass(frozen=True, slots=True)
class Route:
    """What serves a topic pattern: a Channel class, or one Stream for all."""

    pattern: str
    serves: type[Channel] | Stream
    max_subscribers: int | None = None
    check: Check | None = None
    rate: Rate | None = None
    trusted_only: bool = False
    key_kind: str | None = None
    presence: bool = False
    relay: bool = False
    declared: asyncapi.Route | None = None
    durable: bool = False


@dataclass(frozen=True, slots=True)
class MountOptions:
    """One socket mount.

    ``path`` is the mount's own; Phoenix clients connect to ``path + /websocket``, those of ``json``
    and ``sse`` to ``path`` itself. A client silent for ``ping_seconds`` is sent a WebSocket ping (0:
    never), one silent for ``idle_seconds`` is closed (0: never). Phoenix clients send heartbeats and
    need no ping; those of ``sse`` only listen and are sent comments.
    """

    path: str = "/socket"
    dialect: SocketDialect = "phoenix"
    max_channels: int = 100
    max_message_bytes: int = 1 << 20
    idle_seconds: float = 60.0
    ping_seconds: float = 0.0
    handshake: HandshakeOptions = field(default_factory=HandshakeOptions)
    tokens: TokenRule = field(default_factory=TokenRule)
    connect: ConnectHook | None = None
    authenticator: Authenticator | None = None


class Dispatch:
    """Joins, from the engine to the application."""

    def __init__(self, hub: Hub, routes: Mapping[int, Route], expiry: Expiry | None = None) -> None:
        self._hub = hub
        self._routes = routes
        self._expiry = expiry
        self._undecided: Counter[str] = Counter()
        self._pace = JoinPace(hub)

    def start_joins(self) -> None:
        """Called by the engine when joins wait: starts as many as a turn of the loop has time for."""
        self._pace.start()

    def join(
        self,
        sub: int,
        conn: int,
        route: int,
        socket: Socket,
        topic: str,
        params: dict[str, str],
        payload: bytes,
        binary: bool,
    ) -> Conversation | StreamJoin | None:
        """Called by the engine. What is returned receives the channel's messages and hears of its end."""
        target = self._routes[route]
        against = self._against(target, conn, socket, topic, params)
        if against is not None:
            self._hub.core.join_error(sub, orjson.dumps(against))
            return None
        if self._expiry is not None and socket.identity.expires_at is not None:
            self._expiry.joined(conn, topic, sub)
        serves = target.serves
        if isinstance(serves, Stream):
            decided = self._place(target, topic)
            request = JoinRequest(topic, params, payload, socket)
            asks = type(serves).join is not Stream.join or target.durable
            pace = self._pace if asks else None
            work = self._join_stream(serves, target, sub, conn, request, binary, decided, pace)
            if pace is None:
                # Nobody to ask: it runs to its end as it is, and needs no task.
                with suppress(StopIteration):
                    work.send(None)
                return None
            join = StreamJoin(self._hub, sub, work, decided, topic=topic, connection_id=conn)
            pace.expect(join.task)
            return join
        try:
            channel = serves()
        except BaseException as error:
            about = {"topic": topic, "connection_id": conn}
            crashes.log(log, "channel.join.failed", serves, error, sent=socket.params, **about)
            self._hub.core.join_error(sub, CRASHED)
            return None
        channel.topic = topic
        channel.params = params
        channel.socket = socket
        decided = self._place(target, topic)
        conversation = Conversation(
            self._hub, sub, channel, target.check, target.rate, decided, conn
        )
        conversation.begin(payload, binary, self._pace)
        return conversation

    def _place(self, target: Route, topic: str) -> Callable[[], None] | None:
        """Holds a place under the topic's cap until the join is decided; what it returns gives it up.

        Once: to call it again does nothing.
        """
        if target.max_subscribers is None:
            return None
        self._undecided[topic] += 1
        held = True

        def decided() -> None:
            nonlocal held
            if not held:
                return
            held = False
            self._undecided[topic] -= 1
            if not self._undecided[topic]:
                del self._undecided[topic]

        return decided

    def _against(
        self, target: Route, conn: int, socket: Socket, topic: str, params: dict[str, str]
    ) -> dict[str, Any] | None:
        """What the declared policy has against a join, before anybody is asked."""
        goodbyes = self._hub.goodbyes
        if goodbyes and goodbyes[conn] >= MAX_GOODBYES:
            return {"reason": "busy"}
        if target.trusted_only and not socket.trusted:
            return {"reason": "unauthorized"}
        if target.key_kind is not None and not socket.identity.opens(target.key_kind):
            return {"reason": "unauthorized", "access": f"key:{target.key_kind}"}
        if not socket.identity.may_subscribe(topic):
            return {"reason": "unauthorized", "rule": "subscribe"}
        invalid = asyncapi.check_topic(target.declared, params)
        if invalid is not None:
            return invalid.response
        full = target.max_subscribers
        if full is not None and self._hub.subscribers(topic) + self._undecided[topic] >= full:
            return {"reason": "too many subscribers", "limit": full}
        return None

    async def _join_stream(
        self,
        stream: Stream,
        target: Route,
        sub: int,
        conn: int,
        request: JoinRequest,
        binary: bool,
        decided: Callable[[], None] | None,
        pace: JoinPace | None,
    ) -> None:
        core = self._hub.core
        about = {"topic": request.topic, "connection_id": conn}
        try:
            if pace is not None:
                await pace.turn()
            request.payload = read_join(request.payload, binary, target.check)
            data, as_binary = encode_join(await stream.join(request))
            await self._hub.ready(request.topic)
            if request.address is not None:
                core.reseat(sub, request.address)
            if target.relay and not request.socket.identity.may_publish(request.topic):
                core.permit(sub, False)
            if core.join_ok(sub, data, as_binary) and target.presence:
                key, meta = request.present or (request.socket.id or f"connection:{conn}", {})
                self._hub.track(sub, key, meta)
        except Reject as reject:
            core.join_error(sub, refusal(reject.response, stream, **about))
        except StoreError as error:
            core.join_error(sub, unavailable(error))
        except BaseException as error:
            if deliberate(error):
                raise
            # If it was the engine that raised, it has answered the client already: this finds nobody.
            crashes.log(
                log, "stream.join.failed", stream, error, sent=request.socket.params, **about
            )
            core.join_error(sub, CRASHED)
        finally:
            if decided is not None:
                decided()


class Mount:
    """One socket path. Implements :class:`moda.upgrade.Mount`."""

    def __init__(
        self, hub: Hub, options: MountOptions, number: int, expiry: Expiry | None = None
    ) -> None:
        self.options = options
        self._hub = hub
        self._codecs = {vsn: hub.core.codec(name) for vsn, name in self._names().items()}
        self._expiry = expiry
        self.number = number

    def _names(self) -> dict[int, str]:
        """The engine's names of what is spoken here, by version."""
        if self.options.dialect == "phoenix":
            return {1: "phoenix/1", 2: "phoenix/2"}
        return {2: self.options.dialect}

    def doors(self) -> list[DoorMount]:
        """What the door is to know: one for every path."""
        return [self]

    @property
    def path(self) -> str:
        suffix = "/websocket" if self.options.dialect == "phoenix" else ""
        return self.options.path.rstrip("/") + suffix

    def accept_now(self, upgrade: Upgrade) -> Accepted | Streamed | Refused | None:
        negotiated = self._negotiate(upgrade)
        if isinstance(negotiated, Refused):
            return negotiated
        try:
            identity = self._identified_now(negotiated, upgrade)
        except Denied as denied:
            return authentication_refused(self.options.tokens.mode, denied)
        if identity is None or self.options.connect is not None:
            return None
        socket = Socket(params=_params(negotiated, upgrade))
        return self._accepted(upgrade, negotiated, socket, identity)

    async def accept(self, upgrade: Upgrade) -> Accepted | Streamed | Refused:
        negotiated = self._negotiate(upgrade)
        if isinstance(negotiated, Refused):
            return negotiated
        try:
            identity = await self._identified(negotiated, upgrade)
        except Denied as denied:
            return authentication_refused(self.options.tokens.mode, denied)
        hook = self.options.connect
        params = _params(negotiated, upgrade)
        if hook is None:
            return self._accepted(upgrade, negotiated, Socket(params=params), identity)
        connect = Connect(
            params=params,
            headers={
                name.decode("latin-1"): value.decode("latin-1") for name, value in upgrade.headers
            },
            client=upgrade.client,
            token=negotiated.token,
            path=upgrade.path,
            principal=identity,
        )
        try:
            answer = hook(connect)
            if inspect.isawaitable(answer):
                answer = await answer
        except Refuse as refuse:
            return Refused(refuse.status, refuse.body.encode(), reason="connect")
        except Exception:
            raise
        except BaseException as error:
            if deliberate(error):
                raise
            # The door answers a crash with 500. As it is, this one would end the door's task, or
            # with ``SystemExit`` the gateway.
            raise RuntimeError(f"the connect hook raised {error!r}") from error
        try:
            socket = _socket(answer, params)
        except ConfigurationError as error:
            log.error("connect.failed", path=self.path, error=str(error))
            return Refused(403, reason="socket_id")
        socket.trusted = answer is not None
        return self._accepted(upgrade, negotiated, socket, identity)

    def _read(self, upgrade: Upgrade) -> Negotiated | Refused:
        return negotiate(upgrade, self.options.handshake)

    def _negotiate(self, upgrade: Upgrade) -> Negotiated | Refused:
        """The handshake's rules and whether a token is shown, before any code of the application."""
        negotiated = self._read(upgrade)
        if isinstance(negotiated, Refused):
            return negotiated
        mode = self.options.tokens.mode
        if mode == "required" and presented_token(negotiated, upgrade) is None:
            return authentication_refused(mode, Denied("missing", "no token"))
        return negotiated

    def _identified_now(self, negotiated: Negotiated, upgrade: Upgrade) -> Principal | None:
        """Who the client is, or None when that takes time. Denied for a token that is not taken."""
        tokens = self.options.tokens
        if tokens.mode == "off":
            return ANONYMOUS
        shown = presented_token(negotiated, upgrade)
        if shown is None:
            return ANONYMOUS
        if self.options.authenticator is not None:
            return self.options.authenticator.authenticate_now(shown)
        if not tokens.admits(shown):
            raise Denied("unknown", "a wrong token")
        return Principal("", "token")

    async def _identified(self, negotiated: Negotiated, upgrade: Upgrade) -> Principal:
        known = self._identified_now(negotiated, upgrade)
        if known is not None:
            return known
        shown, authenticator = presented_token(negotiated, upgrade), self.options.authenticator
        assert shown is not None
        assert authenticator is not None
        return await authenticator.authenticate(shown)

    def _accepted(
        self, _upgrade: Upgrade, negotiated: Negotiated, socket: Socket, identity: Principal
    ) -> Accepted | Streamed:
        ending = self._identify(socket, identity)
        protocol = negotiated.protocol
        headers = () if protocol is None else (("Sec-WebSocket-Protocol", protocol),)
        hub, number, codec = self._hub.core, self.number, self._codecs[negotiated.vsn]
        if ending is not None:
            tell = self.options.dialect == "phoenix"
            return Accepted(
                lambda: EndingSession.of(ending, socket, hub, number, codec, tell=tell), headers
            )
        return Accepted(lambda: Session(hub, number, codec, socket), headers)

    def _identify(self, socket: Socket, identity: Principal) -> Expiry | None:
        """Makes the client's principal the socket's; the one who watches its end, if it has one."""
        if identity.kind != "anonymous":
            socket.trusted = True
            if socket.principal is None:
                socket.principal = identity
        if isinstance(socket.principal, Principal):
            identity = socket.principal
        socket.identity = identity
        return None if identity.expires_at is None else self._expiry


def _params(negotiated: Negotiated, upgrade: Upgrade) -> Mapping[str, Any]:
    """Query and path parameters. Nearly every client sends ``vsn`` alone: that is not worth a dictionary each."""
    params = negotiated.params
    if upgrade.variables:
        return {**params, **upgrade.variables}
    if len(params) == 1 and "vsn" in params:
        vsn = str(params["vsn"])
        if vsn not in _ONLY_VSN and len(_ONLY_VSN) < 64:
            _ONLY_VSN[vsn] = MappingProxyType({"vsn": vsn})
        return _ONLY_VSN.get(vsn, params)
    return params or NO_PARAMS


_ONLY_VSN: dict[str, Mapping[str, str]] = {}
"""Shared by connections, so nobody may write to them."""


def _socket(answer: Any, params: Mapping[str, Any]) -> Socket:
    if isinstance(answer, Socket):
        if answer.params is NO_PARAMS:
            answer.params = params
        if answer.id is not None and not isinstance(answer.id, str):
            raise ConfigurationError(f"a socket id is a str or None, got {answer.id!r}")
        return answer
    return Socket(principal=answer, params=params)
