"""What the README tells a JavaScript user to write prints prices."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from .server import HERE, Running

README = HERE.parents[1] / "README.md"


def blocks() -> list[str]:
    found = re.findall(r"^```js\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == 2, "the README has the snippet and its lines for Node 20"
    return found


def as_printed() -> str:
    return blocks()[0]


def for_node_20() -> str:
    """The snippet with its socket made by the other block's lines."""
    snippet, lines = blocks()
    made, count = re.subn(r"^const socket = .*\n", lambda _: lines, snippet, flags=re.MULTILINE)
    assert count == 1
    return made


@pytest.mark.parametrize("snippet", [as_printed, for_node_20])
def test_the_snippet_prints_the_state_and_a_price(snippet, running: Running, node: Path) -> None:
    text = snippet().replace("localhost:4001", f"127.0.0.1:{running.port}")
    assert str(running.port) in text
    # Where there is no WebSocket by itself (Node 20), the first form is given a browser's.
    given = 'import W from "ws"; globalThis.WebSocket ??= W;\n' if snippet is as_printed else ""
    process = subprocess.Popen(
        [node, "--input-type=module", "-e", given + text],
        cwd=HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = [process.stdout.readline().strip() for _ in range(2)]
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
    assert "prices are simulated" in said
    assert any(re.fullmatch(r"(BTC|ETH)USDT [0-9.]+", line) for line in said), said
