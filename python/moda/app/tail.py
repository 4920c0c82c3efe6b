"""One topic of a gateway, followed over any number of connections, as lines of JSON on stdout.

It speaks the plain JSON dialect, as any program may. A cut does not end it: it comes back with growing
jittered pauses and states its position, so that on a topic with history nothing is missing and
nothing comes twice. Where something is missing all the same, it says so on stderr.
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any
from urllib.parse import urlencode

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from moda.app.ask import Refused, Unreachable

__all__ = ["ReaderGone", "Tail"]

SOCKET = "/ws"
OPEN_SECONDS = 10.0
LONGEST_PAUSE = 10.0
MAX_MESSAGE = 16 << 20


class ReaderGone(Exception):
    """Nobody reads the lines any more (``| head``). No OSError: those are the connection's."""


class Heard(msgspec.Struct):
    """Any message of the dialect, with the members that matter here. A payload stays as it came."""

    type: str
    event: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"null")
    offset: int | None = None
    epoch: int | None = None
    recovered: bool | None = None
    reason: str = ""
    encoding: str | None = None


_read, _write = msgspec.json.Decoder(Heard).decode, msgspec.json.Encoder().encode


class Tail:
    """One topic, followed over any number of connections. ``since`` is where it stands: what has
    been printed, or None before it is known.
    """

    def __init__(
        self, url: str, key: str | None, topic: str, since: tuple[int, int] | None
    ) -> None:
        self._url = f"ws{url.removeprefix('http')}{SOCKET}"
        self._key = key
        self._topic = topic
        self.since = since
        self._subscribed = False
        self._pause = 0.0

    async def run(self) -> None:
        """Follows the topic for ever. Raises Unreachable when the first connection fails, and
        Refused when the gateway does not let it subscribe.
        """
        while True:
            try:
                await self._follow()
            except InvalidStatus as error:
                if not self._subscribed or error.response.status_code in (401, 403, 404):
                    status = error.response.status_code
                    words = {"message": f"{self._url} does not open a socket", "code": f"{status}"}
                    raise Refused(status, words) from None
            except (OSError, InvalidHandshake, TimeoutError) as error:
                if not self._subscribed:
                    raise Unreachable(
                        f"no answer from {self._url}: {error}; is `moda serve` running there?"
                    ) from None
            except ConnectionClosed as error:
                if self._pause == 0:
                    note(f"the connection ended ({error}); coming back")
            self._pause = min(max(0.2, self._pause * 2), LONGEST_PAUSE)
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311 - a pause

    async def _follow(self) -> None:
        """One connection, until it ends or the subscription does."""
        query, headers = "", {}
        if self._key is not None:
            query = "?" + urlencode({"token": self._key})
            headers = {"authorization": f"Bearer {self._key}"}
        async with connect(
            self._url + query,
            additional_headers=headers,
            compression=None,
            open_timeout=OPEN_SECONDS,
            max_size=MAX_MESSAGE,
            proxy=None,
        ) as socket:
            await self._listen(socket)

    async def _listen(self, socket: ClientConnection) -> None:
        asked: dict[str, Any] = {"type": "subscribe", "id": 1, "topic": self._topic}
        if self.since is not None:
            asked["since"] = {"epoch": self.since[0], "offset": self.since[1]}
        await socket.send(_write(asked).decode())
        async for text in socket:
            heard = _read(text)
            if heard.type == "event":
                line = {
                    "position": self._passed(heard.offset),
                    "event": heard.event,
                    "payload": heard.payload,
                }
                if heard.encoding is not None:
                    line["encoding"] = heard.encoding
                _print(line)
            elif heard.type == "subscribed":
                self._began(heard.epoch, heard.offset, heard.recovered)
            elif heard.type == "error":
                raise Refused(0, msgspec.json.decode(text))
            elif heard.type == "unsubscribed":
                if heard.reason == "closed":
                    words = {"message": "the gateway ended the subscription", "code": "closed"}
                    raise Refused(0, words)
                return

    def _began(self, epoch: int | None, offset: int | None, recovered: bool | None) -> None:
        """What the answer to a subscription says of where it begins."""
        if self.since is not None and recovered is not True:
            note("some of what was asked for is not kept any more; going on with what comes")
        elif self._subscribed and self.since is None:
            note("back again; this topic keeps no history, so something may be missing")
        if epoch is None or offset is None:
            self.since = None
        elif self.since is None or recovered is not True:
            self.since = (epoch, offset)
        self._subscribed = True
        self._pause = 0.0

    def _passed(self, offset: int | None) -> str | None:
        if offset is None or self.since is None:
            return None
        self.since = (self.since[0], offset)
        return f"{self.since[0]}.{offset}"


def _print(line: dict[str, Any]) -> None:
    try:
        print(_write(line).decode(), flush=True)
    except BrokenPipeError:
        raise ReaderGone from None


def note(text: str) -> None:
    """Something to know that is no event."""
    print(f"moda tail: {text}", file=sys.stderr, flush=True)
