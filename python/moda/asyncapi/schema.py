"""Payload schemas: checked once as schemas, compiled once, then asked about every payload.

The dialect is AsyncAPI 3's Schema Object, which is JSON Schema draft-07 with annotations.
jsonschema-rs validates Python values in place (0.1 µs for a join payload); it takes no raw JSON, so
a payload is decoded before it is asked about, which a handler would do anyway.

Four things are settled here because a schema arrives with a document and payloads arrive from
anybody:

- Nothing is fetched: references are resolved inside the document and the compiler is offline.
- Patterns run on the linear-time engine; only a pattern that needs look-around or a
  backreference gets the backtracking one, with a budget.
- A verdict is cheap, an explanation is not: over a choice of shapes the validator keeps one error
  per wrong item per shape, which made 3.3 s of one 1.2 MB array. So the verdict is asked for first,
  and only payloads of up to 500 values are explained in detail.
- What a client is told is moda's own sentence (:mod:`moda.asyncapi.verdict`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import jsonschema_rs
from jsonschema_rs import Draft7Validator, ValidationError

from moda.asyncapi.fault import DocumentError, listed, shown
from moda.asyncapi.pointer import at, lookup
from moda.asyncapi.verdict import Invalid, explain

BASE = "moda:document"
BACKTRACK_LIMIT = 10_000
MAX_EXPLAINED = 500
"""Values in a payload whose failure is explained in detail; a larger one is only refused."""
MAX_EXPANSION = 100_000
"""Subschemas one payload may be put through at one place; past it the schema is a bomb."""

TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")

_FRAGMENT = "/~%!$&'()*+,;=:@?"

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


class Validator:
    """The compiled schema of one event, in one direction. Made by :class:`Compiler`."""

    __slots__ = ("_compiled", "_is_valid", "binary", "json", "pointers")

    def __init__(
        self, pointers: tuple[str, ...], json: bool, binary: bool, compiled: Draft7Validator | None
    ) -> None:
        self.pointers = pointers
        """Where its schemas stand in the document; a payload has to match one of them."""
        self.json = json
        """Whether the event may travel as JSON."""
        self.binary = binary
        """Whether it may travel as a binary frame, whose payload no schema describes."""
        self._compiled = compiled
        self._is_valid = compiled.is_valid if compiled is not None else _anything

    def check(self, payload: Any) -> Invalid | None:
        """Whether a payload breaks the schema. Never raises.

        ``payload`` is a decoded JSON value, or bytes for a binary frame.
        """
        if isinstance(payload, bytes):
            if self.binary:
                return None
            return Invalid("", f"must be JSON; received a binary frame of {len(payload)} bytes")
        if not self.json:
            return Invalid("", f"must be a binary frame; received JSON: {shown(payload)}")
        try:
            if self._is_valid(payload):
                return None
            return self._explain(payload)
        except ValueError:
            # Not a verdict but a refusal to walk: nested past the validator's own bound.
            return Invalid("", "must not be nested so deeply")

    def _explain(self, payload: Any) -> Invalid:
        if self._compiled is None or not _small(payload):
            return Invalid(
                "", "must match its schema; the payload is too large to say where it does not"
            )
        try:
            self._compiled.validate(payload)
        except ValidationError as error:
            return explain(error)
        return Invalid("", "must match its schema")

    def __repr__(self) -> str:
        return f"<Validator {', '.join(self.pointers)}{' binary' if self.binary else ''}>"


def _anything(_: Any) -> bool:
    return True


def _small(payload: Any) -> bool:
    count, stack = 1, [payload]
    while stack:
        node = stack.pop()
        if isinstance(node, (dict, list)):
            count += len(node)
            if count > MAX_EXPLAINED:
                return False
            stack.extend(node.values() if isinstance(node, dict) else node)
    return True


class Compiler:
    """Compiles the schemas of one document, which is indexed once for all of them."""

    def __init__(self, root: dict[str, Any], source: str) -> None:
        self._root = root
        self._source = source
        self._registry = jsonschema_rs.Registry(
            [(BASE, root)], draft=jsonschema_rs.Draft7, retriever=_refuse
        )
        self._sound: set[str] = set()
        self._done: dict[tuple[str, ...], Draft7Validator] = {}

    def compile(self, pointers: tuple[str, ...], channel: str) -> Draft7Validator:
        """One validator for what any of the schemas at ``pointers`` takes.

        Raises DocumentError when a schema is not one, refers to something remote or missing, or can
        never finish.
        """
        known = self._done.get(pointers)
        if known is not None:
            return known
        for pointer in pointers:
            self._walk(pointer, channel)
            self._weigh(pointer, channel)
        refs: list[dict[str, Any]] = [
            {"$ref": f"{BASE}#{quote(pointer[1:], safe=_FRAGMENT)}"} for pointer in pointers
        ]
        schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
        try:
            built = self._build(schema)
        except ValueError as error:
            raise self._not_a_schema(error, channel) from error
        self._done[pointers] = built
        return built

    def parameters(
        self, rules: Mapping[str, Mapping[str, Any]], where: str, channel: str
    ) -> Draft7Validator:
        """A validator for the parameters of an address, given what each has to be.

        Raises DocumentError, naming the parameter, for a pattern that is none.
        """
        for name, rule in rules.items():
            try:
                self._build(dict(rule))
            except ValueError as error:
                raise DocumentError(
                    self._source,
                    at(where, "parameters", name),
                    f"channel {shown(channel)}: parameter {shown(name)} received"
                    f" {shown(rule.get('pattern'))}; accepted: a regular expression",
                ) from error
        return self._build({"properties": {name: dict(rule) for name, rule in rules.items()}})

    def _build(self, schema: dict[str, Any]) -> Draft7Validator:
        linear = jsonschema_rs.RegexOptions()
        try:
            return self._validator(schema, linear)
        except ValueError as error:
            if not _is_pattern(error):
                raise
        return self._validator(
            schema, jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACK_LIMIT)
        )

    def _validator(
        self,
        schema: dict[str, Any],
        patterns: jsonschema_rs.RegexOptions | jsonschema_rs.FancyRegexOptions,
    ) -> Draft7Validator:
        return Draft7Validator(
            schema,
            registry=self._registry,
            offline=True,
            validate_formats=True,
            pattern_options=patterns,
        )

    def _not_a_schema(self, failure: ValueError, channel: str) -> DocumentError:
        if not isinstance(failure, ValidationError):
            return DocumentError(
                self._source,
                "#",
                f"channel {shown(channel)}: a schema cannot be compiled: {failure}",
            )
        path = failure.instance_path
        if path and path[-1] == "type":
            accepted = listed(TYPES)
        elif _is_pattern(failure):
            accepted = "a regular expression"
        else:
            accepted = f"what JSON Schema draft-07 takes there ({explain(failure).message})"
        return DocumentError(
            self._source,
            at("#", *path),
            f"channel {shown(channel)}: the schema received {shown(_value(self._root, path))};"
            f" accepted: {accepted}",
        )

    def _walk(self, start: str, channel: str) -> None:
        """Every reference a schema reaches, so that a wrong one is reported where it is written."""
        stack = [start]
        while stack:
            pointer = stack.pop()
            if pointer in self._sound:
                continue
            self._sound.add(pointer)
            _, schema = lookup(self._root, pointer, self._source, pointer)
            if isinstance(schema, bool):
                continue
            if not isinstance(schema, dict):
                raise DocumentError(
                    self._source,
                    pointer,
                    f"channel {shown(channel)}: the schema received {shown(schema)}; accepted:"
                    " an object, true or false",
                )
            if "$ref" in schema:
                stack.append(
                    lookup(self._root, schema["$ref"], self._source, at(pointer, "$ref"))[0]
                )
                continue
            stack.extend(_below(schema, pointer))

    def _weigh(self, start: str, channel: str) -> None:
        """Counts the subschemas one value is put through, following references.

        A schema that reaches itself without stepping into the value can never finish, and two
        references per level over thirty levels finish next year.
        """
        weights: dict[str, int] = {}
        path: list[str] = []
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            pointer, done = stack.pop()
            _, schema = lookup(self._root, pointer, self._source, pointer)
            edges = self._in_place(schema, pointer)
            if done:
                path.pop()
                weights[pointer] = 1 + sum(weights[edge] for edge in edges)
                if weights[pointer] > MAX_EXPANSION:
                    raise DocumentError(
                        self._source,
                        pointer,
                        f"channel {shown(channel)}: the schema stands for more than"
                        f" {MAX_EXPANSION} subschemas"
                        " with its references written out; accepted: fewer",
                    )
                continue
            if pointer in weights:
                continue
            if pointer in path:
                loop = " -> ".join([*path[path.index(pointer) :], pointer])
                raise DocumentError(
                    self._source,
                    pointer,
                    f"channel {shown(channel)}: the schema holds itself without stepping into"
                    f" the value: {loop};"
                    " accepted: recursion through properties or items",
                )
            path.append(pointer)
            stack.append((pointer, True))
            stack.extend((edge, False) for edge in edges)

    def _in_place(self, schema: Any, pointer: str) -> list[str]:
        if not isinstance(schema, dict):
            return []
        if "$ref" in schema:
            return [lookup(self._root, schema["$ref"], self._source, at(pointer, "$ref"))[0]]
        found = _below(schema, pointer, _IN_PLACE)
        dependencies = schema.get("dependencies")
        if isinstance(dependencies, dict):
            found += [
                at(pointer, "dependencies", key)
                for key, value in dependencies.items()
                if isinstance(value, dict)
            ]
        return found


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri}: remote references are not read")


def _below(schema: dict[str, Any], pointer: str, only: tuple[str, ...] | None = None) -> list[str]:
    """Pointers of the direct subschemas. What ``const``, ``enum`` or ``default`` hold is data."""
    found: list[str] = []
    for keyword, value in schema.items():
        if only is not None and keyword not in only:
            continue
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


def _is_pattern(error: ValueError) -> bool:
    """Whether compiling failed over a regular expression: the linear engine knows fewer of them."""
    return isinstance(error, ValidationError) and error.kind.name == "format"


def _value(root: Any, path: list[str | int]) -> Any:
    node = root
    for token in path:
        try:
            node = node[token]
        except (KeyError, IndexError, TypeError):
            return None
    return node
