"""One gateway for all end-to-end tests of a run: they only listen to it, so they can share it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .server import HERE, Running, gateway


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The gateway as it comes: built-in channels, simulated prices."""
    with gateway(tmp_path_factory.mktemp("gateway")) as it:
        yield it


@pytest.fixture(scope="session")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The gateway of ``rooms.py``, started as a user starts theirs."""
    with gateway(tmp_path_factory.mktemp("rooms"), "rooms:gateway") as it:
        yield it


@pytest.fixture(scope="session")
def obedient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The gateway of ``obedient.py``: rooms that do what a client tells them."""
    with gateway(tmp_path_factory.mktemp("obedient"), "obedient:gateway") as it:
        yield it


@pytest.fixture(scope="session")
def present(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The gateway of ``present.py``: rooms that say who is in them."""
    with gateway(tmp_path_factory.mktemp("present"), "present:gateway") as it:
        yield it


@pytest.fixture(scope="session")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The gateway of ``streams.py``: topics that are read as event streams."""
    with gateway(tmp_path_factory.mktemp("streams"), "streams:gateway") as it:
        yield it


@pytest.fixture(scope="session")
def node() -> Path:
    """The Node executable; fails, naming what to install, when it or the packages are missing."""
    found = shutil.which("node")
    assert found is not None, "node is not installed: install Node 20 or newer"
    missing = [
        name for name in ("eventsource", "phoenix", "ws", "playwright-core") if not _has(name)
    ]
    assert not missing, f"npm packages {missing} are missing: run `npm ci --prefix tests/e2e`"
    return Path(found)


def _has(package: str) -> bool:
    return (HERE / "node_modules" / package / "package.json").is_file()
