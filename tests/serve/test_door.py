"""From a TCP connection to a WebSocket: routing, bounds, the hand-over, what stays behind it."""

from __future__ import annotations

import asyncio

import pytest

from moda.errors import ConfigurationError
from moda.serve import door as door_module
from moda.serve import front as front_module
from moda.serve.door import Door, DoorOptions
from moda.serve.front import Front
from moda.serve.proxies import TrustedProxies
from moda.upgrade import Accepted, Refused, Upgrade

from .conftest import ACCEPT, Hall, frame, get, request, until


async def test_an_upgrade_is_answered_with_101_and_no_greeting_and_then_frames_flow(house, connect):
    home = await house()
    client = await connect(home.port)
    answer = await client.upgrade("/socket/websocket?vsn=2.0.0")
    assert answer.status == 101
    assert answer.header("sec-websocket-accept") == ACCEPT
    assert answer.header("sec-websocket-protocol") is None
    await client.send(frame(b"hello"))
    assert await client.frame() == (1, b"hello")


async def test_the_header_firefox_sends_is_an_upgrade_too(house, connect):
    home = await house()
    client = await connect(home.port)
    assert (await client.upgrade(connection="keep-alive, Upgrade")).status == 101


async def test_a_mount_is_asked_with_the_head_as_it_arrived(house, connect):
    home = await house()
    client = await connect(home.port)
    await client.upgrade("/socket/websocket?a=1&b=%20", "X-Tag: one", "x-tag: two")
    (upgrade,) = home.hall.asked
    assert (upgrade.method, upgrade.path, upgrade.query) == (
        "GET",
        "/socket/websocket",
        b"a=1&b=%20",
    )
    assert upgrade.header_values(b"x-tag") == [b"one", b"two"]
    assert upgrade.client is not None
    assert upgrade.client[0] == "127.0.0.1"
    assert upgrade.secure is False


async def test_headers_of_the_decision_are_in_the_101(house, connect):
    home = await house(Hall(headers=(("Sec-WebSocket-Protocol", "phoenix"),)))
    client = await connect(home.port)
    answer = await client.upgrade()
    assert (answer.status, answer.header("sec-websocket-protocol")) == (101, "phoenix")


async def test_a_refusal_keeps_its_status_and_body_and_closes(house, connect):
    home = await house(Hall(now=lambda _: Refused(403, reason="origin")))
    client = await connect(home.port)
    answer = await client.upgrade()
    assert (answer.status, answer.body, answer.header("connection")) == (403, b"", "close")
    assert await client.ended() == b""
    assert home.refusals == ["origin"]


async def test_connect_runs_for_a_plain_get_and_the_missing_header_is_named_afterwards(
    house, connect
):
    home = await house()
    client = await connect(home.port)
    await client.send(get("/socket/websocket"))
    answer = await client.response()
    assert answer.status == 400
    assert answer.body == b"'connection' header must contain 'upgrade', got []"
    assert len(home.hall.asked) == 1
    assert home.hall.open == []


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"connection": "close"}, "'connection' header must contain 'upgrade', got [\"close\"]"),
        ({"upgrade": "h2c"}, "'upgrade' header must contain 'websocket', got [\"h2c\"]"),
        ({"upgrade": None}, "'upgrade' header must contain 'websocket', got []"),
        (
            {"sec_websocket_version": "8"},
            "'sec-websocket-version' header must be '13', got [\"8\"]",
        ),
        (
            {"sec_websocket_key": None},
            "'sec-websocket-key' header must be sent once, got 0 of them",
        ),
        ({"sec_websocket_key": "abc"}, "'sec-websocket-key' header must be 16 bytes in base64"),
        ({"content_length": "5"}, "a WebSocket upgrade has no body, got one announced"),
    ],
)
async def test_a_head_that_is_no_upgrade_gets_400_and_the_reason(house, connect, changed, text):
    home = await house()
    client = await connect(home.port)
    answer = await client.upgrade(**changed)
    assert (answer.status, answer.body.decode()) == (400, text)
    assert answer.header("sec-websocket-version") == "13"


async def test_an_upgrade_over_http_1_0_is_refused(house, connect):
    home = await house()
    client = await connect(home.port)
    await client.send(request().replace(b"HTTP/1.1", b"HTTP/1.0"))
    answer = await client.response()
    assert (answer.status, answer.body) == (
        400,
        b"a WebSocket upgrade takes HTTP/1.1, got HTTP/1.0",
    )


