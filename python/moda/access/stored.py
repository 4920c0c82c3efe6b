"""API keys in the process's database: a :class:`~moda.access.keys.KeyStore` on a store's handle.

One table, of digests. What is not searched by stands in one JSON column, so that a new property of a
key is no migration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from moda.access.keys import KeyRecord
from moda.ports import Migration, Schema, Store

if TYPE_CHECKING:
    import sqlite3

    import asyncpg

__all__ = ["KEYS_SCHEMA", "StoredKeys"]

KEYS_SCHEMA: Final = Schema(
    "access",
    (
        Migration(
            1,
            sqlite="""
                CREATE TABLE access_keys (
                    id TEXT PRIMARY KEY,
                    digest BLOB NOT NULL,
                    about TEXT NOT NULL,
                    created REAL NOT NULL,
                    expires REAL,
                    revoked REAL,
                    used REAL
                ) WITHOUT ROWID;
            """,
            postgres="""
                CREATE TABLE access_keys (
                    id text PRIMARY KEY,
                    digest bytea NOT NULL,
                    about text NOT NULL,
                    created double precision NOT NULL,
                    expires double precision,
                    revoked double precision,
                    used double precision
                );
            """,
        ),
    ),
)

_COLUMNS = "id, digest, about, created, expires, revoked, used"


@dataclass(frozen=True, slots=True)
class _Add:
    record: KeyRecord


@dataclass(frozen=True, slots=True)
class _Revoke:
    id: str
    at: float


@dataclass(frozen=True, slots=True)
class _Used:
    times: Mapping[str, float] = field(repr=False)


_Item = _Add | _Revoke | _Used


def _row(record: KeyRecord) -> tuple[Any, ...]:
    about = {
        "name": record.name,
        "kind": record.kind,
        "scopes": sorted(record.scopes),
        "subscribe": record.subscribe,
        "publish": record.publish,
    }
    return (
        record.id, record.digest, json.dumps(about), record.created_at, record.expires_at,
        record.revoked_at, record.last_used_at,
    )  # fmt: skip


def _record(row: Sequence[Any]) -> KeyRecord:
    id, digest, about, created, expires, revoked, used = row  # noqa: A001  # the column's name
    more = json.loads(about)
    subscribe, publish = more["subscribe"], more["publish"]
    return KeyRecord(
        id,
        bytes(digest),
        more["name"],
        more["kind"],
        frozenset(more["scopes"]),
        created,
        expires,
        revoked,
        used,
        None if subscribe is None else tuple(subscribe),
        None if publish is None else tuple(publish),
    )


def _taken(record: KeyRecord) -> ValueError:
    return ValueError(f"there is a key {record.id} already")


class _KeyWrites:
    """Implements :class:`moda.ports.Writes`: True or False for a revocation, None else."""

    name = "access"

    def sqlite(self, connection: sqlite3.Connection, items: Sequence[_Item]) -> list[Any]:
        return [self._sqlite(connection, item) for item in items]

    def _sqlite(self, connection: sqlite3.Connection, item: _Item) -> Any:
        if isinstance(item, _Add):
            done = connection.execute(
                f"INSERT INTO access_keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
                "ON CONFLICT DO NOTHING",
                _row(item.record),
            )
            return None if done.rowcount else _taken(item.record)
        if isinstance(item, _Revoke):
            done = connection.execute(
                "UPDATE access_keys SET revoked = coalesce(revoked, ?) WHERE id = ?",
                (item.at, item.id),
            )
            return bool(done.rowcount)
        connection.executemany(
            "UPDATE access_keys SET used = max(coalesce(used, 0), ?) WHERE id = ?",
            [(at, key) for key, at in sorted(item.times.items())],
        )
        return None

    async def postgres(
        self, connection: asyncpg.Connection[Any], items: Sequence[_Item]
    ) -> list[Any]:
        return [await self._postgres(connection, item) for item in items]

    async def _postgres(self, connection: asyncpg.Connection[Any], item: _Item) -> Any:
        if isinstance(item, _Add):
            done = await connection.execute(
                f"INSERT INTO access_keys ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7) "  # noqa: S608
                "ON CONFLICT DO NOTHING",
                *_row(item.record),
            )
            return None if done.endswith(" 1") else _taken(item.record)
        if isinstance(item, _Revoke):
            done = await connection.execute(
                "UPDATE access_keys SET revoked = coalesce(revoked, $1) WHERE id = $2",
                item.at,
                item.id,
            )
            return done.endswith(" 1")
        # Sorted: two gateways that write the same keys lock them in one order.
        await connection.executemany(
            "UPDATE access_keys SET used = greatest(coalesce(used, 0), $1) WHERE id = $2",
            [(at, key) for key, at in sorted(item.times.items())],
        )
        return None


_WRITES: Final = _KeyWrites()


class _Read:
    """Implements :class:`moda.ports.Query`: one key, or with ``id`` None all of them."""

    __slots__ = ("id",)

    def __init__(self, id: str | None) -> None:
        self.id = id

    def sqlite(self, connection: sqlite3.Connection) -> list[KeyRecord]:
        where, values = ("", ()) if self.id is None else ("WHERE id = ?", (self.id,))
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM access_keys {where} ORDER BY created, id",  # noqa: S608
            values,
        )
        return [_record(row) for row in rows]

    async def postgres(self, connection: asyncpg.Connection[Any]) -> list[KeyRecord]:
        where, values = ("", ()) if self.id is None else ("WHERE id = $1", (self.id,))
        rows = await connection.fetch(
            f'SELECT {_COLUMNS} FROM access_keys {where} ORDER BY created, id COLLATE "C"',  # noqa: S608
            *values,
        )
        return [_record(tuple(row)) for row in rows]


class StoredKeys:
    """The keys in a store. Made before the store's start: it declares their table.

    Raises what the store raises (:class:`~moda.errors.StoreError`) while the database is away.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        store.add(KEYS_SCHEMA)

    async def add(self, record: KeyRecord) -> None:
        """As :meth:`moda.access.keys.KeyStore.add`."""
        await self._store.write(_WRITES, _Add(record), 500)

    async def get(self, id: str) -> KeyRecord | None:
        """As :meth:`moda.access.keys.KeyStore.get`."""
        found = await self._store.query(_Read(id))
        return found[0] if found else None

    async def all(self) -> list[KeyRecord]:
        """As :meth:`moda.access.keys.KeyStore.all`."""
        return await self._store.query(_Read(None))

    async def revoke(self, id: str, at: float) -> bool:
        """As :meth:`moda.access.keys.KeyStore.revoke`."""
        return bool(await self._store.write(_WRITES, _Revoke(id, at), 100))

    async def used(self, times: Mapping[str, float]) -> None:
        """As :meth:`moda.access.keys.KeyStore.used`."""
        await self._store.write(_WRITES, _Used(dict(times)), 100 + 80 * len(times))
