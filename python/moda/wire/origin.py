"""Which pages may open a WebSocket here.

A browser lets any page connect anywhere and sends cookies along; the ``Origin`` header is the only
thing that tells a visitor's own page from a stranger's. A client without the header is no browser
page and is always let in. Rules of the check: wire notes 2.1.

A page may lie about where it is from by DNS: evil.example is loaded from its own server, then its
name is bound anew, to 127.0.0.1 or to a machine of the visitor's network. Its ``Origin`` and the
``Host`` of its requests then agree, and prove nothing. Names nobody can rebind are ``localhost``
(RFC 6761 section 6.3) and IP addresses; of other names only the operator knows which are this
gateway's. So that a request's own ``Host`` is believed takes two things: no public name is
configured, and the connection did not arrive on a loopback address, where every other name is odd.

Pure: strings in, a boolean out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address

from moda.errors import ConfigurationError

__all__ = [
    "ANY_ORIGIN",
    "SAME_HOST",
    "AllowedOrigin",
    "OriginRule",
    "as_browsers_write",
    "cannot_be_rebound",
    "host_name",
    "shown_host",
    "shown_origin",
]

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

# A serialized origin is scheme://host[:port] and nothing else: no path, no user. `null` and
# `file://` (an opaque origin, an empty host) do not match and are refused wherever a check is on.
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.\-]*)://(?P<host>\[[0-9a-f:.]+\]|[^\s/:@?#\[\]]+)(?::(?P<port>[0-9]{1,5}))?",
    re.IGNORECASE,
)
_ALLOWED = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.\-]*):)?//(?P<host>\[[0-9a-f:.]+\]|(?:\*\.)?[^\s/:@?#*\[\]]+)(?::(?P<port>[0-9]{1,5}))?",
    re.IGNORECASE,
)
_HOST_HEADER = re.compile(
    r"(?P<host>\[[0-9a-f:.]+\]|[^\s/:@?#\[\]]+)(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE
)

LONGEST_SHOWN = 100
"""Characters of a host name that a log repeats."""

# What a log may repeat of a header: a dotted name in lower case, as browsers send it, whose last
# label is letters. No random token and no web token is of that form.
_PUBLIC_NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}")


def host_name(host_header: str | None) -> str | None:
    """The host of a ``Host`` header in lower case, without its port; None if it names none.

    >>> host_name("LocalHost:4001"), host_name("[::1]:4001"), host_name("a/b"), host_name(None)
    ('localhost', '[::1]', None, None)
    """
    match = _HOST_HEADER.fullmatch(host_header or "")
    return match["host"].lower() if match else None


def as_browsers_write(host: str) -> str:
    """A configured host in the form of a header: lower case, in ASCII (RFC 3490).

    >>> as_browsers_write("Bücher.Example"), as_browsers_write("[::1]")
    ('xn--bcher-kva.example', '[::1]')
    """
    if host.isascii():
        return host.lower()
    try:
        return host.lower().encode("idna").decode()
    except UnicodeError:
        return host.lower()


def cannot_be_rebound(host: str) -> bool:
    """Whether no DNS answer can make this host another machine: ``localhost`` and what is below it
    (RFC 6761 section 6.3), and IP addresses, an IPv6 one in brackets.

    >>> [cannot_be_rebound(host) for host in ("localhost", "127.0.0.1", "[::1]", "localhost.example")]
    [True, True, True, False]
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        return False
    return (address.version == 6) is bracketed


def shown_host(host: str) -> str:
    """A host that a client named, as far as a log may repeat it: a client can write anything there.

    >>> shown_host("app.example.com"), shown_host("s3cr3t-t0ken")
    ('app.example.com', 'a host name of 12 characters that is not shown')
    """
    public = len(host) <= LONGEST_SHOWN and _PUBLIC_NAME.fullmatch(host) is not None
    if public or cannot_be_rebound(host):
        return host[:LONGEST_SHOWN]
    return f"a host name of {len(host)} characters that is not shown"


def shown_origin(origin: str) -> str:
    """An ``Origin`` as far as a log may repeat it: its host.

    >>> shown_origin("https://app.example.com"), shown_origin("null"), shown_origin("Bearer abc")
    ('a page of app.example.com', 'null', 'an Origin of 10 characters that is none')
    """
    if origin == "null":
        return origin
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return f"an Origin of {len(origin)} characters that is none"
    return f"a page of {shown_host(match['host'])}"


@dataclass(frozen=True, slots=True)
class AllowedOrigin:
    """One entry of an allow list: ``scheme://host:port``, each part but the host optional.

    ``//example.com`` takes any scheme and port; ``https://example.com`` implies port 443;
    ``*.example.com`` is example.com and everything below it.
    """

    host: str
    scheme: str | None = None
    port: int | None = None
    below: bool = False

    @classmethod
    def parse(cls, text: str) -> AllowedOrigin:
        """Reads one entry. ConfigurationError if it is not of the form above.

        >>> AllowedOrigin.parse("https://*.example.com")
        AllowedOrigin(host='example.com', scheme='https', port=443, below=True)
        """
        match = _ALLOWED.fullmatch(text.strip())
        if match is None or int(match["port"] or 0) > 65535:
            raise ConfigurationError(
                "an allowed origin is scheme://host[:port], //host[:port] or either with *. before "
                f"the host, got {text!r}"
            )
        host, scheme = match["host"].lower(), match["scheme"]
        scheme = scheme.lower() if scheme else None
        port = int(match["port"]) if match["port"] else DEFAULT_PORTS.get(scheme or "")
        below = host.startswith("*.")
        return cls(as_browsers_write(host[2:] if below else host), scheme, port, below)

    def __str__(self) -> str:
        scheme = f"{self.scheme}:" if self.scheme else ""
        port = f":{self.port}" if self.port is not None else ""
        return f"{scheme}//{'*.' if self.below else ''}{self.host}{port}"

    def matches(self, scheme: str, host: str, port: int | None) -> bool:
        """Whether a page's origin, all in lower case and its port filled in, is this one or below it."""
        if self.scheme is not None and self.scheme != scheme:
            return False
        if self.port is not None and self.port != port:
            return False
        return host == self.host or (self.below and host.endswith("." + self.host))


