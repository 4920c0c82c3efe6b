"""Buckets, compared with counting the samples one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.aggregate import Histogram, HistogramCounts

BOUNDS = (0.1, 0.5, 1.0, 10.0)
samples = st.lists(st.floats(0, 20, allow_nan=False), max_size=200)
percents = st.lists(st.floats(0.001, 100, allow_nan=False), min_size=1, max_size=5)


def histogram_of(values: list[float]) -> Histogram:
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    return histogram


@given(samples)
def test_each_count_is_of_the_samples_not_above_its_bound(values: list[float]) -> None:
    counts = histogram_of(values).counts()
    expected = [sum(value <= bound for value in values) for bound in BOUNDS]
    assert counts.cumulative == (*expected, len(values))
    assert counts.count == len(values)
    assert counts.sum == pytest.approx(sum(values))


@given(samples, samples)
def test_the_difference_of_two_snapshots_is_the_samples_between_them(
    first: list[float], then: list[float]
) -> None:
    histogram = histogram_of(first)
    before = histogram.counts()
    for value in then:
        histogram.observe(value)
    between = histogram.counts().since(before)
    assert between.cumulative == histogram_of(then).counts().cumulative
    assert between.sum == pytest.approx(sum(then), abs=1e-9)


def test_without_an_earlier_snapshot_everything_came_since() -> None:
    counts = histogram_of([0.2]).counts()
    assert counts.since(None) is counts


def test_a_count_that_went_down_is_a_counter_that_was_reset() -> None:
    before = histogram_of([0.2, 0.3, 0.4]).counts()
    now = histogram_of([0.7]).counts()
    assert now.since(before) is now


def test_other_bounds_are_another_histogram() -> None:
    now = histogram_of([0.7]).counts()
    assert now.since(HistogramCounts((1.0,), (0, 0), 0.0)) is now


@given(st.lists(st.floats(0, 10), min_size=1, max_size=200), percents)
def test_a_percentile_lies_in_the_bucket_of_the_sample_it_stands_for(
    values: list[float], wanted: list[float]
) -> None:
    found = histogram_of(values).counts().percentiles(wanted)
    assert found is not None
    ordered = sorted(values)
    edges = (0.0, *BOUNDS)
    for percent, value in zip(wanted, found, strict=True):
        rank = percent * len(values) / 100
        sample = ordered[max(-int(-rank // 1), 1) - 1]
        bucket = next(i for i, bound in enumerate(BOUNDS) if sample <= bound)
        assert edges[bucket] <= value <= edges[bucket + 1]


@given(samples.filter(bool), percents)
def test_percentiles_never_fall_as_the_percentage_rises(
    values: list[float], wanted: list[float]
) -> None:
    found = histogram_of(values).counts().percentiles(sorted(wanted))
    assert found is not None
    assert list(found) == sorted(found)


def test_samples_are_taken_to_be_spread_evenly_over_their_bucket() -> None:
    counts = HistogramCounts((1.0, 3.0), (50, 100, 100), 90.0)
    assert counts.percentiles((25, 50, 75, 100)) == (0.5, 1.0, 2.0, 3.0)


def test_an_empty_bucket_is_stepped_over() -> None:
    counts = HistogramCounts((1.0, 2.0, 4.0), (10, 10, 20, 20), 40.0)
    assert counts.percentiles((50, 75)) == (1.0, 3.0)


def test_what_lies_above_the_last_bound_is_reported_as_that_bound() -> None:
    assert histogram_of([50.0]).counts().percentiles((50, 99)) == (10.0, 10.0)


def test_nothing_counted_has_no_percentiles() -> None:
    assert histogram_of([]).counts().percentiles((50,)) is None


@pytest.mark.parametrize("percent", [0, 101])
def test_a_percentage_out_of_range_is_refused_with_the_range(percent: float) -> None:
    with pytest.raises(ValueError, match=f"above 0 and up to 100, got {percent}"):
        histogram_of([1.0]).counts().percentiles((percent,))


@pytest.mark.parametrize("bounds", [(), (1.0, 1.0), (2.0, 1.0), (1.0, float("inf"))])
def test_bounds_that_are_no_ladder_are_refused(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="strictly ascending, finite upper bounds, got"):
        Histogram(bounds)


def test_counts_that_do_not_fit_their_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 bounds take 3 cumulative counts .* got 2"):
        HistogramCounts((1.0, 2.0), (1, 2), 0.0)
