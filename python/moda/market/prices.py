"""`chart:prices`: one source, one voice, any number of listeners.

The channel knows nothing of where prices come from. It forwards each tick's bytes as `price_tick`
and says, at every join and at every change, whether they are to be believed: "live", "stale" or
"simulated" (ruling S0-13). A join never fails because the exchange is down: the client that stays
joined is the one that sees it come back.

A client joining between two ticks waits for the next one, a second at most; the contract promises
no catch-up.
"""

from __future__ import annotations

from typing import Any, Final

import structlog

from moda.channel import JoinRequest, Registrar, Stream
from moda.market.feed import Tick
from moda.market.pacing import Clock
from moda.market.sources import Source, State
from moda.message import Raw, ServiceStatus

LOG: Final[Any] = structlog.get_logger("moda.market")

TOPIC: Final = "chart:prices"
TICK: Final = "price_tick"
UPSTREAM: Final = "upstream"

_STATUS: Final[dict[State, str]] = {"live": "up", "stale": "degraded", "simulated": "simulated"}


class Prices(Stream):
    """The stream behind `chart:prices`, and the sink its source delivers to."""

    def __init__(self, gateway: Registrar, source: Source, clock: Clock) -> None:
        self._gateway = gateway
        self._source = source
        self._clock = clock
        self._state: State = "stale"
        self._reason = "not started"
        self._since = clock.time()
        self._published = 0
        self._changes = 0
        self._restarts = -1
        self._last_tick: float | None = None

    async def join(self, request: JoinRequest) -> dict[str, Any]:
        """Always lets in. `{"upstream": state, "source": kind, "since": unix s}`.

        `upstream` is "live", "stale" or "simulated". A replay is not the market of this moment, so
        it says "simulated", and `source` says which kind: "binance", "simulated" or "replay".
        """
        return {"upstream": self._state, "source": self._source.kind, "since": self._since}

    async def run(self) -> None:
        """Run the source until cancelled. What it raises is told to the listeners, then raised."""
        self._restarts += 1
        try:
            await self._source.run(self)
        except Exception as error:
            self.shift("stale", f"source failed: {error}")
            raise

    # -- the sink

    def tick(self, tick: Tick) -> None:
        """Publish one event. A slow reader keeps the newest of each symbol (delivery "latest")."""
        self._published += 1
        self._last_tick = self._clock.monotonic()
        self._gateway.broadcast(TOPIC, TICK, Raw(tick.data), key=tick.symbol)

    def shift(self, state: State, reason: str) -> None:
        """Publish a change of state as `upstream` `{"state", "since", "reason", "source"}`.

        A new reason for the same state is kept for `/health` and not sent: a gateway that cannot
        reach the exchange would otherwise tell every client of every attempt.
        """
        self._reason = reason
        if state == self._state and self._changes:
            return
        self._state = state
        self._since = self._clock.time()
        self._changes += 1
        # "Connecting" is stale too, and every start's first word: a warning is for what was lost.
        lost = state == "stale" and self._changes > 1
        tell = LOG.warning if lost else LOG.info
        tell("prices.state", state=state, reason=reason, source=self._source.kind)
        # Lower case, so it is no symbol's key: conflation must not let a tick replace it.
        self._gateway.broadcast(
            TOPIC,
            UPSTREAM,
            {
                "state": state,
                "since": self._since,
                "reason": reason,
                "source": self._source.kind,
            },
            key=UPSTREAM,
        )

    # -- for operators

    def probe(self) -> ServiceStatus:
        """The line of `/health`. Ages are seconds; `last_tick_age` is None before the first."""
        return ServiceStatus(
            _STATUS[self._state],
            {
                "source": self._source.kind,
                "state": self._state,
                "since": self._since,
                "reason": self._reason,
                "last_tick_age": self._age(),
                **self._source.report().detail,
                "counters": self.counters(),
            },
        )

    def counters(self) -> dict[str, float | dict[str, float]]:
        """For `/metrics`: name -> value, or name -> {label value -> value} (`rubbish` by reason).

        All but `state` and `last_tick_age` only grow while the process lives.
        """
        age = self._age()
        return {
            "published": float(self._published),
            "state_changes": float(self._changes),
            "restarts": float(max(0, self._restarts)),
            "state": {name: float(name == self._state) for name in _STATUS},
            **({} if age is None else {"last_tick_age": age}),
            **self._source.report().counters,
        }

    def _age(self) -> float | None:
        if self._last_tick is None:
            return None
        return round(self._clock.monotonic() - self._last_tick, 3)
