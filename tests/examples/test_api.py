"""The reference's program is run and does what the reference says; its tables miss nothing."""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

import moda
from moda import Gateway
from phoenix import OK, UNMATCHED, binary_push, error, replied

DOCS = Path(__file__).parents[2] / "docs"
API = (DOCS / "api.md").read_text()
WIRE = (DOCS / "wire.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", API, re.MULTILINE | re.DOTALL)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """All Python blocks of the page, one after the other, as one module."""
    program = ModuleType("api_example")
    monkeypatch.setitem(sys.modules, program.__name__, program)
    for block in blocks("python"):
        exec(compile(block, "docs/api.md", "exec"), program.__dict__)
    declared = program.__dict__["gateway"]
    assert isinstance(declared, Gateway)
    return declared


@pytest.fixture
async def running(serve, gateway):
    return await serve(gateway)


async def enter(client, name, **payload: Any):
    response = await client.join("room:a", payload)
    assert response == {"room": "a", "you": name}
    frame = await client.receive()
    assert frame[:4] == ["1", None, "room:a", "welcome"]
    return frame[4]["here"]


async def test_the_hook_decides_who_connects_and_names_the_socket(running, connect):
    ada = await connect(running, params={"user": "ada"})
    assert await enter(ada, "ada") == 1
    with pytest.raises(InvalidStatus) as refused:
        await connect(running, params={"user": "mallory"})
    assert refused.value.response.status_code == 403
    assert refused.value.response.body == b"not you"
    assert running.gateway.disconnect("user:ada") == 1
    assert (await ada.closed())[0] == 1001


async def test_a_second_mount_is_one_more_way_to_the_same_topics(running, connect):
    ada = await connect(running, params={"user": "ada"})
    await enter(ada, "ada")
    other = await connect(running, "/acme/live")
    assert await enter(other, None) == 2


async def test_a_join_may_be_rejected_with_more_than_a_reason(running, connect):
    ada = await connect(running, params={"user": "ada"})
    answer = await ada.ask("1", "1", "room:a", "phx_join", {"password": "wrong"})
    assert answer == {
        "status": "error",
        "response": {"reason": "wrong password", "attempts_left": 2},
    }


async def test_an_intercepted_broadcast_reaches_who_has_not_muted_its_sender(running, connect):
    ada = await connect(running, params={"user": "ada"})
    eve = await connect(running, params={"user": "eve"})
    await enter(ada, "ada")
    await enter(eve, "eve")
    await eve.send("1", "2", "room:a", "say", {"text": "one"})
    await eve.expect("1", "2", "room:a", "phx_reply", OK)
    said = {"by": "eve", "text": "one"}
    await eve.expect("1", None, "room:a", "said", said)
    await ada.expect("1", None, "room:a", "said", said)
    await ada.send("1", None, "room:a", "mute", {"name": "eve"})
    assert await ada.ask("1", "2", "room:a", "dance", {}) == {
        "status": "error",
        "response": {"reason": "unknown event", "event": "dance"},
    }
    await eve.send("1", "3", "room:a", "say", {"text": "two"})
    await eve.expect("1", "3", "room:a", "phx_reply", OK)
    await eve.expect("1", None, "room:a", "said", {"by": "eve", "text": "two"})
    await ada.silence()


async def test_bytes_are_answered_in_binary(running, connect):
    ada = await connect(running, params={"user": "ada"})
    await enter(ada, "ada")
    await ada.write(binary_push("1", "2", "room:a", "blob", b"abc"))
    assert await ada.receive() == replied("1", "2", "room:a", "ok", b"cba")


async def test_a_message_may_be_answered_later_and_more_than_once(running, connect):
    ada = await connect(running, params={"user": "ada"})
    await enter(ada, "ada")
    await ada.send("1", "2", "room:a", "later", {})
    for status, response in (("progress", 50), ("ok", 100)):
        payload = {"status": status, "response": response}
        await ada.expect("1", "2", "room:a", "phx_reply", payload)


