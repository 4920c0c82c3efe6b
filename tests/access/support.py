"""Keys to sign with, a clock to turn, and tokens as an issuer makes them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt import PyJWS
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

SECRET = "a secret of thirty-two bytes, at least"
NOW = 1_800_000_000.0


@dataclass
class Clock:
    """The time of day, and the time that never goes back; turned by hand."""

    time: float = NOW

    def __call__(self) -> float:
        return self.time

    def pass_by(self, seconds: float) -> None:
        self.time += seconds


def private(algorithm: str, number: int = 0) -> Any:
    """A signing key, the same for the same arguments."""
    return _private(algorithm, number)  # a cache tells a default from its value


@cache
def _private(algorithm: str, number: int) -> Any:
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return SECRET.encode()


def jwk(algorithm: str, kid: str | None = None, number: int = 0, **more: Any) -> dict[str, Any]:
    """The public half of :func:`private` as an entry of a key set."""
    makers = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
    entry = json.loads(makers[algorithm].to_jwk(private(algorithm, number).public_key()))
    if kid is not None:
        entry["kid"] = kid
    return {**entry, **more}


def key_set(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(entries)}).encode()


def token(
    algorithm: str = "HS256",
    *,
    key: Any = None,
    kid: str | None = None,
    number: int = 0,
    **claims: Any,
) -> str:
    """A token that holds at :data:`NOW` for an hour, unless ``claims`` say else; None leaves one out."""
    whole = {"sub": "ann", "exp": NOW + 3600, **claims}
    # Below the library's own look at the claims: an issuer writes what it likes.
    return PyJWS().encode(
        json.dumps({name: value for name, value in whole.items() if value is not None}).encode(),
        key if key is not None else private(algorithm, number),
        algorithm=algorithm,
        headers=None if kid is None else {"kid": kid},
    )


@dataclass
class Timers:
    """Stands in for ``loop.call_later``: what was asked for, run by hand."""

    clock: Clock
    pending: list[Any] = field(default_factory=list)

    def __call__(self, delay: float, callback: Any) -> Any:
        timer = Timer(self, self.clock() + delay, callback)
        self.pending.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Lets time pass, firing what falls due, in order."""
        end = self.clock() + seconds
        while self.pending and min(one.at for one in self.pending) <= end:
            timer = min(self.pending, key=lambda one: one.at)
            self.pending.remove(timer)
            self.clock.time = max(self.clock.time, timer.at)
            timer.callback()
        self.clock.time = end


@dataclass(eq=False)
class Timer:
    timers: Timers
    at: float
    callback: Any

    def cancel(self) -> None:
        if self in self.timers.pending:
            self.timers.pending.remove(self)
