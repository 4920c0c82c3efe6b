"""What plain HTTP shows: the values the composition root hands to the door, and the shape of its
errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from moda.message import ServiceStatus
from moda.serve.pages import App, Scope

if TYPE_CHECKING:
    from moda.serve.metrics import Exporter, HttpLatency

__all__ = ["API", "Face", "Site", "SiteAnswer", "error_body", "request_id_of"]

API = "/api/v1"


class SiteAnswer(Protocol):
    """An answer to a GET: all its headers but the length, in lower case."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


class Site(Protocol):
    """Pages that know their own paths and their own caching."""

    @property
    def paths(self) -> Sequence[str]: ...

    def answer(self, path: str, query: str, if_none_match: str) -> SiteAnswer | None:
        """None for a path that is not one of :attr:`paths`. Quick: it runs on the loop."""
        ...


@dataclass(frozen=True, slots=True)
class Face:
    """What plain HTTP shows.

    ``services`` are the probes' answers, asked per health request. ``exporter`` None: no
    ``/metrics``. ``latency`` records every request. ``sites`` answer for paths of their own
    (``/asyncapi``). ``routes`` are Litestar handlers of capabilities. ``console`` is a
    folder, or None to leave ``/`` to ``mounted``. ``draining`` turns health to ``down``. ``hosts``
    are the gateway's public names. ``middleware`` is Litestar's, around the API alone.
    """

    version: str
    services: Callable[[], Mapping[str, ServiceStatus]]
    draining: Callable[[], bool] = lambda: False
    exporter: Exporter | None = None
    latency: HttpLatency | None = None
    console: Path | None = None
    sites: Sequence[Site] = ()
    routes: Sequence[Any] = ()
    mounted: App | None = None
    hosts: Sequence[str] = ()
    middleware: Sequence[Any] = ()


def error_body(status: int, message: str, request_id: str, extra: Any = None) -> dict[str, Any]:
    """Our errors' one shape: ``{"error": {"status", "code", "message", "request_id"}}``.

    ``extra`` with a ``code`` of its own adds its members to these (``received``, ``accepted``);
    any other stands under ``extra``.

    >>> error_body(404, "nothing is served at /x", "1")["error"]["code"]
    'not_found'
    """
    code = HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")
    error: dict[str, Any] = {
        "status": status,
        "code": code,
        "message": message,
        "request_id": request_id,
    }
    if isinstance(extra, Mapping) and "code" in extra:
        error.update(extra)
    elif extra is not None:
        error["extra"] = extra
    return {"error": error}


def request_id_of(scope: Scope) -> str:
    """The id the dispatcher gave a request, or "" for a scope it has not seen."""
    return str(scope.get("moda.request_id", ""))
