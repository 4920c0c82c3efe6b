"""Topics as an operator sees them: which there are, who hears them, what they keep.

What the engine has in memory and what the database holds are read side by side. A page of topics
that the database cannot add to says so; a history that lies in the database fails when that is away.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
import numpy as np
import orjson

from moda._core import kept_messages, kept_since, read_record, topic_facts, topic_names
from moda.durable import DurableTopics
from moda.errors import StoreError
from moda.hub import Hub
from moda.ports import Extent
from moda.rest.model import (
    HistoryPage,
    KeptMessage,
    Problem,
    TopicPage,
    TopicPresence,
    TopicState,
    shown,
)

__all__ = ["MAX_PAGE", "Start", "Topics", "read_position"]

MAX_PAGE: Final = 1_000
"""Topics or messages of one page."""

PAGE_BYTES: Final = 256 * 1024
"""Payloads of one page: one message at least, whatever it holds."""

MAX_NUMBER: Final = 1 << 53
"""Epochs and offsets stay below, so that every JSON reader keeps them."""


class Start(NamedTuple):
    """Where a page of history begins: behind ``since``, with the messages of ``time`` (milliseconds
    since 1970) or later, or with the newest ``last``. All None: with the oldest that is kept.
    """

    since: tuple[int, int] | None = None
    time: int | None = None
    last: int | None = None


class _Kept(NamedTuple):
    """Where a topic's log stands: the oldest offset that is kept, and the newest there was."""

    epoch: int
    first: int
    newest: int


def read_position(text: str) -> tuple[int, int]:
    """A position as ``epoch.offset``. Problem (400) for anything else.

    >>> read_position("1764200000000000.41")
    (1764200000000000, 41)
    """
    epoch, dot, offset = text.partition(".")
    digits = all(part.isascii() and part.isdigit() and len(part) <= 16 for part in (epoch, offset))
    if not dot or not digits or max(int(epoch), int(offset)) > MAX_NUMBER:
        raise Problem(
            400,
            "invalid_since",
            "`since` is a position as a publish or a page of history told it",
            received=shown(text),
            accepted=["1764200000000000.41"],
        )
    return int(epoch), int(offset)


