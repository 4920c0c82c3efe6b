"""``/metrics``: what the gateway counts, in the Prometheus text format, computed when asked.

Nothing here runs per message. The hub counts in Rust; a scrape takes one snapshot of its counters
(:class:`HubStats`), of the HTTP histograms and of the loop's lag, on the loop, in one go, so that
the figures of one scrape belong together. Turning it into text (60 ms for 250 series with two
histograms each) then happens in a worker thread.

HTTP requests are the one thing recorded in Python, once per request: into the window from which
``telemetry:metrics`` draws p50 and p95, and into one histogram per method, route and status. It is
exposed under two names, ``http_server_request_duration_seconds`` (the OpenTelemetry convention) and
``http_request_duration_ms`` (the name existing dashboards ask for), with different buckets. One
histogram over the union of both sets of bounds serves both exactly.

The registry is the gateway's own, not prometheus_client's global one: two gateways in a process do
not add up, and nothing is exported that was not asked for. The process figures are not taken from
prometheus_client either: its collector lists ``/proc/self/fd``, 5 ms with 10,000 connections.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import (
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Literal, TypedDict

import psutil
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from moda.aggregate import Histogram, HistogramCounts, LatencyWindow
from moda.telemetry import GatewayCounters, LoopLag

__all__ = [
    "FAMILIES",
    "Exporter",
    "FanoutStats",
    "HttpLatency",
    "HubStats",
    "MeasuredApp",
    "gateway_counters",
]


# -- what the hub is asked for


class FanoutStats(TypedDict):
    """Seconds from a publish until its last subscriber's write, as a cumulative histogram."""

    bounds: Sequence[float]
    """Ascending inclusive upper bounds in seconds, without infinity."""
    cumulative: Sequence[int]
    """One count per bound of the fan-outs not longer, then the count of all of them."""
    sum: float


class HubStats(TypedDict):
    """The hub's counters at one moment. Gauges are of now, all others since the start, never less.

    Mappings hold every label that exists, also at zero: a counter that first appears at 1 loses
    its first increase in a rate.
    """

    connections: Mapping[str, int]
    """Open connections (gauge) by mount path."""
    joins: int
    """Channels and streams joined."""
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    drops: Mapping[str, int]
    """Messages given up, by reason: stale join_ref, replaced by a newer one, slow reader, ..."""
    decode_errors: Mapping[str, int]
    """Frames that could not be decoded, by reason."""
    outbox_bytes: int
    """Bytes queued for connections (gauge)."""
    fanout: FanoutStats


def gateway_counters(stats: HubStats) -> GatewayCounters:
    """The hub's counters as ``telemetry:metrics`` wants them: totals, without labels."""
    return {
        "connections": sum(stats["connections"].values()),
        "outbox_bytes": stats["outbox_bytes"],
        "messages_in": stats["messages_in"],
        "messages_out": stats["messages_out"],
        "joins": stats["joins"],
        "drops": sum(stats["drops"].values()),
        "fanout": _counts(stats["fanout"]),
    }


def _counts(fanout: FanoutStats) -> HistogramCounts:
    return HistogramCounts(tuple(fanout["bounds"]), tuple(fanout["cumulative"]), fanout["sum"])


# -- HTTP


def _le(bound: float) -> str:
    """A bucket bound as the text format writes it: with a decimal point, as other exporters do."""
    return repr(float(bound))


