"""The stock npm client, Firefox's handshake and the console in Chromium, against a real gateway.

The tests themselves are written in the language of the clients, next to this file; here they get a
gateway to talk to, and their report becomes pytest's.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .scripts import passes
from .server import Running


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


def test_the_stock_presence_holds_what_the_server_holds(present: Running, node: Path) -> None:
    passes("presence.test.mjs", present, node)


def test_event_sources_miss_nothing_and_know_when_not_to_come_back(
    streams: Running, node: Path
) -> None:
    passes("event_source.test.mjs", streams, node)


def test_a_stock_channel_comes_back_without_a_gap_by_the_lines_of_the_wires_page(
    streams: Running, node: Path
) -> None:
    passes("resume.test.mjs", streams, node)
