"""The database of a process and what stands on it: :mod:`moda.ports` says what each promises.

``open_store(url)`` picks the adapter by the URL's scheme; :class:`StoreLog` keeps durable topics in
it. A capability that keeps tables of its own declares a :class:`~moda.ports.Schema`, a
:class:`~moda.ports.Writes` and its queries in its own folder, and is handed the store: it shares the
transactions without importing this package.
"""

from __future__ import annotations

from moda.errors import ConfigurationError
from moda.store.base import StoreOptions
from moda.store.log import StoreLog
from moda.store.postgres import PostgresStore
from moda.store.sqlite import SqliteStore

__all__ = ["PostgresStore", "SqliteStore", "StoreLog", "StoreOptions", "open_store"]


def open_store(url: str, options: StoreOptions | None = None) -> SqliteStore | PostgresStore:
    """The store of a ``DATABASE_URL``, not started.

    ``sqlite:///relative/file``, ``sqlite:////absolute/file``, ``sqlite://`` (in memory, gone with
    the process), ``postgresql://user@host/name``. ConfigurationError for another scheme; the URL
    may hold a password and is not quoted.

    >>> open_store("sqlite:///data/moda.db").path
    PosixPath('data/moda.db')
    """
    scheme = url.partition("://")[0]
    if scheme == "sqlite":
        return SqliteStore(url, options)
    if scheme in ("postgres", "postgresql"):
        return PostgresStore(url, options)
    raise ConfigurationError(
        f"DATABASE_URL: got the scheme {scheme[:20]!r}, takes sqlite:// or postgresql://"
    )
