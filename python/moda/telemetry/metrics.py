"""What is measured, as a table, and how two readings become chart points. Pure: no I/O, no clock.

Every row of :data:`METRICS` names one metric and holds the function that computes it from the
reading of this tick and the one before. A row that has nothing to say (no HTTP request lately, no
earlier reading to take a rate from, a reading the platform refuses) yields no event, because
the payload's ``series`` may not be empty and a made-up zero would be a lie on a chart.

Where the names come from:

- OpenTelemetry semantic conventions for hosts and processes (``system.*``, ``process.*``): the
  load average has no convention and keeps the name clients of the channel know.
- ``http.server.duration`` in milliseconds is the name and unit chart clients know; the
  convention's present name is ``http.server.request.duration`` in seconds, which is what
  ``/metrics`` exposes.
- ``process.runtime.beam.*`` are the names of a BEAM server, kept as *aliases* so that a client
  written against one keeps drawing: its memory is this process's resident set, its process count
  the number of asyncio tasks. They repeat ``process.memory.usage`` and ``moda.tasks``.
- A BEAM server also reports its *run queue*, the processes ready but not running. An asyncio loop
  has such a queue, but uvloop does not show its length, and a length says nothing about how
  long the wait is. What takes its place here is the wait itself, under its own name:
  ``moda.loop.lag``, how much later than asked a sleeping task runs again (``lag.py``).
- Everything else of the gateway is ``moda.*``.

A dimensionless unit is the empty string, as display units go; rates are ``1/s``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Final, Literal, TypedDict

from moda.aggregate import HistogramCounts

__all__ = [
    "METRICS",
    "Compat",
    "GatewayCounters",
    "HostReading",
    "Metric",
    "MetricPoint",
    "Reading",
    "SeriesPoint",
    "points",
]

Compat = Literal["beam", "none"]
"""Whose metric names are repeated as aliases: those of a BEAM server, or nobody's."""


class SeriesPoint(TypedDict):
    """One value of a metric: ``key`` is ``value``, or which percentile."""

    key: str
    value: float


class MetricPoint(TypedDict):
    """The payload of one ``metric`` event (``telemetryMetricPoint`` of the contract)."""

    name: str
    unit: str
    tsUnixSec: float
    series: list[SeriesPoint]


class GatewayCounters(TypedDict, total=False):
    """What the gateway tells about itself. Every key is optional: without it, no such metric.

    ``connections`` (open now), ``outbox_bytes`` (queued now); ``messages_in``, ``messages_out``,
    ``joins``, ``drops`` (since the start, never decreasing); ``fanout`` (seconds from a publish
    to its last subscriber, since the start).
    """

    connections: int
    outbox_bytes: int
    messages_in: int
    messages_out: int
    joins: int
    drops: int
    fanout: HistogramCounts


@dataclass(frozen=True, slots=True)
class HostReading:
    """What the operating system says of the machine and this process; None where it will not say.

    ``clock`` (monotonic seconds) is when. ``cpu_busy_s`` and ``cpu_total_s`` are seconds since
    boot summed over all CPUs; ``process_cpu_s`` is user plus system time of this process and
    ``cpus`` how many CPUs it may run on. Memory is in bytes.
    """

    clock: float
    cpus: int
    load_1m: float | None = None
    cpu_busy_s: float | None = None
    cpu_total_s: float | None = None
    memory_used: int | None = None
    process_cpu_s: float | None = None
    rss: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything measured at one tick. ``unix_s`` is the wall clock; latencies are milliseconds."""

    unix_s: float
    host: HostReading
    gateway: GatewayCounters
    tasks: int
    http_ms: tuple[float, ...] | None
    """p50, p95 of the requests of the last few seconds; None when there were none."""
    lag_ms: tuple[float, ...] | None
    """p50, p95, maximum of the loop's lag over the last few seconds."""


Values = tuple[float, ...] | None
Compute = Callable[[Reading | None, Reading], Values]


@dataclass(frozen=True, slots=True)
class Metric:
    """One row. ``compute(before, now)`` gives a value per key of ``series``, or None: no event."""

    name: str
    unit: str
    series: tuple[str, ...]
    about: str
    compute: Compute
    digits: int = 3
    """Decimals kept: a chart shows three, and JSON of a full float is 17 characters."""
    alias_of: str | None = None


def _one(value: float | None) -> Values:
    return None if value is None else (value,)


def _cpu(before: Reading | None, now: Reading) -> Values:
    """Busy share of all CPU time that passed between two readings, 0 to 1."""
    if before is None:
        return None
    busy, total = now.host.cpu_busy_s, now.host.cpu_total_s
    busy_then, total_then = before.host.cpu_busy_s, before.host.cpu_total_s
    if busy is None or total is None or busy_then is None or total_then is None:
        return None
    passed = total - total_then
    # The kernel counts in ticks of 10 ms: two readings may well fall into the same one.
    if passed <= 0:
        return None
    return (min(max((busy - busy_then) / passed, 0.0), 1.0),)


def _process_cpu(before: Reading | None, now: Reading) -> Values:
    """CPU time of this process over the time it could have had, 0 to 1 (the convention's rule)."""
    if before is None or now.host.process_cpu_s is None or before.host.process_cpu_s is None:
        return None
    available = (now.host.clock - before.host.clock) * now.host.cpus
    if available <= 0:
        return None
    return (min(max((now.host.process_cpu_s - before.host.process_cpu_s) / available, 0.0), 1.0),)


