"""What a document declares about payloads, as a client over a socket meets it."""

from __future__ import annotations

import json
from typing import Any

from structlog.testing import capture_logs

from asyncapi.test_everywhere import BAD, GOOD, SPEAKING, WRAPS, speaking
from moda import Gateway

INBOUND = [how for how in SPEAKING if how != "unmentioned"]


async def test_a_payload_that_breaks_its_schema_is_refused_wherever_the_schema_stands(
    serve, connect
):
    tree: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {"title": "t", "version": "1"},
        "channels": {},
        "operations": {},
        "components": {},
    }
    payloads: list[tuple[str, Any, Any]] = []
    for number, name in enumerate(WRAPS):
        schema, yes, no = WRAPS[name](tree["components"], {"const": GOOD}, GOOD, BAD)
        topic = f"t{number}"
        tree["channels"][topic] = {
            "address": topic,
            "messages": {
                "said": {"name": "e", "payload": {"properties": {"it": schema}}},
                "other": {"payload": {"type": "object"}},
            },
            "x-moda": {"publish": "clients"},
        }
        refs = {
            "channel": {"$ref": f"#/channels/{topic}"},
            "message": {"$ref": f"#/channels/{topic}/messages/said"},
            "other": {"$ref": f"#/channels/{topic}/messages/other"},
        }
        how = INBOUND[number % len(INBOUND)]
        for key, operation in speaking(tree["components"], how, refs).items():
            tree["operations"][f"{key}{number}"] = operation
        payloads.append((topic, {"it": yes}, {"it": no}))
    gateway = Gateway(asyncapi=json.dumps(tree).encode(), builtins=False)
    client = await connect(await serve(gateway))
    for topic, yes, no in payloads:
        await client.join(topic)
        refused = await client.ask("1", "2", topic, "e", no)
        assert (refused["status"], refused["response"]["reason"]) == ("error", "invalid payload")
        assert await client.ask("1", "3", topic, "e", yes) == {"status": "ok", "response": {}}


async def test_a_pattern_that_cannot_be_decided_is_an_error_reply_and_the_channel_stays(
    serve, connect
):
    patterns = {"a": r"^(a*)*\1$", "b": r"^(a|b|ab)*\1c$", "c": "(?=.*x)y", "d": "(a+)+$"}
    fields = {name: {"pattern": pattern} for name, pattern in patterns.items()}
    tree = {
        "asyncapi": "3.0.0",
        "info": {"title": "t", "version": "1"},
        "channels": {
            "t": {
                "address": "t",
                "messages": {"e": {"payload": {"properties": fields}}},
                "x-moda": {"publish": "clients"},
            }
        },
    }
    client = await connect(await serve(Gateway(asyncapi=json.dumps(tree).encode(), builtins=False)))
    await client.join("t")
    texts = {"a": "a" * 4000 + "b", "b": "ab" * 200, "c": "y" * 4000, "d": "a" * 4000 + "!"}
    with capture_logs() as logs:
        for name, text in texts.items():
            reply = await client.ask("1", "2", "t", "e", {name: text})
            assert reply["response"]["reason"] == "invalid payload"
            assert reply["response"]["path"] == f"/{name}"
            assert text not in json.dumps(reply)
        assert (await client.ask("1", "3", "t", "e", {"a": "a" * 30}))["status"] == "ok"
        assert (await client.ask("1", "4", "t", "e", {"d": "z" * 40_000}))["response"]["path"] == ""
    assert "aaaa" not in json.dumps(logs, default=repr)
