"""``house`` is the application of these tests (``app.py``), ``running`` the gateway that serves it."""

from __future__ import annotations

import pytest

from gateway import Running

from .app import House, build


@pytest.fixture
def house() -> House:
    return build()


@pytest.fixture
async def running(serve, house: House) -> Running:
    return await serve(house.gateway)
