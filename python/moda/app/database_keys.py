"""The keys that ``moda key add`` made, as a running gateway finds them.

The database is opened with the first key that is shown and that somebody may have made: a gateway
nobody makes keys for costs no file, no thread and no connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from moda.access.keys import KeyRecord
from moda.access.stored import StoredKeys
from moda.store import PostgresStore, SqliteStore, open_store
from moda.store.sqlite import path_of

__all__ = ["DatabaseKeys"]


class DatabaseKeys:
    """A :class:`~moda.access.keys.KeyStore` behind a ``DATABASE_URL``, opened when it is needed.

    A SQLite file that is not there yet holds no key: reading does not make one, ``add`` does.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._opening: asyncio.Task[StoredKeys] | None = None
        self._store: SqliteStore | PostgresStore | None = None

    async def add(self, record: KeyRecord) -> None:
        """As :meth:`moda.access.keys.KeyStore.add`."""
        await (await self._opened()).add(record)

    async def get(self, id: str) -> KeyRecord | None:
        """As :meth:`moda.access.keys.KeyStore.get`."""
        return None if self._absent else await (await self._opened()).get(id)

    async def all(self) -> list[KeyRecord]:
        """As :meth:`moda.access.keys.KeyStore.all`."""
        return [] if self._absent else await (await self._opened()).all()

    async def revoke(self, id: str, at: float) -> bool:
        """As :meth:`moda.access.keys.KeyStore.revoke`."""
        return not self._absent and await (await self._opened()).revoke(id, at)

    async def used(self, times: Mapping[str, float]) -> None:
        """As :meth:`moda.access.keys.KeyStore.used`."""
        if not self._absent:
            await (await self._opened()).used(times)

    async def close(self) -> None:
        """Lets the database go, after what was written is on disk."""
        if self._opening is not None:
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._store is not None:
            await self._store.close()

    @property
    def _absent(self) -> bool:
        if self._opening is not None or not self._url.startswith("sqlite"):
            return False
        path = path_of(self._url)
        return path is not None and not path.exists()

    async def _opened(self) -> StoredKeys:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> StoredKeys:
        self._store = open_store(self._url)
        keys = StoredKeys(self._store)
        await self._store.start()
        return keys
