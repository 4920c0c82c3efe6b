"""What an end means to a client, and what is left of a channel after it."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from moda.hub import Hub
from moda.message import Ref, Reply, Stop

__all__ = ["Ended", "orderly"]


def orderly(reason: str) -> bool:
    """Whether a Stop with this reason is an end (``phx_close``) and no crash (``phx_error``).

    >>> [orderly(reason) for reason in ("normal", "shutdown", "shutdown:kicked", "kicked")]
    [True, True, True, False]
    """
    return reason in ("normal", "shutdown") or reason.startswith("shutdown:")


class Ended:
    """The port of a channel that has ended. It knows the conversation no more: each would keep the
    other alive, and the collector that undoes such pairs looks seldom.

    Only a broadcast still does something: it is the topic's, not the client's.
    """

    __slots__ = ("_hub", "_topic")

    def __init__(self, hub: Hub, topic: str) -> None:
        self._hub = hub
        self._topic = topic

    def push(self, event: str, payload: Any) -> None:
        """Nobody hears it."""

    def reply(self, ref: Ref, reply: Reply) -> None:
        """Nobody waits for it."""

    def broadcast(self, event: str, payload: Any, key: str | None, everyone: bool) -> None:
        self._hub.publish(self._topic, event, payload, key=key)

    def stop(self, stop: Stop) -> None:
        """It has."""

    def track(self, key: str, meta: Mapping[str, Any]) -> None:
        """Nobody is there to be present."""

    def update(self, key: str, meta: Mapping[str, Any]) -> None:
        """It is present no more."""

    def untrack(self, key: str) -> None:
        """It is present no more."""

    def presence(self) -> dict[str, Any]:
        return self._hub.presence(self._topic)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        work.close()
