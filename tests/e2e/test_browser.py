"""The stock npm client, Firefox's handshake and the console in Chromium, against a real gateway.

The tests themselves are written in the language of the clients, next to this file; here they get a
gateway to talk to, and their report becomes pytest's.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .server import HERE, Running

WITHIN = 600.0


@pytest.mark.parametrize(
    "script",
    ["phoenix_client.test.mjs", "upgrade.test.mjs", "console.test.mjs"],
)
def test_the_clients_of_the_web_are_served_as_they_expect(
    script: str, running: Running, node: Path
) -> None:
    passes(script, running, node)


def test_the_stock_client_lives_through_every_end_of_a_channel(
    obedient: Running, node: Path
) -> None:
    passes("phoenix_ends.test.mjs", obedient, node)


def passes(script: str, running: Running, node: Path) -> None:
    done = subprocess.run(
        [node, "--test", "--test-reporter=spec", script],
        cwd=HERE,
        env={**os.environ, "PORT": str(running.port)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    gateway_said = running.log.read_text(errors="replace")[-3000:]
    assert done.returncode == 0, f"{done.stdout}\n--- the gateway's output ---\n{gateway_said}"
    # A runner that found no test would succeed as well.
    assert "fail 0" in done.stdout
    assert "pass 0" not in done.stdout
