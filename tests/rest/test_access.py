"""The rule of who may, over a real socket: nothing of a refused request is read, no key is logged."""

from __future__ import annotations

import asyncio
import time

import jwt

KEYS = {
    "INTERNAL_API_KEYS": "inner-k3y",
    "PUBLIC_API_KEYS": "outer-k3y",
    "ADMIN_API_KEYS": "admin-k3y",
}
SECRET = "0123456789abcdef0123456789abcdef"


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
    assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Bearer realm="moda"')
    assert (await api.ask("POST", "/publish", message, x_api_key="wr0ng-k3y")).status == 401
    assert (await api.ask("POST", "/publish", message, x_api_key="outer-k3y")).status == 403
    assert (await api.get("/topics", x_api_key="outer-k3y")).status == 200
    assert (
        await api.ask("POST", "/publish", message, authorization="Bearer inner-k3y")
    ).status == 200
    for key, status in (("inner-k3y", 403), ("admin-k3y", 200)):
        answer = await api.ask("POST", "/disconnect", {"id": "user:1"}, x_api_key=key)
        assert answer.status == status
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


async def test_a_token_reaches_the_topics_of_its_rules_and_no_others(begin):
    api = await begin(MODA_JWT_SECRET=SECRET)
    claims = {
        "sub": "ann",
        "exp": time.time() + 60,
        "subscribe": ["room:a*"],
        "publish": ["room:a1"],
    }
    token = {"authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}
    messages = [{"topic": topic, "event": "said"} for topic in ("room:a1", "room:a2", "room:b")]
    answer = await api.batch(*messages, **token)
    codes = [result.get("code") for result in answer.body["results"]]
    assert codes == [None, "forbidden", "forbidden"]
    single = await api.ask("POST", "/publish", messages[2], **token)
    assert (single.status, single.body["error"]["code"]) == (403, "forbidden")
    assert (await api.get("/topics/room:a2/history", **token)).status == 200
    for path in ("/topics/room:b", "/topics/room:b/history"):
        assert (await api.get(path, **token)).status == 403
    listed = (await api.get("/topics", **token)).body["topics"]
    assert [state["topic"] for state in listed] == ["room:a1"]
    assert (await api.ask("POST", "/disconnect", {"id": "x"}, **token)).status == 403
