"""How a connection's bytes are read: how much in one turn, what is kept, what comes after a close."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress

import pytest

from gateway import until
from moda import Gateway, Socket, Stream
from moda.hub import Hub
from raw import BINARY, CLOSE, PONG, TEXT, close_frame, frame, request

from .app import build

QUANTUM = 8192
FULL = 1.0
"""Seconds in which not one byte was taken, after which the kernel's buffers are full."""
HEARTBEAT = '[null,"1","phoenix","heartbeat",{}]'
HEARTBEAT_REPLY = b'[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]'
JOIN = '["1","1","room:a","phx_join",{}]'


@pytest.fixture
async def client(running, raw):
    one = await raw(running)
    await one.upgrade()
    await one.send(frame(JOIN))
    await one.receive()
    return one


@pytest.fixture
async def turns(running):
    """Bytes of messages that the engine was given in each turn of the loop."""
    seen = [0]
    before = running.stats["bytes_in"]
    going = True

    def tick() -> None:
        nonlocal before
        now = running.stats["bytes_in"]
        seen.append(now - before)
        before = now
        if going:
            asyncio.get_running_loop().call_soon(tick)

    tick()
    yield seen
    going = False
    await asyncio.sleep(0)


async def test_a_flood_of_small_frames_is_handled_a_quantum_a_turn(running, client, turns):
    start = running.stats["messages_in"]
    for _ in range(8):
        await client.send(frame(HEARTBEAT) * 500)
    await until(lambda: running.stats["messages_in"] - start == 4000)
    assert 0 < max(turns) <= QUANTUM


async def test_frames_behind_a_long_one_do_not_share_its_room(running, client, turns):
    long = '["1","2","room:a","nothing",{"pad":"' + "x" * 300_000 + '"}]'
    start = running.stats["messages_in"]
    await client.send(frame(long) + frame(HEARTBEAT) * 3000)
    await until(lambda: running.stats["messages_in"] - start == 3001)
    assert max(turns) <= 65_536
    assert sum(turn > QUANTUM for turn in turns) <= 5, "as many turns as the long one takes"


@pytest.mark.parametrize("size", [100, 8_000, 8_186, 8_192, 8_200, 65_536, 70_000, 900_000])
async def test_a_frame_of_any_size_comes_whole_between_others(client, size):
    sent = {2: "a" * size, 3: "b", 4: "c" * size}
    messages = [f'["1","{ref}","room:a","echo",{{"pad":"{pad}"}}]' for ref, pad in sent.items()]
    await client.send(*map(frame, messages))
    for ref, pad in sent.items():
        head = f'["1","{ref}","room:a","phx_reply",{{"status":"ok","response":{{"pad":"'
        assert await client.receive() == (TEXT, f'{head}{pad}"}}}}]'.encode())


@pytest.mark.parametrize("bad", [
    frame(HEARTBEAT, 0x3), frame(HEARTBEAT, rsv=4), frame(HEARTBEAT, masked=False),
    frame(b"\xff"), frame("nonsense"), frame(bytes(126), 0x9),
])  # fmt: skip
async def test_a_good_frame_in_front_of_a_bad_one_in_its_segment_is_answered(client, bad):
    await client.send(frame(HEARTBEAT) + bad + frame(HEARTBEAT))
    assert await client.receive() == (TEXT, HEARTBEAT_REPLY)
    opcode, _ = await client.receive()
    assert opcode == CLOSE


async def test_the_first_frame_is_answered_though_all_came_with_the_handshake(running, raw):
    client = await raw(running)
    await client.send(request() + frame(HEARTBEAT) + frame(b"", 0x3))
    assert (await client.response())[0] == 101
    assert await client.receive() == (TEXT, HEARTBEAT_REPLY)
    assert (await client.closed())[0] == 1002


async def test_two_closes_in_one_segment_are_a_clean_close(client, house):
    await client.send(close_frame(1000) + close_frame(1001))
    assert await client.receive() == (CLOSE, struct.pack("!H", 1000))
    assert await client.ended() == b""
    assert await house.goodbyes() == [("room:a", "closed")]


async def test_a_close_behind_a_bad_frame_in_its_segment_ends_it_at_once(client):
    await client.send(frame(b"\xff") + close_frame(1000))
    assert (await client.closed())[0] == 1007
    assert await client.ended() == b""


async def test_bad_text_is_refused_at_its_first_bad_byte_though_its_frame_is_not_whole(client):
    text = b'["1","2","room:a","echo","' + b"x" * 1000 + b"\xff" + b"x" * 1000 + b'"]'
    whole = frame(text)
    await client.send(whole[:1100])
    assert (await client.closed())[0] == 1007


async def test_bad_text_is_refused_inside_a_fragment_while_others_are_still_to_come(client):
    await client.send(frame(b"caf\xc3", fin=False) + frame(b"\x28", 0x0, fin=False))
    assert (await client.closed())[0] == 1007


async def test_empty_fragments_are_legal_anywhere(client):
    message = b'["1","2","room:a","echo",{}]'
    nothing = frame(b"", 0x0, fin=False)
    await client.send(
        frame(b"", TEXT, fin=False), nothing, frame(message[:9], 0x0, fin=False), nothing, nothing,
        frame(message[9:], 0x0, fin=False), frame(b"", 0x0),
    )  # fmt: skip
    reply = b'["1","2","room:a","phx_reply",{"status":"ok","response":{}}]'
    assert await client.receive() == (TEXT, reply)


