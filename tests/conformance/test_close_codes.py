"""Why a connection ends, and the number its client is told."""

from __future__ import annotations

import asyncio
import struct

import pytest
from websockets.exceptions import ConnectionClosed

from moda import Gateway, Socket
from moda.hub import Hub
from phoenix import OK
from raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close_frame,
    frame,
)

from .app import build

HEARTBEAT = '[null,"1","phoenix","heartbeat",{}]'
HEARTBEAT_REPLY = b'[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]'
JOIN = '["1","1","room:a","phx_join",{}]'


@pytest.fixture
async def client(running, raw):
    """An upgraded bare connection, joined to ``room:a``."""
    one = await raw(running)
    await one.upgrade()
    await one.send(frame(JOIN))
    await one.receive()
    return one


# -- the client says goodbye


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (None, 1000),
        (1000, 1000),
        (1001, 1000),
        (1003, 1000),
        (1007, 1000),
        (1011, 1000),
        (1012, 1000),
        (1013, 1000),
        (1014, 1000),
        (3000, 1000),
        (4999, 1000),
        (5000, 1002),
        (65535, 1002),
        (999, 1002),
        (1004, 1002),
        (1005, 1002),
        (1006, 1002),
        (1015, 1002),
        (1016, 1002),
        (2999, 1002),
    ],
)
async def test_a_close_is_answered_with_1000_or_1002_if_its_code_may_not_be_sent(
    client, house, code, answer
):
    await client.send(close_frame(code))
    assert (await client.closed())[0] == answer
    client.half_close()
    assert await client.ended() == b""
    assert await house.goodbyes() == [("room:a", "closed")]


@pytest.mark.parametrize(
    ("payload", "answer"), [(b"\x03", 1002), (struct.pack("!H", 1000) + b"\xff\xfe", 1007)]
)
async def test_half_a_close_code_is_answered_with_1002_and_a_reason_that_is_no_text_with_1007(
    client, payload, answer
):
    await client.send(frame(payload, CLOSE))
    assert (await client.closed())[0] == answer


async def test_what_a_client_sends_behind_its_close_is_ignored(client):
    await client.send(close_frame(1000), frame('["1","2","room:a","echo",{}]'))
    assert await client.receive() == (CLOSE, struct.pack("!H", 1000))
    assert await client.ended() == b""


async def test_a_ping_is_answered_with_its_payload(client):
    for payload in (b"", b"hello", bytes(125)):
        await client.send(frame(payload, PING))
        assert await client.receive() == (PONG, payload)
    await client.send(frame(b"unasked", PONG), frame(HEARTBEAT))
    assert await client.receive() == (TEXT, HEARTBEAT_REPLY)


# -- frames the protocol above cannot read: 1011, with a counted reason and no error frame


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not_json"),
        ("nonsense", "not_json"),
        ('["1","1","room:b","phx_join",{}', "not_json"),
        ('["1","1","room:b","phx_join",{}] x', "not_json"),
        ("{}", "not_an_array"),
        ('"text"', "not_an_array"),
        ("[]", "too_short"),
        ('["1","1","room:b","phx_join"]', "too_short"),
        ('["1","1","room:b",7,{}]', "event_not_string"),
        ("[" * 200 + "]" * 200, "too_short"),
        ("[" * 100_000, "not_json"),
    ],
)
async def test_a_text_frame_that_is_no_message_closes_with_1011(
    running, house, client, text, reason
):
    await client.send(frame(text))
    opcode, payload = await client.receive()
    assert (opcode, payload[:2]) == (CLOSE, struct.pack("!H", 1011))
    assert running.stats["undecodable"] == {reason: 1}
    await client.send(close_frame(1011))
    assert await client.ended() == b""
    assert await house.goodbyes() == [("room:a", "closed")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "binary_truncated"),
        (b"\x00\x01", "binary_truncated"),
        (b"\x00\x01\x01\x01\x01abc", "binary_truncated"),
        (b"\x01\x00\x00\x00\x00", "binary_kind"),
        (b"\x02\x01\x01te", "binary_kind"),
        (b"\xff", "binary_kind"),
        (b"\x00\x00\x00\x01\x01\xffe", "not_utf8"),
    ],
)
async def test_a_binary_frame_that_is_no_push_closes_with_1011(running, client, data, reason):
    await client.send(frame(data, BINARY))
    assert (await client.closed())[0] == 1011
    assert running.stats["undecodable"] == {reason: 1}


@pytest.mark.parametrize(
    "sent",
    [
        frame('["1","1","room:b","phx_join",{}]'),
        frame('{"topic":"t","event":"e","payload":{}}'),
        frame("5"),
        frame(b"\x00\x00\x00\x00\x00", BINARY),
    ],
)
async def test_v1_closes_with_1011_for_anything_but_an_object_of_its_keys(running, raw, sent):
    client = await raw(running)
    await client.upgrade("/socket/websocket")
    await client.send(sent)
    assert (await client.closed())[0] == 1011


