"""The rows of the system bench: what is done, what is read off, and what it must reach.

A ratio is taken between neighbours in time: limit, moda, limit, moda, limit. Each figure of moda
is divided by the mean of the limit before it and the limit after it, and the median of these
ratios is the row's. A machine that slows down for a while slows both: where a measurement is a
fraction of a second (fan-out, over the same sockets), the ratio holds to a few hundredths on a
machine whose absolute figures drift by half.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benches import machine

MEBI = 1 << 20

OUTBOX = MEBI
"""`MODA_OUTBOX` of the stalled readers' server, bytes per connection: its default, said aloud."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How thoroughly to measure."""

    repetitions: int
    pairs: int
    crowd: int
    deliveries: int
    singles: int
    seconds: float
    stall_seconds: int
    idle_seconds: float


FULL = Plan(3, 25, 10_000, 30_000, 25, 3.0, 60, 30.0)
QUICK = Plan(1, 5, 2_000, 30_000, 5, 1.0, 8, 5.0)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `limit` and `ratio` are None where the target is absolute.

    `cpu_ratio` is the same ratio counted in CPU time of the sending process instead of wall time:
    it stays true on a machine that others use meanwhile, and shows when the two disagree.
    """

    name: str
    unit: str
    value: float
    target: str
    met: bool
    limit: float | None = None
    ratio: float | None = None
    runs: tuple[float, ...] = ()
    cpu_ratio: float | None = None


Runs = list[dict[str, Any]]


def paired(values: Sequence[float], limits: Sequence[float]) -> float:
    """The median ratio of each value to the mean of the limits around it (one limit more)."""
    around = zip(values, limits, limits[1:], strict=False)
    return statistics.median(value / ((before + after) / 2) for value, before, after in around)


def at_least(name: str, unit: str, runs: Runs, limits: Runs, ratio: float) -> Figure:
    """A rate that must come within `ratio` of the machine's limit."""
    values, bare = [run["per_s"] for run in runs], [one["per_s"] for one in limits]
    reached = paired(values, bare)
    costs = paired([run["cpu_ns"] for run in runs], [one["cpu_ns"] for one in limits])
    return Figure(
        name,
        unit,
        statistics.median(values),
        f">= {ratio:.2f} of the limit",
        reached >= ratio,
        statistics.median(bare),
        reached,
        tuple(values),
        1 / costs,
    )


def alternate(
    plan: Plan, limit: Callable[[], dict[str, Any]], measured: Callable[[], dict[str, Any]]
) -> tuple[Runs, Runs]:
    """Limit, moda, limit, ..., limit; returns (measurements of moda, limits)."""
    limits, runs = [limit()], []
    for _ in range(plan.repetitions):
        runs.append(measured())
        limits.append(limit())
    return runs, limits


def fan(server: machine.Server, connections: int, **options: int) -> dict[str, Any]:
    """Broadcasts from the gateway and from a bare `send` loop on its sockets, in turn.

    BenchError when a delivery was lost or came out of order, from either.
    """
    return sound(
        machine.load(
            "fanout",
            url=server.url,
            pid=server.process.pid,
            connections=connections,
            server_core=machine.cores()[0],
            **options,
        )
    )


def sound(result: dict[str, Any]) -> dict[str, Any]:
    """The result, if every delivery came once and in order and no client failed."""
    wrong = {
        f"{name} by the {side}": found[name]
        for side in ("gateway", "bare")
        for found in result["burst"][side]
        for name in ("missing", "skipped", "disordered")
        if found[name]
    }
    if wrong or result["errors"] or result["single_incomplete"]:
        raise machine.BenchError(f"deliveries were lost: {wrong} {result['errors']}")
    return result


def fanout(plan: Plan, subscribers: int) -> list[Figure]:
    """Broadcasts of 120 bytes, one per turn and ten per turn."""
    figures = []
    with machine.serving() as server:
        for per_turn, target in ((1, 0.90), (10, 0.85)):
            found = fan(
                server,
                subscribers,
                per_turn=per_turn,
                deliveries=plan.deliveries * per_turn,
                pairs=plan.pairs,
                singles=0,
            )
            each = "1 message" if per_turn == 1 else f"{per_turn} messages"
            name = f"fan-out to {subscribers:,}, {each} per turn"
            burst = found["burst"]
            figures.append(at_least(name, "deliveries/s", burst["gateway"], burst["bare"], target))
    return figures


