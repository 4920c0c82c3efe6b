"""What the claims of a verified token say: when it holds, for whom, and who its bearer is.

RFC 7519 section 4.1 for the registered claims. Judged here and not by the JWT library, so that the
clock is the caller's, so that a number no calendar holds (1e400) is a refusal like any other, and so
that the end that is checked is the end an open connection is closed at.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final

from moda.errors import Denied
from moda.principal import Principal, Rules

__all__ = ["MAX_SUBJECT", "judge"]

MAX_SUBJECT: Final = 255
"""Characters of a subject (OpenID Connect Core section 2)."""

MAX_SCOPES: Final = 256
MAX_ISSUER_SHOWN: Final = 200


def judge(
    claims: Mapping[str, Any],
    *,
    now: float,
    leeway: float,
    issuer: str | None,
    audience: Collection[str],
) -> Principal:
    """The bearer of a token whose signature is right. Denied says which claim is wrong and how.

    ``now`` in seconds since 1970; ``leeway`` seconds that clocks may differ by. ``issuer`` None and
    an empty ``audience`` are not looked at. The principal's end is ``exp`` and the leeway.

    >>> judge({"sub": "ann", "exp": 100}, now=90, leeway=5, issuer=None, audience=()).expires_at
    105.0
    """
    if "exp" not in claims:
        raise Denied("claims", "the token has no end; accepted: one with the claim exp")
    ends = _time(claims, "exp") + leeway
    if ends <= now:
        raise Denied("expired", "the token has ended (exp)")
    for name in ("nbf", "iat"):
        if name in claims and _time(claims, name) > now + leeway:
            raise Denied("early", f"the token does not hold yet ({name})")
    if issuer is not None and claims.get("iss") != issuer:
        raise Denied("issuer", f"the token is of another issuer; accepted: {issuer}")
    if audience:
        _check_audience(claims.get("aud"), audience)
    subject = claims.get("sub", "")
    if not isinstance(subject, str) or len(subject) > MAX_SUBJECT:
        raise Denied("claims", f"the claim sub is no text of up to {MAX_SUBJECT} characters")
    try:
        rules = Rules.from_claims(claims)
    except ValueError as error:
        raise Denied("claims", str(error)) from None
    return Principal(
        subject, "jwt", _scopes(claims), rules, ends, claims=MappingProxyType(dict(claims))
    )


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Denied("claims", f"the claim {name} is no number of seconds since 1970")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise Denied("claims", f"the claim {name} is no time")
    return seconds


def _check_audience(value: Any, accepted: Collection[str]) -> None:
    named = [value] if isinstance(value, str) else value
    if not isinstance(named, list) or not any(
        isinstance(one, str) and one in accepted for one in named
    ):
        raise Denied(
            "audience",
            f"the token is for somebody else; accepted as aud: {', '.join(sorted(accepted))}",
        )


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """``scope`` as RFC 8693 section 4.2 has it (words with blanks between), or ``scp`` / ``scopes``
    as a list, which some issuers write.
    """
    value = claims.get("scope", claims.get("scp", claims.get("scopes", "")))
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise Denied("claims", "the claim scope is neither words with blanks between nor a list")
    if len(words) > MAX_SCOPES:
        raise Denied("claims", f"the token has over {MAX_SCOPES} scopes")
    return frozenset(words)
