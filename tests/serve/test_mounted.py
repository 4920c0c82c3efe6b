"""WebSockets of the mounted application, asked for by a real client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from moda.serve.door import DoorOptions
from moda.serve.drain import DrainOptions
from moda.serve.face import Face

from .conftest import until


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Echoes text; knows no HTTP."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": message["type"] + ".complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    assert scope["type"] == "websocket"
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


def mounted(**options: Any) -> dict[str, Any]:
    return {"face": Face("test", dict, mounted=echo), **options}


async def test_a_mounted_application_has_web_sockets_on_paths_moda_does_not_serve(house):
    home = await house(**mounted())
    async with open_socket(f"ws://127.0.0.1:{home.port}/live") as client:
        await client.send("hello")
        assert await client.recv() == "hello"


async def test_a_web_socket_on_a_path_of_modas_own_never_reaches_the_application(house):
    home = await house(**mounted())
    for path in ("/health", "/api/v1/openapi.json"):
        with pytest.raises(InvalidStatus) as refused:
            await open_socket(f"ws://127.0.0.1:{home.port}{path}")
        assert refused.value.response.status_code == 403


async def test_its_web_sockets_count_under_the_cap_until_they_close(house):
    home = await house(**mounted(door=DoorOptions(max_connections=1)))
    url = f"ws://127.0.0.1:{home.port}/live"
    async with open_socket(url) as client:
        with pytest.raises(InvalidStatus) as refused:
            await open_socket(url)
        assert refused.value.response.status_code == 503
        assert int(refused.value.response.headers["retry-after"]) > 0
        await client.send("still here")
        assert await client.recv() == "still here"
    await until(lambda: not home.server.door.full())
    async with open_socket(url) as client:
        await client.send("next")
        assert await client.recv() == "next"


async def test_its_messages_have_the_bound_of_all_others(house):
    home = await house(**mounted(max_message=1000))
    async with open_socket(f"ws://127.0.0.1:{home.port}/live") as client:
        await client.send("x" * 1000)
        assert await client.recv() == "x" * 1000
        await client.send("x" * 1001)
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_a_drain_tells_them_to_come_back(house):
    home = await house(**mounted(drain=DrainOptions(window=0.1, deadline=5)))
    async with open_socket(f"ws://127.0.0.1:{home.port}/live") as client:
        await client.send("hello")
        await client.recv()
        stopped = asyncio.create_task(home.server.stop())
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        await stopped
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


async def test_a_frame_in_the_packet_of_the_handshake_is_read(house, connect):
    home = await house(**mounted())
    client = await connect(home.port)
    await client.send(
        b"GET /live HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
        b"\x81\x82\x00\x00\x00\x00hi"
    )
    assert (await client.response()).status == 101
    assert await client.reader.readexactly(4) == b"\x81\x02hi"
