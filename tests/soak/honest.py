"""Five hundred Phoenix clients that behave, and write down everything that is not as it should be.

Ten share a room. Each says something once a second and expects the reply with its own number, hears
the other nine, each in order and none left out, sends heartbeats, and listens to the prices. A frame
that is for none of these is somebody else's: the one thing that must never happen.

Latency is from the call that sends to the callback that receives, so it holds this process's own
delay, too; `lag` says how long that was.
"""

from __future__ import annotations

import array
import asyncio
import collections
import json
import random
import ssl
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvloop

from raw import request

ROOM = 10
PRICES = "chart:prices"
BEAT = 5.0
SAY = 1.0
SOURCE = "127.0.0.2"
"""Honest clients and attackers come from different addresses, as they do in life."""


@dataclass
class Notes:
    """What all clients together have seen."""

    latency: array.array[float] = field(default_factory=lambda: array.array("d"))
    lag: array.array[float] = field(default_factory=lambda: array.array("d"))
    sent: int = 0
    received: int = 0
    answered: int = 0
    prices: int = 0
    foreign: list[str] = field(default_factory=list)
    lost: int = 0
    cut: collections.Counter[str] = field(default_factory=collections.Counter)
    joined: int = 0


class Client(asyncio.Protocol):
    """One client, from its connection to the end of it."""

    def __init__(self, notes: Notes, number: int, rooms: str) -> None:
        self.notes = notes
        self.number = number
        self.group = number // ROOM
        self.room = f"soak:room:{rooms}{self.group}"
        self.over = asyncio.get_running_loop().create_future()
        self.transport: Any = None
        self.buffer = b""
        self.upgraded = False
        self.ready = asyncio.Event()
        self.waiting: dict[str, float] = {}
        self.heard: dict[int, int] = {}
        self.said = 0
        self.ref = 2

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(request())

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(str(error or "connection closed"))

    def write(self, message: list[Any]) -> None:
        data = orjson.dumps(message)
        head = (
            struct.pack("!BBH", 0x81, 0xFE, len(data))
            if len(data) > 125
            else bytes((0x81, 0x80 | len(data)))
        )
        self.transport.write(head + bytes(4) + data)  # masked with zeros
        self.notes.sent += 1

    def ask(self, topic: str, event: str, payload: Any) -> None:
        self.ref += 1
        self.waiting[str(self.ref)] = time.perf_counter()
        self.write([None if topic == "phoenix" else "1", str(self.ref), topic, event, payload])

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self.buffer += data
        if not self.upgraded:
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.fail("refused: " + head.partition(b"\r\n")[0].decode("latin-1"))
                return
            self.upgraded, self.buffer = True, rest
            self.write(["1", "1", self.room, "phx_join", {}])
            self.write(["2", "2", PRICES, "phx_join", {}])
        at = 0
        while (size := len(self.buffer) - at) >= 2:
            opcode, length, head_size = self.buffer[at] & 15, self.buffer[at + 1], 2
            if length == 126:
                length, head_size = int.from_bytes(self.buffer[at + 2 : at + 4], "big"), 4
            elif length == 127:
                length, head_size = int.from_bytes(self.buffer[at + 2 : at + 10], "big"), 10
            if size < head_size + length:
                break
            self.frame(opcode, self.buffer[at + head_size : at + head_size + length], now)
            at += head_size + length
        self.buffer = self.buffer[at:]

    def fail(self, why: str) -> None:
        if not self.over.done():
            self.over.set_result(why)
        self.transport.abort()

    def frame(self, opcode: int, payload: bytes, now: float) -> None:
        self.notes.received += 1
        if opcode == 8:
            self.fail(f"closed with {int.from_bytes(payload[:2], 'big')}")
            return
        try:
            join_ref, ref, topic, event, body = orjson.loads(payload)
            mine = opcode == 1 and self.is_mine(join_ref, ref, topic, event, body, now)
        except (ValueError, TypeError, KeyError):
            mine = False
        if not mine:
            self.notes.foreign.append(f"{self.room} client {self.number}: {payload[:300]!r}")

    def is_mine(
        self, join_ref: Any, ref: Any, topic: str, event: str, body: Any, now: float
    ) -> bool:
        if topic == self.room:
            if event == "said":
                return ref is None and self.hears(body)
            if event == "phx_reply" and ref == "1" and not self.ready.is_set():
                self.notes.joined += 1
                self.ready.set()
                return bool(body["status"] == "ok")
            return join_ref == "1" and event == "phx_reply" and self.is_answer(ref, body, now)
        if topic == "phoenix":
            return event == "phx_reply" and self.is_answer(ref, body, now)
        if topic == PRICES:
            self.notes.prices += event == "price_tick"
            return event in {"price_tick", "upstream"} or (event == "phx_reply" and ref == "2")
        return False

    def is_answer(self, ref: str, body: Any, now: float) -> bool:
        begun = self.waiting.pop(ref, None)
        if begun is None:
            return False
        self.notes.latency.append(now - begun)
        self.notes.answered += 1
        return bool(body["status"] == "ok")

    def hears(self, body: Any) -> bool:
        by, n = body["by"], body["n"]
        if body["room"] != self.room or by // ROOM != self.group or by == self.number:
            return False
        before = self.heard.get(by)
        self.heard[by] = n
        if before is not None and n != before + 1 and n != 1:  # 1: the speaker came back
            self.notes.lost += max(1, n - before - 1)
        return True

    async def live(self) -> None:
        """Says and beats until the connection ends."""
        await self.ready.wait()
        beat = 0.0
        while True:
            await asyncio.sleep(SAY * random.uniform(0.8, 1.2))
            self.said += 1
            self.ask(self.room, "say", {"by": self.number, "n": self.said, "room": self.room})
            if (now := time.monotonic()) >= beat:
                beat = now + BEAT
                self.ask("phoenix", "heartbeat", {})


