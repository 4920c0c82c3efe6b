"""Small documents to build on: every test states only what it is about."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from moda.asyncapi import Document, Registry, Route
from moda.asyncapi.document import parse

ROOM: dict[str, Any] = {
    "asyncapi": "3.0.0",
    "info": {"title": "Rooms", "version": "1.0.0"},
    "channels": {
        "room": {
            "address": "room:{roomId}",
            "messages": {
                "join": {"name": "phx_join", "payload": {"$ref": "#/components/schemas/join"}},
                "say": {"name": "new_msg", "payload": {"$ref": "#/components/schemas/message"}},
                "said": {"name": "new_msg", "payload": {"type": "object", "required": ["id"]}},
                "joined": {"name": "phx_reply"},
            },
        }
    },
    "operations": {
        "enter": {
            "action": "receive",
            "channel": {"$ref": "#/channels/room"},
            "messages": [{"$ref": "#/channels/room/messages/join"}],
            "reply": {
                "channel": {"$ref": "#/channels/room"},
                "messages": [{"$ref": "#/channels/room/messages/joined"}],
            },
        },
        "say": {
            "action": "receive",
            "channel": {"$ref": "#/channels/room"},
            "messages": [{"$ref": "#/channels/room/messages/say"}],
        },
        "hear": {
            "action": "send",
            "channel": {"$ref": "#/channels/room"},
            "messages": [{"$ref": "#/channels/room/messages/said"}],
        },
    },
    "components": {
        "schemas": {
            "join": {"type": "object", "properties": {"name": {"type": "string", "minLength": 1}}},
            "message": {
                "type": "object",
                "required": ["body"],
                "properties": {"body": {"type": "string", "maxLength": 10}},
            },
        }
    },
}


def room(**changes: Any) -> dict[str, Any]:
    """The room document with values put at dotted paths: ``channels__room__address="lobby"``.

    A value of ``...`` removes what is there.
    """
    tree = deepcopy(ROOM)
    for path, value in changes.items():
        node: Any = tree
        *keys, last = path.split("__")
        for key in keys:
            node = node.setdefault(key.replace("x_moda", "x-moda"), {})
        last = last.replace("x_moda", "x-moda")
        if value is ...:
            node.pop(last, None)
        else:
            node[last] = value
    return tree


def document(tree: dict[str, Any] | None = None, name: str = "my.yaml") -> Document:
    return parse(ROOM if tree is None else tree, name)


def payload_document(schema: Any, **components: Any) -> dict[str, Any]:
    """One channel ``t`` with one undirected event ``e`` whose payload is ``schema``."""
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "t", "version": "1"},
        "channels": {"t": {"address": "t", "messages": {"e": {"payload": schema}}}},
        "components": {"schemas": components},
    }


def route_for(schema: Any, **components: Any) -> Route:
    (route,) = Registry(document(payload_document(schema, **components))).routes
    return route
