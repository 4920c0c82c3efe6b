"""Mounts that decide who connects, and the dispatch that finds who serves a join."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from gateway import until
from moda import Channel, JoinRequest, Refuse, Reject, Socket, Stream
from moda.hub import Hub
from moda.upgrade import Accepted, Refused, Upgrade
from moda.wire.handshake import HandshakeOptions
from moda.wire.origin import ANY_ORIGIN
from moda.wire.phoenix import MAX_GOODBYES, Dispatch, Mount, MountOptions, Route
from moda.wire.token import TokenRule


def upgrade(query: bytes = b"vsn=2.0.0", *headers: tuple[bytes, bytes], **more: Any) -> Upgrade:
    return Upgrade(
        "GET", "/socket/websocket", query, headers, peer=lambda: (("127.0.0.1", 5), False), **more
    )


def mount(**options: Any) -> Mount:
    return Mount(Hub(), MountOptions(**options), 0)


def made(outcome: Any) -> Any:
    """The session an accepted upgrade makes."""
    assert isinstance(outcome, Accepted), outcome
    return outcome.connection()


class TestMount:
    """From an upgrade request to a session or a refusal."""

    @pytest.mark.parametrize("path", ["/socket", "/socket/"])
    def test_clients_connect_below_the_path(self, path):
        assert mount(path=path).path == "/socket/websocket"

    def test_without_a_hook_it_decides_at_once(self):
        assert made(mount().accept_now(upgrade())).connection == 0

    def test_a_version_nobody_speaks_is_refused_before_anybody_is_asked(self):
        asked: list[Any] = []
        outcome = mount(connect=asked.append).accept_now(upgrade(b"vsn=3.0.0"))
        assert isinstance(outcome, Refused)
        assert (outcome.status, outcome.reason, asked) == (403, "vsn", [])

    async def test_a_hook_is_asked_when_there_is_time(self):
        asked: list[Any] = []
        one = mount(connect=asked.append)
        assert one.accept_now(upgrade()) is None
        assert isinstance(await one.accept(upgrade(b"vsn=2.0.0&a[b]=1")), Accepted)
        assert asked[0].params == {"vsn": "2.0.0", "a": {"b": "1"}}

    @pytest.mark.parametrize("answer", [None, 5, "ann", {"name": "ann"}, False])
    async def test_whatever_a_hook_returns_is_the_principal(self, answer):
        sockets = await connected(lambda asked: answer)
        assert (sockets.principal, sockets.id) == (answer, None)

    async def test_a_socket_it_returns_is_the_socket_and_gets_the_params(self):
        own = Socket(id="user:1", principal=1)
        socket = await connected(lambda asked: own)
        assert socket is own
        assert socket.params == {"vsn": "2.0.0"}
        kept = Socket(params={"mine": 1})
        assert (await connected(lambda asked: kept)).params == {"mine": 1}

    async def test_params_that_connections_share_cannot_be_written_to(self):
        """Nearly every client sends ``vsn`` alone, and all of those share one mapping."""
        for query in (b"vsn=2.0.0", b""):
            asked: list[Any] = []
            one = mount(connect=asked.append)
            await one.accept(upgrade(query))
            with pytest.raises(TypeError):
                asked[0].params["user"] = "somebody"

    async def test_a_coroutine_is_awaited(self):
        async def admit(asked):
            await asyncio.sleep(0)
            return "later"

        assert (await connected(admit)).principal == "later"

    async def test_a_refusal_has_its_status_and_body_and_is_counted_as_the_hooks(self):
        def refuse(asked):
            raise Refuse(429, "slow down")

        outcome = await mount(connect=refuse).accept(upgrade())
        assert outcome == Refused(429, b"slow down", reason="connect")

    async def test_a_socket_id_that_is_no_string_is_403_and_logged(self):
        with capture_logs() as logs:
            outcome = await mount(connect=lambda asked: Socket(id=5)).accept(upgrade())
        assert isinstance(outcome, Refused)
        assert (outcome.status, outcome.reason) == (403, "socket_id")
        assert "a socket id is a str or None, got 5" in logs[0]["error"]

    async def test_any_other_exception_is_the_doors_to_answer(self):
        def fail(asked):
            raise LookupError("a bug")

        with pytest.raises(LookupError):
            await mount(connect=fail).accept(upgrade())

    @pytest.mark.parametrize(
        "error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]
    )
    async def test_what_is_no_exception_is_one_for_the_door(self, error):
        async def fail(asked):
            raise error("not here")

        with pytest.raises(RuntimeError, match=f"the connect hook raised {error.__name__}"):
            await mount(connect=fail).accept(upgrade())

    async def test_a_hook_that_takes_too_long_is_cancelled(self):
        asked = asyncio.Event()

        async def slow(_):
            asked.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(mount(connect=slow).accept(upgrade()))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_path_variables_are_params_and_outrank_the_query(self):
        asked: list[Any] = []
        one = mount(path="/t/{tenant}", connect=asked.append)
        await one.accept(upgrade(b"vsn=2.0.0&tenant=evil", variables={"tenant": "acme"}))
        assert asked[0].params == {"vsn": "2.0.0", "tenant": "acme"}

    def test_a_chosen_subprotocol_is_in_the_answer(self):
        outcome = mount().accept_now(upgrade(b"vsn=2.0.0", (b"sec-websocket-protocol", b"phoenix")))
        assert isinstance(outcome, Accepted)
        assert outcome.headers == (("Sec-WebSocket-Protocol", "phoenix"),)

    def test_an_origin_is_judged_by_the_mounts_rule(self):
        stranger = upgrade(b"vsn=2.0.0", (b"host", b"here"), (b"origin", b"https://there"))
        refused = mount().accept_now(stranger)
        assert isinstance(refused, Refused)
        assert refused.reason == "origin"
        free = mount(handshake=HandshakeOptions(origins=ANY_ORIGIN))
        assert isinstance(free.accept_now(stranger), Accepted)


async def connected(hook: Any, **options: Any) -> Socket:
    """The socket of a connection the hook has let in."""
    seen: list[Socket] = []
    one = mount(connect=hook, **options)
    original = one._accepted
    one._accepted = lambda asked, negotiated, socket, identity: (  # type: ignore[method-assign]
        seen.append(socket),
        original(asked, negotiated, socket, identity),
    )[1]
    assert isinstance(await one.accept(upgrade()), Accepted)
    return seen[0]


class TestTokens:
    """A mount that asks for a token, before any code of the application is asked."""

    @pytest.mark.parametrize(
        ("mode", "query", "status"),
        [
            ("required", b"vsn=2.0.0", 403),
            ("required", b"vsn=2.0.0&token=wrong", 403),
            ("required", b"vsn=2.0.0&token=right", 101),
            ("optional", b"vsn=2.0.0", 101),
            ("optional", b"vsn=2.0.0&token=wrong", 403),
            ("off", b"vsn=2.0.0&token=wrong", 101),
        ],
    )
    def test_who_may_connect(self, mode, query, status):
        outcome = mount(tokens=TokenRule.of(mode, ["right"])).accept_now(upgrade(query))
        assert (101 if isinstance(outcome, Accepted) else outcome.status) == status

    async def test_the_hook_is_not_asked_about_a_client_without_a_token(self):
        asked: list[Any] = []
        one = mount(tokens=TokenRule.of("required", ["right"]), connect=asked.append)
        refused = one.accept_now(upgrade())
        assert isinstance(refused, Refused)
        assert (refused.reason, asked) == ("token", [])
        assert refused.hint["got"] == "no token"
        assert refused.hint["setting"] == "MODA_SOCKET_AUTH=required"

    def test_a_wrong_token_is_not_repeated_in_what_the_log_is_told(self):
        one = mount(tokens=TokenRule.of("required", ["right"]))
        refused = one.accept_now(upgrade(b"vsn=2.0.0&token=s3cret"))
        assert refused.hint["got"] == "a wrong token"
        assert "s3cret" not in repr(refused)


class Engine:
    """What a dispatch tells the engine."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.members = 0

    def join_ok(self, sub: int, response: bytes, binary: bool) -> bool:
        self.told.append((sub, "ok", response if binary else orjson.loads(response)))
        self.members += 1
        return True

    def join_error(self, sub: int, response: bytes) -> bool:
        self.told.append((sub, "error", orjson.loads(response)))
        return True

    def reseat(self, sub: int, address: str) -> bool:
        self.told.append((sub, "reseat", address))
        return True

    def subscribers(self, topic: str) -> int:
        return self.members


