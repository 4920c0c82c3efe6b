"""Addresses against a slow and obvious twin, and against the mistakes people make in them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moda.asyncapi import DocumentError
from moda.asyncapi.address import parse


def oracle(template: str, topic: str) -> dict[str, str] | None:
    """The rule read aloud: try every length of every parameter, shortest first, and keep the first
    whose following text comes right after it. No going back."""
    if template == "":
        return {} if topic == "" else None
    if template == "*":
        return {}
    if template[0] != "{":
        same = topic != "" and topic[0] == template[0]
        return oracle(template[1:], topic[1:]) if same else None
    name, after = template[1:].split("}", 1)
    literal = after.split("{", 1)[0].rstrip("*")
    for length in range(1, len(topic) + 1):
        if (topic[length:].startswith(literal)) if literal else length == len(topic):
            rest = oracle(after, topic[length:])
            return None if rest is None else {name: topic[:length], **rest}
    return None


LETTERS = "ab:.é"
LITERAL = st.text(LETTERS, max_size=3)
TOPIC = st.text(LETTERS + "x", max_size=12)


@st.composite
def templates(draw: st.DrawFn) -> str:
    count = draw(st.integers(0, 3))
    template = draw(LITERAL)
    for index in range(count):
        between = draw(st.text(LETTERS, min_size=0 if index == count - 1 else 1, max_size=3))
        template += f"{{p{index}}}{between}"
    if not template.endswith("}") and draw(st.booleans()):
        template += "*"
    return template or "*"


@given(templates(), TOPIC)
@example("a{p0}b{p1}", "aabb")
@example("a{p0}a", "aaaa")
@example("{p0}:a", "b:a:a")
def test_a_match_is_what_the_slow_twin_finds(template: str, topic: str) -> None:
    assert parse(template).match(topic) == oracle(template, topic)


@given(templates(), st.data())
def test_a_topic_made_from_a_template_matches_it(template: str, data: st.DataObject) -> None:
    address = parse(template)
    # Values without any character of the literals, so that no literal is found early.
    values = {name: data.draw(st.text("xyz", min_size=1)) for name in address.parameters}
    topic = address.literals[0] + "".join(
        values[name] + after
        for name, after in zip(address.parameters, address.literals[1:], strict=True)
    )
    assert address.match(topic) == values


@pytest.mark.parametrize(
    ("template", "topic", "params"),
    [
        ("telemetry:metrics", "telemetry:metrics", {}),
        ("telemetry:metrics", "telemetry:metrics:x", None),
        ("y_doc_room:{docName}", "y_doc_room:notes:draft", {"docName": "notes:draft"}),
        ("y_doc_room:{docName}", "y_doc_room:", None),
        ("run.{run}.step.{step}", "run.7.step.build.2", {"run": "7", "step": "build.2"}),
        ("run.{run}.step.{step}", "run..step.x", None),
        ("room:*", "room:", {}),
        ("room:*", "room:a:b", {}),
        ("room:*", "rooms", None),
        ("{all}", "anything at all", {"all": "anything at all"}),
        ("{all}", "", None),
        ("a\n{b}", "a\n\n", {"b": "\n"}),
        ("a+(b)", "a+(b)", {}),
    ],
)
def test_the_documented_cases(template: str, topic: str, params: dict[str, str] | None) -> None:
    assert parse(template).match(topic) == params


def test_addresses_that_differ_in_names_only_have_one_shape() -> None:
    assert parse("room:{id}:x").shape == parse("room:{roomId}:x").shape
    assert parse("room:{id}").shape != parse("room:{id}:x").shape
    assert parse("room:*").shape != parse("room:").shape


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("", "the address is empty"),
        ("room:{id", "a brace without its partner"),
        ("room:id}", "a brace without its partner"),
        ("room:{a{b}}", "a brace without its partner"),
        ("room:{}", 'a parameter named ""'),
        ("room:{a b}", 'a parameter named "a b"'),
        ("room:{a}:{a}", 'uses the parameter "a" twice'),
        ("room:{a}{b}", "nothing between {a} and {b}"),
        ("room:{a}*", "* right after {a}"),
        ("ro*om", "a * before its end"),
        ("room:**", "a * before its end"),
        ("x" * 2000, "is too long"),
    ],
)
def test_a_template_that_is_none_is_refused_with_its_place(template: str, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(template, source="my.yaml", where="#/channels/room/address")
    assert problem in str(caught.value)
    assert str(caught.value).startswith("my.yaml: #/channels/room/address: ")


def test_a_long_hostile_topic_costs_one_pass() -> None:
    address = parse("{a}:x:{b}:x:{c}:y")
    assert address.match(":x" * 100_000) is None
