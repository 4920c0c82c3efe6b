"""Reading a document: a file becomes a checked Document, and two documents become one.

The viewpoint is the server's. A document written from the client's side says
``x-moda: {view: client}`` at its root and is turned round while it is read.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from moda.asyncapi import rewrite
from moda.asyncapi.fault import DocumentError, shown
from moda.asyncapi.model import Document
from moda.asyncapi.parser import Parser
from moda.asyncapi.pointer import at
from moda.asyncapi.source import read

OWN = Path(__file__).with_name("moda.asyncapi.yaml")
"""The document of moda's own channels."""

_VERSION = re.compile(r"3\.[01]\.\d+\Z")


def load(source: str | os.PathLike[str] | bytes | None = None, name: str | None = None) -> Document:
    """Reads and checks a document: a path, the bytes themselves, or None for moda's own.

    Raises :class:`~moda.asyncapi.fault.DocumentError` naming the place, what was received and what
    is accepted.
    """
    label, root = read(OWN if source is None else source, name)
    return parse(root, label)


def parse(root: rewrite.Tree, source: str) -> Document:
    """Checks a tree that has been read already. The tree is not changed."""
    version = root.get("asyncapi")
    if not isinstance(version, str) or not _VERSION.match(version):
        raise DocumentError(
            source,
            "#/asyncapi",
            f"received {shown(version)}; accepted: 3.0.0 and later 3.0.x or 3.1.x",
        )
    info = root.get("info")
    if not isinstance(info, dict) or not all(
        isinstance(info.get(key), str) for key in ("title", "version")
    ):
        raise DocumentError(
            source, "#/info", f"received {shown(info)}; accepted: an object with title and version"
        )
    for section in (*rewrite.SECTIONS, "components"):
        value = root.get(section, {})
        if not isinstance(value, dict):
            raise DocumentError(
                source, f"#/{section}", f"received {shown(value)}; accepted: an object"
            )
    marker = root.get("x-moda", {})
    view = marker.get("view", "server") if isinstance(marker, dict) else None
    if view not in ("server", "client") or not set(marker) <= {"view"}:
        raise DocumentError(
            source,
            "#/x-moda",
            f"received {shown(marker)}; accepted at the root: an object with view, server or"
            " client",
        )
    tree, warnings = rewrite.correct(root, source)
    tree = rewrite.mirror(tree) if view == "client" else {**tree, "x-moda": {"view": "server"}}
    return Parser(tree, source, warnings).document()


def merge(own: Document, user: Document) -> Document:
    """moda's own document and a user's as the one that is served and obeyed.

    moda's channels come first. Two channels of one address are an error that names both: which of
    them a client means could not be told.
    """
    mine = {channel.address.shape: channel for channel in own.channels}
    for channel in user.channels:
        other = mine.get(channel.address.shape)
        if other is not None:
            raise DocumentError(
                user.source,
                at(channel.pointer, "address"),
                f"the address {shown(channel.address.template)} of channel {shown(channel.id)}"
                " is already taken:"
                f" channel {shown(other.id)} of {own.source} has {shown(other.address.template)};"
                " accepted: an address of its own (or switch that part of moda off)",
            )
    merged = parse(rewrite.union(own.root, user.root), f"{user.source} + {own.source}")
    warnings = dict.fromkeys((*own.warnings, *user.warnings, *merged.warnings))
    return Document(merged.source, merged.root, merged.channels, merged.operations, tuple(warnings))
