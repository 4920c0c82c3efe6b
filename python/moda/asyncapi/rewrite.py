"""Documents into documents: the other viewpoint, the corrected copy, two made one.

Every function here takes a tree and returns a new one; none changes what it was given, and none
needs to know more of a document than where AsyncAPI puts things.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from copy import deepcopy
from typing import Any

from moda.asyncapi.fault import DocumentError
from moda.asyncapi.pointer import at, follow, hops, unescape

Tree = dict[str, Any]

SECTIONS = ("servers", "channels", "operations")
MIRRORED = {"send": "receive", "receive": "send"}
WS_FIELDS = ("method", "query", "headers", "bindingVersion")


def mirror(root: Tree) -> Tree:
    """The same document from the other side of the wire: what one side sends the other receives.

    Exact: applied twice it gives the document back. Only actions change; a reply belongs to its
    operation on either side. The root's ``x-moda.view`` says which side the copy speaks for.
    """
    turned = deepcopy(root)
    for operation in _operations(turned):
        action = operation.get("action")
        if isinstance(action, str):
            operation["action"] = MIRRORED.get(action, action)
    marker = turned.get("x-moda")
    view = marker.get("view", "server") if isinstance(marker, dict) else "server"
    marked = {
        **(marker if isinstance(marker, dict) else {}),
        "view": "client" if view == "server" else "server",
    }
    turned["x-moda"] = marked
    return turned


def _operations(root: Tree) -> Iterator[Tree]:
    """Every operation once, wherever it stands; several may be references to one."""
    seen: set[int] = set()
    for holder in (root.get("operations"), _mapping(root, "components").get("operations")):
        for value in holder.values() if isinstance(holder, dict) else ():
            try:
                _, operation = follow(root, value, "", "#")
            except DocumentError:
                continue  # For whoever reads the document to refuse, at its place.
            if isinstance(operation, dict) and id(operation) not in seen:
                seen.add(id(operation))
                yield operation


def _mapping(node: Any, key: str) -> Tree:
    value = node.get(key) if isinstance(node, dict) else None
    return value if isinstance(value, dict) else {}


# -- bindings


def correct(root: Tree, source: str) -> tuple[Tree, list[str]]:
    """Puts WebSocket bindings where the binding's specification allows them.

    ``ws`` binds channels only. Method, query and headers written on a server move to the channels
    on that server that do not say it themselves; a ``ws`` binding on a message or an operation is
    dropped. Returns the corrected copy and a warning per change; the document as received stays
    accepted.
    """
    fixed = deepcopy(root)
    warnings: list[str] = []
    for name, server in _mapping(fixed, "servers").items():
        where = at("#/servers", name)
        place, resolved = follow(fixed, server, source, where)
        bound = _take(fixed, resolved, source, place)
        if not bound:
            continue
        moved = _move(fixed, bound, {where, place}, source)
        warnings.append(
            f"{source}: {where}/bindings/ws: a server has no ws binding;"
            f" {', '.join(bound)} moved to"
            f" {', '.join(moved) or 'no channel: none is on this server'}"
        )
    for where, node in _bindable(fixed):
        if _take(fixed, node, source, where):
            warnings.append(
                f"{source}: {where}/bindings/ws: only channels have a ws binding; dropped"
            )
    for section in ("serverBindings", "messageBindings", "operationBindings"):
        for bindings in _mapping(_mapping(fixed, "components"), section).values():
            if isinstance(bindings, dict) and bindings.get("ws"):
                bindings["ws"] = {}
    for where, node in _channel_bindings(fixed):
        ws = _mapping(node, "ws")
        for key in ("query", "headers"):
            if key in ws:
                ws[key] = deepcopy(follow(fixed, ws[key], source, at(where, "ws", key))[1])
    return fixed, warnings


def _channel_bindings(root: Tree) -> Iterator[tuple[str, Tree]]:
    components = _mapping(root, "components")
    for name, node in _mapping(components, "channelBindings").items():
        yield at("#/components/channelBindings", name), node
    for holder, base in ((root, "#/channels"), (components, "#/components/channels")):
        for name, channel in _mapping(holder, "channels").items():
            yield at(base, name, "bindings"), _mapping(channel, "bindings")


def _take(root: Tree, node: Any, source: str, where: str) -> Tree:
    """The non-empty ws binding of a node, removed from it."""
    bindings = node.get("bindings") if isinstance(node, dict) else None
    if bindings is None:
        return {}
    _, resolved = follow(root, bindings, source, at(where, "bindings"))
    bound = _mapping(resolved, "ws")
    if not bound:
        return {}
    rest = {key: value for key, value in resolved.items() if key != "ws"}
    if rest:
        node["bindings"] = rest
    else:
        del node["bindings"]
    return bound


def _move(root: Tree, bound: Tree, server: set[str], source: str) -> list[str]:
    moved = []
    for name, channel in _mapping(root, "channels").items():
        place, resolved = follow(root, channel, source, at("#/channels", name))
        if not isinstance(resolved, dict) or not _is_on(root, resolved, server, source, place):
            continue
        _, bindings = follow(root, resolved.get("bindings") or {}, source, at(place, "bindings"))
        ws = {key: bound[key] for key in WS_FIELDS if key in bound}
        ws.update(_mapping(bindings, "ws"))
        resolved["bindings"] = {**(bindings if isinstance(bindings, dict) else {}), "ws": ws}
        moved.append(name)
    return moved


def _is_on(root: Tree, channel: Tree, server: set[str], source: str, where: str) -> bool:
    servers = channel.get("servers")
    if not isinstance(servers, list) or not servers:
        return True
    return any(
        place in server
        for index, item in enumerate(servers)
        for place, _ in hops(root, item, source, at(where, "servers", index))
    )


def _bindable(root: Tree) -> Iterator[tuple[str, Any]]:
    components = _mapping(root, "components")
    for kind in ("messages", "messageTraits", "operations", "operationTraits"):
        for name, node in _mapping(components, kind).items():
            yield at("#/components", kind, name), node
    for name, node in _mapping(root, "operations").items():
        yield at("#/operations", name), node
    for holder, base in ((root, "#/channels"), (components, "#/components/channels")):
        for name, channel in _mapping(holder, "channels").items():
            for key, node in _mapping(channel, "messages").items():
                yield at(base, name, "messages", key), node


# -- one out of two


def union(own: Tree, user: Tree) -> Tree:
    """Both documents as one: the user's as it stands, and moda's beside it.

    Names inside a document (of channels, operations, servers and components) only tie it together;
    where both use one, moda's is renamed and its references with it. What a wire can see, the
    addresses, is for the caller to compare: see :func:`moda.asyncapi.document.merge`.
    """
    renamed = deepcopy(own)
    taken: dict[str, str] = {}
    for path in _sections(own):
        there, here = _section(user, path), _section(own, path)
        for name in here:
            if name in there:
                fresh = _fresh(name, {*there, *here})
                taken[at("#", *path, name)] = at("#", *path, fresh)
                holder = _section(renamed, path)
                items = [(fresh if key == name else key, value) for key, value in holder.items()]
                holder.clear()
                holder.update(items)
    if taken:
        _redirect(renamed, taken)
    merged: Tree = {**deepcopy(user)}
    for key, value in renamed.items():
        if key in SECTIONS:
            merged[key] = {**value, **_mapping(user, key)}
        elif key == "components":
            sections = _mapping(user, "components")
            merged[key] = {
                **sections,
                **{name: {**items, **_mapping(sections, name)} for name, items in value.items()},
            }
        else:
            merged.setdefault(key, value)
    _tags(merged, renamed, user)
    order = ("asyncapi", "id", "info", "defaultContentType", *SECTIONS, "components")
    known = {key: merged[key] for key in order if key in merged}
    return deepcopy({**known, **merged})


def _sections(root: Tree) -> Iterator[tuple[str, ...]]:
    for section in SECTIONS:
        if isinstance(root.get(section), dict):
            yield (section,)
    for section, items in _mapping(root, "components").items():
        if isinstance(items, dict):
            yield ("components", section)


def _section(root: Tree, path: tuple[str, ...]) -> Tree:
    node: Tree = root
    for key in path:
        node = _mapping(node, key)
    return node


def _fresh(name: str, taken: Collection[str]) -> str:
    fresh = f"moda_{name}"
    while fresh in taken:
        fresh = f"moda_{fresh}"
    return fresh


def _redirect(root: Tree, taken: dict[str, str]) -> None:
    def target(ref: str) -> str:
        for old, new in taken.items():
            if ref == old or ref.startswith(f"{old}/"):
                return new + ref[len(old) :]
        return ref

    for node in _objects(root):
        if isinstance(node.get("$ref"), str):
            node["$ref"] = target(node["$ref"])


def _objects(root: Any) -> Iterator[Tree]:
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def _tags(merged: Tree, own: Tree, user: Tree) -> None:
    mine, theirs = _mapping(own, "info").get("tags"), _mapping(user, "info").get("tags")
    if not isinstance(mine, list):
        return
    kept = theirs if isinstance(theirs, list) else []
    names = {tag.get("name") for tag in kept if isinstance(tag, dict)}
    merged["info"] = {
        **_mapping(merged, "info"),
        "tags": [
            *kept,
            *(tag for tag in mine if isinstance(tag, dict) and tag.get("name") not in names),
        ],
    }


# -- less of one


def without(root: Tree, addresses: Collection[str]) -> Tree:
    """The document without these addresses, their operations, and what only they used."""
    pruned = deepcopy(root)
    gone = {
        at("#/channels", name)
        for name, channel in _mapping(pruned, "channels").items()
        if isinstance(channel, dict) and channel.get("address") in addresses
    }
    if not gone:
        return pruned
    pruned["channels"] = {
        name: value
        for name, value in pruned["channels"].items()
        if at("#/channels", name) not in gone
    }
    pruned["operations"] = {
        name: value
        for name, value in _mapping(pruned, "operations").items()
        if _mapping(value, "channel").get("$ref") not in gone
    }
    used = _reached(pruned)
    components = {
        section: {
            name: item
            for name, item in items.items()
            if (section, name) in used or section == "securitySchemes"
        }
        for section, items in _mapping(pruned, "components").items()
    }
    pruned["components"] = {section: items for section, items in components.items() if items}
    tags = {item["name"] for node in _objects(_rest(pruned)) for item in _named(node.get("tags"))}
    info = _mapping(pruned, "info")
    if isinstance(info.get("tags"), list):
        info["tags"] = [tag for tag in info["tags"] if tag["name"] in tags]
    return pruned


def _named(tags: Any) -> list[Tree]:
    return (
        [tag for tag in tags if isinstance(tag, dict) and "name" in tag]
        if isinstance(tags, list)
        else []
    )


def _rest(root: Tree) -> Tree:
    return {key: value for key, value in root.items() if key != "info"}


def _reached(root: Tree) -> set[tuple[str, str]]:
    """Components reachable by references from outside the components."""
    components = _mapping(root, "components")
    used: set[tuple[str, str]] = set()
    stack: list[Any] = [value for key, value in root.items() if key != "components"]
    prefix = "#/components/"
    while stack:
        for node in _objects(stack.pop()):
            ref = node.get("$ref")
            if not isinstance(ref, str) or not ref.startswith(prefix):
                continue
            section, _, name = ref[len(prefix) :].partition("/")
            found = (unescape(section), unescape(name.partition("/")[0]))
            if found not in used:
                used.add(found)
                stack.append(_mapping(components, found[0]).get(found[1]))
    return used


def merge_patch(base: Any, patch: Any) -> Any:
    """JSON Merge Patch (RFC 7396), which is how AsyncAPI lays an object over its traits."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged
