"""The table of metrics, and points computed from two readings."""

from __future__ import annotations

import json
import re
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.aggregate import HistogramCounts
from moda.telemetry.metrics import METRICS, points

from .support import reading

REPOSITORY = Path(__file__).parents[2]


def by_name(found: list[Any]) -> dict[str, Any]:
    return {point["name"]: point for point in found}


def value(found: list[Any], name: str) -> float | None:
    point = by_name(found).get(name)
    return None if point is None else point["series"][0]["value"]


def full_pair() -> tuple[Any, Any]:
    """Two readings, two seconds apart, from which every metric can be computed."""
    before = reading(
        1000.0,
        cpu_busy_s=100.0,
        cpu_total_s=400.0,
        memory_used=8_000_000_000,
        process_cpu_s=10.0,
        gateway={
            "connections": 9,
            "outbox_bytes": 0,
            "messages_in": 100,
            "messages_out": 1000,
            "joins": 9,
            "drops": 0,
            "fanout": HistogramCounts((0.001, 0.01), (10, 10, 10), 0.005),
        },
    )
    now = reading(
        1002.0,
        cpu_busy_s=101.0,
        cpu_total_s=404.0,
        memory_used=8_000_000_001,
        process_cpu_s=10.5,
        http_ms=(12.3, 45.8),
        lag_ms=(0.2, 1.1, 9.5),
        gateway={
            "connections": 10,
            "outbox_bytes": 4096,
            "messages_in": 150,
            "messages_out": 1500,
            "joins": 10,
            "drops": 4,
            "fanout": HistogramCounts((0.001, 0.01), (10, 20, 20), 0.055),
        },
    )
    return before, now


def test_every_metric_has_a_point_when_everything_can_be_read() -> None:
    assert [p["name"] for p in points(*full_pair())] == [metric.name for metric in METRICS]


def test_a_point_has_exactly_the_shape_of_the_contract() -> None:
    assert by_name(points(*full_pair()))["http.server.duration"] == {
        "name": "http.server.duration",
        "unit": "ms",
        "tsUnixSec": 1_740_441_602.0,
        "series": [{"key": "p50", "value": 12.3}, {"key": "p95", "value": 45.8}],
    }


def test_the_load_average_is_dimensionless() -> None:
    assert by_name(points(None, reading()))["system.cpu.load_average.1m"] == {
        "name": "system.cpu.load_average.1m",
        "unit": "",
        "tsUnixSec": 1_740_441_600.0,
        "series": [{"key": "value", "value": 0.42}],
    }


def test_all_points_of_a_tick_carry_the_same_time() -> None:
    assert {p["tsUnixSec"] for p in points(*full_pair())} == {1_740_441_602.0}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("system.cpu.utilization", 0.25),
        ("system.memory.usage", 8_000_000_001),
        ("process.cpu.utilization", 0.125),
        ("process.memory.usage", 50_000_000),
        ("moda.tasks", 5),
        ("moda.loop.lag", 0.2),
        ("moda.connections", 10),
        ("moda.messages.in", 25.0),
        ("moda.messages.out", 250.0),
        ("moda.joins", 0.5),
        ("moda.drops", 2.0),
        ("moda.outbox.bytes", 4096),
        ("moda.fanout.duration", 5.5),
    ],
)
def test_values_come_from_the_readings_and_the_time_between_them(
    name: str, expected: float
) -> None:
    assert value(points(*full_pair()), name) == expected


def test_the_two_beam_names_repeat_memory_and_tasks() -> None:
    found = points(*full_pair())
    assert value(found, "process.runtime.beam.memory.total") == 50_000_000
    assert value(found, "process.runtime.beam.process_count") == 5


def test_without_compat_no_beam_name_is_sent_and_nothing_else_is_missing() -> None:
    names = [p["name"] for p in points(*full_pair(), compat="none")]
    assert names == [m.name for m in METRICS if not m.name.startswith("process.runtime.beam.")]


def test_a_first_tick_has_no_rates() -> None:
    _, now = full_pair()
    names = {p["name"] for p in points(None, now)}
    rates = {
        "system.cpu.utilization",
        "process.cpu.utilization",
        "moda.messages.in",
        "moda.messages.out",
        "moda.joins",
        "moda.drops",
        "moda.fanout.duration",
    }
    assert names == {metric.name for metric in METRICS} - rates


def test_no_http_request_lately_means_no_point_and_not_a_zero() -> None:
    assert "http.server.duration" not in by_name(points(None, reading(http_ms=None)))