def dispatch(serves: Any, **route: Any) -> tuple[Dispatch, Engine]:
    hub, engine = Hub(), Engine()
    hub.core = engine  # type: ignore[assignment]
    return Dispatch(hub, {0: Route("room:{name}", serves, **route)}), engine


def join(
    one: Dispatch,
    sub: int = 1,
    payload: Any = None,
    socket: Socket | None = None,
    conn: int = 5,
) -> Any:
    socket = socket or Socket()
    return one.join(sub, conn, 0, socket, "room:a", {"name": "a"}, orjson.dumps(payload), False)


class TestDispatch:
    """From a join to the code that decides it."""

    async def test_a_channel_is_made_for_each_join_and_knows_where_it_is(self):
        seen: list[Channel] = []

        class Room(Channel):
            async def join(self, payload):
                seen.append(self)

        one, engine = dispatch(Room)
        socket = Socket(principal="ann")
        handles = [join(one, sub, socket=socket) for sub in (1, 2)]
        await until(lambda: len(engine.told) == 2)
        assert [handle.channel for handle in handles] == seen
        assert seen[0] is not seen[1]
        assert (seen[0].topic, seen[0].params) == ("room:a", {"name": "a"})
        assert seen[0].socket is seen[1].socket is socket

    async def test_a_stream_is_one_object_for_all_its_subscribers(self):
        asked: list[JoinRequest] = []

        class News(Stream):
            async def join(self, request):
                asked.append(request)
                return {"n": len(asked)}

        one, engine = dispatch(News())
        join(one, 1, {"x": 1})
        join(one, 2)
        await until(lambda: len(engine.told) == 2)
        assert engine.told == [(1, "ok", {"n": 1}), (2, "ok", {"n": 2})]
        assert (asked[0].topic, asked[0].params, asked[0].payload) == (
            "room:a",
            {"name": "a"},
            {"x": 1},
        )

    def test_a_stream_without_a_join_of_its_own_answers_at_once(self):
        def check(event: str, payload: Any) -> dict[str, Any] | None:
            if payload == "break":
                raise RuntimeError("a bug")
            return {"reason": "invalid payload"} if payload == "wrong" else None

        class News(Stream):
            pass

        one, engine = dispatch(News(), check=check, max_subscribers=2)
        # No loop runs here: there could be no task.
        for sub, payload in enumerate([{}, "wrong", "break", {}, {}], 1):
            assert join(one, sub, payload) is None
        assert engine.told == [
            (1, "ok", {}),
            (2, "error", {"reason": "invalid payload"}),
            (3, "error", {"reason": "join crashed"}),
            (4, "ok", {}),
            (5, "error", {"reason": "too many subscribers", "limit": 2}),
        ]
        assert not one._undecided

    async def test_a_streams_join_ends_with_whoever_waits_for_it_and_its_place_is_free(self):
        gate = asyncio.Event()
        cancelled: list[int] = []

        class News(Stream):
            async def join(self, request):
                try:
                    await gate.wait()
                except asyncio.CancelledError:
                    cancelled.append(request.payload)
                    raise

        one, engine = dispatch(News(), max_subscribers=2)
        # One socket object for all: a connect hook may return the same one to everybody.
        shared = Socket()
        begun, unbegun = join(one, 1, 1, socket=shared), None
        await asyncio.sleep(0)
        unbegun = join(one, 2, 2, socket=shared)
        begun.ended("closed")
        unbegun.ended("replaced")
        assert not one._undecided
        await until(lambda: cancelled)
        assert cancelled == [1]  # the other was cancelled before its first step
        handles = [join(one, sub, sub, socket=shared) for sub in (3, 4)]
        await asyncio.sleep(0)
        join(one, 5, 5, socket=shared)
        full = (5, "error", {"reason": "too many subscribers", "limit": 2})
        assert engine.told == [full]
        gate.set()
        await until(lambda: len(engine.told) == 3)
        assert sorted(told[0] for told in engine.told) == [3, 4, 5]
        await until(lambda: not one._undecided)
        assert (len(handles), cancelled) == (2, [1])

    async def test_a_connection_with_too_many_goodbyes_under_way_joins_nothing_more(self):
        one, engine = dispatch(Channel)
        one._hub.goodbyes[5] = MAX_GOODBYES
        join(one, 1, conn=5)
        assert engine.told == [(1, "error", {"reason": "busy"})]
        join(one, 2, conn=6)
        one._hub.goodbyes[5] -= 1
        join(one, 3, conn=5)
        await until(lambda: len(engine.told) == 3)
        assert [told[:2] for told in engine.told[1:]] == [(2, "ok"), (3, "ok")]

    async def test_a_stream_may_seat_a_subscriber_in_a_lane(self):
        class News(Stream):
            async def join(self, request):
                request.seat(f"{request.topic}#fast")

        one, engine = dispatch(News())
        join(one)
        await until(lambda: len(engine.told) == 2)
        assert engine.told == [(1, "reseat", "room:a#fast"), (1, "ok", {})]

    @pytest.mark.parametrize(
        ("failure", "response"),
        [
            (Reject("full"), {"reason": "full"}),
            (Reject({"reason": object()}), {"reason": "join crashed"}),
            (RuntimeError("a bug"), {"reason": "join crashed"}),
            (asyncio.CancelledError(), {"reason": "join crashed"}),
            (SystemExit(1), {"reason": "join crashed"}),
            (KeyboardInterrupt(), {"reason": "join crashed"}),
            (GeneratorExit(), {"reason": "join crashed"}),
        ],
    )
    async def test_a_stream_refuses_and_crashes_with_an_answer(self, failure, response):
        class News(Stream):
            async def join(self, request):
                raise failure

        one, engine = dispatch(News())
        join(one)
        await until(lambda: engine.told)
        assert engine.told == [(1, "error", response)]

    @pytest.mark.parametrize("error", [RuntimeError, SystemExit])
    async def test_a_channel_that_cannot_be_made_is_a_crashed_join_and_logged(self, error):
        class Room(Channel):
            def __init__(self):
                raise error("a bug")

        one, engine = dispatch(Room)
        with capture_logs() as logs:
            assert join(one) is None
        assert engine.told == [(1, "error", {"reason": "join crashed"})]
        assert [(entry["event"], entry["topic"], entry["connection_id"]) for entry in logs] == [
            ("channel.join.failed", "room:a", 5)
        ]

    async def test_a_route_for_the_trusted_refuses_others_before_the_channel_exists(self):
        made: list[Channel] = []

        class Room(Channel):
            def __init__(self):
                made.append(self)

        one, engine = dispatch(Room, trusted_only=True)
        assert join(one) is None
        assert (engine.told, made) == ([(1, "error", {"reason": "unauthorized"})], [])
        friend = Socket()
        friend.trusted = True
        assert join(one, 2, socket=friend) is not None
        await until(lambda: len(engine.told) == 2)

    @pytest.mark.parametrize("kind", ["channel", "stream"])
    async def test_joins_under_way_count_for_the_cap_of_a_topic(self, kind):
        gate = asyncio.Event()

        class Room(Channel):
            async def join(self, payload):
                await gate.wait()
                if payload == "refuse":
                    raise Reject

        class News(Stream):
            async def join(self, request):
                await gate.wait()
                if request.payload == "refuse":
                    raise Reject

        serves: Any = Room if kind == "channel" else News()
        one, engine = dispatch(serves, max_subscribers=2)
        join(one, 1)
        join(one, 2, "refuse")
        join(one, 3)
        full = {"reason": "too many subscribers", "limit": 2}
        assert engine.told == [(3, "error", full)]
        gate.set()
        await until(lambda: len(engine.told) == 3)
        # One was refused: its place is free, and the next takes it.
        join(one, 4)
        await until(lambda: len(engine.told) == 4)
        join(one, 5)
        assert engine.told[3:] == [(4, "ok", {}), (5, "error", full)]
        assert not one._undecided
