"""Who asks, over HTTP: a middleware that finds out and counts.

A credential comes as ``Authorization: Bearer``, as ``X-API-Key``, or as ``?token=`` / ``?key=`` for
clients that can send no header (an ``EventSource``); in this order, the first that is there counts.
The middleware leaves the principal in ``scope["moda.principal"]``. A credential that is not taken is
401 although a route would let anybody in: its owner believes to be somebody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, cast
from urllib.parse import parse_qsl

from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from moda.access.limits import RateLimiter, Verdict, address_of
from moda.errors import Denied
from moda.principal import ANONYMOUS, Authenticator, Principal

__all__ = ["access_middleware", "credential_of", "principal_of", "unlimited"]

PRINCIPAL: Final = "moda.principal"

unlimited: Final = frozenset({"/health", "/api/v1/health", "/metrics"})
"""Asked by machines at fixed times, which must hear even of an overloaded gateway."""

MAX_PARAMETERS: Final = 100


def credential_of(headers: Iterable[tuple[bytes, bytes]], query: bytes) -> str | None:
    """What a request shows, or None. ``headers`` with names in lower case, ``query`` raw.

    >>> credential_of([(b"authorization", b"bearer abc")], b"token=x")
    'abc'
    >>> credential_of([(b"authorization", b"Basic eA==")], b"a=1&token=x+y")
    'x y'
    """
    shown = {b"authorization": "", b"x-api-key": ""}
    for name, value in headers:
        if name in shown and not shown[name]:
            shown[name] = value.decode("latin-1").strip()
    scheme, _, bearer = shown[b"authorization"].partition(" ")
    if scheme.lower() == "bearer" and bearer.strip():
        return bearer.strip()
    if shown[b"x-api-key"]:
        return shown[b"x-api-key"]
    if b"token=" not in query and b"key=" not in query:
        return None
    try:
        pairs = parse_qsl(query.decode("latin-1"), max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise Denied("malformed", f"a query of over {MAX_PARAMETERS} parameters") from None
    found = dict(reversed(pairs))  # of several the first counts
    return found.get("token") or found.get("key") or None


def principal_of(scope: Mapping[str, Any]) -> Principal:
    """Who makes a request that passed the middleware."""
    return cast(Principal, scope.get(PRINCIPAL, ANONYMOUS))


def access_middleware(
    authenticator: Authenticator,
    limiter: RateLimiter,
    *,
    free: Collection[str] = unlimited,
) -> Callable[[ASGIApp], ASGIApp]:
    """A middleware for Litestar: ``Litestar(..., middleware=[access_middleware(...)])``.

    Paths in ``free`` are neither looked at nor counted. 401 for a credential that is not taken, 503
    with ``Retry-After`` when that could not be decided, 429 over the limit; every answer it counted
    has the ``RateLimit`` fields.
    """

    async def find(scope: Scope, address: str) -> Principal:
        try:
            credential = credential_of(scope["headers"], scope["query_string"])
            if credential is None:
                return ANONYMOUS
            principal = authenticator.authenticate_now(credential)
            return principal or await authenticator.authenticate(credential)
        except Denied as denied:
            # Counted as a stranger's request: guessing is limited as asking is.
            verdict = limiter.check(ANONYMOUS, address)
            if verdict is not None and not verdict.allowed:
                raise _too_many(verdict) from None
            raise refusal(denied) from None

    def middleware(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP or scope["path"] in free:
                await app(scope, receive, send)
                return
            client = scope["client"]
            address = address_of(client[0]) if client else ""
            principal = await find(scope, address)
            verdict = limiter.check(principal, address)
            cast(dict[str, Any], scope)[PRINCIPAL] = principal
            if verdict is None:
                await app(scope, receive, send)
                return
            if not verdict.allowed:
                raise _too_many(verdict)
            fields = [
                (name.lower().encode(), value.encode()) for name, value in verdict.headers().items()
            ]

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], *fields]
                await send(message)

            await app(scope, receive, sending)

        return answer

    return middleware


def refusal(denied: Denied) -> HTTPException:
    """A refusal as Litestar's exception handlers answer it (RFC 6750 section 3 for the challenge)."""
    headers: dict[str, str] = {}
    if denied.status == 401:
        error = "" if denied.reason == "missing" else ', error="invalid_token"'
        headers["WWW-Authenticate"] = f'Bearer realm="moda"{error}'
    if denied.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(denied.retry_after)))
    return HTTPException(
        status_code=denied.status,
        detail=denied.message,
        headers=headers,
        extra={"reason": denied.reason},
    )


def _too_many(verdict: Verdict) -> HTTPException:
    return HTTPException(
        status_code=429,
        detail=f"over {verdict.limit} requests a minute; come back in {verdict.retry_after} s",
        headers=verdict.headers(),
        extra={"reason": "rate limited", "limit": verdict.limit},
    )
