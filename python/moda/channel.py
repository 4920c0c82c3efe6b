"""The contract between moda and the code people write for it: channels, streams, sockets.

A :class:`Channel` is one conversation: one instance per joined (connection, topic), with a
task of its own while it has something to do, so a slow handler delays nobody else. A
:class:`Stream` is one voice: a single instance serves every subscriber of its topics, and a
subscriber costs no Python object once it has joined.

This file imports no event loop and no socket. What a channel does to the outside goes through
the :class:`Port` it was given, which is what the tests replace.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final, Protocol, TypeVar

from moda.errors import Denied, ReplyError
from moda.message import Delivery, History, Raw, Ref, Reply, ServiceStatus, Stop
from moda.principal import ANONYMOUS, Principal

__all__ = [
    "NO_PARAMS",
    "Channel",
    "Connect",
    "JoinRequest",
    "Port",
    "Registrar",
    "Socket",
    "Stream",
]

NO_PARAMS: Mapping[str, Any] = MappingProxyType({})

NO_REF: Final[Ref] = "null"
"""The ref, as JSON text, of a message that carries none."""


@dataclass(frozen=True, slots=True)
class Connect:
    """What a connect hook sees of a connection that wants in, before the upgrade.

    ``params`` are the query's parameters (nested ``a[b]=1`` become dictionaries) merged with the
    mount path's variables; ``token`` is the one sent through the subprotocol (``auth_token``).
    ``principal`` is who the token or key it showed stands for, verified already.
    What holds credentials is left out of ``repr``: a hook's error message may show the whole.
    """

    params: Mapping[str, Any] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    client: tuple[str, int] | None
    token: str | None = field(repr=False)
    path: str
    principal: Principal = ANONYMOUS


class Socket:
    """One connection, as its channels see it.

    ``id`` names it for :meth:`Gateway.disconnect` (several connections may share one id),
    ``principal`` is whatever the connect hook answered, else the :class:`~moda.principal.Principal`
    of the token or key the client showed, else None. ``assigns`` is free for the application.
    ``trusted`` says that the client showed a right token or that a connect hook vouched for it.
    ``identity`` is always a Principal, and the one that channels' access and topic rules are held
    against: the hook's if it answered with one, else that of the token or key.
    """

    __slots__ = ("_assigns", "_refresh", "id", "identity", "params", "principal", "trusted")

    def __init__(
        self,
        id: str | None = None,
        principal: Any = None,
        params: Mapping[str, Any] = NO_PARAMS,
    ) -> None:
        self.id = id
        self.principal = principal
        self.params = params
        self.identity = principal if isinstance(principal, Principal) else ANONYMOUS
        self.trusted = False
        self._assigns: dict[str, Any] | None = None
        self._refresh: Callable[[str], Awaitable[Principal]] | None = None

    @property
    def assigns(self) -> dict[str, Any]:
        """A dictionary shared by the connection's channels; made when first asked for."""
        if self._assigns is None:
            self._assigns = {}
        return self._assigns

    async def refresh(self, token: str) -> Principal:
        """Takes a new token of the same client in place of the one it connected with, so that the
        connection does not end with that: call it in ``handle`` with what the client sends.

        :class:`~moda.errors.Denied` when the token is not taken or is another client's, and when
        this connection's has no end.
        """
        if self._refresh is None:
            raise Denied("missing", "this connection has no token with an end")
        if not isinstance(token, str):  # it is whatever a client sent
            raise Denied("malformed", "a token is a text")
        return await self._refresh(token)

    def __repr__(self) -> str:
        # Not the principal: an application's object, often with a token in it.
        return f"<Socket id={self.id!r} trusted={self.trusted}>"


