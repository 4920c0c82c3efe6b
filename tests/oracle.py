"""A slow and obvious twin of the engine's codecs, for Rust to be compared with.

It has the functions of ``rust/core`` under their Rust names and does what their documentation
says, with ``json`` and slices, no shortcut shared with them. Where the two differ on some input,
one of them is wrong, and this one can be checked by reading it.

Text on the wire is ``bytes``; JSON kept as text is ``str``, as in Rust. An error is ``Refused``
with the label the engine counts it under.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MAX_DEPTH = 128
MAX_VARUINT = 2**53 - 1

Part = tuple[str, str]


class Refused(Exception):
    """Bytes that are no message: ``label`` says why, ``detail`` which key, kind or code."""

    def __init__(self, label: str, detail: str | int | None = None) -> None:
        super().__init__(label, detail)
        self.label = label
        self.detail = detail


class TooLong(Exception):
    """A part of a binary frame over 255 bytes."""

    def __init__(self, part: str, length: int) -> None:
        super().__init__(part, length)
        self.part = part
        self.length = length


@dataclass(frozen=True, slots=True)
class Inbound:
    """One message of a client; the refs and ``topic_json`` are canonical JSON text."""

    join_ref: str
    reference: str
    topic: str | None
    topic_json: str
    event: str
    payload: str | bytes


# --- JSON -----------------------------------------------------------------------------------------

Node = str | list[Any] | bool | None


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


# Numbers stay text (Python limits the digits of an int, JSON does not); members of an object stay
# pairs (a dict would hide all but the last of a repeated key).
_DECODER = json.JSONDecoder(
    object_pairs_hook=list, parse_int=str, parse_float=str, parse_constant=_no_constant
)


def nesting(frame: bytes) -> int:
    """Most brackets open at once outside strings, whatever the bytes are."""
    opened = most = 0
    in_string = skip = False
    for byte in frame:
        char = chr(byte)
        if skip:
            skip = False
        elif in_string:
            skip = char == "\\"
            in_string = char != '"'
        elif char == '"':
            in_string = True
        elif char in "[{":
            opened += 1
            most = max(most, opened)
        elif char in "]}":
            opened = max(0, opened - 1)
    return most


def _strings(node: Node) -> list[str]:
    if isinstance(node, str):
        return [node]
    if isinstance(node, list | tuple):
        return [text for item in node for text in _strings(item)]
    return []


def _space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\n\r":
        at += 1
    return at


def _raw(text: str, at: int) -> tuple[str, int]:
    """The JSON text of the value at ``at``, and where the next token begins."""
    at = _space(text, at)
    _, end = _DECODER.raw_decode(text, at)
    return text[at:end], _space(text, end)


def checked(frame: bytes) -> str:
    """The frame as text that is one JSON value, without the white space around it."""
    try:
        text = frame.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("not_utf8") from None
    text = text.strip(" \t\n\r")
    try:
        node, end = _DECODER.raw_decode(text)
    except ValueError:
        raise Refused("not_json") from None
    halves = re.compile("[\ud800-\udfff]")
    if end != len(text) or any(halves.search(string) for string in _strings(node)):
        raise Refused("not_json")
    return text


def elements(array: str) -> list[str]:
    """The JSON text of each element of a valid array."""
    found: list[str] = []
    at = _space(array, 1)
    while array[at] != "]":
        raw, at = _raw(array, at + (array[at] == ","))
        found.append(raw)
    return found


def members(obj: str) -> dict[str, str]:
    """The JSON text of each member of a valid object; the last of a repeated key."""
    found: dict[str, str] = {}
    at = _space(obj, 1)
    while obj[at] != "}":
        key, at = _raw(obj, at + (obj[at] == ","))
        raw, at = _raw(obj, at + len(":"))
        found[json.loads(key)] = raw
    return found


def is_string(raw: str) -> bool:
    return raw.startswith('"')


def quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def canonical(raw: str) -> str:
    return quote(json.loads(raw)) if is_string(raw) else raw


# --- Phoenix, inbound -----------------------------------------------------------------------------


def _message(join_ref: str, reference: str, topic: str, event: str, payload: str) -> Inbound:
    if not is_string(event):
        raise Refused("event_not_string")
    if nesting(payload.encode()) > MAX_DEPTH:
        raise Refused("too_deep")
    return Inbound(
        join_ref=canonical(join_ref),
        reference=canonical(reference),
        topic=json.loads(topic) if is_string(topic) else None,
        topic_json=canonical(topic),
        event=json.loads(event),
        payload=payload,
    )


def decode_text(frame: bytes) -> Inbound:
    text = checked(frame)
    if text[0] != "[":
        raise Refused("not_an_array")
    parts = elements(text)
    if len(parts) < 5:
        raise Refused("too_short")
    return _message(*parts[:5])


def decode_v1(frame: bytes) -> Inbound:
    text = checked(frame)
    if text[0] != "{":
        raise Refused("not_an_object")
    found = members(text)
    for key in ("topic", "event", "payload", "ref"):
        if key not in found:
            raise Refused("missing_key", key)
    join_ref = found.get("join_ref", "null")
    return _message(join_ref, found["ref"], found["topic"], found["event"], found["payload"])


def decode_binary(frame: bytes) -> Inbound:
    if not frame:
        raise Refused("binary_truncated")
    if frame[0] != 0:
        raise Refused("binary_kind", frame[0])
    lengths, rest = frame[1:5], frame[5:]
    if len(lengths) < 4 or len(rest) < sum(lengths):
        raise Refused("binary_truncated")
    parts: list[str] = []
    for length in lengths:
        try:
            parts.append(rest[:length].decode("utf-8"))
        except UnicodeDecodeError:
            raise Refused("not_utf8") from None
        rest = rest[length:]
    join_ref, reference, topic, event = parts
    return Inbound(quote(join_ref), quote(reference), topic, quote(topic), event, rest)


# --- Phoenix, outbound: the same bytes as the engine, not only the same meaning -------------------


def text_push(join_ref_json: str, topic: str, event: str, payload_json: bytes) -> bytes:
    head = f"[{join_ref_json},null,{quote(topic)},{quote(event)},"
    return head.encode() + payload_json + b"]"


def _answer(status: str, response_json: bytes) -> bytes:
    return b'{"status":' + quote(status).encode() + b',"response":' + response_json + b"}"


def text_reply(
    join_ref_json: str, ref_json: str, topic_json: str, status: str, response_json: bytes
) -> bytes:
    head = f'[{join_ref_json},{ref_json},{topic_json},"phx_reply",'
    return head.encode() + _answer(status, response_json) + b"]"


def text_broadcast(topic: str, event: str, payload_json: bytes, offset: int | None = None) -> bytes:
    head = f"[null,{_offset_ref(offset)},{quote(topic)},{quote(event)},"
    return head.encode() + payload_json + b"]"


def _offset_ref(offset: int | None) -> str:
    return "null" if offset is None else f'"@{offset}"'


def text_close(join_ref_json: str, topic: str) -> bytes:
    return f'[{join_ref_json},{join_ref_json},{quote(topic)},"phx_close",{{}}]'.encode()


def text_error(join_ref_json: str, topic: str) -> bytes:
    reason = '{"reason":"channel_crash"}'
    return f'[{join_ref_json},{join_ref_json},{quote(topic)},"phx_error",{reason}]'.encode()


def _v1(topic_json: str, event: str, payload_json: bytes, ref_json: str) -> bytes:
    head = f'{{"topic":{topic_json},"event":{quote(event)},"payload":'
    return head.encode() + payload_json + f',"ref":{ref_json}}}'.encode()


def v1_push(join_ref_json: str, topic: str, event: str, payload_json: bytes) -> bytes:
    del join_ref_json  # V1 has no place for it
    return _v1(quote(topic), event, payload_json, "null")


def v1_reply(
    join_ref_json: str, ref_json: str, topic_json: str, status: str, response_json: bytes
) -> bytes:
    del join_ref_json
    return _v1(topic_json, "phx_reply", _answer(status, response_json), ref_json)


def v1_broadcast(topic: str, event: str, payload_json: bytes, offset: int | None = None) -> bytes:
    return _v1(quote(topic), event, payload_json, _offset_ref(offset))


def v1_close(join_ref_json: str, topic: str) -> bytes:
    return _v1(quote(topic), "phx_close", b"{}", join_ref_json)


def v1_error(join_ref_json: str, topic: str) -> bytes:
    return _v1(quote(topic), "phx_error", b'{"reason":"channel_crash"}', join_ref_json)


def _binary(kind: int, parts: list[Part], data: bytes) -> bytes:
    lengths: list[int] = []
    for name, text in parts:
        lengths.append(len(text.encode()))
        if lengths[-1] > 255:
            raise TooLong(name, lengths[-1])
    return bytes([kind, *lengths]) + b"".join(text.encode() for _, text in parts) + data


def _ref_text(ref_json: str) -> str:
    if ref_json == "null":
        return ""
    return str(json.loads(ref_json)) if is_string(ref_json) else ref_json


def binary_push(join_ref_json: str, topic: str, event: str, data: bytes) -> bytes:
    join_ref = ("join_ref", _ref_text(join_ref_json))
    return _binary(0, [join_ref, ("topic", topic), ("event", event)], data)


def binary_reply(join_ref_json: str, ref_json: str, topic: str, status: str, data: bytes) -> bytes:
    refs = [("join_ref", _ref_text(join_ref_json)), ("ref", _ref_text(ref_json))]
    return _binary(1, [*refs, ("topic", topic), ("status", status)], data)


def binary_broadcast(topic: str, event: str, data: bytes) -> bytes:
    return _binary(2, [("topic", topic), ("event", event)], data)


# --- lib0 integers --------------------------------------------------------------------------------


def read_varuint(data: bytes) -> tuple[int, int]:
    """The value and how many bytes it took."""
    value = 0
    for index, byte in enumerate(data[:10]):
        value += (byte % 128) * 128**index
        if value > MAX_VARUINT:
            raise Refused("out_of_range")
        if byte < 128:
            return value, index + 1
    raise Refused("too_long" if len(data) >= 10 else "truncated")


def write_varuint(value: int) -> bytes:
    if value < 128:
        return bytes([value])
    return bytes([128 + value % 128]) + write_varuint(value // 128)


# --- WebSocket ------------------------------------------------------------------------------------

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def ws_header(op: int, length: int) -> bytes:
    first = bytes([0x80 | op])
    if length <= 125:
        return first + bytes([length])
    if length <= 0xFFFF:
        return first + b"\x7e" + length.to_bytes(2, "big")
    return first + b"\x7f" + length.to_bytes(8, "big")


def close_payload(code: int, reason: str) -> bytes:
    kept = reason
    while len(kept.encode()) > 123:
        kept = kept[:-1]
    return code.to_bytes(2, "big") + kept.encode()


def close_reply(payload: bytes) -> int:
    """The code that answers a client's close frame."""
    if not payload:
        return 1000
    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 0
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        return 1002
    try:
        payload[2:].decode("utf-8")
    except UnicodeDecodeError:
        return 1007
    return 1000


