"""No payload in a log: neither a validator's nor an application's exception carries one there."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
import structlog
from jsonschema_rs import Draft7Validator
from structlog.testing import capture_logs

from moda import Channel, Gateway, JoinRequest, Stream
from moda.wire.crashes import Crashes
from moda.wire.private import HIDDEN, told
from phoenix import error

SECRET = 'card 4111 "1111"\nüber'
NUMBER = 4111111111111111


def raise_value(payload: Any) -> None:
    int(payload["card"])


def raise_key(payload: Any) -> None:
    {}[payload["card"]]


def raise_repr(payload: Any) -> None:
    raise RuntimeError(f"cannot use {payload!r}")


def raise_json(payload: Any) -> None:
    raise RuntimeError(f"cannot use {json.dumps(payload)}")


def raise_number(payload: Any) -> None:
    raise RuntimeError(f"cannot use {payload['number']}")


def raise_validation(payload: Any) -> None:
    Draft7Validator({"properties": {"card": {"type": "integer"}}}).validate(payload)


def raise_a_part(payload: Any) -> None:
    Draft7Validator({"type": "integer"}).validate(payload["card"][:12])


def raise_from(payload: Any) -> None:
    try:
        raise_validation(payload)
    except ValueError as error:
        raise LookupError("no such card") from error


def raise_while(payload: Any) -> None:
    try:
        raise_value(payload)
    except ValueError:
        raise LookupError("no such card")  # noqa: B904  (the context is what is tested)


def raise_group(payload: Any) -> None:
    found = []
    for fail in (raise_value, raise_validation):
        try:
            fail(payload)
        except ValueError as error:
            found.append(error)
    raise ExceptionGroup("several", found)


def raise_noted(payload: Any) -> None:
    error = RuntimeError("wrong")
    error.add_note(f"while {payload['card']} was read")
    raise error


FAILURES = [
    raise_value,
    raise_key,
    raise_repr,
    raise_json,
    raise_number,
    raise_validation,
    raise_a_part,
    raise_from,
    raise_while,
    raise_group,
    raise_noted,
]


def said(logs: list[Any]) -> str:
    """The lines as the process writes them."""
    out = [structlog.processors.format_exc_info(None, "error", dict(line)) for line in logs]
    return json.dumps(out, ensure_ascii=False, default=str)


@pytest.mark.parametrize("fail", FAILURES, ids=lambda fail: fail.__name__)
@pytest.mark.parametrize("where", ["join", "handle", "stream"])
async def test_what_a_client_sent_is_in_no_line_about_a_crash(serve, connect, fail, where):
    class Room(Channel):
        async def join(self, payload: Any) -> None:
            if where == "join":
                fail(payload)

        async def handle(self, event: str, payload: Any) -> None:
            fail(payload)

    class Feed(Stream):
        async def join(self, request: JoinRequest) -> None:
            fail(request.payload)

    gateway = Gateway(builtins=False)
    gateway.channel("room")(Feed if where == "stream" else Room)
    payload = {"card": SECRET, "number": NUMBER}
    client = await connect(await serve(gateway))
    with capture_logs() as logs:
        if where == "handle":
            await client.join("room")
            await client.send("1", "2", "room", "new", payload)
            assert (await client.receive())[3] == "phx_error"
        else:
            for _ in range(2):
                answer = await client.ask("1", "1", "room", "phx_join", payload)
                assert answer == error("join crashed")
    text = said(logs)
    assert "crash" in text or ".failed" in text
    for hidden in ("4111", "1111", "über", "\\u00fcber"):
        assert hidden not in text, text
    assert fail.__name__ in text, "the traceback says where it was"


def test_an_exception_that_quotes_nothing_is_logged_as_it_is():
    of = Crashes(lambda: 0.0)
    log = structlog.get_logger("moda.test")
    failure = KeyError("body")
    with capture_logs() as logs:
        of.log(log, "channel.failed", str, failure)
    assert logs[0]["exc_info"] is failure
    assert told(failure) is None


def test_a_validators_text_is_hidden_without_a_message_in_hand_too():
    try:
        orjson.loads(b"{" + SECRET.encode())
    except ValueError as failure:
        clean = told(failure)
    assert clean is not None
    assert HIDDEN in clean[1]
    assert "JSONDecodeError" in clean[1]
