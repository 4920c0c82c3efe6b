"""What travels: frozen values without behaviour.

N protocols and M features meet only here, so that they cost N + M. Nothing in this file
knows a wire format; the hub turns these into frames, once per codec.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Ref = str
"""A message's ref as the client sent it: opaque JSON text (``'"5"'``). Keep it, hand it back, never look inside."""

Delivery = Literal["every", "latest", "drop"]

Presence = Literal["list", "count"]
"""What a topic's subscribers are told of who is present: keys and metas, or how many keys."""
"""What a reader who cannot keep up gets: everything or a close, the newest per key, or what fits."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A payload that is JSON already: forwarded byte for byte, never parsed."""

    json: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to one message: any status, any JSON value, or bytes for a binary reply.

    >>> Reply("ok", {"n": 1})
    Reply(status='ok', response={'n': 1})

    Without a response it is ``{}``, as Phoenix answers; None is JSON's ``null`` and stays it.
    """

    status: str = "ok"
    response: Any = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stop:
    """Returned by ``handle`` to end the channel after it.

    ``reason`` "normal", "shutdown" and what begins with "shutdown:" ("shutdown:kicked") end with
    ``phx_close`` (the client stays away); any other ends with ``phx_error`` (the client joins
    again). ``reply`` goes out first.
    """

    reason: str = "normal"
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class History:
    """How much of a topic is kept for recovery: the last ``size`` messages, none older than ``ttl`` seconds.

    A ``durable`` history lies in the gateway's database (``DATABASE_URL``): it outlives a restart and
    a crash, and a message is published only once it is there. ``bytes`` bounds what it may hold of a
    topic, 0 is no bound.
    """

    size: int
    ttl: float = 300.0
    durable: bool = False
    bytes: int = 0


class Position(NamedTuple):
    """A place in a topic's history: the messages up to ``offset`` of that ``epoch``.

    Offsets count a topic's messages from 1, without holes; an epoch is one life of the topic, so
    positions of different epochs have nothing to do with each other.
    """

    epoch: int
    offset: int


@dataclass(frozen=True, slots=True)
class Kept:
    """One message of a topic's history. ``payload`` is the decoded JSON value, or bytes of a binary frame."""

    offset: int
    event: str
    payload: Any


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One line of ``/health``: ``status`` is "up", "simulated", "degraded" or "down"; ``detail`` is JSON."""

    status: str
    detail: dict[str, Any] = field(default_factory=dict)