@dataclass(slots=True)
class Assembler:
    """Fragments into messages; a rule broken is ``Refused("violation", code)``."""

    op: int | None = None
    pieces: list[bytes] = field(default_factory=list)

    def push(
        self, op: int, fin: bool, rsv: bool, payload: bytes, limit: int
    ) -> tuple[int, bytes] | None:
        code = self._broken_rule(op, fin, rsv, payload, limit)
        if code is not None:
            self.op, self.pieces = None, []
            raise Refused("violation", code)
        if op in (CLOSE, PING, PONG):
            return op, payload
        self.op = op if self.op is None else self.op
        self.pieces.append(payload)
        if not fin:
            return None
        message = (self.op, b"".join(self.pieces))
        self.op, self.pieces = None, []
        return message

    def _broken_rule(self, op: int, fin: bool, rsv: bool, payload: bytes, limit: int) -> int | None:
        if rsv:
            return 1002
        if op in (CLOSE, PING, PONG):
            return None if fin and len(payload) <= 125 else 1002
        if (op == CONTINUATION) != (self.op is not None):
            return 1002
        whole = b"".join([*self.pieces, payload])
        if len(whole) > limit:
            return 1009
        if TEXT in (op, self.op):
            try:
                codecs.getincrementaldecoder("utf-8")().decode(whole, final=fin)
            except UnicodeDecodeError:
                return 1007
        return None


