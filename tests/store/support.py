"""What the fault tests share: callers that keep appending and remember what was acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from moda.errors import StoreError, Unavailable
from moda.ports import Append, Records
from store.ledger import Ledger


class Load:
    """Tasks that append to one topic until stopped. ``refused`` counts by kind of error; anything
    but a StoreError ends the test.
    """

    def __init__(self, log, tasks: int = 6) -> None:
        self.ledger = Ledger()
        self.refused: dict[str, int] = {}
        self.done = 0
        self.patience = 1e9
        """The shortest time that a caller was told to wait."""
        self._log = log
        self._stop = False
        self._tasks = [asyncio.create_task(self._run(task)) for task in range(tasks)]

    async def _run(self, task: int) -> None:
        made = 0
        while not self._stop:
            ids = [f"{task}.{made + n}" for n in range(3)]
            made += 3
            batch = [Append("a", Records.of(one.encode() for one in ids))]
            try:
                (placed,) = await self._log.append(batch)
            except StoreError as error:
                self.patience = min(self.patience, error.retry_after)
                name = type(error).__name__
                self.refused[name] = self.refused.get(name, 0) + 1
                await asyncio.sleep(0.02)
                continue
            self.ledger.add(placed.topic, placed.epoch, placed.first, ids)
            self.done += 1

    async def more(self, count: int = 5, limit: float = 30.0) -> None:
        """Waits until that many more appends were acknowledged."""
        wanted = self.done + count
        await until(lambda: self.done >= wanted, limit)

    async def stop(self) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)
        assert self.patience > 0


async def until(true: Callable[[], bool], limit: float = 30.0) -> None:
    """Waits for something that is to come."""
    async with asyncio.timeout(limit):
        while not true():  # noqa: ASYNC110  # what is waited for announces nothing
            await asyncio.sleep(0.01)


async def refused(log, topic: str = "a") -> Unavailable:
    """The error of an append that has to fail."""
    try:
        await log.append([Append(topic, Records.of([b"never"]))])
    except Unavailable as error:
        return error
    raise AssertionError("the append was acknowledged")


def one(text: bytes, topic: str = "a") -> list[Append]:
    """A batch of one record."""
    return [Append(topic, Records.of([text]))]
