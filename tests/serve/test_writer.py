"""Lines leave through a thread: nobody waits for a reader, what is missing is said."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator

import pytest
import structlog

from moda.serve import logs
from moda.serve.logs import configure_logs, flush_logs, lines_dropped
from moda.serve.writer import LineWriter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.set_blocking(reader, False)
    try:
        while os.read(reader, 1 << 20):  # lets a thread that waits for room end its write
            pass
    except BlockingIOError:
        pass
    os.close(reader)


def read_until(reader: int, last: bytes) -> list[bytes]:
    text = b""
    while not text.endswith(last + b"\n"):
        text += os.read(reader, 1 << 16)
    return text.splitlines()


def test_lines_are_written_in_order_and_a_flush_waits_for_them(pipe):
    reader, descriptor = pipe
    writer = LineWriter(descriptor, 1 << 16, str)
    for number in range(100):
        writer.write(f"line {number}")
    assert writer.flush(10.0)
    assert os.read(reader, 1 << 16).splitlines() == [b"line %d" % n for n in range(100)]


def test_a_pipe_that_nobody_reads_keeps_no_writer_waiting_and_the_gap_is_said_in_its_place(pipe):
    reader, descriptor = pipe
    writer = LineWriter(descriptor, 1 << 16, lambda count: f"missing {count}")
    line = "x" * 999
    for _ in range(1000):
        writer.write(line)
    assert not writer.flush(0.0)
    dropped = writer.dropped
    assert 1000 - 2 * 66 - 1 <= dropped < 1000
    seen: list[bytes] = read_until(reader, b"missing %d" % dropped)
    assert seen == [line.encode()] * (1000 - dropped) + [b"missing %d" % dropped]
    writer.write("again")
    assert read_until(reader, b"again") == [b"again"]
    assert writer.dropped == dropped


def test_a_line_larger_than_the_queue_is_dropped_and_the_next_is_written(pipe):
    reader, descriptor = pipe
    writer = LineWriter(descriptor, 100, lambda count: f"missing {count}")
    writer.write("y" * 100)
    writer.write("short")
    assert read_until(reader, b"missing 1") == [b"short", b"missing 1"]


def test_a_descriptor_that_cannot_be_written_is_counted_and_asked_again(pipe):
    with open("/dev/full", "wb") as full:
        writer = LineWriter(full.fileno(), 1 << 16, str)
        writer.write("one")
        assert writer.flush(10.0)
        writer.write("two")
        assert writer.flush(10.0)
        assert writer.failed == 2


def test_a_descriptor_that_somebody_made_non_blocking_is_written_whole(pipe):
    reader, descriptor = pipe
    os.set_blocking(descriptor, False)
    writer = LineWriter(descriptor, 1 << 20, str)
    for _ in range(200):
        writer.write("z" * 999)
    writer.write("end")
    assert len(read_until(reader, b"end")) == 201
    assert (writer.failed, writer.dropped) == (0, 0)


def test_a_forked_child_writes_its_own_lines(pipe):
    reader, descriptor = pipe
    writer = LineWriter(descriptor, 1 << 16, str)
    child = os.fork()
    if child == 0:
        writer.write("from the child")
        writer.flush(10.0)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert read_until(reader, b"from the child") == [b"from the child"]


@pytest.fixture
def to_pipe(pipe: tuple[int, int]) -> Iterator[int]:
    """The process's log goes to a pipe that is not read; its reading end."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    reader, descriptor = pipe
    with os.fdopen(descriptor, "w") as stream:
        configure_logs("info", "json", stream, 1 << 16)
        yield reader
        os.set_blocking(reader, False)
        while not flush_logs(0.01):
            try:
                os.read(reader, 1 << 20)
            except BlockingIOError:
                continue
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_log_that_nobody_reads_stops_no_thread_and_says_what_is_missing(to_pipe):
    log = structlog.get_logger("shop")
    working = threading.Thread(target=lambda: [log.info("sold", n=n) for n in range(5000)])
    working.start()
    working.join(60)
    assert not working.is_alive()
    assert not flush_logs(0.0)
    missing = lines_dropped()["unread"]
    assert missing > 0
    lines = []
    text = b""
    while not lines or lines[-1]["event"] != "log.dropped":
        text += os.read(to_pipe, 1 << 16)
        lines = [json.loads(line) for line in text.splitlines() if line.endswith(b"}")]
    assert lines[-1]["lines"] == missing
    assert (lines[-1]["level"], lines[-1]["logger"]) == ("warning", "moda.log")
    assert [line["n"] for line in lines[:-1]] == list(range(5000 - int(missing)))


def test_a_line_that_cannot_be_formatted_is_counted_and_not_printed(to_pipe, capsys):
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no text of mine")

    before = lines_dropped()["failed"]
    # Past the test runner's own handler, which raises.
    ours = next(one for one in logging.getLogger().handlers if isinstance(one, logs.Lines))
    ours.handle(logging.LogRecord("shop", logging.WARNING, "", 0, "%s", (Odd(),), None))
    assert lines_dropped()["failed"] == before + 1
    assert capsys.readouterr().err == ""


def test_the_end_of_the_program_waits_a_bounded_time():
    assert 0 < logs.LAST_LINES <= 2
