"""Settings that are each allowed and open a door without a sound: said at the start and by ``moda check``.

Warnings all: whoever means it goes on. Each says who gets in and what closes the door. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address

from moda.serve.preflight import Finding
from moda.serve.proxies import TrustedProxies
from moda.wire.origin import OriginRule
from moda.wire.token import TokenMode

__all__ = [
    "check_guessable",
    "check_names",
    "check_origins",
    "check_proxies",
    "check_tokens",
    "is_loopback_host",
]

WIDEST_V4, WIDEST_V6 = 8, 20
"""Prefixes shorter than these, outside of private ranges, hold strangers: no provider of proxies has a
network that large (Cloudflare's widest are /12 and /29)."""

SHORTEST_TOKEN = 16
"""Characters; a token of fewer can be guessed in the time a socket may be asked for."""


def is_loopback_host(host: str) -> bool:
    """Whether HOST listens on this machine alone.

    >>> [is_loopback_host(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.com")]
    [True, True, True, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_proxies(trusted: TrustedProxies) -> Finding:
    """Whether those believed about who the client is are few enough to be proxies."""
    wide = _wide(trusted.networks)
    if not wide:
        count = len(trusted.networks)
        said = f"{count} trusted" if count else "none trusted: X-Forwarded-For is not read"
        return Finding("proxies", "ok", said)
    named = ", ".join(map(str, wide[:4])) + (", ..." if len(wide) > 4 else "")
    return Finding(
        "proxies",
        "warning",
        f"MODA_TRUSTED_PROXIES trusts {named}: whoever connects from there writes in "
        "X-Forwarded-For which address it has and in X-Forwarded-Proto that it came by TLS, and "
        "connect hooks, limits by address and logs believe it",
        "MODA_TRUSTED_PROXIES takes the addresses of your own proxies, such as 10.0.0.5,10.0.0.6",
    )


def _wide(networks: Iterable[IPv4Network | IPv6Network]) -> list[IPv4Network | IPv6Network]:
    """Networks that hold strangers; halves of one count together."""
    v4 = collapse_addresses(one for one in networks if isinstance(one, IPv4Network))
    v6 = collapse_addresses(one for one in networks if isinstance(one, IPv6Network))
    return [
        *(one for one in v4 if one.prefixlen < WIDEST_V4 and not one.is_private),
        *(one for one in v6 if (one.prefixlen < WIDEST_V6 and not one.is_private) or _maps(one)),
    ]


def _maps(network: IPv6Network) -> bool:
    """Whether an IPv6 network holds so many IPv4 addresses, as ::ffff:0:0/96 does."""
    mapped = network.network_address.ipv4_mapped
    return mapped is not None and network.prefixlen < 96 + WIDEST_V4


def check_origins(rule: OriginRule, auth: TokenMode, loopback: bool) -> Finding:
    """Whether any page may act for its visitor. A token that is required is none a stranger's page
    has.
    """
    if not rule.checked and auth != "required":
        users = "user of this machine" if loopback else "of your users"
        where = f"every page on the Internet that {'a ' if loopback else 'one '}{users} opens"
        return Finding(
            "origins",
            "warning",
            f"MODA_ORIGINS=any with MODA_SOCKET_AUTH={auth}: {where} may connect through that "
            "browser, with its cookies and its place in the network, and join what it likes",
            "MODA_ORIGINS=same, or the origins of your pages; or MODA_SOCKET_AUTH=required",
        )
    broad = [str(one) for one in rule.allowed if one.below and "." not in one.host]
    if broad and auth != "required":
        return Finding(
            "origins",
            "warning",
            f"MODA_ORIGINS takes {', '.join(broad)}: names below a top-level domain are anybody's",
            "MODA_ORIGINS=https://*.example.com, with a domain of your own",
        )
    return Finding("origins", "ok", rule.described())


def check_names(
    rule: OriginRule, loopback: bool, hosts: Sequence[str], trusted: TrustedProxies
) -> Finding:
    """Whether "same" knows the names clients use, so that it need not believe the Host header."""
    if hosts or not rule.checked or not rule.same_host:
        return Finding("names", "ok", ", ".join(hosts) or "MODA_ORIGINS names the pages itself")
    fix = "MODA_PUBLIC_URL=https://moda.example.com, or PHX_HOST for the name alone"
    if not loopback:
        return Finding(
            "names",
            "warning",
            "MODA_ORIGINS=same without a public name: a page is taken for this gateway's own if it "
            "comes from the host its request names, and a page may bind its name to this machine "
            "(DNS rebinding)",
            fix,
        )
    if trusted.networks:
        return Finding(
            "names",
            "warning",
            "MODA_TRUSTED_PROXIES says that a proxy stands in front, and no setting says under which "
            "name: on a loopback address its pages are refused (403, 421)",
            fix,
        )
    return Finding("names", "ok", "localhost and IP addresses, on a loopback address")


def check_tokens(auth: TokenMode, tokens: Sequence[str]) -> Finding:
    """Whether the tokens keep anybody out. None is repeated."""
    if auth == "off" and tokens:
        return Finding(
            "tokens",
            "warning",
            "MODA_SOCKET_TOKENS is set and MODA_SOCKET_AUTH=off: nobody is asked for one",
            "MODA_SOCKET_AUTH=required (or optional), or unset MODA_SOCKET_TOKENS",
        )
    guessable = check_guessable("tokens", "MODA_SOCKET_TOKENS", tokens)
    return guessable or Finding("tokens", "ok", f"MODA_SOCKET_AUTH={auth}, {len(tokens)} tokens")


def check_guessable(name: str, what: str, secrets: Sequence[str]) -> Finding | None:
    """The finding ``name`` when some of these secrets, which are ``what``, are too short. None is
    repeated.
    """
    short = sum(1 for secret in secrets if len(secret) < SHORTEST_TOKEN)
    if not short:
        return None
    return Finding(
        name,
        "warning",
        f"{short} of {len(secrets)} {what} have fewer than {SHORTEST_TOKEN} characters: they can "
        "be guessed",
        "openssl rand -hex 32 makes one that cannot",
    )
