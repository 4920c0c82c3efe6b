"""The document as a page for people, made on the server: no script is needed to read it.

Everything comes from the document, in its order: servers, channels with their policies and
operations, messages with the fields of their payloads, and each shared schema once. The only script
(``assets/asyncapi.js``) adds search and copying to what is there already, so the page holds under
``default-src 'self'`` and on a machine that has no network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from moda.asyncapi.document import Channel, Document, Message, Operation
from moda.asyncapi.fault import DocumentError
from moda.asyncapi.markup import Markup, join, tag, text
from moda.asyncapi.outline import Outline, Row
from moda.asyncapi.pointer import follow
from moda.asyncapi.prose import block, line

_PART = re.compile(r"\{([^{}]+)\}")
_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|(-?\d[\d.eE+-]*)')
_ID = re.compile(r"[^A-Za-z0-9_-]+")

_FLOW = {"receive": "client → server", "send": "server → client"}


@dataclass(frozen=True, slots=True)
class Links:
    """Where the page's neighbours are, relative to the page. ``versions`` make an asset's address change with it."""

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
        self.outline = Outline(document.root, document.source)
        self.operations: dict[str, list[Operation]] = {
            channel.id: [] for channel in document.channels
        }
        for operation in document.operations:
            self.operations.setdefault(operation.channel, []).append(operation)
        self.channels = {channel.id: channel for channel in document.channels}
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
            tag("meta", name="color-scheme", content="dark"),
            tag("meta", name="theme-color", content="#0a0d13"),
            tag("title", f"{info['title']} · AsyncAPI"),
            tag("link", rel="icon", type="image/svg+xml", href=self.links.asset["mark.svg"]),
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
            _mark(),
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
            inner = [self.nav_item(channel, message) for message in self.listed(channel)]
            link = tag(
                "a", tag("code", channel.address.template), href=f"#{_id('channel', channel.id)}"
            )
            items.append(
                tag("li", link, tag("ul", *inner) if inner else None, class_="nav-channel")
            )
        parts = [tag("h2", "Channels"), tag("ul", *items, class_="nav-channels")]
        if self.schemas:
            names = (
                tag("li", tag("a", name, href=f"#{_id('schema', name)}")) for name in self.schemas
            )
            parts += [tag("h2", "Schemas"), tag("ul", *names, class_="nav-schemas")]
        return tag("nav", search, *parts, class_="side", aria_label="Contents")

    def nav_item(self, channel: Channel, message: Message) -> Markup:
        title = message.body.get("title")
        return tag(
            "li",
            tag(
                "a",
                _dot(message, channel),
                tag("span", message.event),
                tag("small", title)
                if isinstance(title, str) and title.lower() != message.event.lower()
                else None,
                href=f"#{_id('message', channel.id, message.id)}",
            ),
        )

    def intro(self) -> Markup:
        info = self.root["info"]
        facts = [
            ("Version", info["version"]),
            ("AsyncAPI", self.root["asyncapi"]),
            ("Channels", len(self.document.channels)),
            ("Licence", _at(info, "license", "name")),
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
            server = self.resolved(value)
            scheme = str(server.get("protocol", ""))
            url = f"{scheme}://{server.get('host', '')}{server.get('pathname') or ''}"
            description = server.get("description") or server.get("summary")
            cards.append(
                tag(
                    "div",
                    tag(
                        "p",
                        tag("span", name, class_="muted"),
                        tag("b", server.get("title") or scheme),
                    ),
                    tag("code", *_braced(url), class_="url", data_copy=True),
                    tag("div", block(description), class_="prose small") if description else None,
                    tag("p", "Needs a token", class_="chip amber")
                    if server.get("security")
                    else None,
                    class_="server",
                )
            )
        return tag("div", *cards, class_="servers") if cards else None

    # -- the document

    def sections(self) -> list[Markup]:
        found = [self.channel(channel) for channel in self.document.channels]
        if self.schemas:
            found.append(
                tag(
                    "section",
                    tag("h2", "Schemas"),
                    *(self.schema(name, value) for name, value in self.schemas.items()),
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

    def channel(self, channel: Channel) -> Markup:
        title = channel.body.get("title")
        operations = [
            self.operation(operation) for operation in self.operations.get(channel.id, [])
        ]
        messages = [self.message(channel, message) for message in self.listed(channel)]
        return tag(
            "section",
            tag(
                "header",
                tag("p", title if isinstance(title, str) else channel.id, class_="kicker"),
                tag("h2", tag("code", *_braced(channel.address.template), data_copy=True)),
                tag("div", block(channel.body.get("description")), class_="prose"),
                self.policy(channel),
                class_="channel-head",
            ),
            self.parameters(channel),
            tag("h3", "Operations") if operations else None,
            tag("div", *operations, class_="operations") if operations else None,
            tag("h3", "Messages") if messages else None,
            *messages,
            class_="channel",
            id=_id("channel", channel.id),
            data_entry=True,
        )

    def policy(self, channel: Channel) -> Markup | None:
        policy = channel.policy
        words: list[tuple[str, str, str]] = []
        if "delivery" in policy.declared:
            tone = {"every": "teal", "latest": "blue", "drop": "amber"}[policy.delivery]
            words.append(
                ("delivery", policy.delivery + (f" per {policy.key}" if policy.key else ""), tone)
            )
        elif policy.key:
            words.append(("key", policy.key, ""))
        if policy.history is not None:
            durable = ", durable" if policy.durable else ""
            words.append(
                ("history", f"{policy.history.size} for {policy.history.ttl:g} s{durable}", "teal")
            )
        if policy.rate is not None:
            words.append(("rate", str(policy.rate), "amber"))
        if policy.max_subscribers is not None:
            words.append(("subscribers", f"up to {policy.max_subscribers}", ""))
        if "access" in policy.declared:
            words.append(("access", policy.access, "" if policy.access == "public" else "amber"))
        if "publish" in policy.declared:
            words.append(("publish", policy.publish, ""))
        if policy.handler is not None:
            words.append(("handler", policy.handler, ""))
        if not words:
            return None
        chips = (
            tag("li", tag("span", name), tag("b", value), class_=f"chip {tone}".strip())
            for name, value, tone in words
        )
        return tag("ul", *chips, class_="chips", aria_label="Policy")

    def parameters(self, channel: Channel) -> Markup | None:
        declared = self.resolved(channel.body.get("parameters", {}))
        rows = []
        for name in channel.address.parameters:
            body = self.resolved(declared.get(name, {}))
            values = _list(body.get("enum")) or _list(body.get("examples"))
            chips = join((tag("code", str(value)) for value in values[:12]), " ")
            rows.append(
                tag(
                    "tr",
                    tag("th", tag("code", name), scope="row"),
                    tag("td", line(body.get("description")) or tag("span", "–", class_="muted")),
                    tag("td", chips),
                )
            )
        if not rows:
            return None
        heads = tag(
            "tr", *(tag("th", word, scope="col") for word in ("Parameter", "Meaning", "Values"))
        )
        return tag("div", tag("table", tag("thead", heads), tag("tbody", *rows)), class_="scroll")

    def operation(self, operation: Operation) -> Markup:
        channel = self.channels[operation.channel] if operation.channel in self.channels else None
        summary = operation.body.get("summary") or operation.body.get("title") or operation.id
        names = [self.event_link(operation.channel, key) for key in operation.messages]
        replies = [self.event_link(operation.reply_channel or "", key) for key in operation.replies]
        verb = operation.action if self.view == "server" else _other(operation.action)
        return (
            tag(
                "article",
                tag(
                    "div",
                    tag("span", verb, class_=f"verb {operation.action}"),
                    tag("b", str(summary)),
                    tag("code", operation.id, class_="muted"),
                    class_="operation-line",
                ),
                tag("div", block(operation.body.get("description")), class_="prose small"),
                tag(
                    "p",
                    tag("span", _FLOW[operation.action], class_="flow"),
                    join(names, " "),
                    class_="events",
                ),
                tag(
                    "p",
                    tag("span", "answered with", class_="flow"),
                    join(replies, " "),
                    class_="events",
                )
                if replies
                else None,
                class_="operation",
                data_entry=True,
            )
            if channel is not None
            else Markup()
        )

    def event_link(self, channel: str, key: str) -> Markup:
        message = self.channels[channel].messages[key] if channel in self.channels else None
        if message is None:
            return text(key)
        title = message.body.get("title")
        return tag(
            "a",
            tag("code", message.event),
            tag("small", title) if isinstance(title, str) else None,
            href=f"#{_id('message', channel, key)}",
        )

    def message(self, channel: Channel, message: Message) -> Markup:
        title = message.body.get("title")
        summary = message.body.get("summary")
        rows = self.outline.rows(self.schema_of(message)) if message.payload is not None else []
        flows = [
            word
            for word in ("receive", "send")
            if message in (channel.inbound if word == "receive" else channel.outbound)
        ]
        return tag(
            "article",
            tag(
                "header",
                tag(
                    "h4",
                    tag("code", message.event),
                    tag("span", title) if isinstance(title, str) else None,
                ),
                *(
                    tag("span", _FLOW[word], class_=f"flow-tag {word}")
                    for word in flows
                    if channel.directed
                ),
                tag(
                    "span",
                    "binary frame" if message.binary else "JSON",
                    class_="muted",
                    title=message.content_type,
                ),
                class_="message-head",
            ),
            tag("p", line(summary), class_="summary") if isinstance(summary, str) else None,
            tag("div", block(message.body.get("description")), class_="prose small"),
            _table(rows) if rows else None,
            *self.examples(channel, message),
            class_="message",
            id=_id("message", channel.id, message.id),
            data_entry=True,
        )

    def schema_of(self, message: Message) -> Any:
        return follow(self.root, {"$ref": message.payload}, self.document.source, "#")[1]

    def examples(self, channel: Channel, message: Message) -> list[Markup]:
        shown = []
        for example in _list(message.body.get("examples"))[:8]:
            if not isinstance(example, dict) or "payload" not in example:
                continue
            label = example.get("summary") or example.get("name") or "Example"
            frame = None if message.binary else self.frame(channel, message, example["payload"])
            shown.append(
                tag(
                    "figure",
                    tag("figcaption", str(label)),
                    tag(
                        "pre",
                        tag("code", _coloured(_pretty(example["payload"]))),
                        class_="code",
                        data_copy=True,
                    ),
                    tag(
                        "details",
                        tag("summary", "On the wire"),
                        tag(
                            "pre", tag("code", _coloured(frame)), class_="code wrap", data_copy=True
                        ),
                    )
                    if frame is not None
                    else None,
                    class_="example",
                )
            )
        return [tag("div", *shown, class_="examples")] if shown else []

    def frame(self, channel: Channel, message: Message, payload: Any) -> str:
        """The version 2 text frame an example travels in, by the protocol's rules for refs."""
        join_ref, ref = "3", "4"
        joins = any(
            message.id in operation.replies and self.is_join(operation)
            for operation in self.operations[channel.id]
        )
        topic = self.topic(channel)
        refs: list[str | None] = [None, None]
        if topic == "phoenix":
            refs = [None, ref]
        elif joins or message.event in ("phx_join", "phx_error", "phx_close"):
            refs = [join_ref, join_ref]
        elif message in channel.inbound or message.event == "phx_reply":
            refs = [join_ref, ref]
        return json.dumps([*refs, topic, message.event, payload], ensure_ascii=False)

    def is_join(self, operation: Operation) -> bool:
        messages = (
            self.channels[operation.channel].messages if operation.channel in self.channels else {}
        )
        return any(messages[key].event == "phx_join" for key in operation.messages)

    def topic(self, channel: Channel) -> str:
        """A topic of a channel: its address with an example of each parameter."""
        declared = self.resolved(channel.body.get("parameters", {}))

        def example(found: re.Match[str]) -> str:
            body = self.resolved(declared.get(found[1], {}))
            known = [body.get("default"), *_list(body.get("examples")), *_list(body.get("enum"))]
            return next((str(value) for value in known if value), found[0])

        return _PART.sub(example, channel.address.template)

    def schema(self, name: str, value: Any) -> Markup:
        description = value.get("description") if isinstance(value, dict) else None
        rows = self.outline.rows(value)
        if rows and rows[0].name == "" and rows[0].description == description:
            rows[0] = Row(
                rows[0].level,
                "",
                rows[0].kind,
                rows[0].link,
                False,
                rows[0].limits,
                rows[0].values,
                None,
            )
        return tag(
            "article",
            tag("header", tag("h4", tag("code", name)), class_="message-head"),
            tag("div", block(description), class_="prose small"),
            _table(rows),
            class_="message",
            id=_id("schema", name),
            data_entry=True,
        )

    def listed(self, channel: Channel) -> list[Message]:
        """A channel's messages: what clients send, then what they receive."""
        chosen = {message.id: message for message in (*channel.inbound, *channel.outbound)}
        return list({**chosen, **channel.messages}.values())

    def resolved(self, value: Any) -> dict[str, Any]:
        try:
            node = follow(self.root, value, self.document.source, "#")[1]
        except DocumentError:
            return {}
        return node if isinstance(node, dict) else {}


