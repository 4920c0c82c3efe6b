"""The engine (Rust, see rust/). This stub is its manual; ``mypy.stubtest`` holds it against the module.

Everything here belongs to the thread of one event loop. Calls that find nobody (a channel that has
ended, a connection that is gone) answer False or do nothing: that is normal, not an error.
"""

from collections.abc import Callable, Sequence
from typing import Any, final

__version__: str

@final
class Hub:
    """Connections, topics, subscriptions, and the Phoenix conversation on each connection.

    ``epoch`` names this life of all offsets. ``outbox_bytes`` may wait for one connection whose
    topic delivers ``every`` (1 MiB), ``outbox_burst`` for one that took some of it within
    ``stall_ms``; over it the connection is closed with 1013. What waits for all connections may take
    ``outboxes_bytes`` of memory (256 MiB); over it those who are owed most are closed with 1013. ``log_bytes`` may be
    published before the loop's turn ends (64 MiB); over it a publish serves its subscribers itself.
    It also bounds what is kept of all ``latest`` topics for those who lag behind; over it those who
    need the most are closed with 1013. ``history_bytes`` may be kept of all topics together (256 MiB,
    counting 128 bytes per message and 1 KiB per topic beside names and payloads); over it the topics
    published to longest ago give their oldest messages.
    ``slice_us`` is how long one slice of fan-out keeps the loop. ``close_grace_ms`` is how long a
    client may take to answer a close before it is cut.

    ``inbox_bytes`` may wait inward for one connection: joins that are undecided, messages that wait
    for a join or for :meth:`taken`, each with 256 bytes beside its event, payload and ref (8 MiB).
    ``inbox_total`` is the same for all connections (256 MiB), of which one may hold as much as is
    still free; ``inbox_messages`` of one channel. What does not fit is refused with ``busy`` before
    it is copied.
    """

    def __new__(
        cls,
        *,
        epoch: int,
        outbox_bytes: int = ...,
        outbox_burst: int = 0,
        stall_ms: int = ...,
        outboxes_bytes: int = ...,
        log_bytes: int = ...,
        history_bytes: int = ...,
        slice_us: int = 2000,
        close_grace_ms: int = 5000,
        inbox_messages: int = 1000,
        inbox_bytes: int = ...,
        inbox_total: int = ...,
    ) -> Hub: ...

    # -- set-up

    def attach(
        self,
        call_soon: Callable[..., object],
        joins: Callable[..., object | None],
        complaints: Callable[[int, int, str], object],
        call_later: Callable[..., object] | None = None,
        pace: Callable[[], object] | None = None,
        wants: Callable[[int, str, int], object] | None = None,
        heard: Callable[[str, str, bytes, bool], object] | None = None,
    ) -> None:
        """Binds to a loop. When joins begin to wait, ``pace`` is called through ``call_soon``: it calls
        :meth:`start_joins` until that answers False (None starts them all at once).
        ``joins(sub, conn, route, socket, topic, params, payload, binary)`` starts a join's decision
        and returns what receives the channel's messages (``deliver``, ``outgoing``, ``leaving``,
        ``ended``) or None. Of a stream it is only told ``ended``, and let go by :meth:`join_ok`.
        Before that nothing is delivered to either.
        ``complaints(conn, code, reason)`` hears of bad clients.
        ``call_later(seconds, callback)`` times unanswered closes and what native handlers have to do
        at a time; without it :meth:`cut_overdue` and :meth:`wake` are the caller's to call.
        ``wants(sub, topic, after)`` asks for what follows that offset in the store; :meth:`fetched`
        answers. ``heard(topic, event, payload, binary)`` is told what native handlers publish to topics
        that are watched."""
    def detach(self) -> bool:
        """Forgets the loop; nothing is flushed any more. False when not attached."""
    def mount(
        self,
        *,
        path: str,
        max_channels: int,
        max_message: int,
        idle_ms: int,
        ping_ms: int = 0,
        sign_ms: int = 0,
    ) -> int:
        """Adds a socket mount and returns its number. ``path`` names it in :meth:`stats`; ``idle_ms`` 0
        never closes for silence. A client silent for ``ping_ms`` is sent a ping (0: never); where
        silence closes nobody, one that does not answer is closed after as long again. Every
        ``sign_ms`` a client that only listens is sent a sign of life, where its protocol has one (0:
        never)."""
    def route(
        self,
        *,
        stream: bool,
        delivery: str,
        history_size: int = 0,
        history_ttl_ms: int = 0,
        history_bytes: int = ...,
        intercept: Sequence[str] = ...,
        durable: bool = False,
        key: str | None = None,
        handlers: Sequence[tuple[str, str]] = ...,
    ) -> int:
        """Adds a route. The history of a ``durable`` one is the newest part of a log in a store.
        ``delivery`` is every, latest or drop (ValueError otherwise);
        ``key`` is a JSON pointer (ValueError for text that is none) to what ``latest`` conflates by;
        ``history_bytes`` bounds one topic's ring (16 MiB: events, payloads, 128 bytes per message).
        ``handlers`` are native ones by name, with their options as a JSON object, asked in this order
        before Python is: ``presence`` takes ``{"mode": "list"}`` or ``"count"``, ``relay`` ``rate``,
        ``events`` and ``reserved``."""
    def codec(self, name: str) -> int:
        """The number of a way to write, such as ``phoenix/2``, for :meth:`open`. ValueError names all."""
    def expose(self, mount: int, pattern: str, route: int) -> None:
        """Makes a route reachable on a mount. ValueError says what is wrong with the pattern."""
    def withdraw(self, mount: int) -> None:
        """Makes all routes of a mount unreachable for joins to come; who is joined stays."""

    # -- connections, called by the session

    def open(
        self,
        mount: int,
        codec: int,
        fd: int | None,
        transport: Any,
        socket: Any,
        socket_id: str | None = None,
        held: bool = False,
    ) -> int:
        """Adds a connection. ``fd`` None writes through the transport (TLS); ``held`` waits for
        :meth:`resume`. The transport's protocol is told ``hold()`` when its client joins faster than
        that is decided: it is to be read no further for a while."""
    def lost(self, conn: int) -> None:
        """The connection is gone. Must be called before its descriptor is closed."""
    def resume(self, conn: int) -> None:
        """The transport's write buffer is empty again."""
    def feed(self, conn: int, data: bytes) -> int | None:
        """Bytes of a connection, as tests send them; the session uses the capsule ``_C_API``. Returns
        how many more the frame begun takes, None when no more is to be read of this connection."""
    def frame(self, conn: int, op: int, fin: bool, payload: bytes) -> None:
        """One websocket frame, as tests send it."""
    def message(self, conn: int, text: bool, message: bytes) -> None:
        """One whole message of a client whose transport is no WebSocket. Nothing on a connection that
        closes."""
    def flush(self) -> None:
        """Sends what is queued, one slice; asks the loop for another turn when more is left."""
    def wake(self) -> None:
        """Lets native handlers go on whose time has come; what ``call_later`` is given."""
    def sweep(self) -> None:
        """Closes silent connections and readers that have stopped, and sends the pings that are due."""
    def cut_overdue(self) -> None:
        """Cuts connections whose close was not answered in time."""

    # -- decisions, called by conversations

    def start_joins(self, most: int = ...) -> bool:
        """Calls ``joins`` for at most so many of the joins that wait, in turn over all connections.
        True when there are more."""
    def taken(self, sub: int, size: int) -> None:
        """A message is being handled, or was dropped: it waits no longer. ``size`` is what
        ``deliver(event, payload, binary, ref, size)`` was given."""
    def join_ok(self, sub: int, response: bytes, binary: bool) -> bool:
        """Accepts a join. ValueError when a binary response does not fit its frame."""
    def reseat(self, sub: int, address: str) -> bool:
        """Moves a join under way to a lane; False when it is gone or served already."""
    def join_error(self, sub: int, response: bytes) -> bool: ...
    def reply(
        self, sub: int, reference: str | None, status: str, response: bytes, binary: bool
    ) -> bool:
        """Answers a message. ValueError when a binary reply does not fit its frame."""
    def push(self, sub: int, event: str, payload: bytes, binary: bool) -> bool:
        """Sends one event to one client. ValueError when a binary push does not fit its frame."""
    def finish_leave(self, sub: int, reference: str) -> None: ...
    def end(self, sub: int, crash: bool) -> bool:
        """Ends a channel from the server's side: phx_close, or phx_error for a crash."""

    # -- presence: None when done (or the subscription has ended), otherwise why not, in a word:
    # already_tracked, nopresence, no_object (the meta), undeclared (no such handler on its route)

    def track(self, sub: int, key: str, meta: bytes) -> str | None:
        """Makes a subscription present under a key. ``meta`` is a JSON object without ``phx_ref``."""
    def update(self, sub: int, key: str, meta: bytes) -> str | None: ...
    def untrack(self, sub: int, key: str) -> str | None: ...
    def presence(self, topic: str) -> bytes | None:
        """Who is present, as JSON: ``{"count": n, "presences": {key: {"metas": [..]}}}``. None for a
        topic that nobody has joined, or without presence."""

    # -- everybody

    def permit(self, sub: int, publish: bool) -> None:
        """Whether a subscription may publish where the engine relays what clients do; it may at first."""
    def watch(self, topic: str, on: bool) -> None:
        """Whether ``heard`` is told what native handlers publish to a topic."""

    def publish(
        self,
        topic: str,
        event: str,
        payload: bytes,
        binary: bool = False,
        key: str | None = None,
        exclude: int = 0,
        at: tuple[int, int] | None = None,
    ) -> tuple[tuple[int, int] | None, list[Any] | None]:
        """Queues a broadcast; returns its (epoch, offset) where the topic keeps a log, and the handles
        of channels that intercept the event. ``at`` is where a store has put it, on a durable topic."""
    def durable_route(self, topic: str) -> int | None:
        """The number of a topic's route, if that is durable."""
    def open_log(self, topic: str, epoch: int, offset: int, floor: int) -> None:
        """Says where a durable topic stands in the store, which has the offsets from ``floor`` on. For
        a topic somebody is joining; nothing happens for others."""
    def fetched(self, sub: int, epoch: int, first: int, sizes: bytes, data: bytes) -> None:
        """Answers ``wants``: records one after the other from offset ``first`` on, their lengths as
        little-endian 32 bits. ValueError for bytes that are no records."""
    def unfetched(self, sub: int) -> None:
        """Answers ``wants`` when the store cannot be read: the subscription ends as crashed."""
    def disconnect(self, socket_id: str) -> int: ...
    def close(self, conn: int, code: int, reason: str) -> None: ...
    def close_some(self, most: int, code: int, reason: str) -> int: ...

    # -- questions

    def connections(self) -> int: ...
    def subscribers(self, topic: str) -> int:
        """How many are subscribed to a topic, in whatever lane of it they sit."""
    def seated(self, address: str) -> int:
        """How many sit in one lane; a topic's own name is its default lane."""
    def pending(self) -> bool:
        """Whether anything is queued that a flush would send."""
    def position(self, topic: str) -> tuple[int, int] | None:
        """(epoch, newest offset) of a topic with history, None without. Whether somebody published to
        it or not."""
    def recover(
        self, topic: str, epoch: int, offset: int
    ) -> list[tuple[int, str, bytes, bool]] | None:
        """What was published after an offset, as (offset, event, payload, binary); None is a gap."""
    def history(self, topic: str) -> list[tuple[int, str, bytes, bool]]:
        """Everything that is kept of a topic, oldest first; empty without history."""
    def stats(self) -> dict[str, Any]:
        """Totals since the start unless said otherwise.

        Now: connections, channels, topics, inbox_bytes, outbox_bytes (queued, a broadcast counted for
        each reader), outboxes_bytes (memory, a broadcast counted once), history_bytes, latest_bytes.
        Totals: opened, closed, messages_in, bytes_in, messages_out, bytes_out, published, deliveries,
        sends, short_sends, slow_closed, budget_closed (those of them for the
        budget of all), pings, handler_crashes, rate_limited (by relays), conflated, dropped,
        unencodable, history_shed, joins,
        joins_refused, leaves, heartbeats, stale, unmatched, to_stream, oversized, too_deep. By label:
        undecodable, violations, inbox_refused (reason: channel, connection, process, joins),
        closes (code). Now, by the
        mount's path: mounts, the connections open. Histogram of seconds from publish to last
        send: fanout_bounds, fanout_buckets (each on its own), fanout_sum, fanout_count.
        """

