"""The cases of the Autobahn test suite, groups 1 to 7, 9 and 10, by their numbers.

The suite itself (PyPI ``autobahntestsuite``) runs on Python 2 only and talks to a server that echoes
whatever it gets. moda's wire is Phoenix, so an echo here is a channel's reply to the payload, and a
message that only has to be taken or refused is sent as it is. What is compared is the substance of
each case: which bytes are legal, in which pieces, what is answered, which code closes. A channel
answers in a turn of its own; where an answer must come although the connection ends in the same
segment, it is the engine's to a heartbeat.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Iterable

import pytest

from raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Raw, close_frame, frame

from .app import build

MIB = 1 << 20
JOIN = '["1","1","room:a","phx_join",{}]'
HEARTBEAT = frame('[null,"1","phoenix","heartbeat",{}]')
HEARTBEAT_REPLY = (TEXT, b'[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]')


@pytest.fixture
async def client(serve, raw) -> Raw:
    """A bare connection, joined to a channel that echoes. Messages may have 17 MiB."""
    running = await serve(build(max_message_bytes=17 * MIB).gateway)
    one = await raw(running)
    await one.upgrade()
    await one.send(frame(JOIN))
    await one.receive()
    return one


def text_message(pad: str, ref: int = 2) -> bytes:
    return f'["1","{ref}","room:a","echo",{{"pad":"{pad}"}}]'.encode()


def text_echo(pad: str, ref: int = 2) -> tuple[int, bytes]:
    reply = f'["1","{ref}","room:a","phx_reply",{{"status":"ok","response":{{"pad":"{pad}"}}}}]'
    return TEXT, reply.encode()


def binary_message(data: bytes) -> bytes:
    return b"\x00\x01\x01\x06\x0412room:aecho" + data


def binary_echo(data: bytes) -> tuple[int, bytes]:
    return BINARY, b"\x01\x01\x01\x06\x0212room:aok" + data


def fragments(message: bytes, size: int, opcode: int = TEXT) -> list[bytes]:
    """A message in frames of ``size`` bytes each."""
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    ops = itertools.chain([opcode], itertools.repeat(CONTINUATION))
    last = len(parts) - 1
    return [
        frame(part, op, fin=at == last)
        for at, (op, part) in enumerate(zip(ops, parts, strict=False))
    ]


async def chopped(client: Raw, data: bytes, size: int) -> None:
    """Sends bytes so that the server may read them in pieces of ``size``."""
    for at in range(0, len(data), size):
        client.writer.write(data[at : at + size])
        if at // size % 64 == 0:
            await client.writer.drain()
        if len(data) // size < 5000:
            await asyncio.sleep(0)


async def closes(client: Raw, code: int) -> None:
    """The server closes with ``code``, before it any number of answers, and after it nothing."""
    assert (await client.closed())[0] == code
    await client.send(close_frame(code if code != 1007 else 1000))
    assert await client.ended() == b""


# -- 1: framing

LENGTHS = {1: 0, 2: 125, 3: 126, 4: 127, 5: 128, 6: 65535, 7: 65536, 8: 65536}


@pytest.mark.parametrize(("number", "size"), LENGTHS.items(), ids=lambda value: f"{value}")
async def test_1_1_text_of_any_length_is_echoed(client, number, size):
    data = frame(text_message("*" * size))
    await chopped(client, data, 997 if number == 8 else len(data))
    assert await client.receive() == text_echo("*" * size)


@pytest.mark.parametrize(("number", "size"), LENGTHS.items(), ids=lambda value: f"{value}")
async def test_1_2_binary_of_any_length_is_echoed(client, number, size):
    data = frame(binary_message(b"\xfe" * size), BINARY)
    await chopped(client, data, 997 if number == 8 else len(data))
    assert await client.receive() == binary_echo(b"\xfe" * size)


@pytest.mark.parametrize("size", [125, 126, 127, 128, 65535, 65536])
async def test_1_frames_whose_whole_payload_has_a_length_of_each_form(client, size):
    empty = len(text_message(""))
    message = text_message("*" * max(0, size - empty))
    await client.send(frame(message))
    assert await client.receive() == text_echo("*" * max(0, size - empty))


# -- 2: pings and pongs


@pytest.mark.parametrize(
    "payload",
    [b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125],
    ids=["2.1", "2.2", "2.3", "2.4"],
)
async def test_2_1_to_2_4_a_ping_is_answered_with_its_payload(client, payload):
    await client.send(frame(payload, PING))
    assert await client.receive() == (PONG, payload)


async def test_2_5_a_ping_of_126_bytes_is_1002(client):
    await client.send(frame(b"\xfe" * 126, PING))
    await closes(client, 1002)


async def test_2_6_a_ping_in_single_bytes_is_answered(client):
    await chopped(client, frame(b"\xfe" * 125, PING), 1)
    assert await client.receive() == (PONG, b"\xfe" * 125)


@pytest.mark.parametrize("payload", [b"", b"unsolicited pong payload"], ids=["2.7", "2.8"])
async def test_2_7_and_2_8_a_pong_nobody_asked_for_is_nothing(client, payload):
    await client.send(frame(payload, PONG), frame(b"after", PING))
    assert await client.receive() == (PONG, b"after")


async def test_2_9_a_pong_nobody_asked_for_and_a_ping(client):
    await client.send(frame(b"unsolicited", PONG), frame(b"ping", PING))
    assert await client.receive() == (PONG, b"ping")


@pytest.mark.parametrize("size", [1 << 20, 1], ids=["2.10", "2.11"])
async def test_2_10_and_2_11_ten_pings_are_answered_in_order(client, size):
    pings = [b"payload-%d" % number for number in range(10)]
    await chopped(client, b"".join(frame(ping, PING) for ping in pings), size)
    assert [await client.receive() for _ in pings] == [(PONG, ping) for ping in pings]


# -- 3: reserved bits


@pytest.mark.parametrize("chop", [1 << 20, 1], ids=["at once", "by bytes"])
@pytest.mark.parametrize(
    ("rsv", "opcode", "answered"),
    [(1, TEXT, 0), (2, TEXT, 1), (3, TEXT, 1), (4, TEXT, 1), (5, BINARY, 0), (6, PING, 0),
     (7, CLOSE, 0)],
    ids=["3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7"],
)  # fmt: skip
async def test_3_reserved_bits_are_1002_and_what_came_before_them_is_answered(
    client, rsv, opcode, answered, chop
):
    good = HEARTBEAT * answered
    payload = b"\x03\xe8" if opcode == CLOSE else b"Hello, world!"
    bad = frame(payload, opcode, rsv=rsv) + frame(b"", PING) * answered
    await chopped(client, good + bad, chop)
    for _ in range(answered):
        assert await client.receive() == HEARTBEAT_REPLY
    opcode, answer = await client.receive()
    assert (opcode, answer[:2]) == (CLOSE, struct.pack("!H", 1002))


# -- 4: reserved opcodes


@pytest.mark.parametrize("chop", [1 << 20, 1], ids=["at once", "by bytes"])
@pytest.mark.parametrize(
    ("opcode", "payload", "answered"),
    [(3, b"", 0), (4, b"reserved", 0), (5, b"", 1), (6, b"reserved", 1), (7, b"reserved", 1),
     (11, b"", 0), (12, b"reserved", 0), (13, b"", 1), (14, b"reserved", 1), (15, b"reserved", 1)],
    ids=["4.1.1", "4.1.2", "4.1.3", "4.1.4", "4.1.5", "4.2.1", "4.2.2", "4.2.3", "4.2.4", "4.2.5"],
)  # fmt: skip
async def test_4_reserved_opcodes_are_1002_and_what_came_before_them_is_answered(
    client, opcode, payload, answered, chop
):
    good = HEARTBEAT * answered
    await chopped(client, good + frame(payload, opcode) + frame(b"", PING) * answered, chop)
    for _ in range(answered):
        assert await client.receive() == HEARTBEAT_REPLY
    opcode, answer = await client.receive()
    assert (opcode, answer[:2]) == (CLOSE, struct.pack("!H", 1002))


# -- 5: fragments


@pytest.mark.parametrize("opcode", [PING, PONG], ids=["5.1", "5.2"])
async def test_5_1_and_5_2_a_control_frame_in_fragments_is_1002(client, opcode):
    await client.send(frame(b"fragment1", opcode, fin=False), frame(b"fragment2", CONTINUATION))
    await closes(client, 1002)


def in_two(pad: str, between: Iterable[bytes] = ()) -> list[bytes]:
    message = text_message(pad)
    head, tail = message[:30], message[30:]
    return [frame(head, fin=False), *between, frame(tail, CONTINUATION)]


CHOPS = pytest.mark.parametrize("chop", [1 << 20, "frames", 1], ids=["at once", "frames", "bytes"])


async def send_as(client: Raw, frames: list[bytes], chop: int | str) -> None:
    if chop == "frames":
        for one in frames:
            await client.send(one)
            await asyncio.sleep(0)
    else:
        assert isinstance(chop, int)
        await chopped(client, b"".join(frames), chop)


@CHOPS
async def test_5_3_to_5_5_a_message_in_two_fragments_is_echoed(client, chop):
    await send_as(client, in_two("fragment1fragment2"), chop)
    assert await client.receive() == text_echo("fragment1fragment2")


@CHOPS
async def test_5_6_to_5_8_a_ping_between_fragments_is_answered_first(client, chop):
    await send_as(client, in_two("fragment1fragment2", [frame(b"ping", PING)]), chop)
    assert await client.receive() == (PONG, b"ping")
    assert await client.receive() == text_echo("fragment1fragment2")


@CHOPS
@pytest.mark.parametrize("fin", [True, False], ids=["5.9-11", "5.12-14"])
async def test_5_9_to_5_14_a_continuation_of_nothing_is_1002(client, fin, chop):
    stray = frame(b"non-continuation payload", CONTINUATION, fin=fin)
    await send_as(client, [stray, frame(text_message("Hello"))], chop)
    await closes(client, 1002)


async def test_5_15_a_continuation_of_a_message_that_is_over_is_1002(client):
    stray = frame(b"non-continuation payload", CONTINUATION, fin=False)
    beat = b'[null,"1","phoenix","heartbeat",{}]'
    await client.send(*fragments(beat, 20), stray, HEARTBEAT)
    assert await client.receive() == HEARTBEAT_REPLY
    await closes(client, 1002)


@pytest.mark.parametrize("fin", [False, True], ids=["5.16", "5.17"])
async def test_5_16_and_5_17_a_continuation_of_nothing_before_a_message_is_1002(client, fin):
    stray = frame(b"fragment1", CONTINUATION, fin=fin)
    await client.send(*[stray, *in_two("fragment")] * 2)
    await closes(client, 1002)


async def test_5_18_a_second_fragment_with_an_opcode_is_1002(client):
    await client.send(frame(b"fragment1", fin=False), frame(b"fragment2", TEXT))
    await closes(client, 1002)


@CHOPS
async def test_5_19_and_5_20_pings_in_and_after_a_pause_between_five_fragments(client, chop):
    message = text_message("fragment1fragment2fragment3fragment4fragment5")
    parts = [message[at : at + 17] for at in range(0, len(message), 17)]
    assert len(parts) >= 4
    head = [frame(parts[0], fin=False), frame(parts[1], CONTINUATION, fin=False)]
    tail = [frame(part, CONTINUATION, fin=False) for part in parts[2:-1]]
    await send_as(client, [*head, frame(b"pongme 1!", PING)], chop)
    assert await client.receive() == (PONG, b"pongme 1!")
    last = frame(parts[-1], CONTINUATION)
    await send_as(client, [*tail, frame(b"pongme 2!", PING), last], chop)
    assert await client.receive() == (PONG, b"pongme 2!")
    assert await client.receive() == text_echo("fragment1fragment2fragment3fragment4fragment5")


# -- 6: UTF-8

GREEK = "κ\u1f79σμε"  # U+1F79 for the second letter, as in Markus Kuhn's file


@pytest.mark.parametrize("pieces", [1, 3], ids=["6.1.1", "6.1.2"])
async def test_6_1_1_and_6_1_2_a_text_of_no_bytes_is_text(client, pieces):
    # Not a message of Phoenix, and so 1011; as text it is in order, or it were 1002 or 1007.
    middle = [frame(b"", CONTINUATION, fin=False)] * (pieces - 2)
    whole = frame(b"") if pieces == 1 else b"".join(
        [frame(b"", fin=False), *middle, frame(b"", CONTINUATION)]
    )  # fmt: skip
    await client.send(whole)
    await closes(client, 1011)


async def test_6_1_3_empty_fragments_around_and_in_the_middle_of_a_message(client):
    nothing = frame(b"", CONTINUATION, fin=False)
    message = text_message("middle frame payload")
    await client.send(
        frame(b"", fin=False), nothing, frame(message[:40], CONTINUATION, fin=False), nothing,
        frame(message[40:], CONTINUATION, fin=False), nothing, frame(b"", CONTINUATION),
    )  # fmt: skip
    assert await client.receive() == text_echo("middle frame payload")


@pytest.mark.parametrize("pad", ["Hello-µ@ßöäüàá-UTF-8!!", GREEK], ids=["6.2.1-3", "6.2.4"])
@pytest.mark.parametrize("size", [1 << 20, 24, 1], ids=["whole", "in two", "by bytes"])
async def test_6_2_valid_text_in_fragments_that_cut_its_characters_is_echoed(client, pad, size):
    await client.send(*fragments(text_message(pad), size))
    assert await client.receive() == text_echo(pad)


INVALID = GREEK.encode() + b"\xed\xa0\x80" + b"edited"


@pytest.mark.parametrize("size", [1 << 20, 1], ids=["6.3.1", "6.3.2"])
async def test_6_3_invalid_text_whole_and_in_fragments_of_one_byte_is_1007(client, size):
    await client.send(*fragments(INVALID, size))
    await closes(client, 1007)


@pytest.mark.parametrize("bad", [b"\xf4\x90\x80\x80", b"\xf4\x90"], ids=["6.4.1", "6.4.2"])
async def test_6_4_1_and_6_4_2_a_bad_byte_in_a_fragment_fails_at_once(client, bad):
    await client.send(frame(GREEK.encode(), fin=False))
    await client.send(frame(bad, CONTINUATION, fin=False))
    await closes(client, 1007)


@pytest.mark.parametrize("bad", [b"\xf4\x90\x80\x80", b"\xf4\x90"], ids=["6.4.3", "6.4.4"])
async def test_6_4_3_and_6_4_4_a_bad_byte_in_a_frame_that_is_not_whole_fails_at_once(client, bad):
    whole = frame(GREEK.encode() + b"\xf4\x90\x80\x80" + b"edited")
    head = len(whole) - 6 - 4
    await client.send(whole[:head])
    await client.send(whole[head : head + len(bad)])
    assert (await client.closed())[0] == 1007


VALID = {
    "6.5": ["hello$world", "hello¢world", "hello€world", "hello\U00024b62world", GREEK],
    "6.7": ["\u0080", "\u0800", "\U00010000"],
    "6.9": ["\x7f", "\u07ff", "\uffff", "\U0010ffff"],
    "6.11": ["\ud7ff", "\ue000", "\ufffd", "\U0010ffff"],
    "6.22": [chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)],
    "6.23": ["\ufff9", "\ufffa", "\ufffb", "\ufffc", "\ufffd", "\ufffe", "\uffff"],
}


@pytest.mark.parametrize("pad", [
    pytest.param(pad, id=f"{group}.{number}")
    for group, pads in VALID.items() for number, pad in enumerate(pads, 1)
])  # fmt: skip
async def test_6_valid_sequences_are_echoed(client, pad):
    await client.send(frame(text_message(pad)))
    assert await client.receive() == text_echo(pad)


async def test_6_7_1_the_character_nul_is_text(client):
    # JSON allows it nowhere, and so it is refused as a message (1011) and not as text (1007).
    await client.send(frame(b"\x00"))
    await closes(client, 1011)


BAD = {
    "6.8": ["f888808080", "fc8480808080"],
    "6.10": ["f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf"],
    "6.11": ["f4908080"],
    "6.12": ["80", "bf", "80bf", "80bf80", "80bf80bf", "80bf80bf80", "80bf80bf80bf",
             bytes(range(0x80, 0xBF)).hex()],
    "6.13": [b"".join(bytes((one, 0x20)) for one in range(*ends)).hex()
             for ends in ((0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD))],
    "6.14": ["c0", "e080", "f08080", "f8808080", "fc80808080", "df", "efbf", "f7bfbf",
             "fbbfbfbf", "fdbfbfbfbf"],
    "6.15": ["c0e080f08080f8808080fc80808080dfefbff7bfbffbbfbfbffdbfbfbfbf"],
    "6.16": ["fe", "ff", "fefeffff"],
    "6.17": ["c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"],
    "6.18": ["c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"],
    "6.19": ["c080", "e08080", "f0808080", "f880808080", "fc8080808080"],
    "6.20": ["eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf"],
    "6.21": ["eda080edb080", "eda080edbfbf", "edadbfedb080", "edadbfedbfbf", "edae80edb080",
             "edae80edbfbf", "edafbfedb080", "edafbfedbfbf"],
}  # fmt: skip
PREFIXES = {
    "6.6": [GREEK.encode()[:size].hex() for size in (1, 3, 4, 6, 8, 10)],
}


@pytest.mark.parametrize("data", [
    pytest.param(data, id=f"{group}.{number}")
    for group, sequences in {**PREFIXES, **BAD}.items()
    for number, data in enumerate(sequences, 1)
])  # fmt: skip
@pytest.mark.parametrize("size", [1 << 20, 1], ids=["whole", "by bytes"])
async def test_6_invalid_sequences_are_1007(client, data, size):
    await client.send(*fragments(bytes.fromhex(data), size))
    await closes(client, 1007)


@pytest.mark.parametrize("count", range(1, 6))
async def test_6_6_whole_characters_of_a_text_are_text(client, count):
    await client.send(frame(text_message(GREEK[:count])))
    assert await client.receive() == text_echo(GREEK[:count])


# -- 7: closing


async def test_7_1_1_a_message_then_a_close(client):
    await client.send(HEARTBEAT, close_frame(1000))
    assert await client.receive() == HEARTBEAT_REPLY
    assert await client.receive() == (CLOSE, struct.pack("!H", 1000))
    assert await client.ended() == b""


@pytest.mark.parametrize(
    "behind",
    [close_frame(1000), frame(b"", PING), frame(text_message("late")), frame(b"x", CONTINUATION)],
    ids=["7.1.2", "7.1.3", "7.1.4", "7.1.5"],
)
@pytest.mark.parametrize("segments", [1, 2])
async def test_7_1_2_to_7_1_5_whatever_follows_a_close_is_ignored(client, behind, segments):
    before = frame(b"fragment1", fin=False) if behind == frame(b"x", CONTINUATION) else b""
    if segments == 1:
        await client.send(before + close_frame(1000) + behind)
    else:
        await client.send(before + close_frame(1000))
        await client.send(behind)
    assert await client.receive() == (CLOSE, struct.pack("!H", 1000))
    try:
        assert await client.ended() == b""
    except ConnectionResetError:
        assert segments == 2, "what came behind was read with the close"


async def test_7_1_6_a_long_message_then_a_close_then_a_ping(client):
    long = '[null,"1","phoenix","heartbeat",{"pad":"' + "BAsd7&jh23" * 26_214 + '"}]'
    await client.send(frame(long), close_frame(1000), frame(b"", PING))
    assert await client.receive() == HEARTBEAT_REPLY
    assert await client.receive() == (CLOSE, struct.pack("!H", 1000))


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", 1000),
        (b"a", 1002),
        (b"\x03\xe8", 1000),
        (b"\x03\xe8Hello World!", 1000),
        (b"\x03\xe8" + b"*" * 123, 1000),
        (b"\x03\xe8" + b"*" * 124, 1002),
        (b"\x03\xe8" + INVALID, 1007),
    ],
    ids=["7.3.1", "7.3.2", "7.3.3", "7.3.4", "7.3.5", "7.3.6", "7.5.1"],
)
async def test_7_3_and_7_5_the_payload_of_a_close(client, payload, code):
    await client.send(frame(payload, CLOSE))
    assert (await client.closed())[0] == code
    if code == 1002 and len(payload) > 125:
        await client.send(close_frame(1002))
    assert await client.ended() == b""


@pytest.mark.parametrize("code", [
    1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999,
])  # fmt: skip
async def test_7_7_codes_a_client_may_send_are_a_clean_close(client, code):
    await client.send(close_frame(code))
    assert (await client.closed())[0] == 1000
    assert await client.ended() == b""


@pytest.mark.parametrize("code", [
    0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 1015, 5000, 65535,
])  # fmt: skip
async def test_7_9_and_7_13_codes_a_client_may_not_send_are_1002(client, code):
    await client.send(close_frame(code))
    assert (await client.closed())[0] == 1002
    assert await client.ended() == b""


# -- 9: limits

SIZES = {1: 64 << 10, 2: 256 << 10, 3: MIB, 4: 4 * MIB, 5: 8 * MIB, 6: 16 * MIB}


@pytest.mark.parametrize("size", SIZES.values(), ids=[f"9.1.{n}" for n in SIZES])
async def test_9_1_long_text_is_echoed(client, size):
    pad = "BAsd7&jh" * (size // 8)
    await client.send(frame(text_message(pad)))
    assert await client.receive() == text_echo(pad)


@pytest.mark.parametrize("size", SIZES.values(), ids=[f"9.2.{n}" for n in SIZES])
async def test_9_2_long_binary_is_echoed(client, size):
    data = b"\x00\xfe\x00\xff" * (size // 4)
    await client.send(frame(binary_message(data), BINARY))
    assert await client.receive() == binary_echo(data)


PIECES = [64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, MIB, 4 * MIB]


@pytest.mark.parametrize("size", PIECES, ids=[f"9.3.{n}" for n in range(1, 10)])
async def test_9_3_four_megabytes_of_text_in_fragments_are_echoed(client, size):
    pad = "BAsd7&jh" * (MIB // 2)
    await client.send(*fragments(text_message(pad), size))
    assert await client.receive() == text_echo(pad)


@pytest.mark.parametrize("size", PIECES, ids=[f"9.4.{n}" for n in range(1, 10)])
async def test_9_4_four_megabytes_of_binary_in_fragments_are_echoed(client, size):
    data = b"\x00\xfe\x00\xff" * MIB
    await client.send(*fragments(binary_message(data), size, BINARY))
    assert await client.receive() == binary_echo(data)


CHOPPED = [64, 128, 256, 512, 1024, 2048]


@pytest.mark.parametrize("size", CHOPPED, ids=[f"9.5.{n}" for n in range(1, 7)])
async def test_9_5_a_megabyte_of_text_sent_in_chops_is_echoed(client, size):
    pad = "BAsd7&jh" * (MIB // 8)
    await chopped(client, frame(text_message(pad)), size)
    assert await client.receive() == text_echo(pad)


@pytest.mark.parametrize("size", CHOPPED, ids=[f"9.6.{n}" for n in range(1, 7)])
async def test_9_6_a_megabyte_of_binary_sent_in_chops_is_echoed(client, size):
    data = b"\x00\xfe\x00\xff" * (MIB // 4)
    await chopped(client, frame(binary_message(data), BINARY), size)
    assert await client.receive() == binary_echo(data)


@pytest.mark.parametrize("size", [0, 16, 64, 256, 1024, 4096])
@pytest.mark.parametrize("binary", [False, True], ids=["9.7", "9.8"])
async def test_9_7_and_9_8_a_thousand_messages_come_back_in_order(client, binary, size):
    count, together = 1000, 50
    for start in range(0, count, together):
        refs = range(start, start + together)
        if binary:
            data = [b"%d:" % ref + b"\xfe" * size for ref in refs]
            await client.send(*(frame(binary_message(one), BINARY) for one in data))
            for one in data:
                assert await client.receive() == binary_echo(one)
        else:
            await client.send(*(frame(text_message("*" * size, ref)) for ref in refs))
            for ref in refs:
                assert await client.receive() == text_echo("*" * size, ref)


# -- 10: fragmented by the sender


async def test_10_1_1_a_message_in_fragments_of_1300_is_echoed(client):
    pad = "*" * 65_536
    await client.send(*fragments(text_message(pad), 1300))
    assert await client.receive() == text_echo(pad)
