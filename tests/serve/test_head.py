"""Heads: read strictly, decided last, rewritten for picows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.errors import ConfigurationError
from moda.serve.head import HeadError, normalised_head, parse_head, split_target, upgrade_fault
from moda.serve.proxies import TrustedProxies

from .conftest import KEY, request


def test_a_head_is_read_whole():
    head = parse_head(b"GET /a%20b?x=%41 HTTP/1.1\r\nHost: h\r\nX-A:  1 \r\nx-a: 2\r\n\r\n")
    assert (head.method, head.path, head.query, head.version) == ("GET", "/a b", b"x=%41", "1.1")
    assert head.headers == [(b"host", b"h"), (b"x-a", b"1"), (b"x-a", b"2")]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"GET / HTTP/1.1\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nx\x00y: a\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"hello\r\n\r\n",
    ],
)
def test_what_is_no_head_is_refused(raw):
    with pytest.raises(HeadError):
        parse_head(raw)


def test_a_target_may_be_a_path_or_a_url():
    assert split_target(b"/a/b?c=d") == ("/a/b", b"c=d")
    assert split_target(b"http://host:1/a%2Fb?c") == ("/a/b", b"c")
    with pytest.raises(HeadError):
        split_target(b"*no url*")


def test_the_normalised_head_of_a_firefox_is_one_that_has_no_fault():
    head = parse_head(request(connection="keep-alive, Upgrade"))
    assert upgrade_fault(head.headers, head.version) is None
    normalised = parse_head(normalised_head(head.headers))
    assert normalised.headers == [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", KEY.encode()),
    ]


def test_a_fault_repeats_at_most_a_little_of_what_the_client_wrote():
    fault = upgrade_fault([(b"connection", b"y" * 5000)], "1.1")
    assert fault is not None
    assert len(fault) < 200


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [b"connection", b"upgrade", b"sec-websocket-key", b"sec-websocket-version"]
            ),
            st.binary(max_size=30),
        )
    )
)
def test_no_headers_make_the_last_check_raise(headers):
    fault = upgrade_fault(headers, "1.1")
    assert fault is None or fault.isprintable()


# -- proxies

LAN = TrustedProxies.parse(["10.0.0.0/8", "::1"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.1.2.3", [b"203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", [b"6.6.6.6, 203.0.113.9, 10.0.0.9"], "203.0.113.9"),
        ("10.1.2.3", [b"6.6.6.6", b"203.0.113.9"], "203.0.113.9"),
        ("::1", [b"2001:db8::7"], "2001:db8::7"),
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", [b"10.0.0.1"], "10.1.2.3"),
        ("192.0.2.1", [b"203.0.113.9"], "192.0.2.1"),
        ("somewhere", [b"203.0.113.9"], "somewhere"),
    ],
)
def test_the_nearest_address_that_is_no_trusted_proxy_is_the_client(peer, forwarded, client):
    headers = [(b"x-forwarded-for", value) for value in forwarded]
    seen, _ = LAN.seen_through((peer, 1), False, headers)
    assert seen is not None
    assert seen[0] == client


@pytest.mark.parametrize(("proto", "secure"), [(b"https", True), (b"wss", True), (b"http", False)])
def test_the_scheme_of_a_trusted_proxy_is_believed(proto, secure):
    assert (
        LAN.seen_through(("10.0.0.1", 1), not secure, [(b"x-forwarded-proto", proto)])[1] is secure
    )


def test_a_proxy_that_is_no_address_is_named():
    with pytest.raises(ConfigurationError, match="got 'nginx'"):
        TrustedProxies.parse(["nginx"])
