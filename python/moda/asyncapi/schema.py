"""Payload schemas: checked once as schemas, compiled once, then asked about every payload.

The dialect is AsyncAPI 3's Schema Object, which is JSON Schema draft-07 with annotations.
jsonschema-rs validates Python values in place (0.1 µs for a join payload); it takes no raw JSON, so
a payload is decoded before it is asked about, which a handler would do anyway.

Four things are settled here because a schema arrives with a document and payloads arrive from
anybody:

- Nothing is fetched: references are resolved inside the document and the compiler is offline.
- Patterns run on the linear-time engine; only a pattern that needs look-around or a
  backreference gets the backtracking one. A match may then take :data:`BACKTRACK_LIMIT` steps, each
  as long as the text it reads: ``(?=.*x)y`` took 3.6 s for one string of 100,000 characters. So the
  text of such a payload is bounded too, and a match that runs out of steps is a refusal.
- A verdict is cheap, an explanation is not: of a choice of shapes the validator keeps every error
  of every shape. That made 3.3 s of one array of 1.2 MB, and 10 s of one message of 100 bytes that
  was ten levels deep in a schema of three shapes. So the verdict is asked for first, and a failure
  is explained only where its cost is bounded (:class:`~moda.asyncapi.graph.Spread`).
- What a client is told is moda's own sentence (:mod:`moda.asyncapi.verdict`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import jsonschema_rs
from jsonschema_rs import Draft7Validator, ValidationError

from moda.asyncapi.fault import DocumentError, listed, shown
from moda.asyncapi.graph import ABSENT, Graph, Spread
from moda.asyncapi.pointer import at, lookup, quoted
from moda.asyncapi.verdict import Invalid, explain

BASE = "moda:document"
BACKTRACK_LIMIT = 2_000
"""Steps of one match on the backtracking engine; a quoted text needs one per character."""
MAX_BACKTRACKED = 16_384
"""Characters in a payload whose schema has one pattern that backtracks; of several, their share.

