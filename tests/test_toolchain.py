"""The build says in one sentence which tool is missing or too old, before it starts."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOL = ROOT / "tools" / "toolchain"


def asked(folder: Path, what: str, **versions: str) -> tuple[int, str]:
    """The tool's answer on a machine that has these commands and no other of their kind."""
    for name, version in versions.items():
        fake = folder / name
        fake.write_text(f"#!/bin/sh\necho '{version}'\n")
        fake.chmod(0o755)
    for name in ("sed", "sh"):
        (folder / name).symlink_to(Path("/bin") / name)
    done = subprocess.run(
        ["/bin/sh", TOOL, what], env={"PATH": str(folder)}, capture_output=True, text=True
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ("cargo 1.85.0 (d73d2caf9 2024-12-31)", True),
        ("cargo 1.100.0", True),
        ("cargo 2.0.0", True),
        ("cargo 1.84.1 (66221abde 2024-11-19)", False),
        ("cargo 1.9.0", False),
        ("", False),
    ],
)
def test_rust_is_taken_from_1_85_on(tmp_path, version, fits):
    code, said = asked(tmp_path, "rust", cargo=version)
    assert (code == 0) is fits
    assert fits or said.startswith("moda is built with Rust 1.85 or newer, got cargo ")
    assert said.count("\n") == (0 if fits else 1)


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ("v20.19.0", True),
        ("v20.20.2", True),
        ("v22.12.0", True),
        ("v24.0.0", True),
        ("v20.18.1", False),
        ("v21.7.3", False),
        ("v22.11.0", False),
        ("v18.20.0", False),
    ],
)
def test_node_is_taken_where_the_console_can_be_built(tmp_path, version, fits):
    code, said = asked(tmp_path, "node", node=version, npm="10.0.0")
    assert (code == 0) is fits
    assert fits or f"got {version[1:].rpartition('.')[0]}: " in said


@pytest.mark.parametrize(
    ("what", "tools", "missing"),
    [("rust", {}, "cargo"), ("node", {}, "node"), ("node", {"node": "v22.12.0"}, "npm")],
)
def test_a_tool_that_is_missing_is_named(tmp_path, what, tools, missing):
    code, said = asked(tmp_path, what, **tools)
    assert code == 1
    assert f"and {missing} is not installed" in said


def test_the_numbers_are_those_of_the_packages():
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert cargo["workspace"]["package"]["rust-version"] == "1.85"
    engines = json.loads((ROOT / "web" / "package.json").read_text())["engines"]
    assert engines["node"] == "^20.19.0 || >=22.12.0"
    readme = (ROOT / "README.md").read_text()
    assert re.search(r"Rust 1\.85.*Node 20\.19", readme)
