"""A document as moda understands it: channels, the events on them, who sends which, and the policies.

The tree that was read is kept beside the parsed form, because the served document is the tree.
Parsing checks what moda relies on and names the place of what is wrong; the official JSON schema is
stricter about what moda has no use for, and is not needed at run time.

The viewpoint is the server's: ``receive`` is what clients send. A document written from the client's side
says ``x-moda: {view: client}`` at its root and is turned round while it is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from moda.asyncapi import address as addresses
from moda.asyncapi import policy as policies
from moda.asyncapi import rewrite
from moda.asyncapi.address import Address
from moda.asyncapi.fault import DocumentError, listed, nearest, shown
from moda.asyncapi.pointer import at, follow, lookup
from moda.asyncapi.policy import Policy
from moda.asyncapi.source import read

OWN = Path(__file__).with_name("moda.asyncapi.yaml")
"""The document of moda's own channels."""

Action = Literal["send", "receive"]

_VERSION = re.compile(r"3\.[01]\.\d+\Z")
_DRAFT_07 = re.compile(
    r"application/(?:vnd\.aai\.asyncapi(?:\+json|\+yaml)?(?:;\s*version=[0-9.]+)?"
    r"|schema(?:\+json|\+yaml)(?:;\s*version=draft-07)?)\Z"
)
_JSON = re.compile(r"(?:application/json|[\w.+-]+/[\w.+-]+\+json|text/json)(?:\s*;.*)?\Z")


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a channel. ``event`` is the Phoenix event it travels as: its name, or its key in the channel.

    ``payload`` is the pointer of its schema, None when nothing is said about it. ``binary`` is true of
    every content type that is not JSON: such a payload travels as a binary frame.
    """

    id: str
    event: str
    pointer: str
    payload: str | None
    content_type: str
    binary: bool
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Channel:
    """One declared channel. ``inbound`` is what clients send to it, ``outbound`` what they receive.

    ``directed`` is false when no operation speaks of the channel: then nothing is known about who sends
    what, and both hold every message.
    """

    id: str
    pointer: str
    address: Address
    messages: Mapping[str, Message]
    inbound: tuple[Message, ...]
    outbound: tuple[Message, ...]
    directed: bool
    policy: Policy
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, from the server's side."""

    id: str
    action: Action
    channel: str
    messages: tuple[str, ...]
    reply_channel: str | None
    replies: tuple[str, ...]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Document:
    """A checked document. ``root`` is the tree it came from, corrected and in the server's view: read, never changed.

    ``warnings`` say what was changed or ignored, in sentences for a log.
    """

    source: str
    root: rewrite.Tree
    channels: tuple[Channel, ...]
    operations: tuple[Operation, ...]
    warnings: tuple[str, ...]


def load(source: str | os.PathLike[str] | bytes | None = None, name: str | None = None) -> Document:
    """Reads and checks a document: a path, the bytes themselves, or None for moda's own.

    Raises :class:`~moda.asyncapi.fault.DocumentError` naming the place, what was received and what is
    accepted.
    """
    label, root = read(OWN if source is None else source, name)
    return parse(root, label)


def parse(root: rewrite.Tree, source: str) -> Document:
    """Checks a tree that has been read already. The tree is not changed."""
    version = root.get("asyncapi")
    if not isinstance(version, str) or not _VERSION.match(version):
        raise DocumentError(source, "#/asyncapi", f"received {shown(version)}; accepted: 3.0.0 and later 3.0.x or 3.1.x")
    info = root.get("info")
    if not isinstance(info, dict) or not all(isinstance(info.get(key), str) for key in ("title", "version")):
        raise DocumentError(source, "#/info", f"received {shown(info)}; accepted: an object with title and version")
    for section in (*rewrite.SECTIONS, "components"):
        value = root.get(section, {})
        if not isinstance(value, dict):
            raise DocumentError(source, f"#/{section}", f"received {shown(value)}; accepted: an object")
    marker = root.get("x-moda", {})
    view = marker.get("view", "server") if isinstance(marker, dict) else None
    if view not in ("server", "client") or not set(marker) <= {"view"}:
        raise DocumentError(
            source, "#/x-moda", f"received {shown(marker)}; accepted at the root: an object with view, server or client"
        )
    tree, warnings = rewrite.correct(root, source)
    tree = rewrite.mirror(tree) if view == "client" else {**tree, "x-moda": {"view": "server"}}
    return _Parser(tree, source, warnings).document()


