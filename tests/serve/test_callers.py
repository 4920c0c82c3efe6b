"""Who may use the HTTP API, by a request's head alone; and over a real socket."""

from __future__ import annotations

from typing import Any

import pytest

from moda.principal import Principal, Rules, Topics
from moda.serve.callers import Callers

OPEN, LOCKED = Callers(locked=False), Callers(locked=True)
HERE = ("127.0.0.1", 4001)


def scope(client: Any = ("127.0.0.1", 9), server: Any = HERE, **headers: str) -> dict[str, Any]:
    named = {"host": "localhost:4001", **headers}
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()]
    return {"client": client, "server": server, "headers": pairs}


def refused(
    callers: Callers, need: Any = "publish", who: Principal | None = None, **request: Any
) -> int | None:
    asked = scope(**request)
    if who is not None:
        asked["moda.principal"] = who
    problem = callers(asked, need)
    return None if problem is None else problem.status_code


class TestWithoutKeys:
    """This machine alone, and no page of anybody else."""

    @pytest.mark.parametrize(
        "request_",
        [
            {},
            {"client": ("::1", 9, 0, 0), "server": ("::1", 4001, 0, 0)},
            {"client": ("::ffff:127.0.0.1", 9, 0, 0)},
            {"origin": "http://localhost:4001"},
            {"sec_fetch_site": "same-origin", "origin": "HTTP://LOCALHOST:4001"},
            {"sec_fetch_site": "none"},
        ],
    )
    def test_a_program_or_page_of_this_gateway_is_let_in(self, request_):
        assert refused(OPEN, **request_) is None

    @pytest.mark.parametrize(
        "request_",
        [
            {"client": ("192.0.2.7", 9)},
            {"server": ("192.0.2.1", 4001)},
            {"client": None},
            {"x_forwarded_for": "127.0.0.1"},
            {"forwarded": "for=127.0.0.1"},
            {"via": "1.1 proxy"},
            {"origin": "http://evil.example"},
            {"origin": "http://localhost:8080"},
            {"origin": "http://192.0.2.7:4001"},
            {"origin": "null"},
            {"origin": "null", "host": ""},
            {"sec_fetch_site": "cross-site"},
            {"sec_fetch_site": "same-site"},
        ],
    )
    def test_others_are_not_whether_they_look_or_write(self, request_):
        assert refused(OPEN, **request_) == 403
        assert refused(OPEN, "read", **request_) == 403

    def test_the_start_says_so(self):
        assert "this machine only" in OPEN.described


class TestWithCredentials:
    def test_nobody_is_refused_even_from_here_once_a_key_is_configured(self):
        assert refused(LOCKED) == 401
        assert refused(LOCKED, "read") == 401

    @pytest.mark.parametrize("callers", [OPEN, LOCKED])
    def test_a_key_opens_what_its_scopes_say_from_anywhere(self, callers):
        far = {"client": ("192.0.2.7", 9), "origin": "http://elsewhere.example"}
        for scopes, may in (
            ({"read"}, {"read"}),
            ({"read", "publish"}, {"read", "publish"}),
            ({"admin"}, {"read", "publish", "admin"}),
            ({"ingest"}, set()),
        ):
            key = Principal("k", "key", frozenset(scopes))
            for need in ("read", "publish", "admin"):
                expected = None if need in may else 403
                assert refused(callers, need, key, **far) == expected

    def test_the_scopes_of_a_json_web_token_are_its_issuer_s_words(self):
        token = Principal("ann", "jwt", frozenset({"admin", "read"}))
        assert [refused(LOCKED, need, token) for need in ("read", "publish", "admin")] == [403] * 3
        ruled = Principal("ann", "jwt", rules=Rules(publish=Topics.of(["room:*"])))
        assert refused(LOCKED, "publish", ruled) is None
        assert refused(LOCKED, "read", ruled) == 403

    def test_the_start_says_so(self):
        assert "with an API key" in LOCKED.described
