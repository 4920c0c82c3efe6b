"""The life of one channel: join, messages in order, one end.

The engine calls :meth:`Conversation.deliver`, :meth:`leaving` and :meth:`ended`; the channel's own
code runs in a task that exists only while there is something to do, so that an idle channel costs
one small object and no task, queue or future. Whatever goes wrong in the channel ends this channel:
it is logged with its topic and the client gets ``phx_error``.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from moda.channel import NO_REF, Channel
from moda.errors import NotJoinedError, Reject, ReplyError, ReturnError, StoreError
from moda.hub import Hub, encode, encode_join, encode_response, must_be_free
from moda.message import Ref, Reply, Stop
from moda.wire.crashes import crashes, deliberate
from moda.wire.decision import (
    CRASHED,
    TIMED_OUT,
    Check,
    read_join,
    refusal,
    unavailable,
    unreadable,
)
from moda.wire.ended import Ended, orderly
from moda.wire.pace import JoinPace

if TYPE_CHECKING:
    from moda._core import Hub as Core

log = structlog.get_logger("moda.channel")

MAX_WAITING: Final = 1000
"""Broadcasts that may wait for one channel that intercepts them. The engine bounds the client's messages."""

MAX_WAITING_BYTES: Final = 8 << 20
"""Bytes of their payloads and events."""

TURN_SECONDS: Final = 0.002
"""After so long the messages of channels let the loop serve others: as long as one slice of a fan-out.
A packet may hold a thousand of them, and a handler that awaits nothing never lets go. Channels that
are busy at once share it."""

SHARES: Final = 100
"""The least share of a turn is one of so many: beyond it turns grow, at 20 us for a channel."""

GOODBYE_SECONDS: Final = 5.0
"""How long a channel's cancelled work may take to end before ``leave`` runs beside it."""

LEAVE_SECONDS: Final = 30.0
"""How long ``leave`` may take. A client that joins and leaves in a loop costs a goodbye each time."""

