"""The arithmetic of the system bench and of its table: what would quietly flatter a figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from benches import machine, rows, table
from benches.server import tick


def run(per_s: float, cpu_ns: float = 100.0) -> dict[str, Any]:
    return {"per_s": per_s, "cpu_ns": cpu_ns}


def test_a_ratio_is_taken_to_the_limits_on_both_sides_and_the_median_counts() -> None:
    # The machine halves its speed in the middle; moda is at 0.8 of it all the time.
    limits = [100.0, 100.0, 50.0, 50.0]
    values = [80.0, 60.0, 40.0]
    assert rows.paired(values, limits) == pytest.approx(0.8)


def test_a_rate_meets_its_target_by_ratio_and_says_the_ratio_of_cpu_time_too() -> None:
    limits = [run(100, cpu_ns=50)] * 2
    figure = rows.at_least("fan-out", "deliveries/s", [run(91, cpu_ns=100)], limits, 0.9)
    assert figure.met
    assert figure.ratio == pytest.approx(0.91)
    assert figure.cpu_ratio == pytest.approx(0.5)
    assert not rows.at_least("fan-out", "deliveries/s", [run(89)], limits, 0.9).met


def test_an_absolute_target_is_met_by_the_median_and_not_by_the_best_run() -> None:
    assert not rows.above("join", "clients/s", [run(1), run(2), run(9)], [], 5).met
    assert rows.above("join", "clients/s", [run(5), run(5), run(1)], [], 5).met
    assert not rows.below("heartbeats", "ms", [1, 20, 30], 20).met
    assert rows.below("heartbeats", "ms", [1, 19, 30], 20).met


@pytest.mark.parametrize("fault", ["missing", "skipped", "disordered"])
@pytest.mark.parametrize("side", ["gateway", "bare"])
def test_a_run_that_lost_deliveries_is_no_measurement(side: str, fault: str) -> None:
    good = {"missing": 0, "skipped": 0, "disordered": 0}
    bad = {**good, fault: 1}
    burst = {"gateway": [good], "bare": [good, good]}
    result = {"burst": burst, "errors": {}, "single_incomplete": 0}
    assert rows.sound(result) is result
    burst[side] = [good, bad]
    with pytest.raises(machine.BenchError, match=f"{fault} by the {side}"):
        rows.sound(result)


def test_a_run_that_left_requests_unanswered_is_no_measurement() -> None:
    result: dict[str, Any] = {"unanswered": 0, "misordered": 0, "refused": 0, "errors": {}}
    assert rows.answered(result) is result
    with pytest.raises(machine.BenchError, match="unanswered"):
        rows.answered({**result, "unanswered": 3})


@pytest.mark.parametrize("sequence", [1, 99, 123_456])
def test_a_broadcast_is_as_long_as_ordered_whatever_its_number(sequence: int) -> None:
    payload = tick("bench:stream", sequence, 120)
    text = orjson.dumps([None, None, "bench:stream", "tick", payload])
    assert len(text) == 120
    assert (payload["seq"], list(payload)) == (sequence, ["seq", "at", "pad"])


RESULTS: dict[str, Any] = {
    "ping": {
        "date": "2026-01-02T03:04:05+00:00",
        "revision": "abc",
        "machine": {"cores": 2, "processor": "P", "kernel": "K", "python": "3.11"},
        "figures": [
            {
                "name": "ping",
                "unit": "answers/s",
                "value": 91234.5,
                "target": ">= 90,000",
                "met": True,
                "limit": None,
                "ratio": None,
            }
        ],
    }
}


def test_the_table_stands_between_its_markers_and_the_rest_of_the_readme_stays() -> None:
    readme = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    new = table.rendered(readme, RESULTS)
    assert new.startswith(f"before\n{table.BEGIN}\n| bench |")
    assert new.endswith(f"{table.END}\nafter\n")
    assert "| ping | 91,234 answers/s | - | - | >= 90,000 | yes |" in new
    assert "2026-01-02, revision abc." in new
    assert table.rendered(new, RESULTS) == new


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="bench:begin"):
        table.rendered("nothing here", RESULTS)


def test_the_check_fails_on_a_stale_readme_and_passes_once_it_is_written(tmp_path: Path) -> None:
    readme, results = tmp_path / "README.md", tmp_path / "system.json"
    readme.write_text(f"{table.BEGIN}\n{table.END}\n")
    results.write_text(json.dumps(RESULTS))
    words = ["--readme", str(readme), "--results", str(results)]
    assert table.main(["--check", *words]) == 1
    assert table.main(words) == 0
    assert table.main(["--check", *words]) == 0
