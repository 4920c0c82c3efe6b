"""What is logged of crashes, and how much."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from structlog.testing import capture_logs

from moda.wire import crashes as module
from moda.wire.crashes import Crashes, deliberate

log = structlog.get_logger("moda.test")


def test_of_crashes_alike_one_a_second_has_its_traceback_and_others_have_a_line():
    now = 100.0
    of = Crashes(lambda: now)
    with capture_logs() as logs:
        for number in range(3):
            of.log(log, "channel.failed", str, ValueError(number), topic="room:a")
        of.log(log, "channel.failed", str, KeyError("x"))
        of.log(log, "channel.failed", int, ValueError(3))
        of.log(log, "channel.join.failed", str, ValueError(4))
        now += module.SECONDS
        of.log(log, "channel.failed", str, ValueError(5))
        of.log(log, "channel.failed", str, ValueError(6))
    told = [str(line["exc_info"]) if "exc_info" in line else line["error"] for line in logs]
    assert told == ["0", "ValueError: 1", "ValueError: 2", "'x'", "3", "4", "5", "ValueError: 6"]
    assert [line.get("repeated") for line in logs] == [None] * 6 + [2, None]
    assert logs[0]["topic"] == logs[1]["topic"] == "room:a"
    assert {line["log_level"] for line in logs} == {"error"}


def test_of_many_crashes_alike_most_are_only_counted():
    now = 100.0
    of = Crashes(lambda: now)
    with capture_logs() as logs:
        for _ in range(1000):
            of.log(log, "channel.failed", str, ValueError())
        now += module.SECONDS
        of.log(log, "channel.failed", str, ValueError())
    assert len(logs) == 1 + module.LINES + 1
    assert logs[-1]["repeated"] == 999


def test_exception_classes_made_without_end_are_not_remembered_without_end(monkeypatch):
    monkeypatch.setattr(module, "MAX_KINDS", 3)
    of = Crashes(lambda: 0.0)
    for number in range(10):
        of.log(log, "channel.failed", str, type(f"Error{number}", (Exception,), {})())
    assert len(of._kinds) <= 3


def test_a_long_exception_is_cut_in_its_line():
    of = Crashes(lambda: 0.0)
    with capture_logs() as logs:
        for _ in range(2):
            of.log(log, "channel.failed", str, ValueError("x" * 10_000))
    assert len(logs[1]["error"]) == module.LONGEST


async def test_a_cancellation_is_deliberate_only_if_this_task_was_asked_to_end():
    verdicts: list[bool] = []

    async def work(wait_for: asyncio.Future[None]) -> None:
        try:
            await wait_for
        except asyncio.CancelledError as error:
            verdicts.append(deliberate(error))

    for victim in ("task", "future"):
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(work(future))
        await asyncio.sleep(0)
        (task if victim == "task" else future).cancel()
        await task
    assert verdicts == [True, False]


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt(), RuntimeError()])
async def test_nothing_else_is_deliberate(error):
    assert not deliberate(error)
    assert not deliberate(GeneratorExit())


def test_a_coroutine_whose_loop_is_gone_ends_in_silence():
    assert deliberate(GeneratorExit())
