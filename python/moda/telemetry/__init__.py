"""Telemetry: what host, process and gateway are doing, as a live stream of chart points.

``metrics`` is the table of what is measured (pure), ``pace`` decides who is due (pure),
``sampler`` and ``lag`` measure, ``stream`` is the channel. :func:`install` puts them together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, get_args

from moda.aggregate import LatencyWindow
from moda.channel import Registrar
from moda.errors import ConfigurationError
from moda.telemetry.lag import LoopLag
from moda.telemetry.metrics import METRICS, Compat, GatewayCounters, Metric, MetricPoint
from moda.telemetry.pace import MAX_INTERVAL_MS, MIN_INTERVAL_MS
from moda.telemetry.sampler import HostReader, Sampler, count_tasks
from moda.telemetry.stream import TOPIC, Attach, Seated, Telemetry

__all__ = [
    "METRICS",
    "TOPIC",
    "GatewayCounters",
    "LoopLag",
    "Metric",
    "MetricPoint",
    "Telemetry",
    "TelemetrySettings",
    "install",
]

_MIN_WINDOW_MS: Final = 1000
_MAX_WINDOW_MS: Final = 100_000
"""The lag probe keeps 1,024 samples of 100 ms: no window may look further back."""


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """How telemetry behaves. ``metadata["env"]`` of each field is the variable that sets it.

    ConfigurationError for a value out of range; it names the variable, the value and the range.
    """

    interval_ms: int = field(
        default=2000,
        metadata={
            "env": "MODA_TELEMETRY_INTERVAL_MS",
            "about": "Milliseconds between two points of a metric, 250 to 60000",
        },
    )
    compat: Compat = field(
        default="beam",
        metadata={
            "env": "MODA_TELEMETRY_COMPAT",
            "about": "beam: repeat two metrics under process.runtime.beam.* names; none: do not",
        },
    )
    window_ms: int = field(
        default=10_000,
        metadata={
            "env": "MODA_TELEMETRY_WINDOW_MS",
            "about": "How far back HTTP and loop lag percentiles look, 1000 to 100000",
        },
    )

    def __post_init__(self) -> None:
        _in_range("MODA_TELEMETRY_INTERVAL_MS", self.interval_ms, MIN_INTERVAL_MS, MAX_INTERVAL_MS)
        _in_range("MODA_TELEMETRY_WINDOW_MS", self.window_ms, _MIN_WINDOW_MS, _MAX_WINDOW_MS)
        if self.compat not in get_args(Compat):
            raise ConfigurationError(
                f"MODA_TELEMETRY_COMPAT takes {' or '.join(get_args(Compat))}, got {self.compat!r}"
            )


def _in_range(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigurationError(
            f"{name} takes a whole number of milliseconds from {low} to {high}, got {value!r}"
        )


def install(
    gateway: Registrar,
    settings: TelemetrySettings | None = None,
    *,
    counters: Callable[[], GatewayCounters] = GatewayCounters,
    http: LatencyWindow | None = None,
    lag: LoopLag | None = None,
    tasks: Callable[[], int] = count_tasks,
    attach: Attach | None = None,
    seated: Seated | None = None,
) -> Telemetry:
    """Registers ``telemetry:metrics`` and its background work with a gateway.

    ``counters`` is called once per reading; ``http`` holds the durations of HTTP requests in
    milliseconds, stamped with ``time.perf_counter()``; ``lag`` is the loop's probe, made here if
    nobody else needs it, and run here in either case. ``attach`` makes ``interval_ms`` of a join
    effective per client (:mod:`moda.telemetry.stream` says how, and what happens without it);
    ``seated`` is the gateway's count of a lane.

    A slow reader keeps the newest point of each metric: an old one is of no use to a chart.
    """
    settings = settings or TelemetrySettings()
    lag = lag or LoopLag()
    sampler = Sampler(
        host=HostReader(),
        counters=counters,
        http=http,
        lag=lag,
        span=settings.window_ms / 1000,
        tasks=tasks,
    )
    stream = Telemetry(
        sampler,
        gateway.broadcast,
        interval_ms=settings.interval_ms,
        compat=settings.compat,
        attach=attach,
        seated=seated,
    )
    gateway.channel(TOPIC, delivery="latest")(stream)
    gateway.background("telemetry.lag", lag.run)
    gateway.background("telemetry.metrics", stream.run)
    gateway.service("telemetry", stream.health)
    return stream
