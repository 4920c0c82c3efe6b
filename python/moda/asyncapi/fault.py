"""What is wrong with a document, said so that its author can mend it without reading moda.

Every message has the same four parts: where (the file and a JSON pointer into it), what is
wrong, what was received, what is accepted. A document is read once, at start, by the person who
runs the server; a message that costs them a search costs more than any check in this package.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from moda.errors import ConfigurationError

_SHOWN = 60
_HEAD, _TAIL = 160, 80


class DocumentError(ConfigurationError):
    """An AsyncAPI document cannot be used as it stands. Raised at start, never per message.

    ``source`` names the document, ``pointer`` the place in it (``#/channels/room/address``),
    ``problem`` the rest of the message.

    >>> str(DocumentError("my.yaml", "#/channels/room", "the channel has no address"))
    'my.yaml: #/channels/room: the channel has no address'
    """

    def __init__(self, source: str, pointer: str, problem: str) -> None:
        self.source = source
        self.pointer = pointer
        self.problem = problem
        super().__init__(f"{source}: {pointer}: {problem}")


def shown(value: Any) -> str:
    """A received value, short enough for a log line: JSON when small, its kind and size when not.

    >>> shown("lossy"), shown([1, 2]), shown("x" * 500)
    ('"lossy"', 'an array of 2 items', 'a string of 500 characters')
    """
    if isinstance(value, dict):
        return f"an object with {len(value)} {'field' if len(value) == 1 else 'fields'}"
    if isinstance(value, (list, tuple)):
        return f"an array of {len(value)} {'item' if len(value) == 1 else 'items'}"
    if isinstance(value, str):
        if len(value) <= _SHOWN:
            return json.dumps(value, ensure_ascii=False)
        return f"a string of {len(value)} characters"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{len(value)} bytes"
    if isinstance(value, int) and value.bit_length() > 128:
        return "a very large number"
    text = str(value) if isinstance(value, Decimal) else json.dumps(value, default=repr)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def reference(ref: str) -> str:
    """A reference or pointer in a message: whole when it can be, else its two ends.

    A long one is a URL whose server is at its beginning and whose file and place are at its end;
    its author needs both to find it.

    >>> reference("https://example.com/" + "a/" * 500 + "room.yaml#/say")[-20:]
    'a/a/a/room.yaml#/say'
    """
    if len(ref) > _HEAD + _TAIL:
        ref = f"{ref[:_HEAD]}…{ref[-_TAIL:]}"
    return ref if ref.isprintable() else json.dumps(ref, ensure_ascii=True)


def listed(values: Iterable[Any]) -> str:
    """Accepted values as prose, at most ten of them.

    >>> listed(["every", "latest"])
    'every, latest'
    """
    items = [value if isinstance(value, str) else shown(value) for value in values]
    more = f" and {len(items) - 10} more" if len(items) > 10 else ""
    return ", ".join(items[:10]) + more


def nearest(word: str, known: Iterable[str]) -> str:
    """A did-you-mean for a misspelt word, with a leading space, or nothing.

    >>> nearest("max_subscribers", ["maxSubscribers", "key"])
    ' (did you mean "maxSubscribers"?)'
    """
    candidates = list(known)
    folded = {
        candidate.lower().replace("_", "").replace("-", ""): candidate for candidate in candidates
    }
    same = folded.get(word.lower().replace("_", "").replace("-", ""))
    close = [same] if same else get_close_matches(word, candidates, n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""
