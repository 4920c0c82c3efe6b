"""After the hand-over: what picows finds wrong, what the session is left, what stays behind."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from picows import WSListener, WSTransport

from moda.serve.door import Door
from moda.serve.front import Front
from moda.upgrade import Accepted

from .conftest import ACCEPT, KEY, Hall, close_code, frame, get


async def test_a_frame_over_the_bound_closes_with_1009_although_the_client_still_sends(
    house, connect
):
    home = await house(Hall(max_frame_size=1000))
    client = await connect(home.port)
    await client.upgrade()
    writing = asyncio.create_task(client.send(frame(b"x" * 8_000_000)))
    opcode, payload = await client.frame()
    assert (opcode, close_code(payload)) == (8, 1009)
    assert await client.ended() == b""
    await writing
    await client.close()
    await home.hall.gone.wait()
    assert home.errors == ["too_big"]


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (b"\x81\x05hello", 1002, "protocol_error"),  # not masked
        (b"\x83" + frame(b"x")[1:], 1002, "protocol_error"),  # an opcode nobody defined
        (frame(b"x", 9, fin=False), 1002, "protocol_error"),  # a fragmented ping
        (frame(b"\x03\xe8\xff", 8), 1007, "invalid_text"),  # a close reason that is no UTF-8
        (frame(b"\x03", 8), 1002, "protocol_error"),  # half a close code
    ],
)
async def test_a_frame_against_the_protocol_is_closed_and_counted_once(
    house, connect, sent, code, reason
):
    home = await house()
    client = await connect(home.port)
    await client.upgrade()
    await client.send(sent)
    await client.send(sent * 50)
    opcode, payload = await client.frame()
    assert (opcode, close_code(payload)) == (8, code)
    await client.ended()
    await client.close()
    await home.hall.gone.wait()
    assert home.errors == [reason]


async def test_a_listener_that_raises_closes_1011_and_its_message_is_not_logged(
    house, connect, caplog
):
    home = await house()
    client = await connect(home.port)
    await client.upgrade()
    await client.send(frame(b"crash"))
    opcode, payload = await client.frame()
    assert (opcode, close_code(payload)) == (8, 1011)
    await client.ended()
    await client.close()
    await home.hall.gone.wait()
    assert home.errors == ["listener_failed"]
    assert "secret payload" not in caplog.text


async def test_a_listener_that_fails_at_the_start_closes_1011_and_its_message_is_not_logged(
    house, connect, caplog
):
    gone = asyncio.Event()

    class Stillborn(WSListener):
        def on_ws_connected(self, transport: WSTransport) -> None:
            raise RuntimeError("secret detail")

        def on_ws_disconnected(self, transport: WSTransport) -> None:
            gone.set()

    home = await house(Hall(now=lambda _: Accepted(Stillborn)))
    client = await connect(home.port)
    assert (await client.upgrade()).status == 101
    opcode, payload = await client.frame()
    assert (opcode, close_code(payload)) == (8, 1011)
    await client.ended()
    await client.close()
    await gone.wait()
    assert home.errors == ["listener_failed"]
    assert "secret detail" not in caplog.text


async def test_pings_are_left_to_the_session(house, connect):
    home = await house()
    client = await connect(home.port)
    await client.upgrade()
    await client.send(frame(b"p", 9))
    assert await client.frame() == (10, b"p")


async def test_the_transport_reports_every_byte_it_holds(house, connect):
    home = await house()
    client = await connect(home.port)
    await client.upgrade()
    under = home.hall.open[0].transport.underlying_transport
    assert under.transport.get_write_buffer_limits() == (0, 0)
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
