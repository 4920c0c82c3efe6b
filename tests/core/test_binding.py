"""What the binding adds to the engine: calls into Python, calls back from it, and errors that explain."""

from __future__ import annotations

import gc
import socket
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from core.driver import Driver, Handle, Transport
from oracle import CLOSE, TEXT

JOIN = b'["1","1","room:1","phx_join",{}]'
OK = b'["1","1","room:1","phx_reply",{"status":"ok","response":{}}]'


class Rooms(Driver):
    """A driver with channels at ``room:*`` and one V2 client joined to ``room:1``."""

    def __init__(self, *, delivery: str = "every", **options: Any) -> None:
        super().__init__(**options)
        self.mount = self.hub.mount(path="/socket", max_channels=10, max_message=1000, idle_ms=0)
        number = self.hub.route(stream=False, delivery=delivery)
        self.hub.expose(self.mount, "room:*", number)
        self.conn, self.transport = self.open(self.mount)
        self.handle = self.join(self.conn)
        self.turn()

    def join(self, conn: int) -> Handle:
        self.hub.frame(conn, TEXT, True, JOIN)
        handle = self.asked.pop()[1]
        assert self.hub.join_ok(handle.sub, b"{}", False)
        return handle

    def heard(self) -> list[bytes]:
        self.turn()
        return [payload for _, payload in self.transport.frames()]


@contextmanager
def unraised() -> Iterator[list[BaseException | None]]:
    """Collects what is told where nobody could be raised to."""
    found: list[BaseException | None] = []
    before = sys.unraisablehook
    sys.unraisablehook = lambda told: found.append(told.exc_value)
    try:
        yield found
    finally:
        sys.unraisablehook = before


def test_a_flush_is_asked_of_the_loop_once_however_much_is_said() -> None:
    rooms = Rooms()
    asked: list[Any] = []
    rooms.hub.attach(asked.append, rooms._join, rooms._complain)
    for _ in range(10):
        rooms.hub.publish("room:1", "shout", b"{}")
        rooms.hub.push(rooms.handle.sub, "hello", b"{}", False)
    assert len(asked) == 1
    assert rooms.hub.pending()
    asked[0]()
    assert not rooms.hub.pending()
    assert len(asked) == 1
    assert len(rooms.transport.frames()) == 21


def test_a_fan_out_in_slices_asks_for_one_turn_after_another() -> None:
    rooms = Rooms(slice_us=0)
    others = [rooms.open(rooms.mount) for _ in range(50)]
    for conn, _ in others:
        rooms.join(conn)
    rooms.turn()
    rooms.hub.publish("room:1", "shout", b"{}")
    slices = 1
    while rooms.slice():
        slices += 1
    assert slices == 4
    for _, transport in others:
        assert transport.frames()[1:] == [(TEXT, b'[null,null,"room:1","shout",{}]')]


def test_a_broadcast_to_a_plain_socket_goes_past_the_transport() -> None:
    rooms = Rooms()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        conn, transport = rooms.open(rooms.mount, fd=ours.fileno())
        rooms.join(conn)
        rooms.turn()
        assert transport.frames() == []
        assert theirs.recv(1000) == bytes([0x81, len(OK)]) + OK
        rooms.hub.lost(conn)
        rooms.hub.publish("room:1", "shout", b"{}")
        rooms.turn()
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1000)


def test_what_a_socket_does_not_take_goes_through_the_transport_in_order() -> None:
    rooms = Rooms()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        theirs.setblocking(False)
        conn, transport = rooms.open(rooms.mount, fd=ours.fileno())
        rooms.join(conn)
        transport.stuck = True
        payload = b'"%s"' % (b"x" * 5000)
        for _ in range(10):
            rooms.hub.publish("room:1", "shout", payload)
            rooms.turn()
        assert rooms.hub.stats()["short_sends"] == 1
        kernel = bytearray()
        while True:
            try:
                kernel += theirs.recv(1 << 16)
            except BlockingIOError:
                break
        transport.stuck = False
        transport.let_go()
        spilled = bytes(transport.received)
        rooms.hub.resume(conn)
        rooms.turn()
        first = b'[null,null,"room:1","shout",' + payload + b"]"
        head = bytes([0x81, 126]) + len(first).to_bytes(2, "big")
        greeting = bytes([0x81, len(OK)]) + OK
        stream = bytes(kernel) + spilled
        assert stream == greeting + (head + first) * stream.count(head)
        assert stream.count(head) < 10, "the rest waited in the engine"