# --- Upstream frames ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    stream: str | None
    data: bytes
    kind: str | None
    symbol: str | None
    time: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    result: str
    id: str


@dataclass(frozen=True, slots=True)
class Refusal:
    code: int
    message: str
    id: str | None


def _text(raw: str | None) -> str | None:
    return str(json.loads(raw)) if raw is not None and is_string(raw) else None


def _whole(raw: str | None, accepts: Callable[[int], bool]) -> int | None:
    if raw is None or not re.fullmatch(r"-?[0-9]{1,20}", raw):
        return None
    return int(raw) if accepts(int(raw)) else None


def unwrap_combined(frame: bytes) -> Event | Answer | Refusal:
    if nesting(frame) > MAX_DEPTH:
        raise Refused("too_deep")
    text = checked(frame)
    found = members(text) if text[0] == "{" else {}
    if "stream" in found and "data" in found:
        stream, data = _text(found["stream"]), found["data"]
        if stream is None or data[0] not in "[{":
            raise Refused("not_an_event")
        return _event(stream, data)
    if _text(found.get("e")) is not None:
        return _event(None, text)
    if "result" in found and "id" in found:
        return Answer(found["result"], found["id"])
    error = found.get("error", "")
    refused = members(error) if error.startswith("{") else found
    code = _whole(refused.get("code"), lambda value: -(2**63) <= value < 2**63)
    message = _text(refused.get("msg"))
    if code is None or message is None:
        raise Refused("not_an_event")
    return Refusal(code, message, found.get("id"))


def _event(stream: str | None, data: str) -> Event:
    found = members(data) if data[0] == "{" else {}
    time = found.get("E")
    unsigned = None if time is None or time.startswith("-") else time
    return Event(
        stream=stream,
        data=data.encode(),
        kind=_text(found.get("e")),
        symbol=_text(found.get("s")),
        time=_whole(unsigned, lambda value: value < 2**64),
    )
