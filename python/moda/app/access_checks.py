"""What ``moda check`` and the start say about keys and tokens."""

from __future__ import annotations

from moda.access.jwks import KeySource
from moda.app.settings import Settings
from moda.errors import ConfigurationError
from moda.serve.exposure import check_guessable
from moda.serve.preflight import Finding

__all__ = ["check_access"]


def check_access(settings: Settings) -> list[Finding]:
    """Whether keys keep anybody out, and whether tokens can be verified. No secret is repeated."""
    findings = [_check_keys(settings)]
    takes_any = settings.socket_tokens or settings.jwt_options().configured or _keys(settings)
    if settings.socket_auth == "required" and not takes_any:
        findings.append(
            Finding(
                "access",
                "warning",
                "MODA_SOCKET_AUTH=required without MODA_SOCKET_TOKENS, MODA_JWT_SECRET, MODA_JWT_JWKS "
                "or API keys in the environment: only keys that moda key add made can connect",
                "moda key add makes one",
            )
        )
    if settings.jwt_options().configured:
        findings.append(_check_tokens(settings))
    return findings


def _keys(settings: Settings) -> tuple[str, ...]:
    return (*settings.internal_api_keys, *settings.public_api_keys, *settings.admin_api_keys)


def _check_keys(settings: Settings) -> Finding:
    keys = _keys(settings)
    guessable = check_guessable("keys", "API keys of the environment", keys)
    return guessable or Finding("keys", "ok", f"{len(keys)} API keys in the environment")


def _check_tokens(settings: Settings) -> Finding:
    place = settings.jwt_jwks
    if place is not None:
        try:
            source = KeySource(place)
            if not source.remote:
                # A URL is not asked here: an issuer that is away is waited for, and its tokens are
                # answered 503 until it is there.
                source.check()
        except ConfigurationError as error:
            return Finding(
                "jwt",
                "fatal",
                str(error),
                "MODA_JWT_JWKS takes the issuer's key set (RFC 7517): a file, or its https:// URL",
            )
    if settings.socket_auth == "off":
        return Finding(
            "jwt",
            "warning",
            "MODA_JWT_* are set and MODA_SOCKET_AUTH=off: no socket looks at a token",
            "MODA_SOCKET_AUTH=required (or optional)",
        )
    if settings.jwt_issuer is None and settings.jwt_jwks is not None:
        return Finding(
            "jwt",
            "warning",
            "MODA_JWT_JWKS without MODA_JWT_ISSUER: a token that the same keys signed for another "
            "service is taken here",
            "MODA_JWT_ISSUER and MODA_JWT_AUDIENCE, as the issuer writes them into iss and aud",
        )
    return Finding("jwt", "ok", f"taken: {', '.join(settings.jwt_algorithms)}")
