"""The loop's lag: what the probe sees of a loop that is late."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from moda.telemetry.lag import LoopLag

from .support import HandClock, end, until


async def probe(lateness: list[float]) -> LoopLag:
    """Runs the probe on a clock where each sleep takes that much longer than asked."""
    clock = HandClock()
    late = iter(lateness)

    async def sleep(seconds: float) -> None:
        try:
            clock.now += seconds + next(late)
        except StopIteration:
            raise asyncio.CancelledError from None

    lag = LoopLag(0.1, clock=clock, sleep=sleep)
    with suppress(asyncio.CancelledError):
        await lag.run()
    return lag


async def test_it_records_how_much_longer_than_asked_each_sleep_took() -> None:
    lag = await probe([0.0, 0.004, 0.25])
    assert lag.window.samples().tolist() == pytest.approx([0.0, 4.0, 250.0], abs=1e-6)
    assert lag.histogram.counts().count == 3
    assert lag.histogram.counts().sum == pytest.approx(0.254)


async def test_a_timer_that_fires_early_is_no_negative_lag() -> None:
    lag = await probe([-0.0009])
    assert lag.window.samples().tolist() == [0.0]


async def test_samples_are_stamped_so_that_old_ones_can_be_left_out() -> None:
    lag = await probe([0.5, 0.001])
    found = lag.window.percentiles((100,), since=1000.65)
    assert found is not None
    assert found.tolist() == pytest.approx([1.0])


async def test_a_handler_that_blocks_the_loop_is_seen() -> None:
    lag = LoopLag(0.01)
    task = asyncio.create_task(lag.run())
    await asyncio.sleep(0.03)
    time.sleep(0.15)  # noqa: ASYNC251 - blocking the loop is what is being measured
    # The block began somewhere within the probe's sleep of 10 ms, so 140 of its 150 ms are lag;
    # one more goes to the timer's rounding.
    await until(lambda: lag.window.samples().max(initial=0.0) >= 139)
    await end(task)
    worst = lag.histogram.counts().percentiles((100,))
    assert worst is not None
    assert worst[0] >= 0.25
