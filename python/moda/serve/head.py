"""The head of a request on a mount's path, and the end of a WebSocket handshake: its last check,
its answer.

The engine does the reading. Other requests are llhttp's (uvicorn's protocol), and two parsers that
disagree about a head are how requests get smuggled; here they cannot be: after such a head no
second request is read on its connection, whatever was decided.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

import httptools

from moda._core import RequestHead, read_head
from moda.upgrade import Refused, bad_request

__all__ = [
    "END",
    "HeadError",
    "asks_for_websocket",
    "host_fault",
    "not_http",
    "parse_head",
    "switching",
    "upgrade_fault",
]

QUOTED = 120
"""Characters of a client's own words that an error text may repeat."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
END = b"\r\n\r\n"

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


def parse_head(raw: bytes) -> RequestHead:
    """Reads a complete head (blank line included, nothing after it). HeadError if it is none."""
    try:
        return read_head(raw)
    except ValueError as error:
        raise HeadError(str(error)) from None


_VERSION = re.compile(rb"HTTP/[0-9]+(?:\.[0-9]+)?")
_HOST = re.compile(
    rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[A-Za-z0-9\-._~%!$&'()*+,;=]+)(?::[0-9]*)?"  # RFC 3986 section 3.2.2
)


def not_http(head: bytes, text: str = "the request is not HTTP/1.1") -> Refused:
    """The refusal of bytes no parser reads: 505 if they name another version of HTTP, else 400.

    >>> [not_http(b"GET / " + end).status for end in (b"HTTP/2.0", b"HTTP/1.1", b"", b"x")]
    [505, 400, 400, 400]
    """
    version = head[: head.find(b"\r\n")] if b"\r\n" in head else head
    version = version.rpartition(b" ")[2]
    if _VERSION.fullmatch(version) and version not in (b"HTTP/1.0", b"HTTP/1.1", b"HTTP/0.9"):
        spoken = b"HTTP/1.1 and HTTP/1.0 are spoken here"
        kind = ("content-type", "text/plain; charset=utf-8")
        return Refused(505, spoken, (kind,), "head")
    return bad_request(text, "head")


def host_fault(headers: Sequence[tuple[bytes, bytes]], version: str) -> str | None:
    """What is wrong with the Host of a request (RFC 9112 section 3.2), or None. ``version`` as ``1.1``.

    Whoever stands in front may take the one for the target and whoever stands behind the other: a
    request with two of them, or with one that names no host, is not guessed at.

    >>> host_fault([(b"host", b"localhost:4001")], "1.1"), host_fault([], "1.0")
    (None, None)
    """
    hosts = [value for name, value in headers if name == b"host"]
    if not hosts:
        return None if version == "1.0" else "a request takes a 'host' header, got none"
    if len(hosts) > 1:
        return f"a request takes one 'host' header, got {len(hosts)} of them"
    if _HOST.fullmatch(hosts[0].strip(b" \t")) is None:
        return "'host' header must be a host name or an address, with or without a port"
    return None


def asks_for_websocket(method: str, version: str, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a request is to be answered as a WebSocket handshake, if perhaps by a refusal.

    Anything else that names an upgrade is an ordinary request: an Upgrade may be ignored (RFC 9110
    section 7.8), of HTTP/1.0 it must be, and a body that is announced may not.

    >>> asked = [(b"connection", b"keep-alive"), (b"connection", b"Upgrade"), (b"upgrade", b"WebSocket")]
    >>> [asks_for_websocket(*line, asked) for line in (("GET", "1.1"), ("POST", "1.1"), ("GET", "1.0"))]
    [True, False, False]
    """
    if method != "GET" or version != "1.1":
        return False
    sent: dict[bytes, list[bytes]] = {name: [] for name in _LOOKED_AT}
    for name, value in headers:
        if name in sent:
            sent[name].append(value)
    return (
        "upgrade" in _items(sent[b"connection"])
        and "websocket" in _items(sent[b"upgrade"])
        and not _has_body(sent)
    )


def _has_body(sent: dict[bytes, list[bytes]]) -> bool:
    return bool(sent[b"transfer-encoding"]) or any(
        value.strip(b"0 ") for value in sent[b"content-length"]
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


def upgrade_fault(headers: Sequence[tuple[bytes, bytes]], version: str) -> str | None:
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
    if _has_body(sent):
        return "a WebSocket upgrade has no body, got one announced"
    return None


def switching(key: bytes, headers: Sequence[tuple[str, str]]) -> bytes:
    """The 101 answer to a ``Sec-WebSocket-Key``, with ``headers`` beside its own (RFC 6455 section
    4.2.2).

    >>> switching(b"dGhlIHNhbXBsZSBub25jZQ==", ())[-40:]
    b'Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\\r\\n\\r\\n'
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1")
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return b"".join((_SWITCHING, lines, b"Sec-WebSocket-Accept: ", b64encode(digest), END))
