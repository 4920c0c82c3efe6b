"""What would go wrong, said before it does, each with the command that fixes it.

``moda check`` prints all findings; ``moda serve`` refuses to start on a fatal one and logs the
others. Each check is a plain function of what it looks at.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moda.errors import ConfigurationError
from moda.serve.certificate import CertificateKeeper, validity
from moda.serve.tls import TlsOptions

__all__ = [
    "FEWEST_CLIENTS",
    "Finding",
    "check_console",
    "check_database",
    "check_descriptors",
    "check_heartbeat",
    "check_port",
    "check_tls",
    "clients_within",
    "raise_descriptor_limit",
]

RESERVED_DESCRIPTORS = 256
"""Kept free of client connections: log files, the database, the upstreams, HTTP keep-alives."""

FEWEST_CLIENTS = 64
"""A gateway whose limit leaves room for fewer (than it is asked to serve) does not start: it would
answer 503 to nearly everybody and look alive."""

STOCK_HEARTBEAT = 30.0
"""Seconds between two heartbeats of a `phoenix` client that was told nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome. ``fix`` is a command or an edit; empty when there is nothing to do."""

    name: str
    level: Literal["ok", "warning", "fatal"]
    message: str
    fix: str = ""


def raise_descriptor_limit(wanted: int) -> int:
    """Raises this process's soft limit of open files towards ``wanted``, as far as the hard limit
    lets. Returns the limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if target > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        return target
    return soft


def clients_within(limit: int) -> int:
    """WebSockets that ``limit`` open files leave room for; 0 if not even the gateway itself fits."""
    return max(0, limit - RESERVED_DESCRIPTORS)


def check_descriptors(max_connections: int, limit: int) -> Finding:
    """Whether ``limit`` open files suffice for the sockets and for what else is open.

    Fatal if they leave room for less than :data:`FEWEST_CLIENTS` of those asked for.
    """
    needed = max_connections + RESERVED_DESCRIPTORS
    if limit >= needed:
        return Finding(
            "descriptors",
            "ok",
            f"{limit} open files allowed, {needed} needed for {max_connections} connections",
        )
    raised = (
        f"ulimit -n {needed} in the shell that starts it, as root if its hard limit is lower "
        f"(systemd: LimitNOFILE={needed}, docker: --ulimit nofile={needed})"
    )
    clients = clients_within(limit)
    if clients < min(max_connections, FEWEST_CLIENTS):
        return Finding(
            "descriptors",
            "fatal",
            f"{limit} open files allowed, of which the gateway itself may need "
            f"{RESERVED_DESCRIPTORS}: that leaves {clients or 'none'} for clients",
            raised,
        )
    return Finding(
        "descriptors",
        "warning",
        f"{limit} open files allowed, but WS_MAX_CONNECTIONS={max_connections} needs {needed}: "
        f"connections beyond {clients} are refused",
        f"{raised}, or WS_MAX_CONNECTIONS={clients}",
    )


def check_heartbeat(interval_ms: int, idle_seconds: float) -> Finding:
    """Whether a client that sends heartbeats as advised, or as stock clients do, is left open."""
    slowest = max(interval_ms / 1000, STOCK_HEARTBEAT)
    if idle_seconds > slowest:
        return Finding(
            "heartbeat",
            "ok",
            f"every {slowest:g} s at the latest, {idle_seconds:g} s of silence close",
        )
    return Finding(
        "heartbeat",
        "warning",
        f"MODA_IDLE_TIMEOUT={idle_seconds:g} s closes clients whose heartbeat comes every "
        f"{slowest:g} s (WS_HEARTBEAT_INTERVAL; 30 s where a client was told nothing)",
        f"MODA_IDLE_TIMEOUT={2 * slowest:g}, or a shorter heartbeat in every client",
    )


def check_port(host: str, port: int) -> Finding:
    """Whether the address can be listened on, and if not, who has it."""
    if port == 0:
        return Finding("port", "ok", "any free port")
    try:
        addresses = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        return Finding(
            "port",
            "fatal",
            f"HOST={host!r} is no address of this machine ({error.strerror})",
            "HOST=127.0.0.1",
        )
    for family, kind, protocol, _, address in addresses:
        try:
            probe = socket.socket(family, kind, protocol)
        except OSError:
            continue  # a family this machine does not speak
        with probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(address)
                probe.listen(1)
            except OSError as error:
                return _port_finding(host, port, error)
    return Finding("port", "ok", f"{host or '*'}:{port} is free")


