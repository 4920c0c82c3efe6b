"""Background work that fails, comes back, and is told of while it is in trouble."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway import until
from moda.app import supervisor as module
from moda.app.supervisor import Supervisor
from moda.errors import ConfigurationError
from moda.message import ServiceStatus


@pytest.fixture
def pauses() -> list[int]:
    """How often each failure was the so-many-th in a row, as the pause was asked."""
    return []


@pytest.fixture
async def supervisor(pauses):
    def pause(failures: int) -> float:
        pauses.append(failures)
        return 0.0

    one = Supervisor(pause)
    yield one
    await one.stop()


async def test_a_job_runs_while_the_supervisor_does(supervisor):
    started, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    supervisor.add("job", work)
    assert not started.is_set()
    supervisor.start()
    await started.wait()
    await supervisor.stop()
    assert ended.is_set()


async def test_a_job_added_later_starts_at_once(supervisor):
    started = asyncio.Event()

    async def work() -> None:
        started.set()

    supervisor.start()
    supervisor.add("job", work)
    await started.wait()


async def test_a_job_that_fails_is_started_again_with_growing_pauses(supervisor, pauses):
    runs = 0
    well = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs <= 3:
            raise ConnectionError(f"attempt {runs}")
        well.set()
        await asyncio.Event().wait()

    supervisor.add("feed", work)
    with capture_logs() as logs:
        supervisor.start()
        await well.wait()
    assert (runs, pauses) == (4, [1, 2, 3])
    assert [(log["event"], log["job"]) for log in logs] == [("background.failed", "feed")] * 3


async def test_a_job_that_returns_has_finished(supervisor):
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1

    supervisor.add("once", work)
    supervisor.start()
    await until(lambda: runs)
    await asyncio.sleep(0)
    assert (runs, supervisor.troubles()) == (1, {})


async def test_one_jobs_crash_leaves_the_others_running(supervisor):
    alive = asyncio.Event()
    cancelled = False

    async def healthy() -> None:
        nonlocal cancelled
        try:
            alive.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    async def broken() -> None:
        raise RuntimeError("a bug")

    supervisor.add("healthy", healthy)
    supervisor.add("broken", broken)
    supervisor.start()
    await alive.wait()
    await until(lambda: supervisor.troubles()["broken"].detail["restarts"] > 3)
    assert not cancelled
    assert list(supervisor.troubles()) == ["broken"]


async def test_trouble_is_told_with_the_last_error_and_ends_when_the_job_has_run_well_for_a_while(
    supervisor, monkeypatch
):
    now = 100.0
    monkeypatch.setattr("moda.app.supervisor.time.monotonic", lambda: now)
    runs = 0
    running = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ConnectionError("no route")
        running.set()
        await asyncio.Event().wait()

    supervisor.add("feed", work)
    supervisor.start()
    await running.wait()
    trouble = ServiceStatus("degraded", {"error": "ConnectionError: no route", "restarts": 1})
    assert supervisor.troubles() == {"feed": trouble}
    now += module.HEALTHY_SECONDS + 1
    assert supervisor.troubles() == {}


async def test_a_job_that_failed_and_then_finished_is_no_trouble(supervisor):
    answers = iter([ConnectionError("no route"), None])
    done = asyncio.Event()

    async def work() -> None:
        answer = next(answers)
        if answer is not None:
            raise answer
        done.set()

    supervisor.add("migration", work)
    supervisor.start()
    await done.wait()
    await asyncio.sleep(0)
    assert supervisor.troubles() == {}


async def test_a_job_that_waits_for_its_restart_is_in_trouble_however_well_it_ran_before(
    monkeypatch,
):
    now = 0.0
    monkeypatch.setattr("moda.app.supervisor.time.monotonic", lambda: now)
    asked: list[int] = []

    def pause(failures: int) -> float:
        asked.append(failures)
        return 3600.0

    go = asyncio.Event()

    async def work() -> None:
        await go.wait()
        raise ConnectionError("gone")

    one = Supervisor(pause)
    one.add("feed", work)
    one.start()
    await asyncio.sleep(0)
    now += 10 * module.HEALTHY_SECONDS
    go.set()
    await until(lambda: asked)
    assert list(one.troubles()) == ["feed"]
    # It ran well for long, so the pauses begin again with the first.
    assert asked == [1]
    await one.stop()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
async def test_a_job_that_raises_what_is_no_exception_has_failed_and_comes_back(supervisor, error):
    runs = 0
    well = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise error("not here")
        well.set()
        await asyncio.Event().wait()

    supervisor.add("feed", work)
    with capture_logs() as logs:
        supervisor.start()
        await well.wait()
    assert [(log["event"], log["job"]) for log in logs] == [("background.failed", "feed")]
    assert supervisor.troubles()["feed"].detail["error"] == f"{error.__name__}: not here"


async def test_a_job_that_awaits_something_cancelled_has_failed_and_comes_back(supervisor):
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        await asyncio.Event().wait()

    supervisor.add("feed", work)
    supervisor.start()
    await until(lambda: runs == 2)
    assert "CancelledError" in supervisor.troubles()["feed"].detail["error"]


async def test_a_job_that_is_no_coroutine_function_says_so_in_its_trouble(supervisor):
    supervisor.add("broken", lambda: None)  # type: ignore[arg-type,return-value]
    supervisor.start()
    await until(supervisor.troubles)
    assert "TypeError" in supervisor.troubles()["broken"].detail["error"]


def test_a_name_is_one_jobs(supervisor):
    async def work() -> None:
        """Never run."""

    supervisor.add("feed", work)
    with pytest.raises(ConfigurationError, match="background job 'feed' is declared twice"):
        supervisor.add("feed", work)


def test_pauses_double_up_to_a_minute_and_are_spread():
    for failures in range(1, 40):
        longest = min(module.LONGEST_PAUSE, module.FIRST_PAUSE * 2 ** (failures - 1))
        drawn = [module._pause(failures) for _ in range(50)]
        assert all(longest / 2 <= pause <= longest for pause in drawn)
        assert len(set(drawn)) > 1
