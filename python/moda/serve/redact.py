"""Keeps secrets out of whatever is logged: by the name of a field, and by their shape inside a
text.

Pure. It errs on the safe side: a harmless value under a name like ``key`` is hidden too.

What is logged may be a client's text, and this runs on the loop's thread, so its cost is bounded
twice. A text is clipped before it is looked at, and every shape is found in one pass: by a literal
that is searched for (``://``, ``eyJ``) or by a separator with a bounded look to its left. A pattern
that begins with a repetition is tried from every character and reads to the end each time: 20,000
letters once cost five seconds.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Any

__all__ = ["HIDDEN", "clipped", "hide", "redact", "scrub"]

HIDDEN = "[redacted]"
MAX_DEPTH = 8
"""Levels of a structure that are looked into; what lies deeper is hidden whole."""

MAX_TEXT = 8192
"""Characters of one text that are looked at and written."""

MAX_VALUE = 2 * MAX_TEXT
"""Characters of a whole structure; each of its values costs :data:`NODE` of them beside its text."""

NODE = 32
CUT = "[cut]"
"""In place of what lies beyond :data:`MAX_VALUE`."""

_TAIL = 2048
_HEAD = MAX_TEXT - _TAIL
_BLANK_WITHIN = 512

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
_ANY_WORD = re.compile("|".join(sorted(_SECRET_WORDS)), re.IGNORECASE)

MAX_NAME = 64
"""Characters left of a separator among which a field's name is looked for."""

_NAME = string.ascii_letters + string.digits + "_.-%[]"
_QUOTED_NAME = _NAME + " "
_SEPARATOR = re.compile(r"[=:,]")
_BARE = re.compile(r"[^&\s\"'),;#]+")
_NOT_SECRET = frozenset(("None", "null", "True", "False", "true", "false"))
_PREFIX = re.compile(r"\s{0,8}[bBuU]?(\\{0,3}[\"'])")
_GROUP = re.compile(r"\s{0,8}(?:frozenset\(|mappingproxy\()?[\[({]")
_CLOSING = re.compile(r"[\[({\])}]")

_PART = r"[A-Za-z0-9_\-]"
_WEB_TOKEN = re.compile(rf"eyJ{_PART}{{4,}}+\.{_PART}{{4,}}+\.{_PART}*+")
_REST_OF_PART = re.compile(rf"{_PART}++")

_SHAPES = (
    # The stock client's token in the subprotocol header.
    (re.compile(r"(base64url\.bearer\.phx\.)[A-Za-z0-9+/=_\-]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)\s{1,8}[A-Za-z0-9._~+/=\-]{6,}"), rf"\1 {HIDDEN}"),
    # user:password@ in a URL. Neither part has a slash, so what one :// reads no other one does.
    (re.compile(r"://[^/\s@:]*+:[^/\s@]*+@"), f"://{HIDDEN}@"),
)


def scrub(text: str) -> str:
    """Hides what looks like a secret inside a text, of which :data:`MAX_TEXT` characters are kept.

    >>> scrub("GET /socket/websocket?vsn=2.0.0&token=s3cret&x=1")
    'GET /socket/websocket?vsn=2.0.0&token=[redacted]&x=1'
    >>> scrub("admit(Connect(path='/x', token='s3cret')) got {'api_key': 'k3y'}")
    "admit(Connect(path='/x', token='[redacted]')) got {'api_key': '[redacted]'}"
    """
    return hide(clipped(text))


