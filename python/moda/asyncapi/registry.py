"""The running side of a document: a topic's channel, what may be sent there, how it is treated.

A topic is looked up once per join and its route kept; a message costs one dictionary look-up more
when nothing is declared about its event (60 ns), and the validator's run when something is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

from jsonschema_rs import Draft7Validator

from moda.asyncapi import address as addresses
from moda.asyncapi.fault import DocumentError, shown
from moda.asyncapi.model import Channel, Document, Message
from moda.asyncapi.policy import UNDECLARED, Policy
from moda.asyncapi.schema import Compiler, Validator, failure
from moda.asyncapi.verdict import TOPIC, Invalid, explain

Direction = Literal["in", "out"]

REMEMBERED = 4096
"""Topics whose route is remembered; a client that makes up topics can only push others out of it.
"""

PROTOCOL_EVENTS = frozenset({"phx_join", "phx_leave", "heartbeat"})


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One declared channel, compiled.

    ``inbound`` and ``outbound`` hold the validator of each event about which something is declared.
    ``topics`` checks the parameters of a topic, where the document narrows any of them.
    """

    channel: Channel
    policy: Policy
    inbound: Mapping[str, Validator]
    outbound: Mapping[str, Validator]
    events: frozenset[str]
    topics: Draft7Validator | None

    @property
    def id(self) -> str:
        """The channel's key in the document."""
        return self.channel.id

    @property
    def address(self) -> str:
        """The address template, as the router takes it."""
        return self.channel.address.template

    def accepts(self, event: str) -> bool:
        """Whether clients may send this event here.

        Yes when the document says so, or says nothing about who sends what.
        """
        return not self.channel.directed or event in self.events or event in PROTOCOL_EVENTS


@dataclass(frozen=True, slots=True)
class Found:
    """The route of a topic and the values of its address's parameters."""

    route: Route
    params: Mapping[str, str]


def check(route: Route | None, event: str, payload: Any) -> Invalid | None:
    """What is wrong with a client's message on a topic of ``route``, or None.

    Called for every inbound message.
    ``payload`` is the decoded JSON value, or bytes for a binary frame; ``phx_join`` is an event
    like any other. To leave a payload undecoded when nobody asks about it, look first:
    ``route.inbound.get(event)`` is None then.

    >>> check(None, "new_msg", {"body": "hi"}) is None
    True
    """
    if route is None:
        return None
    validator = route.inbound.get(event)
    return None if validator is None else validator.check(payload)


def check_topic(route: Route | None, params: Mapping[str, str]) -> Invalid | None:
    """What is wrong with the parameters of a topic of ``route``, or None. Called once per join.

    The reason is ``invalid topic`` and the path names the parameter.
    """
    if route is None or route.topics is None or route.topics.is_valid(dict(params)):
        return None
    error = failure(route.topics, dict(params))
    return None if error is None else explain(error, TOPIC)


class Registry:
    """Everything a document declares, ready to be asked.

    Raises DocumentError when a payload schema of the document cannot be compiled.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        compiler = Compiler(document.root, document.source)
        compiler.check(
            (pointer, channel.id)
            for channel in document.channels
            for message in (*channel.messages.values(), *channel.inbound, *channel.outbound)
            for pointer in _schemas(message)
        )
        self.routes: tuple[Route, ...] = tuple(
            _route(channel, compiler) for channel in document.channels
        )
        self._shapes = {route.channel.address.shape: route for route in self.routes}
        self._find = lru_cache(maxsize=REMEMBERED)(self._search)

    def find(self, topic: str) -> Found | None:
        """The channel a topic belongs to: the first declared one whose address matches it."""
        return self._find(topic)

    def _search(self, topic: str) -> Found | None:
        for route in self.routes:
            params = route.channel.address.match(topic)
            if params is not None:
                return Found(route, MappingProxyType(params))
        return None

    def declared(self, pattern: str) -> Route | None:
        """The channel declared with the address ``pattern``, whatever its parameters are called.

        This is how a pattern given in code (``@gateway.channel("room:{id}")``) meets its
        declaration. Raises DocumentError when the pattern is none.
        """
        return self._shapes.get(addresses.parse(pattern, where=pattern).shape)

    def policy(self, topic: str) -> Policy:
        """The policy of a topic; the default one when no channel is declared for it."""
        found = self.find(topic)
        return UNDECLARED if found is None else found.route.policy

    def validator(self, topic: str, event: str, direction: Direction = "in") -> Validator | None:
        """The validator of an event on a topic, or None when nothing is declared about it.

        ``direction`` is seen from the server: "in" for what clients send, "out" for what they
        receive.
        """
        found = self.find(topic)
        if found is None:
            return None
        return (found.route.inbound if direction == "in" else found.route.outbound).get(event)


def _route(channel: Channel, compiler: Compiler) -> Route:
    known = {message.event for message in (*channel.inbound, *channel.outbound)}
    # No operation says who sends these. A client that does is held to what is declared.
    silent = [message for message in channel.messages.values() if message.event not in known]
    for message in channel.messages.values():
        _headers(channel, message, compiler)
    return Route(
        channel=channel,
        policy=channel.policy,
        inbound=_validators(channel, (*channel.inbound, *silent), compiler),
        outbound=_validators(channel, channel.outbound, compiler),
        events=frozenset(message.event for message in channel.inbound),
        topics=compiler.parameters(channel.rules, channel.pointer, channel.id)
        if channel.rules
        else None,
    )


def _schemas(message: Message) -> tuple[str, ...]:
    """The pointers of the schemas that have to hold for a message."""
    payload = () if message.payload is None or message.binary else (message.payload,)
    return (*payload, *message.headers)


def _headers(channel: Channel, message: Message, compiler: Compiler) -> None:
    """Refuses headers that a message from a client can never have: frames carry none."""
    for pointer in message.headers:
        validator = compiler.compile((pointer,), channel.id)[0]
        if message in channel.inbound and not validator.is_valid({}):
            raise DocumentError(
                compiler.source,
                pointer,
                f"channel {shown(channel.id)}: message {shown(message.id)} declares headers that"
                " have to be there, and what clients send here has none; accepted: headers that may"
                " be absent (fields of the payload may be required)",
            )


def _validators(
    channel: Channel, messages: Iterable[Message], compiler: Compiler
) -> Mapping[str, Validator]:
    """One validator per event.

    Messages that share an event are told apart by nothing else, so any of them may match.
    """
    events: dict[str, list[Message]] = {}
    for message in messages:
        events.setdefault(message.event, []).append(message)
    built: dict[str, Validator] = {}
    for event, group in events.items():
        texts = [message for message in group if not message.binary]
        binary = len(texts) < len(group)
        pointers = tuple(
            dict.fromkeys(message.payload for message in texts if message.payload is not None)
        )
        open_ = any(message.payload is None for message in texts)
        if pointers and not open_:
            built[event] = Validator(
                pointers, True, binary, *compiler.compile(pointers, channel.id)
            )
        elif not texts:
            built[event] = Validator((), False, True, None)
    return MappingProxyType(built)
