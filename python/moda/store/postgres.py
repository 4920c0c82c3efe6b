"""PostgreSQL as the store: one connection that writes, a pool that reads.

Groups are written one after another on a connection of their own; while one commits the next
gathers. Several processes may share the database: rows are locked by whoever writes them.

**A lost answer.** The connection may break after COMMIT was sent and before the answer came: the
group may be written or not. Every group therefore counts up a row that belongs to this process
(``moda_writers``), in its own transaction. When the server is there again the row is read ``FOR
UPDATE``, which waits for a transaction that is still being finished over there, and tells which of
the two it was. Callers wait for that; nothing is written twice, and nothing that was acknowledged
is missing. A connection that breaks before COMMIT is sent leaves no doubt: the server rolls back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg
import structlog

from moda.errors import (
    Busy,
    ConfigurationError,
    NoSpace,
    OutcomeUnknown,
    StoreError,
    Unavailable,
)
from moda.ports import Query
from moda.store.base import DatabaseStore, StoreOptions
from moda.store.committer import Share, answered
from moda.store.schema import pending

__all__ = ["PostgresStore"]

log = structlog.get_logger("moda.store")

ResultT = TypeVar("ResultT")

MIGRATION_LOCK = 0x6D6F6461
"""The advisory lock ("moda" in ASCII) that one process migrates under."""

MIGRATION_SECONDS = 3_600.0
"""For one step: a new index of a large table takes what it takes."""

RETRIES = 3
"""How often a group is tried again that lost against another process's group."""

_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.LockNotAvailableError,
    asyncpg.InternalClientError,
)
"""Errors that say something of the server or the way to it. A standby that was not promoted yet
refuses writes as read-only."""

_UNANSWERED = (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)
"""Errors that leave a COMMIT open, although they are kin of what a server says: the driver raises the
first when a connection ends, and a server that is being stopped says the second at any moment."""

_CONFLICT = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.UniqueViolationError,
)
"""Another process wrote the same rows first; the whole group was rolled back."""

_WRONG = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ClientConfigurationError,
)
"""Errors at the start that waiting does not mend."""


def fault_of(
    error: BaseException, connection: asyncpg.Connection[Any] | None = None
) -> StoreError | None:
    """What an error of the driver means to a caller; None when the statement is to blame."""
    if isinstance(error, asyncpg.DiskFullError):
        return NoSpace("there is no room on the disk of the PostgreSQL server")
    if isinstance(error, TimeoutError):
        return Unavailable("PostgreSQL did not answer in time")
    if isinstance(error, _AWAY):
        return Unavailable(f"PostgreSQL is away ({error or type(error).__name__})")
    if isinstance(error, asyncpg.InterfaceError) and (connection is None or connection.is_closed()):
        return Unavailable(f"the connection to PostgreSQL broke ({error})")
    return None


