"""Descriptors are reused: no byte meant for the last owner of one may reach the next.

The kernel gives a new connection the lowest free descriptor, so a client that connects right after
another was cut usually sits where that one sat, while broadcasts to it are still queued.
"""

from __future__ import annotations

import asyncio
import json
import os

from gateway import until
from moda import Channel, Gateway, Stream
from raw import TEXT, Raw, frame

HEARTBEAT = frame('[null,"1","phoenix","heartbeat",{}]')
REPLY = [None, "1", "phoenix", "phx_reply", {"status": "ok", "response": {}}]
ROUNDS = 80
LANES = 6


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def subscriber(port: int) -> Raw:
    client = await Raw.open(port)
    await client.upgrade()
    await client.send(frame('["1","1","private","phx_join",{}]'))
    assert json.loads((await client.receive())[1])[4]["status"] == "ok"
    return client


async def newcomer(port: int) -> None:
    """Subscribes to nothing: it must see the answers to its heartbeats and not one byte more."""
    client = await Raw.open(port)
    await client.upgrade()
    for _ in range(3):
        await client.send(HEARTBEAT)
        opcode, payload = await client.receive()
        assert (opcode, json.loads(payload)) == (TEXT, REPLY)
    client.half_close()
    assert await client.ended() == b""
    client.close()


async def test_no_newcomer_sees_a_byte_of_a_storm_on_a_topic_it_has_not_joined(serve):
    gateway = Gateway(builtins=False)
    gateway.channel("private")(Stream)
    running = await serve(gateway)
    storming = True

    async def storm() -> None:
        n = 0
        while storming:
            for _ in range(20):
                gateway.broadcast("private", "secret", {"n": n, "pad": "s" * 500})
                n += 1
            await asyncio.sleep(0)

    storms = asyncio.create_task(storm())
    residents = [await subscriber(running.port) for _ in range(20)]
    readers = [asyncio.create_task(resident.ended()) for resident in residents]

    async def lane(number: int) -> None:
        for turn in range(ROUNDS):
            leaver = await subscriber(running.port)
            if (turn + number) % 3 == 0:
                leaver.reset()
            elif (turn + number) % 3 == 1:
                leaver.close()
            else:
                await leaver.send(frame(b"\x03\xe8", 0x8))
                leaver.close()
            await newcomer(running.port)

    before = descriptors()
    await asyncio.gather(*(lane(number) for number in range(LANES)))
    # Far more connections than descriptors: they were reused.
    assert running.stats["opened"] >= 2 * ROUNDS * LANES
    assert descriptors() < before + 4 * LANES + 20
    storming = False
    await storms
    for resident in residents:
        resident.close()
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)


async def test_channels_that_join_leave_and_crash_in_a_storm_leave_nothing_behind(serve, connect):
    gateway = Gateway(builtins=False)

    @gateway.channel("room:{n}")
    class Room(Channel):
        async def handle(self, event, payload):
            if event == "crash":
                raise RuntimeError("told to")
            self.broadcast("said", {"n": 1})

    running = await serve(gateway)
    storming = True

    async def storm() -> None:
        while storming:
            for n in range(4):
                gateway.broadcast(f"room:{n}", "said", {"n": 0})
            await asyncio.sleep(0)

    async def member(number: int) -> None:
        client = await connect(running)
        for turn in range(16):
            topic, ref = f"room:{(number + turn) % 4}", f"{number}-{turn}"
            await client.send(ref, ref, topic, "phx_join", {})
            await skip_to(client, lambda m, r=ref: m[1] == r and m[3] == "phx_reply")
            await client.send(ref, None, topic, "say", {})
            end = "crash" if turn % 2 else "phx_leave"
            await client.send(ref, f"end-{ref}", topic, end, {})
            await skip_to(client, lambda m, r=ref: m[0] == m[1] == r)
        await client.close()

    async def skip_to(client, wanted) -> None:
        while not wanted(await client.receive()):
            pass

    storms = asyncio.create_task(storm())
    await asyncio.gather(*(member(number) for number in range(8)))
    storming = False
    await storms
    await gateway.drained()
    await until(lambda: not running.stats["connections"])
    stats = running.stats
    assert (stats["channels"], stats["topics"], stats["outbox_bytes"]) == (0, 0, 0)
