"""A user's gateway as the Python package `realtime` expects one: rooms under ``realtime:``.

That package puts ``realtime:`` before every topic and knows a fixed list of events, of which
``broadcast`` is the one for applications, with the payload
``{"type": "broadcast", "event": name, "payload": {...}}``.
"""

from __future__ import annotations

from typing import Any

from moda import Channel, Gateway, Reject, Reply

gateway = Gateway()


@gateway.channel("realtime:room:{room}")
class Room(Channel):
    """Passes broadcasts on, to the sender too where it asked for that when it joined."""

    async def join(self, payload: Any) -> dict[str, Any]:
        if self.params["room"] == "closed":
            raise Reject("this room is closed")
        options = payload.get("config", {}).get("broadcast", {})
        self.socket.assigns[f"{self.topic}:self"] = bool(options.get("self"))
        self.socket.assigns[f"{self.topic}:ack"] = bool(options.get("ack"))
        return {}

    async def handle(self, event: str, payload: Any) -> Reply | None:
        if event == "broadcast":
            if self.socket.assigns[f"{self.topic}:self"]:
                self.broadcast(event, payload)
            else:
                self.broadcast_from(event, payload)
        return Reply() if self.socket.assigns[f"{self.topic}:ack"] else None
