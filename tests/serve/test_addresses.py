"""One address takes its share and no more; operators find a socket left; descriptors that end."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
from contextlib import suppress

import pytest

from moda.serve import addresses as addresses_module
from moda.serve.addresses import BURST, Addresses, AddressLimits, block_of
from moda.serve.door import DoorOptions
from moda.serve.face import Face
from moda.serve.proxies import TrustedProxies

from .conftest import get, request, until
from .test_garbage import PAIR, TRUSTING
from .test_mounted import echo

NETWORK = TrustedProxies.parse(["10.0.0.0/8", "2001:db8:77::/48"])


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(addresses_module, "time", clock)
    return clock


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's own addresses are limited like all others."""
    monkeypatch.setattr(addresses_module, "_LOOPBACK", ())


def table(connections: int = 3, rate: int = 0, proxies: str = "") -> Addresses:
    limits = AddressLimits(connections, rate, NETWORK)
    return Addresses(limits, TrustedProxies.parse(proxies.split()))


def arrive(known: Addresses, host: str) -> str | None:
    """One connection: None if it was let in."""
    address = known.of(host)
    over = known.over(address)
    if over is None:
        address.enter()
    return over


def test_an_address_may_hold_so_many_and_another_is_not_touched():
    known = table(connections=3)
    assert [arrive(known, "203.0.113.1") for _ in range(4)] == [None] * 3 + ["address_connections"]
    assert arrive(known, "203.0.113.2") is None
    known.of("203.0.113.1").leave()
    assert arrive(known, "203.0.113.1") is None
    assert known.open == 4


def test_an_address_may_open_so_many_a_second_and_five_seconds_worth_at_once(clock):
    known = table(connections=0, rate=2)
    outcomes = [arrive(known, "203.0.113.1") for _ in range(12)]
    assert outcomes == [None] * int(2 * BURST) + ["address_rate"] * 2
    assert arrive(known, "203.0.113.2") is None
    clock.now += 1.0
    assert [arrive(known, "203.0.113.1") for _ in range(3)] == [None, None, "address_rate"]


def test_who_leaves_and_comes_again_has_not_a_new_allowance(clock):
    known = table(connections=0, rate=1)
    for _ in range(int(BURST)):
        assert arrive(known, "203.0.113.1") is None
        known.of("203.0.113.1").leave()
    assert arrive(known, "203.0.113.1") == "address_rate"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:203.0.113.1", "203.0.113.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("203.0.113.1", "203.0.113.2", False),
        ("::1", "::2", False),
    ],
)
def test_an_ipv6_network_of_64_bits_is_one_address(one, other, same):
    assert (block_of(one) == block_of(other)) is same
    known = table(connections=1)
    known.of(one).enter()
    assert (known.of(other).open == 1) is same


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1", "10.1.2.3", "2001:db8:77::5"]
)
def test_this_machine_and_operators_are_not_limited_and_may_use_the_reserve(host):
    known = table(connections=1, rate=1)
    assert [arrive(known, host) for _ in range(50)] == [None] * 50
    assert known.of(host).operator


def test_a_trusted_proxy_is_not_limited_and_is_no_operator_even_on_this_machine():
    known = table(connections=1, rate=1, proxies="127.0.0.1 192.0.2.0/24")
    for host in ("127.0.0.1", "192.0.2.9"):
        assert [arrive(known, host) for _ in range(50)] == [None] * 50
        assert not known.of(host).operator
    assert known.of("127.0.0.2").operator


def test_one_that_comes_and_comes_in_vain_keeps_no_other_in_the_table(clock):
    known = table(connections=3, rate=1)
    for n in range(100):
        while arrive(known, "203.0.113.1") is None:
            known.of("203.0.113.1").leave()
        assert arrive(known, f"198.51.100.{n}") is None
        known.of(f"198.51.100.{n}").leave()
        clock.now += 0.5
    assert len(known) <= 2 * BURST + 3


def test_an_address_is_forgotten_when_it_has_nothing_open_and_its_allowance_again(clock):
    known = table(connections=3, rate=2)
    for n in range(1000):
        assert arrive(known, f"203.0.{n % 250}.{n // 250}") is None
    for n in range(1000):
        known.of(f"203.0.{n % 250}.{n // 250}").leave()
    assert (known.open, len(known)) == (0, 1000)
    clock.now += BURST + 1
    known.of("198.51.100.1")
    assert len(known) == 1


@pytest.mark.usefixtures("strangers")
async def test_one_address_with_all_it_may_have_keeps_no_other_out(house, connect):
    home = await house(door=DoorOptions(addresses=AddressLimits(connections=2)))
    mine = [await connect(home.port) for _ in range(2)]
    assert [(await client.upgrade()).status for client in mine] == [101, 101]
    third = await connect(home.port)
    answer = await third.response()
    assert (answer.status, answer.header("connection")) == (429, "close")
    assert int(answer.header("retry-after") or 0) > 0
    other = await connect(home.port, local_addr=("127.0.0.2", 0))
    assert (await other.upgrade()).status == 101
    await mine[0].close()
    await home.hall.gone.wait()
    await until(lambda: home.server.door.sockets() == 2)
    fourth = await connect(home.port)
    assert (await fourth.upgrade()).status == 101
    assert home.refusals == ["address_connections"]


