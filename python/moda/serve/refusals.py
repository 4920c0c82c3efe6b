"""What an operator is told of handshakes that were refused without a word.

Phoenix answers a wrong origin, version or token with an empty 403, and so does moda: a stranger learns
nothing. The person who set the rule and now sees a page that never connects has only the log to ask.
A line per refusal would let any client fill the disk, so each reason has one at once and then one
every :data:`PAUSE` seconds at most, which says how many it stands for.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from moda.upgrade import Refused

__all__ = ["PAUSE", "RefusalLog"]

_log = structlog.get_logger("moda.door")

PAUSE = 10.0
MAX_GOT = 120
"""Characters of what a client sent that are repeated."""


class RefusalLog:
    """Writes ``connect.refused`` lines for refusals that carry a hint; others pass in silence."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        # Reasons are words of this code and few; what a client sends is never a key.
        self._told: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def refused(self, refused: Refused) -> None:
        """Called for every request that is turned away."""
        if not refused.hint:
            return
        now, reason = self._now(), refused.reason
        if now - self._told.get(reason, -PAUSE) < PAUSE:
            self._untold[reason] = self._untold.get(reason, 0) + 1
            return
        self._told[reason] = now
        hint = {
            name: text[:MAX_GOT] if name == "got" else text for name, text in refused.hint.items()
        }
        more = self._untold.pop(reason, 0)
        _log.warning(
            "connect.refused",
            reason=reason,
            status=refused.status,
            **hint,
            **({"untold_before": more} if more else {}),
        )
