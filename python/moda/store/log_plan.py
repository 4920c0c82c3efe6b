"""What a group of appends becomes: decided here without a database, carried out by either dialect.

Chunks are bounded, so that a read that starts in the middle of one fetches little for nothing, and a
page that was asked to be small holds no more than one chunk beyond it while it is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import numpy as np

from moda.errors import KeyReused
from moda.ports import (
    MAX_KEY_BYTES,
    MAX_RECORDS,
    MAX_TOPIC_BYTES,
    Append,
    Appended,
    Extent,
    Key,
    Page,
    Records,
)

__all__ = [
    "TRIM_CHUNKS",
    "TRIM_KEYS",
    "TRIM_TOPICS",
    "Batch",
    "Chunk",
    "Plan",
    "Topic",
    "Trim",
    "checked_batch",
    "checked_key",
    "data_of",
    "decoded",
    "empty_page",
    "encoded",
    "end_of",
    "enough",
    "next_expiry",
    "page_of",
    "plan",
    "shed",
    "unanswered",
    "weight_of",
]

CHUNK_BYTES = 256 << 10
CHUNK_RECORDS = 8_192
ENTRY_OVERHEAD = 256
"""Bytes of an Append beyond its buffers, about: for the queue's bound."""

TRIM_TOPICS = 200
"""Topics of one trim's transaction; more are done in the next, so that appends get between."""
TRIM_CHUNKS = 2_000
"""Chunks that one such transaction drops of a topic, for the same reason."""
TRIM_KEYS = 5_000

Known = Mapping[bytes, tuple[bytes, list[Appended]]]
"""Idempotency keys that are remembered: key -> (digest, answer)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One call of ``append``, checked. ``names`` are the topics of its entries in UTF-8."""

    entries: tuple[Append, ...]
    names: tuple[bytes, ...]
    key: Key | None


class Trim:
    """The item that stands for one trim."""

    __slots__ = ()


@dataclass(slots=True)
class Topic:
    """A row of ``log_topics``, in the order of its columns; ages in milliseconds."""

    id: int
    topic: bytes
    epoch: int
    first: int
    next: int
    bytes: int
    time: int
    keep_count: int
    keep_age: int
    keep_bytes: int
    expires: int | None

    def extent(self) -> Extent:
        """The row as callers see it."""
        return Extent(self.topic.decode(), self.epoch, self.first, self.next, self.bytes)

    def overfull(self) -> bool:
        """Whether more is kept than ``keep_count`` or ``keep_bytes`` lets."""
        return bool(
            (self.keep_count and self.next - self.first > self.keep_count)
            or (self.keep_bytes and self.bytes > self.keep_bytes)
        )


class Chunk(NamedTuple):
    """A row of ``log_chunks`` without its topic. ``data`` is empty where only sizes were asked for."""

    first: int
    records: int
    time: int
    sizes: bytes
    data: bytes


@dataclass(slots=True)
class Plan:
    """What to write, and what to answer to each batch."""

    answers: list[list[Appended] | KeyReused] = field(default_factory=list)
    topics: list[Topic] = field(default_factory=list)
    """The rows as they are to be, in the order of their names."""
    chunks: list[tuple[int, Chunk]] = field(default_factory=list)
    """Topic id and row."""
    keys: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    """Key, digest, encoded answer."""


def checked_key(key: Key) -> None:
    """ValueError for a key or a digest beyond its bound."""
    if not 1 <= len(key.key.encode()) <= MAX_KEY_BYTES:
        raise ValueError(
            f"an idempotency key takes 1 to {MAX_KEY_BYTES} bytes, got {len(key.key.encode())}"
        )
    if not 1 <= len(key.digest) <= 64:
        raise ValueError(f"a key's digest takes 1 to 64 bytes, got {len(key.digest)}")


