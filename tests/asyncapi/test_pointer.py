"""References: local ones resolve, everything else is refused with its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.asyncapi import DocumentError
from moda.asyncapi.pointer import at, escape, follow, lookup, unescape

ROOT = {"a": {"b/c": [1, {"d~e": "found"}], "50%": 2}, "loop": {"$ref": "#/loop2"}}


@given(st.text())
def test_escaping_a_token_is_undone_by_unescaping(token: str) -> None:
    assert unescape(escape(token)) == token
    assert "/" not in escape(token)


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=4))
def test_a_pointer_made_of_any_keys_finds_what_is_there(keys: list[str]) -> None:
    root: object = "leaf"
    for key in reversed(keys):
        root = {key: root}
    pointer = at("#", *keys)
    assert lookup(root, pointer, "my.yaml", "#") == (pointer, "leaf")


def test_a_reference_may_be_percent_encoded_and_go_through_lists() -> None:
    assert lookup(ROOT, "#/a/b~1c/1/d~0e", "my.yaml", "#")[1] == "found"
    assert lookup(ROOT, "#/a/50%25", "my.yaml", "#")[1] == 2
    assert lookup({"ü x": 1}, "#/%C3%BC%20x", "my.yaml", "#") == ("#/ü x", 1)
    assert lookup(ROOT, "#", "my.yaml", "#")[1] is ROOT


@pytest.mark.parametrize(
    "ref", ["https://example.com/schema.json", "other.yaml#/a", "file:///etc/passwd", "//host/x"]
)
def test_a_remote_reference_is_refused_and_named(ref: str) -> None:
    with pytest.raises(DocumentError, match="remote references are not read") as caught:
        lookup(ROOT, ref, "my.yaml", "#/channels/room")
    assert ref in str(caught.value)
    assert caught.value.pointer == "#/channels/room"


def test_a_reference_to_nothing_names_where_it_ends_and_what_was_meant() -> None:
    with pytest.raises(DocumentError) as caught:
        lookup(
            {"components": {"schemas": {"message": {}}}},
            "#/components/schemas/mesage",
            "my.yaml",
            "#/channels/room/messages/say/payload",
        )
    assert str(caught.value) == (
        "my.yaml: #/channels/room/messages/say/payload: the reference #/components/schemas/mesage"
        ' names nothing: #/components/schemas holds no "mesage" (did you mean "message"?)'
    )


@pytest.mark.parametrize(
    "ref", [3, None, ["#/a"], "#a", "#/a/b~1c/7", "#/a/b~1c/x", "#/a/b~1c/0/z"]
)
def test_a_reference_that_is_none_or_leads_nowhere_is_refused(ref: object) -> None:
    with pytest.raises(DocumentError):
        lookup(ROOT, ref, "my.yaml", "#")


def test_a_chain_of_references_is_followed_to_its_end() -> None:
    root = {"a": {"$ref": "#/b"}, "b": {"$ref": "#/c"}, "c": 7}
    assert follow(root, {"$ref": "#/a"}, "my.yaml", "#/x") == ("#/c", 7)


def test_references_that_come_back_to_themselves_are_refused_with_the_way_round() -> None:
    root = {"a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}}
    with pytest.raises(DocumentError, match=r"leads back to itself: #/x -> #/a -> #/b -> #/a"):
        follow(root, {"$ref": "#/a"}, "my.yaml", "#/x")
    with pytest.raises(DocumentError, match="leads back to itself"):
        follow({"a": {"$ref": "#/a"}}, {"$ref": "#/a"}, "my.yaml", "#/a")
