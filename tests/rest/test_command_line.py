"""`moda publish` and `moda tail` as programs, against a gateway as `moda serve` makes it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

import pytest

from faults import Proxy
from gateway import until


class Command:
    """`moda` with these words; ends with the test."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, *words: str, **environ: str) -> Command:
        # A blank environment: what the developer has set is no part of the test.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MODA_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "moda", *words,
            env={**kept, **environ},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, limit=1 << 22,
        )  # fmt: skip
        return cls(process)

    async def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(await asyncio.wait_for(self.process.stdout.readline(), 30))

    async def end(self, given: bytes = b"") -> tuple[int, str, str]:
        out, error = await asyncio.wait_for(self.process.communicate(given), 30)
        assert b"Traceback" not in error, error.decode()
        return self.process.returncode or 0, out.decode(), error.decode()


async def moda(api, *words: str, given: bytes = b"", **environ: str) -> tuple[int, str, str]:
    command = await Command.start(
        *words, "--url", f"http://127.0.0.1:{api.running.port}", **environ
    )
    return await command.end(given)


async def test_a_message_is_published_and_its_position_printed(api):
    heard = api.hears("room:1")
    code, out, _ = await moda(api, "publish", "room:1", "said", '{"money": 1.10}')
    told = api.running.gateway.position("room:1")
    assert (code, out) == (0, f"{told.epoch}.1\n")
    assert (await moda(api, "publish", "plain:1", "said"))[:2] == (0, "-\n")
    assert (await moda(api, "publish", "room:1", "said", "-", given=b'{"n":2}'))[0] == 0
    data = bytes(range(256))
    assert (await moda(api, "publish", "--binary", "room:1", "raw", "-", given=data))[0] == 0
    assert heard == [
        ("said", b'{"money": 1.10}', False),
        ("said", b'{"n":2}', False),
        ("raw", data, True),
    ]


async def test_what_cannot_be_published_is_said_on_stderr(api):
    code, out, error = await moda(api, "publish", "nowhere", "said")
    assert (code, out) == (1, "")
    assert "unmatched_topic" in error
    for payload in ("{", "[1]", "\udcff"):
        code, _, error = await moda(api, "publish", "room:1", "said", payload)
        assert code == 2
        assert "takes an object" in error
    command = await Command.start("publish", "room:1", "said", "--url", "ftp://x")
    assert (await command.end())[0] == 2
    command = await Command.start("publish", "room:1", "said", "--url", "http://127.0.0.1:1")
    code, _, error = await command.end()
    assert code == 1
    assert "is `moda serve` running there?" in error


async def test_a_key_is_shown_and_never_printed(begin):
    api = await begin(INTERNAL_API_KEYS="k3y")
    code, _, error = await moda(api, "publish", "room:1", "said")
    assert code == 1
    assert "unauthorized" in error
    assert (await moda(api, "publish", "room:1", "said", "--key", "k3y"))[0] == 0
    assert (await moda(api, "publish", "room:1", "said", MODA_KEY="k3y"))[0] == 0
    code, _, error = await moda(api, "publish", "room:1", "said", MODA_KEY="wr0ng")
    assert code == 1
    assert "wr0ng" not in error


async def test_tail_prints_what_comes_and_ends_cleanly_on_an_interrupt(api):
    command = await Command.start("tail", "room:1", MODA_URL=f"http://127.0.0.1:{api.running.port}")
    await until(lambda: api.running.gateway.subscribers("room:1"))
    told = (await api.publish("room:1", payload={"text": "a\nb"})).body
    line = await command.line()
    assert line == {
        "position": f"{told['epoch']}.1",
        "event": "said",
        "payload": {"text": "a\nb"},
    }
    command.process.send_signal(signal.SIGINT)
    code, out, error = await command.end()
    assert (code, out, error) == (130, "", "")
    await until(lambda: not api.running.gateway.connections()["/ws"])


@pytest.mark.parametrize("topic", ["room:1", "kept:1"])
async def test_tail_begins_where_it_is_told(api, topic):
    for n in range(5):
        epoch = (await api.publish(topic, payload={"n": n})).body["epoch"]
    for option, first in (("--last=2", 3), ("--last=99", 0), (f"--since={epoch}.1", 1)):
        command = await Command.start(
            "tail", topic, option, "--url", f"http://127.0.0.1:{api.running.port}"
        )
        lines = [await command.line() for _ in range(first, 5)]
        assert [line["payload"]["n"] for line in lines] == list(range(first, 5))
        command.process.send_signal(signal.SIGINT)
        assert (await command.end())[0] == 130


async def test_tail_comes_back_after_a_cut_without_gap_or_repeat(api):
    async with Proxy(api.running.port) as proxy:
        command = await Command.start("tail", "kept:1", "--url", f"http://127.0.0.1:{proxy.port}")
        await until(lambda: api.running.gateway.subscribers("kept:1"))
        seen = []
        for n in range(1, 31):
            await api.publish("kept:1", payload={"n": n})
            if n % 10 == 5:
                seen.append(await command.line())
                proxy.reset()
        while len(seen) < 30:
            seen.append(await command.line())
        command.process.send_signal(signal.SIGINT)
        assert (await command.end())[0] == 130
    assert [line["payload"]["n"] for line in seen] == list(range(1, 31))


async def test_tail_of_what_nothing_serves_is_refused(api):
    code, _, error = await moda(api, "tail", "nowhere")
    assert code == 1
    assert "unmatched_topic" in error
    code, _, error = await moda(api, "tail", "plain:1", "--last", "3")
    assert code == 1
    assert "no_history" in error
    for options in (("--since", "x"), ("--last", "0"), ("--last", "2", "--since", "1.1")):
        command = await Command.start("tail", "room:1", *options)
        assert (await command.end())[0] == 2


async def test_a_reader_that_goes_away_ends_it_quietly(api):
    command = await asyncio.create_subprocess_shell(
        f"{sys.executable} -m moda tail room:1 | head -n 1",
        env={**os.environ, "MODA_URL": f"http://127.0.0.1:{api.running.port}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await until(lambda: api.running.gateway.subscribers("room:1"))
    async with asyncio.timeout(30):
        while api.running.gateway.subscribers("room:1"):
            await api.publish("room:1")
        out, error = await command.communicate()
    assert len(out.splitlines()) == 1
    assert error == b""
