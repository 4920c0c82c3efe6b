"""Connections end with their tokens: one timer, a clock turned by hand, and a way to go on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access.support import NOW, Clock, Timers
from moda.channel import Socket
from moda.errors import Denied
from moda.principal import Principal, Rules
from moda.wire.expiry import LONGEST_WAIT, MAX_TOPICS, PER_TURN, Expiry


class Engine:
    """What the engine was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.permits: dict[int, bool] = {}

    def permit(self, sub: int, publish: bool) -> None:
        self.permits[sub] = publish

    def push(self, sub: int, event: str, payload: bytes, binary: bool) -> bool:
        self.told.append((event, sub))
        return True

    def close(self, conn: int, code: int, reason: str) -> None:
        self.told.append(("close", conn, code, reason))

    @property
    def closed(self) -> list[int]:
        return [one[1] for one in self.told if one[0] == "close"]


class Tokens:
    """An authenticator whose tokens say who they are and how long they hold: ``ann 60``."""

    def __init__(self, slow: asyncio.Event | None = None) -> None:
        self.slow = slow

    def authenticate_now(self, credential: str) -> Principal | None:
        name, _, seconds = credential.partition(" ")
        if name == "nobody":
            raise Denied("unknown", "nobody")
        if self.slow is not None and not self.slow.is_set():
            return None
        return Principal(name, "jwt", expires_at=NOW + float(seconds) if seconds else None)

    async def authenticate(self, credential: str) -> Principal:
        assert self.slow is not None
        await self.slow.wait()
        found = self.authenticate_now(credential)
        assert found is not None
        return found


class World:
    def __init__(self, tokens: Tokens | None = None) -> None:
        self.clock = Clock()
        self.timers = Timers(self.clock)
        self.engine = Engine()
        self.expiry = Expiry(self.engine, tokens or Tokens(), now=self.clock, later=self.timers)

    def connect(self, conn: int, seconds: float | None, name: str = "ann") -> Socket:
        ends = None if seconds is None else NOW + seconds
        socket = Socket(principal=Principal(name, "jwt", expires_at=ends))
        self.expiry.watch(conn, socket)
        return socket


def test_a_connection_hears_an_error_on_each_topic_and_is_closed_when_its_token_ends():
    world = World()
    world.connect(1, 10)
    world.expiry.joined(1, "a", 100)
    world.expiry.joined(1, "b", 101)
    world.expiry.joined(1, "a", 102)  # joined again
    world.timers.advance(9.9)
    assert world.engine.told == []
    world.timers.advance(0.2)
    assert world.engine.told == [
        ("phx_error", 101),
        ("phx_error", 102),
        ("close", 1, 4401, "token expired"),
    ]
    assert (world.expiry.ended, len(world.expiry), world.timers.pending) == (1, 0, [])


def test_a_token_without_an_end_is_not_watched_and_a_stranger_joins_unheard():
    world = World()
    world.connect(1, None)
    world.expiry.joined(1, "a", 100)
    assert (len(world.expiry), world.timers.pending) == (0, [])


def test_one_timer_serves_all_and_there_is_none_when_nobody_is_watched():
    world = World()
    for conn in range(1000):
        world.connect(conn, 5 + conn % 50)
        assert len(world.timers.pending) == 1
    for conn in range(1000):
        world.expiry.forget(conn)
    assert world.timers.pending == []
    world.timers.advance(100)
    assert world.engine.told == []


def test_tokens_that_end_together_take_several_turns():
    world = World()
    for conn in range(PER_TURN + 10):
        world.connect(conn, 5)
    world.clock.pass_by(5)
    (timer,) = world.timers.pending
    world.timers.pending.clear()
    timer.callback()
    assert len(world.engine.closed) == PER_TURN
    (timer,) = world.timers.pending
    assert timer.at == world.clock()
    world.timers.advance(0)
    assert len(world.engine.closed) == PER_TURN + 10


def test_a_clock_put_forward_is_noticed_within_a_minute():
    world = World()
    world.connect(1, 3600)
    (timer,) = world.timers.pending
    assert timer.at == NOW + LONGEST_WAIT
    world.timers.pending.clear()
    world.clock.pass_by(7200)
    timer.callback()
    assert world.engine.closed == [1]


def test_a_token_that_has_ended_by_the_time_its_connection_opens_closes_it():
    world = World()
    world.connect(1, -1)
    world.timers.advance(0)
    assert world.engine.closed == [1]


