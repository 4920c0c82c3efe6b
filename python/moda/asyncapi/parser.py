"""A tree into channels, messages and operations, or an error that names the place.

Checked is what moda relies on. The official JSON schema is stricter about what moda has no use for,
and is not needed at run time: the tests hold moda's own document to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from moda.asyncapi import address as addresses
from moda.asyncapi import policy as policies
from moda.asyncapi import rewrite
from moda.asyncapi.fault import DocumentError, listed, nearest, reference, shown
from moda.asyncapi.graph import FORMATS, readable
from moda.asyncapi.model import Channel, Document, Message, Operation
from moda.asyncapi.pointer import at, follow, hops, unescape

_JSON = re.compile(
    r"(?:application/json|[\w.+-]+/[\w.+-]+\+json|text/json)(?:\s*;.*)?\Z", re.IGNORECASE
)
_TRAIT = (
    "contentType",
    "headers",
    "correlationId",
    "tags",
    "summary",
    "name",
    "title",
    "description",
    "externalDocs",
    "deprecated",
    "examples",
    "bindings",
)
"""The fields of a Message Trait Object; a Message Object has two more."""
_MESSAGE = (*_TRAIT, "payload", "traits")
_TOLD = ("title", "summary", "description", "tags", "externalDocs", "bindings")
_CHANNEL = ("address", "messages", "parameters", "servers", *_TOLD)
_OPERATION = ("action", "channel", "messages", "reply", "traits", "security", *_TOLD)
_REPLY = ("address", "channel", "messages")
_OPAQUE = frozenset(
    {"type", "format", "title", "description", "examples", "contentEncoding", "contentMediaType"}
)
"""What may be said of bytes without saying what they hold."""


@dataclass(slots=True)
class _Draft:
    """A channel while its operations are being read.

    ``pointer`` names it, ``place`` is where it stands once its reference is followed.
    """

    id: str
    pointer: str
    place: str
    body: dict[str, Any]
    messages: dict[str, Message]
    places: dict[str, str]
    inbound: dict[str, Message]
    outbound: dict[str, Message]
    directed: bool


class Parser:
    """Reads one tree, once. ``warnings`` grow while it does."""

    def __init__(self, root: rewrite.Tree, source: str, warnings: list[str]) -> None:
        self.root = root
        self.source = source
        self.warnings = warnings
        self.default_type = root.get("defaultContentType", "application/json")

    def document(self) -> Document:
        """The whole document. Raises DocumentError at the first thing that is wrong."""
        drafts = [self.draft(name, value) for name, value in self.root.get("channels", {}).items()]
        known = {draft.id: draft for draft in drafts}
        operations = tuple(
            self.operation(name, value, known)
            for name, value in self.root.get("operations", {}).items()
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
                    f" ({channel.address.template}) have one address; accepted: one channel per"
                    " address",
                )
        return Document(
            self.source, self.root, tuple(shapes.values()), operations, tuple(self.warnings)
        )

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
        self.fields(body, _CHANNEL, place, f"channel {shown(name)}")
        inside, held = self.object(
            body.get("messages", {}), at(place, "messages"), f"messages of channel {shown(name)}"
        )
        messages: dict[str, Message] = {}
        places: dict[str, str] = {}
        for key, item in held.items():
            where = at(inside, key)
            home, messages[key] = self.message(key, item, where, name)
            # The channel's own place for a message first: several may share one home.
            places[where] = key
            places.setdefault(home, key)
        return _Draft(name, pointer, place, body, messages, places, {}, {}, False)

    def finish(self, draft: _Draft) -> Channel | None:
        template = draft.body.get("address")
        if template is None:
            self.warnings.append(
                f"{self.source}: {draft.pointer}: the channel has no address, so no topic"
                " reaches it"
            )
            return None
        where = at(draft.pointer, "address")
        if not isinstance(template, str):
            raise self.wrong(
                where,
                f"the address received {shown(template)}; accepted: a string such as room:{{id}}",
            )
        address = addresses.parse(template, source=self.source, where=where)
        rules = self.rules(draft)
        for name in self.parameters(draft):
            if name not in address.parameters:
                raise self.wrong(
                    at(draft.pointer, "parameters", name),
                    f"channel {shown(draft.id)}: the address {shown(template)} has no parameter"
                    f" {shown(name)}"
                    f"{nearest(name, address.parameters)}; accepted:"
                    f" {addresses.known_parameters(address)}",
                )
        policy = policies.parse(
            draft.body.get("x-moda"),
            source=self.source,
            where=at(draft.pointer, "x-moda"),
            channel=draft.id,
        )
        if policy.key is not None and policy.delivery != "latest":
            self.warnings.append(
                f"{self.source}: {draft.pointer}/x-moda/key: only delivery: latest keeps the"
                " newest per key;"
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
            rules=MappingProxyType(rules),
            body=draft.body,
        )

    def parameters(self, draft: _Draft) -> dict[str, Any]:
        where = at(draft.place, "parameters")
        return self.object(
            draft.body.get("parameters", {}), where, f"parameters of channel {shown(draft.id)}"
        )[1]

    def rules(self, draft: _Draft) -> dict[str, dict[str, Any]]:
        """What the values of each parameter have to be, as a schema.

        A Parameter Object can hold an enum and nothing else that narrows it; ``x-moda: {pattern,
        maxLength}`` says the rest. A pattern is about the whole value.
        """
        found: dict[str, dict[str, Any]] = {}
        for name, value in self.parameters(draft).items():
            place = at(draft.place, "parameters", name)
            where, body = self.object(value, place, f"parameter {shown(name)}")

            def wrong(
                key: str, value: Any, accepted: str, where: str = where, name: str = name
            ) -> DocumentError:
                return self.wrong(
                    at(where, *key.split("/")),
                    f"channel {shown(draft.id)}: parameter {shown(name)} received {shown(value)};"
                    f" accepted: {accepted}",
                )

            rule: dict[str, Any] = {}
            values = body.get("enum")
            if values is not None:
                if not isinstance(values, list) or not values or not all(map(_is_word, values)):
                    raise wrong("enum", values, "a list of non-empty strings")
                rule["enum"] = list(dict.fromkeys(values))
            default = body.get("default")
            if default is not None and not (
                isinstance(default, str) and default in (values or [default])
            ):
                raise wrong("default", default, listed(values) if values else "a string")
            extra = body.get("x-moda", {})
            if not isinstance(extra, dict) or not set(extra) <= {"pattern", "maxLength"}:
                raise wrong("x-moda", extra, "an object with pattern, maxLength")
            if "pattern" in extra:
                if not _is_word(extra["pattern"]):
                    raise wrong("x-moda/pattern", extra["pattern"], "a regular expression")
                rule["pattern"] = f"^(?:{extra['pattern']})$"
            if "maxLength" in extra:
                if type(extra["maxLength"]) is not int or extra["maxLength"] < 1:
                    raise wrong("x-moda/maxLength", extra["maxLength"], "an integer from 1")
                rule["maxLength"] = extra["maxLength"]
            if rule:
                found[name] = rule
        return found

    # -- messages

    def message(self, key: str, value: Any, where: str, channel: str) -> tuple[str, Message]:
        """A message of a channel and the place it stands at once its reference is followed."""
        place, body = self.object(value, where, f"channel {shown(channel)}: message {shown(key)}")
        traits = body.get("traits", [])
        if not isinstance(traits, list):
            raise self.wrong(at(place, "traits"), f"received {shown(traits)}; accepted: a list")
        self.fields(body, _MESSAGE, place, f"channel {shown(channel)}: message {shown(key)}")
        stated = body
        headers = [at(place, "headers")] if "headers" in body else []
        for index, trait in reversed(list(enumerate(traits))):
            inside, laid = self.object(trait, at(place, "traits", index), "a message trait")
            self.fields(laid, _TRAIT, inside, f"a trait of message {shown(key)}")
            if "headers" in laid:
                headers.append(at(inside, "headers"))
            body = rewrite.merge_patch(laid, body)
        event = body.get("name", key)
        if not isinstance(event, str) or not event:
            raise self.wrong(
                at(place, "name"),
                f"channel {shown(channel)}: the name of message {shown(key)} received"
                f" {shown(event)};"
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
        return place, Message(
            key, event, where, payload, kind, binary, MappingProxyType(body), tuple(headers)
        )

    def fields(
        self, body: Mapping[str, Any], known: tuple[str, ...], where: str, what: str
    ) -> None:
        """Refuses a field that is not the version's: a schema under it would never be checked."""
        for key in body:
            if key not in known and not key.startswith("x-"):
                raise self.wrong(
                    at(where, key),
                    f"{what} has no {shown(key)}{nearest(key, known)}; accepted: {', '.join(known)}",
                )

    def payload(
        self, body: Mapping[str, Any], place: str, channel: str, key: str, binary: bool
    ) -> str:
        pointer = at(place, "payload")
        inside, schema = follow(self.root, body["payload"], self.source, pointer)
        if binary:
            bytes_ = isinstance(schema, dict) and schema.get("type", "string") == "string"
            if not (bytes_ and set(schema) <= _OPAQUE):
                self.warnings.append(
                    f"{self.source}: {pointer}: channel {shown(channel)}: message {shown(key)}"
                    " travels as a binary frame, and this schema is not checked"
                )
        elif isinstance(schema, dict) and "schemaFormat" in schema:
            if not readable(schema["schemaFormat"]):
                raise self.wrong(
                    at(inside, "schemaFormat"),
                    f"channel {shown(channel)}: message {shown(key)} received"
                    f" {shown(schema['schemaFormat'])}; accepted: {FORMATS}",
                )
            if "schema" in schema:
                return at(inside, "schema")
        return pointer

    # -- operations

    def operation(self, name: str, value: Any, known: Mapping[str, _Draft]) -> Operation:
        where = at("#/operations", name)
        place, body = self.object(value, where, f"operation {shown(name)}")
        self.fields(body, _OPERATION, place, f"operation {shown(name)}")
        action = body.get("action")
        if action not in ("send", "receive"):
            raise self.wrong(
                at(place, "action"),
                f"operation {shown(name)} received {shown(action)}; accepted: send, receive",
            )
        channel = self.channel_of(body.get("channel"), at(place, "channel"), name, known)
        channel.directed = True
        messages = self.chosen(body, place, channel, name)
        toward = channel.inbound if action == "receive" else channel.outbound
        toward.update({key: channel.messages[key] for key in messages})
        replies: tuple[str, ...] = ()
        answering: _Draft | None = None
        if body.get("reply") is not None:
            inside, reply = self.object(
                body["reply"], at(place, "reply"), f"reply of operation {shown(name)}"
            )
            self.fields(reply, _REPLY, inside, f"reply of operation {shown(name)}")
            answering = channel
            if reply.get("channel") is not None:
                answering = self.channel_of(reply["channel"], at(inside, "channel"), name, known)
            answering.directed = True
            back = answering.outbound if action == "receive" else answering.inbound
            if "messages" in reply or answering is not channel:
                foreign = back if reply.get("channel") is None else None
                replies = self.chosen(reply, inside, answering, name, foreign)
            back.update({key: answering.messages[key] for key in replies})
        return Operation(
            name, action, channel.id, messages, answering.id if answering else None, replies, body
        )

    def channel_of(
        self, value: Any, where: str, operation: str, known: Mapping[str, _Draft]
    ) -> _Draft:
        ref = value.get("$ref") if isinstance(value, dict) else None
        if ref is None:
            raise self.wrong(
                where,
                f"operation {shown(operation)} received {shown(value)}; accepted: a $ref to a"
                " channel, #/channels/…",
            )
        for target, _ in hops(self.root, value, self.source, where):
            for draft in known.values():
                if target in (draft.pointer, draft.place):
                    return draft
        raise self.wrong(
            where,
            f"operation {shown(operation)} received {reference(str(ref))}; accepted: a channel of"
            f" this document: {listed(draft.pointer for draft in known.values())}",
        )

    def chosen(
        self,
        body: Mapping[str, Any],
        where: str,
        channel: _Draft,
        operation: str,
        foreign: dict[str, Message] | None = None,
    ) -> tuple[str, ...]:
        """The messages an operation or a reply speaks of: those it lists, or all of its channel.

        A reply that names no channel may list messages of none; they are put into ``foreign``, by
        their places.
        """
        items = body.get("messages")
        if items is None:
            return tuple(channel.messages)
        if not isinstance(items, list):
            raise self.wrong(
                at(where, "messages"), f"received {shown(items)}; accepted: a list of $ref"
            )
        found = []
        for index, item in enumerate(items):
            inside = at(where, "messages", index)
            ref = item.get("$ref") if isinstance(item, dict) else None
            key = None
            if ref is not None:
                places = (place for place, _ in hops(self.root, item, self.source, inside))
                key = next(
                    (channel.places[place] for place in places if place in channel.places), None
                )
            if key is None and foreign is not None and ref is not None:
                home = follow(self.root, item, self.source, inside)[0]
                if home.startswith("#/components/messages/"):
                    title = unescape(unquote(home.rpartition("/")[2]))
                    foreign[home] = self.message(title, item, inside, channel.id)[1]
                    continue
            if key is None:
                raise self.wrong(
                    inside,
                    f"operation {shown(operation)} received"
                    f" {reference(ref) if isinstance(ref, str) else shown(item)};"
                    f" accepted: a message of channel {shown(channel.id)}:"
                    f" {listed(message.pointer for message in channel.messages.values())}",
                )
            found.append(key)
        return tuple(found)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value != ""
