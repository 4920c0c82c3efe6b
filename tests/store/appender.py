"""A process that appends under load until it is killed; run by the kill tests.

``python -m store.appender URL RUN`` appends with eight tasks to three topics and says on its standard
output what was acknowledged, a line each: topic, offset of the first record, ids of the records. A
line is written only after the append returned, and in one piece.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys

import structlog

from moda.errors import StoreError
from moda.ports import Append, Records
from moda.store import StoreLog, open_store


async def append_for_ever(log: StoreLog, run: str, task: int) -> None:
    draw = random.Random(f"{run}-{task}")
    made = 0
    while True:
        batch, said = [], []
        for topic in draw.sample(("a", "b", "c"), draw.randint(1, 3)):
            ids = [f"{run}.{task}.{made + n}" for n in range(draw.randint(1, 12))]
            made += len(ids)
            batch.append(Append(topic, Records.of(one.encode() for one in ids)))
            said.append(ids)
        try:
            answer = await log.append(batch)
        except StoreError as error:
            await asyncio.sleep(min(error.retry_after, 0.2))
            continue
        for placed, ids in zip(answer, said, strict=True):
            line = json.dumps([placed.topic, placed.epoch, placed.first, ids])
            os.write(1, line.encode() + b"\n")


async def main(url: str, run: str) -> None:
    # Standard output is for what was acknowledged alone.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    store = open_store(url)
    log = StoreLog(store)
    await store.start()
    os.write(1, b'"ready"\n')
    await asyncio.gather(*[append_for_ever(log, run, task) for task in range(8)])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
