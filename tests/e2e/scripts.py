"""Tests written in the language of the clients: node runs one, its report becomes pytest's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .server import HERE, Running

WITHIN = 600.0


def passes(script: str, running: Running, node: Path, **environment: str) -> None:
    """Fails with the script's report and the end of the gateway's log unless all its tests pass.

    The script finds the gateway by ``PORT``; ``environment`` is what else it is told.
    """
    done = subprocess.run(
        [node, "--test", "--test-reporter=spec", script],
        cwd=HERE,
        env={**os.environ, "PORT": str(running.port), **environment},
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
