"""Small parts of the page: tables of fields, coloured JSON, addresses with parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from moda.asyncapi.model import Channel, Message
from moda.asyncapi.pages.markup import Markup, join, tag, text
from moda.asyncapi.pages.outline import Row
from moda.asyncapi.pages.prose import line

PARAMETER = re.compile(r"\{([^{}]+)\}")
_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|(-?\d[\d.eE+-]*)')
_ID = re.compile(r"[^A-Za-z0-9_-]+")


def table(rows: Iterable[Row]) -> Markup:
    heads = tag("tr", *(tag("th", word, scope="col") for word in ("Field", "Type", "Meaning")))
    return tag(
        "div",
        tag("table", tag("thead", heads), tag("tbody", *map(_row, rows)), class_="fields"),
        class_="scroll",
    )


def _row(row: Row) -> Markup:
    kind = tag("span", row.kind, class_="kind")
    if row.link is not None:
        # An array says the name of its items in its kind already.
        label = row.kind if row.kind.endswith(f" {row.link}") else row.link
        link = tag("a", label, class_="kind", href=f"#{place('schema', row.link)}")
        kind = link if label == row.kind else join([kind, link])
    limits = [tag("span", limit, class_="limit") for limit in row.limits]
    values = [tag("code", value, class_="value") for value in row.values[:12]]
    if len(row.values) > 12:
        values.append(tag("span", f"and {len(row.values) - 12} more", class_="muted"))
    name = row.name or "the payload"
    marks = [
        tag("span", "required", class_="required") if row.required else None,
        tag("span", "deprecated", class_="limit") if row.deprecated else None,
    ]
    return tag(
        "tr",
        tag(
            "th",
            tag("code", name) if row.name else tag("em", name),
            *marks,
            scope="row",
            class_=f"level-{min(row.level, 6)}",
        ),
        tag("td", kind, *limits),
        tag(
            "td",
            line(row.description),
            tag("div", join(values, " "), class_="values") if values else None,
        ),
    )


def pretty(value: Any) -> str:
    compact = json.dumps(value, ensure_ascii=False)
    return compact if len(compact) <= 48 else json.dumps(value, ensure_ascii=False, indent=2)


def coloured(source: str) -> Markup:
    pieces: list[Markup] = []
    at = 0
    for found in _TOKEN.finditer(source):
        pieces.append(text(source[at : found.start()]))
        if found[1] is not None:
            pieces.append(tag("i", found[1], class_="k" if found[2] else "s"))
            pieces.append(text(found[2] or ""))
        else:
            pieces.append(tag("i", found[0], class_="w" if found[3] else "n"))
        at = found.end()
    pieces.append(text(source[at:]))
    return join(pieces)


def braced(template: str) -> list[Markup]:
    parts = PARAMETER.split(template)
    return [
        tag("em", f"{{{part}}}") if index % 2 else text(part)
        for index, part in enumerate(parts)
        if part
    ]


def dot(message: Message, channel: Channel) -> Markup:
    inbound = message in channel.inbound
    both = inbound and message in channel.outbound
    return tag(
        "span",
        class_=f"dot {'both' if both else 'receive' if inbound else 'send'}",
        aria_hidden="true",
    )


def other(action: str) -> str:
    return "send" if action == "receive" else "receive"


def place(*parts: str) -> str:
    return "--".join(_ID.sub("-", part) for part in parts)


def items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def inside(node: Any, *keys: str) -> Any:
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def mark() -> Markup:
    return tag(
        "svg",
        tag("path", d="M4 22V12c0-3.3 2.2-5.5 5-5.5s5 2.2 5 5.5v8"),
        tag("path", d="M14 20v-8c0-3.3 2.2-5.5 5-5.5s5 2.2 5 5.5v6.5a4 4 0 0 0 4 4"),
        tag("circle", cx="4", cy="24", r="2.4"),
        class_="mark",
        viewBox="0 0 32 32",
        aria_hidden="true",
        focusable="false",
    )
