"""A real PostgreSQL server for a test: own data folder, own port, started and stopped by process id.

It runs without fsync: processes are killed in these tests, the machine never is.

PostgreSQL does not run as root, so as root it is started as the user ``postgres`` that Debian's
package makes. ``stop`` is the server's fast shutdown (clients are thrown out), ``crash`` its
immediate one, which leaves everything to recovery.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg

START_LIMIT = 60.0


def binaries() -> Path:
    """The folder of the newest installed server's programs."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4])
    )
    found = folders[-1] if folders else shutil.which("initdb")
    if found is None:
        raise RuntimeError("the tests need a PostgreSQL server: apt-get install postgresql")
    return Path(found).resolve().parent


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgresServer:
    """One server. ``url(name)`` is the DATABASE_URL of a database on it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._options = options or ("-c", "fsync=off")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._log = folder / "server.log"

    def make(self) -> None:
        """Makes the data folder."""
        subprocess.run(
            [binaries() / "initdb", "-D", self.folder / "data", "-U", "postgres", "-A", "trust",
             "--no-sync", "--encoding=UTF8", "--locale=C"],
            check=True, capture_output=True, cwd="/", env={"PATH": "/usr/bin:/bin"}, **self._as,
        )  # fmt: skip

    def url(self, database: str = "postgres") -> str:
        """Where a database of this server is reached."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [binaries() / "postgres", "-D", self.folder / "data", "-p", str(self.port),
                 "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
                 "-c", "max_connections=60", "-c", "shared_buffers=32MB",
                 *self._options],
                stdout=log, stderr=subprocess.STDOUT, cwd="/", env={"PATH": "/usr/bin:/bin"},
                **self._as,
            )  # fmt: skip
        deadline = time.monotonic() + START_LIMIT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        ready = subprocess.run(
            [binaries() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        )
        return ready.returncode == 0

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stops it (fast by default) and waits for its end."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def crash(self) -> None:
        """Ends it without a checkpoint, as a power cut would."""
        self.stop(signal.SIGQUIT)


@contextlib.contextmanager
def running_postgres(*options: str) -> Iterator[PostgresServer]:
    """A server for the time of a ``with``; ``options`` of its command line in place of no fsync."""
    # Not below pytest's folders: those are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="moda-postgres-"))
    try:
        server = PostgresServer(folder, *options)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def make_database(server: PostgresServer, name: str) -> str:
    """Makes an empty schema that a connection sees alone, which a database would take a second for;
    its URL.
    """
    connection = await asyncpg.connect(server.url())
    try:
        await connection.execute(f'CREATE SCHEMA "{name}"')
    finally:
        await connection.close()
    return f"{server.url()}?search_path={name}"
