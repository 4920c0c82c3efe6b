"""How many requests somebody may make: token buckets, one number each, in bounded memory.

A bucket holds a minute's worth and fills evenly (GCRA: what is kept is the time at which it is full
again). So a client may use its minute at once and then goes on at the even rate; there is no edge of
a window at which twice as much passes.

A full bucket says nothing and is dropped. When :data:`MAX_BUCKETS` are in use, newcomers share one:
to invent addresses then brings no request more, and takes none from those who have a bucket.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

from moda.principal import Principal

__all__ = ["RateLimiter", "Tiers", "Verdict", "address_of"]

WINDOW: Final = 60.0
MAX_BUCKETS: Final = 100_000
"""About 15 MB."""

SWEPT: Final = 16
"""Buckets looked at for each new one: more than are added, so that full ones do not pile up."""

_SHARED = "everybody else"


@dataclass(frozen=True, slots=True)
class Tiers:
    """Requests per minute; the contract of the price API says who is in which.

    ``public_free`` is also what an address without a key may, and a bearer of a token.
    """

    internal: int = 5000
    public_free: int = 1000
    public_paid: int = 10_000

    def of(self, principal: Principal) -> tuple[str, int] | None:
        """The tier's name and its requests per minute; None is without limit (administrators).

        >>> Tiers().of(Principal("k", "key", frozenset({"read", "paid"}), key_kind="public"))
        ('paid', 10000)
        """
        if principal.kind == "key":
            if principal.key_kind == "admin" or "admin" in principal.scopes:
                return None
            if principal.key_kind == "internal":
                return "internal", self.internal
            if "paid" in principal.scopes:
                return "paid", self.public_paid
        return "free", self.public_free


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request passes, and what the client is told. Times in whole seconds, rounded up."""

    allowed: bool
    tier: str
    limit: int
    remaining: int
    reset: int
    retry_after: int

    def headers(self) -> dict[str, str]:
        """``RateLimit-Policy`` and ``RateLimit`` of draft-ietf-httpapi-ratelimit-headers-10, the
        three fields of its revisions up to 06, which more clients read, and ``Retry-After``.

        >>> Verdict(True, "free", 60, 59, 1, 0).headers()["RateLimit"]
        '"free";r=59;t=1'
        """
        fields = {
            "RateLimit-Policy": f'"{self.tier}";q={self.limit};w={WINDOW:.0f}',
            "RateLimit": f'"{self.tier}";r={self.remaining};t={self.reset}',
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset),
        }
        if not self.allowed:
            fields["Retry-After"] = str(self.retry_after)
        return fields


class RateLimiter:
    """Buckets by subject. ``clock`` in seconds, never going back."""

    def __init__(
        self,
        tiers: Tiers | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        most: int = MAX_BUCKETS,
    ) -> None:
        self.tiers = tiers or Tiers()
        self.refused = 0
        self._clock = clock
        self._most = most
        self._full_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def check(self, principal: Principal, address: str) -> Verdict | None:
        """Takes one request out of the principal's bucket, or the address's if it is nobody. None:
        there is no limit.
        """
        tier = self.tiers.of(principal)
        if tier is None:
            return None
        named = principal.kind != "anonymous" and principal.id
        subject = f"{principal.kind}:{principal.id}" if named else f"address:{address}"
        return self.take(subject, *tier)

    def take(self, subject: str, tier: str, limit: int) -> Verdict:
        """Takes one out of a bucket of ``limit`` a minute."""
        now, interval = self._clock(), WINDOW / limit
        subject = self._admitted(subject, now)
        full_at = max(self._full_at.get(subject, now), now)
        wait = full_at + interval - now - WINDOW
        allowed = wait <= 1e-9
        if allowed:
            full_at += interval
            self._full_at[subject] = full_at
        else:
            self.refused += 1
        remaining = max(0, math.floor((WINDOW - (full_at - now)) / interval + 1e-6))
        return Verdict(
            allowed,
            tier,
            limit,
            remaining,
            math.ceil(full_at - now - 1e-9),
            0 if allowed else max(1, math.ceil(wait - 1e-9)),
        )

    def _admitted(self, subject: str, now: float) -> str:
        """The bucket of a subject, or the shared one when there is no room for another."""
        if subject in self._full_at:
            return subject
        for _ in range(min(SWEPT, len(self._full_at))):
            oldest = next(iter(self._full_at))
            full_at = self._full_at.pop(oldest)
            if full_at > now:
                self._full_at[oldest] = full_at  # to the end: looked at again after all others
        return subject if len(self._full_at) < self._most else _SHARED

    def counters(self) -> Mapping[str, float]:
        """For the metrics."""
        return {"rate_limited": self.refused, "rate_limit_buckets": len(self._full_at)}


def address_of(host: str) -> str:
    """Who counts as one address: an IPv4 address; of IPv6 the /64 that one customer is given.

    >>> address_of("2001:db8:1:2:3:4:5:6"), address_of("192.0.2.7"), address_of("::ffff:192.0.2.7")
    ('2001:db8:1:2::/64', '192.0.2.7', '192.0.2.7')
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"
