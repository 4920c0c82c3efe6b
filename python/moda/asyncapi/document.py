"""Reading a document: a file becomes a checked Document, and two documents become one.

The viewpoint is the server's. A document written from the client's side says
``x-moda: {view: client}`` at its root and is turned round while it is read; so is one that says
nothing and in which the server would have to join.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from moda.asyncapi import rewrite
from moda.asyncapi.bundle import bundle
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

    What a document read from a path refers to in other files is read with it.

    Raises :class:`~moda.asyncapi.fault.DocumentError` naming the place, what was received and what
    is accepted.
    """
    source = OWN if source is None else source
    label, root = read(source, name)
    if not isinstance(source, bytes):
        root = bundle(root, source, label)
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
    if not isinstance(info, dict):
        raise DocumentError(
            source, "#/info", f"received {shown(info)}; accepted: an object with title and version"
        )
    for key in ("title", "version"):
        if key not in info:
            raise DocumentError(source, "#/info", f"{key} is missing; accepted: a string")
        if not isinstance(info[key], str):
            raise DocumentError(
                source,
                at("#/info", key),
                f"received {shown(info[key])}; accepted: a string, in quotes where YAML reads a"
                " number",
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
    if view == "client":
        return Parser(rewrite.mirror(tree), source, warnings).document()
    tree = {**tree, "x-moda": {"view": "server"}}
    document = Parser(tree, source, list(warnings)).document()
    sent, received = _joins(document)
    if not sent:
        return document
    if not received and "view" not in marker:
        # Only clients join: a document in which the other side does speaks for the client.
        warnings.append(
            f"{source}: {sent[0]} sends phx_join, which only clients do, so the document is read"
            " from the client's side; say so with x-moda: {view: client} at its root"
        )
        turned = rewrite.mirror({**tree, "x-moda": {"view": "client"}})
        return Parser(turned, source, warnings).document()
    warnings = [
        *document.warnings,
        *(
            f"{source}: {place} sends phx_join, which only clients do; if the document speaks for"
            " the client, say x-moda: {view: client} at its root"
            for place in sent
        ),
    ]
    return replace(document, warnings=tuple(warnings))


def _joins(document: Document) -> tuple[list[str], list[str]]:
    """The operations that send, and that receive, a join among the messages they list.

    One that lists none speaks of all messages of its channel and says nothing about a join.
    """
    channels = {channel.id: channel for channel in document.channels}
    found: dict[str, list[str]] = {"send": [], "receive": []}
    for operation in document.operations:
        channel = channels.get(operation.channel)
        if channel is None or "messages" not in operation.body:
            continue
        if any(channel.messages[key].event == "phx_join" for key in operation.messages):
            found[operation.action].append(at("#/operations", operation.id))
    return found["send"], found["receive"]


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
    # What the merged document would be warned of has been said of the two it was made from.
    warnings = dict.fromkeys((*own.warnings, *user.warnings))
    return Document(merged.source, merged.root, merged.channels, merged.operations, tuple(warnings))
