"""Keys, tokens and rules reach the server: each is set as an operator does, and clients see it."""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus

from access.support import SECRET, jwk, key_set, private
from gateway import Running
from moda import Channel, Gateway, Reply, Stream
from moda.app.access_checks import check_access
from moda.app.assemble import assemble
from moda.app.cli import findings_of
from moda.app.settings import load_settings
from moda.errors import ConfigurationError
from moda.serve.server import Server
from phoenix import OK, Phoenix, PhoenixV1, error

PAGE = Path(__file__).parents[2] / "docs" / "access.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

GUARDED = b"""
asyncapi: 3.0.0
info: {title: Guarded, version: 1.0.0}
channels:
  feed: {address: 'feed:{symbol}', x-moda: {access: 'key:ingest', publish: clients}}
  inside: {address: 'inside', x-moda: {access: 'key:internal', publish: servers}}
  relay: {address: 'relay:{name}', x-moda: {publish: clients}}
  stream: {address: 'stream:{name}', x-moda: {publish: servers}}
"""

Assemble = Callable[..., Awaitable[Running]]


@pytest.fixture
async def assembled() -> AsyncIterator[Assemble]:
    """``running = await assembled(gateway, MODA_...=...)``: a gateway as ``moda serve`` makes it."""
    all_running: list[Running] = []

    async def begin(gateway: Gateway | None = None, **environ: str) -> Running:
        gateway = gateway or Gateway(asyncapi=GUARDED, builtins=False)
        environ = {"PORT": "0", "MODA_CONSOLE": "off", "MODA_SOCKET_AUTH": "optional", **environ}
        server = Server(assemble(gateway, load_settings(environ)))
        await server.start()
        running = Running(gateway, server, False, [], [])
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: running.mishaps.append(context)
        )
        all_running.append(running)
        return running

    yield begin
    for running in all_running:
        await running.stop()


def token(seconds: float = 600, key: Any = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    head = {"kid": claims.pop("kid")} if "kid" in claims else None
    claims = {"sub": "ann", "exp": time.time() + seconds, **claims}
    return jwt.encode(claims, key, algorithm=algorithm, headers=head)


async def refused(running: Running, **options: Any) -> int:
    params = options.pop("params", {})
    with pytest.raises(InvalidStatus) as caught:
        await Phoenix.open(running.ws(**params), **options)
    return caught.value.response.status_code


async def get(
    running: Running, path: str, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str]]:
    def ask() -> tuple[int, dict[str, str]]:
        request = urllib.request.Request(running.url + path, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers)

    return await asyncio.to_thread(ask)


def unauthorized(**more: str) -> dict[str, Any]:
    return {"status": "error", "response": {"reason": "unauthorized", **more}}


