"""No line that is logged about a request repeats what its client sent in the head."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.wire.sent import MOST, SHORTEST, hide_sent, parameters, remember, remembered


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
    if value.split() != [value]:
        return
    with remembered([], b"x=" + quote(value).encode()):
        assert hide_sent(f"1 {value} 2", "*") == "1 * 2"
        assert value not in hide_sent(f"ValueError: {value!r}", "*")


def test_words_of_the_protocol_and_a_request_id_stay():
    text = "websocket.py: no keep-alive for trace-7-abc, 2.0.0"
    with remembered([(b"upgrade", b"websocket"), (b"x-request-id", b"trace-7-abc")], b"vsn=2.0.0"):
        assert hide_sent(text, "*") == text


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
