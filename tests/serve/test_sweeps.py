"""What waits is ended in its time, whatever goes wrong with another."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from moda.hub import Hub
from moda.serve.door import Door, DoorOptions

from .conftest import Hall, request, until


def door(**options: Any) -> Door:
    return Door(
        [],
        DoorOptions(**options),
        connections=lambda: 0,
        plain=lambda: None,  # type: ignore[arg-type,return-value]
        on_refusal=lambda _: None,
        on_error=lambda _: None,
    )


async def test_one_end_that_fails_keeps_no_other_from_its_own_and_no_later_one():
    one = door(handshake_timeout=0.02)
    ended: list[int] = []

    class Waits:
        def __init__(self, number: int) -> None:
            self.number = number

        def overdue(self) -> None:
            ended.append(self.number)
            if self.number == 0:
                raise RuntimeError("the first")

    one.watch(Waits(0))
    one.watch(Waits(1))
    await until(lambda: ended == [0, 1])
    one.watch(Waits(2))
    await until(lambda: ended == [0, 1, 2])


async def test_a_sweep_of_the_hub_that_fails_is_not_the_last_one(monkeypatch):
    monkeypatch.setattr("moda.hub.SWEEP_SECONDS", 0.01)
    sweeps = 0

    class Core:
        def attach(self, *_: Any) -> None: ...
        def detach(self) -> None: ...
        def sweep(self) -> None:
            nonlocal sweeps
            sweeps += 1
            if sweeps == 2:
                raise RuntimeError("once")

    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    hub = Hub()
    hub.core = Core()  # type: ignore[assignment]
    hub.start(lambda *_: None, lambda *_: None)
    await until(lambda: sweeps == 4)
    hub.stop()
    assert len(told) == 1


async def test_a_client_that_goes_before_its_decision_began_leaves_its_place(house, connect):
    async def later(_: Any) -> Any:
        await asyncio.Event().wait()

    home = await house(Hall(later=later))
    front = home.server.door
    for _ in range(20):
        client = await connect(home.port)
        client.writer.write(request())
        client.writer.transport.abort()
    await until(lambda: front.waiting == 0)
    await until(lambda: front.deciding == 0)


@pytest.mark.parametrize("how", [asyncio.CancelledError, SystemExit, KeyboardInterrupt])
async def test_a_hook_that_raises_what_ends_programs_answers_500_at_once(house, connect, how):
    async def later(_: Any) -> Any:
        raise how

    home = await house(Hall(later=later))
    client = await connect(home.port)
    assert (await client.upgrade()).status == 500
    assert home.refusals == ["connect_failed"]
    assert home.server.door.deciding == 0
    home.hall.later = None
    other = await connect(home.port)
    assert (await other.upgrade()).status == 101
