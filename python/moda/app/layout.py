"""Which routes the engine has: laid out of what code and the AsyncAPI document declare, and exposed on
the mounts, anew whenever the document is read again.

All is checked before the engine hears of any of it. A route keeps its number for as long as what the
engine was told of it stays the same, so that topics in use keep their policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from moda import asyncapi as documents
from moda.app.declared import Declared, Laid, checker, twice, unkept
from moda.channel import Stream
from moda.errors import ConfigurationError
from moda.hub import Hub
from moda.ports import Retention
from moda.wire.phoenix import Mount, Rate, Route

__all__ = ["Layout"]

log = structlog.get_logger("moda.gateway")

NEWEST = 1_000
"""Messages of a durable topic that are kept in memory too; what is older is read from the database."""


class Layout:
    """The routes of a gateway. ``declared`` is what code has registered, ``mounts`` are by path."""

    def __init__(self, hub: Hub, declared: Sequence[Declared], mounts: Mapping[str, Mount]) -> None:
        self.routes: dict[int, Route] = {}
        """By the engine's number."""
        self._hub = hub
        self._declared = declared
        self._mounts = mounts
        self._laid: Sequence[Laid] = ()
        self._numbers: dict[tuple[Any, ...], int] = {}

    @property
    def durable(self) -> bool:
        """Whether any topic's history is durable."""
        return self._hub.durable is not None and bool(self._hub.durable.keep)

    def lay(
        self,
        registry: documents.Registry,
        from_document: Sequence[Declared],
        *,
        running: bool = False,
    ) -> list[Laid]:
        """All routes of code and of a document, checked; the engine knows nothing of them yet.

        Raises ConfigurationError; once the gateway is ``running``, for its first durable history too.
        """
        seen: dict[tuple[str, str], Declared] = {}
        return [
            self._lay_one(declared, registry, seen, running=running)
            for declared in [*self._declared, *from_document]
        ]

    def expose(self, laid: Sequence[Laid]) -> None:
        """Makes these routes the ones that joins find, in place of those before. Raises
        ConfigurationError, and those before stay then.
        """
        try:
            self._expose(laid)
        except ConfigurationError:
            if self._laid:
                self._expose(self._laid)
            raise
        self._laid = laid

    def _expose(self, laid: Sequence[Laid]) -> None:
        core = self._hub.core
        numbers = []
        for one in laid:
            known = (one.route.pattern, one.engine, tuple(mount.number for mount in one.reached))
            number = self._numbers.get(known)
            if number is None:
                stream, delivery, key, size, ttl_ms, intercept, durable, handlers = one.engine
                try:
                    number = core.route(
                        stream=stream,
                        delivery=delivery,
                        key=key,
                        history_size=size,
                        history_ttl_ms=ttl_ms,
                        intercept=list(intercept),
                        durable=durable,
                        handlers=handlers,
                    )
                except (ValueError, OverflowError, TypeError) as error:
                    raise ConfigurationError(f"channel({one.route.pattern!r}): {error}") from None
                self._numbers[known] = number
            numbers.append(number)
        for mount in self._mounts.values():
            core.withdraw(mount.number)
        for one, number in zip(laid, numbers, strict=True):
            self.routes[number] = one.route
            if one.keep is not None and self._hub.durable is not None:
                keep = Retention(one.keep.size, one.keep.ttl, one.keep.bytes)
                self._hub.durable.keep[number] = keep
            for mount in one.reached:
                try:
                    core.expose(mount.number, one.route.pattern, number)
                except ValueError as error:
                    raise ConfigurationError(str(error)) from None

    def _lay_one(
        self,
        declared: Declared,
        registry: documents.Registry,
        seen: dict[tuple[str, str], Declared],
        *,
        running: bool,
    ) -> Laid:
        try:
            found = registry.declared(declared.pattern)
        except documents.DocumentError as error:
            raise ConfigurationError(f"channel({declared.pattern!r}): {error.problem}") from None
        policy = found.policy if found is not None else documents.UNDECLARED
        delivery = declared.delivery or policy.delivery
        history = declared.history or policy.history
        presence = declared.presence or policy.presence
        handlers = [] if presence is None else [("presence", f'{{"mode":"{presence}"}}')]
        if declared.relay is not None:
            handlers.append(("relay", declared.relay))
        serves = declared.serves
        stream = isinstance(serves, Stream)
        intercept = () if isinstance(serves, Stream) else sorted(serves.intercept)
        durable = history is not None and history.durable
        if durable and running and not self.durable:
            raise ConfigurationError(
                f"channel({declared.pattern!r}) declares the first durable history: the database is "
                "opened at the start, so this takes a restart"
            )
        if durable and self._hub.durable is None:
            raise ConfigurationError(
                f"channel({declared.pattern!r}) declares a durable history, and this gateway has no "
                "database: `moda serve` opens the one of DATABASE_URL"
            )
        unknown = [path for path in declared.sockets or () if path not in self._mounts]
        if unknown:
            raise ConfigurationError(
                f"channel({declared.pattern!r}) names socket {unknown[0]!r}, which is not declared; "
                f"declared are {', '.join(self._mounts)}"
            )
        reached = {
            path: mount
            for path, mount in self._mounts.items()
            if declared.sockets is None or path in declared.sockets
        }
        options = [mount.options for mount in reached.values()]
        for warning in unkept(declared.pattern, policy, options):
            log.warning("policy.not_kept", warning=warning)
        for path in reached:
            other = seen.setdefault((declared.shape, path), declared)
            if other is not declared:
                raise twice(declared, other, path)
        route = Route(
            declared.pattern,
            serves,
            declared.max_subscribers or policy.max_subscribers,
            checker(found),
            None if policy.rate is None else Rate(policy.rate.count, policy.rate.seconds),
            policy.access == "token",
            policy.key_kind,
            presence is not None,
            declared.relay is not None,
            found,
            durable,
        )
        size, ttl_ms = (0, 0) if history is None else (history.size, int(history.ttl * 1000))
        if durable:
            size = min(size, NEWEST)
        laid = tuple(intercept), durable, tuple(handlers)
        engine = (stream, delivery, policy.key, size, ttl_ms, *laid)
        keep = None if history is None or not durable else history
        return Laid(route, engine, tuple(reached.values()), keep)
