"""moda's own HTTP API: health, metrics, the OpenAPI document and its page, and what capabilities
add.
"""

# No postponed annotations here: Litestar reads those of the handlers, which name local types.

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import structlog
from litestar import Litestar, Request, Response, get
from litestar.enums import MediaType
from litestar.exceptions import HTTPException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin

from moda.serve.docs import render_docs
from moda.serve.face import API, Face, error_body, request_id_of
from moda.serve.health import Health, health_of
from moda.serve.pages import Scope

__all__ = ["litestar_app"]

_log = structlog.get_logger("moda.http")


class DocsPage(OpenAPIRenderPlugin):
    """The OpenAPI document as a page of our own making, with the way to the other pages."""

    def __init__(self, *, path: str, links: Sequence[tuple[str, str]]) -> None:
        super().__init__(path=path)
        self._links = links

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        document = msgspec.json.decode(self.render_json(request, openapi_schema))
        return render_docs(
            document,
            style_url=f"{API}/docs.css",
            json_url=f"{API}/openapi.json",
            icon_url=f"{API}/docs.svg",
            links=self._links,
        )


def litestar_app(face: Face) -> Litestar:
    """The application behind :data:`~moda.serve.face.API`, ``/health`` and ``/metrics``."""
    started = time.monotonic()

    @get(
        ["/health", f"{API}/health"],
        tags=["operation"],
        summary="The state of this instance and of its services",
        description="200 while ok or degraded, 503 while it drains.",
        response_description="The state: ok or degraded, with a line for each service",
        responses={503: ResponseSpec(Health, description="The state: down, it drains")},
    )
    async def health() -> Response[Health]:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        state = health_of(
            face.services(),
            draining=face.draining(),
            version=face.version,
            uptime=time.monotonic() - started,
            timestamp=now,
        )
        return Response(
            state,
            status_code=503 if state.status == "down" else 200,
            headers={"cache-control": "no-store"},
        )

    handlers: list[Any] = [health, *face.routes]
    exporter = face.exporter
    if exporter is not None:

        @get(
            "/metrics",
            tags=["operation"],
            summary="Counters in the Prometheus text format",
            media_type=MediaType.TEXT,
            response_description="One sample a line",
        )
        async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
            body, content_type = await exporter.scrape(request.headers.get("accept", ""))
            return Response(
                body, headers={"content-type": content_type, "cache-control": "no-store"}
            )

        handlers.append(metrics)

    links = [("Console", "/")] if face.console is not None else []
    if any("/asyncapi" in site.paths for site in face.sites):
        links.append(("WebSocket API", "/asyncapi"))

    def http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
        extra = error.extra if isinstance(error.extra, list | dict) and error.extra else None
        return Response(
            error_body(
                error.status_code, error.detail, request_id_of(cast(Scope, request.scope)), extra
            ),
            status_code=error.status_code,
            headers=error.headers,
            media_type=MediaType.JSON,
        )

    def crash(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
        _log.exception("http.failed", path=request.scope["path"], exc_info=error)
        return Response(
            error_body(500, "internal error", request_id_of(cast(Scope, request.scope))),
            status_code=500,
            media_type=MediaType.JSON,
        )

    return Litestar(
        route_handlers=handlers,
        middleware=list(face.middleware),
        exception_handlers={HTTPException: http_error, Exception: crash},
        openapi_config=OpenAPIConfig(
            title="moda HTTP API",
            version=face.version,
            description="Health, metrics and what capabilities add.",
            path=API,
            render_plugins=[
                JsonRenderPlugin(path="/openapi.json", media_type=MediaType.JSON),
                DocsPage(path="/docs", links=links),
            ],
        ),
        logging_config=None,
        debug=False,
    )
