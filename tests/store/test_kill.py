"""``kill -9`` of a process that appends under load: what it acknowledged is there, once, in order.

``SOAK`` multiplies the rounds: 10 makes them 100 on SQLite and 30 on PostgreSQL.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from moda.store import StoreLog, open_store
from postgres import make_database
from store.ledger import Ledger

TESTS = Path(__file__).parents[1]
ROUNDS = {"sqlite": 10, "postgres": 3}
FACTOR = int(os.environ.get("SOAK", "1"))


async def killed(url: str, run: int, seconds: float) -> bytes:
    """Runs an appender, kills it some time after it began; what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "store.appender", url, str(run),
        cwd=TESTS, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        ready = await process.stdout.readline()
        if ready == b'"ready"\n':
            await asyncio.sleep(seconds)
    finally:
        process.send_signal(signal.SIGKILL)
    said, errors = await process.communicate()
    assert ready == b'"ready"\n', errors.decode()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    return said


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_every_acknowledged_record_outlives_kill_9_once_and_in_place(kind, request, tmp_path):
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/moda.db"
    else:
        url = await make_database(request.getfixturevalue("postgres"), "killed")
    ledger, draw, lines = Ledger(), random.Random(7), 0
    for run in range(ROUNDS[kind] * FACTOR):
        lines += ledger.take(await killed(url, run, draw.uniform(0.05, 0.5)))
        store = open_store(url)
        log = StoreLog(store)
        await store.start()
        held = await ledger.check(log)
        await store.close()
        assert held >= len(ledger.acknowledged)
    assert lines > 10 * ROUNDS[kind], "the appenders hardly appended: nothing was proved"