class TestSockets:
    """Who connects, by whatever they show and wherever they put it."""

    @pytest.mark.parametrize(
        "shown",
        [
            {"params": {"token": "T"}},
            {"additional_headers": {"Authorization": "Bearer T"}},
            {"additional_headers": {"X-API-Key": "T"}},
        ],
        ids=["query", "bearer", "api key"],
    )
    @pytest.mark.parametrize("kind", ["jwt", "key", "socket token"])
    async def test_a_right_credential_connects_and_a_wrong_one_does_not(
        self, assembled, connect, shown, kind
    ):
        running = await assembled(
            MODA_SOCKET_AUTH="required",
            MODA_JWT_SECRET=SECRET,
            MODA_SOCKET_TOKENS="socket-token-1",
            PUBLIC_API_KEYS="public-key-1",
        )
        right = {"jwt": token(), "key": "public-key-1", "socket token": "socket-token-1"}[kind]

        def showing(value: str) -> dict[str, Any]:
            return json.loads(
                json.dumps(shown).replace('"T"', f'"{value}"').replace("r T", f"r {value}")
            )

        await connect(running, **showing(right))
        for wrong in ("guess", right[:-1], token(-60), token(key="x" * 40)):
            assert await refused(running, **showing(wrong)) == 403
        assert await refused(running) == 403

    async def test_the_refusal_is_logged_with_its_reason_and_without_the_token(self, assembled):
        running = await assembled(MODA_JWT_SECRET=SECRET)
        ended = token(-60)
        with capture_logs() as logs:
            assert await refused(running, params={"token": ended}) == 403
        (line,) = [one for one in logs if one["event"] == "connect.refused"]
        assert (line["reason"], line["got"]) == ("token", "the token has ended (exp)")
        assert ended not in repr(logs)

    async def test_a_token_of_an_issuers_key_set_connects_and_its_subject_is_the_principal(
        self, assembled, connect, tmp_path
    ):
        path = tmp_path / "jwks.json"
        path.write_bytes(key_set(jwk("RS256", "r"), jwk("ES256", "e")))
        gateway = Gateway(builtins=False)

        @gateway.channel("me")
        class Me(Channel):
            async def join(self, payload):
                assert self.socket.principal is self.socket.identity
                return {
                    "id": self.socket.principal.id,
                    "email": self.socket.identity.claims["email"],
                }

        running = await assembled(gateway, MODA_JWT_JWKS=str(path), MODA_JWT_AUDIENCE="moda")
        for algorithm, kid in (("RS256", "r"), ("ES256", "e")):
            shown = token(
                key=private(algorithm), algorithm=algorithm, kid=kid, email="a@b", aud="moda"
            )
            client = await connect(running, params={"token": shown})
            assert await client.join("me") == {"id": "ann", "email": "a@b"}

    async def test_an_issuer_that_cannot_be_reached_is_503_with_a_time_to_come_back(
        self, assembled
    ):
        running = await assembled(MODA_JWT_JWKS="http://127.0.0.1:1/jwks")
        shown = token(key=private("ES256"), algorithm="ES256")
        assert await refused(running, params={"token": shown}) == 503

    async def test_off_looks_at_no_token(self, assembled, connect):
        running = await assembled(MODA_SOCKET_AUTH="off", MODA_JWT_SECRET=SECRET)
        client = await connect(running, params={"token": "whatever"})
        assert await client.ask("1", "1", "inside", "phx_join", {}) == unauthorized(
            access="key:internal"
        )


