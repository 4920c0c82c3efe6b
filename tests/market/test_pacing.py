"""The rules of time, with time passed in."""

from __future__ import annotations

from collections import deque
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from moda.market.feed import Tick
from moda.market.pacing import MAX_HELD, Backoff, Budget, Handover, Watch


def test_silence_as_long_as_the_patience_is_stale() -> None:
    watch = Watch(4.0, 0.25, 0.0)
    verdicts = [watch.beat(beat * 0.25) for beat in range(1, 17)]
    assert verdicts == [False] * 15 + [True]


def test_data_starts_the_count_again() -> None:
    watch = Watch(4.0, 0.25, 0.0)
    for beat in range(1, 200):
        if beat % 15 == 0:
            watch.data()
        assert not watch.beat(beat * 0.25)


def test_a_loop_blocked_for_an_hour_is_no_silence() -> None:
    watch = Watch(4.0, 0.25, 0.0)
    assert not watch.beat(0.25)
    assert not watch.beat(3600.0)
    watch.data()
    assert not watch.beat(3600.25)


def test_a_late_beat_never_condemns_even_if_silence_was_nearly_over_the_limit() -> None:
    watch = Watch(1.0, 0.25, 0.0)
    assert not watch.beat(0.25)
    assert not watch.beat(0.50)
    assert not watch.beat(0.75)
    assert not watch.beat(9.0)
    watch.data()  # what the socket held all the while
    assert not watch.beat(9.25)


def test_a_stream_that_really_stopped_is_found_one_beat_after_the_late_one() -> None:
    watch = Watch(1.0, 0.25, 0.0)
    for beat in (0.25, 0.50, 0.75, 9.0):
        assert not watch.beat(beat)
    assert watch.beat(9.25)


def test_a_process_that_is_always_late_still_finds_a_stopped_stream() -> None:
    watch = Watch(4.0, 0.25, 0.0)
    assert any(watch.beat(beat * 2.0) for beat in range(1, 20))


@given(
    st.lists(st.floats(0.25, 100.0, allow_nan=False), min_size=1, max_size=100),
)
def test_no_pattern_of_blocking_condemns_a_stream_that_delivers_after_each_block(
    pauses: list[float],
) -> None:
    watch, now = Watch(1.0, 0.25, 0.0), 0.0
    for pause in pauses:
        now += pause
        assert not watch.beat(now)
        watch.data()


@given(st.integers(0, 2**32), st.floats(0.01, 5.0), st.floats(5.0, 600.0))
def test_delays_double_from_the_first_to_the_longest_and_stay_within(
    seed: int, initial: float, maximum: float
) -> None:
    backoff = Backoff(initial, maximum, Random(seed))
    assert 0.0 <= backoff.next() <= initial
    for step in range(1, 60):
        ceiling = min(maximum, initial * 2.0**step)
        assert ceiling / 2 <= backoff.next() <= ceiling


def test_a_reset_returns_to_the_first_delay() -> None:
    backoff = Backoff(0.5, 30.0, Random(1))
    for _ in range(20):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= 0.5


def test_two_gateways_do_not_come_back_at_the_same_moment() -> None:
    delays = {Backoff(0.5, 30.0, Random(seed)).next() for seed in range(50)}
    assert len(delays) == 50


def test_five_minutes_of_refusals_stay_far_below_the_exchange_limit_of_300_attempts() -> None:
    backoff, waited, attempts = Backoff(0.5, 30.0, Random(3)), 0.0, 0
    while waited < 300.0:
        waited += backoff.next()
        attempts += 1
    assert attempts <= 30


@given(st.lists(st.floats(0.0, 0.6), max_size=200))
def test_no_window_of_a_second_ever_holds_more_messages_than_the_budget(
    pauses: list[float],
) -> None:
    budget, now, sent = Budget(4, 1.0), 0.0, deque[float]()
    for pause in pauses:
        now += pause
        if budget.take(now):
            sent.append(now)
            assert sum(1 for at in sent if now - at <= 1.0) <= 4


def test_the_budget_comes_back_after_its_window() -> None:
    budget = Budget(2, 1.0)
    assert [budget.take(0.0), budget.take(0.1), budget.take(0.2)] == [True, True, False]
    assert not budget.take(1.0)
    assert budget.take(1.01)


def tick(symbol: str, at_ms: int) -> Tick:
    return Tick(f"{symbol}{at_ms}".encode(), symbol, at_ms)


def test_a_handover_is_not_complete_before_the_new_connection_has_delivered() -> None:
    assert not Handover({"A": 1}, 0.0).complete
    assert not Handover({}, 0.0).complete


def test_a_first_held_event_the_old_one_already_delivered_completes_at_once() -> None:
    handover = Handover({"A": 5}, 0.0)
    handover.hold(tick("A", 5))
    assert handover.complete
    assert handover.finish() == ([], 1)


def test_a_symbol_only_the_old_connection_carries_keeps_the_handover_open() -> None:
    handover = Handover({"A": 5, "B": 5}, 0.0)
    handover.hold(tick("A", 5))
    assert not handover.complete


def test_too_many_held_ticks_end_the_handover() -> None:
    handover = Handover({"A": 0, "B": 0}, 0.0)
    for at_ms in range(1, MAX_HELD + 1):
        assert not handover.complete
        handover.hold(tick("A", at_ms))
    assert handover.complete


@given(st.data())
def test_whatever_the_interleaving_nothing_is_lost_repeated_or_out_of_order(
    data: st.DataObject,
) -> None:
    """One feed of several symbols; the new connection joins somewhere in its middle.

    Both deliver in order, at speeds that have nothing to do with each other.
    """
    symbols = ["A", "B", "C"][: data.draw(st.integers(1, 3))]
    order = data.draw(st.lists(st.sampled_from(symbols), min_size=2, max_size=40))
    feed = [tick(symbol, at_ms) for at_ms, symbol in enumerate(order, 1)]
    joined = data.draw(st.integers(1, len(feed) - 1))
    before = data.draw(st.integers(0, joined))
    old, new = deque(feed), deque(feed[joined:])

    newest: dict[str, int] = {}
    out: list[Tick] = []

    def publish(one: Tick) -> None:
        newest[one.symbol] = one.at_ms
        out.append(one)

    for _ in range(before):
        publish(old.popleft())
    handover = Handover(newest, 0.0)
    while (old or new) and not handover.complete:
        if old and (not new or data.draw(st.booleans())):
            one = old.popleft()
            publish(one)
            handover.delivered(one.symbol)
        elif new:
            handover.hold(new.popleft())
    fresh, _ = handover.finish()
    out += fresh
    out += [one for one in new if handover.admits(one)]

    for symbol in symbols:
        times = [one.at_ms for one in out if one.symbol == symbol]
        assert times == [one.at_ms for one in feed if one.symbol == symbol]
