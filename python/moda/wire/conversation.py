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
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from moda.channel import Channel
from moda.errors import NotJoinedError, Reject, ReturnError
from moda.hub import Hub, encode, encode_response
from moda.message import Ref, Reply, Stop

if TYPE_CHECKING:
    from moda._core import Hub as Core

log = structlog.get_logger("moda.channel")

MAX_WAITING: Final = 1000
"""Messages that may wait for one channel's task; the next is answered with ``busy``."""

MAX_WAITING_BYTES: Final = 8 << 20

GOODBYE_SECONDS: Final = 5.0
"""How long a channel's cancelled work may take to end before ``leave`` runs beside it."""

NORMAL: Final = frozenset({"normal", "shutdown"})
_LEAVE: Final = object()
_OUT: Final = object()
_CRASHED: Final = b'{"reason":"join crashed"}'


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` messages in ``seconds``, spread or at once (GCRA: one number per channel)."""

    count: int
    seconds: float


Check = Callable[[str, Any], dict[str, Any] | None]
"""Given event and payload, the error response for an invalid payload, or None."""

LEGAL = (
    "handle must return None (no answer), Reply(status, response) or Stop(reason, reply); "
    "join must return a JSON value or bytes, or raise Reject(reason)"
)


def refusal(response: Any, topic: str) -> bytes:
    """A Reject's response as JSON; one that JSON cannot hold is the application's bug, not the client's wait."""
    try:
        return encode_response(response)[0]
    except TypeError:
        log.exception("channel.join.failed", topic=topic)
        return _CRASHED


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


class Conversation:
    """One joined channel, between the engine and the application. Implements :class:`moda.channel.Port`."""

    __slots__ = (
        "_bytes",
        "_check",
        "_decided",
        "_due",
        "_hub",
        "_inbox",
        "_joined",
        "_over",
        "_rate",
        "_spawned",
        "_task",
        "channel",
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
    ) -> None:
        self._hub = hub
        self.sub = sub
        self.channel = channel
        self._check = check
        self._rate = rate
        self._due = 0.0
        self._decided = decided
        self._inbox: deque[tuple[str, bytes, bool, Any]] | None = None
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._spawned: set[asyncio.Task[Any]] | None = None
        self._joined = False
        self._over = False
        channel._port = self
        channel._ref = None

    # -- the engine calls

    def deliver(self, event: str, payload: bytes, binary: bool, ref: Ref | None) -> None:
        """One message of the client."""
        if self._rate is not None and not self._admit(self._rate):
            if ref is not None:
                limit = f"{self._rate.count} in {self._rate.seconds:g} s"
                response = orjson.dumps({"reason": "rate limited", "limit": limit})
                self._core.reply(self.sub, ref, "error", response, False)
            return
        if not self._put(event, payload, binary, ref) and ref is not None:
            self._core.reply(self.sub, ref, "error", b'{"reason":"busy"}', False)

    def _put(self, event: str, payload: bytes, binary: bool, ref: Any) -> bool:
        """Queues something for the task, and starts it; False when too much waits already."""
        inbox = self._inbox
        if inbox is None:
            inbox = self._inbox = deque()
        elif len(inbox) >= MAX_WAITING or self._bytes + len(payload) > MAX_WAITING_BYTES:
            return False
        inbox.append((event, payload, binary, ref))
        self._bytes += len(payload)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())
        return True

    def _admit(self, rate: Rate) -> bool:
        now = time.monotonic()
        due = max(self._due, now)
        if due - now > rate.seconds - rate.seconds / rate.count:
            return False
        self._due = due + rate.seconds / rate.count
        return True

    def outgoing(self, event: str, payload: bytes, binary: bool) -> None:
        """A broadcast that this channel intercepts."""
        if self._over or self._put(event, payload, binary, _OUT):
            return
        # It may not miss a broadcast and believe it has heard all: it ends, and its client joins again.
        log.error("channel.overrun", topic=self.channel.topic, waiting=MAX_WAITING)
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
            self._inbox.append((ref, b"", False, _LEAVE))

    def ended(self, why: str) -> None:
        """The engine has ended the channel: the connection is gone, or the client joined again."""
        if not self._over and self._task is not None:
            # Here too when it is the channel's own push that found the reader too slow.
            self._task.cancel()
        self._finish(why)

    def begin(self, payload: bytes, binary: bool) -> None:
        """Starts the join; its answer comes through the engine."""
        self._task = asyncio.get_running_loop().create_task(self._join(payload, binary))

    # -- the channel calls (moda.channel.Port)

    def push(self, event: str, payload: Any) -> None:
        self._must_be_joined("push")
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
        if stop.reply is not None and self.channel._ref is not None:
            self.reply(self.channel._ref, stop.reply)
        self._core.end(self.sub, stop.reason not in NORMAL)
        self._finish(stop.reason)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        if self._over:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        if self._spawned is None:
            self._spawned = set()
        self._spawned.add(task)
        task.add_done_callback(self._spawned_ended)

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

    async def _join(self, payload: bytes, binary: bool) -> None:
        channel = self.channel
        try:
            if not await self._admitted(payload, binary):
                return
            if type(channel).joined is not Channel.joined:
                await channel.joined()
        except asyncio.CancelledError:
            if _cancelled_on_purpose():
                raise
            self._crash()
        except Exception:
            self._crash()
        finally:
            self._task = None
        if self._inbox and not self._over:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _admitted(self, payload: bytes, binary: bool) -> bool:
        """Asks the application and answers the join. False when the channel does not come to be."""
        channel = self.channel
        try:
            value = read_join(payload, binary, self._check)
            data, as_binary = encode_response(await channel.join(value))
        except Reject as reject:
            self._refuse(refusal(reject.response, channel.topic))
            return False
        except asyncio.CancelledError:
            if _cancelled_on_purpose():
                raise
            log.exception("channel.join.failed", topic=channel.topic)
            self._refuse(_CRASHED)
            return False
        except Exception:
            log.exception("channel.join.failed", topic=channel.topic)
            self._refuse(_CRASHED)
            return False
        if self._over:
            return False
        try:
            self._joined = self._core.join_ok(self.sub, data, as_binary)
        except ValueError:
            # The engine has answered the client already.
            log.exception("channel.join.failed", topic=channel.topic)
        if not self._joined:
            self._finish("closed")
        elif self._decided is not None:
            self._decided()
            self._decided = None
        return self._joined

    def _refuse(self, response: bytes) -> None:
        if not self._over:
            self._core.join_error(self.sub, response)
            self._finish("refused")

    async def _work(self) -> None:
        channel, inbox = self.channel, self._inbox
        handle, check, loads = channel.handle, self._check, orjson.loads
        try:
            while inbox and not self._over:
                event, payload, binary, ref = inbox.popleft()
                self._bytes -= len(payload)
                if ref is _LEAVE:
                    self._core.finish_leave(self.sub, event)
                    self._finish("left")
                    return
                try:
                    value = payload if binary else loads(payload)
                except ValueError as error:
                    # Valid JSON that Python cannot hold, such as 1e999: one message's problem.
                    if isinstance(ref, str):
                        self.reply(ref, Reply("error", unreadable(error)))
                    continue
                if ref is _OUT:
                    channel._ref = None
                    await channel.outgoing(event, value)
                    continue
                if check is not None and (invalid := check(event, value)) is not None:
                    if ref is not None:
                        self.reply(ref, Reply("error", invalid))
                    continue
                channel._ref = ref
                outcome = await handle(event, value)
                if outcome is None:
                    continue
                if type(outcome) is Reply:
                    data, as_binary = encode_response(outcome.response)
                    self._core.reply(self.sub, ref, outcome.status, data, as_binary)
                elif isinstance(outcome, Stop):
                    self.stop(outcome)
                    return
                else:
                    raise ReturnError(
                        f"{type(channel).__name__}.handle returned {outcome!r}; {LEGAL}"
                    )
        except asyncio.CancelledError:
            if _cancelled_on_purpose():
                raise
            self._crash()
        except Exception:
            self._crash()
        finally:
            # A deque keeps 600 bytes; an idle channel keeps none of them.
            self._inbox = None
            self._bytes = 0
            self._task = None

    # -- the end

    def _crash(self) -> None:
        if self._over:
            log.exception("channel.failed_after_end", topic=self.channel.topic)
            return
        log.exception("channel.failed", topic=self.channel.topic)
        self._core.end(self.sub, True)
        self._finish("crash")

    def _spawned_ended(self, task: asyncio.Task[Any]) -> None:
        if self._spawned is not None:
            self._spawned.discard(task)
        stray = task.cancelled() and not task.cancelling()
        error = (
            asyncio.CancelledError() if stray else None if task.cancelled() else task.exception()
        )
        if error is None or self._over:
            return
        log.error("channel.failed", topic=self.channel.topic, exc_info=error)
        if self._joined:
            self._core.end(self.sub, True)
            self._finish("crash")
        else:
            self._refuse(_CRASHED)

    def _finish(self, why: str) -> None:
        """Ends everything that belongs to the channel, once; then lets it say goodbye."""
        if self._over:
            return
        self._over = True
        if self._decided is not None:
            self._decided()
            self._decided = None
        under_way = set(self._spawned or ())
        for task in under_way:
            task.cancel()
        if self._task is not None:
            under_way.add(self._task)
            # A handler that stops its own channel is left to return.
            if self._task is not asyncio.current_task():
                self._task.cancel()
        if self._joined and type(self.channel).leave is not Channel.leave:
            self._hub.errand(self._goodbye(why, under_way))

    async def _goodbye(self, why: str, under_way: set[asyncio.Task[Any]]) -> None:
        """Callbacks run one at a time, the last one too: it waits for the one that was cancelled."""
        if under_way:
            await asyncio.wait(under_way, timeout=GOODBYE_SECONDS)
        try:
            await self.channel.leave(why)
        except Exception:
            log.exception("channel.leave.failed", topic=self.channel.topic)


def _cancelled_on_purpose() -> bool:
    """Whether somebody cancelled this task; otherwise it awaited something that was, which is a crash."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
