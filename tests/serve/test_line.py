"""Closing: the last frame arrives, and nobody is waited for without end."""

from __future__ import annotations

import asyncio

import pytest

from moda.serve import line as line_module
from moda.serve.line import Line, _Discard

from .conftest import Hall, close_code, frame, until


@pytest.fixture
def short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "LINGER", 0.1)


async def opened(house, connect, **options):
    home = await house(Hall(**options))
    client = await connect(home.port)
    await client.upgrade()
    return home, client, home.hall.open[0].transport.underlying_transport


async def test_a_close_waits_for_bytes_that_are_still_to_go_out(house, connect):
    home, client, line = await opened(house, connect)
    sent = 0
    while not line.get_write_buffer_size():
        line.write(bytes(65536))
        sent += 65536
    line.close()
    assert len(await client.ended()) == sent
    await home.hall.gone.wait()


@pytest.mark.usefixtures("short_linger")
async def test_a_close_does_not_wait_for_ever_for_a_client_that_never_reads(house, connect):
    home, _, line = await opened(house, connect)
    while not line.get_write_buffer_size():
        line.write(bytes(65536))
    line.close()
    await home.hall.gone.wait()
    assert home.hall.open == []


@pytest.mark.usefixtures("short_linger")
async def test_a_client_that_sends_on_after_its_close_is_cut(house, connect):
    home, client, _ = await opened(house, connect, max_frame_size=100)

    async def pour() -> None:
        while True:
            await client.send(frame(b"x" * 50_000))

    pouring = asyncio.create_task(pour())
    opcode, payload = await client.frame()
    assert (opcode, close_code(payload)) == (8, 1009)
    await home.hall.gone.wait()
    with pytest.raises(OSError, match=r".*"):
        await pouring
    assert home.errors == ["too_big"]


async def test_what_comes_while_it_lingers_is_dropped_and_held_nowhere(house, connect):
    home, client, line = await opened(house, connect)
    line.linger()
    line.linger()
    assert isinstance(line.transport.get_protocol(), _Discard)
    await client.send(frame(b"never seen") * 1000)
    assert await client.ended() == b""
    client.writer.close()
    await home.hall.gone.wait()


async def test_closing_twice_and_after_the_end_is_harmless(house, connect):
    home, client, line = await opened(house, connect)
    line.close()
    line.close()
    assert await client.ended() == b""
    await home.hall.gone.wait()
    line.close()
    line.linger()
    line.abort()
    assert line.is_closing()


async def test_reading_can_be_paused_and_not_resumed_once_it_failed(house, connect):
    home, client, line = await opened(house, connect)
    line.pause_reading()
    await client.send(frame(b"waits"))
    for _ in range(5):
        await asyncio.sleep(0)
    line.resume_reading()
    assert await client.frame() == (1, b"waits")
    line.error("text", (1002, "what the client sent"))
    assert line.failed
    line.resume_reading()
    assert not line.transport.is_reading()
    line.close()
    await client.ended()
    client.writer.close()
    await home.hall.gone.wait()
    assert home.errors == ["protocol_error"]


async def test_a_failure_of_a_listener_is_counted_apart_from_a_clients(house, connect):
    home, _, line = await opened(house, connect)
    line.error("Initiate disconnect because of exception from WSListener.on_ws_connected: %s", "x")
    assert home.errors == ["listener_failed"]
    line.error("WS parser error: %s", (4000, "own code"))
    assert home.errors == ["listener_failed"]


def test_a_code_without_a_word_is_counted_by_its_number():
    seen: list[str] = []

    class Transport:
        def pause_reading(self) -> None:
            pass

    Line(Transport(), seen.append).error("text", (4000, "own code"))
    assert seen == ["close_4000"]


async def test_buffers_go_out_in_order_through_the_line(house, connect):
    _, client, line = await opened(house, connect)
    line.writelines([b"\x82\x02", b"ab"])
    assert await client.frame() == (2, b"ab")
    assert line.get_extra_info("peername") == line.transport.get_extra_info("peername")
    assert line.get_extra_info("sslcontext") is None
    line.set_write_buffer_limits(high=10)
    assert line.transport.get_write_buffer_limits()[1] == 10
    await until(lambda: line.get_write_buffer_size() == 0)


async def test_a_client_in_a_hurry_is_not_read_for_a_moment(house, connect, monkeypatch):
    monkeypatch.setattr(line_module, "HOLD", (0.05, 0.05))
    _, _, line = await opened(house, connect)
    line.hold()
    line.hold()
    assert not line.transport.is_reading()
    line.resume_reading()  # whoever gives the loop a turn between two reads
    assert not line.transport.is_reading()
    await until(lambda: line.transport.is_reading())


async def test_a_client_that_goes_while_it_is_not_read_is_let_go(house, connect, monkeypatch):
    monkeypatch.setattr(line_module, "HOLD", (0.05, 0.05))
    home, client, line = await opened(house, connect)
    line.hold()
    client.writer.close()
    await home.hall.gone.wait()
    line.hold()
    assert home.hall.open == []
