"""Plain HTTP connections of clients that mean no good: bounded in bytes, in requests and in time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from moda.serve import plain as plain_module
from moda.serve.door import DoorOptions
from moda.serve.face import Face
from moda.serve.plain import PlainHttp

from .conftest import get, until

CHUNKED = get("/health", "transfer-encoding: chunked")


def only(home: Any) -> PlainHttp:
    (one,) = home.server._state.connections
    return one  # type: ignore[no-any-return]


@pytest.fixture
async def app() -> Any:
    """An application that answers when it is told to, and says what it was asked."""

    class App:
        def __init__(self) -> None:
            self.go = asyncio.Event()
            self.asked: list[str] = []
            self.body = 0
            self.answer = b"done"

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                return
            self.asked.append(scope["path"])
            await self.go.wait()
            while scope["path"] == "/read":
                message = await receive()
                self.body += len(message.get("body", b""))
                if not message.get("more_body"):
                    break
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": self.answer})

    return App()


async def test_trailers_without_end_are_cut_at_the_size_of_a_head(house, connect):
    home = await house()
    client = await connect(home.port)
    await client.send(CHUNKED + b"0\r\n")

    async def pour() -> None:
        while True:
            await client.send(b"x-trailer: y\r\n" * 1000)
            await asyncio.sleep(0)

    with pytest.raises(OSError, match=r".*"):
        await pour()
    assert home.refusals == ["head_too_large"]


async def test_a_trailer_is_dropped_and_the_next_request_served(house, connect):
    home = await house()
    client = await connect(home.port)
    await client.send(CHUNKED + b"3\r\nabc\r\n0\r\nx-late: 1\r\n\r\n" + get("/health"))
    assert (await client.response()).status == 200
    assert (await client.response()).status == 200


async def test_a_later_head_has_the_bound_of_the_first(house, connect):
    home = await house(door=DoorOptions(max_head=1000))
    client = await connect(home.port)
    await client.send(get("/health"))
    await client.response()
    await client.send(get("/health", "x-long: " + "y" * 2000))
    assert (await client.response()).status == 431


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"\r\n", id="an empty line"),
        pytest.param(get("/health", "content-length: 5") + b"a", id="a byte of a body"),
        pytest.param(CHUNKED + b"5", id="a digit of a chunk"),
    ],
)
async def test_what_is_no_request_does_not_keep_a_connection_open(house, connect, rest):
    home = await house(keep_alive=0.2)
    client = await connect(home.port)
    await client.send(get("/health"))
    await client.response()
    await client.send(rest)
    await client.ended()


async def test_a_body_that_stays_out_is_waited_for_as_long_as_a_head(house, connect, app):
    home = await house(
        face=Face("test", dict, mounted=app), door=DoorOptions(handshake_timeout=0.2)
    )
    app.go.set()
    client = await connect(home.port)
    await client.send(get("/read", "content-length: 5", method="POST") + b"ab")
    assert (await client.response()).status == 408
    assert home.refusals == ["body_timeout"]


async def test_requests_sent_ahead_wait_as_bytes_and_are_answered_in_order(house, connect, app):
    home = await house(face=Face("test", dict, mounted=app))
    client = await connect(home.port)
    await client.send(b"".join(get(f"/{n}") for n in range(3000)))
    await until(lambda: bool(app.asked))
    assert app.asked == ["/0"]
    assert not only(home).pipeline
    app.go.set()
    for _ in range(3000):
        assert (await client.response()).body == b"done"
    assert app.asked == [f"/{n}" for n in range(3000)]


async def test_a_body_and_what_follows_it_are_told_apart(house, connect, app):
    home = await house(face=Face("test", dict, mounted=app))
    app.go.set()
    client = await connect(home.port)
    body = b"b" * 100_000
    post = get("/read", f"content-length: {len(body)}", method="POST") + body
    await client.send(post + post + get("/last"))
    for _ in range(3):
        assert (await client.response()).status == 200
    assert app.asked == ["/read", "/read", "/last"]
    assert app.body == 2 * len(body)


async def test_an_answer_nobody_reads_ends_its_connection(house, connect, app, monkeypatch):
    monkeypatch.setattr(plain_module, "WRITE_TIMEOUT", 0.2)
    home = await house(face=Face("test", dict, mounted=app))
    app.answer = b"x" * (16 << 20)
    app.go.set()
    client = await connect(home.port)
    client.writer.transport.pause_reading()
    await client.send(get("/big"))
    await until(lambda: bool(app.asked))
    await until(lambda: not home.server._state.connections)
