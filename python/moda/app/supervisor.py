"""Background work under supervision: restarted with growing pauses, isolated, logged, counted.

A job that returns has finished; one that raises is restarted. The pause doubles up to a minute and
is jittered, so that jobs felled by the same cause do not come back in step; a job that has run
well for a minute starts afresh.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from moda.errors import ConfigurationError
from moda.message import ServiceStatus

__all__ = ["Supervisor"]

log = structlog.get_logger("moda.background")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
HEALTHY_SECONDS = 60.0

Work = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class _Job:
    name: str
    work: Work
    task: asyncio.Task[None] | None = None
    began: float = math.inf
    """When it was last started, on the steady clock; infinite while it waits to be."""
    failures: int = 0
    restarts: int = 0
    last_error: str | None = None


class Supervisor:
    """Runs jobs by name. ``pause`` is asked how long to wait; tests answer 0."""

    def __init__(self, pause: Callable[[int], float] | None = None) -> None:
        self._jobs: dict[str, _Job] = {}
        self._running = False
        self._pause = pause or _pause

    def add(self, name: str, work: Work) -> None:
        """Adds a job; started at once when the server already runs. ConfigurationError for a name in use."""
        if name in self._jobs:
            raise ConfigurationError(f"background job {name!r} is declared twice")
        self._jobs[name] = job = _Job(name, work)
        if self._running:
            job.task = asyncio.get_running_loop().create_task(self._run(job), name=name)

    def start(self) -> None:
        """Runs every job added so far, each in a task of its own. On the loop's thread."""
        self._running = True
        for job in self._jobs.values():
            job.task = asyncio.get_running_loop().create_task(self._run(job), name=job.name)

    async def stop(self) -> None:
        """Cancels every job and waits until all have ended."""
        self._running = False
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def troubles(self) -> dict[str, ServiceStatus]:
        """Jobs that fail now, as lines of ``/health``.

        One that has run well for :data:`HEALTHY_SECONDS` since its last failure, or has finished, is
        none of them.
        """
        now = time.monotonic()
        return {
            job.name: ServiceStatus("degraded", {"error": job.last_error, "restarts": job.restarts})
            for job in self._jobs.values()
            if job.failures > 0 and now - job.began <= HEALTHY_SECONDS
        }

    async def _run(self, job: _Job) -> None:
        while True:
            job.began = time.monotonic()
            try:
                await job.work()
                job.failures = 0
                return
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # Nobody cancelled the job: it awaited something that was. A failure like any other.
                pause = self._failed(job, error)
            except BaseException as error:
                # A panic of a Rust library is no Exception, and a called library's sys.exit is the
                # job's failure and not the gateway's end.
                pause = self._failed(job, error)
            await asyncio.sleep(pause)

    def _failed(self, job: _Job, error: BaseException) -> float:
        """Counts a failure, logs it, and says how long to wait."""
        if time.monotonic() - job.began > HEALTHY_SECONDS:
            job.failures = 0
        job.began = math.inf
        job.failures += 1
        job.restarts += 1
        job.last_error = f"{type(error).__name__}: {error}"
        pause = self._pause(job.failures)
        log.exception("background.failed", job=job.name, restart_in=round(pause, 2))
        return pause


def _pause(failures: int) -> float:
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (failures - 1))
    return random.uniform(longest / 2, longest)  # noqa: S311 - spread, not a secret
