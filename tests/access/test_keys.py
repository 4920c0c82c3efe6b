"""The form of an API key, and what is kept of one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.access.keys import KEY_CHARS, KeyRecord, MemoryKeys, digest_of, new_key, read_key
from moda.errors import Denied

from .support import NOW

KEY = "moda_" + "a" * 10 + "_" + "b" * 32


def record(key: str, **more: object) -> KeyRecord:
    return KeyRecord.made(key, now=NOW, **more)  # type: ignore[arg-type]


def reason(key: str, kept: KeyRecord, now: float = NOW) -> str:
    with pytest.raises(Denied) as caught:
        kept.principal(key, now)
    return caught.value.reason


def test_every_new_key_is_one_no_other_is_the_same_and_a_scanner_knows_it():
    keys = {new_key() for _ in range(200)}
    assert len(keys) == 200
    assert all(re.fullmatch(r"moda_[0-9A-Za-z]{10}_[0-9A-Za-z]{38}", key) for key in keys)
    assert all(read_key(key) == key[5:15] for key in keys)


@given(st.data())
def test_a_key_with_one_character_changed_is_refused_without_asking_anybody(data):
    key = new_key()
    at = data.draw(st.integers(0, KEY_CHARS - 1))
    other = data.draw(st.characters().filter(lambda one: one != key[at]))
    with pytest.raises(Denied, match="cut short or mistyped"):
        read_key(key[:at] + other + key[at + 1 :])


@given(st.one_of(st.text(), st.text().map("moda_{}".format), st.binary().map(bytes.hex)))
def test_whatever_text_is_shown_it_is_a_key_or_malformed(text):
    with pytest.raises(Denied) as caught:
        read_key(text)
    assert caught.value.reason == "malformed"
    assert len(text) < 6 or text not in f"{caught.value} {caught.value!r}"


def test_a_key_cut_short_a_key_with_a_blank_and_one_in_other_letters_are_no_keys():
    key = new_key()
    for wrong in (key[:-1], key + " ", key + "\n", key.replace("moda_", "MODA_"), KEY + "000000"):
        with pytest.raises(Denied):
            read_key(wrong)


def test_neither_the_key_nor_its_digest_shows_in_what_is_kept():
    key = new_key()
    kept = record(key, name="ci")
    assert key[16:] not in repr(kept)
    assert digest_of(key).hex() not in repr(kept)
    assert repr(digest_of(key)) not in repr(kept)
    assert kept.digest == digest_of(key)


def test_a_key_is_who_it_was_made_for():
    key = new_key()
    kept = record(
        key, kind="internal", scopes=["publish"], publish=["price:*"], expires_at=NOW + 60
    )
    principal = kept.principal(key, NOW)
    assert (principal.id, principal.kind, principal.key_kind) == (key[5:15], "key", "internal")
    assert principal.expires_at == NOW + 60
    assert principal.may_publish("price:btc")
    assert not principal.may_publish("room:1")
    assert not principal.may_subscribe("price:btc")


def test_another_secret_behind_the_same_id_a_revoked_and_an_ended_key_are_refused():
    key = new_key()
    assert reason(new_key(), record(key)) == "unknown"
    ended = record(key, expires_at=NOW)
    assert reason(key, ended) == "expired"
    assert ended.principal(key, NOW - 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scopes": []}, "may nothing"),
        ({"scopes": ["Read"]}, "'Read' as a kind or a scope"),
        ({"kind": "a b"}, "'a b' as a kind or a scope"),
        ({"name": "x" * 101}, "100 printable"),
        ({"name": "a\nb"}, "100 printable"),
        ({"subscribe": ["a*b"]}, "before its end"),
    ],
)
def test_a_key_nobody_could_use_is_not_made(options, says):
    with pytest.raises(ValueError, match=says):
        record(new_key(), **options)


class TestMemory:
    """The port's rules, on the adapter that ends with its process."""

    async def test_keys_come_back_oldest_first_and_an_id_is_given_once(self):
        keys = MemoryKeys()
        first, second = new_key(), new_key()
        late = KeyRecord.made(second, now=NOW + 1)
        await keys.add(late)
        await keys.add(record(first))
        assert [one.id for one in await keys.all()] == [first[5:15], second[5:15]]
        with pytest.raises(ValueError, match="already"):
            await keys.add(record(first))
        assert await keys.get("nobody") is None

    async def test_the_first_revocation_stays_and_an_unknown_id_is_said(self):
        keys = MemoryKeys()
        key = new_key()
        await keys.add(record(key))
        assert await keys.revoke(key[5:15], NOW)
        assert await keys.revoke(key[5:15], NOW + 9)
        kept = await keys.get(key[5:15])
        assert kept is not None
        assert kept.revoked_at == NOW
        assert reason(key, kept) == "revoked"
        assert not await keys.revoke("nobody", NOW)

    async def test_the_last_use_moves_forward_only(self):
        keys = MemoryKeys()
        key = new_key()
        await keys.add(record(key))
        for at in (NOW + 5, NOW + 2):
            await keys.used({key[5:15]: at, "gone": at})
        kept = await keys.get(key[5:15])
        assert kept is not None
        assert kept.last_used_at == NOW + 5