def test_what_the_platform_refuses_is_left_out() -> None:
    found = by_name(points(reading(1.0), reading(2.0, load_1m=None, rss=None)))
    assert "system.cpu.load_average.1m" not in found
    assert "process.memory.usage" not in found
    assert "process.runtime.beam.memory.total" not in found
    assert "system.cpu.utilization" not in found
    assert "moda.tasks" in found


def test_a_gateway_that_tells_nothing_yields_no_gateway_metric() -> None:
    names = {p["name"] for p in points(reading(1.0), reading(3.0))}
    assert not {n for n in names if n.startswith("moda.") and n != "moda.tasks"}


def test_two_readings_within_one_tick_of_the_kernel_have_no_utilization() -> None:
    before = reading(1.0, cpu_busy_s=10.0, cpu_total_s=20.0)
    now = reading(1.001, cpu_busy_s=10.0, cpu_total_s=20.0)
    assert value(points(before, now), "system.cpu.utilization") is None


def test_cpu_times_that_step_back_stay_within_zero_and_one() -> None:
    before = reading(1.0, cpu_busy_s=10.0, cpu_total_s=20.0, process_cpu_s=5.0)
    now = reading(2.0, cpu_busy_s=9.9, cpu_total_s=22.0, process_cpu_s=4.9)
    found = points(before, now)
    assert value(found, "system.cpu.utilization") == 0
    assert value(found, "process.cpu.utilization") == 0


def test_a_counter_that_went_back_counts_from_its_reset() -> None:
    before = reading(1.0, gateway={"messages_in": 1000})
    now = reading(3.0, gateway={"messages_in": 50})
    assert value(points(before, now), "moda.messages.in") == 25.0


def test_no_time_between_two_readings_means_no_rate() -> None:
    same = reading(1.0, gateway={"messages_in": 7}, process_cpu_s=1.0)
    found = by_name(points(same, same))
    assert "moda.messages.in" not in found
    assert "process.cpu.utilization" not in found


def test_no_fanout_since_the_last_point_means_no_point() -> None:
    counts = HistogramCounts((0.001,), (3, 3), 0.001)
    quiet = reading(1.0, gateway={"fanout": counts}), reading(2.0, gateway={"fanout": counts})
    assert "moda.fanout.duration" not in by_name(points(*quiet))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_value_that_json_cannot_say_yields_no_point(wrong: float) -> None:
    assert "system.cpu.load_average.1m" not in by_name(points(None, reading(load_1m=wrong)))


counters = st.fixed_dictionaries(
    {},
    optional={
        name: st.integers(0, 2**63)
        for name in ("connections", "outbox_bytes", "messages_in", "messages_out", "joins", "drops")
    },
)
maybe = st.none() | st.floats(0, 1e12, allow_nan=False)


@given(st.data())
def test_whatever_is_read_every_point_is_well_formed(data: st.DataObject) -> None:
    def draw(clock: float) -> Any:
        return reading(
            clock,
            gateway=data.draw(counters),
            http_ms=data.draw(st.none() | st.tuples(st.floats(0, 1e9), st.floats(0, 1e9))),
            lag_ms=data.draw(st.none() | st.tuples(*[st.floats(0, 1e9)] * 3)),
            **{
                name: data.draw(maybe)
                for name in ("load_1m", "cpu_busy_s", "cpu_total_s", "process_cpu_s", "rss")
            },
        )

    clock = data.draw(st.floats(0, 1e6))
    for point in points(draw(clock), draw(clock + data.draw(st.floats(0, 100)))):
        metric = next(m for m in METRICS if m.name == point["name"])
        assert set(point) == {"name", "unit", "tsUnixSec", "series"}
        assert point["unit"] == metric.unit
        assert tuple(series["key"] for series in point["series"]) == metric.series
        assert all(isfinite(series["value"]) for series in point["series"])
        assert json.loads(json.dumps(point, allow_nan=False)) == point


def test_names_are_unique_and_aliases_point_at_a_metric() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert {metric.alias_of for metric in METRICS} - {None} <= set(names)


def test_the_documentation_lists_every_metric_as_it_is() -> None:
    text = (REPOSITORY / "docs" / "metrics.md").read_text()
    table = text.split("## `telemetry:metrics`")[1]
    rows = re.findall(r"^\| `([^`]+)` \| (.*?)\| (.*?) \| (.*) \|$", table, re.MULTILINE)
    documented = [(name, unit.strip(" `"), series, about) for name, unit, series, about in rows]
    assert documented == [
        (m.name, m.unit, ", ".join(f"`{key}`" for key in m.series), m.about) for m in METRICS
    ]
