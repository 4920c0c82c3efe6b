"""A setting that lets in more than its words say is said so, with what closes the door."""

from __future__ import annotations

import pytest

from moda.app.cli import findings_of, main
from moda.app.settings import load_settings
from moda.serve.exposure import check_names, check_origins, check_proxies, check_tokens
from moda.serve.proxies import TrustedProxies
from moda.wire.origin import OriginRule


@pytest.mark.parametrize(
    "networks",
    [
        ["0.0.0.0/0"],
        ["::/0"],
        ["0.0.0.0/1", "128.0.0.0/1"],
        ["10.0.0.0/8", "32.0.0.0/3"],
        ["::ffff:0:0/96"],
        ["2000::/3"],
        ["0::/1", "8000::/1"],
    ],
)
def test_trusting_networks_that_hold_strangers_is_said_with_what_it_means(networks):
    finding = check_proxies(TrustedProxies.parse(networks))
    assert (finding.name, finding.level) == ("proxies", "warning")
    assert "X-Forwarded-For" in finding.message
    assert finding.fix.startswith("MODA_TRUSTED_PROXIES takes the addresses")


@pytest.mark.parametrize(
    "networks",
    [
        [],
        ["127.0.0.1"],
        ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"],
        ["104.16.0.0/13", "172.64.0.0/13", "2a06:98c0::/29"],
    ],
)
def test_trusting_ones_own_proxies_or_a_providers_is_fine(networks):
    assert check_proxies(TrustedProxies.parse(networks)).level == "ok"


@pytest.mark.parametrize("auth", ["off", "optional"])
@pytest.mark.parametrize("loopback", [True, False])
@pytest.mark.parametrize("origins", ["any", "https://*.com", "same, //*.io"])
def test_pages_of_anybody_without_a_token_are_said(origins, loopback, auth):
    finding = check_origins(OriginRule.parse(origins), auth, loopback)
    assert (finding.name, finding.level) == ("origins", "warning")
    assert "MODA_ORIGINS" in finding.fix
    assert check_origins(OriginRule.parse(origins), "required", loopback).level == "ok"


@pytest.mark.parametrize("origins", ["same", "https://app.example.com", "https://*.example.com"])
def test_pages_that_are_named_are_fine(origins):
    assert check_origins(OriginRule.parse(origins), "off", loopback=False).level == "ok"


NOBODY = TrustedProxies()
PROXY = TrustedProxies.parse(["127.0.0.1"])


@pytest.mark.parametrize(
    ("origins", "loopback", "hosts", "trusted", "says"),
    [
        ("same", False, [], NOBODY, "DNS rebinding"),
        ("same, https://a.example", False, [], NOBODY, "DNS rebinding"),
        ("same", True, [], PROXY, "no setting says under which name"),
        ("same", False, ["moda.example"], PROXY, ""),
        ("same", True, [], NOBODY, ""),
        ("https://a.example", False, [], PROXY, ""),
        ("any", False, [], PROXY, ""),
    ],
)
def test_same_without_a_public_name_is_said_where_it_has_to_believe_or_refuse(
    origins, loopback, hosts, trusted, says
):
    rule = OriginRule.parse(origins).with_hosts(hosts)
    finding = check_names(rule, loopback, hosts, trusted)
    assert finding.level == ("warning" if says else "ok")
    assert says in finding.message


@pytest.mark.parametrize(
    ("auth", "tokens", "says"),
    [
        ("off", ["x" * 32], "nobody is asked for one"),
        ("required", ["x" * 32, "hunter2"], "1 of 2 MODA_SOCKET_TOKENS"),
        ("optional", ["x" * 32], ""),
        ("off", [], ""),
    ],
)
def test_tokens_that_keep_nobody_out_are_said_and_not_repeated(auth, tokens, says):
    finding = check_tokens(auth, tokens)
    assert finding.level == ("warning" if says else "ok")
    assert says in finding.message
    assert "hunter2" not in finding.message + finding.fix


def test_the_check_and_the_start_look_at_all_of_them(monkeypatch, capsys):
    environ = {
        "HOST": "0.0.0.0",
        "PORT": "0",
        "MODA_ORIGINS": "any",
        "MODA_TRUSTED_PROXIES": "0.0.0.0/0",
        "MODA_SOCKET_TOKENS": "hunter2",
    }
    warned = {one.name for one in findings_of(load_settings(environ)) if one.level == "warning"}
    assert warned >= {"proxies", "origins", "tokens"}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    main(["check"])
    printed = capsys.readouterr().out
    assert "warn  proxies: MODA_TRUSTED_PROXIES trusts 0.0.0.0/0" in printed
    assert "hunter2" not in printed


def test_a_gateway_as_it_comes_has_nothing_to_warn_of():
    names = {"proxies", "origins", "names", "tokens"}
    found = [one for one in findings_of(load_settings({"PORT": "0"})) if one.name in names]
    assert [one.level for one in found] == ["ok"] * 4