@dataclass(frozen=True, slots=True)
class OriginRule:
    """The check of one mount.

    ``checked`` False lets everybody in. ``same_host`` lets in an origin whose host is this gateway's
    own, whatever its port: a development server on another port of the same machine, or a proxy that
    listens elsewhere, is the same site to a visitor. Its own are ``hosts``, the public names as
    configured; the host of the Host header if that cannot be rebound; and without ``hosts`` any host
    of that header, but on loopback (see the head of this file). ``allowed`` lets in what it lists.
    """

    checked: bool = True
    same_host: bool = True
    allowed: tuple[AllowedOrigin, ...] = ()
    hosts: tuple[str, ...] = ()

    @classmethod
    def parse(cls, entries: str | Iterable[str]) -> OriginRule:
        """Reads a setting: ``same`` (default), ``any``, or a list (also comma separated) of
        origins.

        ``same`` may stand in the list beside others. ConfigurationError names a bad entry.

        >>> OriginRule.parse("any").checked
        False
        >>> OriginRule.parse("same, https://example.com").same_host
        True
        """
        parts = entries.split(",") if isinstance(entries, str) else list(entries)
        words = [part.strip() for part in parts if part.strip()]
        if not words:
            raise ConfigurationError(
                "the origin rule is empty; it takes same, any, or a list of origins"
            )
        if "any" in words:
            if len(words) > 1:
                raise ConfigurationError(
                    f"the origin rule 'any' stands alone, got {', '.join(words)!r}"
                )
            return ANY_ORIGIN
        allowed = tuple(AllowedOrigin.parse(word) for word in words if word != "same")
        return cls(checked=True, same_host="same" in words, allowed=allowed)

    def with_hosts(self, hosts: Iterable[str]) -> OriginRule:
        """The same rule for a gateway that clients know as ``hosts``, whatever Host a proxy sends."""
        if not self.checked or not self.same_host:
            return self
        known = dict.fromkeys((*self.hosts, *map(as_browsers_write, hosts)))
        return replace(self, hosts=tuple(known))

    @property
    def believes_host(self) -> bool:
        """Whether any host of the Host header is this gateway's own: elsewhere than on loopback."""
        return self.checked and self.same_host and not self.hosts

    def described(self) -> str:
        """The rule in words, for an operator.

        >>> OriginRule.parse("same,https://app.example").with_hosts(["moda.example"]).described()
        'same, https://app.example:443'
        """
        same = ("same",) if self.same_host else ()
        return ", ".join((*same, *map(str, self.allowed))) if self.checked else "any"

    def accepted(self, host_header: str | None, loopback: bool = False) -> str:
        """Whose pages get in, in words, for a request with this ``Host``.

        >>> OriginRule.parse("same, https://*.example.com").accepted("10.0.0.7:4001")
        'pages of 10.0.0.7 (the Host header), https://*.example.com:443'
        """
        if not self.checked:
            return "any"
        words = [str(one) for one in self.allowed]
        if self.same_host:
            words[:0] = [f"pages of {host}" for host in self.hosts]
            named = host_name(host_header)
            if named is None:
                words.insert(0, "pages of the Host header, which names none")
            elif cannot_be_rebound(named) or (self.believes_host and not loopback):
                words.insert(0, f"pages of {shown_host(named)} (the Host header)")
            else:
                words.insert(0, "pages of localhost and of IP addresses")
        return ", ".join(words)

    def admits(self, origin: str | None, host_header: str | None, loopback: bool = False) -> bool:
        """Whether a request with this ``Origin`` (None: absent) and this ``Host`` may connect.

        ``loopback`` says whether it arrived on a loopback address of this machine.
        """
        if origin is None or not self.checked:
            return True
        match = _ORIGIN.fullmatch(origin)
        if match is None:
            return False
        scheme, host = match["scheme"].lower(), match["host"].lower()
        if self.same_host and self._is_own(host, host_header, loopback):
            return True
        port = int(match["port"]) if match["port"] else DEFAULT_PORTS.get(scheme)
        return any(entry.matches(scheme, host, port) for entry in self.allowed)

    def _is_own(self, host: str, host_header: str | None, loopback: bool) -> bool:
        if host in self.hosts:
            return True
        if host_name(host_header) != host:
            return False
        return cannot_be_rebound(host) or (self.believes_host and not loopback)


SAME_HOST = OriginRule()
ANY_ORIGIN = OriginRule(checked=False, same_host=False)
