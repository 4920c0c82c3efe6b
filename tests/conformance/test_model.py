"""Random conversations against a model of the protocol that fits on a page.

The transcripts of the other files are what somebody thought of. Here a client says whatever it
likes, one frame after the other, and after each frame the gateway must have sent exactly what the
model says: the same frames, in the same order, and no more. Seeds are fixed, so a failure repeats.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from phoenix import CRASHED, OK, UNMATCHED, PhoenixV1, binary_push, error

from .app import build

TOPICS = ["room:a", "room:b", "ticker:a", "exact", "nobody:home", "phoenix"]
JOIN_REFS = ["1", "2", 1, None]
CAP = 3
STEPS = 120

Frame = list[Any]


def same(one: Any, other: Any) -> bool:
    """As the protocol compares refs: ``1`` is not ``"1"``."""
    return json.dumps(one) == json.dumps(other)


@dataclass
class Model:
    """What one connection has joined: topic -> (join_ref as stored, join_ref of pushes)."""

    joined: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def answers(self, frame: Frame) -> list[Frame]:
        """The frames a client must get for ``frame``."""
        join_ref, ref, topic, event, payload = frame
        if topic == "phoenix" and event == "heartbeat":
            return [[None, ref, topic, "phx_reply", OK]]
        if topic in ("phoenix", "nobody:home") and event != "phx_leave":
            return [[None, ref, topic, "phx_reply", UNMATCHED]]
        if event == "phx_join":
            return self._join(join_ref, ref, topic, payload)
        if topic not in self.joined:
            if event == "phx_leave":
                return [[join_ref, ref, topic, "phx_reply", OK]]
            return [[None, ref, topic, "phx_reply", UNMATCHED]]
        stored, pushes = self.joined[topic]
        if join_ref is not None and not same(join_ref, stored):
            return []
        end = [stored, stored, topic, "phx_close", {}]
        if event == "phx_leave":
            del self.joined[topic]
            return [[pushes, ref, topic, "phx_reply", OK], end]
        if topic.startswith("ticker"):
            return [[pushes, ref, topic, "phx_reply", error("push-only topic")]]
        return self._event(ref, topic, event, payload)

    def _join(self, join_ref: Any, ref: Any, topic: str, payload: Any) -> list[Frame]:
        old = self.joined.get(topic)
        if old is None and len(self.joined) >= CAP:
            return [[join_ref, ref, topic, "phx_reply", error("too many channels joined")]]
        closing = [] if old is None else [[old[0], old[0], topic, "phx_close", {}]]
        if "refuse" in payload:
            self.joined.pop(topic, None)
            return [[join_ref, ref, topic, "phx_reply", error(payload["refuse"])], *closing]
        self.joined[topic] = (join_ref, ref if join_ref is None else join_ref)
        name = topic.partition(":")[2]
        response = {"topic": topic, "params": {"name": name}} if topic == "ticker:a" else {}
        reply = {"status": "ok", "response": response}
        return [[join_ref, ref, topic, "phx_reply", reply], *closing]

    def _event(self, ref: Any, topic: str, event: str, payload: Any) -> list[Frame]:
        stored, pushes = self.joined[topic]
        if event == "echo":
            return [[pushes, ref, topic, "phx_reply", {"status": "ok", "response": payload}]]
        if event == "shout":
            return [[None, None, topic, "said", payload]]
        if event == "push":
            return [[pushes, None, topic, payload["event"], payload["payload"]]]
        if event == "stop":
            del self.joined[topic]
            return [[stored, stored, topic, "phx_close", {}]]
        assert event == "crash", event
        del self.joined[topic]
        return [[stored, stored, topic, "phx_error", CRASHED]]


def conversation(seed: int, join_refs: list[Any]) -> list[Frame]:
    """What a client says."""
    chance = random.Random(seed)
    frames: list[Frame] = []
    for step in range(STEPS):
        event = chance.choices(
            ["phx_join", "phx_leave", "echo", "shout", "push", "crash", "stop", "heartbeat"],
            [8, 4, 4, 4, 2, 1, 1, 1],
        )[0]
        topic = "phoenix" if event == "heartbeat" else chance.choice(TOPICS)
        payload: Any = {"n": step}
        if event == "phx_join" and chance.random() < 0.2:
            payload = {"refuse": f"no {step}"}
        elif event == "push":
            payload = {"event": "pushed", "payload": {"n": step}}
        elif event == "stop":
            payload = {"reason": "normal"}
        frames.append([chance.choice(join_refs), f"r{step}", topic, event, payload])
    return frames


async def hear(client, model: Model, frame: Frame, transcript: list[str]) -> None:
    expected = model.answers(frame)
    transcript.append(f"> {json.dumps(frame)}")
    for answer in expected:
        got = await client.receive()
        transcript.append(f"< {json.dumps(got)}")
        assert same(got, answer), "\n".join([*transcript[-30:], f"expected {json.dumps(answer)}"])


@pytest.fixture
async def capped(serve):
    return await serve(build(max_channels=CAP).gateway)


@pytest.mark.parametrize("seed", range(12))
async def test_a_v2_client_gets_what_the_model_says(capped, connect, seed):
    client = await connect(capped)
    model, transcript = Model(), []
    for frame in conversation(seed, JOIN_REFS):
        await client.send(*frame)
        await hear(client, model, frame, transcript)
    await client.silence()
    assert capped.stats["channels"] == len(model.joined)


@pytest.mark.parametrize("seed", range(12, 18))
async def test_a_v2_client_that_leaves_joins_and_pings_in_binary_gets_the_same(
    capped, connect, seed
):
    """Payloads of joins and leaves mean nothing here, so these may be either form."""
    client = await connect(capped)
    model, transcript = Model(), []
    for number, frame in enumerate(conversation(seed, ["1", "2"])):
        join_ref, ref, topic, event, _ = frame
        binary = event in ("phx_leave", "heartbeat") or (event == "phx_join" and number % 2)
        if binary:
            frame = [join_ref, ref, topic, event, {}]
            await client.write(binary_push(join_ref, ref, topic, event, b"\x00"))
        else:
            await client.send(*frame)
        await hear(client, model, frame, transcript)
    await client.silence()


@pytest.mark.parametrize("seed", range(18, 24))
async def test_a_v1_client_gets_the_same_without_join_refs(capped, connect_v1, seed):
    client: PhoenixV1 = await connect_v1(capped)
    model, transcript = Model(), []
    for frame in conversation(seed, JOIN_REFS):
        join_ref, ref, topic, event, payload = frame
        more = {} if join_ref is None else {"join_ref": join_ref}
        await client.send(topic, event, payload, ref, **more)
        transcript.append(f"> {json.dumps(frame)}")
        for answer in model.answers(frame):
            got = await client.receive()
            expected = {
                "topic": answer[2],
                "event": answer[3],
                "payload": answer[4],
                "ref": answer[1],
            }
            transcript.append(f"< {json.dumps(got)}")
            assert got == expected, "\n".join([*transcript[-30:], f"expected {expected}"])
    await client.silence()


def test_the_conversations_reach_every_rule():
    """A model that is never asked proves nothing: all kinds of answers occur."""
    seen: set[str] = set()
    for seed in range(12):
        model = Model()
        for frame in conversation(seed, JOIN_REFS):
            answers = model.answers(frame)
            if not answers:
                seen.add("stale")
            for answer in answers:
                status = answer[4].get("status", "") if answer[3] == "phx_reply" else ""
                reason = (
                    answer[4].get("response", {}).get("reason", "") if status == "error" else ""
                )
                seen.add(f"{answer[3]} {status} {reason}".split(" no ")[0].strip())
    assert seen >= {
        "stale",
        "phx_reply ok",
        "phx_reply error unmatched topic",
        "phx_reply error too many channels joined",
        "phx_reply error push-only topic",
        "phx_close",
        "phx_error",
        "said",
        "pushed",
    }, seen
