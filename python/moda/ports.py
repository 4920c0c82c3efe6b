"""What moda asks of a database, in prose: an adapter's author needs nothing but this file.

Two ports. :class:`Store` is the process's one database: migrations, writes that share commits,
reads. :class:`Log` keeps the messages of durable topics and stands on a Store. The suites in
``tests/contracts`` hold every adapter to each sentence below that speaks of "always" or "never".

**Threads.** Every method is called on the event loop's thread, and none blocks it. Only the methods
named ``sqlite`` of :class:`Writes` and :class:`Query` run elsewhere: on the store's own threads,
where they may use what they are given and nothing that belongs to the loop.

**Errors.** A write or a read raises :class:`~moda.errors.Unavailable` when the database is away,
locked by somebody else or out of time, :class:`~moda.errors.NoSpace` when its disk is full, and
:class:`~moda.errors.Busy` when as much waits as may. After any of them nothing was written, now or
later; ``retry_after`` says when it is worth another try. Only
:class:`~moda.errors.OutcomeUnknown` leaves open whether the write happened. A driver's exception
never comes through for a fault of the database; it does for a fault of a statement, which is a bug.

**Zero and none.** A limit of 0 is no limit. ``None`` in an answer is "there never was such a topic"
or "no such key", never "the database could not say".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from moda.message import ServiceStatus

if TYPE_CHECKING:
    import asyncio
    import sqlite3

    import asyncpg

__all__ = [
    "Append",
    "Appended",
    "Extent",
    "Key",
    "Log",
    "Migration",
    "Page",
    "Query",
    "Records",
    "Retention",
    "Schema",
    "Store",
    "Writes",
]

MAX_TOPIC_BYTES = 255
"""A topic's name in UTF-8, as everywhere in moda; any character is allowed, NUL too."""

MAX_KEY_BYTES = 255
"""An idempotency key in UTF-8."""

MAX_RECORDS = 65_536
"""Records of one :class:`Append`."""

ItemT = TypeVar("ItemT", contravariant=True)
ResultT = TypeVar("ResultT", covariant=True)


# -- the store


class Writes(Protocol[ItemT, ResultT]):
    """One user's way of writing: what its items become inside a transaction, by dialect.

    A group is one transaction over everything that waited. Each user is called once in it, with its
    own items in the order they were given, and returns one result per item, in the same order. A
    result that is an exception goes to that item's caller and undoes nothing: it is for an item
    that is refused with the database as it is (a key used twice). An exception that is *raised*
    rolls the group back; the store then tries its items one by one, so that only the guilty fails.

    A call may therefore be repeated with the same items, after a rollback: it keeps no memory of
    what it has written. It neither commits, rolls back, nor waits for anything but the database.
    """

    name: str
    """For metrics and logs: ``log``, ``documents``, ``prices``."""

    def sqlite(
        self, connection: sqlite3.Connection, items: Sequence[ItemT]
    ) -> Sequence[ResultT | Exception]:
        """Writes on the store's writer thread, inside ``BEGIN IMMEDIATE``."""
        ...

    async def postgres(
        self, connection: asyncpg.Connection[Any], items: Sequence[ItemT]
    ) -> Sequence[ResultT | Exception]:
        """Writes inside a transaction of the writer's connection. Other processes may write the
        same tables at the same time: rows that are read to be changed are locked, in a fixed order.
        """
        ...


class Query(Protocol[ResultT]):
    """One read, by dialect. It sees one state of the database and everything committed before it."""

    def sqlite(self, connection: sqlite3.Connection) -> ResultT:
        """Reads on one of the store's reader threads, on a read-only connection, in a transaction."""
        ...

    async def postgres(self, connection: asyncpg.Connection[Any]) -> ResultT:
        """Reads on a connection of the pool. One statement sees one state; a query of several that
        must agree opens a ``repeatable_read`` transaction itself.
        """
        ...


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of a schema: the statements of both dialects, run once in a transaction.

    ``version`` counts from 1 without a gap. A published step is never edited: the store compares
    what was applied with what is declared, and refuses to start on a difference.
    """

    version: int
    sqlite: str
    postgres: str


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one user of the store: its steps, oldest first. Tables begin with ``name_``."""

    name: str
    steps: tuple[Migration, ...]


