"""Every end of a channel: one of them, one goodbye, and nothing left running behind it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import until
from moda import Channel, Reply, Stop
from moda.wire import conversation as module

# -- ends


async def test_a_leave_of_an_idle_channel_needs_no_task(talk):
    reasons: list[str] = []

    class Room(Channel):
        async def leave(self, reason):
            reasons.append(reason)

    room = talk(Room)
    await room.join()
    room.conversation.leaving('"9"')
    assert room.told[1:] == [("finish_leave", '"9"')]
    await room.idle()
    assert reasons == ["left"]


async def test_callbacks_run_one_at_a_time_the_last_one_too(talk):
    order: list[str] = []
    started = asyncio.Event()

    class Room(Channel):
        async def handle(self, event, payload):
            self.spawn(self.beside())
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                order.append("handler has cleaned up")

        async def beside(self):
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                order.append("spawned work has cleaned up")

        async def leave(self, reason):
            order.append(f"leave {reason}")

    room = talk(Room)
    await room.join()
    room.say("e")
    await started.wait()
    room.conversation.ended("closed")
    await room.idle()
    assert sorted(order[:2]) == ["handler has cleaned up", "spawned work has cleaned up"]
    assert order[2:] == ["leave closed"]


async def test_leave_runs_although_a_handler_will_not_be_cancelled(talk, monkeypatch):
    monkeypatch.setattr(module, "GOODBYE_SECONDS", 0.01)
    release = asyncio.Event()
    started = asyncio.Event()
    reasons: list[str] = []

    class Room(Channel):
        async def handle(self, event, payload):
            while not release.is_set():
                started.set()
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        async def leave(self, reason):
            reasons.append(reason)

    room = talk(Room)
    await room.join()
    room.say("e")
    await started.wait()
    room.conversation.ended("closed")
    await room.hub.errands_done()
    assert reasons == ["closed"]
    release.set()
    await room.idle()


async def test_a_channel_ends_once_for_many_reasons(talk):
    reasons: list[str] = []

    class Room(Channel):
        async def handle(self, event, payload):
            self.stop("normal", Reply("ok", {"bye": True}))
            self.stop("again")
            self.push("too late", {})
            raise RuntimeError("and a crash on top")

        async def leave(self, reason):
            reasons.append(reason)

    room = talk(Room)
    await room.join()
    room.say("e")
    await room.idle()
    room.conversation.ended("closed")
    await room.idle()
    assert room.told[1:3] == [("reply", '"2"', "ok", {"bye": True}), ("end", "close")]
    assert [told for told in room.told if told[0] == "end"] == [("end", "close")]
    assert reasons == ["normal"]


@pytest.mark.parametrize("how", ["returned", "called"])
async def test_a_stop_replies_to_a_message_without_a_ref_too(talk, how):
    class Room(Channel):
        async def handle(self, event, payload):
            if how == "returned":
                return Stop("moved", Reply("ok", {"to": "b"}))
            return self.stop("moved", Reply("ok", {"to": "b"}))

    for ref, sent in (('"2"', '"2"'), (None, "null")):
        room = talk(Room)
        await room.join()
        room.say("e", None, ref)
        await room.idle()
        assert room.told[1:] == [("reply", sent, "ok", {"to": "b"}), ("end", "crash")]


@pytest.mark.parametrize(
    ("reason", "end"),
    [("shutdown:kicked", "close"), ("shutdown", "close"), ("kicked", "crash"), ("shut", "crash")],
)
async def test_a_stop_may_say_why_and_still_be_no_crash(talk, reason, end):
    reasons: list[str] = []

    class Room(Channel):
        async def handle(self, event, payload):
            return Stop(reason)

        async def leave(self, why):
            reasons.append(why)

    room = talk(Room)
    await room.join()
    room.say("e")
    await room.idle()
    assert (room.told[1:], reasons) == ([("end", end)], [reason])


async def test_a_goodbye_that_takes_too_long_is_cut_short_and_logged(talk, monkeypatch):
    monkeypatch.setattr(module, "LEAVE_SECONDS", 0.01)

    class Room(Channel):
        async def leave(self, reason):
            await asyncio.Event().wait()

    room = talk(Room, conn=9)
    await room.join()
    with capture_logs() as logs:
        room.conversation.ended("closed")
        await room.hub.errands_done()
    assert [(log["event"], log["topic"], log["connection_id"]) for log in logs] == [
        ("channel.leave.timeout", "room:a", 9)
    ]


async def test_goodbyes_under_way_are_counted_by_connection(talk):
    gate = asyncio.Event()

    class Room(Channel):
        async def leave(self, reason):
            await gate.wait()
            raise RuntimeError("a bug")

    room = talk(Room, conn=9)
    await room.join()
    room.conversation.ended("closed")
    assert room.hub.goodbyes == {9: 1}
    gate.set()
    await room.hub.errands_done()
    assert not room.hub.goodbyes


async def test_spawn_takes_a_coroutine_and_says_so(talk):
    class Room(Channel):
        async def handle(self, event, payload):
            with pytest.raises(TypeError, match="spawn takes a coroutine, got <bound method"):
                self.spawn(self.work)
            return Reply()

        async def work(self):
            """Never runs."""

    room = talk(Room)
    await room.join()
    room.say("e")
    await room.idle()
    assert room.told[1:] == [("reply", '"2"', "ok", {})]


async def test_work_spawned_and_ended_before_its_first_step_leaves_no_warning(talk, recwarn):
    class Room(Channel):
        async def handle(self, event, payload):
            self.spawn(self.work())
            return Stop()

        async def work(self):
            """Never runs."""

    room = talk(Room)
    await room.join()
    room.say("e")
    await room.idle()
    await until(lambda: not room.conversation._spawned)
    assert not recwarn.list


async def test_work_spawned_after_the_end_never_starts(talk):
    ran: list[bool] = []

    class Room(Channel):
        async def leave(self, reason):
            self.spawn(self.work())

        async def work(self):
            ran.append(True)

    room = talk(Room)
    await room.join()
    room.conversation.ended("closed")
    await room.idle()
    await asyncio.sleep(0)
    assert ran == []


async def test_spawned_work_that_awaits_something_cancelled_has_crashed(talk):
    class Room(Channel):
        async def handle(self, event, payload):
            self.spawn(self.work())

        async def work(self):
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    room = talk(Room)
    await room.join()
    room.say("e")
    await until(lambda: ("end", "crash") in room.told)
    await room.idle()


async def test_spawned_work_that_returns_ends_nothing(talk):
    done = asyncio.Event()

    class Room(Channel):
        async def handle(self, event, payload):
            if event == "go":
                self.spawn(self.work())
            return Reply()

        async def work(self):
            done.set()

    room = talk(Room)
    await room.join()
    room.say("go")
    await done.wait()
    room.say("still there")
    await room.idle()
    assert room.told[1:] == [("reply", '"2"', "ok", {})] * 2
    assert not room.conversation._spawned


async def test_a_reader_found_too_slow_by_the_channels_own_push_stops_the_pushing(talk):
    """The engine ends the channel inside the very call that fills the last byte of the budget."""
    reasons: list[str] = []

    class Room(Channel):
        async def joined(self):
            while True:
                self.push("drop", {})
                await asyncio.sleep(0)

        async def leave(self, reason):
            reasons.append(reason)

    room = talk(Room)
    pushes = iter(range(3))

    def push(*_: Any) -> bool:
        if next(pushes, None) is None:
            room.conversation.ended("closed")
        return True

    room.engine.push = push  # type: ignore[method-assign]
    await room.join()
    assert reasons == ["closed"]


class Panic(BaseException):
    """As Rust's are in Python: no Exception."""


