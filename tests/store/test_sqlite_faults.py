"""SQLite in trouble: locked by somebody else, out of room, no database, in a folder that is none."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from moda.errors import ConfigurationError, NoSpace, Unavailable
from moda.ports import Append, Records
from moda.store import StoreLog, StoreOptions, open_store
from store.support import Load, one, refused, until

QUICK = {"lock_wait": 0.1, "first_pause": 0.02, "longest_pause": 0.1}
LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN " + sys.argv[2])
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


async def opened(path: Path, **options):
    store = open_store(f"sqlite:///{path}", StoreOptions(**{**QUICK, **options}))
    log = StoreLog(store)
    await store.start()
    return store, log


async def locked(path: Path, how: str) -> subprocess.Popen[str]:
    """Another process that holds the file until its standard input is written to."""
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", LOCKER, path, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == "locked\n"
    return process


def let_go(process: subprocess.Popen[str]) -> None:
    process.communicate("go on\n", timeout=30)


@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
async def test_writes_fail_while_another_process_holds_the_file_and_return_by_themselves(
    tmp_path, how
):
    store, log = await opened(tmp_path / "moda.db")
    await log.append(one(b"before"))
    other = await locked(tmp_path / "moda.db", how)
    error = await refused(log)
    assert "locked" in str(error)
    assert not isinstance(error, NoSpace)
    assert store.health().status == "degraded"
    assert store.counters()["degraded"] == 1.0
    page = await log.read("a", 0, count=9, bytes=99)
    assert list(page.records) == [b"before"], "reads go on"
    let_go(other)
    await until(lambda: store.health().status == "up")
    (placed,) = await log.append(one(b"after"))
    assert placed.first == 2
    await store.close()


async def test_a_short_lock_is_waited_for_and_nobody_notices(tmp_path):
    store, log = await opened(tmp_path / "moda.db", lock_wait=30.0)
    await log.append(one(b"1"))
    other = await locked(tmp_path / "moda.db", "IMMEDIATE")
    call = log.append(one(b"2"))
    await asyncio.sleep(0.1)
    assert not call.done()
    let_go(other)
    assert (await call)[0].first == 2
    assert store.health().status == "up"
    await store.close()


async def test_nothing_is_lost_or_twice_when_another_process_locks_again_and_again(tmp_path):
    store, log = await opened(tmp_path / "moda.db")
    load = Load(log)
    for _ in range(3):
        await load.more()
        other = await locked(tmp_path / "moda.db", "IMMEDIATE")
        await until(lambda: store.health().status == "degraded")
        let_go(other)
    await load.more()
    await load.stop()
    assert load.refused["Unavailable"] > 0
    assert await load.ledger.check(log) == len(load.ledger.acknowledged)
    await store.close()


async def test_a_start_while_the_file_is_locked_is_degraded_and_gets_through_later(tmp_path):
    sqlite3.connect(tmp_path / "moda.db").execute("CREATE TABLE other (n)").connection.close()
    other = await locked(tmp_path / "moda.db", "EXCLUSIVE")
    store, log = await opened(tmp_path / "moda.db")
    assert store.health().status == "degraded"
    await refused(log)
    with pytest.raises(Unavailable):
        await log.position("a")
    let_go(other)
    await until(lambda: store.health().status == "up")
    assert (await log.append(one(b"1")))[0].first == 1
    await store.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB where this user may make one, else None: then the file is bounded."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = os.getuid() == 0 and not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True, check=False
    ).returncode  # fmt: skip
    yield folder, mounted
    if mounted:
        subprocess.run(["umount", folder], check=True)


async def test_a_full_disk_fails_writes_as_no_space_and_room_brings_them_back(small_disk):
    folder, mounted = small_disk
    ballast = folder / "ballast"
    if mounted:
        ballast.write_bytes(b"x" * (1 << 20))
    store, log = await opened(folder / "moda.db")
    if not mounted:
        store._writer.execute("PRAGMA max_page_count=200")
    kept, full = 0, None
    while full is None:
        try:
            await log.append(one(b"%06d" % kept * 20_000))
            kept += 1
        except NoSpace as error:
            full = error
    assert kept > 0
    assert full.retry_after > 0
    assert store.counters()["failures"]["no_space"] >= 1
    page = await log.read("a", kept - 1, count=9, bytes=1 << 20)
    assert list(page.records) == [b"%06d" % (kept - 1) * 20_000], "reads go on"
    if mounted:
        ballast.unlink()
    else:
        store._writer.execute("PRAGMA max_page_count=100000")
    await until(lambda: store.health().status == "up")
    (placed,) = await log.append(one(b"after"))
    assert placed.first == kept + 1
    extent = await log.position("a")
    assert (extent.first, extent.next) == (1, kept + 2)
    await store.close()


async def test_a_database_url_that_names_no_database_stops_the_start(tmp_path):
    (tmp_path / "text").write_text("not a database at all, but long enough to be read as one" * 99)
    for path, said in ((tmp_path / "text", "is no SQLite database"), (tmp_path, "is a folder")):
        with pytest.raises(ConfigurationError, match=said):
            await opened(path)


async def test_a_folder_that_cannot_be_made_leaves_the_store_degraded(tmp_path):
    (tmp_path / "file").touch()
    store, log = await opened(tmp_path / "file" / "moda.db")
    assert "cannot be made" in store.health().detail["error"]
    await refused(log)
    (tmp_path / "file").unlink()
    await until(lambda: store.health().status == "up")
    await log.append(one(b"1"))
    await store.close()


async def test_two_stores_on_one_file_share_a_topics_offsets(tmp_path):
    (one_store, one_log), (two_store, two_log) = (
        await opened(tmp_path / "moda.db", lock_wait=30.0),
        await opened(tmp_path / "moda.db", lock_wait=30.0),
    )
    calls = [
        log.append([Append("a", Records.of([b"%s%d" % (name, n)]))])
        for n in range(30)
        for name, log in ((b"x", one_log), (b"y", two_log))
    ]
    places = await asyncio.gather(*calls)
    assert sorted(placed.first for (placed,) in places) == list(range(1, 61))
    assert len({placed.epoch for (placed,) in places}) == 1
    await one_store.close()
    await two_store.close()


async def test_the_write_ahead_log_is_moved_into_the_file_while_the_store_is_open(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("moda.store.sqlite.CHECKPOINT_SECONDS", 0.02)
    store, log = await opened(tmp_path / "moda.db")
    file = tmp_path / "moda.db"
    before = file.stat().st_size
    for n in range(5):
        await log.append(one(b"%d" % n * 200_000))
    await until(lambda: file.stat().st_size > before + 900_000)
    page = await log.read("a", 4, count=1, bytes=1 << 20)
    assert list(page.records) == [b"4" * 200_000]
    await store.close()
    assert not (tmp_path / "moda.db-wal").exists(), "closed, all is in the one file"


async def test_a_moved_log_that_fails_is_left_to_the_next_and_hurts_no_write(tmp_path, monkeypatch):
    monkeypatch.setattr("moda.store.sqlite.CHECKPOINT_SECONDS", 0.01)
    store, log = await opened(tmp_path / "moda.db", lock_wait=30.0)
    store._keeper = sqlite3.connect(tmp_path / "moda.db", check_same_thread=False)
    store._keeper.close()  # whatever it is asked now raises
    await log.append(one(b"1"))
    await until(lambda: store._keeper is None)
    assert (await log.append(one(b"2")))[0].first == 2
    await until(lambda: store._keeper is not None)
    assert store.health().status == "up"
    await store.close()
