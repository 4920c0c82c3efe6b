"""The page of ``/metrics`` as text, whatever its parts or its reader get wrong.

A monitoring page that answers 500 blinds its operator when something is wrong already. So what fails
here fails by itself: a collector that raises (an application's, or one that met an odd file of
``/proc``) takes out its own metrics, a sample that cannot be written takes out its family, and a
format nobody speaks is answered with the default one. Each is logged once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

__all__ = ["Encode", "Registry", "Tried", "encoded", "encoder_for"]

T = TypeVar("T")
Encode = Callable[[Collector], bytes]

_log = structlog.get_logger("moda.metrics")

MAX_TOLD = 200
"""Names of failures remembered. They are names of code; an application could make some up."""

_VERSIONS = frozenset(("", "0.0.1", "0.0.4", "1.0.0"))
"""Of either format, as far as any reader asks for them."""

_FORMATS = frozenset(("text/plain", "application/openmetrics-text"))
_REFUSED = re.compile(r"0(\.0{0,3})?")


class Tried:
    """Takes readings that may fail, and says once of each that it did."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def get(self, name: str, read: Callable[[], T]) -> T | None:
        """What ``read`` returns, or None if it raised."""
        try:
            return read()
        except Exception as error:
            if name not in self._told and len(self._told) < MAX_TOLD:
                self._told.add(name)
                _log.warning("metrics.left_out", what=name, exc_info=error)
            return None


class Registry(CollectorRegistry):
    """A registry whose collectors cannot take the page, or each other, with them."""

    def __init__(self, tried: Tried) -> None:
        super().__init__()
        self._tried = tried
        self._in_order: dict[Collector, None] = {}

    def register(self, collector: Collector) -> None:
        super().register(collector)
        self._in_order[collector] = None

    def unregister(self, collector: Collector) -> None:
        super().unregister(collector)
        self._in_order.pop(collector, None)

    def collect(self) -> Iterator[Metric]:
        for collector in list(self._in_order):
            name = type(collector).__name__
            yield from self._tried.get(name, partial(_collected, collector)) or ()


def _collected(collector: Collector) -> list[Metric]:
    return list(collector.collect())


class _Given(Collector):
    """Metrics that were collected before."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def encoded(encode: Encode, registry: Collector, tried: Tried) -> bytes:
    """The page of a registry: without the families that cannot be written, should there be any."""
    metrics = list(registry.collect())
    try:
        return encode(_Given(metrics))
    except Exception:
        # One by one only now: it is rare, and costs a page for each family.
        kept = [
            metric
            for metric in metrics
            if tried.get(metric.name, partial(encode, _Given([metric]))) is not None
        ]
        return encode(_Given(kept))


def encoder_for(accept: str) -> tuple[Encode, str]:
    """The format an ``Accept`` header asks for and its content type; text 0.0.4 for anything else.

    >>> encoder_for("text/plain;version=x")[1]
    'text/plain; version=0.0.4; charset=utf-8'
    """
    # The library compares versions as numbers, raises on others, and repeats in the answer whatever
    # it took for one: it gets the ranges it can answer, in plain words.
    ranges = [plain for item in accept.split(",") if (plain := _plain_range(item))]
    encode, content_type = choose_encoder(",".join(ranges))
    return encode, content_type


def _plain_range(item: str) -> str:
    """One media range as the library reads it, or "" if it is none that can be answered."""
    kind, *rest = (part.strip() for part in item.split(";"))
    given: dict[str, str] = {}
    for part in rest:
        name, _, value = part.partition("=")
        given.setdefault(name.strip().lower(), value.strip().strip('"').lower())
    version = given.get("version", "")
    if kind.lower() not in _FORMATS or version not in _VERSIONS:
        return ""
    if _REFUSED.fullmatch(given.get("q", "1")):
        return ""
    known = [kind.lower()]
    known += [f"{name}={given[name]}" for name in ("version", "escaping") if given.get(name)]
    return ";".join(known)
