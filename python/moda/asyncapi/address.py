"""Channel addresses: what a template matches, and what its parameters are then.

The rule is the router's (``rust/core``, ``router.rs``), so that a document and
``@gateway.channel`` mean one thing by one text, and a topic has one answer whoever is asked:

- literal text matches itself;
- a parameter takes at least one character; before literal text it ends at the first occurrence of
  that text, at the end of the address it takes everything left, separators included:
  ``y_doc_room:{docName}`` matches ``y_doc_room:excalidraw:board-1``;
- a ``*`` at the end takes everything left, even nothing, as Phoenix's prefixes do.

Nothing is ever tried twice, so a match is one pass over the topic whatever a client sends. Two
parameters in a row would leave a choice open and are refused. Of two addresses that match the same
topic the first declared wins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from moda.asyncapi.fault import DocumentError, listed, shown

MAX_ADDRESS = 1024

_PIECE = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z0-9_-]+\Z")


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address template.

    ``template`` is the text as declared, ``parameters`` the names in order, ``literals`` the text
    before, between and after them. ``prefix`` is whether a ``*`` ends it.
    """

    template: str
    parameters: tuple[str, ...]
    literals: tuple[str, ...]
    prefix: bool

    @property
    def shape(self) -> str:
        """The template without the names: two addresses of one shape match the same topics.

        >>> parse("room:{id}").shape == parse("room:{room_id}").shape
        True
        """
        return "{}".join(self.literals) + ("*" if self.prefix else "")

    def match(self, topic: str) -> dict[str, str] | None:
        """The parameters of a topic, or None when the address does not match it.

        >>> parse("run.{run}.step.{step}").match("run.7.step.build.2")
        {'run': '7', 'step': 'build.2'}
        """
        if not topic.startswith(self.literals[0]):
            return None
        found: dict[str, str] = {}
        at = len(self.literals[0])
        for name, after in zip(self.parameters, self.literals[1:], strict=True):
            end = topic.find(after, at + 1) if after else len(topic)
            if end <= at:
                return None
            found[name] = topic[at:end]
            at = end + len(after)
        return found if self.prefix or at == len(topic) else None


def parse(template: str, *, source: str = "document", where: str = "#") -> Address:
    """Reads an address.

    Raises DocumentError (at ``where``) when the template is empty, has unbalanced braces, a
    parameter without a proper name, one name twice, two parameters with nothing between them, or a
    ``*`` anywhere but at its end.
    """

    def wrong(problem: str) -> DocumentError:
        return DocumentError(source, where, f"the address {shown(template)} {problem}")

    if not template:
        raise DocumentError(
            source, where, "the address is empty; accepted: a topic such as room:{id}"
        )
    if len(template) > MAX_ADDRESS:
        raise wrong(f"is too long; accepted: up to {MAX_ADDRESS} characters")
    prefix = template.endswith("*")
    parts = _PIECE.split(template.removesuffix("*"))
    literals, names = parts[0::2], parts[1::2]
    for literal in literals:
        if "{" in literal or "}" in literal:
            raise wrong("has a brace without its partner; accepted: literal text and {parameter}")
        if "*" in literal:
            raise wrong("has a * before its end; accepted: one * as the last character")
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
    if prefix and names and not literals[-1]:
        raise wrong(
            f"has * right after {{{names[-1]}}}, which takes everything already;"
            " accepted: either of them"
        )
    return Address(template, tuple(names), tuple(literals), prefix)


def known_parameters(address: Address) -> str:
    """The parameters of an address as prose, for an error that names a wrong one."""
    return listed(address.parameters) or "none: the address has no {parameter}"
