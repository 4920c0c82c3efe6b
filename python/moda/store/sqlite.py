"""SQLite as the store: one file, one writer thread, readers that never wait for it.

The file is in WAL mode with ``synchronous=FULL``: a commit is on disk when it returns, and readers
see the last commit while the next is written. SQLite has one writer at a time anyway; giving it one
thread keeps the event loop free of the wait for the disk, and gives the group committer its rhythm.
Reads run on connections opened read-only, a thread each.

Another process may have the file open as well. Its writes are waited for (``lock_wait``), then the
group fails with Unavailable and the store tries again by itself.

An error leaves nothing behind: after a failed statement or COMMIT the transaction is rolled back on
the same connection, so what failed here is known not to be written.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from moda.errors import Busy, ConfigurationError, NoSpace, StoreError, Unavailable
from moda.ports import Query
from moda.store.base import DatabaseStore, StoreOptions
from moda.store.committer import Share, answered
from moda.store.schema import pending

__all__ = ["SqliteStore", "path_of"]

T = TypeVar("T")
ResultT = TypeVar("ResultT")

PAGE_BYTES = 8_192
"""Of a new file. A chunk of a hundred records spans several pages; 4 KiB pages cost a fifth more."""

CHECKPOINT_SECONDS = 1.0
"""How long after a commit a thread of its own moves the write-ahead log into the file. It does not
stop the writer, as a commit that did it would (appends at p99 here: 114 ms so, 38 to 50 ms with the thread)."""

CHECKPOINT_PAGES = 8_000
"""Pages of the write-ahead log (64 MiB) after which a commit moves them all the same: were the
thread outrun for ever, the log would grow for ever."""

_GONE = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_PROTOCOL,
    }
)
"""Primary codes that say something of the file, not of the statement."""


def path_of(url: str) -> Path | None:
    """The file a ``sqlite:`` URL names, relative with three slashes, absolute with four; None for
    a database in memory.

    >>> path_of("sqlite:///data/moda.db"), path_of("sqlite:////srv/moda.db"), path_of("sqlite://")
    (PosixPath('data/moda.db'), PosixPath('/srv/moda.db'), None)
    """
    rest = url.partition("://")[2].removeprefix("/")
    return None if rest in ("", ":memory:") else Path(rest)


def fault_of(error: sqlite3.Error) -> StoreError | None:
    """What an error of SQLite means to a caller; None when the statement is to blame."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable("another process has locked the database file")
    if primary == sqlite3.SQLITE_FULL:
        return NoSpace("there is no room for the database file on its disk")
    if primary == sqlite3.SQLITE_NOTADB or primary in _GONE:
        name = getattr(error, "sqlite_errorname", "?")
        return Unavailable(f"the database file fails: {error} ({name})")
    return None


