"""TLS: the door behind a certificate, and certificates that cannot be used.

The pair in ``tests/serve/tls`` is self-signed, for localhost, and secret to nobody.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from moda.errors import ConfigurationError
from moda.serve.door import DoorOptions
from moda.serve.tls import TlsOptions, server_context

from .conftest import frame, get, request, until

HERE = Path(__file__).with_name("tls")
PAIR = TlsOptions(HERE / "localhost.pem", HERE / "localhost.key")


@pytest.fixture
def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=PAIR.certificate)


async def test_an_upgrade_over_tls_is_known_to_be_secure_and_frames_flow(house, connect, trusting):
    home = await house(tls=PAIR)
    client = await connect(home.port, ssl=trusting, server_hostname="localhost")
    big = b"x" * 300_000
    await client.send(request("/socket/websocket?vsn=2.0.0") + frame(b"early"))
    assert (await client.response()).status == 101
    assert home.hall.asked[0].secure is True
    assert home.hall.asked[0].on_loopback is True
    assert home.hall.open[0].transport.get_extra_info("sslcontext") is not None
    await client.send(frame(big, 2))
    assert [await client.frame(), await client.frame()] == [(1, b"early"), (2, big)]
    assert home.server.url.startswith("https://localhost:")


async def test_plain_requests_over_tls_are_answered(house, connect, trusting):
    home = await house(tls=PAIR)
    client = await connect(home.port, ssl=trusting, server_hostname="localhost")
    await client.send(get("/health"))
    assert (await client.response()).status == 200
    assert (await client.upgrade()).status == 101


async def test_a_client_without_tls_gets_nowhere_and_disturbs_nobody(house, connect, trusting):
    home = await house(tls=PAIR)
    plain = await connect(home.port)
    await plain.send(get("/health"))
    assert b"HTTP/1.1 200" not in await plain.ended()
    client = await connect(home.port, ssl=trusting, server_hostname="localhost")
    assert (await client.upgrade()).status == 101


@pytest.mark.parametrize(
    ("certificate", "key", "text"),
    [
        ("missing.pem", "localhost.key", "the TLS certificate .*missing.pem is not a file"),
        ("localhost.pem", "missing.key", "the TLS key .*missing.key is not a file"),
        ("localhost.pem", "other.key", "cannot be used"),
        ("localhost.pem", None, "without MODA_TLS_KEY beside it. holds no private key"),
        ("localhost.pem", "encrypted.key", "the key is encrypted"),
        ("localhost.key", "localhost.key", "cannot be used"),
    ],
)
def test_a_pair_that_cannot_be_used_is_named(certificate, key, text):
    with pytest.raises(ConfigurationError, match=text):
        server_context(TlsOptions(HERE / certificate, HERE / key if key else None))


def test_old_protocols_are_not_spoken():
    assert server_context(PAIR).minimum_version == ssl.TLSVersion.TLSv1_2


async def test_connections_that_never_shake_hands_are_counted_and_let_go(house, connect, trusting):
    door = DoorOptions(max_sockets=3, handshake_timeout=0.3, shed_after=60)
    home = await house(tls=PAIR, door=door)
    silent = [await connect(home.port) for _ in range(3)]
    await until(lambda: home.server.door.sockets() == 3)
    turned_away = await connect(home.port)
    await turned_away.ended()
    assert home.refusals == ["sockets"]
    for one in silent:
        await one.ended()
    await until(lambda: home.server.door.sockets() == 0)
    assert home.refusals == ["sockets", "tls", "tls", "tls"]
    client = await connect(home.port, ssl=trusting, server_hostname="localhost")
    assert (await client.upgrade()).status == 101
