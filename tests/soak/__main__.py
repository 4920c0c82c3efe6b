"""Starts the gateways, the honest and the others; prints a table and fails when a bound is broken.

SOAK_SECONDS (1200), SOAK_CLIENTS (500) and SOAK_PACE (1) say how long, for how many honest clients
and how fast the attacks follow each other (0: none, for a look at the machine). SOAK_ATTACKS names
some of them (`stops,floods`), for whoever looks for the one that breaks a bound. The figures go to
target/soak/result.json, what the gateways logged beside them.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benches import machine
from benches.system import used_by_children
from soak.attacks import PACES
from soak.bounds import HEALTH_MS, judge, table

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
OUT = ROOT / "target" / "soak"
TLS = TESTS / "serve" / "tls"
SETTLED = 40.0
"""Seconds that clients and attacks get for their last words."""


class Gateway:
    """One `moda serve` on the first core, its log in a file."""

    def __init__(self, name: str, port: int, **settings: str) -> None:
        self.name = name
        self.port = port
        self.settings = settings
        self.samples: list[float] = []
        self.process: asyncio.subprocess.Process

    async def start(self) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(TESTS),
            "PYTHONUNBUFFERED": "1",
            **self.settings,
        }
        with (OUT / f"{self.name}.log").open("wb") as log, machine.pinned(machine.cores()[0]):
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "moda", "serve", "soak.app:gateway", "--port", str(self.port)),
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(machine.START_LIMIT):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    if not self.alive:
                        raise RuntimeError(f"{self.name} did not start: {self.log}") from None
                    await asyncio.sleep(0.1)
                else:
                    writer.close()
                    return

    @property
    def log(self) -> Path:
        return OUT / f"{self.name}.log"

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    def look(self) -> None:
        """Notes its resident memory, in MB."""
        if not self.alive:
            return
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        self.samples.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)

    def cpu_seconds(self) -> float:
        """What it has spent, user and system; 0 once it is gone."""
        if not self.alive:
            return 0.0
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def stop(self) -> None:
        if self.alive:
            self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.process.wait(), SETTLED)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()


class Health:
    """A stranger who asks for /health ten times a second, each time on a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.times: list[float] = []
        self.failed = 0

    async def ask(self) -> None:
        begun = time.perf_counter()
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(HEALTH_MS / 1000):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self.port, local_addr=("127.0.0.4", 0)
                )
                writer.write(
                    b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
                )
                head = await reader.readuntil(b"\r\n")
                # A 503 is an answer, too: it says that the exchange is away.
                self.failed += not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503"))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self.failed += 1
        finally:
            self.times.append(time.perf_counter() - begun)
            if writer is not None:
                writer.close()

    async def go_on(self) -> None:
        under_way: set[asyncio.Task[None]] = set()
        while True:
            task = asyncio.create_task(self.ask())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            await asyncio.sleep(0.1)

    def figures(self) -> dict[str, Any]:
        ordered = sorted(self.times) or [0.0]
        p99 = round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 1)
        return {"asked": len(self.times), "failed": self.failed, "p99_ms": p99}


async def look(gateways: Sequence[Gateway], every: float) -> None:
    while True:
        for gateway in gateways:
            gateway.look()
        await asyncio.sleep(every)


