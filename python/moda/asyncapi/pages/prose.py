"""Descriptions as HTML: the part of CommonMark that descriptions use.

Paragraphs, lists, fenced code, headings (shown as bold lines, the page has its own), `code`,
**bold**, *emphasis* and links to http, https and places of the page. Anything else stays the text
it is. The input is escaped piece by piece, so nothing in a description is ever HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from moda.asyncapi.pages.markup import Markup, join, tag, text

_ITEM = re.compile(r"\s{0,3}(?:[-*+]|(\d{1,3})[.)])\s+(.*)")
_HEADING = re.compile(r"#{1,6}\s+(.*?)\s*#*\Z")
_INLINE = re.compile(
    r"(?P<code>`+)(?P<verbatim>.+?)(?P=code)"
    r"|\*\*(?P<bold>[^*\n]+)\*\*"
    r"|(?<![\w*])\*(?P<soft>[^*\s](?:[^*\n]*[^*\s])?)\*(?![\w*])"
    r"|\[(?P<label>[^\]\n]{1,200})\]\((?P<target>[^)\s]{1,500})\)"
    r"|(?P<url>https?://[^\s<>()\"']{3,500}[^\s<>()\"'.,;:!?])",
    re.DOTALL,
)
_SAFE = re.compile(r"(?:https?://|#)")


def block(source: str | None) -> Markup | None:
    """A description as paragraphs, lists and code blocks; None for an empty one."""
    if not isinstance(source, str) or not source.strip():
        return None
    return join(_blocks(source.replace("\r\n", "\n").strip("\n").split("\n")))


def line(source: str | None) -> Markup | None:
    """A description as one run of text, for a table cell: its line breaks are spaces."""
    if not isinstance(source, str) or not source.strip():
        return None
    return _inline(" ".join(source.split()))


def _blocks(lines: list[str]) -> Iterator[Markup]:
    at = 0
    while at < len(lines):
        current = lines[at]
        if not current.strip():
            at += 1
        elif current.lstrip().startswith("```"):
            end = next(
                (i for i in range(at + 1, len(lines)) if lines[i].lstrip().startswith("```")),
                len(lines),
            )
            yield tag("pre", tag("code", "\n".join(lines[at + 1 : end])), class_="code")
            at = end + 1
        elif heading := _HEADING.match(current):
            yield tag("p", tag("strong", _inline(heading[1])))
            at += 1
        elif first := _ITEM.match(current):
            items: list[str] = []
            while at < len(lines) and lines[at].strip():
                item = _ITEM.match(lines[at])
                if item:
                    items.append(item[2])
                else:
                    items[-1] += f" {lines[at].strip()}"
                at += 1
            yield tag("ol" if first[1] else "ul", *(tag("li", _inline(item)) for item in items))
        else:
            end = at
            while end < len(lines) and lines[end].strip() and not _starts(lines[end]):
                end += 1
            end = max(end, at + 1)
            yield tag("p", _inline("\n".join(part.strip() for part in lines[at:end])))
            at = end


def _starts(current: str) -> bool:
    """Whether a line begins another block than a paragraph."""
    return bool(
        current.lstrip().startswith("```") or _HEADING.match(current) or _ITEM.match(current)
    )


def _inline(source: str) -> Markup:
    pieces: list[Markup] = []
    at = 0
    for found in _INLINE.finditer(source):
        pieces.append(text(source[at : found.start()]))
        pieces.append(_marked(found))
        at = found.end()
    pieces.append(text(source[at:]))
    return join(pieces)


def _marked(found: re.Match[str]) -> Markup:
    if (verbatim := found["verbatim"]) is not None:
        return tag("code", verbatim.replace("\n", " ").strip())
    if (bold := found["bold"]) is not None:
        return tag("strong", bold)
    if (soft := found["soft"]) is not None:
        return tag("em", soft)
    target, label = (
        (found["target"], found["label"]) if found["label"] is not None else (found["url"],) * 2
    )
    if not _SAFE.match(target):
        return text(found[0])
    return tag("a", label, href=target, rel="noreferrer noopener")
