"""The keys of a store as the gateway holds them: remembered for seconds, asked for again after.

A key made, revoked or replaced elsewhere (``moda key revoke`` in another process) is noticed after
:data:`FRESH_SECONDS` at most, without a restart and without a connection from the store to here. In
between a known key is decided without waiting.

A flood of made-up keys costs no more than is bounded here: what is remembered (ids nobody has
included), and how many questions are under way at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import structlog

from moda.access.keys import KeyRecord, KeyStore, read_key
from moda.errors import Denied, ModaError
from moda.principal import Principal

__all__ = ["FRESH_SECONDS", "KeyRing"]

log = structlog.get_logger("moda.access")

FRESH_SECONDS: Final = 5.0
"""How long an answer of the store holds."""

STALE_SECONDS: Final = 300.0
"""How long a key known to be right is still taken while the store cannot be asked."""

MAX_REMEMBERED: Final = 10_000
"""Keys, and ids nobody has: about 4 MB."""

MAX_ASKING: Final = 64
"""Questions to the store under way at once; one more is told to come back."""

USED_SECONDS: Final = 30.0
"""How often the times of last use are written, all of them in one go."""


class KeyRing:
    """Decides on keys. ``now`` is the time of day in seconds since 1970, ``clock`` never goes back."""

    def __init__(
        self,
        store: KeyStore,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._now = now
        self._clock = clock
        self._held: OrderedDict[str, tuple[float, KeyRecord | None]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[KeyRecord | None]] = {}
        self._used: dict[str, float] = {}

    def known(self, key: str) -> Principal | None:
        """Who showed ``key``, if that is known well enough; None when the store has to be asked.

        Denied for a key that is malformed, unknown, revoked or past its end.
        """
        name = read_key(key)
        held = self._held.get(name)
        if held is None or self._clock() - held[0] >= FRESH_SECONDS:
            return None
        return self._decide(held[1], key)

    async def find(self, key: str) -> Principal:
        """Who showed ``key``; asks the store where it has to. Denied as :meth:`known`, or with 503."""
        name = read_key(key)
        held = self._held.get(name)
        if held is not None and self._clock() - held[0] < FRESH_SECONDS:
            return self._decide(held[1], key)
        try:
            record = await self._ask(name)
        except ModaError as error:
            if isinstance(error, Denied):
                raise
            log.warning("access.store.unavailable", problem=str(error))
            record = None if held is None else held[1]
            if held is None or record is None or self._clock() - held[0] >= STALE_SECONDS:
                raise Denied(
                    "unavailable",
                    "API keys cannot be looked up at the moment",
                    retry_after=getattr(error, "retry_after", None) or 1.0,
                ) from None
        return self._decide(record, key)

    async def _ask(self, id: str) -> KeyRecord | None:
        """One question per id, however many wait for its answer: a waiter that gives up ends none."""
        task = self._asking.get(id)
        if task is None:
            if len(self._asking) >= MAX_ASKING:
                raise Denied(
                    "unavailable", "too many API keys are being looked up", retry_after=1.0
                )
            task = asyncio.get_running_loop().create_task(self._fetch(id))
            self._asking[id] = task
            task.add_done_callback(lambda done: self._asked(id, done))
        return await asyncio.shield(task)

    def _asked(self, id: str, done: asyncio.Task[KeyRecord | None]) -> None:
        self._asking.pop(id, None)
        if not done.cancelled():
            done.exception()  # whoever waits raises it; when nobody does, nobody misses it

    async def _fetch(self, id: str) -> KeyRecord | None:
        record = await self._store.get(id)
        self._held[id] = (self._clock(), record)
        self._held.move_to_end(id)
        if len(self._held) > MAX_REMEMBERED:
            self._held.popitem(last=False)
        return record

    def _decide(self, record: KeyRecord | None, key: str) -> Principal:
        if record is None:
            raise Denied("unknown", "an API key nobody has made; moda key list shows them")
        now = self._now()
        principal = record.principal(key, now)
        if len(self._used) < MAX_REMEMBERED or record.id in self._used:
            self._used[record.id] = now
        return principal

    async def flush(self) -> None:
        """Writes the times of last use. A store that is away gets them with the next."""
        times, self._used = self._used, {}
        if not times:
            return
        try:
            await self._store.used(times)
        except ModaError:
            self._used = {**times, **self._used}
            raise

    async def run(self) -> None:
        """Flushes every :data:`USED_SECONDS`: background work of a gateway."""
        while True:
            await asyncio.sleep(USED_SECONDS)
            try:
                await self.flush()
            except ModaError as error:
                log.warning("access.store.unavailable", problem=str(error))
