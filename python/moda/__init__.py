"""moda: a real-time gateway in one process on one port.

The names an application needs, and no more:

    from moda import Channel, Gateway, Reject, Reply

    gateway = Gateway()

    @gateway.channel("room:{room}")
    class Room(Channel):
        async def handle(self, event, payload):
            self.broadcast(event, payload)

Run it with ``moda serve module:gateway``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moda.channel import Channel, Connect, JoinRequest, Socket, Stream
from moda.errors import ConfigurationError, ModaError, PresenceError, Refuse, Reject
from moda.message import History, Kept, Position, Raw, Reply, ServiceStatus, Stop

if TYPE_CHECKING:
    from moda.app.gateway import Gateway

__version__ = "0.1.0"

__all__ = [
    "Channel",
    "ConfigurationError",
    "Connect",
    "Gateway",
    "History",
    "JoinRequest",
    "Kept",
    "ModaError",
    "Position",
    "PresenceError",
    "Raw",
    "Refuse",
    "Reject",
    "Reply",
    "ServiceStatus",
    "Socket",
    "Stop",
    "Stream",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # The gateway brings the whole house with it; what only needs Channel must not wait for that.
    if name == "Gateway":
        from moda.app.gateway import Gateway

        return Gateway
    raise AttributeError(f"module 'moda' has no attribute {name!r}")
