"""A user's gateway whose topics are read as event streams, and which does what a client tells it."""

from __future__ import annotations

from typing import Any, ClassVar

from moda import Channel, Connect, Gateway, History, Reply, Socket

gateway = Gateway(builtins=False)


@gateway.connect
def admit(connect: Connect) -> Socket:
    return Socket(id=connect.params.get("id"))


@gateway.channel("log:{name}", history=History(size=1000))
class Log(Channel):
    """What is said on ``control`` is done to all who are here."""

    here: ClassVar[set[Log]] = set()

    async def joined(self) -> None:
        self.here.add(self)

    async def leave(self, reason: str) -> None:
        self.here.discard(self)


@gateway.channel("control")
class Control(Channel):
    async def handle(self, event: str, payload: Any) -> Reply | None:
        match event:
            case "say":
                gateway.broadcast(payload["topic"], "said", {"n": payload["n"]})
            case "cut":
                return Reply("ok", {"closed": gateway.disconnect(payload["id"])})
            case "readers":
                return Reply("ok", {"readers": gateway.subscribers(payload["topic"])})
            case "close":
                for log in [log for log in Log.here if log.topic == payload["topic"]]:
                    log.stop()
        return Reply()
