"""The invented market keeps every rule of a real 24 h ticker."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moda.market.feed import Tick, read_event
from moda.market.simulation import BUCKET_MS, STAMPS, WINDOW_MS, Market, decimal, instrument

NOW = 1_740_441_600_000
SHAPE = re.compile(
    rb'\{"e":"24hrMiniTicker","E":\d+,"s":"[A-Z0-9]+","c":"[\d.]+","o":"[\d.]+","h":"[\d.]+",'
    rb'"l":"[\d.]+","v":"[\d.]+","q":"[\d.]+"\}'
)


def numbers(tick: Tick) -> dict[str, Decimal]:
    event: dict[str, Any] = orjson.loads(tick.data)
    return {member: Decimal(event[member]) for member in "cohlvq"}


steps = st.lists(
    st.one_of(st.integers(-5000, 5000), st.sampled_from([1000, 60_000, 3_600_000, 2 * WINDOW_MS])),
    min_size=1,
    max_size=40,
)
names = st.lists(
    st.from_regex(r"[a-z0-9]{1,12}", fullmatch=True) | st.sampled_from(["btcusdt", "ethusdt"]),
    min_size=1,
    max_size=4,
    unique=True,
)


@settings(max_examples=40)
@given(names=names, seed=st.integers(0, 2**32), steps=steps)
def test_every_tick_is_a_legal_event_whose_numbers_hang_together(
    names: list[str], seed: int, steps: list[int]
) -> None:
    market, now, last = Market(names, seed, NOW), NOW, dict[str, int]()
    for step in steps:
        now += step
        ticks = market.step(now)
        assert [tick.symbol for tick in ticks] == [name.upper() for name in names]
        for tick in ticks:
            assert SHAPE.fullmatch(tick.data)
            assert read_event(tick.data, None) == tick
            assert tick.at_ms > last.get(tick.symbol, 0)
            last[tick.symbol] = tick.at_ms
            of = numbers(tick)
            assert 0 < of["l"] <= of["c"] <= of["h"]
            assert of["l"] <= of["o"] <= of["h"]
            # Turnover is a sum of price times quantity, so it lies between the extremes.
            assert of["v"] > 0
            assert of["l"] * of["v"] <= of["q"] <= of["h"] * of["v"]


@settings(max_examples=20)
@given(names=names, seed=st.integers(0, 2**32))
def test_prices_and_quantities_have_exactly_the_digits_of_their_scale(
    names: list[str], seed: int
) -> None:
    for tick in Market(names, seed, NOW).step(NOW + 1000):
        item, event = instrument(tick.symbol), orjson.loads(tick.data)
        for member in "cohl":
            assert len(event[member].partition(".")[2]) == item.price_digits
        assert len(event["v"].partition(".")[2]) == item.quantity_digits
        assert len(event["q"].partition(".")[2]) == item.price_digits + item.quantity_digits


@given(st.integers(0, 10**30), st.integers(0, 12))
def test_a_decimal_is_printed_exactly(value: int, digits: int) -> None:
    text = decimal(value, digits)
    assert int(text.replace(".", "")) == value
    assert len(text.partition(".")[2]) == digits
    assert re.fullmatch(r"(0|[1-9]\d*)(\.\d+)?", text)


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others() -> None:
    def run(seed: int) -> list[bytes]:
        market = Market(["btcusdt", "ethusdt"], seed, NOW)
        return [tick.data for at in range(1, 50) for tick in market.step(NOW + at * 1000)]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_volume_and_turnover_grow_until_the_window_slides() -> None:
    market, volume, turnover = Market(["btcusdt"], 5, NOW), Decimal(0), Decimal(0)
    for second in range(1, BUCKET_MS // 1000):
        (tick,) = market.step(NOW + second * 1000)
        of = numbers(tick)
        assert of["v"] > volume
        assert of["q"] > turnover
        volume, turnover = of["v"], of["q"]


def test_the_window_forgets_what_is_older_than_a_day() -> None:
    market = Market(["btcusdt"], 9, NOW)
    seen: list[tuple[int, dict[str, Decimal]]] = []
    for step in range(1, 3 * WINDOW_MS // BUCKET_MS):
        now = NOW + step * BUCKET_MS
        (tick,) = market.step(now)
        of = numbers(tick)
        seen.append((now, of))
        # One trade per bucket here, so the window's facts can be had from the closes seen.
        window = [past["c"] for at, past in seen if at > now - WINDOW_MS]
        if now - NOW >= WINDOW_MS:
            assert of["o"] == window[0]
            assert of["h"] == max(window)
            assert of["l"] == min(window)


def test_a_month_later_the_price_is_still_of_the_same_order() -> None:
    market, closes = Market(["btcusdt"], 3, NOW), list[Decimal]()
    for step in range(1, 30 * WINDOW_MS // BUCKET_MS):
        (tick,) = market.step(NOW + step * BUCKET_MS)
        closes.append(numbers(tick)["c"])
    assert min(closes) > 48_000
    assert max(closes) < 193_000
    assert len(set(closes)) > len(closes) * 0.9


def test_symbols_of_one_step_are_stamped_apart_and_never_in_the_future() -> None:
    ticks = Market([f"s{number}" for number in range(40)], 1, NOW).step(NOW + 1000)
    times = [tick.at_ms for tick in ticks]
    assert max(times) == NOW + 1000
    assert len(set(times)) == STAMPS


def test_coins_move_together() -> None:
    market, same, steps = Market(["btcusdt", "ethusdt"], 11, NOW), 0, 1000
    last = [numbers(tick)["c"] for tick in market.step(NOW + 1)]
    for step in range(1, steps + 1):
        now = [numbers(tick)["c"] for tick in market.step(NOW + step * BUCKET_MS)]
        same += (now[0] > last[0]) == (now[1] > last[1])
        last = now
    assert same > steps * 0.58


def test_a_clock_set_back_does_not_set_event_times_back() -> None:
    market = Market(["btcusdt"], 1, NOW)
    (first,) = market.step(NOW + 10_000)
    (second,) = market.step(NOW - 3_600_000)
    (third,) = market.step(NOW + 20_000)
    assert first.at_ms < second.at_ms < third.at_ms <= NOW + 20_000


@pytest.mark.parametrize("symbol", ["BTCUSDT", "PEPEUSDT", "X", "1000SATSUSDT"])
def test_a_symbol_keeps_its_scale_from_one_start_to_the_next(symbol: str) -> None:
    assert instrument(symbol) == instrument(symbol)
    assert instrument(symbol).start > 0


def test_the_day_before_the_start_is_already_traded() -> None:
    (tick,) = Market(["btcusdt"], 1, NOW).step(NOW + 1000)
    of = numbers(tick)
    assert of["h"] > of["l"]
    assert of["o"] != of["c"]
    assert of["v"] > 1000