def merge(own: Document, user: Document) -> Document:
    """moda's own document and a user's as the one that is served and obeyed.

    moda's channels come first. Two channels of one address are an error that names both: which of them a
    client means could not be told.
    """
    mine = {channel.address.shape: channel for channel in own.channels}
    for channel in user.channels:
        other = mine.get(channel.address.shape)
        if other is not None:
            raise DocumentError(
                user.source,
                at(channel.pointer, "address"),
                f"the address {shown(channel.address.template)} of channel {shown(channel.id)} is already taken:"
                f" channel {shown(other.id)} of {own.source} has {shown(other.address.template)};"
                " accepted: an address of its own (or switch that part of moda off)",
            )
    merged = parse(rewrite.union(own.root, user.root), f"{user.source} + {own.source}")
    warnings = dict.fromkeys((*own.warnings, *user.warnings, *merged.warnings))
    return Document(merged.source, merged.root, merged.channels, merged.operations, tuple(warnings))


@dataclass(slots=True)
class _Draft:
    """A channel while its operations are being read. ``place`` is where it stands, ``pointer`` what names it."""

    id: str
    pointer: str
    place: str
    body: dict[str, Any]
    messages: dict[str, Message]
    places: dict[str, str]
    inbound: dict[str, Message]
    outbound: dict[str, Message]
    directed: bool


