"""JSON Web Tokens: from text to a principal, or to a refusal that says why and shows nothing.

The signature is checked by PyJWT; which key and which algorithm is decided here before it is asked
(see ``jwks``), and what the claims mean after it (see ``claims``).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from moda.access.claims import judge
from moda.access.jwks import ALGORITHMS, KeySet, KeySource, secret_key
from moda.errors import ConfigurationError, Denied
from moda.principal import Principal

__all__ = ["MAX_TOKEN", "JwtOptions", "JwtVerifier", "looks_like_jwt"]

MAX_TOKEN: Final = 8192
"""Characters of a credential: a request's head has no room for more."""

MAX_TRIED: Final = 4
"""Keys without a name that one token is tried against: a signature costs up to 0.2 ms."""

_FORM = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class JwtOptions:
    """Which tokens are taken. ``repr`` shows no secret.

    ``secret`` verifies HS256; ``jwks`` is the path or the URL of a key set; ``issuer`` and
    ``audience`` are what ``iss`` and ``aud`` must say, if given; ``leeway`` in seconds.
    """

    secret: str | None = field(default=None, repr=False)
    jwks: str | None = None
    issuer: str | None = None
    audience: tuple[str, ...] = ()
    leeway: float = 10.0
    algorithms: tuple[str, ...] = ALGORITHMS

    @property
    def configured(self) -> bool:
        """Whether any token can be verified."""
        return self.secret is not None or self.jwks is not None


def looks_like_jwt(credential: str) -> bool:
    """Three parts of base64url, of which the first is a JSON object.

    >>> looks_like_jwt("eyJhbGciOiJub25lIn0.e30."), looks_like_jwt("a.b.c")
    (True, False)
    """
    return _FORM.fullmatch(credential) is not None


class JwtVerifier:
    """Verifies tokens. ``now`` is the time of day in seconds since 1970.

    ConfigurationError for options that cannot verify anything; a key set is read by :meth:`check`.
    """

    def __init__(
        self,
        options: JwtOptions,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        wrong = [name for name in options.algorithms if name not in ALGORITHMS]
        if wrong or not options.algorithms:
            raise ConfigurationError(
                f"MODA_JWT_ALGORITHMS: got {', '.join(wrong) or 'none'}, "
                f"takes {', '.join(ALGORITHMS)}"
            )
        self.options = options
        self._now = now
        self._own = KeySet()
        self.source: KeySource | None = None
        if options.secret is not None:
            if "HS256" not in options.algorithms:
                raise ConfigurationError(
                    "MODA_JWT_SECRET verifies HS256, which MODA_JWT_ALGORITHMS leaves out"
                )
            self._own = KeySet((secret_key(options.secret),))
        if options.jwks is not None:
            self.source = KeySource(options.jwks, clock=clock)

    def check(self) -> None:
        """Reads a key set that is a file, here and now. ConfigurationError when it cannot be."""
        if self.source is not None and not self.source.remote:
            self.source.check()

    def verify_now(self, token: str) -> Principal | None:
        """Who bears the token; None when the issuer's keys have to be asked for first.

        Denied for any text that is not a token of this gateway's issuer, holding now.
        """
        algorithm, kid = self._head(token)
        if self.source is not None and algorithm != "HS256" and not self.source.fresh(kid):
            return None
        if self.source is not None and algorithm == "HS256":
            self.source.fresh(None)
        return self._verify(token, algorithm, kid)

    async def verify(self, token: str) -> Principal:
        """The same, with all the time it takes to fetch keys; Denied with 503 when there are none."""
        principal = self.verify_now(token)
        if principal is not None:
            return principal
        assert self.source is not None
        await self.source.refresh()
        if not self.source.keys.keys:
            raise Denied(
                "unavailable", "the keys of the token's issuer cannot be fetched", retry_after=2.0
            )
        return self._verify(token, *self._head(token))

    def _head(self, token: str) -> tuple[str, str | None]:
        if len(token) > MAX_TOKEN or not looks_like_jwt(token):
            raise Denied("malformed", f"no JSON Web Token of up to {MAX_TOKEN} characters")
        import jwt  # 9 MB with its cryptography: only for whom tokens are configured

        try:
            head = jwt.get_unverified_header(token)
        except Exception:  # whatever a stranger's bytes make a parser raise is the same refusal
            raise Denied("malformed", "a token whose head cannot be read") from None
        algorithm, kid = head.get("alg"), head.get("kid")
        if algorithm not in self.options.algorithms:
            raise Denied(
                "signature",
                "the token is signed with an algorithm that is not taken; "
                f"accepted: {', '.join(self.options.algorithms)}",
            )
        return str(algorithm), kid if isinstance(kid, str) else None

    def _verify(self, token: str, algorithm: str, kid: str | None) -> Principal:
        keys = self._own.candidates(kid, algorithm)
        if self.source is not None:
            keys += self.source.keys.candidates(kid, algorithm)
            if not keys and not self.source.keys.keys and algorithm != "HS256":
                raise Denied(
                    "unavailable",
                    "the keys of the token's issuer cannot be fetched",
                    retry_after=2.0,
                )
        for key in keys[:MAX_TRIED]:
            claims = self._claims(token, key.material, key.algorithm)
            if claims is not None:
                return judge(
                    claims,
                    now=self._now(),
                    leeway=self.options.leeway,
                    issuer=self.options.issuer,
                    audience=self.options.audience,
                )
        raise Denied("signature", "the token is signed with a key that is not known here")

    def _claims(self, token: str, material: Any, algorithm: str) -> dict[str, Any] | None:
        """The claims, if this key signed the token. One algorithm, and the key's own."""
        import jwt
        from jwt.exceptions import InvalidSignatureError

        try:
            return dict(
                jwt.decode(
                    token,
                    material,
                    algorithms=[algorithm],
                    options={
                        "verify_exp": False,
                        "verify_nbf": False,
                        "verify_iat": False,
                        "verify_aud": False,
                        "verify_iss": False,
                        "verify_sub": False,
                        "verify_jti": False,
                    },
                )
            )
        except InvalidSignatureError:
            return None
        except Exception:  # as above
            raise Denied("malformed", "a token that cannot be read") from None
