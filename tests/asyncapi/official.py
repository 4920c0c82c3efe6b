"""The official parser, asked from Python."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

NODE = Path(__file__).parents[1] / "node"


def run(script: str, given: Any) -> Any:
    """What a script of tests/node makes of ``given``: JSON in, JSON out."""
    done = subprocess.run(
        ["node", script],
        cwd=NODE,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def diagnostics(documents: list[Any]) -> list[list[Any]]:
    """What it finds in each document (a text, or a text and the path it is from):
    ``[severity, code, path, message]``. Severity 0 is an error, 1 a warning, 2 information.
    """
    found: list[list[Any]] = run("asyncapi_diagnostics.mjs", documents)
    assert len(found) == len(documents)
    return found
