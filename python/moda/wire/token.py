"""Whether the token of a handshake opens the socket (ruling S0-11): off, optional or required.

The contract's ``socketToken`` travels as ``?token=``; the stock client's ``authToken`` as a
subprotocol; clients that can set headers may send ``Authorization: Bearer`` or ``X-API-Key``. One rule
judges all. Keys, JSON Web Tokens and what they may belong to ``access``.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from moda.errors import ConfigurationError, Denied
from moda.upgrade import Refused, Upgrade
from moda.wire.handshake import Negotiated

__all__ = ["TokenMode", "TokenRule", "authentication_refused", "presented_token"]

TokenMode = Literal["off", "optional", "required"]


def presented_token(negotiated: Negotiated, upgrade: Upgrade | None = None) -> str | None:
    """The token a client showed: the subprotocol's, else ``Authorization: Bearer``, ``X-API-Key``,
    else the ``token`` parameter's if it is a string.
    """
    if negotiated.token is not None:
        return negotiated.token
    if upgrade is not None:
        for name, value in upgrade.headers:
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                return value[7:].strip().decode("latin-1")
            if name == b"x-api-key":
                return value.decode("latin-1")
    token = negotiated.params.get("token")
    return token if isinstance(token, str) else None


def authentication_refused(mode: TokenMode, denied: Denied) -> Refused:
    """A refusal as the handshake answers it: 403 (ruling S0-11) without a body, since a browser shows
    neither to its page; 503 when it could not be decided, for clients and balancers that try again.
    """
    hint = {
        "got": denied.message,
        "accepted": "one of MODA_SOCKET_TOKENS, a JSON Web Token or an API key, as authToken, in "
        "Authorization: Bearer, X-API-Key or ?token=",
        "setting": f"MODA_SOCKET_AUTH={mode}",
    }
    if denied.reason != "unavailable":
        return Refused(403, reason="token", hint=hint)
    after = str(max(1, round(denied.retry_after or 1)))
    return Refused(503, headers=(("Retry-After", after),), reason="token_undecided", hint=hint)


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
    def of(cls, mode: TokenMode, tokens: Iterable[str], *, others: bool = False) -> TokenRule:
        """A rule over clear tokens. ``others`` says that keys or JSON Web Tokens are taken as well.

        ConfigurationError for ``required`` without any: nobody could connect.
        """
        digests = tuple(hashlib.sha256(token.encode()).digest() for token in tokens)
        if mode == "required" and not digests and not others:
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
