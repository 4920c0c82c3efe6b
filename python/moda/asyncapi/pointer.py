"""JSON pointers in URI fragments, and the one kind of ``$ref`` a document may hold.

References stay inside the document. A remote one would make a start depend on somebody else's
server and would let a document read the disk or an internal network of the machine that loads
it; the refusal names the reference so that its author can bundle it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from moda.asyncapi.fault import DocumentError, nearest, shown

MAX_HOPS = 64
"""A chain of references longer than this is a mistake, not a document."""


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


def of_path(path: list[str | int]) -> str:
    """A path as a plain JSON pointer, as an error reply shows it: ``/interval_ms``, or "" for the
    whole.
    """
    return "".join(f"/{escape(str(token))}" for token in path)


def lookup(root: Any, ref: Any, source: str, where: str) -> tuple[str, Any]:
    """The place a reference names, and what is there. Follows nothing.

    Raises DocumentError (at ``where``) when ``ref`` is not a local reference or names nothing.
    """
    if not isinstance(ref, str):
        raise DocumentError(
            source, where, f"$ref received {shown(ref)}; accepted: a string such as #/components/…"
        )
    if not ref.startswith("#"):
        raise DocumentError(
            source,
            where,
            f"remote references are not read: received {shown(ref)};"
            " accepted: a reference into this document (#/…). Bundle the document into one"
            " file first",
        )
    fragment = unquote(ref[1:])
    if fragment and not fragment.startswith("/"):
        raise DocumentError(
            source, where, f"$ref received {shown(ref)}; accepted: # or #/ and a JSON pointer"
        )
    node, pointer = root, "#"
    for raw in fragment.split("/")[1:]:
        token = unescape(raw)
        if isinstance(node, dict) and token in node:
            node = node[token]
        elif (
            isinstance(node, list)
            and token.isascii()
            and token.isdigit()
            and int(token) < len(node)
        ):
            node = node[int(token)]
        else:
            known = [key for key in node if isinstance(key, str)] if isinstance(node, dict) else []
            raise DocumentError(
                source,
                where,
                f"the reference {ref} names nothing: {pointer} holds no"
                f" {shown(token)}{nearest(token, known)}",
            )
        pointer = at(pointer, token)
    return pointer, node


def follow(root: Any, node: Any, source: str, where: str) -> tuple[str, Any]:
    """The first value on a chain of references that is not itself a reference, and its place.

    Raises DocumentError for a remote or dangling reference and for a chain that comes back to
    itself.
    """
    seen: list[str] = []
    pointer = where
    while isinstance(node, dict) and "$ref" in node:
        target, node = lookup(root, node["$ref"], source, pointer)
        if target in seen or target == where or len(seen) >= MAX_HOPS:
            raise DocumentError(
                source,
                where,
                f"the reference leads back to itself: {' -> '.join([where, *seen, target])}",
            )
        seen.append(target)
        pointer = target
    return pointer, node