async def test_a_head_in_single_bytes_is_read_like_any_other(house, connect):
    home = await house()
    client = await connect(home.port)
    for byte in request():
        await client.send(bytes((byte,)))
    assert (await client.response()).status == 101
    await client.send(frame(b"x"))
    assert await client.frame() == (1, b"x")


async def test_frames_sent_with_the_head_are_not_lost(house, connect):
    home = await house()
    client = await connect(home.port)
    big = bytes(range(256)) * 40
    await client.send(request() + frame(b"one") + frame(big, 2) + frame(b"three"))
    assert (await client.response()).status == 101
    assert [await client.frame() for _ in range(3)] == [(1, b"one"), (2, big), (1, b"three")]


async def test_a_second_request_on_a_kept_alive_connection_may_upgrade(house, connect):
    home = await house()
    client = await connect(home.port)
    await client.send(get("/health"))
    assert (await client.response()).status == 200
    await client.send(request("/socket/websocket?vsn=2.0.0") + frame(b"tail"))
    assert (await client.response()).status == 101
    assert await client.frame() == (1, b"tail")
    assert home.server._state.connections == set()


async def test_an_upgrade_pipelined_behind_a_request_waits_for_its_answer(house, connect):
    home = await house()
    client = await connect(home.port)
    await client.send(get("/health") + request() + frame(b"early"))
    assert (await client.response()).status == 200
    assert (await client.response()).status == 101
    assert await client.frame() == (1, b"early")


async def test_the_path_is_matched_decoded_and_whole(house, connect):
    home = await house()
    for target, status in [
        ("/socket%2Fwebsocket", 101),
        ("/socket/websocket/", 101),
        ("//socket//websocket", 101),
        ("/socket//websocket?vsn=2.0.0", 101),
        ("/socket/websocketx", 404),
        ("/socket", 404),
        ("http://localhost/socket/websocket?vsn=2.0.0", 101),
    ]:
        client = await connect(home.port)
        assert (await client.upgrade(target)).status == status, target


async def test_variables_of_a_mounts_path_reach_it(house, connect):
    hall = Hall(path="/t/{tenant}/{room_id}/websocket")
    home = await house(hall)
    client = await connect(home.port)
    assert (await client.upgrade("/t/acme/b%20c/websocket?x=1")).status == 101
    assert hall.asked[0].variables == {"tenant": "acme", "room_id": "b c"}
    other = await connect(home.port)
    assert (await other.upgrade("/t/acme//websocket")).status == 404


async def test_each_mount_decides_for_itself(house, connect):
    closed = Hall(path="/admin/websocket", now=lambda _: Refused(403))
    home = await house(Hall(), closed)
    first, second = await connect(home.port), await connect(home.port)
    assert (await first.upgrade("/socket/websocket")).status == 101
    assert (await second.upgrade("/admin/websocket")).status == 403


def test_two_mounts_of_one_path_are_a_configuration_error():
    with pytest.raises(ConfigurationError, match="two mounts have the path '/socket/websocket'"):
        Door(
            [Hall(), Hall()],
            DoorOptions(),
            connections=lambda: 0,
            plain=lambda: None,
            on_refusal=print,
            on_error=print,
        )


# -- decisions that take time


async def test_a_slow_decision_keeps_what_the_client_sends_meanwhile(house, connect):
    gate = asyncio.Event()
    hall = Hall()

    async def later(_: Upgrade) -> Accepted:
        await gate.wait()
        return hall.accepted()

    hall.later = later
    home = await house(hall)
    client = await connect(home.port)
    await client.send(request() + frame(b"a"))
    await until(lambda: bool(hall.asked))
    await client.send(frame(b"b"))
    neighbour = await connect(home.port)
    await neighbour.send(get("/health"))
    assert (await neighbour.response()).status == 200
    gate.set()
    assert (await client.response()).status == 101
    assert [await client.frame() for _ in range(2)] == [(1, b"a"), (1, b"b")]


async def test_what_is_kept_meanwhile_is_bounded_and_nothing_is_lost(house, connect, monkeypatch):
    monkeypatch.setattr(front_module, "MAX_TAIL", 1000)
    gate = asyncio.Event()
    hall = Hall()
    fronts: list[Front] = []
    original = Front._decide

    def spy(self: Front, *args: object) -> None:
        fronts.append(self)
        original(self, *args)

    monkeypatch.setattr(Front, "_decide", spy)

    async def later(_: Upgrade) -> Accepted:
        await gate.wait()
        return hall.accepted()

    hall.later = later
    home = await house(hall)
    client = await connect(home.port)
    sent = [bytes((65 + n % 26,)) * 4000 for n in range(300)]
    await client.send(request())
    await until(lambda: bool(fronts))
    writing = asyncio.create_task(client.send(b"".join(frame(part) for part in sent)))
    await until(lambda: len(fronts[0]._tail) > 1000)
    for _ in range(20):
        await asyncio.sleep(0)
    held = len(fronts[0]._tail)
    await asyncio.sleep(0.05)
    assert len(fronts[0]._tail) == held < 300 * 4000
    gate.set()
    assert (await client.response()).status == 101
    assert [await client.frame() for _ in sent] == [(1, part) for part in sent]
    await writing


