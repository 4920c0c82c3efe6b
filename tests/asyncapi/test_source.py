"""Reading: what is accepted, and that no document can cost more than its bounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.asyncapi import DocumentError
from moda.asyncapi.dump import to_json, to_yaml
from moda.asyncapi.source import MAX_BYTES, MAX_DEPTH, MAX_DIGITS, MAX_NODES, read

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**30), max_value=10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


def value(text: str) -> object:
    return read(f"v: {text}".encode())[1]["v"]


def failure(text: str | bytes) -> str:
    with pytest.raises(DocumentError) as caught:
        read(text if isinstance(text, bytes) else text.encode(), "my.yaml")
    return str(caught.value)


def test_a_document_is_read_from_a_path_and_named_after_its_file(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("a: 1\n")
    assert read(path) == ("my.yaml", {"a": 1})
    assert read(str(path)) == ("my.yaml", {"a": 1})


def test_a_missing_file_is_named_with_what_the_system_says(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"gone\.yaml: #: cannot be read: No such file"):
        read(tmp_path / "gone.yaml")


def test_a_byte_order_mark_is_no_part_of_the_document() -> None:
    assert read(b"\xef\xbb\xbfa: 1")[1] == {"a": 1}


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("no", "no"),
        ("on", "on"),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("0o17", 15),
        ("0x1F", 31),
        ("017", 17),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-12", -12),
        ("~", None),
        ("", None),
        ("True", True),
        ('"1"', "1"),
        ("'null'", "null"),
        ("!!str 1", "1"),
        ("!!float 1", 1.0),
        ("!!int '7'", 7),
    ],
)
def test_unquoted_words_mean_what_yaml_1_2_says(text: str, meaning: object) -> None:
    found = value(text)
    assert (type(found), found) == (type(meaning), meaning)


def test_keys_are_strings_whatever_they_look_like() -> None:
    assert read(b"on: 1\n200: 2\nnull: 3")[1] == {"on": 1, "200": 2, "null": 3}


def test_aliases_and_merge_keys_are_written_out() -> None:
    root = read(b"a: &x {k: 1, l: 2}\nb: *x\nc:\n  <<: *x\n  k: 9\nd:\n  <<: [{k: 5}, *x]")[1]
    assert root["b"] == {"k": 1, "l": 2}
    assert root["c"] == {"k": 9, "l": 2}
    assert root["d"] == {"k": 5, "l": 2}


@given(JSON)
def test_whatever_is_written_as_yaml_or_json_reads_back_as_itself(tree: object) -> None:
    assert read(to_yaml({"v": tree}))[1] == {"v": tree}
    assert read(to_json({"v": tree}))[1] == {"v": tree}


@given(JSON)
def test_json_from_anywhere_is_read_as_json_would_be(tree: object) -> None:
    assert read(json.dumps({"v": tree}).encode())[1] == {"v": tree}


@given(st.binary(max_size=200) | st.text("[]{}:,&*!<\"'|>-? \nab1", max_size=200).map(str.encode))
def test_any_bytes_are_a_document_or_a_documented_error(data: bytes) -> None:
    root: object = None
    try:
        _, root = read(data)
    except DocumentError as error:
        message = str(error)
    else:
        message = "document: " + json.dumps(root, allow_nan=False)
    assert message.startswith("document: ")


# -- hostile documents


def test_a_bomb_of_aliases_is_refused_before_it_is_walked() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "too many values" in failure("\n".join(lines))


def test_a_bomb_of_merge_keys_is_refused_too() -> None:
    lines = ["a0: &a0 {k: [x, x, x, x, x, x, x, x, x, x]}"]
    for n in range(1, 10):
        body = ", ".join(f"k{i}: {{<<: *a{n - 1}}}" for i in range(10))
        lines.append(f"a{n}: &a{n} {{{body}}}")
    assert "too many values" in failure("\n".join(lines))


def test_an_alias_that_holds_itself_is_refused() -> None:
    assert "line 1: the alias *x holds itself" in failure("a: &x [1, *x]")


def test_an_alias_without_an_anchor_is_refused() -> None:
    assert "line 2: the alias *gone names no anchor above it" in failure("a: 1\nb: *gone")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "a: " + "{b: " * 50_000])
def test_deep_nesting_is_refused_and_does_not_end_the_process(text: str) -> None:
    assert "nested too deeply" in failure(text)


def test_a_chain_of_aliases_is_as_deep_as_what_it_stands_for() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, MAX_DEPTH + 1)]
    assert "nested too deeply" in failure("\n".join(lines))


def test_more_bytes_or_values_than_the_bound_are_refused() -> None:
    assert f"up to {MAX_BYTES} bytes" in failure(b"a: " + b"x" * MAX_BYTES)
    assert "too many values" in failure("a: [" + "1," * MAX_NODES + "1]")
    assert "too many values" in failure('{"a": [' + "1," * MAX_NODES + "1]}")


@pytest.mark.parametrize("number", ["9" * (MAX_DIGITS + 1), "-" + "9" * 5000])
def test_a_number_of_too_many_digits_is_refused(number: str) -> None:
    assert "digits; accepted: up to 400" in failure(f"a: {number}")
    assert "digits; accepted: up to 400" in failure(f'{{"a": {number}}}')


@pytest.mark.parametrize(
    "text", ["a: .nan", "a: -.inf", '{"a": NaN}', '{"a": -Infinity}', "a: 1e999", '{"a": 1e999}']
)
def test_a_number_that_json_cannot_say_is_refused(text: str) -> None:
    assert "finite numbers" in failure(text)


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3", '{"a": 1, "b": 2, "a": 3}'])
def test_a_key_given_twice_is_refused_and_named(text: str) -> None:
    assert 'the key "a" is given twice in one object' in failure(text)


def test_among_very_many_keys_the_one_given_twice_is_found_as_fast_as_they_are_read() -> None:
    keys = ",".join(f'"{n}":0' for n in range(300_000))
    assert 'the key "299999" is given twice in one object' in failure(f'{{{keys},"299999":1}}')


@pytest.mark.parametrize(
    "text", ["a: !!python/object:os.system {}", "a: !custom x", "a: !!binary aGk=", "!!omap [a: 1]"]
)
def test_a_tag_beyond_plain_values_is_refused(text: str) -> None:
    assert "accepted: plain JSON values, no tags" in failure(text)


def test_a_collection_as_a_key_is_refused() -> None:
    assert "a key received a collection" in failure("? [a, b]\n: 1")
    assert "a key received a collection" in failure("a: &x k\n? *x\n: 1")


def test_a_second_document_in_the_file_is_refused() -> None:
    assert "line 2: a second document begins here" in failure("a: 1\n---\nb: 2")


def test_what_is_no_yaml_is_refused_with_its_line() -> None:
    assert failure("a: [1,\nb: }").startswith("my.yaml: line 2, column")


def test_what_is_no_utf_8_is_refused_with_the_byte() -> None:
    assert "byte 3 is not UTF-8" in failure(b"a: \xff")


def test_half_a_surrogate_pair_is_refused() -> None:
    assert "half of a surrogate pair" in failure(rb'{"a": "\ud800"}')
    assert "half of a surrogate pair" in failure(rb'{"\udfff": 1}')


@pytest.mark.parametrize("text", ["", "just text", "[1, 2]", "# only a comment"])
def test_a_root_that_is_no_object_is_refused(text: str) -> None:
    assert "accepted: an AsyncAPI object" in failure(text)
