"""Wherever a document may put a schema, a payload that breaks it is refused, or the document is.

Documents are generated: a channel, a message of it and a schema that takes one value only, each put
behind references, traits, wrappers and combinators at random. No place may lose the schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moda.asyncapi import DocumentError, Registry, check, merge, own
from moda.asyncapi.rewrite import mirror

from .support import document

Tree = dict[str, Any]
Wrap = Callable[[Tree, Any, Any, Any], tuple[Any, Any, Any]]
"""Takes the components, a schema, a value it takes and one it does not; returns the next three."""

GOOD, BAD = "known", "unknown"
DRAFT_07 = "application/schema+json;version=draft-07"


def place(components: Tree, section: str, value: Any) -> Tree:
    """Puts a value among the components and returns a reference to it."""
    held = components.setdefault(section, {})
    name = f"{section} {len(held)}/~%"
    held[name] = value
    escaped = name.replace("~", "~0").replace("/", "~1").replace("%", "%25").replace(" ", "%20")
    return {"$ref": f"#/components/{section}/{escaped}"}


def keyword(make: Callable[[Any], Any], good: Callable[[Any], Any] = lambda value: value) -> Wrap:
    return lambda _, schema, yes, no: (make(schema), good(yes), good(no))


def referred(components: Tree, schema: Any, yes: Any, no: Any) -> tuple[Any, Any, Any]:
    return place(components, "schemas", schema), yes, no


def referred_inside(components: Tree, schema: Any, yes: Any, no: Any) -> tuple[Any, Any, Any]:
    """A reference into a component that is itself a reference."""
    whole = place(components, "schemas", {"definitions": {"it": schema}})
    return {"$ref": place(components, "schemas", whole)["$ref"] + "/definitions/it"}, yes, no


def beside_an_id(components: Tree, schema: Any, yes: Any, no: Any) -> tuple[Any, Any, Any]:
    inner = place(components, "schemas", schema)
    number = len(components["schemas"])
    return {"$id": f"https://example.com/{number}", "allOf": [inner]}, yes, no


WRAPS: dict[str, Wrap] = {
    "$ref": referred,
    "$ref through $ref": referred_inside,
    "$id": beside_an_id,
    "wrapped": keyword(lambda s: {"schemaFormat": DRAFT_07, "schema": s}),
    "wrapped, asyncapi": keyword(
        lambda s: {"schemaFormat": "application/vnd.aai.asyncapi;version=3.0.0", "schema": s}
    ),
    "allOf": keyword(lambda s: {"allOf": [{}, s]}),
    "anyOf": keyword(lambda s: {"anyOf": [{"type": "null"}, s]}),
    "oneOf": keyword(lambda s: {"oneOf": [s, {"type": "null"}]}),
    "not not": keyword(lambda s: {"not": {"not": s}}),
    "if": keyword(lambda s: {"if": s, "else": False}),
    "then": keyword(lambda s: {"if": True, "then": s}),
    "else": keyword(lambda s: {"if": False, "else": s}),
    "properties": keyword(lambda s: {"properties": {"p": s}}, lambda v: {"p": v}),
    "a property called enum": keyword(lambda s: {"properties": {"enum": s}}, lambda v: {"enum": v}),
    "patternProperties": keyword(lambda s: {"patternProperties": {"^p": s}}, lambda v: {"p1": v}),
    "additionalProperties": keyword(lambda s: {"additionalProperties": s}, lambda v: {"x": v}),
    "dependencies": keyword(
        lambda s: {"dependencies": {"d": {"properties": {"p": s}}}}, lambda v: {"d": 1, "p": v}
    ),
    "items": keyword(lambda s: {"items": s}, lambda v: [v]),
    "items in a list": keyword(lambda s: {"items": [{}, s]}, lambda v: [0, v]),
    "additionalItems": keyword(lambda s: {"items": [{}], "additionalItems": s}, lambda v: [0, v]),
    "contains": keyword(lambda s: {"contains": s}, lambda v: [v]),
}


def message_referred(components: Tree, message: Tree) -> Tree:
    return place(components, "messages", message)


def message_with_trait(components: Tree, message: Tree) -> Tree:
    trait = place(components, "messageTraits", {"title": "t", "contentType": "application/json"})
    return {**message, "traits": [trait, {"headers": {"type": "object"}}]}


MESSAGES: dict[str, Callable[[Tree, Tree], Tree]] = {
    "$ref": message_referred,
    "trait": message_with_trait,
}


def speaking(components: Tree, how: str, refs: Tree) -> Tree:
    """Operations that make the message inbound in one of the ways there are."""
    channel, message, other = refs["channel"], refs["message"], refs["other"]
    operation: Tree = {"action": "receive", "channel": channel}
    if how == "none":
        return {}
    if how == "unmentioned":
        operation["messages"] = [other]
    elif how == "one":
        operation["messages"] = [message]
    elif how == "several":
        operation["messages"] = [other, message]
    elif how == "reply":
        reply = {"channel": channel, "messages": [message]}
        operation = {"action": "send", "channel": channel, "messages": [other], "reply": reply}
    elif how == "reply behind a reference":
        reply = place(components, "replies", {"channel": channel, "messages": [other, message]})
        operation = {"action": "send", "channel": channel, "messages": [other], "reply": reply}
    elif how == "reply without a channel":
        reply = {"messages": [message]}
        operation = {"action": "send", "channel": channel, "messages": [other], "reply": reply}
    elif how == "operation behind a reference":
        operation = place(components, "operations", {**operation, "messages": [message]})
    return {"op": operation}


SPEAKING = (
    "none",
    "all",
    "one",
    "several",
    "unmentioned",
    "reply",
    "reply behind a reference",
    "reply without a channel",
    "operation behind a reference",
)


@st.composite
def documents(draw: st.DrawFn) -> tuple[Tree, Any, Any]:
    """A document, and a payload that its message ``e`` takes and one that it does not."""
    components: Tree = {}
    schema: Any = {"const": GOOD}
    yes: Any = GOOD
    no: Any = BAD
    for name in draw(st.lists(st.sampled_from(sorted(WRAPS)), max_size=6)):
        schema, yes, no = WRAPS[name](components, schema, yes, no)
    message: Tree = {"name": "e", "payload": schema}
    for name in draw(st.lists(st.sampled_from(sorted(MESSAGES)), max_size=2)):
        message = MESSAGES[name](components, message) if "$ref" not in message else message
    if draw(st.booleans()):
        message = place(components, "messages", message)
    channel: Tree = {
        "address": "t",
        "messages": {"said": message, "other": {"payload": {"type": "object"}}},
    }
    for _ in range(draw(st.integers(0, 2))):
        channel = place(components, "channels", channel)
    refs = {
        "channel": {"$ref": "#/channels/t"},
        "message": {"$ref": "#/channels/t/messages/said"},
        "other": {"$ref": "#/channels/t/messages/other"},
    }
    operations = speaking(components, draw(st.sampled_from(SPEAKING)), refs)
    tree: Tree = {
        "asyncapi": draw(st.sampled_from(["3.0.0", "3.1.0"])),
        "info": {"title": "t", "version": "1"},
        "channels": {"t": channel},
        "operations": operations,
        "components": components,
    }
    if draw(st.booleans()):
        tree = mirror(tree)
    return tree, yes, no


@settings(max_examples=300, deadline=None)
@given(documents())
def test_a_payload_that_breaks_its_schema_is_refused_wherever_the_schema_stands(
    given_: tuple[Tree, Any, Any],
) -> None:
    tree, yes, no = given_
    (route,) = Registry(document(tree)).routes
    assert check(route, "e", yes) is None
    assert check(route, "e", no) is not None


@settings(max_examples=30, deadline=None)
@given(documents())
def test_and_in_the_document_that_is_made_of_it_and_of_modas_own(
    given_: tuple[Tree, Any, Any],
) -> None:
    tree, yes, no = given_
    found = Registry(merge(own(), document(tree))).find("t")
    assert found is not None
    assert check(found.route, "e", yes) is None
    assert check(found.route, "e", no) is not None


FALSE: dict[str, Any] = {
    "no schema": "x",
    "a type that is none": {"type": "intger"},
    "another format": {"schemaFormat": "application/vnd.apache.avro;version=1.9.0", "schema": {}},
    "a format without a schema": {"schemaFormat": DRAFT_07},
    "a keyword of a later draft": {"prefixItems": [{"type": "string"}]},
    "a reference to a server": {"$ref": "https://example.com/a.yaml"},
    "a pattern that is none": {"pattern": "("},
}


@pytest.mark.parametrize("name", FALSE)
@settings(max_examples=25, deadline=None)
@given(wraps=st.lists(st.sampled_from(sorted(WRAPS)), max_size=5), where=st.sampled_from(SPEAKING))
def test_a_schema_that_cannot_be_checked_is_refused_at_start_wherever_it_stands(
    name: str, wraps: list[str], where: str
) -> None:
    components: Tree = {}
    schema = FALSE[name]
    for wrap in wraps:
        schema, _, _ = WRAPS[wrap](components, schema, GOOD, BAD)
    ref = {"$ref": "#/channels/t"}
    refs = {
        "channel": ref,
        "message": {"$ref": "#/channels/t/messages/said"},
        "other": {"$ref": "#/channels/t/messages/other"},
    }
    messages = {"said": {"payload": schema}, "other": {}}
    tree: Tree = {
        "asyncapi": "3.0.0",
        "info": {"title": "t", "version": "1"},
        "channels": {"t": {"address": "t", "messages": messages}},
        "operations": speaking(components, where, refs),
        "components": components,
    }
    with pytest.raises(DocumentError):
        Registry(document(tree))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"oneOf": [{"payload": {"type": "string"}}]}, 'message "e" has no "oneOf"'),
        ({"paylod": {"type": "string"}}, '(did you mean "payload"?)'),
        ({"schemaFormat": DRAFT_07}, 'message "e" has no "schemaFormat"'),
        ({"traits": [{"payload": {"type": "string"}}]}, 'a trait of message "e" has no "payload"'),
        ({"headers": {"required": ["id"]}}, "declares headers that have to be there"),
        ({"headers": {"type": "intger"}}, "headers/type"),
        ({"traits": [{"headers": {"required": ["id"]}}]}, "traits/0/headers"),
        (
            {"headers": {"schemaFormat": "application/vnd.apache.avro", "schema": {}}},
            "schemaFormat",
        ),
    ],
)
def test_a_message_with_a_schema_where_none_is_looked_at_is_refused(
    changes: Tree, expected: str
) -> None:
    tree = {
        "asyncapi": "3.0.0",
        "info": {"title": "t", "version": "1"},
        "channels": {"t": {"address": "t", "messages": {"e": {"payload": {}, **changes}}}},
    }
    with pytest.raises(DocumentError) as caught:
        Registry(document(tree))
    assert expected in str(caught.value)


def test_headers_that_may_be_absent_are_taken() -> None:
    headers = {"type": "object", "properties": {"id": {"type": "string"}}}
    tree = {
        "asyncapi": "3.0.0",
        "info": {"title": "t", "version": "1"},
        "channels": {"t": {"address": "t", "messages": {"e": {"headers": headers}}}},
    }
    (route,) = Registry(document(tree)).routes
    assert route.accepts("e")


def test_a_schema_of_bytes_that_nobody_can_check_is_warned_of_by_name() -> None:
    tree = {
        "asyncapi": "3.0.0",
        "info": {"title": "t", "version": "1"},
        "channels": {
            "t": {
                "address": "t",
                "messages": {
                    "e": {"contentType": "application/cbor", "payload": {"type": "object"}},
                    "f": {"contentType": "image/png", "payload": {"properties": {"a": {}}}},
                    "g": {
                        "contentType": "image/png",
                        "payload": {"type": "string", "format": "binary"},
                    },
                    "h": {"contentType": "Application/JSON", "payload": {"type": "object"}},
                },
            }
        },
    }
    warned = document(tree).warnings
    assert [line.split(" travels")[0] for line in warned] == [
        f'my.yaml: #/channels/t/messages/{key}/payload: channel "t": message "{key}"'
        for key in ("e", "f")
    ]
