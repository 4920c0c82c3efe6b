"""Which topic and event a stack works for: read from the frames, so that no message pays for a mark."""

from __future__ import annotations

from types import FrameType
from typing import Any, Final

from moda.channel import Channel, JoinRequest
from moda.wire.conversation import Conversation

__all__ = ["working"]

DEEPEST: Final = 200
"""Frames looked at. An application may recurse as deep as it likes."""

MAX_EVENT: Final = 120
"""Characters of an event, which a client names."""

# The conversation's own steps that run an application's code, and the event a client knows them by.
_STEPS: Final = {"_join": "phx_join", "_goodbye": "phx_leave"}


def working(frame: FrameType | None) -> dict[str, Any]:
    """``topic``, ``event_name`` and ``callback`` of the channel a stack works for; {} for none.

    ``frame`` is the innermost one. ``callback`` is the outermost method of the application's channel.
    """
    found: dict[str, Any] = {}
    for _ in range(DEEPEST):
        if frame is None:
            break
        values = frame.f_locals
        owner, request = values.get("self"), values.get("request")
        if isinstance(owner, Channel):
            found["callback"] = frame.f_code.co_qualname
            found["topic"] = owner.topic
        elif isinstance(owner, Conversation):
            found["topic"] = owner.channel.topic
            event = values.get("event", _STEPS.get(frame.f_code.co_name))
            if isinstance(event, str):
                found["event_name"] = event[:MAX_EVENT]
        elif isinstance(request, JoinRequest):
            found.setdefault("callback", frame.f_code.co_qualname)
            found["topic"], found["event_name"] = request.topic, "phx_join"
        frame = frame.f_back
    return found