def checked_batch(batch: Sequence[Append], key: Key | None) -> Batch:
    """The batch as the writer takes it. ValueError says what is wrong, got and taken."""
    if not batch:
        raise ValueError("a batch takes at least one Append, got none")
    names = []
    for entry in batch:
        name = entry.topic.encode()
        if not 1 <= len(name) <= MAX_TOPIC_BYTES:
            raise ValueError(f"a topic takes 1 to {MAX_TOPIC_BYTES} bytes, got {len(name)}")
        sizes, data = entry.records.sizes, entry.records.data
        if len(sizes) % 4 or not 4 <= len(sizes) <= 4 * MAX_RECORDS:
            raise ValueError(
                f"an Append takes 1 to {MAX_RECORDS} records of 4 bytes of size each, "
                f"got {len(sizes)} bytes of sizes"
            )
        total = data_of(sizes)
        if total != len(data):
            raise ValueError(f"the sizes of the records add up to {total}, got {len(data)} bytes")
        if min(entry.keep.count, entry.keep.age, entry.keep.bytes) < 0:
            raise ValueError(f"a retention takes limits from 0, got {entry.keep}")
        names.append(name)
    if key is not None:
        checked_key(key)
    return Batch(tuple(batch), tuple(names), key)


def weight_of(batch: Batch) -> int:
    """Bytes that a batch holds in the queue, about."""
    return sum(
        len(entry.records.sizes) + len(entry.records.data) + ENTRY_OVERHEAD
        for entry in batch.entries
    )


def encoded(answer: Sequence[Appended]) -> bytes:
    """An answer as it is kept with its key."""
    return msgspec.msgpack.encode(
        [(one.topic, one.epoch, one.first, one.count, one.time) for one in answer]
    )


def decoded(kept: bytes) -> list[Appended]:
    """What :func:`encoded` made."""
    return [Appended(*row) for row in msgspec.msgpack.decode(kept)]


def unanswered(batches: Iterable[Batch], known: Known) -> list[bytes]:
    """The topics that are written to, sorted: of all batches but those whose key is known."""
    return sorted(
        {
            name
            for batch in batches
            if batch.key is None or batch.key.key.encode() not in known
            for name in batch.names
        }
    )


def plan(batches: Sequence[Batch], topics: Mapping[bytes, Topic], known: Known, now: int) -> Plan:
    """Gives offsets to a group, in the order of its batches. ``topics`` holds a row for each of
    :func:`unanswered` and is changed; ``now`` in milliseconds.
    """
    made = Plan()
    seen = dict(known)
    begun: dict[bytes, tuple[int, list[Records]]] = {}
    for batch in batches:
        if batch.key is not None:
            name = batch.key.key.encode()
            if name in seen:
                digest, before = seen[name]
                made.answers.append(
                    before
                    if digest == batch.key.digest
                    else KeyReused(f"the key {batch.key.key!r} was used before for another request")
                )
                continue
        answer = []
        for topic_name, entry in zip(batch.names, batch.entries, strict=True):
            topic = topics[topic_name]
            if topic_name not in begun:
                begun[topic_name] = (topic.next, [])
                topic.time = max(topic.time, now)
            begun[topic_name][1].append(entry.records)
            answer.append(_place(topic, entry))
        made.answers.append(answer)
        if batch.key is not None:
            seen[name] = (batch.key.digest, answer)
            made.keys.append((name, batch.key.digest, encoded(answer)))
    for topic_name in sorted(begun):
        topic = topics[topic_name]
        first, runs = begun[topic_name]
        made.topics.append(topic)
        made.chunks.extend((topic.id, chunk) for chunk in _chunks(first, topic.time, runs))
    return made


def _place(topic: Topic, entry: Append) -> Appended:
    """Gives one Append its offsets and the topic its new end and retention."""
    count = entry.records.count
    placed = Appended(entry.topic, topic.epoch, topic.next, count, topic.time)
    age = int(entry.keep.age * 1000)
    if age == 0:
        topic.expires = None
    elif topic.first == topic.next or topic.expires is None:
        topic.expires = topic.time + age if topic.first == topic.next else 0
    elif age != topic.keep_age:
        topic.expires = 0  # the next trim looks at the oldest record and says when
    topic.keep_count, topic.keep_age, topic.keep_bytes = entry.keep.count, age, entry.keep.bytes
    topic.next += count
    topic.bytes += len(entry.records.data)
    return placed