def _table(rows: Iterable[Row]) -> Markup:
    heads = tag("tr", *(tag("th", word, scope="col") for word in ("Field", "Type", "Meaning")))
    return tag(
        "div",
        tag("table", tag("thead", heads), tag("tbody", *map(_row, rows)), class_="fields"),
        class_="scroll",
    )


def _row(row: Row) -> Markup:
    kind = tag("span", row.kind, class_="kind")
    if row.link is not None:
        # An array says the name of its items in its kind already.
        label = row.kind if row.kind.endswith(f" {row.link}") else row.link
        link = tag("a", label, class_="kind", href=f"#{_id('schema', row.link)}")
        kind = link if label == row.kind else join([kind, link])
    limits = [tag("span", limit, class_="limit") for limit in row.limits]
    values = [tag("code", value, class_="value") for value in row.values[:12]]
    if len(row.values) > 12:
        values.append(tag("span", f"and {len(row.values) - 12} more", class_="muted"))
    name = row.name or "the payload"
    marks = [
        tag("span", "required", class_="required") if row.required else None,
        tag("span", "deprecated", class_="limit") if row.deprecated else None,
    ]
    return tag(
        "tr",
        tag(
            "th",
            tag("code", name) if row.name else tag("em", name),
            *marks,
            scope="row",
            class_=f"level-{min(row.level, 6)}",
        ),
        tag("td", kind, *limits),
        tag(
            "td",
            line(row.description),
            tag("div", join(values, " "), class_="values") if values else None,
        ),
    )


