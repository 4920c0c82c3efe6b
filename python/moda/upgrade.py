"""The contract between the door and what lies behind it: one request that wants to become a
WebSocket or an answer without an end.

The door (serve) reads the head, a mount (wire) decides, the door acts. Neither imports the
other, so the values that cross are named here, on the ports line. Nothing in this file touches a
socket: a mount's decision can be tested with an :class:`Upgrade` written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

__all__ = [
    "Accepted",
    "Connection",
    "Mount",
    "Peer",
    "Refused",
    "StreamConnection",
    "Streamed",
    "Upgrade",
    "bad_request",
]

_NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


Peer = tuple[tuple[str, int] | None, bool]
"""(address, port) of a client, and whether its side of the connection is TLS."""


def _unknown() -> Peer:
    return None, False


def _elsewhere() -> bool:
    return False


@dataclass(slots=True)
class Upgrade:
    """The head of a request on a mount's path, as it arrived.

    ``method`` is upper case as sent, ``path`` is percent-decoded, ``query`` is raw and without its
    ``?``. ``headers`` keep their order and their repetitions; names are lower case, values raw
    bytes without surrounding blanks. ``variables`` are the values of the ``{name}`` segments of the
    mount's path. ``peer`` finds out who sent it, which most mounts never ask and which costs a
    system call: see ``client`` and ``secure``. ``arrived_on_loopback`` is asked by
    :attr:`on_loopback` and costs another. ``repr`` leaves out what may hold credentials.

    Written once and passed on: not frozen, because that doubles what making one takes.
    """

    method: str
    path: str
    query: bytes = field(repr=False)
    headers: Sequence[tuple[bytes, bytes]] = field(repr=False)
    variables: Mapping[str, str] = field(default_factory=lambda: _NO_VARIABLES)
    peer: Callable[[], Peer] = field(default=_unknown, repr=False)
    arrived_on_loopback: Callable[[], bool] = field(default=_elsewhere, repr=False)

    @property
    def client(self) -> tuple[str, int] | None:
        """(address, port) of the peer, or of the client a trusted proxy named."""
        return self.peer()[0]

    @property
    def secure(self) -> bool:
        """Whether the client's side of the connection is TLS."""
        return self.peer()[1]

    @property
    def on_loopback(self) -> bool:
        """Whether it came to a loopback address of this machine, whoever a proxy speaks for."""
        return self.arrived_on_loopback()

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, or None. ``name`` in lower case."""
        for known, value in self.headers:
            if known == name:
                return value
        return None

    def header_values(self, name: bytes) -> list[bytes]:
        """Every value of a header, in the order sent."""
        return [value for known, value in self.headers if known == name]


class Connection(Protocol):
    """An open WebSocket: the buffered protocol (:class:`asyncio.BufferedProtocol`) of its transport.

    There is no ``connection_made``: the door gives the transport this protocol, writes the
    handshake's answer and calls ``begin``. ``eof_received`` lets the transport close.
    """

    def begin(self, transport: Any, ended: Callable[[], None]) -> None:
        """The connection is open. An exception aborts it. ``ended`` is to be called, once, at the end
        of ``connection_lost``."""
        ...

    def get_buffer(self, hint: int, /) -> memoryview: ...
    def buffer_updated(self, count: int, /) -> None: ...
    def eof_received(self) -> bool: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, error: Exception | None, /) -> None: ...


@dataclass(slots=True)
class Accepted:
    """The mount takes the connection.

    ``connection`` is called at most once, after the door has checked the upgrade headers: a plain
    GET on a mount's path is decided like any other and still never makes one. ``headers``
    are added to the 101 answer (``Sec-WebSocket-Protocol``, for one).
    """

    connection: Callable[[], Connection]
    headers: Sequence[tuple[str, str]] = ()


class StreamConnection(Protocol):
    """An asyncio protocol that answers its request by itself, from ``begin`` on.

    As for :class:`Connection` there is no ``connection_made``, and ``ended`` is to be called, once, at
    the end of ``connection_lost``.
    """

    def begin(self, transport: Any, ended: Callable[[], None]) -> None: ...
    def data_received(self, data: bytes, /) -> None: ...
    def eof_received(self) -> bool | None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, error: Exception | None, /) -> None: ...


@dataclass(slots=True)
class Streamed:
    """The mount answers the request itself, with a body that goes on for as long as the connection.

    ``connection`` is called at most once.
    """

    connection: Callable[[], StreamConnection]


@dataclass(frozen=True, slots=True)
class Refused:
    """The mount (or the door) turns the request away with an HTTP answer; the connection then
    closes.

    ``reason`` is a word for the counters and the log (``origin``, ``vsn``, ...); it is never sent.
    ``hint`` is for the log alone, where the answer says nothing: what the client sent (``got``), what
    is ``accepted``, and the ``setting`` that decides it.
    """

    status: int
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = ()
    reason: str = "refused"
    hint: Mapping[str, str] = field(default_factory=lambda: _NO_VARIABLES, compare=False)


def bad_request(text: str, reason: str, *headers: tuple[str, str]) -> Refused:
    """400 with a sentence for whoever reads the answer."""
    kind = ("content-type", "text/plain; charset=utf-8")
    return Refused(400, text.encode(), (kind, *headers), reason)


class Mount(Protocol):
    """One endpoint of WebSockets or of streams.

    ``path`` is matched whole against the percent-decoded path of the request; a ``{name}`` segment
    matches one non-empty segment, a last one ``{name...}`` all that is left, slashes included.
    """

    @property
    def path(self) -> str: ...

    def accept_now(self, upgrade: Upgrade) -> Accepted | Streamed | Refused | None:
        """Decides without waiting, or returns None: then, and only then, :meth:`accept` is awaited.

        Most requests are decided here, which saves them a task.
        """
        ...

    async def accept(self, upgrade: Upgrade) -> Accepted | Streamed | Refused:
        """Decides, with all the time the handshake timeout leaves.

        Cancelled when the client goes away or the timeout passes. An exception answers 500 and is
        logged; it never reaches another connection.
        """
        ...
