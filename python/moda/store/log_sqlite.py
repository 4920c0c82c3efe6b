"""The log's statements for SQLite. Called inside the store's transactions, on its threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from moda.errors import KeyReused
from moda.ports import Appended, Extent, Page
from moda.store.log_plan import (
    TRIM_CHUNKS,
    TRIM_KEYS,
    TRIM_TOPICS,
    Batch,
    Chunk,
    Topic,
    data_of,
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

TOPIC = (
    "SELECT id, topic, epoch, first, next, bytes, time, keep_count, keep_age, keep_bytes, expires "
    "FROM log_topics"
)
OLDEST = (
    "SELECT first, count, time, sizes, x'' FROM log_chunks WHERE topic = ? ORDER BY first LIMIT 1"
)
CHUNKS = (
    "SELECT first, count, time, sizes, data FROM log_chunks WHERE topic = ?1 AND first >= "
    "(SELECT max(first) FROM log_chunks WHERE topic = ?1 AND first <= ?2) ORDER BY first"
)


def answers(
    connection: sqlite3.Connection, keys: Sequence[bytes], after: int
) -> dict[bytes, tuple[bytes, list[Appended]]]:
    """What is remembered of idempotency keys younger than ``after``."""
    found = {}
    for key in keys:
        row = connection.execute(
            "SELECT digest, answer FROM log_keys WHERE key = ? AND time > ?", (key, after)
        ).fetchone()
        if row is not None:
            found[key] = (row[0], decoded(row[1]))
    return found


def append(
    connection: sqlite3.Connection, batches: Sequence[Batch], now: int, keys_after: int
) -> list[list[Appended] | KeyReused]:
    """Writes a group; an answer per batch."""
    keys = [batch.key.key.encode() for batch in batches if batch.key is not None]
    known = answers(connection, keys, keys_after) if keys else {}
    rows = {name: _topic_for(connection, name) for name in unanswered(batches, known)}
    made = plan(batches, rows, known, now)
    connection.executemany(
        "INSERT INTO log_chunks VALUES (?, ?, ?, ?, ?, ?)",
        [(topic_id, *chunk) for topic_id, chunk in made.chunks],
    )
    for topic in made.topics:
        while topic.overfull():
            _shed_oldest(connection, topic, None)
    _update(connection, made.topics)
    if made.keys:
        connection.executemany(
            "INSERT INTO log_keys VALUES (?1, ?2, ?4, ?3) ON CONFLICT (key) DO UPDATE SET "
            "digest = excluded.digest, time = excluded.time, answer = excluded.answer",
            [(*row, now) for row in made.keys],
        )
    return made.answers


def _topic_for(connection: sqlite3.Connection, name: bytes) -> Topic:
    row = connection.execute(f"{TOPIC} WHERE topic = ?", (name,)).fetchone()
    if row is not None:
        return Topic(*row)
    born = epoch(connection)
    made = connection.execute(
        "INSERT INTO log_topics(topic, epoch, first, next, bytes, time, keep_count, keep_age, "
        "keep_bytes) VALUES (?, ?, 1, 1, 0, 0, 0, 0, 0)",
        (name, born),
    )
    assert made.lastrowid is not None
    return Topic(made.lastrowid, name, born, 1, 1, 0, 0, 0, 0, 0, None)


def epoch(connection: sqlite3.Connection) -> int:
    """The epoch of topics that begin in this database."""
    (born,) = connection.execute("SELECT epoch FROM log_birth").fetchone()
    return int(born)


def _shed_oldest(connection: sqlite3.Connection, topic: Topic, now: int | None) -> Chunk | None:
    """Drops from the oldest chunk what is too much; the chunk when some of it stays."""
    row = connection.execute(OLDEST, (topic.id,)).fetchone()
    chunk = Chunk(*row)
    if not shed(topic, chunk, now):
        return chunk
    connection.execute(
        "DELETE FROM log_chunks WHERE topic = ? AND first = ?", (topic.id, chunk.first)
    )
    return None


def _update(connection: sqlite3.Connection, rows: Sequence[Topic]) -> None:
    connection.executemany(
        "UPDATE log_topics SET first = ?, next = ?, bytes = ?, time = ?, keep_count = ?, "
        "keep_age = ?, keep_bytes = ?, expires = ? WHERE id = ?",
        [
            (
                row.first,
                row.next,
                row.bytes,
                row.time,
                row.keep_count,
                row.keep_age,
                row.keep_bytes,
                row.expires,
                row.id,
            )
            for row in rows
        ],
    )


def trim(connection: sqlite3.Connection, now: int, keys_after: int) -> tuple[int, bool]:
    """Drops what is too old. How many records went, and whether more may have to."""
    rows = connection.execute(
        f"{TOPIC} WHERE expires <= ? ORDER BY expires LIMIT ?", (now, TRIM_TOPICS)
    ).fetchall()
    dropped = 0
    expired = [Topic(*row) for row in rows]
    for topic in expired:
        before, left, budget = topic.first, None, TRIM_CHUNKS
        while left is None and topic.first < topic.next and budget:
            left = _shed_oldest(connection, topic, now)
            budget -= 1
        topic.expires = next_expiry(topic, left)
        dropped += topic.first - before
    more = len(expired) == TRIM_TOPICS or any(topic.expires == 0 for topic in expired)
    _update(connection, expired)
    forgotten = connection.execute(
        "DELETE FROM log_keys WHERE key IN (SELECT key FROM log_keys WHERE time <= ? LIMIT ?)",
        (keys_after, TRIM_KEYS),
    ).rowcount
    return dropped, more or forgotten == TRIM_KEYS


def _topic(connection: sqlite3.Connection, name: bytes) -> Topic | None:
    row = connection.execute(f"{TOPIC} WHERE topic = ?", (name,)).fetchone()
    return None if row is None else Topic(*row)


def position(connection: sqlite3.Connection, name: bytes) -> Extent | None:
    """One topic's extent."""
    topic = _topic(connection, name)
    return None if topic is None else topic.extent()


