"""Schemas as a graph: where one leads, whether that ends, what explaining a failure may cost.

A document's schemas are data until they have been looked at: a reference may name nothing or a
server on the internet, a schema may hold itself, and a few references per level stand for more
subschemas than a machine can visit. All of that is found here, before a payload arrives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from moda.asyncapi.fault import DocumentError, shown
from moda.asyncapi.pointer import at, lookup, quoted

MAX_EXPANSION = 100_000
"""Subschemas one value may be put through at one place; past it the schema is a bomb."""
UNBOUNDED = 1 << 62

ABSENT = object()
"""A patch that takes a field away."""
UNKNOWN = {
    "prefixItems": "items with a list",
    "unevaluatedItems": "additionalItems",
    "unevaluatedProperties": "additionalProperties",
    "dependentRequired": "dependencies",
    "dependentSchemas": "dependencies",
    "minContains": "contains",
    "maxContains": "contains",
    "$dynamicRef": "$ref",
    "$recursiveRef": "$ref",
}
"""What later drafts check and draft-07 does not know, with what it has instead."""

_DRAFT_07 = re.compile(
    r"application/(?:vnd\.aai\.asyncapi(?:\+json|\+yaml)?(?:;\s*version=[0-9.]+)?"
    r"|schema(?:\+json|\+yaml)?(?:;\s*version=draft-07)?)\Z"
)
_MAPS = ("properties", "patternProperties", "definitions")
_LISTS = ("allOf", "anyOf", "oneOf")
_SINGLES = (
    "additionalProperties",
    "additionalItems",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
)
_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
_REPEATING = ("items", "additionalItems", "contains", "additionalProperties", "patternProperties")


def readable(schema_format: Any) -> bool:
    """Whether a schema of this format is one that moda checks: draft-07, by either of its names.

    >>> readable("application/schema+yaml;version=draft-07"), readable("application/vnd.apache.avro")
    (True, False)
    """
    return isinstance(schema_format, str) and _DRAFT_07.match(schema_format) is not None


FORMATS = "application/vnd.aai.asyncapi;version=3.0.0 or application/schema+json;version=draft-07"

Edges = Callable[[Any, str], list[str]]


@dataclass(frozen=True, slots=True)
class Spread:
    """What explaining a failure may cost, where a schema offers a choice of shapes.

    Of a choice the validator keeps every error of every shape. ``weight`` is how many subschemas
    that is for one value (0: no choice), ``repeating`` whether it is so for each of many values,
    ``recursive`` whether it multiplies with every level of the payload.
    """

    weight: int
    repeating: bool
    recursive: bool


class Graph:
    """The schemas of one document."""

    def __init__(self, root: dict[str, Any], source: str) -> None:
        self._root = root
        self._source = source
        self._sound: set[str] = set()
        self.patches: dict[str, dict[str, Any]] = {}
        """Fields that schemas have to be given before a compiler reads them, by their place: it
        follows no reference through another, knows no schema that is wrapped with its format, and
        takes a reference below an ``$id`` for one into that, where AsyncAPI's are into the document.
        """

    def check(self, start: str, channel: str) -> None:
        """Refuses what cannot be compiled, or compiled cannot end.

        Raises DocumentError at a reference that is remote or names nothing, a schema that is none,
        and a schema that holds itself without stepping into the value or stands for too many.
        """
        self._references(start, channel)
        self._weigh(start, channel)

    def _references(self, start: str, channel: str) -> None:
        stack = [start]
        while stack:
            pointer = stack.pop()
            if pointer in self._sound:
                continue
            self._sound.add(pointer)
            schema = self._at(pointer)
            if isinstance(schema, bool):
                continue
            if not isinstance(schema, dict):
                raise DocumentError(
                    self._source,
                    pointer,
                    f"channel {shown(channel)}: the schema received {shown(schema)};"
                    " accepted: an object, true or false",
                )
            patch: dict[str, Any] = {}
            if "$id" in schema:
                patch["$id"] = ABSENT
            if "$ref" in schema:
                (target,) = self._edges(schema, pointer)
                if schema["$ref"] != quoted(target):
                    patch["$ref"] = quoted(target)
            elif "schemaFormat" in schema:
                self._wrapped(schema, pointer, channel)
                inner = {"$ref": quoted(at(pointer, "schema"))}
                patch["allOf"] = [*schema.get("allOf", []), inner]
            if patch:
                self.patches[pointer] = patch
            for keyword in UNKNOWN:
                if keyword in schema and "$ref" not in schema:
                    raise DocumentError(
                        self._source,
                        at(pointer, keyword),
                        f"channel {shown(channel)}: the schema has {keyword}, which JSON Schema"
                        f" draft-07 does not know and would not check; accepted: {UNKNOWN[keyword]}",
                    )
            stack.extend(self._edges(schema, pointer))

    def _wrapped(self, schema: dict[str, Any], pointer: str, channel: str) -> None:
        """A Multi Format Schema Object: a schema beside the name of its format."""
        if not readable(schema["schemaFormat"]):
            raise DocumentError(
                self._source,
                at(pointer, "schemaFormat"),
                f"channel {shown(channel)}: received {shown(schema['schemaFormat'])};"
                f" accepted: {FORMATS}",
            )
        if "schema" not in schema:
            raise DocumentError(
                self._source,
                pointer,
                f"channel {shown(channel)}: schemaFormat stands without a schema; accepted: both",
            )

    def _weigh(self, start: str, channel: str) -> None:
        """Counts the subschemas one value is put through, without stepping into it."""

        def looped(path: Sequence[str], pointer: str) -> None:
            loop = " -> ".join([*path[path.index(pointer) :], pointer])
            raise DocumentError(
                self._source,
                pointer,
                f"channel {shown(channel)}: the schema holds itself without stepping into"
                f" the value: {loop}; accepted: recursion through properties or items",
            )

        for pointer, weight in self._weights(start, self._in_place, looped).items():
            if weight > MAX_EXPANSION:
                raise DocumentError(
                    self._source,
                    pointer,
                    f"channel {shown(channel)}: the schema stands for more than {MAX_EXPANSION}"
                    " subschemas with its references written out; accepted: fewer",
                )

    def spread(self, starts: tuple[str, ...]) -> Spread:
        """What explaining a payload that none of the schemas at ``starts`` takes may cost.

        More than one start is a choice itself.
        """
        recursive = False

        def looped(_: Sequence[str], __: str) -> None:
            nonlocal recursive
            recursive = True

        weight, repeating = 0, False
        for start in starts:
            weights = self._weights(start, self._edges, looped)
            for pointer, below in weights.items():
                schema = self._at(pointer)
                choice = isinstance(schema, dict) and ("oneOf" in schema or "anyOf" in schema)
                if choice or (pointer == start and len(starts) > 1):
                    weight = max(weight, below)
                    repeating = repeating or self._repeats(pointer)
        return Spread(weight * len(starts), repeating, recursive and weight > 0)

    def patterns(self, starts: tuple[str, ...]) -> list[str]:
        """Every regular expression that a schema at ``starts`` holds a value or a name against."""
        return [
            pattern
            for schema in self._reached(starts)
            for pattern in (schema.get("pattern"), *schema.get("patternProperties", ()))
            if isinstance(pattern, str)
        ]

    def _repeats(self, start: str) -> bool:
        """Whether a schema steps into many values somewhere."""
        return any(
            keyword in schema for schema in self._reached((start,)) for keyword in _REPEATING
        )

    def _reached(self, starts: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """The schemas that others lead to, once each; of a reference only where it leads."""
        seen: set[str] = set()
        stack = list(starts)
        while stack:
            pointer = stack.pop()
            if pointer in seen:
                continue
            seen.add(pointer)
            schema = self._at(pointer)
            if isinstance(schema, dict):
                if "$ref" not in schema:
                    yield schema
                stack.extend(self._edges(schema, pointer))

    def _weights(
        self, start: str, edges: Edges, looped: Callable[[Sequence[str], str], None]
    ) -> dict[str, int]:
        """How many schemas each schema stands for, itself included, with references written out.

        ``looped`` is told the way round when a schema leads to itself, which weighs without bound.
        """
        weights: dict[str, int] = {}
        path: dict[str, None] = {}
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            pointer, done = stack.pop()
            if done:
                del path[pointer]
                below = edges(self._at(pointer), pointer)
                total = 1 + sum(weights.get(edge, UNBOUNDED) for edge in below)
                weights[pointer] = min(total, UNBOUNDED)
            elif pointer in path:
                looped(list(path), pointer)
            elif pointer not in weights:
                path[pointer] = None
                stack.append((pointer, True))
                stack.extend((edge, False) for edge in edges(self._at(pointer), pointer))
        return weights

    def _at(self, pointer: str) -> Any:
        return lookup(self._root, pointer, self._source, pointer)[1]

    def _edges(self, schema: Any, pointer: str) -> list[str]:
        """Every schema a schema leads to: the one it refers to, or those it holds."""
        if not isinstance(schema, dict):
            return []
        if "$ref" in schema:
            return [lookup(self._root, schema["$ref"], self._source, at(pointer, "$ref"))[0]]
        return _held(schema, pointer)

    def _in_place(self, schema: Any, pointer: str) -> list[str]:
        """Those of them that the same value is put through."""
        if not isinstance(schema, dict) or "$ref" in schema:
            return self._edges(schema, pointer)
        held = {key: schema[key] for key in _IN_PLACE if key in schema}
        if "schemaFormat" in schema:
            held |= {key: schema[key] for key in ("schemaFormat", "schema") if key in schema}
        if "dependencies" in schema:
            held["dependencies"] = schema["dependencies"]
        return _held(held, pointer)


def _held(schema: dict[str, Any], pointer: str) -> list[str]:
    """Pointers of the direct subschemas. What ``const``, ``enum`` or ``default`` hold is data."""
    found: list[str] = []
    if "schemaFormat" in schema and "schema" in schema:
        found.append(at(pointer, "schema"))
    for keyword, value in schema.items():
        if keyword in _SINGLES or (keyword == "items" and not isinstance(value, list)):
            found.append(at(pointer, keyword))
        elif (keyword in _LISTS or keyword == "items") and isinstance(value, list):
            found.extend(at(pointer, keyword, index) for index in range(len(value)))
        elif keyword in _MAPS and isinstance(value, dict):
            found.extend(at(pointer, keyword, key) for key in value)
        elif keyword == "dependencies" and isinstance(value, dict):
            found.extend(
                at(pointer, keyword, key)
                for key, item in value.items()
                if not isinstance(item, list)
            )
    return found