def _chunks(first: int, time: int, runs: Sequence[Records]) -> Iterable[Chunk]:
    """The rows for what one group appends to one topic."""
    sizes = b"".join([run.sizes for run in runs])
    data = b"".join([run.data for run in runs])
    count = len(sizes) // 4
    if count <= CHUNK_RECORDS and len(data) <= CHUNK_BYTES:
        yield Chunk(first, count, time, sizes, data)
        return
    ends = np.cumsum(np.frombuffer(sizes, "<u4"), dtype=np.int64)
    begin, taken = 0, 0
    while begin < count:
        end = int(np.searchsorted(ends, taken + CHUNK_BYTES, "right"))
        end = min(max(end, begin + 1), begin + CHUNK_RECORDS)
        until = int(ends[end - 1])
        yield Chunk(first + begin, end - begin, time, sizes[4 * begin : 4 * end], data[taken:until])
        begin, taken = end, until


def shed(topic: Topic, chunk: Chunk, now: int | None = None) -> bool:
    """Drops from ``chunk``, the topic's oldest, what its retention does not keep: by count and
    bytes, and by age where ``now`` is given. The topic's ``first`` and ``bytes`` move; True when
    nothing of the chunk is left and its row goes.
    """
    sizes = np.frombuffer(chunk.sizes, "<u4")[topic.first - chunk.first :]
    drop = 0
    if now is not None and topic.keep_age and chunk.time <= now - topic.keep_age:
        drop = len(sizes)
    if topic.keep_count:
        drop = max(drop, topic.next - topic.keep_count - topic.first)
    if topic.keep_bytes and topic.bytes > topic.keep_bytes:
        ends = np.cumsum(sizes, dtype=np.int64)
        drop = max(drop, int(np.searchsorted(ends, topic.bytes - topic.keep_bytes)) + 1)
    drop = min(drop, len(sizes))
    topic.first += drop
    topic.bytes -= int(sizes[:drop].sum(dtype=np.int64))
    return drop == len(sizes)


def next_expiry(topic: Topic, oldest: Chunk | None) -> int | None:
    """When the topic is next looked at for its age: ``oldest`` is its first chunk, or None when it
    is empty or was not done with (0: at once).
    """
    if not topic.keep_age or topic.first == topic.next:
        return None
    return 0 if oldest is None else oldest.time + topic.keep_age


def end_of(prefix: bytes) -> bytes:
    """The first bytes that sort behind everything with this prefix; UTF-8 has no byte 0xff."""
    return prefix[:-1] + bytes((prefix[-1] + 1,)) if prefix else b"\xff"


def enough(size: int) -> int:
    """Bytes of data after which a page takes no further chunk. A large page ends with a chunk once it
    is half full: to fill it, a chunk would be fetched, cut, and fetched again for the next page.
    """
    return min(size, max(CHUNK_BYTES // 2, size // 2))


def data_of(sizes: bytes) -> int:
    """Bytes of data of a run of records."""
    return int(np.frombuffer(sizes, "<u4").sum(dtype=np.int64))


def empty_page(topic: Topic) -> Page:
    """The page of a reader that is at the end."""
    return Page(topic.extent(), topic.next, Records(b"", b""), b"")


def page_of(topic: Topic, chunks: Sequence[Chunk], after: int, count: int, size: int) -> Page:
    """Cuts a page out of neighbouring chunks, of which the first holds its first record."""
    sizes = b"".join([chunk.sizes for chunk in chunks])
    data = b"".join([chunk.data for chunk in chunks])
    held = len(sizes) // 4
    first = max(after + 1, topic.first)
    begin = first - chunks[0].first
    ends = np.cumsum(np.frombuffer(sizes, "<u4"), dtype=np.int64)
    skipped = int(ends[begin - 1]) if begin else 0
    end = min(held, begin + count, int(np.searchsorted(ends, skipped + size, "right")))
    end = max(end, begin + 1)
    times = np.repeat(
        np.array([chunk.time for chunk in chunks], "<i8"), [chunk.records for chunk in chunks]
    )
    if begin or end < held:
        sizes, data = sizes[4 * begin : 4 * end], data[skipped : int(ends[end - 1])]
        times = times[begin:end]
    return Page(topic.extent(), first, Records(sizes, data), times.tobytes())
