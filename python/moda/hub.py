"""The hub as Python sees it: payloads become bytes here, once, and Rust does the rest.

Everything runs on the thread of one event loop. :meth:`Hub.publish` costs one encoding and no
Python per subscriber; the frames leave at the end of the loop turn.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import orjson
import structlog

from moda._core import Hub as Core
from moda.message import Kept, Position, Raw

log = structlog.get_logger("moda.hub")

__all__ = ["RESERVED", "Hub", "encode", "encode_join", "encode_response", "must_be_free"]

RESERVED: Final = frozenset({"phx_close", "phx_error", "phx_join", "phx_leave", "phx_reply"})
"""Events that are the protocol's own: a stock client that hears ``phx_close`` closes its channel."""

MAX_BINARY_NAME = 255
"""Bytes of a topic or an event that a binary frame can name: their length is one byte."""

SWEEP_SECONDS = 5.0
"""How often silent connections are looked for: an idle limit is kept to within this."""

Listener = Callable[[str, bytes, bool], None]
"""Called with event, payload and whether it is binary, in the publisher's turn."""


def must_be_free(event: str) -> None:
    """ValueError for an event that an application may not send."""
    if event in RESERVED:
        raise ValueError(
            f"{event!r} is an event of the protocol itself, and clients act on it; name yours otherwise"
        )


def encode(payload: Any) -> tuple[bytes, bool]:
    """A payload's bytes, and whether they are binary.

    >>> encode({"n": 1})
    (b'{"n":1}', False)
    >>> encode(b"\\x00")
    (b'\\x00', True)

    Raises TypeError for anything but a mapping, :class:`~moda.message.Raw` or bytes: the wire
    knows no other payload (Phoenix raises here, too).
    """
    if type(payload) is dict:
        return orjson.dumps(payload, default=_plain), False
    if isinstance(payload, Raw):
        return payload.json, False
    if isinstance(payload, bytes):
        return payload, True
    if isinstance(payload, bytearray | memoryview):
        return bytes(payload), True
    if isinstance(payload, Mapping):
        return orjson.dumps(dict(payload), default=_plain), False
    raise TypeError(
        f"a payload is a dict, Raw(json bytes) or bytes (a binary frame), got {type(payload).__name__}"
    )


def _plain(value: Any) -> Any:
    """Mappings that are no dicts, such as a socket's params, are objects all the same."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def encode_response(response: Any) -> tuple[bytes, bool]:
    """A reply's response: any JSON value, Raw or bytes."""
    if isinstance(response, Raw | bytes | bytearray | memoryview):
        return encode(response)
    return orjson.dumps(response, default=_plain), False


def encode_join(response: Any) -> tuple[bytes, bool]:
    """What a join returned, as :func:`encode_response`; None, which says nothing, is ``{}``."""
    return (b"{}", False) if response is None else encode_response(response)


