"""Nearest rank, compared with the definition in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.aggregate import percentiles

finite = st.floats(allow_nan=False, allow_infinity=False)
samples = st.lists(finite, min_size=1, max_size=300)
thousandths = st.integers(1, 100_000)


def nearest_rank(values: list[float], percent: Fraction) -> float:
    """The definition: the smallest sample that at least this share does not exceed."""
    ordered = sorted(values)
    return ordered[max(ceil(percent * len(ordered) / 100), 1) - 1]


@given(samples, st.lists(thousandths, min_size=1, max_size=6))
def test_every_percentile_is_the_sample_of_its_exact_rank(
    values: list[float], wanted: list[int]
) -> None:
    expected = [nearest_rank(values, Fraction(n, 1000)) for n in wanted]
    got = percentiles(np.array(values), [n / 1000 for n in wanted])
    assert got.tolist() == expected


@given(st.integers(1, 5000), thousandths)
def test_binary_rounding_of_a_percentage_never_moves_the_rank(n: int, thousandth: int) -> None:
    exact = max(ceil(Fraction(thousandth, 1000) * n / 100), 1) - 1
    got = percentiles(np.arange(n, dtype=np.float64), [thousandth / 1000])
    assert got.tolist() == [float(exact)]


@given(samples)
def test_at_least_the_share_asked_for_does_not_exceed_the_percentile(values: list[float]) -> None:
    array = np.array(values)
    for percent, found in zip((50, 95, 99), percentiles(array, (50, 95, 99)), strict=True):
        assert np.count_nonzero(array <= found) * 100 >= percent * len(values)
        assert np.count_nonzero(array < found) * 100 < percent * len(values)


@given(samples)
def test_it_agrees_with_numpys_inverted_cdf(values: list[float]) -> None:
    array = np.array(values)
    expected = np.percentile(array, [25, 50, 75, 100], method="inverted_cdf")
    assert percentiles(array, (25, 50, 75, 100)).tolist() == expected.tolist()


def test_the_tail_of_a_small_window_is_a_time_somebody_waited() -> None:
    array = np.array([10.0] * 9 + [1000.0])
    assert percentiles(array, (50, 95)).tolist() == [10.0, 1000.0]
    assert np.percentile(array, 95) == pytest.approx(554.5)


def test_results_come_in_the_order_asked_and_may_repeat() -> None:
    array = np.array([3.0, 1.0, 2.0])
    assert percentiles(array, (100, 1, 100, 50)).tolist() == [3.0, 1.0, 3.0, 2.0]


def test_the_samples_are_left_as_they_were() -> None:
    array = np.array([3.0, 1.0, 2.0])
    percentiles(array, (50,))
    assert array.tolist() == [3.0, 1.0, 2.0]


def test_no_samples_give_nan_for_every_percentile() -> None:
    assert np.isnan(percentiles(np.array([]), (50, 95))).tolist() == [True, True]


@pytest.mark.parametrize("percent", [0, -1, 100.001, float("nan")])
def test_a_percentage_out_of_range_is_refused_with_the_range(percent: float) -> None:
    with pytest.raises(ValueError, match=r"above 0 and up to 100, got"):
        percentiles(np.array([1.0]), (percent,))
