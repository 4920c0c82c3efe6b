"""Readings: from the real host, and put together from their sources."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from moda.aggregate import LatencyWindow
from moda.telemetry.lag import LoopLag
from moda.telemetry.metrics import GatewayCounters, HostReading, points
from moda.telemetry.sampler import HostReader, Sampler, count_tasks, cpu_seconds

from .support import HandClock


class FixedHost:
    def __init__(self) -> None:
        self.thread: int | None = None

    def read(self) -> HostReading:
        self.thread = threading.get_ident()
        return HostReading(clock=1.0, cpus=4, load_1m=1.5)


async def inline(read: Callable[[], HostReading]) -> HostReading:
    return read()


def sampler(clock: HandClock, **changes: Any) -> Sampler:
    parts: dict[str, Any] = {
        "host": FixedHost(),
        "counters": GatewayCounters,
        "http": None,
        "lag": LoopLag(clock=clock),
        "span": 10.0,
        "clock": clock,
        "offload": inline,
        **changes,
    }
    return Sampler(**parts)


def test_the_real_host_answers_every_reading() -> None:
    found = HostReader().read()
    assert found.load_1m is not None
    assert found.load_1m >= 0
    assert found.cpu_total_s is not None
    assert found.cpu_busy_s is not None
    assert 0 <= found.cpu_busy_s <= found.cpu_total_s
    assert found.memory_used is not None
    assert 0 < found.memory_used < psutil.virtual_memory().total
    assert found.process_cpu_s is not None
    assert found.process_cpu_s > 0
    assert 1 <= found.cpus <= (os.cpu_count() or 1)


def test_resident_memory_is_that_of_this_process() -> None:
    rss = HostReader().read().rss
    assert rss is not None
    assert rss == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def test_burning_cpu_is_seen_between_two_readings_whichever_thread_takes_them() -> None:
    found: list[HostReading] = []
    reader = HostReader()

    def read() -> None:
        found.append(reader.read())

    def in_a_thread_of_its_own() -> None:
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()

    in_a_thread_of_its_own()
    start = psutil.Process().cpu_times().user
    while psutil.Process().cpu_times().user < start + 0.1:
        sum(range(10_000))
    in_a_thread_of_its_own()
    before, now = found
    assert before.process_cpu_s is not None
    assert now.process_cpu_s is not None
    # Half of what was burnt: two sums of clock ticks differ by a rounding of their floats.
    assert now.process_cpu_s - before.process_cpu_s >= 0.05
    assert before.cpu_busy_s is not None
    assert now.cpu_busy_s is not None
    assert now.cpu_busy_s > before.cpu_busy_s


def test_guest_time_is_not_counted_twice_and_waiting_for_a_disk_is_idle() -> None:
    class Times(tuple[float, ...]):
        idle, iowait, guest, guest_nice = 50.0, 10.0, 5.0, 1.0

    # user (with guest in it), nice, system, idle, iowait, guest, guest_nice
    assert cpu_seconds(Times((30.0, 5.0, 10.0, 50.0, 10.0, 5.0, 1.0))) == (45.0, 105.0)


def test_a_refused_reading_is_left_out_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "virtual_memory", refuse)
    reader = HostReader()
    with caplog.at_level(logging.WARNING):
        readings = [reader.read(), reader.read()]
    assert [r.memory_used for r in readings] == [None, None]
    assert all(r.load_1m is not None for r in readings)
    assert [record.getMessage().split(" is not")[0] for record in caplog.records] == [
        "telemetry reading virtual_memory"
    ]


async def test_the_task_count_grows_with_the_tasks_there_are() -> None:
    before = count_tasks()
    tasks = [asyncio.create_task(asyncio.sleep(3600)) for _ in range(100)]
    assert count_tasks() >= before + 100
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_reading_puts_all_sources_together() -> None:
    clock = HandClock(100.0)
    http = LatencyWindow()
    lag = LoopLag(clock=clock)
    for ms in (1.0, 2.0, 30.0):
        http.record(ms, 99.0)
        lag.window.record(ms / 10, 99.0)
    taken = await sampler(
        clock,
        http=http,
        lag=lag,
        counters=lambda: {"connections": 7},
        tasks=lambda: 12,
        wall=lambda: 1_740_441_600.0,
    ).read()
    assert taken.unix_s == 1_740_441_600.0
    assert taken.host.load_1m == 1.5
    assert taken.gateway == {"connections": 7}
    assert taken.tasks == 12
    assert taken.http_ms == (2.0, 30.0)
    assert taken.lag_ms == pytest.approx((0.2, 3.0, 3.0))


async def test_percentiles_forget_what_is_older_than_their_span() -> None:
    clock = HandClock(100.0)
    http = LatencyWindow()
    http.record(900.0, 89.9)
    quiet = await sampler(clock, http=http).read()
    http.record(5.0, 90.1)
    busy = await sampler(clock, http=http).read()
    assert quiet.http_ms is None
    assert busy.http_ms == (5.0, 5.0)


async def test_without_a_window_of_requests_there_are_no_http_percentiles() -> None:
    assert (await sampler(HandClock(), http=None).read()).http_ms is None


async def test_the_host_is_read_off_the_loops_thread() -> None:
    host = FixedHost()
    await sampler(HandClock(), host=host, offload=asyncio.to_thread).read()
    assert host.thread is not None
    assert host.thread != threading.get_ident()


async def test_the_loop_goes_on_while_the_host_hangs() -> None:
    hang = threading.Event()

    class SlowHost:
        def read(self) -> HostReading:
            hang.wait(30)
            return HostReading(clock=1.0, cpus=1)

    reading = asyncio.create_task(
        sampler(HandClock(), host=SlowHost(), offload=asyncio.to_thread).read()
    )
    turns = 0
    for _ in range(100):
        await asyncio.sleep(0)
        turns += 1
    assert not reading.done()
    hang.set()
    assert (await reading).host.cpus == 1
    assert turns == 100


async def test_two_real_readings_give_the_metrics_of_host_and_process() -> None:
    real = sampler(HandClock(), host=HostReader())
    before = await real.read()
    await asyncio.sleep(0.05)
    found = {point["name"] for point in points(before, await real.read())}
    assert {
        "system.cpu.load_average.1m",
        "system.memory.usage",
        "process.cpu.utilization",
        "process.memory.usage",
        "process.runtime.beam.memory.total",
        "process.runtime.beam.process_count",
    } <= found


def test_a_host_without_affinity_counts_its_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moda.telemetry.sampler.os", SimpleNamespace(cpu_count=lambda: 6))
    assert HostReader().read().cpus == 6
