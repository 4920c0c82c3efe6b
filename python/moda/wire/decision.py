"""Joins: how one is read, how it is refused, and a stream's while it is decided."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import orjson
import structlog

from moda.errors import Reject, StoreError
from moda.hub import encode_response
from moda.wire.crashes import crashes

__all__ = ["CRASHED", "Check", "StreamJoin", "read_join", "refusal", "unavailable", "unreadable"]

log = structlog.get_logger("moda.channel")

CRASHED: Final = b'{"reason":"join crashed"}'

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

    __slots__ = ("_decided", "_task")

    def __init__(self, work: Coroutine[Any, Any, None], decided: Callable[[], None] | None) -> None:
        self._decided = decided
        self._task = asyncio.get_running_loop().create_task(work)
        if decided is not None:
            # Cancelled before its first step, the work itself never does.
            self._task.add_done_callback(lambda _: decided())

    def ended(self, why: str) -> None:
        """The client has gone, left or joined again."""
        self._task.cancel()
        if self._decided is not None:
            self._decided()
