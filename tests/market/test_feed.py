"""What a frame means: nothing reaches a client that could break its frame or mislead it."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moda.market.feed import RUBBISH, Answer, Rotate, Rubbish, Tick, Unwrap, read

from .support import UNWRAPS

SYMBOLS = frozenset({"BTCUSDT", "ETHUSDT"})
EVENT = (
    b'{"e":"24hrMiniTicker","E":1740441600123,"s":"BTCUSDT","c":"96543.21","o":"96000.00",'
    b'"h":"97000.00","l":"95500.00","v":"12345.678","q":"1190123456.78"}'
)

pytestmark = pytest.mark.parametrize("unwrap", UNWRAPS)


def wrap(data: bytes, stream: bytes = b"btcusdt@miniTicker") -> bytes:
    return b'{"stream":"' + stream + b'","data":' + data + b"}"


def test_a_combined_frame_gives_up_its_event_as_the_exact_bytes(unwrap: Unwrap) -> None:
    assert read(wrap(EVENT), SYMBOLS, unwrap) == Tick(EVENT, "BTCUSDT", 1_740_441_600_123)


def test_a_raw_event_is_accepted_as_it_stands(unwrap: Unwrap) -> None:
    assert read(EVENT, SYMBOLS, unwrap) == Tick(EVENT, "BTCUSDT", 1_740_441_600_123)


def test_white_space_member_order_and_unknown_members_are_kept(unwrap: Unwrap) -> None:
    odd = (
        b'{ "s":"ETHUSDT","E" : 5,"new":{"a":[1.10,"\\u00e9}"]},"c":"1.10","o":"0.0",'
        b'"h":"284578000.00000004", "l":"0","v":"1","q":"1","e":"24hrMiniTicker" }'
    )
    assert read(wrap(odd), SYMBOLS, unwrap) == Tick(odd, "ETHUSDT", 5)


@pytest.mark.parametrize(
    "frame",
    [
        b'{"e":"serverShutdown","E":1740441600123}',
        b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1740441600123}}',
    ],
    ids=["raw", "combined"],
)
def test_a_shutdown_notice_means_rotate_and_is_no_tick(frame: bytes, unwrap: Unwrap) -> None:
    assert read(frame, SYMBOLS, unwrap) == Rotate()


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        (b'{"result":null,"id":1}', None),
        (b'{"result":["btcusdt@miniTicker"],"id":"a"}', None),
        (b'{"code":2,"msg":"Invalid request: no"}', "Invalid request: no"),
        (b'{"error":{"code":-1130,"msg":"too many"},"id":7}', "too many"),
    ],
)
def test_answers_to_our_requests_are_told_from_events(
    frame: bytes, problem: str | None, unwrap: Unwrap
) -> None:
    assert read(frame, SYMBOLS, unwrap) == Answer(problem)


def without(member: str) -> bytes:
    event = orjson.loads(EVENT)
    del event[member]
    return orjson.dumps(event)


def having(member: str, value: object) -> bytes:
    return orjson.dumps(orjson.loads(EVENT) | {member: value})


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "not_json"),
        (b"hello", "not_json"),
        (wrap(EVENT)[:-1], "not_json"),
        (wrap(EVENT) + b"x", "not_json"),
        (wrap(EVENT[:-1] + b',"n":NaN}'), "not_json"),
        (wrap(EVENT[:-1] + b',"n":"\xff"}'), "not_utf8"),
        (b"null", "not_an_event"),
        (b"[]", "not_an_event"),
        (b"{}", "not_an_event"),
        (b'{"stream":"btcusdt@miniTicker","data":"text"}', "not_an_event"),
        (b'{"stream":"x","data":[' + EVENT + b"]}", "not_an_event"),
        (b'{"stream":"x","data":{"lastUpdateId":1}}', "not_an_event"),
        (b'{"stream":"x","data":{"e":"trade","E":1,"s":"BTCUSDT"}}', "unexpected_event"),
        (b'{"e":"24hrTicker","E":1,"s":"BTCUSDT"}', "unexpected_event"),
        (wrap(having("s", "DOGEUSDT")), "unexpected_symbol"),
        (wrap(having("s", "btcusdt")), "unexpected_symbol"),
        (wrap(having("s", None)), "missing_member"),
        (wrap(having("E", "1740441600123")), "missing_member"),
        (wrap(having("E", 1.5)), "missing_member"),
        (wrap(having("E", True)), "missing_member"),
        (wrap(having("c", 96543.21)), "missing_member"),
        (wrap(having("c", "NaN")), "bad_number"),
        (wrap(having("c", "")), "bad_number"),
        (wrap(having("h", "-1")), "bad_number"),
        (wrap(having("l", "1e5")), "bad_number"),
        (wrap(having("o", "1.")), "bad_number"),
        (wrap(having("v", ".5")), "bad_number"),
        (wrap(having("q", "1 000")), "bad_number"),
        (wrap(having("q", "١٢")), "bad_number"),
        (wrap(having("q", "9" * 31)), "bad_number"),
    ]
    + [(wrap(without(member)), "missing_member") for member in "EscohlvqEs"[:9]],
)
def test_rubbish_is_named_and_never_forwarded(frame: bytes, reason: str, unwrap: Unwrap) -> None:
    assert read(frame, SYMBOLS, unwrap) == Rubbish(reason)


def test_without_a_list_of_symbols_any_symbol_is_accepted(unwrap: Unwrap) -> None:
    assert isinstance(read(wrap(having("s", "ANY")), None, unwrap), Tick)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["e", "E", "s", "c", "stream", "data", "id", "code"]), inner
        )
    ),
    max_leaves=12,
)


@given(frame=st.binary(max_size=200) | json_values.map(orjson.dumps))
@example(frame=b'{"stream":"a","data":{}}')
@example(frame=b'{"code":[],"msg":"x"}')
def test_any_bytes_get_a_meaning_and_a_tick_only_if_they_keep_the_promise(
    frame: bytes, unwrap: Unwrap
) -> None:
    check(frame, unwrap)


@given(
    before=st.binary(max_size=4),
    cut=st.integers(0, 220),
    noise=st.binary(max_size=6),
)
def test_a_damaged_frame_is_named_rubbish_or_is_still_whole(
    before: bytes, cut: int, noise: bytes, unwrap: Unwrap
) -> None:
    whole = wrap(EVENT)
    check(before + whole[:cut] + noise + whole[cut:], unwrap)


def check(frame: bytes, unwrap: Unwrap) -> None:
    meaning = read(frame, SYMBOLS, unwrap)
    if isinstance(meaning, Tick):
        assert meaning.data in frame
        meaning.data.decode("utf-8")
        event = orjson.loads(meaning.data)
        assert event["e"] == "24hrMiniTicker"
        assert event["s"] == meaning.symbol
        assert meaning.symbol in SYMBOLS
        assert event["E"] == meaning.at_ms
        assert all(isinstance(event[member], str) for member in "cohlvq")
    elif isinstance(meaning, Rubbish):
        assert meaning.reason in RUBBISH
