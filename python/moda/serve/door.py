"""What all connections of one port share: the mounts, the bounds, the waiting room.

Each connection starts as a :class:`~moda.serve.front.Front`; this is what they ask. A head has
:attr:`DoorOptions.handshake_timeout` to arrive and to be decided; one timer a second sweeps all
that wait, and none runs when nobody does.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import structlog

from moda.errors import ConfigurationError
from moda.serve.addresses import Address, Addresses, AddressLimits
from moda.serve.head import HeadError, split_target
from moda.serve.proxies import TrustedProxies
from moda.serve.refusals import RefusalLog
from moda.upgrade import Mount, Refused

_log = structlog.get_logger("moda.door")

__all__ = ["Door", "DoorOptions", "PlainProtocol", "Waiting"]


OPERATORS_RESERVE = 16
"""Sockets nobody but this machine's own addresses and ``MODA_OPERATORS`` may use: probes, metrics."""

LOOKED_AT = 64
"""Waiting connections looked at for one that gives way. One per arrival is enough: who arrived last
is not looked at, and who dribbles a head or shakes hands for ever is among the first."""


@dataclass(frozen=True, slots=True)
class DoorOptions:
    """Bounds of the door.

    ``max_connections`` open WebSockets (over it: 503 with Retry-After), ``max_sockets`` TCP
    connections of any kind (over it: 503 and closed at once, so that a descriptor is left for the
    database; the last of them are kept for operators, and a connection that has waited
    ``shed_after`` seconds for nothing gives way to a new one), ``handshake_timeout`` seconds for a
    head to arrive and be decided, ``max_head`` bytes of it, ``retry_after`` the range of seconds a
    client over the cap is told to wait, drawn at random so that those turned away do not come back
    together. ``addresses`` is what one address may take (429).
    """

    max_connections: int = 10_000
    max_sockets: int = 1_000_000
    handshake_timeout: float = 10.0
    max_head: int = 16_384
    retry_after: tuple[int, int] = (2, 10)
    trusted: TrustedProxies = field(default_factory=TrustedProxies)
    addresses: AddressLimits = field(default_factory=AddressLimits)
    shed_after: float = 1.0

    @property
    def strangers(self) -> int:
        """Sockets for those who are no operators."""
        return self.max_sockets - min(OPERATORS_RESERVE, self.max_sockets // 8)


class PlainProtocol(Protocol):
    """What takes a connection whose first request is no mount's. ``address`` is left at its end."""

    address: Address | None

    def connection_made(self, transport: asyncio.Transport) -> None: ...
    def data_received(self, data: bytes) -> None: ...


class Waiting(Protocol):
    """Something with a deadline: swept by the door.

    ``expendable`` says whether nobody loses anything but time if it gives way to another.
    """

    @property
    def expendable(self) -> bool: ...
    def overdue(self) -> None: ...
    def shed(self) -> None: ...


class Idle(Protocol):
    """A connection between two requests."""

    def shed(self) -> None: ...


_VARIABLE = re.compile(r"\{([a-z_][a-z0-9_]*)(\.\.\.)?\}")


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A path with variables. One that takes all that is left is asked about the path as it came."""

    path: str
    mount: Mount
    expression: re.Pattern[str]
    prefix: bytes
    rest: bool

    @classmethod
    def of(cls, path: str, mount: Mount) -> _Pattern:
        """``/socket/{tenant}/websocket``, whose variable is one non-empty segment; in
        ``/sse/{topic...}`` it is everything, slashes included.
        """
        expression, at, rest = "", 0, False
        for found in _VARIABLE.finditer(path):
            rest = found[2] is not None
            expression += re.escape(path[at : found.start()])
            expression += f"(?P<{found[1]}>.+)" if rest else f"(?P<{found[1]}>[^/]+)"
            at = found.end()
        expression += re.escape(path[at:])
        prefix = path[: path.index("{")].encode()
        return cls(path, mount, re.compile(expression, re.DOTALL), prefix, rest)


def _condensed(path: str) -> str:
    """Without empty segments, as Plug reads a path: ``new Socket("/socket/")`` of phoenix.js asks
    for ``/socket//websocket``.

    >>> _condensed("//socket//websocket/"), _condensed("/socket/websocket"), _condensed("/")
    ('/socket/websocket', '/socket/websocket', '/')
    """
    if "//" not in path and not path.endswith("/"):
        return path
    return "/" + "/".join(part for part in path.split("/") if part)


class Door:
    """The mounts of one port, its bounds and its waiting room.

    ``connections`` is asked for every upgrade and must be quick. ``plain`` makes the protocol for
    other requests. ``on_refusal`` and ``on_error`` count, by reason: what was turned away before
    the upgrade, what a failure of ours ended at it.
    """

    def __init__(
        self,
        mounts: Sequence[Mount],
        options: DoorOptions,
        *,
        connections: Callable[[], int],
        plain: Callable[[], PlainProtocol],
        on_refusal: Callable[[str], None],
        on_error: Callable[[str], None],
    ) -> None:
        self.options = options
        self.connections = connections
        self.plain = plain
        self.on_refusal = on_refusal
        self.on_error = on_error
        self._refusals = RefusalLog()
        self.addresses = Addresses(options.addresses, options.trusted)
        self.idle: OrderedDict[Idle, None] = OrderedDict()  # longest idle first
        self.deciding = 0
        self.shut = False
        self._exact: dict[str, Mount] = {}
        self._patterns: list[_Pattern] = []
        for mount in mounts:
            self._add(mount)
        self._exact_raw = {path.encode(): mount for path, mount in self._exact.items()}
        self._waiting: dict[Waiting, float] = {}
        self._interval = min(1.0, options.handshake_timeout / 4)
        self._sweeper: asyncio.TimerHandle | None = None

    def _add(self, mount: Mount) -> None:
        path = mount.path
        if not path.startswith("/"):
            raise ConfigurationError(f"a mount's path begins with '/', got {path!r}")
        path = _condensed(path)
        known = [*self._exact, *(pattern.path for pattern in self._patterns)]
        if path in known:
            raise ConfigurationError(
                f"two mounts have the path {path!r}; each takes one of its own"
            )
        if "{" in path:
            self._patterns.append(_Pattern.of(path, mount))
        else:
            self._exact[path] = mount

    # -- routing

    def mount_of(self, path: str) -> tuple[Mount, dict[str, str]] | None:
        """The mount of a percent-decoded path and the values of its variables, or None."""
        condensed = _condensed(path)
        mount = self._exact.get(condensed)
        if mount is not None:
            return mount, {}
        for pattern in self._patterns:
            match = pattern.expression.fullmatch(path if pattern.rest else condensed)
            if match is not None:
                return pattern.mount, match.groupdict()
        return None

    def claims(self, head: bytes) -> bool:
        """Whether a head's request line names a mount.

        Looks at one line and parses nothing else.
        """
        words = head[: head.find(b"\r\n")].split(b" ", 2)
        if len(words) < 3:
            return False
        target = words[1]
        if target.partition(b"?")[0] in self._exact_raw:
            return True
        plain = b"%" not in target and b"//" not in target and target.startswith(b"/")
        plain = plain and not target.partition(b"?")[0].endswith(b"/")
        if plain and not any(target.startswith(pattern.prefix) for pattern in self._patterns):
            return False
        try:
            path, _ = split_target(target)
        except HeadError:
            return False
        return self.mount_of(path) is not None

    # -- the waiting room

    def watch(self, one: Waiting) -> None:
        """Gives ``one`` the handshake timeout; :meth:`Waiting.overdue` is called if it is still
        here then.
        """
        self._waiting[one] = time.monotonic() + self.options.handshake_timeout
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._interval, self._sweep)

    def unwatch(self, one: Waiting) -> None:
        """Takes ``one`` out of the waiting room; nothing if it is not in there."""
        self._waiting.pop(one, None)

    @property
    def waiting(self) -> int:
        """Connections whose head has not arrived or is not decided."""
        return len(self._waiting)

    def _sweep(self) -> None:
        now = time.monotonic()
        # Insertion order is deadline order: all have the same timeout.
        overdue = []
        for one, deadline in self._waiting.items():
            if deadline > now:
                break
            overdue.append(one)
        try:
            for one in overdue:
                self._waiting.pop(one, None)
                self._end(one)
        finally:
            # Whatever happens: a sweep that is not the last one.
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(self._interval, self._sweep) if self._waiting else None

    def _end(self, one: Waiting) -> None:
        """One connection's failing end must not keep the others from theirs."""
        try:
            one.overdue()
        except Exception:
            _log.exception("overdue.failed")

    def close(self) -> None:
        """Lets nobody in any more: whoever waits is told to come back, new heads too."""
        self.shut = True
        waiting, self._waiting = list(self._waiting), {}
        for one in waiting:
            self._end(one)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    # -- who comes in

    def sockets(self) -> int:
        """TCP connections of any kind that are open, those in their TLS handshake included."""
        return self.addresses.open

    def admit(self, host: str) -> Address | Refused:
        """Decides about a new connection from ``host`` by its address and by what is open.

        An :class:`Address` is entered, and is to be left when the connection has ended.
        """
        address = self.addresses.of(host)
        over = self.addresses.over(address)
        if over is not None:
            return self._one_too_many(address, over)
        options = self.options
        limit = options.max_sockets if address.operator else options.strangers
        if self.addresses.open >= limit and not self._shed():
            return self.come_back("sockets")
        address.enter()
        return address

    def _one_too_many(self, address: Address, reason: str) -> Refused:
        limits = self.options.addresses
        connections = reason == "address_connections"
        accepted = (
            f"{limits.connections} open connections" if connections else f"{limits.rate} a second"
        )
        hint = {
            "got": address.block,
            "accepted": f"{accepted} of one address; a proxy in front is one address for all behind it",
            "setting": "MODA_TRUSTED_PROXIES, "
            + ("MODA_ADDRESS_CONNECTIONS" if connections else "MODA_ADDRESS_RATE"),
        }
        retry = ("retry-after", str(random.randint(*self.options.retry_after)))  # noqa: S311
        return Refused(429, headers=(retry,), reason=reason, hint=hint)

    def _shed(self) -> bool:
        """Ends one connection nobody would miss. False if there is none."""
        late = time.monotonic() - self.options.shed_after + self.options.handshake_timeout
        for one, deadline in islice(self._waiting.items(), LOOKED_AT):
            if deadline > late:
                break
            if one.expendable:
                del self._waiting[one]
                self.on_refusal("shed")
                one.shed()
                return True
        if not self.idle:
            return False
        idle, _ = self.idle.popitem(last=False)
        self.on_refusal("shed")
        idle.shed()
        return True

    # -- decisions

    def turned_away(self, refused: Refused) -> None:
        """Counts a refusal and tells the log what its answer does not say."""
        self.on_refusal(refused.reason)
        self._refusals.refused(refused)

    def full(self) -> bool:
        """Whether open connections and those being decided reach the cap."""
        return self.connections() + self.deciding >= self.options.max_connections

    def come_back(self, reason: str) -> Refused:
        """503 with a Retry-After of its own for each client."""
        seconds = random.randint(*self.options.retry_after)  # noqa: S311  # spread, not secrecy
        return Refused(503, headers=(("retry-after", str(seconds)),), reason=reason)
