"""A request to publish, from its body to messages that can be sent or say why not.

Pure. Each message of a batch is read on its own, so that a mistake costs one message. Whatever gets
through here can be delivered: text is UTF-8, a payload is an object that every JSON reader reads.
It travels as the bytes it came as, never decoded and written again.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson
from msgspec import UNSET, UnsetType

from moda.hub import MAX_BINARY_NAME, RESERVED
from moda.rest.model import Failed, Message, Problem, shown

__all__ = ["MAX_MESSAGES", "Batch", "Sendable", "read_batch"]

MAX_MESSAGES = 1_000
"""Messages of one request."""

MAX_NAME = 1_024
"""Bytes of a topic, an event or a key, as everywhere in the gateway."""


class _Envelope(msgspec.Struct):
    messages: list[msgspec.Raw] | UnsetType = UNSET


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_MESSAGE = msgspec.json.Decoder(Message)
_EXAMPLE = {"topic": "room:1", "event": "said", "payload": {"text": "hello"}}


@dataclass(frozen=True, slots=True)
class Sendable:
    """One message as the hub takes it."""

    topic: str
    event: str
    data: bytes
    binary: bool
    key: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What a request asks for. ``single`` is a request of one message without a list."""

    messages: Sequence[Sendable | Failed]
    single: bool


def read_batch(body: bytes, max_payload: int) -> Batch:
    """Reads one message, or ``{"messages": [...]}``. ``max_payload`` bounds a payload in bytes.

    Raises Problem (400) for a body that is neither; what is wrong with one message is its own
    result.
    """
    try:
        # Raw parts are passed over, not checked: this is.
        str(body, "utf-8")
        many = _ENVELOPE.decode(body).messages
    except UnicodeDecodeError as error:
        raise Problem(
            400, "invalid_json", f"the body is not UTF-8 at byte {error.start}", accepted=[_EXAMPLE]
        ) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(400, "invalid_json", _said(error), accepted=[_EXAMPLE]) from None
    if many is UNSET:
        return Batch([read_message(body, max_payload)], single=True)
    if not 1 <= len(many) <= MAX_MESSAGES:
        raise Problem(
            400,
            "invalid_batch",
            f"a batch holds 1 to {MAX_MESSAGES} messages",
            received=len(many),
            accepted={"least": 1, "most": MAX_MESSAGES},
        )
    return Batch([read_message(bytes(raw), max_payload) for raw in many], single=False)


def read_message(raw: bytes, max_payload: int) -> Sendable | Failed:
    """One message, or what is wrong with it."""
    try:
        message = _MESSAGE.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return Failed("invalid_message", _said(error), accepted=[_EXAMPLE])
    return _trouble_with_names(message) or _with_payload(message, max_payload)


def _trouble_with_names(message: Message) -> Failed | None:
    for name, text in (("topic", message.topic), ("event", message.event)):
        size = len(text.encode())
        if not 1 <= size <= MAX_NAME:
            return Failed(
                f"invalid_{name}", f"`{name}` is a text of 1 to {MAX_NAME} bytes", shown(text)
            )
    if message.key is not None and len(message.key.encode()) > MAX_NAME:
        return Failed("invalid_key", f"`key` is a text of at most {MAX_NAME} bytes")
    if message.event in RESERVED:
        return Failed(
            "reserved_event",
            "this event is the protocol's own, and clients act on it; name yours otherwise",
            message.event,
        )
    if message.encoding not in (None, "base64"):
        return Failed(
            "invalid_encoding",
            "`encoding` says how a binary payload is written",
            shown(message.encoding or ""),
            ["base64"],
        )
    return None


def _with_payload(message: Message, max_payload: int) -> Sendable | Failed:
    data = bytes(message.payload).strip()
    # Base64 is a third longer than what it holds, and has two quotes.
    if len(data) > max_payload * 4 // 3 + 6 or (
        message.encoding is None and len(data) > max_payload
    ):
        return Failed(
            "payload_too_large",
            f"a payload holds at most {max_payload} bytes (MODA_MAX_MESSAGE)",
            len(data),
            {"most": max_payload},
        )
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return Failed("invalid_payload", f"the payload is no JSON: {error}")
    if message.encoding is not None:
        return _binary(message, value, max_payload)
    if not isinstance(value, dict):
        return Failed(
            "invalid_payload",
            "a payload is a JSON object, or bytes with `encoding` base64",
            shown(data.decode()),
            [{"text": "hello"}],
        )
    return Sendable(message.topic, message.event, data, False, message.key)


def _binary(message: Message, value: Any, max_payload: int) -> Sendable | Failed:
    try:
        data = base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except (binascii.Error, ValueError):
        data = None
    if data is None or len(data) > max_payload:
        return Failed(
            "invalid_payload",
            f"with `encoding` base64 a payload is a text of at most {max_payload} bytes in base64",
            accepted=["AAEC"],
        )
    longest = max(len(message.topic.encode()), len(message.event.encode()))
    if longest > MAX_BINARY_NAME:
        return Failed(
            "invalid_topic",
            f"a binary message names its topic and event in at most {MAX_BINARY_NAME} bytes each",
            longest,
        )
    return Sendable(message.topic, message.event, data, True, message.key)


def _said(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "the JSON nests too deep"
    return shown(str(error))
