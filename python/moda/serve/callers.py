"""Who may use the HTTP API: whoever shows a key, or without any key configured this machine alone.

Without a key the rule is narrow, because every page a visitor opens can send requests to his own
machine: the connection comes from loopback to loopback, no proxy stands between, and a page may ask
only if it was loaded from this gateway itself. (That the ``Host`` cannot be a stranger's name is
looked at for every request, see :mod:`moda.serve.rebinding`.)

With keys, a request shows one as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``. Public keys may
look, internal and admin keys may publish and disconnect as well. Only digests are kept, and every
digest is compared, in constant time.

Pure.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Any

from moda.rest.model import Problem
from moda.serve.rebinding import is_loopback
from moda.wire.origin import shown_origin

__all__ = ["Callers"]

_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via")
_HOW = "Authorization: Bearer KEY, or X-API-Key: KEY"
_SETTINGS = "INTERNAL_API_KEYS, ADMIN_API_KEYS or PUBLIC_API_KEYS"


class Callers:
    """The rule. ``writers`` may do everything, ``readers`` may look."""

    __slots__ = ("_readers", "_writers")

    def __init__(self, writers: Iterable[str] = (), readers: Iterable[str] = ()) -> None:
        self._writers = tuple(map(_digest, writers))
        self._readers = tuple(map(_digest, readers))

    @property
    def described(self) -> str:
        """The rule in words, for the start's log."""
        if self._writers or self._readers:
            return "with an API key"
        return f"from this machine only, for no key is set ({_SETTINGS})"

    def __call__(self, scope: Mapping[str, Any], writes: bool) -> Problem | None:
        """Why a request is refused, by its head; None lets it in."""
        if self._writers or self._readers:
            return self._by_key(scope, writes)
        return _from_here(scope)

    def _by_key(self, scope: Mapping[str, Any], writes: bool) -> Problem | None:
        challenge = {"www-authenticate": "Bearer"}
        key = _shown_key(scope)
        if key is None:
            return Problem(
                401, "unauthorized", "this wants an API key", accepted=_HOW, headers=challenge
            )
        digest = hashlib.sha256(key).digest()
        writer = _is_among(digest, self._writers)
        reader = _is_among(digest, self._readers)
        if writer or (reader and not writes):
            return None
        if reader:
            return Problem(
                403,
                "forbidden",
                "a public key may look and not publish or disconnect",
                accepted="a key of INTERNAL_API_KEYS or ADMIN_API_KEYS",
            )
        return Problem(
            401, "unauthorized", "no key of this gateway", accepted=_HOW, headers=challenge
        )


def _from_here(scope: Mapping[str, Any]) -> Problem | None:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    proxied = any(name in _FORWARDED for name, _ in headers)
    if proxied or not (is_loopback(scope.get("client")) and is_loopback(scope.get("server"))):
        return Problem(
            403,
            "forbidden",
            "without an API key this answers programs on the same machine only, and none that come "
            f"through a proxy; set {_SETTINGS}",
        )
    host = next((value for name, value in headers if name == b"host"), b"")
    for name, value in headers:
        same = host and value.partition(b"://")[2].lower() == host.lower()
        if name == b"origin" and not same:
            return Problem(
                403,
                "forbidden",
                "a page of another origin may not ask without an API key",
                received=shown_origin(value.decode("latin-1")),
            )
        if name == b"sec-fetch-site" and value not in (b"same-origin", b"none"):
            return Problem(
                403, "forbidden", "a page of another site may not ask without an API key"
            )
    return None


def _shown_key(scope: Mapping[str, Any]) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return bytes(value).strip()
        if name == b"authorization":
            scheme, _, key = bytes(value).partition(b" ")
            if scheme.lower() == b"bearer":
                return key.strip()
    return None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _is_among(digest: bytes, known: tuple[bytes, ...]) -> bool:
    # All of them, whichever matches.
    matches = [hmac.compare_digest(digest, one) for one in known]
    return any(matches)
