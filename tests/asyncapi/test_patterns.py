"""Patterns that backtrack: an error reply within a bounded time, whatever they are held against."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from moda.asyncapi import Invalid, Registry, check, check_topic
from moda.asyncapi.schema import MAX_BACKTRACKED

from .support import document, room, route_for


def verdict(schema: Any, payload: Any) -> tuple[str, str] | None:
    invalid = check(route_for(schema), "e", payload)
    return None if invalid is None else (invalid.path, invalid.message)


GIVEN_UP = "must match a pattern that can be decided within the steps one is given; received "


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^(a*)*\1$", "a" * 61 + "!"),
        (r"^(a*)*\1$", "a" * 5_000 + "b"),
        (r"^(\w+\s?)*\1$", "word " * 1_000 + "!"),
        (r"^(a|b|ab)*\1c$", "ab" * 200),
        (r"^(?=a)(?:a|aa)+\b(?!b)(a|aa)+$", "a" * 3_000 + "!"),
        (r"(?=.*x)y", "y" * 16_000),
    ],
)
@pytest.mark.parametrize(
    "place",
    [
        lambda pattern, text: ({"pattern": pattern}, text),
        lambda pattern, text: ({"items": {"pattern": pattern}}, [text]),
        lambda pattern, text: (
            {"patternProperties": {pattern: {}}, "additionalProperties": False},
            {text: 1},
        ),
        lambda pattern, text: ({"propertyNames": {"pattern": pattern}}, {text: 1}),
        lambda pattern, text: ({"anyOf": [{"pattern": pattern}, {"type": "null"}]}, text),
        lambda pattern, text: ({"oneOf": [{"pattern": pattern}, {"type": "null"}]}, text),
        lambda pattern, text: ({"if": {"pattern": pattern}, "else": False}, text),
        lambda pattern, text: ({"contains": {"pattern": pattern}}, [text]),
    ],
)
def test_what_a_backtracking_pattern_cannot_decide_is_an_error_reply_and_no_crash(
    pattern: str, text: str, place: Callable[[str, str], tuple[Any, Any]]
) -> None:
    schema, payload = place(pattern, text)
    found = verdict(schema, payload)
    assert found is not None
    assert len(found[1]) < 300
    assert text not in found[1]


def test_a_pattern_that_was_given_up_is_told_as_such() -> None:
    found = verdict({"pattern": r"^(a*)*\1$"}, "a" * 5_000 + "b")
    assert found == ("", GIVEN_UP + "a string of 5001 characters")


@pytest.mark.parametrize("schema", [{"not": {}}, {"if": {}, "then": False}, {"not": {"not": {}}}])
def test_a_pattern_that_was_given_up_is_a_refusal_under_a_negation_too(schema: Any) -> None:
    held: Any = orjson.loads(orjson.dumps(schema).replace(b"{}", rb'{"pattern":"^(a|b|ab)*\\1c$"}'))
    assert verdict(held, "ab" * 200) is not None


def test_text_beyond_what_a_backtracking_pattern_may_read_is_refused_before_it_runs() -> None:
    hard = {"properties": {"a": {"pattern": "(?=.*x)y"}}}
    too_long = (
        "",
        "must hold at most 16384 characters in its fields and their names: its schema has a pattern"
        " with look-around or a backreference",
    )
    assert verdict(hard, {"a": "yx", "b": "z" * (MAX_BACKTRACKED - 4)}) is None
    assert verdict(hard, {"a": "yx", "b": "z" * (MAX_BACKTRACKED - 3)}) == too_long
    assert verdict(hard, {"b": ["z" * 1_000, {"c" * 16_000: 1}]}) == too_long
    two = {"allOf": [hard, {"patternProperties": {"(?!x)z": {}}}]}
    assert verdict(two, {"b": "z" * (MAX_BACKTRACKED // 2)}) is not None
    assert verdict(two, {"b": "z" * (MAX_BACKTRACKED // 2 - 1)}) is None


def test_a_pattern_of_the_linear_engine_reads_as_much_as_it_is_given() -> None:
    assert verdict({"properties": {"a": {"pattern": "^(z+)+$"}}}, {"a": "z" * 200_000}) is None


def test_nothing_raised_while_a_verdict_is_told_carries_the_payload(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: Any, __: str = "") -> Invalid:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr("moda.asyncapi.schema.explain", broken)
    with pytest.raises(RuntimeError) as caught:
        verdict({"type": "integer"}, "-".join(["the", "payload"]))
    assert "the-payload" not in "".join(traceback.format_exception(caught.value))


def test_a_topic_whose_pattern_was_given_up_is_an_invalid_topic() -> None:
    rule = {"roomId": {"x-moda": {"pattern": r"(a*)*\1"}}}
    (route,) = Registry(document(room(channels__room__parameters=rule))).routes
    found = check_topic(route, {"roomId": "a" * 900 + "b"})
    assert found is not None
    assert (found.reason, found.path) == ("invalid topic", "/roomId")
    assert "a" * 100 not in found.message
