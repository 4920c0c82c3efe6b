"""A user's gateway with presence: a room that tracks whoever joins it under the name they give."""

from __future__ import annotations

from typing import Any

from moda import Channel, Gateway, Reply, Stream

gateway = Gateway(builtins=False)


@gateway.channel("room:{room}", presence="list")
class Room(Channel):
    async def join(self, payload: Any) -> None:
        self.name = str(payload["name"])

    async def joined(self) -> None:
        self.track(self.name, {"status": "here"})

    async def handle(self, event: str, payload: Any) -> Reply:
        if event == "status":
            self.update(self.name, payload)
            return Reply()
        return Reply("ok", self.presence())


gateway.channel("crowd", presence="count")(Stream())
