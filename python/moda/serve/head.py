"""The head of one request, read strictly, and the last check of a WebSocket handshake.

httptools does the reading, as for every other request of the port: two parsers that disagree about
a head are how requests get smuggled. Pure but for the parser object.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import httptools

__all__ = ["Head", "HeadError", "normalised_head", "parse_head", "upgrade_fault"]

QUOTED = 120
"""Characters of a client's own words that an error text may repeat."""


_LOOKED_AT = (
    b"connection",
    b"upgrade",
    b"sec-websocket-version",
    b"sec-websocket-key",
    b"transfer-encoding",
    b"content-length",
)


class HeadError(ValueError):
    """Not a request head. The text says what is wrong and repeats nothing."""


@dataclass(frozen=True, slots=True)
class Head:
    """``path`` percent-decoded, ``query`` raw; header names lower case, values stripped, order
    kept.
    """

    method: str
    path: str
    query: bytes
    version: str
    headers: list[tuple[bytes, bytes]]


class _Collector:
    __slots__ = ("complete", "headers", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def parse_head(raw: bytes) -> Head:
    """Reads a complete head (blank line included, nothing after it). HeadError if it is none."""
    collected = _Collector()
    parser = httptools.HttpRequestParser(collected)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # not an error: the head asks for another protocol
    except httptools.HttpParserError:
        raise HeadError("the request is not HTTP/1.1") from None
    if not collected.complete:
        raise HeadError("the request head is incomplete")
    path, query = split_target(collected.url)
    return Head(
        parser.get_method().decode("ascii"),
        path,
        query,
        parser.get_http_version(),
        collected.headers,
    )


def split_target(url: bytes) -> tuple[str, bytes]:
    """Path and query of a request target, in origin form or absolute form.

    HeadError if it has neither.
    """
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError:
        raise HeadError("the request target is no URL") from None
    raw_path: bytes = parsed.path or b"/"
    path = unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path
    return path.decode("utf-8", "replace"), parsed.query or b""


def _items(values: list[bytes]) -> list[str]:
    """A list header's items over all its lines, lower case."""
    items = [
        part.strip() for value in values for part in value.decode("latin-1").lower().split(",")
    ]
    return [item for item in items if item]


def _shown(values: list[str]) -> str:
    return json.dumps(values)[:QUOTED]


def upgrade_fault(headers: list[tuple[bytes, bytes]], version: str) -> str | None:
    """What keeps a head from being a WebSocket upgrade (RFC 6455 section 4.2.1), or None.

    >>> upgrade_fault([], "1.1")
    "'connection' header must contain 'upgrade', got []"
    """
    if version != "1.1":
        return f"a WebSocket upgrade takes HTTP/1.1, got HTTP/{version}"
    sent: dict[bytes, list[bytes]] = {name: [] for name in _LOOKED_AT}
    for name, value in headers:
        known = sent.get(name)
        if known is not None:
            known.append(value)
    connection = _items(sent[b"connection"])
    if "upgrade" not in connection:
        return f"'connection' header must contain 'upgrade', got {_shown(connection)}"
    upgrade = _items(sent[b"upgrade"])
    if "websocket" not in upgrade:
        return f"'upgrade' header must contain 'websocket', got {_shown(upgrade)}"
    versions = _items(sent[b"sec-websocket-version"])
    if versions != ["13"]:
        return f"'sec-websocket-version' header must be '13', got {_shown(versions)}"
    keys = sent[b"sec-websocket-key"]
    if len(keys) != 1:
        return f"'sec-websocket-key' header must be sent once, got {len(keys)} of them"
    try:
        fits = len(b64decode(keys[0], validate=True)) == 16
    except (binascii.Error, ValueError):
        fits = False
    if not fits:
        return "'sec-websocket-key' header must be 16 bytes in base64"
    if sent[b"transfer-encoding"] or any(value.strip(b"0 ") for value in sent[b"content-length"]):
        return "a WebSocket upgrade has no body, got one announced"
    return None


def normalised_head(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The least head picows takes, for one that :func:`upgrade_fault` found nothing wrong with.

    Firefox sends ``Connection: keep-alive, Upgrade``, which picows refuses; and it keeps what it is
    given for the life of the connection, 2.5 KB for a browser's usual fourteen headers.
    """
    key = next(value for name, value in headers if name == b"sec-websocket-key")
    return (
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
    )
