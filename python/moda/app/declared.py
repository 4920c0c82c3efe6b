"""From an AsyncAPI document to channels that run: the document is the configuration.

A declared channel is served by the handler its ``x-moda`` names, by code that registered its
address, or by one of the two here: clients may publish to it (a relay), or only receive (a stream).
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from moda import asyncapi
from moda.channel import Channel, Stream
from moda.errors import ConfigurationError
from moda.hub import RESERVED
from moda.message import Raw, Reply

__all__ = ["checker", "key_finder", "load_handler", "served_by_document", "serving"]

Check = Callable[[str, Any], dict[str, Any] | None]
KeyFinder = Callable[[str, Any], str | None]


def checker(route: asyncapi.Route | None) -> Check | None:
    """The document's verdict on an inbound payload, as the conversation asks for it."""
    if route is None or not route.inbound:
        return None

    def check(event: str, payload: Any) -> dict[str, Any] | None:
        invalid = asyncapi.check(route, event, payload)
        return None if invalid is None else invalid.response

    return check


def key_finder(registry: asyncapi.Registry) -> KeyFinder | None:
    """Finds the value a ``latest`` topic conflates by, where a document names it by pointer."""
    if not any(route.policy.key for route in registry.routes):
        return None

    def find(topic: str, payload: Any) -> str | None:
        pointer = registry.policy(topic).key
        if pointer is None or not isinstance(payload, Mapping):
            return None
        value: Any = payload
        for part in pointer.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(value, Mapping) and name in value:
                value = value[name]
            elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
                value = value[int(name)]
            else:
                return None
        return value if isinstance(value, str) else repr(value)

    return find


def load_handler(path: str, address: str) -> type[Channel] | Stream:
    """The Channel or Stream class an ``x-moda`` handler names (``package.module:Class``).

    ConfigurationError says which part of the path leads nowhere.
    """
    name, _, attribute = path.replace(":", ".").rpartition(".")
    where = f"the handler {path!r} of channel {address!r}"
    try:
        found = getattr(importlib.import_module(name), attribute)
    except ImportError as error:
        raise ConfigurationError(f"{where} cannot be imported: {error}") from error
    except AttributeError:
        raise ConfigurationError(f"{where}: module {name} has no {attribute}") from None
    if isinstance(found, type) and issubclass(found, Stream):
        return found()
    if isinstance(found, Stream) or (isinstance(found, type) and issubclass(found, Channel)):
        return found
    raise ConfigurationError(f"{where} is {found!r}; it takes a Channel or Stream class")


def serving(pattern: str, serves: Any) -> type[Channel] | Stream:
    """What ``channel(pattern)`` was given, as a Channel class or a Stream object.

    ConfigurationError for anything else, and for the two mistakes that would otherwise show with
    the first client: a callback without ``async``, and ``intercept`` as one string.
    """
    target: type[Channel] | Stream
    kind: type
    if isinstance(serves, type) and issubclass(serves, Stream):
        serves = serves()
    if isinstance(serves, Stream):
        target, kind = serves, type(serves)
        callbacks: tuple[str, ...] = ("join",)
    elif isinstance(serves, type) and issubclass(serves, Channel):
        target = kind = serves
        callbacks = ("join", "joined", "handle", "outgoing", "leave")
        intercept: Any = serves.intercept
        if isinstance(intercept, str):
            raise ConfigurationError(
                f"{kind.__name__}.intercept takes a set of event names, got the string "
                f"{intercept!r}; write frozenset({{{intercept!r}}})"
            )
    else:
        raise ConfigurationError(
            f"channel({pattern!r}) takes a Channel class, a Stream class or a Stream object, "
            f"got {serves!r}"
        )
    for name in callbacks:
        callback = inspect.unwrap(getattr(kind, name))
        if inspect.isfunction(callback) and not inspect.iscoroutinefunction(callback):
            raise ConfigurationError(
                f"{kind.__name__}.{name} is a plain function; it is awaited, so write async def {name}"
            )
    return target


def served_by_document(route: asyncapi.Route) -> type[Channel] | Stream:
    """Who serves a channel that only a document declares."""
    policy = route.policy
    if policy.handler is not None:
        return load_handler(policy.handler, route.address)
    return _relay(route) if policy.publish == "clients" else Stream()


def _relay(route: asyncapi.Route) -> type[Channel]:
    class Relay(Channel):
        """Hands what one client sends to all others."""

        async def handle(self, event: str, payload: Any) -> Reply:
            if event in RESERVED:
                return Reply("error", {"reason": "reserved event", "event": event})
            if not route.accepts(event):
                return Reply(
                    "error",
                    {"reason": "unknown event", "event": event, "accepted": sorted(route.events)},
                )
            if not isinstance(payload, dict | bytes | Raw):
                return Reply("error", {"reason": "a payload is an object or binary"})
            self.broadcast_from(event, payload)
            return Reply()

    return Relay
