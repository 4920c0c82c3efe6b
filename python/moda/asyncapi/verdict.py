"""What a client is told about a payload that breaks its schema: a place and one sentence.

The sentences are moda's own, made from the kind of the failure, so that they stay the same when the
validator's wording changes, and never repeat more than 60 characters of what was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jsonschema_rs import ValidationError

from moda.asyncapi.fault import shown
from moda.asyncapi.pointer import of_path

PAYLOAD = "invalid payload"
TOPIC = "invalid topic"


@dataclass(frozen=True, slots=True)
class Invalid:
    """What is wrong with a message, as the response of its error reply.

    ``path`` is a JSON pointer into the payload, "" for the whole of it; for an invalid topic it
    names the parameter. ``message`` is a sentence for a person, ``reason`` a word for a program.
    """

    path: str
    message: str
    reason: str = PAYLOAD

    @property
    def response(self) -> dict[str, str]:
        """The response of the reply, whose status is "error".

        >>> Invalid("/interval_ms", "must be at least 250; received 1").response["path"]
        '/interval_ms'
        """
        return {"reason": self.reason, "path": self.path, "message": self.message}


_WORDS = {
    "array": "an array",
    "boolean": "true or false",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}


def explain(error: ValidationError, reason: str = PAYLOAD) -> Invalid:
    """A validator's error as moda tells it.

    Of a choice between shapes the one the payload was meant for is explained, where that can be
    told: the only one whose fixed fields the payload has.
    """
    error = _narrow(error)
    return Invalid(of_path(error.instance_path), _sentence(error), reason)


def _narrow(error: ValidationError) -> ValidationError:
    for _ in range(16):
        if error.kind.name not in ("anyOf", "oneOf"):
            break
        branches: list[list[ValidationError]] = getattr(error.kind, "context", [])
        depth = len(error.instance_path)
        meant = [
            branch
            for branch in branches
            if branch and not any(_rules_out(e, depth) for e in branch)
        ]
        if len(meant) != 1:
            break
        error = max(meant[0], key=lambda e: len(e.instance_path))
    return error


def _rules_out(error: ValidationError, depth: int) -> bool:
    """Whether an error says that a branch was for another value, not that this one is wrong."""
    below = len(error.instance_path) - depth
    return (error.kind.name == "type" and below == 0) or (
        error.kind.name in ("const", "enum") and below <= 1
    )


def _sentence(error: ValidationError) -> str:
    kind = error.kind
    if kind.name == "falseSchema" and error.schema_path[-1:] == ["additionalProperties"]:
        # Reported of the object, which is accepted: only its fields are not.
        return "must have no fields"
    say = _SENTENCES.get(kind.name)
    if say is None:
        return "is not what the schema accepts"
    return say(kind, error.instance)


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _types(kind: Any, value: Any) -> str:
    names = sorted(getattr(kind, "types", []), key=lambda name: name == "null")
    return (
        f"must be {' or '.join(_WORDS.get(name, name) for name in names)}; received {shown(value)}"
    )


def _unexpected(kind: Any, _: Any) -> str:
    names = kind.unexpected
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    word = "field" if len(names) == 1 else "fields"
    return f"must not have the {word} {', '.join(shown(name) for name in names[:5])}{more}"


def _options(kind: Any, value: Any) -> str:
    return (
        f"must be one of {', '.join(shown(option) for option in kind.options[:10])};"
        f" received {shown(value)}"
    )


def _choice(kind: Any, value: Any) -> str:
    context = getattr(kind, "context", [])
    if any(not branch for branch in context):
        return "must match one of the accepted shapes only; matches several"
    return f"must match one of the {len(context)} accepted shapes; received {shown(value)}"


def _pattern(kind: Any, value: Any) -> str:
    if not hasattr(kind, "pattern"):
        # The backtracking engine gave up. Whether the text matches is unknown, so it is refused.
        return (
            "must match a pattern that can be decided within the steps one is given;"
            f" received {shown(value)}"
        )
    return f"must match the pattern {shown(kind.pattern)}; received {shown(value)}"


_SENTENCES: dict[str, Callable[[Any, Any], str]] = {
    "type": _types,
    "required": lambda kind, _: f"must have the field {shown(kind.property)}",
    "additionalProperties": _unexpected,
    "enum": _options,
    "const": lambda kind, value: f"must be {shown(kind.expected_value)}; received {shown(value)}",
    "minimum": lambda kind, value: f"must be at least {shown(kind.limit)}; received {shown(value)}",
    "maximum": lambda kind, value: f"must be at most {shown(kind.limit)}; received {shown(value)}",
    "exclusiveMinimum": lambda kind, value: (
        f"must be more than {shown(kind.limit)}; received {shown(value)}"
    ),
    "exclusiveMaximum": lambda kind, value: (
        f"must be less than {shown(kind.limit)}; received {shown(value)}"
    ),
    "multipleOf": lambda kind, value: (
        f"must be a multiple of {shown(kind.multiple_of)}; received {shown(value)}"
    ),
    "minLength": lambda kind, value: (
        f"must have at least {_plural(kind.limit, 'character')}; received {len(value)}"
    ),
    "maxLength": lambda kind, value: (
        f"must have at most {_plural(kind.limit, 'character')}; received {len(value)}"
    ),
    "pattern": _pattern,
    "format": lambda kind, value: f"must be a valid {kind.format}; received {shown(value)}",
    "minItems": lambda kind, value: (
        f"must have at least {_plural(kind.limit, 'item')}; received {len(value)}"
    ),
    "maxItems": lambda kind, value: (
        f"must have at most {_plural(kind.limit, 'item')}; received {len(value)}"
    ),
    "uniqueItems": lambda _, __: "must not hold the same item twice",
    "contains": lambda _, __: "must hold an item of the accepted shape",
    "minProperties": lambda kind, value: (
        f"must have at least {_plural(kind.limit, 'field')}; received {len(value)}"
    ),
    "maxProperties": lambda kind, value: (
        f"must have at most {_plural(kind.limit, 'field')}; received {len(value)}"
    ),
    "propertyNames": lambda kind, _: f"has a field whose name {_sentence(kind.error)}",
    "anyOf": _choice,
    "oneOf": _choice,
    "not": lambda _, __: "must not match what the schema forbids",
    "falseSchema": lambda _, __: "is not accepted",
    "additionalItems": lambda kind, value: (
        f"must have at most {_plural(kind.limit, 'item')}; received {len(value)}"
    ),
}
