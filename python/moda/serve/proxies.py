"""Who the client is behind a proxy: believed only from addresses the operator named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from moda.errors import ConfigurationError

__all__ = ["TrustedProxies"]


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The networks whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are taken for true."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> TrustedProxies:
        """Addresses or networks (``10.0.0.0/8``). ConfigurationError names a bad one."""
        networks = []
        for entry in entries:
            try:
                networks.append(ip_network(entry.strip(), strict=False))
            except ValueError:
                raise ConfigurationError(
                    f"a trusted proxy is an address or a network such as 10.0.0.0/8, got {entry!r}"
                ) from None
        return cls(tuple(networks))

    def trusts(self, host: str) -> bool:
        """Whether an address lies in one of the networks; False for what is no address."""
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(
            address.version == network.version and address in network for network in self.networks
        )

    def seen_through(
        self,
        client: tuple[str, int] | None,
        secure: bool,
        headers: Sequence[tuple[bytes, bytes]],
    ) -> tuple[tuple[str, int] | None, bool]:
        """The client and the security of its side: as connected, or as a trusted peer forwarded
        them.

        Of several forwarded addresses the nearest that is no trusted proxy counts: whatever stands
        left of it was written by a stranger. Its port is unknown and given as 0.
        """
        if not self.networks or client is None or not self.trusts(client[0]):
            return client, secure
        forwarded: list[str] = []
        for name, value in headers:
            if name == b"x-forwarded-for":
                forwarded.extend(part.strip() for part in value.decode("latin-1").split(","))
            elif name == b"x-forwarded-proto":
                secure = value.strip().lower() in (b"https", b"wss")
        for host in reversed(forwarded):
            if not self.trusts(host):
                return (host, 0), secure
        return client, secure
