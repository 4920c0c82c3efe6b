"""Query strings as trees."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.wire.query import MAX_DEPTH, QueryError, parse_query


@pytest.mark.parametrize(
    ("query", "tree"),
    [
        (b"", {}),
        (b"&&=&", {"": ""}),
        (b"a", {"a": ""}),
        (b"a=", {"a": ""}),
        (b"a=1=2", {"a": "1=2"}),
        (b"a=1&a=2", {"a": "2"}),
        (b"x=1&vsn=2.0.0&", {"x": "1", "vsn": "2.0.0"}),
        (b"b[c]=2", {"b": {"c": "2"}}),
        (b"b%5Bc%5D=2&b%5Bd%5D=3", {"b": {"c": "2", "d": "3"}}),
        (b"b[c][d][e]=2", {"b": {"c": {"d": {"e": "2"}}}}),
        (b"a[]=1&a[]=2", {"a": ["1", "2"]}),
        (b"a[b][]=1&a[b][]=2", {"a": {"b": ["1", "2"]}}),
        (b"a[0]=x&a[1]=y", {"a": {"0": "x", "1": "y"}}),
        (b"a[][b]=1&a[][b]=2", {"a": [{"b": "1"}, {"b": "2"}]}),
        (b"a=1&a[b]=2", {"a": {"b": "2"}}),
        (b"a[b]=2&a=1", {"a": "1"}),
        (b"a[]=2&a[b]=1", {"a": {"b": "1"}}),
        (b"a[b=1&c]=2", {"a[b": "1", "c]": "2"}),
        (b"%C3%BC=%E2%82%AC+%2B", {"ü": "€ +"}),
    ],
)
def test_a_query_becomes_the_tree_that_was_meant(query, tree):
    assert parse_query(query) == tree


@pytest.mark.parametrize("query", [b"a=%", b"a=%4", b"a=%4g", b"%%=1", b"a=%-1"])
def test_a_broken_escape_is_said_to_be_one(query):
    with pytest.raises(QueryError, match="a % that two hexadecimal digits do not follow"):
        parse_query(query)


def test_bytes_that_are_no_utf8_are_named():
    with pytest.raises(QueryError, match="byte 0xc3"):
        parse_query(b"a=%C3")


def test_nesting_is_bounded():
    key = b"a" + b"[x]" * MAX_DEPTH
    assert parse_query(key + b"=1")["a"]
    with pytest.raises(QueryError, match=f"{MAX_DEPTH + 1} levels, at most {MAX_DEPTH}"):
        parse_query(key + b"[x]=1")


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="[]", codec="utf-8")),
        st.text(st.characters(codec="utf-8")),
    )
)
def test_what_a_client_encodes_comes_back(params):
    query = "&".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in params.items())
    assert parse_query(query.encode()) == params


@given(st.binary(max_size=300))
def test_any_bytes_give_a_tree_or_a_query_error(query):
    with suppress(QueryError):
        assert isinstance(parse_query(query), dict)


@given(st.text("ab=&[]\x00 ~", max_size=30))
def test_a_query_means_the_same_with_and_without_escapes(text):
    escaped = "".join(char if char in "=&[]" else f"%{ord(char):02x}" for char in text)
    assert parse_query(text.encode()) == parse_query(escaped.encode())
