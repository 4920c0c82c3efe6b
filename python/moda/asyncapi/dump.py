"""A tree as YAML or JSON text.

Readers of YAML 1.1 and of 1.2 have to read what is served alike. PyYAML quotes what it would itself
misread, which leaves three kinds to this module: words of 1.2 (``1e3`` and ``0o17`` are numbers),
words of 1.1 that PyYAML does not know (``y`` and ``n`` are booleans, ``.`` a number), and the three
characters that break a line in 1.1 and are text in 1.2, which are written as escapes. Aliases are
never written: the tree is bounded, and not every tool of the field expands them.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from moda.asyncapi.source import scalar

_OLD = re.compile(
    r"(?:[yYnN]|[-+]?[0-9_]*\.?[0-9_]*(?:[eE][-+]?[0-9_]+)?|[-+]?0[bB][01_]+"
    r"|[-+]?0[xX][0-9a-fA-F_]+|[-+]?[0-9][0-9_]*(?::[0-9]+)+(?:\.[0-9_]*)?)\Z"
)
"""What some reader of YAML 1.1 may take for something else than a word; more than each of them does."""
_BREAKS = frozenset("\r\x85\u2028\u2029")
"""What breaks a line in YAML 1.1, or is made into another break by it, beside a line feed."""

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_DUMPER):  # type: ignore[misc, valid-type]
    """libyaml's emitter with moda's choice of quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: Any, text: str) -> Any:
    style = None
    if not _BREAKS.isdisjoint(text):
        style = '"'
    elif (
        "\n" in text
        and all(line == line.rstrip() for line in text.split("\n"))
        and text.strip("\n")
    ):
        style = "|"
    elif not isinstance(scalar(text), str) or _OLD.match(text):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _string)


def to_yaml(root: Any) -> bytes:
    """The tree as UTF-8 YAML, keys in their order."""
    text: str = yaml.dump(
        root, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, indent=2
    )
    return text.encode()


def to_json(root: Any) -> bytes:
    """The tree as UTF-8 JSON, two spaces deep, keys in their order."""
    return json.dumps(root, ensure_ascii=False, indent=2).encode() + b"\n"
