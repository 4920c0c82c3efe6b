"""``/metrics``: what the gateway counts, in the Prometheus text format, computed when asked.

Nothing here runs per message. The hub counts in Rust; a scrape takes one snapshot of its counters
(:class:`HubStats`), of the HTTP histograms and of the loop's lag, on the loop, in one go, so that
the figures of one scrape belong together. Turning it into text (60 ms for 250 series with two
histograms each) then happens in a worker thread.

The duration of HTTP requests (:mod:`moda.serve.latency`) is exposed under two names,
``http_server_request_duration_seconds`` (the OpenTelemetry convention) and
``http_request_duration_ms`` (the name existing dashboards ask for), each with its own buckets.

The registry is the gateway's own, not prometheus_client's global one: two gateways in a process do
not add up, and nothing is exported that was not asked for. The process figures are not taken from
prometheus_client either: its collector lists ``/proc/self/fd``, 5 ms with 10,000 connections.

Every reading stands by itself: one that fails is left out and named in the log once, and the page
holds the rest (:mod:`moda.serve.exposition`).
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Literal, TypedDict

import psutil
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from moda.aggregate import HistogramCounts
from moda.serve.exposition import Registry, Tried, encoded, encoder_for
from moda.serve.latency import BOUNDS, MILLIS, SECONDS, HttpLatency, HttpSeries, MeasuredApp
from moda.telemetry import GatewayCounters, LoopLag

__all__ = [
    "FAMILIES",
    "Exporter",
    "HttpLatency",
    "HubStats",
    "MeasuredApp",
    "gateway_counters",
]


# -- what the hub is asked for


class HubStats(TypedDict):
    """What the hub's ``stats()`` answers, as far as it is exposed.

    Totals since the start, never decreasing, but for the gauges of now: ``connections``,
    ``channels``, ``topics``, ``inbox_bytes``, ``outbox_bytes``, ``outboxes_bytes``, ``history_bytes``,
    ``latest_bytes``.
    """

    connections: int
    mounts: Mapping[str, int]
    """Connections open, by the path of their socket."""
    channels: int
    topics: int
    inbox_bytes: int
    outbox_bytes: int
    outboxes_bytes: int
    history_bytes: int
    latest_bytes: int
    opened: int
    closed: int
    closes: Mapping[int, int]
    """Connections the server closed, by close code."""
    slow_closed: int
    budget_closed: int
    pings: int
    history_shed: int
    joins: int
    joins_refused: int
    leaves: int
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    heartbeats: int
    published: int
    deliveries: int
    sends: int
    short_sends: int
    stale: int
    conflated: int
    dropped: int
    unencodable: int
    busy: int
    rate_limited: int
    unmatched: int
    to_stream: int
    oversized: int
    too_deep: int
    inbox_refused: Mapping[str, int]
    timeouts: Mapping[str, int]
    handler_crashes: int
    undecodable: Mapping[str, int]
    violations: Mapping[str, int]
    fanout_bounds: Sequence[float]
    """Ascending inclusive upper bounds in seconds, without infinity."""
    fanout_buckets: Sequence[int]
    """Fan-outs per bucket (not cumulative), the last above all bounds: one more than bounds."""
    fanout_sum: float
    """Seconds from a publish until its last subscriber was written to, summed."""


def gateway_counters(stats: HubStats) -> GatewayCounters:
    """The hub's counters as ``telemetry:metrics`` wants them: totals, without labels."""
    return {
        "connections": stats["connections"],
        "outbox_bytes": stats["outbox_bytes"],
        "messages_in": stats["messages_in"],
        "messages_out": stats["messages_out"],
        "joins": stats["joins"],
        "drops": sum(_drops(stats).values()),
        "fanout": _fanout(stats),
    }


def _drops(stats: HubStats) -> dict[str, int]:
    return {
        "stale_join_ref": stats["stale"],
        "replaced": stats["conflated"],
        "blocked": stats["dropped"],
        "unencodable": stats["unencodable"],
        "busy": stats["busy"],
        "rate_limited": stats["rate_limited"],
    }


