"""Who may use the HTTP API, by a request's head alone; and over a real socket."""

from __future__ import annotations

from typing import Any

import pytest

from moda.serve.callers import Callers

HERE = ("127.0.0.1", 4001)


def scope(client: Any = ("127.0.0.1", 9), server: Any = HERE, **headers: str) -> dict[str, Any]:
    named = {"host": "localhost:4001", **headers}
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()]
    return {"client": client, "server": server, "headers": pairs}


def refused(callers: Callers, *, writes: bool = True, **request: Any) -> int | None:
    problem = callers(scope(**request), writes)
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
        assert refused(Callers(), **request_) is None

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
        assert refused(Callers(), **request_) == 403
        assert refused(Callers(), writes=False, **request_) == 403

    def test_the_start_says_so(self):
        assert "this machine only" in Callers().described


class TestWithKeys:
    def test_a_key_is_wanted_even_from_here(self):
        callers = Callers(["inner"], ["outer"])
        assert refused(callers) == 401
        assert refused(callers, x_api_key="wrong") == 401
        assert refused(callers, authorization="Basic inner") == 401
        assert refused(callers, x_api_key="") == 401

    @pytest.mark.parametrize(
        "headers", [{"x_api_key": "inner"}, {"authorization": "bearer  inner"}]
    )
    def test_a_right_key_opens_from_anywhere(self, headers):
        assert refused(Callers(["inner"]), client=("192.0.2.7", 9), **headers) is None

    def test_a_public_key_looks_and_does_not_write(self):
        callers = Callers(["inner"], ["outer"])
        assert refused(callers, writes=False, x_api_key="outer") is None
        assert refused(callers, writes=True, x_api_key="outer") == 403

    def test_neither_the_rule_nor_a_refusal_shows_a_key(self):
        callers = Callers(["s3cret"])
        problem = callers(scope(x_api_key="gu3ssed"), True)
        shown = f"{problem.detail} {problem.extra} {callers.described}"
        assert "s3cret" not in shown
        assert "gu3ssed" not in shown
