"""One authenticator: from any text to a principal, or to the typed refusal."""

from __future__ import annotations

import hmac
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from moda.access import (
    Authentication,
    EnvironmentKeys,
    JwtOptions,
    JwtVerifier,
    KeyRecord,
    KeyRing,
    MemoryKeys,
    new_key,
)
from moda.access import authenticator as module
from moda.errors import Denied
from moda.principal import Authenticator

from .support import NOW, SECRET, Clock, token

KEYS = EnvironmentKeys(
    internal=("worker-key-1", "worker-key-2"),
    public=("public-key-1",),
    admin=("admin-key-1",),
    tokens=("socket-token-1",),
)


def whole(store: MemoryKeys | None = None) -> Authentication:
    clock = Clock()
    return Authentication(
        KEYS,
        jwt=JwtVerifier(JwtOptions(secret=SECRET), now=clock, clock=clock),
        ring=KeyRing(store or MemoryKeys(), now=clock, clock=clock),
    )


def test_it_is_what_dialects_ask():
    asked: Authenticator = whole()
    assert asked.authenticate_now("public-key-1")


@pytest.mark.parametrize(
    ("credential", "id", "kind", "key_kind", "scopes"),
    [
        ("worker-key-2", "internal#2", "key", "internal", {"read", "publish", "ingest"}),
        ("public-key-1", "public#1", "key", "public", {"read"}),
        ("admin-key-1", "admin#1", "key", "admin", {"admin"}),
        ("socket-token-1", "token#1", "token", None, {"read"}),
    ],
)
async def test_keys_and_tokens_of_the_environment_stay_valid(
    credential, id, kind, key_kind, scopes
):
    principal = await whole().authenticate(credential)
    assert (principal.id, principal.kind, principal.key_kind) == (id, kind, key_kind)
    assert principal.scopes == scopes
    assert principal.expires_at is None


async def test_a_key_of_the_store_and_a_token_of_the_issuer_are_taken_by_the_same_call():
    store, key = MemoryKeys(), new_key()
    await store.add(KeyRecord.made(key, now=NOW, kind="internal"))
    one = whole(store)
    assert one.authenticate_now(key) is None  # it has to ask
    assert (await one.authenticate(key)).key_kind == "internal"
    assert one.authenticate_now(key)
    assert (await one.authenticate(token())).id == "ann"
    assert one.decided == {"ok": 3}


@pytest.mark.parametrize(
    ("credential", "reason"),
    [
        ("", "unknown"),
        ("worker-key-3", "unknown"),
        ("moda_short", "malformed"),
        ("\ud800", "malformed"),
        ("x" * 8193, "malformed"),
        (token(exp=NOW - 60), "expired"),
        (token(key="another secret of thirty-two bytes!"), "signature"),
        (new_key(), "unknown"),
    ],
)
async def test_a_wrong_credential_is_refused_for_its_reason_and_counted(credential, reason):
    one = whole()
    with pytest.raises(Denied) as caught:
        await one.authenticate(credential)
    assert (caught.value.reason, caught.value.status) == (reason, 401)
    assert one.decided == {reason: 1}


async def test_without_an_issuer_or_a_store_their_credentials_are_unknown():
    for credential in (token(), new_key()):
        with pytest.raises(Denied) as caught:
            await Authentication(KEYS).authenticate(credential)
        assert caught.value.reason == "unknown"


@given(st.one_of(st.text(), st.text("moda_eyJ.0aZ-", max_size=80)))
def test_no_text_raises_anything_but_the_refusal_and_none_repeats_it(text):
    with pytest.raises(Denied) as caught:
        Authentication(KEYS, jwt=whole().jwt).authenticate_now(text)
    assert len(text) < 8 or text not in f"{caught.value!s} {caught.value!r} {caught.value.args}"


async def test_no_secret_shows_in_a_printed_object_a_refusal_or_a_log(caplog):
    store, key = MemoryKeys(), new_key()
    await store.add(KeyRecord.made(key, now=NOW))
    wrong = token(key="another secret of thirty-two bytes!")
    one = whole(store)
    said = [repr(one), repr(KEYS), repr(one.jwt), repr(one.ring), repr(await store.all())]
    with caplog.at_level(logging.DEBUG), capture_logs() as logs:
        said.append(repr(await one.authenticate(key)))
        said.append(repr(await one.authenticate("worker-key-1")))
        for credential in (wrong, new_key(), "worker-key-9"):
            with pytest.raises(Denied) as caught:
                await one.authenticate(credential)
            said.append(f"{caught.value!r} {caught.value.__context__!r}")
    text = " ".join([*said, repr(logs), caplog.text])
    for secret in (
        "worker-key",
        "public-key-1",
        "admin-key-1",
        "socket-token",
        SECRET,
        key[16:],
        wrong,
    ):
        assert secret not in text


async def test_secrets_are_compared_in_constant_time(monkeypatch):
    """Every decision on a secret ends in ``hmac.compare_digest``, of digests of one length."""
    compared: list[tuple[int, int]] = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return hmac.compare_digest(left, right)

    class Spied:
        compare_digest = staticmethod(compare)

    store, key = MemoryKeys(), new_key()
    await store.add(KeyRecord.made(key, now=NOW))
    one = whole(store)
    monkeypatch.setattr(module, "hmac", Spied)
    monkeypatch.setattr("moda.access.keys.hmac", Spied)
    await one.authenticate("worker-key-1")
    assert compared == [(32, 32)]
    await one.authenticate(key)
    assert (32, 32) in compared[1:]
