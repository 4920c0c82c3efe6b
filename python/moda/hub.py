"""The hub as Python sees it: payloads become bytes here, once, and Rust does the rest.

Everything runs on the thread of one event loop. :meth:`Hub.publish` costs one encoding and no
Python per subscriber; the frames leave at the end of the loop turn.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

import orjson
import structlog

from moda._core import Hub as Core
from moda.durable import DurableTopics, Prepared
from moda.errors import PresenceError, StoreError
from moda.message import Kept, Position, Raw
from moda.ports import Key, Log

log = structlog.get_logger("moda.hub")

__all__ = [
    "PRESENCE_EVENTS",
    "RESERVED",
    "Hub",
    "Timed",
    "encode",
    "encode_join",
    "encode_response",
    "must_be_free",
]

RESERVED: Final = frozenset({"phx_close", "phx_error", "phx_join", "phx_leave", "phx_reply"})
"""Events that are the protocol's own: a stock client that hears ``phx_close`` closes its channel."""

PRESENCE_EVENTS: Final = frozenset({"presence_count", "presence_diff", "presence_state"})
"""Events by which the engine tells who is present: no client may publish them where it does."""

MAX_PRESENCE_KEY: Final = 1024
MAX_PRESENCE_META: Final = 16 << 10
"""Bytes of a key, and of a meta's JSON: both go to every subscriber of their topic."""

MAX_BINARY_NAME = 255
"""Bytes of a topic or an event that a binary frame can name: their length is one byte."""

MAX_WATCH_SECONDS = 1.0
"""How often work with a deadline is looked at, at the least: deadlines are kept to within this."""

SWEEP_SECONDS = 5.0
"""How often silent connections are looked for: an idle limit is kept to within this."""

Listener = Callable[[str, bytes, bool], None]
"""Called with event, payload and whether it is binary, in the publisher's turn."""


class Timed(Protocol):
    """A join or a handler that may not take for ever."""

    def overdue(self) -> None:
        """Its time is over: it ends now."""


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


OUTBOX_BYTES: Final = 1 << 20
OUTBOX_BURST: Final = 16 << 20