async def client(
    notes: Notes, number: int, port: int, rooms: str, tls: ssl.SSLContext | None, end: float
) -> None:
    """One client that comes back after every cut, each of which is noted."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(random.uniform(0.0, 5.0))
    while time.monotonic() < end:
        why = "no connection"
        try:
            one: Client
            _, one = await loop.create_connection(
                lambda: Client(notes, number, rooms),
                "127.0.0.1",
                port,
                ssl=tls,
                server_hostname="localhost" if tls else None,
                local_addr=(SOURCE, 0),
            )
            living = loop.create_task(one.live())
            done, _ = await asyncio.wait({one.over}, timeout=end - time.monotonic())
            living.cancel()
            late = time.perf_counter() - 5.0
            if not done:
                # What was asked more than five seconds ago and never answered counts as a cut.
                if any(at < late for at in one.waiting.values()):
                    notes.cut["never answered"] += 1
                one.transport.abort()
                return
            why = one.over.result()
        except OSError as error:
            why = str(error)
        notes.cut[why] += 1
        await asyncio.sleep(1.0)


async def watch_self(notes: Notes, end: float) -> None:
    """How late this process's own callbacks are: the error of the latencies."""
    while time.monotonic() < end:
        begun = time.perf_counter()
        await asyncio.sleep(0.01)
        notes.lag.append(max(0.0, time.perf_counter() - begun - 0.01))


def percentile(values: array.array[float], part: float) -> float:
    """In milliseconds; 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000, 2)


async def main(orders: dict[str, Any]) -> dict[str, Any]:
    """`orders`: clients, secure (how many of them over TLS), port, tls_port, pem, seconds."""
    notes = Notes()
    end = time.monotonic() + orders["seconds"]
    trust = ssl.create_default_context(cafile=orders["pem"])
    secure = orders["secure"]
    plain = orders["clients"] - secure
    await asyncio.gather(
        watch_self(notes, end),
        *(client(notes, n, orders["port"], "p", None, end) for n in range(plain)),
        *(client(notes, n, orders["tls_port"], "s", trust, end) for n in range(secure)),
    )
    return {
        "p50_ms": percentile(notes.latency, 0.5),
        "p99_ms": percentile(notes.latency, 0.99),
        "p999_ms": percentile(notes.latency, 0.999),
        "max_ms": percentile(notes.latency, 1.0),
        "own_lag_p99_ms": percentile(notes.lag, 0.99),
        "sent": notes.sent,
        "received": notes.received,
        "answered": notes.answered,
        "prices": notes.prices,
        "joined": notes.joined,
        "foreign": len(notes.foreign),
        "foreign_first": notes.foreign[:5],
        "lost": notes.lost,
        "cuts": sum(notes.cut.values()),
        "cut_by": dict(notes.cut.most_common(10)),
    }


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(main(json.loads(sys.argv[1])))))
