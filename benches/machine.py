"""What a system bench needs of the machine: its description, a server on one core, the load
generator on the other, and the two accounts the kernel keeps of a process, memory and time.

The server is measured from outside. It is started as its users start it, knows nothing of being
measured, and its memory and time are read from /proc.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
GATEWAY = "benches.server:gateway"
START_LIMIT = 30.0
STOP_LIMIT = 15.0


class BenchError(RuntimeError):
    """The measurement could not be made; the message says what to do about it."""


def cores() -> list[int]:
    """The cores this process may use, the server's first and the generator's last."""
    return sorted(os.sched_getaffinity(0))


def raise_descriptor_limit(needed: int) -> None:
    """Lifts the soft limit to the hard one, which children inherit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(
            f"the limit on open files is {hard}, this takes {needed}: raise it "
            f"(`ulimit -Hn {needed}` as root), or measure with fewer clients (--quick)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def describe() -> dict[str, Any]:
    """Cores, processor, kernel, Python: what a figure means nothing without."""
    processor = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    return {
        "cores": os.cpu_count(),
        "processor": processor,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "somaxconn": int(Path("/proc/sys/net/core/somaxconn").read_text()),
    }


def _git(*words: str) -> str | None:
    command = ["git", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def revision() -> str:
    """The git revision measured, with `+` when the code differs from it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if head is None:
        return "unknown"
    return head + ("+" if _git("status", "--porcelain", "--", "rust", "cython", "python") else "")


def busy_seconds() -> float:
    """Seconds of CPU the whole machine has spent since it started, in all cores together."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _wait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Children started inside inherit this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(slots=True)
class Server:
    """A running `moda serve`, alone on the first core."""

    process: subprocess.Popen[bytes]
    port: int
    log: IO[bytes]

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/socket/websocket?vsn=2.0.0"

    def memory(self) -> int:
        """Resident bytes."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        for line in text.splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
        raise BenchError(f"no Rss in smaps_rollup of the server: {text!r}")

    def cpu_seconds(self) -> float:
        """CPU time of all its threads, user and system, to the clock tick (10 ms)."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def tail(self) -> str:
        """The end of what the server has logged."""
        self.log.flush()
        return Path(self.log.name).read_text(errors="replace")[-2000:]


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def serving(gateway: str = GATEWAY, **settings: str) -> Iterator[Server]:
    """Starts the real server with these settings and stops it with SIGTERM."""
    port = free_port()
    environment = {
        **os.environ,
        # Above the 10,000 clients of the largest bench, their neighbours and the control channel.
        "WS_MAX_CONNECTIONS": "12000",
        "LOG_LEVEL": "warning",
        "PYTHONUNBUFFERED": "1",
        **settings,
    }
    command = [sys.executable, "-m", "moda", "serve", gateway, "--port", str(port)]
    with tempfile.NamedTemporaryFile(prefix="moda-bench-", suffix=".log") as log:
        with pinned(cores()[0]):
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        server = Server(process, port, log)
        try:
            deadline = time.monotonic() + START_LIMIT
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchError(f"{' '.join(command)} did not start:\n{server.tail()}")
                time.sleep(0.1)
            time.sleep(0.5)
            yield server
            if process.poll() is not None:
                raise BenchError(f"the server ended during the bench:\n{server.tail()}")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def generator() -> Path:
    """The load generator's binary."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    binary = target / "release" / "moda-load"
    if not binary.exists():
        raise BenchError(f"no {binary}: build it with `cargo build --release -p moda-load`")
    return binary


@dataclass(slots=True)
class Load:
    """A run of the load generator; `result()` waits for its JSON."""

    process: subprocess.Popen[str]
    words: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Collects what it says on stderr; the first word of a line is what `wait_for` takes."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.words.add(line.split(maxsplit=1)[0] if line.strip() else "")
            self.errors.append(line)

    def wait_for(self, word: str, limit: float = 150.0) -> None:
        """Waits until it has said `word`."""
        deadline = time.monotonic() + limit
        while word not in self.words:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"moda-load never said {word!r}: {''.join(self.errors)}")
            time.sleep(0.05)

    def result(self, limit: float = 600.0) -> dict[str, Any]:
        """Its one JSON object. BenchError when it could not measure."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(limit, self.process.kill)
        watchdog.start()
        try:
            text = self.process.stdout.read()
            status = self.process.wait()
        finally:
            watchdog.cancel()
        if status != 0:
            raise BenchError(f"moda-load ended with {status}: {''.join(self.errors)}")
        answer: dict[str, Any] = json.loads(text)
        return answer


def start(command: str, **options: object) -> Load:
    """Starts `moda-load COMMAND --name VALUE ...`; it pins itself to the last core."""
    words = [str(generator()), command]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    load = Load(process)
    threading.Thread(target=load.listen, daemon=True).start()
    return load


def load(command: str, **options: object) -> dict[str, Any]:
    """Runs the load generator and returns its JSON."""
    return start(command, **options).result()
