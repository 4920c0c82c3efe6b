"""Every document moda serves, held to the official JSON schema and the official parser.

Both come from npm (tests/node/package.json pins them): no Python package carries the schema, and
nobody but its authors should keep a copy of it.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import Draft7Validator

from moda.asyncapi import Document, Server, merge, own
from moda.asyncapi.dump import to_json, to_yaml
from moda.asyncapi.rewrite import mirror

from .support import document, room

NODE = Path(__file__).parents[1] / "node"
SCHEMA = NODE / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"

QUERY = {"type": "object", "properties": {"vsn": {"type": "string"}}}


def from_a_client() -> dict[str, Any]:
    """What the corrections are for: bindings where none may be, seen from the client's side."""
    tree = room(
        x_moda={"view": "client"},
        servers={"one": {"host": "h", "protocol": "ws"}},
        components__schemas__query=QUERY,
    )
    tree["servers"]["one"]["bindings"] = {
        "ws": {"method": "GET", "query": {"$ref": "#/components/schemas/query"}}
    }
    tree["channels"]["room"]["messages"]["say"]["bindings"] = {"ws": {"bindingVersion": "0.1.0"}}
    tree["channels"]["room"]["parameters"] = {
        "roomId": {"x-moda": {"pattern": "[a-z]+", "maxLength": 255}}
    }
    return tree


DOCUMENTS: dict[str, Document] = {
    "own": own(),
    "own, several servers": own(
        [Server(secure=True, auth="required"), Server(name="b", path="/b")]
    ),
    "own, no prices": own(without=["chart:prices"]),
    "own, no channels": own(without=["chart:prices", "telemetry:metrics", "phoenix"]),
    "user's": document(room(channels__room__x_moda={"delivery": "latest", "key": "/id"})),
    "user's, corrected": document(from_a_client()),
    "merged": merge(own(), document(from_a_client())),
}


def served() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{name}, {view}", turn(found.root))
        for name, found in DOCUMENTS.items()
        for view, turn in (("server", lambda root: root), ("client", mirror))
    ]


@pytest.fixture(scope="module")
def official() -> Draft7Validator:
    assert SCHEMA.exists(), "install the tests' npm packages first: npm ci in tests/node"
    return Draft7Validator(json.loads(SCHEMA.read_bytes()), offline=True)


@pytest.mark.parametrize(("name", "root"), served(), ids=[name for name, _ in served()])
def test_what_is_served_is_valid_under_the_official_schema(
    official: Draft7Validator, name: str, root: dict[str, Any]
) -> None:
    official.validate(root)


def test_the_official_schema_refuses_what_the_corrections_mend(official: Draft7Validator) -> None:
    tree = from_a_client()
    tree["channels"]["room"]["bindings"] = {"ws": {"query": {"$ref": "#/components/schemas/query"}}}
    assert not official.is_valid(tree)
    assert official.is_valid(document(tree).root)


def test_the_official_parser_finds_no_fault_in_what_is_served() -> None:
    texts = [dump(root).decode() for _, root in served() for dump in (to_yaml, to_json)]
    done = subprocess.run(
        ["node", "asyncapi_diagnostics.mjs"],
        cwd=NODE,
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == len(texts)
    # Severity 2 is information: that 3.1.0 exists, and that the user's small document has no tags,
    # servers or descriptions.
    assert [row for rows in found for row in rows if row[0] < 2] == []


def test_the_official_parser_is_asked_and_does_answer() -> None:
    broken = {**room(), "operations": {"say": {"action": "shout"}}}
    done = subprocess.run(
        ["node", "asyncapi_diagnostics.mjs"],
        cwd=NODE,
        input=json.dumps([json.dumps(broken)]),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert any(row[0] == 0 for row in json.loads(done.stdout)[0])
