"""No connection of any kind ends as garbage that waits for a collection.

The gateway collects seldom (see ``settle_memory``): what is left in a cycle stays for minutes, and a
client that comes and goes fills the memory with it. So the collector is off here, connections of one
kind come and go, and whatever there is more of afterwards is named.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from moda.serve.face import Face
from moda.serve.tls import TlsOptions
from moda.upgrade import Refused

from .conftest import Hall, frame, get, request, until
from .test_mounted import echo

HERE = Path(__file__).with_name("tls")
PAIR = TlsOptions(HERE / "localhost.pem", HERE / "localhost.key")
ROUNDS = 10
TRUSTING = ssl.create_default_context(cafile=PAIR.certificate)


class Visitor:
    """A blocking client. It runs in a thread, so that nothing of it lives in the loop."""

    def __init__(self, port: int, tls: bool) -> None:
        self.stream = socket.create_connection(("127.0.0.1", port), timeout=10)
        if tls:
            self.stream = TRUSTING.wrap_socket(self.stream, server_hostname="localhost")

    def ask(self, data: bytes, until: bytes = b"\r\n\r\n") -> bytes:
        self.stream.sendall(data)
        answer = b""
        while until not in answer and (more := self.stream.recv(65536)):
            answer += more
        return answer

    def rest(self) -> None:
        while self.stream.recv(65536):
            pass

    def reset(self) -> None:
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def silent(one: Visitor) -> None:
    """Opened and closed."""


def half_a_head(one: Visitor) -> None:
    one.stream.sendall(request()[:40])


def http(one: Visitor) -> None:
    assert b" 200 " in one.ask(get("/health"))


def http_twice(one: Visitor) -> None:
    http(one)
    http(one)


def http_closed_by_us(one: Visitor) -> None:
    assert b" 200 " in one.ask(get("/health", "connection: close"))
    one.rest()


def http_given_up(one: Visitor) -> None:
    one.stream.sendall(get("/never"))


def half_a_body(one: Visitor) -> None:
    one.stream.sendall(get("/never", "content-length: 10", method="POST") + b"abc")


def not_http(one: Visitor) -> None:
    one.ask(b"\x00\x01\x02\r\n\r\n")
    one.rest()


def refused(one: Visitor) -> None:
    assert b" 403 " in one.ask(request("/no/websocket"))
    one.rest()


def refused_later(one: Visitor) -> None:
    assert b" 403 " in one.ask(request("/slow/websocket?no"))
    one.rest()


def undecided(one: Visitor) -> None:
    one.stream.sendall(request("/slow/websocket?never"))


def upgraded(one: Visitor) -> None:
    assert b" 101 " in one.ask(request())
    one.ask(frame(b"hello"), b"hello")


def upgraded_and_closed(one: Visitor) -> None:
    upgraded(one)
    one.ask(frame(b"\x03\xe8", 8), b"\x88")
    one.rest()


def upgraded_and_wrong(one: Visitor) -> None:
    upgraded(one)
    one.ask(b"\x81\x05hello", b"\x88")
    one.rest()


def upgraded_from_http(one: Visitor) -> None:
    http(one)
    upgraded(one)


def app_socket(one: Visitor) -> None:
    assert b" 101 " in one.ask(request("/live"))
    one.ask(frame(b"hello"), b"hello")


def app_socket_refused(one: Visitor) -> None:
    assert b" 403 " in one.ask(request("/refuses"))
    one.rest()


def app_socket_never_accepted(one: Visitor) -> None:
    one.stream.sendall(request("/never"))


KINDS: tuple[Callable[[Visitor], None], ...] = (
    silent, half_a_head, http, http_twice, http_closed_by_us, http_given_up, half_a_body, not_http,
    refused, refused_later, undecided, upgraded, upgraded_and_closed, upgraded_and_wrong,
    upgraded_from_http, app_socket, app_socket_refused, app_socket_never_accepted,
)  # fmt: skip


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Echoes at /live, refuses at /refuses, answers nobody at /never."""
    if scope.get("path") == "/never":
        while not (await receive())["type"].endswith("disconnect"):
            pass
    elif scope.get("path") == "/refuses":
        await receive()
        await send({"type": "websocket.close"})
    else:
        await echo(scope, receive, send)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def garbage() -> Counter[str]:
    """What a full collection finds now, by type."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.usefixtures("no_collector")
async def test_a_connection_that_has_gone_leaves_nothing_for_the_collector(house, kind, tls, how):
    async def later(upgrade: Any) -> Any:
        if upgrade.query == b"no":
            return Refused(403)
        await asyncio.Event().wait()
        return None

    other = Hall(path="/no/websocket", now=lambda _: Refused(403))
    slow = Hall(path="/slow/websocket", later=later)
    home = await house(
        Hall(),
        other,
        slow,
        face=Face("test", dict, mounted=application),
        tls=PAIR if tls else None,
    )

    def visit() -> None:
        one = Visitor(home.port, tls)
        try:
            kind(one)
            if how == "rst":
                one.reset()
        finally:
            one.stream.close()

    async def come_and_go() -> None:
        await asyncio.to_thread(lambda: [visit() for _ in range(ROUNDS)])
        await until(lambda: home.server.door.sockets() == 0)
        await until(lambda: not home.server._state.tasks)
        for _ in range(5):
            await asyncio.sleep(0)
        home.hall.asked.clear()
        other.asked.clear()
        slow.asked.clear()

    garbage()  # of the start
    await come_and_go()
    left = garbage()
    assert {name: count for name, count in left.items() if count >= ROUNDS // 2} == {}
