"""Clients that say exactly what they are told and show exactly what they got.

:class:`Phoenix` speaks V2, text and binary, :class:`PhoenixV1` the older objects. They keep no
state, invent no ref and hide no frame, which is what sets them apart from a library: a test reads
as the transcript of a connection. Waiting is bounded, never measured.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
from typing import Any, Self

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway import PATIENCE

OK: dict[str, Any] = {"status": "ok", "response": {}}
UNMATCHED: dict[str, Any] = {"status": "error", "response": {"reason": "unmatched topic"}}
CRASHED: dict[str, Any] = {"reason": "channel_crash"}


def error(reason: str) -> dict[str, Any]:
    """The payload of an error reply that gives a reason."""
    return {"status": "error", "response": {"reason": reason}}


class Wire:
    """One WebSocket: frames in, frames out."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._fences = itertools.count(1)

    @classmethod
    async def open(cls, url: str, *, tls: ssl.SSLContext | None = None, **options: Any) -> Self:
        """Connects. The library's own pings, its compression and its size limit are off."""
        socket = await connect(
            url,
            ssl=tls,
            proxy=None,
            compression=None,
            ping_interval=None,
            max_size=None,
            open_timeout=PATIENCE,
            close_timeout=PATIENCE,
            **options,
        )
        return cls(socket)

    async def write(self, frame: str | bytes) -> None:
        """Sends a text or a binary frame as it is."""
        await self.socket.send(frame)

    async def read(self) -> str | bytes:
        """The next frame as it came."""
        async with asyncio.timeout(PATIENCE):
            return await self.socket.recv()

    async def closed(self) -> tuple[int, str]:
        """Waits for the server's close, dropping frames before it; its code and reason."""
        with pytest.raises(ConnectionClosed) as closed:
            await self._read_to_the_end()
        received = closed.value.rcvd
        assert received is not None, "the connection was cut without a close frame"
        return received.code, received.reason

    async def _read_to_the_end(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                await self.socket.recv()

    async def close(self) -> None:
        await self.socket.close()


class Phoenix(Wire):
    """A V2 client. ``send`` and ``expect`` take the five elements of a text frame."""

    async def send(self, *frame: Any) -> None:
        await self.write(json.dumps(frame))

    async def receive(self) -> Any:
        """The next frame: a list for text, bytes for binary."""
        frame = await self.read()
        return json.loads(frame) if isinstance(frame, str) else frame

    async def expect(self, *frame: Any) -> None:
        """The next frame must be this text frame, and nothing before it."""
        assert await self.receive() == list(frame)

    async def ask(self, *frame: Any) -> Any:
        """Sends a frame and returns the payload of its reply, which must come next."""
        await self.send(*frame)
        answer = await self.receive()
        assert isinstance(answer, list), answer
        assert answer[1:4] == [frame[1], frame[2], "phx_reply"], answer
        return answer[4]

    async def join(self, topic: str, payload: Any = None, ref: str = "1") -> Any:
        """Joins as phoenix.js does (join_ref is ref); the response of an ok reply."""
        answer = await self.ask(ref, ref, topic, "phx_join", {} if payload is None else payload)
        assert answer["status"] == "ok", answer
        return answer["response"]

    async def silence(self, topic: str = "no such topic") -> None:
        """Nothing must be on its way: the answer to a message sent now comes next.

        The engine queues that answer behind everything published or pushed before it.
        """
        ref = f"fence-{next(self._fences)}"
        await self.send(None, ref, topic, "fence", {})
        await self.expect(None, ref, topic, "phx_reply", UNMATCHED)


class PhoenixV1(Wire):
    """A V1 client: objects, text only."""

    async def send(self, topic: str, event: str, payload: Any, ref: Any, **more: Any) -> None:
        message = {"topic": topic, "event": event, "payload": payload, "ref": ref, **more}
        await self.write(json.dumps(message))

    async def receive(self) -> Any:
        frame = await self.read()
        assert isinstance(frame, str), f"V1 has no binary frames, got {frame!r}"
        return json.loads(frame)

    async def expect(self, topic: str, event: str, payload: Any, ref: Any) -> None:
        assert await self.receive() == {
            "topic": topic,
            "event": event,
            "payload": payload,
            "ref": ref,
        }

    async def join(self, topic: str, payload: Any = None, ref: str = "1") -> None:
        await self.send(topic, "phx_join", {} if payload is None else payload, ref)
        await self.expect(topic, "phx_reply", OK, ref)

    async def silence(self) -> None:
        ref = f"fence-{next(self._fences)}"
        await self.send("no such topic", "fence", {}, ref)
        await self.expect("no such topic", "phx_reply", UNMATCHED, ref)


# -- the binary layouts, written a second time so that a mistake in the engine is not copied here


def _part(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    assert len(raw) < 256, f"{len(raw)} bytes do not fit a length byte"
    return raw


def binary_push(join_ref: str, ref: str, topic: str, event: str, data: bytes) -> bytes:
    """What a client sends: kind 0 with a ref."""
    parts = [_part(part) for part in (join_ref, ref, topic, event)]
    return bytes((0, *map(len, parts))) + b"".join(parts) + data


def pushed(join_ref: str, topic: str, event: str, data: bytes) -> bytes:
    """What a server pushes: kind 0 without a ref."""
    parts = [_part(part) for part in (join_ref, topic, event)]
    return bytes((0, *map(len, parts))) + b"".join(parts) + data


def replied(join_ref: str, ref: str, topic: str, status: str, data: bytes) -> bytes:
    """What a server replies: kind 1."""
    parts = [_part(part) for part in (join_ref, ref, topic, status)]
    return bytes((1, *map(len, parts))) + b"".join(parts) + data


def broadcast(topic: str, event: str, data: bytes) -> bytes:
    """What a server broadcasts: kind 2, no refs."""
    parts = [_part(part) for part in (topic, event)]
    return bytes((2, *map(len, parts))) + b"".join(parts) + data
