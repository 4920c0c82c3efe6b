"""The oracle itself, held against the golden frames and the rules it was written from.

``vectors.json`` is read by Rust and TypeScript too; its format is described at the head of
``rust/core/tests/vectors.rs``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import oracle

VECTORS: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("vectors.json").read_text(encoding="utf-8")
)
DECODERS: dict[str, Callable[[bytes], oracle.Inbound]] = {
    "v2-text": oracle.decode_text,
    "v2-binary": oracle.decode_binary,
    "v1": oracle.decode_v1,
}
CORPUS = Path(__file__).parents[1] / "rust" / "fuzz" / "corpus"


def frame_of(vector: dict[str, Any]) -> bytes:
    frame: str = vector["frame"]
    return bytes.fromhex(frame) if vector["encoding"] == "hex" else frame.encode()


def select(direction: str, refused: bool = False) -> list[Any]:
    return [
        pytest.param(vector, id=vector["name"])
        for vector in VECTORS
        if vector["direction"] == direction and ("error" in vector["meaning"]) == refused
    ]


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def test_every_vector_has_a_name_of_its_own_and_the_documented_fields() -> None:
    names = [vector["name"] for vector in VECTORS]
    assert len(set(names)) == len(names) > 90
    for vector in VECTORS:
        assert set(vector) == {"name", "codec", "direction", "encoding", "frame", "meaning"}
        assert vector["codec"] in DECODERS
        assert vector["direction"] in {"in", "out"}
        assert vector["encoding"] in {"text", "hex"}


@pytest.mark.parametrize("vector", select("in"))
def test_an_inbound_frame_is_decoded_to_its_meaning(vector: dict[str, Any]) -> None:
    meaning = vector["meaning"]
    decoded = DECODERS[vector["codec"]](frame_of(vector))
    assert json.loads(decoded.join_ref) == meaning["join_ref"]
    assert json.loads(decoded.reference) == meaning["ref"]
    assert json.loads(decoded.topic_json) == meaning["topic"]
    assert decoded.topic == (meaning["topic"] if isinstance(meaning["topic"], str) else None)
    assert decoded.event == meaning["event"]
    if isinstance(decoded.payload, bytes):
        assert decoded.payload == bytes.fromhex(meaning["data"])
    else:
        assert json.loads(decoded.payload) == meaning["payload"]


@pytest.mark.parametrize("vector", select("in", refused=True))
def test_a_bad_frame_is_refused_for_its_reason(vector: dict[str, Any]) -> None:
    meaning = vector["meaning"]
    with pytest.raises(oracle.Refused) as refused:
        DECODERS[vector["codec"]](frame_of(vector))
    assert refused.value.label == meaning["error"]
    assert refused.value.detail == meaning.get("key", meaning.get("kind"))


@pytest.mark.parametrize("vector", select("out"))
def test_an_outbound_frame_is_written_byte_for_byte(vector: dict[str, Any]) -> None:
    prefix = {"v2-text": "text", "v2-binary": "binary", "v1": "v1"}[vector["codec"]]
    meaning = vector["meaning"]
    join_ref, reference = compact(meaning["join_ref"]), compact(meaning["ref"])
    topic = meaning["topic"]
    if prefix == "binary":
        body = bytes.fromhex(meaning["data"])
    else:
        body = compact(meaning.get("payload", meaning.get("response"))).encode()
    write = getattr(oracle, f"{prefix}_{meaning['kind']}")
    match meaning["kind"]:
        case "push":
            written = write(join_ref, topic, meaning["event"], body)
        case "reply":
            echoed = topic if prefix == "binary" else compact(topic)
            written = write(join_ref, reference, echoed, meaning["status"], body)
        case "broadcast":
            written = write(topic, meaning["event"], body)
        case _:
            written = write(join_ref, topic)
    assert written == frame_of(vector)


def test_equal_refs_have_one_canonical_text() -> None:
    escaped = oracle.decode_text(rb'["\u0031","\/","t","e",{}]')
    assert (escaped.join_ref, escaped.reference) == ('"1"', '"/"')
    verbatim = oracle.decode_text(b'[1.50,{"a": "\\u0031"},"t","e",{}]')
    assert (verbatim.join_ref, verbatim.reference) == ("1.50", '{"a": "\\u0031"}')


def test_a_number_of_any_length_is_json() -> None:
    digits = b"9" * 10_000
    assert oracle.decode_text(b'["1","2","t","e",' + digits + b"]").payload == digits.decode()


def test_a_bad_string_under_a_repeated_key_is_seen() -> None:
    with pytest.raises(oracle.Refused, match="not_json"):
        oracle.decode_text(rb'["1","2","t","e",{"a":"\ud800","a":1}]')


def test_a_part_over_255_bytes_is_named() -> None:
    fits, long = "é" * 127, "é" * 128
    assert oracle.binary_push("null", fits, "e", b"")[1:4] == bytes([0, 254, 1])
    writers: list[Callable[[], bytes]] = [
        lambda: oracle.binary_push("null", long, "e", b""),
        lambda: oracle.binary_reply("1", "2", long, "ok", b""),
        lambda: oracle.binary_broadcast(long, "e", b""),
    ]
    for write in writers:
        with pytest.raises(oracle.TooLong) as refused:
            write()
        assert (refused.value.part, refused.value.length) == ("topic", 256)


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        ("00", (0, 1)),
        ("7f", (127, 1)),
        ("8001ff", (128, 2)),
        ("808000", (0, 3)),
        ("ffffffffffffff0f", (2**53 - 1, 8)),
        ("85808080808080808000", (5, 10)),
        ("8080808080808010", "out_of_range"),
        ("80808080808080808001", "out_of_range"),
        ("8080808080808080808000", "too_long"),
        ("", "truncated"),
        ("ffff", "truncated"),
    ],
)
def test_an_integer_is_read_within_its_bounds(data: str, outcome: tuple[int, int] | str) -> None:
    if isinstance(outcome, str):
        with pytest.raises(oracle.Refused, match=outcome):
            oracle.read_varuint(bytes.fromhex(data))
    else:
        assert oracle.read_varuint(bytes.fromhex(data)) == outcome
        shortest = oracle.write_varuint(outcome[0])
        assert oracle.read_varuint(shortest) == (outcome[0], len(shortest))


def test_a_websocket_header_takes_the_shortest_length_form() -> None:
    assert oracle.ws_header(oracle.TEXT, 125) == b"\x81\x7d"
    assert oracle.ws_header(oracle.BINARY, 126) == b"\x82\x7e\x00\x7e"
    assert oracle.ws_header(oracle.TEXT, 65_536) == b"\x81\x7f\0\0\0\0\0\1\0\0"


def test_a_close_is_answered_by_the_rules() -> None:
    for code in (1000, 1003, 1007, 1011, 1012, 1014, 3000, 4999):
        assert oracle.close_reply(oracle.close_payload(code, "bye")) == 1000
    for code in (999, 1004, 1006, 1015, 2999, 5000, 65535):
        assert oracle.close_reply(oracle.close_payload(code, "")) == 1002
    assert oracle.close_reply(b"") == 1000
    assert oracle.close_reply(b"\x03") == 1002
    assert oracle.close_reply(b"\x03\xe8\xff") == 1007
    assert len(oracle.close_payload(1000, "é" * 100)) == 2 + 122


def test_fragments_become_one_message_and_broken_rules_have_their_codes() -> None:
    assembler = oracle.Assembler()
    assert assembler.push(oracle.TEXT, False, False, b"caf\xc3", 8) is None
    assert assembler.push(oracle.PING, True, False, b"p", 8) == (oracle.PING, b"p")
    whole = assembler.push(oracle.CONTINUATION, True, False, b"\xa9", 8)
    assert whole == (oracle.TEXT, "café".encode())
    frames = [
        (oracle.TEXT, True, True, b"", 1002),
        (oracle.CONTINUATION, True, False, b"", 1002),
        (oracle.PING, False, False, b"", 1002),
        (oracle.BINARY, True, False, b"123456789", 1009),
        (oracle.TEXT, True, False, b"\xff", 1007),
    ]
    for op, fin, rsv, payload, code in frames:
        with pytest.raises(oracle.Refused) as refused:
            assembler.push(op, fin, rsv, payload, 8)
        assert refused.value.detail == code
    assert assembler.push(oracle.BINARY, False, False, b"", 8) is None
    assert assembler.push(oracle.CONTINUATION, False, False, b"", 8) is None
    assert assembler.push(oracle.CONTINUATION, True, False, b"", 8) == (oracle.BINARY, b"")


def test_an_upstream_event_keeps_its_exact_bytes() -> None:
    data = b'{"e":"24hrMiniTicker","E":1700000000123,"s":"BTCUSDT","c" : "284578000.00000004"}'
    wrapped = oracle.unwrap_combined(b'{"stream":"btcusdt@miniTicker","data": ' + data + b" }")
    expected = oracle.Event(
        "btcusdt@miniTicker", data, "24hrMiniTicker", "BTCUSDT", 1_700_000_000_123
    )
    assert wrapped == expected
    raw = oracle.unwrap_combined(b" " + data)
    assert isinstance(raw, oracle.Event)
    assert (raw.stream, raw.data) == (None, data)


def test_upstream_answers_are_told_from_events_and_from_rubbish() -> None:
    assert oracle.unwrap_combined(b'{"result":null,"id":1}') == oracle.Answer("null", "1")
    assert oracle.unwrap_combined(b'{"code":2,"msg":"x"}') == oracle.Refusal(2, "x", None)
    nested = oracle.unwrap_combined(b'{"error":{"code":-1,"msg":"x"},"id":"a"}')
    assert nested == oracle.Refusal(-1, "x", '"a"')
    for frame in (b"[]", b"null", b"{}", b'{"stream":"x","data":1}', b'{"stream":1,"data":{}}'):
        with pytest.raises(oracle.Refused, match="not_an_event"):
            oracle.unwrap_combined(frame)


@pytest.mark.parametrize("target", ["frame_text", "frame_binary", "varuint", "feed"])
def test_the_fuzz_corpus_is_accepted_or_refused_by_name(target: str) -> None:
    readers: dict[str, list[Callable[[bytes], object]]] = {
        "frame_text": [oracle.decode_text, oracle.decode_v1],
        "frame_binary": [oracle.decode_binary],
        "varuint": [oracle.read_varuint],
        "feed": [oracle.unwrap_combined],
    }
    outcomes: set[str] = set()
    for path in sorted((CORPUS / target).iterdir()):
        for read in readers[target]:
            try:
                read(path.read_bytes())
                outcomes.add("accepted")
            except oracle.Refused as refused:
                outcomes.add(refused.label)
    assert "accepted" in outcomes
    assert len(outcomes) >= 3
