"""Token buckets: how much passes, what clients are told, how much memory strangers can take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.access.limits import WINDOW, RateLimiter, Tiers, address_of
from moda.principal import ANONYMOUS, Principal

from .support import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


def test_a_minute_may_be_used_at_once_and_then_it_is_the_even_rate(clock):
    limiter = RateLimiter(clock=clock)
    verdicts = [limiter.take("a", "free", 60) for _ in range(61)]
    assert [one.allowed for one in verdicts] == [True] * 60 + [False]
    assert [one.remaining for one in verdicts[:3]] == [59, 58, 57]
    assert (verdicts[60].remaining, verdicts[60].retry_after, verdicts[60].reset) == (0, 1, 60)
    clock.pass_by(1)
    assert limiter.take("a", "free", 60).allowed
    assert not limiter.take("a", "free", 60).allowed
    assert limiter.take("b", "free", 60).allowed
    assert limiter.refused == 2


@given(
    st.integers(1, 50),
    st.lists(st.floats(0, 30, allow_nan=False), max_size=120),
)
def test_no_minute_lets_through_more_than_twice_the_limit_and_the_long_run_is_the_limit(
    limit, pauses
):
    """A bucket of n that fills at n a minute: at most n + n * t / 60 in any time t."""
    clock = Clock(0.0)
    limiter = RateLimiter(clock=clock)
    passed: list[float] = []
    for pause in pauses:
        clock.pass_by(pause)
        verdict = limiter.take("a", "t", limit)
        assert 0 <= verdict.remaining <= limit
        assert 0 <= verdict.reset <= WINDOW
        if verdict.allowed:
            passed.append(clock())
        else:
            assert verdict.retry_after >= 1
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            spent = passed[last] - passed[first]
            assert last - first + 1 <= limit + limit * spent / WINDOW + 1e-6


@given(st.integers(1, 1000))
def test_whoever_waits_as_told_passes(limit):
    clock = Clock(0.0)
    limiter = RateLimiter(clock=clock)
    while (verdict := limiter.take("a", "t", limit)).allowed:
        pass
    clock.pass_by(verdict.retry_after)
    assert limiter.take("a", "t", limit).allowed


@pytest.mark.parametrize(
    ("principal", "tier"),
    [
        (ANONYMOUS, ("free", 2)),
        (Principal("ann", "jwt"), ("free", 2)),
        (Principal("ann", "jwt", frozenset({"admin", "paid"})), ("free", 2)),
        (Principal("k", "key", frozenset({"read"}), key_kind="public"), ("free", 2)),
        (Principal("k", "key", frozenset({"read", "paid"}), key_kind="public"), ("paid", 3)),
        (Principal("k", "key", frozenset({"publish"}), key_kind="internal"), ("internal", 1)),
        (Principal("k", "key", frozenset({"admin"}), key_kind="admin"), None),
    ],
)
def test_each_kind_of_client_has_the_limit_its_setting_says(principal, tier):
    assert Tiers(internal=1, public_free=2, public_paid=3).of(principal) == tier


def test_a_principal_has_one_bucket_from_wherever_it_comes_and_a_stranger_one_per_address(clock):
    limiter = RateLimiter(Tiers(public_free=1), clock=clock)
    ann = Principal("ann", "jwt")
    outcomes = [
        limiter.check(who, where)
        for who, where in [
            (ann, "1"),
            (ann, "2"),
            (ANONYMOUS, "1"),
            (ANONYMOUS, "2"),
            (ANONYMOUS, "1"),
        ]
    ]
    assert [one and one.allowed for one in outcomes] == [True, False, True, True, False]
    # A token without a subject names nobody: its bearers are strangers to each other.
    assert limiter.check(Principal("", "jwt"), "3").allowed  # type: ignore[union-attr]
    assert limiter.check(Principal("", "jwt"), "4").allowed  # type: ignore[union-attr]


def test_addresses_without_end_take_bounded_memory_and_nothing_from_those_who_have_a_bucket(clock):
    limiter = RateLimiter(clock=clock, most=100)
    for _ in range(5):
        limiter.take("mine", "free", 10)
    for number in range(1000):
        limiter.take(f"stranger {number}", "free", 10)
    assert len(limiter) <= 101
    assert limiter.take("mine", "free", 10).remaining == 4
    assert not limiter.take("stranger 5000", "free", 10).allowed
    clock.pass_by(WINDOW)
    for number in range(200):
        assert limiter.take(f"late {number}", "free", 10).allowed or number >= 100
    assert len(limiter) <= 101


def test_full_buckets_are_forgotten(clock):
    limiter = RateLimiter(clock=clock)
    for number in range(50):
        limiter.take(str(number), "free", 10)
    clock.pass_by(WINDOW)
    for number in range(10):
        limiter.take(f"new {number}", "free", 10)
    assert len(limiter) == 10


def test_the_fields_say_the_policy_and_what_is_left(clock):
    limiter = RateLimiter(clock=clock)
    assert limiter.take("a", "free", 1).headers() == {
        "RateLimit-Policy": '"free";q=1;w=60',
        "RateLimit": '"free";r=0;t=60',
        "RateLimit-Limit": "1",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": "60",
    }
    clock.pass_by(0.5)
    assert limiter.take("a", "free", 1).headers()["Retry-After"] == "60"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("a unix socket", "a unix socket"),
        ("", ""),
    ],
)
def test_an_address_is_what_one_customer_has(host, address):
    assert address_of(host) == address
