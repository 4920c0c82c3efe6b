"""Leaving: who is told when, what is waited for, what the exit code says."""

from __future__ import annotations

import asyncio
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.serve import drain as drain_module
from moda.serve.drain import TICK, DrainOptions, drain, quota
from moda.upgrade import Accepted, Upgrade

from .conftest import Hall, close_code, frame, get, request, until


@given(st.integers(0, 100_000), st.floats(0, 20), st.floats(0, 10))
def test_a_quota_is_never_more_than_what_remains_and_never_nothing(remaining, elapsed, window):
    count = quota(remaining, elapsed, window)
    assert 0 <= count <= remaining
    assert (count == 0) is (remaining == 0)


@given(st.integers(1, 100_000), st.floats(0.5, 10))
def test_quotas_spread_over_the_window_and_end_with_it(connections, window):
    remaining, elapsed, batches = connections, 0.0, []
    while remaining:
        batches.append(quota(remaining, elapsed, window))
        remaining -= batches[-1]
        elapsed += TICK
    assert len(batches) <= math.ceil(window / TICK) + 1
    assert max(batches) <= math.ceil(connections / (window / TICK)) + 1


class Crowd:
    """Connections that leave when told, all but ``stubborn`` ones."""

    def __init__(self, count: int, stubborn: int = 0) -> None:
        self.open = count
        self.untold = count
        self.stubborn = stubborn
        self.batches: list[int] = []
        self.codes: set[int] = set()

    def connections(self) -> int:
        return self.open

    def close_some(self, count: int, code: int) -> int:
        told = min(count, self.untold)
        self.untold -= told
        self.codes.add(code)
        if told:
            self.batches.append(told)
        self.open = self.untold + min(self.stubborn, self.open)
        return told


async def run(crowd: Crowd, flush=None, hurry=None, **options: float):
    async def nothing() -> None:
        pass

    return await drain(
        DrainOptions(**options),
        connections=crowd.connections,
        close_some=crowd.close_some,
        flush=flush or nothing,
        hurry=hurry or asyncio.Event(),
    )


async def test_everybody_is_told_1012_in_batches(monkeypatch):
    monkeypatch.setattr(drain_module, "TICK", 0.001)
    crowd = Crowd(1000)
    outcome = await run(crowd, window=0.05, deadline=5)
    assert (outcome.told, outcome.left, outcome.flushed) == (1000, 0, True)
    assert crowd.codes == {1012}
    assert len(crowd.batches) > 5


async def test_a_drain_without_connections_ends_at_once():
    outcome = await run(Crowd(0), window=5, deadline=30)
    assert (outcome.told, outcome.left) == (0, 0)


async def test_those_who_stay_are_left_when_patience_ends(monkeypatch):
    monkeypatch.setattr(drain_module, "TICK", 0.001)
    outcome = await run(Crowd(10, stubborn=3), window=0.01, deadline=0.1)
    assert (outcome.told, outcome.left, outcome.flushed) == (10, 3, True)


async def test_hurry_tells_all_at_once_and_still_flushes():
    hurry = asyncio.Event()
    hurry.set()
    flushed = []

    async def flush() -> None:
        flushed.append(True)

    crowd = Crowd(1000, stubborn=5)
    outcome = await run(crowd, flush, hurry, window=60, deadline=60)
    assert crowd.batches == [1000]
    assert (outcome.left, flushed) == (5, [True])


async def test_the_flush_comes_after_the_goodbyes(monkeypatch):
    monkeypatch.setattr(drain_module, "TICK", 0.001)
    crowd = Crowd(50)
    seen = []

    async def flush() -> None:
        seen.append(crowd.open)

    await run(crowd, flush, window=0.01, deadline=5)
    assert seen == [0]


@pytest.mark.parametrize("failure", ["hangs", "raises"])
async def test_a_flush_that_does_not_succeed_is_reported(failure):
    async def flush() -> None:
        if failure == "raises":
            raise OSError("disk full")
        await asyncio.Event().wait()

    outcome = await run(Crowd(0), flush, window=0, deadline=0.1)
    assert outcome.flushed is False


# -- the server as a whole


async def test_clients_are_told_1012_and_nobody_new_gets_in(house, connect):
    home = await house(drain=DrainOptions(window=0.2, deadline=5))
    clients = [await connect(home.port) for _ in range(5)]
    for client in clients:
        await client.upgrade()
    waiting = await connect(home.port)
    await until(lambda: home.server.door.waiting == 1)
    stopping = asyncio.create_task(home.server.stop())
    for client in clients:
        opcode, payload = await client.frame()
        assert (opcode, close_code(payload)) == (8, 1012)
        await client.send(frame(payload, 8))
    assert await stopping is True
    assert home.hall.open == []
    assert await waiting.ended() == b""
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await connect(home.port)


async def test_a_connection_being_decided_is_told_to_come_back(house, connect):
    hall = Hall()

    async def later(_: Upgrade) -> Accepted:
        await asyncio.Event().wait()
        raise AssertionError

    hall.later = later
    home = await house(hall, drain=DrainOptions(window=0.1, deadline=2))
    client = await connect(home.port)
    await client.send(request())
    await until(lambda: bool(hall.asked))
    stopping = asyncio.create_task(home.server.stop())
    answer = await client.response()
    assert (answer.status, answer.header("retry-after") is not None) == (503, True)
    assert await stopping is True
    assert hall.cancelled


async def test_a_request_under_way_is_answered_and_its_connection_closed(house, connect):
    gate = asyncio.Event()
    asked = asyncio.Event()

    async def app(scope, receive, send):
        if scope["type"] == "http":
            asked.set()
            await gate.wait()
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"content-length", b"4")],
                }
            )
            await send({"type": "http.response.body", "body": b"done"})

    from moda.serve.face import Face

    home = await house(
        face=Face("x", dict, mounted=app), drain=DrainOptions(window=0.1, deadline=5)
    )
    client = await connect(home.port)
    await client.send(get("/slow"))
    await asked.wait()
    stopping = asyncio.create_task(home.server.stop())
    await until(lambda: home.server.draining)
    gate.set()
    answer = await client.response()
    assert (answer.status, answer.body, answer.header("connection")) == (200, b"done", "close")
    assert await stopping is True


async def test_health_is_down_while_it_drains(house, connect):
    home = await house(drain=DrainOptions(window=30, deadline=60))
    staying = await connect(home.port)
    await staying.upgrade()
    probe, idle = await connect(home.port), await connect(home.port)
    for client in (probe, idle):
        await client.send(get("/health"))
        assert json.loads((await client.response()).body)["status"] == "ok"
    stopping = asyncio.create_task(home.server.stop())
    await until(lambda: home.server.draining)
    await probe.send(get("/health"))
    answer = await probe.response()
    assert (answer.status, answer.header("connection")) == (503, "close")
    assert json.loads(answer.body)["status"] == "down"
    assert await probe.reader.read() == b""
    home.server.hurry.set()
    await stopping
    assert await idle.reader.read() == b""


async def test_a_stop_step_that_hangs_ends_with_the_deadline(house):
    async def hang() -> None:
        await asyncio.Event().wait()

    home = await house(plan={"stop": hang}, drain=DrainOptions(window=0, deadline=0.2))
    assert await home.server.stop() is False
