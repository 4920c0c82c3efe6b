"""HTML without a template language: text is escaped because there is no way to forget it.

A :class:`Markup` is HTML already; any other value becomes text. Attributes are always quoted and
always escaped. That is the whole of it, and the reason a title from somebody's document cannot
become an element of the page.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})


class Markup(str):
    """A string that is HTML already."""

    __slots__ = ()


def text(value: str) -> Markup:
    """A string as text.

    >>> text("<b>")
    '&lt;b&gt;'
    """
    return Markup(escape(value))


def join(parts: Iterable[str | int | Markup | None], between: str = "") -> Markup:
    """Several pieces as one; None is nothing."""
    return Markup(escape(between).join(_piece(part) for part in parts if part is not None))


def tag(
    name: str, /, *children: str | int | Markup | None, **attributes: str | bool | None
) -> Markup:
    """An element. ``class_`` is ``class``, ``data_x`` is ``data-x``; None and False are left out.

    >>> tag("a", "R&D", href='?a="b"', class_="link")
    '<a href="?a=&quot;b&quot;" class="link">R&amp;D</a>'
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}"
        + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def _piece(part: str | int | Markup) -> str:
    return part if isinstance(part, Markup) else escape(str(part))
