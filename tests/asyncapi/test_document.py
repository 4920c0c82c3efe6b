"""Documents: who sends what, and errors that name the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moda.asyncapi import Document, DocumentError, load, merge, own
from moda.asyncapi.dump import to_yaml
from moda.asyncapi.rewrite import mirror

from .support import document, room


def refusal(tree: dict[str, Any]) -> str:
    with pytest.raises(DocumentError) as caught:
        document(tree)
    return str(caught.value)


def sides(found: Document, channel: str = "room") -> tuple[list[str], list[str]]:
    (one,) = [c for c in found.channels if c.id == channel]
    return [m.id for m in one.inbound], [m.id for m in one.outbound]


def test_what_the_server_receives_is_inbound_and_what_it_sends_or_replies_is_outbound() -> None:
    assert sides(document()) == (["join", "say"], ["joined", "said"])


def test_a_document_from_the_clients_side_is_turned_round() -> None:
    tree = room(x_moda={"view": "client"})
    for operation in tree["operations"].values():
        operation["action"] = {"send": "receive", "receive": "send"}[operation["action"]]
    found = document(tree)
    assert sides(found) == sides(document())
    assert found.root["x-moda"] == {"view": "server"}
    assert found.root["operations"]["hear"]["action"] == "send"


def test_a_channel_of_which_no_operation_speaks_knows_no_direction() -> None:
    found = document(room(operations={}))
    assert found.channels[0].directed is False
    assert sides(found) == (["join", "say", "said", "joined"],) * 2


def test_an_operation_without_messages_speaks_of_all_of_its_channel() -> None:
    tree = room(operations__hear__messages=...)
    assert sides(document(tree))[1] == ["joined", "join", "say", "said"]


def test_a_reply_may_go_out_on_another_channel() -> None:
    tree = room(channels__lobby={"address": "lobby", "messages": {"hello": {}}})
    tree["operations"]["say"]["reply"] = {"channel": {"$ref": "#/channels/lobby"}}
    found = document(tree)
    assert sides(found, "lobby") == ([], ["hello"])


def test_a_message_without_a_name_travels_as_its_key() -> None:
    tree = room(channels__room__messages__say__name=...)
    assert document(tree).channels[0].messages["say"].event == "say"


def test_channels_messages_and_operations_may_stand_among_the_components() -> None:
    tree = room()
    components = tree["components"]
    components["channels"] = {"room": tree["channels"]["room"]}
    components["messages"] = {"say": components["channels"]["room"]["messages"]["say"]}
    components["channels"]["room"]["messages"]["say"] = {"$ref": "#/components/messages/say"}
    tree["channels"]["room"] = {"$ref": "#/components/channels/room"}
    components["operations"] = {"say": tree["operations"]["say"]}
    tree["operations"]["say"] = {"$ref": "#/components/operations/say"}
    # References to channel and message by either of their places.
    components["operations"]["say"]["channel"] = {"$ref": "#/components/channels/room"}
    components["operations"]["say"]["messages"] = [{"$ref": "#/components/messages/say"}]
    for name in ("enter", "hear"):
        for held in (tree["operations"][name], tree["operations"][name].get("reply", {})):
            for item in held.get("messages", []):
                item["$ref"] = item["$ref"].replace("#/channels", "#/components/channels")
    assert sides(document(tree)) == (["join", "say"], ["joined", "said"])


def test_traits_lie_under_the_message_and_later_ones_over_earlier_ones() -> None:
    tree = room()
    tree["components"]["messageTraits"] = {
        "first": {"contentType": "text/plain", "title": "one", "name": "never"},
        "second": {"contentType": "application/octet-stream"},
    }
    say = tree["channels"]["room"]["messages"]["say"]
    say["traits"] = [
        {"$ref": "#/components/messageTraits/first"},
        {"$ref": "#/components/messageTraits/second"},
    ]
    message = document(tree).channels[0].messages["say"]
    assert (message.event, message.content_type, message.body["title"]) == (
        "new_msg",
        "application/octet-stream",
        "one",
    )
    assert message.binary is True


@pytest.mark.parametrize(
    ("kind", "binary"),
    [
        ("application/json", False),
        ("application/json; charset=utf-8", False),
        ("application/cloudevents+json", False),
        ("application/octet-stream", True),
        ("image/png", True),
    ],
)
def test_the_content_type_says_whether_an_event_is_a_binary_frame(kind: str, binary: bool) -> None:
    assert document(room(defaultContentType=kind)).channels[0].messages["say"].binary is binary


def test_a_channel_without_an_address_is_left_out_with_a_warning() -> None:
    found = document(room(channels__quiet={"address": None, "messages": {}}))
    assert [channel.id for channel in found.channels] == ["room"]
    assert found.warnings == (
        "my.yaml: #/channels/quiet: the channel has no address, so no topic reaches it",
    )


def test_a_key_without_latest_delivery_is_a_warning() -> None:
    found = document(room(channels__room__x_moda={"key": "/id"}))
    assert found.warnings == (
        "my.yaml: #/channels/room/x-moda/key: only delivery: latest keeps the newest per key;"
        " delivery is every",
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"asyncapi": "2.6.0"}, 'my.yaml: #/asyncapi: received "2.6.0"; accepted: 3.0.0'),
        ({"asyncapi": 3.0}, "#/asyncapi: received 3.0"),
        ({"info": ...}, "#/info: received null"),
        ({"info": 5}, "#/info: received 5; accepted: an object with title and version"),
        ({"info": {"title": "x", "version": 1}}, "#/info/version: received 1; accepted: a string"),
        ({"info": {"version": "1"}}, "#/info: title is missing; accepted: a string"),
        ({"channels": []}, "#/channels: received an array of 0 items"),
        ({"components": "x"}, '#/components: received "x"'),
        ({"x_moda": {"veiw": "client"}}, "accepted at the root: an object with view"),
        ({"x_moda": {"view": "both"}}, "server or client"),
        ({"channels__room": 5}, 'channel "room" received 5; accepted: an object'),
        ({"channels__room__messages": []}, "an array of 0 items; accepted: an object"),
        ({"channels__room__messages__say": "x"}, 'message "say" received "x"'),
        ({"channels__room__messages__say__name": 7}, 'the name of message "say" received 7'),
        ({"channels__room__messages__say__contentType": "json"}, "a media type such as"),
        ({"channels__room__messages__say__traits": {}}, "accepted: a list"),
        ({"channels__room__address": 7}, "the address received 7"),
        ({"channels__room__address": "room:{"}, "#/channels/room/address: the address"),
        ({"channels__room__x_moda": {"dellivery": "latest"}}, 'did you mean "delivery"?'),
        ({"operations__say__action": "publish"}, 'operation "say" received "publish"'),
        ({"operations__say__channel": ...}, 'operation "say" received null; accepted: a $ref'),
        ({"operations__say__channel": {"$ref": "#/channels/gone"}}, 'holds no "gone"'),
        ({"operations__say__channel": {"$ref": "#/info"}}, "a channel of this document"),
        ({"operations__say__messages": {}}, "accepted: a list of $ref"),
        ({"operations__say__messages": [{}]}, "a message of channel"),
        ({"operations__say__messages": [{"$ref": "#/info"}]}, "a message of channel"),
        ({"operations__say__reply": 5}, 'reply of operation "say" received 5'),
    ],
)
def test_a_wrong_part_is_named_with_what_came_and_what_is_taken(
    changes: dict[str, Any], expected: str
) -> None:
    assert expected in refusal(room(**changes))


def test_a_channel_whose_reference_comes_back_to_itself_is_refused() -> None:
    tree = room(channels__room={"$ref": "#/components/channels/room"})
    tree["components"]["channels"] = {"room": {"$ref": "#/channels/room"}}
    assert "leads back to itself" in refusal(tree)


def test_a_channel_somewhere_else_on_the_network_is_refused() -> None:
    tree = room(channels__room={"$ref": "https://example.com/room.yaml"})
    assert "remote references are not read" in refusal(tree)


# -- parameters


def test_a_parameter_that_the_address_does_not_have_is_refused_with_a_hint() -> None:
    tree = room(channels__room__parameters={"roomID": {}})
    assert 'has no parameter "roomID" (did you mean "roomId"?); accepted: roomId' in refusal(tree)


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        ({"enum": []}, "parameters/roomId/enum"),
        ({"enum": ["a", 1]}, "a list of non-empty strings"),
        ({"enum": ["a"], "default": "b"}, 'received "b"; accepted: a'),
        ({"default": 5}, "received 5; accepted: a string"),
        ({"x-moda": {"patern": "x"}}, "an object with pattern, maxLength"),
        ({"x-moda": {"pattern": ""}}, "a regular expression"),
        ({"x-moda": {"maxLength": 0}}, "an integer from 1"),
        (5, 'parameter "roomId" received 5'),
    ],
)
def test_a_wrong_parameter_is_named(parameter: Any, expected: str) -> None:
    assert expected in refusal(room(channels__room__parameters={"roomId": parameter}))


# -- a viewpoint that is not said


def test_a_document_that_sends_joins_and_says_no_view_is_read_from_the_clients_side() -> None:
    turned = mirror(room())
    del turned["x-moda"]
    found = document(turned)
    assert sides(found) == sides(document())
    assert found.warnings == (
        "my.yaml: #/operations/enter sends phx_join, which only clients do, so the document is read"
        " from the client's side; say so with x-moda: {view: client} at its root",
    )


@pytest.mark.parametrize("said", [True, False])
def test_a_join_on_the_wrong_side_of_a_document_that_is_sure_of_its_own_is_a_warning(
    said: bool,
) -> None:
    again = {
        "action": "send",
        "channel": {"$ref": "#/channels/room"},
        "messages": [{"$ref": "#/channels/room/messages/join"}],
    }
    tree = room(operations__again=again)
    if said:
        tree["x-moda"] = {"view": "server"}
    found = document(tree)
    assert found.warnings == (
        "my.yaml: #/operations/again sends phx_join, which only clients do; if the document speaks"
        " for the client, say x-moda: {view: client} at its root",
    )
    assert found.channels[0].inbound[0].event == "phx_join"


def test_an_operation_that_lists_no_messages_says_nothing_about_joins() -> None:
    tree = room(operations__hear__messages=...)
    assert document(tree).warnings == ()


# -- two documents


def test_what_one_document_is_warned_of_is_said_once_when_two_are_merged() -> None:
    tree = room(channels__nowhere={"messages": {}})
    assert len(merge(own(), document(tree)).warnings) == 1


def test_two_channels_of_one_address_in_a_document_are_refused() -> None:
    tree = room(channels__other={"address": "room:{id}"})
    assert refusal(tree) == (
        'my.yaml: #/channels/other/address: channels "room" (room:{roomId}) and "other"'
        " (room:{id}) have one address; accepted: one channel per address"
    )


def test_a_users_document_is_served_beside_modas_own() -> None:
    merged = merge(own(), document())
    assert [channel.id for channel in merged.channels] == [
        "telemetryMetrics",
        "chartPrices",
        "phoenix",
        "room",
    ]
    assert merged.root["info"]["title"] == "Rooms"
    assert set(own().root["operations"]) < set(merged.root["operations"])
    assert sides(merged) == sides(document())


def test_an_address_of_modas_own_is_taken_and_both_channels_are_named() -> None:
    tree = room(channels__mine={"address": "chart:prices"})
    with pytest.raises(DocumentError) as caught:
        merge(own(), document(tree))
    assert str(caught.value) == (
        'my.yaml: #/channels/mine/address: the address "chart:prices" of channel "mine" is already'
        ' taken: channel "chartPrices" of moda.asyncapi.yaml has "chart:prices"; accepted: an'
        " address of its own (or switch that part of moda off)"
    )
    merge(own(without=["chart:prices"]), document(tree))


def test_names_that_both_documents_use_are_kept_apart() -> None:
    mine = {"name": "phx_join", "payload": {"$ref": "#/components/schemas/joinPayload"}}
    tree = room(
        channels__chartPrices={"address": "mine", "messages": {"chartJoin": mine}},
        components__schemas__joinPayload={"type": "string"},
        operations__joinChart={"action": "receive", "channel": {"$ref": "#/channels/chartPrices"}},
    )
    merged = merge(own(), document(tree))
    by_address = {channel.address.template: channel for channel in merged.channels}
    assert by_address["mine"].id == "chartPrices"
    assert by_address["chart:prices"].id == "moda_chartPrices"
    schemas = merged.root["components"]["schemas"]
    assert schemas["joinPayload"] == {"type": "string"}
    assert schemas["moda_joinPayload"] == own().root["components"]["schemas"]["joinPayload"]
    assert [m.id for m in by_address["chart:prices"].inbound] == ["chartJoin", "leave"]
    join = merged.root["components"]["messages"]["chartJoin"]
    assert join["payload"] == {"$ref": "#/components/schemas/moda_joinPayload"}


def test_merging_changes_neither_document() -> None:
    first, second = own(), document()
    before = to_yaml(first.root), to_yaml(second.root)
    merge(first, second)
    assert (to_yaml(first.root), to_yaml(second.root)) == before


def test_a_document_is_loaded_from_a_path_bytes_or_modas_own(tmp_path: Path) -> None:
    path = tmp_path / "rooms.yaml"
    path.write_bytes(to_yaml(room()))
    assert load(path).source == "rooms.yaml"
    assert load(path.read_bytes(), "given").source == "given"
    assert load().source == "moda.asyncapi.yaml"
    assert load().root == own().root
