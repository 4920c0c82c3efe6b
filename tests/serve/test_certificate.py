"""Certificates end, and are replaced without a dropped connection."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from moda.errors import ConfigurationError
from moda.serve import certificate as module
from moda.serve.certificate import DAY, CertificateKeeper, Validity, validity
from moda.serve.preflight import check_tls
from moda.serve.tls import TlsOptions

from .conftest import frame

HERE = Path(__file__).with_name("tls")


@pytest.fixture
def pair(tmp_path: Path) -> TlsOptions:
    """A pair of files as a renewal would overwrite them."""
    options = TlsOptions(tmp_path / "moda.pem", tmp_path / "moda.key")
    install("localhost", options)
    return options


def install(name: str, options: TlsOptions, *, key: bool = True) -> None:
    shutil.copy(HERE / f"{name}.pem", options.certificate)
    if key:
        assert options.key is not None
        shutil.copy(HERE / f"{name}.key", options.key)
    # Whatever the file system's clock says: the files differ from those before.
    stamp = options.certificate.stat().st_mtime_ns + 1_000_000_000
    os.utime(options.certificate, ns=(stamp, stamp))


def shown(port: int) -> str:
    """The certificate a new connection is shown, in PEM."""
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=30)


def trusting(name: str) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=HERE / f"{name}.pem")
    return {"ssl": context, "server_hostname": "localhost"}


def test_a_certificates_dates_are_read_as_openssl_reads_them():
    for name in ("localhost", "renewed"):
        span = validity(HERE / f"{name}.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(HERE / f"{name}.pem")
        (known,) = context.get_ca_certs()
        assert span.begins == ssl.cert_time_to_seconds(str(known["notBefore"]))
        assert span.ends == ssl.cert_time_to_seconds(str(known["notAfter"]))


def test_a_chain_ends_with_the_first_of_its_certificates(tmp_path):
    chain = tmp_path / "chain.pem"
    chain.write_text((HERE / "renewed.pem").read_text() + (HERE / "localhost.pem").read_text())
    ends = [validity(HERE / f"{name}.pem").ends for name in ("localhost", "renewed")]
    assert validity(chain).ends == min(ends)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n" + "MIP/////\n" * 10 + "-----END CERTIFICATE-----\n",
    ],
)
def test_what_is_no_certificate_is_a_configuration_error(tmp_path, text):
    path = tmp_path / "bad.pem"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"bad\.pem"):
        validity(path)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (1000 * DAY, "expired on 1972-09-27"),
        (1000 * DAY + 5, "expired on 1972-09-27"),
        (990 * DAY, "expires on 1972-09-27 00:00 UTC, in 10.0 days"),
        (99 * DAY, "not valid before 1970-04-11"),
        (500 * DAY, ""),
    ],
)
def test_an_end_that_is_near_or_past_is_a_problem(now, words):
    problem = Validity(100 * DAY, 1000 * DAY).problem(now)
    assert problem.startswith(words)
    assert bool(problem) == bool(words)


@pytest.mark.parametrize(("days", "words"), [(-1, "expires on"), (1, "expired on")])
def test_the_preflight_warns_of_the_end_and_lets_it_start(monkeypatch, pair, days, words):
    assert check_tls(pair).level == "ok"
    ends = validity(pair.certificate).ends
    monkeypatch.setattr("moda.serve.preflight.time.time", lambda: ends + days * DAY)
    finding = check_tls(pair)
    assert (finding.level, finding.name) == ("warning", "tls")
    assert words in finding.message
    assert "SIGHUP" in finding.fix


async def test_a_renewed_certificate_is_shown_to_new_clients_and_old_ones_stay(
    house, connect, pair
):
    home = await house(tls=pair)
    old = await connect(home.port, **trusting("localhost"))
    await old.upgrade()
    install("renewed", pair)
    await home.server.reload()
    new = await connect(home.port, **trusting("renewed"))
    await new.upgrade()
    for client in (old, new):
        await client.send(frame(b"still here"))
        assert await client.frame() == (1, b"still here")
    assert await asyncio.to_thread(shown, home.port) == (HERE / "renewed.pem").read_text()


async def test_a_client_whose_handshake_is_under_way_is_not_dropped(house, connect, pair):
    home = await house(tls=pair)
    silent = await connect(home.port)
    install("renewed", pair)
    await home.server.reload()
    assert not silent.reader.at_eof()
    await (await connect(home.port, **trusting("renewed"))).upgrade()


async def test_a_pair_that_does_not_fit_changes_nothing_and_is_looked_at_again(
    house, connect, pair
):
    home = await house(tls=pair)
    keeper = home.server._tls
    install("renewed", pair, key=False)
    keeper.look()
    await (await connect(home.port, **trusting("localhost"))).upgrade()
    install("renewed", pair)
    keeper.look()
    await (await connect(home.port, **trusting("renewed"))).upgrade()


def test_files_that_are_as_they_were_are_not_read_again(pair, monkeypatch):
    keeper = CertificateKeeper(pair)
    context = keeper.context
    keeper.look()
    assert keeper.context is context
    pair.certificate.unlink()
    keeper.look()
    assert keeper.context is context


def test_a_running_gateway_says_once_a_day_that_the_end_is_near(pair, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(
        module._log, "warning", lambda event, **fields: said.append(fields["problem"])
    )
    now = validity(pair.certificate).ends - 3 * DAY
    keeper = CertificateKeeper(pair, lambda: now)
    for _ in range(10):
        keeper.look()
    now += DAY
    keeper.look()
    assert [text[-11:] for text in said] == ["in 3.0 days", "in 2.0 days"]
    day = datetime.fromtimestamp(keeper.ends, UTC).strftime("%Y-%m-%d")
    assert day in said[0]