def _presence_key(key: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a presence's key is a str, got {type(key).__name__}")
    if (size := len(key.encode())) > MAX_PRESENCE_KEY:
        raise ValueError(f"a presence's key takes at most {MAX_PRESENCE_KEY} bytes, got {size}")
    return key


def _presence_meta(meta: Mapping[str, Any]) -> bytes:
    if not isinstance(meta, Mapping):
        raise TypeError(f"a presence's meta is a mapping, got {type(meta).__name__}")
    # A meta read from a presence and given back, changed: the references are the engine's.
    own = {name: meta[name] for name in meta if name not in ("phx_ref", "phx_ref_prev")}
    data = orjson.dumps(own, default=_plain)
    if len(data) > MAX_PRESENCE_META:
        raise ValueError(
            f"a presence's meta takes at most {MAX_PRESENCE_META} bytes of JSON, got {len(data)}"
        )
    return data


def _must_be_done(denied: str | None, key: str) -> None:
    if denied is None:
        return
    because = {
        "already_tracked": f"this subscription is tracked under {key!r} already; update({key!r}, meta) "
        "gives it another meta",
        "nopresence": f"this subscription is not tracked under {key!r}; track({key!r}, meta) does it",
        "undeclared": 'no presence is declared for this channel; declare it with presence="list" (or '
        '"count") in @gateway.channel(...), or as presence in its x-moda',
    }
    raise PresenceError(denied, because.get(denied, denied))


class Hub:
    """Topics and who hears them. ``core`` is the engine, for the wire alone.

    ``outbox_bytes`` may wait for one connection (1 MiB), ``outbox_burst`` for one that takes some of
    it every ``stall_seconds`` (16 MiB; as much as ``outbox_bytes`` when only that is given), and
    ``outboxes_bytes`` of memory for all together.
    """

    def __init__(
        self,
        *,
        outbox_bytes: int | None = None,
        outbox_burst: int | None = None,
        stall_seconds: float = 10.0,
        outboxes_bytes: int = 256 << 20,
        log_bytes: int = 64 << 20,
        history_bytes: int = 256 << 20,
        close_grace_seconds: float = 5.0,
        inbox_bytes: int = 8 << 20,
        inbox_total: int = 256 << 20,
        inbox_messages: int = 1000,
        join_seconds: float = 60.0,
        handler_seconds: float = 300.0,
    ) -> None:
        if outbox_burst is None:
            outbox_burst = OUTBOX_BURST if outbox_bytes is None else outbox_bytes
        self.core = Core(
            # An epoch no earlier process had: offsets are only comparable within one.
            epoch=time.time_ns() // 1000,
            outbox_bytes=OUTBOX_BYTES if outbox_bytes is None else outbox_bytes,
            outbox_burst=outbox_burst,
            stall_ms=int(stall_seconds * 1000),
            outboxes_bytes=outboxes_bytes,
            log_bytes=log_bytes,
            history_bytes=history_bytes,
            close_grace_ms=int(close_grace_seconds * 1000),
            inbox_bytes=inbox_bytes,
            inbox_total=inbox_total,
            inbox_messages=inbox_messages,
        )
        self._listeners: dict[str, list[Listener]] = {}
        self._errands: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self.join_seconds = join_seconds
        """How long a join may take to be decided; 0 is for ever."""
        self.handler_seconds = handler_seconds
        """How long a callback of a joined channel may take; 0 is for ever."""
        self.under_way: dict[Timed, float] = {}
        """Joins and handlers that run, by when their time is over (``time.perf_counter``)."""
        self.timeouts = {"join": 0, "handler": 0}
        """How many were ended for that."""
        self._watch: asyncio.TimerHandle | None = None
        self.rate_limited = 0
        """Messages over their channel's rate."""
        self.queueing = 0
        """Channels with messages left that have had their turn."""
        self.unwritten = 0
        """Broadcasts to durable topics that the store did not take."""
        self.durable: DurableTopics | None = None
        """Topics whose log lies in a store; None where there is none."""
        self.goodbyes: Counter[int] = Counter()
        """Work under way for channels that have ended, by connection: ``leave`` callbacks, and tasks
        that were cancelled and go on."""

    def keep_durably(self, log: Log) -> DurableTopics:
        """Gives durable topics a log. Before :meth:`start`."""
        self.durable = DurableTopics(self.core, log, self._deliver)
        return self.durable

    async def ready(self, topic: str) -> None:
        """To be awaited before a join is accepted: where a durable topic stands. Raises StoreError."""
        if self.durable is not None and self.core.durable_route(topic) is not None:
            await self.durable.ready(topic)

    def start(
        self,
        joins: Callable[..., object | None],
        complaints: Callable[[int, int, str], None],
        pace: Callable[[], object] | None = None,
    ) -> None:
        """Binds the hub to the running loop.

        ``joins`` decides joins, ``complaints`` hears why clients were closed, ``pace`` is called
        when joins wait and starts them (None: all at once).
        """
        loop = asyncio.get_running_loop()
        wants = None if self.durable is None else self.durable.fetch
        self.core.attach(
            loop.call_soon, joins, complaints, loop.call_later, pace, wants, self._heard
        )
        self._sweep(loop)
        limits = [seconds for seconds in (self.join_seconds, self.handler_seconds) if seconds]
        if limits:
            self._watch_deadlines(loop, min(MAX_WATCH_SECONDS, min(limits) / 4))

    def stop(self) -> None:
        """Lets the loop go. Connections still open are the caller's to close, before."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self.core.detach()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        # In this order: a sweep that fails is told to the loop's handler and is not the last one.
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep, loop)
        self.core.sweep()

    def _watch_deadlines(self, loop: asyncio.AbstractEventLoop, interval: float) -> None:
        # One timer for all: a timer for each message would cost as much as its handler.
        self._watch = loop.call_later(interval, self._watch_deadlines, loop, interval)
        now = time.perf_counter()
        for work in [work for work, due in self.under_way.items() if due < now]:
            self.under_way.pop(work, None)
            work.overdue()

    def publish(
        self,
        topic: str,
        event: str,
        payload: Any,
        *,
        key: str | None = None,
        exclude: int = 0,
    ) -> Position | None:
        """Sends one event to every subscriber of ``topic``; returns where it stands in its log.

        None for a topic that keeps no log, and for a durable one: its message is published when the
        store has it (:meth:`publish_durably` waits for that). ``key`` is what a ``latest`` topic
        conflates by; without it the engine looks where the topic's document points to in the payload.
        Raises TypeError for a payload that is neither mapping, Raw nor bytes, and ValueError when topic
        or event are too long for a binary frame (255 bytes) or the event is one of :data:`RESERVED`.
        """
        return self.publish_prepared(*self.prepare(topic, event, payload, key), exclude)

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
    ) -> Position | None:
        """The rest of :meth:`publish`, on the loop's thread."""
        route = None if self.durable is None else self.core.durable_route(topic)
        if self.durable is None or route is None:
            return self._deliver(topic, event, data, binary, key, exclude)
        try:
            told = self.durable.append(route, topic, event, data, binary, key, exclude)
        except StoreError as error:
            self._unwritten(topic, event, error)
        else:
            told.add_done_callback(partial(self._written, topic, event))
        return None

    async def publish_durably(
        self, prepared: tuple[str, str, bytes, bool, str | None], once: Key | None = None
    ) -> Position | None:
        """Publishes what :meth:`prepare` gave, and returns its position once that cannot be lost.

        On a topic that is not durable that is at once. ``once`` is an idempotency key. Raises
        StoreError when nothing was written.
        """
        route = None if self.durable is None else self.core.durable_route(prepared[0])
        if self.durable is None or route is None:
            return self._deliver(*prepared)
        return await self.durable.append(route, *prepared, once=once)

    def publish_batch(
        self, messages: Sequence[Prepared], once: Key | None = None
    ) -> tuple[list[Position | None], asyncio.Future[list[Position]] | None]:
        """Publishes what :meth:`prepare` gave, in order; all messages of durable topics share one
        append, which ``once`` is the key of.

        Returns a position per message, and where there are durable ones (None in the list) a future
        of theirs, in order, which fails with StoreError when none of those was written.
        """
        positions: list[Position | None] = []
        durable: list[tuple[int, Prepared]] = []
        routes: dict[str, int | None] = {}
        for message in messages:
            topic = message[0]
            if self.durable is not None and topic not in routes:
                routes[topic] = self.core.durable_route(topic)
            route = routes.get(topic)
            if route is None:
                positions.append(self._deliver(*message))
            else:
                positions.append(None)
                durable.append((route, message))
        if self.durable is None or not durable:
            return positions, None
        try:
            return positions, self.durable.append_batch(durable, once)
        except StoreError as error:
            refused: asyncio.Future[list[Position]] = asyncio.get_running_loop().create_future()
            refused.set_exception(error)
            return positions, refused

    def _written(self, topic: str, event: str, told: asyncio.Future[Position]) -> None:
        if not told.cancelled() and (error := told.exception()) is not None:
            self._unwritten(topic, event, error)

    def _unwritten(self, topic: str, event: str, error: BaseException) -> None:
        """Of a broadcast whose sender does not wait, the log alone can tell."""
        self.unwritten += 1
        log.error("publish.failed", topic=topic, event_name=event, error=str(error))

    def _deliver(
        self,
        topic: str,
        event: str,
        data: bytes,
        binary: bool,
        key: str | None,
        exclude: int = 0,
        at: tuple[int, int] | None = None,
    ) -> Position | None:
        position, intercepting = self.core.publish(topic, event, data, binary, key, exclude, at)
        if intercepting is not None:
            for handle in intercepting:
                handle.outgoing(event, data, binary)
        if self._listeners:
            self._heard(topic, event, data, binary)
        return None if position is None else Position(*position)

    def _heard(self, topic: str, event: str, data: bytes, binary: bool) -> None:
        """One message, for those who listen; called by the engine for what it published itself."""
        for listener in tuple(self._listeners.get(topic, ())):
            try:
                listener(event, data, binary)
            except Exception:
                # A listener is a subscriber: its failure is not the publisher's.
                log.exception("hub.listener.failed", topic=topic, event_name=event)

    def listen(self, topic: str, listener: Listener) -> Callable[[], None]:
        """Hears a topic from inside the process, as a user would from outside. Returns the way to stop."""
        self._listeners.setdefault(topic, []).append(listener)
        self.core.watch(topic, True)

        def stop() -> None:
            heard = self._listeners.get(topic)
            if heard is not None and listener in heard:
                heard.remove(listener)
                if not heard:
                    del self._listeners[topic]
                    self.core.watch(topic, False)

        return stop

    # -- presence

    def track(self, sub: int, key: str, meta: Mapping[str, Any]) -> None:
        """Makes a subscription present under a key. PresenceError, ValueError, TypeError."""
        _must_be_done(self.core.track(sub, _presence_key(key), _presence_meta(meta)), key)

    def update(self, sub: int, key: str, meta: Mapping[str, Any]) -> None:
        """Gives a subscription's presence another meta. PresenceError, ValueError, TypeError."""
        _must_be_done(self.core.update(sub, _presence_key(key), _presence_meta(meta)), key)

    def untrack(self, sub: int, key: str) -> None:
        """Ends a subscription's presence under a key. PresenceError where none is declared."""
        _must_be_done(self.core.untrack(sub, _presence_key(key)), key)

    def presence(self, topic: str) -> dict[str, Any]:
        """Who is present on a topic, ``{key: {"metas": [...]}}``."""
        read = self.core.presence(topic)
        if read is None:
            return {}
        presences: dict[str, Any] = orjson.loads(read)["presences"]
        return presences

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
        """The engine's counters (``moda/_core.pyi`` names them), with ``busy``, ``rate_limited`` and ``timeouts``."""
        stats = self.core.stats()
        stats["busy"] = sum(stats["inbox_refused"].values())
        stats["rate_limited"] += self.rate_limited
        stats["timeouts"] = dict(self.timeouts)
        return stats

    async def drained(self) -> None:
        """Returns once everything published so far has been handed to the sockets: the publisher's brake.

        It always lets the loop have a turn, so that a publisher that finds nobody to serve cannot
        keep the loop to itself.
        """
        await asyncio.sleep(0)
        while self.core.pending():  # noqa: ASYNC110 - each turn is a slice of sending
            await asyncio.sleep(0)
