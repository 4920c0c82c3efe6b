"""Which migrations a database still needs: decided here without touching it.

Every applied step is remembered with a digest of its text. A step that was edited after it had run
somewhere would leave two databases with one version and different tables, and nobody would know; so
a difference stops the start, as does a database that a newer program has been at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from moda.errors import ConfigurationError
from moda.ports import Migration, Schema

__all__ = ["Dialect", "Step", "checked", "pending"]

Dialect = Literal["sqlite", "postgres"]


class Step(NamedTuple):
    """One migration of one schema in one dialect, with the digest it is remembered by."""

    name: str
    version: int
    sql: str
    digest: str


def checked(schemas: Sequence[Schema], schema: Schema) -> None:
    """ConfigurationError when ``schema`` cannot stand beside ``schemas``."""
    if any(other.name == schema.name for other in schemas):
        raise ConfigurationError(f"the schema {schema.name!r} is declared twice")
    versions = [step.version for step in schema.steps]
    if versions != list(range(1, len(versions) + 1)):
        raise ConfigurationError(
            f"the schema {schema.name!r} has the versions {versions}, takes 1, 2, 3, ... in order"
        )


def _step(schema: Schema, migration: Migration, dialect: Dialect) -> Step:
    sql = migration.sqlite if dialect == "sqlite" else migration.postgres
    digest = hashlib.sha256(sql.encode()).hexdigest()
    return Step(schema.name, migration.version, sql, digest)


def pending(
    schemas: Iterable[Schema], applied: Mapping[tuple[str, int], str], dialect: Dialect
) -> list[Step]:
    """The steps to run, in order. ``applied`` maps (schema, version) to the digest remembered.

    Schemas in the database that nobody declares are left alone: a capability may be switched off.
    ConfigurationError for a version that is not known here, and for one whose text differs.
    """
    steps: list[Step] = []
    for schema in schemas:
        newest = max((version for name, version in applied if name == schema.name), default=0)
        if newest > len(schema.steps):
            raise ConfigurationError(
                f"DATABASE_URL: the tables of {schema.name!r} have version {newest}, this program "
                f"knows {len(schema.steps)}: start the newer program, or use another database"
            )
        for migration in schema.steps:
            step = _step(schema, migration, dialect)
            known = applied.get((step.name, step.version))
            if known is None:
                steps.append(step)
            elif known != step.digest:
                raise ConfigurationError(
                    f"DATABASE_URL: version {step.version} of the tables of {schema.name!r} was "
                    f"made by another program than this one: its text differs"
                )
    return steps
