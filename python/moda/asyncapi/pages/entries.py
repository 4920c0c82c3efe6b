"""The document's own part of the page: channels, operations, messages, schemas."""

from __future__ import annotations

import json
import re
from typing import Any

from moda.asyncapi.fault import DocumentError
from moda.asyncapi.model import Channel, Document, Message, Operation
from moda.asyncapi.pages.markup import Markup, join, tag, text
from moda.asyncapi.pages.outline import Outline, Row
from moda.asyncapi.pages.pieces import (
    PARAMETER,
    braced,
    coloured,
    items,
    other,
    place,
    pretty,
    table,
)
from moda.asyncapi.pages.prose import block, line
from moda.asyncapi.pointer import follow

FLOW = {"receive": "client → server", "send": "server → client"}


def listed(channel: Channel) -> list[Message]:
    """A channel's messages: what clients send, then what they receive."""
    chosen = {message.id: message for message in (*channel.inbound, *channel.outbound)}
    return list({**chosen, **channel.messages}.values())


class Entries:
    """Writes the entries of one document, seen from one side."""

    def __init__(self, document: Document, view: str) -> None:
        self.document = document
        self.root = document.root
        self.view = view
        self.outline = Outline(document.root, document.source)
        self.channels = {channel.id: channel for channel in document.channels}
        self.operations: dict[str, list[Operation]] = {
            channel.id: [] for channel in document.channels
        }
        for operation in document.operations:
            if operation.channel in self.operations:
                self.operations[operation.channel].append(operation)

    def channel(self, channel: Channel) -> Markup:
        title = channel.body.get("title")
        operations = [
            self.operation(operation) for operation in self.operations.get(channel.id, [])
        ]
        messages = [self.message(channel, message) for message in listed(channel)]
        return tag(
            "section",
            tag(
                "header",
                tag("p", title if isinstance(title, str) else channel.id, class_="kicker"),
                tag("h2", tag("code", *braced(channel.address.template), data_copy=True)),
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
            id=place("channel", channel.id),
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
            durable = ", durable" if policy.history.durable else ""
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
            values = items(body.get("enum")) or items(body.get("examples"))
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
        channel = self.channels.get(operation.channel)
        summary = operation.body.get("summary") or operation.body.get("title") or operation.id
        names = [self.event_link(operation.channel, key) for key in operation.messages]
        replies = [self.event_link(operation.reply_channel or "", key) for key in operation.replies]
        verb = operation.action if self.view == "server" else other(operation.action)
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
                    tag("span", FLOW[operation.action], class_="flow"),
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
            href=f"#{place('message', channel, key)}",
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
                    tag("span", FLOW[word], class_=f"flow-tag {word}")
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
            table(rows) if rows else None,
            *self.examples(channel, message),
            class_="message",
            id=place("message", channel.id, message.id),
            data_entry=True,
        )

    def schema_of(self, message: Message) -> Any:
        return follow(self.root, {"$ref": message.payload}, self.document.source, "#")[1]

    def examples(self, channel: Channel, message: Message) -> list[Markup]:
        shown = []
        for example in items(message.body.get("examples"))[:8]:
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
                        tag("code", coloured(pretty(example["payload"]))),
                        class_="code",
                        data_copy=True,
                    ),
                    tag(
                        "details",
                        tag("summary", "On the wire"),
                        tag(
                            "pre", tag("code", coloured(frame)), class_="code wrap", data_copy=True
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
            known = [body.get("default"), *items(body.get("examples")), *items(body.get("enum"))]
            return next((str(value) for value in known if value), found[0])

        return PARAMETER.sub(example, channel.address.template)

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
            table(rows),
            class_="message",
            id=place("schema", name),
            data_entry=True,
        )

    def resolved(self, value: Any) -> dict[str, Any]:
        try:
            node = follow(self.root, value, self.document.source, "#")[1]
        except DocumentError:
            return {}
        return node if isinstance(node, dict) else {}
