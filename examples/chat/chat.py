"""A chat: rooms, who is typing, and the last lines for whoever comes in.

    npm ci && moda serve chat:gateway

then http://localhost:4001/chat/ in two windows. `docs/channels.md` builds it step by step and its
code is this file's, word for word (a test compares them), so the steps stand here in that order.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

from static import Static

from moda import Channel, Gateway, Reject, Reply

gateway = Gateway()


class Lines:
    """The last 50 lines of the 1,000 rooms that spoke last, in memory: topics are free to invent."""

    def __init__(self, lines: int = 50, rooms: int = 1000) -> None:
        self._lines = lines
        self._most_rooms = rooms
        self._rooms: OrderedDict[str, deque[dict[str, Any]]] = OrderedDict()

    def of(self, topic: str) -> list[dict[str, Any]]:
        return list(self._rooms.get(topic, ()))

    def add(self, topic: str, line: dict[str, Any]) -> None:
        self._rooms.setdefault(topic, deque(maxlen=self._lines)).append(line)
        self._rooms.move_to_end(topic)
        if len(self._rooms) > self._most_rooms:
            self._rooms.popitem(last=False)


lines = Lines()


def text_of(payload: Any, key: str, most: int) -> str | None:
    """The text under ``key``, or None unless it has 1 to ``most`` characters: clients send anything."""
    value = payload.get(key) if isinstance(payload, dict) else None
    if isinstance(value, str) and 0 < len(value.strip()) <= most:
        return value.strip()
    return None


@gateway.channel("room:{room}")
class Room(Channel):
    async def join(self, payload: Any) -> Any:
        name = text_of(payload, "name", 24)
        if name is None:
            raise Reject("a name of 1 to 24 characters, please")
        self.name = name
        return {"room": self.params["room"], "name": name}

    async def joined(self) -> None:
        self.push("history", {"lines": lines.of(self.topic)})
        self.broadcast("came", {"name": self.name, "here": gateway.subscribers(self.topic)})

    async def handle(self, event: str, payload: Any) -> Reply | None:
        if event == "say":
            text = text_of(payload, "text", 1000)
            if text is None:
                return Reply("error", {"reason": "a text of 1 to 1000 characters, please"})
            line = {"by": self.name, "text": text, "at": time.time()}
            lines.add(self.topic, line)
            self.broadcast("said", line)
            return Reply("ok")
        if event == "typing":
            self.broadcast_from("typing", {"name": self.name})
            return None
        return Reply("error", {"reason": "unknown event"})

    async def leave(self, reason: str) -> None:
        self.broadcast("left", {"name": self.name, "here": gateway.subscribers(self.topic)})


gateway.mount(Static(Path(__file__).parent, at="/chat/"))
