"""What was acknowledged, and whether a log holds it: each record once, at its offset, none lost."""

from __future__ import annotations

import json
from collections.abc import Iterable


class Ledger:
    """Acknowledged records by topic and offset."""

    def __init__(self) -> None:
        self.acknowledged: dict[tuple[str, int], str] = {}
        self.epochs: dict[str, set[int]] = {}

    def add(self, topic: str, epoch: int, first: int, ids: Iterable[str]) -> None:
        self.epochs.setdefault(topic, set()).add(epoch)
        for offset, one in enumerate(ids, first):
            place = (topic, offset)
            assert place not in self.acknowledged, f"{place} was given twice"
            self.acknowledged[place] = one

    def take(self, output: bytes) -> int:
        """Adds an appender's lines; a last one that was cut short was not said. How many."""
        lines = output.split(b"\n")[:-1]
        said = [line for line in map(json.loads, lines) if line != "ready"]
        for topic, epoch, first, ids in said:
            self.add(topic, epoch, first, ids)
        return len(said)

    async def check(self, log) -> int:
        """Reads the log whole and compares. How many records it holds."""
        held = 0
        for extent in await log.topics():
            topic = extent.topic
            assert self.epochs.get(topic, {extent.epoch}) == {extent.epoch}
            after, seen = 0, {}
            while True:
                page = await log.read(topic, after, count=500, bytes=1 << 20)
                if not page.count:
                    break
                assert page.first == after + 1, "offsets are not dense"
                seen.update(enumerate((data.decode() for data in page.records), page.first))
                after += page.count
            assert after == extent.next - 1
            assert len(set(seen.values())) == len(seen), "a record is there twice"
            for (name, offset), one in self.acknowledged.items():
                if name == topic:
                    assert seen.get(offset) == one, f"{topic}:{offset} was {one}"
            held += len(seen)
        known = {extent.topic for extent in await log.topics()}
        assert {topic for topic, _ in self.acknowledged} <= known
        return held
