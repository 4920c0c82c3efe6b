"""Every failure moda raises, as one tree.

A caller catches by branch, a peer is told by number. The tree:

    ModaError
    ├── ConfigurationError      a setting, a document or a declaration is wrong; raised at start, never per message
    │   └── DocumentError       an AsyncAPI document is wrong, and where (moda.asyncapi)
    ├── Reject                  a channel refuses a join; becomes an error reply, the socket stays
    ├── Refuse                  a connect hook refuses a connection; becomes an HTTP status before the upgrade
    ├── Denied                  a token or a key was not taken; becomes an HTTP status, or a close
    ├── ReplyError              a reply cannot be sent: the message had no ref, or none is being handled
    ├── PresenceError           a channel tracks what is tracked, updates what is not, or has no presence
    ├── NotJoinedError          a channel pushes, replies or stops before its join is decided
    ├── ReturnError             a handler returned something that is not a legal outcome
    ├── StoreError              the database did not take a write or did not answer a read
    │   ├── Unavailable         it is away, locked or slow; nothing was written, try again in retry_after seconds
    │   │   ├── NoSpace         its disk is full
    │   │   └── OutcomeUnknown  it went away during a commit and this process ends before it came back
    │   └── Busy                writes wait in memory up to their bound; try again in retry_after seconds
    └── KeyReused               an idempotency key came back with another request

Close codes are a retry policy in ranges (RFC 6455 section 7.4; phoenix.js reconnects on
every code it did not cause itself): 1001 disconnected by the application, 1002 protocol violation
or idle, 1007 text that is not UTF-8, 1009 too big, 1011 a frame that cannot be decoded,
1012 the server restarts (come back), 1013 too slow a reader (come back later), 4401 the token has
ended (come back with another).
"""

from __future__ import annotations

from typing import Any, Literal


class ModaError(Exception):
    """The root: catch it to catch everything moda raises on purpose."""


class ConfigurationError(ModaError):
    """Something declared before the start is wrong. The message names the setting, what it got and what it takes."""


class Reject(ModaError):
    """Raised in ``join`` to refuse it.

    The client gets ``{"status": "error", "response": response}`` and may try again.

    >>> Reject("room is full").response
    {'reason': 'room is full'}
    >>> Reject({"reason": "room is full", "limit": 50}).response["limit"]
    50
    """

    def __init__(self, reason: str | dict[str, Any] = "rejected") -> None:
        self.response: dict[str, Any] = {"reason": reason} if isinstance(reason, str) else reason
        super().__init__(str(self.response.get("reason", self.response)))


class Refuse(ModaError):
    """Raised by a connect hook to refuse a connection with an HTTP status (default 403, as Phoenix).

    >>> Refuse(429).status
    429
    """

    def __init__(self, status: int = 403, body: str = "") -> None:
        if not 400 <= status <= 599:
            raise ConfigurationError(f"Refuse takes an HTTP status from 400 to 599, got {status}")
        self.status = status
        self.body = body
        super().__init__(f"{status} {body}".strip())


DeniedReason = Literal[
    "missing", "malformed", "unknown", "signature", "expired", "early", "issuer", "audience",
    "claims", "revoked", "scope", "unavailable",
]  # fmt: skip
"""Why a credential was not taken: a word for counters, logs and clients."""


class Denied(ModaError):
    """A credential that was not taken, or one that does not reach far enough.

    ``status`` is 401 (show another), 403 (this one may not) or 503 (it could not be decided; come
    back after ``retry_after`` seconds). Neither message nor repr ever holds the credential.

    >>> Denied("expired", "the token ended").status
    401
    """

    def __init__(
        self, reason: DeniedReason, message: str, *, retry_after: float | None = None
    ) -> None:
        self.reason: DeniedReason = reason
        self.status = {"scope": 403, "unavailable": 503}.get(reason, 401)
        self.message = message
        self.retry_after = retry_after
        super().__init__(message)


class ReplyError(ModaError):
    """A reply was asked for a message that carried no ref, or while no message is being handled."""


class PresenceError(ModaError):
    """``track`` or ``update`` cannot be done. ``reason`` says why, in Phoenix's words where it has one.

    ``already_tracked``: this channel is tracked under the key; ``nopresence``: it is not;
    ``undeclared``: the channel's declaration names no ``presence``.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class NotJoinedError(ModaError):
    """Raised by ``push``, ``reply`` and ``stop`` while the channel's ``join`` is still being decided.

    Whatever went out then would overtake the join's own answer. Push in ``joined``; refuse with
    :class:`Reject`.
    """


class ReturnError(ModaError):
    """A handler returned a value that is no legal outcome; the message lists every legal one."""


class StoreError(ModaError):
    """The database did not take a write or did not answer a read; ``retry_after`` in seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class Unavailable(StoreError):
    """The database is away, locked or too slow. What was asked has not happened and will not.

    Over HTTP 503 with ``Retry-After``, elsewhere the error ``unavailable``.
    """


class NoSpace(Unavailable):
    """The disk of the database is full: reads go on, writes come back when there is room."""


class OutcomeUnknown(Unavailable):
    """The connection broke while a commit was answered, and the process ends before it can ask.

    The one Unavailable after which the write may have happened: a retry needs its idempotency key.
    """


class Busy(StoreError):
    """As much waits to be written as may; nothing was queued. The caller slows down, or refuses in turn."""


class KeyReused(ModaError):
    """An idempotency key was used before for a request with another digest. Nothing was written.

    Over HTTP 409.
    """
