"""A panic in the engine ends one connection, or one call, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import until
from moda._core import Hub, PanicException
from moda.wire.conversation import Conversation
from raw import frame

HEARTBEAT = '[null,"1","phoenix","heartbeat",{}]'


async def test_a_panic_on_a_frame_closes_its_connection_with_1011_and_no_other(
    serve, raw, monkeypatch
):
    from conformance.app import build

    running = await serve(build().gateway)
    unlucky, neighbour = await raw(running), await raw(running)
    for one in (unlucky, neighbour):
        await one.upgrade()
    told: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", told.append)
    core: Hub = running.gateway.hub.core
    await unlucky.send(frame('["1","1","room:a","phx_join",{}]'))
    assert b"phx_reply" in (await unlucky.receive())[1]

    def deliver(*_: Any) -> None:
        # The binding turns this exception back into the panic it stands for, there and then.
        raise PanicException("forced")

    monkeypatch.setattr(Conversation, "deliver", deliver)
    await unlucky.send(frame('["1","2","room:a","say",{}]'))
    assert (await unlucky.closed())[0] == 1011
    await neighbour.send(frame(HEARTBEAT))
    assert b"phx_reply" in (await neighbour.receive())[1]
    assert [type(one.exc_value) for one in told] == [RuntimeError]
    unlucky.half_close()
    await until(lambda: core.connections() == 1)


def test_a_panic_in_a_call_from_python_is_an_exception_of_that_call() -> None:
    core = Hub(epoch=1)
    mount = core.mount(path="/socket", max_channels=1, max_message=100, idle_ms=0)
    core.expose(mount, "*", core.route(stream=False, delivery="every"))
    scheduled: list[Any] = []

    def joins(*_: Any) -> None:
        raise PanicException("forced")

    core.attach(scheduled.append, joins, lambda *_: None)
    conn = core.open(mount, core.codec("phoenix/2"), None, object(), object())
    core.frame(conn, 1, True, b'["1","1","a","phx_join",{}]')
    with pytest.raises(PanicException, match="forced"):
        core.start_joins()
    core.frame(conn, 1, True, HEARTBEAT.encode())
    assert scheduled.count(core.flush) == 1, "the next flush is asked for as ever"
