"""A handshake refused with an empty answer is explained in the log, at a bounded rate."""

from __future__ import annotations

from typing import Any

import pytest

from moda.serve import refusals
from moda.serve.refusals import MAX_GOT, PAUSE, RefusalLog
from moda.upgrade import Refused, Upgrade
from moda.wire.handshake import HandshakeOptions, negotiate
from moda.wire.origin import OriginRule

from .conftest import Hall

HINT = {"got": "x", "accepted": "y", "setting": "Z"}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    monkeypatch.setattr(
        refusals._log, "warning", lambda event, **fields: lines.append({"event": event, **fields})
    )
    return lines


def refused(query: bytes = b"vsn=2.0.0", origins: str = "same", **headers: str) -> Refused:
    found = negotiate(
        Upgrade(
            "GET",
            "/socket/websocket",
            query,
            [(name.encode(), value.encode()) for name, value in headers.items()],
        ),
        HandshakeOptions(origins=OriginRule.parse(origins)),
    )
    assert isinstance(found, Refused)
    assert (found.status, found.body) == (403, b"")
    return found


def test_a_refusal_is_told_at_once_and_what_follows_is_counted(told):
    now = 0.0
    log = RefusalLog(lambda: now)
    for _ in range(1000):
        log.refused(Refused(403, reason="origin", hint=HINT))
    log.refused(Refused(403, reason="vsn", hint=HINT))
    now = PAUSE
    log.refused(Refused(403, reason="origin", hint=HINT))
    assert told == [
        {"event": "connect.refused", "reason": "origin", "status": 403, **HINT},
        {"event": "connect.refused", "reason": "vsn", "status": 403, **HINT},
        {
            "event": "connect.refused",
            "reason": "origin",
            "status": 403,
            **HINT,
            "untold_before": 999,
        },
    ]


def test_a_refusal_that_explains_itself_to_the_client_or_has_nothing_to_say_is_not_told(told):
    RefusalLog().refused(Refused(503, reason="full"))
    assert told == []


def test_of_what_a_client_sent_only_the_beginning_is_repeated(told):
    RefusalLog().refused(Refused(403, reason="origin", hint={**HINT, "got": "x" * 5000}))
    assert len(told[0]["got"]) == MAX_GOT


def test_a_foreign_page_is_told_with_who_is_accepted_and_the_settings_that_decide(told):
    RefusalLog().refused(
        refused(
            origins="same,https://*.example.com", origin="https://app.test", host="10.0.0.1:4001"
        )
    )
    (line,) = told
    assert (line["reason"], line["got"]) == ("origin", "a page of app.test")
    assert line["accepted"] == "pages of 10.0.0.1 (the Host header), https://*.example.com:443"
    assert line["setting"].startswith("MODA_ORIGINS, MODA_PUBLIC_URL")


def test_a_version_and_a_subprotocol_that_are_not_spoken_are_told_with_those_that_are(told):
    log = RefusalLog()
    log.refused(refused(b"vsn=3.0.0"))
    log.refused(refused(**{"sec-websocket-protocol": "mqtt, stomp"}))
    assert [(line["got"], line["accepted"]) for line in told] == [
        ("vsn=3.0.0", "1.0.x and 2.0.x"),
        ("2 of 4, 5 characters, not shown", "phoenix"),
    ]


async def test_the_door_counts_a_refusal_tells_it_and_answers_with_nothing(told, house, connect):
    home = await house(Hall(now=lambda _: Refused(403, reason="origin", hint=HINT)))
    answer = await (await connect(home.port)).upgrade()
    assert (answer.status, answer.body) == (403, b"")
    assert home.refusals == ["origin"]
    assert told == [{"event": "connect.refused", "reason": "origin", "status": 403, **HINT}]
