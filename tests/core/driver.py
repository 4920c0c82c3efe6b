"""The event loop, the transports and the channels that the engine's binding expects, as plain objects.

Nothing runs by itself: ``Driver.turn`` is one turn of the loop, and a transport that is ``stuck``
keeps what it is given until it is let go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from moda._core import Hub

Asked = tuple[str, "Handle", str, bytes, bool, str | None]


@dataclass(eq=False, slots=True)
class Transport:
    """Takes the engine's bytes; ``received`` is what its client has of them."""

    stuck: bool = False
    buffer: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    ends: list[str] = field(default_factory=list)
    held: int = 0

    def write(self, data: bytes) -> None:
        self.buffer += data
        self.let_go()

    def let_go(self) -> None:
        if not self.stuck:
            self.received += self.buffer
            self.buffer.clear()

    def get_write_buffer_size(self) -> int:
        return len(self.buffer)

    def close(self) -> None:
        self.ends.append("close")

    def abort(self) -> None:
        self.ends.append("abort")

    def get_protocol(self) -> Transport:
        return self

    def hold(self) -> None:
        self.held += 1

    def frames(self) -> list[tuple[int, bytes]]:
        """Opcode and payload of every whole frame so far; AssertionError if there is half a one."""
        found: list[tuple[int, bytes]] = []
        rest = bytes(self.received)
        while rest:
            head, size, start = rest[0], rest[1], 2
            assert head & 0xF0 == 0x80, f"fin alone of the high bits, got {head:#x}"
            if size == 126:
                size, start = int.from_bytes(rest[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(rest[2:10], "big"), 10
            payload = rest[start : start + size]
            assert len(payload) == size, "half a frame"
            found.append((head & 0x0F, payload))
            rest = rest[start + size :]
        return found


@dataclass(eq=False, slots=True)
class Handle:
    """What a driver keeps with a channel: it notes what the engine tells it."""

    driver: Driver
    sub: int
    ends: list[str] = field(default_factory=list)

    def deliver(self, event: str, payload: bytes, binary: bool, ref: str | None, size: int) -> None:
        self.driver.hub.taken(self.sub, size)
        self.driver.asked.append(("message", self, event, payload, binary, ref))

    def leaving(self, ref: str) -> None:
        self.driver.asked.append(("leave", self, "", b"", False, ref))

    def ended(self, why: str) -> None:
        self.ends.append(why)
        self.driver.ended.append((self, why))


class Driver:
    """A hub with its surroundings.

    ``asked`` is what the engine asked and nobody has taken yet, ``streams`` are the routes whose
    joins keep no handle, ``make`` makes the handles of the others.
    """

    def __init__(
        self,
        *,
        slice_us: int = 0,
        log_bytes: int = 64 << 20,
        outbox_bytes: int = 64 << 20,
        history_bytes: int = 64 << 20,
    ):
        self.hub = Hub(
            epoch=7,
            slice_us=slice_us,
            log_bytes=log_bytes,
            outbox_bytes=outbox_bytes,
            history_bytes=history_bytes,
        )
        self.streams: set[int] = set()
        self.make: Callable[[Driver, int], Handle] = Handle
        self.asked: list[Asked] = []
        self.ended: list[tuple[Handle, str]] = []
        self.complaints: list[tuple[int, int, str]] = []
        self._soon: list[Callable[[], object]] = []
        self.hub.attach(self._call_soon, self._join, self._complain, pace=self._start)

    def _call_soon(self, callback: Callable[[], object]) -> None:
        """Joins are asked about at once: what paces them is the wire's."""
        if callback == self._start:
            callback()
        else:
            self._soon.append(callback)

    def _start(self) -> None:
        self.hub.start_joins()

    def _join(
        self,
        sub: int,
        conn: int,
        route: int,
        socket: object,
        topic: str,
        params: dict[str, str],
        payload: bytes,
        binary: bool,
    ) -> Handle | None:
        del conn, socket, params
        handle = self.make(self, sub)
        self.asked.append(("join", handle, topic, payload, binary, None))
        return None if route in self.streams else handle

    def _complain(self, conn: int, code: int, reason: str) -> None:
        self.complaints.append((conn, code, reason))

    def open(self, mount: int, *, v1: bool = False, fd: int | None = None) -> tuple[int, Transport]:
        transport = Transport()
        codec = self.hub.codec("phoenix/1" if v1 else "phoenix/2")
        return self.hub.open(mount, codec, fd, transport, None), transport

    def slice(self) -> bool:
        """One callback of the loop. True when more is waiting."""
        if self._soon:
            self._soon.pop(0)()
        return bool(self._soon)

    def turn(self) -> None:
        while self.slice():
            pass
