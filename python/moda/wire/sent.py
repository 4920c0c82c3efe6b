"""What a client sent in the head of the request at hand, so that no log repeats it.

An exception quotes what it met: ``int(params["id"])`` raises with the parameter in its text, whatever
that is. A secret is known by its name or its shape only where it has one; here it is known because it
came from the client. While a request is decided or answered its head is remembered in the context, and
a line that is logged meanwhile hides the values of headers and query wherever they stand in it, also
decoded: an application is given a token or a password in clear, not in the base64 it came in.

``X-Request-Id`` is left out: a client sends it to be found in the log, and its form is checked.

Pure, but for the context.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import unquote_plus

from moda.wire.handshake import TOKEN_PREFIX, decode_token

__all__ = ["hide_sent", "parameters", "remember", "remembered"]

SHORTEST: Final = 6
"""Characters a value has to be hidden: without shorter ones nothing were left of a text."""

MOST: Final = 1000
"""Values that are looked for. The text of a request that has more is withheld, so that neither the
number of its headers costs the loop's time nor one of them is missed."""

MOST_BYTES: Final = 32_768
"""Of a head that is looked through; the same holds for a larger one."""

Head = tuple[Sequence[tuple[bytes, bytes]], bytes]

_HEAD: ContextVar[Head | None] = ContextVar("moda_head", default=None)

_QUOTED = re.compile(r"[\\\"']")

_BETWEEN = re.compile(r"[\s;,=&\"'()<>\[\]{}]+")

# fmt: off
_USUAL = frozenset((
    "accept", "application/json", "application/xml", "charset", "chrome", "client_max_window_bits",
    "close", "connection", "deflate", "document", "firefox", "identity", "keep-alive", "localhost",
    "max-age", "mozilla/5.0", "navigate", "no-cache", "no-store", "permessage-deflate", "phoenix",
    "safari", "same-origin", "same-site", "text/event-stream", "text/html", "text/plain", "trailers",
    "upgrade", "utf-8", "version", "websocket", "windows",
))
# fmt: on
"""Words of the protocol and of browsers, in any case (``Keep-Alive``): hiding them would hide where an
error is."""

_ENCODED = re.compile(
    rf"(?:{re.escape(TOKEN_PREFIX)}|\b[Bb][Aa][Ss][Ii][Cc]\s{{1,8}})([A-Za-z0-9+/_\-]+)"
)
"""Base64 of a text: the stock client's token, and a name with its password (RFC 7617)."""


def remember(headers: Sequence[tuple[bytes, bytes]], query: bytes) -> None:
    """The head this task is about, for all it logs from now on."""
    _HEAD.set((headers, query))


@contextmanager
def remembered(headers: Sequence[tuple[bytes, bytes]], query: bytes) -> Iterator[None]:
    """The same for what is logged inside, where no task belongs to the request."""
    token = _HEAD.set((headers, query))
    try:
        yield
    finally:
        _HEAD.reset(token)


def parameters(tree: Mapping[str, Any]) -> Sequence[tuple[bytes, bytes]]:
    """The names and values of a query's tree as a head's, for what crashes long after the handshake.

    >>> parameters({"vsn": "2.0.0", "user": {"tags": ["a"]}})
    [(b'vsn', b'2.0.0'), (b'user', b'user'), (b'tags', b'tags'), (b'tags', b'a')]
    """
    found: list[tuple[bytes, bytes]] = []
    waiting: list[tuple[str, Any]] = list(tree.items())[::-1]
    while waiting:
        name, value = waiting.pop()
        raw = name.encode("utf-8", "replace")
        if isinstance(value, Mapping):
            found.append((raw, raw))
            waiting.extend(list(value.items())[::-1])
        elif isinstance(value, list | tuple):
            found.append((raw, raw))
            waiting.extend((name, item) for item in reversed(value))
        else:
            found.append((raw, str(value).encode("utf-8", "replace")))
    return found


def hide_sent(text: str, instead: str) -> str:
    """A text without the values of the head at hand; as it is when there is none.

    >>> with remembered([(b"x-key", b"hunter2")], b"id=n0-number&vsn=2.0.0"):
    ...     hide_sent("ValueError: 'n0-number' for hunter2, vsn 2.0.0", "*")
    "ValueError: '*' for *, vsn 2.0.0"
    """
    head = _HEAD.get()
    if head is None:
        return text
    values = _values(*head)
    if values is None:
        return f"{instead} (a request with too many headers or parameters to look for in this text)"
    # What has not both its ends in the text need not be searched for.
    pieces = {text[at : at + SHORTEST] for at in range(len(text) - SHORTEST + 1)}
    for value in values:
        if value[:SHORTEST] in pieces and value[-SHORTEST:] in pieces:
            text = text.replace(value, instead)
    return text


def _values(headers: Sequence[tuple[bytes, bytes]], query: bytes) -> list[str] | None:
    """Values and their parts, the longest first, so that none is left in half; None: too many."""
    raw = [value for name, value in headers if name != b"x-request-id"]
    raw.append(query)
    if sum(map(len, raw)) > MOST_BYTES:
        return None
    found: dict[str, None] = {}
    for each in raw:
        text = each.decode("latin-1")
        forms = {text, unquote_plus(text)} if b"%" in each or b"+" in each else {text}
        if not each.isascii():
            forms.add(each.decode("utf-8", "replace"))
        for match in _ENCODED.finditer(text):
            clear = decode_token(match[1])
            if clear is not None:
                forms |= {clear, *clear.split(":", 1)}
        for form in forms:
            for part in (form, *_BETWEEN.split(form)):
                if len(part) >= SHORTEST and part.lower() not in _USUAL:
                    found[part] = None
                    if not (part.isascii() and part.isprintable()) or _QUOTED.search(part):
                        found[repr(part)[1:-1]] = None
                        found[json.dumps(part)[1:-1]] = None
        if len(found) > MOST:
            return None
    return sorted(found, key=len, reverse=True)
