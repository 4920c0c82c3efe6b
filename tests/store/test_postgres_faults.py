"""PostgreSQL in trouble: stopped, crashed, cut off, silent in the middle of a commit."""

from __future__ import annotations

import asyncio
import itertools

import asyncpg
import pytest

from faults import Proxy
from moda.errors import ConfigurationError, OutcomeUnknown, Unavailable
from moda.ports import Append, Records
from moda.store import StoreLog, StoreOptions, open_store
from postgres import PostgresServer, make_database, running_postgres
from store.support import Load, one, refused, until

QUICK = {"pool_size": 4, "first_pause": 0.02, "longest_pause": 0.2, "connect_timeout": 2.0}
NAMES = itertools.count(1)


@pytest.fixture(scope="module")
def fragile():
    """A server that tests stop and start; every test leaves it running."""
    with running_postgres() as server:
        yield server


@pytest.fixture
async def open_on():
    """``store, log = await open_on(url)``; closed with the test."""
    stores = []

    async def begin(url, **options):
        store = open_store(url, StoreOptions(**{**QUICK, **options}))
        stores.append(store)
        log = StoreLog(store)
        await store.start()
        return store, log

    yield begin
    for store in stores:
        await store.close()


async def fresh(server: PostgresServer) -> str:
    return await make_database(server, f"f{next(NAMES)}")


@pytest.mark.parametrize("how", ["stop", "crash"])
async def test_nothing_is_lost_or_twice_when_the_server_goes_and_comes_back(fragile, open_on, how):
    store, log = await open_on(await fresh(fragile))
    load = Load(log)
    for _ in range(3):
        await load.more()
        await asyncio.to_thread(getattr(fragile, how))
        await until(lambda: store.health().status == "degraded")
        error = await refused(log)
        assert error.retry_after > 0
        await asyncio.to_thread(fragile.start)
        await until(lambda: store.health().status == "up")
    await load.more()
    await load.stop()
    assert load.refused["Unavailable"] > 0
    assert store.counters()["reconnects"] >= 3
    assert await load.ledger.check(log) >= len(load.ledger.acknowledged)


async def test_reads_fail_as_unavailable_while_the_server_is_gone_and_return(fragile, open_on):
    store, log = await open_on(await fresh(fragile))
    await log.append(one(b"1"))
    await log.position("a")
    await asyncio.to_thread(fragile.stop)
    try:
        with pytest.raises(Unavailable):
            await log.position("a")
    finally:
        await asyncio.to_thread(fragile.start)
    await until(lambda: store.health().status == "up")
    assert (await log.position("a")).next == 2


async def test_a_lost_server_is_known_before_anybody_writes(fragile, open_on):
    store, _ = await open_on(await fresh(fragile))
    await asyncio.to_thread(fragile.stop)
    try:
        await until(lambda: store.health().status == "degraded")
    finally:
        await asyncio.to_thread(fragile.start)
    await until(lambda: store.health().status == "up")


async def test_a_start_without_a_server_is_degraded_and_migrates_when_it_comes(fragile, open_on):
    url = await fresh(fragile)
    await asyncio.to_thread(fragile.stop)
    try:
        store, log = await open_on(url)
        assert store.health().status == "degraded"
        with pytest.raises(Unavailable):
            await log.position("a")
    finally:
        await asyncio.to_thread(fragile.start)
    await until(lambda: store.health().status == "up")
    assert (await log.append(one(b"1")))[0].first == 1


# -- the answer to a commit is lost


class Switch(Proxy):
    """A proxy that breaks a connection on which a COMMIT passes: ``before`` it reaches the server, or
    ``after``, when the server has done it and its answer is on the way.
    """

    def __init__(self, upstream: int) -> None:
        super().__init__(upstream)
        self.when = ""
        self.broken = 0

    async def _forward(self, pipe, direction):
        if direction == "down":
            await super()._forward(pipe, direction)
            return
        while data := await pipe.reader.read(65_536):
            if self.when and b"COMMIT" in data:
                when, self.when = self.when, ""
                self.broken += 1
                if when == "after":
                    self.cut("down")
                    pipe.writer.write(data)
                    await asyncio.sleep(0.2)
                self.reset()
                self.restore()
                return
            pipe.writer.write(data)
            await pipe.writer.drain()


def through(url: str, server: PostgresServer, proxy: Proxy) -> str:
    return url.replace(f":{server.port}/", f":{proxy.port}/")