class TestChannels:
    """What a principal may join and publish to: streams, relays and handlers alike."""

    async def test_a_channel_for_keys_opens_to_that_kind_that_scope_and_administrators(
        self, assembled, connect
    ):
        running = await assembled(
            INTERNAL_API_KEYS="internal-1", PUBLIC_API_KEYS="public-1", ADMIN_API_KEYS="admin-1",
            MODA_JWT_SECRET=SECRET,
        )  # fmt: skip
        for key in ("internal-1", "admin-1"):
            client = await connect(running, params={"token": key})
            await client.join("inside")
            await client.join("feed:btc", ref="2")
        for shown in ("public-1", token(scope="ingest internal admin"), ""):
            client = await connect(running, params={"token": shown})
            for topic, access in (("inside", "key:internal"), ("feed:btc", "key:ingest")):
                answer = await client.ask("1", "1", topic, "phx_join", {})
                assert answer == unauthorized(access=access)

    @pytest.mark.parametrize("kind", ["stream", "relay", "room"])
    async def test_a_topic_the_tokens_rule_does_not_name_is_not_joined(
        self, assembled, connect, kind
    ):
        gateway = Gateway(asyncapi=GUARDED, builtins=False)

        @gateway.channel("room:{name}")
        class Room(Channel):
            pass

        running = await assembled(gateway, MODA_JWT_SECRET=SECRET)
        shown = token(subscribe=["stream:a*", "relay:a*", "room:a*"])
        client = await connect(running, params={"token": shown})
        await client.join(f"{kind}:abc")
        for topic in (f"{kind}:b", f"{kind}:A"):
            answer = await client.ask("2", "2", topic, "phx_join", {})
            assert answer == unauthorized(rule="subscribe")
        await client.silence()

    async def test_the_rule_holds_for_clients_of_the_older_serializer(self, assembled):
        running = await assembled(MODA_JWT_SECRET=SECRET)
        url = running.ws(vsn="", token=token(subscribe=["stream:a"]))
        client = await PhoenixV1.open(url)
        await client.join("stream:a")
        await client.send("stream:b", "phx_join", {}, "2")
        await client.expect("stream:b", "phx_reply", unauthorized(rule="subscribe"), "2")
        await client.close()

    async def test_an_event_to_a_topic_the_tokens_rule_does_not_name_reaches_nobody(
        self, assembled, connect
    ):
        running = await assembled(MODA_JWT_SECRET=SECRET)
        hearer = await connect(running)
        writer = await connect(running, params={"token": token(publish=["relay:a"])})
        for topic, ref in (("relay:a", "1"), ("relay:b", "2")):
            await hearer.join(topic, ref=ref)
            await writer.join(topic, ref=ref)
        assert await writer.ask("2", "3", "relay:b", "say", {"n": 1}) == unauthorized(
            rule="publish"
        )
        assert await writer.ask("1", "4", "relay:a", "say", {"n": 2}) == OK
        await hearer.expect(None, None, "relay:a", "say", {"n": 2})

    async def test_a_key_that_only_publishes_hears_nothing(self, assembled, connect):
        """Scopes of the store's keys; the environment's have ``read``."""
        gateway = Gateway(asyncapi=GUARDED, builtins=False)
        from moda.principal import Principal

        gateway.connect(lambda asked: Principal("k", "key", frozenset({"publish"}), key_kind="x"))
        client = await connect(await assembled(gateway))
        answer = await client.ask("1", "1", "stream:a", "phx_join", {})
        assert answer == unauthorized(rule="subscribe")

    async def test_a_connect_hook_sees_who_the_token_is_and_its_answer_leaves_the_rules(
        self, assembled, connect
    ):
        gateway = Gateway(asyncapi=GUARDED, builtins=False)
        asked: list[Any] = []
        gateway.connect(lambda one: asked.append(one.principal) or {"user": one.principal.id})
        running = await assembled(gateway, MODA_JWT_SECRET=SECRET)
        client = await connect(running, params={"token": token(subscribe=[])})
        assert asked[0].id == "ann"
        answer = await client.ask("1", "1", "stream:a", "phx_join", {})
        assert answer == unauthorized(rule="subscribe")

    async def test_a_channel_for_keys_where_none_can_be_shown_is_warned_of(self, assembled):
        with capture_logs() as logs:
            await assembled(MODA_SOCKET_AUTH="off")
        said = [one["warning"] for one in logs if one["event"] == "policy.not_kept"]
        assert len([one for one in said if "no client can show a key" in one]) == 2


class TestEnds:
    """Open connections end with their tokens."""

    async def test_each_channel_hears_an_error_then_the_connection_closes(self, assembled, connect):
        gateway = Gateway(asyncapi=GUARDED, builtins=False)
        left: list[str] = []

        @gateway.channel("room")
        class Room(Channel):
            async def leave(self, reason):
                left.append(reason)

        @gateway.channel("slow")
        class Slow(Stream):
            async def join(self, request):
                await asyncio.Event().wait()

        running = await assembled(gateway, MODA_JWT_SECRET=SECRET, MODA_JWT_LEEWAY="0")
        client = await connect(running, params={"token": token(1.5)})
        lasting = await connect(running, params={"token": token(600)})
        await client.join("room")
        await client.join("stream:a", ref="2")
        await client.send("3", "3", "slow", "phx_join", {})
        await lasting.join("stream:a")
        await client.expect("1", None, "room", "phx_error", {})
        await client.expect("2", None, "stream:a", "phx_error", {})
        assert await client.closed() == (4401, "token expired")
        assert left == ["closed"]
        assert running.gateway.tokens_ended == 1
        running.gateway.broadcast("stream:a", "on", {})
        await lasting.expect(None, None, "stream:a", "on", {})

    async def test_a_connection_without_a_channel_ends_too(self, assembled, connect):
        running = await assembled(MODA_JWT_SECRET=SECRET, MODA_JWT_LEEWAY="0")
        client = await connect(running, params={"token": token(1)})
        assert await client.closed() == (4401, "token expired")

    async def test_a_new_token_keeps_it_open_and_its_rules_hold_from_then_on(
        self, assembled, connect
    ):
        gateway = Gateway(asyncapi=GUARDED, builtins=False)

        @gateway.channel("room")
        class Room(Channel):
            async def handle(self, event, payload):
                await self.socket.refresh(payload["token"])
                return Reply("ok")

        running = await assembled(gateway, MODA_JWT_SECRET=SECRET, MODA_JWT_LEEWAY="0")
        client = await connect(running, params={"token": token(1.5)})
        await client.join("room")
        new = {"token": token(600, subscribe=["stream:a"])}
        assert await client.ask("1", "2", "room", "token", new) == OK
        await asyncio.sleep(1.6)  # past the first token's end
        await client.join("stream:a", ref="3")
        answer = await client.ask("4", "4", "stream:b", "phx_join", {})
        assert answer == unauthorized(rule="subscribe")

    async def test_nothing_is_kept_of_connections_that_are_gone(self, assembled, connect):
        running = await assembled(MODA_JWT_SECRET=SECRET)
        for _ in range(3):
            client = await connect(running, params={"token": token()})
            await client.join("stream:a")
            await client.close()
        expiry = running.gateway._expiry
        assert expiry is not None
        async with asyncio.timeout(20):
            while len(expiry):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (expiry._heap, expiry._timer) == ([], None)


