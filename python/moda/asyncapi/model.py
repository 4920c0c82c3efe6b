"""A document as moda understands it: channels, their events, who sends which, and the policies.

The viewpoint is the server's: ``receive`` is what clients send. Everything here is frozen; the tree
a document came from is kept beside it, because what is served is the tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from moda.asyncapi.address import Address
from moda.asyncapi.policy import Policy
from moda.asyncapi.rewrite import Tree

Action = Literal["send", "receive"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a channel.

    ``event`` is the Phoenix event it travels as: its name, or its key in the channel.
    ``payload`` is the pointer of its schema, None when nothing is said about it. ``binary`` is true
    of every content type that is not JSON: such a payload travels as a binary frame. ``headers``
    are the pointers of what is said about its headers, by itself and by its traits.
    """

    id: str
    event: str
    pointer: str
    payload: str | None
    content_type: str
    binary: bool
    body: Mapping[str, Any]
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Channel:
    """One declared channel. ``inbound`` is what clients send to it, ``outbound`` what they receive.

    ``directed`` is false when no operation speaks of the channel: then nothing is known about who
    sends what, and both hold every message.
    """

    id: str
    pointer: str
    address: Address
    messages: Mapping[str, Message]
    inbound: tuple[Message, ...]
    outbound: tuple[Message, ...]
    directed: bool
    policy: Policy
    rules: Mapping[str, Mapping[str, Any]]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, from the server's side."""

    id: str
    action: Action
    channel: str
    messages: tuple[str, ...]
    reply_channel: str | None
    replies: tuple[str, ...]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Document:
    """A checked document.

    ``root`` is the tree it came from, corrected and in the server's view: read, never changed.
    ``warnings`` say what was changed or ignored, in sentences for a log.
    """

    source: str
    root: Tree
    channels: tuple[Channel, ...]
    operations: tuple[Operation, ...]
    warnings: tuple[str, ...]
