"""What the store counts, for ``/metrics`` and ``/health``, which read it and are not known here."""

from __future__ import annotations

from array import array
from collections.abc import Mapping

import numpy as np

from moda.errors import Busy, NoSpace, StoreError

__all__ = ["GAUGES", "LABELS", "StoreCounts"]

WINDOW = 1_024
"""Commits whose latency is remembered: about ten seconds under load."""

GAUGES = frozenset({"queue_items", "queue_bytes", "group_items", "commit_seconds", "degraded"})
"""Which of the numbers may fall."""

LABELS: Mapping[str, str] = {"failures": "reason", "commit_seconds": "quantile"}
"""The label of each number that has one."""


class StoreCounts:
    """Totals since the start, and the latencies of the last commits."""

    def __init__(self) -> None:
        self.groups = 0
        self.writes = 0
        self.bytes = 0
        self.refused = 0
        self.broken = 0
        self.queries = 0
        self.reconnects = 0
        self.failures = {"unavailable": 0, "no_space": 0}
        self._group_items = 0
        self._seconds = array("d")
        self._next = 0

    def committed(self, items: int, size: int, seconds: float) -> None:
        """One group is on disk."""
        self.groups += 1
        self.writes += items
        self.bytes += size
        self._group_items = items
        if len(self._seconds) < WINDOW:
            self._seconds.append(seconds)
        else:
            self._seconds[self._next] = seconds
            self._next = (self._next + 1) % WINDOW

    def failed(self, error: StoreError) -> None:
        """One group was not written."""
        if not isinstance(error, Busy):
            self.failures["no_space" if isinstance(error, NoSpace) else "unavailable"] += 1

    def read(self, waiting: tuple[int, int], degraded: bool) -> dict[str, float | dict[str, float]]:
        """All numbers, by the names of ``docs/metrics.md`` without their prefix."""
        quantiles: dict[str, float] = {}
        if self._seconds:
            p50, p99 = np.percentile(np.frombuffer(self._seconds), (50, 99)).tolist()
            quantiles = {"0.5": p50, "0.99": p99}
        return {
            "groups": self.groups,
            "writes": self.writes,
            "written_bytes": self.bytes,
            "writes_refused": self.refused,
            "writes_broken": self.broken,
            "queries": self.queries,
            "reconnects": self.reconnects,
            "failures": dict(self.failures),
            "queue_items": waiting[0],
            "queue_bytes": waiting[1],
            "group_items": self._group_items,
            "commit_seconds": quantiles,
            "degraded": float(degraded),
        }
