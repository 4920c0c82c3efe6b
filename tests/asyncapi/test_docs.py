"""The document shown in docs/asyncapi.md does what the page says."""

from __future__ import annotations

import re
from pathlib import Path

from moda.asyncapi import Invalid, Registry, check, check_topic, load, merge, own
from moda.asyncapi.document import parse
from moda.asyncapi.policy import KEYS
from moda.asyncapi.source import MAX_BYTES, MAX_DEPTH, MAX_NODES, read
from moda.message import History

PAGE = (Path(__file__).parents[2] / "docs" / "asyncapi.md").read_text()
(EXAMPLE, PARAMETER, _) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_is_a_room_that_relays_and_checks() -> None:
    found = Registry(merge(own(), load(EXAMPLE.encode(), "rooms.yaml"))).find("room:lobby")
    assert found is not None
    assert found.route.policy.publish == "clients"
    assert found.route.policy.history == History(100, 300.0)
    assert found.route.accepts("new_msg")
    assert check(found.route, "new_msg", {"body": "hi"}) is None
    assert check(found.route, "new_msg", {"body": 5}) == Invalid(
        "/body", "must be a string; received 5"
    )


def test_the_parameter_shown_narrows_a_topic() -> None:
    _, tree = read(EXAMPLE.encode())
    tree["channels"]["room"].update(read(PARAMETER.encode())[1])
    found = Registry(parse(tree, "rooms.yaml")).find("room:a b")
    assert found is not None
    invalid = check_topic(found.route, found.params)
    assert invalid is not None
    assert (invalid.reason, invalid.path) == ("invalid topic", "/roomId")


def test_the_page_lists_every_key_of_x_moda_and_no_other() -> None:
    section = PAGE.split("## How a topic is treated")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(KEYS)


def test_the_page_states_the_bounds_that_are_in_force() -> None:
    assert f"{MAX_BYTES // 1024 // 1024} MiB, {MAX_NODES:,} values and {MAX_DEPTH} levels" in PAGE