def _fanout(stats: HubStats) -> HistogramCounts:
    return HistogramCounts(
        tuple(stats["fanout_bounds"]),
        tuple(accumulate(stats["fanout_buckets"])),
        stats["fanout_sum"],
    )


# -- the text


def _le(bound: float) -> str:
    """A bucket bound as the text format writes it: with a decimal point, as other exporters do."""
    return repr(float(bound))


_PICK_SECONDS: Final = tuple((_le(s), BOUNDS.index(s)) for s in SECONDS)
_PICK_MILLIS: Final = tuple((_le(ms), BOUNDS.index(ms / 1000)) for ms in MILLIS)


HubValue = int | Mapping[str, int] | HistogramCounts


@dataclass(frozen=True, slots=True)
class Family:
    """One metric of ``/metrics``. ``docs/metrics.md`` lists them; a test compares the two.

    ``of`` reads it from the hub's counters; None where it comes from elsewhere.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    about: str
    of: Callable[[HubStats], HubValue] | None = None

    def empty(self) -> Any:
        """The metric without samples. A counter's ``_total`` is added back by the encoder."""
        kinds: dict[str, Any] = {
            "gauge": GaugeMetricFamily,
            "counter": CounterMetricFamily,
            "histogram": HistogramMetricFamily,
        }
        return kinds[self.kind](self.name, self.about, labels=self.labels)


def _gauge(name: str, key: str, about: str) -> Family:
    return Family(name, "gauge", (), about, itemgetter(key))


def _counter(name: str, key: str, about: str) -> Family:
    return Family(name, "counter", (), about, itemgetter(key))


def _closes(stats: HubStats) -> Mapping[str, int]:
    return {str(code): count for code, count in stats["closes"].items()}


def _refused(stats: HubStats) -> Mapping[str, int]:
    return {
        "unmatched_topic": stats["unmatched"],
        "push_only_topic": stats["to_stream"],
        "too_long": stats["oversized"],
        "too_deep": stats["too_deep"],
    }


_REASON: Final = ("reason",)