@pytest.mark.usefixtures("strangers")
async def test_an_address_that_comes_too_often_is_told_when_to_come_again(house, connect):
    home = await house(door=DoorOptions(addresses=AddressLimits(rate=1)))
    for _ in range(int(BURST)):
        client = await connect(home.port)
        await client.send(get("/health", "connection: close"))
        assert (await client.response()).status == 200
    late = await connect(home.port)
    assert (await late.response()).status == 429
    assert home.refusals == ["address_rate"]


@pytest.mark.usefixtures("strangers")
async def test_over_tls_an_address_is_limited_before_its_handshake(house, connect):
    home = await house(tls=PAIR, door=DoorOptions(addresses=AddressLimits(connections=2)))
    silent = [await connect(home.port) for _ in range(2)]
    await until(lambda: home.server.door.sockets() == 2)
    third = await connect(home.port)
    assert await third.ended() == b""
    assert home.refusals == ["address_connections"]
    for client in silent:
        await client.close()
    await until(lambda: home.server.door.sockets() == 0)
    fourth = await connect(home.port, ssl=TRUSTING, server_hostname="localhost")
    assert (await fourth.upgrade()).status == 101


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_the_last_sockets_are_the_operators(house, connect, tls):
    operators = TrustedProxies.parse(["127.0.0.3"])
    home = await house(
        tls=PAIR if tls else None,
        door=DoorOptions(
            max_sockets=8, shed_after=60, addresses=AddressLimits(operators=operators)
        ),
    )
    secure = {"ssl": TRUSTING, "server_hostname": "localhost"} if tls else {}
    for _ in range(7):
        client = await connect(home.port, **secure)
        assert (await client.upgrade()).status == 101
    with suppress(OSError, asyncio.IncompleteReadError):
        stranger = await connect(home.port, **secure)
        assert (await stranger.response()).status == 503
    assert home.refusals == ["sockets"]
    probe = await connect(home.port, local_addr=("127.0.0.3", 0), **secure)
    await probe.send(get("/health"))
    assert (await probe.response()).status == 200


@pytest.mark.parametrize("sent", [b"", request()[:50], b"POST / HTTP/1.1\r\nhos"])
async def test_who_says_nothing_gives_way_to_who_comes_when_sockets_are_short(house, connect, sent):
    home = await house(door=DoorOptions(max_sockets=4, shed_after=0))
    silent = [await connect(home.port) for _ in range(4)]
    for client in silent:
        await client.send(sent)
    await until(lambda: home.server.door.sockets() == 4)
    probe = await connect(home.port)
    await probe.send(get("/health"))
    assert (await probe.response()).status == 200
    assert home.refusals == ["shed"]
    with suppress(ConnectionResetError):
        assert await silent[0].ended() == b""


async def test_a_handshake_that_stalls_gives_way_too(house, connect):
    home = await house(tls=PAIR, door=DoorOptions(max_sockets=4, shed_after=0))
    silent = [await connect(home.port) for _ in range(4)]
    await until(lambda: home.server.door.sockets() == 4)
    probe = await connect(home.port, ssl=TRUSTING, server_hostname="localhost")
    await probe.send(get("/health"))
    assert (await probe.response()).status == 200
    assert home.refusals == ["shed"]
    with suppress(ConnectionResetError):
        assert await silent[0].ended() == b""


async def test_an_idle_http_connection_gives_way_and_one_that_is_in_use_does_not(house, connect):
    home = await house(door=DoorOptions(max_sockets=2, shed_after=60))
    busy, idle = await connect(home.port), await connect(home.port)
    assert (await busy.upgrade()).status == 101
    await idle.send(get("/health"))
    await idle.response()
    probe = await connect(home.port)
    await probe.send(get("/health"))
    assert (await probe.response()).status == 200
    with suppress(ConnectionResetError):
        assert await idle.ended() == b""
    assert (await probe.upgrade()).status == 101
    late = await connect(home.port)
    assert (await late.response()).status == 503  # nobody to give way
    assert home.refusals == ["shed", "sockets"]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_with_no_descriptor_left_a_newcomer_is_closed_and_not_left_to_wait(house, tls):
    """In this very process: its limit is lowered to what it has open."""
    home = await house(tls=PAIR if tls else None, face=Face("test", dict, mounted=echo))
    loop = asyncio.get_running_loop()
    clients = [socket.socket() for _ in range(3)]
    for client in clients:
        client.setblocking(False)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        top = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (top + 1, hard))
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for client in clients:
            await loop.sock_connect(client, ("127.0.0.1", home.port))
        async with asyncio.timeout(10):
            for client in clients:
                with suppress(ConnectionResetError):
                    assert await loop.sock_recv(client, 1) == b""
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for client in clients:
            client.close()
    assert home.server.door.sockets() == 0
    secure: dict[str, ssl.SSLContext] = {"ssl": TRUSTING} if tls else {}
    reader, writer = await asyncio.open_connection("localhost", home.port, **secure)
    writer.write(get("/health"))
    assert b" 200 " in await reader.readline()
    writer.close()
