"""The gateway an application declares: what it accepts, what it refuses with which words, and when."""

from __future__ import annotations

import asyncio
import functools
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from moda import (
    Channel,
    ConfigurationError,
    Gateway,
    History,
    Kept,
    Position,
    Raw,
    Reply,
    ServiceStatus,
    Socket,
    Stream,
)
from moda.principal import Principal, Rules
from moda.wire.conversation import Conversation
from moda.wire.phoenix import MountOptions
from moda.wire.token import TokenRule
from phoenix import OK, error


class TestChannel:
    """``@gateway.channel(pattern)``."""

    def test_the_decorator_returns_what_it_decorates(self, gateway):
        class Room(Channel):
            """Empty."""

        class News(Stream):
            """Empty."""

        news = News()
        assert gateway.channel("room:*")(Room) is Room
        assert gateway.channel("news")(News) is News
        assert gateway.channel("more")(news) is news
        gateway.build()

    @pytest.mark.parametrize("wrong", [Channel(), object, "Room", None, lambda: None])
    def test_it_takes_a_channel_class_or_a_stream(self, gateway, wrong):
        with pytest.raises(ConfigurationError) as caught:
            gateway.channel("room:*")(wrong)
        text = str(caught.value)
        assert text.startswith("channel('room:*') takes a Channel class, a Stream class or")
        assert repr(wrong) in text

    @pytest.mark.parametrize("name", ["join", "joined", "handle", "outgoing", "leave"])
    def test_a_callback_without_async_is_named(self, gateway, name):
        room = type("Room", (Channel,), {name: lambda self, *_: None})
        with pytest.raises(ConfigurationError, match=f"Room.{name} is a plain function.*async def"):
            gateway.channel("room:*")(room)

    def test_a_callback_may_be_wrapped(self, gateway):
        def timed(work: Any) -> Any:
            @functools.wraps(work)
            def timer(*arguments: Any) -> Any:
                return work(*arguments)

            return timer

        class Room(Channel):
            @timed
            async def handle(self, event, payload):
                return Reply()

        assert gateway.channel("room:*")(Room) is Room

    def test_intercept_as_one_string_is_told_from_a_set(self, gateway):
        class Room(Channel):
            intercept = "said"  # type: ignore[assignment]

        with pytest.raises(ConfigurationError, match=r"got the string 'said'; write frozenset"):
            gateway.channel("room:*")(Room)

    @pytest.mark.parametrize(
        ("pattern", "why"),
        [
            ("", "the address is empty"),
            ("a*b", "has a * before its end"),
            ("a{b", "has a brace without its partner"),
            ("a}b", "has a brace without its partner"),
            ("{}", 'has a parameter named ""'),
            ("{a}{b}", "has nothing between {a} and {b}"),
            ("{a}:{a}", 'uses the parameter "a" twice'),
            ("{a}*", "has * right after {a}"),
        ],
    )
    def test_a_pattern_that_is_none_is_named_at_the_start(self, gateway, pattern, why):
        gateway.channel(pattern)(Channel)
        with pytest.raises(ConfigurationError) as caught:
            gateway.build()
        assert str(caught.value).startswith(f"channel({pattern!r}): ")
        assert why in str(caught.value)

    def test_a_socket_it_names_must_be_declared(self, gateway):
        gateway.socket("/admin")
        gateway.channel("room", sockets=["/nowhere"])(Channel)
        with pytest.raises(ConfigurationError) as caught:
            gateway.build()
        assert str(caught.value) == (
            "channel('room') names socket '/nowhere', which is not declared; declared are "
            "/socket, /ws, /sse, /admin"
        )

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"sockets": "/socket"}, r"takes sockets as a list of paths .*got '/socket'"),
            ({"sockets": [5]}, "takes a socket as its path, got 5"),
            ({"history": 5}, r"takes history as a History .*got 5"),
            ({"history": History(-1)}, "takes a history size from 0 to 1000000, got -1"),
            ({"history": History(1, ttl=0)}, r"takes a history ttl above 0 .*got 0"),
            ({"history": History(1, ttl="x")}, r"takes a history ttl above 0 .*got 'x'"),  # type: ignore[arg-type]
            ({"max_subscribers": "5"}, "takes max_subscribers from 1, got '5'"),
        ],
    )
    def test_an_option_of_the_wrong_kind_is_named_with_what_it_takes(self, gateway, options, says):
        with pytest.raises(ConfigurationError, match=rf"^channel\('room'\) {says}"):
            gateway.channel("room", **options)(Channel)

    @pytest.mark.parametrize("second", ["room:{x}", "room:{other}"])
    def test_a_pattern_declared_twice_is_refused_and_both_are_named(self, gateway, second):
        class First(Channel):
            """Empty."""

        class Second(Channel):
            """Empty."""

        gateway.channel("room:{x}")(First)
        gateway.channel(second)(Second)
        with pytest.raises(ConfigurationError) as caught:
            gateway.build()
        assert f"channel({second!r})" in str(caught.value)
        assert "Second would serve the topics that First serves already on '/socket'" in str(
            caught.value
        )

    def test_one_pattern_may_be_served_differently_on_two_sockets(self, gateway):
        gateway.socket("/admin")
        gateway.channel("room", sockets=["/socket"])(Channel)
        gateway.channel("room", sockets=["/admin"])(Channel)
        gateway.build()

    def test_policies_are_checked(self, gateway):
        with pytest.raises(ConfigurationError, match="max_subscribers from 1, got 0"):
            gateway.channel("room", max_subscribers=0)(Channel)
        gateway.channel("room", delivery="sometimes")(Channel)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=r"channel\('room'\): delivery takes every"):
            gateway.build()

    async def test_history_keeps_what_was_published_with_offsets(self, gateway):
        gateway.channel("news", history=History(size=2, ttl=60))(Stream)
        await gateway.start()
        for n in range(3):
            gateway.broadcast("news", "tick", {"n": n})
        gateway.broadcast("news", "raw", Raw(b'[3, "\xc3\xbc"]'))
        epoch, offset = here = gateway.position("news")
        assert offset == 4
        kept = [Kept(3, "tick", {"n": 2}), Kept(4, "raw", [3, "ü"])]
        assert gateway.history("news") == kept
        assert gateway.history("news", Position(epoch, 2)) == kept
        assert gateway.history("news", since=[epoch, 3]) == kept[1:]
        assert gateway.history("news", here) == []
        gateway.broadcast("news", "bytes", b"\x00")
        assert gateway.history("news", here) == [Kept(5, "bytes", b"\x00")]

    @pytest.mark.parametrize("since", [(0, 1), (1, -1), (-1, 0), (1 << 64, 0), (0, 1 << 70)])
    async def test_a_position_that_is_none_of_the_topics_is_a_gap(self, gateway, since):
        gateway.channel("news", history=History(size=2, ttl=60))(Stream)
        gateway.channel("room")(Channel)
        await gateway.start()
        gateway.broadcast("news", "tick", {})
        assert gateway.history("news", since) is None
        assert gateway.history("news", (gateway.position("news").epoch, 2)) is None
        assert gateway.history("room", since) is None

    async def test_a_topic_without_history_has_no_position_and_nothing_kept(self, gateway):
        gateway.channel("room")(Channel)
        await gateway.start()
        gateway.broadcast("room", "said", {})
        assert gateway.position("room") is None
        assert gateway.history("room") == []

    async def test_history_is_asked_for_on_the_loops_thread_alone(self, gateway):
        gateway.channel("news", history=History(size=2, ttl=60))(Stream)
        await gateway.start()
        for ask in (gateway.history, gateway.position):
            with pytest.raises(RuntimeError, match="a thread that is not the loop's"):
                await asyncio.to_thread(ask, "news")
        await gateway.stop()

    async def test_a_cap_counts_the_subscribers_of_every_lane(self, gateway, serve, connect):
        @gateway.channel("ticks", max_subscribers=2)
        class Ticks(Stream):
            async def join(self, request):
                if lane := request.payload.get("lane"):
                    request.seat(f"ticks\0{lane}")

        running = await serve(gateway)
        clients = [await connect(running) for _ in range(3)]
        await clients[0].ask("1", "1", "ticks", "phx_join", {"lane": 1})
        await clients[1].ask("1", "1", "ticks", "phx_join", {"lane": 2})
        assert gateway.subscribers("ticks") == 2
        assert gateway.seated("ticks") == 0
        assert gateway.seated("ticks\0001") == 1
        for lane in (0, 1, 3):
            answer = await clients[2].ask("1", "1", "ticks", "phx_join", {"lane": lane})
            assert answer["response"] == {"reason": "too many subscribers", "limit": 2}
        await clients[0].ask("1", "2", "ticks", "phx_leave", {})
        answer = await clients[2].ask("1", "2", "ticks", "phx_join", {"lane": 0})
        assert answer["status"] == "ok"
        assert (gateway.subscribers("ticks"), gateway.seated("ticks")) == (2, 1)

    async def test_a_topic_with_a_cap_refuses_the_next_subscriber(self, gateway, serve, connect):
        gateway.channel("room", max_subscribers=1)(Channel)
        running = await serve(gateway)
        first, second = await connect(running), await connect(running)
        await first.join("room")
        full = {"reason": "too many subscribers", "limit": 1}
        await second.send("1", "1", "room", "phx_join", {})
        await second.expect("1", "1", "room", "phx_reply", {"status": "error", "response": full})
        await first.send("1", "2", "room", "phx_leave", {})
        await first.expect("1", "2", "room", "phx_reply", OK)
        await second.join("room", ref="2")


