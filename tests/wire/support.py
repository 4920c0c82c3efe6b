"""A conversation with the engine replaced by a list of what it was told."""

from __future__ import annotations

from typing import Any

import orjson

from gateway import until
from moda import Channel, Socket
from moda.hub import Hub
from moda.wire.conversation import Conversation

SUB = 7
"""The engine's number of the channel under test."""


class Engine:
    """Stands where ``moda._core.Hub`` does; ``told`` is what the conversation told it."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.admits = True
        self.unencodable = False
        self.taken_bytes = 0
        self.intercepting: list[Conversation] | None = None

    def join_ok(self, sub: int, response: bytes, binary: bool) -> bool:
        self.told.append(("join_ok", response if binary else orjson.loads(response)))
        if self.unencodable:
            raise ValueError("the join reply does not fit a binary frame")
        return self.admits

    def join_error(self, sub: int, response: bytes) -> bool:
        self.told.append(("join_error", orjson.loads(response)))
        return True

    def taken(self, sub: int, size: int) -> None:
        self.taken_bytes += size

    def reply(self, sub: int, ref: str | None, status: str, response: bytes, binary: bool) -> bool:
        self.told.append(("reply", ref, status, response if binary else orjson.loads(response)))
        return True

    def push(self, sub: int, event: str, payload: bytes, binary: bool) -> bool:
        self.told.append(("push", event, payload if binary else orjson.loads(payload)))
        return True

    def end(self, sub: int, crash: bool) -> bool:
        self.told.append(("end", "crash" if crash else "close"))
        return True

    def finish_leave(self, sub: int, ref: str) -> None:
        self.told.append(("finish_leave", ref))

    def publish(
        self,
        topic: str,
        event: str,
        data: bytes,
        binary: bool,
        key: Any,
        exclude: int,
        at: tuple[int, int] | None = None,
    ) -> tuple[None, list[Conversation] | None]:
        self.told.append(("publish", topic, event, orjson.loads(data), key, exclude))
        return None, self.intercepting


class Talk:
    """A channel under test and what the engine says to it."""

    def __init__(
        self, channel: Channel, engine: Engine, hub: Hub | None = None, **options: Any
    ) -> None:
        self.engine = engine
        self.hub = hub or Hub()
        self.hub.core = engine  # type: ignore[assignment]
        channel.topic, channel.params, channel.socket = "room:a", {"name": "a"}, Socket()
        options.setdefault("check", None)
        self.conversation = Conversation(self.hub, SUB, channel, **options)

    @property
    def told(self) -> list[tuple[Any, ...]]:
        return self.engine.told

    async def join(self, payload: Any = None) -> None:
        """Joins and waits until the join's task has ended."""
        self.begin(payload)
        await self.idle()

    def begin(self, payload: Any = None) -> None:
        self.conversation.begin(orjson.dumps(payload), False)

    def say(self, event: str, payload: Any = None, ref: str | None = '"2"') -> None:
        binary = isinstance(payload, bytes)
        data = payload if binary else orjson.dumps(payload)
        self.conversation.deliver(event, data, binary, ref, len(data))

    async def idle(self) -> None:
        await until(lambda: self.conversation._task is None)
        await self.hub.errands_done()
