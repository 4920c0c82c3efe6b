"""Keeps secrets out of whatever is logged: by the name of a field, and by their shape inside a
text.

Pure. It errs on the safe side: a harmless value under a name like ``key`` is hidden too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["HIDDEN", "redact", "scrub"]

HIDDEN = "[redacted]"
MAX_DEPTH = 8
"""Levels of a structure that are looked into; what lies deeper is hidden whole."""

# A field's name is cut into words: apiKey, api-key and API_KEY are "api key". One of these words
# hides the value.
# fmt: off
_SECRET_WORDS = frozenset((
    "apikey", "apikeys", "auth", "authorization", "bearer", "cookie", "cookies",
    "credential", "credentials", "csrf", "jwt", "key", "keys", "passphrase", "passwd",
    "password", "pin", "private", "secret", "secrets", "session", "sig", "signature",
    "token", "tokens",
))
# fmt: on
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_PARAMETER = re.compile(r"(?P<field>[\w.\-%\[\]]{1,64})=(?P<value>[^&\s\"'),;#]+)")
_SHAPES = (
    # The stock client's token in the subprotocol header.
    (re.compile(r"(base64url\.bearer\.phx\.)[A-Za-z0-9+/=_\-]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=\-]{6,}"), rf"\1 {HIDDEN}"),
    # user:password@ in a URL.
    (re.compile(r"(?i)([a-z][a-z0-9+.\-]*://)[^/\s@:]*:[^/\s@]*@"), rf"\1{HIDDEN}@"),
    # A JSON web token, wherever it stands.
    (re.compile(r"\beyJ[A-Za-z0-9_\-]{4,}\.[A-Za-z0-9_\-]{4,}\.[A-Za-z0-9_\-]*"), HIDDEN),
)


def scrub(text: str) -> str:
    """Hides what looks like a secret inside a text.

    >>> scrub("GET /socket/websocket?vsn=2.0.0&token=s3cret&x=1")
    'GET /socket/websocket?vsn=2.0.0&token=[redacted]&x=1'
    """
    if "=" in text:
        text = _PARAMETER.sub(_scrub_parameter, text)
    for shape, replacement in _SHAPES:
        text = shape.sub(replacement, text)
    return text


def _scrub_parameter(match: re.Match[str]) -> str:
    return f"{match['field']}={HIDDEN}" if is_secret_name(match["field"]) else match[0]


def is_secret_name(name: str) -> bool:
    """Whether a field of this name is hidden whatever it holds.

    >>> [is_secret_name(name) for name in ("X-Api-Key", "authToken", "topic", "monkey")]
    [True, True, False, False]
    """
    return any(word.lower() in _SECRET_WORDS for word in _WORDS.findall(name))


def redact(value: Any, name: str = "", depth: int = 0) -> Any:
    """A copy of a value that may be logged.

    Numbers, booleans and None are never hidden: counts of keys are no keys.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if name and is_secret_name(name):
        return HIDDEN
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return scrub(bytes(value).decode("utf-8", "replace"))
    if depth >= MAX_DEPTH:
        return HIDDEN
    if isinstance(value, Mapping):
        return {scrub(str(key)): redact(item, str(key), depth + 1) for key, item in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str | bytes):
        # A header: (name, value).
        key = value[0] if isinstance(value[0], str) else value[0].decode("latin-1")
        return (scrub(key), redact(value[1], key, depth + 1))
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, "", depth + 1) for item in value]
    return scrub(str(value))
