"""Plain HTTP: who answers which path, and what every answer carries.

In this order: a page held in memory (console, docs), a site (AsyncAPI), moda's own API (Litestar);
the application the operator mounted; else 404. A mounted application gets every path moda does not
serve, and its lifespan events; moda adds a request id to its answers and nothing else.

On a loopback address moda's own pages but ``/health`` answer under names that are its own only
(:mod:`moda.serve.rebinding`); what a mounted application shows to whom is its own affair.

Errors of our own are JSON: ``{"error": {"status", "code", "message", "request_id"}}``, and what helps
to correct it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import structlog
from structlog.contextvars import bind_contextvars

from moda.serve.api import litestar_app
from moda.serve.docs import ICON, STYLE
from moda.serve.face import API, Face, Site, error_body, request_id_of
from moda.serve.pages import (
    SECURITY_HEADERS,
    App,
    Message,
    Page,
    Receive,
    Scope,
    Send,
    console_missing,
    load_files,
    page_of_file,
    serve_page,
)
from moda.serve.rebinding import OwnNames
from moda.wire.sent import remember

__all__ = ["build_face"]

_OPEN_TO_ALL = frozenset({"/health", f"{API}/health"})
"""Balancers probe it under any name, and it says nothing a stranger has a use for."""

_FOREIGN = (
    "this gateway is not known under the name in the Host header; on a loopback address it answers "
    "to localhost, to IP addresses and to the names in MODA_PUBLIC_URL and PHX_HOST"
)

_log = structlog.get_logger("moda.http")

_LITESTAR_404 = f"{API}/{{path:str}}"
"""A page of Litestar's for wrong addresses below its documents; ours says the same in JSON."""

_GET_ONLY = Page.of(b"", "text/plain")
_ID = re.compile(rb"[A-Za-z0-9._\-]{1,64}")


def build_face(face: Face) -> App:
    """The one ASGI application of the port."""
    app: App = _Dispatcher(face)
    if face.latency is not None:
        from moda.serve.metrics import MeasuredApp

        app = MeasuredApp(app, face.latency)
    return app


class _Ids:
    """Request ids: eight random bytes per process and a counter.

    One of ours is never mistaken for another's.
    """

    __slots__ = ("_count", "_prefix")

    def __init__(self) -> None:
        self._prefix = os.urandom(5).hex()
        self._count = 0

    def next(self) -> str:
        self._count += 1
        return f"{self._prefix}-{self._count:x}"


