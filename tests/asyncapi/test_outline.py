"""Schemas as rows of a table."""

from __future__ import annotations

from typing import Any

import pytest

from moda.asyncapi.pages.outline import Outline, Row


def rows(schema: Any, **schemas: Any) -> list[Row]:
    return Outline({"components": {"schemas": schemas}}, "my.yaml").rows(schema)


def brief(schema: Any, **schemas: Any) -> list[tuple[int, str, str]]:
    return [(row.level, row.name, row.kind) for row in rows(schema, **schemas)]


def test_the_fields_of_an_object_are_rows_with_what_they_have_to_be() -> None:
    found = rows(
        {
            "type": "object",
            "required": ["n"],
            "properties": {
                "n": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 9,
                    "default": 2,
                    "description": "d",
                }
            },
        }
    )
    assert found == [Row(0, "n", "integer", None, True, ("≥ 1", "≤ 9", "default 2"), (), "d")]


def test_objects_written_in_place_are_opened_and_references_are_linked() -> None:
    schema = {
        "properties": {
            "inner": {"type": "object", "properties": {"deep": {"type": "string"}}},
            "other": {"$ref": "#/components/schemas/other"},
            "many": {"type": "array", "items": {"$ref": "#/components/schemas/other"}},
        }
    }
    found = rows(schema, other={"properties": {"x": {}}})
    assert [(row.level, row.name, row.kind, row.link) for row in found] == [
        (0, "inner", "object", None),
        (1, "deep", "string", None),
        (0, "other", "object", "other"),
        (0, "many", "array of other", "other"),
    ]


def test_a_value_that_is_no_plain_object_has_a_row_of_its_own() -> None:
    assert brief({"type": ["object", "null"], "properties": {"a": {}}}) == [
        (0, "", "object or null"),
        (1, "a", "anything"),
    ]
    assert brief({"type": "string"}) == [(0, "", "string")]
    assert brief(True) == [(0, "", "anything")]
    assert brief(False) == [(0, "", "nothing")]


def test_choices_are_opened_under_their_word() -> None:
    assert brief({"oneOf": [{"type": "string"}, {"properties": {"a": {"type": "null"}}}]}) == [
        (0, "", "one of 2"),
        (1, "one of, 1", "string"),
        (1, "one of, 2", "object"),
        (2, "a", "null"),
    ]


def test_a_description_beside_a_reference_is_shown_with_what_it_refers_to() -> None:
    decimal = {"type": "string", "pattern": "^[0-9]+$"}
    (found,) = rows(
        {
            "properties": {
                "p": {"allOf": [{"$ref": "#/components/schemas/decimal"}], "description": "Price."}
            }
        },
        decimal=decimal,
    )
    assert found == Row(0, "p", "string", "decimal", False, ("matches ^[0-9]+$",), (), "Price.")


@pytest.mark.parametrize(
    ("schema", "kind", "values"),
    [
        ({"enum": ["a", "b"]}, "string", ('"a"', '"b"')),
        ({"enum": ["a", 1, None, True]}, "string or integer or null or boolean", None),
        ({"const": {"a": 1}}, "object", ('{"a": 1}',)),
        (
            {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
            "array of array of number",
            (),
        ),
        ({"type": "array", "items": True}, "array", ()),
        ({"const": "x" * 500}, "string", ('"' + "x" * 118 + "…",)),
    ],
)
def test_kinds_and_values(schema: Any, kind: str, values: tuple[str, ...] | None) -> None:
    (found,) = rows(schema)[:1]
    assert found.kind == kind
    assert values is None or found.values == values


def test_one_item_is_no_items() -> None:
    (found,) = rows({"type": "array", "minItems": 1, "maxItems": 21, "uniqueItems": True})
    assert found.limits == ("at least 1 item", "at most 21 items", "no item twice")


def test_rest_and_patterns_and_tuples_are_places_too() -> None:
    assert brief(
        {
            "properties": {"a": {"type": "null"}},
            "patternProperties": {"^x-": {"type": "string"}},
            "additionalProperties": {"type": "number"},
        }
    ) == [(0, "a", "null"), (0, "/^x-/", "string"), (0, "…", "number")]
    assert brief({"properties": {"a": {}}, "additionalProperties": False})[-1] == (
        0,
        "…",
        "nothing else",
    )
    assert brief({"items": [{"type": "string"}, {"type": "null"}]})[1:] == [
        (1, "[0]", "string"),
        (1, "[1]", "null"),
    ]
