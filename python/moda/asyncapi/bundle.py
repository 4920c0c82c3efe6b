"""Many files into one document: references to files become references into the document.

A document may be kept in parts (``$ref: ./messages/say.yaml``, ``$ref: ../common.yaml#/schemas/id``).
What its references reach in other files is put under ``x-moda-files`` at its root, each part once and
at the place it has in its file, and the references are written anew. So a part that is referred to
twice stays one thing, a schema in a file may be recursive, and what is served is one document that
any tool reads. What nothing reaches is not copied, and not served.

Only files are read, and only those called ``.yaml``, ``.yml`` or ``.json``: a document names code to
run (``handler``) and is trusted as configuration is, but what it holds is published. Nothing is
fetched: a start that depends on somebody else's server is no start.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from moda.asyncapi.fault import DocumentError, nearest, reference, shown
from moda.asyncapi.pointer import at, quoted, unescape
from moda.asyncapi.rewrite import Tree
from moda.asyncapi.source import MAX_BYTES, MAX_DEPTH, MAX_NODES, read

FILES = "x-moda-files"
"""Where at the root of a document the parts from other files stand, by the names of their files."""
MAX_FILES = 500
SUFFIXES = (".yaml", ".yml", ".json")

# fmt: off
_NAMED = frozenset((
    "$defs", "channelBindings", "channels", "correlationIds", "definitions", "dependencies",
    "messageBindings", "messageTraits", "messages", "operationBindings", "operationTraits",
    "operations", "parameters", "patternProperties", "properties", "replies", "replyAddresses",
    "schemas", "securitySchemes", "serverBindings", "serverVariables", "servers", "variables",
))
# fmt: on
"""Fields that hold things by names of their author's; any name is one, ``default`` too."""
_DATA = frozenset(("const", "default", "enum", "example", "examples"))
"""Fields that hold what a wire carries: a ``$ref`` in there refers to nothing."""


def bundle(root: Tree, path: str | os.PathLike[str], name: str) -> Tree:
    """The document that was read from ``path``, with what it refers to in other files.

    Returns ``root`` itself where it refers to none. References to servers stay as they are, for
    whoever follows one to refuse it. Raises DocumentError, at the reference, for a file that cannot
    be read, is none of :data:`SUFFIXES`, or would take the whole past the bounds of one document.
    """
    # Not resolved: a reference is about names, and a linked file has its neighbours beside the link.
    return _Bundle(root, Path(os.path.abspath(path)), name).whole()  # noqa: PTH100


class _Part:
    """Another file, and what of it is reached."""

    def __init__(self, tree: Tree, label: str, key: str) -> None:
        self.tree = tree
        self.label = label
        self.key = key
        self.kept: Tree = {}
        self.done: set[tuple[str, ...]] = set()


