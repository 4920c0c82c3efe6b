"""``/metrics``: every number of the hub's under its name, in a text a scraper can parse."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from moda import Gateway
from moda.hub import Hub
from moda.serve.exposition import encoder_for
from moda.serve.latency import MILLIS, SECONDS, HttpLatency
from moda.serve.metrics import (
    FAMILIES,
    Exporter,
    HubStats,
    gateway_counters,
    most_files,
    open_files,
)
from moda.telemetry import LoopLag
from moda.telemetry.sampler import HostReader

REPOSITORY = Path(__file__).parents[2]


def stats(**changes: Any) -> HubStats:
    """Counters that are all different, so that none can be taken for another."""
    numbers = {
        name: 1000 + n
        for n, name in enumerate(sorted(HubStats.__required_keys__))
        if HubStats.__annotations__[name].__forward_arg__ == "int"
    }
    labelled = {
        "mounts": {"/socket": 5},
        "closes": {1001: 3, 1013: 4},
        "undecodable": {"not json": 5},
        "violations": {"unmasked frame": 6},
        "inbox_refused": {"process": 10},
        "timeouts": {"join": 11, "handler": 12},
        "fanout_bounds": [0.001, 0.01],
        "fanout_buckets": [7, 8, 9],
        "fanout_sum": 2.5,
    }
    return cast("HubStats", {**numbers, **labelled, **changes})


def exporter(source: Callable[[], HubStats] = stats, http: HttpLatency | None = None) -> Exporter:
    return Exporter(stats=source, http=http or HttpLatency(), lag=LoopLag(), version="1.2.3")


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a page by name and labels; asserts that none comes twice."""
    found = [
        ((sample.name, frozenset(sample.labels.items())), sample.value)
        for family in parse_text(text.decode())
        for sample in family.samples
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


async def page(of: Exporter) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return samples((await of.scrape())[0])


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


# -- the hub's counters


@pytest.mark.parametrize(
    ("name", "counter"),
    [
        ("websocket_connections_active", "connections"),
        ("moda_connections_opened_total", "opened"),
        ("moda_connections_closed_total", "closed"),
        ("moda_slow_readers_closed_total", "slow_closed"),
        ("moda_outbox_total_closed_total", "budget_closed"),
        ("moda_pings_total", "pings"),
        ("moda_channels", "channels"),
        ("moda_topics", "topics"),
        ("moda_joins_total", "joins"),
        ("moda_joins_refused_total", "joins_refused"),
        ("moda_leaves_total", "leaves"),
        ("moda_messages_in_total", "messages_in"),
        ("moda_messages_out_total", "messages_out"),
        ("moda_bytes_in_total", "bytes_in"),
        ("moda_bytes_out_total", "bytes_out"),
        ("moda_heartbeats_total", "heartbeats"),
        ("moda_published_total", "published"),
        ("moda_deliveries_total", "deliveries"),
        ("moda_sends_total", "sends"),
        ("moda_short_sends_total", "short_sends"),
        ("moda_outbox_bytes", "outbox_bytes"),
        ("moda_outbox_memory_bytes", "outboxes_bytes"),
        ("moda_history_bytes", "history_bytes"),
        ("moda_history_shed_total", "history_shed"),
        ("moda_latest_bytes", "latest_bytes"),
        ("moda_inbox_bytes", "inbox_bytes"),
    ],
)
async def test_each_counter_of_the_hub_is_exposed_under_its_name(name: str, counter: str) -> None:
    found = await page(exporter())
    assert found[key(name)] == cast("dict[str, Any]", stats())[counter]


async def test_drops_and_errors_are_told_apart_by_reason() -> None:
    found = await page(exporter())
    of = cast("dict[str, Any]", stats())
    for name, reason, value in [
        ("moda_drops_total", "stale_join_ref", of["stale"]),
        ("moda_drops_total", "replaced", of["conflated"]),
        ("moda_drops_total", "blocked", of["dropped"]),
        ("moda_drops_total", "unencodable", of["unencodable"]),
        ("moda_drops_total", "busy", of["busy"]),
        ("moda_drops_total", "rate_limited", of["rate_limited"]),
        ("moda_messages_refused_total", "unmatched_topic", of["unmatched"]),
        ("moda_messages_refused_total", "push_only_topic", of["to_stream"]),
        ("moda_messages_refused_total", "too_long", of["oversized"]),
        ("moda_messages_refused_total", "too_deep", of["too_deep"]),
        ("moda_inbox_refused_total", "process", 10),
        ("moda_decode_errors_total", "not json", 5),
        ("moda_protocol_violations_total", "unmasked frame", 6),
    ]:
        assert found[key(name, reason=reason)] == value


async def test_timeouts_are_told_apart_by_what_took_too_long() -> None:
    found = await page(exporter())
    assert found[key("moda_timeouts_total", what="join")] == 11
    assert found[key("moda_timeouts_total", what="handler")] == 12


async def test_closes_are_counted_by_code() -> None:
    found = await page(exporter())
    assert found[key("moda_closes_total", code="1001")] == 3
    assert found[key("moda_closes_total", code="1013")] == 4


async def test_connections_are_told_apart_by_mount() -> None:
    mounted = exporter(lambda: stats(connections=5, mounts={"/socket": 2, "/admin": 3}))
    found = await page(mounted)
    assert found[key("moda_connections", mount="/socket")] == 2
    assert found[key("moda_connections", mount="/admin")] == 3
    assert found[key("websocket_connections_active")] == 5


async def test_the_fanout_histogram_is_cumulative_as_prometheus_wants_it() -> None:
    found = await page(exporter())
    name = "moda_fanout_duration_seconds"
    assert found[key(f"{name}_bucket", le="0.001")] == 7
    assert found[key(f"{name}_bucket", le="0.01")] == 15
    assert found[key(f"{name}_bucket", le="+Inf")] == 24
    assert found[key(f"{name}_count")] == 24
    assert found[key(f"{name}_sum")] == 2.5


def test_the_real_hub_has_every_counter_that_is_read() -> None:
    assert HubStats.__required_keys__ <= set(Hub().stats())


async def test_the_real_hub_can_be_scraped() -> None:
    gateway = Gateway()
    gateway.build()
    found = await page(exporter(cast("Callable[[], HubStats]", gateway.hub.stats)))
    assert found[key("moda_connections", mount="/socket")] == 0
    assert found[key("websocket_connections_active")] == 0
    assert found[key("moda_fanout_duration_seconds_bucket", le="+Inf")] == 0


def test_telemetry_gets_the_same_counters_without_labels() -> None:
    of = cast("dict[str, Any]", stats())
    counters = gateway_counters(stats())
    fanout = counters.pop("fanout")
    assert counters == {
        "connections": of["connections"],
        "outbox_bytes": of["outbox_bytes"],
        "messages_in": of["messages_in"],
        "messages_out": of["messages_out"],
        "joins": of["joins"],
        "drops": sum(
            of[name]
            for name in ("stale", "conflated", "dropped", "unencodable", "busy", "rate_limited")
        ),
    }
    assert fanout.cumulative == (7, 15, 24)
    assert fanout.sum == 2.5


# -- HTTP, loop, process


async def test_a_request_is_exposed_in_milliseconds_and_in_seconds() -> None:
    http = HttpLatency()
    http.record("GET", "/api/v1/health", 200, 1.0, 1.25)
    found = await page(exporter(http=http))
    ms = {"method": "GET", "route": "/api/v1/health", "status_code": "200"}
    name = "http_request_duration_ms"
    assert found[key(f"{name}_bucket", le="200.0", **ms)] == 0
    assert found[key(f"{name}_bucket", le="500.0", **ms)] == 1
    assert found[key(f"{name}_sum", **ms)] == 250
    seconds = {
        "http_request_method": "GET",
        "http_route": "/api/v1/health",
        "http_response_status_code": "200",
    }
    name = "http_server_request_duration_seconds"
    assert found[key(f"{name}_bucket", le="0.1", **seconds)] == 0
    assert found[key(f"{name}_bucket", le="0.25", **seconds)] == 1
    assert found[key(f"{name}_sum", **seconds)] == 0.25
    assert found[key(f"{name}_count", **seconds)] == 1


async def test_each_http_metric_has_its_own_buckets() -> None:
    http = HttpLatency()
    http.record("GET", "/", 200, 1.0, 1.25)
    found = await page(exporter(http=http))

    def buckets(name: str) -> list[str]:
        return [dict(labels)["le"] for n, labels in found if n == f"{name}_bucket"]

    assert buckets("http_request_duration_ms") == [*(f"{ms}.0" for ms in MILLIS), "+Inf"]
    assert buckets("http_server_request_duration_seconds") == [*map(str, SECONDS), "+Inf"]


async def test_the_loops_lag_is_exposed() -> None:
    lag = LoopLag()
    lag.histogram.observe(0.3)
    of = Exporter(stats=stats, http=HttpLatency(), lag=lag, version="1")
    found = await page(of)
    assert found[key("moda_loop_lag_seconds_bucket", le="0.25")] == 0
    assert found[key("moda_loop_lag_seconds_bucket", le="0.5")] == 1


async def test_process_and_build_are_exposed() -> None:
    found = await page(exporter())
    assert found[key("process_resident_memory_bytes")] > 1_000_000
    assert found[key("process_virtual_memory_bytes")] > found[key("process_resident_memory_bytes")]
    assert found[key("process_cpu_seconds_total")] > 0
    assert found[key("process_start_time_seconds")] > 1_600_000_000
    builds = [(dict(labels), v) for (name, labels), v in found.items() if "build" in name]
    [(labels, value)] = builds
    assert labels["version"] == "1.2.3"
    assert re.fullmatch(r"3\.\d+\.\d+.*", labels["python"])
    assert value == 1


def test_open_files_are_counted_without_listing_them_where_the_kernel_can() -> None:
    opened, limit = open_files(), most_files()
    if opened is not None:
        listed = len(list(Path("/proc/self/fd").iterdir()))
        assert abs(opened - listed) <= 2
    assert limit is None or limit > 0


# -- the page


async def test_the_page_holds_the_families_of_the_table_in_its_order_and_no_other() -> None:
    http = HttpLatency()
    http.record("GET", "/", 200, 1.0, 1.25)
    text, _ = await exporter(http=http).scrape()
    typed = re.findall(r"^# TYPE (\S+) (\S+)$", text.decode(), re.MULTILINE)
    optional = {"process_open_fds", "process_max_fds"}
    expected = [(family.name, family.kind) for family in FAMILIES.values()]
    assert [t for t in typed if t[0] not in optional] == [
        e for e in expected if e[0] not in optional
    ]
    assert {name for name, _ in typed} <= set(FAMILIES)


async def test_every_sample_carries_the_labels_of_the_table() -> None:
    http = HttpLatency()
    http.record("GET", "/", 200, 1.0, 1.25)
    text, _ = await exporter(http=http).scrape()
    for family in parse_text(text.decode()):
        name = family.name if family.name in FAMILIES else f"{family.name}_total"
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(FAMILIES[name].labels), sample


async def test_the_documentation_lists_every_metric_as_it_is() -> None:
    text = (REPOSITORY / "docs" / "metrics.md").read_text()
    table = text.split("## `/metrics`")[1].split("## `telemetry:metrics`")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \| (.*?)\| (.*) \|$", table, re.MULTILINE)
    documented = [(name, kind, labels.strip(), about) for name, kind, labels, about in rows]
    assert documented == [
        (f.name, f.kind, ", ".join(f"`{label}`" for label in f.labels), f.about)
        for f in FAMILIES.values()
    ]


async def test_plain_text_is_the_answer_to_no_particular_accept() -> None:
    _, content_type = await exporter().scrape()
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"


async def test_openmetrics_is_the_answer_to_who_asks_for_it() -> None:
    http = HttpLatency()
    http.record("GET", "/", 200, 1.0, 1.25)
    text, content_type = await exporter(http=http).scrape(
        "application/openmetrics-text; version=1.0.0, text/plain; q=0.5"
    )
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")
    parsed = {family.name for family in parse_openmetrics(text.decode())}
    assert "moda_joins" in parsed
    assert "http_request_duration_ms" in parsed


async def test_labels_are_escaped() -> None:
    http = HttpLatency()
    http.record("GET", 'a"b\\c\nd', 200, 1.0, 1.25)
    found = await page(exporter(http=http))
    assert (
        key("http_request_duration_ms_count", method="GET", route='a"b\\c\nd', status_code="200")
        in found
    )


async def test_each_scrape_takes_one_snapshot() -> None:
    taken: list[int] = []

    def source() -> HubStats:
        taken.append(threading.get_ident())
        return stats()

    of = exporter(source)
    assert taken == []
    await of.scrape()
    await of.scrape()
    assert taken == [threading.get_ident()] * 2


async def test_scrapes_at_the_same_time_do_not_mix() -> None:
    turn = iter(range(1, 100))
    of = exporter(lambda: stats(joins=next(turn), leaves=0))
    pages = await asyncio.gather(*(of.scrape() for _ in range(5)))
    joins = sorted(samples(text)[key("moda_joins_total")] for text, _ in pages)
    assert joins == [1, 2, 3, 4, 5]


async def test_the_text_is_made_off_the_loops_thread() -> None:
    threads: list[int] = []

    class Own(Collector):
        def collect(self) -> Iterator[Any]:
            threads.append(threading.get_ident())
            yield from ()

    of = exporter()
    of.registry.register(Own())
    await of.scrape()
    assert threads
    assert threading.get_ident() not in threads


async def test_an_application_may_add_metrics_of_its_own() -> None:
    of = exporter()
    Counter("orders", "Orders taken", registry=of.registry).inc(3)
    assert (await page(of))[key("orders_total")] == 3


async def test_a_second_metric_of_a_name_that_is_taken_is_refused() -> None:
    of = exporter()
    with pytest.raises(ValueError, match="moda_joins_total"):
        Counter("moda_joins", "mine", registry=of.registry)


async def test_a_source_that_fails_is_left_out_of_the_page_until_it_works_again() -> None:
    working = False

    def source() -> HubStats:
        if not working:
            raise RuntimeError("no hub")
        return stats()

    of = exporter(source)
    found = await page(of)
    assert key("moda_topics") not in found
    assert found[key("process_resident_memory_bytes")] > 0
    working = True
    assert (await page(of))[key("moda_topics")] > 0


# -- what fails, fails by itself


ODD = [b"", b"\n", b"\xff\xfe\x00", b"1 2 3", b"a b c d\n" * 50, b"1 (x) R " + b"x " * 60]


@pytest.fixture(params=ODD, ids=["empty", "newline", "binary", "short", "words", "no numbers"])
def odd_proc(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc in which every file psutil reads holds something else."""
    for folder in ("self", str(os.getpid())):
        (tmp_path / folder).mkdir()
        for name in ("stat", "statm", "status", "smaps", "io"):
            (tmp_path / folder / name).write_bytes(request.param)
    for name in ("stat", "meminfo", "vmstat", "loadavg", "uptime", "cpuinfo", "zoneinfo"):
        (tmp_path / name).write_bytes(request.param)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    return tmp_path


async def test_an_odd_file_of_proc_takes_out_what_is_read_from_it(odd_proc: Path) -> None:
    found = await page(exporter())
    names = {name for name, _ in found}
    assert "process_resident_memory_bytes" not in names
    assert "process_virtual_memory_bytes" not in names
    assert found[key("process_cpu_seconds_total")] > 0
    assert found[key("moda_joins_total")] == stats()["joins"]
    assert key("process_max_fds") in found or most_files() is None


def test_an_odd_file_of_proc_costs_telemetry_what_is_read_from_it(odd_proc: Path) -> None:
    reading = HostReader().read()
    assert (reading.rss, reading.memory_used, reading.process_cpu_s) == (None, None, None)
    assert reading.load_1m is not None
    assert reading.cpus > 0


async def test_a_proc_that_is_not_there_takes_out_what_is_read_from_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "none"))
    found = await page(exporter())
    assert key("process_resident_memory_bytes") not in found
    assert found[key("moda_joins_total")] == stats()["joins"]


@pytest.mark.parametrize("broken", ["psutil.Process.memory_info", "psutil.Process.create_time"])
async def test_one_reading_that_is_denied_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def denied(_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(broken, denied)
    found = await page(exporter())
    lost = {
        "psutil.Process.memory_info": "process_resident_memory_bytes",
        "psutil.Process.create_time": "process_start_time_seconds",
    }
    present = {name: key(name) in found for name in lost.values()}
    assert present == {name: name != lost[broken] for name in lost.values()}


async def test_a_counter_the_hub_does_not_have_takes_out_its_own_metric_only() -> None:
    def source() -> HubStats:
        numbers = cast("dict[str, Any]", stats())
        del numbers["joins"]
        numbers["closes"] = 5
        return cast("HubStats", numbers)

    found = await page(exporter(source))
    assert key("moda_joins_total") not in found
    assert key("moda_closes_total", code="1001") not in found
    assert found[key("moda_leaves_total")] == stats()["leaves"]


class Broken(Collector):
    """An application's collector on a bad day."""

    def __init__(self, metrics: list[Any], error: Exception | None = None) -> None:
        self._metrics = metrics
        self._error = error

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        yield from self._metrics
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
async def test_a_collector_that_raises_or_cannot_be_written_leaves_the_page(accept: str) -> None:
    of = exporter()
    odd_value = GaugeMetricFamily("odd_value", "x", value=cast("float", "many"))
    odd_label = GaugeMetricFamily("odd_label", "x", labels=("a",))
    odd_label.add_metric((cast("str", 5),), 1)
    fine = GaugeMetricFamily("fine", "x", value=3)
    of.registry.register(Broken([], KeyError("/proc/odd")))
    of.registry.register(Broken([odd_value, odd_label, fine]))
    text, _ = await of.scrape(accept)
    assert b"\nfine 3.0\n" in text
    assert b"moda_joins_total" in text
    assert b"odd_value" not in text


# -- formats nobody speaks


@pytest.mark.parametrize(
    "accept",
    [
        "text/plain;version=x",
        "text/plain;version=1.x",
        "text/plain;version=",
        "application/openmetrics-text;version=x",
        "application/openmetrics-text;version=9999.0.0",
        "application/openmetrics-text;version=1.0.0.evil",
        "application/openmetrics-text;version=1.0.0;q=0",
        "application/openmetrics-text;version=" + "9" * 6000,
        "text/html",
        ";;;=,=;",
        "\xff\xfe",
        "*/*;version=1.0.0",
    ],
)
async def test_an_accept_nobody_can_answer_gets_the_default_format(accept: str) -> None:
    text, content_type = await exporter().scrape(accept)
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert samples(text)


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=200))
def test_no_accept_makes_the_choice_raise_or_is_repeated(accept: str) -> None:
    for prefix in ("", "text/plain;version=", "application/openmetrics-text;version=1.0.0;"):
        _, content_type = encoder_for(prefix + accept)
        assert content_type.split(";")[0] in ("text/plain", "application/openmetrics-text")
        assert re.fullmatch(r"[a-z0-9/;=. \-]+", content_type)


async def test_what_prometheus_sends_is_answered_with_what_it_prefers() -> None:
    _, content_type = await exporter().scrape(
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,"
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    )
    assert content_type == (
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
    )
