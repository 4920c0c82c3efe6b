"""The gateway: what an application declares, and what the server runs.

Declarations are collected first and checked when the gateway starts, all against one AsyncAPI
document: moda's own, merged with the application's if it has one. A topic that a document declares
gets its policy and its payload validators; one that code declares gets the policy named in code.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import structlog

from moda import asyncapi
from moda.app.supervisor import Supervisor
from moda.channel import Channel, Stream
from moda.errors import ConfigurationError
from moda.hub import Hub
from moda.message import Delivery, History, Raw, ServiceStatus
from moda.wire.conversation import Check
from moda.wire.handshake import HandshakeOptions
from moda.wire.origin import OriginRule
from moda.wire.phoenix import ConnectHook, Dispatch, Mount, MountOptions, Route

__all__ = ["Gateway"]

log = structlog.get_logger("moda.gateway")

Registered = TypeVar("Registered")
DEFAULT_SOCKET = "/socket"


@dataclass(frozen=True, slots=True)
class _Declared:
    pattern: str
    serves: type[Channel] | Stream
    sockets: tuple[str, ...] | None
    delivery: Delivery | None
    history: History | None
    max_subscribers: int | None


class Gateway:
    """A real-time gateway and everything declared on it.

    >>> from moda import Channel, Gateway, Reply
    >>> gateway = Gateway()
    >>> @gateway.channel("room:{room}")
    ... class Room(Channel):
    ...     async def handle(self, event, payload):
    ...         self.broadcast(event, payload)
    ...         return Reply("ok")

    ``asyncapi`` is a path (or the bytes) of an AsyncAPI 3.0 document that declares more channels.
    ``builtins`` False leaves out moda's own channels (telemetry, prices).
    """

    def __init__(
        self,
        *,
        asyncapi: str | os.PathLike[str] | bytes | None = None,
        builtins: bool = True,
    ) -> None:
        self.builtins = builtins
        self.hub = Hub()
        self.supervisor = Supervisor()
        self.asgi: Any = None
        self._asyncapi = asyncapi
        self._declared: list[_Declared] = []
        self._sockets: dict[str, MountOptions] = {DEFAULT_SOCKET: MountOptions(DEFAULT_SOCKET)}
        self._customised: set[str] = set()
        self._services: dict[str, Callable[[], ServiceStatus]] = {}
        self._mounts: list[Mount] | None = None
        self._routes: list[Route] = []
        self._document: Any = None
        self._registry: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._started = 0.0

    # -- declarations

    def channel(
        self,
        pattern: str,
        *,
        sockets: Sequence[str] | None = None,
        delivery: Delivery | None = None,
        history: History | None = None,
        max_subscribers: int | None = None,
    ) -> Callable[[Registered], Registered]:
        """Declares who serves a topic pattern: a Channel class, a Stream class or a Stream object.

        ``pattern`` is text with ``{name}`` parameters and at most one trailing ``*``; the first
        declared pattern that matches a topic wins. ``sockets`` names the socket mounts it is
        reachable on (default: all). The policy given here outranks the document's.
        """

        def register(serves: Registered) -> Registered:
            target: Any = serves
            if isinstance(target, type) and issubclass(target, Stream):
                target = target()
            if not isinstance(target, Stream) and not (
                isinstance(target, type) and issubclass(target, Channel)
            ):
                raise ConfigurationError(
                    f"channel({pattern!r}) takes a Channel class, a Stream class or a Stream object, "
                    f"got {serves!r}"
                )
            self._declared.append(
                _Declared(
                    pattern,
                    target,
                    None if sockets is None else tuple(sockets),
                    delivery,
                    history,
                    max_subscribers,
                )
            )
            return serves

        return register

    def socket(
        self,
        path: str = DEFAULT_SOCKET,
        *,
        connect: ConnectHook | None = None,
        max_channels: int = 100,
        max_message_bytes: int = 1 << 20,
        idle_seconds: float = 60.0,
        origins: str | Sequence[str] = "same",
        auth_token: bool = True,
        subprotocols: Sequence[str] = (),
    ) -> None:
        """Declares a socket mount, or sets the rules of the one at ``/socket``.

        Clients connect to ``path + "/websocket"``; phoenix.js adds that itself. ``path`` may hold
        ``{name}`` segments, which become params. ``connect`` decides on each connection:
        it gets a :class:`~moda.channel.Connect` and returns a principal, a
        :class:`~moda.channel.Socket` (to give it an id) or None, or raises
        :class:`~moda.errors.Refuse`. ``origins`` "same" admits pages of the same host only, "any"
        admits all, a list admits its entries (``https://*.example.org``; "same" may be one of them).
        """
        if not path.startswith("/") or path.rstrip("/") == "":
            raise ConfigurationError(f"a socket's path starts with / and names something, got {path!r}")
        self._customised.add(path)
        self._sockets[path] = MountOptions(
            path=path,
            max_channels=max_channels,
            max_message_bytes=max_message_bytes,
            idle_seconds=idle_seconds,
            handshake=HandshakeOptions(
                origins=OriginRule.parse(origins),
                auth_token=auth_token,
                subprotocols=tuple(subprotocols),
            ),
            connect=connect,
        )

    def connect(self, hook: ConnectHook) -> ConnectHook:
        """Decorates the connect hook of the default socket.

        >>> from moda import Gateway, Refuse, Socket
        >>> gateway = Gateway()
        >>> @gateway.connect
        ... async def admit(connect):
        ...     if connect.token != "secret":
        ...         raise Refuse(403)
        ...     return Socket(id="user:1", principal="user 1")
        """
        self._customised.add(DEFAULT_SOCKET)
        self._sockets[DEFAULT_SOCKET] = replace(self._sockets[DEFAULT_SOCKET], connect=hook)
        return hook

    def mount(self, app: Any) -> None:
        """Serves every HTTP path that moda does not with an ASGI application."""
        self.asgi = app

    def background(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Runs work while the server runs; a crash is logged and restarted with growing pauses."""
        self.supervisor.add(name, work)

    def service(self, name: str, probe: Callable[[], ServiceStatus]) -> None:
        """Adds a line to ``/health``. ``probe`` is called per request and must be quick."""
        self._services[name] = probe

    # -- what applications call while it runs

    def broadcast(
        self,
        topic: str,
        event: str,
        payload: Mapping[str, Any] | Raw | bytes,
        *,
        key: str | None = None,
    ) -> None:
        """Sends one event to every subscriber of a topic. May be called from any thread.

        ``payload`` is a dict (JSON), :class:`~moda.message.Raw` (JSON already) or bytes (a binary
        frame); ``key`` is what a topic with ``delivery="latest"`` conflates by.
        """
        if self._loop is not None and threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(
                lambda: self.hub.publish(topic, event, payload, key=key)
            )
        else:
            self.hub.publish(topic, event, payload, key=key)

    def disconnect(self, socket_id: str) -> int:
        """Closes every connection whose Socket has that id (1001); returns how many. Loop thread only."""
        return self.hub.disconnect(socket_id)

    def subscribers(self, topic: str) -> int:
        """How many channels are joined to a topic on this node."""
        return self.hub.subscribers(topic)

    async def drained(self) -> None:
        """Returns once everything published so far has been handed to the sockets."""
        await self.hub.drained()

    # -- what the server calls

    def configure(self, limits: Hub | None = None, sockets: MountOptions | None = None) -> None:
        """Applies the operator's settings where the application said nothing: hub limits, default socket."""
        if limits is not None:
            self.hub = limits
        if sockets is not None and DEFAULT_SOCKET not in self._customised:
            self._sockets[DEFAULT_SOCKET] = replace(sockets, path=DEFAULT_SOCKET)

    def build(self) -> list[Mount]:
        """Checks all declarations and makes the mounts. Raises ConfigurationError; called once, before the start."""
        if self._mounts is not None:
            return self._mounts
        self._registry = asyncapi.Registry(self.document)
        core = self.hub.core
        numbers: dict[str, int] = {}
        mounts: list[Mount] = []
        for path, options in self._sockets.items():
            numbers[path] = core.mount(
                max_channels=options.max_channels,
                max_message=options.max_message_bytes,
                idle_ms=int(options.idle_seconds * 1000),
            )
            mounts.append(Mount(self.hub, options, numbers[path]))
        for declared in self._declared:
            self._add_route(declared, numbers)
        self._mounts = mounts
        return mounts

    @property
    def document(self) -> Any:
        """The AsyncAPI document the gateway obeys: moda's own merged with the application's."""
        if self._document is None:
            parts = []
            if self.builtins:
                parts.append(asyncapi.own())
            if self._asyncapi is not None:
                parts.append(asyncapi.load(self._asyncapi))
            if not parts:
                parts.append(asyncapi.own())
            self._document = parts[0] if len(parts) == 1 else asyncapi.merge(parts[0], parts[1])
        return self._document

    async def start(self) -> None:
        """Binds to the running loop and starts the background work."""
        self.build()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._started = time.monotonic()
        dispatch = Dispatch(self.hub, self._routes)
        self.hub.start(dispatch.join, _complain)
        self.supervisor.start()

    async def stop(self) -> None:
        """Stops the background work and lets the loop go. Connections are closed before, by the drain."""
        await self.supervisor.stop()
        self.hub.stop()
        self._loop = None

    def health(self) -> dict[str, ServiceStatus]:
        """Every service's line of ``/health``, background jobs that keep failing included."""
        lines = {name: _probe(name, probe) for name, probe in self._services.items()}
        for name, status in self.supervisor.troubles().items():
            lines.setdefault(name, status)
        return lines

    @property
    def uptime_seconds(self) -> float:
        return time.monotonic() - self._started if self._started else 0.0

    def _add_route(self, declared: _Declared, numbers: Mapping[str, int]) -> None:
        found = self._registry.declared(declared.pattern)
        policy = found.policy if found is not None else asyncapi.UNDECLARED
        delivery = declared.delivery or policy.delivery or "every"
        history = declared.history or policy.history
        serves = declared.serves
        stream = isinstance(serves, Stream)
        intercept = () if isinstance(serves, Stream) else sorted(serves.intercept)
        number = self.hub.core.route(
            stream=stream,
            delivery=delivery,
            history_size=0 if history is None else history.size,
            history_ttl_ms=0 if history is None else int(history.ttl * 1000),
            intercept=list(intercept),
        )
        unknown = [path for path in declared.sockets or () if path not in numbers]
        if unknown:
            raise ConfigurationError(
                f"channel({declared.pattern!r}) names socket {unknown[0]!r}, which is not declared; "
                f"declared are {', '.join(numbers)}"
            )
        for path, mount in numbers.items():
            if declared.sockets is None or path in declared.sockets:
                try:
                    self.hub.core.expose(mount, declared.pattern, number)
                except ValueError as error:
                    raise ConfigurationError(str(error)) from None
        self._routes.append(
            Route(
                declared.pattern,
                serves,
                declared.max_subscribers or policy.max_subscribers,
                _checker(found),
            )
        )


def _checker(route: Any) -> Check | None:
    """The document's verdict on an inbound payload, as the conversation wants it."""
    if route is None:
        return None

    def check(event: str, payload: Any) -> dict[str, Any] | None:
        invalid = asyncapi.check(route, event, payload)
        return None if invalid is None else invalid.response

    return check


def _probe(name: str, probe: Callable[[], ServiceStatus]) -> ServiceStatus:
    try:
        return probe()
    except Exception as error:
        log.exception("service.probe.failed", service=name)
        return ServiceStatus("down", {"error": type(error).__name__})


def _complain(conn: int, code: int, reason: str) -> None:
    log.warning("connection.closed_for_cause", connection=conn, code=code, reason=reason)


