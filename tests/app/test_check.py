"""``moda check`` refuses what ``moda serve`` refuses, with the same words."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moda.app import cli
from moda.app.cli import main
from moda.app.settings import CONFIG_VARIABLE
from moda.app.settings_table import SPECS
from moda.errors import ConfigurationError

HEAD = "asyncapi: 3.0.0\ninfo: {title: T, version: '1'}\n"
GATEWAY = "from moda import Channel, Gateway, Stream\ngateway = Gateway(builtins=False)\n"
ROOM = "class Room(Channel):\n    pass\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, no settings of the machine, and no module of one test in the next."""
    before = dict(os.environ)
    for name in [*(spec.name for spec in SPECS), CONFIG_VARIABLE]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOG_LEVEL", "critical")
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    # For the life of a process, and this one has other tests to run.
    monkeypatch.setattr("moda.serve.guests.guard_streams", lambda: None)
    monkeypatch.setattr("moda.serve.guests.pin_loggers", lambda: None)
    yield
    os.environ.clear()
    os.environ.update(before)
    forget()


def forget() -> None:
    """A gateway is put together once: each command imports its own, as two processes do."""
    for name in [name for name in sys.modules if name.startswith("checked")]:
        del sys.modules[name]


def both(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    """What ``check`` prints and what ``serve`` refuses with; both must refuse."""
    assert main(["check", "--port", "0", *words]) != 0
    checked = capsys.readouterr()
    forget()
    assert main(["serve", "--port", "0", *words]) == 2
    return checked.out + checked.err, capsys.readouterr().err


DOCUMENTS = {
    "a nested remote reference": (
        "channels: {room: {address: 'room:x', messages: {m: {payload: "
        "{properties: {a: {$ref: 'https://example.com/a.json'}}}}}}}\n"
        "operations: {say: {action: receive, channel: {$ref: '#/channels/room'}}}\n",
        "https://example.com/a.json",
    ),
    "a missing handler": (
        "channels: {room: {address: 'room:x', x-moda: {handler: 'nowhere.at:All'}}}\n",
        "nowhere.at:All",
    ),
    "a handler that is none": (
        "channels: {room: {address: 'room:x', x-moda: {handler: 'os:getcwd'}}}\n",
        "os:getcwd",
    ),
    "a bad pattern": (
        "channels: {room: {address: 'room:{a}{b}', parameters: {a: {}, b: {}}}}\n",
        "room:{a}{b}",
    ),
    "a schema that is none": (
        "channels: {room: {address: 'room:x', messages: {m: {payload: {type: 5}}}}}\n"
        "operations: {say: {action: receive, channel: {$ref: '#/channels/room'}}}\n",
        "/payload/type",
    ),
}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_that_serve_refuses_is_refused(kind, monkeypatch, capsys):
    text, words = DOCUMENTS[kind]
    Path("rooms.yaml").write_text(HEAD + text)
    monkeypatch.setenv("MODA_ASYNCAPI", "rooms.yaml")
    checked, served = both(capsys)
    assert "FAIL  " in checked
    assert words in checked
    assert words in served


def test_settings_that_are_wrong_together_are_refused(monkeypatch, capsys):
    monkeypatch.setenv("MODA_ORIGINS", "any,same")
    checked, served = both(capsys)
    sentence = "MODA_ORIGINS: the origin rule 'any' stands alone, got 'any, same'"
    assert sentence in checked
    assert sentence in served


APPLICATIONS = {
    "a pattern of no form": f"{ROOM}gateway.channel('room:{{')(Room)\n",
    "a socket that is not declared": f"{ROOM}gateway.channel('r:*', sockets=['/no'])(Room)\n",
    "two for one topic": f"{ROOM}gateway.channel('r:*')(Room)\ngateway.channel('r:*')(Room)\n",
}


@pytest.mark.parametrize("kind", APPLICATIONS)
def test_an_application_that_serve_refuses_is_refused(kind, capsys):
    Path("checked_app.py").write_text(GATEWAY + APPLICATIONS[kind])
    checked, served = both(capsys, "checked_app:gateway")
    sentence = served.splitlines()[1].strip()
    assert sentence
    assert f"FAIL  gateway: checked_app:gateway: {sentence}" in checked


@pytest.mark.parametrize("target", ["nowhere:gateway", "checked_app:other", "checked_app"])
def test_a_target_that_leads_nowhere_is_refused(target, capsys):
    Path("checked_app.py").write_text(GATEWAY)
    checked, served = both(capsys, target)
    assert served.splitlines()[1].strip() in checked


def test_an_application_that_cannot_be_imported_is_shown_with_its_place(capsys):
    Path("checked_broken.py").write_text("import moda\n1 / 0\n")
    assert main(["check", "--port", "0", "checked_broken:gateway"]) == 1
    shown = capsys.readouterr()
    assert "FAIL  gateway: checked_broken:gateway: ZeroDivisionError" in shown.out
    assert "checked_broken.py" in shown.err


def test_an_application_that_can_be_served_is_said_to_be(capsys):
    Path("checked_fine.py").write_text(f"{GATEWAY}{ROOM}gateway.channel('room:*')(Room)\n")
    assert main(["check", "--port", "0", "checked_fine:gateway"]) == 0
    assert "ok    gateway: checked_fine:gateway can be served on /socket/websocket" in (
        capsys.readouterr().out
    )


def test_check_and_serve_put_the_gateway_together_in_one_place(monkeypatch, capsys):
    asked = []

    def planned(target, settings):
        asked.append(target)
        raise ConfigurationError("no")

    monkeypatch.setattr(cli, "planned", planned)
    both(capsys, "shop:gateway")
    assert asked == ["shop:gateway", "shop:gateway"]
