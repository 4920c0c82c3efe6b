"""Logs are one JSON object per line, say what they are about, and hold no secret."""

from __future__ import annotations

import gc
import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from moda.channel import Connect, Socket
from moda.serve.logs import bound, configure_logs, install_hooks
from moda.serve.redact import CUT, HIDDEN, MAX_TEXT, MAX_VALUE, clipped, redact, scrub
from moda.upgrade import Upgrade
from moda.wire.handshake import Negotiated

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


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\x1c", "\x85", "\u2028", "\u2029"])
def test_no_text_tears_a_line_in_two_for_any_reader(lines, end):
    structlog.get_logger("moda.test").info("thing.done", said=f"a{end}b", **{f"x{end}y": 1})
    (line,) = lines()
    assert (line["said"], line[f"x{end}y"]) == (f"a{end}b", 1)


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
        "url=/socket?token={}",
        "Connect(path='/x', token='{}')",
        "KeyError: {{'password': '{}'}}",
        'payload {{"api_key": "{}", "x": 1}}',
        'payload {{"api_key":"{}"}}',
        r'"{{\"token\": \"{}\"}}"',
        "'secret': 'it\\'s {}'",
        "[(b'x-api-key', b'{}'), (b'host', b'x')]",
        "keys=('a', '{}'), x=1",
        "{{'keys': {{'a': ['b', '{}']}}}}",
        "environ['TOKEN'] = '{}'",
        "token == '{}'",
        "password=[x]{}",
        "a" * 200 + "_token={}",
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
        "KeyError: 'room'",
        "token=None, keys=(), x=1",
        "{'tokens': 5, 'topic': 'room:1'}",
        "token = decode(text)",
        "https://host:8080/a@b",
        "eyJ and eyJa.b.c",
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


# -- a client's text


HOSTILE = (
    "a", "-eyJ", "eyJaaaa.aaaa", "a=", "token=", "'token': ", '"token":"', "token='\\'", "token=(",
    "('token',", "://", "://a:", "bearer ", "bearer\t", "basic a", "a.", "[]=", "=", "\n", " ",
    "base64url.bearer.phx.", "token==", "aA", "key", "\\\"token\\\":\\\"",
)  # fmt: skip
SCRIPT = """
import resource, sys
from moda.serve import redact
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
for shape in {shapes!r}:
    text = (shape * 250_000)[:250_000]
    redact.hide(text)
    redact.redact({{"text": text, "list": [text[:50]] * 100_000, text: {{text: text}}}})
print("done")
"""


def test_a_long_hostile_text_is_read_once_and_not_from_every_character():
    # The limit is of the process, two minutes for what takes seconds: the quadratic patterns that
    # stood here would need hours for it.
    script = SCRIPT.format(shapes=HOSTILE)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_one_line_with_a_clients_text_stays_small(lines):
    structlog.get_logger("moda.test").warning(
        "return.wrong", text="a" * 1_000_000, items=["x"] * 1_000_000, data={"b": b"y" * 1_000_000}
    )
    (line,) = lines()
    assert len(line["text"]) < MAX_TEXT + 50
    assert line["text"].endswith(" characters cut]")
    assert line["items"][-1] == CUT
    assert len(json.dumps(line)) < 2 * MAX_TEXT + 4 * MAX_VALUE


def test_a_text_that_is_too_long_keeps_its_beginning_and_its_last_lines():
    text = clipped("Traceback\n" + "  frame\n" * 5000 + "ValueError: the reason")
    assert text.startswith("Traceback\n  frame\n")
    assert text.endswith("\n  frame\nValueError: the reason")
    assert len(text) <= MAX_TEXT + 50
    assert "characters cut]\n" in text


def test_a_last_line_that_is_too_long_keeps_its_beginning():
    text = clipped("Traceback\n" + "  frame\n" * 5000 + "ValueError: unknown event " + "a" * 90_000)
    assert "\nValueError: unknown event aaa" in text
    assert len(text) <= MAX_TEXT + 90


@pytest.mark.parametrize("before", range(0, 40, 3))
@pytest.mark.parametrize("form", ["?token={}", "Bearer {}", "'token': '{}'"])
def test_a_cut_does_not_part_a_secret_from_its_name(form, before):
    text = "x " * 3000 + " " * before + form.format("S3" * 5000) + "\n" + "y" * 2000
    scrubbed = scrub(text)
    assert "S3S3" not in scrubbed
    assert len(scrubbed) <= MAX_TEXT + 90


@given(st.lists(st.sampled_from([*HOSTILE, SECRET[:3], "x"]), max_size=200).map("".join))
def test_no_text_in_front_of_a_secret_shows_it(text):
    scrubbed = scrub(f"{text} \n?token={SECRET}")
    assert SECRET not in scrubbed


# -- what prints itself


def test_what_an_application_sees_of_a_connection_prints_no_credentials():
    headers = {"cookie": SECRET}
    seen = Connect({"token": SECRET}, headers, ("1.2.3.4", 5), SECRET, "/socket/websocket")
    head = Upgrade("GET", "/s", f"token={SECRET}".encode(), [(b"cookie", SECRET.encode())])
    parts = (seen, head, Negotiated(2, {"token": SECRET}, SECRET), Socket("user:1", SECRET))
    assert SECRET not in repr(parts)
    assert "/socket/websocket" in repr(seen)
    assert "user:1" in repr(parts[3])


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in ((sys, "excepthook"), (threading, "excepthook"), (sys, "unraisablehook")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    install_hooks()


def test_an_exception_that_ends_a_thread_is_a_line_without_its_secret(lines, hooks):
    def work() -> None:
        raise ValueError(f"?token={SECRET}")

    thread = threading.Thread(target=work, name="worker")
    thread.start()
    thread.join()
    (line,) = lines()
    assert (line["event"], line["thread"]) == ("thread.failed", "worker")
    assert f"?token={HIDDEN}" in line["exception"]


def test_an_exception_with_nobody_to_raise_it_to_is_a_line_without_its_secret(lines, hooks):
    class Closing:
        def __del__(self) -> None:
            raise ValueError(f"?token={SECRET}")

    Closing()
    gc.collect()
    (line,) = lines()
    assert line["event"] == "unraisable"
    assert SECRET not in json.dumps(line)
    assert "ValueError" in line["exception"]


def test_an_exception_that_ends_the_program_is_a_line_without_its_secret(lines, hooks):
    try:
        raise ValueError(f"?token={SECRET}")
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    (line,) = lines()
    assert (line["event"], line["level"]) == ("uncaught", "critical")
    assert SECRET not in json.dumps(line)
