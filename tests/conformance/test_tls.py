"""The same rules over TLS, where the hub's bytes go through the transport and not to the socket."""

from __future__ import annotations

import json
import ssl
import subprocess
from pathlib import Path

import pytest

from event_stream import EventReader
from gateway import Running, until
from moda import Gateway, Socket, Stream
from moda.hub import Hub
from moda.serve.tls import TlsOptions
from phoenix import CRASHED, OK, binary_push, broadcast, replied

from .app import House, build

REPLY = "phx_reply"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> TlsOptions:
    """A self-signed certificate for 127.0.0.1, made by the openssl command."""
    folder: Path = tmp_path_factory.mktemp("tls")
    key, leaf = folder / "key.pem", folder / "leaf.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    subprocess.run(
        [
            *command.split(),
            "-keyout",
            key,
            "-out",
            leaf,
            "-subj",
            "/CN=moda test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )
    return TlsOptions(leaf, key)


@pytest.fixture
def trust(certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate.certificate)


@pytest.fixture
async def running(serve, house: House, certificate) -> Running:
    return await serve(house.gateway, tls=certificate)


async def test_a_conversation_over_tls_is_the_same_conversation(running, house, connect, trust):
    client = await connect(running, tls=trust)
    await client.send(None, "7", "phoenix", "heartbeat", {})
    await client.expect(None, "7", "phoenix", REPLY, OK)
    await client.join("room:pushes")
    await client.expect("1", None, "room:pushes", "welcome", {"first": True})
    await client.send("1", "2", "room:pushes", "echo", {"n": 1})
    await client.expect("1", "2", "room:pushes", REPLY, {"status": "ok", "response": {"n": 1}})
    await client.write(binary_push("1", "3", "room:pushes", "echo", b"\x00\xff"))
    assert await client.receive() == replied("1", "3", "room:pushes", "ok", b"\x00\xff")
    await client.send("1", "4", "room:pushes", "shout_bytes", {"hex": "01"})
    assert await client.receive() == broadcast("room:pushes", "said", b"\x01")
    await client.join("room:b", ref="5")
    await client.send("5", "6", "room:b", "crash", {})
    await client.expect("5", "5", "room:b", "phx_error", CRASHED)
    await client.send("1", "8", "room:pushes", "phx_leave", {})
    await client.expect("1", "8", "room:pushes", REPLY, OK)
    await client.expect("1", "1", "room:pushes", "phx_close", {})
    assert await house.goodbyes(2) == [("room:b", "crash"), ("room:pushes", "left")]


async def test_a_fan_out_reaches_tls_clients_in_order(running, house, connect, trust):
    clients = [await connect(running, tls=trust) for _ in range(5)]
    for client in clients:
        await client.join("room:a")
    for n in range(200):
        house.gateway.broadcast("room:a", "news", {"n": n})
        if n % 7 == 0:
            await house.gateway.drained()
    for client in clients:
        for n in range(200):
            await client.expect(None, None, "room:a", "news", {"n": n})
        await client.silence()


async def test_event_streams_are_served_over_tls_and_resumed(running, certificate):
    running.gateway.broadcast("ticker:a", "said", {"n": 0})
    reader = await EventReader.open(running, "/sse?topic=ticker:a&topic=room:b")
    told = sorted([(await reader.next()).json["topic"] for _ in range(2)])
    assert told == ["room:b", "ticker:a"]
    for n in range(100):
        running.gateway.broadcast("ticker:a", "said", {"n": n, "filling": "x" * 2000})
    assert [(await reader.message())["payload"]["n"] for _ in range(100)] == list(range(100))
    await reader.close()
    await until(lambda: not running.stats["connections"])


async def test_a_message_larger_than_a_tls_record_arrives_whole_both_ways(running, connect, trust):
    client = await connect(running, tls=trust)
    await client.join("room:a")
    large = {"pad": "é" * 100_000}
    await client.send("1", "2", "room:a", "echo", large)
    await client.expect("1", "2", "room:a", REPLY, {"status": "ok", "response": large})


async def test_a_disconnect_and_a_bad_frame_close_with_their_codes(
    serve, connect, certificate, trust
):
    house = build(connect=lambda asked: Socket(id=asked.params["user"]))
    running = await serve(house.gateway, tls=certificate)
    ann = await connect(running, params={"user": "ann"}, tls=trust)
    bob = await connect(running, params={"user": "bob"}, tls=trust)
    assert house.gateway.disconnect("ann") == 1
    assert (await ann.closed())[0] == 1001
    await bob.write("nonsense")
    assert (await bob.closed())[0] == 1011


@pytest.mark.parametrize("delivery", ["every", "latest", "drop"])
async def test_a_reader_that_stops_is_bounded_over_tls_too(
    serve, connect, certificate, trust, delivery
):
    gateway = Gateway(builtins=False)
    gateway.configure(Hub(outbox_bytes=256 * 1024))
    gateway.channel("news", delivery=delivery)(Stream)
    running = await serve(gateway, tls=certificate)
    slow = await connect(running, tls=trust)
    await slow.join("news")
    slow.socket.transport.pause_reading()
    # More than the kernel and the transport take for a reader that does not read.
    enough = 1200
    n = most = 0
    while n < enough and not running.stats["slow_closed"]:
        gateway.broadcast("news", "news", {"n": n, "pad": "x" * 16_000}, key="a")
        await gateway.drained()
        most = max(most, running.stats["outbox_bytes"])
        n += 1
    assert most <= 384 * 1024
    slow.socket.transport.resume_reading()
    if delivery == "every":
        assert (await slow.closed())[0] == 1013
        return
    gateway.broadcast("news", "news", {"n": n}, key="a")
    await slow.send(None, "7", "phoenix", "heartbeat", {})
    seen: list[int] = []
    heartbeat = False
    while not heartbeat or (delivery == "latest" and seen[-1] != n):
        frame = json.loads(await slow.read())
        if frame[1] == "7":
            heartbeat = True
        else:
            seen.append(frame[4]["n"])
    assert seen == sorted(seen)
    assert len(seen) < n
    assert running.stats["conflated" if delivery == "latest" else "dropped"] > 0


async def test_a_frame_over_the_bound_gets_its_1009_while_it_is_still_sent(
    serve, connect, certificate, trust
):
    running = await serve(build(max_message_bytes=1000).gateway, tls=certificate)
    client = await connect(running, tls=trust)
    await client.write("x" * 500_000)
    assert (await client.closed())[0] == 1009


async def test_a_client_that_speaks_plain_http_to_the_tls_port_takes_nobody_with_it(
    running, raw, connect, trust
):
    client = await connect(running, tls=trust)
    plain = await raw(running)
    await plain.send(b"GET /socket/websocket HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    await plain.ended()
    await client.join("room:a")
