"""Logs are one JSON object per line, say what they are about, and hold no secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from moda.serve.logs import bound, configure_logs
from moda.serve.redact import HIDDEN, redact, scrub

SECRET = "hunter2-S3cr3t"


@pytest.fixture
def lines() -> Iterator[object]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_names_its_event_its_logger_and_what_is_bound(lines):
    log = structlog.get_logger("moda.test")
    with bound(request_id="r-1", connection_id=7, topic="room:1"):
        log.info("thing.done", count=3)
    log.info("other")
    first, second = lines()
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "thing.done",
        "level": "info",
        "logger": "moda.test",
        "request_id": "r-1",
        "connection_id": 7,
        "topic": "room:1",
        "count": 3,
    }
    assert "topic" not in second


def test_the_standard_librarys_loggers_write_the_same_lines(lines):
    logging.getLogger("app").warning("got %d", 5, extra={"user": "ann"})
    (line,) = lines()
    assert (line["event"], line["level"], line["logger"], line["user"]) == (
        "got 5",
        "warning",
        "app",
        "ann",
    )


def test_levels_below_the_configured_one_are_not_written(lines):
    structlog.get_logger("moda.test").debug("no")
    logging.getLogger("uvicorn.access").info("GET /?token=x")
    assert lines() == []


def test_a_traceback_is_in_the_line_and_its_secrets_are_not(lines):
    try:
        raise ValueError(f"bad url https://x/?token={SECRET}")
    except ValueError:
        structlog.get_logger("moda.test").exception("failed", password=SECRET)
        logging.getLogger("app").exception("failed too")
    written = lines()
    assert all("ValueError" in line["exception"] for line in written)
    assert SECRET not in json.dumps(written)


def test_what_no_encoder_knows_is_written_as_text(lines):
    structlog.get_logger("moda.test").info("x", value={"a": object()})
    assert "object object" in lines()[0]["value"]["a"]


def test_text_lines_hold_no_secret_either(capsys):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs("info", "text", stream)
    try:
        try:
            local = SECRET  # a traceback must not show the values of locals
            raise ValueError("broken" if local else "")
        except ValueError:
            structlog.get_logger("moda.test").exception("failed", url=f"/s?token={SECRET}")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
    assert "failed" in stream.getvalue()
    assert SECRET not in stream.getvalue().replace("local = SECRET", "")


@pytest.mark.parametrize(
    "text",
    [
        "GET /socket/websocket?vsn=2.0.0&token={} HTTP/1.1",
        "/ws?key={}&x=1",
        "/ws?api_key={}",
        "/ws?user[token]={}",
        "/ws?access_token={}#f",
        "Authorization: Bearer {}",
        "authorization: basic {}",
        "phoenix, base64url.bearer.phx.{}",
        "postgres://user:{}@host/db",
        "redis://:{}@host",
        "apikey={}, name=x",
        "password={}",
    ],
)
def test_a_secret_inside_a_text_is_hidden(text):
    scrubbed = scrub(text.format(SECRET))
    assert SECRET not in scrubbed
    assert HIDDEN in scrubbed


def test_a_web_token_is_hidden_wherever_it_stands():
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
    assert scrub(f"saw {token} here") == f"saw {HIDDEN} here"


@pytest.mark.parametrize(
    "text",
    [
        "topic=room:1",
        "GET /health?x=1&vsn=2.0.0",
        "https://host/path",
        "a@b.example",
        "monkey=1",
        "token expired",
    ],
)
def test_a_text_without_secrets_stays_as_it_is(text):
    assert scrub(text) == text


@pytest.mark.parametrize(
    "value",
    [
        {"token": SECRET},
        {"auth": {"user": "a", "pass": SECRET}},
        {"headers": {"Authorization": SECRET, "X-Api-Key": SECRET, "Cookie": SECRET}},
        {"headers": [(b"authorization", SECRET.encode()), (b"sec-websocket-key", SECRET.encode())]},
        {"list": [{"session_token": SECRET}]},
        {"INTERNAL_API_KEYS": (SECRET, SECRET)},
        {"query": f"token={SECRET}".encode()},
        {"error": ValueError(f"?key={SECRET}")},
        {f"?token={SECRET}": 1},
    ],
)
def test_a_secret_inside_a_structure_is_hidden(value):
    assert SECRET not in repr(redact(value))


def test_numbers_and_flags_are_kept_whatever_they_are_called():
    assert redact({"tokens": 5, "auth": True, "key": None}) == {
        "tokens": 5,
        "auth": True,
        "key": None,
    }


def test_a_structure_that_is_too_deep_is_hidden_from_there_on():
    value: object = SECRET
    for _ in range(50):
        value = [value]
    assert SECRET not in repr(redact(value))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(_JSON)
def test_redaction_takes_anything_and_what_it_gives_can_be_written(value):
    json.dumps(redact(value))
