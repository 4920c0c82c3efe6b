"""Whether the token of a handshake opens the socket (ruling S0-11): off, optional or required.

The contract's ``socketToken`` travels as ``?token=``; the stock client's ``authToken`` as a
subprotocol. One rule judges both. Principals, scopes and revocation belong to ``access``.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from moda.errors import ConfigurationError
from moda.wire.handshake import Negotiated

__all__ = ["TokenMode", "TokenRule", "presented_token"]

TokenMode = Literal["off", "optional", "required"]


def presented_token(negotiated: Negotiated) -> str | None:
    """The token a client showed: the subprotocol's, else the ``token`` parameter's if it is a
    string.
    """
    if negotiated.token is not None:
        return negotiated.token
    token = negotiated.params.get("token")
    return token if isinstance(token, str) else None


@dataclass(frozen=True, slots=True)
class TokenRule:
    """``off`` looks at no token; ``optional`` takes none or a right one; ``required`` takes a right
    one.

    A wrong token is refused under ``optional`` too: its owner believes to be somebody. Only digests
    are kept, so a printed rule shows no secret.
    """

    mode: TokenMode = "off"
    digests: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, mode: TokenMode, tokens: Iterable[str]) -> TokenRule:
        """A rule over clear tokens.

        ConfigurationError for ``required`` without any: nobody could connect.
        """
        digests = tuple(hashlib.sha256(token.encode()).digest() for token in tokens)
        if mode == "required" and not digests:
            raise ConfigurationError(
                "socket auth is 'required' but no token is configured, so nobody could connect"
            )
        return cls(mode, digests)

    def admits(self, token: str | None) -> bool:
        """Compares in time that does not depend on the token or on which one matches."""
        if self.mode == "off":
            return True
        if token is None:
            return self.mode == "optional"
        shown = hashlib.sha256(token.encode()).digest()
        matches = [hmac.compare_digest(shown, digest) for digest in self.digests]
        return any(matches)
