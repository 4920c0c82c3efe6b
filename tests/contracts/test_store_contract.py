"""What a store promises its users, on every adapter: groups, failures, bounds, migrations."""

from __future__ import annotations

import asyncio
import sqlite3

import asyncpg
import pytest

from contracts.notes import (
    MORE,
    NOTES,
    Crash,
    ReadNotes,
    Refusal,
    Statement,
    WriteNotes,
    outcomes,
)
from moda.errors import Busy, ConfigurationError, Unavailable
from moda.ports import Migration, Schema
from moda.store.committer import Bounds

on_disk = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
"""For what outlives a store."""


def with_notes(store):
    store.add(NOTES)


# -- groups


async def test_writes_that_arrive_together_share_one_commit(open_one):
    store, writes = await open_one(with_notes), WriteNotes()
    answers = await outcomes(*[store.write(writes, str(n), 1) for n in range(20)])
    assert answers == sorted(set(answers))
    assert writes.groups == [[str(n) for n in range(20)]]
    assert store.counters()["groups"] == 1
    assert await store.query(ReadNotes()) == [f"notes:{n}" for n in range(20)]


async def test_users_share_a_commit_and_each_gets_its_own_results_in_order(open_one):
    store, one, two = await open_one(with_notes), WriteNotes("one"), WriteNotes("two")
    calls = [store.write(one if n % 3 else two, str(n), 1) for n in range(12)]
    numbers = await outcomes(*calls)
    assert store.counters()["groups"] == 1
    assert (len(one.groups), len(two.groups)) == (1, 1)
    texts = await store.query(ReadNotes())
    for n, number in enumerate(numbers):
        assert texts[number - 1] == f"{'one' if n % 3 else 'two'}:{n}"


async def test_items_are_written_in_the_order_of_the_calls_over_many_groups(open_one):
    bounds = Bounds(window=0, group_items=3)
    store, writes = await open_one(with_notes, bounds=bounds), WriteNotes()
    calls = []
    for n in range(40):
        calls.append(store.write(writes, str(n), 1))
        if n % 7 == 0:
            await asyncio.sleep(0.002)
    await outcomes(*calls)
    assert max(map(len, writes.groups)) == 3
    assert await store.query(ReadNotes()) == [f"notes:{n}" for n in range(40)]


async def test_a_groups_bytes_are_bounded_and_a_large_item_goes_alone(open_one):
    store, writes = await open_one(with_notes, bounds=Bounds(group_bytes=10)), WriteNotes()
    sizes = [4, 4, 4, 50, 1, 9, 1]
    await outcomes(*[store.write(writes, str(n), size) for n, size in enumerate(sizes)])
    assert writes.groups == [["0", "1"], ["2"], ["3"], ["4", "5"], ["6"]]


async def test_a_refused_item_undoes_nothing(open_one):
    store, writes = await open_one(with_notes), WriteNotes()
    a, refused, b = await outcomes(*[store.write(writes, i, 1) for i in ("a", "refuse", "b")])
    assert isinstance(refused, Refusal)
    assert (a, b) == (1, 2)
    assert store.counters()["groups"] == 1


@pytest.mark.parametrize("guilty", ["crash", "bad"])
async def test_a_write_that_raises_fails_alone_and_leaves_no_row(open_one, guilty):
    store, one, two = await open_one(with_notes), WriteNotes("one"), WriteNotes("two")
    calls = [store.write(one, "a", 1), store.write(two, "b", 1), store.write(one, guilty, 1)]
    calls.append(store.write(two, "c", 1))
    a, b, failed, c = await outcomes(*calls)
    wanted = (
        Crash
        if guilty == "crash"
        else (sqlite3.IntegrityError, asyncpg.IntegrityConstraintViolationError)
    )
    assert isinstance(failed, wanted)
    assert all(isinstance(number, int) for number in (a, b, c))
    assert await store.query(ReadNotes()) == ["one:a", "two:b", "two:c"]
    assert store.health().status == "up"
    assert store.counters()["writes_broken"] == 1


async def test_a_user_that_answers_too_few_items_fails_and_the_store_goes_on(open_one):
    class Short(WriteNotes):
        def sqlite(self, connection, items):
            return super().sqlite(connection, items)[:-1]

        async def postgres(self, connection, items):
            return (await super().postgres(connection, items))[:-1]

    store = await open_one(with_notes)
    failed, fine = await outcomes(store.write(Short(), "a", 1), store.write(WriteNotes(), "b", 1))
    assert isinstance(failed, RuntimeError)
    assert isinstance(fine, int)
    assert await store.query(ReadNotes()) == ["notes:b"]


# -- bounds


async def test_more_than_the_queue_holds_is_refused_at_once_and_taken_later(open_one):
    bounds = Bounds(queue_items=5, queue_bytes=1_000)
    store, writes = await open_one(with_notes, bounds=bounds), WriteNotes()
    calls = [store.write(writes, str(n), 1) for n in range(5)]
    with pytest.raises(Busy) as refused:
        store.write(writes, "too many", 1)
    assert refused.value.retry_after > 0
    await outcomes(*calls)
    assert isinstance(await store.write(writes, "now", 1), int)
    assert store.counters()["writes_refused"] == 1
    assert store.counters()["queue_items"] == 0