def topics(connection: sqlite3.Connection, prefix: bytes, after: bytes, limit: int) -> list[Extent]:
    """A page of topics, in the order of their bytes."""
    rows = connection.execute(
        f"{TOPIC} WHERE topic >= ? AND topic < ? AND topic > ? ORDER BY topic LIMIT ?",
        (prefix, end_of(prefix), after, limit),
    )
    return [Topic(*row).extent() for row in rows]


def since(connection: sqlite3.Connection, name: bytes, time: int) -> int | None:
    """The offset after which the records of ``time`` or later stand."""
    topic = _topic(connection, name)
    if topic is None:
        return None
    row = connection.execute(
        "SELECT first FROM log_chunks WHERE topic = ? AND time >= ? ORDER BY time, first LIMIT 1",
        (topic.id, time),
    ).fetchone()
    return topic.next - 1 if row is None else max(row[0], topic.first) - 1


def read(
    connection: sqlite3.Connection, name: bytes, after: int, count: int, size: int
) -> Page | None:
    """A page. Rows are stepped through one at a time, so that no more is held than the page and
    one chunk on either side.
    """
    topic = _topic(connection, name)
    if topic is None:
        return None
    first = max(after + 1, topic.first)
    if first >= topic.next:
        return empty_page(topic)
    chunks: list[Chunk] = []
    records = held = 0
    stop = enough(size)
    for row in connection.execute(CHUNKS, (topic.id, first)):
        chunk = Chunk._make(row)
        chunks.append(chunk)
        if len(chunks) == 1:
            skipped = first - chunk.first
            records -= skipped
            held -= data_of(chunk.sizes[: 4 * skipped])
        records += chunk.records
        held += len(chunk.data)
        if records >= count or held >= stop:
            break
    return page_of(topic, chunks, after, count, size)
