"""One connection as picows sees it: the transport it writes to and the log it complains to.

picows wants a transport and a logger for every connection. :class:`Line` answers both roles with
one object of 64 bytes, and it is not the transport itself, because closing needs care that picows
does not take:

- After a frame it cannot parse picows sends its CLOSE, goes on reading (and growing a buffer) for
  10 ms, then closes. Closing a socket with unread bytes makes the kernel send RST, and a client in
  the middle of too large a message then sees "connection reset" in place of 1009. So the line
  stops reading at the first error and, told to close, discards what still comes until the client
  hangs up or :data:`LINGER` is over.
- A graceful close waits for bytes a client may never read. The same timer ends that.

What the log is told is reduced to a counted reason: texts of picows can quote what a client sent.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from picows import WSListener

    from moda.serve.addresses import Address

__all__ = ["GONE", "LINGER", "Line", "part"]

LINGER = 5.0
"""Seconds a closing connection may take to read its last frame and hang up."""

HOLD = (1.0, 3.0)
"""Seconds, drawn for each, that a client in a hurry is not read. Many at once must not come back
together: what each has sent meanwhile is handled in one go."""

_log = structlog.get_logger("moda.door")

_LISTENER_FAILED = 1011
_REASONS = {1002: "protocol_error", 1007: "invalid_text", 1009: "too_big", 1011: "undecodable"}
"""Close codes as words, for the counter ``on_error`` feeds."""


class _Discard:
    """The buffered protocol of a closing connection: reads into a shared scratch, keeps nothing."""

    __slots__ = ("_behind",)

    _scratch = memoryview(bytearray(65536))

    def __init__(self, behind: asyncio.BaseProtocol) -> None:
        self._behind = behind

    def get_buffer(self, _hint: int) -> memoryview:
        return self._scratch

    def buffer_updated(self, _count: int) -> None:
        """Dropped."""

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._behind.pause_writing()

    def resume_writing(self) -> None:
        self._behind.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._behind.connection_lost(error)


class _Gone:
    """The protocol of a transport whose connection is lost.

    uvloop's TLS transport keeps the bound ``get_buffer`` and ``buffer_updated`` of its last buffered
    protocol, and with them all that hangs on it: a cycle of 38 KB. Static functions bind nothing.
    """

    @staticmethod
    def get_buffer(_hint: int) -> memoryview:
        return _Discard._scratch

    @staticmethod
    def buffer_updated(_count: int) -> None:
        """Dropped."""


GONE = _Gone()


def part(transport: asyncio.Transport) -> None:
    """Closes when what is buffered has gone out, at the latest after :data:`LINGER`."""
    if transport.get_write_buffer_size():
        asyncio.get_running_loop().call_later(LINGER, transport.abort)
    transport.close()


class Line:
    """The uvloop transport of one open WebSocket, and its silent log.

    ``transport`` is the real one. A ``listener`` that has a ``failed(code)`` is told of the close
    that picows sends by itself, just before it does: whatever else writes to the socket must stop.
    ``address`` is left when the connection has ended.
    """

    __slots__ = ("_address", "_failed", "_held", "_listener", "_on_error", "transport")

    def __init__(
        self,
        transport: asyncio.Transport,
        on_error: Callable[[str], None],
        listener: WSListener | None = None,
        address: Address | None = None,
    ) -> None:
        self.transport = transport
        self._on_error = on_error
        self._listener = listener
        self._address = address
        self._failed = False
        self._held = False

    def lost(self) -> None:
        """The connection is gone: nothing may be left that refers in a circle."""
        self._listener = None
        address, self._address = self._address, None
        if address is not None:
            address.leave()
        if self.transport.get_extra_info("sslcontext") is not None:
            self.transport.set_protocol(GONE)  # type: ignore[arg-type]  # a buffered protocol by shape

    # -- the transport

    @property
    def write(self) -> Callable[[Any], None]:
        # The bound method of the transport itself: one frame less for each call of the engine's.
        return self.transport.write

    @property
    def get_write_buffer_size(self) -> Callable[[], int]:
        return self.transport.get_write_buffer_size

    def writelines(self, buffers: Iterable[Any]) -> None:
        self.transport.writelines(buffers)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.transport.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.transport.set_write_buffer_limits(high, low)

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def pause_reading(self) -> None:
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not (self._failed or self._held):
            self.transport.resume_reading()

    def hold(self) -> None:
        """Reads no further for a moment, so that TCP slows down a client that asks for too much."""
        if self._held or self._failed or self.transport.is_closing():
            return
        self._held = True
        self.transport.pause_reading()
        seconds = random.uniform(*HOLD)  # noqa: S311  # spread, not secrecy
        asyncio.get_running_loop().call_later(seconds, self._let_go)

    def _let_go(self) -> None:
        self._held = False
        if not self.transport.is_closing():
            self.resume_reading()

    def abort(self) -> None:
        self.transport.abort()

    def close(self) -> None:
        """Closes when what is buffered has gone out, at the latest after :data:`LINGER`."""
        transport = self.transport
        if transport.is_closing():
            return
        if self._failed:
            self.linger()
            return
        part(transport)

    def linger(self) -> None:
        """Closes this side, then reads and drops until the client hangs up or :data:`LINGER` is
        over.

        For a close the client must get to see although it is still sending.
        """
        transport = self.transport
        if transport.is_closing():
            return
        behind = transport.get_protocol()
        if isinstance(behind, _Discard):
            return
        self._failed = True
        transport.set_protocol(_Discard(behind))  # type: ignore[arg-type]  # a buffered protocol by shape, as uvloop tests it
        transport.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER, transport.abort)

    @property
    def failed(self) -> bool:
        """Whether the connection is on its way out for something it or its listener did."""
        return self._failed

    # -- the log

    def log(self, *_: Any) -> None:
        """Debug talk of picows, which quotes what clients sent."""

    debug = info = warning = log

    def error(self, _text: str, *details: Any) -> None:
        """A frame picows cannot parse, or an error the session raised: ``details`` hold (code,
        text).
        """
        what = details[0] if details else None
        if isinstance(what, tuple) and what and isinstance(what[0], int):
            code = int(what[0])
            self._fail(_REASONS.get(code, f"close_{code}"), code)
        else:
            self.exception(_text)

    def exception(self, _text: str, *_: Any) -> None:
        """A listener raised: our bug.

        The place is logged; the message is not, it may quote a client.
        """
        kind, error, trace = sys.exc_info()
        place = None
        while trace is not None:
            place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
            trace = trace.tb_next
        _log.error(
            "listener.failed", error=kind.__name__ if kind and error else "unknown", place=place
        )
        self._fail("listener_failed", _LISTENER_FAILED)

    def _fail(self, reason: str, code: int) -> None:
        """Counts once, and reads no more: each further chunk would be parsed and reported again."""
        if self._failed:
            return
        self._failed = True
        self._on_error(reason)
        self.transport.pause_reading()
        tell = getattr(self._listener, "failed", None)
        if tell is not None:
            tell(code)
