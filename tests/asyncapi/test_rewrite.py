"""The mirror, the corrected copy, the pruned copy."""

from __future__ import annotations

from typing import Any

from moda.asyncapi import own
from moda.asyncapi.rewrite import correct, merge_patch, mirror, without

from .support import document, room

QUERY = {"type": "object", "properties": {"vsn": {"type": "string"}}}


def test_the_mirror_of_the_mirror_is_the_document() -> None:
    for root in (own().root, document().root):
        assert mirror(mirror(root)) == root


def test_the_mirror_differs_in_actions_and_nothing_else() -> None:
    root = own().root
    turned = mirror(root)
    assert turned["x-moda"] == {"view": "client"}
    for name, operation in root["operations"].items():
        other = turned["operations"][name]
        assert {operation["action"], other["action"]} == {"send", "receive"}
        assert {**operation, "action": None} == {**other, "action": None}
    changed = {key for key in root if root[key] != turned[key]}
    assert changed == {"operations", "x-moda"}


def with_server_binding(**server: Any) -> dict[str, Any]:
    tree = room(servers={"one": {"host": "h", "protocol": "ws", **server}})
    tree["servers"]["one"]["bindings"] = {
        "ws": {
            "method": "GET",
            "query": {"$ref": "#/components/schemas/query"},
            "bindingVersion": "0.1.0",
        }
    }
    tree["components"]["schemas"]["query"] = QUERY
    return tree


def test_a_servers_ws_binding_moves_to_its_channels_with_a_warning() -> None:
    tree = with_server_binding()
    fixed, warnings = correct(tree, "my.yaml")
    assert "bindings" not in fixed["servers"]["one"]
    assert fixed["channels"]["room"]["bindings"] == {
        "ws": {"method": "GET", "query": QUERY, "bindingVersion": "0.1.0"}
    }
    assert warnings == [
        "my.yaml: #/servers/one/bindings/ws: a server has no ws binding; method, query,"
        " bindingVersion moved to room"
    ]
    assert "bindings" in tree["servers"]["one"], "the document as received is left alone"


def test_what_a_channel_says_itself_is_kept() -> None:
    tree = with_server_binding()
    tree["channels"]["room"]["bindings"] = {"ws": {"method": "POST"}, "amqp": {}}
    fixed, _ = correct(tree, "my.yaml")
    assert fixed["channels"]["room"]["bindings"] == {
        "ws": {"method": "POST", "query": QUERY, "bindingVersion": "0.1.0"},
        "amqp": {},
    }


def test_a_channel_that_is_not_on_the_server_gets_nothing_of_it() -> None:
    tree = with_server_binding()
    tree["servers"]["two"] = {"host": "i", "protocol": "ws"}
    tree["channels"]["room"]["servers"] = [{"$ref": "#/servers/two"}]
    fixed, warnings = correct(tree, "my.yaml")
    assert "bindings" not in fixed["channels"]["room"]
    assert warnings[0].endswith("moved to no channel: none is on this server")


def test_a_server_among_the_components_is_corrected_as_well() -> None:
    tree = with_server_binding()
    tree["components"]["servers"] = {"one": tree["servers"]["one"]}
    tree["servers"]["one"] = {"$ref": "#/components/servers/one"}
    fixed, warnings = correct(tree, "my.yaml")
    assert "bindings" not in fixed["components"]["servers"]["one"]
    assert fixed["channels"]["room"]["bindings"]["ws"]["query"] == QUERY
    assert len(warnings) == 1


def test_ws_bindings_on_messages_and_operations_are_dropped_with_a_warning() -> None:
    tree = room()
    tree["channels"]["room"]["messages"]["say"]["bindings"] = {"ws": {"bindingVersion": "0.1.0"}}
    tree["operations"]["say"]["bindings"] = {"ws": {"method": "GET"}, "http": {}}
    fixed, warnings = correct(tree, "my.yaml")
    assert "bindings" not in fixed["channels"]["room"]["messages"]["say"]
    assert fixed["operations"]["say"]["bindings"] == {"http": {}}
    assert [warning.split(": ")[1] for warning in warnings] == [
        "#/operations/say/bindings/ws",
        "#/channels/room/messages/say/bindings/ws",
    ]


def test_a_query_by_reference_is_written_out() -> None:
    tree = room(components__schemas__query=QUERY)
    tree["channels"]["room"]["bindings"] = {"ws": {"query": {"$ref": "#/components/schemas/query"}}}
    fixed, warnings = correct(tree, "my.yaml")
    assert fixed["channels"]["room"]["bindings"]["ws"]["query"] == QUERY
    assert warnings == []


def test_a_document_with_nothing_to_correct_is_returned_as_it_is() -> None:
    assert correct(room(), "my.yaml") == (room(), [])


def test_a_pruned_document_loses_what_only_the_channel_used_and_keeps_the_rest() -> None:
    root = own().root
    pruned = without(root, ["chart:prices"])
    assert list(pruned["channels"]) == ["telemetryMetrics", "phoenix"]
    assert not any("rices" in name or "Price" in name for name in pruned["operations"])
    assert "priceTickOut" not in pruned["components"]["messages"]
    assert "decimal" not in pruned["components"]["schemas"]
    assert "telemetryMetricPoint" in pruned["components"]["schemas"]
    assert "socket" in pruned["components"]["channelBindings"]
    assert [tag["name"] for tag in pruned["info"]["tags"]] == ["phoenix", "telemetry"]
    assert "chartPrices" in root["channels"], "the document itself is left alone"


def test_merge_patch_follows_rfc_7396() -> None:
    assert merge_patch({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": [1]}}) == {
        "a": {"c": 2, "d": [1]}
    }
    assert merge_patch({"a": 1}, "x") == "x"
    assert merge_patch([1], {"a": {"b": None}}) == {"a": {}}
