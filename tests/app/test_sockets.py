"""Socket mounts as an application declares them, and what the operator's settings make of them."""

from __future__ import annotations

from typing import Any

import pytest

from moda import (
    ConfigurationError,
    Gateway,
    Refuse,
)
from moda.hub import Hub
from moda.wire.handshake import HandshakeOptions
from moda.wire.origin import OriginRule
from moda.wire.phoenix import Mount, MountOptions
from moda.wire.token import TokenRule


def built(gateway: Gateway) -> dict[str, Mount]:
    """The mounts of a gateway by the paths they were declared with."""
    return {mount.options.path: mount for mount in gateway.build()}


class TestSocket:
    """``gateway.socket(path, ...)`` and ``@gateway.connect``."""

    @pytest.mark.parametrize("path", ["", "/", "socket", "//"])
    def test_a_path_begins_with_a_slash_and_names_something(self, gateway, path):
        with pytest.raises(ConfigurationError, match="starts with / and names something"):
            gateway.socket(path)

    @pytest.mark.parametrize(
        ("path", "says"),
        [
            ("/a/{b", "a brace that belongs to no variable"),
            ("/a/b}", "a brace that belongs to no variable"),
            ("/a/{B}", "a brace that belongs to no variable"),
            ("/{a}/{a}", "names {a} twice"),
        ],
    )
    def test_a_path_whose_variables_are_none_is_refused(self, gateway, path, says):
        with pytest.raises(ConfigurationError, match=says):
            gateway.socket(path)

    @pytest.mark.parametrize("option", ["connect", "subprotocols"])
    def test_an_option_of_the_wrong_kind_is_named(self, gateway, option):
        with pytest.raises(ConfigurationError, match=rf"socket\('/a'\) takes {option} as .*'b'"):
            gateway.socket("/a", **{option: "b"})

    def test_a_trailing_slash_changes_nothing(self, gateway):
        gateway.socket("/admin/")
        gateway.socket("/admin", max_channels=3)
        mounts = built(gateway)
        assert mounts["/admin"].path == "/admin/websocket"
        assert {path: mount.options.max_channels for path, mount in mounts.items()} == {
            "/socket": 100,
            "/ws": 100,
            "/sse": 100,
            "/admin": 3,
        }

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("max_channels", 0),
            ("max_message_bytes", 0),
            ("max_message_bytes", 1 << 31),
            ("idle_seconds", -1),
            ("idle_seconds", float("inf")),
            ("idle_seconds", float("nan")),
            ("idle_seconds", "x"),
            ("ping_seconds", -1),
            ("ping_seconds", float("inf")),
            ("max_channels", 1.5),
            ("max_message_bytes", "1M"),
        ],
    )
    def test_a_bound_out_of_range_is_named(self, gateway, option, value):
        got = f"takes {option} from [01] to .*got {value!r}"
        with pytest.raises(ConfigurationError, match=got):
            gateway.socket("/socket", **{option: value})

    def test_a_mount_may_ping_on_its_own_terms(self, gateway):
        gateway.socket("/listening", ping_seconds=20)
        mounts = built(gateway)
        assert mounts["/socket"].options.ping_seconds == 0
        assert mounts["/listening"].options.ping_seconds == 20

    def test_a_ping_after_a_client_counts_as_idle_is_refused_with_both_times(self, gateway):
        gateway.socket("/socket", idle_seconds=10, ping_seconds=10)
        with pytest.raises(ConfigurationError, match=r"after 10 s and an end after 10 s"):
            gateway.build()

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("idle_seconds", 5),
            ("ping_seconds", 5),
            ("max_message_bytes", 100),
            ("subprotocols", ["a"]),
        ],
    )
    def test_what_a_stream_has_no_use_for_is_refused(self, gateway, option, value):
        says = rf"socket\('/feed'\) takes no {option}: clients of an event stream only listen"
        with pytest.raises(ConfigurationError, match=says):
            gateway.socket("/feed", dialect="sse", **{option: value})

    @pytest.mark.parametrize("origins", ["", [], "nonsense", ["any", "same"]])
    def test_origins_that_are_none_are_refused(self, gateway, origins):
        with pytest.raises(ConfigurationError):
            gateway.socket("/socket", origins=origins)

    def test_a_hook_survives_a_later_call_about_the_same_socket(self, gateway):
        @gateway.connect
        def admit(asked):
            raise Refuse

        gateway.socket("/socket", idle_seconds=5)
        mount = built(gateway)["/socket"]
        assert mount.options.connect is admit
        assert mount.options.idle_seconds == 5

    def test_a_hook_given_later_replaces_the_one_before(self, gateway):
        gateway.connect(lambda asked: 1)

        def second(asked: Any) -> int:
            return 2

        gateway.socket("/socket", connect=second)
        mount = built(gateway)["/socket"]
        assert mount.options.connect is second


class TestConfigure:
    """The operator's settings, where the application said nothing."""

    OPERATORS = MountOptions(
        "/elsewhere", max_channels=7, tokens=TokenRule.of("required", ["secret"])
    )

    def test_an_application_that_said_nothing_gets_all_of_them_on_its_own_path(self, gateway):
        hub = Hub()
        gateway.configure(hub, self.OPERATORS)
        mount = built(gateway)["/socket"]
        assert gateway.hub is hub
        assert (mount.path, mount.options.max_channels) == ("/socket/websocket", 7)

    def test_a_connect_hook_is_no_reason_to_lose_the_rest(self, gateway):
        @gateway.connect
        def admit(asked):
            return None

        gateway.configure(sockets=self.OPERATORS)
        mount = built(gateway)["/socket"]
        assert (mount.options.connect, mount.options.max_channels) == (admit, 7)

    def test_a_socket_the_application_declared_keeps_its_rules_but_not_the_right_to_skip_tokens(
        self, gateway
    ):
        gateway.socket("/socket", max_channels=3)
        gateway.socket("/admin", max_channels=4)
        gateway.configure(sockets=self.OPERATORS)
        mounts = built(gateway)
        assert [mounts[path].options.max_channels for path in ("/socket", "/admin")] == [3, 4]
        assert {mount.options.tokens.mode for mount in mounts.values()} == {"required"}

    def test_what_a_declared_socket_left_open_is_the_operators_on_every_mount(self, gateway):
        gateway.socket(connect=lambda asked: None)
        gateway.socket("/admin", idle_seconds=9)
        origins = OriginRule.parse("https://ops.example.com")
        gateway.configure(
            sockets=MountOptions(
                max_channels=7,
                max_message_bytes=2048,
                idle_seconds=5,
                handshake=HandshakeOptions(origins=origins),
            )
        )
        mounts = built(gateway)
        default, json, admin = (mounts[path].options for path in ("/socket", "/ws", "/admin"))
        for options in (default, json, admin):
            assert (options.max_channels, options.max_message_bytes) == (7, 2048)
            assert options.handshake.origins == origins
        assert (default.idle_seconds, json.idle_seconds, admin.idle_seconds) == (5, 5, 9)

    def test_pages_of_the_public_name_count_as_the_same_host_on_a_declared_socket(self, gateway):
        gateway.socket("/live", origins=["same", "https://partner.example"])
        gateway.socket("/closed", origins=["https://partner.example"])
        gateway.configure(sockets=MountOptions(), hosts=["pub.example.com"])
        mounts = built(gateway)
        live, closed = (mounts[path].options.handshake.origins for path in ("/live", "/closed"))
        assert live.admits("https://pub.example.com", "moda.internal")
        assert live.admits("https://partner.example", "moda.internal")
        assert not closed.admits("https://pub.example.com", "moda.internal")
