"""Durable topics through a whole gateway: acknowledged is on disk, and a restart goes on where it was."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway import Running
from json_client import JsonClient
from moda import Gateway, History, Stream
from moda.errors import KeyReused
from moda.store import StoreLog, open_store

APPLICATION = """
from moda import Channel, Gateway, History, Reply

gateway = Gateway(builtins=False)


@gateway.channel("log:{name}", history=History(size=100_000, ttl=3600, durable=True))
class Log(Channel):
    async def handle(self, event, payload):
        position = await gateway.publish(self.topic, event, payload)
        return Reply("ok", {"epoch": position.epoch, "offset": position.offset})
"""


class Process:
    """`moda serve` of the application above in a folder, on a free port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "app.py").write_text(APPLICATION)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "moda", "serve", "app:gateway",
            cwd=self.folder,
            env={**os.environ, "PORT": str(self.port), "DATABASE_URL": "sqlite:///moda.db"},
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(600):
            try:
                self.client = await JsonClient.open(f"ws://127.0.0.1:{self.port}/ws")
            except OSError:
                await asyncio.sleep(0.05)
            else:
                return
        raise AssertionError("the gateway did not start")

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@pytest.fixture
async def serve_durable(serve, tmp_path):
    """A gateway in this process with topics `memory:*` and `durable:*`."""

    async def begin() -> Running:
        gateway = Gateway(builtins=False)
        gateway.channel("memory:{name}", history=History(size=10))(Stream())
        gateway.channel("durable:{name}", history=History(size=9_000, durable=True))(Stream())
        store = open_store(f"sqlite:///{tmp_path}/moda.db")
        gateway.configure(store=store, log=StoreLog(store))
        return await serve(gateway)

    return begin


@pytest.fixture
async def process(tmp_path):
    process = Process(tmp_path)
    await process.start()
    yield process
    if process.process.returncode is None:
        await process.kill()


async def say(client: JsonClient, n: int) -> dict[str, Any]:
    return await client.ask(type="publish", topic="log:a", event="line", payload={"n": n})


async def test_what_was_acknowledged_outlives_a_kill_and_the_topic_goes_on_in_its_epoch(process):
    told = await process.client.subscribe("log:a")
    assert told["offset"] == 0
    for n in range(1, 6):
        answer = await say(process.client, n)
        assert answer["response"] == {"epoch": told["epoch"], "offset": n}
    await process.kill()
    await process.start()
    since = {"epoch": told["epoch"], "offset": 2}
    back = await process.client.subscribe("log:a", since=since)
    assert (back["epoch"], back["offset"]) == (told["epoch"], 5)
    assert (back["recovered"], back["missed"]) == (True, 3)
    answer = await say(process.client, 6)
    assert answer["response"] == {"epoch": told["epoch"], "offset": 6}
    heard = [await process.client.event() for _ in range(4)]
    assert [(event["offset"], event["payload"]["n"]) for event in heard] == [
        (3, 3), (4, 4), (5, 5), (6, 6)
    ]  # fmt: skip


async def test_a_subscriber_who_comes_back_from_far_is_read_from_the_database_and_misses_nothing(
    serve_durable, connect
):
    running = await serve_durable()
    total = 3_000  # more than is kept in memory
    for n in range(1, total + 1):
        running.gateway.broadcast("durable:a", "line", {"n": n})
    last = await running.gateway.publish("durable:a", "line", {"n": total + 1})
    assert last.offset == total + 1
    late = await JsonClient.open(f"ws://127.0.0.1:{running.port}/ws")
    back = await late.subscribe("durable:a", since={"epoch": last.epoch, "offset": 0})
    assert (back["recovered"], back["missed"]) == (True, total + 1)
    await running.gateway.publish("durable:a", "line", {"n": total + 2})
    heard = [await late.event() for _ in range(total + 2)]
    assert [event["offset"] for event in heard] == list(range(1, total + 3))
    assert [event["payload"]["n"] for event in heard] == list(range(1, total + 3))
    await late.close()


@pytest.mark.parametrize("kind", ["memory", "durable"])
async def test_publish_says_where_a_message_stands(serve_durable, kind):
    running = await serve_durable()
    gateway = running.gateway
    first = await gateway.publish(f"{kind}:a", "line", {"n": 1})
    second = await gateway.publish(f"{kind}:a", "line", {"n": 2})
    assert (first.offset, second.offset) == (1, 2)
    assert first.epoch == second.epoch


async def test_a_key_used_again_publishes_nothing_and_gets_the_first_answer(serve_durable):
    gateway = (await serve_durable()).gateway
    first = await gateway.publish("durable:a", "line", {"n": 1}, once="k")
    assert await gateway.publish("durable:a", "line", {"n": 1}, once="k") == first
    assert (await gateway.publish("durable:a", "line", {"n": 2})).offset == 2
    with pytest.raises(KeyReused):
        await gateway.publish("durable:a", "line", {"n": 3}, once="k")


async def test_subscribers_hear_a_durable_broadcast_after_its_commit_and_in_order(
    serve_durable, connect
):
    running = await serve_durable()
    client = await connect(running)
    assert (await client.join("durable:a"))["offset"] == 0
    for n in range(50):
        running.gateway.broadcast("durable:a", "line", {"n": n})
    for n in range(50):
        await client.expect(None, f"@{n + 1}", "durable:a", "line", {"n": n})
