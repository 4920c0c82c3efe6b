"""From a gateway and its settings to a plan the server runs: the wiring, and nothing but the wiring."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import structlog
from prometheus_client.registry import Collector

import moda
from moda import asyncapi, market, rest, telemetry
from moda.access.http import access_middleware
from moda.access.limits import RateLimiter
from moda.access.ring import KeyRing
from moda.app.database_keys import DatabaseKeys
from moda.app.gateway import Gateway
from moda.app.settings import Settings, host_of
from moda.errors import ConfigurationError, ModaError
from moda.hub import Hub
from moda.serve.callers import Callers
from moda.serve.certificate import CertificateKeeper
from moda.serve.counts import CapabilityCounts, DoorCounts
from moda.serve.face import API, Face
from moda.serve.logs import lines_dropped
from moda.serve.metrics import Exporter, HttpLatency, HubStats, gateway_counters
from moda.serve.server import Plan
from moda.serve.watchdog import LoopWatch
from moda.store import StoreLog, StoreOptions, open_store
from moda.store.counts import GAUGES, LABELS
from moda.telemetry import LoopLag
from moda.wire.phoenix import MountOptions
from moda.wire.working import working

__all__ = ["CONSOLE", "assemble"]

CONSOLE = Path(moda.__file__).with_name("console")
"""Where the built console lies in an installation."""


log = structlog.get_logger("moda.gateway")


class ServedDocument:
    """The pages of the document a gateway obeys now."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._site = asyncapi.Site(gateway.document)

    @property
    def paths(self) -> Sequence[str]:
        return self._site.paths

    def answer(self, path: str, query: str, if_none_match: str) -> asyncapi.Answer | None:
        return self._site.answer(path, query, if_none_match)

    async def reload(self) -> None:
        """Has the gateway read its document again; logs what came of it."""
        try:
            if await self._gateway.reload():
                self._site = asyncapi.Site(self._gateway.document)
                log.info("asyncapi.reload.complete", channels=len(self._gateway.document.channels))
        except ConfigurationError as error:
            log.error("asyncapi.reload.failed", problem=str(error))


