"""A real gateway in a process of its own, for tests that must meet it as its users do.

The port is asked of the system and then given to the gateway, as an operator would; between the two
another program could take it, so a start that fails on the port is tried again on another one.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

HERE = Path(__file__).parent
START_WITHIN = 60.0
STOP_WITHIN = 30.0

_open = build_opener(ProxyHandler({})).open


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that answered; ``log`` is the file its output goes to."""

    port: int
    log: Path

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket(self) -> str:
        return f"ws://127.0.0.1:{self.port}/socket"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether the gateway on this port serves its health document, healthy or not."""
    try:
        with _open(f"http://127.0.0.1:{port}/api/v1/health", timeout=2) as response:
            return "status" in json.load(response)
    except (URLError, OSError, ValueError):
        return False


def _wait(process: subprocess.Popen[bytes], port: int) -> bool:
    end = time.monotonic() + START_WITHIN
    while time.monotonic() < end:
        if process.poll() is not None:
            return False
        if answers(port):
            return True
        time.sleep(0.05)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def gateway(
    folder: Path, *target: str, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """``python -m moda serve [target] --port N``, stopped by SIGTERM at the end.

    It works in ``folder``, so that the database and everything else it writes stay there. Raises
    AssertionError with the end of its output when it does not come up.
    """
    log = folder / "gateway.log"
    inherited = {name: value for name, value in os.environ.items() if name not in ("PORT", "HOST")}
    for _ in range(3):
        port = free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "moda", "serve", *target, "--port", str(port)],
                cwd=folder,
                env={**inherited, "PYTHONPATH": str(HERE), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            if _wait(process, port):
                yield Running(port, log)
                return
        finally:
            _stop(process)
        if b"in use" not in log.read_bytes():
            break
    end = log.read_text(errors="replace")[-4000:]
    raise AssertionError(f"the gateway did not come up; the end of its output:\n{end}")
