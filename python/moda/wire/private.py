"""Keeps what a client sent out of what is written about a crash.

An exception quotes what it was raised over: ``invalid literal for int(): '4111 1111 ...'``, a
validator's whole input. A crash is logged with that text, and a log is read by more people than a
payload is meant for. So the texts of the message in hand are taken out of the traceback, and of a
validator's exception, which may quote a part of one, nothing is kept but its class.

The message is found where the traceback begins: in the frame of this package that called the
application. Work that a channel runs beside its messages has none in hand.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, Final

import orjson

__all__ = ["HIDDEN", "told"]

HIDDEN: Final = "[payload]"

SHORTEST: Final = 4
"""Characters of a text that is taken out; shorter ones are parts of any word."""

MAX_TEXTS: Final = 1000
"""Texts of a message that are looked for. Of a larger one no exception's text is kept."""

MAX_PAYLOAD: Final = 64 * 1024
MAX_TRACEBACK: Final = 64 * 1024

_HOLDING: Final = ("payload", "value", "request")
"""Variables of this package that hold what a client sent."""

_VALIDATORS: Final = frozenset(
    (
        *("attrs", "cattrs", "cerberus", "jsonschema", "jsonschema_rs", "marshmallow", "msgspec"),
        *("orjson", "pydantic", "pydantic_core", "schema", "simdjson", "voluptuous", "yaml"),
    )
)
"""Packages whose exceptions quote their input, whole or in part."""


def told(error: BaseException) -> tuple[str, str] | None:
    """The traceback and the last lines of an exception without what the client sent.

    None when there is nothing to take out, and the exception may be logged as it is.
    """
    whole = "".join(traceback.format_exception(error))
    last = "".join(traceback.format_exception_only(error)).strip()
    texts = _texts(error)
    clean, short = whole, last
    for one in _chain(error):
        quoting = texts is None or type(one).__module__.partition(".")[0] in _VALIDATORS
        for text in (str(one), *getattr(one, "__notes__", ())):
            # In a group every line of a text is indented; else it stands as it is.
            for part in (text, *text.splitlines()):
                hidden = HIDDEN if quoting else _without(part, texts or ())
                if part.strip() and hidden != part:
                    for before in (": ", "\n", "| "):
                        clean = clean.replace(before + part, before + hidden)
                        short = short.replace(before + part, before + hidden)
    if (clean, short) == (whole, last):
        return None
    return clean[-MAX_TRACEBACK:], short


def _without(text: str, texts: Iterable[str]) -> str:
    for one in texts:
        text = text.replace(one, HIDDEN)
    return text


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, what it came from, and what it is made of."""
    stack: list[BaseException | None] = [error]
    seen: set[int] = set()
    while stack:
        one = stack.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        stack += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            stack += one.exceptions


def _texts(error: BaseException) -> list[str] | None:
    """What the message in hand says, in the ways an exception may quote it; None for too much."""
    texts: list[str] = []
    for value in _held(error):
        if isinstance(value, bytes):
            if len(value) > MAX_PAYLOAD:
                return None
            texts += _quotes(value.decode("utf-8", "replace"))
            try:
                value = orjson.loads(value)
            except ValueError:
                texts.append(repr(value)[2:-1])
                continue
        stack = [value]
        while stack:
            node = stack.pop()
            if len(texts) > MAX_TEXTS:
                return None
            if isinstance(node, str):
                texts += _quotes(node)
            elif isinstance(node, int | float) and not isinstance(node, bool):
                texts.append(repr(node))
            elif isinstance(node, dict):
                texts.append(repr(node))
                stack += [*node.keys(), *node.values()]
            elif isinstance(node, list):
                texts.append(repr(node))
                stack += node
    return sorted({text for text in texts if len(text) >= SHORTEST}, key=len, reverse=True)


def _quotes(text: str) -> list[str]:
    return [text, *text.splitlines(), repr(text)[1:-1], json.dumps(text)[1:-1]]


def _held(error: BaseException) -> Iterator[Any]:
    for one in _chain(error):
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if frame.f_globals.get("__name__", "").startswith("moda.wire."):
                for value in _variables(frame, _HOLDING):
                    yield getattr(value, "payload", value)


def _variables(frame: FrameType, names: Iterable[str]) -> list[Any]:
    """What a function's variables of these names hold.

    Up to Python 3.12 a frame keeps what ``f_locals`` has shown: a copy of every variable, the
    exception being handled too. That has the frame in its traceback, and so one crash would keep its
    channel, socket and payload until a full collection, which the gateway lets run seldom. The copy is
    emptied; the variables themselves are not touched.
    """
    code = frame.f_code
    wanted = [name for name in names if name in code.co_varnames or name in code.co_cellvars]
    if not wanted:
        return []
    shown = frame.f_locals
    found = [shown[name] for name in wanted if name in shown]
    if (
        type(shown) is dict
    ):  # from 3.13 on (PEP 667) a view that keeps nothing and cannot be emptied
        shown.clear()
    return found