_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Buckets the OpenTelemetry convention advises for ``http.server.request.duration``."""
_MILLIS: Final = (10, 50, 100, 200, 500, 1000, 2000, 5000)
"""Buckets of ``http_request_duration_ms``."""
_UNION: Final = tuple(sorted({*_SECONDS, *(ms / 1000 for ms in _MILLIS)}))
_PICK_SECONDS: Final = tuple((_le(s), _UNION.index(s)) for s in _SECONDS)
_PICK_MILLIS: Final = tuple((_le(ms), _UNION.index(ms / 1000)) for ms in _MILLIS)

_METHODS: Final = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")
)
OTHER: Final = "_OTHER"
"""What the convention calls a method, and this file a route, that gets no series of its own."""

HttpSeries = tuple[str, str, int]
"""Method, route template, status."""


class HttpLatency:
    """How long HTTP requests took. One instance per server, used on its loop only.

    ``window`` (milliseconds, stamped with ``time.perf_counter()``) feeds the live chart. Once there
    are ``max_series`` histograms, requests that would need one more are counted by method and
    status alone, under the route ``_OTHER``: an application which puts identifiers into its routes
    costs detail and not memory.
    """

    __slots__ = ("_max_series", "_series", "window")

    def __init__(self, max_series: int = 256) -> None:
        self.window = LatencyWindow()
        self._max_series = max_series
        self._series: dict[HttpSeries, Histogram] = {}

    def record(self, method: str, route: str, status: int, began: float, ended: float) -> None:
        """Records one request. ``route`` is the template, never the path; times: perf_counter()."""
        seconds = ended - began
        self.window.record(seconds * 1000, ended)
        histogram = self._series.get((method, route, status))
        if histogram is None:
            histogram = self._new(method, route, status)
        histogram.observe(seconds)

    def counts(self) -> list[tuple[HttpSeries, HistogramCounts]]:
        """Every series as it is now, bounds in seconds."""
        return [(series, histogram.counts()) for series, histogram in self._series.items()]

    def _new(self, method: str, route: str, status: int) -> Histogram:
        key = (method if method in _METHODS else OTHER, route, status)
        if key not in self._series and len(self._series) >= self._max_series:
            key = (key[0], OTHER, status)
        return self._series.setdefault(key, Histogram(_UNION))


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def route_of(scope: Scope) -> str:
    """The route template an application left in its scope, or ``_OTHER``.

    Litestar leaves ``path_template``, Starlette and FastAPI a ``route`` with a ``path``. The path
    itself is never a fallback: it is whatever a client sent.
    """
    template = scope.get("path_template") or getattr(scope.get("route"), "path", None)
    return template if isinstance(template, str) and template else OTHER


class MeasuredApp:
    """An ASGI application with a stopwatch around every HTTP request.

    An exception that escapes before a response counts as a 500 and goes on; a request whose client
    went away before a response is not counted, and neither is an event stream, which lasts as long
    as somebody listens and says nothing about the server.
    """

    __slots__ = ("_app", "_latency")

    def __init__(self, app: App, latency: HttpLatency) -> None:
        self._app = app
        self._latency = latency

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status: int | None = None
        stream = False

        async def watch(message: MutableMapping[str, Any]) -> None:
            nonlocal status, stream
            if message["type"] == "http.response.start":
                status = message["status"]
                stream = _is_event_stream(message.get("headers", ()))
            await send(message)

        began = perf_counter()
        try:
            await self._app(scope, receive, watch)
        except Exception:
            status = status or 500
            raise
        finally:
            if status is not None and not stream:
                self._latency.record(
                    scope["method"], route_of(scope), status, began, perf_counter()
                )


def _is_event_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in headers
    )


# -- the text


@dataclass(frozen=True, slots=True)
class Family:
    """One metric of ``/metrics``. ``docs/metrics.md`` lists them; a test compares the two."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    about: str

    def empty(self) -> Any:
        """The metric without samples. A counter's ``_total`` is added back by the encoder."""
        kinds: dict[str, Any] = {
            "gauge": GaugeMetricFamily,
            "counter": CounterMetricFamily,
            "histogram": HistogramMetricFamily,
        }
        return kinds[self.kind](self.name, self.about, labels=self.labels)