def _port_finding(host: str, port: int, error: OSError) -> Finding:
    if error.errno == errno.EADDRINUSE:
        holder = listener_of(port)
        who = f" by {holder[1]} (pid {holder[0]})" if holder else ""
        stop = f"kill {holder[0]}, or " if holder else ""
        return Finding(
            "port", "fatal", f"port {port} is in use{who}", f"{stop}PORT={port + 1} moda serve"
        )
    if error.errno == errno.EACCES:
        return Finding(
            "port",
            "fatal",
            f"port {port} needs privileges this user has not",
            "PORT=4001 behind a proxy, or setcap cap_net_bind_service=+ep on the Python binary",
        )
    return Finding(
        "port", "fatal", f"{host}:{port} cannot be listened on: {error.strerror}", "HOST=127.0.0.1"
    )


def listener_of(port: int) -> tuple[int, str] | None:
    """Process id and command of whoever listens on a TCP port, if this user may know.

    Linux; elsewhere None.
    """
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii", errors="replace").splitlines()[1:]
        except OSError:
            continue
        listening = f":{port:04X}"
        for line in lines:
            fields = line.split()
            if len(fields) > 9 and fields[3] == "0A" and fields[1].endswith(listening):
                inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return None
    try:
        processes = list(Path("/proc").iterdir())
    except OSError:
        return None
    for process in processes:
        if not process.name.isdigit():
            continue
        try:
            held = any(str(link.readlink()) in inodes for link in (process / "fd").iterdir())
            if held:
                words = (
                    (process / "cmdline")
                    .read_bytes()
                    .replace(b"\0", b" ")
                    .decode("utf-8", "replace")
                    .split()
                )
                return int(process.name), " ".join(words[:3]) or "?"
        except OSError:
            continue  # gone, or another user's
    return None


def check_console(folder: Path) -> Finding:
    """Whether the console was built into this installation."""
    if (folder / "index.html").is_file():
        return Finding("console", "ok", f"built, in {folder}")
    return Finding(
        "console",
        "warning",
        f"not built: no index.html in {folder}",
        "cd web && npm ci && npm run build",
    )


def check_database(url: str) -> Finding:
    """Whether a SQLite file can be written. Never fatal: a gateway without durable topics and keys
    serves from a read-only folder as well as from any other.

    Other databases are asked when they are connected to.
    """
    scheme, _, rest = url.partition("://")
    if not scheme.startswith("sqlite"):
        return Finding("database", "ok", f"{scheme}: reached when it is first needed")
    path = Path(rest.removeprefix("/"))  # sqlite:///relative, sqlite:////absolute
    if rest in ("", "/") or ":memory:" in rest:
        return Finding(
            "database",
            "warning",
            "in memory: nothing survives a restart",
            "DATABASE_URL=sqlite:///data/moda.db",
        )
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    target = path if path.exists() else folder
    problem, fix = "", f"chown {os.getuid()} {target}"
    if path.is_dir():
        problem, fix = f"{path} is a folder, it takes a file", "DATABASE_URL=sqlite:///data/moda.db"
    elif not os.access(target, os.W_OK):
        problem = f"{target} cannot be written by this user"
    elif path.exists() and not os.access(path.parent, os.W_OK):
        problem = f"{path.parent} cannot be written, SQLite keeps its log beside the file"
        fix = f"chown {os.getuid()} {path.parent}"
    if problem:
        said = f"DATABASE_URL: {problem}; this version keeps nothing there and starts all the same"
        return Finding(
            "database", "warning", said, f"{fix}, or DATABASE_URL=sqlite:////PATH/moda.db"
        )
    return Finding("database", "ok", f"{path} can be written")


def check_tls(options: TlsOptions | None) -> Finding:
    """Whether certificate and key can be loaded and belong together, and how long they are valid.

    An expired one is no reason not to start: some clients pin it, and to stay away helps nobody.
    """
    if options is None:
        return Finding(
            "tls", "ok", "off: plain HTTP, put a proxy with TLS in front or set MODA_TLS_CERT"
        )
    try:
        CertificateKeeper(options)
        problem = validity(options.certificate).problem(time.time())
    except ConfigurationError as error:
        return Finding(
            "tls", "fatal", str(error), "MODA_TLS_CERT and MODA_TLS_KEY take PEM files of one pair"
        )
    if problem:
        return Finding(
            "tls",
            "warning",
            f"certificate {options.certificate} {problem}",
            "renew it; a running gateway takes new files at SIGHUP or within a minute",
        )
    return Finding("tls", "ok", f"certificate {options.certificate} loads")
