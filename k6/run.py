"""`make load`: starts the gateway, runs every k6 script against it, stops it.

The thresholds are in the scripts; this exits with the worst status k6 gave (99 when a threshold
was missed). `python -m k6.run [SCRIPT ...]`, with CLIENTS and SECONDS in the environment.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from benches import machine

HERE = Path(__file__).resolve().parent
SCRIPTS = ("phoenix", "prices")


def k6() -> Path:
    """The binary that `make load` installs. BenchError says how when it is missing."""
    binary = Path(os.environ.get("K6", machine.ROOT / "bin" / "k6"))
    if not binary.exists():
        raise machine.BenchError(
            f"no {binary}: `GOBIN=$PWD/bin go install go.k6.io/k6@v1.8.1`, or set K6"
        )
    return binary


def run(script: str, server: machine.Server) -> int:
    """Runs one script and returns k6's status."""
    environment = {**os.environ, "URL": f"ws://127.0.0.1:{server.port}"}
    command = [str(k6()), "run", "--quiet", "--no-usage-report", str(HERE / f"{script}.js")]
    print(f"{script}: {' '.join(command)}", flush=True)
    with machine.pinned(machine.cores()[-1]):
        return subprocess.run(command, env=environment, check=False).returncode


def main(words: list[str] | None = None) -> int:
    """Runs the scripts asked for against one server; the worst status."""
    parser = argparse.ArgumentParser(prog="k6.run", description=__doc__)
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"of {', '.join(SCRIPTS)}")
    options = parser.parse_args(words)
    wanted = options.scripts or SCRIPTS
    for script in set(wanted).difference(SCRIPTS):
        parser.error(f"no such script: {script!r}, takes {', '.join(SCRIPTS)}")
    machine.raise_descriptor_limit(2_048)
    try:
        # Not somebody else's prices: a load test must not lean on an exchange being up.
        with machine.serving(MODA_PRICES="simulated") as server:
            return max(run(script, server) for script in wanted)
    except machine.BenchError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
