"""The log's tables. Names are bytes, so that any topic fits (NUL too) and both databases order alike.

``log_topics`` has a row per topic that ever had a record, for ever: it is what keeps offsets from
being given twice. ``first`` and ``next`` bound what is kept, ``bytes`` is the data between them,
``keep_*`` the retention stated last (0: no limit; age in milliseconds), ``expires`` a time before
which nothing is too old (NULL: never). PostgreSQL keeps chunks uncompressed (EXTERNAL): its own
compression would cost more than the rest of an append. ``log_keys`` remembers what was answered to
an idempotency key.
"""

from __future__ import annotations

from moda.ports import Migration, Schema

__all__ = ["LOG_SCHEMA"]

LOG_SCHEMA = Schema(
    "log",
    (
        Migration(
            1,
            sqlite="""
                CREATE TABLE log_topics (
                    id INTEGER PRIMARY KEY,
                    topic BLOB NOT NULL UNIQUE,
                    epoch INTEGER NOT NULL,
                    first INTEGER NOT NULL,
                    next INTEGER NOT NULL,
                    bytes INTEGER NOT NULL,
                    time INTEGER NOT NULL,
                    keep_count INTEGER NOT NULL,
                    keep_age INTEGER NOT NULL,
                    keep_bytes INTEGER NOT NULL,
                    expires INTEGER
                );
                CREATE INDEX log_topics_expires ON log_topics(expires) WHERE expires IS NOT NULL;
                CREATE TABLE log_chunks (
                    topic INTEGER NOT NULL,
                    first INTEGER NOT NULL,
                    count INTEGER NOT NULL,
                    time INTEGER NOT NULL,
                    sizes BLOB NOT NULL,
                    data BLOB NOT NULL
                );
                CREATE UNIQUE INDEX log_chunks_first ON log_chunks(topic, first);
                CREATE INDEX log_chunks_time ON log_chunks(topic, time);
                CREATE TABLE log_keys (
                    key BLOB PRIMARY KEY,
                    digest BLOB NOT NULL,
                    time INTEGER NOT NULL,
                    answer BLOB NOT NULL
                ) WITHOUT ROWID;
                CREATE INDEX log_keys_time ON log_keys(time);
                CREATE TABLE log_birth (epoch INTEGER NOT NULL);
                INSERT INTO log_birth VALUES ((random() & 9007199254740990) + 1);
            """,
            postgres="""
                CREATE TABLE log_topics (
                    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                    topic BYTEA NOT NULL UNIQUE,
                    epoch BIGINT NOT NULL,
                    first BIGINT NOT NULL,
                    next BIGINT NOT NULL,
                    bytes BIGINT NOT NULL,
                    time BIGINT NOT NULL,
                    keep_count BIGINT NOT NULL,
                    keep_age BIGINT NOT NULL,
                    keep_bytes BIGINT NOT NULL,
                    expires BIGINT
                ) WITH (fillfactor = 70);
                CREATE INDEX log_topics_expires ON log_topics(expires) WHERE expires IS NOT NULL;
                CREATE TABLE log_chunks (
                    topic BIGINT NOT NULL,
                    first BIGINT NOT NULL,
                    count INTEGER NOT NULL,
                    time BIGINT NOT NULL,
                    sizes BYTEA NOT NULL,
                    data BYTEA NOT NULL,
                    PRIMARY KEY (topic, first)
                );
                ALTER TABLE log_chunks ALTER COLUMN sizes SET STORAGE EXTERNAL,
                    ALTER COLUMN data SET STORAGE EXTERNAL;
                CREATE INDEX log_chunks_time ON log_chunks(topic, time);
                CREATE TABLE log_keys (
                    key BYTEA PRIMARY KEY,
                    digest BYTEA NOT NULL,
                    time BIGINT NOT NULL,
                    answer BYTEA NOT NULL
                );
                CREATE INDEX log_keys_time ON log_keys(time);
                CREATE TABLE log_birth (epoch BIGINT NOT NULL);
                INSERT INTO log_birth VALUES (floor(random() * 9007199254740990)::bigint + 1);
            """,
        ),
    ),
)