class TestHttp:
    """RATE_LIMIT_* and keys on the HTTP API."""

    async def test_each_limit_is_what_its_setting_says_and_is_counted(self, assembled):
        running = await assembled(
            RATE_LIMIT_INTERNAL="3", RATE_LIMIT_PUBLIC_FREE="2",
            INTERNAL_API_KEYS="internal-1", PUBLIC_API_KEYS="public-1", ADMIN_API_KEYS="admin-1",
        )  # fmt: skip
        path = "/api/v1/openapi.json"
        for headers, limit in (
            ({}, 2),
            ({"X-API-Key": "public-1"}, 2),
            ({"Authorization": "Bearer internal-1"}, 3),
        ):
            answers = [await get(running, path, headers) for _ in range(limit + 1)]
            assert [status for status, _ in answers] == [200] * limit + [429]
            assert answers[0][1]["ratelimit-limit"] == str(limit)
            assert int(answers[-1][1]["retry-after"]) >= 1
        admin = {"X-API-Key": "admin-1"}
        assert {(await get(running, path, admin))[0] for _ in range(5)} == {200}
        assert (await get(running, path, {"X-API-Key": "wrong"}))[0] == 429
        assert {(await get(running, "/health"))[0] for _ in range(5)} == {200}

        def scrape() -> str:
            with urllib.request.urlopen(running.url + "/metrics", timeout=20) as answer:
                return answer.read().decode()

        text = await asyncio.to_thread(scrape)
        assert 'moda_access_decisions_total{outcome="unknown"} 1.0' in text
        assert "moda_access_rate_limited_total 4.0" in text
        assert "moda_access_rate_limit_buckets 3.0" in text
        assert "moda_access_tokens_ended_total 0.0" in text


class TestChecks:
    """What ``moda check`` and the start say."""

    @pytest.mark.parametrize(
        ("environ", "level", "says"),
        [
            ({"PUBLIC_API_KEYS": "short,x"}, "warning", "2 of 2 API keys"),
            ({"MODA_JWT_JWKS": "/nowhere"}, "fatal", "got /nowhere, which cannot be read"),
            ({"MODA_SOCKET_AUTH": "required"}, "warning", "only keys that moda key add made"),
            ({"MODA_JWT_SECRET": SECRET}, "warning", "MODA_JWT_* are set"),
            ({"MODA_JWT_SECRET": SECRET, "MODA_SOCKET_AUTH": "required"}, "ok", "taken: HS256"),
        ],
    )
    def test_what_keeps_tokens_from_doing_what_was_meant_is_said(self, environ, level, says):
        settings = load_settings({"PORT": "0", **environ})
        for found in (check_access(settings), findings_of(settings)):
            (finding,) = [one for one in found if says in one.message]
            assert finding.level == level
        assert SECRET not in repr(check_access(settings))

    def test_an_issuer_that_is_not_named_is_warned_of(self, tmp_path):
        path = tmp_path / "jwks.json"
        path.write_bytes(key_set(jwk("EdDSA")))
        environ = {"MODA_JWT_JWKS": str(path), "MODA_SOCKET_AUTH": "required"}
        (finding,) = [one for one in check_access(load_settings(environ)) if one.name == "jwt"]
        assert "MODA_JWT_ISSUER" in finding.message
        assert finding.level == "warning"

    @pytest.mark.parametrize(
        ("environ", "says"),
        [
            ({"MODA_JWT_SECRET": "short"}, "MODA_JWT_SECRET: got (a value that is not shown)"),
            ({"MODA_JWT_ALGORITHMS": "HS512"}, "MODA_JWT_ALGORITHMS: got 'HS512', takes HS256"),
            ({"MODA_JWT_JWKS": "http://issuer.example/k"}, "MODA_JWT_JWKS: got a URL"),
            ({"MODA_JWT_ISSUER": "x"}, "takes one only beside them"),
            ({"MODA_JWT_SECRET": SECRET, "MODA_JWT_ALGORITHMS": "RS256"}, "leaves out"),
        ],
    )
    def test_settings_that_do_not_fit_are_refused(self, environ, says):
        with pytest.raises(ConfigurationError) as caught:
            load_settings(environ)
        assert says in str(caught.value)
        assert "short" not in str(caught.value)

    def test_a_key_set_that_cannot_be_read_stops_the_start(self):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            assemble(Gateway(), load_settings({"MODA_JWT_JWKS": "/nowhere"}))


