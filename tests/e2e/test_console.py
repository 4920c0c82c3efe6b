"""The console where a gateway does not let everybody in: ``guarded.test.mjs`` in Chromium."""

from __future__ import annotations

from pathlib import Path

from .scripts import passes
from .server import gateway

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
        passes("guarded.test.mjs", running, node, TOKEN=TOKEN, CONNECTIONS=str(CONNECTIONS))
