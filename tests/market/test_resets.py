"""An exchange that resets its connections is nobody else's trouble."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

import pytest
from picows import WSTransport

from conftest import Serve
from gateway import Running
from moda import Gateway
from moda.market import MarketSettings, install
from moda.market.link import Link

from .fake_binance import FakeBinance
from .resets import PHASES, Resetting
from .support import Recorder, running, until, upstream

RESETS = 120 * int(os.environ.get("SOAK", "1"))
"""Of each kind, with a stranger beside every one of them; `make soak` asks for more."""


async def serve_beside(exchange: Resetting, serve: Serve) -> Running:
    gateway = Gateway(builtins=False)
    settings = MarketSettings(
        source="binance",
        url=exchange.url,
        symbols=("btcusdt",),
        reconnect_min=0.01,
        reconnect_max=0.01,
        stale_after=0.1,
    )
    install(gateway, settings)
    return await serve(gateway)


async def ask(served: Running) -> bytes:
    """One stranger on a connection of its own: the whole answer to GET /health."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    try:
        async with asyncio.timeout(10.0):
            return await reader.read()
    finally:
        writer.close()


async def strangers_are_answered(served: Running, exchange: Resetting) -> None:
    until_reset = exchange.reset + RESETS
    while exchange.reset < until_reset:
        assert (await ask(served)).startswith(b"HTTP/1.1 200")
    # What a reset left behind would swallow the next who gets its descriptor's number.
    answers = await asyncio.gather(*(ask(served) for _ in range(64)))
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
async def test_every_stranger_is_answered_while_the_exchange_resets(
    serve: Serve, phase: Callable[[socket.socket], None]
) -> None:
    with Resetting((phase,)) as exchange:
        served = await serve_beside(exchange, serve)
        await strangers_are_answered(served, exchange)


async def test_every_stranger_is_answered_while_the_exchange_resets_at_any_moment(
    serve: Serve,
) -> None:
    with Resetting(PHASES) as exchange:
        served = await serve_beside(exchange, serve)
        await strangers_are_answered(served, exchange)


async def test_strangers_are_answered_after_an_exchange_that_reset_is_gone(serve: Serve) -> None:
    with Resetting(PHASES) as exchange:
        served = await serve_beside(exchange, serve)
        await until(lambda: exchange.reset >= RESETS)
    answers = await asyncio.gather(*(ask(served) for _ in range(64)))
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)


async def test_the_connection_to_the_exchange_is_the_loops_own_transport(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds: list[type] = []
    connected = Link.on_ws_connected

    def noted(link: Link, transport: WSTransport) -> None:
        kinds.append(type(transport.underlying_transport))
        connected(link, transport)

    monkeypatch.setattr(Link, "on_ws_connected", noted)
    async with FakeBinance() as fake:
        sink = Recorder()
        async with running(upstream(fake.url), sink):
            await until(lambda: sink.state == "live")
    assert [kind.__module__ for kind in kinds] == ["uvloop.loop"]