async def test_an_undecodable_frame_takes_no_neighbour_with_it(running, client, connect):
    neighbour = await connect(running)
    await neighbour.join("room:a")
    await client.send(frame("nonsense"))
    await client.closed()
    await neighbour.send("1", "2", "room:a", "shout", {"n": 1})
    await neighbour.expect(None, None, "room:a", "said", {"n": 1})


# -- frames RFC 6455 forbids


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(b'"\xff"', TEXT), 1007),
        (
            frame(b'["1","2","room:a","echo",{"x":"\xc3', TEXT, fin=False)
            + frame(b'"}]', CONTINUATION),
            1007,
        ),
        (frame(HEARTBEAT, masked=False), 1002),
        (frame(HEARTBEAT, rsv=4), 1002),
        (frame(HEARTBEAT, rsv=2), 1002),
        (frame(HEARTBEAT, rsv=1), 1002),
        (frame(HEARTBEAT, 0x3), 1002),
        (frame(HEARTBEAT, 0x7), 1002),
        (frame(b"", 0xB), 1002),
        (frame(HEARTBEAT, CONTINUATION), 1002),
        (frame("[", fin=False) + frame("]", TEXT), 1002),
        (frame(b"", PING, fin=False), 1002),
        (frame(bytes(126), PING), 1002),
    ],
    ids=[
        "text that is not UTF-8",
        "a character cut by the end of a message",
        "an unmasked frame",
        "RSV1",
        "RSV2",
        "RSV3",
        "opcode 3",
        "opcode 7",
        "opcode 11",
        "a continuation of nothing",
        "a message inside a message",
        "a ping in pieces",
        "a ping of 126 bytes",
    ],
)
async def test_a_frame_that_breaks_the_rules_closes_with_its_code(client, house, sent, code):
    await client.send(sent)
    assert (await client.closed())[0] == code
    client.half_close()
    assert await client.ended() == b""
    assert await house.goodbyes() == [("room:a", "closed")]


# -- fragments and sizes


async def test_a_message_may_come_in_any_pieces_with_control_frames_between(client):
    message = '["1","2","room:a","echo",{"text":"é☃🚪"}]'.encode()
    pieces = [message[at : at + 3] for at in range(0, len(message), 3)]
    sent = [frame(pieces[0], TEXT, fin=False)]
    for number, piece in enumerate(pieces[1:-1]):
        sent.append(frame(piece, CONTINUATION, fin=False))
        sent.append(frame(b"%d" % number, PING))
    sent.append(frame(pieces[-1], CONTINUATION))
    await client.send(*sent)
    for number in range(len(pieces) - 2):
        assert await client.receive() == (PONG, b"%d" % number)
    expected = '["1","2","room:a","phx_reply",{"status":"ok","response":{"text":"é☃🚪"}}]'
    assert await client.receive() == (TEXT, expected.encode())


async def test_a_frame_may_arrive_byte_by_byte(client):
    for byte in frame(HEARTBEAT):
        await client.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert await client.receive() == (TEXT, HEARTBEAT_REPLY)


async def test_a_binary_message_may_come_in_pieces(client):
    data = b"\x00\x01\x01\x06\x0412room:aechoDATA"
    await client.send(frame(data[:4], BINARY, fin=False), frame(data[4:], CONTINUATION))
    assert await client.receive() == (BINARY, b"\x01\x01\x01\x06\x0212room:aokDATA")


async def test_a_message_of_the_limit_is_taken_and_one_byte_more_closes_with_1009(serve, raw):
    limit = 4096
    running = await serve(build(max_message_bytes=limit).gateway)
    start, end = b'[null,"1","phoenix","heartbeat",{"pad":"', b'"}]'
    fits = start + b"x" * (limit - len(start) - len(end)) + end
    client = await raw(running)
    await client.upgrade()
    await client.send(frame(fits))
    assert await client.receive() == (TEXT, HEARTBEAT_REPLY)
    await client.send(frame(fits[:100], fin=False), frame(fits[100:], CONTINUATION))
    assert await client.receive() == (TEXT, HEARTBEAT_REPLY)
    await client.send(frame(fits[:100], fin=False), frame(fits[100:] + b" ", CONTINUATION))
    assert (await client.closed())[0] == 1009
    other = await raw(running)
    await other.upgrade()
    await other.send(frame(fits + b" "))
    assert (await other.closed())[0] == 1009


@pytest.mark.parametrize("announced", [(1 << 20) + 1, 1 << 31, (1 << 63) - 1])
async def test_an_oversize_frame_is_refused_by_its_header_before_its_payload_comes(
    running, raw, announced
):
    client = await raw(running)
    await client.upgrade()
    await client.send(frame(b"beginning", length=announced))
    assert (await client.closed())[0] == 1009