class Store(Protocol):
    """The one database of a process.

    ``add`` the schemas, ``start``, use, ``close``; in that order, once.
    """

    def add(self, schema: Schema) -> None:
        """Declares tables that ``start`` brings up to date. ConfigurationError after the start, for
        a name that is taken, or for versions with gaps.
        """
        ...

    async def start(self) -> None:
        """Opens the database and applies the steps it does not have, under a lock that a second
        process waits for.

        A database that is *away* is no error: the store starts degraded, keeps trying with growing
        jittered pauses and migrates when it gets through. ConfigurationError for what waiting does
        not mend: no such database, a wrong password, a schema newer than this program or changed
        since it was applied, a file that is no database.
        """
        ...

    async def close(self) -> None:
        """Commits everything taken, then lets go. Afterwards every call raises Unavailable. While
        the database is away what waits fails at once, so that it ends within seconds.
        """
        ...

    def write(
        self, writes: Writes[ItemT, ResultT], item: ItemT, size: int
    ) -> asyncio.Future[ResultT]:
        """Queues one item for the next group and returns its result to come.

        ``size`` is about what the item holds in memory, in bytes. Order: items of one user are
        written in the order of these calls, whatever group they land in. Atomicity: an item is
        written whole or not, and its result comes after the commit is on disk. Raises Busy, or
        Unavailable while the database is known to be away, before anything is kept.

        A caller that cancels the future or no longer waits takes nothing back. A commit whose
        answer got lost is looked up when the database is there again, and the future waits for
        that, however long: whoever has to answer sooner shields it (``asyncio.wait``) and still
        learns the outcome.
        """
        ...

    async def query(self, query: Query[ResultT]) -> ResultT:
        """Runs one read. Reads go on while writes fail, as far as the database lets them."""
        ...

    def health(self) -> ServiceStatus:
        """``up`` or ``degraded``, and why, since when."""
        ...

    def counters(self) -> Mapping[str, float | dict[str, float]]:
        """Totals since the start and gauges of now, named as in ``docs/metrics.md`` without prefix."""
        ...


# -- the log


@dataclass(frozen=True, slots=True)
class Records:
    """A run of records as two buffers, so that a thousand of them are no thousand objects.

    ``sizes`` holds a little-endian u32 per record, ``data`` the records one after another. What a
    record means is the engine's affair; to the log it is bytes, and may be empty.

    >>> run = Records.of([b"one", b"", b"three"])
    >>> run.count, list(run)
    (3, [b'one', b'', b'three'])
    """

    sizes: bytes
    data: bytes

    @classmethod
    def of(cls, records: Iterable[bytes]) -> Records:
        """From records one by one: for Python callers; the engine hands over its buffers."""
        held = list(records)
        sizes = np.fromiter(map(len, held), "<u4", len(held)).tobytes()
        return cls(sizes, b"".join(held))

    @property
    def count(self) -> int:
        """How many records."""
        return len(self.sizes) // 4

    def __iter__(self) -> Iterator[bytes]:
        at = 0
        for size in np.frombuffer(self.sizes, "<u4").tolist():
            yield self.data[at : at + size]
            at += size


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of a topic is kept: the newest ``count`` records, those younger than ``age``
    seconds, the newest whose data fit ``bytes``. 0 is no limit; of several the tightest counts.
    """

    count: int = 0
    age: float = 0.0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Append:
    """Records for one topic. ``keep`` becomes the topic's retention from here on."""

    topic: str
    records: Records
    keep: Retention = field(default_factory=Retention)


class Key(NamedTuple):
    """An idempotency key. The caller puts into ``key`` whose it is, so that two users of one word
    do not meet, and into ``digest`` a hash of the request (at most 64 bytes).
    """

    key: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Appended:
    """Where the records of one Append stand: offsets ``first`` to ``first + count - 1`` of
    ``epoch``, and their common ``time`` in milliseconds since 1970.
    """

    topic: str
    epoch: int
    first: int
    count: int
    time: int


