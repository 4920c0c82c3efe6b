"""The chat's page as an ASGI application: six files, read once, under a strict policy.

Any ASGI application can be mounted (Starlette, Django, Litestar); this one is small enough to need
none. A list of files rather than a folder: nothing else can be asked for, node_modules included.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from moda import ConfigurationError

FILES = {
    "": ("index.html", b"text/html; charset=utf-8"),
    "style.css": ("style.css", b"text/css; charset=utf-8"),
    "icon.svg": ("icon.svg", b"image/svg+xml"),
    "page.js": ("page.js", b"text/javascript; charset=utf-8"),
    "chat.js": ("chat.js", b"text/javascript; charset=utf-8"),
    "phoenix.mjs": (
        "node_modules/phoenix/priv/static/phoenix.mjs",
        b"text/javascript; charset=utf-8",
    ),
}
COMMON = [
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
]


class Static:
    """Serves :data:`FILES` of ``folder`` below ``at``. ConfigurationError names one that is missing."""

    def __init__(self, folder: Path, at: str) -> None:
        self._at = at
        self._pages: dict[str, tuple[bytes, bytes]] = {}
        for name, (file, kind) in FILES.items():
            try:
                self._pages[at + name] = ((folder / file).read_bytes(), kind)
            except FileNotFoundError:
                raise ConfigurationError(
                    f"{folder / file} is missing; run `npm ci` in {folder}"
                ) from None

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": message["type"] + ".complete"})
        elif scope["type"] == "http":
            status, headers, body = self._answer(scope["method"], scope["path"])
            headers.append((b"content-length", str(len(body)).encode()))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send(
                {"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body}
            )
        else:
            await send({"type": "websocket.close"})

    def _answer(self, method: str, path: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        if method not in ("GET", "HEAD"):
            return 405, [*COMMON, (b"allow", b"GET, HEAD")], b""
        if path == self._at.rstrip("/"):
            return 308, [*COMMON, (b"location", self._at.encode())], b""
        page = self._pages.get(path)
        if page is None:
            return 404, [*COMMON, (b"content-type", b"text/plain")], b"nothing is served here\n"
        return 200, [*COMMON, (b"content-type", page[1])], page[0]
