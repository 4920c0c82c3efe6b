"""What one connection may have read in one turn, and what it keeps afterwards."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from picows import WSFrame, WSListener, WSTransport

from moda._session import Intake
from moda.upgrade import Accepted, Upgrade

from .conftest import Hall, frame, until

QUANTUM = 8192
FIRST = 2048


class Counting(WSListener):
    """Adds up what it is given in each turn of the loop."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self.turns: list[int] = [0]
        self.frames = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.hall.open.append(self)  # type: ignore[arg-type]
        self._tick()

    def _tick(self) -> None:
        if not self.transport.is_disconnected:
            if self.turns[-1]:
                self.turns.append(0)
            asyncio.get_running_loop().call_soon(self._tick)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.frames += 1
        self.turns[-1] += frame.payload_size + 6

    def on_ws_disconnected(self, _: WSTransport) -> None:
        self.hall.open.remove(self)  # type: ignore[arg-type]


async def counted(house, connect) -> tuple[Any, Counting, Intake]:
    made: list[Counting] = []

    def accept(_: Upgrade) -> Accepted:
        def listener() -> Counting:
            made.append(Counting(hall))
            return made[0]

        return Accepted(listener)

    hall = Hall(now=accept)
    home = await house(hall)
    client = await connect(home.port)
    await client.upgrade()
    await until(lambda: bool(made))
    intake = made[0].transport.underlying_transport.transport.get_protocol()
    assert type(intake) is Intake
    return client, made[0], intake


async def test_a_flood_of_small_frames_is_handled_a_quantum_a_turn(house, connect):
    client, listener, _ = await counted(house, connect)
    for _ in range(8):
        await client.send(frame(b"x" * 60) * 2000)
    await until(lambda: listener.frames == 16_000)
    assert max(listener.turns) <= QUANTUM


async def test_a_flood_of_small_frames_leaves_the_read_buffer_as_it_was(house, connect):
    client, listener, intake = await counted(house, connect)
    seen = set()

    def watch(handle: Callable[..., None]) -> Callable[..., None]:
        def on_frame(transport: WSTransport, frame: WSFrame) -> None:
            seen.add(intake.capacity)
            handle(transport, frame)

        return on_frame

    listener.on_ws_frame = watch(listener.on_ws_frame)  # type: ignore[method-assign]
    await client.send(frame(b"x" * 60) * 10_000)
    await until(lambda: listener.frames == 10_000)
    assert seen == {FIRST}


@pytest.mark.parametrize("size", [1400, 1523, 1524, 1530, 1600, 1800, 5000, 70_000, 900_000])
async def test_a_frame_of_any_size_is_read_whole_and_its_room_given_back(house, connect, size):
    client, listener, intake = await counted(house, connect)
    await client.send(frame(b"a" * size) + frame(b"b") + frame(b"c" * size))
    await until(lambda: listener.frames == 3)
    intake.give_back()
    assert intake.capacity == FIRST
    await client.send(frame(b"a" * size) + frame(b"b"))
    await until(lambda: listener.frames == 5)


async def test_frames_behind_a_long_one_do_not_share_its_room(house, connect):
    client, listener, _ = await counted(house, connect)
    await client.send(frame(b"a" * 300_000) + frame(b"x" * 60) * 5000)
    await until(lambda: listener.frames == 5001)
    assert max(turn for turn in listener.turns if turn < 300_000) <= QUANTUM


async def test_half_a_long_frame_keeps_its_room_and_half_a_short_one_does_not(house, connect):
    client, listener, intake = await counted(house, connect)
    whole = frame(b"a" * 100_000)
    await client.send(whole[:60_000])
    await until(lambda: intake.capacity >= 60_000)
    intake.give_back()
    assert intake.capacity >= 60_000
    await client.send(whole[60_000:] + frame(b"b" * 20)[:10])
    await until(lambda: listener.frames == 1)
    intake.give_back()
    assert intake.capacity == FIRST
    await client.send(frame(b"b" * 20)[10:])
    await until(lambda: listener.frames == 2)


def test_another_picows_than_the_one_built_for_is_refused_with_the_one_to_install():
    program = (
        "import picows.picows as theirs\n"
        "class WSProtocol(theirs.WSProtocol): __slots__ = ('more',)\n"
        "theirs.WSProtocol = WSProtocol\n"
        "import moda._session\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert "pip install picows==2.3.1" in done.stderr


def test_an_intake_takes_nothing_but_the_protocol_it_was_built_for():
    with pytest.raises(TypeError, match="WSProtocol"):
        Intake(object(), object())