class PanicException(BaseException):
    """What the engine raises when it panicked: its state of one call is lost, the process goes on."""

@final
class RequestHead:
    """The head of a request: header names lower case, values stripped, order kept.

    ``version`` is 1.0 or 1.1. ``key`` is the Sec-WebSocket-Key of a WebSocket upgrade with nothing
    wrong or unusual about it (RFC 6455 section 4.2.1); None says no more than that somebody should
    look.
    """

    method: str
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    key: bytes | None

def read_head(raw: bytes) -> RequestHead:
    """Reads a head to its blank line. ValueError if it is none, has bytes behind it, or more than 256
    header lines."""

# The codecs as functions; refs and topics are JSON text, payloads JSON bytes. ValueError carries the
# reason's label.

def decode_text(frame: bytes) -> tuple[str, str, str | None, str, str, bytes, bool]:
    """(join_ref, ref, topic or None, topic as JSON, event, payload, binary)."""

def decode_v1(frame: bytes) -> tuple[str, str, str | None, str, str, bytes, bool]: ...
def decode_binary(frame: bytes) -> tuple[str, str, str | None, str, str, bytes, bool]: ...
def encode_text_push(join_ref: str, topic: str, event: str, payload: bytes) -> bytes: ...
def encode_text_reply(
    join_ref: str, reference: str, topic_json: str, status: str, response: bytes
) -> bytes: ...
def encode_text_broadcast(topic: str, event: str, payload: bytes) -> bytes: ...
def encode_v1_broadcast(topic: str, event: str, payload: bytes) -> bytes: ...
def encode_v1_reply(reference: str, topic_json: str, status: str, response: bytes) -> bytes: ...
def encode_binary_push(join_ref: str, topic: str, event: str, data: bytes) -> bytes: ...
def encode_binary_reply(
    join_ref: str, reference: str, topic: str, status: str, data: bytes
) -> bytes: ...
def encode_binary_broadcast(topic: str, event: str, data: bytes) -> bytes: ...
def read_varuint(data: bytes) -> tuple[int, int]:
    """(value, bytes taken) of a lib0 varUint."""