class _Dispatcher:
    """See the head of this file."""

    def __init__(self, face: Face) -> None:
        self._mounted = face.mounted
        self._names = OwnNames(face.hosts)
        self._litestar: App = litestar_app(face)  # type: ignore[assignment]  # its scope type is its own
        self._ids = _Ids()
        self._makers: dict[str, Callable[[], Page]] = {
            f"{API}/docs.css": lambda: Page.of(STYLE.encode(), "text/css; charset=utf-8"),
            f"{API}/docs.svg": lambda: Page.of(ICON.encode(), "image/svg+xml"),
        }
        self._sites = {path: site for site in face.sites for path in site.paths}
        if face.console is not None:
            files = load_files(face.console)
            for path, file in files.items():
                self._makers.setdefault(path, _file_maker(file))
            if not files:
                self._makers.setdefault("/", _missing_maker(face.console))
        self._made: dict[str, Page] = {}
        exact, patterns = own_paths(self._litestar)
        self._exact = exact
        self._patterns = patterns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif self._mounted is None or self._ours(scope["path"]):
            await send({"type": "websocket.close"})  # before it is accepted: a 403
        else:
            await self._mounted(scope, receive, send)

    def _ours(self, path: str) -> bool:
        return path in self._makers or path in self._sites or self._of_api(path)

    def _of_api(self, path: str) -> bool:
        return path in self._exact or any(pattern.fullmatch(path) for pattern in self._patterns)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Our own start and stop are the server's; these events are the mounted application's."""
        if self._mounted is not None:
            await self._mounted(scope, receive, send)
            return
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = self._identify(scope)
        bind_contextvars(request_id=request_id)
        remember(scope["headers"], scope["query_string"])
        path: str = scope["path"]
        found = routed(scope)
        started = False
        ours = True

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = dressed(message.get("headers", ()), request_id, ours)
            await send(message)

        try:
            if self._names.is_foreign(scope.get("server"), scope["headers"]) and (
                path not in _OPEN_TO_ALL and (self._ours(path) or self._of_api(found))
            ):
                await send_error(sending, 421, _FOREIGN, request_id)
            elif path in self._makers:
                scope["path_template"] = path
                await serve_page(self._page(path), scope, sending)
            elif path in self._sites:
                scope["path_template"] = path
                await serve_site(self._sites[path], scope, sending)
            elif self._of_api(found):
                await answer(self._litestar, scope, found, receive, sending)
            elif self._mounted is not None:
                ours = False
                await self._mounted(scope, receive, sending)
            else:
                await send_error(sending, 404, f"nothing is served at {path}", request_id)
        except Exception:
            if started:
                raise
            _log.exception("http.failed", path=path)
            await send_error(sending, 500, "internal error", request_id)

    def _identify(self, scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _ID.fullmatch(value):
                request_id = value.decode("ascii")
                break
        else:
            request_id = self._ids.next()
        scope["moda.request_id"] = request_id
        return str(request_id)

    def _page(self, path: str) -> Page:
        page = self._made.get(path)
        if page is None:
            page = self._made[path] = self._makers[path]()
        return page


def _file_maker(file: Path) -> Callable[[], Page]:
    return lambda: page_of_file(file)


def _missing_maker(folder: Path) -> Callable[[], Page]:
    return lambda: console_missing(folder)


def own_paths(app: Any) -> tuple[frozenset[str], tuple[re.Pattern[str], ...]]:
    """The paths Litestar has handlers for: plain ones, and expressions where parameters are."""
    exact: set[str] = set()
    patterns: list[re.Pattern[str]] = []
    for route in app.routes:
        if route.path == _LITESTAR_404:
            continue
        parts = [
            re.escape(part) if isinstance(part, str) else (".+" if part.type is Path else "[^/]+")
            for part in route.path_components
        ]
        if all(isinstance(part, str) for part in route.path_components):
            exact.add(route.path)
        else:
            patterns.append(re.compile("/" + "/".join(parts)))
    return frozenset(exact), tuple(patterns)


def routed(scope: Scope) -> str:
    """The path by which a handler of ours is found. A ``%2F`` in it is part of a name (a topic's) and
    no separator; the handler reads that name from ``raw_path``.
    """
    raw = scope.get("raw_path") or b""
    if b"%2f" not in raw.lower():
        return str(scope["path"])
    kept = re.sub(rb"%2f", b"%252F", raw, flags=re.IGNORECASE)
    return unquote(kept.decode("latin-1"))


def dressed(
    headers: Sequence[tuple[bytes, bytes]], request_id: str, ours: bool
) -> list[tuple[bytes, bytes]]:
    """An answer's headers with the request id and, on our own answers, the security headers they
    lack.
    """
    result = list(headers)
    present = {name.lower() for name, _ in result}
    if b"x-request-id" not in present:
        result.append((b"x-request-id", request_id.encode()))
    if ours:
        result.extend(header for header in SECURITY_HEADERS if header[0] not in present)
    return result


async def answer(app: App, scope: Scope, path: str, receive: Receive, send: Send) -> None:
    """Has our API answer at ``path``; a HEAD as the GET it stands for, without the body.

    Litestar answers 405 to a HEAD, and balancers probe ``/health`` with one. A second handler for
    each path would stand in the OpenAPI document as well.
    """
    head = scope["method"] == "HEAD"
    if not head and path == scope["path"]:
        await app(scope, receive, send)
        return
    asked = {**scope, "path": path, "method": "GET" if head else scope["method"]}

    async def bare(message: Message) -> None:
        if head and message["type"] == "http.response.body":
            message["body"] = b""
        await send(message)

    try:
        await app(asked, receive, bare)
    finally:
        if "path_template" in asked:
            scope["path_template"] = asked["path_template"]


async def serve_site(site: Site, scope: Scope, send: Send) -> None:
    """Answers a GET or HEAD with what a site says; 405 for the rest."""
    if scope["method"] not in ("GET", "HEAD"):
        await serve_page(_GET_ONLY, scope, send)
        return
    known = b",".join(value for name, value in scope["headers"] if name == b"if-none-match")
    found = site.answer(
        scope["path"], scope["query_string"].decode("latin-1"), known.decode("latin-1")
    )
    if found is None:
        await send_error(send, 404, f"nothing is served at {scope['path']}", request_id_of(scope))
        return
    headers = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in found.headers.items()
    ]
    if found.status != 304:
        headers.append((b"content-length", str(len(found.body)).encode()))
    body = b"" if scope["method"] == "HEAD" else found.body
    await send({"type": "http.response.start", "status": found.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, status: int, message: str, request_id: str) -> None:
    """Answers with an error outside of Litestar."""
    assert HTTPStatus(status)
    body = msgspec.json.encode(error_body(status, message, request_id))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
