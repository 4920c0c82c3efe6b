"""What clients of the HTTP API send and get, and its errors.

An error is the same everywhere: a ``code`` for programs, a ``message`` for people, and where it
helps what was ``received`` and what is ``accepted``. One message of a batch fails with it as its
result; a whole request fails with it inside the envelope of all of moda's HTTP errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar.exceptions import HTTPException
from msgspec import UNSET, UnsetType

__all__ = [
    "Disconnect",
    "Disconnected",
    "Failed",
    "HistoryPage",
    "KeptMessage",
    "Message",
    "Problem",
    "Published",
    "Results",
    "TopicPage",
    "TopicState",
    "shown",
]

MAX_SHOWN = 200
"""Characters of a client's text that an error repeats."""


def shown(text: str) -> str:
    """A text as far as an error repeats it."""
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """One event for one topic. ``payload`` is a JSON object, or with ``encoding`` "base64" a text
    that holds the bytes of a binary one. ``key`` is what a ``latest`` topic keeps the newest by.
    """

    topic: str
    event: str
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    key: str | None = None
    encoding: str | None = None


class Published(msgspec.Struct, frozen=True):
    """Where a message stands in its topic's log; both null on a topic that keeps none."""

    epoch: int | None
    offset: int | None


class Failed(msgspec.Struct, frozen=True):
    """Why one message was not published. ``retry_after`` in seconds where it is worth another try."""

    code: str
    message: str
    received: Any = UNSET
    accepted: Any = UNSET
    retry_after: float | UnsetType = UNSET

    @property
    def passing(self) -> bool:
        """Whether the same message may get through later."""
        return self.retry_after is not UNSET


class Results(msgspec.Struct, frozen=True):
    """One result per message, in their order."""

    results: list[Published | Failed]


class TopicState(msgspec.Struct, frozen=True):
    """A topic on this node: who hears it by transport (``phoenix/2``, ``json``), how many messages
    were published while it was in memory, and where its log stands (null without one).
    """

    topic: str
    subscribers: dict[str, int]
    published: int
    epoch: int | None
    offset: int | None


class TopicPresence(msgspec.Struct, frozen=True):
    """Who is present on a topic of this node, ``{key: {"metas": [...]}}``, and how many ``metas``."""

    topic: str
    count: int
    presences: dict[str, Any]


class TopicPage(msgspec.Struct, frozen=True):
    """A page of topics in the order of their UTF-8 bytes. ``next`` is the ``after`` of the next page,
    null on the last. ``complete`` false: the database does not answer, so durable topics that
    nobody is on may be missing.
    """

    topics: list[TopicState]
    next: str | None
    complete: bool


class KeptMessage(msgspec.Struct, frozen=True):
    """One message of a topic's log. ``time`` in milliseconds since 1970; a binary payload is base64
    and says so in ``encoding``.
    """

    offset: int
    time: int
    event: str
    payload: msgspec.Raw
    encoding: str | UnsetType = UNSET


class HistoryPage(msgspec.Struct, frozen=True):
    """Messages behind a position, oldest first. ``offset`` is the newest of the topic, ``first`` the
    oldest that is kept. ``next`` is the ``since`` of the next page, null when nothing follows.

    ``gap`` says why something between ``since`` and the first message may be missing: "epoch"
    (another life of the topic), "expired" (not kept any more), "ahead" (``since`` is newer than the
    topic); null when nothing is.
    """

    topic: str
    epoch: int
    offset: int
    first: int
    messages: list[KeptMessage]
    next: str | None
    gap: str | None


class Disconnect(msgspec.Struct, forbid_unknown_fields=True):
    """The id that a connect hook gave to sockets (``Socket(id=...)``)."""

    id: str


class Disconnected(msgspec.Struct, frozen=True):
    """How many connections were closed."""

    closed: int


class Problem(HTTPException):
    """A request that is refused whole."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        received: Any = UNSET,
        accepted: Any = UNSET,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        named = {"code": code, "received": received, "accepted": accepted}
        extra = {name: value for name, value in named.items() if value is not UNSET}
        super().__init__(
            detail=message, status_code=status, headers=dict(headers or {}), extra=extra
        )
