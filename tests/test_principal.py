"""Topic rules, and what a principal may."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.principal import ANONYMOUS, MAX_PATTERNS, Principal, Rules, Topics

TOPIC = st.text(st.sampled_from("ab:. é"), min_size=1, max_size=12)
PATTERN = st.tuples(TOPIC, st.booleans()).map(lambda pair: pair[0] + "*" * pair[1])


@given(st.lists(PATTERN, max_size=8), TOPIC)
def test_a_topic_is_in_exactly_when_one_of_the_patterns_matches_it(patterns, topic):
    plain = any(
        topic.startswith(pattern[:-1]) if pattern.endswith("*") else topic == pattern
        for pattern in patterns
    )
    assert (topic in Topics.of(patterns)) is plain
    assert plain == any(fnmatch.fnmatchcase(topic, pattern) for pattern in patterns)


@given(st.lists(PATTERN, max_size=8))
def test_patterns_read_again_are_the_same_topics(patterns):
    once = Topics.of(patterns)
    assert Topics.of(once.patterns) == once


@given(st.one_of(st.text(), st.integers(), st.none(), st.lists(st.one_of(st.text(), st.none()))))
def test_whatever_a_rule_is_it_is_read_or_refused_with_a_sentence(value):
    said = None
    try:
        assert all(isinstance(pattern, str) for pattern in Topics.of(value).patterns)
    except ValueError as error:
        said = str(error)
    assert said != ""


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("room:*:x", "before its end"),
        ("**", "before its end"),
        ("room:{id}", "has a brace"),
        ("", "at least one character"),
        ("x" * 257, "up to 256"),
        ("\ud800", "UTF-8"),
    ],
)
def test_a_pattern_nobody_could_mean_is_refused_and_says_what_is_accepted(pattern, says):
    with pytest.raises(ValueError, match=says):
        Topics.of([pattern])


def test_the_number_of_patterns_is_bounded():
    Topics.of([f"room:{n}" for n in range(MAX_PATTERNS)])
    with pytest.raises(ValueError, match=f"more than {MAX_PATTERNS}"):
        Topics.of(f"room:{n}" for n in range(MAX_PATTERNS + 1))


def test_a_star_alone_is_every_topic_and_an_empty_list_is_none():
    assert "anything" in Topics.of(["*"])
    assert "anything" not in Topics.of([])


@pytest.mark.parametrize("value", ["room:*", {"room": 1}, None, 5, ["ok", 5], ["a*b"]])
def test_a_claim_that_cannot_be_read_is_refused_and_never_becomes_everything(value):
    with pytest.raises(ValueError, match="claim subscribe"):
        Rules.from_claims({"subscribe": value})


def test_no_claim_leaves_it_to_the_channel_and_each_claim_stands_alone():
    rules = Rules.from_claims({"publish": ["room:1"]})
    ann = Principal("ann", "jwt", rules=rules)
    assert ann.may_subscribe("room:2")
    assert ann.may_publish("room:1")
    assert not ann.may_publish("room:2")
    assert ANONYMOUS.may_subscribe("room:2")
    assert ANONYMOUS.may_publish("room:2")


@pytest.mark.parametrize(
    ("scopes", "hears", "publishes"),
    [
        ({"read"}, True, False),
        ({"publish"}, False, True),
        ({"admin"}, True, True),
        ({"ingest"}, False, False),
    ],
)
def test_a_key_may_what_its_scopes_say(scopes, hears, publishes):
    key = Principal("k", "key", frozenset(scopes), key_kind="internal")
    assert (key.may_subscribe("t"), key.may_publish("t")) == (hears, publishes)


def test_a_key_with_rules_needs_both():
    key = Principal("k", "key", frozenset({"read"}), Rules(Topics.of(["a:*"])), key_kind="public")
    assert key.may_subscribe("a:1")
    assert not key.may_subscribe("b:1")


@pytest.mark.parametrize(
    ("principal", "opens"),
    [
        (Principal("k", "key", frozenset({"read"}), key_kind="internal"), True),
        (Principal("k", "key", frozenset({"internal"}), key_kind="public"), True),
        (Principal("k", "key", frozenset({"admin"}), key_kind="admin"), True),
        (Principal("k", "key", frozenset({"read"}), key_kind="public"), False),
        (Principal("ann", "jwt", frozenset({"internal", "admin"})), False),
        (ANONYMOUS, False),
    ],
)
def test_a_channel_for_a_kind_of_key_opens_to_that_kind_that_scope_or_an_administrator(
    principal, opens
):
    assert principal.opens("internal") is opens


def test_a_printed_principal_shows_no_claims():
    ann = Principal("ann", "jwt", claims={"email": "ann@example.org"})
    assert "example.org" not in repr(ann)
