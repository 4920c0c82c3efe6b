"""Who is due when: the schedule, with a clock turned by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.telemetry.pace import MAX_INTERVAL_MS, MIN_INTERVAL_MS, RUNGS_MS, Lane, Pace

asked = st.integers(MIN_INTERVAL_MS, MAX_INTERVAL_MS)


def due_at(pace: Pace, now_s: float) -> list[int]:
    return [lane.interval_ms for lane in pace.take_due(now_s)]


@given(asked, asked)
def test_nobody_gets_more_messages_than_asked_for(own_ms: int, wanted_ms: int) -> None:
    effective = Pace(own_ms, laned=True, now_s=0.0).effective(wanted_ms)
    assert effective >= wanted_ms
    assert effective in {*RUNGS_MS, own_ms}


@given(asked)
def test_an_interval_on_the_ladder_is_met_exactly(own_ms: int) -> None:
    pace = Pace(own_ms, laned=True, now_s=0.0)
    assert [pace.effective(rung) for rung in RUNGS_MS] == list(RUNGS_MS)
    assert pace.effective(own_ms) == own_ms


@given(asked, asked | st.none())
def test_with_one_lane_everybody_gets_the_servers_interval(
    own_ms: int, wanted_ms: int | None
) -> None:
    assert Pace(own_ms, laned=False, now_s=0.0).effective(wanted_ms) == own_ms


def test_who_asks_for_nothing_gets_the_servers_interval() -> None:
    assert Pace(2000, laned=True, now_s=0.0).effective(None) == 2000


@given(st.lists(asked, max_size=200))
def test_however_many_intervals_are_asked_for_the_lanes_are_as_many_as_the_rungs(
    wanted: list[int],
) -> None:
    pace = Pace(1234, laned=True, now_s=0.0)
    for interval_ms in wanted:
        pace.ask(interval_ms, 0.0)
    assert len(list(pace.lanes)) <= len(RUNGS_MS) + 1


def test_the_servers_lane_is_due_at_the_start_and_then_once_per_interval() -> None:
    pace = Pace(2000, laned=False, now_s=50.0)
    ticks = [now for now in range(50, 57) if due_at(pace, float(now))]
    assert ticks == [50, 52, 54, 56]


def test_nothing_is_due_twice() -> None:
    pace = Pace(2000, laned=False, now_s=0.0)
    assert due_at(pace, 0.0) == [2000]
    assert due_at(pace, 0.0) == []
    assert due_at(pace, 1.999) == []


def test_missed_turns_are_skipped_and_not_made_up_for() -> None:
    pace = Pace(1000, laned=False, now_s=0.0)
    pace.take_due(0.0)
    assert due_at(pace, 7.3) == [1000]
    assert due_at(pace, 7.9) == []
    assert due_at(pace, 8.0) == [1000]


def test_lanes_that_coincide_are_due_together() -> None:
    pace = Pace(2000, laned=True, now_s=0.0)
    pace.take_due(0.0)
    pace.ask(500, 0.3)
    assert due_at(pace, 0.3) == [500]
    together = [due_at(pace, quarter / 4) for quarter in range(2, 9)]
    assert together == [[], [], [500], [], [500], [], [500, 2000]]


def test_a_new_lane_is_due_at_once_and_its_next_turn_is_half_an_interval_away_or_more() -> None:
    pace = Pace(2000, laned=True, now_s=0.0)
    pace.take_due(0.0)
    lane, made = pace.ask(1000, 0.9)
    assert made
    assert due_at(pace, 0.9) == [1000]
    assert lane.due_ms == 2000


def test_asking_again_joins_the_lane_that_lives() -> None:
    pace = Pace(2000, laned=True, now_s=0.0)
    first, _ = pace.ask(500, 0.0)
    second, made = pace.ask(500, 1.0)
    assert second is first
    assert not made


@given(asked, st.lists(st.floats(0.001, 5.0), min_size=1, max_size=50))
def test_ticks_are_never_closer_than_half_an_interval_whenever_one_looks(
    own_ms: int, steps: list[float]
) -> None:
    pace = Pace(own_ms, laned=False, now_s=0.0)
    now, ticks = 0.0, []
    for step in steps:
        if pace.take_due(now):
            ticks.append(now)
        now += step
    gaps = [later - earlier for earlier, later in pairwise(ticks)]
    assert all(gap * 1000 >= own_ms / 2 - 1 for gap in gaps)


@given(asked, st.floats(0, 1e5), st.floats(0, 100))
def test_after_the_wait_something_is_due(own_ms: int, start: float, passed: float) -> None:
    pace = Pace(own_ms, laned=False, now_s=start)
    pace.take_due(start + passed)
    now = start + passed
    wait = pace.wait_s(now)
    assert 0 < wait <= 1.5 * own_ms / 1000 + 0.001
    assert pace.take_due(now + wait)


def test_hurrying_makes_a_lane_due_now() -> None:
    pace = Pace(60_000, laned=False, now_s=0.0)
    pace.take_due(0.0)
    lane = next(iter(pace.lanes))
    pace.hurry(lane, 10.0)
    assert pace.wait_s(10.0) == 0
    assert due_at(pace, 10.0) == [60_000]


def test_hurrying_in_a_circle_ticks_no_faster_than_the_shortest_interval() -> None:
    pace = Pace(60_000, laned=False, now_s=0.0)
    lane = next(iter(pace.lanes))
    ticks = 0
    for ms in range(10_000):
        pace.hurry(lane, ms / 1000)
        ticks += len(pace.take_due(ms / 1000))
    assert ticks == 10_000 // MIN_INTERVAL_MS


def test_a_lane_nobody_listens_to_is_forgotten() -> None:
    pace = Pace(2000, laned=True, now_s=0.0)
    pace.ask(500, 0.0)
    pace.retire(lambda _: 0, 60.0)
    assert [lane.interval_ms for lane in pace.lanes] == [2000]


def test_a_lane_that_was_just_asked_for_is_kept_until_its_subscriber_has_arrived() -> None:
    pace = Pace(2000, laned=True, now_s=0.0)
    pace.ask(500, 0.0)
    pace.ask(500, 55.0)
    pace.retire(lambda _: 0, 60.0)
    assert [lane.interval_ms for lane in pace.lanes] == [2000, 500]


@pytest.mark.parametrize("listeners", [1, 10_000])
def test_a_lane_with_listeners_is_kept(listeners: int) -> None:
    pace = Pace(2000, laned=True, now_s=0.0)
    pace.ask(500, 0.0)

    def count(lane: Lane) -> int:
        return listeners if lane.interval_ms == 500 else 0

    pace.retire(count, 3600.0)
    assert [lane.interval_ms for lane in pace.lanes] == [2000, 500]
