"""A channel's join and its messages, as the engine sees them.

What a client sees is in ``tests/conformance``; here is what it cannot see: which callback ran, in
which order, with what.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import until
from moda import Channel, Raw, Reject, Reply
from moda.errors import NotJoinedError, ReplyError
from moda.hub import RESERVED
from moda.wire.conversation import Conversation

from .support import SUB

# -- join


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, {}),
        ({"a": 1}, {"a": 1}),
        ([1, None], [1, None]),
        (False, False),
        (0, 0),
        ("", ""),
        (b"\x00\xff", b"\x00\xff"),
        (bytearray(b"ab"), b"ab"),
        (Raw(b'{"raw": true}'), {"raw": True}),
    ],
)
async def test_join_may_return_any_json_value_or_bytes(talk, answer, told):
    class Room(Channel):
        async def join(self, payload):
            return answer

    room = talk(Room)
    await room.join()
    assert room.told == [("join_ok", told)]


async def test_join_gets_the_payload_decoded_or_as_bytes(talk):
    seen: list[Any] = []

    class Room(Channel):
        async def join(self, payload):
            seen.append(payload)

    for payload in ({"a": [1]}, None, "text"):
        await talk(Room).join(payload)
    binary = talk(Room)
    binary.conversation.begin(b"\x01\x02", True)
    await binary.idle()
    assert seen == [{"a": [1]}, None, "text", b"\x01\x02"]


@pytest.mark.parametrize(
    ("rejection", "told"),
    [
        (Reject(), {"reason": "rejected"}),
        (Reject("full"), {"reason": "full"}),
        (Reject({"reason": "full", "limit": 5}), {"reason": "full", "limit": 5}),
        (Reject({"limit": 5}), {"limit": 5}),
        (Reject({"reason": object()}), {"reason": "join crashed"}),
    ],
)
async def test_a_reject_is_the_error_response_and_one_json_cannot_hold_is_a_crashed_join(
    talk, rejection, told
):
    class Room(Channel):
        async def join(self, payload):
            raise rejection

    room = talk(Room)
    await room.join()
    assert room.told == [("join_error", told)]


@pytest.mark.parametrize("answer", [object(), {1: 2}, {"a": object()}])
async def test_a_join_that_returns_what_json_cannot_hold_has_crashed(talk, answer):
    class Room(Channel):
        async def join(self, payload):
            return answer

    room = talk(Room)
    await room.join()
    assert room.told == [("join_error", {"reason": "join crashed"})]


async def test_a_join_reply_that_does_not_fit_its_frame_ends_a_channel_that_never_was(talk):
    gone: list[str] = []

    class Room(Channel):
        async def joined(self):
            gone.append("joined")

        async def leave(self, reason):
            gone.append(reason)

    room = talk(Room)
    room.engine.unencodable = True
    await room.join()
    assert room.told == [("join_ok", {})]
    assert gone == []


async def test_a_join_whose_client_has_gone_meanwhile_runs_neither_joined_nor_leave(talk):
    ran: list[str] = []

    class Room(Channel):
        async def joined(self):
            ran.append("joined")

        async def leave(self, reason):
            ran.append(reason)

    room = talk(Room)
    room.engine.admits = False
    await room.join()
    assert (room.told, ran) == ([("join_ok", {})], [])


@pytest.mark.parametrize("call", ["push", "reply", "stop"])
async def test_nothing_may_overtake_the_join_reply_and_the_error_says_what_to_do(talk, call):
    texts: list[str] = []

    class Room(Channel):
        async def join(self, payload):
            calls = {
                "push": lambda: self.push("e", {}),
                "reply": lambda: self.reply('"1"', Reply()),
                "stop": self.stop,
            }
            with pytest.raises(NotJoinedError) as caught:
                calls[call]()
            texts.append(str(caught.value))

    room = talk(Room)
    await room.join()
    assert room.told == [("join_ok", {})]
    assert texts == [
        f"Room calls {call} before its join is decided; push in joined(), refuse by raising "
        "Reject in join()"
    ]


async def test_a_join_that_awaits_something_cancelled_has_crashed(talk):
    class Room(Channel):
        async def join(self, payload):
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    room = talk(Room)
    await room.join()
    assert room.told == [("join_error", {"reason": "join crashed"})]


async def test_a_join_that_is_overtaken_is_cancelled_and_answers_nothing(talk):
    cancelled = asyncio.Event()

    class Room(Channel):
        async def join(self, payload):
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

    room = talk(Room)
    room.begin()
    await asyncio.sleep(0)
    room.conversation.ended("replaced")
    await cancelled.wait()
    await room.idle()
    assert room.told == []


async def test_work_spawned_by_a_refused_join_does_not_live_on(talk):
    cancelled = asyncio.Event()

    class Room(Channel):
        async def join(self, payload):
            self.spawn(self.work())
            await asyncio.sleep(0)
            raise Reject("full")

        async def work(self):
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

    room = talk(Room)
    await room.join()
    await cancelled.wait()
    assert room.told == [("join_error", {"reason": "full"})]


async def test_a_crash_of_spawned_work_while_joining_is_a_crashed_join(talk):
    class Room(Channel):
        async def join(self, payload):
            self.spawn(self.work())
            await asyncio.Event().wait()

        async def work(self):
            raise RuntimeError("a bug")

    room = talk(Room)
    await room.join()
    assert room.told == [("join_error", {"reason": "join crashed"})]


@pytest.mark.parametrize(
    "outcome", ["accepted", "refused", "crashed", "overtaken", "gone", "unencodable"]
)
async def test_a_place_held_for_a_join_is_given_up_once_whatever_comes_of_it(talk, outcome):
    given_up: list[bool] = []
    started = asyncio.Event()

    class Room(Channel):
        async def join(self, payload):
            started.set()
            if outcome == "refused":
                raise Reject
            if outcome == "crashed":
                raise RuntimeError("a bug")
            if outcome == "overtaken":
                await asyncio.Event().wait()

    room = talk(Room, decided=lambda: given_up.append(True))
    room.engine.admits = outcome != "gone"
    room.engine.unencodable = outcome == "unencodable"
    room.begin()
    await started.wait()
    if outcome == "overtaken":
        room.conversation.ended("replaced")
    await room.idle()
    room.conversation.ended("closed")
    assert given_up == [True]


# -- messages


async def test_an_idle_channel_has_no_task_and_no_inbox(talk):
    class Room(Channel):
        async def handle(self, event, payload):
            return Reply("ok", payload)

    room = talk(Room)
    await room.join()
    for n in range(3):
        room.say("echo", {"n": n}, f'"{n}"')
    await room.idle()
    assert room.conversation._inbox is None
    assert room.conversation._bytes == 0
    assert room.told[1:] == [("reply", f'"{n}"', "ok", {"n": n}) for n in range(3)]


@pytest.mark.parametrize("outcome", [{"ok": True}, True, "ok", ("ok", {}), Reply, Channel, 0])
async def test_a_wrong_return_value_is_a_crash_whose_message_lists_every_legal_one(talk, outcome):
    class Room(Channel):
        async def handle(self, event, payload):
            return outcome

    room = talk(Room)
    await room.join()
    with capture_logs() as logs:
        room.say("e")
        await room.idle()
    assert room.told[1:] == [("end", "crash")]
    (entry,) = [log for log in logs if log["event"] == "channel.failed"]
    assert entry["topic"] == "room:a"


async def test_the_message_of_a_wrong_return_value(talk, monkeypatch):
    class Room(Channel):
        async def handle(self, event, payload):
            return ("ok", payload)

    caught: list[str] = []
    monkeypatch.setattr(Conversation, "_crash", lambda self, error: caught.append(repr(error)))
    room = talk(Room)
    await room.join()
    room.say("e", {"n": 1})
    await room.idle()
    (text,) = caught
    for part in (
        "ReturnError",
        "Room.handle returned ('ok', {'n': 1})",
        "None (no answer)",
        "Reply(status, response)",
        "Stop(reason, reply)",
    ):
        assert part in text


async def test_the_default_handler_says_which_event_it_does_not_know(talk):
    room = talk(Channel)
    await room.join()
    room.say("hello")
    await room.idle()
    assert room.told[1:] == [
        ("reply", '"2"', "error", {"reason": "unknown event", "event": "hello"})
    ]


async def test_ref_is_the_handled_messages_and_asking_for_none_says_why(talk):
    refs: list[str] = []

    class Room(Channel):
        async def handle(self, event, payload):
            try:
                refs.append(self.ref)
            except ReplyError as error:
                refs.append(str(error))

    room = talk(Room)
    await room.join()
    room.say("a", ref='"5"')
    room.say("b", ref=None)
    await room.idle()
    assert refs == ['"5"', "this message carried no ref, so nobody waits for a reply to it"]


async def test_ref_is_of_no_use_once_handle_has_returned(talk):
    """Spawned work that read it then would answer whatever message is handled by that time."""
    gate = asyncio.Event()
    texts: list[str] = []

    class Room(Channel):
        async def handle(self, event, payload):
            if event == "spawn":
                self.spawn(self.work(self.ref))
            elif event == "wait":
                await asyncio.Event().wait()

        async def work(self, ref):
            await gate.wait()
            for call in (lambda: self.ref, lambda: self.stop("moved", Reply())):
                try:
                    call()
                except ReplyError as error:
                    texts.append(str(error))
            self.reply(ref, Reply())

    room = talk(Room)
    await room.join()
    room.say("spawn", ref='"5"')
    await room.idle()
    gate.set()
    await until(lambda: len(room.told) == 2)
    assert room.told[1] == ("reply", '"5"', "ok", {})
    assert texts[0] == (
        "no message is being handled: read self.ref before handle returns and hand it on, as in "
        "self.spawn(self.answer(self.ref))"
    )
    assert "keep its self.ref, then call reply(ref, ...) and stop(reason)" in texts[1]


async def test_a_reply_may_be_of_a_class_of_its_own(talk):
    class Created(Reply):
        pass

    class Room(Channel):
        async def handle(self, event, payload):
            return Created("created", {"n": 1})

    room = talk(Room)
    await room.join()
    room.say("e")
    await room.idle()
    assert room.told[1:] == [("reply", '"2"', "created", {"n": 1})]


@pytest.mark.parametrize("event", sorted(RESERVED))
async def test_an_event_of_the_protocol_is_handled_and_cannot_be_pushed(talk, event):
    texts: list[str] = []

    class Room(Channel):
        async def handle(self, event, payload):
            for send in (self.push, self.broadcast, self.broadcast_from):
                with pytest.raises(ValueError, match=f"'{event}' is an event of the protocol"):
                    send(event, {})
            texts.append(event)

    room = talk(Room)
    await room.join()
    room.say(event)
    await room.idle()
    assert (room.told[1:], texts) == ([], [event])


async def test_a_reply_may_be_bytes_or_raw_json(talk):
    answers = iter(
        [Reply("ok", b"\x01"), Reply("ok", Raw(b'{"x":1}')), Reply("late", None), Reply("later")]
    )

    class Room(Channel):
        async def handle(self, event, payload):
            return next(answers)

    room = talk(Room)
    await room.join()
    for _ in range(4):
        room.say("e")
    await room.idle()
    assert room.told[1:] == [
        ("reply", '"2"', "ok", b"\x01"),
        ("reply", '"2"', "ok", {"x": 1}),
        ("reply", '"2"', "late", None),
        ("reply", '"2"', "later", {}),
    ]


async def test_a_broadcast_names_the_channel_to_leave_out_and_the_key(talk):
    class Room(Channel):
        async def handle(self, event, payload):
            self.broadcast("all", payload, key="k")
            self.broadcast_from("others", payload)

    room = talk(Room)
    await room.join()
    room.say("e", {"n": 1})
    await room.idle()
    assert room.told[1:] == [
        ("publish", "room:a", "all", {"n": 1}, "k", 0),
        ("publish", "room:a", "others", {"n": 1}, None, SUB),
    ]


async def test_a_message_that_breaks_its_schema_is_answered_and_never_handled(talk):
    handled: list[str] = []

    class Room(Channel):
        async def handle(self, event, payload):
            handled.append(event)

    def check(event: str, payload: Any) -> dict[str, Any] | None:
        return {"reason": "invalid payload", "path": "/x"} if event == "bad" else None

    room = talk(Room, check=check)
    await room.join()
    room.say("bad", {})
    room.say("bad", {}, None)
    room.say("good", {})
    await room.idle()
    assert handled == ["good"]
    assert room.told[1:] == [("reply", '"2"', "error", {"reason": "invalid payload", "path": "/x"})]


async def test_a_join_that_breaks_its_schema_is_refused_before_the_application_is_asked(talk):
    asked: list[Any] = []

    class Room(Channel):
        async def join(self, payload):
            asked.append(payload)

    room = talk(Room, check=lambda event, payload: {"reason": event})
    await room.join({"n": 1})
    assert (room.told, asked) == ([("join_error", {"reason": "phx_join"})], [])


async def test_json_that_python_cannot_hold_is_answered_and_the_channel_lives(talk):
    class Room(Channel):
        async def handle(self, event, payload):
            return Reply("ok", payload)

    room = talk(Room)
    await room.join()
    room.conversation.deliver("e", b'{"n":1e999}', False, '"2"', 11)
    room.conversation.deliver("e", b'{"n":1e999}', False, None, 11)
    room.say("e", 5)
    await room.idle()
    (_, ref, status, response), after = room.told[1:]
    assert (ref, status, response["reason"]) == ('"2"', "error", "invalid payload")
    assert after == ("reply", '"2"', "ok", 5)
