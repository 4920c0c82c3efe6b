"""The page made from an OpenAPI document."""

from __future__ import annotations

import pytest

from moda.serve.docs import render_docs, shape


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        ({}, "any"),
        ({"type": "string"}, "string"),
        ({"type": "string", "format": "date-time"}, "string (date-time)"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"enum": ["a", 1]}, '"a" | 1'),
        ({"const": "ok"}, "'ok'"),
        ({"type": "array", "items": {"type": "integer"}}, "[integer]"),
        ({"type": "object"}, "{...}"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "{string: integer}"),
        ({"oneOf": [{"type": "string"}, {"type": "null"}]}, "string | null"),
        (
            {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]},
            '{\n  "a": string,\n  "b?": any\n}',
        ),
        ({"$ref": "#/components/schemas/Name"}, "string"),
        ({"$ref": "#/components/schemas/Missing"}, "any"),
        ({"$ref": "http://elsewhere/x"}, "any"),
    ],
)
def test_a_schema_is_written_as_one_would_write_it(schema, written):
    document = {"components": {"schemas": {"Name": {"type": "string"}}}}
    assert shape(document, schema) == written


def test_a_schema_that_refers_to_itself_ends():
    node = {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Node"}}}
    written = shape({"components": {"schemas": {"Node": node}}}, node)
    assert "Node" in written
    loop = {"components": {"schemas": {"A": {"$ref": "#/components/schemas/A"}}}}
    assert shape(loop, {"$ref": "#/components/schemas/A"}) == "any"


def test_everything_of_the_document_is_escaped():
    evil = "<script>alert(1)</script>"
    document = {
        "info": {"title": evil, "version": evil, "description": evil},
        "paths": {
            f"/{evil}": {
                "get": {
                    "tags": [evil],
                    "summary": evil,
                    "description": evil,
                    "deprecated": True,
                    "parameters": [
                        {"name": evil, "in": "query", "description": evil, "required": True}
                    ],
                    "requestBody": {"content": {evil: {"schema": {"enum": [evil]}}}},
                    "responses": {"200": {"description": evil}, "400": {"content": {evil: {}}}},
                }
            }
        },
    }
    page = render_docs(document, style_url="/s.css", json_url="/o.json").decode()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 9


def test_a_document_without_operations_is_a_page_too():
    assert b"No operations" in render_docs({}, style_url="/s.css", json_url="/o.json")
