"""How many joins begin in one turn of the loop."""

from __future__ import annotations

import asyncio

import pytest

from gateway import until
from moda.hub import Hub
from moda.wire import pace as module
from moda.wire.pace import BATCH, JoinPace


class Waiting:
    """Stands where the engine does: so many joins wait, each a task that begins with a turn."""

    def __init__(self, joins: int, seconds: float = 0.0) -> None:
        self.hub = Hub()
        self.hub.core = self  # type: ignore[assignment]
        self.pace = JoinPace(self.hub)
        self.left = joins
        self.seconds = seconds
        self.turn = 0
        self.begun: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []

    def start_joins(self, most: int) -> bool:
        for _ in range(min(most, self.left)):
            self.left -= 1
            self.tasks.append(asyncio.get_running_loop().create_task(self.join()))
            self.pace.expect(self.tasks[-1])
        return self.left > 0

    async def join(self) -> None:
        await self.pace.turn()
        self.begun.append(self.turn)
        self.clock += self.seconds

    clock = 0.0

    async def run(self, until_begun: int) -> None:
        self.pace.start()
        while len(self.begun) < until_begun:
            await asyncio.sleep(0)
            self.turn += 1


@pytest.fixture
def waiting(monkeypatch):
    def make(joins: int, seconds: float = 0.0) -> Waiting:
        made = Waiting(joins, seconds)
        monkeypatch.setattr(module.time, "perf_counter", lambda: made.clock)
        return made

    return make


async def test_joins_that_take_long_begin_one_in_a_turn(waiting):
    queue = waiting(10, seconds=1.0)
    await queue.run(10)
    assert len(set(queue.begun)) == 10


async def test_quick_joins_begin_in_batches(waiting):
    queue = waiting(3 * BATCH)
    await queue.run(3 * BATCH)
    turns = [queue.begun.count(turn) for turn in sorted(set(queue.begun))]
    assert turns == [BATCH] * 3


async def test_a_join_that_is_cancelled_before_its_first_step_keeps_nobody_waiting(waiting):
    queue = waiting(BATCH + 1)
    queue.pace.start()
    for task in queue.tasks:
        task.cancel()
    await until(lambda: queue.begun)
    assert (len(queue.tasks), len(queue.begun)) == (BATCH + 1, 1)


async def test_when_nothing_waits_the_loop_is_left_alone_and_a_join_begins_at_once(waiting):
    queue = waiting(1)
    await queue.run(1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not queue.pace._running
    queue.clock += 100.0
    await asyncio.wait_for(queue.pace.turn(), 1)