_TABLE: Final = (
    Family("moda_build_info", "gauge", ("version", "python"), "Always 1; the labels say what runs"),
    Family("moda_connections", "gauge", ("mount",), "Connections open", itemgetter("mounts")),
    _gauge("websocket_connections_active", "connections", "Connections open on all mounts"),
    _counter("moda_connections_opened_total", "opened", "Connections accepted"),
    _counter("moda_connections_closed_total", "closed", "Connections ended, by either side"),
    Family("moda_closes_total", "counter", ("code",), "Connections closed by the server", _closes),
    _counter("moda_slow_readers_closed_total", "slow_closed", "Connections closed for not reading"),
    _counter(
        "moda_outbox_total_closed_total",
        "budget_closed",
        "Of these, closed because all outboxes together were over budget",
    ),
    _counter("moda_pings_total", "pings", "Pings sent to silent connections"),
    _gauge("moda_channels", "channels", "Channels joined now"),
    _gauge("moda_topics", "topics", "Topics with a subscriber or a history"),
    _counter("moda_joins_total", "joins", "Joins accepted"),
    _counter("moda_joins_refused_total", "joins_refused", "Joins refused or crashed"),
    _counter("moda_leaves_total", "leaves", "Leaves asked for by clients"),
    _counter("moda_messages_in_total", "messages_in", "Messages received from clients"),
    _counter("moda_messages_out_total", "messages_out", "Messages sent to clients"),
    _counter("moda_bytes_in_total", "bytes_in", "Bytes of messages received"),
    _counter("moda_bytes_out_total", "bytes_out", "Bytes of messages sent"),
    _counter("moda_heartbeats_total", "heartbeats", "Heartbeats answered"),
    _counter("moda_published_total", "published", "Messages published to topics"),
    _counter("moda_deliveries_total", "deliveries", "Published messages times their subscribers"),
    _counter("moda_sends_total", "sends", "System calls that wrote to a socket"),
    _counter("moda_short_sends_total", "short_sends", "Sends the socket did not take whole"),
    Family("moda_drops_total", "counter", _REASON, "Messages given up", _drops),
    Family("moda_messages_refused_total", "counter", _REASON, "Messages nobody handles", _refused),
    Family(
        "moda_decode_errors_total",
        "counter",
        _REASON,
        "Frames that cannot be decoded",
        itemgetter("undecodable"),
    ),
    Family(
        "moda_protocol_violations_total",
        "counter",
        _REASON,
        "WebSocket rules broken",
        itemgetter("violations"),
    ),
    _gauge("moda_inbox_bytes", "inbox_bytes", "Bytes of joins and messages that wait for handlers"),
    Family(
        "moda_inbox_refused_total",
        "counter",
        _REASON,
        "Joins and messages refused as busy",
        itemgetter("inbox_refused"),
    ),
    Family(
        "moda_timeouts_total",
        "counter",
        ("what",),
        "Joins and handlers ended for taking too long",
        itemgetter("timeouts"),
    ),
    _counter("moda_handler_crashes_total", "handler_crashes", "Native handlers that failed"),
    _gauge("moda_outbox_bytes", "outbox_bytes", "Bytes queued for connections"),
    _gauge(
        "moda_outbox_memory_bytes",
        "outboxes_bytes",
        "Memory that what waits for connections takes, a broadcast counted once",
    ),
    _gauge("moda_history_bytes", "history_bytes", "Bytes kept as topics' histories"),
    _counter(
        "moda_history_shed_total", "history_shed", "Messages forgotten early, histories being full"
    ),
    _gauge("moda_latest_bytes", "latest_bytes", "Bytes kept for readers behind on latest topics"),
    Family(
        "moda_fanout_duration_seconds",
        "histogram",
        (),
        "From a publish until its last subscriber was written to",
        _fanout,
    ),
    Family(
        "moda_loop_lag_seconds", "histogram", (), "How much later than asked a sleeping task ran"
    ),
    Family(
        "http_request_duration_ms",
        "histogram",
        ("method", "route", "status_code"),
        "HTTP request duration in milliseconds",
    ),
    Family(
        "http_server_request_duration_seconds",
        "histogram",
        ("http_request_method", "http_route", "http_response_status_code"),
        "HTTP request duration in seconds",
    ),
    Family("process_cpu_seconds_total", "counter", (), "User and system CPU time"),
    Family("process_resident_memory_bytes", "gauge", (), "Resident memory"),
    Family("process_virtual_memory_bytes", "gauge", (), "Virtual memory"),
    Family("process_start_time_seconds", "gauge", (), "When the process started, Unix time"),
    Family("process_open_fds", "gauge", (), "Open file descriptors (Linux 6.2 and later)"),
    Family("process_max_fds", "gauge", (), "Limit of open file descriptors (not on Windows)"),
)