class SqliteStore(DatabaseStore):
    """A :class:`~moda.ports.Store` in a file, or in memory for a process's life."""

    engine = "sqlite"

    def __init__(self, url: str, options: StoreOptions | None = None) -> None:
        super().__init__(options)
        self.path = path_of(url)
        self._writer: sqlite3.Connection | None = None
        self._migrated = False
        self._writing = ThreadPoolExecutor(1, "moda-store-writer")
        # A database in memory belongs to its one connection, so reads take the writer's thread.
        self._reading = (
            self._writing
            if self.path is None
            else ThreadPoolExecutor(self.options.readers, "moda-store-reader")
        )
        self._idle: list[sqlite3.Connection] = []
        self._keeping = ThreadPoolExecutor(1, "moda-store-checkpoint")
        self._keeper: sqlite3.Connection | None = None
        self._checkpoint: asyncio.TimerHandle | None = None
        self._lock = threading.Lock()
        self._reads = 0

    # -- writes

    async def _commit(self, shares: Sequence[Share]) -> Sequence[Sequence[Any]]:
        if self._fault is not None:
            raise self._away(self._fault)
        try:
            results = await self._in_writer(lambda: self._commit_now(shares))
        except StoreError as error:
            self._lost(error)
            raise self._away(error) from error
        if self._checkpoint is None and self.path is not None:
            loop = asyncio.get_running_loop()
            self._checkpoint = loop.call_later(CHECKPOINT_SECONDS, self._begin_checkpoint)
        return results

    def _commit_now(self, shares: Sequence[Share]) -> list[Sequence[Any]]:
        connection = self._writer
        if connection is None:
            raise Unavailable("the database file is not open")
        try:
            return _transaction(
                connection,
                lambda: [
                    answered(share, share[0].sqlite(connection, share[1])) for share in shares
                ],
            )
        except sqlite3.Error as error:
            fault = fault_of(error)
            if fault is None:
                raise
            if not isinstance(fault, NoSpace) and not _busy(error):
                self._discard_writer()
            raise fault from error

    async def _in_writer(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writing, work)
        except RuntimeError as error:
            if self._closing:  # the thread was shut down
                raise Unavailable("the store is closed") from error
            raise

    # -- the write-ahead log

    def _begin_checkpoint(self) -> None:
        if not self._closing:
            done = asyncio.get_running_loop().run_in_executor(self._keeping, self._checkpoint_now)
            done.add_done_callback(self._end_checkpoint)

    def _end_checkpoint(self, _: asyncio.Future[None]) -> None:
        self._checkpoint = None  # the next commit asks for the next one

    def _checkpoint_now(self) -> None:
        """Moves what no reader needs any more. Failing, it leaves the work to the next one or, at
        CHECKPOINT_PAGES, to a commit, whose failure is heard.
        """
        try:
            if self._keeper is None:
                assert self.path is not None
                self._keeper = sqlite3.connect(
                    self.path, timeout=0.1, isolation_level=None, check_same_thread=False
                )
            self._keeper.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error:
            self._discard_keeper()

    def _discard_keeper(self) -> None:
        connection, self._keeper = self._keeper, None
        if connection is not None:
            connection.close()

    # -- open and closed

    async def _open(self) -> None:
        await self._in_writer(self._open_now)

    def _open_now(self) -> None:
        try:
            if self._writer is None:
                self._writer = self._connect_writer()
            connection = self._writer
            if not self._migrated:
                self._migrate(connection)
                self._migrated = True
            _transaction(
                connection,
                lambda: connection.execute(
                    "INSERT INTO moda_probe(id, time) VALUES (1, ?) "
                    "ON CONFLICT(id) DO UPDATE SET time = excluded.time",
                    (time.time(),),
                ),
            )
        except sqlite3.Error as error:
            fault = fault_of(error)
            if not isinstance(fault, NoSpace) and not _busy(error):
                self._discard_writer()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_NOTADB:
                raise ConfigurationError(
                    f"DATABASE_URL: {self.path} is no SQLite database, takes one or no file"
                ) from error
            if fault is None:
                raise
            raise fault from error

    def _connect_writer(self) -> sqlite3.Connection:
        if self.path is not None:
            if self.path.is_dir():
                raise ConfigurationError(f"DATABASE_URL: {self.path} is a folder, takes a file")
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise Unavailable(
                    f"the folder {self.path.parent} cannot be made ({error.strerror})"
                ) from error
        connection = sqlite3.connect(
            ":memory:" if self.path is None else self.path,
            timeout=self.options.lock_wait,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
            connection.execute("PRAGMA journal_size_limit=67108864")
            connection.execute("PRAGMA foreign_keys=ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        def apply() -> None:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS moda_schema (name TEXT NOT NULL, version INTEGER NOT "
                "NULL, digest TEXT NOT NULL, applied REAL NOT NULL, PRIMARY KEY (name, version))"
            )
            connection.execute(
                "CREATE TABLE IF NOT EXISTS moda_probe (id INTEGER PRIMARY KEY, time REAL NOT NULL)"
            )
            rows = connection.execute("SELECT name, version, digest FROM moda_schema").fetchall()
            applied = {(name, version): digest for name, version, digest in rows}
            for step in pending(self.schemas, applied, "sqlite"):
                for statement in _statements(step.sql):
                    connection.execute(statement)
                connection.execute(
                    "INSERT INTO moda_schema VALUES (?, ?, ?, ?)",
                    (step.name, step.version, step.digest, time.time()),
                )

        _transaction(connection, apply)

    def _discard_writer(self) -> None:
        connection, self._writer = self._writer, None
        if connection is not None:
            connection.close()

    async def _shut(self) -> None:
        loop = asyncio.get_running_loop()
        if self._checkpoint is not None:
            self._checkpoint.cancel()
        await loop.run_in_executor(None, self._keeping.shutdown)
        self._discard_keeper()
        if self._reading is not self._writing:
            await loop.run_in_executor(None, self._reading.shutdown)
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        # The last connection to close moves the write-ahead log into the file.
        await loop.run_in_executor(self._writing, self._discard_writer)
        await loop.run_in_executor(None, self._writing.shutdown)

    # -- reads

    async def query(self, query: Query[ResultT]) -> ResultT:
        """As :meth:`moda.ports.Store.query`."""
        if self._closing or not self._started:
            raise Unavailable("the store is closed")
        if self._reads >= self.options.reads_waiting:
            raise Busy(f"{self._reads} reads wait for the database, which is the bound")
        self._reads += 1
        self.counts.queries += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._reading, self._read_now, query)
        finally:
            self._reads -= 1

    def _read_now(self, query: Query[ResultT]) -> ResultT:
        connection: sqlite3.Connection | None = None
        try:
            connection = self._writer if self.path is None else self._reader()
            if connection is None:
                raise Unavailable("the database is not open")
            reader = connection
            answer = _transaction(reader, lambda: query.sqlite(reader), "BEGIN")
        except sqlite3.Error as error:
            if connection is not None and connection is not self._writer:
                connection.close()
            fault = fault_of(error)
            if fault is None and self._migrated:
                raise
            raise fault or Unavailable("the database was not opened yet") from error
        except BaseException:
            self._put_back(connection)
            raise
        self._put_back(connection)
        return answer

    def _reader(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        assert self.path is not None
        return sqlite3.connect(
            f"file:{quote(str(self.path.resolve()))}?mode=ro",
            uri=True,
            timeout=self.options.lock_wait,
            isolation_level=None,
            check_same_thread=False,
        )

    def _put_back(self, connection: sqlite3.Connection | None) -> None:
        if connection is None or connection is self._writer:
            return
        with self._lock:
            self._idle.append(connection)


def _busy(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _transaction(
    connection: sqlite3.Connection, work: Callable[[], T], begin: str = "BEGIN IMMEDIATE"
) -> T:
    """Runs ``work`` in a transaction; rolled back when it raises, or when the COMMIT does."""
    connection.execute(begin)
    try:
        result = work()
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after some errors (a full disk, a failed write).
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one; ``executescript`` would commit before the first."""
    held = ""
    for piece in script.split(";"):
        held += piece + ";"
        if sqlite3.complete_statement(held):
            if held.strip(" \n\t;"):
                yield held
            held = ""
