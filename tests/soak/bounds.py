"""What a soak must hold, judged from what was seen. No I/O: figures in, lines of a table out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

P99_MS = 50.0
HEALTH_MS = 2_000.0
GROWTH = 0.05
"""Of the memory after the warm-up, and `SLACK_MB` on top: what readers that have stopped hold just then."""
SLACK_MB = 8.0
WARM_UP = 0.35
"""The part of the run in which pools, caches and buffers may grow to what the load takes."""


@dataclass(frozen=True)
class Line:
    """One bound: what it is about, what was seen, what it takes, and whether that was so."""

    name: str
    seen: str
    takes: str
    held: bool


def memory(name: str, samples: Sequence[float]) -> Line:
    """Resident memory in MB, sampled evenly over the run: the last quarter against what the warm-up left.

    Medians of windows, because one look may meet a reader's full outbox.
    """
    warm = list(samples[int(len(samples) * WARM_UP) :])
    quarter = max(1, len(warm) // 4)
    if len(warm) < 2:
        return Line(name, f"{len(warm)} samples", "a longer run", False)
    early, late = median(warm[:quarter]), median(warm[-quarter:])
    most = early * (1 + GROWTH) + SLACK_MB
    return Line(
        name,
        f"{early:.1f} -> {late:.1f} MB, most {max(samples):.1f}",
        f"<= {most:.1f}",
        late <= most,
    )


def judge(seen: Mapping[str, Any]) -> list[Line]:
    """`seen`: honest, health (asked, failed, p99_ms), memory (by name), alive (by name)."""
    honest, health = seen["honest"], seen["health"]
    lines = [
        Line("honest p99", f"{honest['p99_ms']} ms", f"< {P99_MS:g}", honest["p99_ms"] < P99_MS),
        Line("foreign frames", str(honest["foreign"]), "0", honest["foreign"] == 0),
        Line("honest messages lost", str(honest["lost"]), "0", honest["lost"] == 0),
        Line("honest clients cut", str(honest["cuts"]), "0", honest["cuts"] == 0),
        Line(
            "honest clients answered",
            f"{honest['answered']} answers, {honest['prices']} prices",
            "some of each",
            honest["answered"] > 0 and honest["prices"] > 0,
        ),
        Line(
            "GET /health",
            f"{health['failed']} of {health['asked']} unanswered, p99 {health['p99_ms']} ms",
            f"0 unanswered in {HEALTH_MS / 1000:g} s",
            health["failed"] == 0 and health["asked"] > 0,
        ),
    ]
    lines += [memory(f"memory, {name}", samples) for name, samples in seen["memory"].items()]
    lines += [
        Line(f"gateway, {name}", "serving" if alive else "gone", "serving", alive)
        for name, alive in seen["alive"].items()
    ]
    return lines


def table(lines: Sequence[Line]) -> str:
    """The bounds as text, broken ones marked."""
    rows = [("", "bound", "seen", "takes"), *(_row(line) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(line: Line) -> tuple[str, str, str, str]:
    return ("held" if line.held else "BROKEN", line.name, line.seen, line.takes)
