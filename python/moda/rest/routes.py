"""The HTTP face of publishing and of topics. What a request means is decided in ``publish`` and
``topics``; here it is read, let in or not, and answered.

A request is let in by its head alone, before any of its body is read. The body is bounded by the
framework as it arrives.
"""

# No postponed annotations here: Litestar reads those of the handlers, which name local types.

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, cast
from urllib.parse import unquote_to_bytes

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.connection import ASGIConnection
from litestar.enums import MediaType
from litestar.handlers import BaseRouteHandler
from litestar.params import HeaderParameter, PathParameter, QueryParameter

from moda.errors import KeyReused, StoreError
from moda.principal import ANONYMOUS, Principal
from moda.rest.batch import MAX_NAME, read_batch
from moda.rest.document import ANSWERS, DisconnectOperation, PublishOperation, refusals
from moda.rest.model import Disconnect, Disconnected, Failed, Problem, Published, Results, shown
from moda.rest.once import MAX_KEY
from moda.rest.publish import Publisher, unavailable
from moda.rest.topics import MAX_NUMBER, MAX_PAGE, Start, Topics, read_position

__all__ = ["MAX_BODY", "Authorize", "Need", "routes"]

MAX_BODY = 8 << 20
"""Bytes of one request's body."""

Need = Literal["read", "publish", "admin"]

Authorize = Callable[[Mapping[str, Any], Need], Problem | None]
"""Asked with a request's ASGI scope and the scope it needs; None lets it in."""

AnyRequest = Request[Any, Any, Any]
TopicInPath = Annotated[str, PathParameter(description="Percent-encoded UTF-8")]

_STATUS = {"unavailable": 503, "forbidden": 403, "unmatched_topic": 404, "payload_too_large": 413}
"""Of one message that is refused alone; 400 for the others."""

_encode = msgspec.json.Encoder().encode
_disconnect = msgspec.json.Decoder(Disconnect)


def routes(
    prefix: str,
    *,
    publisher: Publisher,
    topics: Topics,
    disconnect: Callable[[str], int],
    authorize: Authorize,
    max_payload: int,
) -> Router:
    """The handlers below ``prefix``. ``max_payload`` bounds one message's payload in bytes."""

    async def guard(
        connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
    ) -> None:
        # Async although it waits for nothing: a plain function would be run in a thread.
        refusal = authorize(connection.scope, handler.opt["need"])
        if refusal is not None:
            raise refusal

    @post(
        "/publish",
        status_code=200,
        opt={"need": "publish"},
        request_max_body_size=MAX_BODY,
        operation_class=PublishOperation,
        summary="Publish one message or a batch",
        description=(
            "A batch has a result for each message, in their order. A message for a durable topic is "
            "answered once the database has committed it; all those of one request share a commit. "
            "The same request with the same `Idempotency-Key` gets the same answer and publishes "
            "nothing twice: durable topics for a day, others for ten minutes within one process."
        ),
        responses={200: ANSWERS["publish"], **refusals(400, 401, 403, 404, 409, 413, 421, 503)},
    )
    async def publish(
        request: AnyRequest,
        idempotency_key: Annotated[
            str | None,
            HeaderParameter(
                name="Idempotency-Key", description="1 to 255 printable ASCII characters"
            ),
        ] = None,
    ) -> Response[Any]:
        key = read_key(idempotency_key)
        body = await request.body()
        batch = read_batch(body, max_payload)
        try:
            results = await publisher.publish(batch, body, principal_of(request), key)
        except KeyReused as error:
            raise Problem(
                409, "key_reused", str(error), accepted="a new key, or the same body"
            ) from None
        if not batch.single:
            return answer(Results(results))
        if isinstance(results[0], Published):
            return answer(results[0])
        raise whole(results[0])

    @get(
        "/topics",
        opt={"need": "read"},
        summary="The topics of this node",
        description=(
            "Topics somebody is on, that keep history, or that lie in the database. A page may hold "
            "less than its limit: topics that the credential may not hear are left out."
        ),
        responses={200: ANSWERS["topics"], **refusals(400, 401, 403, 421)},
    )
    async def list_topics(
        request: AnyRequest,
        pattern: Annotated[
            str,
            QueryParameter(
                max_length=MAX_NAME, description="A name, or the beginning of one and `*`"
            ),
        ] = "*",
        after: Annotated[
            str, QueryParameter(max_length=MAX_NAME, description="`next` of the page before")
        ] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=MAX_PAGE)] = 100,
    ) -> Response[Any]:
        page = await topics.page(text(pattern), text(after), limit)
        may_hear = principal_of(request).may_subscribe
        seen = [state for state in page.topics if may_hear(state.topic)]
        return answer(msgspec.structs.replace(page, topics=seen))

    @get(
        "/topics/{topic:str}",
        opt={"need": "read"},
        summary="One topic",
        description="A `/` in a topic's name is written `%2F`.",
        responses={200: ANSWERS["topic"], **refusals(400, 401, 403, 404, 421)},
    )
    async def one_topic(request: AnyRequest, topic: TopicInPath) -> Response[Any]:
        return answer(await topics.state(readable(request)))

    @get(
        "/topics/{topic:str}/presence",
        opt={"need": "read"},
        summary="Who is present on a topic",
        description="Of this node. Nobody is on a topic that is declared without presence.",
        responses={200: ANSWERS["presence"], **refusals(400, 401, 403, 404, 421)},
    )
    async def presence(request: AnyRequest, topic: TopicInPath) -> Response[Any]:
        return answer(topics.presence(readable(request)))

    @get(
        "/topics/{topic:str}/history",
        opt={"need": "read"},
        summary="What a topic keeps",
        description=(
            "Where to begin is said by one of `since`, `since_time` and `last`; without any, with "
            "the oldest message that is kept."
        ),
        responses={200: ANSWERS["history"], **refusals(400, 401, 403, 404, 421, 503)},
    )
    async def history(
        request: AnyRequest,
        topic: TopicInPath,
        since: Annotated[
            str | None, QueryParameter(description="`epoch.offset`: the messages behind it")
        ] = None,
        since_time: Annotated[
            int | None,
            QueryParameter(ge=0, le=MAX_NUMBER, description="Milliseconds since 1970, and later"),
        ] = None,
        last: Annotated[
            int | None, QueryParameter(ge=1, le=MAX_NUMBER, description="The newest so many")
        ] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=MAX_PAGE)] = 100,
    ) -> Response[Any]:
        given = [
            name
            for name, value in (("since", since), ("since_time", since_time), ("last", last))
            if value is not None
        ]
        if len(given) > 1:
            raise Problem(
                400,
                "invalid_since",
                "a page begins in one place",
                received=given,
                accepted=["since", "since_time", "last"],
            )
        start = Start(None if since is None else read_position(since), since_time, last)
        try:
            return answer(await topics.history(readable(request), start, limit))
        except StoreError as error:
            raise whole(unavailable(error, "the history cannot be read")) from None

    @post(
        "/disconnect",
        status_code=200,
        opt={"need": "admin"},
        request_max_body_size=1 << 16,
        operation_class=DisconnectOperation,
        summary="Close the connections of one id",
        description="Every connection whose connect hook gave it this id is closed with 1001.",
        responses={200: ANSWERS["disconnect"], **refusals(400, 401, 403, 413, 421)},
    )
    async def disconnect_id(request: AnyRequest) -> Response[Any]:
        try:
            asked = _disconnect.decode(await request.body())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Problem(
                400, "invalid_message", shown(str(error)), accepted=[{"id": "user:1"}]
            ) from None
        return answer(Disconnected(disconnect(asked.id)))

    return Router(
        prefix,
        route_handlers=[publish, list_topics, one_topic, presence, history, disconnect_id],
        guards=[guard],
        tags=["topics"],
    )


