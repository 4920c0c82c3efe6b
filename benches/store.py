"""`python -m benches.store`: the log against raw inserts of the same rows, on SQLite and PostgreSQL.

Both sides write the same records (160 bytes) in groups of the same size and commit each group to disk.
Raw is one connection that does nothing but insert a row per record: `executemany` on SQLite, COPY on
PostgreSQL, which is its fastest way in. The log is used as the gateway uses it: 16 tasks, each with a
batch of 100 for a topic of its own, answered before the next. Both run twice, in turns; the better
run of each counts. Reading goes through the whole topic in pages of 256 KiB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from benches import machine
from moda.ports import Append, Records
from moda.store import StoreLog, open_store

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from postgres import running_postgres  # the tests' own server

TASKS, BATCH, RECORD = 16, 100, b"x" * 160
GROUP = TASKS * BATCH
PAGE_BYTES = 256 << 10


def raw_sqlite(path: Path, groups: int) -> float:
    """Records per second of a row per record, a transaction per group."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        'CREATE TABLE raw (topic INTEGER, "offset" INTEGER, time INTEGER, data BLOB, '
        'PRIMARY KEY (topic, "offset")) WITHOUT ROWID'
    )
    began = time.perf_counter()
    for group in range(groups):
        rows = [
            (topic, group * BATCH + n, group, RECORD)
            for topic in range(TASKS)
            for n in range(BATCH)
        ]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO raw VALUES (?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
    seconds = time.perf_counter() - began
    connection.close()
    return groups * GROUP / seconds


async def raw_postgres(url: str, groups: int) -> float:
    """The same with COPY."""
    connection = await asyncpg.connect(url)
    await connection.execute("DROP TABLE IF EXISTS raw")
    await connection.execute(
        'CREATE TABLE raw (topic BIGINT, "offset" BIGINT, time BIGINT, data BYTEA, '
        'PRIMARY KEY (topic, "offset"))'
    )
    began = time.perf_counter()
    for group in range(groups):
        rows = [
            (topic, group * BATCH + n, group, RECORD)
            for topic in range(TASKS)
            for n in range(BATCH)
        ]
        async with connection.transaction():
            await connection.copy_records_to_table("raw", records=rows)
    seconds = time.perf_counter() - began
    await connection.close()
    return groups * GROUP / seconds


async def appended(url: str, groups: int, run: int) -> dict[str, Any]:
    """Records per second through the log, latency of an append, records per second read again."""
    store = open_store(url)
    log = StoreLog(store)
    await store.start()
    latencies: list[float] = []
    records = Records.of([RECORD] * BATCH)

    async def task(number: int) -> None:
        batch = [Append(f"{run}:{number}", records)]
        for _ in range(groups):
            began = time.perf_counter()
            await log.append(batch)
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*[task(number) for number in range(TASKS)])
    seconds = time.perf_counter() - began
    latencies.sort()
    await store.close()
    return {
        "rate": groups * GROUP / seconds,
        "p50_ms": 1000 * latencies[len(latencies) // 2],
        "p99_ms": 1000 * latencies[int(len(latencies) * 0.99)],
        "groups": store.counts.groups,
    }


async def reading(url: str, total: int, per_group: int) -> float:
    """Records per second of one reader of one topic, written ``per_group`` records at a time."""
    store = open_store(url)
    log = StoreLog(store)
    await store.start()
    topic, records = f"read:{per_group}", Records.of([RECORD] * per_group)
    # 64 in flight that the window does not join: each append is a group, and a chunk, of its own.
    for begin in range(0, total // per_group, 2_000):
        count = min(2_000, total // per_group - begin)
        await asyncio.gather(*[log.append([Append(topic, records)]) for _ in range(count)])
    after, began = 0, time.perf_counter()
    while (page := await log.read(topic, after, count=65_536, bytes=PAGE_BYTES)) and page.count:
        after += page.count
    seconds = time.perf_counter() - began
    await store.close()
    return after / seconds


def measure(kind: str, groups: int, total: int) -> dict[str, Any]:
    """All figures of one database."""
    with tempfile.TemporaryDirectory(prefix="moda-bench-", dir=machine.ROOT / "target") as folder:
        if kind == "sqlite":
            runs = [
                (
                    raw_sqlite(Path(folder) / f"raw{run}.db", groups),
                    uvloop.run(appended(f"sqlite:///{folder}/log{run}.db", groups, run)),
                )
                for run in (1, 2)
            ]
            read = uvloop.run(reading(f"sqlite:///{folder}/read.db", total, 100))
        else:
            with running_postgres("-c", "fsync=on") as server:
                runs = [
                    (
                        uvloop.run(raw_postgres(server.url(), groups)),
                        uvloop.run(appended(server.url(), groups, run)),
                    )
                    for run in (1, 2)
                ]
                read = uvloop.run(reading(server.url(), total, 100))
    raw = max(rate for rate, _ in runs)
    best = max((figures for _, figures in runs), key=lambda figures: figures["rate"])
    return {"raw": raw, **best, "ratio": best["rate"] / raw, "read": read}


def main(words: list[str] | None = None) -> int:
    """Prints a line of JSON per database."""
    parser = argparse.ArgumentParser(prog="benches.store", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(words)
    groups, total = (40, 100_000) if options.quick else (200, 1_000_000)
    for kind in ("sqlite", "postgres"):
        figures = {
            name: round(value, 2 if value < 100 else 0)
            for name, value in measure(kind, groups, total).items()
        }
        print(json.dumps({"database": kind, **figures}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
