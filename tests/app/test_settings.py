"""Settings: one table, read from environment and file, every mistake at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from moda.app.assemble import _servers
from moda.app.settings import Settings, load_settings, unknown_variables
from moda.app.settings_table import GROUPS, SPECS, help_text, markdown
from moda.errors import ConfigurationError

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


def problems(environ: dict[str, str], config: Path | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ, config)
    return str(caught.value).splitlines()


def test_without_anything_set_the_defaults_hold():
    settings = load_settings({})
    assert (settings.host, settings.port, settings.max_connections) == ("127.0.0.1", 4001, 10_000)
    assert settings.max_message == 1 << 20
    assert settings.market.source == "simulated"
    assert settings.telemetry().interval_ms == 2000


def test_the_names_of_the_contracts_are_read():
    settings = load_settings(
        {
            "PORT": "5000",
            "HOST": "0.0.0.0",
            "PHX_HOST": "moda.example",
            "DATABASE_URL": "postgresql://u:p@db/x",
            "DATABASE_POOL_SIZE": "5",
            "REDIS_URL": "redis://r",
            "NATS_URL": "nats://n",
            "INTERNAL_API_KEYS": "a, b",
            "PUBLIC_API_KEYS": "c",
            "ADMIN_API_KEYS": "d",
            "RATE_LIMIT_INTERNAL": "1",
            "RATE_LIMIT_PUBLIC_FREE": "2",
            "RATE_LIMIT_PUBLIC_PAID": "3",
            "LOG_LEVEL": "DEBUG",
            "METRICS_ENABLED": "false",
            "WS_HEARTBEAT_INTERVAL": "15000",
            "WS_MAX_CONNECTIONS": "7",
        }
    )
    assert (settings.port, settings.host, settings.public_host) == (5000, "0.0.0.0", "moda.example")
    assert (settings.internal_api_keys, settings.admin_api_keys) == (("a", "b"), ("d",))
    assert (settings.log_level, settings.metrics_enabled) == ("debug", False)
    assert (settings.heartbeat_interval, settings.max_connections) == (15_000, 7)


def test_an_empty_value_is_no_value():
    assert load_settings({"PORT": "", "PHX_HOST": "  "}).port == 4001


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("MODA_MAX_MESSAGE", "64k", "max_message", 65_536),
        ("MODA_MAX_MESSAGE", "2 MiB", "max_message", 2 << 20),
        ("MODA_IDLE_TIMEOUT", "7.5", "idle_timeout", 7.5),
        ("MODA_CONSOLE", "off", "console", False),
        ("MODA_LOG_FORMAT", "JSON", "log_format", "json"),
        (
            "MODA_ORIGINS",
            "same, https://*.example.com",
            "origins",
            ("same", "https://*.example.com"),
        ),
        ("MODA_TLS_CERT", "~/x.pem", "tls_certificate", Path("~/x.pem").expanduser()),
        ("MODA_TELEMETRY_INTERVAL_MS", "250", "telemetry_interval_ms", 250),
        ("LOG_LEVEL", "Warn", "log_level", "warning"),
        ("LOG_LEVEL", "WARNING", "log_level", "warning"),
        ("LOG_LEVEL", "fatal", "log_level", "critical"),
        ("MODA_PUBLIC_URL", "https://Moda.example.com/", "public_url", "https://moda.example.com"),
        ("MODA_PUBLIC_URL", "http://[::1]:8080", "public_url", "http://[::1]:8080"),
    ],
)
def test_a_value_becomes_what_it_means(name, value, field, expected):
    assert getattr(load_settings({name: value}), field) == expected


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("PORT", "65536", "a whole number from 0 to 65535"),
        ("PORT", "4001.0", "a whole number from 0 to 65535"),
        ("MODA_IDLE_TIMEOUT", "nan", "seconds from 1 to 86400"),
        ("MODA_IDLE_TIMEOUT", "0", "seconds from 1 to 86400"),
        ("MODA_MAX_HEAD", "1X", "bytes from 1k to 1M, as 65536, 64k or 1M"),
        ("LOG_LEVEL", "loud", "debug, info, warning, error or critical"),
        ("METRICS_ENABLED", "maybe", "on or off (also 1/0, true/false, yes/no)"),
        ("MODA_ORIGINS", "example.com", "same, any, or origins, comma separated, such as "
         "https://*.example.com"),
        ("MODA_TRUSTED_PROXIES", "nginx", "addresses or networks, comma separated, such as "
         "10.0.0.0/8"),
        ("PHX_HOST", "http://x", "a host name"),
        ("REDIS_URL", "http://x", None),
        ("NATS_URL", "nats://x:port", None),
        ("MODA_PRICES_STALE_AFTER", "soon", "a number from 0.1 to 3600"),
        ("MODA_PRICES_MAX_MESSAGE", "1", "bytes from 1k to 16M, as 65536, 64k or 1M"),
        ("MODA_PUBLIC_URL", "moda.example.com", None),
        ("MODA_PUBLIC_URL", "https://moda.example.com/live", None),
        ("MODA_PUBLIC_URL", "https://user@moda.example.com", None),
        ("MODA_PUBLIC_URL", "https://moda.example.com:port", None),
    ],
)  # fmt: skip
def test_a_wrong_value_is_answered_with_variable_value_and_what_it_takes(name, value, takes):
    (line,) = problems({name: value})
    assert line.startswith(f"{name}: got ")
    if takes is not None:
        assert line == f"{name}: got {value!r}, takes {takes}"


def test_every_mistake_is_reported_at_once():
    lines = problems(
        {
            "PORT": "x",
            "LOG_LEVEL": "y",
            "MODA_PRICES": "z",
            "MODA_PRICES_SYMBOLS": "BTC!",
            "MODA_JWT_ISSUER": "x",
            "MODA_TLS_KEY": "k.pem",
            "MODA_DRAIN_WINDOW": "60",
        }
    )
    assert [line.partition(":")[0] for line in lines] == [
        "PORT",
        "LOG_LEVEL",
        "MODA_PRICES",
        "MODA_PRICES_SYMBOLS",
        "MODA_TLS_KEY",
        "MODA_DRAIN_WINDOW",
        "MODA_JWT_ISSUER",
    ]


@pytest.mark.parametrize(
    "spec", [spec for spec in SPECS if spec.secret], ids=lambda spec: spec.name
)
def test_a_secret_shows_neither_in_an_error_nor_in_a_printed_settings(spec):
    urls = {
        "DATABASE_URL": "postgresql://u:hunter2@h/d",
        "REDIS_URL": "redis://:hunter2@h",
        "NATS_URL": "nats://hunter2@h",
        "MODA_JWT_SECRET": "hunter2" * 5,
    }
    settings = load_settings({spec.name: urls.get(spec.name, "hunter2")})
    assert "hunter2" in repr(getattr(settings, spec.field))
    assert "hunter2" not in repr(settings)
    (line,) = problems({spec.name: "hunter2://,,"})
    assert line.startswith(f"{spec.name}: got (a value that is not shown), takes ")


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_settings({}).port = 1


# -- the file


def test_the_environment_outranks_the_file_and_the_file_the_defaults(tmp_path):
    file = tmp_path / "moda.toml"
    file.write_text(
        'PORT = 5000\nMODA_CONSOLE = false\nMODA_ORIGINS = ["same", "https://a.example"]\n'
        'MODA_IDLE_TIMEOUT = 12.5\nMODA_PRICES_SYMBOLS = ["btcusdt"]\nHOST = "::1"\n'
    )
    settings = load_settings({"PORT": "6000"}, file)
    assert (settings.port, settings.host, settings.console) == (6000, "::1", False)
    assert settings.origins == ("same", "https://a.example")
    assert (settings.idle_timeout, settings.market.symbols) == (12.5, ("btcusdt",))
    assert load_settings({"MODA_CONFIG": str(file)}).port == 5000


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path):
    (line,) = problems({}, tmp_path / "none.toml")
    assert line.startswith("MODA_CONFIG: got ")
    assert "cannot be read (No such file or directory)" in line
    broken = tmp_path / "broken.toml"
    broken.write_text("PORT = \n")
    (line,) = problems({"MODA_CONFIG": str(broken)})
    assert "which is no TOML" in line


def test_a_name_the_file_should_not_have_gets_the_nearest_that_it_may(tmp_path):
    file = tmp_path / "moda.toml"
    file.write_text('PROT = 1\nport = 5\nzzz = 1\nPORT = "x"\n[MODA_CONSOLE]\na = 1\n')
    lines = problems({}, file)
    assert any("PROT is no setting; did you mean PORT?" in line for line in lines)
    assert any("port is no setting; did you mean PORT?" in line for line in lines)
    assert any("zzz is no setting; `moda serve --help` lists all" in line for line in lines)
    assert any(line.startswith("MODA_CONSOLE: got dict in ") for line in lines)
    assert any(line.startswith("PORT: got 'x'") for line in lines)


def test_a_misspelt_variable_is_pointed_out():
    sentences = unknown_variables({"MODA_MAX_MESAGE": "1", "MODA_CONFIG": "x", "PATH": "y"})
    assert sentences == ["MODA_MAX_MESAGE is no setting; did you mean MODA_MAX_MESSAGE?"]


# -- what the parts are told


def test_the_server_is_told_what_was_set():
    settings = load_settings(
        {
            "MODA_TLS_CERT": "c.pem",
            "MODA_TRUSTED_PROXIES": "10.0.0.0/8",
            "MODA_DRAIN_DEADLINE": "9",
            "WS_MAX_CONNECTIONS": "5",
        }
    )
    options = settings.server_options()
    assert options.tls is not None
    assert (options.tls.certificate, options.tls.key) == (Path("c.pem"), None)
    assert len(options.door.trusted.networks) == 1
    assert (options.drain.deadline, options.door.max_connections) == (9.0, 5)


def test_pages_of_the_public_name_pass_the_origin_check():
    rule = load_settings({"PHX_HOST": "moda.example"}).handshake_options().origins
    assert rule.admits("https://moda.example", "10.0.0.1:4001")


def test_pages_of_the_public_url_pass_the_origin_check():
    rule = load_settings({"MODA_PUBLIC_URL": "https://moda.example"}).handshake_options().origins
    assert rule.admits("https://moda.example", "10.0.0.1:4001")
    assert not rule.admits("https://other.example", "10.0.0.1:4001")


def test_the_document_names_the_public_url():
    (server,) = _servers(load_settings({"MODA_PUBLIC_URL": "https://moda.example", "HOST": "::"}))
    said = server.described()
    assert (said["protocol"], reached(said)) == ("wss", "moda.example:443")
    (server,) = _servers(load_settings({"MODA_PUBLIC_URL": "http://moda.example:8080"}))
    said = server.described()
    assert (said["protocol"], reached(said)) == ("ws", "moda.example:8080")


def test_the_document_advises_the_heartbeat_that_is_set():
    (server,) = _servers(
        load_settings({"WS_HEARTBEAT_INTERVAL": "15000", "MODA_IDLE_TIMEOUT": "45"})
    )
    said = server.described()
    assert said["x-heartbeat-interval-ms"] == 15_000
    assert said["description"] == (
        "Send a heartbeat every 15 s. 45 s without a byte close the connection with 1002."
    )


def test_tokens_become_a_rule():
    rule = load_settings({"MODA_SOCKET_AUTH": "required", "MODA_SOCKET_TOKENS": "a,b"}).token_rule()
    assert (rule.admits("b"), rule.admits("c"), rule.admits(None)) == (True, False, False)


# -- one table


def test_every_field_of_the_settings_is_in_the_table_once():
    fields = {field.name for field in dataclasses.fields(Settings)} - {"market"}
    named = [spec.field for spec in SPECS if spec.field]
    assert sorted(named) == sorted(fields)
    assert len({spec.name for spec in SPECS}) == len(SPECS)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"MODA_PING_INTERVAL": "60"}, "MODA_PING_INTERVAL: got 60, takes less than .*60"),
        ({"MODA_OUTBOX": "512M"}, "MODA_OUTBOX_TOTAL: got 268435456, takes at least .*536870912"),
        ({"MODA_STALL_TIMEOUT": "0"}, "MODA_STALL_TIMEOUT: got '0'"),
    ],
)
def test_bounds_of_readers_and_pings_that_do_not_fit_together_are_named(given, wrong):
    with pytest.raises(ConfigurationError, match=wrong):
        load_settings(given)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_documented_default_may_be_written_out_and_changes_nothing(spec):
    assert load_settings({spec.name: spec.shown_default}) == load_settings({})


@pytest.mark.parametrize(
    ("text", "size"), [("64k", 65_536), ("1M", 1 << 20), ("16777216", 1 << 24)]
)
def test_the_size_of_an_upstream_message_is_written_as_every_size(text, size):
    assert load_settings({"MODA_PRICES_MAX_MESSAGE": text}).market.max_message == size


def test_the_help_names_every_setting_and_marks_what_is_not_set():
    text = help_text()
    for spec in SPECS:
        shown = f"{spec.name}={spec.shown_default}" if spec.shown_default else spec.name
        assert f"    {shown}\n" in text or f"    {shown} (not set)\n" in text
    assert "=none" not in text


def test_the_documentation_is_the_table():
    written = DOCS.read_text(encoding="utf-8")
    begin, end = "<!-- settings: begin -->\n", "<!-- settings: end -->"
    assert begin in written
    table = written.partition(begin)[2].partition(end)[0]
    assert table.strip() == markdown().strip(), (
        "docs/configuration.md is not what the table says; run python -m moda.app.settings_table"
    )
    assert len(GROUPS) == table.count("### ")


def reached(server: dict[str, Any]) -> str:
    """Host and port of a Server Object, by the defaults of its variables."""
    defaults = {name: said["default"] for name, said in server["variables"].items()}
    return str(server["host"].format(**defaults))
