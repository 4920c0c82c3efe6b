"""Which names a request may call this gateway by, where a stranger's page could make some up.

A page rebinds its name to 127.0.0.1 and reads what a gateway there tells everybody on the machine:
metrics, documents, the API. To the browser that is the page's own server, so it sends no Origin; the
``Host`` header alone gives it away. The rule for sockets is :mod:`moda.wire.origin`'s; here is the one
for moda's own pages on a loopback address, which nobody reaches under a name of the public DNS but
through a proxy, whose name the operator can state.

A name without a dot is let in as well: no public DNS answers for one, and proxies send the name of
their upstream block.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Any

from moda.wire.origin import as_browsers_write, cannot_be_rebound, host_name

__all__ = ["OwnNames", "is_loopback"]


def is_loopback(address: Any) -> bool:
    """Whether a socket address, as ``getsockname`` gives it, is a loopback one.

    >>> is_loopback(("127.0.0.1", 4001)), is_loopback(("::1", 4001, 0, 0)), is_loopback(None)
    (True, True, False)
    """
    if not isinstance(address, tuple | list) or not address:
        return False
    try:
        found = ip_address(str(address[0]))
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (mapped or found).is_loopback


class OwnNames:
    """The names of one gateway: ``public`` ones and those nobody can rebind."""

    __slots__ = ("_public",)

    def __init__(self, public: Iterable[str] = ()) -> None:
        self._public = frozenset(map(as_browsers_write, public))

    def is_foreign(self, server: Any, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Whether a request that arrived at ``server`` calls this gateway by a name that may be a
        stranger's. A request without ``Host`` is no browser's.
        """
        for name, value in headers:
            if name == b"host":
                host = host_name(value.decode("latin-1"))
                break
        else:
            return False
        if host is not None and (host in self._public or cannot_be_rebound(host)):
            return False
        return (host is None or "." in host) and is_loopback(server)
