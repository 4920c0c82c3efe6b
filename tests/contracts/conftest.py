"""The adapters of the two ports, one by one: every test of a contract runs on each.

``opened`` makes a log that can be closed and opened again on the same database; PostgreSQL is a real
server, one for the session, with a database for each test.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from moda.store import StoreLog, StoreOptions, open_store
from oracle_log import MemoryLog
from postgres import PostgresServer, make_database, running_postgres

NAMES = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


class Clock:
    """Seconds since 1970, turned by hand."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> float:
        return self.seconds

    @property
    def ms(self) -> int:
        return int(self.seconds * 1000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "sqlite-memory", "postgres"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/moda.db"
    if request.param == "sqlite-memory":
        return "sqlite://"
    return await make_database(request.getfixturevalue("postgres"), f"t{next(NAMES)}")


@pytest.fixture
async def open_one(url: str) -> AsyncIterator[Callable[..., Any]]:
    """``await open_one(prepare)`` opens a store on the test's database; ``prepare(store)`` adds to it
    before the start.
    """
    stores: list[Any] = []

    async def begin(prepare: Callable[[Any], Any] = lambda store: None, **options: Any) -> Any:
        store = open_store(url, StoreOptions(**{"pool_size": 4, **options}))
        stores.append(store)
        prepare(store)
        await store.start()
        return store

    yield begin
    for store in stores:
        await store.close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def log(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Any]:
    """A log of each adapter, its keys remembered for an hour."""
    if request.param == "memory":
        yield MemoryLog(clock, 3_600.0)
        return
    if request.param == "sqlite":
        where = f"sqlite:///{tmp_path}/moda.db"
    else:
        where = await make_database(request.getfixturevalue("postgres"), f"t{next(NAMES)}")
    store = open_store(where, StoreOptions(pool_size=4))
    kept = StoreLog(store, keep_keys=3_600.0, now=clock)
    await store.start()
    yield kept
    await store.close()
