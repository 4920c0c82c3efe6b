"""A tree as YAML or JSON text.

PyYAML writes YAML 1.1 and quotes what YAML 1.1 would misread; moda reads YAML 1.2, where a few more
plain words are numbers (``1e3``, ``0o17``). Those are quoted as well, so that what is served reads
back as itself under either. Aliases are never written: the tree is bounded, and not every tool of
the field expands them.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from moda.asyncapi.source import scalar

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_DUMPER):  # type: ignore[misc, valid-type]
    """libyaml's emitter with moda's choice of quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: Any, text: str) -> Any:
    style = None
    if (
        "\n" in text
        and all(line == line.rstrip() for line in text.split("\n"))
        and text.strip("\n")
    ):
        style = "|"
    elif not isinstance(scalar(text), str):
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