def assemble(gateway: Gateway, settings: Settings) -> Plan:
    """Applies the settings where the application said nothing, adds the built-in capabilities, checks everything.

    Called once per gateway. ConfigurationError for declarations that do not fit together.
    """
    store = open_store(settings.database_url, StoreOptions(pool_size=settings.database_pool_size))
    keys = DatabaseKeys(settings.database_url)
    ring = KeyRing(keys)
    gateway.background("access.keys", ring.run)

    async def stop() -> None:
        await gateway.stop()
        with suppress(ModaError):  # times of last use: not worth an unclean end
            await ring.flush()
        await keys.close()

    authentication = settings.authentication(ring)
    limiter = RateLimiter(settings.tiers())
    gateway.configure(
        limits=Hub(
            outbox_bytes=settings.outbox_bytes,
            outbox_burst=settings.outbox_burst,
            stall_seconds=settings.stall_timeout,
            outboxes_bytes=settings.outbox_total,
            inbox_bytes=settings.inbox_bytes,
            inbox_total=settings.inbox_total,
            join_seconds=settings.join_timeout,
            handler_seconds=settings.handler_timeout,
            log_bytes=settings.burst_bytes,
            history_bytes=settings.history_bytes,
        ),
        sockets=MountOptions(
            max_channels=settings.max_channels,
            max_message_bytes=settings.max_message,
            idle_seconds=settings.idle_timeout,
            ping_seconds=settings.ping_interval,
            handshake=settings.handshake_options(),
            tokens=settings.token_rule(),
            authenticator=authentication,
        ),
        servers=_servers(settings),
        document=settings.asyncapi,
        hosts=settings.public_hosts(),
        interval_ms=settings.telemetry_interval_ms,
        store=store,
        log=StoreLog(store),
    )
    latency, lag, counts = HttpLatency(), LoopLag(), DoorCounts()
    collectors: list[Collector] = [
        counts,
        CapabilityCounts(
            "moda_access",
            lambda: {
                **authentication.counters(),
                **limiter.counters(),
                "tokens_ended": gateway.tokens_ended,
            },
            gauges=frozenset({"rate_limit_buckets"}),
            labels={"decisions": "outcome"},
        ),
        CapabilityCounts(
            "moda_log",
            lambda: {"lines_dropped": lines_dropped()},
            gauges=frozenset(),
            labels={"lines_dropped": "reason"},
        ),
    ]
    options = settings.server_options()
    certificates = None
    if options.tls is not None:
        certificates = keeper = CertificateKeeper(options.tls)
        collectors.append(
            CapabilityCounts(
                "moda_tls",
                lambda: {"certificate_expires_seconds": keeper.ends},
                gauges=frozenset({"certificate_expires_seconds"}),
                labels={},
            )
        )
    if settings.loop_blocked_ms:
        watch = LoopWatch(settings.loop_blocked_ms / 1000, working)
        gateway.background("loop.watch", watch.run)
        collectors.append(
            CapabilityCounts(
                "moda_loop", lambda: {"blocked": watch.blocked}, gauges=frozenset(), labels={}
            )
        )

    def stats() -> HubStats:
        return cast(HubStats, gateway.hub.stats())

    notes: list[tuple[str, str]] = []
    if gateway.builtins:
        telemetry.install(
            gateway,
            settings.telemetry(),
            counters=lambda: gateway_counters(stats()),
            http=latency.window,
            lag=lag,
            seated=gateway.seated,
            attach=lambda request, address: request.seat(address),
        )
        prices = market.install(gateway, settings.market)
        collectors.append(
            CapabilityCounts(
                "moda_prices",
                prices.counters,
                gauges=frozenset({"state", "last_tick_age"}),
                labels={"state": "state", "rubbish": "reason"},
            )
        )
        notes.append(("prices", settings.market.source))
    else:
        gateway.background("loop.lag", lag.run)
    publisher = rest.Publisher(gateway.hub)
    collectors.append(
        CapabilityCounts(
            "moda_http_publish",
            publisher.counters,
            gauges=frozenset(),
            labels={"messages": "outcome"},
        )
    )
    callers = Callers(locked=settings.takes_credentials())
    notes.append(("http api", callers.described))
    exporter = None
    if settings.metrics_enabled:
        exporter = Exporter(stats=stats, http=latency, lag=lag, version=moda.__version__)
        for collector in collectors:
            exporter.registry.register(collector)
    mounts = [door for mount in gateway.build() for door in mount.doors()]
    if gateway.durable:
        gateway.service("store", store.health)
        gateway.background("store.trim", gateway.trim)
        if exporter is not None:
            counts_of_store = CapabilityCounts("moda_store", store.counters, GAUGES, LABELS)
            exporter.registry.register(counts_of_store)
    served = ServedDocument(gateway)
    face = Face(
        moda.__version__,
        gateway.health,
        exporter=exporter,
        latency=latency,
        console=CONSOLE if settings.console else None,
        sites=(served,),
        routes=(
            rest.routes(
                API,
                publisher=publisher,
                topics=rest.Topics(gateway.hub),
                disconnect=gateway.hub.disconnect,
                authorize=callers,
                max_payload=settings.max_message,
            ),
        ),
        mounted=gateway.asgi,
        hosts=settings.public_hosts(),
        middleware=(access_middleware(authentication, limiter),),
    )
    return Plan(
        options,
        face,
        mounts,
        connections=gateway.hub.connections,
        close_some=gateway.hub.close_some,
        start=gateway.start,
        flush=gateway.drained,
        stop=stop,
        reload=served.reload,
        certificates=certificates,
        on_refusal=counts.refused,
        on_error=counts.unparsed,
        notes=notes,
    )


def _servers(settings: Settings) -> list[asyncapi.Server]:
    """The built-in socket as the served document names it."""
    host, port = settings.public_host or settings.host, settings.port or 4001
    secure = settings.tls_certificate is not None
    if settings.public_url is not None:
        public = urlsplit(settings.public_url)
        host, secure = host_of(settings.public_url), public.scheme == "https"
        port = public.port or (443 if secure else 80)
    return [
        asyncapi.Server(
            host=host,
            port=port,
            secure=secure,
            path="/socket",
            auth=settings.socket_auth,
            heartbeat_ms=settings.heartbeat_interval,
            idle_seconds=settings.idle_timeout,
        )
    ]
