"""A document in several files: read as the official parser reads it, served as one, and bounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moda.asyncapi import DocumentError, Registry, check, load, merge, own
from moda.asyncapi.bundle import FILES, MAX_FILES, bundle
from moda.asyncapi.document import parse
from moda.asyncapi.dump import to_yaml
from moda.asyncapi.rewrite import mirror
from moda.asyncapi.source import MAX_BYTES

from .official import diagnostics
from .support import room

SAY = "#/channels/room/messages/say"
TEXT = {"type": "object", "required": ["body"], "properties": {"body": {"type": "string"}}}


def put(folder: Path, files: dict[str, Any], **changes: Any) -> Path:
    """Writes the room document, changed, and other files beside it. Returns its path."""
    for name, tree in {"main.yaml": room(**changes), **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(tree))
    return folder / "main.yaml"


def verdict(path: Path, payload: Any, event: str = "new_msg") -> tuple[str, str] | None:
    (route,) = Registry(load(path)).routes
    invalid = check(route, event, payload)
    return None if invalid is None else (invalid.path, invalid.message)


def refusal(path: Path) -> str:
    with pytest.raises(DocumentError) as caught:
        Registry(load(path))
    return str(caught.value)


def parts(**files: Any) -> dict[str, Any]:
    return {name.replace("__", "/") + ".yaml": tree for name, tree in files.items()}


def message(ref: str) -> dict[str, Any]:
    return {"channels__room__messages__say": {"$ref": ref}}


def channel(ref: str) -> dict[str, Any]:
    return {"channels__room": {"$ref": ref}}


OWN_ROOM = room()["channels"]["room"]
ROOM = {
    **OWN_ROOM,
    "messages": {
        **OWN_ROOM["messages"],
        "join": {"name": "phx_join", "payload": {"type": "object"}},
        "say": {"$ref": "say.yaml"},
    },
}
SAID = {"name": "new_msg", "payload": TEXT}

KEPT_APART: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a message": (message("./say.yaml"), parts(say=SAID)),
    "a message in a map": (
        message("all.yaml#/messages/say"),
        parts(all={"messages": {"say": SAID}}),
    ),
    "a payload": (
        {"channels__room__messages__say__payload": {"$ref": "text.yaml"}},
        parts(text=TEXT),
    ),
    "a schema behind a component": (
        {"components__schemas__message": {"$ref": "s/text.yaml#/definitions/text"}},
        parts(s__text={"definitions": {"text": {"$ref": "#/definitions/it"}, "it": TEXT}}),
    ),
    "a file that refers on to another": (
        message("m/say.yaml"),
        parts(m__say={**SAID, "payload": {"$ref": "../s/text.yaml"}}, s__text=TEXT),
    ),
    "a file that refers back": (
        message("say.yaml"),
        parts(say={**SAID, "payload": {"$ref": "main.yaml#/components/schemas/message"}}),
    ),
    "a channel, whose messages are referred to through it": (
        channel("room.yaml"),
        parts(room=ROOM, say=SAID),
    ),
    "a channel through a component": (
        {
            **channel("#/components/channels/room"),
            "components__channels": {"room": {"$ref": "room.yaml"}},
        },
        parts(room=ROOM, say=SAID),
    ),
    "an operation": (
        {"operations__say": {"$ref": "ops.yaml#/say"}},
        parts(
            ops={
                "say": {
                    "action": "receive",
                    "channel": {"$ref": "main.yaml#/channels/room"},
                    "messages": [{"$ref": f"main.yaml{SAY}"}],
                }
            }
        ),
    ),
    "a reply": (
        {"operations__enter__reply": {"$ref": "reply.yaml"}},
        parts(
            reply={
                "channel": {"$ref": "main.yaml#/channels/room"},
                "messages": [{"$ref": "main.yaml#/channels/room/messages/joined"}],
            }
        ),
    ),
    "a server, a parameter and a trait": (
        {
            "servers": {"one": {"$ref": "rest.yaml#/servers/one"}},
            "channels__room__parameters": {"roomId": {"$ref": "rest.yaml#/id"}},
            "channels__room__messages__say__traits": [{"$ref": "rest.yaml#/trait"}],
        },
        parts(
            rest={
                "servers": {"one": {"host": "h", "protocol": "ws"}},
                "id": {"enum": ["a"]},
                "trait": {"title": "t"},
            }
        ),
    ),
    "a recursive schema": (
        {"channels__room__messages__say__payload": {"$ref": "tree.yaml"}},
        parts(tree={**TEXT, "properties": {**TEXT["properties"], "next": {"$ref": "#"}}}),
    ),
    "names with a space": (
        message("a%20part/say.yaml#/to%20say"),
        {"a part/say.yaml": {"to say": SAID}},
    ),
}


@pytest.mark.parametrize("name", KEPT_APART)
def test_a_part_in_another_file_is_read_and_checked(tmp_path: Path, name: str) -> None:
    changes, files = KEPT_APART[name]
    path = put(tmp_path, files, **changes)
    assert verdict(path, {"body": "hi"}) is None
    assert verdict(path, {"body": 5}) == ("/body", "must be a string; received 5")


def test_the_official_parser_takes_the_same_files_and_the_one_document_made_of_them(
    tmp_path: Path,
) -> None:
    given: list[Any] = []
    for index, (name, (changes, files)) in enumerate(KEPT_APART.items()):
        path = put(tmp_path / str(index), files, **changes)
        if name != "names with a space":  # It opens a file by its name as a URL has it.
            given.append({"text": path.read_text(), "source": str(path)})
        given.append(to_yaml(load(path).root).decode())
    given.append(to_yaml(mirror(merge(own(), load(path)).root)).decode())
    found = diagnostics(given)
    assert [row for rows in found for row in rows if row[0] == 0] == []


@pytest.mark.parametrize("name", KEPT_APART)
def test_what_is_served_needs_no_other_file_and_says_the_same(tmp_path: Path, name: str) -> None:
    changes, files = KEPT_APART[name]
    document = load(put(tmp_path, files, **changes))
    again = parse(document.root, document.source)
    (first,), (second,) = Registry(document).routes, Registry(again).routes
    assert first.inbound.keys() == second.inbound.keys()
    assert check(second, "new_msg", {"body": 5}) == check(first, "new_msg", {"body": 5}) != None  # noqa: E711
    assert mirror(mirror(document.root)) == document.root


def test_only_what_is_reached_is_copied_from_another_file(tmp_path: Path) -> None:
    secret = {"schemas": {"text": TEXT, "other": {"description": "not for others"}}, "x": 1}
    path = put(
        tmp_path, {"s.yaml": secret}, components__schemas__message={"$ref": "s.yaml#/schemas/text"}
    )
    assert load(path).root[FILES] == {"s.yaml": {"schemas": {"text": TEXT}}}


def test_a_document_in_one_file_is_left_as_it_is(tmp_path: Path) -> None:
    tree = room()
    assert bundle(tree, tmp_path / "main.yaml", "main.yaml") is tree


def test_a_reference_in_data_refers_to_nothing(tmp_path: Path) -> None:
    data = {"$ref": "nowhere.yaml"}
    schema = {"enum": [data], "default": data, "examples": [data], "x-y": data}
    named = {"properties": {"enum": {"$ref": "text.yaml"}, "default": {"$ref": "text.yaml"}}}
    path = put(
        tmp_path,
        parts(text=TEXT),
        components__schemas__data=schema,
        components__schemas__default=named,
        channels__room__messages__say__examples=[{"payload": data}],
        channels__room__messages__say__payload={"$ref": "#/components/schemas/default"},
    )
    assert verdict(path, {"enum": {"body": 1}}) == ("/enum/body", "must be a string; received 1")


def test_an_absolute_path_and_a_file_url_name_files_too(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text(json.dumps(TEXT))
    for ref in (f"{tmp_path}/text.json", (tmp_path / "text.json").as_uri()):
        path = put(tmp_path / "deep", {}, channels__room__messages__say__payload={"$ref": ref})
        assert verdict(path, {}) == ("", 'must have the field "body"')
        assert str(tmp_path) not in to_yaml(load(path).root).decode()


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("gone.yaml", "the reference gone.yaml to another file: it cannot be read: No such file"),
        ("/etc/passwd", "it is not called .yaml, .yml or .json"),
        ("link.yaml", "it is not called .yaml, .yml or .json"),
        ("folder.yaml", "is no regular file"),
        ("bad.yaml", "bad.yaml: line"),
        ("text.yaml#/gone", 'text.yaml#/gone names nothing: # holds no "gone"'),
        ("text.yaml#/propertis/x", '(did you mean "properties"?)'),
        ("text.yaml#here", "accepted: a file, with # and a JSON pointer into it"),
        ("loop.yaml#/a/b", "the reference leads back to itself"),
        ("loop.yaml#/c", "leads back to itself"),
        ("http://example.com/a.yaml", "remote references are not read"),
        ("//example.com/a.yaml", "remote references are not read"),
        ("file://other/a.yaml", "remote references are not read"),
        ("a\0.yaml", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_at_the_reference(
    tmp_path: Path, ref: str, expected: str
) -> None:
    files = {
        "text.yaml": TEXT,
        "loop.yaml": {"a": {"$ref": "#/a/b"}, "c": {"$ref": "#/d"}, "d": {"$ref": "#/c"}},
    }
    path = put(tmp_path, files, components__schemas__message={"$ref": ref})
    (tmp_path / "bad.yaml").write_text("a: [")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "link.yaml").symlink_to("/etc/passwd")
    assert expected in refusal(path)


def test_a_document_that_is_given_as_bytes_has_no_files_beside_it() -> None:
    tree = room(components__schemas__message={"$ref": "text.yaml"})
    with pytest.raises(DocumentError, match=r"where the document is read from a file"):
        Registry(load(to_yaml(tree), "given.yaml"))


def test_all_files_together_keep_the_bounds_of_one_document(tmp_path: Path) -> None:
    big = {"type": "string", "description": "x" * (MAX_BYTES // 2)}
    refs = [{"$ref": f"big{n}.yaml"} for n in range(3)]
    path = put(
        tmp_path,
        {f"big{n}.yaml": big for n in range(3)},
        components__schemas__message={"allOf": refs},
    )
    assert f"accepted: up to {MAX_BYTES} bytes" in refusal(path)
    many = {f"f{n}.yaml": {} for n in range(MAX_FILES + 1)}
    path = put(
        tmp_path, many, components__schemas__message={"allOf": [{"$ref": name} for name in many]}
    )
    assert f"up to {MAX_FILES} files" in refusal(path)
    wide = {"properties": {f"p{n}": {} for n in range(60_000)}}
    path = put(
        tmp_path,
        {f"w{n}.yaml": wide for n in range(4)},
        components__schemas__message={"allOf": [{"$ref": f"w{n}.yaml"} for n in range(4)]},
    )
    assert "with all files of the document" in refusal(path)


def test_a_long_remote_reference_is_shown_with_both_its_ends(tmp_path: Path) -> None:
    ref = "https://schemas.example.com/" + "a-long-way/" * 60 + "room.yaml#/messages/say"
    path = put(tmp_path, {}, components__schemas__message={"$ref": ref})
    said = refusal(path)
    assert "https://schemas.example.com/a-long-way/" in said
    assert "/room.yaml#/messages/say;" in said
    assert len(said) < 600
    short = "https://schemas.example.com/" + "a/" * 60 + "room.yaml"
    assert short in refusal(put(tmp_path, {}, components__schemas__message={"$ref": short}))
