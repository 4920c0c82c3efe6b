"""A gateway as `moda serve` makes it, with topics of every kind, and a client of its HTTP API."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from gateway import Running
from moda import Gateway, History, Stream
from moda.app.assemble import assemble
from moda.app.settings import load_settings
from moda.serve.server import Server


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


class Api:
    """Asks a running gateway; ``heard`` is what a listener inside it got, by topic."""

    def __init__(self, running: Running) -> None:
        self.running = running

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """``body`` may be bytes, sent as they are, or anything JSON can say."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        def call() -> Answer:
            connection = http.client.HTTPConnection("127.0.0.1", self.running.port, timeout=20)
            try:
                connection.request(method, f"/api/v1{path}", data, named)
                answer = connection.getresponse()
                read = answer.read()
                headers_ = {name.lower(): value for name, value in answer.getheaders()}
                return Answer(answer.status, headers_, json.loads(read) if read else None)
            finally:
                connection.close()

        return await asyncio.to_thread(call)

    async def publish(self, topic: str, event: str = "said", **more: Any) -> Answer:
        return await self.ask("POST", "/publish", {"topic": topic, "event": event, **more})

    async def batch(self, *messages: Any, **headers: str) -> Answer:
        return await self.ask("POST", "/publish", {"messages": list(messages)}, **headers)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, **headers)

    async def history(self, topic: str, query: str = "") -> Answer:
        return await self.get(f"/topics/{quote(topic, safe='')}/history?{query}")

    def hears(self, topic: str) -> list[tuple[str, bytes, bool]]:
        heard: list[tuple[str, bytes, bool]] = []
        self.running.gateway.hub.listen(topic, lambda *message: heard.append(message))
        return heard


Begin = Callable[..., Awaitable[Api]]


@pytest.fixture
async def begin(tmp_path: Path) -> AsyncIterator[Begin]:
    """``api = await begin(NAME=value)``: with these settings. ``room:*`` keeps ten messages in
    memory, ``plain:*`` none, ``kept:*`` lies in the database.
    """
    all_running: list[Running] = []

    async def start(gateway: Gateway | None = None, **environ: str) -> Api:
        gateway = gateway or Gateway(builtins=False)
        gateway.channel("room:{name}", history=History(size=10))(Stream())
        gateway.channel("plain:{name}")(Stream())
        gateway.channel("full:{name}", presence="list")(Stream())
        gateway.channel("kept:{name}", history=History(size=9_000, durable=True))(Stream())
        settings = load_settings(
            {
                "PORT": "0",
                "MODA_CONSOLE": "off",
                "DATABASE_URL": f"sqlite:///{tmp_path}/moda.db",
                **environ,
            }
        )
        server = Server(assemble(gateway, settings))
        await server.start()
        all_running.append(Running(gateway, server, False, [], []))
        return Api(all_running[-1])

    yield start
    for running in all_running:
        await running.stop()


@pytest.fixture
async def api(begin: Begin) -> Api:
    return await begin()
