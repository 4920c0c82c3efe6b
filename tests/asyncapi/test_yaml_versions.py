"""YAML 1.1 and 1.2: what is read means what 1.2 says, and what is served both read alike.

The other reader is the npm package ``yaml``, which knows both versions; PyYAML is one of 1.1.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from moda.asyncapi import DocumentError, own
from moda.asyncapi.dump import to_yaml
from moda.asyncapi.source import read

from .official import run
from .support import document, room

WORDS = [
    "on",
    "off",
    "yes",
    "no",
    "y",
    "n",
    "Y",
    "N",
    "On",
    "OFF",
    "true",
    "TRUE",
    "True",
    "tRue",
    "null",
    "Null",
    "NULL",
    "nULL",
    "~",
    "012",
    "0o14",
    "0O14",
    "0x1F",
    "0b101",
    "-0x1F",
    "+0o7",
    "1_000",
    "0_1",
    "12:30:45",
    "1:30",
    "-1:30",
    "190:20:30.15",
    "2024-01-01",
    "2001-12-14t21:59:43.10-05:00",
    "1e3",
    "1E3",
    "1e+3",
    "1.e3",
    ".5",
    "+.5",
    "5.",
    "-5.",
    "+5",
    "+1e3",
    "1.2.3",
    "3.0.0",
    ".",
    "..",
    "...",
    "e4",
    "+E9",
    "--",
    "---",
    "=",
    "00",
    "0",
    "-0",
    "08",
    "0o8",
    "0xg",
    "_1",
    "1__0",
    "1e",
    "0.1e-3",
    "1,000",
    "0x",
    "0b",
    "0o",
    "1:60",
    "1:2:3:4",
    "+1:30",
    "#a",
    "a#b",
    "http://x",
    "a:b",
    "::a",
]
LINES = ["a\u2028b", "a\u2029b", "a\x85b", "a\nb\u2028c\nd\n", "x\n\x85y\n", "a\rb", "a\r\nb\n"]
ODD = [
    "",
    " a",
    "a ",
    "\ta",
    "a\t\n",
    "a\n b\n",
    "\na",
    "a: b",
    "a #b",
    "---\na",
    "\x7f",
    "é",
    "😀\n😀",
    "\ufeffa",
]

ALPHABET = (
    "0123456789" * 2 + "__..::++--eExXobTtZz ~ynYNaf#'\"\n,[]{}?!&*|>%@`\\\t\r\u2028\u2029\x85=<"
)
TEXT = st.text(st.sampled_from(ALPHABET), max_size=9) | st.text(st.characters(codec="utf-8"))


def read_by_all(trees: list[dict[str, Any]]) -> None:
    """Every tree, written, has to be itself for each reader."""
    texts = [to_yaml(tree).decode() for tree in trees]
    for tree, text, found in zip(trees, texts, run("yaml_values.mjs", texts), strict=True):
        assert {
            "npm 1.1": json.loads(found["1.1"] or "null"),
            "npm 1.2": json.loads(found["1.2"] or "null"),
            "PyYAML": yaml.safe_load(text),
            "moda": read(text.encode())[1],
        } == dict.fromkeys(("npm 1.1", "npm 1.2", "PyYAML", "moda"), tree), text


def test_words_the_versions_differ_on_are_served_as_the_same_words_for_both() -> None:
    texts = [*WORDS, *LINES, *ODD]
    read_by_all([{"v": text, "l": [text, [text]], "m": {"k": {text: text}}} for text in texts])


@settings(max_examples=6, deadline=None)
@given(st.lists(TEXT, min_size=100, max_size=400))
def test_any_text_is_served_as_the_same_text_for_both(texts: list[str]) -> None:
    read_by_all([{"v": text, "m": {text: [text]}} for text in texts])


def test_numbers_are_served_as_the_same_numbers_for_both() -> None:
    numbers = [
        0,
        -1,
        12,
        8,
        1000,
        2**53 - 1,
        0.5,
        -0.25,
        1e3,
        1e16,
        1e-7,
        1.5e300,
        5e-324,
        True,
        None,
    ]
    read_by_all([{"v": number, "l": [number]} for number in numbers])


def test_what_moda_serves_both_read_alike() -> None:
    odd = room(
        channels__room__messages__say__payload={"enum": [*WORDS, *LINES], "default": "y"},
        channels__room__messages__on={"name": "no", "summary": "a\u2028b"},
    )
    read_by_all([own().root, document(odd).root])


def test_unquoted_words_mean_what_a_reader_of_1_2_makes_of_them() -> None:
    texts = [
        f"v: {word}\n" for word in (*WORDS, "a\u2028b", "'a\u2028  b'", '"a\x85b"', '"\\L\\u2028"')
    ]
    texts += [
        "v: a \u2028# b\n",
        "# c\u2028d: e\nv: a\n",
        "v: [a\u2028, b]\n",
        "v: |\n  a\u2028  b\n  c\n",
        "v\u2028w: a\n",
        "'v\u2029w': a\n",
        "%YAML 1.2\n---\nv: on\n",
        "\ue000: a\u2028b\ue001\n",
    ]
    for text, found in zip(texts, run("yaml_values.mjs", texts), strict=True):
        expected = json.loads(found["1.2"])
        assert read(text.encode())[1] == expected, text
        value, other = read(text.encode())[1].get("v"), expected.get("v")
        assert isinstance(value, bool) == isinstance(other, bool), text


@pytest.mark.parametrize("word", ["on", "012", "1_000", "12:30:45", "2024-01-01", "1e3", "0o14"])
def test_a_document_that_says_it_is_1_1_holds_no_word_the_versions_differ_on(word: str) -> None:
    texts = [f"v: {word}", f"v: [a, {word}]"]
    if word not in ("1e3", "0o14"):  # Words in 1.1, as keys are in any version.
        texts.append(f"{word}: a")
    for text in texts:
        with pytest.raises(DocumentError, match=r"under %YAML 1\.1, which reads it otherwise"):
            read(f"%YAML 1.1\n---\n{text}\n".encode())
    quoted = f"%YAML 1.1\n---\nv: '{word}'\n200: 12\nx: a b\ny: true\n".replace("y:", "z:")
    assert read(quoted.encode())[1] == {"v": word, "200": 12, "x": "a b", "z": True}
