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
from base64 import b64decode, b64encode
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

import httptools

from moda._core import RequestHead, read_head

__all__ = ["END", "HeadError", "parse_head", "switching", "upgrade_fault"]

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
    if sent[b"transfer-encoding"] or any(value.strip(b"0 ") for value in sent[b"content-length"]):
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
