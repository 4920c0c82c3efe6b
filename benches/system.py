"""`make bench`: every row of the table, beside the machine's limit of the same minutes.

Writes `benches/results/system.json`, which the README table is made from. `--only ROW` measures
some rows and keeps the others as they were, each row with the date and revision it was measured
at; `--quick` measures once and with fewer clients, prints, and writes nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from benches import machine, rows
from benches.table import line

RESULTS = Path(__file__).parent / "results" / "system.json"


def used_by_children() -> float:
    """CPU seconds of children that have ended: servers and load generators."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(name: str, plan: rows.Plan) -> dict[str, Any]:
    """One row, with when it was measured and how much others used the machine meanwhile."""
    begun, busy, ours = time.monotonic(), machine.busy_seconds(), used_by_children()
    figures = rows.ROWS[name](plan)
    wall = time.monotonic() - begun
    others = (machine.busy_seconds() - busy) - (used_by_children() - ours)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "revision": machine.revision(),
        "machine": machine.describe(),
        "wall_seconds": round(wall, 1),
        "others_cores": round(max(0.0, others / wall), 2),
        "figures": [dataclasses.asdict(figure) for figure in figures],
    }


def main(words: list[str] | None = None) -> int:
    """Runs the rows asked for; 0 when every target is met, 1 when one is missed or not measured."""
    parser = argparse.ArgumentParser(prog="benches.system", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(rows.ROWS), metavar="ROW")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=None, help="where to write the results")
    options = parser.parse_args(words)
    plan = rows.QUICK if options.quick else rows.FULL
    out = options.out or (None if options.quick else RESULTS)

    machine.raise_descriptor_limit(plan.crowd + 2_000)
    results: dict[str, Any] = {}
    if out is not None and out.exists():
        results = json.loads(out.read_text())
    complete = True
    for name in options.only or list(rows.ROWS):
        try:
            row = measure(name, plan)
        except machine.BenchError as error:
            print(f"{name}: {error}", file=sys.stderr)
            complete = False
            continue
        results[name] = row
        for figure in row["figures"]:
            complete &= figure["met"]
            print(line(figure), flush=True)
        if row["others_cores"] > 0.1:
            share = row["others_cores"]
            print(f"{name}: other processes used {share} cores meanwhile", file=sys.stderr)
        if out is not None:
            ordered = {name: results[name] for name in rows.ROWS if name in results}
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(ordered, indent=2) + "\n")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
