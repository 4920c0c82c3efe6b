"""A frame that is somebody else's is noticed, and so is one that is missing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .honest import Client, Notes

ROOM = "soak:room:p0"
OK = {"status": "ok", "response": {}}
HEARD = {"by": 2, "n": 7, "room": ROOM}


class Wire:
    """A transport that goes nowhere."""

    def write(self, data: bytes) -> None: ...
    def abort(self) -> None: ...


def joined() -> Client:
    """Client 1 of room 0, upgraded and joined, with nothing asked."""
    client = Client(Notes(), 1, "p")
    client.connection_made(Wire())  # type: ignore[arg-type]  # by shape
    client.data_received(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    say(client, "1", "1", ROOM, "phx_reply", OK)
    assert client.ready.is_set()
    return client


def say(client: Client, *message: Any) -> None:
    client.frame(1, json.dumps(message).encode(), 1.0)


async def test_its_own_frames_are_nobody_elses() -> None:
    client = joined()
    client.ask(ROOM, "say", {})
    client.ask("phoenix", "heartbeat", {})
    say(client, "1", "3", ROOM, "phx_reply", OK)
    say(client, None, "4", "phoenix", "phx_reply", OK)
    say(client, None, None, ROOM, "said", HEARD)
    say(client, None, None, "chart:prices", "price_tick", {})
    assert client.notes.foreign == []
    assert (client.notes.answered, client.notes.prices) == (2, 1)


@pytest.mark.parametrize(
    "message",
    [
        ("1", "3", ROOM, "phx_reply", OK),  # an answer to a question it never asked
        (None, "3", "phoenix", "phx_reply", OK),
        (None, None, "soak:room:p1", "said", {**HEARD, "room": "soak:room:p1"}),
        (None, None, ROOM, "said", {**HEARD, "room": "soak:room:s0"}),
        (None, None, ROOM, "said", {**HEARD, "by": 11}),  # of another room
        (None, None, ROOM, "said", {**HEARD, "by": 1}),  # its own, which it must not hear
        (None, None, ROOM, "phx_close", {}),
        (None, None, "soak:firehose:every", "page", {}),
        ("1", "1", ROOM, "phx_reply", OK),  # a second answer to its join
        [1],
    ],
)
async def test_a_frame_of_somebody_else_is_foreign(message: Any) -> None:
    client = joined()
    say(client, *message)
    assert len(client.notes.foreign) == 1


async def test_a_frame_that_is_no_message_is_foreign() -> None:
    client = joined()
    client.frame(1, b"\xff", 1.0)
    client.frame(2, b"[]", 1.0)
    assert len(client.notes.foreign) == 2


async def test_what_a_neighbour_said_and_is_not_heard_is_lost() -> None:
    client = joined()
    for n in (7, 8, 11, 1, 2):  # it starts again at 1 when it has come back
        say(client, None, None, ROOM, "said", {**HEARD, "n": n})
    assert client.notes.lost == 2
    say(client, None, None, ROOM, "said", {**HEARD, "n": 2})
    assert client.notes.lost == 3
    assert client.notes.foreign == []