class TestLife:
    """Built, started, stopped."""

    @pytest.mark.parametrize("call", ["channel('late')", "socket('/late')", "connect"])
    def test_what_is_declared_after_the_start_is_refused_and_not_ignored(self, gateway, call):
        gateway.build()
        calls: dict[str, Any] = {
            "channel('late')": lambda: gateway.channel("late")(Channel),
            "socket('/late')": lambda: gateway.socket("/late"),
            "connect": lambda: gateway.connect(lambda asked: None),
        }
        with pytest.raises(ConfigurationError) as caught:
            calls[call]()
        assert str(caught.value).startswith(f"{call} comes too late")

    def test_it_is_built_once(self, gateway):
        gateway.channel("room")(Channel)
        assert gateway.build() is gateway.build()

    @pytest.mark.parametrize("stopped", [False, True])
    async def test_what_would_reach_nobody_raises_where_the_gateway_does_not_run(
        self, gateway, stopped
    ):
        gateway.channel("room")(Channel)
        gateway.build()
        if stopped:
            await gateway.start()
            assert gateway.uptime_seconds >= 0.0
            await gateway.stop()
        news = ("room", "news", {})
        with pytest.raises(RuntimeError, match="does not run in this process") as caught:
            gateway.broadcast(*news)
        assert "From another process, send a request to a route" in str(caught.value)
        with pytest.raises(RuntimeError, match=r"gateway\.broadcast: "):
            await asyncio.to_thread(gateway.broadcast, *news)
        with pytest.raises(RuntimeError, match=r"gateway\.disconnect: "):
            gateway.disconnect("user:1")
        assert gateway.subscribers("room") == 0

    async def test_a_background_job_may_broadcast_in_its_first_turn(self, gateway, serve):
        told = asyncio.Event()

        async def work():
            gateway.broadcast("room", "news", {})
            told.set()

        gateway.channel("room")(Channel)
        gateway.background("news", work)
        await serve(gateway)
        await asyncio.wait_for(told.wait(), 20)

    async def test_a_goodbye_under_way_is_waited_for(self, gateway, serve, connect):
        gate = asyncio.Event()
        said: list[str] = []

        @gateway.channel("room")
        class Room(Channel):
            async def leave(self, reason):
                await gate.wait()
                said.append(reason)

        running = await serve(gateway)
        client = await connect(running)
        await client.join("room")
        stopping = asyncio.create_task(running.server.stop())
        await client.closed()
        await client.close()
        assert said == []
        gate.set()
        await stopping
        assert said == ["shutdown"]

    async def test_a_goodbye_may_still_broadcast_to_who_is_left(self, gateway, serve, connect):
        @gateway.channel("room")
        class Room(Channel):
            async def leave(self, reason):
                self.broadcast("left", {"why": reason})

        running = await serve(gateway)
        leaver, stayer = await connect(running), await connect(running)
        await leaver.join("room")
        await stayer.join("room")
        await leaver.close()
        await stayer.expect(None, None, "room", "left", {"why": "closed"})

    async def test_disconnect_on_another_thread_says_how_to_call_it(self, gateway):
        await gateway.start()
        with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
            await asyncio.to_thread(gateway.disconnect, "user:1")
        assert gateway.disconnect("user:1") == 0
        await gateway.stop()

    async def test_background_work_runs_from_the_start_to_the_stop(self, gateway):
        states: list[str] = []
        running = asyncio.Event()

        async def work() -> None:
            states.append("started")
            running.set()
            try:
                await asyncio.Event().wait()
            finally:
                states.append("stopped")

        gateway.background("feed", work)
        assert states == []
        await gateway.start()
        await running.wait()
        await gateway.stop()
        assert states == ["started", "stopped"]