def answer(value: Any) -> Response[bytes]:
    """200 with a value as JSON."""
    return Response(
        _encode(value), media_type=MediaType.JSON, headers={"cache-control": "no-store"}
    )


def whole(failed: Failed) -> Problem:
    """The failure of a request's only message, as the failure of the request."""
    headers = {}
    if isinstance(failed.retry_after, float):
        headers["retry-after"] = str(math.ceil(failed.retry_after))
    return Problem(
        _STATUS.get(failed.code, 400),
        failed.code,
        failed.message,
        received=failed.received,
        accepted=failed.accepted,
        headers=headers,
    )


def read_key(key: str | None) -> str | None:
    """An Idempotency-Key that can be kept. Problem (400) for others."""
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY or not all("!" <= one <= "~" for one in key):
        raise Problem(
            400,
            "invalid_idempotency_key",
            f"an Idempotency-Key has 1 to {MAX_KEY} printable ASCII characters and no blank",
            received=f"{len(key)} characters",
        )
    return key


def principal_of(request: AnyRequest) -> Principal:
    """Who asks, as whoever stands before these routes has found out."""
    return cast(Principal, request.scope.get("moda.principal", ANONYMOUS))


def readable(request: AnyRequest) -> str:
    """The topic of a request. Problem 403 where its principal may not hear it."""
    topic = topic_of(request)
    if not principal_of(request).may_subscribe(topic):
        raise Problem(
            403, "forbidden", "this credential may not read the topic", received=shown(topic)
        )
    return topic


def topic_of(request: AnyRequest) -> str:
    """The topic in a path as its bytes say: decoded once, a ``%2F`` in it no separator."""
    raw = bytes(request.scope.get("raw_path") or request.scope["path"].encode())
    rest = raw.partition(b"/topics/")[2]
    try:
        return text(unquote_to_bytes(rest.partition(b"/")[0]).decode())
    except UnicodeDecodeError:
        raise Problem(400, "invalid_topic", "a topic in a path is percent-encoded UTF-8") from None


def text(value: str) -> str:
    """A text that is UTF-8. Problem (400) for one that is not."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Problem(400, "invalid_topic", "a topic's name is UTF-8") from None
    return value
