"""``x-moda``: every key, and errors that name channel, field, what came and what is taken."""

from __future__ import annotations

from typing import Any

import pytest

from moda.asyncapi import DocumentError, Policy, Rate
from moda.asyncapi.policy import UNDECLARED, parse
from moda.message import History


def read(value: Any) -> Policy:
    return parse(value, source="my.yaml", where="#/channels/room/x-moda", channel="room")


def test_everything_that_can_be_said_is_read() -> None:
    assert read(
        {
            "delivery": "latest",
            "key": "/symbol",
            "history": {"size": 100, "ttl": "5m", "durable": True},
            "rate": "6000/m",
            "maxSubscribers": 500,
            "access": "key:ingest",
            "publish": "servers",
            "handler": "myapp.rooms:Room",
        }
    ) == Policy(
        delivery="latest",
        key="/symbol",
        history=History(100, 300.0, durable=True),
        rate=Rate(6000, 60.0),
        max_subscribers=500,
        access="key:ingest",
        publish="servers",
        handler="myapp.rooms:Room",
        declared=frozenset(
            {
                "delivery",
                "key",
                "history",
                "rate",
                "maxSubscribers",
                "access",
                "publish",
                "handler",
            }
        ),
    )


def test_nothing_said_is_the_policy_of_an_undeclared_channel() -> None:
    assert read(None) is UNDECLARED
    assert read({}) == UNDECLARED == Policy()
    assert (UNDECLARED.delivery, UNDECLARED.access, UNDECLARED.publish) == (
        "every",
        "public",
        "none",
    )


def test_a_policy_knows_which_of_its_values_were_declared() -> None:
    assert read({"delivery": "every"}).declared == {"delivery"}


def test_history_without_a_time_to_live_keeps_the_default_one() -> None:
    assert read({"history": {"size": 5}}).history == History(5)


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [(30, 30.0), (0.5, 0.5), ("250ms", 0.25), ("30s", 30.0), ("2h", 7200.0), ("7d", 604800.0)],
)
def test_a_time_to_live_is_seconds_or_has_a_unit(ttl: Any, seconds: float) -> None:
    policy = read({"history": {"size": 1, "ttl": ttl}})
    assert policy.history is not None
    assert policy.history.ttl == seconds


@pytest.mark.parametrize(
    ("text", "per_second"), [("100/s", 100.0), ("6000/m", 100.0), ("3600/h", 1.0)]
)
def test_a_rate_says_messages_per_time_and_prints_as_it_was_written(
    text: str, per_second: float
) -> None:
    rate = read({"rate": text}).rate
    assert rate is not None
    assert rate.per_second == per_second
    assert str(rate) == text


def test_the_kind_of_an_api_key_is_told_apart_from_the_other_ways_in() -> None:
    assert read({"access": "key:ingest"}).key_kind == "ingest"
    assert read({"access": "token"}).key_kind is None


def test_an_unknown_key_is_an_error_that_says_which_was_meant() -> None:
    with pytest.raises(DocumentError) as caught:
        read({"max_subscribers": 5})
    assert str(caught.value) == (
        'my.yaml: #/channels/room/x-moda/max_subscribers: channel "room": x-moda has no'
        ' "max_subscribers" (did you mean "maxSubscribers"?); accepted: delivery, key, history,'
        " rate, maxSubscribers, access, presence, publish, handler"
    )


@pytest.mark.parametrize(
    ("value", "where", "received", "accepted"),
    [
        ({"delivery": "lossy"}, "delivery", '"lossy"', "every, latest, drop"),
        ({"delivery": "latests"}, "delivery", '"latests"', 'did you mean "latest"?'),
        ({"delivery": ["every"]}, "delivery", "an array of 1 item", "every, latest, drop"),
        ({"delivery": None}, "delivery", "null", "every, latest, drop"),
        ({"key": "symbol"}, "key", '"symbol"', "a JSON pointer"),
        ({"key": "/a~2b"}, "key", '"/a~2b"', "a JSON pointer"),
        ({"history": 5}, "history", "5", "an object with size"),
        ({"history": {}}, "history", "an object with 0 fields", "an object with size"),
        ({"history": {"size": 0}}, "history/size", "0", "an integer from 1"),
        ({"history": {"size": True}}, "history/size", "true", "an integer from 1"),
        ({"history": {"size": 1, "ttl": "soon"}}, "history/ttl", '"soon"', "such as 5m"),
        ({"history": {"size": 1, "ttl": 0}}, "history/ttl", "0", "above 0"),
        ({"history": {"size": 1, "ttl": "999999d"}}, "history/ttl", '"999999d"', "up to 366d"),
        ({"history": {"size": 1, "ttl": 10**400}}, "history/ttl", "a very large number", "366d"),
        ({"history": {"size": 1, "durable": "yes"}}, "history/durable", '"yes"', "true or false"),
        ({"history": {"size": 1, "sise": 2}}, "history/sise", '"sise"', 'did you mean "size"?'),
        ({"rate": 100}, "rate", "100", "such as 100/s"),
        ({"rate": "0/s"}, "rate", '"0/s"', "such as 100/s"),
        ({"rate": "100/ms"}, "rate", '"100/ms"', "such as 100/s"),
        ({"maxSubscribers": 1.5}, "maxSubscribers", "1.5", "an integer from 1"),
        ({"access": "secret"}, "access", '"secret"', "public, token or key:<kind>"),
        ({"access": "key:"}, "access", '"key:"', "key:ingest"),
        ({"access": {}}, "access", "an object with 0 fields", "public, token"),
        ({"publish": "everyone"}, "publish", '"everyone"', "none, clients, servers"),
        ({"handler": "rooms/Room"}, "handler", '"rooms/Room"', "myapp.rooms:Room"),
        ({"handler": "Room"}, "handler", '"Room"', "myapp.rooms:Room"),
        ("latest", "", '"latest"', "an object with delivery"),
    ],
)
def test_a_wrong_value_names_channel_field_what_came_and_what_is_taken(
    value: Any, where: str, received: str, accepted: str
) -> None:
    with pytest.raises(DocumentError) as caught:
        read(value)
    message = str(caught.value)
    assert caught.value.pointer == "#/channels/room/x-moda" + (f"/{where}" if where else "")
    assert 'channel "room"' in message
    assert received in message
    assert accepted in message
