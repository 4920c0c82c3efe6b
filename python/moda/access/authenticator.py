"""The one place where a credential becomes a principal, whatever transport brought it.

A credential is a text. In this order it may be: a key or a token the environment names (of any form,
found by its digest), a key that ``moda key add`` made (known by its prefix), a JSON Web Token (known
by its form). Nothing is tried twice, and a text of none of these forms costs one hash.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from moda.access.jwt import MAX_TOKEN, JwtVerifier, looks_like_jwt
from moda.access.keys import PREFIX
from moda.access.ring import KeyRing
from moda.errors import Denied
from moda.principal import Principal

__all__ = ["Authentication", "EnvironmentKeys"]

KIND_SCOPES: Final[Mapping[str, frozenset[str]]] = {
    "internal": frozenset({"read", "publish", "ingest"}),
    "public": frozenset({"read"}),
    "admin": frozenset({"admin"}),
}
"""What a key of the environment may, which says nothing of itself."""

_UNKNOWN: Final = "a credential nobody here has given out"


@dataclass(frozen=True, slots=True)
class EnvironmentKeys:
    """INTERNAL_API_KEYS, PUBLIC_API_KEYS, ADMIN_API_KEYS and MODA_SOCKET_TOKENS."""

    internal: tuple[str, ...] = field(default=(), repr=False)
    public: tuple[str, ...] = field(default=(), repr=False)
    admin: tuple[str, ...] = field(default=(), repr=False)
    tokens: tuple[str, ...] = field(default=(), repr=False)

    def principals(self) -> Iterable[tuple[str, Principal]]:
        """Each credential with whom it stands for. An id is the kind and the place in the list: a
        part of the secret would be one in every log line.
        """
        for kind, keys in (
            ("internal", self.internal),
            ("public", self.public),
            ("admin", self.admin),
        ):
            for number, key in enumerate(keys, 1):
                yield (
                    key,
                    Principal(f"{kind}#{number}", "key", KIND_SCOPES[kind], key_kind=kind),
                )
        for number, token in enumerate(self.tokens, 1):
            yield token, Principal(f"token#{number}", "token", frozenset({"read"}))


class Authentication:
    """Implements :class:`moda.principal.Authenticator`.

    ``jwt`` None takes no JSON Web Token, ``ring`` None no key but the environment's. ``repr`` and
    refusals show no credential; only digests of the environment's are kept.
    """

    def __init__(
        self,
        keys: EnvironmentKeys | None = None,
        *,
        jwt: JwtVerifier | None = None,
        ring: KeyRing | None = None,
    ) -> None:
        self.jwt = jwt
        self.ring = ring
        self.decided: Counter[str] = Counter()
        """Decisions since the start, by outcome: ``ok``, or the reason of the refusal."""
        self._named: dict[bytes, tuple[bytes, Principal]] = {}
        for credential, principal in (keys or EnvironmentKeys()).principals():
            digest = hashlib.sha256(credential.encode()).digest()
            # Who gave one text two meanings gets the one named first.
            self._named.setdefault(digest, (digest, principal))

    @property
    def takes_any(self) -> bool:
        """Whether there is a credential that would be taken."""
        return bool(self._named) or self.jwt is not None or self.ring is not None

    def counters(self) -> dict[str, Any]:
        """For the metrics."""
        return {"decisions": dict(self.decided)}

    def authenticate_now(self, credential: str) -> Principal | None:
        """As :meth:`moda.principal.Authenticator.authenticate_now`."""
        try:
            principal = self._now(credential)
        except Denied as denied:
            self.decided[denied.reason] += 1
            raise
        if principal is not None:
            self.decided["ok"] += 1
        return principal

    async def authenticate(self, credential: str) -> Principal:
        """As :meth:`moda.principal.Authenticator.authenticate`."""
        try:
            principal = self._now(credential) or await self._later(credential)
        except Denied as denied:
            self.decided[denied.reason] += 1
            raise
        self.decided["ok"] += 1
        return principal

    def _now(self, credential: str) -> Principal | None:
        if len(credential) > MAX_TOKEN:
            raise Denied("malformed", f"a credential has at most {MAX_TOKEN} characters")
        try:
            octets = credential.encode()
        except UnicodeEncodeError:
            raise Denied("malformed", "a credential that is no text") from None
        digest = hashlib.sha256(octets).digest()
        # The look-up's time depends on the digest alone, of which nobody can choose a part and know
        # the text; the comparison's on nothing.
        named = self._named.get(digest)
        if named is not None and hmac.compare_digest(named[0], digest):
            return named[1]
        if credential.startswith(PREFIX) and self.ring is not None:
            return self.ring.known(credential)
        if looks_like_jwt(credential) and self.jwt is not None:
            return self.jwt.verify_now(credential)
        raise Denied("unknown", _UNKNOWN)

    async def _later(self, credential: str) -> Principal:
        if credential.startswith(PREFIX) and self.ring is not None:
            return await self.ring.find(credential)
        assert self.jwt is not None
        return await self.jwt.verify(credential)