# -- after our close


async def test_what_comes_after_our_close_is_not_parsed_and_soon_not_read(serve, raw):
    running = await serve(Gateway(builtins=False))
    client = await raw(running)
    await client.upgrade()
    await client.send(frame("nonsense"))
    assert (await client.closed())[0] == 1011
    before = running.stats
    sent = 0
    junk = frame(HEARTBEAT) * 20_000
    # Until nobody takes it any more: what the server reads is 8 MiB, the rest fills kernel buffers.
    with suppress(TimeoutError, OSError):  # full, or cut
        while sent < 128 << 20:
            async with asyncio.timeout(FULL):
                await client.send(junk)
            sent += len(junk)
    assert sent < 128 << 20
    after = running.stats
    assert [after[name] - before[name] for name in ("messages_in", "bytes_in", "heartbeats")] == [
        0,
        0,
        0,
    ]
    assert sent > 4 << 20


async def test_each_unanswered_close_ends_at_its_own_time(serve, raw, monkeypatch):
    # No sweep helps: the next one is an hour away.
    monkeypatch.setattr("moda.hub.SWEEP_SECONDS", 3600)
    gateway = Gateway(builtins=False)
    gateway.configure(Hub(close_grace_seconds=0.05))
    gateway.socket("/socket", connect=lambda asked: Socket(id=asked.params["user"]))
    running = await serve(gateway)
    clients = []
    for user in "abc":
        client = await raw(running)
        await client.upgrade(f"/socket/websocket?vsn=2.0.0&user={user}")
        clients.append(client)
    for user, client in zip("abc", clients, strict=True):
        assert gateway.disconnect(user) == 1
        assert (await client.closed())[0] == 1001
        assert await client.ended() == b""
    await until(lambda: not gateway.hub.connections())


async def test_a_flood_after_a_close_does_not_outlive_the_deadline(serve, raw):
    gateway = Gateway(builtins=False)
    gateway.configure(Hub(close_grace_seconds=0.2))
    running = await serve(gateway)
    client = await raw(running)
    await client.upgrade()
    await client.send(frame(b"\xff"))

    async def flood() -> None:
        while True:
            await client.send(frame(HEARTBEAT) * 1000)

    flooding = asyncio.create_task(flood())
    assert (await client.closed())[0] == 1007
    await until(lambda: not gateway.hub.connections())
    with pytest.raises(OSError, match=r".*"):
        await flooding
    assert running.stats["messages_in"] == 0


async def test_an_answer_that_nobody_reads_does_not_hold_a_closed_connection(serve, raw):
    gateway = Gateway(builtins=False)
    gateway.configure(Hub(close_grace_seconds=0.2, outbox_bytes=64 << 20))
    gateway.channel("news")(Stream)
    running = await serve(gateway)
    client = await raw(running, receive_buffer=4096)
    await client.upgrade()
    await client.send(frame('["1","1","news","phx_join",{}]'))
    await client.receive()
    while not running.stats["short_sends"]:
        gateway.broadcast("news", "news", {"pad": "x" * 16_000})
        await gateway.drained()
    await client.send(close_frame(1000))
    await until(lambda: not gateway.hub.connections())


# -- pings of the server's own


async def test_a_client_that_only_listens_is_kept_by_pings_and_one_that_is_gone_is_closed(
    serve, raw, monkeypatch
):
    monkeypatch.setattr("moda.hub.SWEEP_SECONDS", 0.02)
    running = await serve(build(idle_seconds=0.6, ping_seconds=0.2).gateway)
    listening, gone = await raw(running), await raw(running)
    await listening.upgrade()
    await gone.upgrade()
    closing = asyncio.create_task(gone.closed())
    pings = 0
    while not closing.done() or pings < 4:
        assert await listening.receive() == (0x9, b"")
        await listening.send(frame(b"", PONG))
        pings += 1
    assert (await closing)[0] == 1002
    await listening.send(frame(HEARTBEAT))
    while (came := await listening.receive())[0] == 0x9:
        pass
    assert came == (TEXT, HEARTBEAT_REPLY)


async def test_without_being_asked_nobody_is_pinged(serve, raw, monkeypatch):
    monkeypatch.setattr("moda.hub.SWEEP_SECONDS", 0.02)
    running = await serve(build(idle_seconds=0.3).gateway)
    client = await raw(running)
    await client.upgrade()
    opcode, payload = await client.receive()
    assert (opcode, payload[:2]) == (CLOSE, struct.pack("!H", 1002))
    assert running.stats["pings"] == 0


async def test_binary_in_parts_is_binary(client):
    data = b"\x00\x01\x01\x06\x0412room:aecho" + bytes(20_000)
    whole = frame(data, BINARY)
    for at in range(0, len(whole), 5_000):
        await client.send(whole[at : at + 5_000])
        await asyncio.sleep(0)
    opcode, payload = await client.receive()
    assert (opcode, payload[-20_000:]) == (BINARY, bytes(20_000))
