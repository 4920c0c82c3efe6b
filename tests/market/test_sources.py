"""The sources that need no network, under a clock that moves when they sleep."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from pathlib import Path
from typing import Any

import pytest

from moda.errors import ConfigurationError
from moda.market.settings import MarketSettings
from moda.market.sources import CHECKED_LINES, Recorded, Replay, Simulated

from .support import HandClock, Recorder, count, running, until


def event(at_ms: int, symbol: str = "BTCUSDT") -> str:
    return (
        f'{{"e":"24hrMiniTicker","E":{at_ms},"s":"{symbol}","c":"1.10","o":"1","h":"2","l":"1",'
        f'"v":"1","q": "1"}}'
    )


def replay(path: Path, text: str | bytes, **settings: Any) -> tuple[Replay, HandClock]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    clock = HandClock()
    return Replay(MarketSettings(source=f"replay:{path}", **settings), clock), clock


class Paced(Recorder):
    """Remembers when each tick came by the hand clock."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__()
        self.clock = clock
        self.came: list[float] = []

    def tick(self, tick: Any) -> None:
        super().tick(tick)
        self.came.append(round(self.clock.now - 1000.0, 6))


async def test_the_simulated_source_sends_every_symbol_once_a_second() -> None:
    clock = HandClock()
    sink = Paced(clock)
    source = Simulated(MarketSettings(symbols=("btcusdt", "ethusdt"), seed=1), clock)
    async with running(source, sink):
        await until(lambda: len(sink.ticks) >= 20)
    assert [tick.symbol for tick in sink.ticks[:4]] == ["BTCUSDT", "ETHUSDT"] * 2
    assert sink.came[:8] == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]
    assert sink.states == ["simulated"]
    assert "invented" in sink.reason


async def test_a_simulated_market_that_was_held_up_skips_the_missed_seconds() -> None:
    clock = HandClock()

    class Slow(Paced):
        def tick(self, tick: Any) -> None:
            super().tick(tick)
            if len(self.ticks) == 3:
                self.clock.now += 60.0

    sink = Slow(clock)
    async with running(Simulated(MarketSettings(symbols=("btcusdt",)), clock), sink):
        await until(lambda: len(sink.ticks) >= 6)
    # One event straight after the pause for the second that is over, then the old rhythm.
    assert sink.came[:6] == [1.0, 2.0, 3.0, 63.0, 64.0, 65.0]
    times = sink.times("BTCUSDT")
    assert all(a < b for a, b in itertools.pairwise(times))


async def test_the_simulated_source_can_be_run_again() -> None:
    source, sink = Simulated(MarketSettings(seed=1), HandClock()), Recorder()
    for run in (1, 2):
        async with running(source, sink):
            sink.ticks.clear()
            await until(lambda: len(sink.ticks) >= 4)
        assert sink.shifts == [("simulated", sink.reason)] * run


def test_a_replay_reads_raw_combined_and_stamped_lines_and_keeps_their_bytes(
    tmp_path: Path,
) -> None:
    raw, other = event(1000), event(2000, "ETHUSDT")
    source, _ = replay(
        tmp_path / "a.jsonl",
        f"{raw}\n"
        f'{{"stream":"ethusdt@miniTicker","data":{other}}}\r\n'
        "\n"
        f'{{"at":7,"data":{raw}}}\n'
        f'{{"at":8,"stream":"x","data": {other} }}\n'
        '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}\n'
        '{"e":"serverShutdown","E":1}\n'
        f"  {raw}",
    )
    source.check()
    read: list[Recorded] = list(source.read())
    assert [one.tick.data.decode() for one in read] == [raw, other, raw, other, raw]
    assert [one.at_ms for one in read] == [1000, 2000, 7, 8, 1000]


async def test_a_replay_keeps_the_recorded_pace(tmp_path: Path) -> None:
    lines = "\n".join(event(at) for at in (5000, 5250, 9000, 9000, 8000, 65_000))
    source, clock = replay(tmp_path / "a.jsonl", lines)
    sink = Paced(clock)
    async with running(source, sink):
        await until(lambda: len(sink.ticks) == 6)
    assert sink.came == [0.0, 0.25, 4.0, 4.0, 4.0, 60.0]


async def test_a_replay_can_be_hurried(tmp_path: Path) -> None:
    lines = "\n".join(event(at) for at in (0, 10_000, 20_000))
    source, clock = replay(tmp_path / "a.jsonl", lines, replay_speed=10.0)
    sink = Paced(clock)
    async with running(source, sink):
        await until(lambda: len(sink.ticks) == 3)
    assert sink.came == [0.0, 1.0, 2.0]


async def test_a_replay_is_paced_by_the_time_of_receipt_where_that_was_recorded(
    tmp_path: Path,
) -> None:
    lines = f'{{"at":100,"data":{event(5)}}}\n{{"at":2100,"data":{event(6)}}}'
    source, clock = replay(tmp_path / "a.jsonl", lines)
    sink = Paced(clock)
    async with running(source, sink):
        await until(lambda: len(sink.ticks) == 2)
    assert sink.came == [0.0, 2.0]


