"""Who a client is and what it may: one value for every transport, frozen.

A token, a key or an application's hook ends in a :class:`Principal`; joins, publishes and HTTP
requests ask it and nothing else. Nothing in this file knows how a token is verified: that is
``moda.access``, behind :class:`Authenticator`, so that a dialect needs no more than this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol

__all__ = ["ANONYMOUS", "Authenticator", "Principal", "PrincipalKind", "Rules", "Topics"]

PrincipalKind = Literal["anonymous", "application", "jwt", "key", "token"]

MAX_PATTERNS = 256
"""Topic patterns of one rule: a token is a few kilobytes, and each join looks at all of them."""

MAX_PATTERN_BYTES = 256
"""A topic has at most 255 bytes; a pattern may have a ``*`` behind them."""

ADMIN = "admin"
"""The scope, and the kind of key, that every other one is part of."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Topics:
    """A set of topics, as patterns: exact names, and prefixes with a ``*`` behind them.

    The ``*`` is that of a channel's address: it takes everything left, separators included, even
    nothing. A topic is asked for in one look-up and one ``startswith``, however many patterns.

    >>> mine = Topics.of(["room:42", "user:7:*"])
    >>> ["room:42" in mine, "room:43" in mine, "user:7:inbox" in mine, "user:77" in mine]
    [True, False, True, False]
    """

    exact: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Topics:
        """Reads patterns. ValueError says which is wrong and what is accepted.

        >>> Topics.of(["room:*:admin"])
        Traceback (most recent call last):
        ValueError: 'room:*:admin' has a * before its end; accepted: one * as the last character
        """
        if isinstance(patterns, str | bytes | Mapping) or not isinstance(patterns, Iterable):
            raise ValueError("accepted: a list of topic patterns such as room:42:*")
        exact: set[str] = set()
        prefixes: set[str] = set()
        for count, pattern in enumerate(patterns):
            if count == MAX_PATTERNS:
                raise ValueError(f"more than {MAX_PATTERNS} patterns; accepted: up to that")
            if not isinstance(pattern, str) or not pattern:
                raise ValueError("a pattern is a text of at least one character")
            _check(pattern)
            if pattern.endswith("*"):
                prefixes.add(pattern[:-1])
            else:
                exact.add(pattern)
        return cls(frozenset(exact), tuple(sorted(prefixes)))

    def __contains__(self, topic: object) -> bool:
        return isinstance(topic, str) and (
            topic in self.exact or (bool(self.prefixes) and topic.startswith(self.prefixes))
        )

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns as one would write them, without those given twice."""
        return (*sorted(self.exact), *(f"{prefix}*" for prefix in self.prefixes))


def _check(pattern: str) -> None:
    try:
        size = len(pattern.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{pattern!r} is no text that UTF-8 can hold") from None
    if size > MAX_PATTERN_BYTES:
        raise ValueError(
            f"{pattern[:32]!r}... has {size} bytes; accepted: up to {MAX_PATTERN_BYTES}"
        )
    if "*" in pattern[:-1]:
        raise ValueError(
            f"{pattern!r} has a * before its end; accepted: one * as the last character"
        )
    if "{" in pattern or "}" in pattern:
        raise ValueError(
            f"{pattern!r} has a brace; accepted: a topic, or its beginning and a * (room:42:*)"
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """The topics a client may subscribe and publish to. None leaves it to each channel's own access;
    an empty :class:`Topics` is no topic at all.
    """

    subscribe: Topics | None = None
    publish: Topics | None = None

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any]) -> Rules:
        """The claims ``subscribe`` and ``publish``, each a list of patterns. ValueError names the
        claim and what is wrong with it: a rule that cannot be read must not become "everything".

        >>> Rules.from_claims({"sub": "ann", "publish": []}).publish
        Topics(exact=frozenset(), prefixes=())
        """
        return cls(_claim(claims, "subscribe"), _claim(claims, "publish"))


def _claim(claims: Mapping[str, Any], name: str) -> Topics | None:
    if name not in claims:
        return None
    value = claims[name]
    if not isinstance(value, list):
        raise ValueError(f"the claim {name} is no list; accepted: patterns such as ['room:42:*']")
    try:
        return Topics.of(value)
    except ValueError as error:
        raise ValueError(f"the claim {name}: {error}") from None


@dataclass(frozen=True, slots=True)
class Principal:
    """One client, whatever it showed.

    ``id`` names it: a token's subject, a key's id. ``scopes`` are words such as ``publish``;
    ``key_kind`` is set for keys alone. ``claims`` are a JWT's, verified. ``expires_at`` is in seconds
    since 1970, None for one without end; the transport closes the connection then. ``repr`` shows no
    claims: applications put personal data there.
    """

    id: str
    kind: PrincipalKind
    scopes: frozenset[str] = frozenset()
    rules: Rules = Rules()
    expires_at: float | None = None
    key_kind: str | None = None
    claims: Mapping[str, Any] = field(default_factory=lambda: _NOTHING, repr=False)

    def has(self, scope: str) -> bool:
        """Whether it has a scope; ``admin`` has all."""
        return scope in self.scopes or ADMIN in self.scopes

    def opens(self, kind: str) -> bool:
        """Whether it passes ``access: key:<kind>``: a key of that kind or with that scope, or an
        administrator's.

        >>> Principal("k1", "key", frozenset({"ingest"}), key_kind="internal").opens("ingest")
        True
        >>> Principal("ann", "jwt", frozenset({"ingest"})).opens("ingest")
        False
        """
        return self.kind == "key" and (kind == self.key_kind or self.has(kind))

    def may_subscribe(self, topic: str) -> bool:
        """Whether its rules let it hear ``topic``; a key needs the scope ``read`` as well."""
        return self._may(topic, self.rules.subscribe, "read")

    def may_publish(self, topic: str) -> bool:
        """Whether its rules let it publish to ``topic``; a key needs the scope ``publish`` as well."""
        return self._may(topic, self.rules.publish, "publish")

    def _may(self, topic: str, topics: Topics | None, scope: str) -> bool:
        # Only a key's scopes are moda's own words: those of a JWT are its issuer's (openid, email).
        if self.kind == "key" and not self.has(scope):
            return False
        return topics is None or topic in topics


ANONYMOUS = Principal("", "anonymous")
"""A client that showed nothing: it may what a channel's own access lets everybody."""


class Authenticator(Protocol):
    """From what a client showed to who it is. Every transport asks the same one."""

    def authenticate_now(self, credential: str) -> Principal | None:
        """Decides without waiting, or returns None: then :meth:`authenticate` is awaited.

        Raises :class:`~moda.errors.Denied`, and nothing else, whatever the credential is.
        """
        ...

    async def authenticate(self, credential: str) -> Principal:
        """Decides, and asks the store of keys or the issuer's keys where it has to.

        Raises :class:`~moda.errors.Denied`, and nothing else but a cancellation.
        """
        ...