def last_served(plan: Plan) -> list[Figure]:
    """One broadcast at a time to the whole crowd, and a neighbour's heartbeats during it."""
    runs = []
    for _ in range(plan.repetitions):
        with machine.serving() as server:
            runs.append(fan(server, plan.crowd, singles=plan.singles, pairs=0))
    spans = [run["single_last_us"] for run in runs]
    ratio = statistics.median(paired(span["gateway"], span["bare"]) for span in spans)
    last = [statistics.median(span["gateway"]) / 1000 for span in spans]
    bare = [statistics.median(span["bare"]) / 1000 for span in spans]
    beats = [run["heartbeat_us"]["single"]["p99"] / 1000 for run in runs]
    return [
        Figure(
            f"one broadcast to {plan.crowd:,}: last one served",
            "ms",
            statistics.median(last),
            "<= 1.15 x the limit",
            ratio <= 1.15,
            statistics.median(bare),
            ratio,
            tuple(last),
        ),
        below("... a client's heartbeats meanwhile, p99", "ms", beats, 20),
    ]


def below(name: str, unit: str, values: Sequence[float], most: float) -> Figure:
    """A figure whose median must stay under an absolute bound."""
    value = statistics.median(values)
    return Figure(name, unit, value, f"< {most:g} {unit}", value < most, runs=tuple(values))


def above(name: str, unit: str, runs: Runs, limits: Runs, least: float) -> Figure:
    """A rate whose median must reach an absolute bound; the limit, if any, stands beside it."""
    values, bare = [run["per_s"] for run in runs], [one["per_s"] for one in limits]
    value = statistics.median(values)
    return Figure(
        name,
        unit,
        value,
        f">= {least:,g}",
        value >= least,
        statistics.median(bare) if bare else None,
        paired(values, bare) if bare else None,
        tuple(values),
    )


def answers(plan: Plan, command: str, depth: int) -> tuple[Runs, Runs]:
    """Requests answered by the gateway, and by a bare echo of heartbeats."""
    size = {"depth": depth, "seconds": plan.seconds}
    with machine.serving() as server:
        return alternate(
            plan,
            lambda: machine.load("limit-echo", **size),
            lambda: answered(machine.load(command, url=server.url, pid=server.process.pid, **size)),
        )


def heartbeat(plan: Plan) -> list[Figure]:
    """Heartbeats answered in Rust, 100 connections, 1 and 16 deep."""
    shallow, deep = answers(plan, "heartbeat", 1), answers(plan, "heartbeat", 16)
    return [
        at_least("heartbeats, 100 connections, 1 deep", "answers/s", *shallow, 0.55),
        above("heartbeats, 100 connections, 16 deep", "answers/s", *deep, 250_000),
    ]


def answered(result: dict[str, Any]) -> dict[str, Any]:
    """The result, if every request was answered with ok and in order."""
    faults = ("unanswered", "misordered", "refused", "errors")
    wrong = {name: result[name] for name in faults if result[name]}
    if wrong:
        raise machine.BenchError(f"answers were lost: {wrong}")
    return result


def ping(plan: Plan) -> list[Figure]:
    """Events answered by a Python channel, 100 connections, 16 deep."""
    name = "`ping` answered by a Python channel, 100 connections, 16 deep"
    return [above(name, "answers/s", *answers(plan, "ping", 16), 90_000)]


def relay(plan: Plan) -> list[Figure]:
    """Messages from clients to clients, 100 senders with 16 under way: native, and through Python."""
    size = {"depth": 16, "seconds": plan.seconds}

    def relayed(server: machine.Server, topic: str) -> dict[str, Any]:
        about = {"url": server.url, "pid": server.process.pid, "topic": topic}
        return sound_relay(machine.load("relay", **about, **size))

    with machine.serving() as server:
        python, native = alternate(
            plan,
            lambda: relayed(server, "bench:relay:"),
            lambda: relayed(server, "bench:passes:"),
        )
    name = "relayed messages, 100 senders, 16 deep, one other subscriber each"
    times = 1 / paired(
        [run["per_s"] for run in python],
        [run["per_s"] for run in native],
    )
    return [
        above(name, "messages/s", native, [], 350_000),
        Figure("... beside a Python channel", "x", times, ">= 2.5 x", times >= 2.5),
    ]


def sound_relay(result: dict[str, Any]) -> dict[str, Any]:
    """The result, if every message arrived once and in its order."""
    wrong = {name: result[name] for name in ("lost", "misordered", "errors") if result[name]}
    if wrong:
        raise machine.BenchError(f"messages were lost: {wrong}")
    return result


def memory(plan: Plan) -> list[Figure]:
    """Growth of the server's resident memory per idle joined connection."""
    figures = []
    for kind, topic, most in (
        ("built-in push-only channel", "telemetry:metrics", 10),
        ("push-only stream", "bench:stream", 10),
        ("Python channel", "bench:channel", 14),
    ):
        grown = []
        for _ in range(plan.repetitions):
            with machine.serving() as server:
                before = server.memory()
                held = machine.start(
                    "hold", url=server.url, connections=plan.crowd, topic=topic, seconds=5
                )
                held.wait_for("ready")
                time.sleep(2)
                grown.append((server.memory() - before) / plan.crowd / 1024)
                held.result()
        name = f"memory per idle connection, {kind}, {plan.crowd:,} connections"
        value = statistics.median(grown)
        figures.append(Figure(name, "KB", value, f"<= {most} KB", value <= most, runs=tuple(grown)))
    return figures


