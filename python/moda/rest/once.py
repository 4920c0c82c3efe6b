"""Idempotency keys: a request that comes again with its key gets the first one's answer.

What a process remembers, it remembers for ten minutes and within a bound; of two requests at once
with one key the second waits for the first. Durable topics' messages are remembered by their log as
well, for a day and over restarts.

A message that failed for a passing reason is not settled: the repeated request tries it again, and
only it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

from moda.errors import KeyReused
from moda.ports import Key
from moda.rest.model import Failed, Published

__all__ = ["MAX_KEY", "Entry", "Once", "log_key"]

MAX_KEY = 255
"""Characters of a key."""

KEEP_SECONDS = 600.0
MAX_HELD = 100_000
"""Keys and results that are remembered together: at most about 35 MB."""

PASS = 64
"""Entries that one request looks at to forget them, so that none pays for all."""


class Entry:
    """One key: the digest of its request, what came of each message, and the attempt under way."""

    __slots__ = ("at", "digest", "results", "running")

    def __init__(self, digest: bytes, count: int, at: float) -> None:
        self.digest = digest
        self.at = at
        self.results: list[Published | Failed | None] = [None] * count
        self.running: asyncio.Task[None] | None = None

    def open(self) -> list[int]:
        """The numbers of the messages that are to be tried."""
        return [
            number
            for number, result in enumerate(self.results)
            if result is None or (isinstance(result, Failed) and result.passing)
        ]


class Once:
    """The keys of a process, oldest first. ``now`` counts seconds; tests turn it by hand."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._held = 0

    def claim(self, key: str, digest: bytes, count: int) -> tuple[Entry, bool]:
        """The entry of a key, and whether it was there. KeyReused if it is another request's."""
        self._forget()
        known = self._entries.get(key)
        if known is not None:
            if known.digest != digest:
                raise KeyReused("this Idempotency-Key came before with another request")
            return known, True
        entry = self._entries[key] = Entry(digest, count, self._now())
        self._held += count + 1
        return entry, False

    def drop(self, key: str) -> None:
        """Forgets a key whose request came to nothing."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._held -= len(entry.results) + 1

    def _forget(self) -> None:
        """Drops what is past its time, and the oldest beyond the bound. What runs is kept."""
        end = self._now() - KEEP_SECONDS
        for key, entry in list(islice(self._entries.items(), PASS)):
            if entry.at > end and self._held <= MAX_HELD:
                return
            if entry.running is None or entry.running.done():
                self.drop(key)


def log_key(caller: str, key: str, digest: bytes) -> Key:
    """The key under which a log remembers a request: of whoever calls, and of bounded length.

    >>> len(log_key("orders", "k" * 255, b"").key)
    69
    """
    owner = hashlib.sha256(f"{len(caller)}:{caller}{key}".encode()).hexdigest()
    return Key(f"http:{owner}", digest)