_TABLE: Final = (
    Family("moda_build_info", "gauge", ("version", "python"), "Always 1; the labels say what runs"),
    Family("moda_connections", "gauge", ("mount",), "Connections open"),
    Family("websocket_connections_active", "gauge", (), "Connections open on all mounts"),
    Family("moda_joins_total", "counter", (), "Channels joined"),
    Family("moda_messages_in_total", "counter", (), "Messages received from clients"),
    Family("moda_messages_out_total", "counter", (), "Messages sent to clients"),
    Family("moda_bytes_in_total", "counter", (), "Bytes of messages received"),
    Family("moda_bytes_out_total", "counter", (), "Bytes of messages sent"),
    Family("moda_drops_total", "counter", ("reason",), "Messages given up"),
    Family("moda_decode_errors_total", "counter", ("reason",), "Frames that cannot be decoded"),
    Family("moda_outbox_bytes", "gauge", (), "Bytes queued for slow readers"),
    Family(
        "moda_fanout_duration_seconds",
        "histogram",
        (),
        "From a publish until its last subscriber was written to",
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
    hub: HubStats
    http: list[tuple[HttpSeries, HistogramCounts]]
    lag: HistogramCounts


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
        self._process = psutil.Process()
        self.registry = CollectorRegistry()
        self.registry.register(self)

    async def scrape(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type, in the format that the request's ``accept`` asks for."""
        encode, content_type = choose_encoder(accept)
        token = _SCRAPE.set(self._snapshot())
        try:
            # to_thread copies the context: each scrape encodes its own snapshot.
            return await asyncio.to_thread(encode, self.registry), content_type
        finally:
            _SCRAPE.reset(token)

    def describe(self) -> Iterable[Metric]:
        """The names, so that the registry refuses a second metric of the same name."""
        return [family.empty() for family in FAMILIES.values()]

    def collect(self) -> Iterator[Metric]:
        """The metrics of now, or of the scrape that is being encoded."""
        taken = _SCRAPE.get() or self._snapshot()
        yield _labelled("moda_build_info", [(self._build, 1)])
        yield from self._hub_families(taken.hub)
        yield _histogram("moda_loop_lag_seconds", taken.lag)
        yield from _http_families(taken.http)
        yield from self._process_families()

    def _snapshot(self) -> _Snapshot:
        return _Snapshot(self._stats(), self._http.counts(), self._lag.histogram.counts())

    def _hub_families(self, hub: HubStats) -> Iterator[Metric]:
        yield _by_label("moda_connections", hub["connections"])
        yield _plain("websocket_connections_active", sum(hub["connections"].values()))
        yield _plain("moda_joins_total", hub["joins"])
        yield _plain("moda_messages_in_total", hub["messages_in"])
        yield _plain("moda_messages_out_total", hub["messages_out"])
        yield _plain("moda_bytes_in_total", hub["bytes_in"])
        yield _plain("moda_bytes_out_total", hub["bytes_out"])
        yield _by_label("moda_drops_total", hub["drops"])
        yield _by_label("moda_decode_errors_total", hub["decode_errors"])
        yield _plain("moda_outbox_bytes", hub["outbox_bytes"])
        yield _histogram("moda_fanout_duration_seconds", _counts(hub["fanout"]))

    def _process_families(self) -> Iterator[Metric]:
        with self._process.oneshot():
            cpu = self._process.cpu_times()
            memory = self._process.memory_info()
        yield _plain("process_cpu_seconds_total", cpu.user + cpu.system)
        yield _plain("process_resident_memory_bytes", memory.rss)
        yield _plain("process_virtual_memory_bytes", memory.vms)
        yield _plain("process_start_time_seconds", self._process.create_time())
        open_fds, max_fds = open_files()
        if open_fds is not None:
            yield _plain("process_open_fds", open_fds)
        if max_fds is not None:
            yield _plain("process_max_fds", max_fds)


def open_files() -> tuple[int | None, int | None]:
    """(open, limit) of file descriptors, each None where it cannot be had cheaply.

    Since Linux 6.2 the size of ``/proc/self/fd`` is the number of its entries: one stat of 3
    microseconds. Before, it is 0, and counting them would mean listing them.
    """
    try:
        opened = Path("/proc/self/fd").stat().st_size or None
    except OSError:
        opened = None
    try:
        import resource
    except ImportError:
        return opened, None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return opened, None if limit == resource.RLIM_INFINITY else limit


def _plain(name: str, value: float) -> Metric:
    return _labelled(name, [((), value)])


def _by_label(name: str, values: Mapping[str, int]) -> Metric:
    return _labelled(name, [((label,), value) for label, value in values.items()])


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
