"""From an AsyncAPI document to channels that run: the document is the configuration.

A declared channel is served by the handler its ``x-moda`` names, by code that registered its
address, or by one of the two here: clients may publish to it (a relay), or only receive (a stream).
"""

from __future__ import annotations

import importlib
import inspect
import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from moda import asyncapi
from moda.app.arguments import MOST, is_number, is_whole
from moda.asyncapi import address as addresses
from moda.channel import Channel, Stream
from moda.errors import ConfigurationError
from moda.hub import PRESENCE_EVENTS, RESERVED
from moda.message import Delivery, History, Presence, Raw, Reply
from moda.wire.phoenix import Mount, MountOptions, Route

__all__ = [
    "Declared",
    "Laid",
    "checker",
    "declared_channel",
    "load_handler",
    "served_by_document",
    "serving",
    "twice",
    "unkept",
]

Check = Callable[[str, Any], dict[str, Any] | None]


MAX_HISTORY = 1_000_000
MAX_TTL = 366 * 86_400.0
"""The bounds a document's ``x-moda`` has."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One channel: its pattern, who serves it, and the policy that code names for it."""

    pattern: str
    serves: type[Channel] | Stream
    sockets: tuple[str, ...] | None = None
    delivery: Delivery | None = None
    history: History | None = None
    max_subscribers: int | None = None
    presence: Presence | None = None
    relay: str | None = None
    """The options of the engine's relay, where that hands on what clients publish."""

    @property
    def shape(self) -> str:
        """The pattern without the names of its parameters."""
        return addresses.parse(self.pattern).shape

    @property
    def server(self) -> str:
        """The name of what serves it, for a sentence."""
        kind = self.serves if isinstance(self.serves, type) else type(self.serves)
        return kind.__name__


@dataclass(frozen=True, slots=True)
class Laid:
    """One declaration, checked: its route, what the engine is told of it, the mounts it is reached on.

    ``engine`` is (stream, delivery, key, history size, its ttl in ms, intercepted events, durable,
    native handlers).
    ``keep`` is how much of a durable topic the database holds.
    """

    route: Route
    engine: tuple[
        bool,
        Delivery,
        str | None,
        int,
        int,
        tuple[str, ...],
        bool,
        tuple[tuple[str, str], ...],
    ]
    reached: tuple[Mount, ...]
    keep: History | None = None


def declared_channel(
    pattern: str,
    serves: Any,
    sockets: Any,
    delivery: Delivery | None,
    history: Any,
    max_subscribers: Any,
    presence: Any = None,
) -> Declared:
    """Checks what ``gateway.channel`` was given. ConfigurationError says what, got and takes.

    The pattern's form and the sockets' names are looked at when the gateway is built.
    """
    call = f"channel({pattern!r})"
    target = serving(pattern, serves)
    if max_subscribers is not None and not is_whole(max_subscribers, 1, MOST):
        raise ConfigurationError(f"{call} takes max_subscribers from 1, got {max_subscribers!r}")
    if history is not None:
        _check_history(call, history)
    if presence not in (None, "list", "count"):
        raise ConfigurationError(f"{call} takes presence 'list' or 'count', got {presence!r}")
    if sockets is not None:
        if isinstance(sockets, str) or not isinstance(sockets, Sequence | set | frozenset):
            raise ConfigurationError(
                f"{call} takes sockets as a list of paths such as ['/socket'], got {sockets!r}"
            )
        if wrong := [path for path in sockets if not isinstance(path, str)]:
            raise ConfigurationError(f"{call} takes a socket as its path, got {wrong[0]!r}")
        sockets = tuple(path.rstrip("/") for path in sockets)
    return Declared(pattern, target, sockets, delivery, history, max_subscribers, presence)


def _check_history(call: str, history: Any) -> None:
    if not isinstance(history, History):
        raise ConfigurationError(
            f"{call} takes history as a History such as History(size=100, ttl=60), got {history!r}"
        )
    if not is_whole(history.size, 0, MAX_HISTORY):
        raise ConfigurationError(
            f"{call} takes a history size from 0 to {MAX_HISTORY}, got {history.size!r}"
        )
    ttl: Any = history.ttl
    if not is_number(ttl) or not 0 < ttl <= MAX_TTL:
        raise ConfigurationError(
            f"{call} takes a history ttl above 0 and up to {MAX_TTL:.0f} seconds, got {ttl!r}"
        )