class TestPage:
    """``docs/access.md`` does what it says."""

    blocks = [(language, code) for language, code in BLOCK.findall(PAGE.read_text())]

    def python(self, mark: str) -> dict[str, Any]:
        (code,) = [code for language, code in self.blocks if language == "python" and mark in code]
        names: dict[str, Any] = {}
        exec(compile(code, str(PAGE), "exec"), names)
        return names

    async def test_its_room_takes_its_token_and_the_refreshed_one(self, assembled, connect):
        page = self.python("token_for")
        gateway = self.python("class Room")["gateway"]
        running = await assembled(gateway, MODA_JWT_SECRET=page["SECRET"])
        client = await connect(running, params={"token": page["token_for"]("ann", "42")})
        assert await client.join("room:42:chat") == {"you": "ann"}
        other = await client.ask("2", "2", "room:43:chat", "phx_join", {})
        assert other == unauthorized(rule="subscribe")
        await client.send("1", "3", "room:42:chat", "say", {"text": "hi"})
        await client.expect(None, None, "room:42:chat", "say", {"text": "hi"})
        await client.expect("1", "3", "room:42:chat", "phx_reply", OK)
        await client.join("room:42:board", ref="4")
        assert await client.ask("4", "5", "room:42:board", "say", {}) == error("unauthorized")
        new = {"token": page["token_for"]("ann", "42")}
        assert await client.ask("1", "6", "room:42:chat", "token", new) == OK
        for ref, wrong, why in (("7", "guess", "unknown"), ("8", 5, "malformed")):
            answer = await client.ask("1", ref, "room:42:chat", "token", {"token": wrong})
            assert answer == error(why)

    async def test_its_hook_gives_each_user_their_own_topics(self, assembled, connect):
        gateway = self.python("async def admit")["gateway"]

        @gateway.channel("user:{id}:{part}")
        class Inbox(Stream):
            pass

        running = await assembled(gateway, MODA_JWT_SECRET=SECRET)
        assert await refused(running) == 401
        client = await connect(running, params={"token": token()})
        await client.join("user:ann:inbox")
        other = await client.ask("2", "2", "user:bob:inbox", "phx_join", {})
        assert other == unauthorized(rule="subscribe")

    async def test_its_document_lets_in_whom_it_names(self, assembled, connect):
        (document,) = [code for language, code in self.blocks if language == "yaml"]
        running = await assembled(
            Gateway(asyncapi=document.encode(), builtins=False),
            INTERNAL_API_KEYS="worker-1",
            MODA_SOCKET_TOKENS="a-token",
        )
        worker = await connect(running, params={"token": "worker-1"})
        await worker.join("feed:btc")
        assert await worker.ask("1", "2", "feed:btc", "tick", {"p": "1"}) == OK
        friend = await connect(running, params={"token": "a-token"})
        await friend.join("lounge")
        stranger = await connect(running)
        assert await stranger.ask("1", "1", "lounge", "phx_join", {}) == error("unauthorized")
