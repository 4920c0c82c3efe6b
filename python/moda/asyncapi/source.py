"""From bytes to a tree of plain JSON values, within bounds, before anything looks at them.

Why not ``yaml.safe_load``: it builds the tree by recursion in C, so a file of 100,000 ``[``
ends the process instead of raising; it expands nothing but lets nine short lines of aliases
stand for a billion nodes that every later reader would walk; it reads ``no`` as false, a date
as a ``datetime`` and the second of two equal keys as the only one. Here libyaml only tokenizes.
The tree is built from its events with an explicit stack, counted as it would be with every
alias written out, by the rules of YAML 1.2 (the JSON-compatible ones AsyncAPI asks for). libyaml is
of version 1.1, in which U+0085, U+2028 and U+2029 break a line; in 1.2 they are text, so it is given
characters in their place that the document does not use. A document that says ``%YAML 1.1`` itself
may hold no word that the two versions read differently.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from moda.asyncapi.fault import DocumentError, shown

MAX_BYTES = 4 * 1024 * 1024
"""Size of a document. The largest public AsyncAPI documents are under 1 MiB."""
MAX_NODES = 200_000
"""Values in a document with every alias written out."""
MAX_DEPTH = 100
"""Nesting with every alias written out; keeps every later walk far from the stack's end."""
MAX_DIGITS = 400
"""Length of a number; above it Python's own conversion is quadratic, then refused."""

_BREAKS = "\x85\u2028\u2029"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?[0-9]+\Z")
_BASED = re.compile(r"0(?:o[0-7]+|x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_UNBOUNDED = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")


