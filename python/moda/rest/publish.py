"""Publishing for other services: the whole of a request at once, and the same request only once.

All messages of durable topics of one request are one append to the log, and so lie in one commit:
they get through together or fail together. The others are out at once, in the request's order. A
request is carried through although its client has gone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Final

from moda._core import topic_facts
from moda.durable import Prepared
from moda.errors import Busy, KeyReused, NoSpace, StoreError
from moda.hub import Hub
from moda.message import Position
from moda.ports import MAX_TOPIC_BYTES, Key
from moda.principal import Principal
from moda.rest.batch import Batch, Sendable
from moda.rest.model import Failed, Published, shown
from moda.rest.once import Entry, Once, log_key

__all__ = ["Publisher", "unavailable"]

ANSWER_SECONDS: Final = 15.0
"""How long a caller waits for a commit. What is not known then is carried on and answered as
unavailable: whoever sent a key may ask again and learns what became of it."""


def unavailable(error: StoreError, so: str = "nothing was published") -> Failed:
    """What a caller is told of a database that does not answer, and what follows; nothing of the
    driver's words.
    """
    if isinstance(error, NoSpace):
        why = "the disk of the database is full"
    elif isinstance(error, Busy):
        why = "more waits to be written than may"
    else:
        why = "the database is away or does not answer in time"
    return Failed("unavailable", f"{why}; {so}", retry_after=max(error.retry_after, 0.1))


class Publisher:
    """Publishes requests on a hub. ``counters`` are its totals by outcome."""

    def __init__(self, hub: Hub, once: Once | None = None) -> None:
        self._hub = hub
        self._once = once or Once()
        self._running: set[asyncio.Task[None]] = set()
        self._outcomes = dict.fromkeys(("published", "refused", "unavailable"), 0.0)
        self._repeats = 0

    def counters(self) -> dict[str, float | dict[str, float]]:
        """Messages by outcome, and requests that came again with their key."""
        return {"messages": self._outcomes, "repeats": self._repeats}

    async def publish(
        self, batch: Batch, body: bytes, principal: Principal, key: str | None
    ) -> list[Published | Failed]:
        """One result per message, durable ones after their commit. KeyReused for the key of another
        request; a key is its principal's own.
        """
        if key is None:
            entry = Entry(b"", len(batch.messages), 0.0)
            return await self._carried(entry, batch, principal, None)
        once = log_key(f"{principal.kind}:{principal.id}", key, hashlib.sha256(body).digest())
        entry, known = self._once.claim(once.key, once.digest, len(batch.messages))
        self._repeats += known
        try:
            return await self._carried(entry, batch, principal, once)
        except KeyReused:
            self._once.drop(once.key)
            raise

    async def _carried(
        self, entry: Entry, batch: Batch, principal: Principal, once: Key | None
    ) -> list[Published | Failed]:
        """Tries what is open of a request, or waits for who tries it already."""
        task = entry.running
        if (task is None or task.done()) and (numbers := entry.open()):
            task = asyncio.get_running_loop().create_task(
                self._attempt(entry, batch, numbers, principal, once)
            )
            entry.running = task
            self._running.add(task)  # the loop holds tasks weakly
            task.add_done_callback(self._running.discard)
        if task is not None:
            done, _ = await asyncio.wait({task}, timeout=ANSWER_SECONDS)
            if done:
                task.result()
        late = Failed(
            "unavailable",
            "the database has not answered yet, so this may still be published; the same "
            "Idempotency-Key asks again",
            retry_after=1.0,
        )
        return [late if result is None else result for result in entry.results]

    async def _attempt(
        self,
        entry: Entry,
        batch: Batch,
        numbers: Sequence[int],
        principal: Principal,
        once: Key | None,
    ) -> None:
        results = entry.results
        open_: list[tuple[int, Prepared]] = []
        unfit: dict[str, Failed | None] = {}
        for number in numbers:
            taken = self._prepared(batch.messages[number], principal, unfit)
            if isinstance(taken, Failed):
                self._settle(results, number, taken)
            else:
                open_.append((number, taken))
        if once is not None:
            open_ = await self._unwritten(results, open_, once)
        positions, pending = self._hub.publish_batch([message for _, message in open_], once)
        waiting = []
        for (number, _), position, durable in zip(
            open_, positions, self._durable(open_), strict=True
        ):
            if durable:
                waiting.append(number)
                if results[number] is not None:
                    results[number] = None  # an earlier attempt's failure
            else:
                self._settle(results, number, _published(position))
        if pending is None:
            return
        try:
            told = await pending
        except StoreError as error:
            for number in waiting:
                self._settle(results, number, unavailable(error))
        else:
            for number, position in zip(waiting, told, strict=True):
                self._settle(results, number, _published(position))

    async def _unwritten(
        self,
        results: list[Published | Failed | None],
        open_: list[tuple[int, Prepared]],
        once: Key,
    ) -> list[tuple[int, Prepared]]:
        """Without the messages that an earlier request with this key has written, in this process
        or in one before it; without all durable ones while the log cannot tell.
        """
        log = self._hub.durable
        flags = self._durable(open_)
        durable = [one for one, flag in zip(open_, flags, strict=True) if flag]
        if log is None or not durable:
            return open_
        try:
            known = await log.written([message[0] for _, message in durable], once)
        except StoreError as error:
            for number, _ in durable:
                self._settle(results, number, unavailable(error))
        else:
            if known is None:
                return open_
            for (number, _), position in zip(durable, known, strict=True):
                results[number] = _published(position)
        return [one for one, flag in zip(open_, flags, strict=True) if not flag]

    def _durable(self, messages: Sequence[tuple[int, Prepared]]) -> list[bool]:
        if self._hub.durable is None:
            return [False] * len(messages)
        route = self._hub.core.durable_route
        # By topic: a batch names few.
        durable = {topic: route(topic) is not None for topic in {one[0] for _, one in messages}}
        return [durable[message[0]] for _, message in messages]

    def _prepared(
        self, message: Sendable | Failed, principal: Principal, unfit: dict[str, Failed | None]
    ) -> Prepared | Failed:
        """What the hub takes, or why not; ``unfit`` remembers what was found of a topic."""
        if isinstance(message, Failed):
            return message
        topic = message.topic
        if topic not in unfit:
            unfit[topic] = self._unfit(topic, principal)
        refusal = unfit[topic]
        if refusal is not None:
            return refusal
        return topic, message.event, message.data, message.binary, message.key

    def _unfit(self, topic: str, principal: Principal) -> Failed | None:
        core = self._hub.core
        if topic_facts(core, topic) is None:
            return Failed("unmatched_topic", "nothing here serves this topic", shown(topic))
        if not principal.may_publish(topic):
            return Failed("forbidden", "this credential may not publish to the topic", shown(topic))
        size = len(topic.encode())
        if size > MAX_TOPIC_BYTES and core.durable_route(topic) is not None:
            return Failed(
                "invalid_topic",
                f"a durable topic's name has at most {MAX_TOPIC_BYTES} bytes",
                size,
            )
        return None

    def _settle(
        self,
        results: list[Published | Failed | None],
        number: int,
        result: Published | Failed,
    ) -> None:
        results[number] = result
        failed = "unavailable" if isinstance(result, Failed) and result.passing else "refused"
        self._outcomes["published" if isinstance(result, Published) else failed] += 1


def _published(position: Position | None) -> Published:
    return Published(None, None) if position is None else Published(*position)
