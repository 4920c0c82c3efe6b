"""Each check says what is wrong and which command repairs it."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

import pytest

from moda.errors import ConfigurationError
from moda.serve import preflight
from moda.serve.preflight import (
    FEWEST_CLIENTS,
    RESERVED_DESCRIPTORS,
    check_console,
    check_database,
    check_descriptors,
    check_heartbeat,
    check_port,
    check_tls,
    raise_descriptor_limit,
)
from moda.serve.tls import TlsOptions, server_context

TLS = Path(__file__).with_name("tls")


def test_enough_descriptors_are_fine():
    assert check_descriptors(1000, 1000 + RESERVED_DESCRIPTORS).level == "ok"


def test_too_few_descriptors_come_with_the_command_and_the_cap_that_fit():
    finding = check_descriptors(10_000, 1024)
    assert finding.level == "warning"
    assert "connections beyond 768 are refused" in finding.message
    assert "ulimit -n 10256" in finding.fix
    assert "WS_MAX_CONNECTIONS=768" in finding.fix


@pytest.mark.parametrize("limit", [64, 256, RESERVED_DESCRIPTORS + FEWEST_CLIENTS - 1])
def test_a_limit_that_leaves_hardly_a_client_is_fatal_and_no_setting_is_offered_for_it(limit):
    finding = check_descriptors(10_000, limit)
    assert finding.level == "fatal"
    assert f"{limit} open files allowed" in finding.message
    assert "LimitNOFILE=10256" in finding.fix
    assert "WS_MAX_CONNECTIONS" not in finding.fix


def test_few_clients_on_purpose_are_no_fault():
    assert check_descriptors(3, RESERVED_DESCRIPTORS + 3).level == "ok"
    assert check_descriptors(3, RESERVED_DESCRIPTORS + 2).level == "fatal"
    assert check_descriptors(10_000, RESERVED_DESCRIPTORS + FEWEST_CLIENTS).level == "warning"


def test_an_idle_timeout_that_closes_stock_clients_is_pointed_out():
    assert check_heartbeat(30_000, 60).level == "ok"
    assert check_heartbeat(10_000, 31).level == "ok"
    finding = check_heartbeat(10_000, 20)
    assert finding.level == "warning"
    assert "every 30 s" in finding.message
    assert "MODA_IDLE_TIMEOUT=60" in finding.fix
    assert check_heartbeat(60_000, 60).level == "warning"


def test_the_soft_limit_is_raised_as_far_as_the_hard_one_lets(monkeypatch):
    calls = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: calls.append(limits))
    assert raise_descriptor_limit(2000) == 2000
    assert raise_descriptor_limit(9000) == 4096
    assert raise_descriptor_limit(500) == 1024
    assert calls == [(2000, 4096), (4096, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert raise_descriptor_limit(7) == 7


def test_a_free_port_is_fine():
    assert check_port("127.0.0.1", 0).level == "ok"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert check_port("127.0.0.1", port).level == "ok"


def test_a_port_in_use_names_its_holder_and_both_ways_out():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        finding = check_port("127.0.0.1", port)
    assert finding.level == "fatal"
    assert f"port {port} is in use by" in finding.message
    assert f"(pid {os.getpid()})" in finding.message
    assert finding.fix == f"kill {os.getpid()}, or PORT={port + 1} moda serve"


def test_a_holder_that_may_not_be_known_is_left_out(monkeypatch):
    monkeypatch.setattr(preflight, "listener_of", lambda port: None)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        finding = check_port("127.0.0.1", port)
    assert finding.message == f"port {port} is in use"
    assert finding.fix == f"PORT={port + 1} moda serve"


def test_an_address_that_is_not_of_this_machine_is_fatal():
    assert check_port("no.such.host.invalid", 4001).level == "fatal"
    assert check_port("192.0.2.1", 4001).level == "fatal"


def test_a_console_that_is_not_built_comes_with_the_build_command(tmp_path):
    assert check_console(tmp_path).fix == "cd web && npm ci && npm run build"
    (tmp_path / "index.html").touch()
    assert check_console(tmp_path).level == "ok"


@pytest.mark.parametrize("exists", [False, True])
def test_a_database_file_that_can_be_written_is_fine(tmp_path, exists):
    if exists:
        (tmp_path / "moda.db").touch()
    assert check_database(f"sqlite:///{tmp_path}/moda.db").level == "ok"
    assert check_database(f"sqlite:///{tmp_path}/not/yet/there/moda.db").level == "ok"


def test_a_database_that_cannot_be_written_keeps_nobody_from_serving(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    finding = check_database(f"sqlite:///{tmp_path}/moda.db")
    assert (finding.level, str(tmp_path) in finding.message) == ("warning", True)
    assert finding.message.startswith("DATABASE_URL: ")
    assert finding.fix.startswith("chown ")


def test_a_database_file_in_a_read_only_folder_is_pointed_out(tmp_path, monkeypatch):
    (tmp_path / "moda.db").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name == "moda.db")
    assert (
        "SQLite keeps its log beside the file"
        in check_database(f"sqlite:///{tmp_path}/moda.db").message
    )


def test_a_folder_is_no_database(tmp_path):
    assert "is a folder" in check_database(f"sqlite:///{tmp_path}").message


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_said_to_be_lost(url):
    assert check_database(url).level == "warning"


def test_a_database_of_another_kind_is_not_looked_at():
    assert check_database("postgresql://u:p@host/db") == preflight.Finding(
        "database", "ok", "postgresql: reached when it is first needed"
    )


def test_a_relative_and_an_absolute_database_path_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_database("sqlite:///data/moda.db").message == "data/moda.db can be written"
    assert check_database(f"sqlite:////{str(tmp_path).lstrip('/')}/x.db").message.startswith(
        str(tmp_path)
    )


def test_tls_is_checked_by_loading_it():
    assert check_tls(None).level == "ok"
    assert check_tls(TlsOptions(TLS / "localhost.pem", TLS / "localhost.key")).level == "ok"
    assert check_tls(TlsOptions(TLS / "localhost.pem", TLS / "other.key")).level == "fatal"


@pytest.mark.parametrize("beside", [False, True])
def test_a_missing_private_key_is_named_with_the_variable_that_takes_it(tmp_path, beside):
    certificate = tmp_path / "only.pem"
    text = (TLS / "localhost.pem").read_text()
    end = "-----END CERTIFICATE-----"
    certificate.write_text(text[text.index("-----BEGIN CERT") : text.index(end) + len(end)] + "\n")
    key = tmp_path / "empty.key" if beside else None
    if key is not None:
        key.write_text("")
    with pytest.raises(ConfigurationError) as caught:
        server_context(TlsOptions(certificate, key))
    assert "holds no private key in PEM" in str(caught.value)
    assert "MODA_TLS_KEY" in str(caught.value)


@pytest.mark.parametrize(
    "table", ["", "head\n\n", "head\nx\n", "head\n a b\n 0: zz:0FA1 x 0A\n", "head\n\xff"]
)
def test_an_odd_table_of_sockets_names_nobody_and_fails_nothing(table, tmp_path, monkeypatch):
    (tmp_path / "proc" / "net").mkdir(parents=True)
    for name in ("tcp", "tcp6"):
        (tmp_path / "proc" / "net" / name).write_text(table, encoding="latin-1")
    monkeypatch.setattr(preflight, "Path", lambda path: Path(f"{tmp_path}{path}"))
    assert preflight.listener_of(4001) is None