class _Parser:
    def __init__(self, root: rewrite.Tree, source: str, warnings: list[str]) -> None:
        self.root = root
        self.source = source
        self.warnings = warnings
        self.default_type = root.get("defaultContentType", "application/json")

    def document(self) -> Document:
        drafts = [self.draft(name, value) for name, value in self.root.get("channels", {}).items()]
        known = {draft.id: draft for draft in drafts}
        operations = tuple(
            self.operation(name, value, known) for name, value in self.root.get("operations", {}).items()
        )
        channels = [self.finish(draft) for draft in drafts]
        shapes: dict[str, Channel] = {}
        for channel in channels:
            if channel is None:
                continue
            other = shapes.setdefault(channel.address.shape, channel)
            if other is not channel:
                raise DocumentError(
                    self.source,
                    at(channel.pointer, "address"),
                    f"channels {shown(other.id)} ({other.address.template}) and {shown(channel.id)}"
                    f" ({channel.address.template}) have one address; accepted: one channel per address",
                )
        return Document(self.source, self.root, tuple(shapes.values()), operations, tuple(self.warnings))

    def wrong(self, where: str, problem: str) -> DocumentError:
        return DocumentError(self.source, where, problem)

    def object(self, value: Any, where: str, what: str) -> tuple[str, dict[str, Any]]:
        place, node = follow(self.root, value, self.source, where)
        if not isinstance(node, dict):
            raise self.wrong(where, f"{what} received {shown(node)}; accepted: an object")
        return place, node

    # -- channels

    def draft(self, name: str, value: Any) -> _Draft:
        pointer = at("#/channels", name)
        place, body = self.object(value, pointer, f"channel {shown(name)}")
        _, held = self.object(body.get("messages", {}), at(place, "messages"), f"messages of channel {shown(name)}")
        messages = {key: self.message(key, item, at(pointer, "messages", key), name) for key, item in held.items()}
        places = {message.pointer: key for key, message in messages.items()}
        return _Draft(name, pointer, place, body, messages, places, {}, {}, False)

    def finish(self, draft: _Draft) -> Channel | None:
        template = draft.body.get("address")
        if template is None:
            self.warnings.append(f"{self.source}: {draft.pointer}: the channel has no address, so no topic reaches it")
            return None
        where = at(draft.pointer, "address")
        if not isinstance(template, str):
            raise self.wrong(where, f"the address received {shown(template)}; accepted: a string such as room:{{id}}")
        address = addresses.parse(template, self.enums(draft), source=self.source, where=where)
        for name in self.parameters(draft):
            if name not in address.parameters:
                raise self.wrong(
                    at(draft.pointer, "parameters", name),
                    f"channel {shown(draft.id)}: the address {shown(template)} has no parameter {shown(name)}"
                    f"{nearest(name, address.parameters)}; accepted: {addresses.known_parameters(address)}",
                )
        policy = policies.parse(
            draft.body.get("x-moda"), source=self.source, where=at(draft.pointer, "x-moda"), channel=draft.id
        )
        if policy.key is not None and policy.delivery != "latest":
            self.warnings.append(
                f"{self.source}: {draft.pointer}/x-moda/key: only delivery: latest keeps the newest per key;"
                f" delivery is {policy.delivery}"
            )
        every = tuple(draft.messages.values())
        return Channel(
            id=draft.id,
            pointer=draft.pointer,
            address=address,
            messages=MappingProxyType(draft.messages),
            inbound=tuple(draft.inbound.values()) if draft.directed else every,
            outbound=tuple(draft.outbound.values()) if draft.directed else every,
            directed=draft.directed,
            policy=policy,
            body=draft.body,
        )

    def parameters(self, draft: _Draft) -> dict[str, Any]:
        where = at(draft.place, "parameters")
        return self.object(draft.body.get("parameters", {}), where, f"parameters of channel {shown(draft.id)}")[1]

    def enums(self, draft: _Draft) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for name, value in self.parameters(draft).items():
            where, body = self.object(value, at(draft.place, "parameters", name), f"parameter {shown(name)}")
            values = body.get("enum")
            if values is not None:
                if not isinstance(values, list) or not values or not all(isinstance(v, str) and v for v in values):
                    raise self.wrong(
                        at(where, "enum"),
                        f"channel {shown(draft.id)}: parameter {shown(name)} received {shown(values)};"
                        " accepted: a list of non-empty strings",
                    )
                found[name] = tuple(values)
            default = body.get("default")
            if default is not None and (not isinstance(default, str) or default not in (values or [default])):
                raise self.wrong(
                    at(where, "default"),
                    f"channel {shown(draft.id)}: parameter {shown(name)} received {shown(default)};"
                    f" accepted: {listed(values) if values else 'a string'}",
                )
        return found

    # -- messages

    def message(self, key: str, value: Any, where: str, channel: str) -> Message:
        place, body = self.object(value, where, f"channel {shown(channel)}: message {shown(key)}")
        traits = body.get("traits", [])
        if not isinstance(traits, list):
            raise self.wrong(at(place, "traits"), f"received {shown(traits)}; accepted: a list")
        stated = body
        for index, trait in reversed(list(enumerate(traits))):
            laid = self.object(trait, at(place, "traits", index), "a message trait")[1]
            body = rewrite.merge_patch(laid, body)
        event = body.get("name", key)
        if not isinstance(event, str) or not event:
            raise self.wrong(
                at(place, "name"),
                f"channel {shown(channel)}: the name of message {shown(key)} received {shown(event)};"
                " accepted: the event it travels as",
            )
        kind = body.get("contentType", self.default_type)
        if not isinstance(kind, str) or "/" not in kind:
            raise self.wrong(
                at(place, "contentType"),
                f"channel {shown(channel)}: message {shown(key)} received {shown(kind)};"
                " accepted: a media type such as application/json",
            )
        binary = not _JSON.match(kind)
        payload = self.payload(body, place, channel, key, binary) if "payload" in stated else None
        return Message(key, event, where, payload, kind, binary, MappingProxyType(body))

    def payload(self, body: Mapping[str, Any], place: str, channel: str, key: str, binary: bool) -> str:
        pointer = at(place, "payload")
        _, schema = follow(self.root, body["payload"], self.source, pointer)
        if not isinstance(schema, dict) or "schemaFormat" not in schema or "schema" not in schema:
            return pointer
        found = schema["schemaFormat"]
        if not binary and not (isinstance(found, str) and _DRAFT_07.match(found)):
            raise self.wrong(
                at(pointer, "schemaFormat"),
                f"channel {shown(channel)}: message {shown(key)} received {shown(found)}; accepted:"
                " application/vnd.aai.asyncapi;version=3.0.0 or application/schema+json;version=draft-07",
            )
        place, _ = follow(self.root, body["payload"], self.source, pointer)
        return at(place, "schema")

    # -- operations

    def operation(self, name: str, value: Any, known: Mapping[str, _Draft]) -> Operation:
        where = at("#/operations", name)
        place, body = self.object(value, where, f"operation {shown(name)}")
        action = body.get("action")
        if action not in ("send", "receive"):
            raise self.wrong(
                at(place, "action"), f"operation {shown(name)} received {shown(action)}; accepted: send, receive"
            )
        channel = self.channel_of(body.get("channel"), at(place, "channel"), name, known)
        channel.directed = True
        messages = self.chosen(body, place, channel, name)
        toward = channel.inbound if action == "receive" else channel.outbound
        toward.update({key: channel.messages[key] for key in messages})
        replies: tuple[str, ...] = ()
        answering: _Draft | None = None
        if body.get("reply") is not None:
            inside, reply = self.object(body["reply"], at(place, "reply"), f"reply of operation {shown(name)}")
            answering = channel
            if reply.get("channel") is not None:
                answering = self.channel_of(reply["channel"], at(inside, "channel"), name, known)
            answering.directed = True
            if "messages" in reply or answering is not channel:
                replies = self.chosen(reply, inside, answering, name)
            back = answering.outbound if action == "receive" else answering.inbound
            back.update({key: answering.messages[key] for key in replies})
        return Operation(name, action, channel.id, messages, answering.id if answering else None, replies, body)

    def channel_of(self, value: Any, where: str, operation: str, known: Mapping[str, _Draft]) -> _Draft:
        ref = value.get("$ref") if isinstance(value, dict) else None
        if ref is None:
            raise self.wrong(
                where,
                f"operation {shown(operation)} received {shown(value)}; accepted: a $ref to a channel, #/channels/…",
            )
        target, _ = lookup(self.root, ref, self.source, where)
        for draft in known.values():
            if target in (draft.pointer, draft.place):
                return draft
        raise self.wrong(
            where,
            f"operation {shown(operation)} received {shown(ref)}; accepted: a channel of this document:"
            f" {listed(draft.pointer for draft in known.values())}",
        )

    def chosen(self, body: Mapping[str, Any], where: str, channel: _Draft, operation: str) -> tuple[str, ...]:
        """The messages an operation or a reply speaks of: those it lists, or every one of its channel."""
        items = body.get("messages")
        if items is None:
            return tuple(channel.messages)
        if not isinstance(items, list):
            raise self.wrong(at(where, "messages"), f"received {shown(items)}; accepted: a list of $ref")
        found = []
        for index, item in enumerate(items):
            inside = at(where, "messages", index)
            ref = item.get("$ref") if isinstance(item, dict) else None
            key = None
            if ref is not None:
                key = channel.places.get(lookup(self.root, ref, self.source, inside)[0])
                target, _ = follow(self.root, item, self.source, inside)
                if key is None:
                    key = next((name for name in channel.messages if self.home(channel, name) == target), None)
            if key is None:
                raise self.wrong(
                    inside,
                    f"operation {shown(operation)} received {shown(ref if ref is not None else item)};"
                    f" accepted: a message of channel {shown(channel.id)}: {listed(channel.places)}",
                )
            found.append(key)
        return tuple(found)

    def home(self, channel: _Draft, key: str) -> str:
        """Where a channel's message really stands, for a reference that skips the channel."""
        return follow(self.root, {"$ref": channel.messages[key].pointer}, self.source, channel.pointer)[0]

