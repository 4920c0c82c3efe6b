"""The process: its start, its message, its signals, its exit codes."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from moda.errors import ConfigurationError
from moda.serve import process as process_module
from moda.serve.face import Face
from moda.serve.process import announce
from moda.serve.server import Plan, Server, ServerOptions, settle_memory

from .conftest import Hall, close_code, get

PYTHON = str(Path(__file__).parents[2] / "python")

PROGRAM = """
import asyncio, os, sys
from moda.serve.drain import DrainOptions
from moda.serve.face import Face
from moda.serve.logs import configure_logs
from moda.serve.process import run
from moda.serve.server import Plan, ServerOptions

configure_logs("info", "json", sys.stdout)

# In one write: the log's thread writes to the same pipe.
def say(word): os.write(1, f'"{word}"\\n'.encode())
async def start(): say("start")
async def stop(): say("stop")
async def flush():
    say("flush")
    if "hang" in sys.argv: await asyncio.Event().wait()

options = ServerOptions(port=0, drain=DrainOptions(window=0.1, deadline=0.6))
plan = Plan(options, Face("9", dict), (),
    connections=lambda: 1 if "stay" in sys.argv else 0, close_some=lambda n, c: 0,
    start=start, stop=stop, flush=flush)
sys.exit(run(plan))
"""


class Process:
    """The program above, and the JSON lines it writes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[object] = []

    @classmethod
    async def start(cls, *words: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            PROGRAM,
            *words,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": PYTHON},
        )
        return cls(process)

    async def until(self, event: str) -> dict[str, object]:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            value = json.loads(line)
            self.lines.append(value)
            if isinstance(value, dict) and value.get("event") == event:
                return value
        raise AssertionError(f"{event} was never logged: {self.lines}")

    async def end(self) -> int:
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            while line := await self.process.stdout.readline():
                self.lines.append(json.loads(line))
            return await self.process.wait()

    def words(self) -> list[object]:
        return [line for line in self.lines if isinstance(line, str)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_flushes_stops_and_exits_0(number):
    program = await Process.start()
    started = await program.until("server.started")
    port = int(str(started["gateway"]).rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(get("/health"))
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    program.process.send_signal(number)
    assert await program.end() == 0
    assert program.words() == ["start", "flush", "stop"]
    writer.close()


async def test_a_flush_that_does_not_end_is_exit_code_1_and_the_rest_still_runs():
    program = await Process.start("hang")
    await program.until("server.started")
    program.process.send_signal(signal.SIGTERM)
    assert await program.end() == 1
    assert program.words() == ["start", "flush", "stop"]


async def test_a_second_signal_exits_at_once():
    program = await Process.start("hang", "stay")
    await program.until("server.started")
    program.process.send_signal(signal.SIGTERM)
    await program.until("drain.started")
    program.process.send_signal(signal.SIGINT)
    assert await program.end() == 128 + signal.SIGINT
    assert "stop" not in program.words()


async def test_the_same_signal_is_the_same_wish_for_half_a_second():
    program = await Process.start("hang", "stay")
    await program.until("server.started")
    program.process.send_signal(signal.SIGTERM)
    program.process.send_signal(signal.SIGTERM)
    assert await program.end() == 1


async def test_the_start_says_where_everything_is(house, capsys):
    class Site:
        paths = ("/asyncapi",)

    face = Face("1", dict, console=Path("/nowhere"), sites=(Site(),))
    home = await house(face=face, plan={"notes": [("prices", "simulated")]})
    url = f"http://localhost:{home.port}"
    assert home.server.describe() == [
        ("gateway", url),
        ("console", url + "/"),
        ("HTTP API", url + "/api/v1/docs"),
        ("WebSocket API", url + "/asyncapi"),
        ("socket", url.replace("http", "ws") + "/socket"),
        ("health", url + "/health"),
        ("prices", "simulated"),
    ]


@pytest.mark.parametrize("terminal", [True, False])
async def test_a_person_gets_lines_and_a_log_gets_one_event(house, capsys, monkeypatch, terminal):
    events = []
    home = await house(plan={"notes": [("prices", "simulated")]})
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(
        process_module._log, "info", lambda event, **fields: events.append((event, fields))
    )
    announce(home.server)
    printed = capsys.readouterr().out
    if terminal:
        assert f"  gateway   http://localhost:{home.port}\n" in printed
        assert "  prices    simulated\n" in printed
        assert events == []
    else:
        assert printed == ""
        ((event, fields),) = events
        assert (event, fields["prices"]) == ("server.started", "simulated")
        assert fields["http_api"].endswith("/api/v1/docs")


@pytest.mark.parametrize(
    ("host", "public", "shown"),
    [
        ("127.0.0.1", None, "localhost"),
        ("127.0.0.1", "moda.example", "moda.example"),
        ("127.0.0.1", "[2001:db8::1]", "[2001:db8::1]"),
        ("::1", None, "[::1]"),
    ],
)
async def test_the_address_shown_is_one_that_a_person_can_open(house, host, public, shown):
    home = await house(host=host, public_host=public)
    assert home.server.url == f"http://{shown}:{home.port}"


async def test_a_public_url_is_said_in_place_of_the_address_and_the_address_beside_it(house):
    home = await house(public_url="https://moda.example.com")
    said = dict(home.server.describe())
    assert said["gateway"] == "https://moda.example.com"
    assert said["listens at"] == f"http://localhost:{home.port}"
    assert said["socket"] == "wss://moda.example.com/socket"
    assert said["health"] == "https://moda.example.com/health"


async def test_a_port_in_use_is_a_configuration_error_and_what_ran_is_stopped(house):
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    seen = []

    async def start() -> None:
        seen.append("start")

    async def stop() -> None:
        seen.append("stop")

    port = taken.getsockname()[1]
    plan = Plan(
        ServerOptions(port=port),
        Face("1", dict),
        (Hall(),),
        connections=lambda: 0,
        close_some=lambda count, code: 0,
        start=start,
        stop=stop,
    )
    with pytest.raises(ConfigurationError, match=f"PORT={port}"):
        await Server(plan).start()
    assert seen == ["start", "stop"]
    taken.close()


async def test_it_listens_on_ipv6(house):
    home = await house(host="::1")
    reader, writer = await asyncio.open_connection("::1", home.port)
    writer.write(get("/health"))
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_nobody_is_refused_when_hundreds_arrive_at_once(house, connect):
    home = await house()
    clients = await asyncio.gather(*(connect(home.port) for _ in range(300)))
    answers = await asyncio.gather(*(client.upgrade() for client in clients))
    assert {answer.status for answer in answers} == {101}
    assert len(home.hall.open) == 300


async def test_a_dead_client_does_not_keep_its_place(house, connect):
    home = await house()
    client = await connect(home.port)
    await client.upgrade()
    client.writer.transport.abort()
    await home.hall.gone.wait()
    assert home.hall.open == []


async def test_a_close_frame_ends_the_connection_on_both_sides(house, connect):
    home = await house()
    client = await connect(home.port)
    await client.upgrade()
    await client.send(b"\x88\x82\0\0\0\0\x03\xe9")
    opcode, payload = await client.frame()
    assert (opcode, close_code(payload)) == (8, 1001)
    assert await client.ended() == b""
    await home.hall.gone.wait()


def test_settled_memory_is_out_of_the_collectors_sight():
    thresholds = gc.get_threshold()
    try:
        settle_memory()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold() == (20_000, 50, 100)
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
