"""The keys an issuer signs with: read, bound to one algorithm each, and kept up to date.

**One key, one algorithm.** What a key verifies is decided by the key (RFC 8725 section 3.1): octets
are HS256, RSA is RS256, P-256 is ES256, Ed25519 is EdDSA. A token's own ``alg`` never chooses; so a
public RSA key can never be taken for the secret of an HMAC. Octets are taken from a file or a setting
only: a secret that is published is none.

**Up to date.** A file is looked at again when its time or size has changed, a URL every ten minutes.
A ``kid`` nobody knows asks once more at once, but once per :data:`MISS_SECONDS` at most, whatever
clients send. A source that fails is asked again after pauses that double, and its last keys hold on.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import structlog

from moda.errors import ConfigurationError

__all__ = ["ALGORITHMS", "KeySet", "KeySource", "read_key_set", "secret_key"]

log = structlog.get_logger("moda.access")

ALGORITHMS: Final = ("HS256", "RS256", "ES256", "EdDSA")

MAX_KEYS: Final = 64
MAX_BYTES: Final = 256 << 10
"""Of a key set: 64 RSA keys with their certificates are about half of it."""

MIN_SECRET: Final = 32
"""Bytes of an HS256 secret: as long as its hash (RFC 7518 section 3.2)."""

MIN_RSA_BITS: Final = 2048
"""RFC 7518 section 3.3."""

FETCH_SECONDS: Final = 5.0
REFRESH_SECONDS: Final = 600.0
LOOK_SECONDS: Final = 2.0
"""How often a file's time is looked at."""

MISS_SECONDS: Final = 30.0
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 300.0


