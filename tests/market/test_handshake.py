"""The answer to our upgrade, in every spelling the protocol allows and in a few it does not."""

from __future__ import annotations

import socket
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from picows import WSError, WSHandshakeError, WSUpgradeResponse

from moda.market.feed import Tick
from moda.market.handshake import redirected, tidy

from .resets import PATIENCE, TICK, Resetting, answer, frame, head
from .support import Recorder, count, running, until, upstream

SPELLINGS = [
    b"Connection: Upgrade\r\n",
    b"Connection: upgrade\r\n",
    b"Connection: Upgrade, Keep-Alive\r\n",
    b"Connection: keep-alive, Upgrade\r\n",
    b"connection:keep-alive ,\tUPGRADE ,\r\n",
    b"Connection: Keep-Alive\r\nConnection: Upgrade\r\n",
    b"Connection: Upgrade\r\nX-Between: 1\r\nCONNECTION: Keep-Alive\r\n",
]

REFUSED = [
    b"",
    b"Connection: close\r\n",
    b"Connection: Keep-Alive, not-Upgrade\r\n",
    b"Connection: Upgrade Keep-Alive\r\n",
    b"X-Connection: Upgrade\r\n",
]


@pytest.mark.parametrize("connection", SPELLINGS)
async def test_an_answer_whose_connection_headers_name_upgrade_is_taken(connection: bytes) -> None:
    def play(peer: socket.socket) -> None:
        peer.sendall(answer(head(peer), connection) + frame(1, TICK))
        peer.settimeout(PATIENCE)
        peer.recv(1)  # until the gateway has gone

    with Resetting((play,)) as exchange:
        sink = Recorder()
        async with running(upstream(exchange.url, "btcusdt"), sink):
            await until(lambda: sink.ticks)
    assert sink.state == "live"
    assert sink.ticks[0].symbol == "BTCUSDT"


@pytest.mark.parametrize("connection", REFUSED)
async def test_an_answer_that_does_not_name_upgrade_is_refused(connection: bytes) -> None:
    def play(peer: socket.socket) -> None:
        peer.sendall(answer(head(peer), connection) + frame(1, TICK))

    with Resetting((play,)) as exchange:
        sink, source = Recorder(), upstream(exchange.url, "btcusdt")
        async with running(source, sink):
            await until(lambda: count(source, "attempts_failed") >= 2)
    assert sink.ticks == []
    assert sink.states == ["stale"]


async def test_an_answer_that_comes_byte_by_byte_is_taken_with_the_frame_in_its_last_packet() -> (
    None
):
    def play(peer: socket.socket) -> None:
        whole = answer(head(peer), b"Connection: Upgrade, Keep-Alive\r\n") + frame(1, TICK)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(120):
            peer.sendall(whole[at : at + 1])
        peer.sendall(whole[120:])
        peer.recv(1)

    with Resetting((play,)) as exchange:
        sink = Recorder()
        async with running(upstream(exchange.url, "btcusdt"), sink):
            await until(lambda: sink.ticks)
    assert isinstance(sink.ticks[0], Tick)


async def test_an_answer_with_no_end_is_given_up_after_sixteen_kilobytes() -> None:
    def play(peer: socket.socket) -> None:
        head(peer)
        peer.sendall(b"HTTP/1.1 101 Switching Protocols\r\nX-Pad: " + b"x" * 20_000)
        peer.recv(1)

    with Resetting((play,)) as exchange:
        sink, source = Recorder(), upstream(exchange.url, "btcusdt")
        async with running(source, sink):
            await until(lambda: count(source, "attempts_failed") >= 1)
            assert "headers exceed" in sink.reason


def redirect(status: int, where: bytes) -> bytes:
    return b"HTTP/1.1 %d Elsewhere\r\n%b\r\nContent-Length: 0\r\n\r\n" % (status, where)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_to_where_the_prices_are(status: int) -> None:
    def there(peer: socket.socket) -> None:
        peer.sendall(answer(head(peer)) + frame(1, TICK))
        peer.recv(1)

    with Resetting((there,)) as target:
        where = f"Location: {target.url}/stream".encode()

        def here(peer: socket.socket) -> None:
            head(peer)
            peer.sendall(redirect(status, where))
            peer.recv(1)

        with Resetting((here,)) as exchange:
            sink = Recorder()
            async with running(upstream(exchange.url, "btcusdt"), sink):
                await until(lambda: sink.ticks)


@pytest.mark.parametrize(
    ("where", "said"),
    [(b"X-Location: nowhere", "no Location"), (b"Location: /again", "HTTP 302")],
)
async def test_a_redirect_to_nowhere_or_in_a_circle_is_a_failed_attempt(
    where: bytes, said: str
) -> None:
    def here(peer: socket.socket) -> None:
        head(peer)
        peer.sendall(redirect(302, where))
        peer.recv(1)

    with Resetting((here,)) as exchange:
        sink, source = Recorder(), upstream(exchange.url, "btcusdt")
        async with running(source, sink):
            await until(lambda: count(source, "attempts_failed") >= 1)
            assert said in sink.reason


@pytest.mark.parametrize(
    ("where", "ends_at"),
    [
        ("/stream", "wss://exchange.example:9443/stream"),
        ("wss://other.example/x", "wss://other.example/x"),
        ("ws://exchange.example/plain", None),
        ("https://exchange.example/page", None),
    ],
)
def test_a_redirect_never_leaves_encryption_or_websockets(where: str, ends_at: str | None) -> None:
    refusal = WSUpgradeResponse()
    refusal.status = HTTPStatus.FOUND
    refusal.headers = CIMultiDict({"Location": where})
    error = WSHandshakeError("302", b"", b"", refusal)
    if ends_at is None:
        with pytest.raises(WSError):
            redirected("wss://exchange.example:9443/old", error)
    else:
        assert redirected("wss://exchange.example:9443/old", error) == ends_at


@given(st.binary(max_size=400))
def test_tidying_a_head_never_fails_and_keeps_what_is_no_connection_header(data: bytes) -> None:
    def others(one: bytes) -> list[bytes]:
        lines = one.split(b"\r\n")[1:]
        return [line for line in lines if line.partition(b":")[0].lower() != b"connection"]

    assert others(tidy(data)) == others(data)
