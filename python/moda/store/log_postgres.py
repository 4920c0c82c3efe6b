"""The log's statements for PostgreSQL. Topics are locked in the order of their names by whoever
appends to them, so that two processes wait for each other and never in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from moda.errors import KeyReused
from moda.ports import Appended, Extent, Page
from moda.store.log_plan import (
    TRIM_CHUNKS,
    TRIM_KEYS,
    TRIM_TOPICS,
    Batch,
    Chunk,
    Topic,
    decoded,
    empty_page,
    end_of,
    enough,
    next_expiry,
    page_of,
    plan,
    shed,
    unanswered,
)

__all__ = ["answers", "append", "position", "read", "since", "topics", "trim"]


COLUMNS = "id, topic, epoch, first, next, bytes, time, keep_count, keep_age, keep_bytes, expires"
TOPIC = f"SELECT {COLUMNS} FROM log_topics"  # noqa: S608  # a constant
LOCK = f"{TOPIC} WHERE topic = ANY($1::bytea[]) ORDER BY topic FOR UPDATE"
UPDATE = """
    UPDATE log_topics AS t SET first = n.first, next = n.next, bytes = n.bytes, time = n.time,
        keep_count = n.keep_count, keep_age = n.keep_age, keep_bytes = n.keep_bytes,
        expires = n.expires
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
        $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])
        AS n(id, first, next, bytes, time, keep_count, keep_age, keep_bytes, expires)
    WHERE t.id = n.id
"""
APPEND = f"""
    WITH chunks AS (INSERT INTO log_chunks SELECT * FROM unnest(
        $10::bigint[], $11::bigint[], $12::integer[], $13::bigint[], $14::bytea[], $15::bytea[]))
    {UPDATE}
"""  # noqa: S608  # a constant
"""Both in one statement: a round trip less in every commit."""
OLDEST = """
    SELECT c.first, c.count, c.time, c.sizes, ''::bytea AS data FROM log_chunks AS c
    WHERE c.topic = $1 AND c.first > $2 ORDER BY c.first LIMIT 128
"""
READ = """
    SELECT t.*, c.first AS c_first, c.count AS c_count, c.time AS c_time, c.sizes AS c_sizes,
        c.data AS c_data
    FROM (SELECT *, greatest(first, $2::bigint + 1) AS start FROM log_topics WHERE topic = $1) AS t
    LEFT JOIN LATERAL (
        SELECT first, length(data) AS size,
            CASE WHEN first < t.start THEN length(data) ELSE 0 END AS skipped
        FROM log_chunks WHERE topic = t.id AND first <= t.start ORDER BY first DESC LIMIT 1
    ) AS b ON t.start < t.next
    LEFT JOIN LATERAL (
        SELECT s.first, s.count, s.time, s.sizes, s.data FROM (
            SELECT r.*, sum(length(r.data)) OVER (ORDER BY r.first) - length(r.data) AS held
            FROM (
                SELECT first, count, time, sizes, data FROM log_chunks
                WHERE topic = t.id AND first >= b.first AND first < t.start + $3::bigint
                ORDER BY first LIMIT least(1024, 2 + 2 * $4::bigint / greatest(b.size, 64))
            ) AS r
        ) AS s
        WHERE s.held < b.skipped + $5::bigint
    ) AS c ON true
    ORDER BY c.first
