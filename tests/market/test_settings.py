"""Settings: every refusal names the variable, what it got and what it takes."""

from __future__ import annotations

import math
from typing import Any

import pytest

from moda.errors import ConfigurationError
from moda.market.settings import VARIABLES, MarketSettings

DAY = 86_400.0


def test_the_defaults_need_no_network_and_name_the_contract_symbols() -> None:
    settings = MarketSettings.from_environment({})
    assert settings == MarketSettings()
    assert settings.kind == "simulated"
    assert settings.url == "wss://stream.binance.com:9443"
    assert settings.symbols == ("btcusdt", "ethusdt")
    assert settings.rotate_after < DAY


def test_every_field_can_be_set_from_the_environment() -> None:
    given = {
        "MODA_PRICES": "replay:/tmp/a b.jsonl",
        "MODA_PRICES_URL": "ws://localhost:9000/mirror",
        "MODA_PRICES_SYMBOLS": "btcusdt, 1inchusdt",
        "MODA_PRICES_STALE_AFTER": "2.5",
        "MODA_PRICES_ROTATE_AFTER": "3600",
        "MODA_PRICES_RECONNECT_MIN": "1",
        "MODA_PRICES_RECONNECT_MAX": "10",
        "MODA_PRICES_CONNECT_TIMEOUT": "3",
        "MODA_PRICES_HEALTHY_AFTER": "0",
        "MODA_PRICES_HANDOVER": "2",
        "MODA_PRICES_MAX_MESSAGE": "4096",
        "MODA_PRICES_SEED": "-5",
        "MODA_PRICES_REPLAY_SPEED": "10",
        "MODA_PRICES_REPLAY_LOOP": "Yes",
    }
    assert given.keys() == set(VARIABLES.values())
    assert MarketSettings.from_environment(given) == MarketSettings(
        source="replay:/tmp/a b.jsonl",
        url="ws://localhost:9000/mirror",
        symbols=("btcusdt", "1inchusdt"),
        stale_after=2.5,
        rotate_after=3600.0,
        reconnect_min=1.0,
        reconnect_max=10.0,
        connect_timeout=3.0,
        healthy_after=0.0,
        handover=2.0,
        max_message=4096,
        seed=-5,
        replay_speed=10.0,
        replay_loop=True,
    )


def test_the_fields_and_the_variables_are_the_same_set() -> None:
    assert set(MarketSettings.__dataclass_fields__) == set(VARIABLES)


def test_an_empty_variable_keeps_the_default() -> None:
    assert MarketSettings.from_environment(dict.fromkeys(VARIABLES.values(), " ")) == (
        MarketSettings()
    )


@pytest.mark.parametrize(
    ("source", "kind", "file"),
    [("simulated", "simulated", ""), ("binance", "binance", ""), ("replay:x", "replay", "x")],
)
def test_a_source_is_a_kind_and_perhaps_a_file(source: str, kind: str, file: str) -> None:
    settings = MarketSettings(source=source)
    assert (settings.kind, settings.replay_file) == (kind, file)


@pytest.mark.parametrize(
    ("variable", "got"),
    [
        ("MODA_PRICES", "coinbase"),
        ("MODA_PRICES", "replay:"),
        ("MODA_PRICES", "Binance"),
        ("MODA_PRICES_URL", "https://stream.binance.com"),
        ("MODA_PRICES_URL", "stream.binance.com"),
        ("MODA_PRICES_URL", "wss://"),
        ("MODA_PRICES_URL", "wss://host:99999"),
        ("MODA_PRICES_URL", "wss://host:port"),
        ("MODA_PRICES_URL", "wss://host/?streams=x"),
        ("MODA_PRICES_URL", "wss://host/#x"),
        ("MODA_PRICES_URL", "wss://höst"),
        ("MODA_PRICES_SYMBOLS", "BTCUSDT"),
        ("MODA_PRICES_SYMBOLS", "btcusdt,"),
        ("MODA_PRICES_SYMBOLS", "btc/usdt"),
        ("MODA_PRICES_SYMBOLS", "a" * 41),
        ("MODA_PRICES_SYMBOLS", "btcusdt,btcusdt"),
        ("MODA_PRICES_SYMBOLS", "sun,\u017fun"),
        ("MODA_PRICES_SYMBOLS", "РАКЕТАusdt"),
        ("MODA_PRICES_SYMBOLS", "btc-usdt"),
        ("MODA_PRICES_SYMBOLS", "btc usdt"),
        ("MODA_PRICES_SYMBOLS", "btc@usdt"),
        ("MODA_PRICES_SYMBOLS", ",".join(f"s{n}" for n in range(1025))),
        ("MODA_PRICES_STALE_AFTER", "soon"),
        ("MODA_PRICES_STALE_AFTER", "0"),
        ("MODA_PRICES_STALE_AFTER", "nan"),
        ("MODA_PRICES_STALE_AFTER", "inf"),
        ("MODA_PRICES_ROTATE_AFTER", "90000"),
        ("MODA_PRICES_RECONNECT_MIN", "31"),
        ("MODA_PRICES_RECONNECT_MAX", "-1"),
        ("MODA_PRICES_CONNECT_TIMEOUT", "61"),
        ("MODA_PRICES_MAX_MESSAGE", "10"),
        ("MODA_PRICES_MAX_MESSAGE", "4096.5"),
        ("MODA_PRICES_SEED", "lucky"),
        ("MODA_PRICES_REPLAY_SPEED", "0"),
        ("MODA_PRICES_REPLAY_LOOP", "maybe"),
    ],
)
def test_a_bad_value_is_refused_with_its_variable_what_it_got_and_what_it_takes(
    variable: str, got: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        MarketSettings.from_environment({variable: got})
    message = str(refused.value)
    assert message.startswith(f"{variable}: got ")
    assert ", takes " in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("symbols", ["btcusdt"]),
        ("symbols", ()),
        ("symbols", (1,)),
        ("stale_after", "4"),
        ("stale_after", True),
        ("stale_after", math.nan),
        ("max_message", 4096.0),
        ("seed", 1.5),
        ("source", None),
        ("url", None),
    ],
)
def test_the_same_refusals_meet_values_given_in_python(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^{VARIABLES[field]}: got "):
        MarketSettings(**{field: value})


@pytest.mark.parametrize("url", ["wss://user:hunter2@host", "wss://user:hunter2@host:x"])
def test_a_password_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^MODA_PRICES_URL: got ") as refused:
        MarketSettings(url=url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "symbol", ["btcusdt_261225", "币安人生usdt", "ракетаusdt", "数字", "1000satsusdt", "_"]
)
def test_a_symbol_is_of_letters_of_any_script_digits_and_underscores(symbol: str) -> None:
    assert MarketSettings.from_environment({"MODA_PRICES_SYMBOLS": symbol}).symbols == (symbol,)


def test_1024_symbols_are_accepted() -> None:
    assert len(MarketSettings(symbols=tuple(f"s{n}" for n in range(1024))).symbols) == 1024
