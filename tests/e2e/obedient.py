"""A user's gateway whose rooms do what a client tells them: what the stock client is tested on."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import Any

from moda import Channel, Connect, Gateway, Reply, Socket, Stop

gateway = Gateway(builtins=False)
gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
begun: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
joins: Counter[str] = Counter()


@gateway.connect
def admit(connect: Connect) -> Socket:
    return Socket(id=connect.params.get("id"), principal=connect.token)


@gateway.channel("room:{name}")
class Room(Channel):
    """``gated`` joins wait until another room says ``open`` for the topic."""

    async def join(self, payload: Any) -> dict[str, Any]:
        joins[self.topic] += 1
        number = joins[self.topic]
        begun[self.topic].set()
        if payload.get("gated"):
            await gates[self.topic].wait()
        return {"join": number, "token": self.socket.principal}

    async def handle(self, event: str, payload: Any) -> Reply | Stop | None:
        match event:
            case "echo":
                return Reply("ok", payload)
            case "open":
                gates[payload["topic"]].set()
                return Reply()
            case "begun":
                await begun[payload["topic"]].wait()
                return Reply()
            case "crash":
                raise RuntimeError("told to")
            case "stop":
                return Stop(payload["reason"], Reply("ok", {"bye": True}))
            case "kick":
                return Reply("ok", {"closed": gateway.disconnect(payload["id"])})
            case "push bytes":
                self.push("bytes", bytes(payload["bytes"]))
            case "broadcast bytes":
                self.broadcast("bytes", bytes(payload["bytes"]))
        return None