"""
"""One statement, so that the topic and its chunks are of one moment. Offsets are dense, so the first
offset of a chunk says whether it is within the count; the running sum says it of the bytes, where
the first chunk counts for nothing if the page begins inside it. How many chunks are looked at is
guessed from the first; guessed too low, the page is short, and the next one guesses anew. Data that
is not needed is neither fetched nor sent."""


async def answers(
    connection: asyncpg.Connection[Any], keys: Sequence[bytes], after: int
) -> dict[bytes, tuple[bytes, list[Appended]]]:
    """What is remembered of idempotency keys younger than ``after``."""
    rows = await connection.fetch(
        "SELECT key, digest, answer FROM log_keys WHERE key = ANY($1::bytea[]) AND time > $2",
        keys,
        after,
    )
    return {row["key"]: (row["digest"], decoded(row["answer"])) for row in rows}


async def append(
    connection: asyncpg.Connection[Any], batches: Sequence[Batch], now: int, keys_after: int
) -> list[list[Appended] | KeyReused]:
    """Writes a group; an answer per batch."""
    if not batches:
        return []
    keys = [batch.key.key.encode() for batch in batches if batch.key is not None]
    known = await answers(connection, keys, keys_after) if keys else {}
    names = unanswered(batches, known)
    rows = await _locked(connection, names) if names else {}
    made = plan(batches, rows, known, now)
    if made.chunks:
        ids, chunks = zip(*made.chunks, strict=True)
        columns = zip(*chunks, strict=True)
        if any(topic.overfull() for topic in made.topics):
            # A trim looks at the chunks as they are with this group's.
            await connection.execute(
                "INSERT INTO log_chunks SELECT * FROM unnest($1::bigint[], $2::bigint[], "
                "$3::integer[], $4::bigint[], $5::bytea[], $6::bytea[])",
                ids,
                *columns,
            )
            for topic in made.topics:
                if topic.overfull():
                    await _shed(connection, topic, None)
            await _update(connection, made.topics)
        else:
            await connection.execute(APPEND, *_columns(made.topics), ids, *columns)
    if made.keys:
        await connection.execute(
            "DELETE FROM log_keys WHERE key = ANY($1::bytea[]) AND time <= $2", keys, keys_after
        )
        await connection.execute(
            "INSERT INTO log_keys SELECT k, d, $4, a FROM "
            "unnest($1::bytea[], $2::bytea[], $3::bytea[]) AS n(k, d, a)",
            *zip(*made.keys, strict=True),
            now,
        )
    return made.answers


async def epoch(connection: asyncpg.Connection[Any]) -> int:
    """The epoch of topics that begin in this database."""
    return int(await connection.fetchval("SELECT epoch FROM log_birth"))


async def _locked(
    connection: asyncpg.Connection[Any], names: Sequence[bytes]
) -> dict[bytes, Topic]:
    rows = await connection.fetch(LOCK, names)
    if len(rows) < len(names):
        known = {row["topic"] for row in rows}
        missing = [name for name in names if name not in known]
        await connection.execute(
            "INSERT INTO log_topics(topic, epoch, first, next, bytes, time, keep_count, keep_age, "
            "keep_bytes) SELECT topic, epoch, 1, 1, 0, 0, 0, 0, 0 FROM "
            "unnest($1::bytea[]) AS n(topic), log_birth ORDER BY topic "
            "ON CONFLICT (topic) DO NOTHING",
            missing,
        )
        rows = await connection.fetch(LOCK, names)
    return {row["topic"]: Topic(*row) for row in rows}


def _columns(rows: Sequence[Topic]) -> list[list[int | None]]:
    """The arguments $1 to $9 of UPDATE."""
    return [
        [row.id for row in rows],
        [row.first for row in rows],
        [row.next for row in rows],
        [row.bytes for row in rows],
        [row.time for row in rows],
        [row.keep_count for row in rows],
        [row.keep_age for row in rows],
        [row.keep_bytes for row in rows],
        [row.expires for row in rows],
    ]


async def _update(connection: asyncpg.Connection[Any], rows: Sequence[Topic]) -> None:
    await connection.execute(UPDATE, *_columns(rows))


async def _shed(
    connection: asyncpg.Connection[Any], topic: Topic, now: int | None, budget: int | None = None
) -> Chunk | None:
    """Drops from the oldest chunks on what is too much; the oldest chunk that stays. With a
    ``budget`` of chunks to drop, None may also mean that it is used up.
    """
    gone = done = 0
    left: Chunk | None = None
    while left is None and topic.first < topic.next and (budget is None or done < budget):
        rows = await connection.fetch(OLDEST, topic.id, gone)
        for row in rows:
            chunk = Chunk(*row)
            if not shed(topic, chunk, now):
                left = chunk
                break
            gone = chunk.first
            done += 1
    if gone:
        await connection.execute(
            "DELETE FROM log_chunks WHERE topic = $1 AND first <= $2", topic.id, gone
        )
    return left


async def trim(connection: asyncpg.Connection[Any], now: int, keys_after: int) -> tuple[int, bool]:
    """Drops what is too old. How many records went, and whether more may have to."""
    names = await connection.fetch(
        "SELECT topic FROM log_topics WHERE expires <= $1 ORDER BY expires LIMIT $2",
        now,
        TRIM_TOPICS,
    )
    rows = await connection.fetch(LOCK, sorted(row["topic"] for row in names))
    dropped = 0
    expired = [Topic(*row) for row in rows]
    for topic in expired:
        before = topic.first
        left = await _shed(connection, topic, now, TRIM_CHUNKS)
        topic.expires = next_expiry(topic, left)
        dropped += topic.first - before
    more = len(expired) == TRIM_TOPICS or any(topic.expires == 0 for topic in expired)
    await _update(connection, expired)
    status = await connection.execute(
        "DELETE FROM log_keys WHERE key IN (SELECT key FROM log_keys WHERE time <= $1 LIMIT $2)",
        keys_after,
        TRIM_KEYS,
    )
    forgotten = int(status.rpartition(" ")[2])
    return dropped, more or forgotten == TRIM_KEYS


async def _topic(connection: asyncpg.Connection[Any], name: bytes) -> Topic | None:
    row = await connection.fetchrow(f"{TOPIC} WHERE topic = $1", name)
    return None if row is None else Topic(*row)


async def position(connection: asyncpg.Connection[Any], name: bytes) -> Extent | None:
    """One topic's extent."""
    topic = await _topic(connection, name)
    return None if topic is None else topic.extent()


async def topics(
    connection: asyncpg.Connection[Any], prefix: bytes, after: bytes, limit: int
) -> list[Extent]:
    """A page of topics, in the order of their bytes."""
    rows = await connection.fetch(
        f"{TOPIC} WHERE topic >= $1 AND topic < $2 AND topic > $3 ORDER BY topic LIMIT $4",
        prefix,
        end_of(prefix),
        after,
        limit,
    )
    return [Topic(*row).extent() for row in rows]


async def since(connection: asyncpg.Connection[Any], name: bytes, time: int) -> int | None:
    """The offset after which the records of ``time`` or later stand."""
    row = await connection.fetchrow(
        "SELECT t.first, t.next, (SELECT c.first FROM log_chunks AS c WHERE c.topic = t.id AND "
        "c.time >= $2 ORDER BY c.time, c.first LIMIT 1) AS found FROM log_topics AS t "
        "WHERE t.topic = $1",
        name,
        time,
    )
    if row is None:
        return None
    found = row["found"]
    return int(row["next"] - 1 if found is None else max(found, row["first"]) - 1)


async def read(
    connection: asyncpg.Connection[Any], name: bytes, after: int, count: int, size: int
) -> Page | None:
    """A page, of at most 1,024 chunks."""
    rows = await connection.fetch(READ, name, after, count, size, enough(size))
    if not rows:
        return None
    topic = Topic(*list(rows[0])[:11])
    if rows[0]["c_first"] is None:
        return empty_page(topic)
    chunks = [Chunk._make(list(row)[12:]) for row in rows]
    return page_of(topic, chunks, after, count, size)
