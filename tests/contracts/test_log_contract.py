"""What a log promises, on every adapter (the list in memory, SQLite, PostgreSQL)."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import numpy as np
import pytest

from moda.errors import KeyReused
from moda.ports import Append, Appended, Key, Records, Retention
from oracle_log import MemoryLog

EVERYTHING = {"count": 1_000_000, "bytes": 1 << 30}


def entry(topic: str, *records: bytes, **keep: float) -> Append:
    return Append(topic, Records.of(records), Retention(**keep))  # type: ignore[arg-type]


def blank(one):
    """Without its epoch, which every adapter draws for itself."""
    return replace(one, epoch=0) if isinstance(one, Appended) else one._replace(epoch=0)


async def texts(log, topic, after=0, **limits):
    page = await log.read(topic, after, **{**EVERYTHING, **limits})
    return page.first, list(page.records)


# -- appending


async def test_offsets_begin_at_one_and_are_dense_over_calls_and_batches(log):
    (first,) = await log.append([entry("a", b"1", b"2")])
    (second,) = await log.append([entry("a", b"3")])
    assert (first.first, first.count, second.first, second.count) == (1, 2, 3, 1)
    assert first.epoch == second.epoch
    assert await texts(log, "a") == (1, [b"1", b"2", b"3"])


async def test_each_topic_counts_for_itself_in_the_epoch_that_was_told_before_its_first_record(log):
    told = await log.epoch()
    a, b = await log.append([entry("a", b"1", b"2"), entry("b", b"3")])
    assert (a.first, b.first) == (1, 1)
    assert (a.epoch, b.epoch) == (told, told)
    assert 1 <= told < 2**53


async def test_a_topic_named_twice_in_a_batch_gets_its_records_in_the_batchs_order(log):
    one, other, two = await log.append([entry("a", b"1"), entry("b", b"x"), entry("a", b"2", b"3")])
    assert (one.first, two.first, other.first) == (1, 2, 1)
    assert await texts(log, "a") == (1, [b"1", b"2", b"3"])


async def test_the_order_is_that_of_the_calls_not_of_the_awaits(log):
    calls = [log.append([entry("a", b"%d" % n)]) for n in range(50)]
    for call in reversed(calls):
        await call
    assert await texts(log, "a") == (1, [b"%d" % n for n in range(50)])


async def test_a_caller_that_stops_waiting_takes_nothing_back(log):
    call = log.append([entry("a", b"1")])
    call.cancel()
    await log.append([entry("a", b"2")])
    assert await texts(log, "a") == (1, [b"1", b"2"])


async def test_records_may_be_empty_and_hold_any_bytes(log):
    records = [b"", b"\x00\xff", b"", b"x" * 70_000, b""]
    await log.append([entry("a", *records)])
    assert await texts(log, "a") == (1, records)


@pytest.mark.parametrize("topic", ["a\x00b", "комната:1", "💬" * 63, " ", "%_\\"])
async def test_a_topics_name_is_any_text_of_255_bytes(log, topic):
    await log.append([entry(topic, b"1"), entry("neighbour", b"2")])
    assert (await log.position(topic)).topic == topic
    assert await texts(log, topic) == (1, [b"1"])


@pytest.mark.parametrize(
    "batch",
    [
        [],
        [entry("", b"1")],
        [entry("x" * 256, b"1")],
        [entry("ж" * 128, b"1")],
        [entry("a")],
        [Append("a", Records(b"\x02\x00\x00\x00", b"x"))],
        [entry("fine", b"1"), entry("", b"1")],
    ],
    ids=["nothing", "no-name", "long-name", "long-in-bytes", "no-record", "sizes", "second"],
)
async def test_what_cannot_be_appended_is_refused_at_once_and_whole(log, batch):
    with pytest.raises(ValueError):  # noqa: PT011  # each adapter words it itself
        log.append(batch)
    assert await log.topics() == []


async def test_thousands_of_records_in_one_batch_keep_their_order(log):
    records = [b"%d" % n * (n % 7) for n in range(20_000)]
    (done,) = await log.append([entry("a", *records)])
    assert done.count == 20_000
    assert await texts(log, "a") == (1, records)
    assert await texts(log, "a", after=8_191, count=3) == (8_192, records[8_191:8_194])
    assert await texts(log, "a", after=19_998) == (19_999, records[19_998:])


# -- reading


async def test_a_topic_that_never_had_a_record_is_none(log):
    await log.append([entry("ab", b"1")])
    assert await log.position("a") is None
    assert await log.read("a", 0, count=1, bytes=1) is None
    assert await log.since("a", 0) is None


async def test_a_page_holds_no_more_records_than_asked_for(log):
    for n in range(10):
        await log.append([entry("a", b"%d" % n, b"%d'" % n)])
    assert await texts(log, "a", count=3) == (1, [b"0", b"0'", b"1"])
    assert await texts(log, "a", after=3, count=4) == (4, [b"1'", b"2", b"2'", b"3"])
    assert await texts(log, "a", after=18, count=4) == (19, [b"9", b"9'"])


async def test_a_page_holds_no_more_bytes_than_asked_for_but_one_record(log):
    await log.append([entry("a", b"aaaa", b"bb", b"c")])
    await log.append([entry("a", b"dddd", b"e")])
    assert await texts(log, "a", bytes=6) == (1, [b"aaaa", b"bb"])
    assert await texts(log, "a", bytes=5) == (1, [b"aaaa"])
    assert await texts(log, "a", bytes=1) == (1, [b"aaaa"])
    assert await texts(log, "a", after=1, bytes=7) == (2, [b"bb", b"c", b"dddd"])
    assert await texts(log, "a", after=3, bytes=4) == (4, [b"dddd"])


async def test_pages_follow_each_other_without_a_gap_or_a_repeat(log):
    written = []
    for n in range(40):
        records = [b"%d-%d" % (n, i) for i in range(n % 9 + 1)]
        written += records
        await log.append([entry("a", *records)])
    for count, size in ((1, 1), (7, 1 << 20), (1_000, 23), (13, 64)):
        after, seen = 0, []
        while True:
            page = await log.read("a", after, count=count, bytes=size)
            if not page.count:
                break
            assert page.first == after + 1
            assert page.count <= count
            seen += list(page.records)
            after = page.first + page.count - 1
        assert seen == written


async def test_a_reader_at_the_end_gets_an_empty_page_and_the_position(log):
    (done,) = await log.append([entry("a", b"1", b"22")])
    for after in (2, 3, 1_000):
        page = await log.read("a", after, count=5, bytes=5)
        assert (page.count, page.first, page.times) == (0, 3, b"")
        assert page.extent == ("a", done.epoch, 1, 3, 3)


async def test_records_are_found_by_time_and_times_never_decrease(log, clock):
    start = clock.ms
    for step in (0, 1, -5, 10):  # the machine's clock was set back once
        clock.seconds += step
        await log.append([entry("a", b"%d" % step, b"-")])
    page = await log.read("a", 0, **EVERYTHING)
    assert (np.frombuffer(page.times, "<i8") - start).tolist() == [
        0, 0, 1_000, 1_000, 1_000, 1_000, 6_000, 6_000,
    ]  # fmt: skip
    assert [await log.since("a", start + ms) for ms in (-1, 0, 1, 1_000, 1_001, 6_000, 6_001)] == [
        0, 0, 2, 2, 6, 6, 8,
    ]  # fmt: skip


async def test_the_last_n_are_found_by_arithmetic(log):
    await log.append([entry("a", b"1", b"2", b"3")])
    await log.append([entry("a", b"4", b"5", count=4)])
    extent = await log.position("a")
    assert await texts(log, "a", after=extent.before_last(2)) == (4, [b"4", b"5"])
    assert await texts(log, "a", after=extent.before_last(10)) == (2, [b"2", b"3", b"4", b"5"])


async def test_topics_are_listed_in_the_order_of_their_bytes_page_by_page(log):
    names = ["a", "a:1", "a:2", "a:\U0001f600", "a:é", "b", "á"]
    for name in names:
        await log.append([entry(name, b"1")])
    in_order = sorted(names, key=str.encode)
    assert [one.topic for one in await log.topics()] == in_order
    assert [one.topic for one in await log.topics(limit=2, after="a:1")] == ["a:2", "a:é"]
    assert [one.topic for one in await log.topics(prefix="a:", after="a:2")] == in_order[3:5]
    assert await log.topics(prefix="c") == []


# -- retention


async def test_the_newest_records_are_kept_by_count(log):
    for n in range(7):
        await log.append([entry("a", b"%d" % n, b"%d'" % n, count=3)])
        extent = await log.position("a")
        assert (extent.next, extent.next - extent.first) == (2 * n + 3, min(3, 2 * n + 2))
    assert await texts(log, "a") == (12, [b"5'", b"6", b"6'"])


async def test_the_newest_records_are_kept_by_bytes(log):
    await log.append([entry("a", b"aaaa", b"bbb", b"", b"cc", bytes=100)])
    await log.append([entry("a", b"d", bytes=6)])
    assert await texts(log, "a") == (2, [b"bbb", b"", b"cc", b"d"])
    await log.append([entry("a", b"eeee", bytes=6)])
    assert await texts(log, "a") == (5, [b"d", b"eeee"])
    assert (await log.position("a")).bytes == 5


async def test_a_record_larger_than_what_is_kept_is_dropped_and_its_offset_is_not_reused(log):
    (big,) = await log.append([entry("a", b"x" * 100, bytes=10)])
    extent = await log.position("a")
    assert (extent.first, extent.next, extent.bytes) == (2, 2, 0)
    (small,) = await log.append([entry("a", b"y", bytes=10)])
    assert (big.first, small.first, small.epoch) == (1, 2, big.epoch)


async def test_records_past_their_age_go_with_the_next_trim_and_not_before(log, clock):
    for n in range(4):
        await log.append([entry("a", b"%d" % n, b"%d'" % n, age=10), entry("b", b"kept")])
        clock.seconds += 2
    clock.seconds += 1.999  # the oldest is 9.999 s old
    assert await log.trim() == 0
    clock.seconds += 0.001
    assert await log.trim() == 2
    assert await texts(log, "a") == (3, [b"1", b"1'", b"2", b"2'", b"3", b"3'"])
    clock.seconds += 4
    assert await log.trim() == 4
    assert await log.trim() == 0
    assert await texts(log, "b") == (1, [b"kept"] * 4)


async def test_offsets_go_on_in_the_same_epoch_after_everything_was_trimmed(log, clock):
    (before,) = await log.append([entry("a", b"1", b"2", age=5)])
    clock.seconds += 6
    assert await log.trim() == 2
    extent = await log.position("a")
    assert (extent.first, extent.next, extent.bytes) == (3, 3, 0)
    assert await texts(log, "a") == (3, [])
    (after,) = await log.append([entry("a", b"3", age=5)])
    assert (after.epoch, after.first) == (before.epoch, 3)
    clock.seconds += 6
    assert await log.trim() == 1


async def test_a_reader_that_comes_for_what_was_trimmed_is_shown_where_it_begins(log):
    await log.append([entry("a", *[b"%d" % n for n in range(10)], count=3)])
    page = await log.read("a", 2, count=2, bytes=100)
    assert (page.first, list(page.records), page.extent.first) == (8, [b"7", b"8"], 8)


async def test_the_retention_stated_last_counts(log, clock):
    await log.append([entry("a", b"1", b"2", b"3", age=5)])
    await log.append([entry("a", b"4")])
    clock.seconds += 60
    assert await log.trim() == 0
    await log.append([entry("a", b"5", age=50)])
    assert await log.trim() == 4
    await log.append([entry("a", b"6", b"7", count=2, age=50)])
    assert await texts(log, "a") == (6, [b"6", b"7"])


# -- idempotency keys


async def test_a_key_seen_before_writes_nothing_and_gets_the_first_answer_again(log, clock):
    key = Key("ann:1", b"digest")
    first = await log.append([entry("a", b"1", b"2"), entry("b", b"3")], key=key)
    clock.seconds += 3_599
    again = await log.append([entry("a", b"1", b"2"), entry("b", b"3")], key=key)
    assert list(again) == list(first)
    assert await texts(log, "a") == (1, [b"1", b"2"])
    assert list(await log.answer(key)) == list(first)


async def test_a_key_used_twice_at_once_writes_once(log):
    key = Key("k", b"d")
    calls = [log.append([entry("a", b"1")], key=key) for _ in range(5)]
    answers = await asyncio.gather(*calls)
    assert {tuple(answer) for answer in answers} == {tuple(answers[0])}
    assert await texts(log, "a") == (1, [b"1"])


async def test_a_key_with_another_request_is_refused_and_hurts_no_neighbour(log):
    await log.append([entry("a", b"1")], key=Key("k", b"one"))
    refused, fine = await asyncio.gather(
        log.append([entry("a", b"2"), entry("new", b"x")], key=Key("k", b"other")),
        log.append([entry("a", b"3")], key=Key("k2", b"other")),
        return_exceptions=True,
    )
    assert isinstance(refused, KeyReused)
    assert fine[0].first == 2
    assert await log.position("new") is None
    with pytest.raises(KeyReused):
        await log.answer(Key("k", b"other"))


async def test_a_key_past_its_age_is_forgotten(log, clock):
    key = Key("k", b"d")
    await log.append([entry("a", b"1")], key=key)
    clock.seconds += 3_600
    assert await log.answer(key) is None
    (again,) = await log.append([entry("a", b"1")], key=key)
    assert again.first == 2
    clock.seconds += 3_600
    await log.trim()
    (later,) = await log.append([entry("a", b"1")], key=Key("k", b"another request"))
    assert later.first == 3


@pytest.mark.parametrize("key", ["", "x" * 256, "ж" * 128])
async def test_a_key_beyond_its_bound_is_refused_at_once(log, key):
    with pytest.raises(ValueError):  # noqa: PT011
        log.append([entry("a", b"1")], key=Key(key, b"d"))


# -- all of it at once


@pytest.mark.parametrize("seed", range(6))
async def test_random_use_leaves_what_the_slow_log_has(log, clock, seed):
    """Appends of every kind, trims and reads at random; after each step both logs answer alike."""
    draw = random.Random(seed)
    slow = MemoryLog(clock, 3_600.0)
    epochs: dict[int, int] = {}
    keys = [Key(f"k{n}", b"d%d" % (n % 3)) for n in range(6)] + [Key("k1", b"other")]

    def same(ours, theirs):
        if isinstance(ours, Exception):
            assert type(ours) is type(theirs)
            return
        for one, other in zip(ours, theirs, strict=True):
            assert epochs.setdefault(other.epoch, one.epoch) == one.epoch
            assert blank(one) == blank(other)

    for _ in range(60):
        clock.seconds += draw.choice((0, 0, 0.5, 3, 700))
        batch = [
            Append(
                draw.choice("abc"),
                Records.of(draw.randbytes(draw.choice((0, 1, 9, 40))) for _ in range(draw.randint(1, 30))),
                Retention(draw.choice((0, 5, 50)), draw.choice((0, 2, 900)), draw.choice((0, 90, 900))),
            )
            for _ in range(draw.randint(1, 3))
        ]  # fmt: skip
        key = draw.choice([None, *keys])
        ours, theirs = await asyncio.gather(
            log.append(batch, key=key), slow.append(batch, key=key), return_exceptions=True
        )
        same(ours, theirs)
        if draw.random() < 0.3:
            assert await log.trim() == await slow.trim()
        same(await log.topics(), await slow.topics())
        for topic in "abc":
            args = (topic, draw.randint(0, 300))
            limits = {"count": draw.choice((1, 7, 500)), "bytes": draw.choice((1, 60, 9_000))}
            one, other = await log.read(*args, **limits), await slow.read(*args, **limits)
            if one is None or other is None:
                assert one is other
                continue
            assert (one.first, one.records, one.times) == (other.first, other.records, other.times)
            when = clock.ms - draw.choice((0, 500, 3_000, 900_000))
            assert await log.since(topic, when) == await slow.since(topic, when)
