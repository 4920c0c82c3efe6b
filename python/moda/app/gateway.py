"""The gateway: what an application declares, and what the server runs.

Declarations are collected first and checked when the gateway starts, all against one AsyncAPI
document: moda's own, merged with the application's if it has one. A topic that a document declares
gets its policy and its payload validators; one that code declares gets the policy named in code.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, overload

import structlog

from moda import asyncapi as documents
from moda.app.declared import Declared, declared_channel, served_by_document
from moda.app.layout import Layout
from moda.app.sockets import SocketRules, declared_socket
from moda.app.supervisor import Supervisor
from moda.errors import ConfigurationError, StoreError
from moda.hub import Hub
from moda.message import Delivery, History, Kept, Position, Presence, Raw, ServiceStatus
from moda.ports import Key, Log, Store
from moda.wire.expiry import Expiry
from moda.wire.phoenix import ConnectHook, Dispatch, Mount, MountOptions, SocketDialect
from moda.wire.sse import SIGN_SECONDS, StreamMount

__all__ = ["Gateway"]

log = structlog.get_logger("moda.gateway")

Registered = TypeVar("Registered")
DEFAULT_SOCKET = "/socket"
JSON_SOCKET = "/ws"
STREAMS = "/sse"
TRIM_SECONDS = 5.0
"""How often durable topics are held to their age."""

OWN_ADDRESSES = frozenset({"telemetry:metrics", "chart:prices"})
"""Channels of moda's own document; a gateway without builtins leaves them unserved."""


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
        self._declared: list[Declared] = []
        self._sockets: dict[str, SocketRules] = {
            DEFAULT_SOCKET: SocketRules(DEFAULT_SOCKET),
            JSON_SOCKET: SocketRules(JSON_SOCKET, dialect="json"),
            STREAMS: SocketRules(STREAMS, dialect="sse"),
        }
        self._operator = MountOptions(DEFAULT_SOCKET)
        self._hosts: Sequence[str] = ()
        self._interval_ms: int | None = None
        self._services: dict[str, Callable[[], ServiceStatus]] = {}
        self._mounts: list[Mount] | None = None
        self._expiry: Expiry | None = None
        self._document: documents.Document | None = None
        self._own: frozenset[str] = frozenset()
        self._layout: Layout | None = None
        self._store: Store | None = None
        self._servers: Sequence[documents.Server] = ()
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
        presence: Presence | None = None,
    ) -> Callable[[Registered], Registered]:
        """Declares who serves a topic pattern: a Channel class, a Stream class or a Stream object.

        ``pattern`` is text with ``{name}`` parameters and at most one trailing ``*``; the first
        declared pattern that matches a topic wins. ``sockets`` names the socket mounts it is
        reachable on (default: all). ``presence`` tells its subscribers who is present: "list" by key
        and meta as Phoenix does, "count" as a number. The policy given here outranks the document's.
        """

        def register(serves: Registered) -> Registered:
            self._must_not_run(f"channel({pattern!r})")
            self._declared.append(
                declared_channel(
                    pattern, serves, sockets, delivery, history, max_subscribers, presence
                )
            )
            return serves

        return register

    def socket(
        self,
        path: str = DEFAULT_SOCKET,
        *,
        connect: ConnectHook | None = None,
        max_channels: int | None = None,
        max_message_bytes: int | None = None,
        idle_seconds: float | None = None,
        ping_seconds: float | None = None,
        origins: str | Sequence[str] | None = None,
        auth_token: bool = True,
        subprotocols: Sequence[str] = (),
        dialect: SocketDialect | None = None,
    ) -> None:
        """Declares a socket mount, or sets the rules of the ones at ``/socket``, ``/ws`` and ``/sse``.

        ``dialect`` "phoenix" is for Phoenix clients, which connect to ``path + "/websocket"``
        (phoenix.js adds that itself); "json" is for everybody else, at ``path`` itself, as ``/ws``
        is; "sse" is for ``EventSource``, as ``/sse`` is. A connect hook of ``/socket`` decides for
        ``/ws`` and ``/sse`` too, unless they have one of their own.
        ``path`` may hold
        ``{name}`` segments, which become params. ``connect`` decides on each connection:
        it gets a :class:`~moda.channel.Connect` and returns a principal, a
        :class:`~moda.channel.Socket` (to give it an id) or None, or raises
        :class:`~moda.errors.Refuse`. ``origins`` "same" admits pages of the same host only, "any"
        admits all, a list admits its entries (``https://*.example.org``; "same" may be one of them).

        What is None is the operator's to say: MODA_MAX_CHANNELS (100), MODA_MAX_MESSAGE (1 MiB),
        MODA_IDLE_TIMEOUT (60 s), MODA_PING_INTERVAL (0: no pings), MODA_ORIGINS ("same").
        ConfigurationError for a value out of range.
        """
        rules = declared_socket(
            path,
            connect=connect,
            max_channels=max_channels,
            max_message_bytes=max_message_bytes,
            idle_seconds=idle_seconds,
            ping_seconds=ping_seconds,
            origins=origins,
            auth_token=auth_token,
            subprotocols=subprotocols,
            dialect=dialect or self._dialect_of(path),
        )
        self._must_not_run(f"socket({rules.path!r})")
        known = self._sockets.get(rules.path)
        if connect is None and known is not None:
            # A hook that was declared first must not be lost to a call about timeouts.
            rules = replace(rules, connect=known.connect)
        self._sockets[rules.path] = rules

    def _dialect_of(self, path: Any) -> SocketDialect:
        known = self._sockets.get(path.rstrip("/")) if isinstance(path, str) else None
        return "phoenix" if known is None else known.dialect

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
        self._must_not_run("connect")
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
        frame); ``key`` is what a topic with ``delivery="latest"`` conflates by. ValueError for an
        event that is the protocol's own (``phx_close``), RuntimeError in a process in which this
        gateway does not run: its clients are connected to another one.
        """
        loop = self._must_run("broadcast")
        if threading.get_ident() != self._thread:
            # Encoded here: what cannot be sent raises in its sender, and what the sender changes
            # afterwards is not what is sent.
            prepared = self.hub.prepare(topic, event, payload, key)
            loop.call_soon_threadsafe(self.hub.publish_prepared, *prepared)
        else:
            self.hub.publish(topic, event, payload, key=key)

    async def publish(
        self,
        topic: str,
        event: str,
        payload: Mapping[str, Any] | Raw | bytes,
        *,
        key: str | None = None,
        once: str | None = None,
    ) -> Position | None:
        """Sends one event to every subscriber of a topic; returns where it stands in the topic's log.

        As :meth:`broadcast`, on the loop's thread, and waits until the message cannot be lost: on a
        topic with a durable history that is when the database has committed it, elsewhere at once.
        None for a topic that keeps no history. ``once`` is a key under which a repeated call
        publishes nothing and returns the first one's position; durable topics alone remember it, for
        a day. Raises :class:`~moda.errors.Unavailable` or :class:`~moda.errors.Busy` when nothing
        was written, :class:`~moda.errors.KeyReused` for a key that came with another message.
        """
        self._must_run("publish")
        self._must_be_on_the_loop("publish", "topic, event, payload")
        prepared = self.hub.prepare(topic, event, payload, key)
        if once is None:
            return await self.hub.publish_durably(prepared)
        digest = hashlib.sha256(repr(prepared).encode()).digest()
        return await self.hub.publish_durably(prepared, Key(once, digest))

    def disconnect(self, socket_id: str) -> int:
        """Closes every connection whose Socket has that id (1001); returns how many.

        On the loop's thread only: RuntimeError on another, where
        ``loop.call_soon_threadsafe(gateway.disconnect, socket_id)`` does it, and RuntimeError in a
        process in which this gateway does not run.
        """
        self._must_run("disconnect")
        self._must_be_on_the_loop("disconnect", "socket_id")
        return self.hub.disconnect(socket_id)

    def connections(self) -> dict[str, int]:
        """Open connections of this node, by the path of their socket."""
        counts = self.hub.stats()["mounts"]
        return {path: counts.get(path, 0) for path in self._sockets}

    def subscribers(self, topic: str) -> int:
        """How many channels are joined to a topic on this node, in whatever lane of it they sit."""
        return self.hub.subscribers(topic)

    def seated(self, address: str) -> int:
        """How many sit in one lane (``JoinRequest.seat``); the topic itself is the lane of the others."""
        return self.hub.seated(address)

    @overload
    def history(self, topic: str) -> list[Kept]: ...
    @overload
    def history(self, topic: str, since: tuple[int, int] | None) -> list[Kept] | None: ...
    def history(self, topic: str, since: tuple[int, int] | None = None) -> list[Kept] | None:
        """What is kept of a topic declared with a :class:`~moda.message.History`, oldest first.

        With ``since``, a :class:`~moda.message.Position` from :meth:`position`: what was published
        after it, or None when some of that is gone or the position is of another life of the
        gateway, so that the caller must start afresh. Without it: everything, an empty list for a
        topic that keeps nothing. On the loop's thread only: RuntimeError on another.

        >>> from moda import Gateway, History, Stream
        >>> gateway = Gateway()
        >>> @gateway.channel("log:{name}", history=History(size=100))
        ... class Log(Stream):
        ...     pass
        >>> async def example():
        ...     await gateway.start()  # the server does that
        ...     gateway.broadcast("log:disk", "line", {"text": "mounted"})
        ...     seen = gateway.position("log:disk")
        ...     gateway.broadcast("log:disk", "line", {"text": "full"})
        ...     print(gateway.history("log:disk", since=seen))
        ...     print(len(gateway.history("log:disk")))
        ...     await gateway.stop()
        >>> asyncio.run(example())
        [Kept(offset=2, event='line', payload={'text': 'full'})]
        2
        """
        self._must_be_on_the_loop("history", "topic")
        return self.hub.history(topic, since)

    def position(self, topic: str) -> Position | None:
        """Where a topic's history stands: its epoch and the offset of its newest message.

        None for a topic that keeps no history. Ask in the same turn as you read or send what it
        stands for, with no await between. On the loop's thread only: RuntimeError on another.
        """
        self._must_be_on_the_loop("position", "topic")
        return self.hub.position(topic)

    def presence(self, topic: str) -> dict[str, Any]:
        """Who is present on a topic of this node: ``{key: {"metas": [meta, ...]}}``.

        Empty where nobody is, or the channel is declared without ``presence``. On the loop's thread
        only: RuntimeError on another.
        """
        self._must_be_on_the_loop("presence", "topic")
        return self.hub.presence(topic)

    async def drained(self) -> None:
        """Returns once everything published so far has been handed to the sockets."""
        await self.hub.drained()

    # -- what the server calls

    def configure(
        self,
        limits: Hub | None = None,
        sockets: MountOptions | None = None,
        servers: Sequence[documents.Server] = (),
        document: str | os.PathLike[str] | None = None,
        hosts: Sequence[str] = (),
        interval_ms: int | None = None,
        store: Store | None = None,
        log: Log | None = None,
    ) -> None:
        """Applies the operator's settings where the application said nothing.

        ``limits`` is the hub to use, ``sockets`` the rules of every mount where the application
        left them open, ``servers`` how the served AsyncAPI document names this gateway,
        ``store`` and ``log`` the database and where in it durable topics lie,
        ``document`` an AsyncAPI document to obey, ``hosts`` the public names whose pages count as
        this gateway's own, ``interval_ms`` the pace of telemetry as the document says it.
        """
        self._servers = servers
        self._hosts = hosts
        self._interval_ms = interval_ms
        if self._asyncapi is None:
            self._asyncapi = document
        if limits is not None:
            self.hub = limits
        self._store = store
        if log is not None:
            self.hub.keep_durably(log)
        if sockets is not None:
            self._operator = sockets

    def build(self) -> list[Mount]:
        """Checks all declarations and makes the mounts. Raises ConfigurationError; called once, before the start."""
        if self._mounts is not None:
            return self._mounts
        registry = documents.Registry(self.document)
        core = self.hub.core
        self._expiry = Expiry(core, self._operator.authenticator)
        mounts: dict[str, Mount] = {}
        for path, rules in self._sockets.items():
            if path in (JSON_SOCKET, STREAMS) and rules.connect is None:
                rules = replace(rules, connect=self._sockets[DEFAULT_SOCKET].connect)
            options = rules.options(self._operator, self._hosts)
            streams = options.dialect == "sse"
            number = core.mount(
                path=path,
                max_channels=options.max_channels,
                max_message=options.max_message_bytes,
                # Who only listens is silent; it is sent something instead.
                idle_ms=0 if streams else int(options.idle_seconds * 1000),
                ping_ms=0 if streams else int(options.ping_seconds * 1000),
                sign_ms=int(SIGN_SECONDS * 1000) if streams else 0,
            )
            kind = StreamMount if streams else Mount
            mounts[path] = kind(self.hub, options, number, self._expiry)
        layout = Layout(self.hub, self._declared, mounts)
        layout.expose(layout.lay(registry, self._from_document(registry, self._own)))
        self._layout = layout
        self._mounts = list(mounts.values())
        return self._mounts

    async def reload(self) -> bool:
        """Reads the AsyncAPI document again and obeys it from now on; False if it is the same.

        Joins and messages of channels joined from now on meet the new rules: channels, payload
        schemas, limits, handlers. Who is joined keeps the rules of that join, and a topic somebody is
        on keeps its delivery, key and history. Python modules are not loaded again. ConfigurationError if
        the document cannot be used; nothing has changed then.
        """
        layout = self._layout
        if layout is None or self._asyncapi is None or isinstance(self._asyncapi, bytes):
            return False
        # Megabytes of YAML and hundreds of schemas: the loop serves meanwhile.
        document, own, registry = await asyncio.to_thread(self._read_again)
        if document.root == self.document.root:
            return False
        laid = layout.lay(
            registry, self._from_document(registry, own), running=self._loop is not None
        )
        layout.expose(laid)
        self._document, self._own = document, own
        _warn(document)
        return True

    def _read_again(self) -> tuple[documents.Document, frozenset[str], documents.Registry]:
        document, own = self._read()
        return document, own, documents.Registry(document)

    def _from_document(self, registry: documents.Registry, own: frozenset[str]) -> list[Declared]:
        """What the application's document declares and no code has registered.

        moda's own channels are not among them: who serves those is wired in code, or nobody.
        """
        if self._asyncapi is None:
            return []
        known = {id(registry.declared(declared.pattern)) for declared in self._declared}
        return [
            served_by_document(route)
            for route in registry.routes
            if id(route) not in known and route.address not in own
        ]

    @property
    def document(self) -> documents.Document:
        """The AsyncAPI document the gateway obeys: moda's own merged with the application's."""
        if self._document is None:
            self._document, self._own = self._read()
            _warn(self._document)
        return self._document

    def _read(self) -> tuple[documents.Document, frozenset[str]]:
        """The document as its file says now, and the addresses of moda's own part."""
        own = documents.own(
            self._servers,
            without=() if self.builtins else OWN_ADDRESSES,
            interval_ms=self._interval_ms,
        )
        addresses = frozenset(channel.address.template for channel in own.channels)
        if self._asyncapi is None:
            return own, addresses
        return documents.merge(own, documents.load(self._asyncapi)), addresses

    async def start(self) -> None:
        """Binds to the running loop and starts the background work."""
        self.build()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._started = time.monotonic()
        if self._store is not None and self.durable:
            await self._store.start()
        assert self._layout is not None
        dispatch = Dispatch(self.hub, self._layout.routes, self._expiry)
        self.hub.start(dispatch.join, _complain, dispatch.start_joins)
        self.supervisor.start()

    async def trim(self) -> None:
        """Drops what durable topics keep past its age, every few seconds, for ever."""
        while self.hub.durable is not None:
            await asyncio.sleep(TRIM_SECONDS)
            try:
                await self.hub.durable.trim()
            except StoreError as error:
                log.warning("store.trim.failed", error=str(error))

    async def stop(self) -> None:
        """Stops the background work, lets channels finish their goodbyes, and lets the loop go.

        Connections are closed before, by the drain.
        """
        await self.supervisor.stop()
        await self.hub.errands_done()
        if self._store is not None and self.durable:
            await self._store.close()
        if self._expiry is not None:
            self._expiry.stop()
        self.hub.stop()
        self._loop = None

    @property
    def durable(self) -> bool:
        """Whether any topic's history is durable: only then is the database opened. After :meth:`build`."""
        return self._layout is not None and self._layout.durable

    def health(self) -> dict[str, ServiceStatus]:
        """Every service's line of ``/health``, background jobs that keep failing included."""
        lines = {name: _probe(name, probe) for name, probe in self._services.items()}
        for name, status in self.supervisor.troubles().items():
            lines.setdefault(name, status)
        return lines

    @property
    def tokens_ended(self) -> int:
        """Connections closed because their token had ended, since the start."""
        return 0 if self._expiry is None else self._expiry.ended

    @property
    def uptime_seconds(self) -> float:
        """Seconds since the start; 0 before it."""
        return time.monotonic() - self._started if self._started else 0.0

    def _must_run(self, call: str) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is None:
            raise RuntimeError(
                f"gateway.{call}: this gateway does not run in this process (no server has started it, "
                "or it has stopped), so nobody would be reached. Call it in the process that serves: in "
                "a channel, a gateway.background job, the mounted application, or a thread of any of "
                "them. From another process, send a request to a route of the mounted application, or "
                "a message to a channel, which then calls it"
            )
        return loop

    def _must_be_on_the_loop(self, call: str, argument: str) -> None:
        if self._loop is not None and threading.get_ident() != self._thread:
            raise RuntimeError(
                f"gateway.{call} was called on a thread that is not the loop's; use "
                f"loop.call_soon_threadsafe(gateway.{call}, {argument})"
            )

    def _must_not_run(self, call: str) -> None:
        if self._mounts is not None:
            raise ConfigurationError(
                f"{call} comes too late: the gateway has been built, and would ignore it"
            )


def _warn(document: documents.Document) -> None:
    for warning in document.warnings:
        log.warning("asyncapi.corrected", warning=warning)


def _probe(name: str, probe: Callable[[], ServiceStatus]) -> ServiceStatus:
    try:
        return probe()
    except Exception as error:
        log.exception("service.probe.failed", service=name)
        return ServiceStatus("down", {"error": type(error).__name__})


def _complain(conn: int, code: int, reason: str) -> None:
    log.warning("connection.closed_for_cause", connection_id=conn, code=code, reason=reason)
