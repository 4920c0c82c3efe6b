"""What a setting's text may be, and what it then is: one small parser per kind of value.

Each kind says in words what it takes; the error a wrong value gets, the help and the documentation
all quote those words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

__all__ = [
    "Kind",
    "choice",
    "file_path",
    "flag",
    "integer",
    "listing",
    "number",
    "origin",
    "size",
    "text",
    "url",
]


@dataclass(frozen=True, slots=True)
class Kind:
    """``takes`` in words, after "takes"; ``read`` returns the value or raises ValueError."""

    takes: str
    read: Callable[[str], Any]


def integer(low: int, high: int, unit: str = "") -> Kind:
    """A whole number within bounds, both included."""

    def read(raw: str) -> int:
        value = int(raw)
        if not low <= value <= high:
            raise ValueError(raw)
        return value

    return Kind(f"a whole number{' of ' + unit if unit else ''} from {low} to {high}", read)


def number(low: float, high: float, unit: str = "seconds") -> Kind:
    """A finite number within bounds, both included."""

    def read(raw: str) -> float:
        value = float(raw)
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(raw)
        return value

    return Kind(f"{unit} from {low:g} to {high:g}", read)


_SIZE = re.compile(r"([0-9]+)\s*(|k|kb|kib|m|mb|mib|g|gb|gib)", re.IGNORECASE)
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30}


def size(low: int, high: int) -> Kind:
    """Bytes, also as ``64k`` or ``1M`` (powers of 1024)."""

    def read(raw: str) -> int:
        match = _SIZE.fullmatch(raw)
        if match is None:
            raise ValueError(raw)
        value = int(match[1]) << _SHIFT[match[2][:1].lower()]
        if not low <= value <= high:
            raise ValueError(raw)
        return value

    return Kind(f"bytes from {shown_size(low)} to {shown_size(high)}, as 65536, 64k or 1M", read)


def shown_size(value: int) -> str:
    """``1048576`` -> ``1M``, where it divides."""
    for suffix, shift in (("G", 30), ("M", 20), ("k", 10)):
        if value >= 1 << shift and value % (1 << shift) == 0:
            return f"{value >> shift}{suffix}"
    return str(value)


_FLAGS = {"1": True, "true": True, "yes": True, "on": True}
_FLAGS |= {"0": False, "false": False, "no": False, "off": False}


def flag() -> Kind:
    """A switch."""

    def read(raw: str) -> bool:
        try:
            return _FLAGS[raw.lower()]
        except KeyError:
            raise ValueError(raw) from None

    return Kind("on or off (also 1/0, true/false, yes/no)", read)


def choice(*words: str, also: Mapping[str, str] = MappingProxyType({})) -> Kind:
    """One of some words, in any case. ``also`` are other spellings and the words they mean."""

    def read(raw: str) -> str:
        word = also.get(raw.lower(), raw.lower())
        if word not in words:
            raise ValueError(raw)
        return word

    return Kind(", ".join(words[:-1]) + f" or {words[-1]}", read)


def text(pattern: str, takes: str) -> Kind:
    """Text of a form."""
    expression = re.compile(pattern)

    def read(raw: str) -> str:
        if expression.fullmatch(raw) is None:
            raise ValueError(raw)
        return raw

    return Kind(takes, read)


def listing(takes: str, check: Callable[[str], Any] = str) -> Kind:
    """A comma separated list without empty entries. ``check`` raises ValueError for an entry it does not take."""

    def read(raw: str) -> tuple[str, ...]:
        entries = tuple(part.strip() for part in raw.split(","))
        for entry in entries:
            if not entry:
                raise ValueError(raw)
            check(entry)
        return entries

    return Kind(takes, read)


def file_path() -> Kind:
    """A path. Whether the file is there is asked by whoever opens it, and by ``moda check``."""
    return Kind("a path", lambda raw: Path(raw).expanduser())


def url(*schemes: str, hint: str) -> Kind:
    """A URL with one of some schemes."""

    def read(raw: str) -> str:
        parts = urlsplit(raw)
        _ = parts.port  # ValueError if it is none
        if parts.scheme not in schemes:
            raise ValueError(raw)
        return raw

    return Kind(f"a URL such as {hint}", read)


def origin(*, hint: str) -> Kind:
    """Scheme, host and port of a site, ``http`` or ``https``, without a path."""

    def read(raw: str) -> str:
        parts = urlsplit(raw)
        _ = parts.port
        rest = parts.path.rstrip("/") or parts.query or parts.fragment or "@" in parts.netloc
        if parts.scheme not in ("http", "https") or not parts.hostname or rest:
            raise ValueError(raw)
        return f"{parts.scheme}://{parts.netloc.lower()}"

    return Kind(f"http:// or https:// with a host and an optional port, such as {hint}", read)
