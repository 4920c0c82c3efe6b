"""A payload schema as the rows of a table: what may stand where, and what it has to be.

A row is a place in the payload. Objects written in place are opened; a reference is not, it is
summed up and linked to where it is shown once. That keeps a page as long as its document, whatever
the document refers to, and lets schemas be recursive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from moda.asyncapi.pointer import follow

MAX_LEVELS = 8
SHOWN = 120

_LIMITS = (
    ("minimum", "≥ {}"),
    ("exclusiveMinimum", "> {}"),
    ("maximum", "≤ {}"),
    ("exclusiveMaximum", "< {}"),
    ("multipleOf", "multiple of {}"),
    ("minLength", "at least {} long"),
    ("maxLength", "at most {} long"),
    ("minItems", "at least {} items"),
    ("maxItems", "at most {} items"),
    ("minProperties", "at least {} fields"),
    ("maxProperties", "at most {} fields"),
    ("pattern", "matches {}"),
    ("format", "{}"),
    ("default", "default {}"),
)
_ONE = re.compile(r"\b1 (item|field)s\b")
_CHOICES = (("oneOf", "one of"), ("anyOf", "any of"), ("allOf", "all of"))


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    ``level`` is how deep the place is; ``link`` names the schema shown elsewhere, if it is one.
    ``limits`` are short phrases, ``values`` JSON texts the value is one of.
    """

    level: int
    name: str
    kind: str
    link: str | None
    required: bool
    limits: tuple[str, ...]
    values: tuple[str, ...]
    description: str | None
    deprecated: bool = False


