"""Who may use the HTTP API: whoever showed a credential with the scope for it, or where no credential
is configured this machine alone.

Who a request is has been found out before (``moda.access.http``), and a wrong credential refused.
Without any the rule is narrow, because every page a visitor opens can send requests to his own
machine: the connection comes from loopback to loopback, no proxy stands between, and a page may ask
only if it was loaded from this gateway itself. (That the ``Host`` cannot be a stranger's name is
looked at for every request, see :mod:`moda.serve.rebinding`.)

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moda.principal import ANONYMOUS, Principal
from moda.rest.model import Problem
from moda.rest.routes import Need
from moda.serve.rebinding import is_loopback
from moda.wire.origin import shown_origin

__all__ = ["Callers"]

_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via")
_HOW = "Authorization: Bearer KEY, or X-API-Key: KEY"
_SETTINGS = "INTERNAL_API_KEYS or ADMIN_API_KEYS, or make one with `moda key add`"


class Callers:
    """The rule. ``locked`` wants a credential of every request: keys or tokens are configured."""

    __slots__ = ("_locked",)

    def __init__(self, *, locked: bool) -> None:
        self._locked = locked

    @property
    def described(self) -> str:
        """The rule in words, for the start's log."""
        if self._locked:
            return "with an API key or token"
        return f"without a key from this machine only (set {_SETTINGS})"

    def __call__(self, scope: Mapping[str, Any], need: Need) -> Problem | None:
        """Why a request is refused, by its head and by whose it is; None lets it in."""
        principal: Principal = scope.get("moda.principal", ANONYMOUS)
        if principal.kind != "anonymous":
            return None if may(principal, need) else _lacks(need)
        if self._locked:
            return Problem(
                401,
                "unauthorized",
                "this wants a credential",
                accepted=_HOW,
                headers={"www-authenticate": 'Bearer realm="moda"'},
            )
        return _from_here(scope)


def may(principal: Principal, need: Need) -> bool:
    """Whether somebody may ask for this at all; which topics is asked per topic.

    The scopes of a JSON Web Token are its issuer's words, not ours: it may what its rules name.
    """
    if principal.kind == "jwt":
        rules = {"read": principal.rules.subscribe, "publish": principal.rules.publish}
        return rules.get(need) is not None
    return principal.has(need)


def _lacks(need: Need) -> Problem:
    return Problem(
        403, "forbidden", f"this credential has not the scope {need}", accepted=[need, "admin"]
    )


def _from_here(scope: Mapping[str, Any]) -> Problem | None:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    proxied = any(name in _FORWARDED for name, _ in headers)
    if proxied or not (is_loopback(scope.get("client")) and is_loopback(scope.get("server"))):
        return Problem(
            403,
            "forbidden",
            "without a key this answers programs on the same machine only, and none that come "
            f"through a proxy; set {_SETTINGS}",
        )
    host = next((value for name, value in headers if name == b"host"), b"")
    for name, value in headers:
        same = host and value.partition(b"://")[2].lower() == host.lower()
        if name == b"origin" and not same:
            return Problem(
                403,
                "forbidden",
                "a page of another origin may not ask without a key",
                received=shown_origin(value.decode("latin-1")),
            )
        if name == b"sec-fetch-site" and value not in (b"same-origin", b"none"):
            return Problem(403, "forbidden", "a page of another site may not ask without a key")
    return None