async def test_a_stop_replies_closes_and_tells_the_others(running, connect):
    ada = await connect(running, params={"user": "ada"})
    eve = await connect(running, params={"user": "eve"})
    await enter(ada, "ada")
    await enter(eve, "eve")
    bye = {"status": "ok", "response": {"bye": True}}
    assert await ada.ask("1", "2", "room:a", "quit", {}) == bye
    await ada.expect("1", "1", "room:a", "phx_close", {})
    await eve.expect(None, None, "room:a", "gone", {"by": "ada", "reason": "normal"})
    assert await ada.ask("1", "3", "room:a", "say", {}) == UNMATCHED


async def test_the_clock_ticks_for_its_subscribers_and_takes_no_messages(running, connect):
    ada = await connect(running)
    assert await ada.ask("1", "1", "clock:cet", "phx_join", {}) == error("utc is the only zone")
    joined = await ada.join("clock:utc", ref="2")
    assert joined["zone"] == "utc"
    assert joined.keys() == {"zone", "epoch", "offset"}
    first = await ada.receive()
    assert first == [None, f"@{joined['offset'] + 1}", "clock:utc", "tick", {"n": 1}]
    await ada.send("2", "3", "clock:utc", "stop", {})
    while (frame := await ada.receive())[3] == "tick":
        pass
    assert frame == ["2", "3", "clock:utc", "phx_reply", error("push-only topic")]
    assert running.gateway.health()["clock"].detail == {"ticks_per_second": 100}


def test_the_values_are_as_shown():
    shown = "".join(blocks("pycon"))
    test = doctest.DocTestParser().get_doctest(shown, {}, "docs/api.md", "docs/api.md", 0)
    result = doctest.DocTestRunner(verbose=False).run(test)
    assert (result.failed, result.attempted) == (0, len(test.examples))
    assert result.attempted >= 8


def test_every_public_name_and_method_has_a_place_in_the_reference():
    missing = [name for name in moda.__all__ if f"`{name}" not in API and f"## {name}" not in API]
    assert missing == []
    from_the_server = {
        "configure",
        "build",
        "trim",
        "durable",
        "tokens_ended",
        "document",
        "start",
        "stop",
        "health",
        "uptime_seconds",
    }
    for owner in (moda.Gateway, moda.Channel, moda.Stream, moda.JoinRequest):
        for name in vars(owner):
            if name.startswith("_") or (owner is moda.Gateway and name in from_the_server):
                continue
            assert re.search(rf"[`.]{name}\b|`await {name}\(", API), (
                f"{owner.__name__}.{name} is not in api.md"
            )


def test_every_reason_the_engine_gives_is_on_the_wires_page():
    sources = Path(__file__).parents[2] / "rust" / "core" / "src"
    phoenix = "".join(path.read_text() for path in (sources / "dialect/phoenix").rglob("*.rs"))
    words = set(re.findall(r'because\("([^"]+)"\)', phoenix))
    words |= set(re.findall(r'let reason = "([^"]+)"', phoenix))
    words |= set(re.findall(r'(?:decline|refuse|refuse_now)\([^)"]*"([^"]+)"\)', phoenix)) - {
        "null"
    }
    words |= set(re.findall(r'TOO_DEEP: &str = "([^"]+)"', phoenix))
    words |= set(re.findall(r'Self::\w+(?:\(_\))? => "(\w+)"', phoenix))
    assert len(words) >= 12
    assert [word for word in sorted(words) if f"`{word}`" not in WIRE] == []


def test_the_bounds_on_the_wires_page_are_the_ones_in_force():
    from moda.wire import conversation, phoenix

    assert conversation.MAX_WAITING == 1000
    assert conversation.MAX_WAITING_BYTES == 8 << 20
    assert (phoenix.MAX_GOODBYES, conversation.LEAVE_SECONDS) == (256, 30.0)
    sources = Path(__file__).parents[2] / "rust" / "core" / "src"
    gateway = sources / "gateway"
    assert "MAX_DEPTH: usize = 128;" in (sources / "json.rs").read_text()
    assert "MAX_NAME: usize = 1024;" in (gateway / "mod.rs").read_text()
    assert "MAX_JOINS: usize = 16;" in (gateway / "undecided.rs").read_text()
    assert "const OVERHEAD: usize = 256;" in (gateway / "inward.rs").read_text()
    for bound in ("1,000, and 8 MiB", "256, 30 s each", "128 levels", "1,024 bytes each"):
        assert bound in WIRE