@pytest.mark.parametrize("where", ["join", "joined", "handle", "outgoing", "leave", "spawn"])
@pytest.mark.parametrize(
    "error", [RuntimeError, Panic, SystemExit, KeyboardInterrupt, GeneratorExit]
)
async def test_a_crash_anywhere_is_logged_with_its_topic_and_ends_nothing_else(talk, where, error):
    class Room(Channel):
        async def join(self, payload):
            self.crash("join")

        async def joined(self):
            self.crash("joined")

        async def handle(self, event, payload):
            if where == "spawn":
                self.spawn(self.work())
            self.crash("handle")

        async def outgoing(self, event, payload):
            self.crash("outgoing")

        async def leave(self, reason):
            self.crash("leave")

        async def work(self):
            self.crash("spawn")

        def crash(self, here):
            if here == where:
                raise error("told to")

    room = talk(Room, conn=9)
    with capture_logs() as logs:
        await room.join()
        if where not in ("join", "joined"):
            room.say("e")
            room.conversation.outgoing("news", b"{}", False)
            await room.idle()
            room.conversation.ended("closed")
        await room.idle()
    expected = {"join": "channel.join.failed", "leave": "channel.leave.failed"}
    assert [(log["event"], log["topic"], log["connection_id"]) for log in logs] == [
        (expected.get(where, "channel.failed"), "room:a", 9)
    ]
    assert isinstance(logs[0]["exc_info"], error)
    ends = [told for told in room.told if told[0] in ("end", "join_error")]
    assert len(ends) == (0 if where == "leave" else 1)
