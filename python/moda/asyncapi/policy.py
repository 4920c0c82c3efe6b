"""``x-moda`` on a channel: how the hub treats its topics, declared beside what they carry.

    x-moda:
      delivery: latest            # every | latest | drop: what a reader who cannot keep up gets
      key: /s                     # JSON pointer into the payload: newest per what
      history: {size: 100, ttl: 5m, durable: false}
      rate: 100/s                 # per connection and channel
      maxSubscribers: 500
      access: public              # public | token | key:<kind>
      presence: list              # list | count: its subscribers are told who is there
      publish: none               # none | clients | servers: who may publish events to it
      handler: myapp.rooms:Room   # the Channel class that serves it

Everything is optional. An unknown key is an error and not a shrug: a policy that is misspelt
would otherwise be a policy that is off, found out in production.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from moda.asyncapi.fault import DocumentError, listed, nearest, shown
from moda.asyncapi.pointer import at
from moda.message import Delivery, History, Presence

Publish = Literal["none", "clients", "servers"]

DELIVERIES: tuple[Delivery, ...] = ("every", "latest", "drop")
PRESENCES: tuple[Presence, ...] = ("list", "count")
PUBLISHERS: tuple[Publish, ...] = ("none", "clients", "servers")
KEYS = (
    "delivery",
    "key",
    "history",
    "rate",
    "maxSubscribers",
    "access",
    "presence",
    "publish",
    "handler",
)
HISTORY_KEYS = ("size", "ttl", "durable", "bytes")

MAX_HISTORY = 1_000_000
MAX_BYTES = 1 << 40
MAX_TTL = 366 * 86_400.0
MAX_COUNT = 10_000_000

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_RATE = re.compile(r"([1-9][0-9]{0,7})/(s|m|h)\Z")
_TTL = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)\Z")
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*\Z")
_KEY_KIND = re.compile(r"key:[a-z][a-z0-9_-]{0,31}\Z")
_HANDLER = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*[.:][A-Za-z_]\w*\Z")


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` messages in any ``seconds``.

    >>> Rate(6000, 60.0).per_second
    100.0
    """

    count: int
    seconds: float

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    def __str__(self) -> str:
        unit = next(name for name, seconds in _UNITS.items() if seconds == self.seconds)
        return f"{self.count}/{unit}"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a channel's ``x-moda`` says; the defaults are what an undeclared channel has.

    ``key`` is a JSON pointer into the payload; a payload without that place is never conflated.
    ``publish`` is about events sent to a channel that has no handler; a handler decides for itself.
    ``declared`` holds the ``x-moda`` keys the document states, for whoever lays a policy given in
    code over it.
    """

    delivery: Delivery = "every"
    key: str | None = None
    history: History | None = None
    rate: Rate | None = None
    max_subscribers: int | None = None
    access: str = "public"
    publish: Publish = "none"
    handler: str | None = None
    presence: Presence | None = None
    declared: frozenset[str] = frozenset()

    @property
    def key_kind(self) -> str | None:
        """The kind of API key that ``access: key:<kind>`` asks for.

        >>> Policy(access="key:ingest").key_kind
        'ingest'
        """
        return self.access.removeprefix("key:") if self.access.startswith("key:") else None


UNDECLARED = Policy()


def parse(value: Any, *, source: str, where: str, channel: str) -> Policy:
    """Reads the ``x-moda`` of ``channel`` at ``where``; None is the default policy.

    Raises DocumentError naming the channel, the field, what was received and what is accepted.
    """
    if value is None:
        return UNDECLARED
    read = _Reader(source, channel)
    fields = read.object(value, where, "x-moda", KEYS)
    history = fields.get("history")
    kept: History | None = None
    if "history" in fields:
        inside = at(where, "history")
        parts = read.object(history, inside, "history", HISTORY_KEYS)
        if "size" not in parts:
            raise read.wrong(
                inside, "history", history, f"an object with size (1 to {MAX_HISTORY})"
            )
        size = read.count(parts["size"], at(inside, "size"), "history.size", MAX_HISTORY)
        kept = History(size)
        if "ttl" in parts:
            ttl = read.duration(parts["ttl"], at(inside, "ttl"), "history.ttl")
            kept = replace(kept, ttl=ttl)
        if "durable" in parts:
            durable = read.flag(parts["durable"], at(inside, "durable"), "history.durable")
            kept = replace(kept, durable=durable)
        if "bytes" in parts:
            most = read.count(parts["bytes"], at(inside, "bytes"), "history.bytes", MAX_BYTES)
            kept = replace(kept, bytes=most)
    limit = fields.get("maxSubscribers")
    return Policy(
        delivery=cast(Delivery, read.choice(fields, where, "delivery", DELIVERIES, "every")),
        key=read.text(
            fields, where, "key", _POINTER, "a JSON pointer into the payload, such as /symbol"
        ),
        history=kept,
        rate=read.rate(fields, where),
        max_subscribers=None
        if "maxSubscribers" not in fields
        else read.count(limit, at(where, "maxSubscribers"), "maxSubscribers", MAX_COUNT),
        access=read.access(fields, where),
        publish=cast(Publish, read.choice(fields, where, "publish", PUBLISHERS, "none")),
        handler=read.text(
            fields, where, "handler", _HANDLER, "a Python path such as myapp.rooms:Room"
        ),
        presence=cast(Presence, read.choice(fields, where, "presence", PRESENCES, "list"))
        if "presence" in fields
        else None,
        declared=frozenset(fields),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """One check per kind of value; every one of them ends in the same sentence."""

    source: str
    channel: str

    def wrong(self, where: str, name: str, value: Any, accepted: str) -> DocumentError:
        return DocumentError(
            self.source,
            where,
            f"channel {shown(self.channel)}: {name} received {shown(value)}; accepted: {accepted}",
        )

    def object(self, value: Any, where: str, name: str, keys: tuple[str, ...]) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self.wrong(where, name, value, f"an object with {listed(keys)}")
        for key in value:
            if key not in keys:
                raise DocumentError(
                    self.source,
                    at(where, key),
                    f"channel {shown(self.channel)}: {name} has no"
                    f" {shown(key)}{nearest(key, keys)};"
                    f" accepted: {listed(keys)}",
                )
        return value

    def choice(
        self,
        fields: Mapping[str, Any],
        where: str,
        name: str,
        accepted: tuple[str, ...],
        default: str,
    ) -> str:
        value = fields.get(name, default)
        if value not in accepted or not isinstance(value, str):
            hint = nearest(value, accepted) if isinstance(value, str) else ""
            raise self.wrong(at(where, name), name, value, listed(accepted) + hint)
        return value

    def text(
        self,
        fields: Mapping[str, Any],
        where: str,
        name: str,
        pattern: re.Pattern[str],
        accepted: str,
    ) -> str | None:
        if name not in fields:
            return None
        value = fields[name]
        if not isinstance(value, str) or not pattern.match(value):
            raise self.wrong(at(where, name), name, value, accepted)
        return value

    def count(self, value: Any, where: str, name: str, most: int) -> int:
        if type(value) is not int or not 1 <= value <= most:
            raise self.wrong(where, name, value, f"an integer from 1 to {most}")
        return value

    def flag(self, value: Any, where: str, name: str) -> bool:
        if type(value) is not bool:
            raise self.wrong(where, name, value, "true or false")
        return value

    def duration(self, value: Any, where: str, name: str) -> float:
        accepted = (
            "seconds, or a number with ms, s, m, h or d (such as 5m), above 0 and up to"
            f" {MAX_TTL / 86_400:.0f}d"
        )
        seconds = 0.0
        if type(value) in (int, float):
            seconds = float(min(value, 1e12))
        elif isinstance(value, str) and (found := _TTL.match(value)):
            seconds = float(found[1]) * _UNITS[found[2]]
        if not 0.0 < seconds <= MAX_TTL:
            raise self.wrong(where, name, value, accepted)
        return seconds

    def rate(self, fields: Mapping[str, Any], where: str) -> Rate | None:
        text = self.text(
            fields, where, "rate", _RATE, "messages per second, minute or hour, such as 100/s"
        )
        if text is None:
            return None
        count, unit = text.split("/")
        return Rate(int(count), _UNITS[unit])

    def access(self, fields: Mapping[str, Any], where: str) -> str:
        value = fields.get("access", "public")
        if value in ("public", "token") or (isinstance(value, str) and _KEY_KIND.match(value)):
            return str(value)
        raise self.wrong(
            at(where, "access"), "access", value, "public, token or key:<kind> (such as key:ingest)"
        )
