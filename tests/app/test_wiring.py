"""Every setting reaches the server: each is set, and a client over a real socket sees that it is."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from gateway import Running, until
from moda import Channel, Gateway, Stream
from moda.app.assemble import assemble
from moda.app.settings import load_settings
from moda.serve.server import Server
from phoenix import Phoenix, error

Assemble = Callable[..., Awaitable[Running]]

GUARDED = b"""
asyncapi: 3.0.0
info: {title: Guarded, version: 1.0.0}
channels:
  vault: {address: 'vault:{name}', x-moda: {access: token, publish: servers}}
  hall: {address: 'hall', x-moda: {publish: servers}}
"""


@pytest.fixture
async def assembled() -> AsyncIterator[Assemble]:
    """``running = await assembled(gateway, MODA_...=...)``: a gateway as ``moda serve`` makes it."""
    all_running: list[Running] = []

    async def begin(gateway: Gateway | None = None, **environ: str) -> Running:
        gateway = gateway or Gateway()
        plan = assemble(gateway, load_settings({"PORT": "0", "MODA_CONSOLE": "off", **environ}))
        server = Server(plan)
        await server.start()
        all_running.append(Running(gateway, server, False, [], []))
        return all_running[-1]

    yield begin
    for running in all_running:
        await running.stop()


async def refused(running: Running, **options: Any) -> int:
    """The HTTP status that turns a client away."""
    params = options.pop("params", {})
    with pytest.raises(InvalidStatus) as caught:
        await Phoenix.open(running.ws(**params), **options)
    return caught.value.response.status_code


async def get(running: Running, path: str) -> str:
    def ask() -> str:
        with urllib.request.urlopen(running.url + path, timeout=20) as answer:
            return answer.read().decode()

    return await asyncio.to_thread(ask)


class TestTokens:
    """MODA_SOCKET_AUTH, MODA_SOCKET_TOKENS, the connect hook, and ``access: token``."""

    async def test_a_channel_for_tokens_takes_who_showed_one_and_nobody_else(
        self, assembled, connect
    ):
        running = await assembled(
            Gateway(asyncapi=GUARDED), MODA_SOCKET_AUTH="optional", MODA_SOCKET_TOKENS="secret"
        )
        stranger = await connect(running)
        friend = await connect(running, params={"token": "secret"})
        assert await stranger.ask("1", "1", "vault:a", "phx_join", {}) == error("unauthorized")
        await stranger.join("hall")
        await friend.join("vault:a")

    async def test_a_wrong_token_is_refused_and_so_is_none_where_one_is_required(self, assembled):
        running = await assembled(MODA_SOCKET_AUTH="required", MODA_SOCKET_TOKENS="secret")
        assert await refused(running) == 403
        assert await refused(running, params={"token": "guess"}) == 403

    @pytest.mark.parametrize("principal", [None, "ann"])
    async def test_a_channel_for_tokens_takes_who_got_a_principal_from_the_hook(
        self, assembled, connect, principal
    ):
        gateway = Gateway(asyncapi=GUARDED)
        gateway.connect(lambda asked: principal)
        client = await connect(await assembled(gateway))
        answer = await client.ask("1", "1", "vault:a", "phx_join", {})
        assert (answer["status"] == "ok") is (principal is not None)

    async def test_a_token_is_worth_as_much_where_a_hook_names_nobody(self, assembled, connect):
        gateway = Gateway(asyncapi=GUARDED)
        gateway.connect(lambda asked: None)
        running = await assembled(gateway, MODA_SOCKET_AUTH="optional", MODA_SOCKET_TOKENS="secret")
        friend = await connect(running, params={"token": "secret"})
        await friend.join("vault:a")


class TestLimits:
    """What a connection may do."""

    async def test_pages_of_the_configured_origins_connect_and_others_do_not(
        self, assembled, connect
    ):
        running = await assembled(MODA_ORIGINS="https://app.example.com")
        await connect(running, origin="https://app.example.com")
        assert await refused(running, origin="https://other.example.com") == 403

    @pytest.mark.parametrize(
        "name", [{"PHX_HOST": "pub.example.com"}, {"MODA_PUBLIC_URL": "https://pub.example.com"}]
    )
    async def test_pages_of_the_public_name_connect_on_a_declared_socket_too(
        self, assembled, connect, name
    ):
        gateway = Gateway()
        gateway.socket("/live", origins="same")
        running = await assembled(gateway, **name)
        for path in ("/socket", "/live"):
            await connect(running, path, origin="https://pub.example.com")

    async def test_a_message_over_the_limit_closes(self, assembled, connect):
        client = await connect(await assembled(MODA_MAX_MESSAGE="1k"))
        await client.write("x" * 1025)
        assert (await client.closed())[0] == 1009

    async def test_a_channel_over_the_cap_is_refused(self, assembled, connect):
        client = await connect(await assembled(MODA_MAX_CHANNELS="1"))
        await client.send("1", "1", "chart:prices", "phx_join", {})
        await client.send("2", "2", "telemetry:metrics", "phx_join", {})
        answers = {}
        while len(answers) < 2:
            frame = await client.receive()
            if frame[3] == "phx_reply":
                answers[frame[1]] = frame[4]
        assert answers["1"]["status"] == "ok"
        assert answers["2"] == error("too many channels joined")

    async def test_a_silent_connection_is_closed_after_the_idle_timeout(self, assembled, connect):
        client = await connect(await assembled(MODA_IDLE_TIMEOUT="1"))
        assert (await client.closed())[0] == 1002

    async def test_a_slow_reader_is_given_the_outbox_that_is_configured(self, assembled, connect):
        """24 MiB in one turn are more than the kernel takes, and than the default of 1 MiB beside."""
        gateway = Gateway()
        gateway.channel("news")(Stream)
        client = await connect(await assembled(gateway, MODA_OUTBOX="64M"))
        await client.join("news")
        for _ in range(24):
            gateway.broadcast("news", "page", bytes(1 << 20))
        for _ in range(24):
            assert isinstance(await client.receive(), bytes)

    async def test_a_burst_over_the_limit_is_sent_before_the_turn_ends(self, assembled, connect):
        gateway = Gateway()
        gateway.channel("news")(Stream)
        running = await assembled(gateway, MODA_BURST="64k")
        client = await connect(running)
        await client.join("news")
        before = running.stats["sends"]
        for _ in range(4):
            gateway.broadcast("news", "page", bytes(32 << 10))
        assert running.stats["sends"] > before


class TestCounters:
    """``/metrics`` hears of what the door and the capabilities count."""

    async def test_a_refusal_is_counted(self, assembled):
        running = await assembled()
        assert await refused(running, origin="https://other.example.com") == 403
        assert 'moda_refusals_total{reason="origin"} 1.0' in await get(running, "/metrics")

    async def test_a_connection_that_fails_is_counted(self, assembled):
        running = await assembled()
        running.server.door.on_error("listener_failed")  # what a crash of our own code calls
        page = await get(running, "/metrics")
        assert 'moda_parse_errors_total{reason="listener_failed"} 1.0' in page

    async def test_open_connections_are_counted_by_their_socket(self, assembled):
        gateway = Gateway()
        gateway.socket("/admin")
        running = await assembled(gateway)
        staying = await Phoenix.open(running.ws("/admin"))
        leaving = await Phoenix.open(running.ws())
        page = await get(running, "/metrics")
        assert 'moda_connections{mount="/socket"} 1.0' in page
        assert 'moda_connections{mount="/admin"} 1.0' in page
        await leaving.close()
        await until(
            lambda: gateway.connections() == {"/socket": 0, "/ws": 0, "/sse": 0, "/admin": 1}
        )
        await staying.close()
        await until(
            lambda: gateway.connections() == {"/socket": 0, "/ws": 0, "/sse": 0, "/admin": 0}
        )

    async def test_prices_have_their_counters(self, assembled):
        assert "\nmoda_prices_" in await get(await assembled(), "/metrics")


class TestDocument:
    """Which AsyncAPI document is obeyed."""

    @pytest.fixture
    def operators(self, tmp_path: Path) -> str:
        path = tmp_path / "operators.yaml"
        path.write_bytes(GUARDED)
        return str(path)

    async def test_the_operators_document_is_obeyed(self, assembled, connect, operators):
        client = await connect(await assembled(MODA_ASYNCAPI=operators))
        await client.join("hall")

    @pytest.mark.parametrize("both", [False, True])
    async def test_an_applications_document_outlives_the_settings(
        self, assembled, connect, operators, both
    ):
        own = GUARDED.replace(b"'hall'", b"'stage'")
        environ = {"MODA_ASYNCAPI": operators} if both else {}
        running = await assembled(Gateway(asyncapi=own), **environ)
        client = await connect(running)
        await client.join("stage")

    async def test_the_served_document_says_the_configured_interval(self, assembled):
        running = await assembled(MODA_TELEMETRY_INTERVAL_MS="500")
        schemas = json.loads(await get(running, "/asyncapi.json"))["components"]["schemas"]
        assert schemas["telemetryJoinPayload"]["properties"]["interval_ms"]["default"] == 500


async def test_the_drain_waits_for_what_was_published(assembled):
    class Recording(Gateway):
        flushed = 0

        async def drained(self) -> None:
            self.flushed += 1
            await super().drained()

    gateway = Recording()
    running = await assembled(gateway)
    await running.server.stop()
    assert gateway.flushed == 1


async def test_a_gateway_stops_what_it_started(assembled):
    left: list[str] = []
    gateway = Gateway()

    @gateway.channel("room")
    class Room(Channel):
        async def leave(self, reason):
            left.append(reason)

    running = await assembled(gateway)
    client = await Phoenix.open(running.ws())
    await client.join("room")
    await running.stop()
    await until(lambda: left)
    assert left == ["shutdown"]
    await client.close()
