"""Who may: API keys, JSON Web Tokens, tokens of the environment, and limits over HTTP.

Pure parts: the form of a key (``keys``), what a token's claims mean (``claims``), the buckets
(``limits``). Around them: the issuer's keys (``jwks``), the verifier (``jwt``), the ring of keys
(``ring``), and the one :class:`Authenticator` (``authenticator``) that every transport asks.
``http`` is its HTTP side: a Litestar middleware and guards.

Which topics a principal may is :mod:`moda.principal`, below this package, so that a dialect need
not import it.
"""

from __future__ import annotations

from moda.access.authenticator import Authentication, EnvironmentKeys
from moda.access.jwt import JwtOptions, JwtVerifier
from moda.access.keys import KeyRecord, KeyStore, MemoryKeys, new_key
from moda.access.limits import RateLimiter, Tiers
from moda.access.ring import KeyRing

__all__ = [
    "Authentication",
    "EnvironmentKeys",
    "JwtOptions",
    "JwtVerifier",
    "KeyRecord",
    "KeyRing",
    "KeyStore",
    "MemoryKeys",
    "RateLimiter",
    "Tiers",
    "new_key",
]
