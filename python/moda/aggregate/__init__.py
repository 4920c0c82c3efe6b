"""Numbers in, numbers out: the arithmetic of the gateway, with no I/O and no event loop.

A kernel takes arrays and returns arrays, so that whoever holds a million samples pays for
the arithmetic and not for a million Python objects. The two recorders (:class:`LatencyWindow`,
:class:`Histogram`) are what feeds them from a hot path: a fixed amount of memory, taken once,
and a few attribute reads per sample.

``benches/test_kernels_aggregate.py`` runs each beside a twin that computes the same another way.
"""

from __future__ import annotations

from moda.aggregate.histogram import Histogram, HistogramCounts
from moda.aggregate.percentiles import percentiles
from moda.aggregate.window import LatencyWindow

__all__ = [
    "Histogram",
    "HistogramCounts",
    "LatencyWindow",
    "percentiles",
]