def write_varuint(value: int) -> bytes: ...
def unwrap_combined(frame: bytes) -> tuple[str, bytes, str | None, int | None]:
    """(kind, data, symbol, event time in ms) of an upstream frame; kind is the event's type, answer or refusal."""

@final
class Guard:
    """Ends the process by its deadline and at a second signal, whatever holds the interpreter.

    Its descriptor is for ``signal.set_wakeup_fd``; a thread of its own reads it without the GIL and
    passes every number on to the descriptor ``forward`` (the loop's own; -1 for none), which it
    duplicates. A signal of ``leave`` asks to leave within ``deadline_ms``. Another one is haste,
    unless it is the same again within ``echo_ms``. Then, and when the time is over, :meth:`wait` says
    the exit code; if the process still stands ``grace_ms`` later, the thread ends it. OSError when
    there is no descriptor or thread left.
    """

    def __new__(
        cls,
        *,
        leave: Sequence[int],
        forward: int,
        deadline_ms: int,
        echo_ms: int,
        grace_ms: int,
    ) -> Guard: ...
    def fileno(self) -> int: ...
    def wait(self) -> int | None:
        """Waits, without the GIL, for an exit code: 1 when the time is over, 128 and the signal's number
        for haste."""

_C_API: Any

def write_record(event: str, payload: bytes, binary: bool) -> bytes:
    """One message as it lies in a store."""

def read_record(record: bytes) -> tuple[str, bytes, bool]:
    """(event, payload, binary) of a record. ValueError for bytes that are none."""

# Questions about topics: each copies what its bounds allow.

def topic_names(hub: Hub, prefix: str, after: str, limit: int) -> list[str]:
    """The first ``limit`` topics that begin with ``prefix`` and come after ``after``, in the order of
    their UTF-8 bytes. A walk over all topics: about 0.1 us each."""

def topic_facts(hub: Hub, topic: str) -> tuple[dict[str, int], int] | None:
    """(subscribers by codec, messages published while it was in memory); None for a topic that nothing
    serves and nobody is on."""

def kept_messages(
    hub: Hub, topic: str, after: int, count: int, bytes: int
) -> tuple[int, list[tuple[int, int, str, bytes, bool]]]:
    """(first kept offset, [(offset, age in ms, event, payload, binary)]) behind an offset: at most
    ``count`` of at most ``bytes`` of payload, one at least where there is one. 0 and nothing for a
    topic without history."""

def kept_since(hub: Hub, topic: str, age_ms: int) -> int:
    """The offset after which the kept messages of the last ``age_ms`` stand; 0 without history."""
