"""The queue in front of a database, without one: what a commit is given is what these tests see."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from moda.errors import NoSpace, Unavailable
from moda.serve.counts import CapabilityCounts
from moda.store.committer import Bounds, GroupCommitter
from moda.store.counts import GAUGES, LABELS, StoreCounts


class User:
    """A user of the store that has no statements: the commit below does not run them."""

    def __init__(self, name: str = "user") -> None:
        self.name = name


class Disk:
    """A commit that answers when told, and remembers the groups."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def commit(self, shares):
        self.groups.append([item for _, items in shares for item in items])
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [[f"{writes.name} {item}" for item in items] for writes, items in shares]


@pytest.fixture
async def disk():
    return Disk()


@pytest.fixture
async def queue(disk):
    made = []

    def begin(**bounds):
        committer = GroupCommitter(disk.commit, Bounds(**bounds), StoreCounts())
        made.append(committer)
        return committer

    yield begin
    disk.gate.set()
    disk.error = None
    for committer in made:
        await committer.close()


async def test_what_arrives_while_the_disk_is_busy_goes_into_the_next_group(disk, queue):
    committer, user = queue(window=0), User()
    disk.gate.clear()
    first = committer.submit(user, "1", 1)
    await asyncio.sleep(0.01)
    rest = [committer.submit(user, item, 1) for item in "234"]
    await asyncio.sleep(0.01)
    assert disk.groups == [["1"]]
    disk.gate.set()
    assert await asyncio.gather(first, *rest) == ["user 1", "user 2", "user 3", "user 4"]
    assert disk.groups == [["1"], ["2", "3", "4"]]


async def test_a_full_group_does_not_wait_for_its_window(disk, queue):
    committer, user = queue(window=3_600, group_items=3), User()
    calls = [committer.submit(user, item, 1) for item in "12"]
    await asyncio.sleep(0.01)
    assert disk.groups == []
    calls.append(committer.submit(user, "3", 1))
    await asyncio.wait_for(asyncio.gather(*calls), 10)
    assert disk.groups == [["1", "2", "3"]]


async def test_answers_find_their_callers_when_users_are_mixed(queue):
    committer, a, b = queue(), User("a"), User("b")
    calls = [committer.submit(user, str(n), 1) for n, user in enumerate((a, b, b, a, b))]
    assert await asyncio.gather(*calls) == ["a 0", "b 1", "b 2", "a 3", "b 4"]


async def test_a_failed_group_gives_each_caller_an_error_of_its_own(disk, queue):
    committer, user = queue(), User()
    disk.error = NoSpace("the disk is full", 7.0)
    calls = [committer.submit(user, item, 1) for item in "12"]
    one, two = await asyncio.gather(*calls, return_exceptions=True)
    assert one is not two
    for error in (one, two):
        assert (type(error), str(error), error.retry_after) == (NoSpace, "the disk is full", 7.0)
    assert disk.groups == [["1", "2"]], "a fault of the database is not tried item by item"


async def test_what_waits_can_be_failed_without_touching_what_is_being_committed(disk, queue):
    committer, user = queue(window=0), User()
    disk.gate.clear()
    first = committer.submit(user, "1", 1)
    await asyncio.sleep(0.01)
    waiting = committer.submit(user, "2", 10)
    committer.fail_waiting(Unavailable("gone"))
    assert committer.waiting == (0, 0)
    disk.gate.set()
    assert await first == "user 1"
    with pytest.raises(Unavailable, match="gone"):
        await waiting
    assert await committer.submit(user, "3", 1) == "user 3"


async def test_a_caller_that_left_is_written_all_the_same(disk, queue):
    committer, user = queue(), User()
    left, stayed = committer.submit(user, "1", 1), committer.submit(user, "2", 1)
    left.cancel()
    assert await stayed == "user 2"
    assert disk.groups == [["1", "2"]]


@pytest.mark.parametrize(
    "bounds", [{"queue_items": 0}, {"group_bytes": 0}, {"window": -1}], ids=str
)
def test_bounds_that_let_nothing_through_are_refused(bounds):
    with pytest.raises(ValueError, match="take 1 or more"):
        Bounds(**bounds)


async def test_the_numbers_are_a_capabilitys_numbers_for_the_exporter(disk, queue):
    counts = StoreCounts()
    committer = GroupCommitter(disk.commit, Bounds(), counts)
    await asyncio.gather(*[committer.submit(User(), item, 5) for item in "123"])
    disk.error = Unavailable("gone")
    await asyncio.gather(committer.submit(User(), "4", 5), return_exceptions=True)
    await committer.close()
    registry = CollectorRegistry()
    registry.register(
        CapabilityCounts("moda_store", lambda: counts.read(committer.waiting, True), GAUGES, LABELS)
    )
    text = generate_latest(registry).decode()
    assert "moda_store_groups_total 1.0" in text
    assert "moda_store_writes_total 3.0" in text
    assert "moda_store_written_bytes_total 15.0" in text
    assert 'moda_store_failures_total{reason="unavailable"} 1.0' in text
    assert 'moda_store_failures_total{reason="no_space"} 0.0' in text
    assert "moda_store_degraded 1.0" in text
    assert 'moda_store_commit_seconds{quantile="0.99"}' in text
