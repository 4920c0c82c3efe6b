"""What is counted beside the hub: who was turned away before the upgrade, connections that a failure
of ours ended, and what a capability counts of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["CapabilityCounts", "DoorCounts"]

REFUSALS = (
    "full", "sockets", "shed", "address_connections", "address_rate", "shutting_down",
    "connect_timeout", "connect_failed", "connect", "head",
    "head_timeout", "head_too_large", "body_timeout", "tls", "upgrade", "method", "query", "origin", "auth_token",
    "subprotocol", "token", "token_undecided", "vsn",
)  # fmt: skip
FAILURES = ("listener_failed",)


class DoorCounts(Collector):
    """Two counters by reason. Reasons known beforehand are there at zero: a counter that first
    appears at 1 loses its first increase in a rate.
    """

    def __init__(self) -> None:
        self.refusals = dict.fromkeys(REFUSALS, 0)
        self.parse_errors = dict.fromkeys(FAILURES, 0)

    def refused(self, reason: str) -> None:
        """One request turned away before its upgrade."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def unparsed(self, reason: str) -> None:
        """One connection that ended for a failure of ours."""
        self.parse_errors[reason] = self.parse_errors.get(reason, 0) + 1

    def describe(self) -> Iterator[Metric]:
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        yield _family("moda_refusals", "Requests turned away before the upgrade", self.refusals)
        yield _family(
            "moda_parse_errors",
            "Connections that a failure of ours ended",
            self.parse_errors,
        )


class CapabilityCounts(Collector):
    """A capability's own numbers under a prefix: name -> value, or name -> {label value -> value}.

    ``gauges`` names those that may fall; the others are totals. ``labels`` names the label of each
    that has one.
    """

    def __init__(
        self,
        prefix: str,
        read: Callable[[], Mapping[str, float | dict[str, float]]],
        gauges: frozenset[str],
        labels: Mapping[str, str],
    ) -> None:
        self._prefix = prefix
        self._read = read
        self._gauges = gauges
        self._labels = labels

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        for name, value in sorted(self._read().items()):
            make = GaugeMetricFamily if name in self._gauges else CounterMetricFamily
            about = f"{self._prefix.removeprefix('moda_')}: {name.replace('_', ' ')}"
            if isinstance(value, dict):
                family = make(
                    f"{self._prefix}_{name}", about, labels=(self._labels.get(name, "kind"),)
                )
                for label, count in sorted(value.items()):
                    family.add_metric((label,), count)
            else:
                family = make(f"{self._prefix}_{name}", about)
                family.add_metric((), value)
            yield family


def _family(name: str, about: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, about, labels=("reason",))
    for reason, count in sorted(values.items()):
        family.add_metric((reason,), count)
    return family