class TestHealth:
    """What ``/health`` asks."""

    def test_each_service_has_its_line_and_one_that_cannot_say_is_down(self, gateway):
        def broken() -> ServiceStatus:
            raise ConnectionError("secret detail")

        gateway.service("prices", lambda: ServiceStatus("simulated", {"symbols": 3}))
        gateway.service("store", broken)
        with capture_logs() as logs:
            health = gateway.health()
        assert health == {
            "prices": ServiceStatus("simulated", {"symbols": 3}),
            "store": ServiceStatus("down", {"error": "ConnectionError"}),
        }
        assert [log["service"] for log in logs] == ["store"]

    async def test_a_background_job_that_fails_has_a_line_unless_its_service_speaks_for_it(
        self, gateway
    ):
        failed = asyncio.Event()

        async def work() -> None:
            failed.set()
            raise ConnectionError("no route")

        gateway.background("feed", work)
        gateway.background("prices", work)
        gateway.service("prices", lambda: ServiceStatus("up"))
        await gateway.start()
        await failed.wait()
        await asyncio.sleep(0)
        health = gateway.health()
        await gateway.stop()
        assert health["prices"] == ServiceStatus("up")
        assert health["feed"].status == "degraded"
        assert health["feed"].detail["error"] == "ConnectionError: no route"


