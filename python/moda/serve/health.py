"""What ``/health`` says: the gateway's own state and one line per service.

Pure. ``ok`` and ``degraded`` answer 200: the gateway serves what it can, and a balancer that took
every instance out because the one database they share is down would make it worse. ``down``
answers 503: this instance is leaving, send nobody here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from moda.message import ServiceStatus

__all__ = ["Health", "ServiceHealth", "health_of"]

Overall = Literal["ok", "degraded", "down"]


class ServiceHealth(msgspec.Struct, frozen=True):
    """One service: ``up``, ``simulated``, ``degraded`` or ``down``, and whatever its probe adds."""

    status: str
    detail: dict[str, Any]


class Health(msgspec.Struct, frozen=True):
    """The state of this instance.

    ``uptime_seconds`` since the start, ``timestamp`` in ISO 8601, UTC.
    """

    status: Overall
    version: str
    uptime_seconds: float
    timestamp: str
    services: dict[str, ServiceHealth]


def health_of(
    services: Mapping[str, ServiceStatus],
    *,
    draining: bool,
    version: str,
    uptime: float,
    timestamp: str,
) -> Health:
    """Joins the services' states.

    ``down`` only while draining: a dead dependency degrades, it does not stop us.
    """
    overall: Overall = "ok"
    if draining:
        overall = "down"
    elif any(service.status in ("down", "degraded") for service in services.values()):
        overall = "degraded"
    return Health(
        overall,
        version,
        round(uptime, 3),
        timestamp,
        {name: ServiceHealth(service.status, service.detail) for name, service in services.items()},
    )
