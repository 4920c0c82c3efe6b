"""Topics whose log lies in a store: a message is published once it is durable, never before.

The order of such a topic is the order of the store's commits. An append is answered by the group's
commit; its message is then delivered in the callback of that answer, so that subscribers get
messages in the order of their offsets whoever waits for them. What the engine keeps of the topic is
the newest part of the log; for what is older, and for a subscriber who comes back from far, pieces
are read here, one at a time and at the subscriber's pace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from moda._core import write_record
from moda.errors import KeyReused, StoreError
from moda.message import Position
from moda.ports import Append, Appended, Key, Log, Records, Retention

if TYPE_CHECKING:
    from moda._core import Hub as Core

__all__ = ["DurableTopics", "Prepared"]

log = structlog.get_logger("moda.log")

PAGE_RECORDS: Final = 4_000
PAGE_BYTES: Final = 256 * 1024
"""One piece for one reader: a few milliseconds of encoding, and what a slow one makes us hold."""

Deliver = Callable[[str, str, bytes, bool, str | None, int, tuple[int, int]], object]
"""Topic, event, payload, whether it is binary, key, who is left out, and (epoch, offset)."""


Prepared = tuple[str, str, bytes, bool, str | None]
"""Topic, event, payload, whether it is binary, and key."""


def spread(
    count: int, topics: Collection[Sequence[int]], appended: Sequence[Appended]
) -> list[Position]:
    """The position of each of ``count`` messages, of which ``topics`` are the numbers by topic.

    KeyReused for the answer of an append that was another one: a key may come back after its
    request's topics have changed what they are.
    """
    if [one.count for one in appended] != [len(numbers) for numbers in topics]:
        raise KeyReused("this key's request wrote to other durable topics than this one")
    positions: list[Position] = [Position(0, 0)] * count
    for numbers, one in zip(topics, appended, strict=True):
        for offset, number in enumerate(numbers, one.first):
            positions[number] = Position(one.epoch, offset)
    return positions


class DurableTopics:
    """The engine's durable topics, on a log. ``keep`` says how much of a route's topics is kept."""

    def __init__(self, core: Core, log: Log, deliver: Deliver) -> None:
        self._core = core
        self._log = log
        self._deliver = deliver
        self._reads: set[asyncio.Task[None]] = set()
        self.keep: dict[int, Retention] = {}

    def append(
        self,
        route: int,
        topic: str,
        event: str,
        data: bytes,
        binary: bool,
        key: str | None = None,
        exclude: int = 0,
        once: Key | None = None,
    ) -> asyncio.Future[Position]:
        """Writes one message; its position comes after the commit, when subscribers have it too.

        ``once`` is an idempotency key: a repeated call gets the first one's position and publishes
        nothing. Raises as :meth:`moda.ports.Log.append`.
        """
        records = Records.of([write_record(event, data, binary)])
        written = self._log.append([Append(topic, records, self.keep[route])], key=once)
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Position] = loop.create_future()

        def committed(future: asyncio.Future[Sequence[Appended]]) -> None:
            if future.cancelled():
                told.cancel()
                return
            error = future.exception()
            if error is None:
                appended = future.result()[0]
                at = (appended.epoch, appended.first)
                self._deliver(topic, event, data, binary, key, exclude, at)
                if not told.done():
                    told.set_result(Position(*at))
            elif not told.done():
                told.set_exception(error)

        written.add_done_callback(committed)
        return told

    def append_batch(
        self, messages: Sequence[tuple[int, Prepared]], once: Key | None = None
    ) -> asyncio.Future[list[Position]]:
        """Writes (route, message) pairs in one append, all of them or none; their positions come
        after the commit, when subscribers have them too. ``once`` and errors as :meth:`append`.
        """
        topics: dict[str, list[int]] = {}
        for number, (_, message) in enumerate(messages):
            topics.setdefault(message[0], []).append(number)
        batch = []
        for topic, numbers in topics.items():
            records = Records.of([write_record(*messages[number][1][1:4]) for number in numbers])
            batch.append(Append(topic, records, self.keep[messages[numbers[0]][0]]))
        written = self._log.append(batch, key=once)
        told: asyncio.Future[list[Position]] = asyncio.get_running_loop().create_future()

        def committed(future: asyncio.Future[Sequence[Appended]]) -> None:
            if future.cancelled():
                told.cancel()
                return
            error = future.exception()
            if error is not None:
                if not told.done():
                    told.set_exception(error)
                return
            try:
                positions = spread(len(messages), topics.values(), future.result())
            except KeyReused as reused:
                if not told.done():
                    told.set_exception(reused)
                return
            for (_, message), position in zip(messages, positions, strict=True):
                self._deliver(*message, 0, position)
            if not told.done():
                told.set_result(positions)

        written.add_done_callback(committed)
        return told

    async def written(self, topics: Sequence[str], once: Key) -> list[Position] | None:
        """What :meth:`append_batch` answered to a key, for messages to these topics; None if the log
        does not know the key. Raises StoreError, and KeyReused for another request's key.
        """
        answer = await self._log.answer(once)
        if answer is None:
            return None
        numbers: dict[str, list[int]] = {}
        for number, topic in enumerate(topics):
            numbers.setdefault(topic, []).append(number)
        return spread(len(topics), numbers.values(), answer)

    @property
    def log(self) -> Log:
        """The log itself, to be read."""
        return self._log

    async def ready(self, topic: str) -> None:
        """Tells the engine where a topic stands in the store, for a join that is to be answered.

        Raises StoreError when the store cannot be asked and the engine does not know either.
        """
        try:
            extent = await self._log.position(topic)
            epoch = extent.epoch if extent is not None else await self._log.epoch()
        except StoreError:
            if self._core.position(topic) is None:
                raise
            return
        if extent is None:
            self._core.open_log(topic, epoch, 0, 1)
        else:
            self._core.open_log(topic, epoch, extent.next - 1, extent.first)

    async def trim(self) -> None:
        """Drops records past their topic's age."""
        await self._log.trim()

    def fetch(self, sub: int, topic: str, after: int) -> None:
        """Reads the next piece for a subscriber; the engine asks."""
        task = asyncio.get_running_loop().create_task(self._fetch(sub, topic, after))
        self._reads.add(task)  # the loop holds tasks weakly
        task.add_done_callback(self._reads.discard)

    async def _fetch(self, sub: int, topic: str, after: int) -> None:
        try:
            page = await self._log.read(topic, after, count=PAGE_RECORDS, bytes=PAGE_BYTES)
        except StoreError as error:
            log.warning("log.read.failed", topic=topic, error=str(error))
            page = None
        if page is None:
            self._core.unfetched(sub)
        else:
            records = page.records
            self._core.fetched(sub, page.extent.epoch, page.first, records.sizes, records.data)
