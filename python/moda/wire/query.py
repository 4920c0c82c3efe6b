"""A query string as Plug reads it: ``a=1&b[c]=2&d[]=3`` becomes nested dictionaries and lists.

phoenix.js writes nested connect parameters as ``b[c]=2`` and expects the server to see a tree.
Pure and total: every input gives a tree or a :class:`QueryError` that says what is wrong with it.
The head's size bounds the number of pairs; depth is bounded here.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["MAX_DEPTH", "QueryError", "all_values", "parse_query"]

MAX_DEPTH = 32
"""Levels of ``[..]`` one key may nest.

Deeper is refused: walking a tree must never exhaust the stack.
"""

_ESCAPE = re.compile(rb"%(?:([0-9a-fA-F]{2})|)")


class QueryError(ValueError):
    """The query cannot be read; the text says where."""


def _decode(raw: bytes) -> str:
    """Undoes form encoding: ``+`` is a space, ``%XX`` a byte, the whole UTF-8."""
    raw = raw.replace(b"+", b" ")
    if b"%" in raw:
        raw = _ESCAPE.sub(_unescape, raw)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise QueryError(
            f"the query is not UTF-8 after decoding (byte 0x{raw[error.start]:02x})"
        ) from None


def _unescape(match: re.Match[bytes]) -> bytes:
    digits = match[1]
    if digits is None:
        raise QueryError("the query has a % that two hexadecimal digits do not follow")
    return bytes((int(digits, 16),))


def _steps(key: str) -> list[str]:
    """``a[b][]`` -> ``["a", "b", ""]``; brackets that do not pair up belong to the name."""
    head, bracket, rest = key.partition("[")
    if not bracket or not rest.endswith("]"):
        return [key]
    steps = [head, *rest[:-1].split("][")]
    if len(steps) - 1 > MAX_DEPTH:
        raise QueryError(f"a query key nests {len(steps) - 1} levels, at most {MAX_DEPTH} are read")
    return steps


def parse_query(query: bytes) -> dict[str, Any]:
    """Returns the tree of a raw query: values are str, list or dict. Of two equal keys the last
    wins.

    Raises :class:`QueryError` for a broken escape, bytes that are not UTF-8 and hostile nesting.

    >>> parse_query(b"vsn=2.0.0&user[name]=Ann+B&tags[]=a&tags[]=b")
    {'vsn': '2.0.0', 'user': {'name': 'Ann B'}, 'tags': ['a', 'b']}
    """
    tree: dict[str, Any] = {}
    for pair in query.split(b"&"):
        if not pair:
            continue
        raw_key, _, raw_value = pair.partition(b"=")
        _place(tree, _steps(_decode(raw_key)), _decode(raw_value))
    return tree


def all_values(query: bytes, name: str) -> list[str]:
    """Every value of a key without brackets, in their order. Raises :class:`QueryError`.

    >>> all_values(b"topic=room%3A1&since=5&topic=b", "topic")
    ['room:1', 'b']
    """
    pairs = (pair.partition(b"=") for pair in query.split(b"&") if pair)
    return [_decode(value) for key, _, value in pairs if _decode(key) == name]


def _place(tree: dict[str, Any], steps: list[str], value: str) -> None:
    """Hangs a value into the tree; a later key whose shape differs replaces an earlier one."""
    node = tree
    last = len(steps) - 1
    for position, step in enumerate(steps):
        if position == last:
            node[step] = value
            return
        if steps[position + 1] == "":
            items = node.get(step)
            if not isinstance(items, list):
                items = node[step] = []
            if position + 1 == last:
                items.append(value)
                return
            # `a[][b]=1`: each pair opens an element of its own.
            inner: dict[str, Any] = {}
            items.append(inner)
            _place(inner, steps[position + 2 :], value)
            return
        below = node.get(step)
        if not isinstance(below, dict):
            below = node[step] = {}
        node = below
