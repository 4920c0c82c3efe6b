"""What is served: bytes and headers, two views, and a page no document can turn on its reader."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moda.asyncapi import Document, Site, merge, own
from moda.asyncapi.pages.site import ASSETS
from moda.asyncapi.rewrite import mirror
from moda.asyncapi.source import read

from .support import document, payload_document, room

SITE = Site(own())


class Tags(HTMLParser):
    """Every element with its attributes, and whether elements close in order."""

    VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]


def page(found: Document, view: str = "server") -> str:
    answer = Site(found).answer("/asyncapi", f"view={view}")
    assert answer is not None
    assert answer.status == 200
    return answer.body.decode()


# -- documents


def test_the_document_is_served_as_yaml_and_as_json_and_both_are_the_document() -> None:
    for path, kind in (
        ("/asyncapi.yaml", "application/yaml"),
        ("/asyncapi.json", "application/json"),
    ):
        answer = SITE.answer(path)
        assert answer is not None
        assert (answer.status, answer.content_type) == (200, kind)
        assert read(answer.body)[1] == own().root


def test_the_clients_view_is_the_exact_mirror() -> None:
    answer = SITE.answer("/asyncapi.json", "view=client")
    assert answer is not None
    assert json.loads(answer.body) == mirror(own().root)
    assert mirror(json.loads(answer.body)) == own().root


def test_a_users_document_is_served_merged_with_modas_own() -> None:
    merged = merge(own(), document())
    answer = Site(merged).answer("/asyncapi.json")
    assert answer is not None
    assert json.loads(answer.body) == merged.root


@pytest.mark.parametrize(
    "query", ["view=both", "view=", "view=server&view=x", "&".join(["a=b"] * 40)]
)
def test_a_view_that_does_not_exist_is_a_400_that_says_which_do(query: str) -> None:
    answer = SITE.answer("/asyncapi.json", query)
    assert answer is not None
    assert answer.status == 400
    assert answer.body.endswith(b"accepted: server, client\n")


def test_other_parameters_of_the_query_are_no_concern() -> None:
    plain, other = SITE.answer("/asyncapi"), SITE.answer("/asyncapi", "utm=1&view=server")
    assert plain == other


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/asyncapi/",
        "/asyncapi.yml",
        "/asyncapi/assets/",
        "/asyncapi/assets/../site.py",
        "/asyncapi/assets/none.css",
        "/asyncapi.css",
    ],
)
def test_any_other_path_is_not_answered(path: str) -> None:
    assert SITE.answer(path) is None


def test_every_named_path_is_answered() -> None:
    for path in SITE.paths:
        answer = SITE.answer(path)
        assert answer is not None
        assert answer.status == 200
        assert answer.body


def test_an_unchanged_answer_is_a_304_without_a_body() -> None:
    for path in SITE.paths:
        first = SITE.answer(path)
        assert first is not None
        tag = first.headers["etag"]
        for held in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = SITE.answer(path, if_none_match=held)
            assert again is not None
            assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert SITE.answer(path, if_none_match='"other"') == first


def test_the_two_views_have_different_tags_and_equal_documents_equal_ones() -> None:
    server, client = SITE.answer("/asyncapi.yaml"), SITE.answer("/asyncapi.yaml", "view=client")
    again = Site(own()).answer("/asyncapi.yaml")
    assert server is not None
    assert client is not None
    assert server.headers["etag"] != client.headers["etag"]
    assert again == server


def test_another_base_moves_every_path_and_keeps_the_links_relative() -> None:
    site = Site(own(), base="/docs/events")
    assert all(path.startswith("/docs/events") for path in site.paths)
    answer = site.answer("/docs/events")
    assert answer is not None
    html = Tags(answer.body.decode())
    sources = [link["href"] for link in html.all("link")]
    assert all(source is not None and source.startswith("events/assets/") for source in sources)


# -- the page under its content policy


@pytest.mark.parametrize("view", ["server", "client"])
def test_the_page_needs_nothing_inline_and_nothing_from_elsewhere(view: str) -> None:
    answer = SITE.answer("/asyncapi", f"view={view}")
    assert answer is not None
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    html = Tags(answer.body.decode())
    assert html.all("style") == []
    (script,) = html.all("script")
    assert set(script) == {"src", "defer"}
    for tag, attributes in html.found:
        assert not {name for name in attributes if name.startswith("on") or name == "style"}, tag
    loaded = [*(link["href"] for link in html.all("link")), script["src"]]
    for source in loaded:
        assert source is not None
        path = re.sub(r"\?v=[0-9a-f]{12}$", "", f"/{source}")
        assert path != f"/{source}", "an asset's address changes with its content"
        assert path in SITE.paths


def test_the_assets_load_nothing_from_elsewhere() -> None:
    for asset in ASSETS.iterdir():
        text = asset.read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", text), asset.name


def test_every_link_inside_the_page_leads_to_a_place_in_it_and_no_place_is_named_twice() -> None:
    for found in (own(), merge(own(), document())):
        html = Tags(page(found))
        places = [attributes["id"] for _, attributes in html.found if "id" in attributes]
        assert len(places) == len(set(places))
        for link in html.all("a"):
            target = link.get("href") or ""
            if target.startswith("#"):
                assert target[1:] in places


def test_the_page_shows_every_channel_event_and_field() -> None:
    html = "".join(Tags(page(own())).text)
    for word in ("telemetry:metrics", "chart:prices", "heartbeat", "price_tick", "interval_ms"):
        assert word in html
    assert "latest per /s" in html
    assert '["3", "3", "telemetry:metrics", "phx_join", {"interval_ms": 500}]' in html
    assert '[null, null, "chart:prices", "upstream"' in html
    assert '[null, "4", "phoenix", "heartbeat", {}]' in html


def test_the_clients_page_names_the_operations_from_the_clients_side() -> None:
    def verbs(view: str) -> list[str]:
        return re.findall(r'<span class="verb \w+">(\w+)</span><b>([^<]+)', page(own(), view))

    server, client = dict(map(reversed, verbs("server"))), dict(map(reversed, verbs("client")))
    assert server["Join the prices"] == "receive"
    assert client["Join the prices"] == "send"
    assert {
        name: {"send": "receive", "receive": "send"}[verb] for name, verb in server.items()
    } == client


# -- hostile documents

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'&amp;"


def hostile_everywhere(node: Any) -> Any:
    """A document in which every text a person may write is an attack."""
    if isinstance(node, dict):
        return {
            key: HOSTILE
            if key in ("title", "description", "summary", "version") and isinstance(value, str)
            else hostile_everywhere(value)
            for key, value in node.items()
        }
    return [hostile_everywhere(item) for item in node] if isinstance(node, list) else node


def test_text_of_a_document_never_becomes_an_element() -> None:
    tree = hostile_everywhere(merge(own(), document()).root)
    tree["channels"][HOSTILE] = {
        "address": f"x:{HOSTILE}:{{p}}",
        "parameters": {"p": {"enum": [HOSTILE], "description": HOSTILE}},
        "messages": {
            HOSTILE: {
                "name": HOSTILE,
                "payload": {
                    "properties": {
                        HOSTILE: {"const": HOSTILE, "description": HOSTILE, "pattern": "x"}
                    },
                    "oneOf": [{"enum": [HOSTILE]}],
                },
                "examples": [{"name": HOSTILE, "payload": {HOSTILE: HOSTILE}}],
            }
        },
    }
    tree["servers"][HOSTILE] = {"host": HOSTILE, "protocol": "ws", "description": HOSTILE}
    tree["components"]["schemas"]["s"] = {"description": HOSTILE, "default": HOSTILE}
    for view in ("server", "client"):
        html = Tags(page(document(tree), view))
        assert html.all("img") == []
        assert len(html.all("script")) == 1
        assert not any("onerror" in attributes for _, attributes in html.found)
        assert HOSTILE in "".join(html.text)


@given(st.text(), st.text(min_size=1))
@settings(max_examples=40)
def test_any_words_make_a_page_that_is_well_formed(description: str, name: str) -> None:
    tree = payload_document(
        {"properties": {name: {"description": description}}, "description": description}
    )
    tree["info"]["description"] = description
    Tags(page(document(tree)))


@pytest.mark.parametrize(
    "target", ["javascript:alert(1)", "data:text/html,x", "//host/x", "vbscript:x", " https://x"]
)
def test_a_link_in_a_description_leads_to_the_web_or_into_the_page_only(target: str) -> None:
    tree = room()
    tree["info"]["description"] = f"[here]({target}) and [there](https://example.com/a?b=1&c=2)"
    links = [link["href"] for link in Tags(page(document(tree))).all("a")]
    assert target not in links
    assert "https://example.com/a?b=1&c=2" in links


def test_a_schema_that_refers_to_itself_is_shown_once() -> None:
    tree = room(
        components__schemas__message={
            "type": "object",
            "properties": {"reply": {"$ref": "#/components/schemas/message"}},
        }
    )
    html = page(document(tree))
    assert html.count('id="schema--message"') == 1
    assert 'href="#schema--message"' in html


def test_a_page_grows_with_its_document_and_not_with_what_its_references_stand_for() -> None:
    levels = 30
    schemas: dict[str, Any] = {
        f"s{n}": {"properties": {k: {"$ref": f"#/components/schemas/s{n + 1}"} for k in "abc"}}
        for n in range(levels)
    }
    schemas[f"s{levels}"] = {"type": "string"}
    tree = payload_document({"$ref": "#/components/schemas/s0"}, **schemas)
    assert len(page(document(tree))) < 100_000


# -- its colours


def test_the_page_loads_the_palette_and_its_style_names_no_colour_that_is_not_there() -> None:
    answer = SITE.answer("/asyncapi")
    assert answer is not None
    sheets = [
        link["href"]
        for link in Tags(answer.body.decode()).all("link")
        if link["rel"] == "stylesheet"
    ]
    assert ["palette.css" in str(href) for href in sheets] == [True, False]
    palette = (ASSETS / "palette.css").read_text()
    style = (ASSETS / "asyncapi.css").read_text()
    defined = set(re.findall(r"(--[\w-]+):", palette + style))
    assert set(re.findall(r"var\((--[\w-]+)", style)) <= defined
    screen = style.partition("@media print")[0]
    assert re.findall(r"#[0-9a-f]{3,8}\b", screen) == []