class Extent(NamedTuple):
    """What a topic holds: the offsets from ``first`` up to, not including, ``next``; ``bytes`` of
    data. ``first == next`` when everything was trimmed.
    """

    topic: str
    epoch: int
    first: int
    next: int
    bytes: int

    def before_last(self, n: int) -> int:
        """The offset after which the newest ``n`` records stand.

        >>> Extent("t", 1, 5, 11, 0).before_last(2), Extent("t", 1, 5, 11, 0).before_last(99)
        (8, 4)
        """
        return max(self.first - 1, self.next - 1 - n)


@dataclass(frozen=True, slots=True)
class Page:
    """A run of a topic without a gap: ``records`` have the offsets ``first``, ``first + 1``, ...

    ``times`` holds a little-endian i64 per record, milliseconds since 1970. ``extent`` is the topic
    at the moment of the read: more follows when ``first + count`` is below ``extent.next``. Asked
    for records that were trimmed, ``first`` is the first that is kept; the caller compares, and
    says what was missed.
    """

    extent: Extent
    first: int
    records: Records = field(repr=False)
    times: bytes = field(repr=False)

    @property
    def count(self) -> int:
        """How many records; 0 when nothing stands after the offset asked for."""
        return self.records.count


class Log(Protocol):
    """The messages of durable topics: appended, given an offset, read again, trimmed.

    **Offsets.** A topic's offsets begin at 1 and are dense: each record gets the next one, and none
    is ever given twice, although records were trimmed or the process was killed. ``epoch`` is drawn
    when the database is made (1 to 2**53 - 1, so that JSON keeps it), is that of all its topics and
    stays for ever: a topic that had a record exists for ever, empty or not, and one that had none is
    told the epoch its first record will have. Two databases do not share one.

    **Times** of a topic never decrease; the records of one Append share theirs.
    """

    def append(
        self, batch: Sequence[Append], *, key: Key | None = None
    ) -> asyncio.Future[Sequence[Appended]]:
        """Appends to one or several topics: all of the batch or nothing.

        The order is that of the *calls*, not of the awaits; within a batch that of its entries.
        Two entries may name one topic. The result has one entry per Append, after the commit.

        With a ``key`` seen before (within the age the log was given) nothing is written and the
        first answer comes again, across restarts; with another digest, KeyReused. A call that
        failed has left no key.

        ValueError at once for an empty batch, for buffers that do not fit together, and for a name,
        a key or a number of records beyond its bound. Busy and Unavailable as ``Store.write``.
        """
        ...

    async def read(self, topic: str, after: int, *, count: int, bytes: int) -> Page | None:
        """The records that follow offset ``after`` (0: from the beginning), oldest first.

        At most ``count`` records of at most ``bytes`` of data together, but one record at least
        where one follows, or a reader would stand still before a large one. A page may be shorter
        than its bounds; only an empty one says that nothing follows. None for a topic that never
        had a record. What is appended later is not seen.
        """
        ...

    async def since(self, topic: str, time: int) -> int | None:
        """The offset after which the records of ``time`` (milliseconds since 1970) or later stand:
        what ``read`` takes as ``after``.
        """
        ...

    async def position(self, topic: str) -> Extent | None:
        """Epoch, first kept and next offset of a topic; None when it never had a record."""
        ...

    async def epoch(self) -> int:
        """The epoch of topics that begin now."""
        ...

    async def topics(self, *, prefix: str = "", after: str = "", limit: int = 100) -> list[Extent]:
        """Up to ``limit`` topics that begin with ``prefix`` and come after ``after``, in the order
        of their UTF-8 bytes.
        """
        ...

    async def answer(self, key: Key) -> Sequence[Appended] | None:
        """What ``append`` answered to this key, or None. KeyReused for another digest."""
        ...

    async def trim(self) -> int:
        """Drops records past their topic's ``age``, and idempotency keys past theirs. How many
        records went.

        Count and bytes are kept to by every append; age by this call alone, which a background job
        makes every few seconds. A record is never dropped for its age before it has that age.
        """
        ...