@dataclass(frozen=True, slots=True)
class Key:
    """One verification key. ``material`` is what the JWT library takes."""

    kid: str | None
    algorithm: str
    material: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys by their ``kid``; those without one are tried in order."""

    keys: tuple[Key, ...] = ()

    def candidates(self, kid: str | None, algorithm: str) -> list[Key]:
        """The keys that may have signed a token with this head. A token with a ``kid`` is verified by
        the key of that name, or by keys that have no name at all.
        """
        return [
            key
            for key in self.keys
            if key.algorithm == algorithm and (kid is None or key.kid is None or key.kid == kid)
        ]

    def knows(self, kid: str | None) -> bool:
        return kid is None or any(key.kid is None or key.kid == kid for key in self.keys)


def secret_key(secret: str) -> Key:
    """The key of ``MODA_JWT_SECRET``. ConfigurationError for one that can be guessed."""
    octets = secret.encode()
    if len(octets) < MIN_SECRET:
        raise ConfigurationError(
            f"MODA_JWT_SECRET: got {len(octets)} bytes, takes at least {MIN_SECRET} "
            "(openssl rand -hex 32 makes one)"
        )
    return Key(None, "HS256", octets)


def read_key_set(text: bytes, *, secrets: bool) -> KeySet:
    """A JSON Web Key Set (RFC 7517). Keys of other kinds, uses and algorithms are passed over, as its
    section 5 asks; ``secrets`` is whether octets are taken.

    ConfigurationError for text that is no key set, or one without a key that can verify anything.
    """
    if len(text) > MAX_BYTES:
        raise ConfigurationError(f"a key set of {len(text)} bytes; takes up to {MAX_BYTES}")
    try:
        entries = msgspec.json.decode(text)["keys"]
    except (msgspec.DecodeError, KeyError, TypeError, RecursionError):
        raise ConfigurationError('no key set; takes JSON such as {"keys": [...]}') from None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise ConfigurationError(f"takes up to {MAX_KEYS} keys in a list")
    keys = [key for entry in entries if (key := _read_key(entry, secrets)) is not None]
    if not keys:
        raise ConfigurationError(
            f"none of the {len(entries)} keys of the set can verify a token; takes RSA from "
            f"{MIN_RSA_BITS} bits, EC P-256 and OKP Ed25519"
            + (f", and octets from {MIN_SECRET} bytes" if secrets else "")
        )
    return KeySet(tuple(keys))


def _read_key(entry: Any, secrets: bool) -> Key | None:
    if not isinstance(entry, Mapping):
        return None
    bound = {
        ("oct", None): "HS256",
        ("RSA", None): "RS256",
        ("EC", "P-256"): "ES256",
        ("OKP", "Ed25519"): "EdDSA",
    }
    kind, curve, kid = entry.get("kty"), entry.get("crv"), entry.get("kid")
    if not isinstance(kind, str) or not (curve is None or isinstance(curve, str)):
        return None
    algorithm = bound.get((kind, curve if kind in ("EC", "OKP") else None))
    verifies = entry.get("use", "sig") == "sig" and "verify" in entry.get("key_ops", ["verify"])
    if algorithm is None or not verifies or entry.get("alg", algorithm) != algorithm:
        return None
    if not (kid is None or isinstance(kid, str)) or (kind == "oct" and not secrets):
        return None
    from jwt import PyJWK  # 9 MB with its cryptography: only for whom keys are configured
    from jwt.exceptions import PyJWTError

    try:
        material = PyJWK(dict(entry), algorithm).key
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if kind == "oct":
        return Key(kid, algorithm, material) if len(material) >= MIN_SECRET else None
    # A set somebody exported with its private half still only verifies here.
    public = material.public_key() if hasattr(material, "private_numbers") else material
    public = public.public_key() if hasattr(public, "private_bytes_raw") else public
    if kind == "RSA" and public.key_size < MIN_RSA_BITS:
        return None
    return Key(kid, algorithm, public)


class KeySource:
    """The key set at a path or a URL. ``clock`` never goes back."""

    def __init__(self, place: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.place = place
        self.remote = "://" in place
        if self.remote:
            check_url(place)
        self.keys = KeySet()
        self._clock = clock
        self._due = 0.0
        self._looked = -LOOK_SECONDS
        self._asked = -MISS_SECONDS
        self._pause = FIRST_PAUSE
        self._stamp: tuple[int, int] | None = None
        self._fetching: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Reads the source, here and now: for the start and ``moda check``. ConfigurationError says
        what is wrong with it.
        """
        try:
            text = fetch(self.place) if self.remote else self._read_file()
            self.keys = read_key_set(text, secrets=not self.remote)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"MODA_JWT_JWKS: got {self.place}, which cannot be read ({_why(error)})"
            ) from None
        except ConfigurationError as error:
            raise ConfigurationError(f"MODA_JWT_JWKS: {self.place} is {error}") from None
        self._due = self._clock() + REFRESH_SECONDS

    def fresh(self, kid: str | None) -> bool:
        """Whether the keys at hand decide on a token with this ``kid``. False: await
        :meth:`refresh`, once, and decide with what is there then.
        """
        now = self._clock()
        if not self.remote:
            if now - self._looked >= LOOK_SECONDS:
                self._looked = now
                self._look()
            return True
        if not self.keys.keys:
            return now < self._due
        if self.keys.knows(kid):
            if now >= self._due:
                self._begin()  # beside: the keys at hand decide meanwhile
            return True
        # Whoever comes while a question is under way waits for its answer, too.
        return not self._under_way and now - self._asked < MISS_SECONDS

    async def refresh(self) -> None:
        """Asks the URL again; one question at a time, however many wait. Never raises for its
        failure: the caller decides with the keys that are there.
        """
        await asyncio.shield(self._begin())

    @property
    def _under_way(self) -> bool:
        return self._fetching is not None and not self._fetching.done()

    def _begin(self) -> asyncio.Task[None]:
        if self._fetching is None or self._fetching.done():
            self._asked = self._clock()
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            text = await asyncio.to_thread(fetch, self.place)
            self.keys = read_key_set(text, secrets=False)
        except (OSError, ValueError, ConfigurationError) as error:
            self._due = self._clock() + self._pause
            log.warning(
                "access.jwks.failed", url=self.place, problem=_why(error), again_in=self._pause
            )
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        else:
            self._due = self._clock() + REFRESH_SECONDS
            self._pause = FIRST_PAUSE

    def _read_file(self) -> bytes:
        path = Path(self.place).expanduser()
        state = path.stat()
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        self._stamp = (state.st_mtime_ns, state.st_size)
        return text

    def _look(self) -> None:
        """Reads the file again if it has changed. One that cannot be read leaves the keys as they are."""
        try:
            state = Path(self.place).expanduser().stat()
            if (state.st_mtime_ns, state.st_size) == self._stamp:
                return
            self.keys = read_key_set(self._read_file(), secrets=True)
        except (OSError, ConfigurationError) as error:
            log.warning("access.jwks.failed", url=self.place, problem=_why(error))
        else:
            log.info("access.jwks.read", url=self.place, keys=len(self.keys.keys))


def check_url(url: str) -> None:
    """ConfigurationError for a URL keys are not to be fetched from: whoever stands between could put
    in a key of their own, so it is https, or this machine.
    """
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and _is_loopback(parts.hostname or ""):
        return
    raise ConfigurationError(
        f"MODA_JWT_JWKS: got a URL of {parts.scheme}:// to {parts.hostname}, takes a path, an "
        "https:// URL, or http:// on this machine"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect could lead from https to anywhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


def fetch(url: str) -> bytes:
    """The body behind a URL, at most :data:`MAX_BYTES` and one more. OSError when it has none.

    Blocks, each step up to :data:`FETCH_SECONDS`: to be called in a thread, or before the loop runs.
    """
    check_url(url)
    handlers: list[Any] = [
        _NoRedirects,
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
    ]
    if _is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    request = urllib.request.Request(url, headers={"accept": "application/json"})  # noqa: S310  # checked above
    with opener.open(request, timeout=FETCH_SECONDS) as answer:
        return bytes(answer.read(MAX_BYTES + 1))


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
