"""A user of the store as a capability would be one: a schema, its writes and a query, in one file."""

from __future__ import annotations

import asyncio

from moda.ports import Migration, Schema

NOTES = Schema(
    "notes",
    (
        Migration(
            1,
            sqlite="CREATE TABLE notes (n INTEGER PRIMARY KEY, text TEXT NOT NULL); -- two; in one\n"
            "CREATE TABLE notes_other (n INTEGER)",
            postgres="CREATE TABLE notes (n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
            "text TEXT NOT NULL); CREATE TABLE notes_other (n INTEGER)",
        ),
    ),
)
MORE = Schema(
    "notes",
    (
        *NOTES.steps,
        Migration(
            2,
            sqlite="ALTER TABLE notes ADD COLUMN more TEXT NOT NULL DEFAULT 'new'",
            postgres="ALTER TABLE notes ADD COLUMN more TEXT NOT NULL DEFAULT 'new'",
        ),
    ),
)


class Crash(Exception):
    """What a user raises that has a bug."""


class Refusal(Exception):
    """What a user returns for an item it refuses."""


class WriteNotes:
    """Writes texts. ``crash`` raises after its row, ``refuse`` is refused, ``bad`` breaks a
    constraint of the table; ``groups`` says what came together.
    """

    def __init__(self, name: str = "notes") -> None:
        self.name = name
        self.groups: list[list[str]] = []

    def sqlite(self, connection, items):
        self.groups.append(list(items))
        answers = []
        for item in items:
            if item == "refuse":
                answers.append(Refusal(item))
                continue
            text = None if item == "bad" else f"{self.name}:{item}"
            cursor = connection.execute("INSERT INTO notes(text) VALUES (?)", (text,))
            answers.append(cursor.lastrowid)
            if item == "crash":
                raise Crash(item)
        return answers

    async def postgres(self, connection, items):
        self.groups.append(list(items))
        answers = []
        for item in items:
            if item == "refuse":
                answers.append(Refusal(item))
                continue
            text = None if item == "bad" else f"{self.name}:{item}"
            answers.append(
                await connection.fetchval("INSERT INTO notes(text) VALUES ($1) RETURNING n", text)
            )
            if item == "crash":
                raise Crash(item)
        return answers


class ReadNotes:
    """All texts in the order they were written."""

    def sqlite(self, connection):
        return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY n")]

    async def postgres(self, connection):
        return [row["text"] for row in await connection.fetch("SELECT text FROM notes ORDER BY n")]


class Statement:
    """Any statement, as a read."""

    def __init__(self, sql: str) -> None:
        self.sql = sql

    def sqlite(self, connection):
        return connection.execute(self.sql).fetchall()

    async def postgres(self, connection):
        return [tuple(row) for row in await connection.fetch(self.sql)]


async def outcomes(*calls):
    """Results and errors of calls that were made already."""
    return await asyncio.gather(*calls, return_exceptions=True)
