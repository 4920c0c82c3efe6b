"""The server: one listening port, what answers on it, how it starts and how it ends.

Of uvicorn we use the HTTP protocol, its configuration and its lifespan; its ``Server`` we replace.
It wakes ten times a second to look at a flag and to write a date, and knows nothing of a drain.
Here the loop sleeps until there is something to do.

Order of the start: background work, the mounted application's lifespan, then the port; a client
that can connect finds everything running. The end is the reverse, and it ends by the deadline.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any

import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from moda.errors import ConfigurationError
from moda.serve.certificate import CertificateKeeper
from moda.serve.door import Door, DoorOptions
from moda.serve.drain import DrainOptions, drain
from moda.serve.face import Face
from moda.serve.front import Front
from moda.serve.http import build_face
from moda.serve.plain import PlainHttp
from moda.serve.preflight import (
    RESERVED_DESCRIPTORS,
    check_descriptors,
    clients_within,
    raise_descriptor_limit,
)
from moda.serve.tls import TlsListener, TlsOptions
from moda.upgrade import Mount

__all__ = ["Plan", "Server", "ServerOptions"]

_log = structlog.get_logger("moda.server")

BACKLOG = 4096
"""Connections the kernel holds for us between two turns of the loop: ten thousand may arrive at
once.
"""


LISTENERS = 4
"""Sockets that share the port. The loop accepts one connection per socket and turn, and each socket
has a backlog of its own: with one, 10,000 clients at once overflow it, and those dropped wait a
second or three for their retransmission (measured: 3,000 joins per second with one, 9,200 with
four).
"""


APP_SOCKET = "moda.serve.mounted:AppSocket"
"""By name: whoever mounts nothing loads no second WebSocket library."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where to listen and how to leave.

    ``port`` 0 takes a free one. ``public_host`` and ``public_url`` are where clients reach it, for
    the start's message alone. ``keep_alive`` in seconds, of idle plain HTTP. ``max_message`` in
    bytes, of WebSockets of the mounted application.
    """

    host: str = "127.0.0.1"
    port: int = 4001
    public_host: str | None = None
    public_url: str | None = None
    keep_alive: float = 20.0
    max_message: int = 1 << 20
    tls: TlsOptions | None = None
    door: DoorOptions = field(default_factory=DoorOptions)
    drain: DrainOptions = field(default_factory=DrainOptions)


def _bound(family: int, address: tuple[Any, ...], *, shared: bool) -> socket.socket:
    """A socket bound to an address. OSError when somebody else has it."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


async def _nothing() -> None:
    """For a plan without that step."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the server is to run, made by the composition root.

    ``connections`` (open WebSockets) is asked per upgrade. ``close_some(n, code)`` tells up to n
    connections that were not told yet and returns how many. ``start`` returns when background work
    runs; ``flush`` when what was accepted is durable; ``stop`` when background work has ended.
    ``reload`` reads again what can be changed while it runs, and logs what comes of it.
    ``certificates`` keeps the certificate in use where TLS is on; made here if None.
    ``on_refusal(reason)`` and ``on_error(reason)`` count. ``notes`` are lines for the start's
    message: (label, text).
    """

    options: ServerOptions
    face: Face
    mounts: Sequence[Mount]
    connections: Callable[[], int]
    close_some: Callable[[int, int], int]
    start: Callable[[], Awaitable[None]] = _nothing
    flush: Callable[[], Awaitable[None]] = _nothing
    stop: Callable[[], Awaitable[None]] = _nothing
    reload: Callable[[], Awaitable[None]] = _nothing
    certificates: CertificateKeeper | None = None
    on_refusal: Callable[[str], None] = lambda reason: None
    on_error: Callable[[str], None] = lambda reason: None
    notes: Sequence[tuple[str, str]] = ()


class _State(ServerState):
    """uvicorn's shared state; a Date header is made when a second has passed and somebody asks."""

    def __init__(self) -> None:
        self._second = 0
        self.app_sockets = 0
        self.door: Door
        self._headers: list[tuple[bytes, bytes]] = []
        super().__init__()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._headers = [(b"date", formatdate(now, usegmt=True).encode())]
        return self._headers

    @default_headers.setter
    def default_headers(self, value: list[tuple[bytes, bytes]]) -> None:
        """Set once by the parent's constructor, to nothing."""