# -- the server says goodbye


async def test_a_disconnect_by_socket_id_closes_with_1001_and_no_channel_frame(serve, connect):
    house = build(connect=lambda asked: Socket(id=asked.params["user"]))
    running = await serve(house.gateway)
    ann = [await connect(running, params={"user": "ann"}) for _ in range(2)]
    bob = await connect(running, params={"user": "bob"})
    for one in (*ann, bob):
        await one.join("room:a")
    assert house.gateway.disconnect("ann") == 2
    assert house.gateway.disconnect("ann") == 0, "those are closing already"
    assert house.gateway.disconnect("nobody") == 0
    for one in ann:
        with pytest.raises(ConnectionClosed) as closed:
            await one.receive()
        assert closed.value.rcvd.code == 1001
    await bob.send("1", "2", "room:a", "echo", {})
    await bob.expect("1", "2", "room:a", "phx_reply", OK)
    assert await house.goodbyes(2) == [("room:a", "closed"), ("room:a", "closed")]


async def test_a_client_that_says_nothing_is_closed_with_1002_and_one_that_pings_is_not(
    serve, raw, monkeypatch
):
    monkeypatch.setattr("moda.hub.SWEEP_SECONDS", 0.02)
    house = build(idle_seconds=0.5)
    running = await serve(house.gateway)
    silent = await raw(running)
    await silent.upgrade()
    alive = await raw(running)
    await alive.upgrade()
    closing = asyncio.create_task(silent.closed())
    while not closing.done():
        await alive.send(frame(b"", PING))
        assert await alive.receive() == (PONG, b"")
    assert (await closing)[0] == 1002
    await alive.send(frame(HEARTBEAT))
    assert await alive.receive() == (TEXT, HEARTBEAT_REPLY)


async def test_half_a_frame_is_a_sign_of_life(serve, raw, monkeypatch):
    monkeypatch.setattr("moda.hub.SWEEP_SECONDS", 0.02)
    running = await serve(build(idle_seconds=0.5).gateway)
    slow = await raw(running)
    silent = await raw(running)
    await slow.upgrade()
    await silent.upgrade()
    closing = asyncio.create_task(silent.closed())
    long = HEARTBEAT.replace("{}", f'{{"pad":"{"x" * 10_000}"}}')
    whole = iter(frame(long))
    while not closing.done():
        byte = next(whole, None)
        assert byte is not None, "the frame was over before the silent client was closed"
        await slow.send(bytes((byte,)))
        await asyncio.sleep(0.02)
    await slow.send(bytes(whole))
    assert await slow.receive() == (TEXT, HEARTBEAT_REPLY)


async def test_what_the_server_sends_does_not_keep_a_silent_client_alive(
    serve, connect, monkeypatch
):
    monkeypatch.setattr("moda.hub.SWEEP_SECONDS", 0.02)
    house = build(idle_seconds=0.3)
    running = await serve(house.gateway)
    client = await connect(running)
    await client.join("room:a")
    closing = asyncio.create_task(client.closed())
    while not closing.done():
        house.gateway.broadcast("room:a", "said", {})
        await asyncio.sleep(0.01)
    assert (await closing)[0] == 1002


async def test_a_client_that_does_not_answer_a_close_is_cut(serve, raw):
    gateway = Gateway(builtins=False)
    gateway.configure(Hub(close_grace_seconds=0.1))
    gateway.socket("/socket", connect=lambda asked: Socket(id="ann"))
    running = await serve(gateway)
    client = await raw(running)
    await client.upgrade()
    assert gateway.disconnect("ann") == 1
    assert (await client.closed())[0] == 1001
    assert await client.ended() == b""
    assert gateway.hub.connections() == 0


async def test_nothing_follows_the_close_of_a_frame_that_could_not_be_read(running, raw, connect):
    topic = "room:busy"
    noisy = await raw(running)
    await noisy.upgrade()
    await noisy.send(frame(f'["1","1","{topic}","phx_join",{{}}]'))
    await noisy.receive()
    ended = asyncio.create_task(noisy.ended())
    await noisy.send(frame(HEARTBEAT) * 3 + frame(b"", opcode=3))
    closes = running.gateway.hub.stats()["closes"].get(1002, 0)
    while running.gateway.hub.stats()["closes"].get(1002, 0) == closes:
        running.gateway.broadcast(topic, "late", {"n": 1})
        await asyncio.sleep(0)
    for _ in range(20):
        running.gateway.broadcast(topic, "late", {"n": 2})
        await asyncio.sleep(0)
    noisy.half_close()
    came = await ended
    assert came.count(HEARTBEAT_REPLY) == 3, "a good frame is answered whatever follows it"
    assert came.rindex(b"\x88") > came.rindex(HEARTBEAT_REPLY)
    assert b"late" not in came[came.rindex(b"\x88") :]