def test_a_held_connection_is_sent_nothing_before_it_is_resumed() -> None:
    rooms = Rooms()
    transport = Transport()
    conn = rooms.hub.open(
        rooms.mount, rooms.hub.codec("phoenix/2"), None, transport, None, None, True
    )
    rooms.join(conn)
    rooms.turn()
    assert transport.frames() == []
    rooms.hub.resume(conn)
    rooms.turn()
    assert transport.frames() == [(TEXT, OK)]


def test_callbacks_may_call_the_hub() -> None:
    rooms = Rooms()

    class Talkative(Handle):
        def deliver(
            self, event: str, payload: bytes, binary: bool, ref: str | None, size: int
        ) -> None:
            rooms.hub.push(self.sub, "heard", payload, binary)
            rooms.hub.publish("room:1", "everybody", payload)
            rooms.hub.reply(self.sub, ref, "ok", payload, False)

        def ended(self, why: str) -> None:
            rooms.hub.publish("room:1", "goodbye", b"{}")
            super().ended(why)

    rooms.make = Talkative
    rooms.hub.lost(rooms.conn)
    conn, rooms.transport = rooms.open(rooms.mount)
    handle = rooms.join(conn)
    rooms.hub.frame(conn, TEXT, True, b'["1","2","room:1","ask",[7]]')
    assert rooms.heard()[1:] == [
        b'["1",null,"room:1","heard",[7]]',
        b'[null,null,"room:1","everybody",[7]]',
        b'["1","2","room:1","phx_reply",{"status":"ok","response":[7]}]',
    ]
    rooms.hub.close(conn, 1001, "bye")
    rooms.turn()
    assert handle.ends == ["closed"]


def test_a_failing_callback_is_told_and_keeps_nobody_from_theirs() -> None:
    rooms = Rooms()

    class Failing(Handle):
        def ended(self, why: str) -> None:
            raise RuntimeError("no goodbye")

    conn, _ = rooms.open(rooms.mount)
    rooms.make = Failing
    rooms.join(conn)
    rooms.make = Handle
    rooms.hub.frame(conn, TEXT, True, b'["2","2","room:2","phx_join",{}]')
    second = rooms.asked.pop()[1]
    with unraised() as told:
        rooms.hub.lost(conn)
    assert [str(error) for error in told] == ["no goodbye"]
    assert second.ends == ["closed"]


def test_a_join_that_fails_to_start_is_answered_as_crashed() -> None:
    rooms = Rooms()

    def refuse(*_: object) -> None:
        raise RuntimeError("no joins today")

    rooms.hub.attach(rooms._soon.append, refuse, rooms._complain)
    with unraised() as told:
        rooms.hub.frame(rooms.conn, TEXT, True, b'["2","2","room:2","phx_join",{}]')
        rooms.turn()
    assert [str(error) for error in told] == ["no joins today"]
    reply = (
        b'["2","2","room:2","phx_reply",{"status":"error","response":{"reason":"join crashed"}}]'
    )
    assert rooms.heard()[1:] == [reply]


def test_a_join_may_be_answered_while_it_is_asked() -> None:
    rooms = Rooms()

    def at_once(sub: int, *_: object) -> None:
        rooms.hub.join_error(sub, b'{"reason":"full"}')

    rooms.hub.attach(rooms._soon.append, at_once, rooms._complain)
    rooms.hub.frame(rooms.conn, TEXT, True, b'["2","2","room:2","phx_join",{}]')
    reply = b'["2","2","room:2","phx_reply",{"status":"error","response":{"reason":"full"}}]'
    assert rooms.heard()[1:] == [reply]
    assert rooms.hub.stats()["channels"] == 1