async def test_a_client_that_leaves_cancels_its_decision(house, connect):
    hall = Hall()

    async def later(_: Upgrade) -> Accepted:
        await asyncio.Event().wait()
        raise AssertionError

    hall.later = later
    home = await house(hall)
    client = await connect(home.port)
    await client.send(request())
    await until(lambda: bool(hall.asked))
    assert home.server.door.deciding == 1
    await client.close()
    await until(lambda: hall.cancelled)
    await until(lambda: home.server.door.deciding == 0)
    assert home.server.door.waiting == 0


async def test_a_decision_beyond_the_timeout_is_503_and_cancelled(house, connect):
    hall = Hall()

    async def later(_: Upgrade) -> Accepted:
        await asyncio.Event().wait()
        raise AssertionError

    hall.later = later
    home = await house(hall, door=DoorOptions(handshake_timeout=0.05))
    client = await connect(home.port)
    answer = await client.upgrade()
    assert answer.status == 503
    assert hall.cancelled
    assert home.refusals == ["connect_timeout"]


@pytest.mark.parametrize("slow", [False, True])
async def test_a_connect_that_raises_is_500_for_its_client_alone(house, connect, slow):
    hall = Hall()

    def boom(_: Upgrade) -> Accepted:
        raise RuntimeError("connect is broken")

    async def slow_boom(upgrade: Upgrade) -> Accepted:
        await asyncio.sleep(0)
        return boom(upgrade)

    if slow:
        hall.later = slow_boom
    else:
        hall.now = boom
    home = await house(hall)
    client = await connect(home.port)
    answer = await client.upgrade()
    assert (answer.status, answer.body) == (500, b"")
    hall.later, hall.now = None, None
    other = await connect(home.port)
    assert (await other.upgrade()).status == 101


async def test_a_listener_that_cannot_be_made_is_500_and_its_message_stays_here(house, connect):
    def broken() -> Accepted:
        raise RuntimeError("secret detail")

    home = await house(Hall(now=lambda _: Accepted(broken)))
    client = await connect(home.port)
    answer = await client.upgrade()
    assert (answer.status, answer.body) == (500, b"")
    assert home.refusals == ["connect_failed"]


async def test_a_header_that_cannot_be_written_is_500_for_its_client(house, connect):
    home = await house(Hall(headers=(("Sec-WebSocket-Protocol", "\u20ac"),)))
    client = await connect(home.port)
    assert (await client.upgrade()).status == 500
    assert (home.refusals, home.hall.open) == (["connect_failed"], [])


async def test_what_is_no_listener_is_500_for_its_client(house, connect):
    home = await house(Hall(now=lambda _: Accepted(dict)))  # type: ignore[arg-type]
    client = await connect(home.port)
    assert (await client.upgrade()).status == 500
    assert home.refusals == ["connect_failed"]


# -- bounds


async def test_over_the_cap_a_client_gets_503_and_when_to_come_back(house, connect):
    home = await house(door=DoorOptions(max_connections=2, retry_after=(3, 5)))
    clients = [await connect(home.port) for _ in range(3)]
    assert [(await client.upgrade()).status for client in clients[:2]] == [101, 101]
    answer = await clients[2].upgrade()
    assert answer.status == 503
    assert answer.header("retry-after") in ("3", "4", "5")
    assert len(home.hall.asked) == 2
    assert home.refusals == ["full"]
    await clients[0].close()
    await home.hall.gone.wait()
    fourth = await connect(home.port)
    assert (await fourth.upgrade()).status == 101


async def test_decisions_under_way_count_towards_the_cap(house, connect):
    gate = asyncio.Event()
    hall = Hall()

    async def later(_: Upgrade) -> Accepted:
        await gate.wait()
        return hall.accepted()

    hall.later = later
    home = await house(hall, door=DoorOptions(max_connections=1))
    first, second = await connect(home.port), await connect(home.port)
    await first.send(request())
    await until(lambda: bool(hall.asked))
    assert (await second.upgrade()).status == 503
    gate.set()
    assert (await first.response()).status == 101


