"""Payload schemas: what is compiled, what is refused, and what a client is told."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.asyncapi import DocumentError, Invalid, Registry, check
from moda.asyncapi.graph import Graph, Spread
from moda.asyncapi.schema import MAX_EXPLAINED

from .support import document as load
from .support import payload_document, route_for

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=15,
)


def verdict(schema: Any, payload: Any, **components: Any) -> tuple[str, str] | None:
    invalid = check(route_for(schema, **components), "e", payload)
    return None if invalid is None else (invalid.path, invalid.message)


def refusal(schema: Any, **components: Any) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        route_for(schema, **components)
    return caught.value


# -- what a client is told


@pytest.mark.parametrize(
    ("schema", "value", "message"),
    [
        ({"type": "integer"}, "x", 'must be an integer; received "x"'),
        (
            {"type": ["null", "object"]},
            [1],
            "must be an object or null; received an array of 1 item",
        ),
        ({"type": "boolean"}, 1, "must be true or false; received 1"),
        ({"minimum": 250}, 1, "must be at least 250; received 1"),
        ({"maximum": 60000}, 1e300, "must be at most 60000; received 1e+300"),
        ({"maximum": 1}, 10**400, "must be at most 1; received a very large number"),
        ({"exclusiveMinimum": 0}, 0, "must be more than 0; received 0"),
        ({"exclusiveMaximum": 1}, 1, "must be less than 1; received 1"),
        ({"multipleOf": 5}, 7, "must be a multiple of 5; received 7"),
        ({"minLength": 1}, "", "must have at least 1 character; received 0"),
        ({"maxLength": 3}, "abcd", "must have at most 3 characters; received 4"),
        ({"pattern": "^[a-z]+$"}, "A", 'must match the pattern "^[a-z]+$"; received "A"'),
        ({"format": "email"}, "x", 'must be a valid email; received "x"'),
        ({"enum": ["a", 2]}, 3, 'must be one of "a", 2; received 3'),
        ({"const": "on"}, None, 'must be "on"; received null'),
        ({"minItems": 2}, [1], "must have at least 2 items; received 1"),
        ({"maxItems": 1}, [1, 2], "must have at most 1 item; received 2"),
        ({"uniqueItems": True}, [1, 1], "must not hold the same item twice"),
        ({"contains": {"const": 1}}, [2], "must hold an item of the accepted shape"),
        ({"items": [{}], "additionalItems": False}, [1, 2], "must have at most 1 item; received 2"),
        ({"minProperties": 1}, {}, "must have at least 1 field; received 0"),
        ({"maxProperties": 1}, {"a": 1, "b": 2}, "must have at most 1 field; received 2"),
        ({"required": ["body"]}, {}, 'must have the field "body"'),
        ({"dependencies": {"a": ["b"]}}, {"a": 1}, 'must have the field "b"'),
        ({"additionalProperties": False}, {"z": 1}, "must have no fields"),
        (
            {"properties": {"a_": {}}, "additionalProperties": False},
            {"z": 1},
            'must not have the field "z"',
        ),
        (
            {"propertyNames": {"pattern": "^a"}},
            {"b": 1},
            'has a field whose name must match the pattern "^a"; received "b"',
        ),
        ({"not": {"type": "string"}}, "x", "must not match what the schema forbids"),
        (False, 1, "is not accepted"),
        (
            {"if": {"type": "string"}, "then": {"minLength": 2}},
            "a",
            "must have at least 2 characters; received 1",
        ),
        ({"contentEncoding": "base64"}, "!!", "is not what the schema accepts"),
    ],
)
def test_every_kind_of_failure_is_one_sentence(schema: Any, value: Any, message: str) -> None:
    assert verdict({"properties": {"v": schema}}, {"v": value}) == ("/v", message)


def test_the_path_is_a_json_pointer_into_the_payload() -> None:
    schema = {"properties": {"a/b": {"items": {"properties": {"c~d": {"type": "string"}}}}}}
    assert verdict(schema, {"a/b": [{}, {"c~d": 1}]}) == (
        "/a~1b/1/c~0d",
        "must be a string; received 1",
    )
    assert verdict({"type": "object"}, "x") == ("", 'must be an object; received "x"')


def test_the_reply_has_the_three_fields_of_an_invalid_payload() -> None:
    assert Invalid("/interval_ms", "must be at least 250; received 1").response == {
        "reason": "invalid payload",
        "path": "/interval_ms",
        "message": "must be at least 250; received 1",
    }


@pytest.mark.parametrize("size", [61, 1_000, 100_000])
def test_a_message_never_carries_much_of_what_was_sent(size: int) -> None:
    found = verdict({"type": "integer"}, "x" * size)
    assert found == ("", f"must be an integer; received a string of {size} characters")


CHOICE = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"kind": {"const": "circle"}, "r": {"type": "number"}},
            "required": ["kind", "r"],
        },
        {
            "type": "object",
            "properties": {"kind": {"const": "square"}, "side": {"type": "number"}},
            "required": ["kind", "side"],
        },
        {"type": "string"},
    ]
}


def test_of_a_choice_the_shape_that_was_meant_is_explained() -> None:
    assert verdict(CHOICE, {"kind": "circle"}) == ("", 'must have the field "r"')
    assert verdict(CHOICE, {"kind": "square", "side": "2"}) == (
        "/side",
        'must be a number; received "2"',
    )


def test_of_a_choice_every_field_that_is_too_much_is_named_up_to_five() -> None:
    closed = {"type": "object", "properties": {"z": {}}, "additionalProperties": False}
    found = verdict({"anyOf": [closed, {"type": "string"}]}, dict.fromkeys("abcdefg", 1))
    assert found == ("", 'must not have the fields "a", "b", "c", "d", "e" and 2 more')


def test_of_a_choice_none_is_guessed_when_several_could_be_meant() -> None:
    assert verdict(CHOICE, 5) == ("", "must match one of the 3 accepted shapes; received 5")
    assert verdict({"oneOf": [{"type": "integer"}, {"minimum": 1}]}, 5) == (
        "",
        "must match one of the accepted shapes only; matches several",
    )


def test_references_and_recursive_schemas_are_followed() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/node"}}}
    route = route_for({"$ref": "#/components/schemas/node"}, node=node)
    assert check(route, "e", {"next": {"next": {}}}) is None
    assert check(route, "e", {"next": {"next": 1}}) == Invalid(
        "/next/next", "must be an object; received 1"
    )


@pytest.mark.parametrize(
    ("key", "ref"),
    [
        ("with space", "with%20space"),
        ("100%", "100%25"),
        ("%41", "%2541"),
        ("a~b", "a~0b"),
        ("ü", "%C3%BC"),
        ("a.b-c_d", "a.b-c_d"),
    ],
)
def test_a_component_may_have_any_name_that_its_references_quote(key: str, ref: str) -> None:
    found = verdict({"$ref": f"#/components/schemas/{ref}"}, 1, **{key: {"type": "string"}})
    assert found == ("", "must be a string; received 1")


def test_a_reference_that_quotes_nothing_is_taken_as_it_is_written() -> None:
    schema = {"items": {"$ref": "#/components/schemas/with space"}}
    found = verdict(schema, [1], **{"with space": {"type": "string"}})
    assert found == ("/0", "must be a string; received 1")


@given(JSON)
def test_a_verdict_on_any_json_is_given_and_never_raised(payload: Any) -> None:
    route = route_for(CHOICE)
    invalid = check(route, "e", payload)
    if invalid is not None:
        orjson.dumps(invalid.response)
        assert len(invalid.message) < 300


# -- frames


def test_a_binary_frame_where_json_is_declared_is_refused_and_the_other_way_round() -> None:
    assert verdict({"type": "object"}, b"\x00" * 12) == (
        "",
        "must be JSON; received a binary frame of 12 bytes",
    )
    tree = payload_document({"type": "string", "format": "binary"})
    tree["channels"]["t"]["messages"]["e"]["contentType"] = "application/octet-stream"
    (route,) = Registry(load(tree)).routes
    assert check(route, "e", b"\x00") is None
    assert check(route, "e", {"a": 1}) == Invalid(
        "", "must be a binary frame; received JSON: an object with 1 field"
    )


# -- hostile payloads


TOO_MUCH = ("", "must match its schema; it is too large or too deep to say where it does not")


def test_a_payload_as_deep_as_json_can_be_is_judged() -> None:
    below = {"type": "object", "properties": {"v": {"$ref": "#/components/schemas/s"}}}
    schema = {"oneOf": [{"type": "null"}, below]}
    for leaf, expected in (("null", None), ("{}", None), ("5", TOO_MUCH)):
        payload = orjson.loads('{"v":' * 1023 + leaf + "}" * 1023)
        assert verdict({"$ref": "#/components/schemas/s"}, payload, s=schema) == expected


def test_what_is_no_json_at_all_is_refused_and_not_raised() -> None:
    assert verdict({"properties": {"a": {"type": "string"}}, "minProperties": 1}, {1: 2}) == (
        "",
        "must be plain JSON",
    )


def test_a_large_wrong_payload_is_refused_without_an_explanation_of_every_item() -> None:
    schema = {"oneOf": [{"items": {"type": "integer"}}, {"type": "object"}]}
    assert verdict(schema, ["x"] * (MAX_EXPLAINED + 1)) == TOO_MUCH
    assert verdict(schema, [1] * 100_000) is None


TREE = {
    "oneOf": [
        {
            "properties": {
                "kind": {"const": kind},
                "below": {"type": "array", "items": {"$ref": "#/components/schemas/tree"}},
            }
        }
        for kind in "abc"
    ]
}


def test_a_failure_deep_in_a_recursive_choice_is_not_explained_since_errors_multiply() -> None:
    route = route_for({"$ref": "#/components/schemas/tree"}, tree=TREE)
    payload: Any = {"kind": "wrong"}
    for _ in range(300):
        payload = {"kind": "c", "below": [payload]}
    assert check(route, "e", payload) == Invalid(*TOO_MUCH)
    assert check(route, "e", {"kind": "wrong"}) == Invalid(
        "", "must match one of the 3 accepted shapes; received an object with 1 field"
    )


@pytest.mark.parametrize(
    ("schema", "spread"),
    [
        ({"type": "object", "properties": {"a": {}}}, Spread(0, False, False)),
        ({"oneOf": [{"type": "string"}, {"properties": {"a": {}}}]}, Spread(4, False, False)),
        ({"items": {"anyOf": [{}, {}]}}, Spread(3, False, False)),
        ({"anyOf": [{"items": {}}, {}]}, Spread(4, True, False)),
        ({"$ref": "#/components/schemas/tree"}, Spread(1 << 62, True, True)),
    ],
)
def test_the_cost_of_an_explanation_is_known_beforehand(schema: Any, spread: Spread) -> None:
    tree = payload_document(schema, tree=TREE)
    graph = Graph(tree, "my.yaml")
    assert graph.spread(("#/channels/t/messages/e/payload",)) == spread


def test_messages_that_share_an_event_are_a_choice_between_their_schemas() -> None:
    tree = payload_document({"type": "string"})
    tree["channels"]["t"]["messages"]["f"] = {"name": "e", "payload": {"type": "integer"}}
    (route,) = Registry(load(tree)).routes
    assert check(route, "e", "x") is None
    assert check(route, "e", 5) is None
    assert check(route, "e", None) == Invalid(
        "", "must match one of the 2 accepted shapes; received null"
    )
    tree["channels"]["t"]["messages"]["g"] = {"name": "e"}
    (route,) = Registry(load(tree)).routes
    assert check(route, "e", None) is None, "a message without a schema takes anything"
    assert "e" not in route.inbound


def test_a_pattern_that_backtracks_is_given_up_and_not_waited_for() -> None:
    found = verdict({"pattern": r"^(?=a)(a|aa)+$"}, "a" * 50_000 + "!")
    assert found is not None
    assert len(found[1]) < 200


def test_a_pattern_that_needs_no_backtracking_is_checked_in_one_pass() -> None:
    found = verdict({"pattern": r"^(a+)+$"}, "a" * 50_000 + "!")
    assert found is not None
    assert found[1].endswith("received a string of 50001 characters")


# -- hostile schemas


def test_a_schema_that_is_none_is_refused_with_its_place_and_what_is_taken() -> None:
    error = refusal({"properties": {"n": {"type": "intger"}}})
    assert str(error) == (
        'my.yaml: #/channels/t/messages/e/payload/properties/n/type: channel "t": the schema'
        ' received "intger"; accepted: array, boolean, integer, null, number, object, string'
    )
    error = refusal({"$ref": "#/components/schemas/s"}, s={"items": {"minimum": "3"}})
    assert error.pointer == "#/components/schemas/s/items/minimum"
    assert 'received "3"' in str(error)
    error = refusal({"pattern": "["})
    assert "accepted: a regular expression" in str(error)
    assert "accepted: an object, true or false" in str(refusal({"properties": {"a": 5}}))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.com/s.json"},
        {"properties": {"a": {"$ref": "https://example.com/s.json"}}},
        {"items": [{"allOf": [{"$ref": "https://example.com/s.json"}]}]},
        {"dependencies": {"a": {"$ref": "https://example.com/s.json"}}},
    ],
)
def test_a_remote_schema_is_refused_wherever_it_is_named(schema: Any) -> None:
    error = refusal(schema)
    assert "remote references are not read" in str(error)
    assert error.pointer.startswith("#/channels/t/messages/e/payload")


def test_a_missing_schema_is_refused_at_the_reference_to_it() -> None:
    error = refusal({"properties": {"a": {"$ref": "#/components/schemas/gone"}}}, here={})
    assert error.pointer == "#/channels/t/messages/e/payload/properties/a/$ref"
    assert 'holds no "gone"' in str(error)


@pytest.mark.parametrize(
    "components",
    [
        {"a": {"$ref": "#/components/schemas/b"}, "b": {"$ref": "#/components/schemas/a"}},
        {"a": {"allOf": [{"$ref": "#/components/schemas/a"}]}},
        {"a": {"anyOf": [{"type": "null"}, {"not": {"$ref": "#/components/schemas/a"}}]}},
        {"a": {"if": {"$ref": "#/components/schemas/a"}}},
        {"a": {"dependencies": {"k": {"$ref": "#/components/schemas/a"}}}},
    ],
)
def test_a_schema_that_holds_itself_in_place_is_refused(components: dict[str, Any]) -> None:
    error = refusal({"$ref": "#/components/schemas/a"}, **components)
    assert "itself" in str(error)
    assert error.pointer.startswith("#/components/schemas/") or "payload" in error.pointer


def test_a_bomb_of_references_is_refused_before_a_payload_meets_it() -> None:
    components: dict[str, Any] = {
        f"a{n}": {"allOf": [{"$ref": f"#/components/schemas/a{n + 1}"}] * 2} for n in range(40)
    }
    error = refusal({"$ref": "#/components/schemas/a0"}, **components, a40={})
    assert "stands for more than 100000 subschemas" in str(error)


def test_data_in_a_schema_is_not_taken_for_a_schema() -> None:
    data = {"$ref": "https://example.com", "type": 5}
    assert verdict({"enum": [data], "default": data, "examples": [data]}, data) is None


def test_a_schema_marked_as_another_format_is_refused_and_draft_07_is_taken() -> None:
    avro = {"schemaFormat": "application/vnd.apache.avro;version=1.9.0", "schema": {}}
    error = refusal(avro)
    assert error.pointer == "#/channels/t/messages/e/payload/schemaFormat"
    assert "draft-07" in str(error)
    for known in (
        "application/vnd.aai.asyncapi;version=3.0.0",
        "application/vnd.aai.asyncapi+json;version=3.0.0",
        "application/schema+yaml;version=draft-07",
    ):
        found = verdict({"schemaFormat": known, "schema": {"type": "string"}}, 1)
        assert found == ("", "must be a string; received 1")