class _Bundle:
    def __init__(self, root: Tree, path: Path, name: str) -> None:
        self.root = root
        self.path = path
        self.name = name
        self.parts: dict[Path, _Part] = {}
        self.bytes = 0
        self.nodes = 0
        self.queue: list[tuple[Path, tuple[str, ...], bool, str, str]] = []
        self.seen: set[tuple[Path, tuple[str, ...]]] = set()
        held = root.get(FILES)
        self.taken = set(held) if isinstance(held, dict) else set()

    def whole(self) -> Tree:
        whole = self.copied(self.root, self.path, self.name, "#", named=False, depth=1)
        while self.queue:
            self.reach(*self.queue.pop())
        if not self.parts:
            return self.root
        files = dict(self.root.get(FILES) or {})
        files.update((part.key, part.kept) for part in self.parts.values())
        return {**whole, FILES: files}

    def copied(
        self, node: Any, path: Path, source: str, where: str, *, named: bool, depth: int
    ) -> Any:
        """A value of the file ``path`` with its references written anew."""
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            raise DocumentError(
                source,
                where,
                f"too many values, or nested too deeply; accepted: up to {MAX_NODES} values and"
                f" {MAX_DEPTH} levels with all files of the document",
            )
        if isinstance(node, list):
            return [
                self.copied(item, path, source, at(where, index), named=False, depth=depth + 1)
                for index, item in enumerate(node)
            ]
        if not isinstance(node, dict):
            return node
        if isinstance(node.get("$ref"), str):
            return {**node, "$ref": self.referred(node["$ref"], path, source, where, named)}
        built: Tree = {}
        for key, value in node.items():
            if not named and (key in _DATA or key.startswith("x-")):
                built[key] = value
                continue
            built[key] = self.copied(
                value,
                path,
                source,
                at(where, key),
                named=not named and key in _NAMED,
                depth=depth + 1,
            )
        return built

    def referred(self, ref: str, path: Path, source: str, where: str, named: bool) -> str:
        """A reference found in ``path``, as one into the bundled document."""
        address, _, fragment = ref.partition("#")
        target = self.file(address, path) if address else path
        if target is None:
            return ref
        fragment = unquote(fragment)
        if target == self.path:
            return ref if path == self.path and not address else quoted(f"#{_percent(fragment)}")
        if fragment and not fragment.startswith("/"):
            raise DocumentError(
                source,
                where,
                f"$ref received {reference(ref)}; accepted: a file, with # and a JSON pointer into"
                " it or without",
            )
        part = self.part(target, ref, source, where)
        tokens = tuple(map(unescape, fragment.split("/")[1:]))
        self.queue.append((target, tokens, named, source, where))
        return quoted(at("#", FILES, part.key) + _percent(fragment))

    def file(self, address: str, path: Path) -> Path | None:
        """The file a reference names; None for what is no file."""
        parts = urlsplit(address)
        if parts.scheme == "file" and parts.netloc in ("", "localhost"):
            address = parts.path
        elif parts.scheme or parts.netloc:
            return None
        return Path(os.path.abspath(path.parent / unquote(address)))  # noqa: PTH100

    def part(self, target: Path, ref: str, source: str, where: str) -> _Part:
        known = self.parts.get(target)
        if known is not None:
            return known
        label = Path(os.path.relpath(target, self.path.parent)).as_posix()

        def wrong(problem: str) -> DocumentError:
            return DocumentError(
                source, where, f"the reference {reference(ref)} to another file: {problem}"
            )

        try:
            real = target.resolve(strict=True)
            size = real.stat().st_size
        except (OSError, RuntimeError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else None
            raise wrong(f"it cannot be read: {said or error}") from error
        if not {target.suffix.lower(), real.suffix.lower()} <= set(SUFFIXES):
            raise wrong(f"it is not called {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
        self.bytes += size
        if self.bytes > MAX_BYTES or len(self.parts) >= MAX_FILES:
            raise wrong(
                f"the document is too large; accepted: up to {MAX_BYTES} bytes in up to"
                f" {MAX_FILES} files beside it"
            )
        _, tree = read(real, label)
        key = label
        while key in self.taken:
            key = f"moda_{key}"
        self.taken.add(key)
        self.parts[target] = _Part(tree, label, key)
        return self.parts[target]

    def reach(
        self, target: Path, tokens: tuple[str, ...], named: bool, source: str, where: str
    ) -> None:
        """Copies what stands at a place in a file, unless something around it was copied."""
        if (target, tokens) in self.seen:
            return
        self.seen.add((target, tokens))
        if len(tokens) > MAX_DEPTH:
            raise DocumentError(source, where, "the reference leads back to itself")
        part = self.parts[target]
        place, node = self.found(part, tokens, source, where)
        if len(place) < len(tokens) and isinstance(node, dict):
            # A reference on the way: the rest of the way goes on where it leads.
            rest = "".join(at("", token) for token in tokens[len(place) :])
            further = node["$ref"] + ("" if "#" in node["$ref"] else "#") + rest
            self.referred(further, target, part.label, at("#", *place), named)
        if any(place[:length] in part.done for length in range(len(place) + 1)):
            return
        part.done.add(place)
        copied = self.copied(
            node, target, part.label, at("#", *place), named=named, depth=len(place) + 3
        )
        if not place:
            part.kept = copied
            return
        holder = part.kept
        for token in place[:-1]:
            holder = holder.setdefault(token, {})
        holder[place[-1]] = copied

    def found(
        self, part: _Part, tokens: tuple[str, ...], source: str, where: str
    ) -> tuple[tuple[str, ...], Any]:
        """What to copy for a place, and where it is: a list or a reference on the way, or the place."""
        node: Any = part.tree
        for index, token in enumerate(tokens):
            if isinstance(node, list) or (
                isinstance(node, dict) and isinstance(node.get("$ref"), str)
            ):
                return tokens[:index], node
            if not isinstance(node, dict) or token not in node:
                known = list(node) if isinstance(node, dict) else []
                raise DocumentError(
                    source,
                    where,
                    f"the reference to {reference(part.label + at('#', *tokens))} names nothing:"
                    f" {reference(at('#', *tokens[:index]))} holds no"
                    f" {shown(token)}{nearest(token, known)}",
                )
            node = node[token]
        return tokens, node


def _percent(fragment: str) -> str:
    return fragment.replace("%", "%25")
