"""The HTTP API as a page, rendered here from the OpenAPI document: no script, no network, no inline
style.

The usual viewers load a megabyte of JavaScript from a CDN or carry it along, and set styles inline;
none of that passes ``default-src 'self'`` or belongs in a wheel. A reader needs the operations,
their parameters and the shapes of their bodies. Pure: a document in, HTML out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["ICON", "STYLE", "render_docs"]

_METHODS = ("get", "post", "put", "patch", "delete", "head", "options")
_MAX_DEPTH = 6
"""Levels of a schema that are written out; deeper (or recursive) ones are named only."""

STYLE = """\
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #1d4ed8; }
@media (prefers-color-scheme: dark) { :root { --accent: #8ab4ff; } a { color: var(--accent); } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; text-transform: capitalize; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
pre { background: var(--soft); padding: .75rem; overflow-x: auto; border-radius: 6px; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .5rem; }
summary { cursor: pointer; display: flex; gap: .75rem; align-items: baseline; flex-wrap: wrap; }
.method { font-weight: 700; min-width: 4rem; color: var(--accent); text-transform: uppercase; }
.note { opacity: .75; }
.gone { text-decoration: line-through; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; }
td { border-bottom: 1px solid var(--line); }
"""

# The console's mark, which may not be there.
ICON = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" fill="none" \
stroke="#6ea8ff" stroke-width="3.2" stroke-linecap="round">
  <rect width="32" height="32" rx="8" fill="#0d1420" stroke="none"/>
  <path d="M8 21v-7.500c0-2.400 1.600-4 3.700-4s3.700 1.600 3.700 4V20"/>
  <path d="M15.400 20v-6.500c0-2.400 1.600-4 3.700-4s3.700 1.600 3.700 4v5.200a2.800 2.800 0 0 0 2.400 2.800" \
stroke="#4fd6c2"/>
</svg>
"""


def render_docs(
    document: Mapping[str, Any],
    *,
    style_url: str,
    json_url: str,
    icon_url: str,
    links: Sequence[tuple[str, str]] = (),
) -> bytes:
    """An HTML page of an OpenAPI 3.1 document.

    ``style_url`` serves :data:`STYLE`, ``json_url`` the document, ``icon_url`` :data:`ICON`. ``links``
    are the server's other pages as (text, address).
    """
    info = document.get("info", {})
    title = escape(str(info.get("title", "HTTP API")))
    version = escape(str(info.get("version", "")))
    description = escape(str(info.get("description") or ""))
    groups: dict[str, list[str]] = {}
    for path, method, operation in _operations(document):
        group = str((operation.get("tags") or ["other"])[0])
        groups.setdefault(group, []).append(_operation(document, path, method, operation))
    sections = "".join(
        f"<h2>{escape(name)}</h2>{''.join(items)}" for name, items in sorted(groups.items())
    )
    ways = "".join(
        f' · <a href="{escape(address)}">{escape(text)}</a>'
        for text, address in (("OpenAPI document", json_url), *links)
    )
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title>"
        f'<link rel="icon" type="image/svg+xml" href="{escape(icon_url)}">'
        f'<link rel="stylesheet" href="{escape(style_url)}"></head><body>'
        f'<h1>{title}</h1><p class="note">{version}{ways}</p>'
        f"<p>{description}</p>{sections or '<p>No operations.</p>'}</body></html>\n"
    )
    return page.encode()


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, item in sorted((document.get("paths") or {}).items()):
        for method in _METHODS:
            if method in item:
                yield path, method, item[method]


def _operation(
    document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]
) -> str:
    gone = ' class="gone"' if operation.get("deprecated") else ""
    parts = [
        f'<details><summary><span class="method">{method}</span><code{gone}>{escape(path)}</code>'
        f'<span class="note">{escape(str(operation.get("summary") or ""))}</span></summary>'
    ]
    if operation.get("description"):
        parts.append(f"<p>{escape(str(operation['description']))}</p>")
    rows = [
        _parameter(document, _resolved(document, one)) for one in operation.get("parameters") or []
    ]
    if rows:
        parts.append(
            "<table><thead><tr><th>Parameter</th><th>In</th><th>Type</th><th></th></tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table>"
        )
    body = _resolved(document, operation.get("requestBody") or {})
    for media_type, content in (body.get("content") or {}).items():
        parts.append(_body(document, f"Request body, {media_type}", content))
    for status, response in sorted((operation.get("responses") or {}).items()):
        response = _resolved(document, response)
        label = f"{status} {response.get('description') or ''}".strip()
        contents = response.get("content") or {}
        if not contents:
            parts.append(f"<p><strong>{escape(label)}</strong></p>")
        for media_type, content in contents.items():
            parts.append(_body(document, f"{label}, {media_type}", content))
    parts.append("</details>")
    return "".join(parts)


def _parameter(document: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    required = "required" if one.get("required") else ""
    note = " ".join(part for part in (required, str(one.get("description") or "")) if part)
    kind = shape(document, one.get("schema") or {})
    return (
        f"<tr><td><code>{escape(str(one.get('name')))}</code></td><td>{escape(str(one.get('in')))}</td>"
        f"<td><code>{escape(kind)}</code></td><td>{escape(note)}</td></tr>"
    )


def _body(document: Mapping[str, Any], label: str, content: Mapping[str, Any]) -> str:
    written = shape(document, content.get("schema") or {})
    return f"<p><strong>{escape(label)}</strong></p><pre>{escape(written)}</pre>"


def _resolved(document: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follows local references, a bounded number of times."""
    for _ in range(_MAX_DEPTH):
        reference = node.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return node
        found: Any = document
        for step in reference[2:].split("/"):
            found = (
                found.get(step.replace("~1", "/").replace("~0", "~"), {})
                if isinstance(found, Mapping)
                else {}
            )
        node = found
    return {}


def shape(document: Mapping[str, Any], schema: Mapping[str, Any], depth: int = 0) -> str:
    """A schema as one would write it down: ``{"name": string, "tags?": [string]}``; ``?`` marks
    what may be missing.
    """
    if depth >= _MAX_DEPTH:
        return str(schema.get("title") or schema.get("$ref", "").rpartition("/")[2] or "...")
    schema = _resolved(document, schema)
    for key, between in (("oneOf", " | "), ("anyOf", " | "), ("allOf", " & ")):
        if schema.get(key):
            return between.join(shape(document, one, depth + 1) for one in schema[key])
    if "const" in schema:
        return repr(schema["const"])
    if schema.get("enum"):
        return " | ".join(
            f'"{one}"' if isinstance(one, str) else str(one) for one in schema["enum"]
        )
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(str(one) for one in kind)
    if kind == "array":
        return f"[{shape(document, schema.get('items') or {}, depth + 1)}]"
    properties = schema.get("properties")
    if properties:
        required = set(schema.get("required") or ())
        pad = "  " * (depth + 1)
        lines = [
            f'{pad}"{name}{"" if name in required else "?"}": {shape(document, one, depth + 1)}'
            for name, one in properties.items()
        ]
        return "{\n" + ",\n".join(lines) + "\n" + "  " * depth + "}"
    if kind == "object":
        extra = schema.get("additionalProperties")
        return (
            f"{{string: {shape(document, extra, depth + 1)}}}"
            if isinstance(extra, Mapping) and extra
            else "{...}"
        )
    form = schema.get("format")
    return f"{kind} ({form})" if kind and form else str(kind or "any")
