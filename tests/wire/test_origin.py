"""Which origins the rules let in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.errors import ConfigurationError
from moda.wire.origin import (
    ANY_ORIGIN,
    SAME_HOST,
    AllowedOrigin,
    OriginRule,
    shown_host,
    shown_origin,
)


@pytest.mark.parametrize(
    ("origin", "host", "admitted"),
    [
        ("http://localhost:4001", "localhost:4001", True),
        ("https://localhost", "localhost:4001", True),
        ("http://LocalHost", "localhost", True),
        ("http://[::1]:4001", "[::1]:4001", True),
        ("http://127.0.0.1", "localhost", False),
        ("http://localhost", None, False),
        ("http://localhost", "", False),
        ("http://user@localhost", "localhost", False),
        ("http://localhost/", "localhost", False),
        ("http://localhost http://evil", "localhost", False),
        ("null", "localhost", False),
        ("file://", "localhost", False),
        ("", "localhost", False),
        ("localhost", "localhost", False),
        (None, "localhost", True),
        (None, None, True),
    ],
)
def test_same_host_compares_hosts_and_nothing_else(origin, host, admitted):
    assert SAME_HOST.admits(origin, host) is admitted


@pytest.mark.parametrize(
    ("entry", "origin", "admitted"),
    [
        ("https://example.com", "https://example.com", True),
        ("https://example.com", "https://EXAMPLE.com:443", True),
        ("https://example.com", "https://example.com:8443", False),
        ("https://example.com", "http://example.com", False),
        ("//example.com", "http://example.com:9999", True),
        ("//example.com:8080", "http://example.com:8080", True),
        ("//example.com:8080", "http://example.com", False),
        ("http://example.com:80", "http://example.com", True),
        ("//*.example.com", "https://a.b.example.com", True),
        ("//*.example.com", "https://example.com", True),
        ("//*.example.com", "https://notexample.com", False),
        ("//*.example.com", "https://example.com.evil.org", False),
        ("https://*.example.com:8443", "https://a.example.com:8443", True),
        ("chrome-extension://abcdef", "chrome-extension://abcdef", True),
        ("//[::1]:4001", "http://[::1]:4001", True),
    ],
)
def test_a_listed_origin_matches_by_its_parts(entry, origin, admitted):
    assert OriginRule.parse(entry).admits(origin, "elsewhere") is admitted


def test_any_lets_everybody_in_even_what_is_no_origin():
    assert OriginRule.parse("any") is ANY_ORIGIN
    assert ANY_ORIGIN.admits("null", None)


def test_same_may_stand_beside_others_in_a_list():
    rule = OriginRule.parse(["same", "https://app.example"])
    assert rule.admits("http://here:1", "here:2")
    assert rule.admits("https://app.example", "here")
    assert not rule.admits("https://other.example", "here")


def test_a_public_name_is_taken_for_the_same_host_where_a_proxy_rewrites_it():
    rule = SAME_HOST.with_hosts(["Moda.Example"])
    assert rule.admits("https://moda.example", "10.0.0.7:4001")
    assert not rule.admits("https://other.example", "10.0.0.7:4001")
    assert ANY_ORIGIN.with_hosts(["moda.example"]) is ANY_ORIGIN


# -- names that are bound anew


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127-0-0-1.evil.example",
        "evillocalhost",
        "0x7f.1",
        "intranet",
        "::1",
    ],
)
def test_on_loopback_a_name_that_can_be_rebound_is_not_the_same_host(host):
    assert not SAME_HOST.admits(f"http://{host}:4001", f"{host}:4001", loopback=True)
    assert "evil" not in SAME_HOST.accepted(f"{host}:4001", loopback=True)


@pytest.mark.parametrize(
    "host", ["localhost", "app.localhost", "127.0.0.1", "[::1]", "192.168.0.7"]
)
def test_on_loopback_what_no_name_server_answers_for_is_the_same_host(host):
    assert SAME_HOST.admits(f"http://{host}:5173", f"{host}:4001", loopback=True)


def test_a_configured_name_is_the_same_host_on_loopback_too():
    rule = SAME_HOST.with_hosts(["moda.example"])
    assert rule.admits("https://moda.example", "moda.example", loopback=True)
    assert rule.admits("https://moda.example", "upstream", loopback=True)
    assert not rule.admits("https://evil.example", "evil.example", loopback=True)


def test_where_a_name_is_configured_no_other_name_is_the_same_host_anywhere():
    rule = SAME_HOST.with_hosts(["moda.example"])
    assert not rule.admits("http://evil.example", "evil.example")
    assert rule.admits("http://10.0.0.7:4001", "10.0.0.7:4001")
    assert (
        rule.accepted("evil.example")
        == "pages of localhost and of IP addresses, pages of moda.example"
    )


def test_without_a_configured_name_the_host_header_is_believed_away_from_loopback():
    assert SAME_HOST.admits("http://moda.lan", "moda.lan:4001")


def test_a_name_with_other_letters_is_known_as_browsers_write_it():
    page = "https://xn--bcher-kva.example"
    assert SAME_HOST.with_hosts(["Bücher.example"]).admits(page, "upstream")
    assert OriginRule.parse("https://Bücher.example").admits(page, "upstream")
    assert OriginRule.parse("//*.Bücher.example").admits("https://a.xn--bcher-kva.example", "x")


def test_a_list_without_same_is_not_widened_by_a_configured_name():
    rule = OriginRule.parse("https://app.example").with_hosts(["moda.example"])
    assert not rule.admits("https://moda.example", "moda.example")


# -- what a log repeats


@pytest.mark.parametrize(
    ("origin", "shown"),
    [
        ("https://app.example.com:8443", "a page of app.example.com"),
        ("http://[::1]:4001", "a page of [::1]"),
        ("null", "null"),
        ("https://user:pw@app.example.com", "an Origin of 31 characters that is none"),
        ("https://app.example.com/?token=x", "an Origin of 32 characters that is none"),
        ("https://s3cr3t", "a page of a host name of 6 characters that is not shown"),
    ],
)
def test_of_an_origin_a_log_gets_the_host_at_most(origin, shown):
    assert shown_origin(origin) == shown


@pytest.mark.parametrize(
    "text",
    ["hunter2", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "a.b.c3", "A.Example.Com"],
)
def test_a_host_that_browsers_do_not_send_is_not_repeated(text):
    assert text not in shown_host(text)


@pytest.mark.parametrize(
    "entry", ["example.com", "https://", "//a/b", "//*", "*.example.com", "//a:99999"]
)
def test_an_entry_that_is_no_origin_is_named_in_the_error(entry):
    with pytest.raises(ConfigurationError) as caught:
        AllowedOrigin.parse(entry)
    assert repr(entry) in str(caught.value)


@pytest.mark.parametrize("entries", ["", " , ", []])
def test_an_empty_rule_is_an_error(entries):
    with pytest.raises(ConfigurationError, match="takes same, any, or a list of origins"):
        OriginRule.parse(entries)


def test_any_beside_others_is_an_error():
    with pytest.raises(ConfigurationError, match="'any' stands alone"):
        OriginRule.parse("any, https://a.example")


_HOSTS = st.from_regex(r"[a-z][a-z0-9.\-]{0,12}", fullmatch=True)


@given(_HOSTS, _HOSTS, st.sampled_from(["", ":80", ":4001"]), st.sampled_from(["", ":443"]))
def test_the_same_host_is_let_in_and_no_other(page, server, page_port, server_port):
    admitted = SAME_HOST.admits(f"https://{page}{page_port}", f"{server}{server_port}")
    assert admitted is (page == server)


@given(st.text(max_size=80), st.text(max_size=40))
def test_no_text_makes_the_check_raise(origin, host):
    assert SAME_HOST.admits(origin, host) in (True, False)
