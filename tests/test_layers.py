"""The house stands: no file imports what stands beside or above it.

The contracts are in ``.importlinter``. They are run on a copy in which the two extension modules
have a source file each, since the analysis reads sources; and the same copy shows that a violation
would be found, so that a contract with a misspelt name cannot pass for a kept one.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "python" / "moda"
CONTRACTS = ROOT / ".importlinter"


@dataclass(frozen=True)
class Verdict:
    """What import-linter says: exit code and text on one line."""

    broken: bool
    text: str


def lint(folder: Path) -> Verdict:
    """Runs the contracts on the package below ``folder``."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", CONTRACTS, "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Verdict(done.returncode != 0, " ".join((done.stdout + done.stderr).split()))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a copy of the package's sources."""
    shutil.copytree(
        PACKAGE,
        tmp_path / "moda",
        ignore=shutil.ignore_patterns("*.so", "__pycache__", "console", "*.yaml"),
    )
    for extension in ("_core", "_session"):
        (tmp_path / "moda" / f"{extension}.py").touch()
    return tmp_path


def add(folder: Path, file: str, line: str) -> None:
    path = folder / "moda" / file
    path.write_text(f"{path.read_text()}\n\ndef _late() -> None:\n    {line}\n")


def test_every_file_imports_only_what_stands_below_it(copy):
    verdict = lint(copy)
    assert not verdict.broken, verdict.text
    assert "Contracts: 2 kept, 0 broken." in verdict.text


@pytest.mark.parametrize(
    ("file", "line", "named"),
    [
        ("errors.py", "import moda.message", "moda.errors is not allowed to import moda.message"),
        ("message.py", "import moda.hub", "moda.message is not allowed to import moda.hub"),
        (
            "channel.py",
            "from moda.hub import Hub",
            "moda.channel is not allowed to import moda.hub",
        ),
        (
            "channel.py",
            "import moda.asyncapi",
            "moda.channel is not allowed to import moda.asyncapi",
        ),
        ("aggregate/__init__.py", "import moda.channel", "moda.aggregate is not allowed to import"),
        ("hub.py", "import moda.wire.phoenix", "moda.hub is not allowed to import moda.wire"),
        (
            "market/feed.py",
            "import moda.telemetry",
            "moda.market is not allowed to import moda.tele",
        ),
        (
            "telemetry/stream.py",
            "import moda.wire.token",
            "moda.telemetry is not allowed to import",
        ),
        (
            "wire/query.py",
            "import moda.serve.door",
            "moda.wire is not allowed to import moda.serve",
        ),
        (
            "serve/door.py",
            "import moda.app.gateway",
            "moda.serve is not allowed to import moda.app",
        ),
        ("market/feed.py", "import moda.store", "moda.market is not allowed to import moda.store"),
        ("ports.py", "import moda.store", "moda.ports is not allowed to import moda.store"),
        (
            "store/log_plan.py",
            "import asyncio",
            "moda.store.log_plan is not allowed to import asyncio",
        ),
        ("_core.py", "import moda.errors", "moda._core is not allowed to import moda.errors"),
        ("channel.py", "import asyncio", "moda.channel is not allowed to import asyncio"),
        (
            "wire/handshake.py",
            "import socket",
            "moda.wire.handshake is not allowed to import socket",
        ),
    ],
)
def test_a_file_that_reached_up_or_aside_would_be_caught(copy, file, line, named):
    add(copy, file, line)
    verdict = lint(copy)
    assert verdict.broken
    assert named in verdict.text


def test_a_room_nobody_has_drawn_into_the_plan_is_caught(copy):
    (copy / "moda" / "attic.py").write_text('"""A new layer."""\n')
    verdict = lint(copy)
    assert verdict.broken
    assert "attic" in verdict.text


def test_the_engine_knows_no_python_and_its_binding_stays_thin():
    """``rust/core`` has no pyo3; only ``rust/python`` may name it."""
    core = (ROOT / "rust" / "core" / "Cargo.toml").read_text()
    assert "pyo3" not in core
    sources = (ROOT / "rust" / "core" / "src").rglob("*.rs")
    assert [path for path in sources if "pyo3" in path.read_text()] == []


def test_nobody_makes_a_connection_on_another_transport_than_the_loops_own() -> None:
    # aiofastnet, which picows prefers where it makes a connection, may watch a closed descriptor.
    makers = {"aiofastnet", "ws_connect", "ws_create_server"}
    found = [
        (path.relative_to(PACKAGE).as_posix(), name.name)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
        if makers & {name.name.partition(".")[0], getattr(node, "module", None)}
    ]
    assert found == []