async def test_a_commit_whose_answer_is_lost_is_found_and_acknowledged_once(postgres, open_on):
    url = await fresh(postgres)
    async with Switch(postgres.port) as proxy:
        store, log = await open_on(through(url, postgres, proxy))
        await log.append(one(b"1"))
        proxy.when = "after"
        (placed,) = await log.append(one(b"2"))
        assert (proxy.broken, placed.first) == (1, 2)
        (placed,) = await log.append(one(b"3"))
        assert placed.first == 3
        page = await log.read("a", 0, count=9, bytes=99)
        assert list(page.records) == [b"1", b"2", b"3"]
        await store.close()


async def test_a_commit_that_never_arrived_fails_and_is_not_there(postgres, open_on):
    url = await fresh(postgres)
    async with Switch(postgres.port) as proxy:
        store, log = await open_on(through(url, postgres, proxy))
        await log.append(one(b"1"))
        proxy.when = "before"
        error = await refused(log)
        assert not isinstance(error, OutcomeUnknown)
        await until(lambda: store.health().status == "up")
        assert (await log.append(one(b"2")))[0].first == 2
        page = await log.read("a", 0, count=9, bytes=99)
        assert list(page.records) == [b"1", b"2"]
        await store.close()


async def test_a_store_that_closes_before_it_could_ask_says_that_the_outcome_is_open(
    postgres, open_on
):
    url = await fresh(postgres)
    async with Switch(postgres.port) as proxy:
        store, log = await open_on(through(url, postgres, proxy))
        await log.append(one(b"1"))
        proxy.when = "after"
        call = log.append(one(b"2"))
        await until(lambda: proxy.broken == 1)
        proxy.refuse()
        await until(lambda: store.health().status == "degraded")
        await store.close()
        with pytest.raises(OutcomeUnknown):
            await call
    store, log = await open_on(url)
    assert (await log.position("a")).next == 3


async def test_nothing_is_lost_or_twice_over_a_wire_that_breaks_again_and_again(postgres, open_on):
    url = await fresh(postgres)
    async with Switch(postgres.port) as proxy:
        store, log = await open_on(through(url, postgres, proxy))
        load = Load(log)
        for when in ("after", "before", "") * 3:
            await load.more()
            proxy.when = when
            if when:
                await until(lambda: not proxy.when)
            else:
                proxy.reset()
        await load.more()
        await load.stop()
        assert proxy.broken == 6
        assert await load.ledger.check(log) >= len(load.ledger.acknowledged)
        await store.close()


async def test_a_server_that_falls_silent_counts_as_gone_and_a_lost_group_is_not_kept(
    postgres, open_on
):
    url = await fresh(postgres)
    async with Proxy(postgres.port) as proxy:
        store, log = await open_on(through(url, postgres, proxy), statement_timeout=1.0)
        await log.append(one(b"1"))
        proxy.cut()
        error = await refused(log)
        assert "did not answer" in str(error)
        proxy.restore()
        await until(lambda: store.health().status == "up")
        assert (await log.append(one(b"2")))[0].first == 2
        await store.close()


# -- several processes, wrong settings


async def test_stores_on_one_database_share_a_topics_offsets(postgres, open_on):
    url = await fresh(postgres)
    logs = [(await open_on(url))[1] for _ in range(3)]
    calls = [
        log.append([Append(topic, Records.of([b"%d.%d" % (n, who)])) for topic in order])
        for n in range(15)
        for who, (log, order) in enumerate(zip(logs, ("ab", "ba", "bca"), strict=True))
    ]
    answers = await asyncio.gather(*calls)
    places = [placed for answer in answers for placed in answer]
    for topic, wanted in (("a", 45), ("b", 45), ("c", 15)):
        mine = [placed for placed in places if placed.topic == topic]
        assert sorted(placed.first for placed in mine) == list(range(1, wanted + 1))
        assert len({placed.epoch for placed in mine}) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [(("/postgres", "/nowhere"), "nowhere"), (("postgres@", "nobody@"), "nobody")],
    ids=["database", "user"],
)
async def test_what_waiting_does_not_mend_stops_the_start(postgres, open_on, change, said):
    with pytest.raises(ConfigurationError, match=said):
        await open_on(postgres.url().replace(*change))


async def test_a_password_never_shows_in_what_is_said(postgres, open_on):
    url = await fresh(postgres)
    store, log = await open_on(url.replace("postgres@", "postgres:hunter2@").replace(
        f":{postgres.port}/", ":1/"))  # fmt: skip
    error = await refused(log)
    assert "hunter2" not in f"{error}{store.health()}"


async def test_idle_readers_that_were_thrown_out_are_replaced(postgres, open_on):
    url = await fresh(postgres)
    _, log = await open_on(url)
    await log.append(one(b"1"))
    await asyncio.gather(*[log.position("a") for _ in range(3)])
    admin = await asyncpg.connect(postgres.url())
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'moda'"
    )
    await admin.close()
    for _ in range(5):
        assert (await log.position("a")).next == 2