def test_calls_for_nobody_answer_false_or_do_nothing() -> None:
    rooms = Rooms()
    rooms.hub.lost(rooms.conn)
    hub, sub = rooms.hub, rooms.handle.sub
    for unknown in (sub, 0, 12345, 2**64 - 1):
        assert not hub.join_ok(unknown, b"{}", False)
        assert not hub.join_error(unknown, b"{}")
        assert not hub.reply(unknown, '"1"', "ok", b"{}", False)
        assert not hub.push(unknown, "e", b"{}", False)
        assert not hub.end(unknown, True)
        hub.finish_leave(unknown, '"1"')
    for unknown in (rooms.conn, 0, 12345, 2**64 - 1):
        hub.frame(unknown, TEXT, True, JOIN)
        hub.close(unknown, 1000, "")
        hub.resume(unknown)
        hub.lost(unknown)
    assert hub.publish("room:1", "shout", b"{}") == (None, None)
    assert rooms.heard() == [OK]
    assert hub.stats()["closed"] == 1


def test_errors_say_what_was_given_and_what_is_taken() -> None:
    rooms = Rooms()
    hub = rooms.hub
    with pytest.raises(ValueError, match='delivery takes every, latest or drop, got "some"'):
        hub.route(stream=False, delivery="some")
    with pytest.raises(ValueError, match="a JSON pointer is empty or begins with /, such as"):
        hub.route(stream=False, delivery="latest", key="symbol")
    with pytest.raises(ValueError, match=r'topic pattern "room:\{": a \{ is never closed'):
        hub.expose(rooms.mount, "room:{", 0)
    long = "x" * 256
    with pytest.raises(
        ValueError, match=r"the push does not fit a binary frame: .* at most 255 bytes"
    ):
        hub.push(rooms.handle.sub, long, b"", True)
    with pytest.raises(ValueError, match="the reply does not fit"):
        hub.reply(rooms.handle.sub, '"1"', long, b"", True)
    with pytest.raises(ValueError, match="the broadcast does not fit"):
        hub.publish("room:1", long, b"", True)
    conn, transport = rooms.open(rooms.mount, v1=True)
    hub.frame(conn, TEXT, True, b'{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}')
    sub = rooms.asked.pop()[1].sub
    with pytest.raises(ValueError, match="the join reply does not fit"):
        hub.join_ok(sub, b"", True)
    rooms.turn()
    assert b"join crashed" in transport.frames()[0][1]


def test_a_slow_reader_is_closed_and_told_of() -> None:
    rooms = Rooms(outbox_bytes=1000)
    rooms.transport.stuck = True
    for _ in range(30):
        rooms.hub.push(rooms.handle.sub, "e", b'"%s"' % (b"x" * 100), False)
        rooms.turn()
    assert rooms.complaints == [(rooms.conn, 1013, "slow reader")]
    assert rooms.handle.ends == ["closed"]
    assert not rooms.hub.push(rooms.handle.sub, "e", b"{}", False)
    stats = rooms.hub.stats()
    assert (stats["slow_closed"], stats["closes"]) == (1, {1013: 1})


def test_latest_gives_a_stalled_reader_the_newest_of_each_key() -> None:
    rooms = Rooms(delivery="latest")
    rooms.transport.stuck = True
    rooms.hub.push(rooms.handle.sub, "last", b"{}", False)
    rooms.turn()
    for n in range(5):
        for key in ("x", "y"):
            rooms.hub.publish("room:1", key, b"%d" % n, False, key)
        rooms.turn()
    rooms.transport.stuck = False
    rooms.transport.let_go()
    rooms.hub.resume(rooms.conn)
    assert rooms.heard()[2:] == [
        b'[null,null,"room:1","x",4]',
        b'[null,null,"room:1","y",4]',
    ]
    assert rooms.hub.stats()["conflated"] == 8


def test_history_tells_what_was_missed_or_that_it_cannot() -> None:
    driver = Driver()
    mount = driver.hub.mount(path="/socket", max_channels=1, max_message=100, idle_ms=0)
    number = driver.hub.route(stream=True, delivery="every", history_size=2, history_ttl_ms=60_000)
    driver.hub.expose(mount, "log:*", number)
    assert driver.hub.position("log:1") == (7, 0), "nobody was there, and it would be kept"
    assert driver.hub.position("elsewhere") is None
    for n in range(3):
        driver.hub.publish("log:1", "line", b"%d" % n)
    driver.hub.publish("log:1", "raw", b"\x00", True)
    assert driver.hub.position("log:1") == (7, 4)
    assert driver.hub.recover("log:1", 7, 2) == [
        (3, "line", b"2", False),
        (4, "raw", b"\x00", True),
    ]
    assert driver.hub.recover("log:1", 7, 4) == []
    assert driver.hub.recover("log:1", 7, 1) is None
    assert driver.hub.recover("log:1", 8, 4) is None
    assert driver.hub.history("log:1") == driver.hub.recover("log:1", 7, 2)
    assert driver.hub.recover("log:2", 7, 0) == []
    assert driver.hub.recover("log:2", 7, 1) is None
    assert driver.hub.recover("elsewhere", 7, 0) is None
    assert driver.hub.history("elsewhere") == []


