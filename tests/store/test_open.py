"""Which store a DATABASE_URL names."""

from __future__ import annotations

import pytest

from moda.errors import ConfigurationError
from moda.store import PostgresStore, SqliteStore, open_store
from moda.store.sqlite import path_of


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///data/moda.db", "data/moda.db"),
        ("sqlite:////srv/moda.db", "/srv/moda.db"),
        ("sqlite:///a b/ж.db", "a b/ж.db"),
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
    ],
)
async def test_the_slashes_of_a_sqlite_url_say_where_the_file_is(url, path):
    found = path_of(url)
    assert (found and str(found)) == path
    store = open_store(url)
    assert isinstance(store, SqliteStore)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_both_schemes_of_postgresql_are_known(scheme):
    assert isinstance(open_store(f"{scheme}://user@host/name"), PostgresStore)


def test_another_scheme_is_refused_without_showing_the_url():
    with pytest.raises(ConfigurationError, match="'mysql'") as refused:
        open_store("mysql://user:hunter2@host/name")
    assert "hunter2" not in str(refused.value)


async def test_a_file_with_odd_characters_in_its_name_is_written_and_read(tmp_path):
    from moda.ports import Append, Records
    from moda.store import StoreLog

    store = open_store(f"sqlite:///{tmp_path}/über?mode=x#%41 b.db")
    log = StoreLog(store)
    await store.start()
    await log.append([Append("a", Records.of([b"1"]))])
    assert (await log.position("a")).next == 2
    await store.close()
    assert (tmp_path / "über?mode=x#%41 b.db").exists()