def _pretty(value: Any) -> str:
    compact = json.dumps(value, ensure_ascii=False)
    return compact if len(compact) <= 48 else json.dumps(value, ensure_ascii=False, indent=2)


def _coloured(source: str) -> Markup:
    pieces: list[Markup] = []
    at = 0
    for found in _TOKEN.finditer(source):
        pieces.append(text(source[at : found.start()]))
        if found[1] is not None:
            pieces.append(tag("i", found[1], class_="k" if found[2] else "s"))
            pieces.append(text(found[2] or ""))
        else:
            pieces.append(tag("i", found[0], class_="w" if found[3] else "n"))
        at = found.end()
    pieces.append(text(source[at:]))
    return join(pieces)


def _braced(template: str) -> list[Markup]:
    parts = _PART.split(template)
    return [
        tag("em", f"{{{part}}}") if index % 2 else text(part)
        for index, part in enumerate(parts)
        if part
    ]


def _dot(message: Message, channel: Channel) -> Markup:
    inbound = message in channel.inbound
    both = inbound and message in channel.outbound
    return tag(
        "span",
        class_=f"dot {'both' if both else 'receive' if inbound else 'send'}",
        aria_hidden="true",
    )


def _other(action: str) -> str:
    return "send" if action == "receive" else "receive"


def _id(*parts: str) -> str:
    return "--".join(_ID.sub("-", part) for part in parts)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _at(node: Any, *keys: str) -> Any:
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _mark() -> Markup:
    return tag(
        "svg",
        tag("path", d="M4 22V12c0-3.3 2.2-5.5 5-5.5s5 2.2 5 5.5v8"),
        tag("path", d="M14 20v-8c0-3.3 2.2-5.5 5-5.5s5 2.2 5 5.5v6.5a4 4 0 0 0 4 4"),
        tag("circle", cx="4", cy="24", r="2.4"),
        class_="mark",
        viewBox="0 0 32 32",
        aria_hidden="true",
        focusable="false",
    )
