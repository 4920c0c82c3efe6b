"""What plain HTTP shows: the values the composition root hands to the door, and the shape of its
errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moda.message import ServiceStatus
from moda.serve.pages import App, Scope

if TYPE_CHECKING:
    from moda.serve.metrics import Exporter, HttpLatency

__all__ = ["API", "Face", "error_body", "request_id_of"]

API = "/api/v1"


@dataclass(frozen=True, slots=True)
class Face:
    """What plain HTTP shows.

    ``services`` are the probes' answers, asked per health request. ``exporter`` None: no
    ``/metrics``. ``latency`` records every request. ``pages`` are made when first asked for:
    path -> (body, media type). ``routes`` are Litestar handlers of capabilities. ``console`` is a
    folder, or None to leave ``/`` to ``mounted``. ``draining`` turns health to ``down``.
    """

    version: str
    services: Callable[[], Mapping[str, ServiceStatus]]
    draining: Callable[[], bool] = lambda: False
    exporter: Exporter | None = None
    latency: HttpLatency | None = None
    console: Path | None = None
    pages: Mapping[str, Callable[[], tuple[bytes, str]]] = field(default_factory=dict)
    routes: Sequence[Any] = ()
    mounted: App | None = None


def error_body(status: int, message: str, request_id: str, extra: Any = None) -> dict[str, Any]:
    """Our errors' one shape: ``{"error": {"status", "message", "request_id"[, "extra"]}}``."""
    error: dict[str, Any] = {"status": status, "message": message, "request_id": request_id}
    if extra is not None:
        error["extra"] = extra
    return {"error": error}


def request_id_of(scope: Scope) -> str:
    """The id the dispatcher gave a request, or "" for a scope it has not seen."""
    return str(scope.get("moda.request_id", ""))
