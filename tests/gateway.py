"""A gateway under test: the whole of it, in this process, on a free port of loopback.

Nothing is replaced. Clients come over TCP, through the door and the engine, because the
bugs worth finding live where those meet. What the loop would only have logged (a task nobody
awaited, a callback that raised) is collected and fails the test that caused it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from moda import Gateway
from moda.serve.door import DoorOptions
from moda.serve.face import Face
from moda.serve.server import Plan, Server, ServerOptions
from moda.serve.tls import TlsOptions

PATIENCE = 20.0
"""Seconds a test waits for something that must come. Long: it bounds a hang, it times nothing."""


async def until(condition: Callable[[], object]) -> None:
    """Waits for what no event tells of."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.002)


@dataclass
class Running:
    """A gateway that serves. ``refusals`` and ``errors`` are the door's counted reasons."""

    gateway: Gateway
    server: Server
    tls: bool
    refusals: list[str]
    errors: list[str]
    mishaps: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def ws(self, path: str = "/socket", **params: str) -> str:
        """Where a client connects. Without ``vsn`` among ``params`` it speaks V2; ``vsn=""`` sends none."""
        params.setdefault("vsn", "2.0.0")
        query = urlencode({name: value for name, value in params.items() if value})
        return f"ws{self.url[4:]}{path}/websocket" + (f"?{query}" if query else "")

    @property
    def stats(self) -> dict[str, Any]:
        return self.gateway.hub.stats()

    async def stop(self) -> None:
        """Ends it at once: nobody is given time to say goodbye. No connection may be left behind."""
        self.server.hurry.set()
        await self.server.stop()
        await until(lambda: not self.gateway.hub.connections())
        await asyncio.sleep(0)
        assert not self.mishaps, f"the loop had to report {self.mishaps}"


async def start(
    gateway: Gateway,
    *,
    door: DoorOptions | None = None,
    tls: TlsOptions | None = None,
) -> Running:
    """Serves ``gateway`` on a free port of loopback until :meth:`Running.stop`."""
    refusals: list[str] = []
    errors: list[str] = []
    server = Server(
        Plan(
            ServerOptions(port=0, door=door or DoorOptions(), tls=tls),
            Face("test", gateway.health, mounted=gateway.asgi),
            [door for mount in gateway.build() for door in mount.doors()],
            connections=gateway.hub.connections,
            close_some=gateway.hub.close_some,
            start=gateway.start,
            stop=gateway.stop,
            on_refusal=refusals.append,
            on_error=errors.append,
        )
    )
    await server.start()
    running = Running(gateway, server, tls is not None, refusals, errors)
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, context: running.mishaps.append(context)
    )
    return running
