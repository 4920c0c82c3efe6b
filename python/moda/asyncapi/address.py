"""Channel addresses: what a template matches, and what its parameters are then.

The rule, the same as the router's, so that a document and ``@gateway.channel`` mean one thing:

- literal text matches itself;
- a parameter followed by literal text takes one or more characters up to the first character of
  that text: in ``run.{run}.step.{step}`` a run holds no dot;
- a parameter that ends the address takes everything left, separators included and at least one
  character: ``y_doc_room:{docName}`` matches ``y_doc_room:excalidraw:board-1``;
- a ``*`` that ends the address takes everything left, nothing included, as Phoenix's prefixes do;
- an ``enum`` on a parameter narrows it to those values.

No choice is ever left open, so a match is one pass over the topic whatever a client sends. Two
parameters in a row would leave one open and are refused. Of two addresses that match the same
topic the first declared wins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from moda.asyncapi.fault import DocumentError, listed, shown

MAX_ADDRESS = 1024

_PIECE = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z0-9_-]+\Z")


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address template.

    ``template`` is the text as declared, ``parameters`` the names in order, ``shape`` the template
    with its names taken out: two addresses of one shape match the same topics.
    """

    template: str
    parameters: tuple[str, ...]
    shape: str
    exact: bool
    _regex: re.Pattern[str] = field(repr=False, compare=False)

    def match(self, topic: str) -> dict[str, str] | None:
        """The parameters of a topic, or None when the address does not match it.

        >>> parse("room:{id}").match("room:7")
        {'id': '7'}
        """
        if self.exact:
            return {} if topic == self.template else None
        found = self._regex.fullmatch(topic)
        return dict(zip(self.parameters, found.groups(), strict=True)) if found else None


def parse(
    template: str,
    enums: Mapping[str, tuple[str, ...]] | None = None,
    *,
    source: str = "document",
    where: str = "#",
) -> Address:
    """Compiles an address. ``enums`` narrows parameters by name.

    Raises DocumentError (at ``where``) when the template is empty, has unbalanced braces, a parameter
    without a proper name, one name twice, or two parameters with nothing between them.
    """

    def wrong(problem: str) -> DocumentError:
        return DocumentError(source, where, f"the address {shown(template)} {problem}")

    if not template:
        raise DocumentError(
            source, where, "the address is empty; accepted: a topic such as room:{id}"
        )
    if len(template) > MAX_ADDRESS:
        raise wrong(f"is too long; accepted: up to {MAX_ADDRESS} characters")
    parts = _PIECE.split(template)
    literals, names = parts[0::2], parts[1::2]
    for literal in literals:
        if "{" in literal or "}" in literal:
            raise wrong("has a brace without its partner; accepted: literal text and {parameter}")
    for index, name in enumerate(names):
        if not _NAME.match(name):
            raise wrong(f"has a parameter named {shown(name)}; accepted: letters, digits, _ and -")
        if name in names[:index]:
            raise wrong(f"uses the parameter {shown(name)} twice; accepted: each name once")
        if not literals[index + 1] and index + 1 < len(names):
            raise wrong(
                f"has nothing between {{{name}}} and {{{names[index + 1]}}};"
                " accepted: parameters with text between them"
            )
    prefix = literals[-1].endswith("*")
    if prefix and names and literals[-1] == "*":
        raise wrong(
            f"has * right after {{{names[-1]}}}, which takes everything already; accepted: either of them"
        )
    tail = literals[-1][:-1] if prefix else literals[-1]
    literals[-1] = tail
    regex = [re.escape(literals[0])]
    for index, name in enumerate(names):
        after = literals[index + 1]
        values = (enums or {}).get(name)
        if values:
            chosen = sorted(values, key=len, reverse=True)
            regex.append(f"({'|'.join(map(re.escape, chosen))})")
        else:
            regex.append(f"([^{re.escape(after[0])}]++)" if after else "(.+)")
        regex.append(re.escape(after))
    if prefix:
        regex.append(".*")
    return Address(
        template=template,
        parameters=tuple(names),
        shape=_shape(literals, names, enums) + ("*" if prefix else ""),
        exact=not names and not prefix,
        _regex=re.compile("".join(regex), re.DOTALL),
    )


def _shape(
    literals: list[str], names: list[str], enums: Mapping[str, tuple[str, ...]] | None
) -> str:
    pieces = [literals[0]]
    for name, literal in zip(names, literals[1:], strict=True):
        values = (enums or {}).get(name)
        pieces.append("{" + ("|".join(sorted(values)) if values else "") + "}" + literal)
    return "".join(pieces)


def known_parameters(address: Address) -> str:
    """The parameters of an address as prose, for an error that names a wrong one."""
    return listed(address.parameters) or "none: the address has no {parameter}"
