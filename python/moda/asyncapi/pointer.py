"""JSON pointers in URI fragments, and references inside one document.

A reference to another file is none of this module's: :mod:`moda.asyncapi.bundle` has made it one
into the document before anybody follows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

from moda.asyncapi.fault import DocumentError, nearest, reference, shown

FRAGMENT = "/~%!$&'()*+,;=:@?"
"""What a reference may hold unquoted beside letters, digits and ``-._``."""

MAX_HOPS = 64
"""A chain of references longer than this is a mistake, not a document."""
MAX_INDEX = 10
"""Digits of a place in a list; a conversion of very many is quadratic."""


def escape(token: str) -> str:
    """One token of a JSON pointer (RFC 6901): ``~`` and ``/`` are written ``~0`` and ``~1``.

    >>> escape("a/b~c")
    'a~1b~0c'
    """
    return token.replace("~", "~0").replace("/", "~1")


def unescape(token: str) -> str:
    """The inverse of :func:`escape`."""
    return token.replace("~1", "/").replace("~0", "~")


def at(base: str, *tokens: str | int) -> str:
    """The pointer of a place below another, as a URI fragment: a literal ``%`` is written ``%25``.

    >>> at("#/channels", "a/b", "50%")
    '#/channels/a~1b/50%25'
    """
    return "".join([base, *(f"/{escape(str(token)).replace('%', '%25')}" for token in tokens)])


def quoted(pointer: str) -> str:
    """A place as a reference that is a URI, whatever characters its names have.

    >>> quoted(at("#/components/schemas", "with space", "50%"))
    '#/components/schemas/with%20space/50%25'
    """
    return f"#{quote(pointer[1:], safe=FRAGMENT)}"


def of_path(path: list[str | int]) -> str:
    """A path as a plain JSON pointer, as an error reply shows it: ``/interval_ms``, or "" for the
    whole.
    """
    return "".join(f"/{escape(str(token))}" for token in path)


def lookup(root: Any, ref: Any, source: str, where: str) -> tuple[str, Any]:
    """The place a reference names, and what is there, which may be a reference again.

    What a reference on the way names is stepped into, so the place is the one the value really
    stands at: ``#/channels/room/messages/say`` is in ``#/components/channels/room`` when the
    channel is a reference to that.

    Raises DocumentError (at ``where``) when ``ref`` is not a local reference or names nothing.
    """
    return _lookup(root, ref, source, where, [])


def _lookup(root: Any, ref: Any, source: str, where: str, through: list[str]) -> tuple[str, Any]:
    if not isinstance(ref, str):
        raise DocumentError(
            source, where, f"$ref received {shown(ref)}; accepted: a string such as #/components/…"
        )
    if not ref.startswith("#"):
        raise DocumentError(
            source,
            where,
            f"remote references are not read: received {reference(ref)};"
            " accepted: a reference into this document (#/…) or, where the document is read from a"
            " file, to a file on this machine",
        )
    fragment = unquote(ref[1:])
    if fragment and not fragment.startswith("/"):
        raise DocumentError(
            source,
            where,
            f"$ref received {reference(ref)}; accepted: # or #/ and a JSON pointer",
        )
    node, pointer = root, "#"
    for raw in fragment.split("/")[1:]:
        name = unescape(raw)
        while isinstance(node, dict) and isinstance(node.get("$ref"), str) and name != "$ref":
            if len(through) >= MAX_HOPS:
                way = " -> ".join(map(reference, [where, *through[:3]]))
                raise DocumentError(source, where, f"the reference leads back to itself: {way} …")
            through.append(node["$ref"])
            pointer, node = _lookup(root, node["$ref"], source, at(pointer, "$ref"), through)
        if isinstance(node, dict) and name in node:
            node = node[name]
        elif (
            isinstance(node, list)
            and name.isascii()
            and name.isdigit()
            and len(name) < MAX_INDEX
            and int(name) < len(node)
        ):
            node = node[int(name)]
        else:
            known = [key for key in node if isinstance(key, str)] if isinstance(node, dict) else []
            raise DocumentError(
                source,
                where,
                f"the reference {reference(ref)} names nothing: {reference(pointer)} holds no"
                f" {shown(name)}{nearest(name, known)}",
            )
        pointer = at(pointer, name)
    return pointer, node


def follow(root: Any, node: Any, source: str, where: str) -> tuple[str, Any]:
    """The first value on a chain of references that is not itself a reference, and its place.

    Raises DocumentError for a remote or dangling reference and for a chain that comes back to
    itself.
    """
    *_, (pointer, found) = hops(root, node, source, where)
    return pointer, found


def hops(root: Any, node: Any, source: str, where: str) -> Iterator[tuple[str, Any]]:
    """Every place on a chain of references, ``where`` first, with what is there.

    Raises what :func:`follow` does, at the hop that is wrong.
    """
    seen: list[str] = []
    pointer = where
    yield pointer, node
    while isinstance(node, dict) and "$ref" in node:
        target, node = lookup(root, node["$ref"], source, pointer)
        if target in seen or target == where or len(seen) >= MAX_HOPS:
            way = " -> ".join(map(reference, [where, *seen, target]))
            raise DocumentError(source, where, f"the reference leads back to itself: {way}")
        seen.append(target)
        pointer = target
        yield pointer, node
