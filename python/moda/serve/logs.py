"""Logs: one JSON object per line for machines, one readable line per event for a person at a
terminal.

Everything goes through structlog, the standard library's loggers (uvicorn, litestar, an
application's own) included, and everything passes :func:`redact` last, formatted tracebacks too:
no secret is written because somebody forgot. Fields that name what a line is about (``request_id``,
``connection_id``, ``topic``) are bound with :func:`bound` and ride along on every line inside.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import msgspec
import structlog
from structlog.contextvars import bound_contextvars as bound
from structlog.types import EventDict, Processor

from moda.serve.redact import redact

__all__ = ["LEVELS", "bound", "configure_logs"]

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

# structlog's own bookkeeping, not content; hiding inside would break the renderer.
_OWN = frozenset({"_record", "_from_structlog", "exc_info"})


def redact_event(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The last processor before the renderer."""
    for name in list(event):
        if name not in _OWN:
            event[name] = redact(event[name], name)
    return event


def _dumps(event: MutableMapping[str, Any], **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def configure_logs(
    level: str = "info",
    style: Literal["auto", "json", "text"] = "auto",
    stream: TextIO | None = None,
) -> None:
    """Sets up all logging of the process. ``level`` is one of :data:`LEVELS`.

    ``auto`` writes text to a terminal and JSON to anything else. ``stream`` defaults to stderr:
    stdout is for what a command was asked to print.
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
            structlog.stdlib.add_logger_name,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(),
                *shared,
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *tail,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    # What these say per request or per start is said by the door, with a request id and no query.
    for name in ("uvicorn.access", "uvicorn.error", "asyncio"):
        logging.getLogger(name).setLevel(max(LEVELS[level], logging.WARNING))