async def child(module: str, orders: dict[str, Any], nice: int) -> dict[str, Any]:
    """Runs `python -m module ORDERS` off the gateways' core and returns what it prints as JSON."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), str(ROOT)))}
    with machine.pinned(machine.cores()[-1]):
        process = await asyncio.create_subprocess_exec(
            *("nice", "-n", str(nice), sys.executable, "-m", module, json.dumps(orders)),
            cwd=ROOT,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
        )
    try:
        async with asyncio.timeout(orders["seconds"] + SETTLED):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise RuntimeError(f"{module} did not end") from None
    if process.returncode:
        raise RuntimeError(f"{module} ended with {process.returncode}")
    answer: dict[str, Any] = json.loads(out)
    return answer


async def main() -> int:
    seconds = float(os.environ.get("SOAK_SECONDS", "1200"))
    clients = int(os.environ.get("SOAK_CLIENTS", "500"))
    pace = float(os.environ.get("SOAK_PACE", "1"))
    only = [name for name in os.environ.get("SOAK_ATTACKS", "").split(",") if name]
    if unknown := set(only) - set(PACES):
        raise SystemExit(f"SOAK_ATTACKS: got {', '.join(unknown)}; takes {', '.join(PACES)}")
    machine.raise_descriptor_limit(4_000)
    OUT.mkdir(parents=True, exist_ok=True)
    exchange = machine.free_port()
    prices = {
        "MODA_PRICES": "binance",
        "MODA_PRICES_URL": f"ws://127.0.0.1:{exchange}",
        "MODA_PRICES_SYMBOLS": "btcusdt",
        "MODA_PRICES_RECONNECT_MIN": "0.01",
        "MODA_PRICES_RECONNECT_MAX": "0.05",
        "MODA_PRICES_CONNECT_TIMEOUT": "1",
        "MODA_PRICES_STALE_AFTER": "1",
    }
    plain = Gateway("plain", machine.free_port(), **prices)
    secure = Gateway(
        "tls",
        machine.free_port(),
        MODA_TLS_CERT=str(TLS / "localhost.pem"),
        MODA_TLS_KEY=str(TLS / "localhost.key"),
    )
    gateways = (plain, secure)
    ports = {"port": plain.port, "tls_port": secure.port, "seconds": seconds}
    print(f"{clients} honest clients, {seconds:g} s; logs in {OUT}", file=sys.stderr)
    try:
        for gateway in gateways:
            await gateway.start()
        health = Health(plain.port)
        watchers = [
            asyncio.create_task(health.go_on()),
            asyncio.create_task(look(gateways, max(0.25, seconds / 400))),
        ]
        begun, busy = time.monotonic(), machine.busy_seconds()
        tls = clients // 10
        pem = str(TLS / "localhost.pem")
        orders = {**ports, "clients": clients, "secure": tls, "pem": pem}
        attacking = asyncio.create_task(
            child("soak.attacks", {**ports, "exchange": exchange, "pace": pace, "only": only}, 5)
        )
        honest = await child("soak.honest", orders, 0)
        # What is seen while the last attackers leave says nothing of the time before.
        for watcher in watchers:
            watcher.cancel()
        hostile = await attacking
        wall, spent = time.monotonic() - begun, machine.busy_seconds() - busy
        cores = {gateway.name: round(gateway.cpu_seconds() / wall, 2) for gateway in gateways}
        alive = {gateway.name: gateway.alive for gateway in gateways}
    finally:
        for gateway in gateways:
            if hasattr(gateway, "process"):
                await gateway.stop()
    seen = {
        "honest": honest,
        "health": health.figures(),
        "memory": {gateway.name: gateway.samples for gateway in gateways},
        "alive": alive,
        **hostile,
    }
    lines = judge(seen)
    about = {
        "revision": machine.revision(),
        "machine": machine.describe(),
        "seconds": seconds,
        "clients": clients,
        "pace": pace,
        "attacks_of": only or list(PACES),
        "cores_busy": round(spent / wall, 2),
        "gateway_cores": cores,
        "cores_busy_with_others": round(max(0.0, spent - used_by_children()) / wall, 2),
    }
    broken = [line.name for line in lines if not line.held]
    (OUT / "result.json").write_text(
        json.dumps({**about, "broken": broken, **seen}, indent=1) + "\n"
    )
    print(table(lines))
    print(f"attacks: {json.dumps(hostile['attacks'])}\nexchange: {json.dumps(hostile['exchange'])}")
    print(
        f"cores busy: {about['cores_busy']}, with the gateways: {cores}, with what is not the soak: "
        f"{about['cores_busy_with_others']}; the honest process was itself late by "
        f"{honest['own_lag_p99_ms']} ms at p99"
    )
    for name in ("cut_by", "foreign_first"):
        if honest[name]:
            print(f"{name}: {json.dumps(honest[name])}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
