"""Ends connections when their tokens end, with one timer for all of them.

Only connections whose token has an end are watched: a heap of (end, connection), of which one that
was moved or is gone leaves an entry behind that says nothing any more; the heap is made anew when
those are the greater part. The timer is set to the nearest end, and to :data:`LONGEST_WAIT` at most,
since ends are times of day and a machine's clock may be put forward.

A Phoenix connection that ends hears ``phx_error`` on each of its topics; all then hear the close
:data:`TOKEN_ENDED`; a stock client reconnects with what its ``authToken`` and ``params`` are then.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from moda._session import Session
from moda.channel import Socket
from moda.errors import Denied
from moda.principal import Authenticator, Principal

if TYPE_CHECKING:
    from asyncio import Transport

__all__ = ["TOKEN_ENDED", "EndingSession", "Expiry"]

log = structlog.get_logger("moda.socket")

TOKEN_ENDED: Final = 4401
"""The close code of a token's end: HTTP's 401 in the range of RFC 6455 for applications."""

LONGEST_WAIT: Final = 60.0

PER_TURN: Final = 100
"""Connections ended in one turn of the loop: tokens given out at a start end together."""

MAX_TOPICS: Final = 1000
"""Topics of one connection that are told of its end: those joined last."""


class Core(Protocol):
    """What of the engine is needed (:class:`moda._core.Hub`)."""

    def push(self, sub: int, event: str, payload: bytes, binary: bool) -> bool: ...
    def close(self, conn: int, code: int, reason: str) -> None: ...
    def permit(self, sub: int, publish: bool) -> None: ...


class Timer(Protocol):
    """``loop.call_later``."""

    def __call__(self, delay: float, callback: Callable[[], None], /) -> Any: ...


@dataclass(slots=True)
class _Watched:
    socket: Socket
    ends: float
    tell: bool
    topics: OrderedDict[str, int] = field(default_factory=OrderedDict)


class Expiry:
    """The ends of all connections of a gateway. ``now`` in seconds since 1970.

    ``later`` stands in for the loop's ``call_later`` in tests.
    """

    def __init__(
        self,
        core: Core,
        authenticator: Authenticator | None = None,
        *,
        now: Callable[[], float] = time.time,
        later: Timer | None = None,
    ) -> None:
        self.core = core
        self.ended = 0
        """Connections closed because their token had ended."""
        self._authenticator = authenticator
        self._now = now
        self._later = later
        self._watched: dict[int, _Watched] = {}
        self._heap: list[tuple[float, int]] = []
        self._timer: Any = None
        self._timer_at = 0.0

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, conn: int, socket: Socket, *, tell: bool = True) -> None:
        """Ends ``conn`` when its principal's time is over. One without an end is not watched.

        ``tell`` its topics with ``phx_error`` first, an event that Phoenix clients alone know.
        """
        ends = socket.identity.expires_at
        if ends is None:
            return
        self._watched[conn] = _Watched(socket, ends, tell)
        self._push(ends, conn)

    def forget(self, conn: int) -> None:
        """The connection is gone."""
        self._watched.pop(conn, None)
        if not self._watched:
            self._heap.clear()
            self._disarm()

    def joined(self, conn: int, topic: str, sub: int) -> None:
        """A join was begun on a connection: it is one to be told. Unwatched ones are passed over."""
        watched = self._watched.get(conn)
        if watched is not None:
            watched.topics[topic] = sub
            watched.topics.move_to_end(topic)
            if len(watched.topics) > MAX_TOPICS:
                watched.topics.popitem(last=False)

    async def refresh(self, conn: int, token: str) -> Principal:
        """Takes another token of the same client in place of the one that ends: for dialects, and for
        :meth:`moda.channel.Socket.refresh`.

        The topics joined stay joined; joins and messages from here on are held against the new
        token's rules.
        Denied when the token is not taken, is somebody else's, or the connection has ended meanwhile;
        the old token then holds on to its own end.
        """
        watched = self._watched.get(conn)
        if watched is None or self._authenticator is None:
            raise Denied("missing", "this connection has no token with an end")
        principal = self._authenticator.authenticate_now(token)
        if principal is None:
            principal = await self._authenticator.authenticate(token)
        if self._watched.get(conn) is not watched:
            raise Denied("expired", "the connection has ended")
        socket, before = watched.socket, watched.socket.identity
        if (principal.kind, principal.id) != (before.kind, before.id):
            raise Denied(
                "claims", "the token is another client's; accepted: one of the same subject"
            )
        if socket.principal is before:
            socket.principal = principal
        socket.identity = principal
        for topic, sub in watched.topics.items():
            self.core.permit(sub, principal.may_publish(topic))
        if principal.expires_at is None:
            self.forget(conn)
        else:
            watched.ends = principal.expires_at
            self._push(watched.ends, conn)
        return principal

    def stop(self) -> None:
        """Watches nobody any more."""
        self._watched.clear()
        self._heap.clear()
        self._disarm()

    # -- the timer

    def _push(self, ends: float, conn: int) -> None:
        if len(self._heap) > 2 * len(self._watched) + 64:
            self._heap = [(watched.ends, conn) for conn, watched in self._watched.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (ends, conn))
        self._arm()

    def _arm(self) -> None:
        if not self._heap:
            self._disarm()
            return
        at = self._heap[0][0]
        if self._timer is not None and self._timer_at <= at:
            return  # it wakes early enough, and looks again then
        self._disarm()
        delay = min(max(0.0, at - self._now()), LONGEST_WAIT)
        later = self._later or asyncio.get_running_loop().call_later
        self._timer = later(delay, self._wake)
        self._timer_at = at

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        now = self._now()
        left = PER_TURN
        try:
            while left and self._heap and self._heap[0][0] <= now:
                ends, conn = heapq.heappop(self._heap)
                watched = self._watched.get(conn)
                if watched is not None and watched.ends == ends:
                    left -= 1
                    self._end(conn, watched)
        finally:
            self._arm()

    def _end(self, conn: int, watched: _Watched) -> None:
        del self._watched[conn]
        self.ended += 1
        log.info("connection.token_ended", connection_id=conn)
        for sub in watched.topics.values() if watched.tell else ():
            self.core.push(sub, "phx_error", b"{}", False)
        self.core.close(conn, TOKEN_ENDED, "token expired")


class EndingSession(Session):
    """The session of a connection whose token has an end. Others need not pay for one."""

    __slots__ = ("_expiry", "_socket", "_tell")

    _expiry: Expiry
    _socket: Socket
    _tell: bool

    @classmethod
    def of(
        cls, expiry: Expiry, socket: Socket, hub: Any, mount: int, codec: int, *, tell: bool
    ) -> EndingSession:
        """A session that ``expiry`` watches; the rest is what :class:`~moda._session.Session` takes."""
        made = cls(hub, mount, codec, socket)
        made._expiry = expiry
        made._socket = socket
        made._tell = tell
        return made

    def begin(self, transport: Transport, ended: Callable[[], None]) -> None:
        """As :meth:`moda._session.Session.begin`."""
        super().begin(transport, ended)
        self._expiry.watch(self.connection, self._socket, tell=self._tell)
        self._socket._refresh = partial(self._expiry.refresh, self.connection)

    def connection_lost(self, error: Exception | None) -> None:
        """As :meth:`moda._session.Session.connection_lost`."""
        self._expiry.forget(self.connection)
        super().connection_lost(error)