class PostgresStore(DatabaseStore):
    """A :class:`~moda.ports.Store` on a PostgreSQL server, version 13 or newer."""

    engine = "postgresql"

    def __init__(self, url: str, options: StoreOptions | None = None) -> None:
        super().__init__(options)
        self._url = url
        self._writer: asyncpg.Connection[Any] | None = None
        self._pool: asyncpg.Pool[Any] | None = None
        self._migrated = False
        self._id = os.urandom(16)
        self._seq = 0
        self._reads = 0

    # -- writes

    async def _commit(self, shares: Sequence[Share]) -> Sequence[Sequence[Any]]:
        for attempt in range(RETRIES + 1):
            try:
                return await self._commit_once(shares)
            except _CONFLICT as error:
                if attempt < RETRIES:
                    continue
                if isinstance(error, asyncpg.UniqueViolationError):
                    raise
                raise Unavailable(f"other processes write the same rows ({error})") from error
        raise AssertionError("the last attempt returns or raises")

    async def _commit_once(self, shares: Sequence[Share]) -> Sequence[Sequence[Any]]:
        connection = self._writer
        if self._fault is not None or connection is None:
            raise self._away(self._fault or Unavailable("PostgreSQL is not connected"))
        self._seq += 1
        seq, sent = self._seq, False
        results: list[Sequence[Any]] = []
        try:
            # One round trip: both statements hold numbers and hexadecimal digits of our own.
            await connection.execute(
                f"BEGIN; UPDATE moda_writers SET seq = {seq}, time = now() "  # noqa: S608
                f"WHERE id = '\\x{self._id.hex()}'"
            )
            results = [
                answered(share, await share[0].postgres(connection, share[1])) for share in shares
            ]
            sent = True
            await connection.execute("COMMIT")
        except BaseException as error:
            fault = fault_of(error, connection)
            if fault is None:
                # The server refused a statement, or a user failed: rolled back, and known to be.
                await self._roll_back(connection)
                raise
            if isinstance(error, asyncpg.PostgresError) and not isinstance(error, _UNANSWERED):
                sent = False  # the server refused the COMMIT, so it is known not to be done
            connection.terminate()
            self._lost(fault)
            if not sent:
                raise self._away(fault) from error
            log.warning("store.commit_unanswered", error=str(fault))
            if not await self._was_committed(seq):
                raise self._away(fault) from error
        return results

    async def _roll_back(self, connection: asyncpg.Connection[Any]) -> None:
        try:
            await connection.execute("ROLLBACK")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            connection.terminate()  # which rolls back as well
            self._lost(fault_of(error) or Unavailable(f"PostgreSQL does not roll back ({error})"))

    async def _was_committed(self, seq: int) -> bool:
        """Whether the group ``seq``, whose answer got lost, was written; waits for the server."""
        while True:
            await self._change.wait()
            connection = self._writer
            if connection is None or connection.is_closed():
                if self._closing:
                    raise OutcomeUnknown(
                        "PostgreSQL went away during a commit, and this process stops before it came back"
                    )
                self._lost(Unavailable("the connection to PostgreSQL broke"))
                continue
            try:
                last = await connection.fetchval(
                    "SELECT seq FROM moda_writers WHERE id = $1 FOR UPDATE", self._id
                )
            except Exception as error:
                fault = fault_of(error, connection)
                if fault is None:
                    raise
                connection.terminate()
                self._lost(fault)
            else:
                return bool(last is not None and last >= seq)

    # -- open and closed

    async def _open(self) -> None:
        if self._writer is not None and not self._writer.is_closed():
            self._writer.terminate()
        self._writer = None
        connection: asyncpg.Connection[Any] | None = None
        try:
            connection = await self._connect()
            if not self._migrated:
                await self._migrate(connection)
                self._migrated = True
            await connection.execute(
                "INSERT INTO moda_writers(id, seq) VALUES ($1, 0) ON CONFLICT (id) DO UPDATE "
                "SET time = now()",
                self._id,
            )
            if self._pool is None:
                self._pool = await self._make_pool()
        except BaseException as error:
            if connection is not None:
                connection.terminate()
            if isinstance(error, _WRONG):
                raise ConfigurationError(f"DATABASE_URL: {error}") from error
            fault = fault_of(error, connection)
            if fault is None:
                raise
            raise fault from error
        connection.add_termination_listener(self._ended)
        self._writer = connection

    def _ended(self, connection: asyncpg.Connection[Any]) -> None:
        """The writer's connection ended: known at once, not only at the next write."""
        if connection is self._writer and self._fault is None:
            self._lost(Unavailable("the connection to PostgreSQL broke"))

    async def _connect(self) -> asyncpg.Connection[Any]:
        options = self.options
        return await asyncpg.connect(
            self._url,
            timeout=options.connect_timeout,
            command_timeout=options.statement_timeout,
            server_settings=_session(options),
        )

    async def _make_pool(self) -> asyncpg.Pool[Any]:
        options = self.options
        return await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=max(1, options.pool_size - 1),
            timeout=options.connect_timeout,
            command_timeout=options.statement_timeout,
            server_settings=_session(options),
        )

    async def _migrate(self, connection: asyncpg.Connection[Any]) -> None:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS moda_schema (name TEXT NOT NULL, version INTEGER NOT "
                "NULL, digest TEXT NOT NULL, applied TIMESTAMPTZ NOT NULL DEFAULT now(), "
                "PRIMARY KEY (name, version))"
            )
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS moda_writers (id BYTEA PRIMARY KEY, seq BIGINT NOT "
                "NULL, time TIMESTAMPTZ NOT NULL DEFAULT now()) WITH (fillfactor = 10)"
            )
            await connection.execute(
                "DELETE FROM moda_writers WHERE time < now() - interval '30 days'"
            )
            rows = await connection.fetch("SELECT name, version, digest FROM moda_schema")
            applied = {(row["name"], row["version"]): row["digest"] for row in rows}
            for step in pending(self.schemas, applied, "postgres"):
                await connection.execute(step.sql, timeout=MIGRATION_SECONDS)
                await connection.execute(
                    "INSERT INTO moda_schema(name, version, digest) VALUES ($1, $2, $3)",
                    step.name,
                    step.version,
                    step.digest,
                )

    async def _shut(self) -> None:
        writer, self._writer = self._writer, None
        pool, self._pool = self._pool, None
        for thing in (writer, pool):
            if thing is None:
                continue
            try:
                async with asyncio.timeout(self.options.connect_timeout):
                    await thing.close()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                with contextlib.suppress(asyncpg.InterfaceError):
                    thing.terminate()

    # -- reads

    async def query(self, query: Query[ResultT]) -> ResultT:
        """As :meth:`moda.ports.Store.query`."""
        if self._closing or not self._started:
            raise Unavailable("the store is closed")
        if self._pool is None or not self._migrated:
            raise self._away(self._fault or Unavailable("PostgreSQL is not connected"))
        if self._reads >= self.options.reads_waiting:
            raise Busy(f"{self._reads} reads wait for the database, which is the bound")
        self._reads += 1
        self.counts.queries += 1
        try:
            return await self._ask(query.postgres)
        finally:
            self._reads -= 1

    async def _ask(self, read: Callable[[asyncpg.Connection[Any]], Awaitable[ResultT]]) -> ResultT:
        """Runs a read. Pooled connections may have died while they lay idle: when one is found
        dead all are replaced, and the read is made again, which changes nothing.
        """
        pool = self._pool
        assert pool is not None
        for attempt in (1, 2):
            connection: Any = None
            try:
                async with pool.acquire(timeout=self.options.connect_timeout) as connection:
                    try:
                        return await read(connection)
                    except BaseException as error:
                        if fault_of(error, connection) is not None:
                            connection.terminate()  # not to be handed out again
                        raise
            except Exception as error:
                fault = fault_of(error, connection)
                if fault is None:
                    raise
                if attempt == 2 or isinstance(error, TimeoutError):
                    raise fault from error
                await pool.expire_connections()
        raise AssertionError("the second attempt returns or raises")


def _session(options: StoreOptions) -> dict[str, str]:
    """What every session is told: who it is, that a commit is on disk, and that a transaction whose
    client is gone does not hold its locks for ever.
    """
    limit = str(int(options.statement_timeout * 1000))
    return {
        "application_name": "moda",
        "synchronous_commit": "on",
        "idle_in_transaction_session_timeout": limit,
        "lock_timeout": limit,
    }