async def test_a_replay_that_ended_says_stale_and_stays(tmp_path: Path) -> None:
    source, _ = replay(tmp_path / "day.jsonl", event(1))
    sink = Recorder()
    async with running(source, sink) as task:
        await until(lambda: sink.states == ["simulated", "stale"])
        await asyncio.sleep(0.05)
        assert not task.done()
    assert sink.shifts == [
        ("simulated", "replay of day.jsonl"),
        ("stale", "replay of day.jsonl ended"),
    ]
    assert len(sink.ticks) == 1
    assert source.report().detail == {"file": "day.jsonl", "line": 1, "rounds": 1}


async def test_a_looping_replay_starts_over_and_does_not_spin(tmp_path: Path) -> None:
    source, clock = replay(tmp_path / "a.jsonl", event(1), replay_loop=True, replay_speed=1000.0)
    sink = Paced(clock)
    async with running(source, sink):
        await until(lambda: len(sink.ticks) >= 5)
    assert sink.states == ["simulated"]
    assert sink.came[:4] == [0.0, 0.05, 0.1, 0.15]
    assert count(source, "replay_rounds") >= 4


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nonsense", "line 3, is no recorded frame"),
        ("[1]", "line 3, is no recorded frame"),
        ('{"at":"soon","data":{}}', "line 3, is no recorded frame"),
        ("{}", "line 3, is not_an_event; it takes a 24hrMiniTicker"),
        ('{"e":"trade","E":1,"s":"BTCUSDT"}', "line 3, is unexpected_event"),
        ('{"data":{"e":"24hrMiniTicker","s":"BTCUSDT"}}', "line 3, is missing_member"),
        (event(1).replace("1.10", "one"), "line 3, is bad_number"),
        (" " * 2000 + event(1), "line 3, is longer than 1024 bytes"),
        (event(1)[:-1] + ',"x":"' + "y" * 2000 + '"}', "line 3, is longer than 1024 bytes"),
    ],
)
def test_a_bad_line_is_refused_at_the_start_by_its_number(
    tmp_path: Path, line: str, says: str
) -> None:
    path = tmp_path / "a.jsonl"
    source, _ = replay(path, f"{event(1)}\n{event(2)}\n{line}\n{event(3)}\n", max_message=1024)
    with pytest.raises(ConfigurationError) as refused:
        source.check()
    assert str(refused.value).startswith(f"MODA_PRICES: {path}, {says}")


def test_bytes_that_are_not_utf8_are_refused_by_their_line(tmp_path: Path) -> None:
    source, _ = replay(tmp_path / "a", event(1).encode()[:-1] + b',"x":"\xff"}')
    with pytest.raises(ConfigurationError, match="line 1, is "):
        source.check()


def test_a_file_without_a_tick_is_refused(tmp_path: Path) -> None:
    source, _ = replay(tmp_path / "a", "\n\n")
    with pytest.raises(ConfigurationError, match="holds no tick"):
        source.check()


def test_a_file_that_cannot_be_read_is_refused_with_its_name_and_the_cause(tmp_path: Path) -> None:
    source = Replay(MarketSettings(source=f"replay:{tmp_path}/none"), HandClock())
    with pytest.raises(ConfigurationError, match=r"^MODA_PRICES: .*/none cannot be read: No such"):
        source.check()


def test_the_recording_in_the_documentation_can_be_replayed(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "prices.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    source, _ = replay(tmp_path / "a.jsonl", lines)
    assert [(one.at_ms, one.tick.symbol) for one in source.read()] == [
        (1_740_441_600_123, "BTCUSDT"),
        (1_740_441_600_456, "ETHUSDT"),
        (1_740_441_601_130, "BTCUSDT"),
    ]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        source = Replay(MarketSettings(source=f"replay:{tmp_path / name}"), HandClock())
        with pytest.raises(ConfigurationError, match="is no regular file"):
            source.check()


def test_only_the_beginning_of_a_recording_is_read_before_the_start(tmp_path: Path) -> None:
    good = "".join(f"{event(at)}\n" for at in range(CHECKED_LINES))
    source, _ = replay(tmp_path / "a", good + "nonsense\n")
    source.check()
    assert source.report().detail["line"] == 0
    with pytest.raises(ConfigurationError, match=f"line {CHECKED_LINES + 1}, is no recorded"):
        list(source.read())


async def test_a_file_that_went_bad_after_the_start_ends_the_run_with_the_line(
    tmp_path: Path,
) -> None:
    source, _ = replay(tmp_path / "a", f"{event(1)}\n{event(2)}\n")
    source.check()
    (tmp_path / "a").write_text(f"{event(1)}\n{event(2)[:20]}\n")
    with pytest.raises(ConfigurationError, match="line 2, is no recorded frame"):
        await asyncio.wait_for(source.run(Recorder()), 20)
