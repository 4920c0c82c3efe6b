"""How long HTTP requests take: recorded once per request, read by whoever asks.

This is the one figure of ``/metrics`` that costs something in Python, 0.45 microseconds per
request. A request goes into a window, from which ``telemetry:metrics`` draws p50 and p95, and
into one histogram per method, route and status. The histogram has the bounds of both metrics
that are exposed (:data:`SECONDS` and :data:`MILLIS`), so that either can be read off it exactly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from time import perf_counter
from typing import Any, Final

from moda.aggregate import Histogram, HistogramCounts, LatencyWindow

__all__ = ["BOUNDS", "MILLIS", "OTHER", "SECONDS", "HttpLatency", "HttpSeries", "MeasuredApp"]

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Buckets the OpenTelemetry convention advises for ``http.server.request.duration``."""
MILLIS: Final = (10, 50, 100, 200, 500, 1000, 2000, 5000)
"""Buckets of ``http_request_duration_ms``."""
BOUNDS: Final = tuple(sorted({*SECONDS, *(ms / 1000 for ms in MILLIS)}))
"""Buckets that are kept, in seconds: all of them."""

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
        return self._series.setdefault(key, Histogram(BOUNDS))


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
