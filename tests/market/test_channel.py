"""`chart:prices` as its clients see it: a whole gateway, a whole exchange, and TCP at both ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from conftest import Connect, Serve
from moda import Gateway
from moda.market import MarketSettings, install
from phoenix import Phoenix

from .fake_binance import FakeBinance

TOPIC = "chart:prices"


def gateway_on(**settings: Any) -> Gateway:
    gateway = Gateway(builtins=False)
    install(gateway, MarketSettings(**settings))
    return gateway


async def event(client: Phoenix, name: str) -> str:
    """The text of the next broadcast of that name, others dropped."""
    async with asyncio.timeout(20.0):
        while True:
            frame = await client.read()
            assert isinstance(frame, str)
            if frame.startswith(f'[null,null,"{TOPIC}","{name}",'):
                return frame


async def test_a_client_gets_the_bytes_of_the_exchange_and_is_told_when_they_stop(
    serve: Serve, connect: Connect
) -> None:
    async with FakeBinance() as fake:
        running = await serve(gateway_on(source="binance", url=fake.url, stale_after=1.0))
        client = await connect(running)
        joined = await client.join(TOPIC)
        assert joined["upstream"] in {"stale", "live"}
        assert joined["source"] == "binance"
        # White space and trailing zeros that no JSON encoder would have written.
        frame = await event(client, "price_tick")
        assert frame.startswith(f'[null,null,"{TOPIC}","price_tick",{{"e":"24hrMiniTicker","E":')
        assert '"o":"1.10","h": "284578000.00000004","l":"0.10000000"' in frame

        fake.flowing = False
        told = json.loads(await event(client, "upstream"))[4]
        while told["state"] != "stale":
            told = json.loads(await event(client, "upstream"))[4]
        assert told["reason"] == "no data for 1 s on an open connection"
        assert (await (await connect(running)).join(TOPIC))["upstream"] == "stale"

        fake.flowing = True
        assert json.loads(await event(client, "upstream"))[4]["state"] == "live"
        assert json.loads(await event(client, "price_tick"))[4]["e"] == "24hrMiniTicker"
        assert (await (await connect(running)).join(TOPIC))["upstream"] == "live"


async def test_a_join_succeeds_while_the_exchange_cannot_be_reached(
    serve: Serve, connect: Connect
) -> None:
    async with FakeBinance() as fake:
        await fake.vanish()
        running = await serve(gateway_on(source="binance", url=fake.url, reconnect_max=1.0))
        client = await connect(running)
        assert (await client.join(TOPIC))["upstream"] == "stale"
        await fake.listen()
        assert json.loads(await event(client, "price_tick"))[4]["e"] == "24hrMiniTicker"


async def test_simulated_prices_are_called_simulated_by_the_join_and_by_health(
    serve: Serve, connect: Connect
) -> None:
    gateway = gateway_on(seed=1)
    client = await connect(await serve(gateway))
    joined = await client.join(TOPIC)
    assert (joined["upstream"], joined["source"]) == ("simulated", "simulated")
    tick = json.loads(await event(client, "price_tick"))[4]
    assert list(tick) == ["e", "E", "s", "c", "o", "h", "l", "v", "q"]
    assert gateway.health()["prices"].status == "simulated"