def test_the_topics_told_are_bounded_to_those_joined_last():
    world = World()
    world.connect(1, 1)
    for number in range(MAX_TOPICS + 5):
        world.expiry.joined(1, f"t:{number}", number)
    world.timers.advance(2)
    assert [one[1] for one in world.engine.told[:-1]] == list(range(5, MAX_TOPICS + 5))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["open", "open", "gone", "refresh", "wait"]),
            st.integers(0, 6),
            st.integers(1, 30),
        ),
        max_size=80,
    )
)
def test_each_connection_ends_exactly_when_its_last_token_does(steps):
    """Held against a model that looks at every connection at every second."""
    world = World()
    ends: dict[int, float] = {}
    due: list[int] = []

    def refresh(conn: int, seconds: int) -> None:
        work = world.expiry.refresh(conn, f"ann {world.clock() - NOW + seconds}")
        with pytest.raises(StopIteration):
            work.send(None)

    for step, conn, seconds in steps:
        if step == "open" and conn not in ends:
            world.connect(conn, world.clock() - NOW + seconds)
            ends[conn] = world.clock() + seconds
        elif step == "gone" and conn in ends:
            world.expiry.forget(conn)
            del ends[conn]
        elif step == "refresh" and conn in ends:
            refresh(conn, seconds)
            ends[conn] = world.clock() + seconds
        elif step == "wait":
            world.timers.advance(seconds)
            over = sorted(ends.items(), key=lambda one: one[1])
            due += [one for one, at in over if at <= world.clock()]
            ends = {one: at for one, at in over if at > world.clock()}
        assert sorted(world.engine.closed) == sorted(due)
        assert len(world.expiry) == len(ends)
        assert len(world.expiry._heap) <= 3 * len(ends) + 66


class TestRefresh:
    """Another token in place of the one that ends."""

    async def test_a_new_token_moves_the_end_and_the_rules(self):
        world = World()
        socket = world.connect(1, 10)
        principal = await world.expiry.refresh(1, "ann 100")
        assert socket.identity is socket.principal is principal
        world.timers.advance(50)
        assert world.engine.closed == []
        world.timers.advance(51)
        assert world.engine.closed == [1]

    async def test_a_token_without_an_end_ends_the_watch(self):
        world = World()
        world.connect(1, 10)
        await world.expiry.refresh(1, "ann")
        world.timers.advance(100)
        assert (world.engine.told, len(world.expiry)) == ([], 0)

    async def test_an_applications_own_principal_stays_what_it_is(self):
        world = World()
        socket = world.connect(1, 10)
        socket.principal = {"user": 5}
        principal = await world.expiry.refresh(1, "ann 100")
        assert socket.principal == {"user": 5}
        assert socket.identity is principal

    @pytest.mark.parametrize(("token", "reason"), [("bob 99", "claims"), ("nobody", "unknown")])
    async def test_a_token_that_is_not_taken_leaves_the_old_end(self, token, reason):
        world = World()
        world.connect(1, 10)
        with pytest.raises(Denied) as caught:
            await world.expiry.refresh(1, token)
        assert caught.value.reason == reason
        world.timers.advance(11)
        assert world.engine.closed == [1]

    async def test_a_connection_that_ends_while_its_new_token_is_looked_at_stays_ended(self):
        world = World(Tokens(slow := asyncio.Event()))
        world.connect(1, 10)
        work = asyncio.create_task(world.expiry.refresh(1, "ann 100"))
        await asyncio.sleep(0)
        world.timers.advance(11)
        slow.set()
        with pytest.raises(Denied, match="has ended"):
            await work
        assert world.engine.closed == [1]

    async def test_a_socket_without_an_end_says_that_there_is_nothing_to_refresh(self):
        with pytest.raises(Denied, match="no token with an end"):
            await Socket().refresh("ann 5")


async def test_a_refresh_holds_the_topics_joined_to_the_rules_of_the_new_token() -> None:
    class Narrower(Tokens):
        def authenticate_now(self, credential: str) -> Principal | None:
            rules = Rules.from_claims({"publish": ["room:mine"]})
            return Principal("ann", "jwt", rules=rules, expires_at=NOW + 100)

    world = World(Narrower())
    world.connect(1, 60)
    world.expiry.joined(1, "room:mine", 7)
    world.expiry.joined(1, "room:yours", 8)
    await world.expiry.refresh(1, "narrower")
    assert world.engine.permits == {7: True, 8: False}
