"""The KeyStore port, on every adapter: keys are kept once, ended once, and found again."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from access.support import NOW
from moda.access.keys import KeyRecord, KeyStore, MemoryKeys, new_key
from moda.access.stored import StoredKeys
from moda.errors import Unavailable
from moda.store import open_store
from postgres import make_database

NAMES = itertools.count(1)


def made(key: str, **more: object) -> KeyRecord:
    return KeyRecord.made(key, now=NOW, **more)  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def keys(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeys()
        return
    url = f"sqlite:///{tmp_path}/moda.db"
    if request.param == "postgres":
        url = await make_database(request.getfixturevalue("postgres"), f"keys{next(NAMES)}")
    store = open_store(url)
    stored = StoredKeys(store)
    await store.start()
    yield stored
    await store.close()


async def test_a_key_comes_back_as_it_was_kept(keys):
    plain = made(new_key())
    full = made(
        new_key(), name="CI é '\"", kind="ingest", scopes=["read", "ingest"],
        expires_at=NOW + 0.5, subscribe=["a", "b:*"], publish=[],
    )  # fmt: skip
    for record in (plain, full):
        await keys.add(record)
        assert await keys.get(record.id) == record
    assert await keys.get("nobody") is None
    assert sorted(one.id for one in await keys.all()) == sorted([plain.id, full.id])


async def test_keys_are_listed_oldest_first(keys):
    records = [KeyRecord.made(new_key(), now=NOW - n) for n in range(5)]
    for record in records:
        await keys.add(record)
    assert await keys.all() == records[::-1]


async def test_an_id_is_given_once_and_the_first_key_stays(keys):
    record = made(new_key(), name="first")
    await keys.add(record)
    with pytest.raises(ValueError, match="already"):
        await keys.add(KeyRecord(record.id, b"x" * 32, "second"))
    assert await keys.get(record.id) == record


async def test_the_first_revocation_stays_and_an_unknown_id_is_said(keys):
    record = made(new_key())
    await keys.add(record)
    assert await keys.revoke(record.id, NOW + 1)
    assert await keys.revoke(record.id, NOW + 9)
    assert (await keys.get(record.id)).revoked_at == NOW + 1
    assert not await keys.revoke("nobody", NOW)


async def test_the_last_use_moves_forward_only_and_ids_that_are_gone_are_passed_over(keys):
    record = made(new_key())
    await keys.add(record)
    for at in (NOW + 5, NOW + 2):
        await keys.used({record.id: at, "gone": at})
    assert (await keys.get(record.id)).last_used_at == NOW + 5


async def test_no_key_is_in_the_file(tmp_path):
    path = tmp_path / "moda.db"
    store = open_store(f"sqlite:///{path}")
    keys = StoredKeys(store)
    await store.start()
    key = new_key()
    await keys.add(made(key))
    await store.close()
    held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert key[5:15].encode() in held
    assert key[16:].encode() not in held


async def test_a_store_that_is_closed_says_so_and_not_that_there_is_no_key(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/moda.db")
    keys = StoredKeys(store)
    await store.start()
    await store.close()
    with pytest.raises(Unavailable):
        await keys.get("nobody")
