"""Lines of a kind are limited, whoever writes them; a rare kind is not hidden by a frequent one."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest
import structlog

from moda.serve import repeats as module
from moda.serve.logs import configure_logs, lines_dropped
from moda.serve.repeats import BURST, Repeats


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, object]]]]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    monkeypatch.setattr(module.repeats, "_kinds", {})
    monkeypatch.setattr(module.repeats, "on", True)
    configure_logs("info", "json", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_of_a_kind_so_many_pass_at_once_then_one_a_second_that_says_how_many_are_missing():
    now = 0.0
    limit = Repeats(lambda: now)
    assert [limit.admit("a", "g") for _ in range(100)] == [0] * BURST + [None] * (100 - BURST)
    assert limit.admit("b", "g") == 0
    now = 1.0
    assert [limit.admit("a", "g") for _ in range(2)] == [100 - BURST, None]
    now = 1000.0
    assert [limit.admit("a", "g") for _ in range(100)][:BURST] == [1] + [0] * (BURST - 1)
    assert limit.untold == (100 - BURST) + 1 + (100 - BURST)


def test_kinds_without_end_share_what_their_event_has(monkeypatch):
    monkeypatch.setattr(module, "MAX_KINDS", 10)
    limit = Repeats(lambda: 0.0)
    passed = sum(limit.admit(("event", n), "event") is not None for n in range(1000))
    assert passed == 10 + BURST
    assert len(limit._kinds) == 11


def test_a_client_that_is_told_off_thousands_of_times_leaves_twenty_lines(lines):
    log = structlog.get_logger("moda.gateway")
    before = lines_dropped()["repeated"]
    for conn in range(1000):
        log.warning("connection.closed_for_cause", connection_id=conn, reason="undecodable")
    log.warning("connection.closed_for_cause", connection_id=1, reason="slow reader")
    reasons = [line["reason"] for line in lines()]
    assert reasons == ["undecodable"] * BURST + ["slow reader"]
    assert lines_dropped()["repeated"] - before == 1000 - BURST


def test_a_frequent_failure_does_not_hide_one_of_another_class_or_channel(lines):
    log = structlog.get_logger("moda.channel")
    for _ in range(100):
        log.error("channel.failed", exc_info=ValueError("often"), channel="Room")
    log.error("channel.failed", exc_info=KeyError("rare"), channel="Room")
    log.error("channel.failed", exc_info=ValueError("elsewhere"), channel="Hall")
    log.error("channel.failed", error="ValueError: without its traceback", channel="Room")
    text = [line.get("exception", "") for line in lines()]
    assert len(text) == BURST + 2
    assert "rare" in text[-2]
    assert "elsewhere" in text[-1]


@pytest.mark.parametrize("name", ["uvicorn.error", "asyncio", "litestar"])
def test_the_lines_of_the_libraries_are_limited_too(lines, name):
    log = logging.getLogger(name)
    for _ in range(100):
        log.warning("Invalid HTTP request received.")
    log.warning("something else")
    assert [line["event"] for line in lines()][BURST - 1 :] == [
        "Invalid HTTP request received.",
        "something else",
    ]


def test_an_applications_own_lines_are_its_own_to_limit(lines):
    for _ in range(100):
        structlog.get_logger("shop").warning("sold")
        logging.getLogger("shop").warning("sold again")
    assert len(lines()) == 200


def test_before_the_port_is_open_everything_is_said(lines, monkeypatch):
    monkeypatch.setattr(module.repeats, "on", False)
    for number in range(100):
        structlog.get_logger("moda.gateway").warning("policy.not_kept", number=number)
    assert len(lines()) == 100
