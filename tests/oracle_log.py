"""The slow, obvious log: lists in memory. The stores are compared with it, and it passes the same
contract suite.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from moda.errors import KeyReused
from moda.ports import Append, Appended, Extent, Key, Page, Records, Retention


class _Topic:
    def __init__(self, name: str, epoch: int) -> None:
        self.name = name
        self.epoch = epoch
        self.first = 1
        self.kept: list[tuple[int, bytes]] = []
        self.time = 0
        self.keep = Retention()

    @property
    def next(self) -> int:
        return self.first + len(self.kept)

    def drop(self) -> None:
        self.first += 1
        del self.kept[0]

    def size(self) -> int:
        return sum(len(data) for _, data in self.kept)

    def extent(self) -> Extent:
        return Extent(self.name, self.epoch, self.first, self.next, self.size())


class MemoryLog:
    """A Log that forgets with its process."""

    def __init__(self, now: Callable[[], float], keep_keys: float = 86_400.0) -> None:
        self._now = now
        self._keep_keys = keep_keys
        self._topics: dict[bytes, _Topic] = {}
        self._keys: dict[str, tuple[bytes, int, list[Appended]]] = {}

    def _ms(self) -> int:
        return int(self._now() * 1000)

    def append(
        self, batch: Sequence[Append], *, key: Key | None = None
    ) -> asyncio.Future[Sequence[Appended]]:
        for entry in batch:
            if not 1 <= len(entry.topic.encode()) <= 255 or not entry.records.count:
                raise ValueError(entry)
            if np.frombuffer(entry.records.sizes, "<u4").sum() != len(entry.records.data):
                raise ValueError(entry)
        if not batch or (key is not None and not 1 <= len(key.key.encode()) <= 255):
            raise ValueError(batch)
        future: asyncio.Future[Sequence[Appended]] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(self._append(batch, key))
        except KeyReused as error:
            future.set_exception(error)
        return future

    def _append(self, batch: Sequence[Append], key: Key | None) -> Sequence[Appended]:
        if key is not None and (before := self._known(key)) is not None:
            return before
        answer = []
        for entry in batch:
            name = entry.topic.encode()
            topic = self._topics.setdefault(name, _Topic(entry.topic, 1_000))
            topic.time = max(topic.time, self._ms())
            answer.append(
                Appended(entry.topic, topic.epoch, topic.next, entry.records.count, topic.time)
            )
            topic.kept += [(topic.time, record) for record in entry.records]
            topic.keep = entry.keep
        for entry in batch:
            topic = self._topics[entry.topic.encode()]
            while topic.keep.count and len(topic.kept) > topic.keep.count:
                topic.drop()
            while topic.keep.bytes and topic.size() > topic.keep.bytes:
                topic.drop()
        if key is not None:
            self._keys[key.key] = (key.digest, self._ms(), answer)
        return answer

    def _known(self, key: Key) -> Sequence[Appended] | None:
        digest, time, answer = self._keys.get(key.key, (b"", 0, []))
        if not answer or time <= self._ms() - int(self._keep_keys * 1000):
            return None
        if digest != key.digest:
            raise KeyReused(key.key)
        return answer

    async def read(self, topic: str, after: int, *, count: int, bytes: int) -> Page | None:
        found = self._topics.get(topic.encode())
        if found is None:
            return None
        first = max(after + 1, found.first)
        taken: list[tuple[int, bytes_]] = []
        size = 0
        for kept in found.kept[first - found.first :]:
            size += len(kept[1])
            if len(taken) == count or (taken and size > bytes):
                break
            taken.append(kept)
        times = np.array([time for time, _ in taken], "<i8").tobytes()
        first = min(first, found.next)
        return Page(found.extent(), first, Records.of(data for _, data in taken), times)

    async def since(self, topic: str, time: int) -> int | None:
        found = self._topics.get(topic.encode())
        if found is None:
            return None
        older = sum(1 for when, _ in found.kept if when < time)
        return found.first + older - 1

    async def position(self, topic: str) -> Extent | None:
        found = self._topics.get(topic.encode())
        return None if found is None else found.extent()

    async def epoch(self) -> int:
        return 1_000

    async def topics(self, *, prefix: str = "", after: str = "", limit: int = 100) -> list[Extent]:
        names = sorted(
            name
            for name in self._topics
            if name.startswith(prefix.encode()) and name > after.encode()
        )
        return [self._topics[name].extent() for name in names[:limit]]

    async def answer(self, key: Key) -> Sequence[Appended] | None:
        return self._known(key)

    async def trim(self) -> int:
        dropped = 0
        for topic in self._topics.values():
            age = int(topic.keep.age * 1000)
            while age and topic.kept and topic.kept[0][0] <= self._ms() - age:
                topic.drop()
                dropped += 1
        return dropped


bytes_ = bytes