DOCUMENT = b"""
asyncapi: 3.0.0
info: {title: Chat, version: 1.0.0}
channels:
  chat:
    address: chat:{room}
    parameters: {room: {description: Which one}}
    messages:
      said:
        name: said
        payload:
          type: object
          required: [text]
          properties: {text: {type: string, maxLength: 10}}
    x-moda: {publish: clients, maxSubscribers: 2}
operations:
  say: {action: receive, channel: {$ref: '#/channels/chat'}}
  hear: {action: send, channel: {$ref: '#/channels/chat'}}
"""


class TestDocument:
    """An AsyncAPI document is the configuration."""

    async def test_a_declared_channel_needs_no_code(self, serve, connect):
        running = await serve(Gateway(asyncapi=DOCUMENT, builtins=False))
        ann, bob, late = [await connect(running) for _ in range(3)]
        await ann.join("chat:a")
        await bob.join("chat:a")
        await ann.send("1", "2", "chat:a", "said", {"text": "hi"})
        await ann.expect("1", "2", "chat:a", "phx_reply", OK)
        await bob.expect(None, None, "chat:a", "said", {"text": "hi"})
        answer = await ann.ask("1", "3", "chat:a", "said", {"text": "far too long"})
        assert (answer["status"], answer["response"]["reason"]) == ("error", "invalid payload")
        assert answer["response"]["path"] == "/text"
        answer = await late.ask("1", "1", "chat:a", "phx_join", {})
        assert answer["response"] == {"reason": "too many subscribers", "limit": 2}

    async def test_a_relay_hands_on_the_text_it_was_sent(self, serve, connect):
        """Decoded and encoded again, the first number was a float and the second lost its zero."""
        running = await serve(Gateway(asyncapi=DOCUMENT, builtins=False))
        ann, bob = await connect(running), await connect(running)
        await ann.join("chat:a")
        await bob.join("chat:a")
        payload = '{"n": 12345678901234567890123, "price":1.10, "text":"h\\u0069"}'
        await ann.write(f'["1","2","chat:a","said",{payload}]')
        assert await bob.read() == f'[null,null,"chat:a","said",{payload}]'

    @pytest.mark.parametrize(
        ("options", "answers"),
        [
            ("publish: clients", "relay"),
            ("publish: clients, history: {size: 5}", "relay"),
            ("publish: clients, delivery: latest, key: /text", "relay"),
            ("publish: clients, rate: 1000/s", "relay"),
        ],
    )
    async def test_a_relay_without_schemas_needs_no_python(
        self, serve, connect, options, answers, monkeypatch
    ):
        """What clients send is handed on by the engine; where payloads are looked at, it is not."""
        delivered: list[str] = []
        deliver = Conversation.deliver

        def noting(self: Conversation, event: str, *given: Any) -> None:
            delivered.append(event)
            deliver(self, event, *given)

        monkeypatch.setattr(Conversation, "deliver", noting)
        free = DOCUMENT.split(b"        payload:")[0] + (
            b"    x-moda: {%s}\noperations:\n"
            b"  say: {action: receive, channel: {$ref: '#/channels/chat'}}\n" % options.encode()
        )
        gateway = Gateway(asyncapi=free, builtins=False)
        running = await serve(gateway)
        heard: list[tuple[str, bytes, bool]] = []
        stop = gateway.hub.listen("chat:a", lambda *given: heard.append(given))
        ann, bob = await connect(running), await connect(running)
        await ann.join("chat:a")
        await bob.join("chat:a")
        assert await ann.ask("1", "2", "chat:a", "said", {"text": "hi"}) == OK
        frame = await bob.receive()
        assert (frame[3], frame[4]) == ("said", {"text": "hi"})
        answer = await ann.ask("1", "3", "chat:a", "sung", {})
        assert answer["response"] == {
            "reason": "unknown event",
            "event": "sung",
            "accepted": ["said"],
        }
        assert [(event, json.loads(data)) for event, data, _ in heard] == [("said", {"text": "hi"})]
        stop()
        await ann.ask("1", "4", "chat:a", "said", {"text": "unheard"})
        assert len(heard) == 1
        assert (delivered == []) == (answers == "relay")

    @pytest.mark.parametrize("schema", [True, False])
    async def test_a_relay_holds_clients_to_the_topics_they_may_publish_to(
        self, serve, connect, schema
    ):
        head = (
            DOCUMENT.split(b"        payload:")[0]
            if not schema
            else DOCUMENT.split(b"    x-moda:")[0]
        )
        gateway = Gateway(asyncapi=head + b"    x-moda: {publish: clients}\n", builtins=False)

        @gateway.connect
        async def admit(connect: Any) -> Principal:
            rules = Rules.from_claims({"publish": ["chat:mine"]})
            return Principal("ann", "jwt", rules=rules)

        running = await serve(gateway)
        ann = await connect(running)
        await ann.join("chat:mine")
        await ann.join("chat:yours", ref="2")
        message = {"text": "hi"}
        assert await ann.ask("1", "3", "chat:mine", "said", message) == OK
        answer = await ann.ask("2", "4", "chat:yours", "said", message)
        assert answer["response"] == {"reason": "unauthorized", "rule": "publish"}

    async def test_a_relay_counts_what_comes_faster_than_it_declares(self, serve, connect):
        free = (
            DOCUMENT.split(b"        payload:")[0] + b"    x-moda: {publish: clients, rate: 2/h}\n"
        )
        running = await serve(Gateway(asyncapi=free, builtins=False))
        ann = await connect(running)
        await ann.join("chat:a")
        answers = [await ann.ask("1", str(n), "chat:a", "said", {}) for n in range(4)]
        limited = {"reason": "rate limited", "limit": "2 in 3600 s"}
        assert answers == [OK, OK, *[{"status": "error", "response": limited}] * 2]
        assert running.stats["rate_limited"] == 2

    @pytest.mark.parametrize("schema", [True, False])
    async def test_no_client_of_a_relay_speaks_for_its_presence(self, serve, connect, schema):
        head, payload = DOCUMENT.split(b"        payload:")
        free = head if not schema else DOCUMENT.split(b"    x-moda:")[0]
        free += b"    x-moda: {publish: clients, presence: list}\n"
        assert payload
        running = await serve(Gateway(asyncapi=free, builtins=False))
        ann, bob = await connect(running), await connect(running)
        await ann.join("chat:a")
        await ann.receive()
        (key,) = (await ann.receive())[4]["joins"]
        await bob.join("chat:a")
        assert list((await bob.receive())[4]) == [key]
        forged = {"joins": {}, "leaves": {key: {"metas": []}}}
        for event in ("presence_diff", "presence_state", "presence_count"):
            await ann.send("1", "9", "chat:a", event, forged)
            while (frame := await ann.receive())[1] != "9":
                assert frame[3] == "presence_diff"
            assert frame[4]["response"] == {"reason": "reserved event", "event": event}

    @pytest.mark.parametrize("event", ["phx_close", "phx_error", "phx_reply"])
    async def test_a_relay_hands_on_no_event_of_the_protocol(self, serve, connect, event):
        """A document without operations lets any event through; this one closed everybody's channel."""
        free = DOCUMENT.split(b"operations:")[0].replace(b"messages:", b"x-messages:")
        running = await serve(Gateway(asyncapi=free, builtins=False))
        ann, bob = await connect(running), await connect(running)
        await ann.join("chat:a")
        await bob.join("chat:a")
        answer = await ann.ask("1", "2", "chat:a", event, {})
        assert answer["response"] == {"reason": "reserved event", "event": event}
        await ann.ask("1", "3", "chat:a", "said", {"text": "hi"})
        await bob.expect(None, None, "chat:a", "said", {"text": "hi"})

    async def test_code_that_registers_the_address_serves_it_under_the_declared_schema(
        self, serve, connect
    ):
        gateway = Gateway(asyncapi=DOCUMENT, builtins=False)

        @gateway.channel("chat:{room}")
        class Chat(Channel):
            async def handle(self, event, payload):
                return Reply("ok", {"heard": payload["text"]})

        client = await connect(await serve(gateway))
        await client.join("chat:a")
        answer = await client.ask("1", "2", "chat:a", "said", {"text": "hi"})
        assert answer == {"status": "ok", "response": {"heard": "hi"}}
        answer = await client.ask("1", "3", "chat:a", "said", {})
        assert answer["response"]["reason"] == "invalid payload"

    @pytest.mark.parametrize("address", ["chart:prices", "telemetry:metrics"])
    async def test_an_address_of_modas_own_is_the_documents_when_the_builtins_are_off(
        self, serve, connect, address
    ):
        document = (
            b"{asyncapi: 3.0.0, info: {title: T, version: '1'}, "
            b"channels: {mine: {address: '%s'}}}" % address.encode()
        )
        client = await connect(await serve(Gateway(asyncapi=document, builtins=False)))
        await client.join(address)

    async def test_the_topic_of_the_connection_cannot_be_joined_beside_a_document_either(
        self, serve, connect
    ):
        client = await connect(await serve(Gateway(asyncapi=DOCUMENT, builtins=False)))
        await client.send("1", "1", "phoenix", "phx_join", {})
        await client.expect(None, "1", "phoenix", "phx_reply", error("unmatched topic"))

    def test_access_by_token_where_no_client_can_show_one_is_said_at_the_start(self):
        policy = b"x-moda: {access: token}"
        document = DOCUMENT.replace(b"x-moda: {publish: clients, maxSubscribers: 2}", policy)
        with capture_logs() as logs:
            Gateway(asyncapi=document, builtins=False).build()
        (warning,) = [log["warning"] for log in logs if log["event"] == "policy.not_kept"]
        assert "every join will be answered unauthorized; set MODA_SOCKET_AUTH" in warning

    def test_a_durable_history_without_a_database_is_refused_at_the_start(self):
        policy = b"x-moda: {history: {size: 5, durable: true}}"
        document = DOCUMENT.replace(b"x-moda: {publish: clients, maxSubscribers: 2}", policy)
        with pytest.raises(ConfigurationError, match=r"chat:\{room\}.*declares a durable history"):
            Gateway(asyncapi=document, builtins=False).build()

    @pytest.mark.parametrize("way", ["tokens", "hook"])
    def test_access_by_token_is_no_warning_where_a_client_can_show_one(self, way):
        policy = b"x-moda: {access: token}"
        document = DOCUMENT.replace(b"x-moda: {publish: clients, maxSubscribers: 2}", policy)
        gateway = Gateway(asyncapi=document, builtins=False)
        if way == "hook":
            gateway.connect(lambda asked: None)
        else:
            gateway.configure(sockets=MountOptions(tokens=TokenRule.of("optional", ["secret"])))
        with capture_logs() as logs:
            gateway.build()
        assert logs == []

    async def test_a_gateway_without_builtins_serves_none_of_them(self, serve, connect):
        client = await connect(await serve(Gateway(builtins=False)))
        for topic in ("telemetry:metrics", "chart:prices"):
            await client.send("1", "1", topic, "phx_join", {})
            await client.expect(None, "1", topic, "phx_reply", error("unmatched topic"))


async def test_assigns_are_shared_by_the_channels_of_one_connection_alone(gateway, serve, connect):
    @gateway.connect
    def admit(asked):
        return Socket(id="user:1")

    @gateway.channel("room:{name}")
    class Room(Channel):
        async def handle(self, event, payload):
            seen = self.socket.assigns.setdefault("topics", [])
            seen.append(self.topic)
            return Reply("ok", list(seen))

    running = await serve(gateway)
    ann, bob = await connect(running), await connect(running)
    for client in (ann, bob):
        await client.join("room:a", ref="1")
        await client.join("room:b", ref="2")
        await client.ask("1", "3", "room:a", "e", {})
        answer = await client.ask("2", "4", "room:b", "e", {})
        assert answer["response"] == ["room:a", "room:b"]