class Topics:
    """Reads a hub's topics. ``now`` gives seconds since 1970."""

    def __init__(self, hub: Hub, now: Callable[[], float] = time.time) -> None:
        self._hub = hub
        self._now = now

    @property
    def _log(self) -> DurableTopics | None:
        """The durable topics, where any channel has some: else no database is open."""
        durable = self._hub.durable
        return durable if durable is not None and durable.keep else None

    async def page(self, pattern: str, after: str, limit: int) -> TopicPage:
        """Topics that are called ``pattern``, or begin with what stands before its ``*``."""
        if not pattern.endswith("*"):
            known = topic_names(self._hub.core, pattern, "", 1)
            found = [pattern] if known == [pattern] and pattern > after else []
            extents, complete = await self._extents(pattern, "", 1)
            if not found and pattern in extents and pattern > after:
                found = [pattern]
            return TopicPage(
                [self._state(name, extents.get(name)) for name in found], None, complete
            )
        prefix = pattern[:-1]
        extents, complete = await self._extents(prefix, after, limit + 1)
        names = {*extents, *topic_names(self._hub.core, prefix, after, limit + 1)}
        ordered = sorted(names, key=str.encode)
        states = [self._state(name, extents.get(name)) for name in ordered[:limit]]
        return TopicPage(states, ordered[limit - 1] if len(ordered) > limit else None, complete)

    async def _extents(self, prefix: str, after: str, limit: int) -> tuple[dict[str, Extent], bool]:
        """Durable topics by name, and whether the database could be asked."""
        if self._log is None:
            return {}, True
        try:
            found = await self._log.log.topics(prefix=prefix, after=after, limit=limit)
        except StoreError:
            return {}, False
        return {extent.topic: extent for extent in found}, True

    def _state(self, topic: str, extent: Extent | None) -> TopicState:
        facts = topic_facts(self._hub.core, topic)
        subscribers, published = ({}, 0) if facts is None else facts
        heard = {codec: count for codec, count in subscribers.items() if count}
        position = self._hub.position(topic)
        if extent is not None:
            return TopicState(topic, heard, published, extent.epoch, extent.next - 1)
        if position is None:
            return TopicState(topic, heard, published, None, None)
        return TopicState(topic, heard, published, *position)

    async def state(self, topic: str) -> TopicState:
        """One topic. Problem 404 for one that nothing serves."""
        if topic_facts(self._hub.core, topic) is None:
            raise unmatched(topic)
        extent = None
        if self._log is not None and self._hub.core.durable_route(topic) is not None:
            try:
                extent = await self._log.log.position(topic)
            except StoreError:
                extent = None  # what the engine knows of it is served
        return self._state(topic, extent)

    def presence(self, topic: str) -> TopicPresence:
        """Who is on a topic. Problem 404 for one that nothing serves."""
        if topic_facts(self._hub.core, topic) is None:
            raise unmatched(topic)
        read = self._hub.core.presence(topic)
        if read is None:
            return TopicPresence(topic, 0, {})
        known = orjson.loads(read)
        return TopicPresence(topic, known["count"], known["presences"])

    async def history(self, topic: str, start: Start, limit: int) -> HistoryPage:
        """One page of what a topic keeps. Problem 404 for a topic that keeps nothing or that nothing
        serves; raises StoreError when a durable topic cannot be read.
        """
        if topic_facts(self._hub.core, topic) is None:
            raise unmatched(topic)
        if self._log is not None and self._hub.core.durable_route(topic) is not None:
            return await self._stored(self._log, topic, start, limit)
        return self._remembered(topic, start, limit)

    def _remembered(self, topic: str, start: Start, limit: int) -> HistoryPage:
        position = self._hub.position(topic)
        if position is None:
            raise Problem(
                404,
                "no_history",
                "this topic keeps no history; channel(..., history=History(size=100)) or "
                "x-moda history gives it one",
                received=shown(topic),
            )
        core, now = self._hub.core, self._now() * 1000
        first = kept_messages(core, topic, MAX_NUMBER, 1, 1)[0] or 1
        here = _Kept(position.epoch, first, position.offset)
        after, gap = begin(here, start)
        if start.time is not None:
            # What lies in the future is nothing yet.
            after = kept_since(core, topic, max(0, int(now - start.time)))
            after = here.newest if start.time > now else after
        _, found = kept_messages(core, topic, after, limit, PAGE_BYTES)
        messages = [
            kept(offset, int(now - age), event, payload, binary)
            for offset, age, event, payload, binary in found
        ]
        return page_of(topic, here, messages, gap)

    async def _stored(
        self, durable: DurableTopics, topic: str, start: Start, limit: int
    ) -> HistoryPage:
        log = durable.log
        extent = await log.position(topic)
        if extent is None:
            here = _Kept(await log.epoch(), 1, 0)
            return page_of(topic, here, [], begin(here, start)[1])
        here = _Kept(extent.epoch, extent.first, extent.next - 1)
        after, gap = begin(here, start)
        if start.time is not None:
            after = await log.since(topic, start.time) or 0
        page = await log.read(topic, after, count=limit, bytes=PAGE_BYTES)
        if page is None:
            return page_of(topic, here, [], gap)
        if page.first > after + 1 and page.count and start.since is not None:
            gap = gap or "expired"  # trimmed since its position was asked for
        here = _Kept(page.extent.epoch, page.extent.first, page.extent.next - 1)
        times = np.frombuffer(page.times, "<i8").tolist()
        messages = [
            kept(offset, at, *read_record(record))
            for offset, at, record in zip(
                range(page.first, page.first + page.count), times, page.records, strict=True
            )
        ]
        return page_of(topic, here, messages, gap)


def begin(here: _Kept, start: Start) -> tuple[int, str | None]:
    """The offset behind which a page begins, and why something before it may be missing.

    >>> begin(_Kept(7, 3, 9), Start(since=(7, 5))), begin(_Kept(7, 3, 9), Start(since=(7, 1)))
    ((5, None), (2, 'expired'))
    >>> begin(_Kept(7, 3, 9), Start(since=(6, 5))), begin(_Kept(7, 3, 9), Start(since=(7, 10)))
    ((2, 'epoch'), (9, 'ahead'))
    >>> begin(_Kept(7, 3, 9), Start(last=2)), begin(_Kept(7, 3, 9), Start(last=99))
    ((7, None), (2, None))
    """
    if start.last is not None:
        return max(here.first - 1, here.newest - start.last), None
    if start.since is None:
        return here.first - 1, None
    epoch, offset = start.since
    if epoch != here.epoch:
        return here.first - 1, "epoch"
    if offset > here.newest:
        return here.newest, "ahead"
    if offset + 1 < here.first:
        return here.first - 1, "expired"
    return offset, None


def kept(offset: int, at: int, event: str, payload: bytes, binary: bool) -> KeptMessage:
    """One message of a page."""
    if binary:
        text = msgspec.Raw(b'"' + base64.b64encode(payload) + b'"')
        return KeptMessage(offset, at, event, text, "base64")
    return KeptMessage(offset, at, event, msgspec.Raw(payload))


def page_of(topic: str, here: _Kept, messages: list[KeptMessage], gap: str | None) -> HistoryPage:
    """A page, with the way to the next one."""
    more = bool(messages) and messages[-1].offset < here.newest
    return HistoryPage(
        topic=topic,
        epoch=here.epoch,
        offset=here.newest,
        first=here.first,
        messages=messages,
        next=f"{here.epoch}.{messages[-1].offset}" if more else None,
        gap=gap,
    )


def unmatched(topic: str) -> Problem:
    """The answer to a topic that nothing serves."""
    return Problem(404, "unmatched_topic", "nothing here serves this topic", received=shown(topic))