class Outline:
    """Reads the schemas of one document."""

    def __init__(self, root: dict[str, Any], source: str) -> None:
        self._root = root
        self._source = source

    def rows(self, schema: Any) -> list[Row]:
        """The rows of a schema. The first is the value itself, named "", unless it is a plain
        object.
        """
        schema, _ = self._resolved(schema)
        own = self._row("", schema, 0, False, None)
        below = list(self._inside(schema, 0))
        plain = (
            isinstance(schema, dict)
            and below
            and own.kind == "object"
            and not own.limits
            and not own.values
        )
        return below if plain else [own, *(self._deeper(row) for row in below)]

    def _deeper(self, row: Row) -> Row:
        return Row(
            row.level + 1,
            row.name,
            row.kind,
            row.link,
            row.required,
            row.limits,
            row.values,
            row.description,
            row.deprecated,
        )

    def _resolved(self, schema: Any) -> tuple[Any, str | None]:
        """A schema with its reference followed, and its name if it has one of its own."""
        if not isinstance(schema, dict) or "$ref" not in schema:
            return schema, None
        pointer, target = follow(self._root, schema, self._source, "#")
        name = pointer.removeprefix("#/components/schemas/")
        return target, name if name != pointer and "/" not in name else None

    def _inside(self, schema: Any, level: int) -> Iterator[Row]:
        if not isinstance(schema, dict) or level >= MAX_LEVELS:
            return
        required = schema.get("required")
        needed = set(required) if isinstance(required, list) else set()
        properties = schema.get("properties")
        if isinstance(properties, dict):
            for name, value in properties.items():
                yield from self._place(name, value, level, name in needed)
        patterns = schema.get("patternProperties")
        if isinstance(patterns, dict):
            for pattern, value in patterns.items():
                yield from self._place(f"/{pattern}/", value, level, False)
        other = schema.get("additionalProperties")
        if isinstance(other, dict):
            yield from self._place("…", other, level, False)
        elif other is False and (properties or patterns):
            yield Row(level, "…", "nothing else", None, False, (), (), None)
        items = schema.get("items")
        for index, item in enumerate(items if isinstance(items, list) else []):
            yield from self._place(f"[{index}]", item, level, False)
        if isinstance(items, dict) and "$ref" not in items and self._opens(items):
            yield from self._place("[ ]", items, level, False)
        for keyword, word in _CHOICES:
            options = schema.get(keyword)
            for index, option in enumerate(
                options if isinstance(options, list) and not _laid(schema) else []
            ):
                yield from self._place(f"{word}, {index + 1}", option, level, False)

    def _opens(self, schema: dict[str, Any]) -> bool:
        return any(
            key in schema for key in ("properties", "patternProperties", "oneOf", "anyOf", "items")
        )

    def _place(self, name: str, value: Any, level: int, required: bool) -> Iterator[Row]:
        schema, link = self._resolved(value)
        yield self._row(name, schema, level, required, link)
        if link is None:
            yield from self._inside(schema, level + 1)

    def _row(self, name: str, schema: Any, level: int, required: bool, link: str | None) -> Row:
        if not isinstance(schema, dict):
            return Row(
                level,
                name,
                "anything" if schema is True else "nothing",
                link,
                required,
                (),
                (),
                None,
            )
        limits, values = self._limits(schema)
        description = schema.get("description")
        return Row(
            level,
            name,
            self._kind(schema),
            link or self._item_link(schema),
            required,
            tuple(limits),
            tuple(values),
            description if isinstance(description, str) else None,
            schema.get("deprecated") is True,
        )

    def _item_link(self, schema: dict[str, Any]) -> str | None:
        """The named schema of an array's items, or the one an ``allOf`` of one stands for."""
        inner = schema.get("items", _laid(schema))
        return self._resolved(inner)[1] if isinstance(inner, dict) and "$ref" in inner else None

    def _kind(self, schema: dict[str, Any], depth: int = 0) -> str:
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return " or ".join(str(kind) for kind in kinds)
        if isinstance(kinds, str):
            items = schema.get("items")
            if kinds == "array" and isinstance(items, dict) and depth < 3:
                inner, link = self._resolved(items)
                plain = self._kind(inner, depth + 1) if isinstance(inner, dict) else "anything"
                return f"array of {link or plain}"
            return kinds
        for keyword, word in _CHOICES:
            options = schema.get(keyword)
            if isinstance(options, list) and options:
                part = _laid(schema)
                if part is not None and depth < 3:
                    inner, _ = self._resolved(part)
                    return self._kind(inner, depth + 1) if isinstance(inner, dict) else "anything"
                return f"{word} {len(options)}"
        if "const" in schema:
            return _word(schema["const"])
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            words = dict.fromkeys(_word(value) for value in schema["enum"])
            return " or ".join(words)
        return "object" if "properties" in schema else "anything"

    def _limits(self, schema: dict[str, Any]) -> tuple[list[str], list[str]]:
        limits = [
            phrase.format(_json(schema[key]) if key == "default" else _short(str(schema[key])))
            for key, phrase in _LIMITS
            if key in schema
        ]
        limits = [_ONE.sub(r"1 \1", limit) for limit in limits]
        if schema.get("uniqueItems") is True:
            limits.append("no item twice")
        values = schema.get("enum")
        texts = [_json(value) for value in values] if isinstance(values, list) else []
        if "const" in schema:
            texts = [_json(schema["const"])]
        part = _laid(schema)
        if part is not None:
            inner, _ = self._resolved(part)
            if isinstance(inner, dict) and inner is not schema and _laid(inner) is None:
                more, values_ = self._limits(inner)
                return [*more, *limits], [*values_, *texts]
        return limits, texts


def _laid(schema: dict[str, Any]) -> Any:
    """The one schema of an ``allOf`` of one: how draft-07 puts a description beside a reference."""
    parts = schema.get("allOf")
    return parts[0] if isinstance(parts, list) and len(parts) == 1 else None


def _word(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return {int: "integer", float: "number", str: "string", list: "array"}.get(
        type(value), "object"
    )


def _json(value: Any) -> str:
    return _short(json.dumps(value, ensure_ascii=False))


def _short(value: str) -> str:
    return value if len(value) <= SHOWN else value[: SHOWN - 1] + "…"
