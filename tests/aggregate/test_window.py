"""The ring, compared with a list that forgets nothing."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.aggregate import LatencyWindow

values = st.lists(st.floats(0, 1e6, allow_nan=False), max_size=100)


@given(values, st.integers(1, 40), st.integers(-5, 105))
def test_it_keeps_the_newest_samples_and_answers_for_the_span_asked(
    recorded: list[float], capacity: int, since: int
) -> None:
    window = LatencyWindow(capacity)
    for at, value in enumerate(recorded):
        window.record(value, float(at))
    newest = list(enumerate(recorded))[-window.capacity :]
    expected = Counter(value for at, value in newest if at >= since)
    assert Counter(window.samples(float(since)).tolist()) == expected
    assert window.total == len(recorded)


@pytest.mark.parametrize(("asked", "kept"), [(1, 1), (2, 2), (3, 4), (4096, 4096), (4097, 8192)])
def test_the_capacity_is_rounded_up_to_a_power_of_two(asked: int, kept: int) -> None:
    assert LatencyWindow(asked).capacity == kept


def test_its_memory_does_not_grow_with_what_is_recorded() -> None:
    window = LatencyWindow(8)
    before = window.samples().base
    for n in range(1000):
        window.record(float(n), float(n))
    assert window.samples().shape == (8,)
    assert before is None or before.nbytes == 64


def test_percentiles_are_of_the_span_asked_for() -> None:
    window = LatencyWindow()
    for at, ms in enumerate((900.0, 800.0, 10.0, 20.0)):
        window.record(ms, float(at))
    found = window.percentiles((50, 100), since=2.0)
    assert found is not None
    assert found.tolist() == [10.0, 20.0]


def test_a_span_without_samples_has_no_percentiles() -> None:
    window = LatencyWindow()
    assert window.percentiles((50,)) is None
    window.record(5.0, 1.0)
    assert window.percentiles((50,), since=2.0) is None


def test_what_was_handed_out_is_a_copy() -> None:
    window = LatencyWindow(2)
    window.record(1.0, 0.0)
    window.record(2.0, 0.0)
    handed_out = window.samples()
    window.record(3.0, 0.0)
    assert handed_out.tolist() == [1.0, 2.0]


def test_a_window_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 sample, got a capacity of 0"):
        LatencyWindow(0)
