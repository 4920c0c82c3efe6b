"""The kernels of ``moda.aggregate`` beside twins that compute the same another way.

Run with ``pytest benches/test_kernels_aggregate.py --benchmark-group-by=group``. Every bench
asserts that both twins agree, so a fast wrong answer does not count. Each group of a recorder
takes 1,000 samples per round: divide by 1,000 for the cost of one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moda.aggregate import Histogram, LatencyWindow, percentiles

PERCENTS = (50, 95, 99)
RNG = np.random.default_rng(7)
BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

Bench = Callable[..., Any]


def percentiles_twin(samples: list[float], percents: tuple[int, ...]) -> list[float]:
    ordered = sorted(samples)
    return [ordered[max(ceil(Fraction(p) * len(ordered) / 100), 1) - 1] for p in percents]


def bucket_percentiles_twin(
    bounds: NDArray[np.float64], cumulative: NDArray[np.float64], percents: tuple[int, ...]
) -> NDArray[np.float64]:
    """The other way round: the one in numpy, which a dozen buckets are too few for."""
    ranks = np.asarray(percents, dtype=np.float64) * cumulative[-1] / 100
    edges = np.concatenate(([0.0], bounds))
    heights = np.concatenate(([0.0], cumulative[:-1]))
    found = np.searchsorted(cumulative[:-1], ranks, side="left")
    bucket = np.minimum(found, bounds.shape[0] - 1)
    width = np.maximum(heights[bucket + 1] - heights[bucket], 1e-300)
    share = np.where(found < bounds.shape[0], (ranks - heights[bucket]) / width, 1.0)
    return np.asarray(edges[bucket] + (edges[bucket + 1] - edges[bucket]) * share)


@pytest.mark.parametrize("n", [100, 4096, 100_000])
@pytest.mark.parametrize("kind", ["numpy", "python"])
def test_percentiles_of_a_window(benchmark: Bench, n: int, kind: str) -> None:
    benchmark.group = f"percentiles, {n} samples"  # type: ignore[attr-defined]
    samples = RNG.lognormal(2.0, 1.0, n)
    as_list = samples.tolist()
    expected = percentiles_twin(as_list, PERCENTS)
    if kind == "numpy":
        got = benchmark(percentiles, samples, PERCENTS).tolist()
    else:
        got = benchmark(percentiles_twin, as_list, PERCENTS)
    assert got == expected


@pytest.mark.parametrize("kind", ["numpy", "python"])
def test_percentiles_of_a_histogram(benchmark: Bench, kind: str) -> None:
    benchmark.group = "histogram percentiles, 12 buckets"  # type: ignore[attr-defined]
    histogram = Histogram(BOUNDS)
    for seconds in RNG.lognormal(-4.0, 1.5, 10_000).tolist():
        histogram.observe(seconds)
    counts = histogram.counts()
    bounds, cumulative = np.array(BOUNDS), np.array(counts.cumulative, dtype=np.float64)
    expected = bucket_percentiles_twin(bounds, cumulative, PERCENTS).tolist()
    if kind == "numpy":
        got = benchmark(bucket_percentiles_twin, bounds, cumulative, PERCENTS).tolist()
    else:
        got = benchmark(counts.percentiles, PERCENTS)
    assert got == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["ring", "deque", "numpy stores"])
def test_recording_a_thousand_samples(benchmark: Bench, kind: str) -> None:
    """The ring, beside a deque of tuples and the same ring stored to without memoryviews."""
    benchmark.group = "record 1,000 samples"  # type: ignore[attr-defined]
    samples = RNG.lognormal(2.0, 1.0, 1000).tolist()
    window = LatencyWindow(4096)
    queue: deque[tuple[float, float]] = deque(maxlen=4096)
    values, times = np.zeros(4096), np.zeros(4096)
    total = 0

    def ring() -> None:
        record = window.record
        for value in samples:
            record(value, 1.0)

    def queued() -> None:
        append = queue.append
        for value in samples:
            append((value, 1.0))

    def store(value: float, at: float) -> None:
        nonlocal total
        values[total & 4095] = value
        times[total & 4095] = at
        total += 1

    def stores() -> None:
        for value in samples:
            store(value, 1.0)

    benchmark({"ring": ring, "deque": queued, "numpy stores": stores}[kind])
    kept: dict[str, list[float]] = {
        "ring": window.samples().tolist(),
        "deque": [value for value, _ in queue],
        "numpy stores": values[:total].tolist(),
    }
    assert set(kept[kind]) == set(samples)


def test_observing_a_thousand_samples_in_a_histogram(benchmark: Bench) -> None:
    benchmark.group = "observe 1,000 samples"  # type: ignore[attr-defined]
    samples = RNG.lognormal(-4.0, 1.5, 1000).tolist()
    rounds = 0
    histogram = Histogram(BOUNDS)

    def observe() -> None:
        nonlocal rounds
        rounds += 1
        for value in samples:
            histogram.observe(value)

    benchmark(observe)
    assert histogram.counts().count == 1000 * rounds


def test_asking_a_full_window_for_its_tail(benchmark: Bench) -> None:
    """What a telemetry tick pays per window: mask by time, copy, partial sort."""
    benchmark.group = "window of 4,096, half of it recent"  # type: ignore[attr-defined]
    window = LatencyWindow(4096)
    for at, value in enumerate(RNG.lognormal(2.0, 1.0, 4096).tolist()):
        window.record(value, float(at))
    found = benchmark(window.percentiles, PERCENTS, 2048.0)
    assert found.tolist() == percentiles_twin(window.samples(2048.0).tolist(), PERCENTS)
