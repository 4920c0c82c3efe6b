"""A page that binds its own name to this machine's loopback address gets in nowhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import gateway as gateways
from gateway import Running
from moda import Gateway
from moda.serve.face import Face
from moda.serve.rebinding import OwnNames, is_loopback
from raw import Raw
from raw import request as upgrade_request

from .conftest import get

LOOPBACK = ("127.0.0.1", 4001)
FOREIGN = ["evil.example", "evil.example:4001", "localhost.evil.example", "127.0.0.1.evil.example"]
OWN = ["localhost:4001", "127.0.0.1:4001", "[::1]:4001", "app.localhost", "upstream"]


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    started = await gateways.start(Gateway(builtins=False))
    yield started
    await started.stop()


@pytest.mark.parametrize("host", FOREIGN)
async def test_a_socket_is_not_opened_to_a_page_whose_name_was_bound_anew(running, host):
    client = await Raw.open(running.port)
    await client.send(upgrade_request(host=host, origin=f"http://{host}"))
    assert (await client.response())[0] == 403
    assert running.refusals == ["origin"]
    client.close()


async def test_nor_by_a_connection_that_has_served_a_plain_request_before(running):
    client = await Raw.open(running.port)
    await client.send(get("/health"))
    assert (await client.response())[0] == 200
    await client.send(upgrade_request(host="evil.example", origin="http://evil.example"))
    assert (await client.response())[0] == 403
    client.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
async def test_pages_of_this_machine_open_one(running, host):
    client = await Raw.open(running.port)
    await client.upgrade(host=f"{host}:{running.port}", origin=f"http://{host}:5173")
    client.close()


def face(console: Path, **options: object) -> Face:
    (console / "index.html").write_text("<!doctype html>")
    return Face("test", dict, console=console, **options)  # type: ignore[arg-type]


async def status(client: object, path: str, host: str) -> int:
    raw = get(path).replace(b"host: localhost", f"host: {host}".encode())
    await client.send(raw)  # type: ignore[attr-defined]
    return int((await client.response()).status)  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["/", "/index.html", "/api/v1/openapi.json", "/api/v1/docs"])
async def test_pages_of_modas_own_are_not_read_under_a_foreign_name(house, connect, tmp_path, path):
    home = await house(face=face(tmp_path, hosts=["moda.example"]))
    client = await connect(home.port)
    for host in FOREIGN:
        assert await status(client, path, host) == 421
    for host in [*OWN, "moda.example", "Moda.Example:443"]:
        assert await status(client, path, host) == 200


async def test_the_refusal_says_which_names_are_taken_and_not_which_came(house, connect, tmp_path):
    home = await house(face=face(tmp_path))
    client = await connect(home.port)
    await client.send(get("/").replace(b"host: localhost", b"host: evil.example"))
    answer = await client.response()
    assert b"MODA_PUBLIC_URL and PHX_HOST" in answer.body
    assert b"evil" not in answer.body


async def test_health_answers_under_any_name_and_a_mounted_application_decides_itself(
    house, connect, tmp_path
):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    home = await house(face=face(tmp_path, mounted=app))
    client = await connect(home.port)
    assert await status(client, "/health", "evil.example") == 200
    assert await status(client, "/theirs", "evil.example") == 204


def test_away_from_loopback_any_name_is_taken_for_plain_pages():
    names = OwnNames(["moda.example"])
    headers = [(b"accept", b"*/*"), (b"host", b"prometheus.lan:4001")]
    assert not names.is_foreign(("10.0.0.7", 4001), headers)
    assert names.is_foreign(LOOPBACK, headers)
    assert names.is_foreign(("::ffff:127.0.0.1", 4001), headers)
    assert not names.is_foreign(LOOPBACK, [(b"accept", b"*/*")])
    assert names.is_foreign(LOOPBACK, [(b"host", b"evil.example/x")])


@pytest.mark.parametrize("address", [None, (), "127.0.0.1", ("nonsense", 1), ("10.0.0.1", 1)])
def test_what_is_no_loopback_address_is_none(address):
    assert not is_loopback(address)
