"""When who gets a tick. Pure: it is told the time and answers with what is due.

The subscribers of one interval form a *lane*. A lane is one fan-out: whatever a tick costs,
it costs once per lane that is due, however many subscribers the lane has. Lanes tick on multiples
of their interval counted from one common start, in whole milliseconds, so that lanes which coincide
coincide exactly and share one reading.

A client cannot make a lane of its own by asking for 251 ms: intervals come from a ladder of a few
rungs, and an ask is met by the next *slower* rung, never by more messages than were asked for.
The number of lanes, and with it the work an anonymous client can cause, is bounded by the ladder.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from moda.telemetry.metrics import Reading

__all__ = ["MAX_INTERVAL_MS", "MIN_INTERVAL_MS", "RUNGS_MS", "Lane", "Pace"]

MIN_INTERVAL_MS: Final = 250
MAX_INTERVAL_MS: Final = 60_000

RUNGS_MS: Final = (250, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000)
"""The intervals a client can have beside the server's own."""

GRACE_MS: Final = 10_000
"""How long a lane without subscribers is kept after somebody asked for it.

A subscriber is asked for here before it is subscribed there, and the connection may be slow.
"""


@dataclass(slots=True)
class Lane:
    """All subscribers of one interval. The other times count from the pace's start."""

    interval_ms: int
    due_ms: int
    asked_ms: int
    ticked_ms: int = -MAX_INTERVAL_MS
    before: Reading | None = None
    """The reading of this lane's last tick: its rates are taken over its own interval."""


class Pace:
    """The lanes that live, and when each is due.

    ``own_ms`` is the server's interval: its lane always lives, and is the only one unless
    ``laned``. ``now_s`` is any monotonic clock in seconds.
    """

    __slots__ = ("_lanes", "_own", "_rungs", "_start_s")

    def __init__(self, own_ms: int, *, laned: bool, now_s: float) -> None:
        self._start_s = now_s
        self._rungs = sorted({own_ms, *RUNGS_MS}) if laned else [own_ms]
        self._own = Lane(own_ms, due_ms=0, asked_ms=0)
        self._lanes: dict[int, Lane] = {own_ms: self._own}

    @property
    def lanes(self) -> Iterable[Lane]:
        """The lanes that live, in no particular order."""
        return self._lanes.values()

    def own(self, lane: Lane) -> bool:
        """Whether this is the server's own lane."""
        return lane is self._own

    def effective(self, asked_ms: int | None) -> int:
        """The interval that an ask is met with; None asks for nothing in particular."""
        if asked_ms is None:
            return self._own.interval_ms
        rung = bisect_left(self._rungs, asked_ms)
        return self._rungs[min(rung, len(self._rungs) - 1)]

    def ask(self, asked_ms: int | None, now_s: float) -> tuple[Lane, bool]:
        """The lane for a new subscriber, and whether it was made just now.

        A new lane is due at once: whoever joins alone need not wait a whole interval.
        """
        now_ms = self._ms(now_s)
        interval_ms = self.effective(asked_ms)
        lane = self._lanes.get(interval_ms)
        made = lane is None
        if lane is None:
            lane = self._lanes[interval_ms] = Lane(interval_ms, due_ms=now_ms, asked_ms=now_ms)
        lane.asked_ms = now_ms
        return lane, made

    def hurry(self, lane: Lane, now_s: float) -> None:
        """Makes a lane due now, for the first subscriber of one that nobody else listens to.

        Never sooner than the shortest interval after its last tick: a client that joins and
        leaves in a circle must not turn the sampler.
        """
        soonest_ms = max(self._ms(now_s), lane.ticked_ms + MIN_INTERVAL_MS)
        lane.due_ms = min(lane.due_ms, soonest_ms)

    def take_due(self, now_s: float) -> list[Lane]:
        """The lanes due by now, the slowest last; each is put forward to its next turn.

        Turns that were missed (the loop was blocked, the machine slept) are skipped, not made up
        for. After a tick out of turn the next regular one is at least half an interval away.
        """
        now_ms = self._ms(now_s)
        due = sorted(
            (lane for lane in self._lanes.values() if lane.due_ms <= now_ms),
            key=lambda lane: lane.interval_ms,
        )
        for lane in due:
            step = lane.interval_ms
            lane.ticked_ms = now_ms
            lane.due_ms = ((now_ms + step // 2) // step + 1) * step
        return due

    def retire(self, listeners: Callable[[Lane], int], now_s: float) -> None:
        """Forgets the lanes nobody listens to any more; never the server's own."""
        now_ms = self._ms(now_s)
        for lane in list(self._lanes.values()):
            if lane is self._own or now_ms - lane.asked_ms < GRACE_MS:
                continue
            if listeners(lane) == 0:
                del self._lanes[lane.interval_ms]

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next lane is due; 0 when one is."""
        next_ms = min(lane.due_ms for lane in self._lanes.values())
        return max(next_ms / 1000 - (now_s - self._start_s), 0.0)

    def _ms(self, now_s: float) -> int:
        return round((now_s - self._start_s) * 1000)
