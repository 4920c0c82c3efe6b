"""Joins: how one is read, how it is refused, and a stream's while it is decided."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import orjson
import structlog

from moda.errors import Reject, StoreError
from moda.hub import Hub, encode_response
from moda.wire.crashes import crashes

__all__ = [
    "CRASHED",
    "TIMED_OUT",
    "Check",
    "StreamJoin",
    "read_join",
    "refusal",
    "unavailable",
    "unreadable",
]

log = structlog.get_logger("moda.channel")

CRASHED: Final = b'{"reason":"join crashed"}'

TIMED_OUT: Final = b'{"reason":"join timed out"}'

Check = Callable[[str, Any], dict[str, Any] | None]
"""Given event and payload, the error response for an invalid payload, or None."""


def refusal(response: Any, of: Any, **about: Any) -> bytes:
    """A Reject's response as JSON; one that JSON cannot hold is the application's bug, not the client's wait."""
    try:
        return encode_response(response)[0]
    except TypeError as error:
        crashes.log(log, "channel.join.failed", of, error, **about)
        return CRASHED


def unavailable(error: StoreError) -> bytes:
    """The response when the database cannot be asked; ``retry_after`` in seconds."""
    return orjson.dumps({"reason": "unavailable", "retry_after": error.retry_after})


def unreadable(error: ValueError) -> dict[str, Any]:
    """The response to a payload that is JSON but no Python value (a number too large, say)."""
    return {"reason": "invalid payload", "path": "", "message": str(error)}


def read_join(payload: bytes, binary: bool, check: Check | None) -> Any:
    """A join's payload, decoded and held against its schema. Raises Reject with what is wrong."""
    try:
        value = payload if binary else orjson.loads(payload)
    except ValueError as error:
        raise Reject(unreadable(error)) from None
    invalid = check("phx_join", value) if check is not None else None
    if invalid is not None:
        raise Reject(invalid)
    return value


class StreamJoin:
    """A stream's join until it is decided, for the engine to say that nobody waits any more.

    The engine keeps it no longer than that: a subscriber costs no Python object. Clients that ask
    and go would otherwise hold their places under the topic's cap for as long as the stream thinks.
    """

    __slots__ = ("_about", "_decided", "_hub", "_sub", "task")

    def __init__(
        self,
        hub: Hub,
        sub: int,
        work: Coroutine[Any, Any, None],
        decided: Callable[[], None] | None,
        **about: Any,
    ) -> None:
        self._hub = hub
        self._sub = sub
        self._decided = decided
        self._about = about
        self.task = asyncio.get_running_loop().create_task(work)
        # The task itself does neither when it is cancelled before its first step.
        self.task.add_done_callback(self._done)
        if hub.join_seconds:
            hub.under_way[self] = time.perf_counter() + hub.join_seconds

    def _done(self, task: asyncio.Task[None]) -> None:
        self._hub.under_way.pop(self, None)
        if self._decided is not None:
            self._decided()

    def ended(self, why: str) -> None:
        """The client has gone."""
        self.task.cancel()
        if self._decided is not None:
            self._decided()

    def overdue(self) -> None:
        """The stream has thought for too long."""
        self._hub.timeouts["join"] += 1
        log.error("stream.join.timeout", seconds=self._hub.join_seconds, **self._about)
        self._hub.core.join_error(self._sub, TIMED_OUT)
        self.task.cancel()