class Port(Protocol):
    """What a channel may do to the outside. The wire implements it; a test may, too."""

    def push(self, event: str, payload: Any) -> None: ...
    def reply(self, ref: Ref, reply: Reply) -> None: ...
    def broadcast(self, event: str, payload: Any, key: str | None, everyone: bool) -> None: ...
    def stop(self, stop: Stop) -> None: ...
    def spawn(self, work: Coroutine[Any, Any, Any]) -> None: ...
    def track(self, key: str, meta: Mapping[str, Any]) -> None: ...
    def update(self, key: str, meta: Mapping[str, Any]) -> None: ...
    def untrack(self, key: str) -> None: ...
    def presence(self) -> dict[str, Any]: ...


class Channel:
    """One client's conversation on one topic. Subclass it, register it with ``@gateway.channel``.

    Every callback runs in the channel's own task, one at a time and in the order the client
    sent. An exception ends this channel only: the client gets ``phx_error`` and joins again.

    >>> class Echo(Channel):
    ...     async def handle(self, event, payload):
    ...         return Reply("ok", payload)
    """

    intercept: ClassVar[frozenset[str]] = frozenset()
    """Broadcast events this channel wants to see, change or drop before its client does (:meth:`outgoing`)."""

    _verbatim: ClassVar[Any] = None
    """``handle(event, payload)`` with a third argument, the payload's JSON text as it came."""

    __slots__ = ("__dict__", "__weakref__", "_port", "_ref", "params", "socket", "topic")

    topic: str
    params: dict[str, str]
    socket: Socket
    _port: Port
    _ref: Ref | None

    # -- what an application overrides

    async def join(self, payload: Any) -> Any:
        """Decides whether the client may join.

        Returns the response of the join reply (any JSON value or bytes; None is ``{}``) or raises
        :class:`~moda.errors.Reject`. Any other exception answers ``join crashed``.
        """
        return None

    async def joined(self) -> None:
        """Runs after the join reply has gone out: the place to push a first state."""

    async def handle(self, event: str, payload: Any) -> Reply | Stop | None:
        """Handles one message. Returns a :class:`Reply`, a :class:`Stop`, or None for no answer.

        ``payload`` is the decoded JSON value, or bytes for a binary message.
        """
        return Reply("error", {"reason": "unknown event", "event": event})

    async def outgoing(self, event: str, payload: Any) -> None:
        """Sees a broadcast named in :attr:`intercept` instead of the client; push it on, changed or not, or drop it."""
        self.push(event, payload)

    async def leave(self, reason: str) -> None:
        """Runs once at every end of a joined channel.

        ``reason`` is "left", "closed" (the connection is gone), "replaced" (the client joined
        again), "shutdown", the reason of a :class:`Stop`, or "crash". It is cancelled after 30 s.
        The client hears no push any more; broadcasts go out.
        """

    # -- what an application calls

    @property
    def ref(self) -> Ref:
        """The ref of the message being handled; keep it for :meth:`reply`.

        ReplyError if the message has none, and outside of ``handle``: work spawned there is given
        the ref, since by the time it runs another message may be handled.
        """
        if self._ref is None:
            raise ReplyError(
                "no message is being handled: read self.ref before handle returns and hand it on, "
                "as in self.spawn(self.answer(self.ref))"
            )
        if self._ref == NO_REF:
            raise ReplyError("this message carried no ref, so nobody waits for a reply to it")
        return self._ref

    def push(self, event: str, payload: Any) -> None:
        """Sends one event to this client. ``payload`` is a dict, :class:`Raw` JSON, or bytes (binary frame).

        ValueError for an event that the protocol keeps for itself (``phx_reply``).
        """
        self._port.push(event, payload)

    def reply(self, ref: Ref, reply: Reply) -> None:
        """Answers a message later, or again. Dropped silently when the channel has ended."""
        self._port.reply(ref, reply)

    def broadcast(self, event: str, payload: Any, *, key: str | None = None) -> None:
        """Sends one event to every subscriber of this topic, this client included."""
        self._port.broadcast(event, payload, key, True)

    def broadcast_from(self, event: str, payload: Any, *, key: str | None = None) -> None:
        """Sends one event to every subscriber of this topic but this channel."""
        self._port.broadcast(event, payload, key, False)

    def stop(self, reason: str = "normal", reply: Reply | None = None) -> None:
        """Ends the channel from beside ``handle``, for example from spawned work.

        ``reply`` answers the message being handled; ReplyError when none is.
        """
        self._port.stop(Stop(reason, reply))

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Runs work beside the channel, cancelled when the channel ends; its crash is the channel's crash."""
        self._port.spawn(work)

    # -- presence, where the channel is declared with it (``docs/presence.md``)

    def track(self, key: str, meta: Mapping[str, Any] | None = None) -> None:
        """Makes this client present on the topic under ``key``, until it is untracked or the channel ends.

        ``key`` is any text, such as a user's id; several channels under one key are several metas of
        it. ``meta`` is what the others are told of this one, a JSON object. Call it from
        :meth:`joined` on; it is told within 100 ms.

        >>> from moda import Gateway
        >>> gateway = Gateway()
        >>> @gateway.channel("room:{room}", presence="list")
        ... class Room(Channel):
        ...     async def joined(self):
        ...         self.track(self.socket.id or "guest", {"device": "phone"})

        PresenceError when it is tracked under the key already, or no presence is declared;
        ValueError for a key or a meta that is too long.
        """
        self._port.track(key, {} if meta is None else meta)

    def update(self, key: str, meta: Mapping[str, Any]) -> None:
        """Replaces the meta this channel is present with under ``key``. PresenceError when there is none."""
        self._port.update(key, meta)

    def untrack(self, key: str) -> None:
        """Ends this channel's presence under ``key``; nothing when there is none."""
        self._port.untrack(key)

    def presence(self) -> dict[str, Any]:
        """Who is present on the topic now: ``{key: {"metas": [meta, ...]}}``."""
        return self._port.presence()


