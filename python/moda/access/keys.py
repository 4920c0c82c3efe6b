"""API keys: their form, what is kept of one, and the port they are kept behind.

A key is ``moda_<id>_<secret><check>``: a prefix that secret scanners and people recognise (as
GitHub's tokens have one), an id that may be shown and logged, 32 characters of secret, and a CRC-32
in base 62, so that a key cut short or mistyped is refused without asking anybody.

What is kept is SHA-256 of the whole key, no password hash. bcrypt and argon2 are slow to make
guessing a *human's* password dear; a secret of 32 random characters out of 62 is 190 bits, which
nobody guesses at any speed, and a slow hash per request would be a lever for whoever sends wrong
keys. Nothing here reads a clock or a file.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from moda.errors import Denied
from moda.principal import Principal, Rules, Topics

__all__ = ["PREFIX", "SCOPES", "KeyRecord", "KeyStore", "MemoryKeys", "new_key", "read_key"]

PREFIX: Final = "moda_"
ID_CHARS: Final = 10
SECRET_CHARS: Final = 32
CHECK_CHARS: Final = 6
"""62**6 is above 2**32: a CRC-32 always fits."""

KEY_CHARS: Final = len(PREFIX) + ID_CHARS + 1 + SECRET_CHARS + CHECK_CHARS

SCOPES: Final = ("read", "publish", "ingest", "admin", "paid")
"""What a key may: subscribe and read; publish; post prices; everything; and, no right but a limit,
``RATE_LIMIT_PUBLIC_PAID`` instead of the free one."""

KINDS: Final = ("internal", "public", "admin")
"""The kinds that rate limits know. ``access: key:<kind>`` may ask for any other word."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(
    rf"{PREFIX}([0-9A-Za-z]{{{ID_CHARS}}})_[0-9A-Za-z]{{{SECRET_CHARS + CHECK_CHARS}}}", re.ASCII
)
WORD = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)
"""A kind or a scope, as ``x-moda`` writes it."""


def _check_of(text: str) -> str:
    number = zlib.crc32(text.encode())
    digits = ""
    for _ in range(CHECK_CHARS):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits


def new_key() -> str:
    """A fresh key, 54 characters; to be shown once.

    >>> key = new_key()
    >>> len(key), read_key(key) == key[5:15]
    (54, True)
    """
    body = "".join(secrets.choice(_DIGITS) for _ in range(ID_CHARS))
    secret = "".join(secrets.choice(_DIGITS) for _ in range(SECRET_CHARS))
    text = f"{PREFIX}{body}_{secret}"
    return text + _check_of(text)


def read_key(text: str) -> str:
    """The id of a key that is whole. Denied ("malformed") for any other text.

    >>> read_key("moda_short")
    Traceback (most recent call last):
    moda.errors.Denied: an API key that is cut short or mistyped; accepted: all 54 characters of it
    """
    found = _FORM.fullmatch(text)
    body, check = text[:-CHECK_CHARS], text[-CHECK_CHARS:]
    if found is None or not hmac.compare_digest(_check_of(body), check):
        raise Denied(
            "malformed",
            f"an API key that is cut short or mistyped; accepted: all {KEY_CHARS} characters of it",
        )
    return found[1]


