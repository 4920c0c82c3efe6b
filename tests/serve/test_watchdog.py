"""Who holds the loop is named while it is held, with the stack, and counted once."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import Any

import pytest

from moda.serve import watchdog
from moda.serve.watchdog import LoopWatch, stack_of

from .conftest import until


class Told:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.blocked = threading.Event()

    def count(self, event: str) -> int:
        return sum(told == event for told, _ in self.lines)

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))
        if event == "loop.blocked":
            self.blocked.set()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    monkeypatch.setattr(watchdog, "_log", told)
    return told


def hold(told: Told) -> None:
    """Holds the loop until the thread has said so."""
    assert told.blocked.wait(30)


async def test_what_holds_the_loop_is_named_while_it_does_and_counted_once(told):
    watch = LoopWatch(0.1, lambda frame: {"topic": "room:1"})
    running = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    hold(told)
    await until(lambda: len(told.lines) >= 2)
    running.cancel()
    (blocked, about), (resumed, after) = told.lines[:2]
    assert (blocked, resumed) == ("loop.blocked", "loop.resumed")
    assert about["topic"] == "room:1"
    assert any(line.endswith(" hold") for line in about["stack"])
    assert after["seconds"] >= about["seconds"] > 0.1
    assert watch.blocked == 1


async def test_what_was_worked_with_meanwhile_is_not_kept(told):
    class Held:
        pass

    def work() -> weakref.ref[Held]:
        held = Held()
        hold(told)
        return weakref.ref(held)

    running = asyncio.create_task(LoopWatch(0.1).run())
    await asyncio.sleep(0)
    gone = work()
    await until(lambda: told.count("loop.resumed") == 1)
    await until(lambda: gone() is None)
    running.cancel()


async def test_each_time_it_is_held_is_counted(told):
    watch = LoopWatch(0.1)
    running = asyncio.create_task(watch.run())
    for times in (1, 2):
        await asyncio.sleep(0)
        hold(told)
        told.blocked.clear()
        await until(lambda times=times: told.count("loop.resumed") == times)
    running.cancel()
    assert watch.blocked == 2


def test_a_delay_that_the_thread_could_not_see_is_said_afterwards(told):
    watch = LoopWatch(0.25)
    watch._back(10.0, 0.2)
    assert (watch.blocked, told.lines) == (0, [])
    watch._back(10.0, 3.0)
    ((event, fields),) = told.lines
    assert (event, fields["seconds"], watch.blocked) == ("loop.blocked", 3.0, 1)


async def test_naming_that_fails_does_not_keep_the_stack_from_the_log(told):
    def about(frame: object) -> dict[str, Any]:
        raise KeyError("odd")

    running = asyncio.create_task(LoopWatch(0.1, about).run())
    await asyncio.sleep(0)
    hold(told)
    running.cancel()
    fields = told.lines[0][1]
    assert fields["unnamed"] == "KeyError"
    assert fields["stack"]


async def test_the_thread_ends_with_the_watch(told):
    running = asyncio.create_task(LoopWatch(10.0).run())
    await asyncio.sleep(0)
    (thread,) = [one for one in threading.enumerate() if one.name == "moda-watchdog"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    thread.join(30)
    assert not thread.is_alive()


def test_a_stack_is_places_without_values_and_bounded():
    def deep(levels: int) -> list[str]:
        import sys

        secret = "hunter2"
        return deep(levels - 1) if levels else stack_of(sys._getframe()) + [secret][:0]

    stack = deep(100)
    assert len(stack) == watchdog.DEEPEST
    assert "hunter2" not in "".join(stack)
    assert stack[-1].endswith("deep")
    assert stack_of(None) == []
