"""A soak that found something says so, and says what."""

from __future__ import annotations

from typing import Any

import pytest

from .bounds import judge, memory, table

WELL: dict[str, Any] = {
    "honest": {
        "p99_ms": 12.0,
        "foreign": 0,
        "lost": 0,
        "cuts": 0,
        "answered": 1000,
        "prices": 10,
    },
    "health": {"asked": 100, "failed": 0, "p99_ms": 20.0},
    "memory": {"plain": [60.0] * 30},
    "alive": {"plain": True},
}


def test_a_run_in_which_all_was_well_breaks_no_bound() -> None:
    assert all(line.held for line in judge(WELL))
    assert "BROKEN" not in table(judge(WELL))


@pytest.mark.parametrize(
    ("part", "figures", "broken"),
    [
        ("honest", {"p99_ms": 50.0}, "honest p99"),
        ("honest", {"foreign": 1}, "foreign frames"),
        ("honest", {"lost": 1}, "honest messages lost"),
        ("honest", {"cuts": 1}, "honest clients cut"),
        ("honest", {"answered": 0}, "honest clients answered"),
        ("honest", {"prices": 0}, "honest clients answered"),
        ("health", {"failed": 1}, "GET /health"),
        ("health", {"asked": 0}, "GET /health"),
        ("memory", {"plain": [float(n) for n in range(60, 160)]}, "memory, plain"),
        ("memory", {"plain": [60.0]}, "memory, plain"),
        ("alive", {"plain": False}, "gateway, plain"),
    ],
)
def test_each_bound_that_breaks_is_named(part: str, figures: dict[str, Any], broken: str) -> None:
    seen = {**WELL, part: {**WELL[part], **figures}}
    assert [line.name for line in judge(seen) if not line.held] == [broken]
    assert f"BROKEN  {broken}" in table(judge(seen))


def test_memory_may_grow_while_it_warms_up_and_swing_afterwards() -> None:
    assert memory("one", [40.0 + n for n in range(35)] + [80.0, 95.0, 78.0] * 22).held
    assert not memory("one", [60.0] * 50 + [90.0] * 50).held