def read(
    source: str | os.PathLike[str] | bytes, name: str | None = None
) -> tuple[str, dict[str, Any]]:
    """Reads a document: a path, or the bytes themselves. Returns its name and its root object.

    YAML 1.2 or JSON, UTF-8, one document. Raises DocumentError when it cannot be read, is past a
    bound of this module, holds what JSON cannot (a tag, NaN, a cycle of aliases) or two equal keys.
    """
    if isinstance(source, bytes):
        name, data = name or "document", source
    else:
        path = Path(source)
        name = name or path.name
        try:
            if path.exists() and not path.is_file():
                # A pipe would be waited for, and nobody would know for what.
                raise DocumentError(name, "#", f"is no regular file: {path}")
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise DocumentError(
                name, "#", f"cannot be read: {error.strerror or error}: {path}"
            ) from error
    if len(data) > MAX_BYTES:
        raise DocumentError(
            name, "#", f"the document is too large; accepted: up to {MAX_BYTES} bytes"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(
            name, "#", f"byte {error.start} is not UTF-8; accepted: UTF-8 text"
        ) from error
    root = _json(name, text) if text.lstrip().startswith("{") else None
    if root is None:
        root = _yaml(name, text)
    if not isinstance(root, dict):
        raise DocumentError(
            name, "#", f"the root received {shown(root)}; accepted: an AsyncAPI object"
        )
    return name, root


def scalar(text: str) -> Any:
    """What YAML 1.2 (core schema) makes of an unquoted scalar; a string when it is nothing else.

    >>> scalar("no"), scalar("1e3"), scalar("0o17"), scalar("2024-01-01"), scalar("~")
    ('no', 1000.0, 15, '2024-01-01', None)
    """
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text[0] in "tT"
    if len(text) > MAX_DIGITS:
        return text
    if _INT.match(text):
        return int(text)
    if _BASED.match(text):
        return int(text[2:], 8 if text[1] == "o" else 16)
    if _FLOAT.match(text):
        return float(text)
    return math.nan if _UNBOUNDED.match(text) else text


# -- JSON


class _RefusedError(Exception):
    """What JSON's hooks raise; turned into a DocumentError that knows the document's name."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for key, value in pairs:
        if key in built:
            raise _RefusedError(f"the key {shown(key)} is given twice in one object")
        built[key] = value
    return built


def _constant(text: str) -> Any:
    raise _RefusedError(f"received the number {text}; accepted: finite numbers")


def _number(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _RefusedError(
            f"received a number of {len(text)} digits; accepted: up to {MAX_DIGITS}"
        )
    return int(text)


def _json(name: str, text: str) -> Any:
    """The document as JSON, or None when it is not: it may still be YAML in flow style."""
    try:
        root = json.loads(
            text, object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_number
        )
    except RecursionError:
        raise DocumentError(
            name, "#", f"nested too deeply; accepted: up to {MAX_DEPTH} levels"
        ) from None
    except _RefusedError as refused:
        raise DocumentError(name, "#", str(refused)) from None
    except ValueError:
        return None
    count, stack = 0, [(root, 1)]
    while stack:
        node, depth = stack.pop()
        count += 1
        _bounded(name, count, depth, "#")
        if isinstance(node, dict):
            for key, value in node.items():
                _text(name, key)
                stack.append((value, depth + 1))
        elif isinstance(node, list):
            stack.extend((value, depth + 1) for value in node)
        elif isinstance(node, str):
            _text(name, node)
        elif isinstance(node, float) and not math.isfinite(node):
            raise DocumentError(
                name, "#", "received a number too large for a float; accepted: finite numbers"
            )
    return root


def _text(name: str, text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DocumentError(
                name, "#", "a string holds half of a surrogate pair; accepted: Unicode text"
            ) from None


def _bounded(name: str, nodes: int, depth: int, where: str) -> None:
    if nodes > MAX_NODES:
        raise DocumentError(
            name,
            where,
            f"too many values; accepted: up to {MAX_NODES} with every alias written out",
        )
    if depth > MAX_DEPTH:
        raise DocumentError(name, where, f"nested too deeply; accepted: up to {MAX_DEPTH} levels")


# -- YAML


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been seen: what is being built and what it weighs so far."""

    value: dict[str, Any] | list[Any]
    anchor: str | None
    line: int
    key: str | None = None
    merging: bool = False
    merged: list[dict[str, Any]] = field(default_factory=list)
    nodes: int = 1
    height: int = 1


@dataclass(frozen=True, slots=True)
class _Anchor:
    value: Any
    nodes: int
    height: int


def _yaml(name: str, text: str) -> Any:
    try:
        return _Builder(name).build(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "#"
        raise DocumentError(name, where, f"not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise DocumentError(name, "#", f"not YAML: {error}") from error


class _Builder:
    def __init__(self, name: str) -> None:
        self.name = name
        self.stack: list[_Open] = []
        self.anchors: dict[str, _Anchor] = {}
        self.nodes = 0
        self.root: Any = None
        self.documents = 0
        self.old = False
        """Whether the document says that it is YAML 1.1."""
        self.hidden: dict[int, str] = {}
        """The breaks of YAML 1.1, by the characters libyaml is given in their place."""

    def build(self, text: str) -> Any:
        text = self._hide(text)
        for event in yaml.parse(text, Loader=_LOADER):
            line = event.start_mark.line + 1 if event.start_mark else 0
            if isinstance(event, yaml.ScalarEvent):
                self._scalar(event, line)
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._open(event, line)
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                self._close()
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event.anchor, line)
            elif isinstance(event, yaml.DocumentStartEvent):
                self.documents += 1
                self.old = event.version == (1, 1)
                if self.documents > 1:
                    raise self._error(
                        line, "a second document begins here; accepted: one document per file"
                    )
        return self.root

    def _hide(self, text: str) -> str:
        found = [char for char in _BREAKS if char in text]
        if not found:
            return text
        used = set(text)
        private = (code for code in range(0xE000, 0x10FFFE) if chr(code) not in used)
        self.hidden = {next(private): char for char in found}
        return text.translate({ord(char): code for code, char in self.hidden.items()})

    def _agreed(self, text: str, value: Any, line: int) -> None:
        """Refuses a word that YAML 1.1, which the document says it is, reads differently."""
        old: Any
        try:
            old = yaml.load(text, Loader=_LOADER)  # noqa: S506 (the safe loader)
        except (yaml.YAMLError, ValueError):
            old = None
        if type(old) is not type(value) or old != value:
            raise self._error(
                line,
                f"received {shown(text)} under %YAML 1.1, which reads it otherwise than YAML 1.2;"
                " accepted: the word in quotes, or a document of YAML 1.2",
            )

    def _error(self, line: int, problem: str) -> DocumentError:
        return DocumentError(self.name, f"line {line}", problem)

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        parent = self.stack[-1] if self.stack else None
        plain = event.implicit[0] and event.tag is None
        text = event.value.translate(self.hidden) if self.hidden else event.value
        if (
            parent is not None
            and isinstance(parent.value, dict)
            and parent.key is None
            and not parent.merging
        ):
            if text == "<<" and plain:
                parent.merging = True
            elif text in parent.value:
                raise self._error(line, f"the key {shown(text)} is given twice in one object")
            else:
                if self.old and plain and (text[:1] == "0" or not text.isdecimal()):
                    self._agreed(text, text, line)
                parent.key = text
            return
        value: Any = text
        if plain:
            value = scalar(value)
            if type(value) is str and len(value) > MAX_DIGITS and _INT.match(value):
                raise self._error(
                    line, f"received a number of {len(value)} digits; accepted: up to {MAX_DIGITS}"
                )
            if self.old:
                self._agreed(text, value, line)
        elif event.tag is not None and event.tag not in ("!", _TAG + "str"):
            value = scalar(value)
            kind = {"null": type(None), "bool": bool, "int": int, "float": float}.get(
                event.tag.removeprefix(_TAG)
            )
            if kind is float and type(value) is int:
                value = float(value)
            if kind is None or type(value) is not kind:
                raise self._error(
                    line,
                    f"received the tag {shown(event.tag)}; accepted: plain JSON values, no tags",
                )
        if isinstance(value, float) and not math.isfinite(value):
            raise self._error(line, f"received the number {shown(text)}; accepted: finite numbers")
        self._count(1, 1, line)
        self._put(value, event.anchor, 1, 1, line)

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, line: int) -> None:
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _TAG + ("map" if mapping else "seq")):
            raise self._error(
                line, f"received the tag {shown(event.tag)}; accepted: plain JSON values, no tags"
            )
        self._keyed(line)
        self._count(1, 1, line)
        self.stack.append(_Open({} if mapping else [], event.anchor, line))

    def _close(self) -> None:
        done = self.stack.pop()
        if isinstance(done.value, dict):
            for source in done.merged:
                for key, value in source.items():
                    done.value.setdefault(key, value)
        self._put(done.value, done.anchor, done.nodes, done.height, done.line)

    def _alias(self, anchor: str | None, line: int) -> None:
        if any(open_.anchor == anchor for open_ in self.stack):
            raise self._error(
                line, f"the alias *{anchor} holds itself; accepted: a finite document"
            )
        self._keyed(line)
        known = self.anchors.get(anchor or "")
        if known is None:
            raise self._error(line, f"the alias *{anchor} names no anchor above it")
        self._count(known.nodes, known.height, line)
        self._put(known.value, None, known.nodes, known.height, line)

    def _keyed(self, line: int) -> None:
        """Refuses a collection or an alias where a key is due: JSON keys are strings."""
        if self.stack and isinstance(self.stack[-1].value, dict):
            parent = self.stack[-1]
            if parent.key is None and not parent.merging:
                raise self._error(
                    line, "a key received a collection or an alias; accepted: a string"
                )

    def _count(self, nodes: int, height: int, line: int) -> None:
        self.nodes += nodes
        _bounded(self.name, self.nodes, len(self.stack) + height, f"line {line}")

    def _put(self, value: Any, anchor: str | None, nodes: int, height: int, line: int) -> None:
        if anchor is not None:
            self.anchors[anchor] = _Anchor(value, nodes, height)
        if not self.stack:
            self.root = value
            return
        parent = self.stack[-1]
        parent.nodes += nodes
        parent.height = max(parent.height, height + 1)
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif parent.merging:
            parent.merging = False
            sources = value if isinstance(value, list) else [value]
            if not all(isinstance(source, dict) for source in sources):
                raise self._error(
                    line,
                    f"the merge key << received {shown(value)}; accepted: an object or a list"
                    " of them",
                )
            parent.merged.extend(sources)
        elif parent.key is not None:
            parent.value[parent.key] = value
            parent.key = None