CounterName = Literal["messages_in", "messages_out", "joins", "drops"]


def _rate(name: CounterName) -> Compute:
    def rate(before: Reading | None, now: Reading) -> Values:
        count = now.gateway.get(name)
        count_then = None if before is None else before.gateway.get(name)
        if before is None or count is None or count_then is None:
            return None
        passed = now.host.clock - before.host.clock
        # A counter that went back was reset; what it shows by now is the least that happened.
        grown = count - count_then if count >= count_then else count
        return (grown / passed,) if passed > 0 else None

    return rate


def _fanout(before: Reading | None, now: Reading) -> Values:
    """p50 and p95, in ms, of the fan-outs between two readings."""
    fanout = now.gateway.get("fanout")
    if before is None or fanout is None:
        return None
    seconds = fanout.since(before.gateway.get("fanout")).percentiles((50, 95))
    return None if seconds is None else tuple(value * 1000 for value in seconds)


_VALUE: Final = ("value",)
_BEAM: Final = "process.runtime.beam."

METRICS: Final[tuple[Metric, ...]] = (
    Metric(
        "system.cpu.load_average.1m",
        "",
        _VALUE,
        "Load average of the machine over one minute",
        lambda _, now: _one(now.host.load_1m),
    ),
    Metric(
        "system.cpu.utilization",
        "",
        _VALUE,
        "Share of all CPUs that was busy since the last point, 0 to 1",
        _cpu,
        digits=4,
    ),
    Metric(
        "system.memory.usage",
        "By",
        _VALUE,
        "Memory of the machine that is not available: total minus what a program could still get",
        lambda _, now: _one(now.host.memory_used),
    ),
    Metric(
        "process.cpu.utilization",
        "",
        _VALUE,
        "CPU time of the server since the last point, over the time of all CPUs it may use, 0 to 1",
        _process_cpu,
        digits=4,
    ),
    Metric(
        "process.memory.usage",
        "By",
        _VALUE,
        "Resident memory of the server process",
        lambda _, now: _one(now.host.rss),
    ),
    Metric(
        _BEAM + "memory.total",
        "By",
        _VALUE,
        "Alias of `process.memory.usage` for clients of a BEAM server",
        lambda _, now: _one(now.host.rss),
        alias_of="process.memory.usage",
    ),
    Metric(
        "moda.tasks",
        "",
        _VALUE,
        "asyncio tasks alive in the server",
        lambda _, now: _one(now.tasks),
    ),
    Metric(
        _BEAM + "process_count",
        "",
        _VALUE,
        "Alias of `moda.tasks` for clients of a BEAM server",
        lambda _, now: _one(now.tasks),
        alias_of="moda.tasks",
    ),
    Metric(
        "moda.loop.lag",
        "ms",
        ("p50", "p95", "max"),
        "How much later than asked a sleeping task ran again; takes the place of a run queue",
        lambda _, now: now.lag_ms,
    ),
    Metric(
        "http.server.duration",
        "ms",
        ("p50", "p95"),
        "Duration of the HTTP requests of the last seconds; no point when there were none",
        lambda _, now: now.http_ms,
    ),
    Metric(
        "moda.connections",
        "",
        _VALUE,
        "WebSocket connections open",
        lambda _, now: _one(now.gateway.get("connections")),
    ),
    Metric(
        "moda.messages.in", "1/s", _VALUE, "Messages received from clients", _rate("messages_in")
    ),
    Metric("moda.messages.out", "1/s", _VALUE, "Messages sent to clients", _rate("messages_out")),
    Metric("moda.joins", "1/s", _VALUE, "Channels joined", _rate("joins")),
    Metric(
        "moda.drops",
        "1/s",
        _VALUE,
        "Messages not delivered or not accepted, whatever the reason",
        _rate("drops"),
    ),
    Metric(
        "moda.outbox.bytes",
        "By",
        _VALUE,
        "Bytes queued for connections that do not read fast enough",
        lambda _, now: _one(now.gateway.get("outbox_bytes")),
    ),
    Metric(
        "moda.fanout.duration",
        "ms",
        ("p50", "p95"),
        "From a publish to its last subscriber, for the publishes since the last point",
        _fanout,
    ),
)
"""Every metric of ``telemetry:metrics``, in the order its events are sent."""


def points(
    before: Reading | None,
    now: Reading,
    compat: Compat = "beam",
    metrics: Iterable[Metric] = METRICS,
) -> list[MetricPoint]:
    """The payloads of one tick, one per metric that has something to say.

    ``before`` is the reading that rates are taken from, None on a first tick. All points carry
    the same ``tsUnixSec`` (seconds, to the millisecond), so that a client can line them up. Values
    are finite: JSON has no word for the others, and a metric with one yields no point.
    """
    ts = round(now.unix_s, 3)
    out: list[MetricPoint] = []
    for metric in metrics:
        if metric.alias_of is not None and compat != "beam":
            continue
        values = metric.compute(before, now)
        if values is None or not all(isfinite(value) for value in values):
            continue
        out.append(
            {
                "name": metric.name,
                "unit": metric.unit,
                "tsUnixSec": ts,
                "series": [
                    {"key": key, "value": round(value, metric.digits)}
                    for key, value in zip(metric.series, values, strict=True)
                ],
            }
        )
    return out