_LEAVE: Final = object()
_OUT: Final = object()


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` messages in ``seconds``, spread or at once (GCRA: one number per channel)."""

    count: int
    seconds: float


LEGAL = (
    "handle must return None (no answer), Reply(status, response) or Stop(reason, reply); "
    "join must return a JSON value or bytes, or raise Reject(reason)"
)


def share_of(hub: Hub) -> float:
    """Seconds a channel may handle messages for while others wait for their next turn."""
    return TURN_SECONDS / min(1 + hub.queueing, SHARES)


class Conversation:
    """One joined channel, between the engine and the application. Implements :class:`moda.channel.Port`."""

    __slots__ = (
        "_bytes",
        "_check",
        "_decided",
        "_doing",
        "_due",
        "_hub",
        "_inbox",
        "_joined",
        "_over",
        "_rate",
        "_spawned",
        "_task",
        "channel",
        "conn",
        "sub",
    )

    def __init__(
        self,
        hub: Hub,
        sub: int,
        channel: Channel,
        check: Check | None,
        rate: Rate | None = None,
        decided: Callable[[], None] | None = None,
        conn: int = 0,
    ) -> None:
        self._hub = hub
        self.sub = sub
        self.conn = conn
        self.channel = channel
        self._check = check
        self._rate = rate
        self._due = 0.0
        self._decided = decided
        self._inbox: deque[tuple[str, bytes, bool, Any, int]] | None = None
        self._bytes = 0
        self._doing = ""
        self._task: asyncio.Task[None] | None = None
        self._spawned: set[asyncio.Task[Any]] | None = None
        self._joined = False
        self._over = False
        channel._port = self
        channel._ref = None

    # -- the engine calls

    def deliver(self, event: str, payload: bytes, binary: bool, ref: Ref | None, size: int) -> None:
        """One message of the client; ``size`` is what it counts for in the engine's budget."""
        if self._rate is not None and not self._admit(self._rate):
            self._hub.rate_limited += 1
            self._core.taken(self.sub, size)
            if ref is not None:
                limit = f"{self._rate.count} in {self._rate.seconds:g} s"
                response = orjson.dumps({"reason": "rate limited", "limit": limit})
                self._core.reply(self.sub, ref, "error", response, False)
            return
        self._put(event, payload, binary, ref, size)

    def _put(self, event: str, payload: bytes, binary: bool, ref: Any, size: int) -> None:
        """Queues something for the task, and starts it."""
        inbox = self._inbox
        if inbox is None:
            inbox = self._inbox = deque()
        inbox.append((event, payload, binary, ref, size))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    def _admit(self, rate: Rate) -> bool:
        now = time.monotonic()
        due = max(self._due, now)
        # A count that does not divide the period leaves a rest in the last digits.
        if due - now > rate.seconds - rate.seconds / rate.count + 1e-6:
            return False
        self._due = due + rate.seconds / rate.count
        return True

    def outgoing(self, event: str, payload: bytes, binary: bool) -> None:
        """A broadcast that this channel intercepts."""
        if self._over:
            return
        size = len(event) + len(payload)
        waiting = 0 if self._inbox is None else len(self._inbox)
        if waiting < MAX_WAITING and (not waiting or self._bytes + size <= MAX_WAITING_BYTES):
            self._bytes += size
            self._put(event, payload, binary, _OUT, size)
            return
        # It may not miss a broadcast and believe it has heard all: it ends, and its client joins again.
        log.error("channel.overrun", waiting=MAX_WAITING, **self._about)
        self._core.end(self.sub, True)
        self._finish("crash")

    def leaving(self, ref: Ref) -> None:
        """The client leaves: at once when idle, otherwise after the messages it sent before."""
        if self._task is None:
            self._core.finish_leave(self.sub, ref)
            self._finish("left")
        else:
            if self._inbox is None:
                self._inbox = deque()
            self._inbox.append((ref, b"", False, _LEAVE, 0))

    def ended(self, why: str) -> None:
        """The engine has ended the channel: the connection is gone, or the client joined again."""
        if not self._over and self._task is not None:
            # Here too when it is the channel's own push that found the reader too slow.
            self._task.cancel()
        self._finish(why)

    def begin(self, payload: bytes, binary: bool, pace: JoinPace | None = None) -> None:
        """Starts the join; its answer comes through the engine."""
        work = self._join(payload, binary, pace)
        self._task = asyncio.get_running_loop().create_task(work)
        if pace is not None:
            pace.expect(self._task)
        seconds = self._hub.join_seconds
        if seconds:
            self._hub.under_way[self] = time.perf_counter() + seconds

    # -- the hub's watch calls

    def overdue(self) -> None:
        """The join, or the callback of a joined channel, has taken too long."""
        hub = self._hub
        if self._over:
            return
        if self._joined:
            hub.timeouts["handler"] += 1
            about = {"event_name": self._doing, "seconds": hub.handler_seconds}
            log.error("channel.handler.timeout", **about, **self._about)
            self._core.end(self.sub, True)
            self._finish("crash")
        else:
            hub.timeouts["join"] += 1
            log.error("channel.join.timeout", seconds=hub.join_seconds, **self._about)
            self._refuse(TIMED_OUT)

    # -- the channel calls (moda.channel.Port)

    def push(self, event: str, payload: Any) -> None:
        self._must_be_joined("push")
        must_be_free(event)
        data, binary = encode(payload)
        self._core.push(self.sub, event, data, binary)

    def reply(self, ref: Ref, reply: Reply) -> None:
        self._must_be_joined("reply")
        data, binary = encode_response(reply.response)
        self._core.reply(self.sub, ref, reply.status, data, binary)

    def broadcast(self, event: str, payload: Any, key: str | None, everyone: bool) -> None:
        self._hub.publish(
            self.channel.topic, event, payload, key=key, exclude=0 if everyone else self.sub
        )

    def stop(self, stop: Stop) -> None:
        if self._over:
            return
        self._must_be_joined("stop")
        ref = self.channel._ref
        if stop.reply is not None and ref is None:
            raise ReplyError(
                "stop(reason, reply) answers the message being handled, and none is; keep its "
                "self.ref, then call reply(ref, ...) and stop(reason)"
            )
        self._stop(stop, ref)

    def _stop(self, stop: Stop, ref: Ref | None) -> None:
        if stop.reply is not None:
            self.reply(NO_REF if ref is None else ref, stop.reply)
        if not self._over:
            self._core.end(self.sub, not orderly(stop.reason))
            self._finish(stop.reason)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        if not asyncio.iscoroutine(work):
            raise TypeError(f"spawn takes a coroutine, got {work!r}")
        task = asyncio.get_running_loop().create_task(self._beside(work))
        if self._spawned is None:
            self._spawned = set()
        self._spawned.add(task)
        task.add_done_callback(partial(self._spawned_ended, work))

    def track(self, key: str, meta: Mapping[str, Any]) -> None:
        self._must_be_joined("track")
        self._hub.track(self.sub, key, meta)

    def update(self, key: str, meta: Mapping[str, Any]) -> None:
        self._must_be_joined("update")
        self._hub.update(self.sub, key, meta)

    def untrack(self, key: str) -> None:
        self._must_be_joined("untrack")
        self._hub.untrack(self.sub, key)

    def presence(self) -> dict[str, Any]:
        return self._hub.presence(self.channel.topic)

    def _must_be_joined(self, call: str) -> None:
        if not (self._joined or self._over):
            raise NotJoinedError(
                f"{type(self.channel).__name__} calls {call} before its join is decided; push in "
                "joined(), refuse by raising Reject in join()"
            )

    # -- the task

    @property
    def _core(self) -> Core:
        return self._hub.core

    @property
    def _about(self) -> dict[str, Any]:
        """What every line about this channel says."""
        return {"topic": self.channel.topic, "connection_id": self.conn}

    def _report(self, event: str, error: BaseException) -> None:
        sent = self.channel.socket.params
        crashes.log(log, event, type(self.channel), error, sent=sent, **self._about)

    async def _join(self, payload: bytes, binary: bool, pace: JoinPace | None) -> None:
        channel, hub = self.channel, self._hub
        try:
            if pace is not None:
                await pace.turn()
            if not await self._admitted(payload, binary):
                return
            if self._over:
                return  # what waited behind the join was another one
            if type(channel).joined is not Channel.joined:
                self._doing = "joined"
                if hub.handler_seconds:
                    hub.under_way[self] = time.perf_counter() + hub.handler_seconds
                await channel.joined()
        except BaseException as error:
            if deliberate(error):
                raise
            self._crash(error)
        finally:
            self._task = None
            hub.under_way.pop(self, None)
        if self._inbox and not self._over:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _admitted(self, payload: bytes, binary: bool) -> bool:
        """Asks the application and answers the join. False when the channel does not come to be."""
        channel = self.channel
        try:
            value = read_join(payload, binary, self._check)
            data, as_binary = encode_join(await channel.join(value))
            await self._hub.ready(channel.topic)
        except StoreError as error:
            self._refuse(unavailable(error))
            return False
        except Reject as reject:
            self._refuse(refusal(reject.response, type(channel), **self._about))
            return False
        except BaseException as error:
            if deliberate(error):
                raise
            self._report("channel.join.failed", error)
            self._refuse(CRASHED)
            return False
        if self._over:
            return False
        self._hub.under_way.pop(self, None)
        # Before the engine is told: what waited behind the join comes at once, and may end it.
        self._joined = True
        try:
            accepted = self._core.join_ok(self.sub, data, as_binary)
        except ValueError as error:
            # The engine has answered the client already.
            accepted = False
            self._report("channel.join.failed", error)
        if not accepted:
            self._joined = False
            self._finish("closed")
        elif self._decided is not None:
            self._decided()
            self._decided = None
        return accepted

    def _refuse(self, response: bytes) -> None:
        if not self._over:
            self._core.join_error(self.sub, response)
            self._finish("refused")

    async def _work(self) -> None:
        channel, inbox = self.channel, self._inbox
        handle, check, loads = channel.handle, self._check, orjson.loads
        verbatim = channel._verbatim
        clock = time.perf_counter
        hub = self._hub
        taken, sub = self._core.taken, self.sub
        limit, under_way = hub.handler_seconds, hub.under_way
        until = clock() + share_of(hub)
        try:
            while inbox and not self._over:
                now = clock()
                if now > until:
                    hub.queueing += 1
                    under_way.pop(self, None)
                    try:
                        await asyncio.sleep(0)
                    finally:
                        hub.queueing -= 1
                    now = clock()
                    until = now + share_of(hub)
                    if not inbox:
                        return  # ended meanwhile
                event, payload, binary, ref, size = inbox.popleft()
                if ref is _LEAVE:
                    self._core.finish_leave(self.sub, event)
                    self._finish("left")
                    return
                if ref is _OUT:
                    self._bytes -= size
                else:
                    taken(sub, size)
                self._doing = event
                if limit:
                    under_way[self] = now + limit
                try:
                    value = payload if binary else loads(payload)
                except ValueError as error:
                    # Valid JSON that Python cannot hold, such as 1e999: one message's problem.
                    if isinstance(ref, str):
                        self.reply(ref, Reply("error", unreadable(error)))
                    continue
                if ref is _OUT:
                    await channel.outgoing(event, value)
                    continue
                if check is not None and (invalid := check(event, value)) is not None:
                    if ref is not None:
                        self.reply(ref, Reply("error", invalid))
                    continue
                channel._ref = NO_REF if ref is None else ref
                if verbatim is None:
                    outcome = await handle(event, value)
                else:
                    outcome = await verbatim(event, value, payload)
                channel._ref = None
                if outcome is None:
                    continue
                if isinstance(outcome, Reply):
                    data, as_binary = encode_response(outcome.response)
                    self._core.reply(self.sub, ref, outcome.status, data, as_binary)
                elif isinstance(outcome, Stop):
                    self._stop(outcome, ref)
                    return
                else:
                    raise ReturnError(
                        f"{type(channel).__name__}.handle returned {outcome!r}; {LEGAL}"
                    )
        except BaseException as error:
            if deliberate(error):
                raise
            self._crash(error)
        finally:
            channel._ref = None
            under_way.pop(self, None)
            # A deque keeps 600 bytes; an idle channel keeps none of them.
            self._inbox = None
            self._bytes = 0
            self._task = None

    # -- the end

    def _crash(self, error: BaseException) -> None:
        if self._over:
            self._report("channel.failed_after_end", error)
            return
        self._report("channel.failed", error)
        if not self._joined:
            self._refuse(CRASHED)
            return
        self._core.end(self.sub, True)
        self._finish("crash")

    async def _beside(self, work: Coroutine[Any, Any, Any]) -> None:
        """Spawned work. A task of its own would hand ``SystemExit`` to the loop, which ends everything."""
        try:
            await work
        except BaseException as error:
            if deliberate(error):
                raise
            self._crash(error)

    def _spawned_ended(self, work: Coroutine[Any, Any, Any], task: asyncio.Task[Any]) -> None:
        if self._spawned is not None:
            self._spawned.discard(task)
        work.close()  # cancelled before its first step it was never awaited

    def _finish(self, why: str) -> None:
        """Ends everything that belongs to the channel, once; then lets it say goodbye."""
        if self._over:
            return
        self._over = True
        channel = self.channel
        channel._port = Ended(self._hub, channel.topic)
        if self._decided is not None:
            self._decided()
            self._decided = None
        under_way = set(self._spawned or ())
        if self._task is not None:
            under_way.add(self._task)
        self._hub.under_way.pop(self, None)
        if self._inbox is not None:
            # Nobody will handle it, and a handler that is slow to end should not keep it.
            self._inbox.clear()
        # A handler that stops its own channel is left to return.
        current = asyncio.current_task()
        cancelled = [task for task in under_way if task is not current]
        for task in cancelled:
            task.cancel()
        if cancelled:
            self._linger(cancelled)
        if self._joined and type(channel).leave is not Channel.leave:
            self._hub.goodbyes[self.conn] += 1
            self._hub.errand(self._goodbye(why, under_way))

    def _linger(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Counts cancelled work until all of it has ended: code that does not let go of a channel,
        for a client that joins and leaves in a loop, would fill the memory."""
        goodbyes, conn, left = self._hub.goodbyes, self.conn, len(tasks)
        goodbyes[conn] += 1

        def done(_: asyncio.Task[Any]) -> None:
            nonlocal left
            left -= 1
            if not left:
                goodbyes[conn] -= 1
                if not goodbyes[conn]:
                    del goodbyes[conn]

        for task in tasks:
            task.add_done_callback(done)

    async def _goodbye(self, why: str, under_way: set[asyncio.Task[Any]]) -> None:
        """Callbacks run one at a time, the last one too: it waits for the one that was cancelled."""
        try:
            if under_way:
                await asyncio.wait(under_way, timeout=GOODBYE_SECONDS)
            limit = asyncio.timeout(LEAVE_SECONDS)
            try:
                async with limit:
                    await self.channel.leave(why)
            except BaseException as error:
                if limit.expired():
                    log.error("channel.leave.timeout", seconds=LEAVE_SECONDS, **self._about)
                elif deliberate(error):
                    raise
                else:
                    self._report("channel.leave.failed", error)
        finally:
            self._hub.goodbyes[self.conn] -= 1
            if not self._hub.goodbyes[self.conn]:
                del self._hub.goodbyes[self.conn]
