"""``telemetry:metrics``: what a join is answered, and who gets which points when."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.channel import JoinRequest
from moda.errors import Reject
from moda.telemetry.pace import MAX_INTERVAL_MS, MIN_INTERVAL_MS
from moda.telemetry.stream import EVENT, TOPIC, Telemetry, interval_of
from registrar import FakeRegistrar

from .support import CountingSampler, HandClock, end, request, until

FIRST_TICK = 1_740_441_600.0


class Stage:
    """A stream on a hand-turned clock, with or without a gateway that has lanes."""

    def __init__(self, *, laned: bool = False, counted: bool = True, **options: Any) -> None:
        self.clock = HandClock()
        self.gateway = FakeRegistrar()
        self.sampler = CountingSampler(self.clock)
        self.seats: dict[str, int] = {}
        self._pending: str | None = None
        self.laned = laned
        self.stream = Telemetry(
            self.sampler,
            self.gateway.broadcast,
            attach=self.attach if laned else None,
            seated=self.seated if counted else None,
            clock=self.clock,
            pause=self.clock.pause,
            **options,
        )

    def attach(self, joining: JoinRequest, fanout: str) -> None:
        assert joining.topic == TOPIC
        self._pending = fanout

    def seated(self, fanout: str) -> int:
        return self.seats.get(fanout, 0)

    async def join(self, payload: Any = None) -> dict[str, int]:
        """Joins, and takes the seat as a gateway would."""
        self._pending = TOPIC
        reply = await self.stream.join(request(payload))
        self.seats[self._pending] = self.seats.get(self._pending, 0) + 1
        return reply

    async def play(self, seconds: float) -> None:
        """Lets that much time pass, ticking as :meth:`Telemetry.run` does."""
        end = self.clock.now + seconds
        while True:
            await self.stream.tick()
            wait = self.stream._pace.wait_s(self.clock.now)
            if self.clock.now + wait > end:
                self.clock.now = end
                return
            self.clock.now += wait

    def times(self, fanout: str, name: str = "moda.connections") -> list[float]:
        """When points of a metric went to a fan-out, in seconds from the start."""
        points = self.gateway.to(fanout)
        return [round(p["tsUnixSec"] - FIRST_TICK, 3) for p in points if p["name"] == name]


# -- the join


@pytest.mark.parametrize("payload", [None, {}, {"client": {"name": "web"}}, {"interval_ms": None}])
def test_a_join_that_asks_for_no_interval_asks_for_none(payload: Any) -> None:
    assert interval_of(payload) is None


@given(st.integers(MIN_INTERVAL_MS, MAX_INTERVAL_MS))
def test_every_whole_number_in_range_is_accepted(interval_ms: int) -> None:
    assert interval_of({"interval_ms": interval_ms}) == interval_ms
    assert interval_of({"interval_ms": float(interval_ms)}) == interval_ms


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (249, "got 249"),
        (60_001, "got 60001"),
        (0, "got 0"),
        (-2000, "got -2000"),
        (10**400, "got a number beyond 1e15"),
        (500.5, "got 500.5"),
        (float("inf"), "got a number beyond 1e15"),
        ("500", "got a string"),
        ("x" * 1_000_000, "got a string"),
        (True, "got true"),
        (False, "got false"),
        ([500], "got an array"),
        ({"ms": 500}, "got an object"),
    ],
)
def test_any_other_interval_is_refused_with_what_came_and_what_is_accepted(
    asked: Any, said: str
) -> None:
    with pytest.raises(Reject) as refused:
        interval_of({"interval_ms": asked})
    reason = refused.value.response["reason"]
    assert reason == f"interval_ms must be a whole number from 250 to 60000, {said}"


@pytest.mark.parametrize(
    ("payload", "said"),
    [([], "an array"), ("500", "a string"), (500, "500"), (b"\x00", "binary data")],
)
def test_a_payload_that_is_no_object_is_refused(payload: Any, said: str) -> None:
    with pytest.raises(Reject, match=f"^the join payload must be an object, got {said}$"):
        interval_of(payload)


async def test_the_join_reply_states_the_servers_interval() -> None:
    assert await Stage().join() == {"interval_ms": 2000}
    assert await Stage(interval_ms=750).join({}) == {"interval_ms": 750}


@pytest.mark.parametrize(("asked", "effective"), [(250, 250), (300, 500), (500, 500), (2500, 5000)])
async def test_with_lanes_the_reply_states_the_interval_asked_for_or_the_next_slower(
    asked: int, effective: int
) -> None:
    assert await Stage(laned=True).join({"interval_ms": asked}) == {"interval_ms": effective}


async def test_without_lanes_the_reply_states_the_servers_interval_whatever_was_asked() -> None:
    assert await Stage().join({"interval_ms": 250}) == {"interval_ms": 2000}


async def test_a_refused_join_starts_nothing() -> None:
    stage = Stage(laned=True)
    with pytest.raises(Reject):
        await stage.join({"interval_ms": 1})
    assert stage.stream.health().detail["intervals_ms"] == [2000]


# -- the points


async def test_one_event_per_metric_with_the_metrics_name_as_conflation_key() -> None:
    stage = Stage()
    await stage.play(2.0)
    assert {(topic, event) for topic, event, _, _ in stage.gateway.sent} == {(TOPIC, EVENT)}
    assert all(key == payload["name"] for _, _, payload, key in stage.gateway.sent)
    first_tick = [p["name"] for p in stage.gateway.to(TOPIC) if p["tsUnixSec"] == FIRST_TICK]
    assert sorted(first_tick) == [
        "moda.connections",
        "moda.tasks",
        "process.memory.usage",
        "process.runtime.beam.memory.total",
        "process.runtime.beam.process_count",
        "system.cpu.load_average.1m",
    ]


async def test_points_come_once_per_interval() -> None:
    stage = Stage()
    await stage.play(7.0)
    assert stage.times(TOPIC) == [0.0, 2.0, 4.0, 6.0]


async def test_rates_are_per_second_whatever_the_interval() -> None:
    stage = Stage(laned=True)
    await stage.join({"interval_ms": 500})
    await stage.join({"interval_ms": 5000})
    await stage.play(20.0)
    rates = {
        p["series"][0]["value"]
        for _, _, p, _ in stage.gateway.sent
        if p["name"] == "moda.messages.in"
    }
    assert rates == {10.0}


async def test_compat_none_sends_no_beam_names() -> None:
    stage = Stage(compat="none")
    await stage.play(4.0)
    names = {p["name"] for p in stage.gateway.to(TOPIC)}
    assert "moda.tasks" in names
    assert not {name for name in names if "beam" in name}


async def test_sampling_costs_the_same_with_one_and_with_ten_thousand_subscribers() -> None:
    few, many = Stage(), Stage()
    await few.join()
    for _ in range(10_000):
        await many.join()
    await few.play(10.0)
    await many.play(10.0)
    assert many.sampler.reads == few.sampler.reads == 6
    assert len(many.gateway.sent) == len(few.gateway.sent)


async def test_a_client_that_asks_for_250_ms_changes_nothing_for_the_others() -> None:
    alone, crowd = Stage(laned=True), Stage(laned=True)
    await alone.join()
    await crowd.join()
    await crowd.join({"interval_ms": 250})
    await alone.play(10.0)
    await crowd.play(10.0)
    assert crowd.times(TOPIC) == alone.times(TOPIC) == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert crowd.times(f"{TOPIC}\x00250") == [n / 4 for n in range(41)]


async def test_lanes_that_are_due_together_share_one_reading() -> None:
    stage = Stage(laned=True)
    for interval_ms in (500, 1000, 2000, 5000):
        await stage.join({"interval_ms": interval_ms})
    await stage.play(10.0)
    assert stage.sampler.reads == 21


async def test_only_the_servers_lane_goes_by_the_topics_name() -> None:
    stage = Stage(laned=True)
    await stage.join()
    await stage.join({"interval_ms": 2000})
    await stage.join({"interval_ms": 1000})
    assert stage.seats == {TOPIC: 2, f"{TOPIC}\x001000": 1}


async def test_the_first_subscriber_gets_points_at_once() -> None:
    stage = Stage()
    await stage.play(0.7)
    await stage.join()
    await stage.play(0.0)
    assert stage.times(TOPIC) == [0.0, 0.7]


async def test_a_later_subscriber_waits_for_the_next_tick_and_disturbs_nobody() -> None:
    stage = Stage()
    await stage.join()
    await stage.play(0.7)
    await stage.join()
    await stage.play(1.3)
    assert stage.times(TOPIC) == [0.0, 2.0]


async def test_where_subscribers_cannot_be_counted_everybody_waits_for_the_next_tick() -> None:
    stage = Stage(counted=False)
    await stage.play(0.7)
    await stage.join()
    await stage.play(1.3)
    assert stage.times(TOPIC) == [0.0, 2.0]


async def test_the_first_points_of_a_new_lane_have_rates_taken_from_the_servers_lane() -> None:
    stage = Stage(laned=True)
    await stage.play(1.0)
    await stage.join({"interval_ms": 5000})
    await stage.play(0.0)
    assert "moda.messages.in" in {p["name"] for p in stage.gateway.to(f"{TOPIC}\x005000")}


async def test_a_rate_is_not_taken_over_a_blink() -> None:
    stage = Stage(laned=True)
    await stage.play(0.01)
    await stage.join({"interval_ms": 5000})
    await stage.play(0.0)
    found = {p["name"] for p in stage.gateway.to(f"{TOPIC}\x005000")}
    assert "moda.connections" in found
    assert "moda.messages.in" not in found


async def test_a_lane_ends_when_its_last_subscriber_has_gone() -> None:
    stage = Stage(laned=True)
    await stage.join({"interval_ms": 250})
    await stage.play(20.0)
    stage.seats.clear()
    await stage.play(4.0)
    sent = len(stage.times(f"{TOPIC}\x00250"))
    await stage.play(20.0)
    assert len(stage.times(f"{TOPIC}\x00250")) == sent
    assert stage.stream.health().detail["intervals_ms"] == [2000]


async def test_a_tick_in_which_nothing_is_due_reads_nothing() -> None:
    stage = Stage()
    await stage.stream.tick()
    await stage.stream.tick()
    assert stage.sampler.reads == 1


# -- in the background


async def test_run_ticks_until_cancelled() -> None:
    stage = Stage()
    running = asyncio.create_task(stage.stream.run())
    await until(lambda: stage.sampler.reads >= 5)
    await end(running)
    assert stage.times(TOPIC)[:5] == [0.0, 2.0, 4.0, 6.0, 8.0]


async def test_a_join_wakes_a_run_that_sleeps_for_a_minute() -> None:
    clock = HandClock()
    gateway = FakeRegistrar()
    stream = Telemetry(
        CountingSampler(clock),
        gateway.broadcast,
        interval_ms=60_000,
        seated=lambda _: 0,
        clock=clock,
    )
    running = asyncio.create_task(stream.run())
    await until(lambda: gateway.sent)
    first = len(gateway.sent)
    clock.now += 1.0
    await stream.join(request())
    await until(lambda: len(gateway.sent) > first)
    await end(running)
    assert gateway.sent[first][2]["tsUnixSec"] - gateway.sent[0][2]["tsUnixSec"] == 1.0


async def test_a_sampler_that_fails_ends_the_run_and_the_next_run_goes_on() -> None:
    stage = Stage()
    await stage.play(0.0)

    async def fail() -> Any:
        raise OSError("no host")

    working, stage.sampler.read = stage.sampler.read, fail  # type: ignore[method-assign]
    stage.clock.now += 2.0
    with pytest.raises(OSError, match="no host"):
        await stage.stream.run()
    stage.sampler.read = working  # type: ignore[method-assign]
    await stage.play(2.0)
    assert stage.times(TOPIC) == [0.0, 4.0]


# -- health


async def test_health_is_degraded_until_the_first_reading_and_up_after_it() -> None:
    stage = Stage()
    assert stage.stream.health().status == "degraded"
    assert stage.stream.health().detail["last_sample_age_s"] is None
    await stage.stream.tick()
    assert stage.stream.health().status == "up"


async def test_health_is_degraded_when_no_reading_comes_for_three_intervals() -> None:
    stage = Stage()
    await stage.stream.tick()
    stage.clock.now += 6.0
    assert stage.stream.health().status == "up"
    stage.clock.now += 0.1
    health = stage.stream.health()
    assert health.status == "degraded"
    assert health.detail == {
        "interval_ms": 2000,
        "last_sample_age_s": 6.1,
        "intervals_ms": [2000],
    }
