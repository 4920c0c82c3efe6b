"""What the OpenAPI document says of requests whose bodies are read here and not by the framework."""

# No postponed annotations: the framework reads them.

from dataclasses import dataclass
from typing import Any

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Example,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    Reference,
    RequestBody,
    Schema,
)

from moda.rest.batch import MAX_MESSAGES, MAX_NAME
from moda.rest.model import (
    Disconnected,
    HistoryPage,
    Published,
    TopicPage,
    TopicPresence,
    TopicState,
)

__all__ = [
    "ANSWERS",
    "DisconnectOperation",
    "PublishOperation",
    "Refusal",
    "RefusalError",
    "refusals",
]

EPOCH = 1764200000000000


@dataclass(frozen=True, slots=True)
class RefusalError:
    """``code`` is for programs and stays, ``message`` is for people. ``received`` and ``accepted``
    where they help.
    """

    status: int
    code: str
    message: str
    request_id: str
    received: Any = None
    accepted: Any = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was refused whole."""

    error: RefusalError


@dataclass(frozen=True, slots=True)
class MessageResult:
    """Where one message of a batch stands in its topic's log (both null on a topic without one), or
    why it was not published; ``retry_after`` in seconds where it is worth another try.
    """

    epoch: int | None = None
    offset: int | None = None
    code: str | None = None
    message: str | None = None
    received: Any = None
    accepted: Any = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """One result per message, in their order."""

    results: list[MessageResult]


def refusals(*statuses: int) -> dict[int, ResponseSpec]:
    """The answers of refused requests, by status."""
    return {
        status: ResponseSpec(Refusal, description=_WHY[status], generate_examples=False)
        for status in statuses
    }


_WHY = {
    400: "The request is wrong; `code` says in what",
    401: "It wants a key, or another one",
    403: "This caller may not",
    404: "Nothing serves the topic, or it keeps no history",
    409: "The Idempotency-Key came before with another request",
    413: "The body is too large",
    421: "The gateway is not known under the name in the Host header",
    503: "The database is away; Retry-After says when to try again",
}


def _answer(kind: Any, description: str, **examples: Any) -> ResponseSpec:
    return ResponseSpec(
        kind,
        description=description,
        generate_examples=False,
        examples=[
            Example(summary=name.replace("_", " "), value=value) for name, value in examples.items()
        ],
    )


_STATE = {
    "topic": "room:1",
    "subscribers": {"phoenix/2": 2, "json": 1},
    "published": 41,
    "epoch": EPOCH,
    "offset": 41,
}
ANSWERS = {
    "publish": _answer(
        Published | BatchAnswer,
        "Where each message stands in its topic's log",
        one_message={"epoch": EPOCH, "offset": 42},
        a_batch={
            "results": [
                {"epoch": EPOCH, "offset": 42},
                {
                    "code": "unmatched_topic",
                    "message": "nothing here serves this topic",
                    "received": "rom:1",
                },
            ]
        },
    ),
    "topics": _answer(
        TopicPage,
        "A page of topics",
        a_page={"topics": [_STATE], "next": "room:1", "complete": True},
    ),
    "topic": _answer(TopicState, "The topic", a_topic=_STATE),
    "presence": _answer(
        TopicPresence,
        "Who is present",
        two_tabs_of_one_user={
            "topic": "room:1",
            "count": 2,
            "presences": {"ada": {"metas": [{"phx_ref": "F1.1"}, {"phx_ref": "F1.2"}]}},
        },
    ),
    "history": _answer(
        HistoryPage,
        "A page of messages, oldest first",
        a_page={
            "topic": "room:1",
            "epoch": EPOCH,
            "offset": 41,
            "first": 1,
            "messages": [
                {"offset": 41, "time": EPOCH // 1000, "event": "said", "payload": {"text": "hello"}}
            ],
            "next": None,
            "gap": None,
        },
    ),
    "disconnect": _answer(Disconnected, "How many connections were closed", some={"closed": 2}),
}


def _name(description: str) -> Schema:
    return Schema(
        type=OpenAPIType.STRING, min_length=1, max_length=MAX_NAME, description=description
    )


_MESSAGE = Schema(
    type=OpenAPIType.OBJECT,
    title="Message",
    required=["topic", "event"],
    additional_properties=False,
    properties={
        "topic": _name("At most 1,024 bytes; 255 for a durable or binary one"),
        "event": _name("Not one of Phoenix's own (phx_reply)"),
        "payload": Schema(
            one_of=[Schema(type=OpenAPIType.OBJECT), Schema(type=OpenAPIType.STRING)],
            description="An object, or with `encoding` the bytes of a binary payload; {} if absent",
        ),
        "key": Schema(
            type=[OpenAPIType.STRING, OpenAPIType.NULL],
            max_length=MAX_NAME,
            description="What a `latest` topic keeps the newest message by",
        ),
        "encoding": Schema(
            type=[OpenAPIType.STRING, OpenAPIType.NULL],
            enum=["base64", None],
            description="Says that `payload` is binary",
        ),
    },
)
_BATCH = Schema(
    type=OpenAPIType.OBJECT,
    title="Batch",
    required=["messages"],
    properties={
        "messages": Schema(
            type=OpenAPIType.ARRAY, items=_MESSAGE, min_items=1, max_items=MAX_MESSAGES
        )
    },
)
_SAID = {"topic": "room:1", "event": "said", "payload": {"text": "hello"}}


def _body(schema: Schema, **examples: Any) -> RequestBody:
    shown: dict[str, Example | Reference] = {
        name: Example(summary=name.replace("_", " "), value=value)
        for name, value in examples.items()
    }
    return RequestBody(
        required=True,
        content={"application/json": OpenAPIMediaType(schema=schema, examples=shown)},
    )


@dataclass
class PublishOperation(Operation):
    """The operation with its body."""

    def __post_init__(self) -> None:
        self.request_body = _body(
            Schema(any_of=[_MESSAGE, _BATCH]),
            one_message=_SAID,
            a_batch={"messages": [_SAID, {"topic": "price", "event": "tick", "key": "BTC"}]},
        )


@dataclass
class DisconnectOperation(Operation):
    """The operation with its body."""

    def __post_init__(self) -> None:
        schema = Schema(
            type=OpenAPIType.OBJECT,
            required=["id"],
            additional_properties=False,
            properties={"id": _name("Of Socket(id=...)")},
        )
        self.request_body = _body(schema, a_user={"id": "user:1"})