@dataclass(slots=True)
class JoinRequest:
    """A client's wish to subscribe to a stream."""

    topic: str
    params: dict[str, str] = field(default_factory=dict)
    payload: Any = None
    socket: Socket = field(default_factory=Socket)
    address: str | None = field(default=None, init=False)
    present: tuple[str, Mapping[str, Any]] | None = field(default=None, init=False)

    def track(self, key: str, meta: Mapping[str, Any] | None = None) -> None:
        """Says under which key this subscriber, once accepted, is present on the topic, and with what.

        For streams declared with ``presence``. Without it the key is the socket's id, or one of the
        connection's own.
        """
        self.present = (key, {} if meta is None else meta)

    def seat(self, address: str) -> None:
        """Puts this subscriber, once accepted, into a lane: a fan-out of its own behind the topic.

        ``broadcast(address, ...)`` reaches it and ``seated(address)`` counts it; its frames carry the
        topic, and ``subscribers(topic)`` counts the subscribers of all lanes. No client can name a
        lane as long as ``address`` matches no declared pattern.
        """
        self.address = address


class Stream:
    """A push-only topic: one instance for all its subscribers, who cost no Python object each.

    Publish to it with ``gateway.broadcast(topic, event, payload)``. What a client sends to it is
    answered with an error reply by the engine and never reaches Python.
    """

    async def join(self, request: JoinRequest) -> Any:
        """Returns the response of the join reply (None is ``{}``) or raises :class:`~moda.errors.Reject`."""
        return None


Registered = TypeVar("Registered")


class Registrar(Protocol):
    """What a capability is handed at start: the public API, nothing private."""

    def channel(
        self,
        pattern: str,
        *,
        delivery: Delivery | None = None,
        history: History | None = None,
        max_subscribers: int | None = None,
    ) -> Callable[[Registered], Registered]: ...

    def broadcast(
        self,
        topic: str,
        event: str,
        payload: Mapping[str, Any] | Raw | bytes,
        *,
        key: str | None = None,
    ) -> None: ...

    def background(self, name: str, work: Callable[[], Awaitable[None]]) -> None: ...

    def service(self, name: str, probe: Callable[[], ServiceStatus]) -> None: ...
