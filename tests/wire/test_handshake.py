"""Every row of the handshake table (wire notes 2.1), by name, and the order of the checks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.upgrade import Refused, Upgrade
from moda.wire.handshake import HandshakeOptions, Negotiated, negotiate
from moda.wire.origin import ANY_ORIGIN, OriginRule

TOKEN = "base64url.bearer.phx."


def ask(
    query: str | bytes = "vsn=2.0.0",
    *headers: tuple[str, str],
    method: str = "GET",
    options: HandshakeOptions | None = None,
    variables: dict[str, str] | None = None,
) -> Negotiated | Refused:
    head = [(b"host", b"localhost:4001")]
    head.extend((name.lower().encode(), value.encode("latin-1")) for name, value in headers)
    raw = query.encode() if isinstance(query, str) else query
    upgrade = Upgrade(method, "/socket/websocket", raw, head, variables=variables or {})
    return negotiate(upgrade, options or HandshakeOptions())


def let_in(*args: object, **kwargs: object) -> Negotiated:
    outcome = ask(*args, **kwargs)  # type: ignore[arg-type]
    assert isinstance(outcome, Negotiated), outcome
    return outcome


def refused(*args: object, **kwargs: object) -> tuple[int, bytes]:
    outcome = ask(*args, **kwargs)  # type: ignore[arg-type]
    assert isinstance(outcome, Refused), outcome
    return outcome.status, outcome.body


# -- version


def test_vsn_2_0_0_is_version_2():
    assert let_in("vsn=2.0.0").vsn == 2


@pytest.mark.parametrize("query", ["", "other=1", "&&"])
def test_no_vsn_is_version_1(query):
    assert let_in(query).vsn == 1


@pytest.mark.parametrize("vsn", ["2.0.1", "2.0.19", "2.0.0%2Bmeta", "2.0.1-rc.1"])
def test_any_patch_of_2_0_and_build_metadata_is_version_2(vsn):
    assert let_in(f"vsn={vsn}").vsn == 2


@pytest.mark.parametrize("vsn", ["1.0.0", "1.0.7", "1.0.0%2Bmeta"])
def test_any_patch_of_1_0_is_version_1(vsn):
    assert let_in(f"vsn={vsn}").vsn == 1


OTHER_VERSIONS = (
    "2.1.0 3.0.0 123.1.1 2 2.0 abc 2.0.0-rc.1 02.0.0 2.0.00 2.0.0.0 2.0.0%0A %2B2.0.0 2.0.0- "
    "2.0.1-01 1.1.0 1.0.0-rc.1 0.0.0 ٢.0.0"
)


@pytest.mark.parametrize("vsn", ["", *OTHER_VERSIONS.split(" ")])
def test_any_other_vsn_is_403_with_an_empty_body(vsn):
    assert refused(f"vsn={vsn}") == (403, b"")


@pytest.mark.parametrize("query", ["vsn[]=2.0.0", "vsn[a]=2.0.0"])
def test_a_vsn_that_is_no_string_is_403(query):
    assert refused(query) == (403, b"")


def test_of_two_vsn_the_last_wins():
    assert let_in("vsn=1.0.0&vsn=2.0.0").vsn == 2
    assert let_in("vsn=9.9.9&vsn=1.0.0").vsn == 1
    assert refused("vsn=2.0.0&vsn=9.9.9") == (403, b"")


# -- method and query


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "HEAD", "CONNECT", "get"])
def test_any_method_but_get_is_400_with_an_empty_body(method):
    assert refused(method=method) == (400, b"")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (b"vsn=2.0.0&a=%ff", b"the query is not UTF-8 after decoding (byte 0xff)"),
        (b"vsn=2.0.0&a=%zz", b"the query has a % that two hexadecimal digits do not follow"),
        (b"vsn=2.0.0&%4=1", b"the query has a % that two hexadecimal digits do not follow"),
    ],
)
def test_a_query_that_cannot_be_decoded_is_400_with_the_reason(query, text):
    assert refused(query) == (400, text)


def test_parameters_are_a_tree_with_the_variables_of_the_path_over_them():
    negotiated = let_in("user[name]=Ann+B&tenant=evil&vsn=2.0.0", variables={"tenant": "acme"})
    assert negotiated.params == {"user": {"name": "Ann B"}, "tenant": "acme", "vsn": "2.0.0"}


# -- origin


def test_a_client_without_an_origin_is_let_in():
    assert let_in().protocol is None


def test_a_page_of_the_same_host_is_let_in_whatever_its_port():
    assert let_in("", ("Origin", "http://localhost:5173")).vsn == 1


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "file://", "", "http://localhost.evil.example"]
)
def test_a_page_of_another_host_is_403_with_an_empty_body(origin):
    assert refused("vsn=2.0.0", ("Origin", origin)) == (403, b"")


def test_two_origins_are_judged_by_the_worse():
    assert refused(
        "vsn=2.0.0", ("Origin", "http://localhost"), ("Origin", "http://evil.example")
    ) == (403, b"")


def test_an_origin_is_not_looked_at_when_the_check_is_off():
    assert let_in("vsn=2.0.0", ("Origin", "null"), options=HandshakeOptions(ANY_ORIGIN)).vsn == 2


def test_a_listed_origin_is_let_in_and_the_same_host_is_not_unless_listed():
    options = HandshakeOptions(OriginRule.parse("https://*.example.com"))
    assert let_in("", ("Origin", "https://app.example.com"), options=options).vsn == 1
    assert refused("", ("Origin", "http://localhost:4001"), options=options) == (403, b"")


# -- subprotocols

CHAT = HandshakeOptions(auth_token=False, subprotocols=("v2.chat", "v1.chat"))
PLAIN = HandshakeOptions(auth_token=False)


def test_configured_subprotocols_and_no_header_connects_without_one():
    assert let_in(options=CHAT).protocol is None


def test_configured_subprotocols_and_none_of_them_offered_is_403():
    assert refused("vsn=2.0.0", ("Sec-WebSocket-Protocol", "other, more"), options=CHAT) == (
        403,
        b"",
    )


def test_the_first_match_in_the_order_of_the_server_is_echoed():
    offered = ("Sec-WebSocket-Protocol", "v1.chat,  v2.chat")
    assert let_in("vsn=2.0.0", offered, options=CHAT).protocol == "v2.chat"


def test_offers_may_be_spread_over_several_headers():
    first, second = ("Sec-WebSocket-Protocol", "other"), ("Sec-WebSocket-Protocol", "v1.chat")
    assert let_in("vsn=2.0.0", first, second, options=CHAT).protocol == "v1.chat"


def test_without_auth_token_and_list_the_header_is_not_looked_at():
    negotiated = let_in(
        "vsn=2.0.0", ("Sec-WebSocket-Protocol", f"phoenix, {TOKEN}YQ"), options=PLAIN
    )
    assert (negotiated.protocol, negotiated.token) == (None, None)


# -- auth token


def offer(text: str) -> tuple[str, str]:
    return ("Sec-WebSocket-Protocol", text)


def test_the_token_is_decoded_and_phoenix_alone_is_echoed():
    negotiated = let_in("vsn=2.0.0", offer(f"phoenix, {TOKEN}czNjcjN0"))
    assert (negotiated.token, negotiated.protocol) == ("s3cr3t", "phoenix")


def test_only_a_token_is_accepted_and_nothing_is_echoed():
    negotiated = let_in("vsn=2.0.0", offer(f"{TOKEN}czNjcjN0"))
    assert (negotiated.token, negotiated.protocol) == ("s3cr3t", None)


def test_no_header_at_all_is_accepted_without_a_token():
    negotiated = let_in()
    assert (negotiated.token, negotiated.protocol) == (None, None)


def test_a_foreign_subprotocol_alone_is_403():
    assert refused("vsn=2.0.0", offer("foo")) == (403, b"")


def test_of_two_tokens_neither_counts_and_phoenix_is_still_selected():
    negotiated = let_in("vsn=2.0.0", offer(f"phoenix, {TOKEN}YQ, {TOKEN}Yg"))
    assert (negotiated.token, negotiated.protocol) == (None, "phoenix")


@pytest.mark.parametrize("encoded", ["a", "Y!", "YQ==YQ", "é", "Y Q"])
def test_a_token_that_is_no_base64_is_400_with_the_reason(encoded):
    status, body = refused("vsn=2.0.0", offer(f"phoenix, {TOKEN}{encoded}"))
    assert status == 400
    assert b"'sec-websocket-protocol'" in body


@pytest.mark.parametrize("encoded", ["Pz8_Pj4-", "Pz8/Pj4+", "YQ", "YQ==", "6Q", "w6k", ""])
def test_both_alphabets_padding_and_both_character_sets_are_read(encoded):
    expected = {"P": "???>>>", "Y": "a", "6": "é", "w": "é", "": ""}[encoded[:1]]
    assert let_in("vsn=2.0.0", offer(f"phoenix, {TOKEN}{encoded}")).token == expected


def test_configured_subprotocols_come_after_phoenix_when_tokens_are_read():
    options = HandshakeOptions(subprotocols=("chat",))
    assert let_in("vsn=2.0.0", offer("chat, phoenix"), options=options).protocol == "phoenix"
    assert let_in("vsn=2.0.0", offer("chat"), options=options).protocol == "chat"


# -- order of the checks


def test_the_order_is_method_query_origin_token_subprotocol_version():
    bad = {
        "method": "POST",
        "query": b"vsn=9&a=%ff",
        "headers": [("Origin", "http://evil.example"), offer(f"foo, {TOKEN}!")],
    }
    seen = []
    outcome = ask(bad["query"], *bad["headers"], method="POST")
    seen.append(outcome.reason)
    outcome = ask(bad["query"], *bad["headers"])
    seen.append(outcome.reason)
    outcome = ask(b"vsn=9", *bad["headers"])
    seen.append(outcome.reason)
    outcome = ask(b"vsn=9", bad["headers"][1])
    seen.append(outcome.reason)
    outcome = ask(b"vsn=9", offer("foo"))
    seen.append(outcome.reason)
    outcome = ask(b"vsn=9")
    seen.append(outcome.reason)
    assert seen == ["method", "query", "origin", "auth_token", "subprotocol", "vsn"]


@given(
    st.binary(max_size=200),
    st.lists(
        st.tuples(
            st.sampled_from([b"origin", b"host", b"sec-websocket-protocol"]), st.binary(max_size=60)
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_no_head_makes_it_raise(query, headers, auth_token):
    options = HandshakeOptions(auth_token=auth_token, subprotocols=("a",))
    outcome = negotiate(Upgrade("GET", "/socket/websocket", query, headers), options)
    assert isinstance(outcome, Negotiated) or 400 <= outcome.status < 500


# -- what a refusal tells the log


SECRETS = st.text(
    alphabet="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-",
    min_size=9,
    max_size=64,
)
PLACES = {
    "vsn": lambda secret: (f"vsn={secret}",),
    "vsn nested": lambda secret: (f"vsn[{secret}]={secret}",),
    "a parameter": lambda secret: (f"vsn=9.0.0&token={secret}&{secret}=1",),
    "a subprotocol": lambda secret: ("vsn=2.0.0", ("sec-websocket-protocol", secret)),
    "one of several": lambda secret: (
        "vsn=2.0.0",
        ("sec-websocket-protocol", f"bearer, {secret}"),
        ("sec-websocket-protocol", secret),
    ),
    "an origin": lambda secret: ("vsn=2.0.0", ("origin", secret)),
    "an origin's host": lambda secret: ("vsn=2.0.0", ("origin", f"https://{secret}")),
    "an origin's user": lambda secret: ("vsn=2.0.0", ("origin", f"https://u:{secret}@example.com")),
    "a second origin": lambda secret: (
        "vsn=2.0.0",
        ("origin", "http://localhost"),
        ("origin", f"x://{secret}"),
    ),
    "another header": lambda secret: ("vsn=9.0.0", ("cookie", secret), ("authorization", secret)),
}


@pytest.mark.parametrize("place", PLACES)
@given(secret=SECRETS)
def test_a_refusal_repeats_no_secret_wherever_a_client_puts_one(place, secret):
    outcome = ask(*PLACES[place](secret))
    assert isinstance(outcome, Refused)
    assert outcome.hint
    told = " ".join(outcome.hint.values())
    assert secret not in told
    assert secret.lower() not in told


@given(secret=SECRETS)
def test_a_host_header_that_is_no_public_name_is_not_repeated_either(secret):
    head = [(b"host", secret.encode()), (b"origin", b"https://page.example")]
    outcome = negotiate(Upgrade("GET", "/socket/websocket", b"", head), HandshakeOptions())
    assert isinstance(outcome, Refused)
    assert secret.lower() not in outcome.hint["accepted"].lower()
    assert outcome.hint["got"] == "a page of page.example"
