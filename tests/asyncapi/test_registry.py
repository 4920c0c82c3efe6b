"""The registry: which topic is which channel, and what the runtime asks about it."""

from __future__ import annotations

from typing import Any

import pytest

from moda.asyncapi import (
    UNDECLARED,
    DocumentError,
    Invalid,
    Registry,
    check,
    check_topic,
    merge,
    own,
)
from moda.asyncapi.registry import REMEMBERED

from .support import document, room


def registry(**changes: Any) -> Registry:
    return Registry(document(room(**changes)))


def test_a_topic_finds_its_channel_and_the_values_of_its_parameters() -> None:
    found = registry().find("room:lobby:2")
    assert found is not None
    assert (found.route.id, found.route.address) == ("room", "room:{roomId}")
    assert dict(found.params) == {"roomId": "lobby:2"}
    assert registry().find("lobby") is None


def test_of_two_channels_that_match_the_first_declared_wins() -> None:
    tree = room(channels__news={"address": "room:news"})
    found = Registry(document(tree)).find("room:news")
    assert found is not None
    assert found.route.id == "room"
    tree["channels"] = {"news": tree["channels"]["news"], "room": tree["channels"]["room"]}
    found = Registry(document(tree)).find("room:news")
    assert found is not None
    assert found.route.id == "news"


def test_a_pattern_in_code_meets_its_declaration_whatever_its_parameters_are_called() -> None:
    route = registry().declared("room:{id}")
    assert route is not None
    assert route.id == "room"
    assert registry().declared("room:*") is None
    with pytest.raises(DocumentError, match="a brace without its partner"):
        registry().declared("room:{id")


def test_a_topic_nobody_declared_has_the_default_policy_and_no_validator() -> None:
    assert registry().policy("elsewhere") is UNDECLARED
    assert registry().validator("elsewhere", "new_msg") is None
    assert check(None, "new_msg", object()) is None


def test_the_policy_of_a_topic_is_its_channels() -> None:
    known = registry(channels__room__x_moda={"delivery": "drop", "maxSubscribers": 3})
    assert known.policy("room:1").delivery == "drop"
    assert known.policy("room:1").max_subscribers == 3


def test_each_direction_has_its_own_schema_for_one_event() -> None:
    known = registry()
    inbound = known.validator("room:1", "new_msg")
    outbound = known.validator("room:1", "new_msg", "out")
    assert inbound is not None
    assert outbound is not None
    assert inbound.check({"body": "hi"}) is None
    assert outbound.check({"body": "hi"}) == Invalid("", 'must have the field "id"')


def test_the_payload_of_a_join_is_checked_like_any_other() -> None:
    found = registry().find("room:1")
    assert found is not None
    assert check(found.route, "phx_join", {"name": "Ada"}) is None
    assert check(found.route, "phx_join", {"name": ""}) == Invalid(
        "/name", "must have at least 1 character; received 0"
    )
    assert check(found.route, "phx_join", b"") == Invalid(
        "", "must be JSON; received a binary frame of 0 bytes"
    )


def test_an_event_without_a_schema_costs_a_lookup_and_accepts_anything() -> None:
    found = registry().find("room:1")
    assert found is not None
    assert found.route.inbound.get("typing") is None
    assert check(found.route, "typing", {"at": object()}) is None


def test_a_route_knows_which_events_clients_may_send() -> None:
    route = registry().routes[0]
    assert route.accepts("new_msg")
    assert route.accepts("phx_join")
    assert route.accepts("phx_leave")
    assert not route.accepts("phx_reply")
    assert not route.accepts("typing")
    (undirected,) = registry(operations={}).routes
    assert undirected.accepts("typing")


# -- topics whose parameters are narrowed


def refused(parameter: dict[str, Any], value: str) -> dict[str, str] | None:
    known = registry(channels__room__parameters={"roomId": parameter})
    found = known.find(f"room:{value}")
    assert found is not None
    invalid = check_topic(found.route, found.params)
    return None if invalid is None else invalid.response


def test_a_parameter_with_an_enum_takes_its_values_only() -> None:
    assert refused({"enum": ["lobby", "hall"]}, "hall") is None
    assert refused({"enum": ["lobby", "hall"]}, "cellar") == {
        "reason": "invalid topic",
        "path": "/roomId",
        "message": 'must be one of "lobby", "hall"; received "cellar"',
    }


def test_a_parameter_with_a_pattern_and_a_length_is_held_to_both() -> None:
    rule = {"x-moda": {"pattern": "[A-Za-z0-9:_-]+", "maxLength": 255}}
    assert refused(rule, "notes:draft-1") is None
    assert refused(rule, "a" * 256) == {
        "reason": "invalid topic",
        "path": "/roomId",
        "message": "must have at most 255 characters; received 256",
    }
    for topic in ("with space", "ends\n", "\nbegins", "ü", "a/b"):
        found = refused(rule, topic)
        assert found is not None
        assert found["message"].startswith("must match the pattern")


def test_a_topic_of_a_channel_without_such_rules_is_never_refused() -> None:
    (route,) = registry().routes
    assert route.topics is None
    assert check_topic(route, {"roomId": "anything"}) is None
    assert check_topic(None, {}) is None


def test_a_parameter_whose_pattern_is_none_is_refused_at_start() -> None:
    tree = room(channels__room__parameters={"roomId": {"x-moda": {"pattern": "["}}})
    with pytest.raises(DocumentError) as caught:
        Registry(document(tree))
    assert caught.value.pointer == "#/channels/room/parameters/roomId"
    assert "accepted: a regular expression" in str(caught.value)


# -- bounds and the whole


def test_topics_that_clients_make_up_are_forgotten_again() -> None:
    known = registry()
    for number in range(REMEMBERED + 100):
        assert known.find(f"room:{number}") is not None
    assert known._find.cache_info().currsize == REMEMBERED


def test_modas_own_and_a_users_channels_are_found_in_one_registry() -> None:
    known = Registry(merge(own(), document()))
    topics = ("telemetry:metrics", "chart:prices", "phoenix", "room:1")
    found = [known.find(topic) for topic in topics]
    assert [one.route.id if one else None for one in found] == [
        "telemetryMetrics",
        "chartPrices",
        "phoenix",
        "room",
    ]
    assert known.policy("chart:prices").key == "/s"
    join = known.validator("telemetry:metrics", "phx_join")
    assert join is not None
    assert join.check({"interval_ms": 249}) == Invalid(
        "/interval_ms", "must be at least 250; received 249"
    )


def test_a_schema_that_is_wrong_in_the_direction_clients_never_send_is_refused_too() -> None:
    with pytest.raises(DocumentError, match=r"messages/said/payload/type"):
        registry(channels__room__messages__said={"payload": {"type": "objekt"}})
