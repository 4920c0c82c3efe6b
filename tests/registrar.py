"""The gateway as a capability sees it, writing down what it is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from moda.channel import Stream
from moda.message import Raw, ServiceStatus


@dataclass
class FakeRegistrar:
    """Stands where :class:`moda.channel.Registrar` does.

    ``streams`` and ``policies`` are by pattern, ``works`` and ``probes`` by name; ``sent`` holds
    (topic, event, payload, key) of every broadcast.
    """

    streams: dict[str, Stream] = field(default_factory=dict)
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    works: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    probes: dict[str, Callable[[], ServiceStatus]] = field(default_factory=dict)
    sent: list[tuple[str, str, Any, str | None]] = field(default_factory=list)

    def channel(self, pattern: str, **policy: Any) -> Callable[[Any], Any]:
        def register(served: Any) -> Any:
            assert isinstance(served, Stream)
            self.streams[pattern] = served
            self.policies[pattern] = policy
            return served

        return register

    def broadcast(
        self,
        topic: str,
        event: str,
        payload: Mapping[str, Any] | Raw | bytes,
        *,
        key: str | None = None,
    ) -> None:
        self.sent.append((topic, event, payload, key))

    def background(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self.works[name] = work

    def service(self, name: str, probe: Callable[[], ServiceStatus]) -> None:
        self.probes[name] = probe

    def to(self, topic: str) -> list[Any]:
        """The payloads that were broadcast to a topic."""
        return [payload for sent_to, _, payload, _ in self.sent if sent_to == topic]
