"""Who gets in, on which mount, and what refuses them: HTTP answers before the upgrade.

The decisions alone are tested in ``tests/wire/test_handshake.py``, the door's part of them in
``tests/serve``; here both meet an application.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from moda import Channel, Connect, Gateway, Refuse, Socket
from phoenix import OK, UNMATCHED, error
from raw import ACCEPT, TEXT, frame, request

HEARTBEAT = frame('[null,"1","phoenix","heartbeat",{}]')


def token_header(token: str) -> str:
    encoded = base64.b64encode(token.encode()).decode().rstrip("=")
    return f"phoenix, base64url.bearer.phx.{encoded}"


class WhoAmI(Channel):
    """Tells a client what the gateway knows of its connection."""

    async def join(self, payload: Any) -> Any:
        return {
            "id": self.socket.id,
            "principal": self.socket.principal,
            "params": self.socket.params,
        }


def asking(hook: Any, **options: Any) -> Gateway:
    gateway = Gateway(builtins=False)
    gateway.socket("/socket", connect=hook, **options)
    gateway.channel("me")(WhoAmI)
    return gateway


@pytest.mark.parametrize(
    "vsn",
    ["2.0.0", "2.0.7", "2.0.0%2Bmeta", "1.0.0&vsn=2.0.0"],
    ids=["exact", "patch", "meta", "last wins"],
)
async def test_versions_that_are_v2(running, raw, vsn):
    client = await raw(running)
    await client.upgrade(f"/socket/websocket?vsn={vsn}")
    await client.send(HEARTBEAT)
    assert (await client.receive())[1].startswith(b'[null,"1","phoenix"')


@pytest.mark.parametrize("query", ["", "?vsn=1.0.0", "?vsn=1.0.9", "?x=1"])
async def test_versions_that_are_v1(running, raw, query):
    client = await raw(running)
    await client.upgrade(f"/socket/websocket{query}")
    await client.send(frame('{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}'))
    assert (await client.receive())[1].startswith(b'{"topic":"phoenix"')


@pytest.mark.parametrize(
    "vsn",
    ["2.1.0", "3.0.0", "123.1.1", "2", "2.0", "abc", "", "2.0.0-rc.1", "02.0.0", "1.1.0"],
)
async def test_any_other_version_is_403_with_an_empty_body_and_connect_never_runs(serve, raw, vsn):
    asked: list[Connect] = []
    running = await serve(asking(asked.append))
    client = await raw(running)
    await client.send(request(f"/socket/websocket?vsn={vsn}"))
    status, _, body = await client.response()
    assert (status, body, asked) == (403, b"", [])
    other = await raw(running)
    await other.send(request("/socket/websocket?vsn[]=2.0.0"))
    assert (await other.response())[0] == 403


async def test_an_accepted_client_is_greeted_by_nothing(running, raw):
    client = await raw(running)
    await client.send(request())
    status, headers, _ = await client.response()
    assert (status, headers["sec-websocket-accept"]) == (101, ACCEPT)
    assert "sec-websocket-protocol" not in headers
    await client.send(HEARTBEAT)
    opcode, payload = await client.receive()
    assert (opcode, payload[:18]) == (TEXT, b'[null,"1","phoenix')


# -- the connect hook


async def test_what_connect_returns_is_the_principal_and_params_reach_the_channel(serve, connect):
    running = await serve(asking(lambda asked: {"name": asked.params["name"]}))
    client = await connect(running, params={"name": "ann"})
    assert await client.join("me") == {
        "id": None,
        "principal": {"name": "ann"},
        "params": {"name": "ann", "vsn": "2.0.0"},
    }


async def test_connect_may_be_a_coroutine_and_may_make_the_socket_itself(serve, connect):
    async def admit(asked: Connect) -> Socket:
        await asyncio.sleep(0)
        return Socket(id="user:1", principal=1)

    client = await connect(await serve(asking(admit)))
    answer = await client.join("me")
    assert (answer["id"], answer["principal"]) == ("user:1", 1)


async def test_connect_sees_params_as_a_tree_headers_address_and_path(serve, raw):
    asked: list[Connect] = []
    running = await serve(asking(asked.append))
    client = await raw(running)
    await client.upgrade("/socket/websocket?vsn=2.0.0&user[name]=ann&tag[]=a&tag[]=b", x_trace="t1")
    (seen,) = asked
    assert seen.params == {"vsn": "2.0.0", "user": {"name": "ann"}, "tag": ["a", "b"]}
    assert seen.headers["x-trace"] == "t1"
    assert seen.client is not None
    assert seen.client[0] == "127.0.0.1"
    assert seen.path == "/socket/websocket"
    assert seen.token is None


@pytest.mark.parametrize("status", [403, 401, 429, 503])
async def test_connect_refuses_with_its_status_and_body(serve, raw, status):
    def refuse(asked: Connect) -> None:
        raise Refuse(status, "later")

    running = await serve(asking(refuse))
    client = await raw(running)
    await client.send(request())
    got, headers, body = await client.response()
    assert (got, body, headers["connection"]) == (status, b"later", "close")
    assert await client.ended() == b""
    assert running.refusals == ["connect"]


async def test_a_connect_that_crashes_is_500_and_the_next_client_is_asked_again(serve, raw):
    answers = iter([RuntimeError("a bug"), None])

    def admit(asked: Connect) -> None:
        answer = next(answers)
        if answer is not None:
            raise answer

    running = await serve(asking(admit))
    client = await raw(running)
    await client.send(request())
    assert (await client.response())[0] == 500
    await (await raw(running)).upgrade()


@pytest.mark.parametrize("bad", [5, b"user:1", ["user:1"]])
async def test_a_socket_id_that_is_no_string_is_403(serve, raw, bad):
    running = await serve(asking(lambda asked: Socket(id=bad)))
    client = await raw(running)
    await client.send(request())
    assert (await client.response())[0] == 403
    assert running.refusals == ["socket_id"]


async def test_a_slow_connect_delays_nobody_else(serve, raw):
    gate = asyncio.Event()

    async def admit(asked: Connect) -> None:
        if "slow" in asked.params:
            await gate.wait()

    running = await serve(asking(admit))
    slow = await raw(running)
    await slow.send(request("/socket/websocket?vsn=2.0.0&slow=1"), HEARTBEAT)
    await (await raw(running)).upgrade()
    gate.set()
    assert (await slow.response())[0] == 101
    assert (await slow.receive())[0] == TEXT


async def test_a_hook_decorated_before_the_socket_is_declared_still_decides(serve, raw):
    gateway = Gateway(builtins=False)

    @gateway.connect
    def nobody(asked: Connect) -> None:
        raise Refuse(401)

    gateway.socket("/socket", idle_seconds=10)
    client = await raw(await serve(gateway))
    await client.send(request())
    assert (await client.response())[0] == 401


# -- the token in the subprotocol


async def test_an_auth_token_reaches_connect_and_is_never_echoed(serve, raw):
    asked: list[Connect] = []
    running = await serve(asking(asked.append))
    client = await raw(running)
    await client.send(request(sec_websocket_protocol=token_header("sécret+/=")))
    status, headers, _ = await client.response()
    assert (status, headers["sec-websocket-protocol"]) == (101, "phoenix")
    assert asked[0].token == "sécret+/="


@pytest.mark.parametrize(
    ("header", "status", "echoed", "token"),
    [
        (token_header("t").removeprefix("phoenix, "), 101, None, "t"),
        (None, 101, None, None),
        ("phoenix", 101, "phoenix", None),
        ("foo", 403, None, None),
        (f"{token_header('a')}, base64url.bearer.phx.Yg", 101, "phoenix", None),
        ("phoenix, base64url.bearer.phx.!!", 400, None, None),
    ],
    ids=["the token alone", "no header", "no token", "foo only", "two tokens", "not base64"],
)
async def test_what_the_subprotocol_header_may_say(serve, raw, header, status, echoed, token):
    asked: list[Connect] = []
    client = await raw(await serve(asking(asked.append)))
    await client.send(request(sec_websocket_protocol=header))
    got, headers, _ = await client.response()
    assert (got, headers.get("sec-websocket-protocol")) == (status, echoed)
    assert [one.token for one in asked] == ([token] if status == 101 else [])


async def test_the_stock_library_negotiates_the_subprotocol(serve, connect):
    running = await serve(asking(lambda asked: asked.token))
    client = await connect(running, subprotocols=["phoenix", "base64url.bearer.phx.dG9rZW4"])
    assert client.socket.subprotocol == "phoenix"
    assert (await client.join("me"))["principal"] == "token"


# -- origins


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 101),
        ("http://127.0.0.1", 101),
        ("https://127.0.0.1:8443", 101),
        ("http://evil.example", 403),
        ("null", 403),
        ("file://", 403),
        ("", 403),
    ],
)
async def test_a_page_of_the_same_host_connects_and_a_strangers_does_not(
    running, raw, origin, status
):
    client = await raw(running)
    await client.send(request(origin=origin))
    assert (await client.response())[0] == status


# -- several mounts


async def test_each_mount_has_its_own_rules_and_its_own_channels(serve, raw, connect):
    gateway = Gateway(builtins=False)
    gateway.socket(
        "/admin",
        connect=lambda asked: "admin" if asked.token == "key" else _refuse(),
        max_channels=1,
        origins="any",
    )
    gateway.socket("/tenant/{tenant}", max_channels=2, origins=["https://*.example.org"])
    gateway.channel("everywhere:{n}")(WhoAmI)
    gateway.channel("admin:{n}", sockets=["/admin/"])(WhoAmI)
    gateway.channel("tenant", sockets=["/tenant/{tenant}", "/admin"])(WhoAmI)
    running = await serve(gateway)

    plain = await connect(running)
    await plain.join("everywhere:1")
    for topic in ("admin:1", "tenant"):
        await plain.send("2", "2", topic, "phx_join", {})
        await plain.expect(None, "2", topic, "phx_reply", UNMATCHED)

    admin = await connect(
        running, "/admin", subprotocols=["phoenix", "base64url.bearer.phx.a2V5"], origin="https://x"
    )
    assert (await admin.join("admin:1"))["principal"] == "admin"
    await admin.send("2", "2", "everywhere:1", "phx_join", {})
    await admin.expect("2", "2", "everywhere:1", "phx_reply", error("too many channels joined"))
    stranger = await raw(running)
    await stranger.send(request("/admin/websocket?vsn=2.0.0"))
    assert (await stranger.response())[0] == 403

    tenant = await connect(running, "/tenant/acme%20inc", origin="https://a.example.org")
    assert (await tenant.join("tenant"))["params"]["tenant"] == "acme inc"
    page = await raw(running)
    await page.send(request("/tenant/acme/websocket?vsn=2.0.0", origin="https://evil.example"))
    assert (await page.response())[0] == 403
    for path in ("/tenant//websocket", "/tenant/a/b/websocket", "/admin", "/nobody/websocket"):
        lost = await raw(running)
        await lost.send(request(path))
        assert (await lost.response())[0] == 404


def _refuse() -> None:
    raise Refuse(403)


async def test_a_topic_is_one_topic_on_every_mount(serve, connect):
    gateway = Gateway(builtins=False)
    gateway.socket("/other")
    gateway.channel("room")(Channel)
    running = await serve(gateway)
    here = await connect(running)
    there = await connect(running, "/other")
    await here.join("room")
    await there.join("room")
    gateway.broadcast("room", "news", {"n": 1})
    await here.expect(None, None, "room", "news", {"n": 1})
    await there.expect(None, None, "room", "news", {"n": 1})


# -- all at once


async def test_an_upgrade_a_join_and_messages_may_come_in_one_segment(running, raw):
    client = await raw(running)
    await client.send(
        request(),
        frame('["1","1","room:a","phx_join",{}]'),
        frame('["1","2","room:a","echo",{"n":2}]'),
        HEARTBEAT,
        frame('["1","3","room:a","echo",{"n":3}]'),
    )
    assert (await client.response())[0] == 101
    texts = [(await client.receive())[1].decode() for _ in range(4)]
    heartbeat = '[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]'
    assert heartbeat in texts
    texts.remove(heartbeat)
    assert texts == [
        '["1","1","room:a","phx_reply",{"status":"ok","response":{}}]',
        '["1","2","room:a","phx_reply",{"status":"ok","response":{"n":2}}]',
        '["1","3","room:a","phx_reply",{"status":"ok","response":{"n":3}}]',
    ]


async def test_a_pipelining_client_waits_for_a_slow_connect_and_loses_nothing(serve, raw):
    gate = asyncio.Event()

    async def admit(asked: Connect) -> None:
        await gate.wait()

    gateway = asking(admit)
    client = await raw(await serve(gateway))
    await client.send(request(), HEARTBEAT)
    for _ in range(3):
        await client.send(HEARTBEAT)
        await asyncio.sleep(0)
    gate.set()
    assert (await client.response())[0] == 101
    for _ in range(4):
        assert (await client.receive())[1].endswith(b'{"status":"ok","response":{}}]')


async def test_a_heartbeat_works_beside_a_hook_that_never_returns_for_a_client_that_left(
    serve, raw, connect
):
    left = asyncio.Event()

    async def admit(asked: Connect) -> None:
        if "stuck" in asked.params:
            try:
                await asyncio.Event().wait()
            finally:
                left.set()

    running = await serve(asking(admit))
    stuck = await raw(running)
    await stuck.send(request("/socket/websocket?vsn=2.0.0&stuck=1"))
    client = await connect(running)
    await client.send(None, "1", "phoenix", "heartbeat", {})
    await client.expect(None, "1", "phoenix", "phx_reply", OK)
    stuck.reset()
    await left.wait()