def twice(late: Declared, first: Declared, path: str) -> ConfigurationError:
    """Two declarations of one set of topics on one socket: the second would never be reached."""
    patterns = f"channel({late.pattern!r})"
    if late.pattern != first.pattern:
        patterns = f"channel({first.pattern!r}) and {patterns}"
    return ConfigurationError(
        f"{patterns}: {late.server} would serve the topics that {first.server} serves already on "
        f"{path!r} and never be reached; takes one declaration for each pattern and socket "
        "(Gateway(builtins=False) leaves out moda's own)"
    )


def unkept(pattern: str, policy: asyncapi.Policy, mounts: Sequence[MountOptions]) -> Iterator[str]:
    """What a channel's policy says and this gateway will not do, in sentences for a log."""
    if policy.access == "token" and all(
        mount.tokens.mode == "off" and mount.connect is None for mount in mounts
    ):
        yield (
            f"channel {pattern!r} declares access token, and no client can show one: every join "
            "will be answered unauthorized; set MODA_SOCKET_AUTH=required (or optional) with "
            "MODA_SOCKET_TOKENS, or declare a connect hook"
        )
    if policy.key_kind is not None and all(
        mount.tokens.mode == "off" and mount.connect is None for mount in mounts
    ):
        yield (
            f"channel {pattern!r} declares access {policy.access}, and no client can show a key: "
            "every join will be answered unauthorized; set MODA_SOCKET_AUTH=optional (or required)"
        )


def checker(route: asyncapi.Route | None) -> Check | None:
    """The document's verdict on an inbound payload, as the conversation asks for it."""
    if route is None or not route.inbound:
        return None

    def check(event: str, payload: Any) -> dict[str, Any] | None:
        invalid = asyncapi.check(route, event, payload)
        return None if invalid is None else invalid.response

    return check


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


def served_by_document(route: asyncapi.Route) -> Declared:
    """A channel that only a document declares, and who serves it."""
    policy = route.policy
    if policy.handler is not None:
        return Declared(route.address, load_handler(policy.handler, route.address))
    if policy.publish != "clients":
        return Declared(route.address, Stream())
    if _needs_python(route):
        return Declared(route.address, _relay(route))
    return Declared(route.address, Stream(), relay=_relay_options(route))


def _needs_python(route: asyncapi.Route) -> bool:
    """Whether a relay takes what is Python's: schemas, or the store."""
    history = route.policy.history
    checked = route.inbound.keys() - {"phx_join"}
    return bool(checked) or (history is not None and history.durable)


def _relay_options(route: asyncapi.Route) -> str:
    options: dict[str, Any] = {"reserved": sorted(_reserved(route))}
    if route.policy.rate is not None:
        rate = route.policy.rate
        options["rate"] = {"count": rate.count, "seconds": rate.seconds}
    if route.channel.directed:
        options["events"] = sorted(route.events)
    return json.dumps(options)


def _reserved(route: asyncapi.Route) -> frozenset[str]:
    """Events that no client may publish: others would take them for the server's."""
    return RESERVED if route.policy.presence is None else RESERVED | PRESENCE_EVENTS


def _relay(route: asyncapi.Route) -> type[Channel]:
    reserved = _reserved(route)

    class Relay(Channel):
        """Hands what one client sends to all others, byte for byte.

        Decoded and encoded again, a whole number beyond 64 bits would arrive as a float, and 1.10
        as 1.1.
        """

        async def joined(self) -> None:
            if route.policy.presence is not None:
                # As a stream's subscribers are, without one of the application's code.
                self.track(self.socket.id or f"connection:{secrets.token_hex(8)}")

        async def _verbatim(self, event: str, payload: Any, text: bytes) -> Reply:
            if not self.socket.identity.may_publish(self.topic):
                return Reply("error", {"reason": "unauthorized", "rule": "publish"})
            if event in reserved:
                return Reply("error", {"reason": "reserved event", "event": event})
            if not route.accepts(event):
                return Reply(
                    "error",
                    {"reason": "unknown event", "event": event, "accepted": sorted(route.events)},
                )
            if isinstance(payload, bytes):
                self.broadcast_from(event, payload)
            elif isinstance(payload, dict):
                self.broadcast_from(event, Raw(text))
            else:
                return Reply("error", {"reason": "a payload is an object or binary"})
            return Reply()

    return Relay
