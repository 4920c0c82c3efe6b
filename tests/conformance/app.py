"""The application the conformance tests talk to: channels that do what a message tells them.

One message, one primitive of the channel API, so that a test's transcript holds the stimulus and
the frames it must cause side by side.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from gateway import until
from moda import Channel, Gateway, JoinRequest, Reject, Reply, Stop, Stream


@dataclass
class House:
    """A gateway and what a test may see of it from inside.

    ``gate`` is what slow joins and handlers wait for; ``waiting`` says that one has arrived there;
    ``ended`` holds (topic, reason) of every ``leave`` callback.
    """

    gateway: Gateway
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    ended: list[tuple[str, str]] = field(default_factory=list)

    async def wait(self) -> None:
        self.waiting.set()
        await self.gate.wait()

    async def goodbyes(self, count: int = 1) -> list[tuple[str, str]]:
        """``ended`` once it holds ``count``: a leave callback runs behind the frames it follows."""
        await until(lambda: len(self.ended) >= count)
        return sorted(self.ended)


class Room(Channel):
    """Obeys. The ``house`` is set by :func:`build` on a subclass of its own."""

    house: House

    async def join(self, payload: Any) -> Any:
        match payload:
            case {"refuse": reason}:
                raise Reject(reason)
            case {"crash": text}:
                raise RuntimeError(text)
            case {"wait": answer}:
                await self.house.wait()
                return answer
            case {"answer": answer}:
                return answer
            case {"bytes": text}:
                return bytes.fromhex(text)
        return None

    async def joined(self) -> None:
        if self.params.get("name", "").startswith("pushes"):
            self.push("welcome", {"first": True})

    async def handle(self, event: str, payload: Any) -> Reply | Stop | None:
        match event:
            case "echo":
                return Reply("ok", payload)
            case "reply":
                return Reply(payload["status"], payload["response"])
            case "reply_bytes":
                return Reply(payload["status"], bytes.fromhex(payload["hex"]))
            case "status_only":
                return Reply("accepted")
            case "nothing":
                return None
            case "twice":
                self.reply(self.ref, Reply("ok", {"n": 1}))
                self.reply(self.ref, Reply("late", {"n": 2}))
                return None
            case "deferred":
                self.spawn(self.answer_later(self.ref))
                return None
            case "wait":
                await self.house.wait()
                return Reply("ok", payload)
            case "push":
                self.push(payload["event"], payload["payload"])
                return None
            case "push_bytes":
                self.push(payload["event"], bytes.fromhex(payload["hex"]))
                return None
            case "shout":
                self.broadcast("said", payload)
                return None
            case "shout_from":
                self.broadcast_from("said", payload)
                return None
            case "shout_bytes":
                self.broadcast("said", bytes.fromhex(payload["hex"]))
                return None
            case "shout_rubbish":
                self.broadcast("said", payload)
                return None
            case "crash":
                raise RuntimeError("told to")
            case "cancel":
                raise asyncio.CancelledError
            case "crash_beside":
                self.spawn(self.fail())
                return None
            case "stop":
                reply = payload.get("reply")
                return Stop(payload["reason"], None if reply is None else Reply("ok", reply))
        raise LookupError(f"no clause for {event}")

    async def answer_later(self, ref: str) -> None:
        await self.house.wait()
        self.reply(ref, Reply("ok", {"deferred": True}))

    async def fail(self) -> None:
        raise RuntimeError("told to, beside the channel")

    async def leave(self, reason: str) -> None:
        self.house.ended.append((self.topic, reason))
        self.push("too_late", {})


class Tower(Channel):
    """Sees broadcasts before its client does: drops what is marked, changes the rest."""

    intercept = frozenset({"said"})

    async def handle(self, event: str, payload: Any) -> Reply | None:
        if event == "shout":
            self.broadcast("said", payload)
        elif event == "shout_other":
            self.broadcast("other", payload)
        return None

    async def outgoing(self, event: str, payload: Any) -> None:
        if isinstance(payload, bytes):
            self.push(event, payload[::-1])
        elif not payload.get("secret"):
            self.push(event, {**payload, "seen": True})


class Ticker(Stream):
    """A push-only topic."""

    async def join(self, request: JoinRequest) -> Any:
        match request.payload:
            case {"refuse": reason}:
                raise Reject(reason)
            case {"crash": text}:
                raise RuntimeError(text)
            case {"bytes": text}:
                return bytes.fromhex(text)
        return {"topic": request.topic, "params": request.params}


def build(**socket: Any) -> House:
    """A house that has not been started. ``socket`` are the default mount's options."""
    gateway = Gateway(builtins=False)
    house = House(gateway)
    if socket:
        gateway.socket("/socket", **socket)
    room = type("Room", (Room,), {"house": house})
    gateway.channel("room:{name}")(room)
    gateway.channel("exact")(room)
    gateway.channel("tower:*")(Tower)
    gateway.channel("ticker:{name}")(Ticker)
    return house
