"""What an application says about its socket mounts, and what the operator's settings make of it.

An application that declares a socket for its connect hook has said nothing about limits or origins.
What it left out is therefore kept as left out, and taken from the settings when the gateway is
built: a default written down here would outrank the operator without anybody having decided that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from moda.app.arguments import MOST, is_number, is_whole
from moda.errors import ConfigurationError
from moda.wire.handshake import HandshakeOptions
from moda.wire.origin import OriginRule
from moda.wire.phoenix import ConnectHook, MountOptions, SocketDialect

__all__ = ["SocketRules", "declared_socket"]

_VARIABLE = re.compile(r"\{[a-z_][a-z0-9_]*\}")


@dataclass(frozen=True, slots=True)
class SocketRules:
    """One mount as declared. None is what the application left to the operator."""

    path: str
    max_channels: int | None = None
    max_message_bytes: int | None = None
    idle_seconds: float | None = None
    ping_seconds: float | None = None
    origins: OriginRule | None = None
    auth_token: bool = True
    subprotocols: tuple[str, ...] = ()
    connect: ConnectHook | None = None
    dialect: SocketDialect = "phoenix"

    def options(self, operator: MountOptions, hosts: Iterable[str]) -> MountOptions:
        """The mount's rules: the application's, the operator's where it said nothing.

        ``hosts`` are the public names of this gateway. They count as "same" for an application's
        own rule too: which name a proxy hides is not the application's to know. Who must show a
        token is the operator's alone, on every mount.
        """
        origins = operator.handshake.origins  # which has the hosts already
        if self.origins is not None:
            origins = self.origins.with_hosts(hosts)
        limits = {
            name: value
            for name in ("max_channels", "max_message_bytes", "idle_seconds", "ping_seconds")
            if (value := getattr(self, name)) is not None
        }
        made = replace(
            operator,
            path=self.path,
            dialect=self.dialect,
            handshake=HandshakeOptions(
                origins=origins,
                auth_token=self.auth_token,
                subprotocols=self.subprotocols,
                versioned=self.dialect == "phoenix",
            ),
            connect=self.connect or operator.connect,
            **limits,
        )
        if 0 < made.idle_seconds <= made.ping_seconds:
            raise ConfigurationError(
                f"socket({self.path!r}) takes pings before a client counts as idle, got a ping after "
                f"{made.ping_seconds:g} s and an end after {made.idle_seconds:g} s of silence"
            )
        return made


def declared_socket(
    path: Any,
    *,
    connect: Any,
    max_channels: Any,
    max_message_bytes: Any,
    idle_seconds: Any,
    ping_seconds: Any,
    origins: Any,
    auth_token: bool,
    subprotocols: Any,
    dialect: Any = "phoenix",
) -> SocketRules:
    """Checks what ``gateway.socket`` was given. ConfigurationError says what, got and takes."""
    if not isinstance(path, str) or not path.startswith("/") or path.rstrip("/") == "":
        raise ConfigurationError(f"a socket's path starts with / and names something, got {path!r}")
    call = f"socket({path!r})"
    if re.search(r"[{}]", _VARIABLE.sub("", path)):
        raise ConfigurationError(
            f"{call} has a brace that belongs to no variable; takes {{name}} of lower case letters, "
            "digits and _"
        )
    if dialect not in get_args(SocketDialect):
        takes = " or ".join(get_args(SocketDialect))
        raise ConfigurationError(f"{call} takes dialect {takes}, got {dialect!r}")
    if dialect == "sse":
        unused = {
            "max_message_bytes": max_message_bytes is not None,
            "idle_seconds": idle_seconds is not None,
            "ping_seconds": ping_seconds is not None,
            "subprotocols": bool(subprotocols),
        }
        given = next((name for name, is_given in unused.items() if is_given), None)
        if given is not None:
            raise ConfigurationError(
                f"{call} takes no {given}: clients of an event stream only listen"
            )
    names = _VARIABLE.findall(path)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigurationError(f"{call} names {twice} twice, takes each variable once")
    if connect is not None and not callable(connect):
        raise ConfigurationError(
            f"{call} takes connect as a function or a coroutine function, got {connect!r}"
        )
    _whole(call, "max_channels", max_channels)
    _whole(call, "max_message_bytes", max_message_bytes)
    for name, seconds in (("idle_seconds", idle_seconds), ("ping_seconds", ping_seconds)):
        if seconds is not None and not (is_number(seconds) and 0 <= seconds <= MOST):
            raise ConfigurationError(f"{call} takes {name} from 0 to {MOST}, got {seconds!r}")
    if isinstance(subprotocols, str) or not isinstance(subprotocols, Sequence):
        raise ConfigurationError(
            f"{call} takes subprotocols as a list of names, got {subprotocols!r}"
        )
    return SocketRules(
        path.rstrip("/"),
        max_channels,
        max_message_bytes,
        idle_seconds,
        ping_seconds,
        None if origins is None else OriginRule.parse(origins),
        auth_token,
        tuple(subprotocols),
        connect,
        dialect,
    )


def _whole(call: str, name: str, value: Any) -> None:
    if value is not None and not is_whole(value, 1, MOST):
        raise ConfigurationError(
            f"{call} takes {name} from 1 to {MOST}, a whole number, got {value!r}"
        )