async def test_more_bytes_than_the_queue_holds_are_refused_but_for_one_large_item(open_one):
    store, writes = await open_one(with_notes, bounds=Bounds(queue_bytes=100)), WriteNotes()
    large = store.write(writes, "large", 1_000)
    with pytest.raises(Busy):
        store.write(writes, "small", 1)
    await large
    first = store.write(writes, "60", 60)
    with pytest.raises(Busy):
        store.write(writes, "41", 41)
    second = store.write(writes, "40", 40)
    assert store.counters()["queue_bytes"] == 100
    await outcomes(first, second)


async def test_reads_that_wait_are_bounded(open_one):
    store = await open_one(with_notes, reads_waiting=3)
    answers = await outcomes(*[store.query(ReadNotes()) for _ in range(5)])
    assert [isinstance(answer, Busy) for answer in answers] == [False] * 3 + [True] * 2


# -- start and end


async def test_closing_commits_everything_that_was_taken(open_one):
    store, writes = (
        await open_one(with_notes, bounds=Bounds(window=30, group_items=50)),
        WriteNotes(),
    )
    calls = [store.write(writes, str(n), 1) for n in range(10)]
    await asyncio.sleep(0)
    await store.close()
    assert [call.done() for call in calls] == [True] * 10
    assert await outcomes(*calls) == list(range(1, 11))
    with pytest.raises(Unavailable):
        store.write(writes, "late", 1)
    with pytest.raises(Unavailable):
        await store.query(ReadNotes())


@on_disk
async def test_what_was_committed_is_there_at_the_next_start(open_one):
    store, writes = await open_one(with_notes), WriteNotes()
    await outcomes(*[store.write(writes, str(n), 1) for n in range(10)])
    await store.close()
    again = await open_one(with_notes)
    assert await again.query(ReadNotes()) == [f"notes:{n}" for n in range(10)]


async def test_nothing_is_taken_before_the_start(url):
    from moda.store import open_store

    store = open_store(url)
    with pytest.raises(Unavailable):
        store.write(WriteNotes(), "a", 1)
    with pytest.raises(Unavailable):
        await store.query(ReadNotes())


async def test_a_read_sees_what_was_committed_before_it(open_one):
    store, writes = await open_one(with_notes), WriteNotes()
    for n in range(20):
        await store.write(writes, str(n), 1)
        assert len(await store.query(ReadNotes())) == n + 1


async def test_a_faulty_read_raises_its_own_error_and_the_next_one_works(open_one):
    store = await open_one(with_notes)
    with pytest.raises((sqlite3.OperationalError, asyncpg.PostgresSyntaxError)):
        await store.query(Statement("SELEKT"))
    assert await store.query(Statement("SELECT 1")) == [(1,)]


# -- migrations


@on_disk
async def test_steps_run_once_and_new_ones_at_the_next_start(open_one):
    store, writes = await open_one(with_notes), WriteNotes()
    await store.write(writes, "kept", 1)
    await store.close()
    store = await open_one(lambda store: store.add(MORE))
    assert await store.query(Statement("SELECT text, more FROM notes")) == [("notes:kept", "new")]
    await store.close()
    store = await open_one(lambda store: store.add(MORE))
    rows = await store.query(Statement("SELECT version FROM moda_schema ORDER BY version"))
    assert rows == [(1,), (2,)]


@on_disk
async def test_a_database_of_a_newer_program_is_refused(open_one):
    await (await open_one(lambda store: store.add(MORE))).close()
    with pytest.raises(ConfigurationError, match="version 2, this program knows 1"):
        await open_one(with_notes)


@on_disk
async def test_a_step_that_was_edited_after_it_ran_is_refused(open_one):
    await (await open_one(with_notes)).close()
    edited = Schema(
        "notes", (Migration(1, NOTES.steps[0].sqlite + " ", NOTES.steps[0].postgres + " "),)
    )
    with pytest.raises(ConfigurationError, match="its text differs"):
        await open_one(lambda store: store.add(edited))


@on_disk
async def test_a_step_that_fails_leaves_nothing_of_itself(open_one):
    bad = "CREATE TABLE notes_half (n INTEGER); CREATE TABLE notes_half (n INTEGER)"
    with pytest.raises((sqlite3.OperationalError, asyncpg.DuplicateTableError)):
        await open_one(lambda store: store.add(Schema("notes", (Migration(1, bad, bad),))))
    store = await open_one(with_notes)
    with pytest.raises((sqlite3.OperationalError, asyncpg.UndefinedTableError)):
        await store.query(Statement("SELECT * FROM notes_half"))


@on_disk
async def test_two_that_start_at_once_migrate_once(open_one):
    stores = await asyncio.gather(*[open_one(with_notes) for _ in range(3)])
    assert [store.health().status for store in stores] == ["up"] * 3
    rows = await stores[0].query(Statement("SELECT name, version FROM moda_schema"))
    assert rows == [("notes", 1)]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (NOTES, "declared twice"),
        (Schema("gap", (Migration(2, "", ""),)), "takes 1, 2, 3"),
        (Schema("back", (Migration(2, "", ""), Migration(1, "", ""))), "takes 1, 2, 3"),
    ],
    ids=["twice", "gap", "order"],
)
async def test_schemas_that_do_not_fit_are_refused_when_declared(open_one, schema, said):
    def declare(store):
        store.add(NOTES)
        with pytest.raises(ConfigurationError, match=said):
            store.add(schema)

    store = await open_one(declare)
    with pytest.raises(ConfigurationError, match="after the store's start"):
        store.add(Schema("late", ()))
