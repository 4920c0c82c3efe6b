"""A PostgreSQL server for the faults that do not hurt it; those that do start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from postgres import PostgresServer, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server
