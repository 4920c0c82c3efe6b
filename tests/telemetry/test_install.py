"""What the composition root gets: registrations, settings, and a stream that really runs."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from time import perf_counter
from typing import Any

import pytest

from moda.aggregate import LatencyWindow
from moda.errors import ConfigurationError
from moda.telemetry import METRICS, TOPIC, LoopLag, TelemetrySettings, install
from registrar import FakeRegistrar

from .support import end, request, until


def test_it_registers_the_topic_its_background_work_and_its_health() -> None:
    gateway = FakeRegistrar()
    stream = install(gateway)
    assert gateway.streams == {TOPIC: stream}
    assert gateway.policies[TOPIC] == {"delivery": "latest"}
    assert set(gateway.works) == {"telemetry.lag", "telemetry.metrics"}
    assert set(gateway.probes) == {"telemetry"}
    assert gateway.probes["telemetry"]().status == "degraded"


async def test_installed_with_real_parts_it_sends_every_metric() -> None:
    gateway = FakeRegistrar()
    http = LatencyWindow()
    messages = iter(range(0, 10_000, 50))
    lag = LoopLag(0.01)

    def counters() -> Any:
        http.record(12.0, perf_counter())
        n = next(messages)
        return {
            "connections": 1,
            "outbox_bytes": 0,
            "messages_in": n,
            "messages_out": n,
            "joins": n,
            "drops": 0,
        }

    stream = install(
        gateway, TelemetrySettings(interval_ms=250), counters=counters, http=http, lag=lag
    )
    assert await stream.join(request()) == {"interval_ms": 250}
    tasks = [asyncio.ensure_future(work()) for work in gateway.works.values()]
    expected = {metric.name for metric in METRICS} - {"moda.fanout.duration"}
    await until(lambda: expected <= {payload["name"] for payload in gateway.to(TOPIC)})
    await end(*tasks)
    assert gateway.probes["telemetry"]().status == "up"
    assert lag.window.total > 0


def test_every_setting_names_its_environment_variable() -> None:
    assert [field.metadata["env"] for field in fields(TelemetrySettings)] == [
        "MODA_TELEMETRY_INTERVAL_MS",
        "MODA_TELEMETRY_COMPAT",
        "MODA_TELEMETRY_WINDOW_MS",
    ]
    assert TelemetrySettings() == TelemetrySettings(2000, "beam", 10_000)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"interval_ms": 249},
            "MODA_TELEMETRY_INTERVAL_MS takes a whole number of milliseconds "
            "from 250 to 60000, got 249",
        ),
        (
            {"interval_ms": "fast"},
            "MODA_TELEMETRY_INTERVAL_MS takes a whole number of milliseconds "
            "from 250 to 60000, got 'fast'",
        ),
        (
            {"interval_ms": True},
            "MODA_TELEMETRY_INTERVAL_MS takes a whole number of milliseconds "
            "from 250 to 60000, got True",
        ),
        (
            {"window_ms": 100_001},
            "MODA_TELEMETRY_WINDOW_MS takes a whole number of milliseconds "
            "from 1000 to 100000, got 100001",
        ),
        ({"compat": "otp"}, "MODA_TELEMETRY_COMPAT takes beam or none, got 'otp'"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_variable_its_value_and_what_it_takes(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        TelemetrySettings(**values)
    assert str(refused.value) == message
