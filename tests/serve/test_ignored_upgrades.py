"""An upgrade nobody makes is an ordinary request, and its body arrives; Host and version are judged."""

from __future__ import annotations

from typing import Any

import pytest

from moda.serve.door import DoorOptions
from moda.serve.face import Face

from .conftest import KEY, get, request, until

H2C = (
    "connection: Upgrade, HTTP2-Settings",
    "upgrade: h2c",
    "http2-settings: AAEAAEAAAAIAAAABAAMAAABk",
)
WEBSOCKET = (
    "connection: Upgrade",
    "upgrade: websocket",
    f"sec-websocket-key: {KEY}",
    "sec-websocket-version: 13",
)


class Reader:
    """Answers with what it was sent, and knows no WebSocket."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        self.asked.append((scope["type"], scope.get("method", ""), scope["path"]))
        self.headers.append(list(scope["headers"]))
        body, more = b"", True
        while more and scope["type"] == "http":
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def reader() -> Reader:
    return Reader()


def post(body: bytes, *headers: str, path: str = "/app") -> bytes:
    return get(path, f"content-length: {len(body)}", *headers, method="POST") + body


CHUNKS = b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"


@pytest.mark.parametrize("upgrade", [H2C, WEBSOCKET, ("connection: upgrade", "upgrade: x/1, y")])
@pytest.mark.parametrize("warm", [False, True], ids=["first", "kept alive"])
async def test_a_body_behind_an_upgrade_that_is_ignored_arrives(
    house, connect, reader, upgrade, warm
):
    home = await house(face=Face("test", dict, mounted=reader))
    client = await connect(home.port)
    if warm:
        await client.send(get("/health"))
        await client.response()
    big = bytes(range(256)) * 400
    await client.send(post(b"hello", *upgrade))
    assert (await client.response()).body == b"hello"
    await client.send(get("/app", "transfer-encoding: chunked", *upgrade, method="PUT") + CHUNKS)
    assert (await client.response()).body == b"abcdefg"
    await client.send(post(big, *upgrade))
    assert (await client.response()).body == big
    await client.send(get("/app", *upgrade, method="DELETE") + get("/health"))
    assert [(await client.response()).status for _ in range(2)] == [200, 200]
    assert [entry[1] for entry in reader.asked] == ["POST", "PUT", "POST", "DELETE"]
    assert (b"upgrade", upgrade[1].partition(": ")[2].encode()) in reader.headers[0]


async def test_such_a_body_may_come_in_later_packets_byte_by_byte(house, connect, reader):
    home = await house(face=Face("test", dict, mounted=reader))
    client = await connect(home.port)
    for byte in post(b"in pieces", *H2C):
        await client.send(bytes((byte,)))
    assert (await client.response()).body == b"in pieces"


async def test_such_requests_sent_ahead_are_told_apart(house, connect, reader):
    home = await house(face=Face("test", dict, mounted=reader))
    client = await connect(home.port)
    chunked = get("/app", "transfer-encoding: chunked", *H2C, method="POST") + CHUNKS
    sent = post(b"one", *H2C) + chunked + get("/app", *H2C) + post(b"GET / HTTP/1.1\r\n\r\n", *H2C)
    await client.send(sent + post(b"last"))
    bodies = [(await client.response()).body for _ in range(5)]
    assert bodies == [b"one", b"abcdefg", b"", b"GET / HTTP/1.1\r\n\r\n", b"last"]


async def test_a_continue_is_sent_for_such_a_body(house, connect, reader):
    home = await house(face=Face("test", dict, mounted=reader))
    client = await connect(home.port)
    await client.send(post(b"", "expect: 100-continue", *H2C).replace(b"length: 0", b"length: 2"))
    assert (await client.response()).status == 100
    await client.send(b"ok")
    assert (await client.response()).body == b"ok"


async def test_the_body_of_such_a_request_has_its_deadline(house, connect, reader):
    home = await house(
        face=Face("test", dict, mounted=reader), door=DoorOptions(handshake_timeout=0.2)
    )
    client = await connect(home.port)
    await client.send(post(b"", *H2C).replace(b"length: 0", b"length: 2"))
    assert (await client.response()).status == 408


# -- what is no WebSocket handshake is not waited for


@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "PUT", "OPTIONS"])
async def test_only_a_get_becomes_a_web_socket_of_the_application(house, connect, reader, method):
    home = await house(face=Face("test", dict, mounted=reader), door=DoorOptions(max_connections=1))
    for _ in range(3):
        client = await connect(home.port)
        await client.send(get("/app", *WEBSOCKET, method=method))
        assert b" 200 " in await client.reader.readuntil(b"\r\n\r\n")
        await client.close()
    assert set(reader.asked) == {("http", method, "/app")}
    assert not home.server.door.full()


async def test_an_upgrade_of_http_1_0_is_ignored(house, connect, reader):
    home = await house(face=Face("test", dict, mounted=reader))
    client = await connect(home.port)
    await client.send(get("/app", *WEBSOCKET).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert (await client.response()).status == 200
    assert reader.asked == [("http", "GET", "/app")]


async def test_a_get_with_a_body_is_no_web_socket(house, connect, reader):
    home = await house(face=Face("test", dict, mounted=reader))
    client = await connect(home.port)
    await client.send(get("/app", "content-length: 3", *WEBSOCKET) + b"abc")
    assert (await client.response()).body == b"abc"


@pytest.mark.parametrize("extra", [[f"x-{n}: 1" for n in range(200)], ["x-long: " + "y" * 9000]])
async def test_a_head_the_applications_library_cannot_read_is_400(house, connect, reader, extra):
    home = await house(face=Face("test", dict, mounted=reader), door=DoorOptions(max_connections=1))
    client = await connect(home.port)
    await client.send(get("/app", *WEBSOCKET, *extra))
    assert (await client.response()).status == 400
    assert await client.ended() == b""
    await until(lambda: not home.server.door.full())
    assert reader.asked == []


async def test_a_web_socket_the_application_does_not_decide_about_is_503_and_gives_its_place_back(
    house, connect
):
    told: list[str] = []

    async def thinks(scope: Any, receive: Any, send: Any) -> None:
        while scope["type"] == "websocket":
            told.append((await receive())["type"])
            if told[-1] == "websocket.disconnect":
                return

    home = await house(
        face=Face("test", dict, mounted=thinks),
        door=DoorOptions(max_connections=1, handshake_timeout=0.2),
    )
    client, other = await connect(home.port), await connect(home.port)
    await client.send(request("/live"))
    await until(lambda: bool(told))
    assert (await other.upgrade("/socket/websocket")).status == 503  # the place is being decided
    assert (await client.response()).status == 503
    await until(lambda: told == ["websocket.connect", "websocket.disconnect"])
    third = await connect(home.port)
    assert (await third.upgrade("/socket/websocket")).status == 101
    assert home.refusals == ["full", "connect_timeout"]


async def test_an_accepted_web_socket_of_the_application_has_no_deadline(house, connect):
    async def accepts(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            await send({"type": "websocket.send", "text": "still here"})

    home = await house(
        face=Face("test", dict, mounted=accepts), door=DoorOptions(handshake_timeout=0.1)
    )
    client, silent = await connect(home.port), await connect(home.port)
    assert (await client.upgrade("/live")).status == 101
    assert home.server.door.waiting <= 1
    await silent.ended()  # the deadline has passed, and a later one
    await client.send(b"\x81\x82\0\0\0\0hi")
    assert await client.frame() == (1, b"still here")


async def test_a_client_of_the_application_that_reads_nothing_is_cut(house, connect, monkeypatch):
    monkeypatch.setattr("moda.serve.mounted.UNREAD", 0.2)

    async def pours(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while True:
                await send({"type": "websocket.send", "bytes": bytes(1 << 20)})

    home = await house(face=Face("test", dict, mounted=pours))
    client = await connect(home.port)
    assert (await client.upgrade("/live")).status == 101
    client.writer.transport.pause_reading()
    await until(lambda: home.server.door.sockets() == 0)
    assert home.server._state.app_sockets == 0


async def test_bytes_that_begin_no_request_keep_no_connection(house, connect):
    home = await house(keep_alive=0.2)
    client = await connect(home.port)
    await client.send(b"\r\n\r\n")
    assert await client.ended() == b""
    await until(lambda: home.server.door.sockets() == 0)


async def test_an_upgrade_refused_behind_an_answer_nobody_reads_ends(house, connect, monkeypatch):
    monkeypatch.setattr("moda.serve.line.LINGER", 0.2)

    async def big(scope: Any, _: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": bytes(16 << 20)})

    home = await house(face=Face("test", dict, mounted=big))
    client = await connect(home.port)
    client.writer.transport.pause_reading()
    await client.send(get("/big") + request(sec_websocket_version="8"))
    await until(lambda: home.refusals == ["upgrade"])
    await until(lambda: home.server.door.sockets() == 0)


# -- Host and version (RFC 9112 sections 2.3 and 3.2)

PATHS = ["/socket/websocket", "/health", "/app"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("warm", [False, True], ids=["first", "kept alive"])
@pytest.mark.parametrize(
    ("hosts", "text"),
    [
        ([], b"got none"),
        (["host: a", "host: b"], b"got 2 of them"),
        (["host: a", "Host: a"], b"got 2 of them"),
        (["host:"], b"must be a host name"),
        (["host: a b"], b"must be a host name"),
        (["host: user@a"], b"must be a host name"),
        (["host: a/b"], b"must be a host name"),
        (["host: a, b:80"], b"must be a host name"),
        (["host: a:b"], b"must be a host name"),
    ],
)
async def test_a_request_without_one_host_is_400(house, connect, reader, path, warm, hosts, text):
    home = await house(face=Face("test", dict, mounted=reader))
    client = await connect(home.port)
    if warm:
        await client.send(get("/health"))
        await client.response()
    await client.send("\r\n".join([f"GET {path} HTTP/1.1", *hosts, *WEBSOCKET, "", ""]).encode())
    answer = await client.response()
    assert (answer.status, answer.header("connection")) == (400, "close")
    assert text in answer.body
    assert await client.ended() == b""
    assert reader.asked == home.hall.asked == []


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:4001", "[::1]:80", "a_b.c-d:", "xn--nxa.example", "127.0.0.1"]
)
@pytest.mark.parametrize("path", PATHS)
async def test_a_host_that_is_one_is_taken(house, connect, reader, host, path):
    home = await house(face=Face("test", dict, mounted=reader))
    client = await connect(home.port)
    await client.send(
        request(path, host=host)
        if path == PATHS[0]
        else get(path).replace(b"localhost", host.encode())
    )
    assert (await client.response()).status in (101, 200)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("warm", [False, True], ids=["first", "kept alive"])
@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("", 400),
        (" HTTP/0.9", 400),
        (" HTTP/x", 400),
        (" HTTP/2.0", 505),
        (" HTTP/3.0", 505),
        (" HTTP/2", 505),
    ],
)
async def test_a_version_not_spoken_is_refused(house, connect, reader, path, warm, version, status):
    home = await house(face=Face("test", dict, mounted=reader))
    client = await connect(home.port)
    if warm:
        await client.send(get("/health"))
        await client.response()
    await client.send(f"GET {path}{version}\r\nhost: x\r\n\r\n".encode())
    assert (await client.response()).status == status
    assert await client.ended() == b""
    assert reader.asked == home.hall.asked == []


async def test_http_1_0_needs_no_host(house, connect):
    home = await house()
    client = await connect(home.port)
    await client.send(b"GET /health HTTP/1.0\r\n\r\n")
    assert (await client.response()).status == 200


async def test_a_client_that_begins_with_http_2_is_told_what_is_spoken(house, connect):
    home = await house()
    client = await connect(home.port)
    await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    answer = await client.response()
    assert (answer.status, answer.body) == (505, b"HTTP/1.1 and HTTP/1.0 are spoken here")
