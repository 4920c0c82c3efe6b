"""Which pages may open a WebSocket here.

A browser lets any page connect anywhere and sends cookies along; the ``Origin`` header is the only
thing that tells a visitor's own page from a stranger's. A client without the header is no browser
page and is always let in. Rules of the check: wire notes 2.1.

Pure: strings in, a boolean out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from moda.errors import ConfigurationError

__all__ = ["ANY_ORIGIN", "SAME_HOST", "AllowedOrigin", "OriginRule"]

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
        return cls(host[2:] if below else host, scheme, port, below)

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

    ``checked`` False lets everybody in. ``same_host`` lets in an origin whose host is that of the
    Host header, whatever its port: a development server on another port of the same machine, or a
    proxy that listens elsewhere, is the same site to a visitor. ``allowed`` lets in what it lists.
    """

    checked: bool = True
    same_host: bool = True
    allowed: tuple[AllowedOrigin, ...] = ()

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
        """The same rule that also takes pages of ``hosts``: the public names, when a proxy rewrites
        Host.
        """
        if not self.checked or not self.same_host:
            return self
        added = (AllowedOrigin(host.lower()) for host in hosts)
        return OriginRule(True, True, (*self.allowed, *added))

    def accepted(self, host_header: str | None) -> str:
        """Whose pages get in, in words, for a request with this ``Host``.

        >>> OriginRule.parse("same, https://*.example.com").accepted("moda.internal:4001")
        'pages of moda.internal (the Host header), https://*.example.com:443'
        """
        words = [str(one) for one in self.allowed]
        if self.same_host:
            match = _HOST_HEADER.fullmatch(host_header or "")
            host = match["host"][:100] if match else "the Host header, which names none"
            words.insert(0, f"pages of {host} (the Host header)" if match else f"pages of {host}")
        return ", ".join(words) if self.checked else "any"

    def admits(self, origin: str | None, host_header: str | None) -> bool:
        """Whether a request with this ``Origin`` (None: absent) and this ``Host`` may connect."""
        if origin is None or not self.checked:
            return True
        match = _ORIGIN.fullmatch(origin)
        if match is None:
            return False
        scheme, host = match["scheme"].lower(), match["host"].lower()
        port = int(match["port"]) if match["port"] else DEFAULT_PORTS.get(scheme)
        if self.same_host and host_header is not None:
            own = _HOST_HEADER.fullmatch(host_header)
            if own is not None and own["host"].lower() == host:
                return True
        return any(entry.matches(scheme, host, port) for entry in self.allowed)


SAME_HOST = OriginRule()
ANY_ORIGIN = OriginRule(checked=False, same_host=False)
