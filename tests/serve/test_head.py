"""Heads: read strictly, decided last, answered once."""

from __future__ import annotations

import contextlib
import hashlib
from base64 import b64encode
from urllib.parse import unquote_to_bytes

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.errors import ConfigurationError
from moda.serve.head import HeadError, parse_head, split_target, switching, upgrade_fault
from moda.serve.proxies import TrustedProxies

from .conftest import KEY, request


def test_a_head_is_read_whole():
    head = parse_head(b"GET /a%20b?x=%41 HTTP/1.1\r\nHost: h\r\nX-A:  1 \r\nx-a: 2\r\n\r\n")
    assert (head.method, head.target, head.version) == ("GET", b"/a%20b?x=%41", "1.1")
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
        b"GET / HTTP/1.1\r\nhost: a\n\r\n",
        b"GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\nmore",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 257 + b"\r\n",
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


class Llhttp:
    """The parser of every other request on the port, as an oracle."""

    def __init__(self, raw: bytes) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.whole = False
        parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(httptools.HttpParserUpgrade):
            parser.feed_data(raw)
        assert self.whole
        self.method = parser.get_method().decode()
        self.version = parser.get_http_version()

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.whole = True


names = st.text("abcXYZ-09_!", min_size=1, max_size=12).map(str.encode)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(str.encode)
targets = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30).map(
    lambda text: b"/" + text.encode()
)


@given(
    st.sampled_from([b"GET", b"POST", b"PUT", b"OPTIONS"]),
    targets,
    st.sampled_from([b"1.0", b"1.1"]),
    st.lists(st.tuples(names, values), max_size=20),
)
def test_both_parsers_of_the_port_read_the_same_head(method, target, version, headers):
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    raw = method + b" " + target + b" HTTP/" + version + b"\r\n" + lines + b"\r\n"
    head, other = parse_head(raw), Llhttp(raw)
    assert (head.method, head.target, head.version) == (other.method, other.target, other.version)
    assert head.headers == other.headers


@given(st.binary(max_size=60), st.integers(0, 200))
def test_what_llhttp_refuses_is_never_read_as_an_upgrade(noise, at):
    whole = request()
    raw = whole[:at] + noise + whole[at:]
    try:
        head = parse_head(raw)
        split_target(head.target)
    except HeadError:
        return
    if head.key is not None:
        Llhttp(raw)


@given(targets)
def test_a_target_is_split_where_llhttp_splits_it(target):
    parsed = httptools.parse_url(target)
    path = unquote_to_bytes(parsed.path or b"/").decode("utf-8", "replace")
    assert split_target(target) == (path, parsed.query or b"")


@pytest.mark.parametrize("connection", ["Upgrade", "upgrade", "keep-alive, Upgrade"])
def test_an_ordinary_upgrade_needs_no_second_look(connection):
    head = parse_head(request(connection=connection))
    assert head.key == KEY.encode()
    assert upgrade_fault(head.headers, head.version) is None


spelled = st.sampled_from(
    [
        (b"Connection", b"Upgrade"),
        (b"connection", b"keep-alive"),
        (b"Connection", b"close , UPGRADE"),
        (b"Upgrade", b"WebSocket"),
        (b"Upgrade", b"h2c, websocket"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Version", b"8"),
        (b"Sec-WebSocket-Key", KEY.encode()),
        (b"sec-websocket-key", KEY.encode()[:-2] + b"=="),
        (b"Sec-WebSocket-Key", b"c2hvcnQ="),
        (b"Content-Length", b"0"),
        (b"Content-Length", b"5"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Host", b"h"),
    ]
)


@given(st.lists(spelled, max_size=9), st.sampled_from([b"1.0", b"1.1"]))
def test_a_head_with_a_key_has_no_fault(headers, version):
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    head = parse_head(b"GET / HTTP/" + version + b"\r\n" + lines + b"\r\n")
    if head.key is not None:
        assert upgrade_fault(head.headers, head.version) is None
        assert [value for name, value in head.headers if name == b"sec-websocket-key"] == [head.key]


def test_the_answer_carries_what_the_mount_adds_and_the_proof_of_the_key():
    answer = switching(KEY.encode(), [("Sec-WebSocket-Protocol", "phoenix")])
    start, *lines = answer.decode().removesuffix("\r\n\r\n").split("\r\n")
    proof = hashlib.sha1(KEY.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    assert start == "HTTP/1.1 101 Switching Protocols"
    assert sorted(lines) == [
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {b64encode(proof).decode()}",
        "Sec-WebSocket-Protocol: phoenix",
        "Upgrade: websocket",
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
