"""The connection to the exchange, against an exchange that fails in each way exchanges do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext, create_default_context

import pytest
import structlog.testing

from faults import Proxy
from moda.market.feed import Tick

from .fake_binance import FakeBinance
from .support import LeapingClock, Recorder, ascending, count, running, until, upstream

TLS = Path(__file__).parent.parent / "serve" / "tls"


async def test_a_tcp_cut_is_told_at_once_and_healed() -> None:
    async with FakeBinance() as fake:
        sink, source = Recorder(), upstream(fake.url)
        async with running(source, sink):
            await until(lambda: sink.state == "live")
            await fake.cut()
            await until(lambda: sink.states == ["stale", "live", "stale", "live"])
        assert ("stale", "connection cut") in sink.shifts
        assert count(source, "losses") == 1
        assert count(source, "gaps") == 1
        assert ascending(sink.times("BTCUSDT"))


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "upgrade"), (4321, "own code")])
async def test_a_close_frame_is_answered_and_its_code_and_reason_are_told(
    code: int, reason: str
) -> None:
    async with FakeBinance() as fake:
        sink = Recorder()
        async with running(upstream(fake.url), sink):
            await until(lambda: sink.state == "live")
            await fake.close(code, reason)
            await until(lambda: sink.states == ["stale", "live", "stale", "live"])
        told = f"closed by the exchange with {code}" + (f": {reason}" if reason else "")
        assert ("stale", told) in sink.shifts
        assert fake.visits[0].close_code == 1000


async def test_an_exchange_that_is_gone_is_found_again_when_it_returns() -> None:
    async with FakeBinance() as fake:
        sink, source = Recorder(), upstream(fake.url)
        async with running(source, sink):
            await until(lambda: sink.state == "live")
            await fake.vanish()
            attempts = count(source, "attempts")
            assert isinstance(attempts, float)
            await until(lambda: count(source, "attempts") >= attempts + 3)
            assert sink.state == "stale"
            assert "refused" in sink.reason.lower()
            await fake.listen()
            await until(lambda: sink.state == "live")


async def test_a_failed_attempt_and_a_lost_connection_are_warnings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with structlog.testing.capture_logs() as lines:
        monkeypatch.setattr("moda.market.upstream.LOG", structlog.get_logger())
        async with FakeBinance() as fake:
            sink, source = Recorder(), upstream(fake.url)
            async with running(source, sink):
                await until(lambda: sink.state == "live")
                await fake.vanish()
                await until(lambda: count(source, "attempts_failed") >= 1)
    levels = {line["event"]: line["log_level"] for line in lines}
    assert levels["prices.connection_lost"] == levels["prices.attempt_failed"] == "warning"
    assert levels["prices.live"] == "info"


async def test_it_starts_stale_and_keeps_trying_when_there_never_was_an_exchange() -> None:
    async with FakeBinance() as fake:
        await fake.vanish()
        sink, source = Recorder(), upstream(fake.url)
        async with running(source, sink):
            await until(lambda: count(source, "attempts_failed") >= 3)
            assert sink.states == ["stale"]
            await fake.listen()
            await until(lambda: sink.state == "live")


@pytest.mark.parametrize("status", [403, 429, 500, 503])
async def test_a_refused_upgrade_tells_its_status(status: int) -> None:
    async with FakeBinance() as fake:
        fake.refusal = (status, {})
        sink = Recorder()
        async with running(upstream(fake.url), sink):
            told = ("stale", f"upgrade refused with HTTP {status}")
            await until(lambda: told in sink.shifts)
            fake.refusal = None
            await until(lambda: sink.state == "live")


async def test_http_451_names_the_host_and_the_variable_that_help() -> None:
    async with FakeBinance() as fake:
        fake.refusal = (451, {})
        sink = Recorder()
        async with running(upstream(fake.url), sink):
            await until(lambda: "451" in sink.reason)
        assert "MODA_PRICES_URL=wss://data-stream.binance.vision:443" in sink.reason


async def test_retry_after_is_honoured_to_the_second() -> None:
    clock = LeapingClock()
    async with FakeBinance() as fake:
        fake.refusal = (429, {"Retry-After": "600"})
        sink = Recorder()
        source = upstream(fake.url, clock=clock)
        async with running(source, sink):
            await until(lambda: count(source, "attempts_failed") == 1)
            fake.refusal = None
            clock.leapt += 590.0
            await asyncio.sleep(1.0)
            assert fake.attempts == 1
            clock.leapt += 10.0
            await until(lambda: sink.state == "live")


async def test_an_upgrade_that_is_never_answered_times_out() -> None:
    async with FakeBinance() as fake:
        fake.hanging = True
        sink = Recorder()
        async with running(upstream(fake.url, connect_timeout=0.3), sink):
            await until(lambda: ("stale", "no answer within 0.3 s") in sink.shifts)
            fake.hanging = False
            await until(lambda: sink.state == "live")


async def test_a_slow_upgrade_within_the_limit_is_waited_for() -> None:
    async with FakeBinance() as fake:
        fake.delay = 0.5
        sink = Recorder()
        async with running(upstream(fake.url, connect_timeout=10.0), sink):
            await until(lambda: sink.state == "live")
        assert fake.attempts == 1


async def test_rubbish_is_counted_by_reason_and_the_connection_stays() -> None:
    async with FakeBinance(every=None) as fake:
        source, sink = upstream(fake.url, stale_after=60.0), Recorder()
        async with running(source, sink):
            await until(lambda: fake.open)
            for text in (
                "hello",
                "[]",
                '{"stream":"btcusdt@miniTicker","data":{"e":"24hrMiniTicker"',
                '{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"s":"BTCUSDT"}}',
                '{"e":"24hrMiniTicker","E":1,"s":"DOGEUSDT","c":"1","o":"1","h":"1","l":"1",'
                '"v":"1","q":"1"}',
                '{"e":"24hrMiniTicker","E":1,"s":"BTCUSDT","c":"NaN","o":"1","h":"1","l":"1",'
                '"v":"1","q":"1"}',
                b"\x00\x01",
            ):
                await fake.say(text)
            good = await fake.tick("btcusdt")
            await until(lambda: sink.ticks)
        assert [tick.data for tick in sink.ticks] == [good]
        assert len(fake.visits) == 1
        assert source.report().counters["rubbish"] == {
            "not_json": 2,
            "not_an_event": 1,
            "unexpected_event": 1,
            "unexpected_symbol": 1,
            "bad_number": 1,
            "binary": 1,
        }


async def test_a_fragmented_message_is_put_together() -> None:
    async with FakeBinance(every=None) as fake:
        sink = Recorder()
        async with running(upstream(fake.url, stale_after=60.0), sink):
            await until(lambda: fake.open)
            event = (
                '{"e":"24hrMiniTicker","E":5,"s":"BTCUSDT","c":"1","o":"1","h":"1","l":"1",'
                '"v":"1","q":"1"}'
            )
            await fake.fragments(event[:10], event[10:40], event[40:])
            await until(lambda: sink.ticks)
        assert sink.ticks == [Tick(event.encode(), "BTCUSDT", 5)]


async def test_fragments_that_add_up_to_too_much_are_dropped_and_counted() -> None:
    async with FakeBinance(every=None) as fake:
        source, sink = upstream(fake.url, stale_after=60.0, max_message=2048), Recorder()
        async with running(source, sink):
            await until(lambda: fake.open)
            await fake.fragments("x" * 1500, "x" * 1500, "x" * 1500)
            await fake.tick("btcusdt")
            await until(lambda: sink.ticks)
        assert source.report().counters["rubbish"] == {"too_big": 1}
        assert len(fake.visits) == 1


async def test_a_frame_over_the_limit_ends_the_connection_with_1009_and_says_why() -> None:
    async with FakeBinance() as fake:
        sink = Recorder()
        async with running(upstream(fake.url, max_message=2048), sink):
            await until(lambda: sink.state == "live")
            await fake.say("x" * 5000)
            await until(lambda: sink.states == ["stale", "live", "stale", "live"])
        assert fake.visits[0].close_code == 1009
        assert any("exceeding max allowed size" in reason for _, reason in sink.shifts)


async def test_bytes_that_are_no_websocket_frame_end_the_connection_and_it_is_replaced() -> None:
    async with FakeBinance() as fake:
        sink = Recorder()
        async with running(upstream(fake.url), sink):
            await until(lambda: sink.state == "live")
            await fake.wire(b"\x83\x01x")  # opcode 3 is reserved
            await until(lambda: sink.states == ["stale", "live", "stale", "live"])
        assert any("invalid opcode" in reason for _, reason in sink.shifts)


async def test_a_pong_echoes_the_payload_of_its_ping() -> None:
    async with FakeBinance() as fake:
        sink = Recorder()
        async with running(upstream(fake.url), sink):
            await until(lambda: sink.state == "live")
            await fake.ping(b"1740441600123")
            await fake.ping(b"")
            assert fake.visits[0].pongs == [b"1740441600123", b""]


async def test_a_burst_of_pings_costs_no_more_than_the_request_limit_and_the_last_is_answered() -> (
    None
):
    async with FakeBinance() as fake:
        sink = Recorder()
        async with running(upstream(fake.url), sink):
            await until(lambda: sink.state == "live")
            await fake.ping_burst([b"%d" % number for number in range(30)])
            await until(lambda: b"29" in fake.visits[0].pongs)
        assert len(fake.visits[0].pongs) <= 5
        assert fake.visits[0].pongs[-1] == b"29"


async def test_cancelling_closes_the_connection_and_leaves_nothing_behind() -> None:
    async with FakeBinance() as fake:
        sink = Recorder()
        async with running(upstream(fake.url), sink):
            await until(lambda: sink.state == "live")
        seen = len(sink.ticks)
        await until(lambda: not fake.open)
        assert fake.visits[0].close_code == 1000
        assert len(sink.ticks) == seen
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


async def test_cancelling_during_the_upgrade_abandons_it() -> None:
    async with FakeBinance() as fake:
        fake.hanging = True
        sink = Recorder()
        async with Proxy(fake.port) as proxy:
            async with running(upstream(f"ws://127.0.0.1:{proxy.port}"), sink):
                await until(lambda: fake.attempts == 1)
                assert proxy.connections == 1
            # Though the exchange has not answered, and may never do.
            await until(lambda: proxy.connections == 0)
        assert sink.ticks == []
        assert fake.visits == []


async def test_it_can_be_run_again_after_a_cancel_and_its_counters_go_on() -> None:
    async with FakeBinance() as fake:
        source, sink = upstream(fake.url), Recorder()
        for run in (1, 2):
            async with running(source, sink):
                await until(lambda: sink.state == "stale")
                await until(lambda: sink.state == "live")
            assert count(source, "attempts") == run
        assert sink.states == ["stale", "live", "stale", "live"]


async def test_a_sink_that_raises_ends_the_run_with_its_exception() -> None:
    class Broken(Recorder):
        def tick(self, tick: Tick) -> None:
            raise LookupError("the hub is gone")

    async with FakeBinance() as fake:
        with pytest.raises(LookupError, match="the hub is gone"):
            await asyncio.wait_for(upstream(fake.url).run(Broken()), 20)
        await until(lambda: not fake.open)


async def test_health_names_the_symbols_that_fell_silent_while_others_flow() -> None:
    async with FakeBinance(every=None) as fake:
        source, sink = upstream(fake.url, stale_after=0.3), Recorder()
        async with running(source, sink):
            await until(lambda: fake.open)
            await fake.tick("ethusdt")
            await until(lambda: sink.ticks)
            await until(
                lambda: source.report().detail["silent_first"] == ["ETHUSDT"],
                doing=lambda: fake.tick("btcusdt"),
            )
            assert sink.state == "live"
            assert source.report().detail["silent"] == 1


async def test_wss_is_spoken_over_tls_to_a_host_whose_certificate_is_trusted() -> None:
    trust = create_default_context(cafile=TLS / "localhost.pem")
    async with FakeBinance(tls=served_with_tls()) as fake:
        assert fake.url.startswith("wss://localhost:")
        sink = Recorder()
        async with running(upstream(fake.url, trust=trust), sink):
            await until(lambda: sink.state == "live")


async def test_a_certificate_the_system_does_not_know_is_refused() -> None:
    async with FakeBinance(tls=served_with_tls()) as fake:
        sink, source = Recorder(), upstream(fake.url)
        async with running(source, sink):
            await until(lambda: count(source, "attempts_failed") >= 1)
        assert "CERTIFICATE_VERIFY_FAILED" in source.report().detail["last_error"]
        assert sink.states == ["stale"]


def served_with_tls() -> SSLContext:
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "localhost.pem", TLS / "localhost.key")
    return context


async def test_a_frame_with_reserved_bits_is_no_price_and_ends_the_connection() -> None:
    async with FakeBinance() as fake:
        sink, source = Recorder(), upstream(fake.url)
        async with running(source, sink):
            await until(lambda: sink.state == "live")
            fake.flowing = False
            evil = (await fake.tick("btcusdt")).replace(b"BTCUSDT", b"EVIL")
            text = b'{"stream":"evil@miniTicker","data":' + evil + b"}"
            size = bytes((126,)) + len(text).to_bytes(2, "big")
            await fake.wire((b"\xc1" + size + text) * 3)  # RSV1: compressed, says no extension
            await until(lambda: count(source, "losses") == 1)
            fake.flowing = True
            await until(lambda: sink.states == ["stale", "live", "stale", "live"])
        assert any("reserved bits" in reason for _, reason in sink.shifts)
        assert sink.times("EVIL") == []


async def test_an_exchange_that_floods_us_leaves_the_loop_to_others_every_few_messages() -> None:
    async with FakeBinance() as fake:
        sink = Recorder()
        async with running(upstream(fake.url), sink):
            await until(lambda: sink.state == "live")
            fake.flowing = False
            turns = [0]

            def tick(one: Tick) -> None:
                turns[-1] += len(one.data)

            sink.tick = tick  # type: ignore[method-assign]
            raw = await fake.tick("btcusdt")
            text = b'{"stream":"btcusdt@miniTicker","data":' + raw + b"}"
            size = bytes((126,)) + len(text).to_bytes(2, "big")
            # Not awaited before the turns are counted: the first messages come while it is written.
            flood = asyncio.create_task(fake.wire((b"\x81" + size + text) * 5000))
            while sum(turns) < 5000 * len(raw):
                if turns[-1]:
                    turns.append(0)
                await asyncio.sleep(0)
            await flood
        assert max(turns) < 64 * 1024