class Hub:
    """Topics and who hears them. ``core`` is the engine, for the wire alone."""

    def __init__(
        self,
        *,
        outbox_bytes: int = 1 << 20,
        log_bytes: int = 64 << 20,
        history_bytes: int = 256 << 20,
        close_grace_seconds: float = 5.0,
    ) -> None:
        self.core = Core(
            # An epoch no earlier process had: offsets are only comparable within one.
            epoch=time.time_ns() // 1000,
            outbox_bytes=outbox_bytes,
            log_bytes=log_bytes,
            history_bytes=history_bytes,
            close_grace_ms=int(close_grace_seconds * 1000),
        )
        self._listeners: dict[str, list[Listener]] = {}
        self._errands: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self.busy = 0
        """Messages not taken because too much waited for their channel already."""
        self.rate_limited = 0
        """Messages over their channel's rate."""
        self.queueing = 0
        """Channels with messages left that have had their turn."""
        self.goodbyes: Counter[int] = Counter()
        """Goodbyes under way, by connection."""

    def start(
        self,
        joins: Callable[..., object | None],
        complaints: Callable[[int, int, str], None],
    ) -> None:
        """Binds the hub to the running loop. ``joins`` decides joins, ``complaints`` hears why clients were closed."""
        loop = asyncio.get_running_loop()
        self.core.attach(loop.call_soon, joins, complaints)
        self._sweep(loop)

    def stop(self) -> None:
        """Lets the loop go. Connections still open are the caller's to close, before."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self.core.detach()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        # In this order: a sweep that fails is told to the loop's handler and is not the last one.
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep, loop)
        self.core.sweep()

    def publish(
        self,
        topic: str,
        event: str,
        payload: Any,
        *,
        key: str | None = None,
        exclude: int = 0,
    ) -> None:
        """Sends one event to every subscriber of ``topic``.

        ``key`` is what a ``latest`` topic conflates by; without it the engine looks where the
        topic's document points to in the payload. Raises TypeError for a payload that is
        neither mapping, Raw nor bytes, and ValueError when topic or event are too long for a
        binary frame (255 bytes) or the event is one of :data:`RESERVED`.
        """
        self.publish_prepared(*self.prepare(topic, event, payload, key), exclude)

    def prepare(
        self, topic: str, event: str, payload: Any, key: str | None = None
    ) -> tuple[str, str, bytes, bool, str | None]:
        """The part of :meth:`publish` that may run on any thread, and all of it that can fail."""
        must_be_free(event)
        data, binary = encode(payload)
        if binary and max(len(topic.encode()), len(event.encode())) > MAX_BINARY_NAME:
            raise ValueError(
                f"a binary broadcast names its topic and event in at most {MAX_BINARY_NAME} bytes "
                f"each, got {len(topic.encode())} and {len(event.encode())}"
            )
        return topic, event, data, binary, key

    def publish_prepared(
        self, topic: str, event: str, data: bytes, binary: bool, key: str | None, exclude: int = 0
    ) -> None:
        """The rest of :meth:`publish`, on the loop's thread."""
        intercepting = self.core.publish(topic, event, data, binary, key, exclude)
        if intercepting is not None:
            for handle in intercepting:
                handle.outgoing(event, data, binary)
        if self._listeners:
            for listener in tuple(self._listeners.get(topic, ())):
                try:
                    listener(event, data, binary)
                except Exception:
                    # A listener is a subscriber: its failure is not the publisher's.
                    log.exception("hub.listener.failed", topic=topic, event_name=event)

    def listen(self, topic: str, listener: Listener) -> Callable[[], None]:
        """Hears a topic from inside the process, as a user would from outside. Returns the way to stop."""
        self._listeners.setdefault(topic, []).append(listener)

        def stop() -> None:
            heard = self._listeners.get(topic)
            if heard is not None and listener in heard:
                heard.remove(listener)
                if not heard:
                    del self._listeners[topic]

        return stop

    def errand(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs work that outlives the channel that asked for it, such as its goodbye."""
        task = asyncio.get_running_loop().create_task(work)
        self._errands.add(task)  # the loop holds tasks weakly
        task.add_done_callback(self._errands.discard)

    async def errands_done(self) -> None:
        """Returns when no errand is under way any more."""
        while self._errands:
            await asyncio.wait(self._errands)

    def subscribers(self, topic: str) -> int:
        """How many channels are joined to a topic on this node, in whatever lane of it."""
        return self.core.subscribers(topic)

    def seated(self, address: str) -> int:
        """How many channels sit in one lane; a topic's own name is the lane of all who chose none."""
        return self.core.seated(address)

    def position(self, topic: str) -> Position | None:
        """Where a topic's history stands now; None when it keeps none."""
        here = self.core.position(topic)
        return None if here is None else Position(*here)

    def history(self, topic: str, since: tuple[int, int] | None = None) -> list[Kept] | None:
        """What is kept of a topic, or what came after ``since``; None when some of that is gone."""
        if since is None:
            kept = self.core.history(topic)
        else:
            epoch, offset = since
            if not 0 <= epoch < 1 << 64 or not 0 <= offset < 1 << 64:
                return None  # no position of ours: clients send anything
            missed = self.core.recover(topic, epoch, offset)
            if missed is None:
                return None
            kept = missed
        return [
            Kept(offset, event, payload if binary else orjson.loads(payload))
            for offset, event, payload, binary in kept
        ]

    def connections(self) -> int:
        """How many connections are open."""
        return self.core.connections()

    def disconnect(self, socket_id: str) -> int:
        """Closes every connection with that socket id (1001) and says how many."""
        return self.core.disconnect(socket_id)

    def close_some(self, most: int, code: int, reason: str = "") -> int:
        """Says goodbye to at most ``most`` open connections; returns how many. 0 means none is left."""
        return self.core.close_some(most, code, reason)

    def stats(self) -> dict[str, Any]:
        """The engine's counters (``moda/_core.pyi`` names them), with ``busy`` and ``rate_limited``."""
        return {**self.core.stats(), "busy": self.busy, "rate_limited": self.rate_limited}

    async def drained(self) -> None:
        """Returns once everything published so far has been handed to the sockets: the publisher's brake.

        It always lets the loop have a turn, so that a publisher that finds nobody to serve cannot
        keep the loop to itself.
        """
        await asyncio.sleep(0)
        while self.core.pending():  # noqa: ASYNC110 - each turn is a slice of sending
            await asyncio.sleep(0)
