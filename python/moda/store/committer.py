"""Many writers, one commit: the queue in front of a database.

A commit costs one wait for the disk, whatever it holds. Items that arrive while the disk is busy, or
within a short window after the first, go into one group, and each caller is answered when its group
is on disk. The window matters where callers wait for answers: they all come back at once after a
commit, and without it the first of them would start a group of one and leave the others to the next.

The queue is bounded in items and bytes. Past the bound a caller is told Busy before anything is
kept; the store never grows because its disk is slow.

This file knows no database: ``commit`` is given, and either returns a result per item, or raises
StoreError (nothing was written, the whole group fails), or raises anything else (rolled back for a
bug of one item, the items are tried one by one).
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from moda.errors import Busy, StoreError, Unavailable
from moda.ports import Writes
from moda.store.counts import StoreCounts

__all__ = ["Bounds", "Commit", "GroupCommitter", "Share", "answered"]

log = structlog.get_logger("moda.store")

Share = tuple[Writes[Any, Any], list[Any]]
"""A user and its items of one group, in order."""

Commit = Callable[[Sequence[Share]], Awaitable[Sequence[Sequence[Any]]]]
"""Writes one group; a result per item, by share."""

BUSY_RETRY = 0.25
"""Seconds to advise when the queue is full: it drains within a few commits, or the store is away."""


class Bounds:
    """What waits and what a group holds, at most. Zero would be no progress, so none is zero."""

    __slots__ = ("group_bytes", "group_items", "queue_bytes", "queue_items", "window")

    def __init__(
        self,
        *,
        window: float = 0.002,
        queue_items: int = 10_000,
        queue_bytes: int = 64 << 20,
        group_items: int = 2_000,
        group_bytes: int = 8 << 20,
    ) -> None:
        if min(queue_items, queue_bytes, group_items, group_bytes) < 1 or window < 0:
            raise ValueError("bounds of a queue take 1 or more, its window 0 or more")
        self.window = window
        self.queue_items = queue_items
        self.queue_bytes = queue_bytes
        self.group_items = group_items
        self.group_bytes = group_bytes


class _Entry:
    __slots__ = ("future", "item", "size", "writes")

    def __init__(
        self, writes: Writes[Any, Any], item: Any, size: int, future: asyncio.Future[Any]
    ) -> None:
        self.writes = writes
        self.item = item
        self.size = size
        self.future = future


class GroupCommitter:
    """Forms groups and answers callers. All methods belong to the loop's thread."""

    def __init__(self, commit: Commit, bounds: Bounds, counts: StoreCounts) -> None:
        self._commit = commit
        self._bounds = bounds
        self._counts = counts
        self._queue: deque[_Entry] = deque()
        self._bytes = 0
        self._waker: asyncio.Future[None] | None = None
        self._idle = False
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def waiting(self) -> tuple[int, int]:
        """Items and bytes that wait for a group."""
        return len(self._queue), self._bytes

    def submit(self, writes: Writes[Any, Any], item: Any, size: int) -> asyncio.Future[Any]:
        """Queues an item. Busy or Unavailable at once when it cannot be taken.

        An item larger than the whole bound is taken when nothing else waits, or it never could be.
        """
        if self._closed:
            raise Unavailable("the store is closed", 1.0)
        bounds = self._bounds
        if len(self._queue) >= bounds.queue_items or (
            self._bytes + size > bounds.queue_bytes and self._queue
        ):
            self._counts.refused += 1
            raise Busy(
                f"{len(self._queue)} writes of {self._bytes} bytes wait for the database, which is "
                f"the bound ({bounds.queue_items} writes, {bounds.queue_bytes} bytes)",
                BUSY_RETRY,
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._queue.append(_Entry(writes, item, size, future))
        self._bytes += size
        if self._task is None:
            self._task = loop.create_task(self._run(), name="store.committer")
        if self._idle or self._full():
            self._wake()
        return future

    def fail_waiting(self, error: StoreError) -> None:
        """Fails what waits for a group; the group being committed is its own affair."""
        entries, self._queue, self._bytes = self._queue, deque(), 0
        self._fail(entries, error)

    async def close(self) -> None:
        """Commits what was taken; nothing is taken any more."""
        self._closed = True
        self._wake()
        if self._task is not None:
            await self._task
            self._task = None

    async def _run(self) -> None:
        while True:
            if not self._queue:
                if self._closed:
                    return
                self._idle = True
                await self._woken()
                self._idle = False
                continue
            if self._bounds.window and not self._full() and not self._closed:
                timer = asyncio.get_running_loop().call_later(self._bounds.window, self._wake)
                await self._woken()
                timer.cancel()
            if group := self._take():
                await self._write(group)

    async def _woken(self) -> None:
        self._waker = asyncio.get_running_loop().create_future()
        await self._waker
        self._waker = None

    def _wake(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)

    def _full(self) -> bool:
        bounds = self._bounds
        return len(self._queue) >= bounds.group_items or self._bytes >= bounds.group_bytes

    def _take(self) -> list[_Entry]:
        group: list[_Entry] = []
        size = 0
        while self._queue and len(group) < self._bounds.group_items:
            if group and size + self._queue[0].size > self._bounds.group_bytes:
                break
            entry = self._queue.popleft()
            size += entry.size
            group.append(entry)
        self._bytes -= size
        return group

    async def _write(self, group: list[_Entry]) -> None:
        """Commits a group and answers its callers; never raises."""
        began = time.perf_counter()
        try:
            answers = await self._results(group)
        except StoreError as error:
            self._counts.failed(error)
            self._fail(group, error)
        except Exception as error:
            if len(group) > 1:
                log.warning("store.group_split", items=len(group), error=type(error).__name__)
                for entry in group:
                    await self._write([entry])
                return
            log.exception("store.write_failed", user=group[0].writes.name, exc_info=error)
            self._counts.broken += 1
            self._fail(group, error)
        else:
            seconds = time.perf_counter() - began
            self._counts.committed(len(group), sum(entry.size for entry in group), seconds)
            for entry, answer in zip(group, answers, strict=True):
                if entry.future.done():
                    continue  # its caller stopped waiting
                if isinstance(answer, Exception):
                    entry.future.set_exception(answer)
                else:
                    entry.future.set_result(answer)

    async def _results(self, group: list[_Entry]) -> list[Any]:
        """The group's results in the order of its entries, which may belong to several users."""
        shares: dict[int, Share] = {}
        for entry in group:
            shares.setdefault(id(entry.writes), (entry.writes, []))[1].append(entry.item)
        results = await self._commit(list(shares.values()))
        by_user = {key: iter(answers) for key, answers in zip(shares, results, strict=True)}
        return [next(by_user[id(entry.writes)]) for entry in group]

    def _fail(self, entries: Sequence[_Entry] | deque[_Entry], error: Exception) -> None:
        for entry in entries:
            if not entry.future.done():
                # One each: raised in several tasks, one exception would collect all their frames.
                own = copy.copy(error)
                own.__cause__ = error
                entry.future.set_exception(own)


def answered(share: Share, answers: Sequence[Any]) -> Sequence[Any]:
    """The answers of a user, if they are one each. An adapter asks before it commits: RuntimeError
    rolls back, for nobody could tell which of the items was written.
    """
    writes, items = share
    if len(answers) != len(items):
        raise RuntimeError(f"{writes.name} returned {len(answers)} results for {len(items)} items")
    return answers
