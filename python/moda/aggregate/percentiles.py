"""Percentiles of a window of samples, by nearest rank.

There are nine definitions in use for the percentile of a sample (R. J. Hyndman and Y. Fan,
"Sample Quantiles in Statistical Packages", The American Statistician 50 (4), 1996). This is
their type 1, the inverse of the empirical distribution, which textbooks call *nearest rank*: the
smallest sample that at least p percent of the samples do not exceed.

Why this one and not numpy's default (type 7, linear interpolation): the window is a few
seconds of requests, often a dozen, and its tail is what the chart is for. Of nine requests at
10 ms and one at 1,000 ms, linear interpolation reports p95 = 554.5 ms, a time no request ever
took, and the figure moves with the size of the window. Nearest rank reports 1,000 ms, a time
somebody waited. It is also the cheaper one: one partial sort, no arithmetic on the samples, so
the result is one of the inputs bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

__all__ = ["percentiles"]

_SLACK = 1e-9
"""What binary rounding may add to ``p * n / 100`` without starting a new rank.

A percentage with up to three decimals gives ranks in steps of 1e-5, far above it.
"""


def percentiles(samples: NDArray[np.float64], percents: Sequence[float]) -> NDArray[np.float64]:
    """The nearest-rank percentiles of ``samples``, in the order asked.

    ``samples``: shape (n,), any order, finite, left untouched. ``percents``: each above 0 and at
    most 100; 100 is the maximum. Returns shape (len(percents),), all NaN when ``samples`` is
    empty. O(n): one introselect for all ranks. ValueError for a percentage out of range.

    >>> percentiles(np.array([15.0, 20.0, 35.0, 40.0, 50.0]), (30, 40, 50, 100)).tolist()
    [20.0, 20.0, 35.0, 50.0]
    """
    for percent in percents:
        if not 0 < percent <= 100:
            raise ValueError(
                f"a percentile takes a percentage above 0 and up to 100, got {percent}"
            )
    n = samples.shape[0]
    if n == 0:
        return np.full(len(percents), np.nan)
    ranks = [max(ceil(percent * n / 100 - _SLACK), 1) - 1 for percent in percents]
    ordered = np.partition(samples, sorted(set(ranks)))
    return ordered[ranks]
