"""The examples of docs/http.md do what the page says."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "http.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[str]:
    """Every curl command of the page, continued lines joined."""
    return ["curl" + one for block in BLOCKS for one in re.split(r"^curl", block, flags=re.M)[1:]]


async def run(api, command: str) -> dict:
    there = command.replace("http://127.0.0.1:4001", api.running.url)
    done = await asyncio.to_thread(
        subprocess.run, there, shell=True, capture_output=True, timeout=30
    )
    return json.loads(done.stdout)


async def test_every_curl_example_is_answered_as_the_page_says(api):
    answers = [await run(api, command) for command in commands()]
    one, batch, once, page, topic, present, last, since, timed, closed = answers
    assert present == {"topic": "room:lobby", "count": 0, "presences": {}}
    assert one["offset"] == 1
    assert [sorted(result) for result in batch["results"]] == [
        ["epoch", "offset"],
        ["code", "message", "received"],
    ]
    assert once["offset"] == 3
    assert page["topics"] == [topic]
    assert topic["offset"] == 3
    assert [message["offset"] for message in last["messages"]] == [1, 2, 3]
    assert since["gap"] == "epoch"
    assert timed["gap"] is None
    assert closed == {"closed": 0}


def test_every_code_of_an_error_is_on_the_page():
    sources = Path(__file__).resolve().parents[2] / "python" / "moda"
    text = "".join(
        file.read_text() for folder in ("rest", "serve") for file in (sources / folder).glob("*.py")
    )
    codes = set(re.findall(r'(?:Failed|Problem)\(\s*(?:\d+,\s*)?"([a-z_]+)"', text))
    assert len(codes) >= 12
    assert {code for code in codes if f"`{code}`" not in PAGE} == set()