def digest_of(key: str) -> bytes:
    """What is kept of a key: 32 bytes."""
    return hashlib.sha256(key.encode()).digest()


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key as it is kept. Times in seconds since 1970; None is never.

    ``name`` is for people. ``subscribe`` and ``publish`` are topic patterns, None for all.
    """

    id: str
    digest: bytes = field(repr=False)
    name: str = ""
    kind: str = "public"
    scopes: frozenset[str] = frozenset({"read"})
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    subscribe: tuple[str, ...] | None = None
    publish: tuple[str, ...] | None = None

    @classmethod
    def made(
        cls,
        key: str,
        *,
        now: float,
        name: str = "",
        kind: str = "public",
        scopes: Iterable[str] = ("read",),
        expires_at: float | None = None,
        subscribe: Iterable[str] | None = None,
        publish: Iterable[str] | None = None,
    ) -> KeyRecord:
        """What to keep of a key of :func:`new_key`. ValueError says what is wrong and accepted."""
        words = frozenset(scopes)
        for word in (kind, *sorted(words)):
            if WORD.fullmatch(word) is None:
                raise ValueError(
                    f"got {word[:40]!r} as a kind or a scope; accepted: up to 32 of a-z, 0-9, _ and "
                    f"-, beginning with a letter (scopes of moda's own: {', '.join(SCOPES)})"
                )
        if not words:
            raise ValueError(f"a key without a scope may nothing; accepted: {', '.join(SCOPES)}")
        if len(name) > 100 or not name.isprintable():
            raise ValueError("a name is up to 100 printable characters")
        heard = None if subscribe is None else Topics.of(list(subscribe)).patterns
        told = None if publish is None else Topics.of(list(publish)).patterns
        return cls(
            read_key(key), digest_of(key), name, kind, words, now, expires_at, None, None, heard,
            told,
        )  # fmt: skip

    def principal(self, key: str, now: float) -> Principal:
        """The client that showed ``key``. Denied when it is another key, revoked or past its end."""
        if not hmac.compare_digest(self.digest, digest_of(key)):
            raise Denied("unknown", "an API key nobody has made; moda key list shows them")
        if self.revoked_at is not None and self.revoked_at <= now:
            raise Denied("revoked", f"the API key {self.id} is revoked")
        if self.expires_at is not None and self.expires_at <= now:
            raise Denied("expired", f"the API key {self.id} has ended")
        rules = Rules(
            None if self.subscribe is None else Topics.of(self.subscribe),
            None if self.publish is None else Topics.of(self.publish),
        )
        return Principal(self.id, "key", self.scopes, rules, self.expires_at, key_kind=self.kind)


class KeyStore(Protocol):
    """Where keys are kept, for every process of a deployment.

    Each call sees what was committed before it, whoever wrote it. A store that cannot be asked
    raises a :class:`~moda.errors.ModaError`; None is "no such key", never "could not say".
    """

    async def add(self, record: KeyRecord) -> None:
        """Keeps a new key. ValueError for an id that is there: two keys never share one."""
        ...

    async def get(self, id: str) -> KeyRecord | None:
        """The key of that id, revoked and ended ones included."""
        ...

    async def all(self) -> list[KeyRecord]:
        """All keys, oldest first."""
        ...

    async def revoke(self, id: str, at: float) -> bool:
        """Ends a key from ``at`` on. False when there is none; the first revocation's time stays."""
        ...

    async def used(self, times: Mapping[str, float]) -> None:
        """Moves ``last_used_at`` of keys forward, never back; ids that are gone are passed over."""
        ...


class MemoryKeys:
    """A :class:`KeyStore` that ends with its process: for tests, and for a program's own keys."""

    def __init__(self) -> None:
        self._keys: dict[str, KeyRecord] = {}

    async def add(self, record: KeyRecord) -> None:
        if record.id in self._keys:
            raise ValueError(f"there is a key {record.id} already")
        self._keys[record.id] = record

    async def get(self, id: str) -> KeyRecord | None:
        return self._keys.get(id)

    async def all(self) -> list[KeyRecord]:
        return sorted(self._keys.values(), key=lambda record: (record.created_at, record.id))

    async def revoke(self, id: str, at: float) -> bool:
        record = self._keys.get(id)
        if record is None:
            return False
        if record.revoked_at is None:
            self._keys[id] = replace(record, revoked_at=at)
        return True

    async def used(self, times: Mapping[str, float]) -> None:
        for name, at in times.items():
            record = self._keys.get(name)
            if record is not None and (record.last_used_at or 0.0) < at:
                self._keys[name] = replace(record, last_used_at=at)
