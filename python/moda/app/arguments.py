"""What kind of number an application handed over: checks of the gateway's keyword arguments.

Python takes True for a whole number and NaN for a number; an application that passes one has made a
mistake, and hears of it when it declares something, not when a client comes.
"""

from __future__ import annotations

import math
from typing import Any, Final

__all__ = ["MOST", "is_number", "is_whole"]

MOST: Final = (1 << 31) - 1
"""The largest count, size or time that is taken."""


def is_whole(value: Any, least: int, most: int) -> bool:
    """Whether it is an int (and no bool) within both bounds."""
    return type(value) is int and least <= value <= most


def is_number(value: Any) -> bool:
    """Whether it is a finite int or float (and no bool)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