def clipped(text: str, most: int = MAX_TEXT) -> str:
    """A text of at most about ``most`` characters: its beginning and its last lines.

    The end begins with a line, never inside of one: the second half of a secret has no name in
    front of it to be known by. A last line that is itself too long keeps its beginning.

    >>> clipped("x" * 9000)[-30:]
    'xxxx ... [2856 characters cut]'
    """
    if len(text) <= most:
        return text
    tail_size = min(_TAIL, most // 4)
    head = text[: max(0, most - tail_size)]
    blank = max(head.rfind(" "), head.rfind("\n"))
    if blank >= len(head) - _BLANK_WITHIN and blank > 0:
        head = head[:blank]
    line = text.find("\n", len(text) - tail_size)
    if line < 0:
        line = text.rfind("\n")
    if line < len(head):
        return f"{head} ... [{len(text) - len(head)} characters cut]"
    tail = text[line + 1 : line + 1 + tail_size]
    after = len(text) - (line + 1 + len(tail))
    end = f" ... [{after} characters cut]" if after else ""
    return f"{head}\n... [{line + 1 - len(head)} characters cut]\n{tail}{end}"


def hide(text: str) -> str:
    """A text with every secret hidden that has a shape, whatever its length: each shape is one pass."""
    if _ANY_WORD.search(text) is not None:
        text = _hide_named(text)
    for shape, replacement in _SHAPES:
        text = shape.sub(replacement, text)
    return _hide_web_tokens(text) if "eyJ" in text else text


def _hide_named(text: str) -> str:
    """Values behind a secret name: ``name=value``, ``name='value'``, ``"name": "value"`` and the
    pair ``(b'name', b'value')``.
    """
    parts: list[str] = []
    done = 0
    for match in _SEPARATOR.finditer(text):
        at = match.start()
        if at < done or not is_secret_name(_name_before(text, at, done)):
            continue
        begin, end = _value_at(text, at + 1, bare=text[at] == "=")
        if end > begin:
            parts += (text[done:begin], HIDDEN)
            done = end
    return "".join((*parts, text[done:])) if parts else text


def _name_before(text: str, at: int, floor: int) -> str:
    """The field's name that ends at a separator, or "" if none does."""
    left = text[max(floor, at - MAX_NAME - 8) : at].rstrip(" ")
    if left.endswith(("']", '"]')):  # environ["TOKEN"]
        left = left[:-1]
    quote = left[-1:]
    if quote and quote in "\"'":
        inside = left[:-1].rstrip("\\")
        name = inside[len(inside.rstrip(_QUOTED_NAME)) :]
        before = inside[: len(inside) - len(name)]
        if before[-1:] != quote:
            return ""
        # Of a pair only the first is a name: a list of words is no list of fields.
        opening = before[:-1].rstrip("\\").removesuffix("b")[-1:]
        return name if text[at] != "," or (opening and opening in "([") else ""
    return left[len(left.rstrip(_NAME)) :] if text[at] == "=" else ""


def _value_at(text: str, at: int, *, bare: bool) -> tuple[int, int]:
    """Where a value's content begins and ends; the same place twice if there is none to hide."""
    while text[at : at + 1] == "=":
        at += 1
    quoted = _PREFIX.match(text, at)
    if quoted is not None:
        begin = quoted.end()
        end = _closing_quote(text, begin, quoted[1])
        return begin, end
    plain = _BARE.match(text, at)
    group = _GROUP.match(text, at)
    if group is not None:
        begin, end = group.end(), _closing_bracket(text, group.end())
        return plain.span() if plain is not None and plain.end() > end + 1 else (begin, end)
    if not bare:
        at += len(text[at : at + 8]) - len(text[at : at + 8].lstrip(" "))
        plain = _BARE.match(text, at)
    if plain is None or plain[0] in _NOT_SECRET:
        return at, at
    if not bare and plain[0][0] in string.digits:
        return at, at  # a count, as in redact
    return plain.span()


def _closing_quote(text: str, begin: int, quote: str) -> int:
    """Where a quoted value ends: at the same quote, escaped as the first one was."""
    at = begin
    while (at := text.find(quote, at)) >= 0:
        since = text[begin:at]
        if len(quote) > 1 or (len(since) - len(since.rstrip("\\"))) % 2 == 0:
            return at
        begin = at = at + 1
    return len(text)


def _closing_bracket(text: str, begin: int) -> int:
    depth = 1
    for match in _CLOSING.finditer(text, begin):
        depth += 1 if match[0] in "[({" else -1
        if not depth:
            return match.start()
    return len(text)


def _hide_web_tokens(text: str) -> str:
    """JSON web tokens, wherever they stand.

    An ``eyJ`` that begins none tells the same of every other one in its run of characters, so the
    run is left behind: ``-eyJ-eyJ-eyJ`` is read once.
    """
    parts: list[str] = []
    done = at = 0
    while (at := text.find("eyJ", at)) >= 0:
        found = _WEB_TOKEN.match(text, at)
        if found is not None:
            parts += (text[done:at], HIDDEN)
            done = at = found.end()
        else:
            rest = _REST_OF_PART.match(text, at)
            assert rest is not None
            at = rest.end()
    return "".join((*parts, text[done:])) if parts else text


def is_secret_name(name: str) -> bool:
    """Whether a field of this name is hidden whatever it holds.

    >>> [is_secret_name(name) for name in ("X-Api-Key", "authToken", "topic", "monkey")]
    [True, True, False, False]
    """
    return bool(name) and any(word.lower() in _SECRET_WORDS for word in _WORDS.findall(name))


def redact(value: Any, name: str = "") -> Any:
    """A copy of a value that may be logged, of :data:`MAX_VALUE` characters at most.

    Numbers, booleans and None are never hidden: counts of keys are no keys.
    """
    return _Copy().of(value, name, 0)


class _Copy:
    """One value's copy, and how much of it may still be written."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_VALUE

    def of(self, value: Any, name: str, depth: int) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if name and is_secret_name(name):
            return HIDDEN
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return self.text(bytes(value).decode("utf-8", "replace"))
        if depth >= MAX_DEPTH:
            return HIDDEN
        if isinstance(value, Mapping):
            return self.mapping(value, depth)
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str | bytes):
            # A header: (name, value).
            key = value[0] if isinstance(value[0], str) else value[0].decode("latin-1")
            return (self.text(key), self.of(value[1], key, depth + 1))
        if isinstance(value, list | tuple | set | frozenset):
            items: list[Any] = []
            for item in value:
                if not self.spend(NODE):
                    items.append(CUT)
                    break
                items.append(self.of(item, "", depth + 1))
            return items
        return self.text(str(value))

    def mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        for key, item in value.items():
            if not self.spend(NODE):
                copy[CUT] = len(value) - len(copy)
                break
            known = str(key)
            copy[self.text(known)] = self.of(item, known, depth + 1)
        return copy

    def text(self, value: str) -> str:
        kept = clipped(value, min(MAX_TEXT, max(0, self.left)))
        self.left -= len(kept)
        return hide(kept)

    def spend(self, amount: int) -> bool:
        self.left -= amount
        return self.left > 0
