"""moda's own document as this server serves it: under its own address, with the channels it has."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

from moda.asyncapi import rewrite
from moda.asyncapi.document import OWN, parse
from moda.asyncapi.model import Document
from moda.asyncapi.source import read
from moda.errors import ConfigurationError

PLACEHOLDER = "gateway"
"""The server of ``moda.asyncapi.yaml`` that the configured ones take the place of."""

EVERY_INTERFACE = ("", "0.0.0.0", "::", "[::]")  # noqa: S104 (compared with, never bound)


@dataclass(frozen=True, slots=True)
class Server:
    """One socket mount as clients reach it.

    ``path`` is the mount (``/socket``); the document says ``/socket/websocket``. A ``host`` that
    means every interface is written ``localhost``, since no client can connect to it. ``auth`` is
    whether a token is needed: "required" adds the security scheme to the server. ``heartbeat_ms``
    is what clients are advised and ``idle_seconds`` the silence that closes them; given, the
    description says both.
    """

    host: str = "localhost"
    port: int = 4001
    secure: bool = False
    path: str = "/socket"
    name: str = PLACEHOLDER
    auth: Literal["off", "optional", "required"] = "off"
    heartbeat_ms: int | None = None
    idle_seconds: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65_535:
            raise ConfigurationError(f"a server's port received {self.port}; accepted: 1 to 65535")
        if not self.path.startswith("/"):
            raise ConfigurationError(
                f"a server's path received {self.path!r}; accepted: /socket or the like"
            )

    def described(self) -> dict[str, Any]:
        """The AsyncAPI Server Object."""
        host = "localhost" if self.host in EVERY_INTERFACE else self.host
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        # As variables, which a client generated from the document may be given other values for.
        server: dict[str, Any] = {
            "host": "{domain}:{port}",
            "variables": {
                "domain": {"default": host, "description": "Host name, set with PHX_HOST."},
                "port": {"default": str(self.port), "description": "Port, set with PORT."},
            },
            "pathname": f"{self.path.rstrip('/')}/websocket",
            "protocol": "wss" if self.secure else "ws",
            "title": "Phoenix WebSocket",
        }
        said = []
        if self.heartbeat_ms is not None:
            said.append(f"Send a heartbeat every {self.heartbeat_ms / 1000:g} s.")
            server["x-heartbeat-interval-ms"] = self.heartbeat_ms
        if self.idle_seconds is not None:
            said.append(f"{self.idle_seconds:g} s without a byte close the connection with 1002.")
        if said:
            server["description"] = " ".join(said)
        if self.auth == "required":
            server["security"] = [{"$ref": "#/components/securitySchemes/socketToken"}]
        return server


def own(
    servers: Sequence[Server] = (),
    without: Collection[str] = (),
    interval_ms: int | None = None,
) -> Document:
    """moda's own document.

    ``servers`` are the configured socket mounts (none: the document's default, ``localhost:4001``),
    with names of their own. ``without`` names addresses that this server does not serve, such as
    ``chart:prices`` with the market switched off; what only they used goes with them.
    ``interval_ms`` is the configured pace of telemetry: what a join gets that asks for none.
    ConfigurationError for two servers of one name, or an address that is not moda's.
    """
    name, root = read(OWN)
    known = [channel["address"] for channel in root["channels"].values()]
    for address in without:
        if address not in known:
            raise ConfigurationError(f"without received {address!r}; accepted: {', '.join(known)}")
    root = rewrite.without(root, without)
    if interval_ms is not None and "telemetryMetrics" in root["channels"]:
        root = deepcopy(root)
        schemas, messages = root["components"]["schemas"], root["components"]["messages"]
        schemas["telemetryJoinPayload"]["properties"]["interval_ms"]["default"] = interval_ms
        reply = messages["telemetryJoinReply"]["examples"][0]["payload"]
        reply["response"]["interval_ms"] = interval_ms
    if servers:
        names = [server.name for server in servers]
        if len(set(names)) != len(names):
            raise ConfigurationError(
                f"servers received the names {', '.join(names)}; accepted: each name once"
            )
        root = deepcopy(root)
        root["servers"] = {server.name: server.described() for server in servers}
        for channel in root["channels"].values():
            channel["servers"] = [{"$ref": f"#/servers/{name}"} for name in names]
    return parse(root, name)
