"""How many joins begin in one turn of the loop.

A join is the dearest thing a client can ask for: an object, a task, the application's own code.
Clients that join in a loop had a hundred of them begin with every packet, and their neighbours
waited for a second. So joins begin for a slice of each turn and no longer, whoever sends them; the
engine queues the rest and gives each connection its turn.

What a join does after it has waited for something is not in the slice: it comes when that comes.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from moda.hub import Hub

__all__ = ["JoinPace"]

SLICE_SECONDS: Final = 0.002
"""As long as one slice of a fan-out, or of messages."""

BATCH: Final = 32
"""Joins that may have a task and not have begun. A slice is rarely enough for more."""


class JoinPace:
    """Starts the joins that wait in the engine, a slice in each turn.

    A join is started by the engine's ``joins`` callback, which makes a task and announces it with
    :meth:`expect`; the task begins with :meth:`turn`.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._until = 0.0
        self._first = False
        self._running = False
        self._expected: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Called by the loop: once when joins begin to wait, then in every turn until none does."""
        # Ahead of the tasks it starts, so that a slice begins with the first of them.
        again = asyncio.get_running_loop().call_soon(self.start)
        self._running = True
        self._until = time.perf_counter() + SLICE_SECONDS
        self._first = True
        # One that was cancelled before its first step has told nobody.
        self._expected = {task for task in self._expected if not task.done()}
        if self._expected:
            return
        while self._hub.core.start_joins(1):
            if len(self._expected) >= BATCH or time.perf_counter() > self._until:
                return
        if not self._expected:
            again.cancel()
            self._running = False

    def expect(self, task: asyncio.Task[None]) -> None:
        """A join that is about to begin."""
        self._expected.add(task)

    def _must_wait(self) -> bool:
        return self._running and not self._first and time.perf_counter() > self._until

    async def turn(self) -> None:
        """Returns in a turn of the loop that has time for one more join; at once in most."""
        while self._must_wait():  # noqa: ASYNC110
            await asyncio.sleep(0)  # each turn is a slice of joins
        self._first = False
        task = asyncio.current_task()
        if task is not None:
            self._expected.discard(task)
