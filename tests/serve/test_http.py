"""Plain HTTP over a real socket: who answers which path, with which headers, and how it errs."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from litestar import get as route_get
from litestar import post as route_post
from litestar.params import FromPath, JSONBody

from moda.asyncapi import Site, own
from moda.errors import ConfigurationError
from moda.hub import Hub
from moda.message import ServiceStatus
from moda.serve.counts import DoorCounts
from moda.serve.door import DoorOptions
from moda.serve.face import Face
from moda.serve.metrics import Exporter, HttpLatency, HubStats
from moda.serve.proxies import TrustedProxies
from moda.telemetry import LoopLag

from .conftest import get


async def ask(client, path, *headers, method="GET"):
    await client.send(get(path, *headers, method=method))
    if method == "HEAD":
        head = await client.reader.readuntil(b"\r\n\r\n")
        return SimpleNamespace(status=int(head.split()[1]), head=head.decode().lower())
    return await client.response()


def plain_face(**more):
    return Face("1.2.3", dict, **more)


# -- health


@pytest.mark.parametrize("path", ["/health", "/api/v1/health"])
async def test_health_names_every_service_and_is_never_cached(house, connect, path):
    services = {"prices": ServiceStatus("simulated", {"symbols": 2}), "db": ServiceStatus("up")}
    home = await house(face=Face("1.2.3", lambda: services))
    client = await connect(home.port)
    answer = await ask(client, path)
    body = json.loads(answer.body)
    assert (answer.status, body["status"], body["version"]) == (200, "ok", "1.2.3")
    assert body["services"]["prices"] == {"status": "simulated", "detail": {"symbols": 2}}
    assert body["uptime_seconds"] >= 0
    assert answer.header("cache-control") == "no-store"


@pytest.mark.parametrize(
    "path",
    ["/health", "/api/v1/health", "/metrics", "/api/v1/docs", "/api/v1/openapi.json", "/asyncapi"],
)
async def test_a_head_is_answered_as_a_get_without_its_body(house, connect, path):
    http = HttpLatency()
    stats = cast("Callable[[], HubStats]", Hub().stats)
    exporter = Exporter(stats=stats, http=http, lag=LoopLag(), version="1")
    face = plain_face(exporter=exporter, latency=http, sites=(Site(own()),))
    home = await house(face=face)
    client = await connect(home.port)
    await client.send(get(path, method="HEAD") + get("/nothing"))
    head = (await client.reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert head.startswith("http/1.1 200 ")
    assert "\r\ncontent-length: 0\r\n" not in head
    assert (await client.response()).status == 404, "the next answer comes right behind the head"
    assert ("HEAD", path, 200) in {series for series, _ in http.counts()}


@pytest.mark.parametrize("state", ["degraded", "down"])
async def test_a_service_in_trouble_degrades_health_and_stays_200(house, connect, state):
    home = await house(face=Face("1", lambda: {"db": ServiceStatus(state)}))
    answer = await ask(await connect(home.port), "/health")
    assert (answer.status, json.loads(answer.body)["status"]) == (200, "degraded")


async def test_a_draining_server_is_down_with_503(house, connect):
    home = await house()
    client = await connect(home.port)
    assert (await ask(client, "/health")).status == 200
    home.server.draining = True
    answer = await ask(client, "/health")
    assert (answer.status, json.loads(answer.body)["status"]) == (503, "down")


# -- documents


async def test_the_openapi_document_describes_what_is_served(house, connect):
    home = await house()
    answer = await ask(await connect(home.port), "/api/v1/openapi.json")
    document = json.loads(answer.body)
    assert document["openapi"].startswith("3.1")
    assert {"/health", "/api/v1/health"} <= set(document["paths"])


async def test_the_docs_page_names_its_icon_and_says_what_an_answer_holds(house, connect):
    client = await connect((await house()).port)
    page = (await ask(client, "/api/v1/docs")).body.decode()
    assert "Request fulfilled" not in page
    assert "The state: down, it drains" in page
    icon = await ask(client, "/api/v1/docs.svg")
    assert (icon.status, icon.header("content-type")) == (200, "image/svg+xml")


async def test_the_docs_page_loads_nothing_from_elsewhere_and_nothing_inline(house, connect):
    home = await house()
    client = await connect(home.port)
    answer = await ask(client, "/api/v1/docs")
    page = answer.body.decode()
    assert answer.header("content-type") == "text/html; charset=utf-8"
    assert "/health" in page
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|https?://", page)
    (stylesheet,) = re.findall(r'<link rel="stylesheet" href="([^"]+)"', page)
    style = await ask(client, stylesheet)
    assert (style.status, style.header("content-type")) == (200, "text/css; charset=utf-8")


async def test_a_site_answers_its_paths_with_query_and_etag(house, connect):
    class Site:
        paths = ("/asyncapi", "/asyncapi.yaml")

        def answer(self, path, query, if_none_match):
            if if_none_match == '"v1"':
                return SimpleNamespace(status=304, body=b"", headers={"etag": '"v1"'})
            text = f"{path}?{query}".encode()
            return SimpleNamespace(status=200, body=text, headers={"content-type": "text/plain"})

    home = await house(face=plain_face(sites=(Site(),)))
    client = await connect(home.port)
    assert (await ask(client, "/asyncapi?view=client")).body == b"/asyncapi?view=client"
    assert (await ask(client, "/asyncapi.yaml", 'if-none-match: "v1"')).status == 304
    assert (await ask(client, "/asyncapi", method="POST")).status == 405
    head = await ask(client, "/asyncapi", method="HEAD")
    assert (head.status, "content-length: 10" in head.head) == (200, True)
    assert (await ask(client, "/asyncapi.json")).status == 404


# -- metrics


class Scraped:
    """An exporter as far as the route is concerned."""

    async def scrape(self, accept):
        return f"# asked for {accept}\n".encode(), "text/plain; version=1.0.0"


async def test_metrics_are_served_in_the_format_asked_for(house, connect):
    home = await house(face=plain_face(exporter=Scraped()))
    answer = await ask(await connect(home.port), "/metrics", "accept: text/x")
    assert (answer.status, answer.body) == (200, b"# asked for text/x\n")
    assert answer.header("content-type") == "text/plain; version=1.0.0"


async def test_without_an_exporter_there_are_no_metrics(house, connect):
    home = await house()
    assert (await ask(await connect(home.port), "/metrics")).status == 404


async def test_every_request_is_timed_under_its_route_and_never_under_its_path(house, connect):
    latency = HttpLatency()
    home = await house(face=plain_face(latency=latency))
    client = await connect(home.port)
    for path in ("/health", "/health", "/api/v1/docs.css", "/secret-path"):
        await ask(client, path)
    series = {key: counts.cumulative[-1] for key, counts in latency.counts()}
    assert series == {
        ("GET", "/health", 200): 2,
        ("GET", "/api/v1/docs.css", 200): 1,
        ("GET", "_OTHER", 404): 1,
    }


def test_reasons_known_beforehand_are_counted_from_zero():
    counts = DoorCounts()
    counts.refused("origin")
    counts.refused("something new")
    counts.unparsed("too_big")
    refusals, parse_errors = counts.collect()
    values = {sample.labels["reason"]: sample.value for sample in refusals.samples}
    assert (values["origin"], values["full"], values["something new"]) == (1, 0, 1)
    values = {sample.labels["reason"]: sample.value for sample in parse_errors.samples}
    assert (values["too_big"], values["listener_failed"]) == (1, 0)


# -- errors


async def test_an_address_of_nobody_is_a_json_404(house, connect):
    home = await house()
    client = await connect(home.port)
    for path in ("/nothing", "/api/v1/nothing", "/health/x"):
        answer = await ask(client, path, "x-request-id: abc-1")
        assert answer.status == 404
        assert json.loads(answer.body)["error"]["request_id"] == "abc-1"
        assert answer.header("content-type") == "application/json"


async def test_a_wrong_method_is_a_json_405_that_says_which_are_right(house, connect):
    home = await house()
    answer = await ask(await connect(home.port), "/health", method="DELETE")
    assert (answer.status, "GET" in str(answer.header("allow"))) == (405, True)
    assert json.loads(answer.body)["error"]["status"] == 405


async def test_a_route_that_raises_is_a_500_without_its_message(house, connect):
    @route_get("/api/v1/broken")
    async def broken() -> None:
        raise RuntimeError("password=hunter2")

    home = await house(face=plain_face(routes=(broken,)))
    client = await connect(home.port)
    answer = await ask(client, "/api/v1/broken")
    assert answer.status == 500
    assert json.loads(answer.body)["error"]["message"] == "internal error"
    assert b"hunter2" not in answer.body
    assert (await ask(client, "/health")).status == 200


async def test_a_body_that_breaks_its_schema_is_told_what_is_wrong(house, connect):
    @route_post("/api/v1/things/{number:int}")
    async def make(number: FromPath[int], data: JSONBody[dict[str, int]]) -> dict[str, int]:
        return {**data, "number": number}

    home = await house(face=plain_face(routes=(make,)))
    client = await connect(home.port)

    async def post(body: bytes):
        head = f"POST /api/v1/things/7 HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        await client.send(head.encode() + body)
        return await client.response()

    good = await post(b'{"a": 1}')
    assert (good.status, json.loads(good.body)) == (201, {"a": 1, "number": 7})
    bad = await post(b'{"a": "x"}')
    assert bad.status == 400
    assert json.loads(bad.body)["error"]["extra"]


# -- headers


async def test_our_answers_carry_the_security_headers(house, connect):
    home = await house()
    client = await connect(home.port)
    for path in ("/health", "/api/v1/docs", "/nothing", "/api/v1/docs.css"):
        answer = await ask(client, path)
        policy = answer.header("content-security-policy")
        assert policy is not None
        assert policy.startswith("default-src 'self'; ")
        assert "unsafe" not in policy
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("referrer-policy") == "no-referrer"
        assert answer.header("date") is not None
        assert answer.header("server") is None


async def test_a_request_id_is_echoed_if_sane_and_made_if_not(house, connect):
    home = await house()
    client = await connect(home.port)
    assert (await ask(client, "/health", "x-request-id: trace.7_a-B")).header(
        "x-request-id"
    ) == "trace.7_a-B"
    first = (await ask(client, "/health", "x-request-id: bad id")).header("x-request-id")
    second = (await ask(client, "/health")).header("x-request-id")
    assert first
    assert second
    assert len({first, second, "bad id"}) == 3


# -- the console


@pytest.fixture
def console(tmp_path: Path) -> Path:
    folder = tmp_path / "console"
    (folder / "console").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>c</title>" + " " * 2000)
    (folder / "console" / "index-BGXkGiqV.js").write_text("export {}")
    (folder / "console" / "licences.txt").write_text("MIT")
    (tmp_path / "secret.txt").write_text("no")
    (folder / "console" / "link.txt").symlink_to(tmp_path / "secret.txt")
    return folder


async def test_the_console_is_at_the_root_and_asked_for_anew(house, connect, console):
    home = await house(face=plain_face(console=console))
    client = await connect(home.port)
    answer = await ask(client, "/")
    assert (answer.status, answer.header("cache-control")) == (200, "no-cache")
    assert answer.header("content-type") == "text/html; charset=utf-8"
    again = await ask(client, "/", f"if-none-match: {answer.header('etag')}")
    assert (again.status, again.body) == (304, b"")
    assert (await ask(client, "/index.html")).body == answer.body


async def test_hashed_files_are_kept_for_good_and_others_are_not(house, connect, console):
    home = await house(face=plain_face(console=console))
    client = await connect(home.port)
    hashed = await ask(client, "/console/index-BGXkGiqV.js")
    assert hashed.header("cache-control") == "public, max-age=31536000, immutable"
    assert hashed.header("content-type") == "text/javascript; charset=utf-8"
    assert (await ask(client, "/console/licences.txt")).header("cache-control") == "no-cache"


async def test_pages_are_compressed_for_who_takes_it(house, connect, console):
    home = await house(face=plain_face(console=console))
    client = await connect(home.port)
    plain = await ask(client, "/")
    packed = await ask(client, "/", "accept-encoding: br, gzip")
    assert packed.header("content-encoding") == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    refused = await ask(client, "/", "accept-encoding: gzip;q=0, br")
    assert refused.header("content-encoding") is None
    late = await ask(client, "/", "accept-encoding: *;q=0, gzip")
    assert late.header("content-encoding") == "gzip"
    head = await ask(client, "/", method="HEAD")
    assert (head.status, f"content-length: {len(plain.body)}" in head.head) == (200, True)


@pytest.mark.parametrize("coding", ["gzip", "identity"])
async def test_each_form_of_a_page_has_a_tag_and_a_304_of_its_own(house, connect, console, coding):
    home = await house(face=plain_face(console=console))
    client = await connect(home.port)
    accept = f"accept-encoding: {coding}"
    other = "accept-encoding: " + ("identity" if coding == "gzip" else "gzip")
    tag = (await ask(client, "/", accept)).header("etag")
    assert tag != (await ask(client, "/", other)).header("etag")
    for known in (tag, f"W/{tag}", f'"x", {tag}, W/"y"', "*"):
        again = await ask(client, "/", accept, f"if-none-match: {known}")
        assert (again.status, again.header("etag"), again.body) == (304, tag, b"")
    two_lines = await ask(client, "/", accept, 'if-none-match: "x"', f"if-none-match: {tag}")
    assert two_lines.status == 304
    assert (await ask(client, "/", other, f"if-none-match: {tag}")).status == 200


async def test_a_tag_inside_of_another_is_no_match(house, connect, console):
    home = await house(face=plain_face(console=console))
    client = await connect(home.port)
    tag = (await ask(client, "/")).header("etag")
    for known in (tag[1:-1], tag[:-1] + '-br"', tag[:-1] + '-gzip"'):
        assert (await ask(client, "/", f"if-none-match: {known}")).status == 200


async def test_a_site_sees_every_line_of_if_none_match(house, connect):
    home = await house(face=plain_face(sites=(Site(own()),)))
    client = await connect(home.port)
    tag = (await ask(client, "/asyncapi.yaml")).header("etag")
    again = await ask(client, "/asyncapi.yaml", 'if-none-match: "x"', f"if-none-match: {tag}")
    assert again.status == 304


@pytest.mark.parametrize(
    "path", ["/console/../../secret.txt", "/console/%2e%2e/%2e%2e/secret.txt", "/console/link.txt"]
)
async def test_nothing_outside_of_the_console_is_served(house, connect, console, path):
    home = await house(face=plain_face(console=console))
    answer = await ask(await connect(home.port), path)
    assert (answer.status, answer.body == b"no") == (404, False)


async def test_a_console_that_was_not_built_says_how_to_build_it(house, connect, tmp_path):
    home = await house(face=plain_face(console=tmp_path))
    answer = await ask(await connect(home.port), "/")
    assert answer.status == 404
    assert b"npm run build" in answer.body


# -- the mounted application


async def test_a_mounted_application_gets_what_moda_does_not_serve(house, connect):
    seen = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                seen.append(message["type"])
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        seen.append((scope["path"], body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]})
        await send({"type": "http.response.body", "body": b"mine"})

    home = await house(face=plain_face(mounted=app))
    client = await connect(home.port)
    await client.send(b"POST /shop/cart HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi")
    answer = await client.response()
    assert (answer.status, answer.body, answer.header("x-app")) == (200, b"mine", "1")
    assert answer.header("content-security-policy") is None
    assert answer.header("x-request-id") is not None
    assert (await ask(client, "/health")).header("x-app") is None
    assert (await ask(client, "/")).body == b"mine"
    home.server.hurry.set()
    await home.server.stop()
    assert seen == ["lifespan.startup", ("/shop/cart", b"hi"), ("/", b""), "lifespan.shutdown"]


async def test_a_mounted_application_that_raises_is_a_json_500(house, connect):
    async def app(scope, receive, send):
        raise ValueError("secret")

    home = await house(face=plain_face(mounted=app))
    client = await connect(home.port)
    answer = await ask(client, "/anything")
    assert (answer.status, b"secret" in answer.body) == (500, False)
    assert json.loads(answer.body)["error"]["message"] == "internal error"
    assert (await ask(client, "/health")).status == 200


async def test_a_mounted_application_that_fails_to_start_stops_the_start(house):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(ConfigurationError, match="mounted application failed to start"):
        await house(face=plain_face(mounted=app))


async def test_an_upgrade_to_something_else_is_served_as_a_plain_request(house, connect):
    home = await house()
    client = await connect(home.port)
    await client.send(get("/health", "connection: Upgrade, HTTP2-Settings", "upgrade: h2c"))
    answer = await client.response()
    assert (answer.status, answer.header("connection")) == (200, None)
    await client.send(get("/health"))
    assert (await client.response()).status == 200


async def test_a_websocket_on_a_path_of_nobody_is_404(house, connect):
    home = await house()
    client = await connect(home.port)
    assert (await client.upgrade("/other/websocket")).status == 404


async def test_a_later_head_that_stops_halfway_is_408(house, connect):
    home = await house(door=DoorOptions(handshake_timeout=0.05))
    client = await connect(home.port)
    await ask(client, "/health")
    await client.send(b"GET /health HT")
    await client.send(b"TP/1.1\r\nHost: x")
    assert (await client.response()).status == 408


async def test_a_later_head_beyond_its_bound_is_431(house, connect):
    home = await house(door=DoorOptions(max_head=1000))
    client = await connect(home.port)
    await ask(client, "/health")
    await client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n")
    for _ in range(20):
        await client.send(b"x-filler: " + b"y" * 100 + b"\r\n")
    assert (await client.response()).status == 431


async def test_the_scheme_and_client_of_a_trusted_proxy_reach_the_application(house, connect):
    seen = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            seen.append((scope["scheme"], scope["client"][0]))
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    door = DoorOptions(trusted=TrustedProxies.parse(["127.0.0.1"]))
    home = await house(face=plain_face(mounted=app), door=door)
    client = await connect(home.port)
    await client.send(get("/x", "x-forwarded-for: 203.0.113.9", "x-forwarded-proto: https"))
    await client.reader.readuntil(b"\r\n\r\n")
    assert seen == [("https", "203.0.113.9")]
