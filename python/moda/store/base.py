"""What both stores share: the tables declared, the queue in front, and how a database that went away
is waited for.

A store is up or it has a fault. With a fault it takes no writes: they fail at once with the time to
come back, instead of queueing up before a dead disk. One task tries to open the database again, with
pauses that double and are jittered, since everybody who lost one database comes back to it at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from moda.errors import ConfigurationError, ModaError, StoreError, Unavailable
from moda.message import ServiceStatus
from moda.ports import Schema, Writes
from moda.store.committer import Bounds, GroupCommitter, Share
from moda.store.counts import StoreCounts
from moda.store.schema import checked

__all__ = ["DatabaseStore", "StoreOptions"]

log = structlog.get_logger("moda.store")

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How a store behaves; all times in seconds.

    ``pool_size`` connections to PostgreSQL, the writer's included; ``readers`` threads of SQLite;
    ``lock_wait`` for another process that holds the SQLite file; ``statement_timeout`` after which
    a PostgreSQL server that does not answer counts as gone.
    """

    pool_size: int = 20
    readers: int = 4
    lock_wait: float = 2.0
    connect_timeout: float = 5.0
    statement_timeout: float = 15.0
    first_pause: float = 0.1
    longest_pause: float = 5.0
    reads_waiting: int = 1_000
    bounds: Bounds = field(default_factory=Bounds)


class DatabaseStore(ABC):
    """A :class:`~moda.ports.Store` but for the database itself, which a subclass adds."""

    engine: str

    def __init__(self, options: StoreOptions | None = None) -> None:
        self.options = options or StoreOptions()
        self.counts = StoreCounts()
        self.schemas: list[Schema] = []
        self._committer = GroupCommitter(self._commit, self.options.bounds, self.counts)
        self._started = False
        self._fault: StoreError | ConfigurationError | None = None
        self._since = 0.0
        self._next_try = 0.0
        self._recovery: asyncio.Task[None] | None = None
        self._change = asyncio.Event()
        """Set when the store is up, and when it closes: what waits for either looks again."""
        self._closing = False

    # -- what a database adds

    @abstractmethod
    async def _open(self) -> None:
        """Opens what is not open, migrates what is not migrated, and proves that a write commits.

        StoreError while the database is away, ConfigurationError for what waiting does not mend.
        """

    @abstractmethod
    async def _commit(self, shares: Sequence[Share]) -> Sequence[Sequence[Any]]:
        """One group in one transaction, as :data:`~moda.store.committer.Commit` says."""

    @abstractmethod
    async def _shut(self) -> None:
        """Lets go of every connection and thread."""

    # -- the port

    def add(self, schema: Schema) -> None:
        """As :meth:`moda.ports.Store.add`."""
        if self._started:
            raise ConfigurationError(
                f"the schema {schema.name!r} was declared after the store's start"
            )
        checked(self.schemas, schema)
        self.schemas.append(schema)

    async def start(self) -> None:
        """As :meth:`moda.ports.Store.start`."""
        self._started = True
        try:
            await self._open()
        except StoreError as error:
            self._lost(error)
        except BaseException:
            self._closing = True
            await self._shut()
            raise
        else:
            self._change.set()
            log.info("store.opened", engine=self.engine)

    async def close(self) -> None:
        """As :meth:`moda.ports.Store.close`."""
        if self._closing:
            return
        self._closing = True
        self._change.set()
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)
            self._recovery = None
        await self._committer.close()
        await self._shut()

    def write(
        self, writes: Writes[ItemT, ResultT], item: ItemT, size: int
    ) -> asyncio.Future[ResultT]:
        """As :meth:`moda.ports.Store.write`."""
        if self._fault is not None:
            self.counts.refused += 1
            raise self._away(self._fault)
        if not self._started:
            raise Unavailable("the store is not started")
        return self._committer.submit(writes, item, size)

    def health(self) -> ServiceStatus:
        """As :meth:`moda.ports.Store.health`."""
        if self._fault is None:
            return ServiceStatus("up", {"engine": self.engine})
        return ServiceStatus(
            "degraded",
            {
                "engine": self.engine,
                "error": str(self._fault),
                "for_seconds": round(time.monotonic() - self._since, 1),
            },
        )

    def counters(self) -> Mapping[str, float | dict[str, float]]:
        """As :meth:`moda.ports.Store.counters`."""
        return self.counts.read(self._committer.waiting, self._fault is not None)

    # -- away and back

    def _away(self, fault: ModaError) -> StoreError:
        """A fault as a caller gets it: with the time until the next attempt to mend it."""
        wait = max(0.1, self._next_try - time.monotonic())
        kind = type(fault) if isinstance(fault, Unavailable) else Unavailable
        return kind(str(fault), round(wait, 2))

    def _lost(self, error: StoreError) -> None:
        """The database does not take writes: says so, fails what waits, begins to try again."""
        if self._closing:
            return
        if self._fault is None:
            self._since = time.monotonic()
            log.warning("store.lost", engine=self.engine, error=str(error))
        self._fault = error
        self._change.clear()
        self._next_try = time.monotonic() + self.options.first_pause
        self._committer.fail_waiting(self._away(error))
        if self._recovery is None:
            self._recovery = asyncio.get_running_loop().create_task(
                self._recover(), name="store.recovery"
            )

    async def _recover(self) -> None:
        step = 0
        while True:
            ceiling = min(self.options.longest_pause, self.options.first_pause * 2.0**step)
            pause = random.uniform(ceiling / 2, ceiling)  # noqa: S311  # spreads, hides nothing
            self._next_try = time.monotonic() + pause
            await asyncio.sleep(pause)
            step = min(step + 1, 30)
            try:
                await self._open()
            except StoreError as error:
                self._fault = error
            except Exception as error:
                if not isinstance(error, ConfigurationError):
                    log.exception("store.open_failed", engine=self.engine, exc_info=error)
                    error = Unavailable(f"the database could not be opened ({error})")
                elif str(error) != str(self._fault):
                    log.error("store.refused", engine=self.engine, error=str(error))
                self._fault = error
            else:
                break
        self._recovery = None
        self._fault = None
        self.counts.reconnects += 1
        log.info("store.back", engine=self.engine, after=round(time.monotonic() - self._since, 2))
        self._change.set()
