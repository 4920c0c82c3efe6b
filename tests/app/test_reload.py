"""A document that has changed is obeyed without a restart; one that is wrong changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from moda import Gateway, Stream
from moda.app.assemble import ServedDocument
from moda.errors import ConfigurationError

HEAD = "asyncapi: 3.0.0\ninfo: {title: T, version: '1'}\n"


def channels(**addresses: str) -> str:
    """A document whose channels take {"n": <type>}."""
    lines = [HEAD + "channels:"]
    operations = ["operations:"]
    for name, kind in addresses.items():
        payload = f"{{type: object, properties: {{n: {{type: {kind}}}}}, required: [n]}}"
        lines.append(
            f"  {name}: {{address: '{name}:{{id}}', parameters: {{id: {{}}}}, "
            f"messages: {{say: {{payload: {payload}}}}}, x-moda: {{publish: clients}}}}"
        )
        operations.append(f"  {name}: {{action: receive, channel: {{$ref: '#/channels/{name}'}}}}")
    return "\n".join(lines + operations) + "\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rooms.yaml"
    path.write_text(channels(room="integer"))
    return path


@pytest.fixture
def gateway(path: Path) -> Gateway:
    return Gateway(asyncapi=path, builtins=False)


async def status(client, topic: str, value: object, ref: str) -> str:
    return (await client.ask(ref, ref + "0", topic, "say", {"n": value}))["status"]


async def test_a_new_schema_holds_for_who_joins_from_now_on(gateway, serve, connect, path):
    running = await serve(gateway)
    old, new = await connect(running), await connect(running)
    await old.join("room:1")
    assert await status(old, "room:1", "text", "1") == "error"
    path.write_text(channels(room="string"))
    assert await gateway.reload()
    await new.join("room:1")
    assert await status(new, "room:1", "text", "1") == "ok"
    assert (await old.receive())[4] == {"n": "text"}  # the same topic, still joined
    assert await status(old, "room:1", "text", "1") == "error"
    assert await status(old, "room:1", 1, "1") == "ok"


async def test_channels_come_and_go_and_who_is_joined_stays(gateway, serve, connect, path):
    running = await serve(gateway)
    client = await connect(running)
    await client.join("room:1")
    path.write_text(channels(hall="integer"))
    assert await gateway.reload()
    assert (await client.ask("2", "2", "room:2", "phx_join", {}))["status"] == "error"
    await client.join("hall:1", ref="3")
    assert await status(client, "room:1", 1, "1") == "ok"
    path.write_text(channels(room="integer", hall="integer"))
    assert await gateway.reload()
    await client.join("room:2", ref="4")


async def test_channels_of_code_are_found_before_and_after(gateway, serve, connect, path):
    gateway.channel("code:{id}")(Stream)
    client = await connect(await serve(gateway))
    path.write_text(channels(hall="integer"))
    assert await gateway.reload()
    await client.join("code:1")


async def test_the_same_file_again_changes_nothing(gateway, serve, path):
    await serve(gateway)
    routes = len(gateway._layout.routes)
    assert not await gateway.reload()
    path.write_text(channels(room="string"))
    for _ in range(3):
        await gateway.reload()
    assert len(gateway._layout.routes) == routes


WRONG = {
    "no YAML": "channels: [",
    "a handler that is not there": HEAD
    + "channels: {room: {address: 'room:{id}', parameters: {id: {}}, x-moda: {handler: 'no.where:X'}}}\n",
    "a bad address": HEAD + "channels: {room: {address: 'r:{a}{b}', parameters: {a: {}, b: {}}}}\n",
}


@pytest.mark.parametrize("kind", [*WRONG, "gone"])
async def test_a_document_that_cannot_be_used_changes_nothing_and_is_said(
    gateway, serve, connect, path, kind
):
    client = await connect(await serve(gateway))
    served = ServedDocument(gateway)
    if kind == "gone":
        path.unlink()
    else:
        path.write_text(WRONG[kind])
    with capture_logs() as lines:
        await served.reload()
    assert [line["event"] for line in lines] == ["asyncapi.reload.failed"]
    assert lines[0]["problem"]
    await client.join("room:1")
    assert await status(client, "room:1", 1, "1") == "ok"


async def test_a_route_the_engine_refuses_brings_the_old_ones_back(
    gateway, serve, connect, path, monkeypatch
):
    client = await connect(await serve(gateway))
    expose, core = gateway._layout._expose, gateway.hub.core
    calls = []

    def half(laid):
        calls.append(laid)
        if len(calls) == 1:
            for mount in gateway._mounts:
                core.withdraw(mount.number)
            raise ConfigurationError("half done")
        expose(laid)

    monkeypatch.setattr(gateway._layout, "_expose", half)
    path.write_text(channels(hall="integer"))
    with pytest.raises(ConfigurationError, match="half done"):
        await gateway.reload()
    await client.join("room:1")


async def test_the_served_document_is_the_one_that_is_obeyed(gateway, serve, path):
    await serve(gateway)
    served = ServedDocument(gateway)
    path.write_text(channels(hall="integer"))
    await served.reload()
    answer = served.answer("/asyncapi.json", "", "")
    assert answer is not None
    named = json.loads(answer.body)["channels"]
    assert "hall" in named
    assert "room" not in named


async def test_a_document_given_as_bytes_has_nothing_to_read_again(serve):
    gateway = Gateway(asyncapi=channels(room="integer").encode(), builtins=False)
    await serve(gateway)
    assert not await gateway.reload()
