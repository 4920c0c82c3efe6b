"""Writes the README's table of figures from the committed results, so that nobody types one.

`python -m benches.table` rewrites what stands between the markers, `--check` fails when it is not
what the results say.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"


def number(value: float | None) -> str:
    """Three significant figures below a thousand, thousands separated above."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def line(figure: dict[str, Any]) -> str:
    """One row of the Markdown table."""
    ratio = "-" if figure["ratio"] is None else f"{figure['ratio']:.2f}"
    cells = [
        figure["name"],
        f"{number(figure['value'])} {figure['unit']}",
        number(figure["limit"]),
        ratio,
        figure["target"],
        "yes" if figure["met"] else "**no**",
    ]
    return f"| {' | '.join(cells)} |"


def table(results: dict[str, Any]) -> str:
    """The whole table with the machine it was measured on."""
    machines = {json.dumps(row["machine"], sort_keys=True) for row in results.values()}
    revisions = sorted({row["revision"] for row in results.values()})
    dates = sorted(row["date"][:10] for row in results.values())
    lines = [
        "| bench | moda | limit or baseline | ratio | target | met |",
        "|---|---|---|---|---|---|",
        *(line(figure) for row in results.values() for figure in row["figures"]),
        "",
    ]
    for text in sorted(machines):
        facts = json.loads(text)
        lines.append(
            f"Measured on {facts['cores']} cores of {facts['processor']}, Linux "
            f"{facts['kernel']}, Python {facts['python']}: the server on one core, the load on "
            "the other."
        )
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    lines.append(f"{when}, revision {', '.join(revisions)}. `make bench` measures again.")
    return "\n".join(lines)


def rendered(readme: str, results: dict[str, Any]) -> str:
    """The README with its table replaced. ValueError when the markers are missing."""
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README has no {BEGIN} ... {END}")
    return f"{head}{BEGIN}\n{table(results)}\n{END}{tail}"


def main(words: list[str] | None = None) -> int:
    """Rewrites or checks the README; 1 when `--check` finds it stale."""
    parser = argparse.ArgumentParser(prog="benches.table", description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benches" / "results" / "system.json"
    )
    options = parser.parse_args(words)
    readme = options.readme.read_text()
    wanted = rendered(readme, json.loads(options.results.read_text()))
    if wanted == readme:
        return 0
    if options.check:
        print(f"{options.readme} is stale: run `python -m benches.table`", file=sys.stderr)
        return 1
    options.readme.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
