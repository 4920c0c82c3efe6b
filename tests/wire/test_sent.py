"""No line that is logged about a request repeats what its client sent in the head."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.wire.sent import _USUAL, MOST, SHORTEST, hide_sent, parameters, remember, remembered


@pytest.mark.parametrize(
    "text",
    [
        "ValueError: invalid literal for int() with base 10: 'hunter2-x'",
        "KeyError: b'hunter2-x'",
        "cannot read {'id': 'hunter2-x', 'vsn': '2.0.0'}",
        "[(b'x-key', b'Digest hunter2-x; b=1')]",
        "a hunter2-x inside",
    ],
)
@pytest.mark.parametrize(
    "head",
    [
        ([(b"x-key", b"hunter2-x")], b""),
        ([(b"x-key", b"Digest hunter2-x; b=1")], b""),
        ([(b"cookie", b'a="hunter2-x"')], b""),
        ([], b"id=hunter2-x&vsn=2.0.0"),
        ([], b"user[id]=hunter2%2Dx"),
        ([], b"hunter2-x"),
    ],
)
def test_a_value_is_hidden_where_an_exception_quotes_it(head, text):
    with remembered(*head):
        assert "hunter2" not in hide_sent(text, "*")
    assert hide_sent(text, "*") == text


@given(st.text(min_size=SHORTEST).filter(lambda text: not set(text) & set(" ;,=&\"'()<>[]{}+%")))
def test_any_value_of_a_query_is_hidden_as_it_is_and_as_python_quotes_it(value):
    if value.split() != [value] or value.lower() in _USUAL:
        return
    with remembered([], b"x=" + quote(value).encode()):
        assert hide_sent(f"1 {value} 2", "*") == "1 * 2"
        assert value not in hide_sent(f"ValueError: {value!r}", "*")
        assert hide_sent(json.dumps({"got": value}), "*") == '{"got": "*"}'


def test_words_of_the_protocol_and_a_request_id_stay():
    text = "websocket.py: no keep-alive for trace-7-abc, 2.0.0"
    with remembered([(b"upgrade", b"websocket"), (b"x-request-id", b"trace-7-abc")], b"vsn=2.0.0"):
        assert hide_sent(text, "*") == text


@pytest.mark.parametrize("text", ["Keep-Alive", "WebSocket", "LOCALHOST"])
def test_words_of_the_protocol_stay_in_any_case(text):
    with remembered([(b"connection", text.encode())], b"x=" + text.encode()):
        assert hide_sent(f"no {text} here", "*") == f"no {text} here"


@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
@pytest.mark.parametrize(
    "clear", ["hunter2-x", "l\xb6\xc5\xdaE\x17\x85", "\u00fcber-\U0001f511??>>"]
)
def test_a_token_is_hidden_as_the_application_is_given_it(encode, clear):
    token = encode(clear.encode()).rstrip(b"=")
    for header in (b"base64url.bearer.phx." + token, b"phoenix, base64url.bearer.phx." + token):
        with remembered([(b"sec-websocket-protocol", header)], b""):
            for quoted in (clear, repr(clear)[1:-1], json.dumps(clear)[1:-1]):
                assert hide_sent(f"cannot read {quoted} here", "*") == "cannot read * here"


@pytest.mark.parametrize("scheme", [b"Basic ", b"basic  "])
def test_a_name_and_its_password_are_hidden_as_they_are_decoded(scheme):
    sent = scheme + b64encode(b"somebody:hunter2-x:y")
    with remembered([(b"authorization", sent)], b""):
        shown = hide_sent("('somebody', 'hunter2-x:y') somebody:hunter2-x:y", "*")
        assert shown == "('*', '*') *"


def test_every_value_of_a_large_head_is_hidden_and_the_text_of_a_larger_one_withheld():
    def shown(count: int, size: int = 6) -> str:
        many = "&".join(f"value-{number:0{size}}" for number in range(count)).encode()
        with remembered([], many):
            return hide_sent("value-000900 and hunter2", "*")

    assert shown(MOST - 1) == "* and hunter2"
    for text in (shown(MOST + 1), shown(500, size=100)):
        assert "value" not in text
        assert "too many headers or parameters" in text


def test_parameters_of_a_query_are_hidden_at_any_depth():
    tree = {"token": "secret-1", "user": {"secret-2": ["secret-3", {"x": "secret-4"}]}}
    with remembered(parameters(tree), b""):
        assert hide_sent(f"KeyError: {tree!r}", "*").count("secret") == 0


async def test_a_head_is_that_of_its_own_task():
    async def one(value: bytes) -> str:
        remember([(b"x", value)], b"")
        await asyncio.sleep(0)
        return hide_sent("secret-1 secret-2", "*")

    assert await asyncio.gather(one(b"secret-1"), one(b"secret-2")) == ["* secret-2", "secret-1 *"]
    assert hide_sent("secret-1", "*") == "secret-1"
