"""Everything a stranger does to a gateway, at a pace that two cores can stand, all at once.

Each attack is a coroutine that harms once; `keep` repeats it at random moments. The pace bounds
connections, not what one connection does: a flood is as fast as its socket.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import random
import socket
import ssl
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from raw import CLOSE, CONTINUATION, PING, close_frame, frame, request
from soak.app import FIREHOSES
from soak.exchange import Moody

SOURCE = "127.0.0.3"
JOIN = '["1","{ref}","{topic}","phx_join",{{}}]'
BEAT = frame('[null,"9","phoenix","heartbeat",{}]')
SAY = frame('["1","7","soak:room:hostile","say",{"n":1,"by":-1,"room":"hostile"}]')

BAD = (
    frame(b"\xff\xfe not utf-8"),
    frame("not json"),
    frame("[" * 5000),
    frame("{}"),
    frame('["1","1"]'),
    frame("x", 3),
    frame("x", rsv=4),
    frame("x", masked=False),
    frame("x", CONTINUATION),
    frame("x" * 200, PING),
    frame(b"\x00\xff\xff", 2),
    frame("x", length=1 << 62),
    close_frame(999, b"bye"),
    frame(b"\x03", CLOSE),
)

REFUSED = (
    request("/nowhere/websocket"),
    request(origin="https://evil.example"),
    request(sec_websocket_version="8"),
    request(sec_websocket_key="short"),
    request(connection=None),
    request().replace(b"GET ", b"POST "),
    request().replace(b"GET ", b"HEAD "),
    request().replace(b"HTTP/1.1", b"HTTP/1.0"),
    request(host=None),
    b"\x00\x01\x02\x03\r\n\r\n",
    b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)


class Line:
    """A TCP connection that reads only when it is told to."""

    def __init__(self, one: socket.socket) -> None:
        self.socket = one
        self.loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, port: int, buffer: int | None = None) -> Line:
        one = socket.socket()
        one.setblocking(False)
        if buffer is not None:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        one.bind((SOURCE, 0))
        try:
            await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", port))
        except BaseException:
            one.close()
            raise
        return cls(one)

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.socket, data)

    async def upgrade(self, *topics: str) -> None:
        await self.send(request())
        await self.loop.sock_recv(self.socket, 4096)
        for n, topic in enumerate(topics, 1):
            await self.send(frame(JOIN.format(ref=n, topic=topic)))

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


PACES = {
    "resets": 30.0,
    "stops": 3.0,
    "floods": 1.0,
    "rejoins": 1.0,
    "hoards": 1.0,
    "undecodable": 10.0,
    "refused": 30.0,
    "idles": 20.0,
    "tls_opens": 15.0,
    "tls_breaks": 10.0,
}
"""The methods of `Attacks`, and how often a second each begins."""

Attack = Callable[[], Awaitable[None]]


class Attacks:
    """The kinds of harm, by name; `counts` says how often each was done and how it ended."""

    def __init__(self, port: int, tls_port: int) -> None:
        self.port = port
        self.tls_port = tls_port
        self.counts: collections.Counter[str] = collections.Counter()
        self.trusting = ssl.create_default_context()
        self.trusting.check_hostname = False
        self.trusting.verify_mode = ssl.CERT_NONE

    async def resets(self) -> None:
        """Ends with a RST at one of the moments of a connection's life."""
        line = await Line.open(self.port)
        try:
            moment = random.randrange(6)
            if moment >= 1:
                await line.send(request()[: None if moment > 1 else 40])
            if moment >= 2:
                await line.loop.sock_recv(line.socket, 4096)
            if moment >= 3:
                await line.send(frame(JOIN.format(ref=1, topic="soak:room:hostile")))
            if moment >= 4:
                await line.send(SAY * 10 + SAY[:20])
            if moment >= 5:
                await asyncio.sleep(random.uniform(0.0, 1.0))
        finally:
            line.reset()

    async def stops(self) -> None:
        """Joins what is much and reads nothing, for a while."""
        line = await Line.open(self.port, buffer=4096)
        try:
            await line.upgrade(f"soak:firehose:{random.choice(FIREHOSES)}", "chart:prices")
            await asyncio.sleep(random.uniform(2.0, 20.0))
        finally:
            line.reset()

    async def floods(self) -> None:
        """Sends as fast as the socket takes it and reads nothing."""
        line = await Line.open(self.port)
        try:
            await line.upgrade("soak:room:hostile")
            what = random.choice((BEAT * 200, SAY * 200, frame("x" * 60, PING) * 200))
            end = time.monotonic() + 2.0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    while time.monotonic() < end:
                        await line.send(what)
                        await asyncio.sleep(0)
        finally:
            line.reset()

    async def rejoins(self) -> None:
        """Joins one channel over and over, the next time as soon as it is answered."""
        line = await Line.open(self.port)
        try:
            await line.upgrade()
            end, ref = time.monotonic() + 3.0, 0
            async with asyncio.timeout(10.0):
                while time.monotonic() < end:
                    ref += 1
                    await line.send(frame(JOIN.format(ref=ref, topic="soak:room:again")))
                    await line.loop.sock_recv(line.socket, 65536)
        finally:
            line.reset()

    async def hoards(self) -> None:
        """Sends megabytes to channels whose join is still being decided."""
        line = await Line.open(self.port)
        try:
            await line.upgrade("soak:patient")
            big = frame('["1","5","soak:patient","say","' + "x" * 200_000 + '"]')
            async with asyncio.timeout(2.0):
                for _ in range(20):
                    await line.send(big)
        finally:
            line.reset()

    async def undecodable(self) -> None:
        """Sends what is no frame or no message, and goes on after it was told so."""
        line = await Line.open(self.port)
        try:
            await line.upgrade("soak:room:hostile")
            async with asyncio.timeout(3.0):
                for _ in range(random.randrange(1, 50)):
                    await line.send(random.choice(BAD))
        finally:
            line.reset()

    async def refused(self) -> None:
        """Asks for what is refused, and stays for the answer or does not."""
        line = await Line.open(self.port)
        try:
            await line.send(random.choice(REFUSED))
            if random.random() < 0.7:
                async with asyncio.timeout(2.0):
                    await line.loop.sock_recv(line.socket, 4096)
        finally:
            line.reset() if random.random() < 0.5 else line.socket.close()

    async def idles(self) -> None:
        """Connects and says nothing."""
        line = await Line.open(self.port)
        try:
            await asyncio.sleep(random.uniform(1.0, 8.0))
        finally:
            line.socket.close()

    async def tls_opens(self) -> None:
        """A TLS connection that is made, used once or not at all, and gone."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self.tls_port,
            ssl=self.trusting,
            server_hostname="localhost",
            local_addr=(SOURCE, 0),
        )
        try:
            if random.random() < 0.5:
                writer.write(request() if random.random() < 0.5 else REFUSED[0])
                async with asyncio.timeout(2.0):
                    await reader.read(100)
        finally:
            writer.transport.abort() if random.random() < 0.5 else writer.close()

    async def tls_breaks(self) -> None:
        """A TLS handshake that is never finished, or never begun."""
        line = await Line.open(self.tls_port)
        try:
            hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(40)
            await line.send(random.choice((b"", hello, b"GET / HTTP/1.1\r\n\r\n", os.urandom(64))))
            await asyncio.sleep(random.uniform(0.0, 2.0))
        finally:
            line.reset()

    async def keep(self, harm: Attack, per_second: float, end: float) -> None:
        """Harms about so often until the end, each time without waiting for the last."""
        under_way: set[asyncio.Task[None]] = set()
        while per_second and (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, random.expovariate(per_second)))
            task = asyncio.get_running_loop().create_task(self.once(harm))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def once(self, harm: Attack) -> None:
        name = getattr(harm, "__name__", "")
        try:
            await harm()
        except TimeoutError:
            self.counts[f"{name}, kept waiting"] += 1
        except OSError:
            self.counts[f"{name}, cut"] += 1
        else:
            self.counts[name] += 1


async def main(orders: dict[str, Any]) -> dict[str, Any]:
    """`orders`: port, tls_port, exchange (a port), seconds, pace (1: as written here), only (names)."""
    attacks = Attacks(orders["port"], orders["tls_port"])
    exchange = Moody(orders["exchange"], orders["seconds"])
    thread = exchange.start()
    end = time.monotonic() + orders["seconds"]
    paces = {name: pace for name, pace in PACES.items() if name in (orders["only"] or PACES)}
    await asyncio.gather(
        *(
            attacks.keep(getattr(attacks, name), pace * orders["pace"], end)
            for name, pace in paces.items()
        )
    )
    await asyncio.to_thread(thread.join, 15.0)
    return {"attacks": dict(sorted(attacks.counts.items())), "exchange": exchange.counts}


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(main(json.loads(sys.argv[1])))))
