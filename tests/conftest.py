"""What every test may ask for: a gateway that runs, and clients that connect to it.

Tests run on uvloop, as the gateway does. ``await serve(gateway)`` starts one in this process,
``await connect(running)`` opens a V2 client, ``await connect_v1(running)`` a V1 client, and
``await raw(running)`` a bare TCP connection. All end with the test, clients first; a test whose
gateway left an error behind in the loop fails.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest
import structlog
import uvloop
from hypothesis import settings

# How long one example takes is the machine's affair: speed is measured in benches.
settings.register_profile("moda", deadline=None)
settings.load_profile("moda")

pytest.register_assert_rewrite(
    "event_stream", "faults", "gateway", "json_client", "phoenix", "raw", "registrar"
)

from gateway import Running, start  # noqa: E402  # rewritten, so that it can say what it saw
from moda import Gateway  # noqa: E402
from phoenix import Phoenix, PhoenixV1  # noqa: E402
from raw import Raw  # noqa: E402

Serve = Callable[..., Awaitable[Running]]
Connect = Callable[..., Awaitable[Phoenix]]
ConnectV1 = Callable[..., Awaitable[PhoenixV1]]
OpenRaw = Callable[..., Awaitable[Raw]]


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], Any]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def logs_can_be_captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Configuring logs as production does lasts for one test.

    Loggers cached on first use would keep the processors of whoever came first, and
    ``structlog.testing.capture_logs`` would capture nothing.
    """
    configure = structlog.configure

    def uncached(**options: Any) -> None:
        configure(**{**options, "cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", uncached)
    yield
    structlog.reset_defaults()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """``running = await serve(gateway)``; its ``url``, ``port`` and ``ws()`` say where it is."""
    all_running: list[Running] = []

    async def begin(gateway: Gateway, **options: Any) -> Running:
        running = await start(gateway, **options)
        all_running.append(running)
        return running

    yield begin
    for running in all_running:
        await running.stop()


@pytest.fixture
async def connect(serve: Serve) -> AsyncIterator[Connect]:
    """Opens V2 clients; they close with the test, before their gateway does."""
    clients: list[Phoenix] = []

    async def begin(
        running: Running,
        path: str = "/socket",
        *,
        params: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Phoenix:
        client = await Phoenix.open(running.ws(path, **(params or {})), **options)
        clients.append(client)
        return client

    yield begin
    for client in clients:
        await client.close()


@pytest.fixture
async def connect_v1(serve: Serve) -> AsyncIterator[ConnectV1]:
    """Opens V1 clients: they send no ``vsn``."""
    clients: list[PhoenixV1] = []

    async def begin(running: Running, path: str = "/socket", **options: Any) -> PhoenixV1:
        client = await PhoenixV1.open(running.ws(path, vsn=""), **options)
        clients.append(client)
        return client

    yield begin
    for client in clients:
        await client.close()


@pytest.fixture
async def raw(serve: Serve) -> AsyncIterator[OpenRaw]:
    """Opens bare TCP connections."""
    clients: list[Raw] = []

    async def begin(running: Running, **options: Any) -> Raw:
        client = await Raw.open(running.port, **options)
        clients.append(client)
        return client

    yield begin
    for client in clients:
        client.close()
