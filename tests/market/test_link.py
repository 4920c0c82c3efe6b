"""How many symbols become one URL and a few requests."""

from __future__ import annotations

from urllib.parse import unquote

import orjson
from hypothesis import given
from hypothesis import strategies as st

from moda.market.link import STREAMS_PER_REQUEST, URL_BYTES, plan


def test_a_handful_of_symbols_needs_no_request() -> None:
    url, requests = plan("wss://stream.binance.com:9443", ["btcusdt", "ethusdt"])
    assert url == (
        "wss://stream.binance.com:9443/stream?streams=btcusdt@miniTicker/ethusdt@miniTicker"
    )
    assert requests == []


def test_a_base_url_with_a_path_keeps_it() -> None:
    url, _ = plan("ws://localhost:9000/mirror/", ["btcusdt"])
    assert url == "ws://localhost:9000/mirror/stream?streams=btcusdt@miniTicker"


@given(st.lists(st.from_regex(r"\w{1,40}", fullmatch=True), min_size=1, max_size=300, unique=True))
def test_every_symbol_is_asked_for_once_and_in_order(symbols: list[str]) -> None:
    url, requests = plan("ws://x", symbols)
    assert len(url) <= URL_BYTES + len("ws://x/stream?streams=")
    assert url.isascii()
    asked = unquote(url.partition("streams=")[2]).split("/")
    for number, request in enumerate(map(orjson.loads, requests), 1):
        assert request["method"] == "SUBSCRIBE"
        assert request["id"] == number
        assert 1 <= len(request["params"]) <= STREAMS_PER_REQUEST
        asked += request["params"]
    assert asked == [f"{symbol}@miniTicker" for symbol in symbols]
