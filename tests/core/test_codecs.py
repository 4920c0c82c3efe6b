"""The engine's codecs against the oracle's, byte for byte, on frames good and bad."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import oracle
from moda import _core

VECTORS: list[dict[str, Any]] = json.loads(
    Path(__file__).parents[1].joinpath("vectors.json").read_text(encoding="utf-8")
)
GOLDEN = [
    bytes.fromhex(vector["frame"]) if vector["encoding"] == "hex" else vector["frame"].encode()
    for vector in VECTORS
    if vector["direction"] == "in"
]

Decoded = tuple[str, str, str | None, str, str, bytes, bool]

words = st.text(max_size=12) | st.sampled_from(
    ["", "1", "room:1", "phx_join", 'ü"\\\n\x00', "\U0001f600"]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | words
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def spelled(draw: st.DrawFn, value: Any) -> str:
    """JSON text of a value with escapes and white space as a client may choose them."""
    return json.dumps(
        value,
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", "\n:  ")])),
    )


@st.composite
def v2_texts(draw: st.DrawFn) -> bytes:
    parts = draw(st.lists(values, min_size=3, max_size=7))
    if len(parts) > 3:
        parts[3] = draw(words)
    return draw(spelled(parts)).encode("utf-8", "surrogatepass")


@st.composite
def v1_texts(draw: st.DrawFn) -> bytes:
    keys = st.sampled_from(["topic", "event", "payload", "ref", "join_ref", "other"])
    chosen = draw(st.lists(keys, max_size=8)) + draw(st.just(["topic", "event", "payload", "ref"]))
    members: list[str] = []
    for key in chosen:
        value = draw(words if key == "event" else values)
        members.append(f"{draw(spelled(key))}:{draw(spelled(value))}")
    return ("{" + ",".join(members) + "}").encode("utf-8", "surrogatepass")


@st.composite
def binaries(draw: st.DrawFn) -> bytes:
    parts = [draw(words).encode() for _ in range(4)]
    lengths = [len(part) for part in parts]
    kind = draw(st.sampled_from([0, 0, 0, 1, 2, 255]))
    return bytes([kind, *lengths]) + b"".join(parts) + draw(st.binary(max_size=8))


@st.composite
def broken(draw: st.DrawFn, frames: st.SearchStrategy[bytes]) -> bytes:
    """A frame with a few bytes cut, changed or put in."""
    frame = bytearray(draw(frames))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(frame)))
        cut = draw(st.integers(0, 4))
        frame[at : at + cut] = draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"[", b"\\", b"\xff", b","])
        )
    return bytes(frame)


def frames(good: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    golden = st.sampled_from(GOLDEN)
    return good | broken(good) | golden | broken(golden) | st.binary(max_size=30)


def agree(
    engine: Callable[[bytes], Decoded], twin: Callable[[bytes], oracle.Inbound], frame: bytes
) -> None:
    try:
        expected = twin(frame)
    except oracle.Refused as refused:
        with pytest.raises(ValueError, match=f"^{refused.label}$"):
            engine(frame)
        return
    binary = isinstance(expected.payload, bytes)
    payload = expected.payload if isinstance(expected.payload, bytes) else expected.payload.encode()
    assert engine(frame) == (
        expected.join_ref,
        expected.reference,
        expected.topic,
        expected.topic_json,
        expected.event,
        payload,
        binary,
    )


@given(frames(v2_texts()))
@example(b'[1,2,"t","e",' + b"[" * 127 + b"]" * 127 + b"]")
@example(b'[1,2,"t","e",' + b"[" * 128 + b"]" * 128 + b"]")
def test_v2_text_is_decoded_or_refused_as_the_oracle_says(frame: bytes) -> None:
    agree(_core.decode_text, oracle.decode_text, frame)


@given(frames(v1_texts()))
def test_v1_is_decoded_or_refused_as_the_oracle_says(frame: bytes) -> None:
    agree(_core.decode_v1, oracle.decode_v1, frame)


@given(frames(binaries()))
def test_binary_is_decoded_or_refused_as_the_oracle_says(frame: bytes) -> None:
    agree(_core.decode_binary, oracle.decode_binary, frame)


refs = st.sampled_from(["null", "1", '"1"', '""', '"ü"', "12.5"]) | words.map(oracle.quote)
lengthy = (
    words
    | st.integers(250, 260).map(lambda n: "x" * n)
    | st.integers(126, 129).map(lambda n: "ü" * n)
)
payloads = st.binary(max_size=20)
json_texts = values.map(lambda value: json.dumps(value).encode())


@given(refs, words, words, json_texts)
def test_text_frames_are_written_as_the_oracle_writes_them(
    ref: str, topic: str, event: str, payload: bytes
) -> None:
    pushed = _core.encode_text_push(ref, topic, event, payload)
    assert pushed == oracle.text_push(ref, topic, event, payload)
    assert _core.encode_text_broadcast(topic, event, payload) == oracle.text_broadcast(
        topic, event, payload
    )
    assert _core.encode_v1_broadcast(topic, event, payload) == oracle.v1_broadcast(
        topic, event, payload
    )


@given(refs, refs, words.map(oracle.quote), words, json_texts)
def test_replies_are_written_as_the_oracle_writes_them(
    join_ref: str, ref: str, topic: str, status: str, response: bytes
) -> None:
    written = _core.encode_text_reply(join_ref, ref, topic, status, response)
    assert written == oracle.text_reply(join_ref, ref, topic, status, response)
    as_v1 = _core.encode_v1_reply(ref, topic, status, response)
    assert as_v1 == oracle.v1_reply("null", ref, topic, status, response)


@given(refs, refs, lengthy, lengthy, payloads)
def test_binary_frames_are_written_or_refused_for_their_length_as_the_oracle_says(
    join_ref: str, ref: str, topic: str, event: str, data: bytes
) -> None:
    pairs: list[tuple[Callable[..., bytes], Callable[..., bytes], tuple[Any, ...]]] = [
        (_core.encode_binary_push, oracle.binary_push, (join_ref, topic, event, data)),
        (_core.encode_binary_reply, oracle.binary_reply, (join_ref, ref, topic, event, data)),
        (_core.encode_binary_broadcast, oracle.binary_broadcast, (topic, event, data)),
    ]
    for engine, twin, arguments in pairs:
        try:
            expected = twin(*arguments)
        except oracle.TooLong as too_long:
            with pytest.raises(ValueError, match=f"^{too_long.part} of {too_long.length} bytes"):
                engine(*arguments)
        else:
            assert engine(*arguments) == expected


@given(st.binary(max_size=12) | st.lists(st.integers(128, 255), max_size=11).map(bytes))
def test_integers_are_read_as_the_oracle_reads_them(data: bytes) -> None:
    try:
        expected = oracle.read_varuint(data)
    except oracle.Refused:
        with pytest.raises(ValueError, match=r"."):
            _core.read_varuint(data)
    else:
        assert _core.read_varuint(data) == expected


@given(st.integers(0, oracle.MAX_VARUINT))
def test_an_integer_written_is_the_integer_read(value: int) -> None:
    written = _core.write_varuint(value)
    assert written == oracle.write_varuint(value)
    assert _core.read_varuint(written + b"tail") == (value, len(written))


upstream = st.dictionaries(
    st.sampled_from(["stream", "data", "e", "E", "s", "result", "id", "code", "msg", "error"]),
    values | st.dictionaries(st.sampled_from(["e", "E", "s", "code", "msg"]), values, max_size=4),
    max_size=5,
).map(lambda found: json.dumps(found).encode())


@given(upstream | broken(upstream) | st.binary(max_size=20))
@example(b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"s":"BTCUSDT"}}')
@example(b'{"result":null,"id":1}')
@example(b'{"error":{"code":2,"msg":"no"},"id":null}')
def test_upstream_frames_are_unwrapped_as_the_oracle_unwraps_them(frame: bytes) -> None:
    try:
        found = oracle.unwrap_combined(frame)
    except oracle.Refused as refused:
        with pytest.raises(ValueError, match=f"^{refused.label}$"):
            _core.unwrap_combined(frame)
        return
    match found:
        case oracle.Event():
            expected = (found.kind or "", found.data, found.symbol, found.time)
        case oracle.Answer():
            expected = ("answer", found.result.encode(), None, None)
        case oracle.Refusal():
            expected = ("refusal", found.message.encode(), None, None)
    assert _core.unwrap_combined(frame) == expected
