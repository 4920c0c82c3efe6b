"""Starts `moda serve` as installed, asks it what a first visitor would, and stops it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
import urllib.request


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bytes(answer.read())


async def main() -> int:
    port = free_port()
    environment = {**os.environ, "PORT": str(port), "HOST": "127.0.0.1"}
    server = await asyncio.create_subprocess_exec("moda", "serve", env=environment)
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                health = json.loads(await asyncio.to_thread(get, f"{base}/health"))
                # The first moments are "degraded": nothing has been measured yet.
                if health["status"] == "ok":
                    break
                await asyncio.sleep(0.1)
            except OSError:
                if server.returncode is not None:
                    print(f"moda serve ended with {server.returncode}", file=sys.stderr)
                    return 1
                await asyncio.sleep(0.1)
        else:
            print("moda serve was not healthy within 10 s", file=sys.stderr)
            return 1
        page = await asyncio.to_thread(get, f"{base}/")
        if health["status"] != "ok" or b"<html" not in page.lower() or b"script" not in page:
            print(f"unexpected: {health}, {page[:200]!r}", file=sys.stderr)
            return 1
        metrics = await asyncio.to_thread(get, f"{base}/metrics")
        if b"moda_" not in metrics:
            print("no metrics", file=sys.stderr)
            return 1
    finally:
        if server.returncode is None:
            server.send_signal(signal.SIGTERM)
        began = time.monotonic()
        code = await asyncio.wait_for(server.wait(), 30)
    print(
        f"wheel: serves health, console and metrics; stopped with {code} in {time.monotonic() - began:.1f} s"
    )
    return 0 if code == 0 else 1


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
