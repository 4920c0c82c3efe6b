"""Pages and files that never change while the server runs: held in memory, answered without a task.

The console and everything else a browser loads from here obeys one content policy: nothing from
elsewhere, nothing inline. Files whose name carries a hash of their content are kept by browsers for
a year; the rest is asked for again each time and mostly answered 304.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "SECURITY_HEADERS",
    "App",
    "Page",
    "Receive",
    "Scope",
    "Send",
    "console_missing",
    "load_files",
    "serve_page",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        b"object-src 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)

_TAG = re.compile(rb'"[^"]*"')
_HASHED = re.compile(r"-[A-Za-z0-9_\-]{8,}\.[a-z0-9]+$")
_FOREVER = b"public, max-age=31536000, immutable"
_ASK = b"no-cache"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
_SMALL = 1024
"""Bytes below which compressing costs more than it saves."""


@dataclass(frozen=True, slots=True)
class Page:
    """A body ready to be sent. ``compressed`` is its gzip form where that is worth having.

    A strong entity tag names the bytes of one coding (RFC 9110 section 8.8.3.3), so the gzip form has
    one of its own. A cache that holds one form would else be told by a 304 that it has the other.
    """

    body: bytes
    media_type: str
    etag: bytes
    cache: bytes = _ASK
    compressed: bytes | None = None
    status: int = 200

    @classmethod
    def of(cls, body: bytes, media_type: str, *, cache: bytes = _ASK, status: int = 200) -> Page:
        etag = b'"' + hashlib.sha256(body).hexdigest()[:20].encode() + b'"'
        textual = media_type.startswith("text/") or media_type.partition(";")[0] in (
            "application/json",
            "application/manifest+json",
            "application/yaml",
            "image/svg+xml",
        )
        compressed = None
        if textual and len(body) >= _SMALL:
            smaller = gzip.compress(body, 9, mtime=0)
            compressed = smaller if len(smaller) < len(body) else None
        return cls(body, media_type, etag, cache, compressed, status)

    @property
    def compressed_etag(self) -> bytes:
        """The tag of the gzip form."""
        return self.etag[:-1] + b'-gzip"'


def load_files(folder: Path) -> dict[str, Path]:
    """Every file of a folder by the URL path it is served under; ``index.html`` also as its folder.

    Empty if the folder is missing or has no ``index.html``. Symbolic links are not followed out of
    it.
    """
    found: dict[str, Path] = {}
    if not (folder / "index.html").is_file():
        return found
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or not path.resolve().is_relative_to(root):
            continue
        url = "/" + path.relative_to(folder).as_posix()
        found[url] = path
        if path.name == "index.html":
            found[url.removesuffix("index.html")] = path
    return found


def page_of_file(path: Path) -> Page:
    """Reads one file.

    Its type comes from its suffix, its caching from whether its name carries a hash.
    """
    media_type = (
        _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    )
    return Page.of(
        path.read_bytes(), media_type, cache=_FOREVER if _HASHED.search(path.name) else _ASK
    )


async def serve_page(page: Page, scope: Scope, send: Send) -> None:
    """Answers a GET or HEAD with a page: 304 where the client has it, gzip where it takes that; 405
    for the rest.
    """
    if scope["method"] not in ("GET", "HEAD"):
        await send(
            {
                "type": "http.response.start",
                "status": 405,
                "headers": [(b"allow", b"GET, HEAD"), (b"content-length", b"0")],
            }
        )
        await send({"type": "http.response.body", "body": b""})
        return
    accepts_gzip = any(
        takes_gzip(value) for name, value in scope["headers"] if name == b"accept-encoding"
    )
    body, etag = page.body, page.etag
    zipped = accepts_gzip and page.compressed is not None
    if zipped:
        assert page.compressed is not None
        body, etag = page.compressed, page.compressed_etag
    headers = [(b"etag", etag), (b"cache-control", page.cache), (b"vary", b"accept-encoding")]
    if page.status == 200 and is_known(etag, scope["headers"]):
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return
    if zipped:
        headers.append((b"content-encoding", b"gzip"))
    headers.append((b"content-type", page.media_type.encode("latin-1")))
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": page.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def is_known(etag: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether the client has the form that would be sent: ``If-None-Match`` holds its tag, compared
    weakly (RFC 9110 section 13.1.2), in any of its lines.
    """
    for name, value in headers:
        if name == b"if-none-match" and (value.strip() == b"*" or etag in _TAG.findall(value)):
            return True
    return False


def takes_gzip(accept_encoding: bytes) -> bool:
    """Whether an Accept-Encoding header takes gzip: named, or under ``*`` where it is not, and not
    with a weight of 0.

    >>> takes_gzip(b"br, gzip"), takes_gzip(b"*;q=0, gzip"), takes_gzip(b"gzip;q=0, *")
    (True, True, False)
    """
    weights: dict[bytes, bytes] = {}
    for item in accept_encoding.lower().split(b","):
        coding, _, weight = item.partition(b";")
        weights.setdefault(coding.strip(), weight)
    taken = weights.get(b"gzip", weights.get(b"*"))
    return taken is not None and re.fullmatch(rb"\s*q=0(\.0*)?\s*", taken) is None


def console_missing(folder: Path) -> Page:
    """What ``/`` says in a checkout whose console was never built."""
    body = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>moda: no console here</title></head>
<body>
<h1>The gateway runs. Its console is not built.</h1>
<p>There is no <code>index.html</code> in <code>{folder}</code>. In a checkout, build it with:</p>
<pre>cd web && npm ci && npm run build</pre>
<p>or start with <code>make serve</code>, which does that first.
A released wheel has the console inside.</p>
<ul>
<li><a href="/api/v1/docs">HTTP API</a></li>
<li><a href="/asyncapi">WebSocket API</a></li>
<li><a href="/health">Health</a></li>
</ul>
</body></html>
"""
    return Page.of(body.encode(), "text/html; charset=utf-8", status=404)
