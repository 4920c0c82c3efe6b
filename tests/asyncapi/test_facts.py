"""moda's own document says what moda's own channels do: their code is asked, not their prose."""

from __future__ import annotations

from typing import Any

import pytest

from moda.asyncapi import Registry, Validator, own
from moda.asyncapi.dump import to_json
from moda.channel import JoinRequest
from moda.market import prices
from moda.telemetry.metrics import METRICS
from moda.telemetry.pace import MAX_INTERVAL_MS, MIN_INTERVAL_MS
from moda.telemetry.stream import EVENT, TOPIC

KNOWN = Registry(own())


def outbound(topic: str, event: str) -> Validator:
    found = KNOWN.validator(topic, event, "out")
    assert found is not None
    return found


def test_every_example_matches_the_schema_of_its_message() -> None:
    count = 0
    for route in KNOWN.routes:
        for side in (route.inbound, route.outbound):
            for message in route.channel.messages.values():
                if message.event not in side:
                    continue
                for example in message.body.get("examples", []):
                    assert side[message.event].check(example["payload"]) is None, message.id
                    count += 1
    assert count > 20


def test_every_message_that_carries_something_has_an_example() -> None:
    for route in KNOWN.routes:
        for message in route.channel.messages.values():
            assert message.body.get("examples"), message.pointer


def test_the_topics_and_events_are_those_of_the_code() -> None:
    addresses = {route.address: route for route in KNOWN.routes}
    assert set(addresses) == {TOPIC, prices.TOPIC, "phoenix"}
    assert EVENT in addresses[TOPIC].outbound
    assert {prices.TICK, prices.UPSTREAM} <= set(addresses[prices.TOPIC].outbound)


def test_the_interval_has_the_bounds_of_the_code() -> None:
    join = KNOWN.validator(TOPIC, "phx_join")
    assert join is not None
    for interval, taken in (
        (MIN_INTERVAL_MS, True),
        (MAX_INTERVAL_MS, True),
        (500.0, True),
        (MIN_INTERVAL_MS - 1, False),
        (MAX_INTERVAL_MS + 1, False),
        (500.5, False),
        ("500", False),
    ):
        assert (join.check({"interval_ms": interval}) is None) is taken, interval
    assert join.check({}) is None
    assert join.check(None) is None
    assert join.check({"client": {"name": "web"}}) is None


def test_metrics_under_a_second_name_are_flagged_as_aliases() -> None:
    point = own().root["components"]["schemas"]["telemetryMetricPoint"]
    assert point["properties"]["name"]["x-aliases"] == {
        metric.name: metric.alias_of for metric in METRICS if metric.alias_of is not None
    }


def test_what_people_generate_types_from_has_the_names_they_know() -> None:
    """Names a client's code is built on: renaming one breaks builds and changes nothing on the wire."""
    components = own().root["components"]
    assert {
        "joinPayload",
        "telemetryMetricPoint",
        "telemetrySeriesPoint",
        "priceTick",
        "chartJoinReplyPayload",
        "phxSystemPayload",
    } <= set(components["schemas"])
    assert {
        "telemetryJoin",
        "telemetryJoinReply",
        "metric",
        "chartJoin",
        "chartJoinReply",
        "priceTickOut",
        "phxError",
        "phxClose",
    } <= set(components["messages"])
    operations = own().root["operations"]
    assert {
        name: operations[name]["action"]
        for name in ("joinTelemetry", "receiveMetrics", "joinChart", "receivePriceTick")
    } == {
        "joinTelemetry": "receive",
        "receiveMetrics": "send",
        "joinChart": "receive",
        "receivePriceTick": "send",
    }


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_of_the_code_is_described_and_fits_the_schema(metric: Any) -> None:
    text = to_json(own().root).decode()
    family = metric.name if not metric.name.startswith("moda.") else "moda.*"
    assert f"`{family}`" in text
    point = {
        "name": metric.name,
        "unit": metric.unit,
        "tsUnixSec": 1763640000.25,
        "series": [{"key": key, "value": 0.5} for key in metric.series],
    }
    assert outbound(TOPIC, EVENT).check(point) is None


def test_a_metric_without_series_breaks_the_schema() -> None:
    point = {"name": "x", "unit": "", "tsUnixSec": 1.0, "series": []}
    found = outbound(TOPIC, EVENT).check(point)
    assert found is not None
    assert found.path == "/series"


class Gateway:
    """Collects what the channel broadcasts."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Any]] = []

    def broadcast(self, topic: str, event: str, payload: Any, *, key: str | None = None) -> None:
        self.sent.append((topic, event, payload))


class Clock:
    def time(self) -> float:
        return 1763640000.25

    def monotonic(self) -> float:
        return 1.0


class Source:
    kind = "binance"


async def test_what_the_price_channel_answers_and_announces_fits_the_schema() -> None:
    gateway = Gateway()
    channel = prices.Prices(gateway, Source(), Clock())  # type: ignore[arg-type]
    response = await channel.join(JoinRequest(prices.TOPIC))
    reply = outbound(prices.TOPIC, "phx_reply")
    assert reply.check({"status": "ok", "response": response}) is None
    assert reply.check({"status": "ok", "response": {**response, "upstream": "dead"}}) is not None
    states: tuple[Any, ...] = ("live", "stale", "simulated")
    for state in states:
        channel.shift(state, "for the test")
    announced = [payload for _, event, payload in gateway.sent if event == prices.UPSTREAM]
    assert [payload["state"] for payload in announced] == list(states)
    for payload in announced:
        assert outbound(prices.TOPIC, prices.UPSTREAM).check(payload) is None


def test_prices_are_decimal_strings_and_a_float_breaks_the_schema() -> None:
    tick = {
        "e": "24hrMiniTicker",
        "E": 1763640000123,
        "s": "BTCUSDT",
        **dict.fromkeys("cohlvq", "91234.56000000"),
    }
    check = outbound(prices.TOPIC, prices.TICK).check
    assert check(tick) is None
    assert check({**tick, "x": "more"}) is None
    found = check({**tick, "c": 91234.56})
    assert found is not None
    assert (found.path, found.message) == ("/c", "must be a string; received 91234.56")


def test_clients_may_join_and_leave_and_send_nothing_else() -> None:
    for topic in (TOPIC, prices.TOPIC):
        found = KNOWN.find(topic)
        assert found is not None
        assert found.route.accepts("phx_join")
        assert found.route.accepts("phx_leave")
        assert not found.route.accepts("metric")
        assert not found.route.accepts("price_tick")
        policy = found.route.policy
        assert (policy.delivery, policy.access, policy.publish) == ("latest", "public", "none")


def test_the_heartbeat_is_described_on_the_topic_of_the_connection() -> None:
    found = KNOWN.find("phoenix")
    assert found is not None
    assert found.route.events == {"heartbeat"}
    assert set(found.route.outbound) == {"phx_reply"}
