"""HTTP durations: what is recorded of a request, and under which names."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.serve.latency import BOUNDS, MILLIS, OTHER, SECONDS, HttpLatency, MeasuredApp, route_of

Message = dict[str, Any]


def series_of(latency: HttpLatency) -> list[tuple[str, str, int]]:
    return [series for series, _ in latency.counts()]


# -- the recorder


def test_a_request_goes_into_the_window_in_milliseconds_and_into_its_histogram_in_seconds() -> None:
    latency = HttpLatency()
    latency.record("GET", "/api/v1/health", 200, 10.0, 10.25)
    assert latency.window.samples().tolist() == [250.0]
    assert latency.window.samples(since=10.25).tolist() == [250.0]
    [(series, counts)] = latency.counts()
    assert series == ("GET", "/api/v1/health", 200)
    assert counts.sum == 0.25
    assert counts.count == 1


def test_method_route_and_status_each_make_a_series() -> None:
    latency = HttpLatency()
    for series in (("GET", "/a", 200), ("POST", "/a", 200), ("GET", "/b", 200), ("GET", "/a", 404)):
        latency.record(*series, 0.0, 0.1)
        latency.record(*series, 0.0, 0.1)
    assert sorted(series_of(latency)) == [
        ("GET", "/a", 200),
        ("GET", "/a", 404),
        ("GET", "/b", 200),
        ("POST", "/a", 200),
    ]
    assert all(counts.count == 2 for _, counts in latency.counts())


def test_methods_nobody_has_heard_of_share_one_series() -> None:
    latency = HttpLatency()
    for method in ("BREW", "PROPFIND", "x" * 10_000):
        latency.record(method, "/a", 405, 0.0, 0.1)
    assert series_of(latency) == [(OTHER, "/a", 405)]


def test_routes_beyond_the_limit_are_counted_together_and_none_is_lost() -> None:
    latency = HttpLatency(max_series=10)
    for n in range(1000):
        latency.record("GET", f"/user/{n}", 200, 0.0, 0.1)
    assert len(series_of(latency)) == 11
    counts = dict(latency.counts())
    assert counts["GET", OTHER, 200].count == 990
    assert sum(c.count for c in counts.values()) == 1000


def test_a_known_route_is_still_told_apart_when_the_limit_is_reached() -> None:
    latency = HttpLatency(max_series=1)
    latency.record("GET", "/a", 200, 0.0, 0.1)
    latency.record("GET", "/b", 200, 0.0, 0.1)
    latency.record("GET", "/a", 200, 0.0, 0.1)
    assert dict(latency.counts())["GET", "/a", 200].count == 2


@given(st.lists(st.floats(0, 20, allow_nan=False), max_size=50))
def test_the_bounds_kept_give_both_metrics_exactly(durations: list[float]) -> None:
    latency = HttpLatency()
    for seconds in durations:
        latency.record("GET", "/", 200, 0.0, seconds)
    for _, counts in latency.counts():
        kept = dict(zip(counts.bounds, counts.cumulative, strict=False))
        for bound in (*SECONDS, *(ms / 1000 for ms in MILLIS)):
            assert kept[bound] == sum(seconds <= bound for seconds in durations)
    assert set(BOUNDS) == {*SECONDS, *(ms / 1000 for ms in MILLIS)}


# -- the route


@pytest.mark.parametrize(
    ("scope", "route"),
    [
        ({"path_template": "/items/{id:int}"}, "/items/{id:int}"),
        ({"route": SimpleNamespace(path="/items/{id}")}, "/items/{id}"),
        ({"path": "/items/7"}, OTHER),
        ({"path": "/items/7", "route": object()}, OTHER),
        ({"path_template": ""}, OTHER),
    ],
)
def test_the_route_is_the_template_an_application_left_and_never_the_path(
    scope: dict[str, Any], route: str
) -> None:
    assert route_of(scope) == route


# -- the stopwatch


class Client:
    """Calls an application as a server does, and keeps what it sends."""

    def __init__(self, app: Any) -> None:
        self.latency = HttpLatency()
        self.measured = MeasuredApp(app, self.latency)
        self.sent: list[Message] = []

    async def __call__(self, kind: str = "http") -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            self.sent.append(message)

        await self.measured({"type": kind, "method": "GET", "path": "/secret"}, receive, send)


def responding(status: int = 200, content_type: bytes = b"application/json") -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["path_template"] = "/things/{id}"
        headers = [(b"Content-Type", content_type)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    return app


async def test_a_response_is_recorded_with_its_route_and_status_and_passed_on() -> None:
    client = Client(responding(201))
    await client()
    assert series_of(client.latency) == [("GET", "/things/{id}", 201)]
    assert [message["type"] for message in client.sent] == [
        "http.response.start",
        "http.response.body",
    ]


async def test_the_time_runs_until_the_application_has_finished() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.02)
        await send({"type": "http.response.body", "body": b""})

    client = Client(app)
    await client()
    assert client.latency.window.samples()[0] >= 19


async def test_an_exception_before_a_response_is_a_500_and_goes_on() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("no such thing")

    client = Client(app)
    with pytest.raises(LookupError):
        await client()
    assert series_of(client.latency) == [("GET", OTHER, 500)]


async def test_an_exception_after_the_response_keeps_the_status_the_client_saw() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await responding(200)(scope, receive, send)
        raise LookupError("too late")

    client = Client(app)
    with pytest.raises(LookupError):
        await client()
    assert series_of(client.latency) == [("GET", "/things/{id}", 200)]


async def test_a_client_that_left_before_a_response_is_not_counted() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(3600)

    client = Client(app)
    task = asyncio.create_task(client())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.latency.window.total == 0


async def test_an_event_stream_is_not_counted() -> None:
    client = Client(responding(200, b"text/event-stream; charset=utf-8"))
    await client()
    assert client.latency.window.total == 0
    assert len(client.sent) == 2


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_what_is_not_http_passes_through_unmeasured(kind: str) -> None:
    called: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.append(scope["type"])

    client = Client(app)
    await client(kind)
    assert called == [kind]
    assert client.latency.window.total == 0