async def test_beyond_the_descriptors_a_connection_is_told_so_and_closed_at_once(house, connect):
    home = await house(door=DoorOptions(max_sockets=1, shed_after=60))
    first = await connect(home.port)
    await until(lambda: home.server.door.waiting == 1)
    second = await connect(home.port)
    answer = await second.response()
    assert (answer.status, answer.header("connection")) == (503, "close")
    assert int(answer.header("retry-after") or 0) > 0
    assert await second.ended() == b""
    assert home.refusals == ["sockets"]
    assert (await first.upgrade()).status == 101


async def test_a_head_that_stops_halfway_is_408_after_the_timeout(house, connect):
    home = await house(door=DoorOptions(handshake_timeout=0.05))
    client = await connect(home.port)
    await client.send(b"GET /socket/websocket HTTP/1.1\r\nHost: x\r\n")
    assert (await client.response()).status == 408
    assert home.refusals == ["head_timeout"]


async def test_a_connection_that_never_says_anything_is_closed_after_the_timeout(house, connect):
    home = await house(door=DoorOptions(handshake_timeout=0.05))
    client = await connect(home.port)
    assert await client.ended() == b""
    assert home.server.door.waiting == 0
    assert home.refusals == []


async def test_only_what_is_overdue_is_swept(monkeypatch):
    now = 100.0
    monkeypatch.setattr(door_module.time, "monotonic", lambda: now)
    swept: list[str] = []

    class Waiting:
        def __init__(self, name: str) -> None:
            self.name = name

        def overdue(self) -> None:
            swept.append(self.name)

    door = Door(
        [],
        DoorOptions(handshake_timeout=10),
        connections=lambda: 0,
        plain=lambda: None,
        on_refusal=print,
        on_error=print,
    )
    early, left, late = Waiting("early"), Waiting("left"), Waiting("late")
    door.watch(early)
    door.watch(left)
    now = 105.0
    door.watch(late)
    door._sweep()
    assert swept == []
    door.unwatch(left)
    now = 111.0
    door._sweep()
    assert (swept, door.waiting) == (["early"], 1)
    now = 116.0
    door._sweep()
    assert (swept, door.waiting, door._sweeper) == (["early", "late"], 0, None)


async def test_an_open_socket_is_not_swept(house, connect):
    home = await house(door=DoorOptions(handshake_timeout=0.05))
    client = await connect(home.port)
    await client.upgrade()
    assert home.server.door.waiting == 0
    other = await connect(home.port)
    assert await other.ended() == b""
    await client.send(frame(b"still here"))
    assert await client.frame() == (1, b"still here")


@pytest.mark.parametrize("first", ["/socket/websocket", "/health"])
async def test_a_head_beyond_its_bound_is_431(house, connect, first):
    home = await house(door=DoorOptions(max_head=2000))
    client = await connect(home.port)
    await client.send(f"GET {first} HTTP/1.1\r\nx: {'y' * 3000}\r\n\r\n".encode())
    assert (await client.response()).status == 431
    endless = await connect(home.port)
    await endless.send(f"GET {first} HTTP/1.1\r\nx: {'y' * 3000}".encode())
    assert (await endless.response()).status == 431
    assert home.refusals == ["head_too_large", "head_too_large"]


async def test_bytes_that_are_no_http_get_400(house, connect):
    home = await house()
    for line in (
        b"GET /socket/websocket HTTP/1.1\r\nbad header\r\n\r\n",
        b"\x16\x03\x01 x y\r\n\r\n",
    ):
        client = await connect(home.port)
        await client.send(line)
        assert (await client.response()).status == 400


async def test_a_proxy_names_the_client_only_if_it_is_trusted(house, connect):
    believed = await house(door=DoorOptions(trusted=TrustedProxies.parse(["127.0.0.0/8"])))
    client = await connect(believed.port)
    await client.upgrade(
        "/socket/websocket",
        "x-forwarded-for: 6.6.6.6, 203.0.113.9, 127.0.0.5",
        "x-forwarded-proto: https",
    )
    assert (believed.hall.asked[0].client, believed.hall.asked[0].secure) == (
        ("203.0.113.9", 0),
        True,
    )
    doubted = await house()
    other = await connect(doubted.port)
    await other.upgrade(
        "/socket/websocket", "x-forwarded-for: 203.0.113.9", "x-forwarded-proto: https"
    )
    seen = doubted.hall.asked[0]
    assert seen.client is not None
    assert (seen.client[0], seen.secure) == ("127.0.0.1", False)
