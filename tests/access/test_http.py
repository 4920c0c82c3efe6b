"""Over HTTP: who is let in, how often, and what the answers say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar, Request, get
from litestar.testing import TestClient

from moda.access import (
    Authentication,
    EnvironmentKeys,
    JwtOptions,
    JwtVerifier,
    KeyRing,
    RateLimiter,
    Tiers,
    new_key,
)
from moda.access.http import access_middleware, credential_of, principal_of
from moda.access.keys import KeyStore, MemoryKeys
from moda.errors import Denied, ModaError
from moda.serve.api import litestar_app
from moda.serve.face import Face

from .support import SECRET, Clock, token

KEYS = EnvironmentKeys(internal=("internal-key",), public=("public-key",), admin=("admin-key",))


@get("/who")
async def who(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Says who asks."""
    principal = principal_of(request.scope)  # type: ignore[arg-type]
    return {"id": principal.id, "kind": principal.kind}


class Away(MemoryKeys):
    async def get(self, id: str) -> Any:
        raise ModaError("the database is away")


def client(
    store: KeyStore | None = None, clock: Clock | None = None, **tiers: int
) -> TestClient[Litestar]:
    now = clock or Clock()
    authentication = Authentication(
        KEYS,
        jwt=JwtVerifier(JwtOptions(secret=SECRET), now=now, clock=now),
        ring=KeyRing(store or MemoryKeys(), now=now, clock=now),
    )
    limiter = RateLimiter(Tiers(**tiers), clock=now)
    face = Face(
        "test",
        dict,
        routes=(who,),
        middleware=(access_middleware(authentication, limiter),),
    )
    return TestClient(litestar_app(face))


def bearer(credential: str) -> dict[str, str]:
    return {"authorization": f"Bearer {credential}"}


@pytest.mark.parametrize(
    ("headers", "query", "id"),
    [
        ({}, "", ""),
        (bearer("internal-key"), "", "internal#1"),
        ({"x-api-key": "public-key"}, "", "public#1"),
        ({}, "?key=public-key", "public#1"),
        ({}, "?token=public-key&token=wrong", "public#1"),
        (bearer("internal-key"), "?token=public-key", "internal#1"),
        ({"authorization": "Basic eDp5"}, "", ""),
        (bearer(token()), "", "ann"),
    ],
)
def test_a_credential_comes_as_bearer_as_api_key_or_in_the_query(headers, query, id):
    answer = client().get(f"/who{query}", headers=headers)
    assert (answer.status_code, answer.json()["id"]) == (200, id)


def test_a_wrong_credential_is_401_and_says_why_without_repeating_it():
    answer = client().get("/who", headers=bearer("hunter2-hunter2"))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="moda", error="invalid_token"'
    assert answer.json()["error"]["extra"] == {"reason": "unknown"}
    assert "hunter2" not in answer.text


def test_a_store_that_is_away_is_503_with_a_time_to_come_back():
    answer = client(Away()).get("/who", headers=bearer(new_key()))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_a_client_over_its_limit_is_429_until_the_time_it_was_told():
    clock = Clock()
    one = client(clock=clock, internal=2)
    answers = [one.get("/who", headers=bearer("internal-key")) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit"] == '"internal";r=1;t=30'
    assert answers[0].headers["ratelimit-policy"] == '"internal";q=2;w=60'
    assert answers[2].headers["ratelimit-remaining"] == "0"
    assert answers[2].json()["error"]["extra"] == {"reason": "rate limited", "limit": 2}
    clock.pass_by(int(answers[2].headers["retry-after"]))
    assert one.get("/who", headers=bearer("internal-key")).status_code == 200


def test_each_setting_limits_whom_it_says_and_administrators_are_not():
    one = client(internal=3, public_free=2)
    for headers, limit in (
        ({}, 2),
        (bearer("public-key"), 2),
        (bearer(token()), 2),
        (bearer("internal-key"), 3),
    ):
        codes = [one.get("/who", headers=headers).status_code for _ in range(limit + 1)]
        assert codes == [200] * limit + [429]
    assert {one.get("/who", headers=bearer("admin-key")).status_code for _ in range(9)} == {200}
    assert "ratelimit" not in one.get("/who", headers=bearer("admin-key")).headers


def test_guessing_is_limited_as_asking_is():
    one = client(public_free=3)
    codes = [one.get("/who", headers=bearer(f"guess-{n}")).status_code for n in range(4)]
    assert codes == [401, 401, 401, 429]


def test_health_is_answered_whatever_is_shown_and_however_often():
    one = client(public_free=1)
    codes = {one.get("/health", headers=bearer("wrong")).status_code for _ in range(5)}
    assert codes == {200}


@given(
    st.lists(st.tuples(st.sampled_from([b"authorization", b"x-api-key", b"accept"]), st.binary())),
    st.binary(),
)
def test_no_head_raises_anything_but_the_refusal(headers, query):
    try:
        shown = credential_of(headers, query)
    except Denied as denied:
        assert denied.reason == "malformed"  # noqa: PT017
    else:
        assert shown is None or shown
