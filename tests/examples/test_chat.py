"""The chat as its users meet it, and the page of docs that is made of its code."""

from __future__ import annotations

import ast
import asyncio
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from urllib.request import ProxyHandler, build_opener

import pytest

from gateway import until
from phoenix import OK, error

ROOT = Path(__file__).parents[2]
CHAT = ROOT / "examples" / "chat"
GUIDE = ROOT / "docs" / "channels.md"
NAME_PLEASE = error("a name of 1 to 24 characters, please")
TEXT_PLEASE = error("a text of 1 to 1000 characters, please")


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A fresh import: a gateway serves once."""
    monkeypatch.syspath_prepend(str(CHAT))
    yield importlib.import_module("chat")
    for name in ("chat", "static"):
        sys.modules.pop(name, None)


@pytest.fixture
async def running(serve, chat):
    return await serve(chat.gateway)


async def enter(client, name, here, *, lines=()):
    """Joins the lobby and reads what a newcomer is sent."""
    answer = await client.join("room:lobby", {"name": name})
    assert answer == {"room": "lobby", "name": name}
    await client.expect("1", None, "room:lobby", "history", {"lines": list(lines)})
    await client.expect(None, None, "room:lobby", "came", {"name": name, "here": here})


async def test_what_one_says_both_hear_and_the_speaker_gets_a_reply(running, connect):
    ada, grace = await connect(running), await connect(running)
    await enter(ada, "Ada", 1)
    await enter(grace, "Grace", 2)
    await ada.expect(None, None, "room:lobby", "came", {"name": "Grace", "here": 2})
    await ada.send("1", "2", "room:lobby", "say", {"text": "  hello "})
    heard = await grace.receive()
    assert heard[:4] == [None, None, "room:lobby", "said"]
    line = heard[4]
    assert (line["by"], line["text"]) == ("Ada", "hello")
    assert isinstance(line["at"], float)
    await ada.expect(None, None, "room:lobby", "said", line)
    await ada.expect("1", "2", "room:lobby", "phx_reply", OK)


@pytest.mark.parametrize("payload", [{}, {"name": " "}, {"name": 7}, {"name": "x" * 25}, [], None])
async def test_nobody_comes_in_without_a_name(running, connect, payload):
    client = await connect(running)
    await client.send("1", "1", "room:lobby", "phx_join", payload)
    await client.expect("1", "1", "room:lobby", "phx_reply", NAME_PLEASE)
    await enter(client, "Ada", 1)


async def test_a_newcomer_gets_the_last_fifty_lines_of_this_room_alone(running, chat, connect):
    for number in range(60):
        chat.lines.add("room:lobby", {"n": number})
    chat.lines.add("room:other", {"n": -1})
    await enter(await connect(running), "Ada", 1, lines=[{"n": n} for n in range(10, 60)])


async def test_what_was_said_is_history_to_whoever_comes_later(running, connect):
    ada = await connect(running)
    await enter(ada, "Ada", 1)
    await ada.send("1", "2", "room:lobby", "say", {"text": "first"})
    line = (await ada.receive())[4]
    await enter(await connect(running), "Grace", 2, lines=[line])


async def test_rooms_that_spoke_longest_ago_are_forgotten_first(chat):
    lines = chat.Lines(lines=2, rooms=2)
    for topic in ("a", "b", "a", "c"):
        lines.add(topic, {"in": topic})
    assert [len(lines.of(topic)) for topic in ("a", "b", "c")] == [2, 0, 1]


async def test_typing_is_told_to_the_others_and_not_answered(running, connect):
    ada, grace = await connect(running), await connect(running)
    await enter(ada, "Ada", 1)
    await enter(grace, "Grace", 2)
    await grace.send("1", "2", "room:lobby", "typing", {})
    await ada.expect(None, None, "room:lobby", "came", {"name": "Grace", "here": 2})
    await ada.expect(None, None, "room:lobby", "typing", {"name": "Grace"})
    await grace.silence()


@pytest.mark.parametrize("payload", [{}, {"text": ""}, {"text": 5}, {"text": "x" * 1001}, "text"])
async def test_a_text_that_is_none_is_refused_and_told_to_nobody(running, chat, connect, payload):
    ada = await connect(running)
    await enter(ada, "Ada", 1)
    assert await ada.ask("1", "2", "room:lobby", "say", payload) == TEXT_PLEASE
    await ada.silence()
    assert chat.lines.of("room:lobby") == []


async def test_an_unknown_event_is_an_error_and_the_room_goes_on(running, connect):
    ada = await connect(running)
    await enter(ada, "Ada", 1)
    assert await ada.ask("1", "2", "room:lobby", "dance", {}) == error("unknown event")
    assert await ada.ask("1", "3", "room:lobby", "say", {}) == TEXT_PLEASE


@pytest.mark.parametrize("cut", [False, True], ids=["by leaving", "by going offline"])
async def test_those_who_stay_are_told_who_left(running, connect, cut):
    ada, grace = await connect(running), await connect(running)
    await enter(ada, "Ada", 1)
    await enter(grace, "Grace", 2)
    await ada.expect(None, None, "room:lobby", "came", {"name": "Grace", "here": 2})
    if cut:
        await grace.close()
    else:
        assert await grace.ask("1", "9", "room:lobby", "phx_leave", {}) == OK
    await ada.expect(None, None, "room:lobby", "left", {"name": "Grace", "here": 1})
    await until(lambda: running.gateway.subscribers("room:lobby") == 1)


# -- the page


def answer(status_of, url):
    with status_of(url, timeout=20) as response:
        return response.status, response.headers, response.read()


async def test_the_page_is_served_with_a_strict_policy_and_keeps_it(running):
    visit = build_opener(ProxyHandler({})).open
    status, headers, body = await asyncio.to_thread(answer, visit, running.url + "/chat")
    assert status == 200
    assert headers["content-security-policy"].startswith("default-src 'self'")
    page = body.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"\son\w+=|\sstyle=", page)
    for link in re.findall(r'(?:src|href)="([^"]+)"', page):
        status, headers, _ = await asyncio.to_thread(answer, visit, f"{running.url}/chat/{link}")
        assert status == 200
        assert headers["x-content-type-options"] == "nosniff"


async def test_only_the_files_of_the_page_can_be_asked_for(running, chat):
    site = running.gateway.asgi
    for path in ("/chat/chat.py", "/chat/../chat.py", "/chat/node_modules/phoenix/package.json"):
        assert site._answer("GET", path)[0] == 404
    assert site._answer("POST", "/chat/")[0] == 405
    assert site._answer("GET", "/chat/phoenix.mjs")[0] == 200


def test_a_missing_client_is_named_with_the_command_that_brings_it(chat, tmp_path):
    from moda import ConfigurationError

    with pytest.raises(ConfigurationError, match="run `npm ci` in"):
        sys.modules["static"].Static(tmp_path, at="/chat/")


# -- the guide


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_python_of_the_guide_one_block_after_the_other_is_the_example():
    def parsed(source: str) -> list[str]:
        statements = ast.parse(source).body
        if ast.get_docstring(ast.parse(source)) is not None:
            statements = statements[1:]
        return [ast.unparse(statement) for statement in statements]

    assert parsed("\n".join(blocks("python"))) == parsed((CHAT / "chat.py").read_text())


@pytest.mark.parametrize(("language", "file"), [("python", "chat.py"), ("js", "chat.js")])
def test_every_code_block_of_the_guide_is_a_piece_of_the_example(language, file):
    source = (CHAT / file).read_text()
    found = blocks(language)
    assert len(found) >= 3
    for block in found:
        assert block in source, f"{GUIDE.name} has code that {file} has not:\n{block}"
