"""After the hand-over: what the connection is given, what stays behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from contextlib import suppress

from moda.serve.door import Door
from moda.serve.front import Front
from moda.upgrade import Accepted

from .conftest import ACCEPT, KEY, Echo, Hall, frame, get


async def test_a_connection_that_fails_at_the_start_is_cut_and_what_it_said_is_not_sent(
    house, connect
):
    class Stillborn(Echo):
        def begin(self, transport: asyncio.Transport, ended: Callable[[], None]) -> None:
            super().begin(transport, ended)
            raise RuntimeError("secret detail")

    hall = Hall()
    hall.now = lambda _: Accepted(lambda: Stillborn(hall))
    home = await house(hall)
    client = await connect(home.port)
    with suppress(ConnectionResetError):
        assert (await client.upgrade()).status == 101
        assert b"secret" not in await client.ended()
    await hall.gone.wait()
    assert home.errors == ["listener_failed"]


async def test_pings_are_left_to_the_connection(house, connect):
    home = await house()
    client = await connect(home.port)
    await client.upgrade()
    await client.send(frame(b"p", 9))
    assert await client.frame() == (10, b"p")


async def test_the_transport_reports_every_byte_it_holds(house, connect):
    home = await house()
    client = await connect(home.port)
    await client.upgrade()
    under = home.hall.open[0].transport
    assert under.get_write_buffer_limits() == (0, 0)
    while not under.get_write_buffer_size():
        under.write(b"\x82\x7e\xff\xff" + bytes(65535))
    assert (home.hall.paused, home.hall.resumed) == (1, 0)
    while not home.hall.resumed:
        assert await client.reader.read(1 << 20)
    assert under.get_write_buffer_size() == 0


async def test_nothing_of_the_front_stays_with_an_open_connection(house, connect, monkeypatch):
    fronts: list[weakref.ref[object]] = []

    class Watched(Front):
        def __init__(self, door: Door) -> None:
            super().__init__(door)
            fronts.append(weakref.ref(self))

    monkeypatch.setattr("moda.serve.server.Front", Watched)
    monkeypatch.setattr("moda.serve.plain.Front", Watched)
    home = await house()
    first, second = await connect(home.port), await connect(home.port)
    await first.upgrade()
    await second.send(get("/health"))
    await second.response()
    await second.upgrade()
    assert len(home.hall.open) == 2
    gc.collect()
    assert [ref() for ref in fronts] == [None] * 3
    assert home.server.door.waiting == 0


async def test_a_kept_alive_connection_leaves_nothing_of_the_http_side_behind(
    house, connect, monkeypatch
):
    from moda.serve import server as server_module

    plains: list[weakref.ref[object]] = []
    original = server_module.PlainHttp

    class Watched(original):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)
            plains.append(weakref.ref(self))

    monkeypatch.setattr(server_module, "PlainHttp", Watched)
    home = await house()
    client = await connect(home.port)
    await client.send(get("/health"))
    await client.response()
    await client.upgrade()
    gc.collect()
    assert [ref() for ref in plains] == [None]


async def test_the_key_of_the_client_and_no_other_is_answered(house, connect):
    home = await house()
    client = await connect(home.port)
    answer = await client.upgrade(
        "/socket/websocket", sec_websocket_key=KEY[::-1].lstrip("=") + "=="
    )
    assert answer.header("sec-websocket-accept") != ACCEPT
