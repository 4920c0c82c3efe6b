"""References through references: what the official parser takes is taken, and means the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from moda.asyncapi import DocumentError, Registry, check
from moda.asyncapi.pointer import MAX_HOPS, lookup

from .official import diagnostics
from .support import document, room

Tree = dict[str, Any]


def component(tree: Tree, section: str, name: str, value: Any) -> Tree:
    tree["components"].setdefault(section, {})[name] = value
    return {"$ref": f"#/components/{section}/{name}"}


def twice(tree: Tree, section: str, value: Any) -> Tree:
    """A value behind two references."""
    return component(tree, section, "second", component(tree, section, "first", value))


def channel(tree: Tree) -> None:
    tree["channels"]["room"] = twice(tree, "channels", tree["channels"]["room"])


def message(tree: Tree) -> None:
    messages = tree["channels"]["room"]["messages"]
    messages["say"] = twice(tree, "messages", messages["say"])


def channel_and_message(tree: Tree) -> None:
    message(tree)
    channel(tree)


def all_messages(tree: Tree) -> None:
    tree["components"]["messages"] = tree["channels"]["room"]["messages"]
    tree["channels"]["room"]["messages"] = {"$ref": "#/components/messages"}


def operation(tree: Tree) -> None:
    tree["operations"]["say"] = twice(tree, "operations", tree["operations"]["say"])


def reply(tree: Tree) -> None:
    enter = tree["operations"]["enter"]
    enter["reply"] = twice(tree, "replies", enter["reply"])


def reply_address(tree: Tree) -> None:
    address = {"location": "$message.header#/replyTo"}
    tree["operations"]["enter"]["reply"]["address"] = twice(tree, "replyAddresses", address)


def reply_without_a_channel(tree: Tree) -> None:
    found = component(tree, "messages", "answer", {"payload": {"type": "string"}})
    tree["operations"]["enter"]["reply"] = {"messages": [found]}


def server(tree: Tree) -> None:
    tree["servers"] = {"one": twice(tree, "servers", {"host": "h", "protocol": "ws"})}
    tree["channels"]["room"]["servers"] = [{"$ref": "#/servers/one"}]


def security(tree: Tree) -> None:
    scheme = twice(tree, "securitySchemes", {"type": "userPassword"})
    tree["servers"] = {"one": {"host": "h", "protocol": "ws", "security": [scheme]}}
    tree["operations"]["say"]["security"] = [scheme]


def parameter(tree: Tree) -> None:
    found = twice(tree, "parameters", {"enum": ["a", "b"]})
    tree["channels"]["room"]["parameters"] = {"roomId": found}


def traits(tree: Tree) -> None:
    say = tree["channels"]["room"]["messages"]["say"]
    say["traits"] = [twice(tree, "messageTraits", {"title": "t"})]
    tree["operations"]["say"]["traits"] = [twice(tree, "operationTraits", {"title": "t"})]


def bindings(tree: Tree) -> None:
    found = twice(tree, "channelBindings", {"ws": {"method": "GET"}})
    tree["channels"]["room"]["bindings"] = found


def schema(tree: Tree) -> None:
    said = twice(tree, "schemas", tree["components"]["schemas"]["message"])
    tree["channels"]["room"]["messages"]["say"]["payload"] = {"allOf": [said]}


def schema_elsewhere(tree: Tree) -> None:
    tree["x-shared"] = {"text": tree["components"]["schemas"]["message"]}
    said = {"$ref": "#/x-shared/text"}
    tree["channels"]["room"]["messages"]["say"]["payload"] = said


def name_with_a_space(tree: Tree) -> None:
    said = component(tree, "schemas", "to say", tree["components"]["schemas"]["message"])
    tree["channels"]["room"]["messages"]["say"]["payload"] = said


WAYS: list[Callable[[Tree], None]] = [
    channel,
    message,
    channel_and_message,
    all_messages,
    operation,
    reply,
    reply_address,
    reply_without_a_channel,
    server,
    security,
    parameter,
    traits,
    bindings,
    schema,
    schema_elsewhere,
    name_with_a_space,
]


def told(way: Callable[[Tree], None]) -> Tree:
    tree = room()
    way(tree)
    return tree


def test_the_official_parser_takes_every_one_of_them() -> None:
    rows = diagnostics([json.dumps(told(way)) for way in WAYS])
    errors = {
        way.__name__: [row for row in found if row[0] == 0]
        for way, found in zip(WAYS, rows, strict=True)
    }
    assert errors == {name: [] for name in errors}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_is_referred_to_means_what_it_means_where_it_stands(
    way: Callable[[Tree], None],
) -> None:
    (plain,) = Registry(document(room())).routes
    (route,) = Registry(document(told(way))).routes
    assert route.inbound.keys() == plain.inbound.keys()
    assert route.events == plain.events
    for payload in ({}, {"body": 1}, {"body": "x" * 11}, {"body": "hi"}):
        assert check(route, "new_msg", payload) == check(plain, "new_msg", payload)


def test_a_reply_that_names_no_channel_may_have_messages_of_none() -> None:
    tree = told(reply_without_a_channel)
    found = document(tree).channels[0]
    assert [one.id for one in found.outbound] == ["answer", "said"]
    tree["operations"]["enter"]["action"] = "send"
    (route,) = Registry(document({**tree, "x-moda": {"view": "server"}})).routes
    assert check(route, "answer", 5) is not None
    tree["components"]["messages"]["answer"]["payload"] = {"type": "intger"}
    with pytest.raises(DocumentError, match="intger"):
        Registry(document(tree))


def test_a_place_below_a_reference_is_the_one_the_value_stands_at() -> None:
    root = {"a": {"$ref": "#/b"}, "b": {"c": {"$ref": "#/d"}}, "d": [{"e": 1}]}
    assert lookup(root, "#/a/c/0/e", "my.yaml", "#") == ("#/d/0/e", 1)
    assert lookup(root, "#/a/c", "my.yaml", "#") == ("#/b/c", {"$ref": "#/d"})


@pytest.mark.parametrize(
    "root",
    [
        {"a": {"$ref": "#/a/b"}},
        {"a": {"$ref": "#/c/b"}, "c": {"$ref": "#/a/b"}},
        {f"a{n}" if n else "a": {"$ref": f"#/a{n + 1}/b"} for n in range(MAX_HOPS + 2)},
    ],
)
def test_references_that_need_one_another_on_their_way_are_refused(root: Tree) -> None:
    with pytest.raises(DocumentError, match="leads back to itself"):
        lookup(root, "#/a/x", "my.yaml", "#")


@pytest.mark.parametrize("where", ["publish", "subscribe", "message"])
def test_what_older_versions_had_on_a_channel_is_refused_by_name(where: str) -> None:
    tree = room()
    tree["channels"]["room"][where] = {"payload": {"type": "string"}}
    with pytest.raises(DocumentError, match=f'has no "{where}"'):
        document(tree)


@pytest.mark.parametrize("where", ["message", "payload"])
def test_what_an_operation_or_a_reply_does_not_have_is_refused_by_name(where: str) -> None:
    for path in ("say", "enter"):
        tree = room()
        holder = tree["operations"][path]
        (holder["reply"] if path == "enter" else holder)[where] = {"type": "string"}
        with pytest.raises(DocumentError, match=f'has no "{where}"'):
            document(tree)
