"""``moda key``: keys made, listed and revoked beside a gateway that runs."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from gateway import Running
from moda import Gateway
from moda.access import ring
from moda.access.keys import KINDS, SCOPES, new_key
from moda.app.assemble import assemble
from moda.app.settings import load_settings
from moda.serve.server import Server
from phoenix import Phoenix

DOCUMENT = b"""
asyncapi: 3.0.0
info: {title: Guarded, version: 1.0.0}
channels:
  feed: {address: 'feed', x-moda: {access: 'key:ingest', publish: servers}}
"""

Moda = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def moda(tmp_path: Path) -> Moda:
    """``moda("key", ...)`` in a process of its own, on the test's database."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "moda", *words],
            env={**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/data/moda.db"},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """A gateway that wants a credential of everybody. It asks the database each time."""
    monkeypatch.setattr(ring, "FRESH_SECONDS", 0.0)
    gateway = Gateway(asyncapi=DOCUMENT, builtins=False)
    environ = {
        "PORT": "0",
        "MODA_CONSOLE": "off",
        "MODA_SOCKET_AUTH": "required",
        "DATABASE_URL": f"sqlite:///{tmp_path}/data/moda.db",
    }
    server = Server(assemble(gateway, load_settings(environ)))
    await server.start()
    one = Running(gateway, server, False, [], [])
    yield one
    await one.stop()


async def refused(running: Running, key: str) -> int:
    with pytest.raises(InvalidStatus) as caught:
        await Phoenix.open(running.ws(token=key))
    return caught.value.response.status_code


async def test_a_key_made_beside_a_running_gateway_is_taken_and_a_revoked_one_is_not(
    running, connect, moda, tmp_path
):
    """No restart: nor is there a database before the first key."""
    assert await refused(running, new_key()) == 403
    assert not (tmp_path / "data").exists()
    made = await asyncio.to_thread(
        moda, "key", "add", "--scope", "ingest", "--scope", "read", "--name", "worker"
    )
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    client = await connect(running, params={"token": key})
    await client.join("feed")
    ended = await asyncio.to_thread(moda, "key", "revoke", key[5:15])
    assert ended.returncode == 0, ended.stderr
    assert await refused(running, key) == 403


async def test_the_list_shows_when_a_key_was_used_and_never_the_key(running, connect, moda):
    made = await asyncio.to_thread(moda, "key", "add", "--expires", "90d", "--name", "a worker")
    key = made.stdout.strip()
    await connect(running, params={"token": key})
    before = await asyncio.to_thread(moda, "key", "list")
    assert re.search(
        rf"{key[5:15]}\s+public\s+read\s+until \d{{4}}.*\snever\s+a worker", before.stdout
    )
    await running.server.stop()
    after = await asyncio.to_thread(moda, "key", "list")
    assert re.search(
        rf"{key[5:15]}\s.*until [0-9: -]+\s20\d\d-\d\d-\d\d [0-9:]+\s+a worker", after.stdout
    )
    assert key[16:] not in before.stdout + before.stderr + after.stdout + made.stderr


def test_no_keys_are_an_empty_list_and_make_no_file(moda, tmp_path):
    listed = moda("key", "list")
    assert listed.returncode == 0
    assert listed.stdout.split() == ["ID", "KIND", "SCOPES", "STATE", "LAST", "USED", "NAME"]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["add", "--expires", "soon"],
            "got 'soon' for --expires; accepted: such as 12h, 90d or 1y",
        ),
        (["add", "--scope", "Read!"], "got 'Read!' as a kind or a scope"),
        (["add", "--kind", "a b"], "got 'a b' as a kind or a scope"),
        (["add", "--subscribe", "a*b"], "before its end"),
        (["revoke", "nobody"], "there is no key 'nobody'"),
        (["revoke", "moda_short"], "cut short or mistyped"),
    ],
)
def test_what_it_cannot_do_it_says_and_makes_nothing(moda, tmp_path, words, says):
    done = moda("key", *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "data").exists()


def test_the_help_names_every_kind_and_scope(moda):
    shown = " ".join(moda("key", "add", "--help").stdout.split())
    for word in (*KINDS, *SCOPES):
        assert word in shown
