"""Keys remembered for seconds, and asked for again."""

from __future__ import annotations

import asyncio

import pytest

from moda.access import ring as rings
from moda.access.keys import KeyRecord, MemoryKeys, new_key
from moda.access.ring import FRESH_SECONDS, MAX_ASKING, STALE_SECONDS, KeyRing
from moda.errors import Denied, ModaError

from .support import NOW, Clock


class Counted(MemoryKeys):
    """A store that counts questions, and can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.away = False
        self.gate: asyncio.Event | None = None

    async def get(self, id: str) -> KeyRecord | None:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise ModaError("the database is away")
        return await super().get(id)

    async def used(self, times) -> None:
        if self.away:
            raise ModaError("the database is away")
        await super().used(times)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> Counted:
    return Counted()


@pytest.fixture
def ring(store: Counted, clock: Clock) -> KeyRing:
    return KeyRing(store, now=clock, clock=clock)


async def made(store: MemoryKeys, **more: object) -> str:
    key = new_key()
    await store.add(KeyRecord.made(key, now=NOW, **more))  # type: ignore[arg-type]
    return key


async def reason(ring: KeyRing, key: str) -> str:
    with pytest.raises(Denied) as caught:
        await ring.find(key)
    return caught.value.reason


async def test_a_key_is_asked_for_once_and_then_known(ring, store):
    key = await made(store)
    assert ring.known(key) is None
    found = await ring.find(key)
    assert ring.known(key) == found == await ring.find(key)
    assert store.asked == 1


async def test_a_key_revoked_elsewhere_ends_within_seconds_without_a_restart(ring, store, clock):
    key = await made(store)
    await ring.find(key)
    await store.revoke(key[5:15], NOW)
    clock.pass_by(FRESH_SECONDS)
    assert ring.known(key) is None
    assert await reason(ring, key) == "revoked"


async def test_a_key_made_after_it_was_asked_for_is_taken_within_seconds(ring, store, clock):
    key = new_key()
    assert await reason(ring, key) == "unknown"
    await store.add(KeyRecord.made(key, now=NOW))
    clock.pass_by(FRESH_SECONDS)
    assert (await ring.find(key)).id == key[5:15]


async def test_a_key_ends_on_time_although_it_is_remembered(ring, store, clock):
    key = await made(store, expires_at=NOW + 2)
    await ring.find(key)
    clock.pass_by(2)
    with pytest.raises(Denied, match="has ended"):
        ring.known(key)


async def test_a_known_key_outlasts_a_store_that_is_away_but_not_for_ever(ring, store, clock):
    key = await made(store)
    await ring.find(key)
    store.away = True
    clock.pass_by(STALE_SECONDS - 1)
    assert await ring.find(key)
    clock.pass_by(1)
    assert await reason(ring, key) == "unavailable"
    assert await reason(ring, new_key()) == "unavailable"
    store.away = False
    assert await ring.find(key)


async def test_many_who_wait_for_one_key_ask_once_and_one_that_gives_up_ends_nothing(ring, store):
    key = await made(store)
    store.gate = asyncio.Event()
    waiting = [asyncio.create_task(ring.find(key)) for _ in range(10)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    store.gate.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert {one.id for one in found[1:]} == {key[5:15]}  # type: ignore[union-attr]
    assert store.asked == 1


async def test_a_flood_of_made_up_keys_asks_no_more_than_so_many_at_once(ring, store):
    store.gate = asyncio.Event()
    waiting = [asyncio.create_task(ring.find(new_key())) for _ in range(MAX_ASKING)]
    await asyncio.sleep(0)
    assert await reason(ring, new_key()) == "unavailable"
    store.gate.set()
    assert all(
        isinstance(one, Denied) for one in await asyncio.gather(*waiting, return_exceptions=True)
    )
    assert await reason(ring, new_key()) == "unknown"


async def test_what_is_remembered_is_bounded(ring, store, monkeypatch):
    monkeypatch.setattr(rings, "MAX_REMEMBERED", 5)
    key = await made(store)
    await ring.find(key)
    for _ in range(5):
        assert await reason(ring, new_key()) == "unknown"
    assert len(ring._held) == 5
    assert ring.known(key) is None


async def test_the_last_use_is_written_in_one_go_and_kept_while_the_store_is_away(
    ring, store, clock
):
    key = await made(store)
    await ring.find(key)
    store.away = True
    with pytest.raises(ModaError):
        await ring.flush()
    store.away = False
    clock.pass_by(1)
    ring.known(key)
    await ring.flush()
    kept = await store.get(key[5:15])
    assert kept is not None
    assert kept.last_used_at == NOW + 1
    await ring.flush()