class Server:
    """One gateway process.

    ``await start()``, then ``await stop()``; :func:`run` adds signals around both.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.draining = False
        self.hurry = asyncio.Event()
        options = plan.options
        self._state = _State()
        self._tls = plan.certificates
        if self._tls is None and options.tls is not None:
            self._tls = CertificateKeeper(options.tls)
        self._looking: asyncio.Task[None] | None = None
        trusted = [str(network) for network in options.door.trusted.networks]
        self._config = Config(
            build_face(replace(plan.face, draining=lambda: self.draining)),
            http=HttpToolsProtocol,
            ws=APP_SOCKET if plan.face.mounted is not None else "none",
            ws_max_size=options.max_message,
            ws_per_message_deflate=False,  # a small frame may hold a hundred times its size
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(trusted),
            forwarded_allow_ips=trusted,
            timeout_keep_alive=options.keep_alive,  # type: ignore[arg-type]  # takes a float
            interface="asgi3",
        )
        self._config.load()
        self._lifespan = self._config.lifespan_class(self._config)
        self._servers: list[asyncio.Server | TlsListener] = []
        self._clean: bool | None = None
        self.port = plan.options.port
        self.door = self._make_door()

    def _make_door(self) -> Door:
        plan = self.plan
        limit = raise_descriptor_limit(plan.options.door.max_connections + RESERVED_DESCRIPTORS)
        options = plan.options.door
        sockets = min(options.max_sockets, max(1, limit - RESERVED_DESCRIPTORS // 2))
        finding = check_descriptors(options.max_connections, limit)
        if finding.level == "fatal":
            raise ConfigurationError(f"{finding.message}; fix: {finding.fix}")
        cap = min(options.max_connections, clients_within(limit))
        if cap < options.max_connections:
            _log.warning(
                "descriptors.low",
                allowed=limit,
                max_connections=options.max_connections,
                effective=cap,
            )
        door = Door(
            plan.mounts,
            replace(options, max_sockets=sockets, max_connections=cap),
            connections=lambda: plan.connections() + self._state.app_sockets,
            plain=self._plain,
            on_refusal=plan.on_refusal,
            on_error=plan.on_error,
        )
        self._state.door = door
        return door

    def _plain(self) -> PlainHttp:
        return PlainHttp(
            self.door, self._config, self._state, self._lifespan.state, asyncio.get_running_loop()
        )

    # -- start

    async def start(self) -> None:
        """Returns when the port listens.

        ConfigurationError if it cannot, or if a start-up step failed.
        """
        asyncio.get_running_loop().set_exception_handler(_loop_error)
        await self.plan.start()
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            await self.plan.stop()
            raise ConfigurationError("the mounted application failed to start; the log says why")
        options = self.plan.options
        try:
            self._servers = await self._listen()
        except OSError as error:
            await self._lifespan.shutdown()
            await self.plan.stop()
            raise ConfigurationError(
                f"cannot listen on HOST={options.host!r} PORT={options.port}: {error}; "
                "moda check says who has the port"
            ) from None
        self.port = int(self._servers[0].sockets[0].getsockname()[1])
        if self._tls is not None:
            self._tls.on_new = self._use
            self._looking = asyncio.get_running_loop().create_task(self._tls.run())
        settle_memory()

    async def _listen(self) -> list[asyncio.Server | TlsListener]:
        """Listens with :data:`LISTENERS` sockets on every address of the host.

        The port is first bound without sharing, so that one somebody else has is found out.
        """
        options = self.plan.options
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            options.host or None, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        port = options.port
        servers: list[asyncio.Server | TlsListener] = []
        try:
            for family, address in dict.fromkeys((found[0], found[4]) for found in found):
                with _bound(family, (address[0], port, *address[2:]), shared=False) as probe:
                    port = probe.getsockname()[1]
                for _ in range(LISTENERS):
                    listener = _bound(family, (address[0], port, *address[2:]), shared=True)
                    server = await self._server(listener)
                    servers.append(server)
        except OSError:
            for server in servers:
                server.close()
            raise
        return servers

    async def _server(self, listener: socket.socket) -> asyncio.Server | TlsListener:
        if self._tls is None:
            loop = asyncio.get_running_loop()
            # At the end of the descriptors libuv gives up a spare one to accept and close, as our
            # own listener does.
            return await loop.create_server(
                lambda: Front(self.door), sock=listener, backlog=BACKLOG
            )
        listener.listen(BACKLOG)
        return TlsListener(listener, self._tls.context, self.door)

    def _use(self, context: ssl.SSLContext) -> None:
        for server in self._servers:
            if isinstance(server, TlsListener):
                server.use(context)

    async def reload(self) -> None:
        """Reads the certificate and what the plan can reload again. Raises nothing: what is wrong is
        logged, and what was in use stays.
        """
        if self.draining:
            return
        _log.info("reload.started")
        if self._tls is not None:
            self._tls.reload()
        try:
            await self.plan.reload()
        except Exception:
            _log.exception("reload.failed")
        _log.info("reload.complete")

    @property
    def url(self) -> str:
        """Where a person on this machine finds it."""
        options = self.plan.options
        host = options.public_host or options.host
        # Not ::1: localhost is asked for over IPv4 as well, where nobody listens then.
        if host in ("", "0.0.0.0", "::", "127.0.0.1"):  # noqa: S104  # compared, not bound
            host = "localhost"
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    def describe(self) -> list[tuple[str, str]]:
        """The start's message, as (label, text)."""
        public, face = self.plan.options.public_url, self.plan.face
        url = public or self.url
        socket_url = url.replace("http", "ws", 1)
        lines = [("gateway", url)]
        if public is not None:
            lines.append(("listens at", self.url))
        if face.console is not None:
            lines.append(("console", url + "/"))
        lines.append(("HTTP API", url + "/api/v1/docs"))
        if any("/asyncapi" in site.paths for site in face.sites):
            lines.append(("WebSocket API", url + "/asyncapi"))
        # As the stock client takes it: it adds the /websocket itself, and asks for a path with two
        # of them for ever.
        lines.extend(
            ("streams", url + mount.path)
            if getattr(mount, "streams", False)
            else ("socket", socket_url + mount.path.removesuffix("/websocket"))
            for mount in self.plan.mounts
            if not mount.path.endswith("...}")  # another path of the mount before it
        )
        lines.append(("health", url + "/health"))
        if face.exporter is not None:
            lines.append(("metrics", url + "/metrics"))
        return [*lines, *self.plan.notes]

    # -- stop

    async def stop(self) -> bool:
        """Drains and ends; True if all accepted work is durable.

        Returns within the drain's deadline and a second.
        """
        if self._clean is not None:
            return self._clean
        options = self.plan.options.drain
        end = time.monotonic() + options.deadline
        self.draining = True
        if self._looking is not None:
            self._looking.cancel()
        for server in self._servers:
            server.close()
        self.door.close()
        for connection in list(self._state.connections):
            # An idle HTTP connection stays for one answer more: a balancer that keeps one open for
            # its probes shall read that we are going, and not find it cut.
            if not (isinstance(connection, PlainHttp) and connection.idle):
                connection.shutdown()
        _log.info(
            "drain.started", connections=self.plan.connections(), requests=len(self._state.tasks)
        )
        outcome = await drain(
            options,
            connections=self.plan.connections,
            close_some=self.plan.close_some,
            flush=self.plan.flush,
            hurry=self.hurry,
        )
        for connection in list(self._state.connections):
            if isinstance(connection, PlainHttp):
                connection.shutdown()
        # Half a second more for what has to end whatever happens: cancelled, not skipped.
        remaining = max(0.5, end - time.monotonic())
        clean = await self._ended(self._requests_done(), remaining, "requests")
        clean &= await self._ended(
            self._lifespan.shutdown(), max(0.5, end - time.monotonic()), "lifespan"
        )
        clean &= await self._ended(self.plan.stop(), max(0.5, end - time.monotonic()), "stop")
        _log.info(
            "drain.complete",
            told=outcome.told,
            left=outcome.left,
            flushed=outcome.flushed,
            seconds=round(outcome.seconds, 3),
        )
        self._clean = outcome.flushed and clean
        return self._clean

    async def _requests_done(self) -> None:
        while self._state.tasks and not self.hurry.is_set():
            await asyncio.wait(list(self._state.tasks), timeout=0.1)
        for task in list(self._state.tasks):
            task.cancel()

    async def _ended(self, step: Awaitable[None], seconds: float, name: str) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await step
        except TimeoutError:
            _log.error("drain.step_timeout", step=name, seconds=round(seconds, 3))
            return False
        except Exception:
            _log.exception("drain.step_failed", step=name)
            return False
        return True


def settle_memory() -> None:
    """Takes what the start made out of the collector's sight and lets it look less often.

    A young collection costs by what was made since the last one, a full one by everything that
    lives: with 10,000 connections, 40 ms in which nobody is served. Most objects of a connection
    die by reference count; cycles are left to exceptions and tasks, which are few.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


def _loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An error with no task to belong to: logged with its place, as everything else is."""
    error = context.get("exception")
    _log.error(
        "loop.error",
        message=context.get("message"),
        exc_info=error if isinstance(error, BaseException) else None,
    )