With :data:`BACKTRACK_LIMIT` this bounds a verdict: 3.6 ns for each step and character, 0.12 s.
"""
MIN_BACKTRACKED = 256
"""And the least that many such patterns leave."""
MAX_EXPLAINED = 500
"""Values in a payload whose failure is explained in detail; a larger one is only refused."""
MAX_NESTED = 32
"""And its nesting. Every error the validator keeps holds a copy of what it is about."""
MAX_ERRORS = 2_000
"""Errors that explaining one failure may make the validator keep, 10 µs each."""
MAX_RECURSED = 3
"""And its nesting where a choice of shapes recurs, since errors multiply with every level."""

NO_CHOICE = Spread(0, False, False)

TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")


Compiled = tuple[Draft7Validator, Spread, int | None]


class Validator:
    """The compiled schema of one event, in one direction. Made by :class:`Compiler`."""

    __slots__ = ("_compiled", "_is_valid", "_longest", "_spread", "binary", "json", "pointers")

    def __init__(
        self,
        pointers: tuple[str, ...],
        json: bool,
        binary: bool,
        compiled: Draft7Validator | None,
        spread: Spread = NO_CHOICE,
        longest: int | None = None,
    ) -> None:
        self.pointers = pointers
        """Where its schemas stand in the document; a payload has to match one of them."""
        self.json = json
        """Whether the event may travel as JSON."""
        self.binary = binary
        """Whether it may travel as a binary frame, whose payload no schema describes."""
        self._compiled = compiled
        self._spread = spread
        self._longest = longest
        """Characters a payload may hold, where a pattern backtracks."""
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
        if self._longest is not None and _longer(payload, self._longest):
            return Invalid(
                "",
                f"must hold at most {self._longest} characters in its fields and their names:"
                " its schema has a pattern with look-around or a backreference",
            )
        try:
            if self._is_valid(payload):
                return None
            return self._explain(payload)
        except ValueError:
            # Not a verdict but a refusal to walk: a value that no JSON decoder makes.
            return Invalid("", "must be plain JSON")

    def _explain(self, payload: Any) -> Invalid:
        if self._compiled is not None and _explainable(payload, self._spread):
            error = failure(self._compiled, payload)
            if error is not None:
                return explain(error)
        return Invalid(
            "", "must match its schema; it is too large or too deep to say where it does not"
        )

    def __repr__(self) -> str:
        return f"<Validator {', '.join(self.pointers)}{' binary' if self.binary else ''}>"


def _anything(_: Any) -> bool:
    return True


def failure(compiled: Draft7Validator, value: Any) -> ValidationError | None:
    """The first thing that is wrong with a value, or None.

    Returned and not raised: its text quotes the value whole, and an exception that is being handled
    is printed with whatever is raised meanwhile.
    """
    try:
        compiled.validate(value)
    except ValidationError as error:
        return error
    return None


def _longer(payload: Any, most: int) -> bool:
    """Whether the texts in a payload, names of fields included, have more characters than that."""
    stack = [payload]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            most -= len(node)
        elif isinstance(node, dict):
            most -= sum(len(key) for key in node if isinstance(key, str))
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
        if most < 0:
            return True
    return False


def _explainable(payload: Any, spread: Spread) -> bool:
    """Whether explaining a failure is sure to be cheap."""
    count, deepest = 1, 0
    stack = [(payload, 0)]
    while stack:
        node, depth = stack.pop()
        deepest = max(deepest, depth)
        if isinstance(node, (dict, list)):
            count += len(node)
            if count > MAX_EXPLAINED or depth > MAX_NESTED:
                return False
            below = node.values() if isinstance(node, dict) else node
            stack.extend((value, depth + 1) for value in below)
    if spread.recursive:
        return deepest <= MAX_RECURSED
    return spread.weight * (count if spread.repeating else 1) <= MAX_ERRORS


class Compiler:
    """Compiles the schemas of one document, which is indexed once for all of them."""

    def __init__(self, root: dict[str, Any], source: str) -> None:
        self._root = root
        self.source = source
        self._straight = root
        self._index()
        self._graph = Graph(root, source)
        self._done: dict[tuple[str, ...], Compiled] = {}
        self._backtracks: dict[str, bool] = {}

    def _index(self) -> None:
        self._registry = jsonschema_rs.Registry(
            [(BASE, self._straight)], draft=jsonschema_rs.Draft7, retriever=_refuse
        )

    def check(self, schemas: Iterable[tuple[str, str]]) -> None:
        """Looks at all schemas there are, as pairs of a pointer and its channel, before any is compiled.

        Raises what :meth:`compile` does. A document that needs patches is indexed once more then,
        and not for each of its channels.
        """
        for pointer, channel in schemas:
            self._graph.check(pointer, channel)
        if self._graph.patches:
            if self._straight is self._root:
                self._straight = deepcopy(self._root)
            for place, fields in self._graph.patches.items():
                schema = lookup(self._straight, place, self.source, place)[1]
                schema.update(fields)
                for name in [name for name in fields if fields[name] is ABSENT]:
                    del schema[name]
            self._graph.patches.clear()
            self._index()

    def compile(self, pointers: tuple[str, ...], channel: str) -> Compiled:
        """One validator for what any schema at ``pointers`` takes, what asking it why costs, and how
        many characters it may be asked about (None: any).

        Raises DocumentError when a schema is not one, refers to something remote or missing, or can
        never finish.
        """
        known = self._done.get(pointers)
        if known is not None:
            return known
        self.check((pointer, channel) for pointer in pointers)
        refs: list[dict[str, Any]] = [{"$ref": BASE + quoted(pointer)} for pointer in pointers]
        schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
        try:
            built = self._build(schema)
        except ValueError as error:
            raise self._not_a_schema(error, channel) from error
        hard = sum(map(self._hard, self._graph.patterns(pointers)))
        longest = max(MIN_BACKTRACKED, MAX_BACKTRACKED // hard) if hard else None
        self._done[pointers] = built, self._graph.spread(pointers), longest
        return self._done[pointers]

    def _hard(self, pattern: str) -> bool:
        """Whether the linear-time engine cannot run a pattern."""
        if pattern not in self._backtracks:
            try:
                self._validator({"pattern": pattern}, jsonschema_rs.RegexOptions())
                self._backtracks[pattern] = False
            except ValueError:
                self._backtracks[pattern] = True
        return self._backtracks[pattern]

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
                    self.source,
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
                self.source,
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
            self.source,
            at("#", *path),
            f"channel {shown(channel)}: the schema received {shown(_value(self._root, path))};"
            f" accepted: {accepted}",
        )


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri}: remote references are not read")


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
