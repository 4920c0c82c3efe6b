"""moda's own document under the address and with the channels of this server."""

from __future__ import annotations

from typing import Any

import pytest

from moda.asyncapi import Server, Site, merge, own
from moda.errors import ConfigurationError

from .support import document, room


def test_without_arguments_the_document_has_the_default_address() -> None:
    assert own().root["servers"] == {
        "gateway": {
            "host": "{domain}:{port}",
            "variables": {
                "domain": {"default": "localhost", "description": "Host name, set with PHX_HOST."},
                "port": {"default": "4001", "description": "Port, set with PORT."},
            },
            "pathname": "/socket/websocket",
            "protocol": "ws",
            "title": "Phoenix WebSocket",
        }
    }
    assert own([Server()]).root["servers"] == own().root["servers"]


@pytest.mark.parametrize(
    ("server", "host", "path", "protocol"),
    [
        (Server("moda.example.com", 443, True), "moda.example.com:443", "/socket/websocket", "wss"),
        (Server("0.0.0.0", 5000), "localhost:5000", "/socket/websocket", "ws"),
        (Server("::", 5000), "localhost:5000", "/socket/websocket", "ws"),
        (Server("::1", 5000), "[::1]:5000", "/socket/websocket", "ws"),
        (Server(path="/live/"), "localhost:4001", "/live/websocket", "ws"),
        (Server(path="/"), "localhost:4001", "/websocket", "ws"),
    ],
)
def test_a_server_says_where_clients_reach_it(
    server: Server, host: str, path: str, protocol: str
) -> None:
    found = server.described()
    values = {name: variable["default"] for name, variable in found["variables"].items()}
    said = found["host"].format(**values)
    assert (said, found["pathname"], found["protocol"]) == (host, path, protocol)


def test_every_socket_mount_is_a_server_and_every_own_channel_is_on_all_of_them() -> None:
    root = own([Server(), Server(name="admin", path="/admin")]).root
    assert list(root["servers"]) == ["gateway", "admin"]
    for channel in root["channels"].values():
        assert channel["servers"] == [{"$ref": "#/servers/gateway"}, {"$ref": "#/servers/admin"}]


@pytest.mark.parametrize(
    ("auth", "needed"), [("off", False), ("optional", False), ("required", True)]
)
def test_a_token_is_asked_for_in_the_document_only_where_it_is_needed(
    auth: Any, needed: bool
) -> None:
    server = own([Server(auth=auth)]).root["servers"]["gateway"]
    assert ("security" in server) is needed


def test_the_page_shows_an_address_that_can_be_copied() -> None:
    page = Site(own([Server("moda.example.com", 443, True)])).answer("/asyncapi")
    assert page is not None
    assert b"wss://moda.example.com:443/socket/websocket" in page.body


def test_the_channels_of_a_part_that_is_off_are_not_declared() -> None:
    found = own(without=["chart:prices"])
    assert [channel.id for channel in found.channels] == ["telemetryMetrics", "phoenix"]


def test_a_users_servers_stand_beside_modas() -> None:
    tree = room(servers={"gateway": {"host": "chat.example.com", "protocol": "wss"}})
    root = merge(own(), document(tree)).root
    assert root["servers"]["gateway"]["host"] == "chat.example.com"
    assert root["servers"]["moda_gateway"]["host"] == "{domain}:{port}"
    assert root["channels"]["chartPrices"]["servers"] == [{"$ref": "#/servers/moda_gateway"}]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"without": ["chart:price"]}, "accepted: telemetry:metrics, chart:prices, phoenix"),
        ({"servers": [Server(), Server(port=5000)]}, "each name once"),
    ],
)
def test_what_the_document_does_not_have_cannot_be_configured(
    arguments: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        own(**arguments)


@pytest.mark.parametrize("arguments", [{"port": 0}, {"port": 70_000}, {"path": "socket"}])
def test_a_server_that_cannot_be_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="accepted"):
        Server(**arguments)
