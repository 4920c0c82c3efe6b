"""Who holds how many connections: every open socket of the port, counted under its address.

One client must not take what all share, descriptors and the work of arriving. So an address may
hold so many connections and open so many in a second. An IPv6 client owns a /64 at least (RFC 6177)
and counts as one address over all of it.

Three kinds of address are not limited:

- this machine's own: a proxy on it is one address for everybody, and whoever can run a program here
  needs no flood to do harm. Load tests and development run from here, too;
- trusted proxies, for the same reason: behind them the proxy has to limit;
- operators' (``MODA_OPERATORS``), who with this machine's own may use the last sockets.

An entry lives as long as a connection of its address, and until its allowance has come back: the
table is bounded by what is open and by the rate of arrivals.
"""

from __future__ import annotations

import socket
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from moda.serve.proxies import TrustedProxies

__all__ = ["Address", "AddressLimits", "Addresses", "block_of"]

BURST = 5.0
"""Seconds' worth of new connections an address may open at once: after a restart everybody of an
office comes back together."""

_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_MAPPED = b"\0" * 10 + b"\xff\xff"


@dataclass(frozen=True, slots=True)
class AddressLimits:
    """``connections`` open at once and ``rate`` new ones per second, of one address; 0 is no limit.
    ``operators`` are networks that are not limited and may use the reserve.
    """

    connections: int = 2_000
    rate: int = 200
    operators: TrustedProxies = field(default_factory=TrustedProxies)


class Address:
    """One address: how many connections it has open, and how many new ones it may still open."""

    __slots__ = ("_table", "allowance", "block", "limited", "open", "operator", "seen")

    def __init__(
        self, table: Addresses, block: str, limited: bool, operator: bool, allowance: float
    ) -> None:
        self._table = table
        self.block = block
        self.limited = limited
        self.operator = operator
        self.open = 0
        self.allowance = allowance
        self.seen = time.monotonic()

    def enter(self) -> None:
        """One more connection of this address is open."""
        self._table.enter(self)

    def leave(self) -> None:
        """A connection of this address has ended."""
        self._table.leave(self)


def block_of(host: str) -> str:
    """What counts as one address: an IPv4 address, an IPv6 /64. An unreadable text is its own.

    >>> block_of("203.0.113.9"), block_of("::ffff:203.0.113.9"), block_of("2001:db8:0:1:2::3%eth0")
    ('203.0.113.9', '203.0.113.9', '2001:db8:0:1::')
    """
    if ":" not in host:
        return host
    try:
        raw = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return host
    if raw.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    if raw[:15] == b"\0" * 15:
        return socket.inet_ntop(socket.AF_INET6, raw)  # ::1 is not the neighbour of ::2
    return socket.inet_ntop(socket.AF_INET6, raw[:8] + b"\0" * 8)


class Addresses:
    """All open sockets, by address. Nothing here waits or does I/O."""

    def __init__(self, limits: AddressLimits, proxies: TrustedProxies) -> None:
        self.limits = limits
        self.open = 0
        self._proxies = proxies
        self._known: dict[str, Address] = {}
        # Nothing open, in the order in which they became so. A dict taken from at its front walks
        # over all it has lost there, each time.
        self._idle: OrderedDict[str, Address] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, host: str) -> Address:
        """The entry of a peer's address, made if there is none."""
        block = block_of(host)
        address = self._known.get(block)
        if address is None:
            self._forget_idle()
            limited, operator = self._standing(host)
            address = Address(self, block, limited, operator, self.limits.rate * BURST)
            self._known[block] = self._idle[block] = address
        elif not address.open:
            # To the end, or one that comes and comes in vain would keep those behind it in the table.
            self._idle.move_to_end(block)
        return address

    def _standing(self, host: str) -> tuple[bool, bool]:
        """Whether an address is limited, and whether it is an operator's."""
        if self._proxies.trusts(host):
            return False, False
        try:
            peer = ip_address(host.partition("%")[0])
        except ValueError:
            return False, False  # gone before it could be asked, or no internet address
        mapped = getattr(peer, "ipv4_mapped", None) or peer
        operator = any(mapped in network for network in _LOOPBACK)
        operator = operator or self.limits.operators.trusts(str(mapped))
        return not operator, operator

    def over(self, address: Address) -> str | None:
        """Which limit one more connection of this address would break, in a word, or None.

        A None uses up one of its new connections.
        """
        if not address.limited:
            return None
        limits = self.limits
        if limits.connections and address.open >= limits.connections:
            return "address_connections"
        if limits.rate:
            now = time.monotonic()
            grown = address.allowance + (now - address.seen) * limits.rate
            address.seen, address.allowance = now, min(limits.rate * BURST, grown)
            if address.allowance < 1.0:
                return "address_rate"
            address.allowance -= 1.0
        return None

    def enter(self, address: Address) -> None:
        """See :meth:`Address.enter`."""
        self.open += 1
        address.open += 1
        self._known[address.block] = address
        self._idle.pop(address.block, None)

    def leave(self, address: Address) -> None:
        """See :meth:`Address.leave`."""
        self.open -= 1
        address.open -= 1
        if not address.open:
            address.seen, before = time.monotonic(), address.seen
            grown = address.allowance + (address.seen - before) * self.limits.rate
            address.allowance = min(self.limits.rate * BURST, grown)
            self._idle[address.block] = address
        self._forget_idle()

    def _forget_idle(self) -> None:
        """Forgets who has had nothing open for as long as an allowance takes to come back."""
        long_ago = time.monotonic() - BURST
        while self._idle:
            block, address = next(iter(self._idle.items()))
            if address.seen > long_ago:
                return
            del self._idle[block], self._known[block]