FAMILIES: Final[Mapping[str, Family]] = {family.name: family for family in _TABLE}
"""Every metric of ``/metrics`` by name, in the order of the page."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """None for what could not be had."""

    hub: HubStats | None
    http: list[tuple[HttpSeries, HistogramCounts]] | None
    lag: HistogramCounts | None


_SCRAPE: ContextVar[_Snapshot | None] = ContextVar("moda_scrape", default=None)


class Exporter(Collector):
    """The gateway's metrics and the registry they are in.

    ``stats`` is called on the loop, once per scrape. An application may register collectors of
    its own with :attr:`registry`; they are collected in a worker thread.
    """

    def __init__(
        self,
        *,
        stats: Callable[[], HubStats],
        http: HttpLatency,
        lag: LoopLag,
        version: str,
    ) -> None:
        self._stats = stats
        self._http = http
        self._lag = lag
        self._build = (version, platform.python_version())
        self._tried = Tried()
        self.registry = Registry(self._tried)
        self.registry.register(self)

    async def scrape(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type, in the format that the request's ``accept`` asks for."""
        encode, content_type = encoder_for(accept)
        token = _SCRAPE.set(self._snapshot())
        try:
            # to_thread copies the context: each scrape encodes its own snapshot.
            page = await asyncio.to_thread(encoded, encode, self.registry, self._tried)
            return page, content_type
        finally:
            _SCRAPE.reset(token)

    def describe(self) -> Iterable[Metric]:
        """The names, so that the registry refuses a second metric of the same name."""
        return [family.empty() for family in FAMILIES.values()]

    def collect(self) -> Iterator[Metric]:
        """The metrics of now, or of the scrape that is being encoded."""
        taken = _SCRAPE.get() or self._snapshot()
        yield _labelled("moda_build_info", [(self._build, 1)])
        if taken.hub is not None:
            yield from _hub_families(taken.hub, self._tried)
        if taken.lag is not None:
            yield _histogram("moda_loop_lag_seconds", taken.lag)
        if taken.http is not None:
            yield from _http_families(taken.http)
        yield from self._process_families()

    def _snapshot(self) -> _Snapshot:
        get = self._tried.get
        return _Snapshot(
            get("the hub's counters", self._stats),
            get("http durations", self._http.counts),
            get("moda_loop_lag_seconds", self._lag.histogram.counts),
        )

    def _process_families(self) -> Iterator[Metric]:
        memory = self._tried.get("memory of the process", lambda: psutil.Process().memory_info())
        readings: tuple[tuple[str, Callable[[], float | None]], ...] = (
            ("process_cpu_seconds_total", time.process_time),
            ("process_resident_memory_bytes", lambda: memory and memory.rss),
            ("process_virtual_memory_bytes", lambda: memory and memory.vms),
            ("process_start_time_seconds", lambda: psutil.Process().create_time()),
            ("process_open_fds", open_files),
            ("process_max_fds", most_files),
        )
        for name, read in readings:
            value = self._tried.get(name, read)
            if value is not None:
                yield _plain(name, value)


def open_files() -> int | None:
    """Open file descriptors, or None where they cannot be counted cheaply.

    Since Linux 6.2 the size of ``/proc/self/fd`` is the number of its entries: one stat of 3
    microseconds. Before, it is 0, and counting them would mean listing them.
    """
    try:
        return Path("/proc/self/fd").stat().st_size or None
    except FileNotFoundError:
        return None  # no Linux


def most_files() -> int | None:
    """The limit of file descriptors, or None where there is none."""
    try:
        import resource
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _plain(name: str, value: float) -> Metric:
    return _labelled(name, [((), value)])


def _hub_families(hub: HubStats, tried: Tried) -> Iterator[Metric]:
    for name, family in FAMILIES.items():
        read = family.of
        if read is None:
            continue
        found = tried.get(name, partial(read, hub))
        match found:
            case None:
                continue
            case HistogramCounts() as counts:
                yield _histogram(name, counts)
            case int() as value:
                yield _plain(name, value)
            case labelled:
                yield _labelled(name, [((label,), n) for label, n in labelled.items()])


def _labelled(name: str, samples: Iterable[tuple[Sequence[str], float]]) -> Metric:
    family = FAMILIES[name].empty()
    for labels, value in samples:
        family.add_metric(labels, value)
    metric: Metric = family
    return metric


def _histogram(name: str, counts: HistogramCounts) -> Metric:
    family = FAMILIES[name].empty()
    les = [*map(_le, counts.bounds), "+Inf"]
    family.add_metric((), list(zip(les, counts.cumulative, strict=True)), counts.sum)
    metric: Metric = family
    return metric


def _http_families(http: list[tuple[HttpSeries, HistogramCounts]]) -> Iterator[Metric]:
    for name, pick, factor in (
        ("http_request_duration_ms", _PICK_MILLIS, 1000),
        ("http_server_request_duration_seconds", _PICK_SECONDS, 1),
    ):
        family = FAMILIES[name].empty()
        for (method, route, status), counts in http:
            buckets = [(le, counts.cumulative[index]) for le, index in pick]
            buckets.append(("+Inf", counts.count))
            family.add_metric((method, route, str(status)), buckets, counts.sum * factor)
        yield family
