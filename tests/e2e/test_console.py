"""The console where a gateway does not let everybody in: ``guarded.test.mjs`` in Chromium."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .server import HERE, gateway

WITHIN = 600.0
TOKEN = "schlüssel-7f3a91"
CONNECTIONS = 3


def test_a_console_that_is_not_let_in_says_why_and_takes_a_token(
    tmp_path: Path, node: Path
) -> None:
    environment = {
        "MODA_SOCKET_AUTH": "required",
        "MODA_SOCKET_TOKENS": TOKEN,
        "WS_MAX_CONNECTIONS": str(CONNECTIONS),
        "METRICS_ENABLED": "off",
    }
    with gateway(tmp_path, environment=environment) as running:
        done = subprocess.run(
            [node, "--test", "--test-reporter=spec", "guarded.test.mjs"],
            cwd=HERE,
            env={
                **os.environ,
                "PORT": str(running.port),
                "TOKEN": TOKEN,
                "CONNECTIONS": str(CONNECTIONS),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WITHIN,
            check=False,
        )
        gateway_said = running.log.read_text(errors="replace")[-3000:]
    assert done.returncode == 0, f"{done.stdout}\n--- the gateway's output ---\n{gateway_said}"
    assert "fail 0" in done.stdout
    assert "pass 0" not in done.stdout
