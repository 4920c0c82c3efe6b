"""``talk(Room)`` is a channel of class ``Room`` that talks to nobody but its test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moda import Channel

from .support import Engine, Talk


@pytest.fixture
def talk() -> Callable[..., Talk]:
    def make(kind: type[Channel], **options: object) -> Talk:
        return Talk(kind(), Engine(), **options)

    return make
