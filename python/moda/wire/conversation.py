"""The life of one channel: join, messages in order, one end.

The engine calls :meth:`Conversation.deliver`, :meth:`leaving` and :meth:`ended`; the channel's own
code runs in a task that exists only while there is something to do, so that an idle channel costs
one small object and no task, queue or future. Whatever goes wrong in the channel ends this channel:
it is logged with its topic and the client gets ``phx_error``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from moda.channel import Channel
from moda.errors import Reject, ReturnError
from moda.hub import Hub, encode, encode_response
from moda.message import Ref, Reply, Stop

if TYPE_CHECKING:
    from moda._core import Hub as Core

log = structlog.get_logger("moda.channel")

MAX_WAITING: Final = 1000
"""Messages that may wait for one channel's task; the next is answered with ``busy``."""

MAX_WAITING_BYTES: Final = 8 << 20

NORMAL: Final = frozenset({"normal", "shutdown"})
_LEAVE: Final = object()
_OUT: Final = object()

Check = Callable[[str, Any], dict[str, Any] | None]
"""Given event and payload, the error response for an invalid payload, or None."""

LEGAL = (
    "handle must return None (no answer), Reply(status, response) or Stop(reason, reply); "
    "join must return a JSON value or bytes, or raise Reject(reason)"
)


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

    __slots__ = ("_bytes", "_check", "_hub", "_inbox", "_joined", "_over", "_spawned", "_task", "channel", "sub")

    def __init__(self, hub: Hub, sub: int, channel: Channel, check: Check | None) -> None:
        self._hub = hub
        self.sub = sub
        self.channel = channel
        self._check = check
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
        inbox = self._inbox
        if inbox is None:
            inbox = self._inbox = deque()
        elif len(inbox) >= MAX_WAITING or self._bytes + len(payload) > MAX_WAITING_BYTES:
            if ref is not None:
                self._core.reply(self.sub, ref, "error", b'{"reason":"busy"}', False)
            return
        inbox.append((event, payload, binary, ref))
        self._bytes += len(payload)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    def outgoing(self, event: str, payload: bytes, binary: bool) -> None:
        """A broadcast that this channel intercepts."""
        if self._inbox is None:
            self._inbox = deque()
        self._inbox.append((event, payload, binary, _OUT))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

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
        self._finish(why)

    def begin(self, payload: bytes, binary: bool) -> None:
        """Starts the join; its answer comes through the engine."""
        self._task = asyncio.get_running_loop().create_task(self._join(payload, binary))

    # -- the channel calls (moda.channel.Port)

    def push(self, event: str, payload: Any) -> None:
        data, binary = encode(payload)
        self._core.push(self.sub, event, data, binary)

    def reply(self, ref: Ref, reply: Reply) -> None:
        data, binary = encode_response(reply.response)
        self._core.reply(self.sub, ref, reply.status, data, binary)

    def broadcast(self, event: str, payload: Any, key: str | None, everyone: bool) -> None:
        self._hub.publish(
            self.channel.topic, event, payload, key=key, exclude=0 if everyone else self.sub
        )

    def stop(self, stop: Stop) -> None:
        if self._over:
            return
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

    # -- the task

    @property
    def _core(self) -> Core:
        return self._hub.core

    async def _join(self, payload: bytes, binary: bool) -> None:
        channel = self.channel
        try:
            try:
                value = read_join(payload, binary, self._check)
                data, as_binary = encode_response(await channel.join(value))
            except Reject as reject:
                self._over = True
                self._core.join_error(self.sub, encode_response(reject.response)[0])
                return
            except Exception:
                log.exception("channel.join.failed", topic=channel.topic)
                self._over = True
                self._core.join_error(self.sub, b'{"reason":"join crashed"}')
                return
            if self._over or not self._core.join_ok(self.sub, data, as_binary):
                self._over = True
                return
            self._joined = True
            if type(channel).joined is not Channel.joined:
                await channel.joined()
        except Exception:
            self._crash()
            return
        finally:
            self._task = None
        if self._inbox and not self._over:
            self._task = asyncio.get_running_loop().create_task(self._work())

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
                    raise ReturnError(f"{type(channel).__name__}.handle returned {outcome!r}; {LEGAL}")
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
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not self._over:
            log.error("channel.failed", topic=self.channel.topic, exc_info=error)
            self._core.end(self.sub, True)
            self._finish("crash")

    def _finish(self, why: str) -> None:
        """Ends everything that belongs to the channel, once; then lets it say goodbye."""
        if self._over:
            return
        self._over = True
        current = asyncio.current_task()
        if self._task is not None and self._task is not current:
            self._task.cancel()
        for task in tuple(self._spawned or ()):
            if task is not current:
                task.cancel()
        if self._joined and type(self.channel).leave is not Channel.leave:
            goodbye = asyncio.get_running_loop().create_task(self._goodbye(why))
            _GOODBYES.add(goodbye)
            goodbye.add_done_callback(_GOODBYES.discard)

    async def _goodbye(self, why: str) -> None:
        try:
            await self.channel.leave(why)
        except Exception:
            log.exception("channel.leave.failed", topic=self.channel.topic)


# The loop holds tasks weakly; a goodbye must live until it is said.
_GOODBYES: set[asyncio.Task[None]] = set()
