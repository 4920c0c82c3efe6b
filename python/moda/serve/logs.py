"""Logs: one JSON object per line for machines, one readable line per event for a person at a
terminal.

Everything goes through structlog, the standard library's loggers (uvicorn, litestar, an
application's own) included, and everything passes :func:`redact` last, formatted tracebacks too:
no secret is written because somebody forgot, and none because an application configures logging
(:mod:`moda.serve.guests`). What a client sent in a header or its query is hidden whatever it looks
like (:mod:`moda.wire.sent`). Lines to a descriptor are written by a thread
(:mod:`moda.serve.writer`): nobody waits for whoever reads the log. Lines a client can cause are
limited by kind (:mod:`moda.serve.repeats`). What Python itself would print (an exception that
ends a thread or the program, or that has nobody to be raised to) takes the same road once
:func:`install_hooks` was called. Fields that name what a line is about (``request_id``,
``connection_id``, ``topic``) are bound with :func:`bound` and ride along on every line inside.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Literal, TextIO

import msgspec
import structlog
from structlog.contextvars import bound_contextvars as bound
from structlog.types import EventDict, Processor

from moda.serve.guests import keep, own_logger
from moda.serve.redact import HIDDEN, redact
from moda.serve.repeats import repeats
from moda.serve.writer import DEFAULT_BYTES, LineWriter
from moda.wire.sent import hide_sent

__all__ = ["LEVELS", "bound", "configure_logs", "flush_logs", "install_hooks", "lines_dropped"]

LAST_LINES = 1.0
"""Seconds the end of the program waits for the log to be read."""

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

# structlog's own bookkeeping, not content; hiding inside would break the renderer.
_OWN = frozenset({"_record", "_from_structlog", "exc_info"})

# What one looks a line up by, and what says nothing of a client's.
_KEPT = frozenset({"level", "logger", "request_id", "timestamp"})

# Loggers whose lines are not written by whoever read the client's headers and meant to log them.
_HOUSE = frozenset({"asyncio", "litestar", "moda", "picows", "uvicorn", "websockets"})


def redact_event(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The last processor before the renderer."""
    house = str(event.get("logger", "")).partition(".")[0]
    for name in list(event):
        if name in _OWN:
            continue
        value = event[name] = redact(event[name], name)
        if not isinstance(value, str) or house not in _HOUSE or name in _KEPT:
            continue
        if name != "event" or house != "moda":  # ours are words of the code
            event[name] = hide_sent(value, HIDDEN)
    return event


class Lines(logging.Handler):
    """Formats a line where it was logged, and hands it to a thread to be written."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self.writer = writer
        self.unformatted = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.writer.write(self.format(record))
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the library's name
        """A line that cannot be formatted is counted. The library would print it as it is, and wait."""
        self.unformatted += 1

    def flush(self) -> None:
        """Called by the standard library when the program ends."""
        self.writer.flush(LAST_LINES)


def _handler(out: TextIO, most: int) -> logging.Handler:
    """Writes to a descriptor through a thread, to what has none (a text in memory) at once."""
    try:
        descriptor = out.fileno()
    except (OSError, ValueError, AttributeError, io.UnsupportedOperation):
        return logging.StreamHandler(out)
    handler = Lines(LineWriter(descriptor, most, lambda count: handler.format(_missing(count))))
    return handler


def _missing(count: int) -> logging.LogRecord:
    problem = "nobody read the log; lines were left out here"
    record = logging.LogRecord("moda.log", logging.WARNING, "", 0, "log.dropped", None, None)
    record.lines, record.problem = count, problem
    return record


_ours: Lines | None = None
"""The handler that writes now. An application may have thrown it out of the root logger."""


def flush_logs(seconds: float = LAST_LINES) -> bool:
    """Waits until all lines are written, ``seconds`` at most; False if some are not."""
    return _ours is None or _ours.writer.flush(seconds)


def lines_dropped() -> dict[str, float]:
    """Lines that were not written, by reason: ``unread``, ``failed``, ``repeated``."""
    unread, failed = 0, 0
    if _ours is not None:
        unread, failed = _ours.writer.dropped, _ours.writer.failed + _ours.unformatted
    return {"unread": unread, "failed": failed, "repeated": repeats.untold}


# Ends of a line that JSON allows inside a string. A client's text must not tear a line in two for a
# reader that splits as str.splitlines does; in JSON they stand nowhere but in a string.
_ENDS = str.maketrans({end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"})


def _dumps(event: MutableMapping[str, Any], **_: Any) -> str:
    line = msgspec.json.encode(event, enc_hook=str).decode()
    return line if line.isascii() else line.translate(_ENDS)


def configure_logs(
    level: str = "info",
    style: Literal["auto", "json", "text"] = "auto",
    stream: TextIO | None = None,
    buffer: int = DEFAULT_BYTES,
) -> None:
    """Sets up all logging of the process. ``level`` is one of :data:`LEVELS`.

    ``auto`` writes text to a terminal and JSON to anything else. ``stream`` defaults to stderr:
    stdout is for what a command was asked to print. ``buffer`` bytes of lines may wait for whoever
    reads them.
    """
    out = stream or sys.stderr
    text = style == "text" or (style == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.processors.StackInfoRenderer(),
    ]
    # Tracebacks become text before redaction, so that a secret in an exception's message is met.
    tail: list[Processor] = [structlog.processors.format_exc_info, redact_event]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=24)
        if text
        else structlog.processors.JSONRenderer(serializer=_dumps)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            repeats.processor,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            *tail,  # here, so that no handler of anybody's gets to see more than is written
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=own_logger,
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    global _ours
    handler = _handler(out, buffer)
    _ours = handler if isinstance(handler, Lines) else None
    handler.addFilter(repeats.filter)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(),
                *shared,
                *tail,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    keep(handler, LEVELS[level])
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    # What these say per request or per start is said by the door, with a request id and no query.
    for name in ("uvicorn.access", "uvicorn.error", "asyncio"):
        logging.getLogger(name).setLevel(max(LEVELS[level], logging.WARNING))


def install_hooks() -> None:
    """Logs what Python would print to stderr by itself, unformatted and with what secrets it holds.

    For the process that serves; :func:`configure_logs` comes first. Ctrl-C stays what it is.
    """
    log = structlog.get_logger("moda.python")

    def uncaught(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if issubclass(kind, Exception):
            log.critical("uncaught", exc_info=(kind, error, traceback))
        else:
            sys.__excepthook__(kind, error, traceback)

    def thread(failed: threading.ExceptHookArgs) -> None:
        if failed.exc_type is SystemExit or failed.exc_value is None:
            return
        log.error(
            "thread.failed",
            thread=failed.thread.name if failed.thread is not None else None,
            exc_info=(failed.exc_type, failed.exc_value, failed.exc_traceback),
        )

    def unraisable(failed: Any) -> None:
        log.error(
            "unraisable",
            message=failed.err_msg,
            where=failed.object,
            exc_info=(failed.exc_type, failed.exc_value, failed.exc_traceback),
        )

    logging.captureWarnings(True)
    sys.excepthook = uncaught
    threading.excepthook = thread
    sys.unraisablehook = unraisable