def join(plan: Plan) -> list[Figure]:
    """A crowd that connects and joins at once; the limit is a bare loop that lets the same one in."""

    def measured() -> dict[str, Any]:
        with machine.serving() as server:
            return machine.load(
                "join", url=server.url, pid=server.process.pid, connections=plan.crowd
            )

    runs, limits = alternate(
        plan, lambda: machine.load("limit-join", connections=plan.crowd), measured
    )
    refused = [float(run["clients"] - run["joined"]) for run in runs]
    beats = [run["heartbeat_us"]["joining"]["p99"] / 1000 for run in runs]
    worst = max(refused)
    return [
        above(
            f"connect + join, {plan.crowd:,} clients at once",
            "clients/s",
            runs,
            limits,
            5_000,
        ),
        Figure("... of them refused", "clients", worst, "0", worst == 0, runs=tuple(refused)),
        below("... a neighbour's heartbeats meanwhile, p99", "ms", beats, 50),
    ]


def stall(plan: Plan) -> list[Figure]:
    """100 readers that stop reading beside 50 that go on, 1,000 messages a second."""
    stalled_readers = 100
    calm, disturbed, ratios, grown = [], [], [], []
    for _ in range(plan.repetitions):
        with machine.serving(MODA_OUTBOX=str(OUTBOX)) as server:
            before, most = server.memory(), 0
            run = machine.start(
                "stall",
                url=server.url,
                seconds=plan.stall_seconds,
                calm=max(1, plan.stall_seconds // 3),
                stalled=stalled_readers,
            )
            run.wait_for("stalled")
            while "published" not in run.words and run.process.poll() is None:
                most = max(most, server.memory())
                time.sleep(0.25)
            result = run.result()
        around = [latency(result, spell) for spell in result["calm"]]
        disturbed.append(latency(result, result["disturbed"]))
        calm.append(statistics.mean(around))
        ratios.append(paired(disturbed[-1:], around))
        grown.append((most - before) / MEBI)
    ratio = statistics.median(ratios)
    budget = stalled_readers * OUTBOX / MEBI
    value = statistics.median(grown)
    return [
        Figure(
            "100 readers stop reading, 1,000 messages/s: others' latency, p99",
            "ms",
            statistics.median(disturbed),
            "<= 1.10 x the same readers reading",
            ratio <= 1.10,
            statistics.median(calm),
            ratio,
            tuple(disturbed),
        ),
        Figure(
            "... growth of the server's memory",
            "MB",
            value,
            f"<= {budget:g} MB, the budget of 100 outboxes",
            value <= budget,
            runs=tuple(grown),
        ),
    ]


def latency(result: dict[str, Any], spell: dict[str, Any]) -> float:
    """The p99 latency of complete deliveries in one spell of a run, in milliseconds."""
    lost = spell["missing"] or spell["skipped"] or spell["disordered"]
    if lost or result["readers_alive"] < result["readers"]:
        raise machine.BenchError(f"readers that read lost deliveries: {spell}")
    return float(spell["latency_us"]["p99"]) / 1000


def idle(plan: Plan) -> list[Figure]:
    """CPU of the server with 10,000 idle connections, each with a heartbeat every 30 s."""
    shares = []
    span = plan.idle_seconds
    with machine.serving() as server:
        held = machine.start(
            "hold",
            url=server.url,
            connections=plan.crowd,
            seconds=span * plan.repetitions + 5,
        )
        held.wait_for("ready")
        time.sleep(2)
        for _ in range(plan.repetitions):
            begun, before = time.monotonic(), server.cpu_seconds()
            time.sleep(span)
            used = server.cpu_seconds() - before
            shares.append(100 * used / (time.monotonic() - begun))
        result = held.result()
    if result["alive"] < plan.crowd:
        raise machine.BenchError(f"idle connections were lost: {result['errors']}")
    name = f"idle, {plan.crowd:,} connections, heartbeats every 30 s"
    return [below(name, "% of a core", shares, 3)]


ROWS: dict[str, Callable[[Plan], list[Figure]]] = {
    "fanout-1000": lambda plan: fanout(plan, 1_000),
    "fanout-10000": lambda plan: fanout(plan, plan.crowd),
    "last-served": last_served,
    "heartbeat": heartbeat,
    "ping": ping,
    "relay": relay,
    "memory": memory,
    "join": join,
    "stall": stall,
    "idle": idle,
}
