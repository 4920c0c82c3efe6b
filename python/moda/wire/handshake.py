"""The Phoenix handshake: from the head of a request to a protocol version, or to a refusal.

Pure: an :class:`~moda.upgrade.Upgrade` in, a :class:`Negotiated` or a
:class:`~moda.upgrade.Refused` out. The order of the checks is part of the protocol and is that of
:func:`negotiate` from top to bottom (wire notes 2.1): method, query, origin, auth token,
subprotocol, version. What comes after is the driver's: the application's ``connect``, then, last of
all, the upgrade headers (the door does that; so ``connect`` runs even for a plain GET).

Where we differ from the reference, always on input that it answers with 500: a broken
percent-escape, bytes that are not UTF-8 and an auth token that is no base64 are the client's
mistake and get 400 with a sentence. An auth token in the URL-safe alphabet, which the prefix
``base64url`` promises and the reference does not read, is accepted beside the standard one.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from moda.upgrade import Refused, Upgrade, bad_request
from moda.wire.origin import SAME_HOST, OriginRule, shown_origin
from moda.wire.query import QueryError, parse_query

__all__ = [
    "TOKEN_PREFIX",
    "HandshakeOptions",
    "Negotiated",
    "Version",
    "decode_token",
    "negotiate",
    "stranger",
]

Version = Literal[1, 2]
"""1: JSON objects, no binary (Phoenix 1.0.0). 2: JSON arrays and binary frames (2.0.0)."""

TOKEN_PREFIX = "base64url.bearer.phx."  # noqa: S105  # the mark in front of one
_NUMBER = r"(?:0|[1-9][0-9]*)"
_PRE_PART = rf"(?:{_NUMBER}|[0-9]*[A-Za-z\-][0-9A-Za-z\-]*)"
_SEMVER = re.compile(
    rf"(?P<major>{_NUMBER})\.(?P<minor>{_NUMBER})\.(?P<patch>{_NUMBER})"
    rf"(?:-(?P<pre>{_PRE_PART}(?:\.{_PRE_PART})*))?(?:\+[0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*)?",
    re.ASCII,
)

_SHORT_VERSION = re.compile(r"[0-9]{1,2}(?:\.[0-9]{1,2}){0,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class HandshakeOptions:
    """What one mount asks of a handshake.

    ``auth_token`` reads a token from the subprotocol header as the stock client's ``authToken``
    option sends it. It is on by default: off, a browser that sends one is answered without a
    subprotocol and fails the connection itself. ``subprotocols`` are the names this mount speaks,
    in order of preference; empty means the header is not looked at (but for ``auth_token``).
    ``versioned`` is for Phoenix mounts alone: their clients say which serializer they speak.
    """

    origins: OriginRule = SAME_HOST
    auth_token: bool = True
    subprotocols: tuple[str, ...] = ()
    versioned: bool = True


@dataclass(slots=True)
class Negotiated:
    """What the client asked for. ``protocol`` is to be echoed as ``Sec-WebSocket-Protocol``, if not
    None.

    ``params`` is the query's tree with the path's variables over it; ``token`` the subprotocol's.
    ``repr`` shows neither.
    """

    vsn: Version
    params: Mapping[str, Any] = field(repr=False)
    token: str | None = field(default=None, repr=False)
    protocol: str | None = None


def negotiate(upgrade: Upgrade, options: HandshakeOptions) -> Negotiated | Refused:
    """Decides a handshake by its head alone. Never raises on anything a client can send."""
    if upgrade.method != "GET":
        return Refused(400, reason="method")
    try:
        params = parse_query(upgrade.query)
    except QueryError as error:
        return bad_request(str(error), "query")
    refused = stranger(upgrade, options.origins)
    if refused is not None:
        return refused
    offered = _offered(upgrade)
    if isinstance(offered, Refused):
        return offered
    token: str | None = None
    spoken = options.subprotocols
    if offered and options.auth_token:
        spoken = ("phoenix", *spoken)
        tokens = [entry for entry in offered if entry.startswith(TOKEN_PREFIX)]
        offered = [entry for entry in offered if not entry.startswith(TOKEN_PREFIX)]
        # Two tokens cannot both be meant: neither is used, as in the reference.
        if len(tokens) == 1:
            decoded = decode_token(tokens[0][len(TOKEN_PREFIX) :])
            if decoded is None:
                return bad_request(
                    "the auth token in 'sec-websocket-protocol' is not base64", "auth_token"
                )
            token = decoded
    protocol: str | None = None
    if offered and spoken:
        protocol = next((name for name in spoken if name in offered), None)
        if protocol is None:
            hint = {"got": _shown_names(offered), "accepted": ", ".join(spoken)}
            return Refused(403, reason="subprotocol", hint=hint)
    if not options.versioned:
        params.update(upgrade.variables)
        return Negotiated(2, params, token, protocol)
    asked = params.get("vsn", "1.0.0")
    vsn = _version(asked)
    if vsn is None:
        hint = {"got": _shown_version(asked), "accepted": "1.0.x and 2.0.x"}
        return Refused(403, reason="vsn", hint=hint)
    params.update(upgrade.variables)
    return Negotiated(vsn, params, token, protocol)


def stranger(upgrade: Upgrade, rule: OriginRule) -> Refused | None:
    """Refuses a page of another site. A request may carry one Origin; one that carries more is judged
    by the worst of them.
    """
    origins = upgrade.header_values(b"origin") if rule.checked else []
    if not origins:
        return None
    host = upgrade.header(b"host")
    host_text = None if host is None else host.decode("latin-1")
    loopback = rule.believes_host and upgrade.on_loopback
    for value in origins:
        origin = value.decode("latin-1")
        if not rule.admits(origin, host_text, loopback):
            hint = {
                "got": shown_origin(origin),
                "accepted": rule.accepted(host_text, loopback),
                "setting": "MODA_ORIGINS, MODA_PUBLIC_URL, PHX_HOST, or origins= of gateway.socket",
            }
            return Refused(403, reason="origin", hint=hint)
    return None


def _offered(upgrade: Upgrade) -> list[str] | Refused:
    """The subprotocols the client offers, over all its headers, in its order."""
    entries: list[str] = []
    for value in upgrade.header_values(b"sec-websocket-protocol"):
        try:
            text = value.decode("ascii")
        except UnicodeDecodeError:
            return bad_request(
                "'sec-websocket-protocol' has bytes that are not ASCII", "subprotocol"
            )
        entries.extend(entry for entry in (part.strip() for part in text.split(",")) if entry)
    return entries


def _shown_names(offered: list[str]) -> str:
    """Subprotocols for the log, by their number and lengths: a browser can send a header in no other
    way, so pages put credentials there (``new WebSocket(url, [token])``).
    """
    sizes = ", ".join(str(len(name)) for name in offered[:4])
    more = ", ..." if len(offered) > 4 else ""
    return f"{len(offered)} of {sizes}{more} characters, not shown"


def _shown_version(vsn: Any) -> str:
    """A version for the log: three short numbers as they are, anything else by what it is."""
    if isinstance(vsn, str) and _SHORT_VERSION.fullmatch(vsn):
        return f"vsn={vsn}"
    kind = f"{len(vsn)} characters" if isinstance(vsn, str) else f"a {type(vsn).__name__}"
    return f"a vsn that is no version ({kind}, not shown)"


def decode_token(encoded: str) -> str | None:
    """The token, or None if it is no base64. Padding and either alphabet are accepted.

    The stock client encodes with ``btoa``, whose input is Latin-1; other clients send UTF-8. Bytes
    that are valid UTF-8 are read as that.
    """
    standard = encoded.rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    try:
        raw = b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _version(vsn: Any) -> Version | None:
    """``~> 2.0.0`` is 2, ``~> 1.0.0`` is 1, all else None: strict semantic versioning, no leading
    zeros.

    A pre-release sorts before its release, so ``2.0.0-rc.1`` is not yet ``2.0.0`` and is refused.

    >>> [_version(vsn) for vsn in ("2.0.7", "1.0.0", "2.1.0", "02.0.0", ["2.0.0"])]
    [2, 1, None, None, None]
    """
    if vsn == "2.0.0":  # what every client of today sends
        return 2
    match = _SEMVER.fullmatch(vsn) if isinstance(vsn, str) else None
    if match is None or match["minor"] != "0" or (match["patch"] == "0" and match["pre"]):
        return None
    if match["major"] == "2":
        return 2
    return 1 if match["major"] == "1" else None
