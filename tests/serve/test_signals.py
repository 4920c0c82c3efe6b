"""Signals, whatever the loop does: the deadline, the second signal, a reload, a drain.

Each test runs a gateway of its own in a process, with a channel that holds the loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from phoenix import Phoenix

ROOT = Path(__file__).parents[2]

APPLICATION = """
import re, time
import structlog
from moda import Channel, Gateway

gateway = Gateway(builtins=False)

@gateway.channel("room:{id}")
class Room(Channel):
    async def handle(self, event, payload):
        if event == "sleep":
            time.sleep(600)
        if event == "native":
            re.match("(?:a|aa)+$", "a" * 90 + "b")  # for ever, with the interpreter's lock
        if event == "nap":
            time.sleep(payload["seconds"])
        if event == "talk":
            for number in range(20):
                structlog.get_logger("shop").warning("sold", text="x" * 100)
        if event == "shout":
            for number in range(20):
                structlog.get_logger("moda.shop").warning("sold", reason=str(number) * 30)
"""


class Served:
    """A running ``moda serve`` and what it has logged."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.lines: list[dict[str, Any]] = []

    async def until(self, event: str) -> dict[str, Any]:
        assert self.process.stderr is not None
        async with asyncio.timeout(60):
            while line := await self.process.stderr.readline():
                self.lines.append(json.loads(line))
                if self.lines[-1]["event"] == event:
                    return self.lines[-1]
        raise AssertionError(f"{event} was never logged: {self.lines}")

    async def client(self) -> Phoenix:
        client = await Phoenix.open(f"ws://127.0.0.1:{self.port}/socket/websocket?vsn=2.0.0")
        await client.join("room:1")
        return client

    async def end(self) -> int:
        async with asyncio.timeout(60):
            while await self._line():
                pass
            return await self.process.wait()

    async def _line(self) -> bool:
        assert self.process.stderr is not None
        line = await self.process.stderr.readline()
        if line:
            self.lines.append(json.loads(line))
        return bool(line)

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]


Start = Callable[..., Awaitable[Served]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """``await start(**environment)`` serves the application above on a free port."""
    running: list[asyncio.subprocess.Process] = []
    (tmp_path / "holder.py").write_text(APPLICATION)

    async def begin(*, stderr: int = asyncio.subprocess.PIPE, **environment: str) -> Served:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "moda",
            "serve",
            "holder:gateway",
            cwd=tmp_path,
            stderr=stderr,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT / "python")]),
                "PORT": "0",
                "MODA_DRAIN_WINDOW": "0",
                "MODA_DRAIN_DEADLINE": "1",
                **environment,
            },
        )
        running.append(process)
        served = Served(process, 0)
        if stderr != asyncio.subprocess.PIPE:
            return served
        started = await served.until("server.started")
        served.port = int(started["gateway"].rpartition(":")[2])
        return served

    yield begin
    for process in running:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def held(served: Served, event: str) -> None:
    """Has a handler hold the loop, and waits until it does."""
    client = await served.client()
    await client.send("1", "2", "room:1", event, {})
    if event == "sleep":
        while "callback" not in await served.until("loop.blocked"):
            pass  # a machine short of CPU holds the loop as well
    else:
        await asyncio.sleep(0.5)  # nobody can say that it holds: it holds the lock as well


async def test_a_handler_that_sleeps_does_not_outlive_the_deadline(start):
    served = await start(MODA_LOOP_BLOCKED_MS="100")
    await held(served, "sleep")
    served.process.send_signal(signal.SIGTERM)
    assert await served.end() == 1
    overdue = served.lines[-1]
    assert (overdue["event"], overdue["deadline"]) == ("server.overdue", 1.0)
    assert overdue["stack"][-1].endswith("Room.handle")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
async def test_a_second_signal_ends_a_process_whose_loop_is_held(start, number):
    served = await start(MODA_LOOP_BLOCKED_MS="100", MODA_DRAIN_DEADLINE="600")
    await held(served, "sleep")
    first = signal.SIGTERM if number != signal.SIGTERM else signal.SIGINT
    served.process.send_signal(first)
    served.process.send_signal(number)
    assert await served.end() in {128 + number, 128 + first}  # two at once have no order
    assert served.events()[-1] == "server.killed"


async def test_code_that_keeps_the_interpreters_lock_does_not_outlive_the_deadline(start):
    served = await start()
    await held(served, "native")
    served.process.send_signal(signal.SIGTERM)
    assert await served.end() == 1
    assert served.lines[-1]["event"] == "process.ended"
    assert served.lines[-1]["code"] == 1


async def test_code_that_keeps_the_interpreters_lock_does_not_outlive_a_second_signal(start):
    served = await start(MODA_DRAIN_DEADLINE="600")
    await held(served, "native")
    served.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.2)
    served.process.send_signal(signal.SIGINT)
    assert await served.end() == 128 + signal.SIGINT


async def test_a_quit_drains(start):
    served = await start()
    client = await served.client()
    served.process.send_signal(signal.SIGQUIT)
    code, _ = await client.closed()
    assert code == 1012
    assert await served.end() == 0
    assert served.events()[-1] == "drain.complete"


async def test_a_hangup_reloads_and_nobody_is_dropped(start):
    served = await start()
    client = await served.client()
    for _ in range(2):
        served.process.send_signal(signal.SIGHUP)
        await served.until("reload.complete")
    assert (await client.ask(None, "9", "phoenix", "heartbeat", {}))["status"] == "ok"
    served.process.send_signal(signal.SIGTERM)
    assert await served.end() == 0


async def test_what_holds_the_loop_is_named_with_topic_event_and_stack(start):
    served = await start(MODA_LOOP_BLOCKED_MS="100")
    client = await served.client()
    await client.send("1", "2", "room:1", "nap", {"seconds": 1})
    line = await served.until("loop.blocked")
    while "callback" not in line:  # a machine short of CPU holds the loop as well
        line = await served.until("loop.blocked")
    assert (line["topic"], line["event_name"], line["callback"]) == ("room:1", "nap", "Room.handle")
    assert line["stack"][-1].endswith("Room.handle")
    assert (await served.until("loop.resumed"))["seconds"] > 0.5


@pytest.mark.parametrize("event", ["talk", "shout"])
async def test_a_log_that_nobody_reads_stops_nobody_and_the_process_ends_when_told_to(start, event):
    reader, writer = os.pipe()
    served = await start(stderr=writer)
    os.close(writer)
    text = b""
    while b"server.started" not in text:
        text += await asyncio.to_thread(os.read, reader, 1 << 16)
    served.port = int(json.loads(text.splitlines()[-1])["gateway"].rpartition(":")[2])
    client = await served.client()  # from here on nobody reads
    for number in range(300):
        await client.send("1", str(number), "room:1", event, {})
    # Answered by the loop after all of them: a channel's leave waits for its messages.
    await client.send("1", "last", "room:1", "phx_leave", {})
    async with asyncio.timeout(60):
        while (await client.receive())[1] != "last":
            pass
    served.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        assert await served.process.wait() == 0
    os.close(reader)


async def test_frames_that_cannot_be_decoded_fill_no_log(start):
    served = await start()
    for _ in range(60):
        client = await Phoenix.open(f"ws://127.0.0.1:{served.port}/socket/websocket?vsn=2.0.0")
        await client.write("no frame")
        await client.closed()
    served.process.send_signal(signal.SIGTERM)
    assert await served.end() == 0
    assert 0 < served.events().count("connection.closed_for_cause") < 40
