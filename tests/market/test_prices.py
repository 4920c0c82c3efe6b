"""The channel: honest at the join, faithful in between."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog.testing

from moda.channel import JoinRequest, Registrar
from moda.errors import ConfigurationError
from moda.market import MarketSettings, install
from moda.market.feed import Tick
from moda.market.prices import Prices
from moda.market.settings import SourceKind
from moda.market.sources import Report, Sink
from moda.message import Raw
from registrar import FakeRegistrar

from .fake_binance import FakeBinance
from .support import HandClock, until, upstream

TICK = Tick(b'{"e":"24hrMiniTicker",  "E":1,"s":"BTCUSDT"}', "BTCUSDT", 1)


class Scripted:
    """A source that does what the test says."""

    kind: SourceKind = "binance"

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def run(self, sink: Sink) -> None:
        sink.shift("stale", "connecting")
        if self.error is not None:
            raise self.error
        await asyncio.get_running_loop().create_future()

    def report(self) -> Report:
        return Report(detail={"url": "wss://x"}, counters={"gaps": 3.0, "rubbish": {"binary": 1.0}})


@pytest.fixture
def gateway() -> FakeRegistrar:
    return FakeRegistrar()


@pytest.fixture
def clock() -> HandClock:
    return HandClock(unix=1_740_441_600.0)


@pytest.fixture
def prices(gateway: FakeRegistrar, clock: HandClock) -> Prices:
    return Prices(gateway, Scripted(), clock)


def as_registrar(gateway: FakeRegistrar) -> Registrar:
    return gateway


async def joined(prices: Prices) -> dict[str, Any]:
    return await prices.join(JoinRequest("chart:prices", payload={}))


def test_a_tick_is_broadcast_as_the_same_bytes_with_its_symbol_as_key(
    gateway: FakeRegistrar, prices: Prices
) -> None:
    prices.tick(TICK)
    assert gateway.sent == [("chart:prices", "price_tick", Raw(TICK.data), "BTCUSDT")]


async def test_a_join_before_anything_happened_is_let_in_and_told_stale(prices: Prices) -> None:
    assert await joined(prices) == {
        "upstream": "stale",
        "source": "binance",
        "since": 1_740_441_600.0,
    }


async def test_a_join_tells_the_state_of_the_moment(prices: Prices, clock: HandClock) -> None:
    prices.shift("stale", "connecting")
    clock.now += 5.0
    prices.shift("live", "connection 1")
    clock.now += 5.0
    assert await joined(prices) == {
        "upstream": "live",
        "source": "binance",
        "since": 1_740_441_605.0,
    }


def test_a_change_of_state_is_broadcast_under_a_key_no_symbol_can_have(
    gateway: FakeRegistrar, prices: Prices
) -> None:
    prices.shift("live", "connection 1")
    assert gateway.sent == [
        (
            "chart:prices",
            "upstream",
            {
                "state": "live",
                "since": 1_740_441_600.0,
                "reason": "connection 1",
                "source": "binance",
            },
            "upstream",
        )
    ]


def test_the_first_state_is_broadcast_even_if_it_is_the_assumed_one(
    gateway: FakeRegistrar, prices: Prices
) -> None:
    prices.shift("stale", "connecting")
    assert [payload["reason"] for _, _, payload, _ in gateway.sent] == ["connecting"]


def test_prices_that_are_lost_are_a_warning_and_all_other_changes_are_news(
    prices: Prices, monkeypatch: pytest.MonkeyPatch
) -> None:
    with structlog.testing.capture_logs() as lines:
        monkeypatch.setattr("moda.market.prices.LOG", structlog.get_logger())
        for state in ("stale", "live", "stale", "simulated"):
            prices.shift(state, "because")
    assert [(line["state"], line["log_level"]) for line in lines] == [
        ("stale", "info"),  # nothing was lost: it is the first word of every start
        ("live", "info"),
        ("stale", "warning"),
        ("simulated", "info"),
    ]


def test_a_new_reason_for_the_same_state_goes_to_health_and_not_to_clients(
    gateway: FakeRegistrar, prices: Prices, clock: HandClock
) -> None:
    prices.shift("stale", "connecting")
    clock.now += 9.0
    prices.shift("stale", "upgrade refused with HTTP 451")
    assert len(gateway.sent) == 1
    detail = prices.probe().detail
    assert detail["reason"] == "upgrade refused with HTTP 451"
    assert detail["since"] == 1_740_441_600.0


@pytest.mark.parametrize(
    ("state", "status"), [("live", "up"), ("stale", "degraded"), ("simulated", "simulated")]
)
def test_health_says_in_its_own_words_what_the_state_is(
    prices: Prices, state: Any, status: str
) -> None:
    prices.shift(state, "because")
    assert prices.probe().status == status


def test_health_carries_the_age_of_the_last_tick_and_what_the_source_reports(
    prices: Prices, clock: HandClock
) -> None:
    assert prices.probe().detail["last_tick_age"] is None
    prices.shift("live", "connection 1")
    prices.tick(TICK)
    clock.now += 2.5
    status = prices.probe()
    assert status.detail["last_tick_age"] == 2.5
    assert status.detail["url"] == "wss://x"
    assert status.detail["source"] == "binance"
    orjson.dumps(status.detail)


def test_counters_are_numbers_by_name_or_by_label(prices: Prices) -> None:
    prices.shift("live", "connection 1")
    prices.tick(TICK)
    prices.tick(TICK)
    counters = prices.counters()
    assert counters["published"] == 2
    assert counters["state_changes"] == 1
    assert counters["state"] == {"live": 1.0, "stale": 0.0, "simulated": 0.0}
    assert counters["gaps"] == 3
    assert counters["rubbish"] == {"binary": 1.0}
    for value in counters.values():
        values = value.values() if isinstance(value, dict) else [value]
        assert all(isinstance(number, float) for number in values)


async def test_a_source_that_fails_is_told_to_clients_and_handed_to_the_supervisor(
    gateway: FakeRegistrar, clock: HandClock
) -> None:
    source = Scripted()
    prices = Prices(gateway, source, clock)
    prices.shift("live", "connection 1")
    source.error = OSError("no such file")
    for restart in range(3):
        with pytest.raises(OSError, match="no such file"):
            await prices.run()
        assert prices.counters()["restarts"] == restart
    assert prices.probe().detail["reason"] == "source failed: no such file"
    assert prices.probe().status == "degraded"


@pytest.mark.parametrize("kind", ["simulated", "binance"])
def test_install_serves_the_topic_supervises_the_source_and_answers_for_health(
    gateway: FakeRegistrar, kind: str
) -> None:
    prices = install(as_registrar(gateway), MarketSettings(source=kind))
    assert gateway.streams == {"chart:prices": prices}
    assert gateway.policies == {"chart:prices": {"delivery": "latest"}}
    assert gateway.works == {"prices": prices.run}
    assert gateway.probes["prices"]().detail["source"] == kind


def test_install_refuses_a_replay_that_cannot_be_played(
    gateway: FakeRegistrar, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        install(gateway, MarketSettings(source=f"replay:{tmp_path}/none"))
    assert gateway.streams == {}


async def test_simulated_prices_say_so_in_the_join_and_in_health(
    gateway: FakeRegistrar, clock: HandClock
) -> None:
    prices = install(gateway, MarketSettings(seed=1), clock)
    task = asyncio.create_task(prices.run())
    await until(lambda: len(gateway.sent) > 5)
    task.cancel()
    reply = await joined(prices)
    assert (reply["upstream"], reply["source"]) == ("simulated", "simulated")
    assert prices.probe().status == "simulated"
    assert gateway.sent[0][1] == "upstream"
    assert {event for _, event, _, _ in gateway.sent[1:]} == {"price_tick"}
    assert [key for _, _, _, key in gateway.sent[1:5]] == ["BTCUSDT", "ETHUSDT"] * 2


async def test_a_replay_says_simulated_and_names_itself_as_the_source(
    gateway: FakeRegistrar, clock: HandClock, tmp_path: Path
) -> None:
    line = (
        '{"e":"24hrMiniTicker","E":1,"s":"BTCUSDT","c":"1","o":"1","h":"1","l":"1","v":"1","q":"1"}'
    )
    (tmp_path / "a").write_text(line)
    prices = install(
        gateway, MarketSettings(source=f"replay:{tmp_path}/a", replay_loop=True), clock
    )
    task = asyncio.create_task(prices.run())
    await until(lambda: len(gateway.sent) >= 3)
    task.cancel()
    reply = await joined(prices)
    assert (reply["upstream"], reply["source"]) == ("simulated", "replay")
    assert gateway.sent[1] == ("chart:prices", "price_tick", Raw(line.encode()), "BTCUSDT")


async def test_from_the_exchange_to_the_hub_the_bytes_are_the_same_and_a_stall_is_announced(
    gateway: FakeRegistrar,
) -> None:
    async with FakeBinance() as fake:
        source = upstream(fake.url)
        clock = HandClock()
        prices = Prices(gateway, source, clock)
        task = asyncio.create_task(prices.run())
        await until(lambda: prices.probe().status == "up")
        fake.flowing = False
        await until(lambda: prices.probe().status == "degraded")
        raw = await fake.tick("ethusdt")
        if not gateway.sent or gateway.sent[-1][2] != Raw(raw):
            fake.flowing = True
        await until(lambda: prices.probe().status == "up")
        task.cancel()
        await until(lambda: not fake.open)
    states = [payload["state"] for _, event, payload, _ in gateway.sent if event == "upstream"]
    assert states == ["stale", "live", "stale", "live"]
    ticks = [payload for _, event, payload, _ in gateway.sent if event == "price_tick"]
    assert all(payload.json.startswith(b'{"e":"24hrMiniTicker"') for payload in ticks)
    assert all(b'"h": "284578000.00000004"' in payload.json for payload in ticks)
