"""The document as a page for people, made on the server: no script is needed to read it.

Everything comes from the document, in its order: servers, channels with their policies and
operations, messages with the fields of their payloads, and each shared schema once. The only script
(``assets/asyncapi.js``) adds search and copying to what is there already, so the page holds under
``default-src 'self'`` and on a machine that has no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moda.asyncapi.model import Channel, Document, Message
from moda.asyncapi.pages.entries import Entries, listed
from moda.asyncapi.pages.markup import Markup, tag
from moda.asyncapi.pages.pieces import braced, dot, inside, mark, place
from moda.asyncapi.pages.prose import block


@dataclass(frozen=True, slots=True)
class Links:
    """Where the page's neighbours are, relative to the page.

    ``asset`` has the address of each asset by name, ``home`` is where the title leads.
    """

    yaml: str
    json: str
    page: str
    asset: Mapping[str, str]
    home: str | None = "."


def page(document: Document, view: str, links: Links) -> str:
    """The whole page, seen from ``view``: "server" or "client"."""
    return _Page(document, view, links).html()


class _Page:
    def __init__(self, document: Document, view: str, links: Links) -> None:
        self.document = document
        self.root = document.root
        self.view = view
        self.links = links
        self.entries = Entries(document, view)
        schemas = self.root.get("components", {}).get("schemas", {})
        self.schemas: dict[str, Any] = schemas if isinstance(schemas, dict) else {}

    def html(self) -> str:
        info = self.root["info"]
        head = tag(
            "head",
            tag("meta", charset="utf-8"),
            tag(
                "meta",
                name="viewport",
                content="width=device-width, initial-scale=1, viewport-fit=cover",
            ),
            tag("meta", name="color-scheme", content="dark light"),
            tag("title", f"{info['title']} · AsyncAPI"),
            tag("link", rel="icon", type="image/svg+xml", href=self.links.asset["mark.svg"]),
            tag("link", rel="stylesheet", href=self.links.asset["palette.css"]),
            tag("link", rel="stylesheet", href=self.links.asset["asyncapi.css"]),
            tag("script", src=self.links.asset["asyncapi.js"], defer=True),
        )
        body = tag(
            "body",
            tag("a", "Skip to the document", class_="skip", href="#main"),
            self.bar(),
            tag(
                "div",
                self.nav(),
                tag("main", self.intro(), *self.sections(), id="main", tabindex="-1"),
                class_="frame",
            ),
        )
        return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"

    # -- around the document

    def bar(self) -> Markup:
        title = str(self.root["info"]["title"])
        brand = tag(
            "a",
            mark(),
            tag("span", tag("b", title), "AsyncAPI"),
            class_="brand",
            href=self.links.home,
        )
        views = tag(
            "div",
            *(
                tag(
                    "a",
                    f"{name.capitalize()}’s view",
                    href=f"{self.links.page}?view={name}",
                    aria_current="true" if name == self.view else None,
                )
                for name in ("server", "client")
            ),
            class_="segments",
            role="group",
            aria_label="Viewpoint",
        )
        files = tag(
            "div",
            tag("a", "YAML", href=f"{self.links.yaml}?view={self.view}"),
            tag("a", "JSON", href=f"{self.links.json}?view={self.view}"),
            class_="files",
        )
        return tag("header", brand, views, files, class_="bar")

    def nav(self) -> Markup:
        search = tag(
            "label",
            tag("span", "Search", class_="unseen"),
            tag(
                "input",
                id="search",
                type="search",
                placeholder="Search events, fields, topics",
                autocomplete="off",
                spellcheck="false",
            ),
            tag("kbd", "/", aria_hidden="true"),
            class_="search",
            id="search-box",
            hidden=True,
        )
        items: list[Markup] = []
        for channel in self.document.channels:
            inner = [self.nav_item(channel, message) for message in listed(channel)]
            link = tag(
                "a", tag("code", channel.address.template), href=f"#{place('channel', channel.id)}"
            )
            items.append(
                tag("li", link, tag("ul", *inner) if inner else None, class_="nav-channel")
            )
        parts = [tag("h2", "Channels"), tag("ul", *items, class_="nav-channels")]
        if self.schemas:
            names = (
                tag("li", tag("a", name, href=f"#{place('schema', name)}")) for name in self.schemas
            )
            parts += [tag("h2", "Schemas"), tag("ul", *names, class_="nav-schemas")]
        return tag("nav", search, *parts, class_="side", aria_label="Contents")

    def nav_item(self, channel: Channel, message: Message) -> Markup:
        title = message.body.get("title")
        return tag(
            "li",
            tag(
                "a",
                dot(message, channel),
                tag("span", message.event),
                tag("small", title)
                if isinstance(title, str) and title.lower() != message.event.lower()
                else None,
                href=f"#{place('message', channel.id, message.id)}",
            ),
        )

    def intro(self) -> Markup:
        info = self.root["info"]
        facts = [
            ("Version", info["version"]),
            ("AsyncAPI", self.root["asyncapi"]),
            ("Channels", len(self.document.channels)),
            ("Licence", inside(info, "license", "name")),
        ]
        return tag(
            "section",
            tag("h1", str(info["title"])),
            tag("div", block(info.get("description")), class_="prose lead"),
            tag(
                "dl",
                *(
                    tag("div", tag("dt", name), tag("dd", str(value)))
                    for name, value in facts
                    if value is not None
                ),
                class_="facts",
            ),
            self.servers(),
            class_="intro",
            id="top",
        )

    def servers(self) -> Markup | None:
        cards = []
        for name, value in self.root.get("servers", {}).items():
            server = self.entries.resolved(value)
            scheme = str(server.get("protocol", ""))
            url = f"{scheme}://{server.get('host', '')}{server.get('pathname') or ''}"
            variables = server.get("variables")
            for variable, said in (variables if isinstance(variables, dict) else {}).items():
                default = self.entries.resolved(said).get("default")
                if default is not None:
                    url = url.replace(f"{{{variable}}}", str(default))
            description = server.get("description") or server.get("summary")
            cards.append(
                tag(
                    "div",
                    tag(
                        "p",
                        tag("span", name, class_="muted"),
                        tag("b", server.get("title") or scheme),
                    ),
                    tag("code", *braced(url), class_="url", data_copy=True),
                    tag("div", block(description), class_="prose small") if description else None,
                    tag("p", "Needs a token", class_="chip amber")
                    if server.get("security")
                    else None,
                    class_="server",
                )
            )
        return tag("div", *cards, class_="servers") if cards else None

    def sections(self) -> list[Markup]:
        found = [self.entries.channel(channel) for channel in self.document.channels]
        if self.schemas:
            found.append(
                tag(
                    "section",
                    tag("h2", "Schemas"),
                    *(self.entries.schema(name, value) for name, value in self.schemas.items()),
                    class_="schemas",
                    id="schemas",
                )
            )
        found.append(
            tag(
                "p", "Nothing here matches the search.", id="nothing", class_="nothing", hidden=True
            )
        )
        return found
