"""The page made from an OpenAPI document."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from moda.serve.docs import ICON, STYLE, render_docs, shape

URLS = {"style_url": "/s.css", "json_url": "/o.json", "icon_url": "/i.svg"}


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
    page = render_docs(document, **URLS).decode()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 9


def test_a_document_without_operations_is_a_page_too():
    assert b"No operations" in render_docs({}, **URLS)


def test_the_page_leads_to_the_others_and_has_an_icon_of_its_own():
    links = (("Console", "/"), ("WebSocket API", "/asyncapi"))
    page = render_docs({}, **URLS, links=links).decode()
    assert '<a href="/o.json">OpenAPI document</a> · <a href="/">Console</a>' in page
    assert '<a href="/asyncapi">WebSocket API</a>' in page
    # Without one a browser asks for /favicon.ico, and the first thing it logs is a 404.
    assert '<link rel="icon" type="image/svg+xml" href="/i.svg">' in page
    assert ElementTree.fromstring(ICON).tag.endswith("svg")  # our own text


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_accent_can_be_read_on_light_and_on_dark():
    light, dark = (luminance(colour) for colour in re.findall(r"--accent: (#[0-9a-f]{6})", STYLE))
    assert (luminance("#ffffff") + 0.05) / (light + 0.05) >= 4.5
    for background in ("#121212", "#1e1f22"):  # what browsers paint as a dark canvas
        assert (dark + 0.05) / (luminance(background) + 0.05) >= 4.5