def test_a_forgotten_topic_begins_anew_and_no_position_of_its_old_life_is_taken_for_one_of_the_new() -> (
    None
):
    # Room for one topic's history and not for two.
    driver = Driver(history_bytes=1500)
    mount = driver.hub.mount(path="/socket", max_channels=1, max_message=100, idle_ms=0)
    number = driver.hub.route(stream=True, delivery="every", history_size=9, history_ttl_ms=60_000)
    driver.hub.expose(mount, "log:*", number)
    driver.hub.publish("log:1", "line", b"1")
    seen = driver.hub.position("log:1")
    assert seen == (7, 1)
    driver.hub.publish("log:2", "line", b"2")
    assert driver.hub.history("log:1") == []
    assert driver.hub.stats()["history_shed"] == 1
    assert driver.hub.recover("log:1", *seen) is None
    anew = driver.hub.position("log:1")
    assert anew == (8, 0)
    assert driver.hub.recover("log:1", *anew) == []
    driver.hub.publish("log:1", "line", b"3")
    assert driver.hub.recover("log:1", *anew) == [(1, "line", b"3", False)]
    assert driver.hub.recover("log:1", *seen) is None


def test_connections_of_a_socket_id_are_closed_together() -> None:
    rooms = Rooms()
    tabs = [Transport(), Transport()]
    for tab in tabs:
        rooms.hub.open(rooms.mount, rooms.hub.codec("phoenix/2"), None, tab, None, "user:1")
    assert rooms.hub.disconnect("user:2") == 0
    assert rooms.hub.disconnect("user:1") == 2
    rooms.turn()
    for tab in tabs:
        assert tab.frames() == [(CLOSE, b"\x03\xe9disconnected")]
    assert rooms.heard() == [OK]


def test_a_drain_closes_some_at_a_time_until_none_is_left() -> None:
    rooms = Rooms()
    for _ in range(4):
        rooms.open(rooms.mount)
    closed = []
    while some := rooms.hub.close_some(2, 1012, "restart"):
        closed.append(some)
    assert closed == [2, 2, 1]
    assert rooms.handle.ends == ["shutdown"]
    assert rooms.hub.stats()["closes"] == {1012: 5}
    assert rooms.hub.connections() == 5, "until their transports are gone"


@pytest.mark.parametrize("lost", [True, False])
def test_a_hub_is_collected_with_what_holds_it_though_channels_are_joined(lost: bool) -> None:
    rooms = Rooms()
    gone: list[bool] = []
    weakref.finalize(rooms, gone.append, True)
    if lost:
        rooms.hub.lost(rooms.conn)
    rooms.asked.clear()
    del rooms
    gc.collect()
    assert gone == [True]


def test_stats_name_every_counter_of_the_stub() -> None:
    rooms = Rooms()
    rooms.hub.publish("room:1", "shout", b"{}")
    rooms.turn()
    stats = rooms.hub.stats()
    assert stats["connections"] == stats["channels"] == stats["topics"] == 1
    assert (stats["opened"], stats["closed"]) == (1, 0)
    assert (stats["messages_in"], stats["messages_out"], stats["deliveries"]) == (1, 2, 1)
    assert stats["bytes_in"] == len(JOIN)
    assert stats["bytes_out"] == len(rooms.transport.received)
    assert (stats["joins"], stats["published"], stats["fanout_count"]) == (1, 1, 1)
    assert len(stats["fanout_buckets"]) == len(stats["fanout_bounds"]) + 1
    assert stats["undecodable"] == stats["violations"] == stats["closes"] == {}
    assert repr(rooms.hub) == "<Hub connections=1 topics=1>"
