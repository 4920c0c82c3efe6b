"""A local exchange that misbehaves on request.

It speaks the combined stream of `/stream?streams=a@miniTicker/b@miniTicker` with the `websockets`
package, so that the client under test (picows) never talks to its own code. It runs on a thread
and loop of its own: a test may block the gateway's loop for seconds, and the exchange goes on
sending meanwhile, as a real one would.

Methods are awaited on the test's loop. Plain attributes (`flowing`, `hanging`, ...) may be set at
any time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import orjson
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

Result = TypeVar("Result")

FIRST_E = 1_740_441_600_000


class Peer(ServerConnection):
    """A connection that writes down every pong it gets, asked for or not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pongs: list[bytes] = []

    def acknowledge_pings(self, data: bytes) -> None:
        self.pongs.append(data)
        super().acknowledge_pings(data)


@dataclass
class Visit:
    """One connection the exchange has had, open or not."""

    peer: Peer
    streams: list[str]
    said: list[Any] = field(default_factory=list)
    open: bool = True
    close_code: int | None = None

    @property
    def pongs(self) -> list[bytes]:
        return self.peer.pongs


class FakeBinance:
    """`async with FakeBinance() as fake:`; the client's base URL is `fake.url`."""

    def __init__(self, *, every: float | None = 0.02, tls: Any = None) -> None:
        """`every`: seconds between rounds of ticks sent by itself; None sends only on `tick`."""
        self.flowing = every is not None
        self.pinging = False
        self.hanging = False
        self.delay = 0.0
        self.refusal: tuple[int, dict[str, str]] | None = None
        self.goodbye_at_once = False
        self.grants = True
        self.visits: list[Visit] = []
        self.attempts = 0
        self.port = 0
        self._every = every
        self._tls = tls
        self._clock = FIRST_E
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: Server | None = None
        self._flow: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"{'ws' if self._tls is None else 'wss'}://localhost:{self.port}"

    @property
    def open(self) -> list[Visit]:
        return [visit for visit in self.visits if visit.open]

    async def __aenter__(self) -> FakeBinance:
        self._thread.start()
        await self.listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.vanish()
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    # -- what a test makes it do

    async def listen(self) -> None:
        """Open the port; the same one again after `vanish`."""
        await self._there(self._listen())

    async def vanish(self) -> None:
        """Cut everything and refuse connections at the TCP level."""
        await self._there(self._vanish())

    async def tick(
        self, symbol: str, *, only: int | None = None, at_ms: int | None = None
    ) -> bytes:
        """Send one tick to its subscribers, or to visit number `only`; returns the event."""
        return await self._there(self._tick(symbol, only, at_ms))

    async def say(self, text: str | bytes, *, only: int | None = None) -> None:
        """Send any message: str as text, bytes as binary."""
        await self._there(self._say(text, only))

    async def fragments(self, *parts: str) -> None:
        """Send one message to everybody in several frames."""
        await self._there(self._say(list(parts), None))

    async def wire(self, data: bytes) -> None:
        """Write bytes past the WebSocket layer, to everybody."""
        await self._there(self._wire(data))

    async def announce_shutdown(self, *, combined: bool = True, only: int | None = None) -> None:
        """Send `serverShutdown`, wrapped or raw."""
        event = f'{{"e":"serverShutdown","E":{FIRST_E}}}'
        wrapped = f'{{"stream":"!serverShutdown","data":{event}}}'
        await self.say(wrapped if combined else event, only=only)

    async def ping(self, payload: bytes) -> None:
        """Ping the newest open visit; returns when the pong with that payload has come."""
        await self._there(self._ping(payload))

    async def ping_burst(self, payloads: list[bytes]) -> None:
        """Ping the newest open visit many times and wait for nothing."""
        await self._there(self._ping_burst(payloads))

    async def close(self, code: int, reason: str = "", *, only: int | None = None) -> None:
        """Close with a WebSocket close frame."""
        await self._there(self._close(code, reason, only))

    async def cut(self, *, only: int | None = None) -> None:
        """Cut TCP without a word."""
        await self._there(self._cut(only))

    # -- how it does it, on its own loop

    async def _there(self, work: Coroutine[Any, Any, Result]) -> Result:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def _chosen(self, only: int | None) -> list[Visit]:
        return self.open if only is None else [self.visits[only]]

    async def _listen(self) -> None:
        self._server = await serve(
            self._visit,
            "127.0.0.1",
            self.port,
            process_request=self._request,
            create_connection=Peer,
            compression=None,
            ping_interval=None,
            close_timeout=1,
            ssl=self._tls,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        if self._every is not None:
            self._flow = self._loop.create_task(self._flow_on(self._every))

    async def _vanish(self) -> None:
        self.hanging = False
        if self._flow is not None:
            self._flow.cancel()
        await self._cut(None)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _request(self, peer: ServerConnection, request: Request) -> Response | None:
        self.attempts += 1
        while self.hanging:  # noqa: ASYNC110 - set from the test's thread
            await asyncio.sleep(0.02)
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.refusal is not None:
            status, headers = self.refusal
            body = b"refused"
            head = Headers({"Content-Length": str(len(body)), "Connection": "close", **headers})
            return Response(status, HTTPStatus(status).phrase, head, body)
        return None

    async def _visit(self, peer: ServerConnection) -> None:
        assert isinstance(peer, Peer)
        assert peer.request is not None
        streams = parse_qs(urlsplit(peer.request.path).query)["streams"][0].split("/")
        visit = Visit(peer, streams)
        self.visits.append(visit)
        try:
            if self.goodbye_at_once:
                await self._say('{"e":"serverShutdown","E":1}', len(self.visits) - 1)
            async for message in peer:
                request = orjson.loads(message)
                visit.said.append(request)
                if self.grants:
                    visit.streams.extend(request["params"])
                    await peer.send(f'{{"result":null,"id":{request["id"]}}}')
                else:
                    await peer.send('{"code":2,"msg":"Invalid request","id":1}')
        except ConnectionClosed:
            pass
        finally:
            visit.open = False
            visit.close_code = peer.close_code

    async def _flow_on(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            if self.pinging:
                for visit in self.open:
                    with suppress(ConnectionClosed):
                        await visit.peer.ping()
            if self.flowing:
                for stream in sorted({name for visit in self.open for name in visit.streams}):
                    await self._tick(stream.partition("@")[0], None, None)

    async def _tick(self, symbol: str, only: int | None, at_ms: int | None) -> bytes:
        self._clock += 7
        now_ms = self._clock if at_ms is None else at_ms
        # Digits that a decode and re-encode would lose, and white space it would drop.
        raw = (
            f'{{"e":"24hrMiniTicker","E":{now_ms},"s":"{symbol.upper()}","c":"284578000.00000004",'
            f'"o":"1.10","h": "284578000.00000004","l":"0.10000000","v":"12345.678","q":"1"}}'
        )
        stream = f"{symbol}@miniTicker"
        frame = f'{{"stream":"{stream}","data":{raw}}}'
        for visit in self._chosen(only):
            if stream in visit.streams:
                await self._send(visit, frame)
        return raw.encode()

    async def _say(self, text: str | bytes | list[str], only: int | None) -> None:
        for visit in self._chosen(only):
            await self._send(visit, text)

    async def _send(self, visit: Visit, text: str | bytes | list[str]) -> None:
        try:
            await visit.peer.send(text)
        except ConnectionClosed:
            visit.open = False

    async def _wire(self, data: bytes) -> None:
        for visit in self.open:
            visit.peer.transport.write(data)

    async def _ping(self, payload: bytes) -> None:
        await (await self.open[-1].peer.ping(payload))

    async def _ping_burst(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            await self.open[-1].peer.ping(payload)

    async def _close(self, code: int, reason: str, only: int | None) -> None:
        for visit in self._chosen(only):
            await visit.peer.close(code, reason)

    async def _cut(self, only: int | None) -> None:
        for visit in self._chosen(only):
            visit.peer.transport.abort()
