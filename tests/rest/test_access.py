"""The rule of who may, over a real socket: nothing of a refused request is read, no key is logged."""

from __future__ import annotations

import asyncio

KEYS = {"INTERNAL_API_KEYS": "inner-k3y", "PUBLIC_API_KEYS": "outer-k3y"}


async def test_without_a_key_a_stranger_s_page_gets_nothing(api):
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        for method, path in (("POST", "/publish"), ("GET", "/topics"), ("POST", "/disconnect")):
            answer = await api.ask(method, path, b"{}" if method == "POST" else None, **headers)
            assert answer.status in (403, 421), (headers, path)
            assert answer.body["error"]["code"] in ("forbidden", "misdirected_request")


async def test_with_keys_every_request_shows_one(begin, capsys):
    api = await begin(**KEYS)
    message = {"topic": "room:1", "event": "a"}
    refused = await api.ask("POST", "/publish", message)
    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert (await api.ask("POST", "/publish", message, x_api_key="wr0ng-k3y")).status == 401
    assert (await api.ask("POST", "/publish", message, x_api_key="outer-k3y")).status == 403
    assert (await api.get("/topics", x_api_key="outer-k3y")).status == 200
    assert (
        await api.ask("POST", "/publish", message, authorization="Bearer inner-k3y")
    ).status == 200
    assert "k3y" not in "".join(capsys.readouterr())


async def test_a_refused_request_is_answered_before_its_body_comes(begin):
    api = await begin(**KEYS)
    reader, writer = await asyncio.open_connection("127.0.0.1", api.running.port)
    writer.write(
        b"POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    )
    assert b" 401 " in await asyncio.wait_for(reader.readuntil(b"\r\n"), 20)
    writer.close()


async def test_two_callers_keys_of_one_word_do_not_meet(begin):
    api = await begin(INTERNAL_API_KEYS="one,two")
    heard = api.hears("room:1")
    for key in ("one", "two", "one"):
        answer = await api.ask(
            "POST",
            "/publish",
            {"topic": "room:1", "event": key},
            x_api_key=key,
            idempotency_key="k",
        )
        assert answer.status == 200
    assert [event for event, _, _ in heard] == ["one", "two"]


async def test_health_and_probes_need_no_key(begin):
    api = await begin(**KEYS)
    assert (await api.get("/health")).status == 200
