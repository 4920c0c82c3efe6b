"""The command line: what it runs, and how it answers what it cannot."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from moda import __version__
from moda.app.cli import load_gateway, main
from moda.app.gateway import Gateway
from moda.app.settings import CONFIG_VARIABLE, load_settings
from moda.app.settings_table import SPECS
from moda.errors import ConfigurationError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting of the machine reaches a test, none of a test reaches the next."""
    before = dict(os.environ)
    for name in [*(spec.name for spec in SPECS), CONFIG_VARIABLE]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module beside the user, with a Gateway and other things in it."""
    name = f"shop_{os.getpid()}_{abs(hash(tmp_path.name)) % 10_000}"
    (tmp_path / f"{name}.py").write_text(
        "from moda import Gateway\ngateway = Gateway(builtins=False)\nnumber = 5\n"
        "class holder:\n    inner = Gateway(builtins=False)\n"
    )
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def refusal(target: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_gateway(target, load_settings({}))
    return str(caught.value)


def test_version_prints_the_version(capsys):
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"moda {__version__}\n"


def test_the_version_is_an_option_too(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert (caught.value.code, capsys.readouterr().out) == (0, f"moda {__version__}\n")


def test_without_a_command_the_commands_are_named(capsys):
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_the_help_of_serve_lists_every_setting(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(spec.name in text for spec in SPECS)


# -- the target


def test_without_a_target_the_built_in_channels_are_served():
    assert load_gateway(None, load_settings({})).builtins is True


def test_a_target_is_found_beside_the_user_and_inside_of_things(module):
    settings = load_settings({})
    gateway = load_gateway(f"{module}:gateway", settings)
    assert isinstance(gateway, Gateway)
    assert gateway.builtins is False
    assert isinstance(load_gateway(f"{module}:holder.inner", settings), Gateway)


@pytest.mark.parametrize(
    ("target", "suggestion"),
    [
        ("myapp", "myapp:gateway"),
        ("myapp.py:gateway", "myapp:gateway"),
        ("src/myapp.py", "src.myapp:gateway"),
        ("./noattr:gw", "noattr:gw"),
        ("..noattr:gw", "noattr:gw"),
        ("../shop.py:gw", "shop:gw"),
        ("/srv/my app/shop.py", "shop:gateway"),
        ("my-app:gateway", "myapp:gateway"),
        ("myapp:gateway()", "myapp:gateway"),
        (":gateway", "myapp:gateway"),
        ("myapp:", "myapp:gateway"),
    ],
)
def test_a_target_of_the_wrong_form_is_answered_with_the_right_one(target, suggestion):
    text = refusal(target)
    assert repr(target) in text
    assert f"such as {suggestion} " in text


def test_a_module_that_is_not_there_is_named_with_where_it_was_looked_for(module, tmp_path):
    text = refusal("shpo:gateway")
    assert "there is no module 'shpo'" in text
    assert str(tmp_path) in text
    assert f"here are {module}" in text


def test_a_module_that_misses_another_says_so_itself(tmp_path, monkeypatch):
    (tmp_path / "needy.py").write_text("import not_installed_anywhere\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        load_gateway("needy:gateway", load_settings({}))


def test_a_name_that_is_not_in_the_module_gets_those_that_are(module):
    assert refusal(f"{module}:gatway") == f"{module} has no 'gatway'; it has {module}:gateway"


def test_a_name_that_is_no_gateway_is_told_what_it_is(module):
    assert refusal(f"{module}:number") == (
        f"{module}:number is int, takes a Gateway; it has {module}:gateway"
    )


def test_a_function_that_makes_a_gateway_is_told_to_be_called_in_the_module(tmp_path, monkeypatch):
    (tmp_path / "made.py").write_text("from moda import Gateway\ndef create(): return Gateway()\n")
    monkeypatch.chdir(tmp_path)
    assert refusal("made:create") == (
        "made:create is a function, takes a Gateway object and calls nothing: write "
        "`gateway = create()` in made and serve made:gateway"
    )


def test_a_module_without_a_gateway_is_told_how_to_have_one(tmp_path, monkeypatch):
    (tmp_path / "bare.py").write_text("x = 1\n")
    monkeypatch.chdir(tmp_path)
    assert "write `gateway = Gateway()` in it" in refusal("bare:gateway")


def test_a_handler_that_a_document_names_is_found_beside_the_user_without_a_target(
    tmp_path, monkeypatch
):
    name = f"hand_{os.getpid()}"
    (tmp_path / f"{name}.py").write_text(
        "from moda import Channel\nclass Room(Channel):\n    pass\n"
    )
    (tmp_path / "doc.yaml").write_text(
        "asyncapi: 3.0.0\ninfo: {title: T, version: '1'}\n"
        f"channels: {{room: {{address: 'room:x', x-moda: {{handler: '{name}:Room'}}}}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    load_gateway(None, load_settings({"MODA_ASYNCAPI": "doc.yaml"})).build()
    assert sys.modules.pop(name).Room


# -- mistakes


def test_a_wrong_setting_is_exit_code_2_and_a_line_each(monkeypatch, capsys):
    monkeypatch.setenv("PORT", "x")
    monkeypatch.setenv("LOG_LEVEL", "y")
    assert main(["serve"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("moda: cannot start\n  PORT: got 'x', takes ")
    assert "\n  LOG_LEVEL: got 'y', takes " in error


def test_a_flag_is_its_variable(capsys):
    assert main(["serve", "--port", "70000"]) == 2
    assert "PORT: got '70000'" in capsys.readouterr().err


def test_a_port_in_use_is_said_before_anything_starts(capsys):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert f"port {port} is in use" in error
    assert f"PORT={port + 1} moda serve" in error


# -- check


def test_check_prints_every_finding_and_succeeds_when_none_is_fatal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODA_MAX_MESAGE", "1")
    assert main(["check", "--port", "0"]) == 0
    out = capsys.readouterr().out
    for name in ("descriptors", "port", "tls", "database", "console"):
        assert f"  {name}: " in out
    assert "MODA_MAX_MESAGE is no setting; did you mean MODA_MAX_MESSAGE?" in out


def test_check_fails_with_the_fix_when_something_is_fatal(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MODA_TLS_CERT", str(tmp_path / "none.pem"))
    assert main(["check", "--port", "0"]) == 1
    out = capsys.readouterr().out
    assert "FAIL  tls: the TLS certificate" in out
    assert "      fix: MODA_TLS_CERT" in out


def make(path: Path, kind: str) -> None:
    match kind:
        case "empty":
            path.write_text("")
        case "garbage":
            path.write_bytes(b"\x00\xffnonsense: [\n")
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)


@pytest.mark.parametrize("kind", ["missing", "empty", "garbage", "folder", "pipe"])
@pytest.mark.parametrize("setting", ["MODA_ASYNCAPI", "MODA_PRICES"])
def test_check_and_serve_refuse_a_file_they_cannot_use_and_name_its_variable(
    tmp_path, monkeypatch, capsys, setting, kind
):
    path = tmp_path / "given"
    make(path, kind)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(setting, f"replay:{path}" if setting == "MODA_PRICES" else str(path))
    assert main(["check", "--port", "0"]) == 1
    out = capsys.readouterr().out
    assert f": {setting}: " in out
    assert f"{setting}=" in out or f"unset {setting}" in out
    assert main(["serve", "--port", "0"]) == 2
    assert f": {setting}: " in capsys.readouterr().err


def test_check_says_what_a_good_document_and_a_good_recording_hold(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "day.jsonl").write_text(
        '{"e":"24hrMiniTicker","E":1,"s":"BTCUSDT","c":"1","o":"1","h":"1","l":"1","v":"1","q":"1"}\n'
    )
    (tmp_path / "rooms.yaml").write_text(
        "asyncapi: 3.0.0\ninfo: {title: Rooms, version: '1'}\n"
        "channels: {room: {address: 'room:lobby'}}\n"
    )
    monkeypatch.setenv("MODA_PRICES", "replay:day.jsonl")
    monkeypatch.setenv("MODA_ASYNCAPI", "rooms.yaml")
    assert main(["check", "--port", "0"]) == 0
    out = capsys.readouterr().out
    assert "ok    asyncapi: rooms.yaml declares 1 channels" in out
    assert "ok    prices: replay:day.jsonl" in out


def test_a_settings_file_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "moda.toml")
    assert main(["check", "--config", str(tmp_path / "moda.toml")]) == 2
    assert "MODA_CONFIG: got " in capsys.readouterr().err


# -- the whole


def test_a_mistake_is_exit_code_2_even_where_nobody_can_be_told():
    script = "import sys; from moda.app.cli import main; sys.exit(main(['serve', '--port', 'x']))"
    with open("/dev/full", "w") as full:
        assert subprocess.call([sys.executable, "-c", script], stderr=full) == 2


@pytest.mark.parametrize("stderr", ["/dev/full", "closed", "a pipe that nobody reads"])
def test_a_log_that_cannot_be_written_does_not_decide_the_exit_code(module, stderr):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PORT": str(port), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("PYTHONUNBUFFERED", None)  # with it there is nothing left to flush
    redirect = {"closed": "2>&-", "/dev/full": "2>/dev/full"}.get(stderr, "")
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$0" -m moda serve {module}:gateway {redirect}', sys.executable],
        env=environment,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    if not redirect:
        process.stderr.readline()
    process.stderr.close()
    try:
        while process.poll() is None:
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{port}/health", timeout=10
                ) as answer:
                    assert json.load(answer)["status"] == "ok"
                break
            except OSError:
                time.sleep(0.02)  # nothing it could say so with is open
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_serve_runs_an_application_until_it_is_told_to_stop(module):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PORT": str(port), "MODA_DRAIN_DEADLINE": "5"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    process = subprocess.Popen(
        [sys.executable, "-m", "moda", "serve", f"{module}:gateway"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            event = json.loads(line)
            if event["event"] == "server.started":
                break
        assert event["gateway"] == f"http://localhost:{port}"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
            assert json.load(answer)["status"] == "ok"
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(20) == 0
        assert "drain.complete" in rest
    finally:
        process.kill()
        process.stderr.close()
        process.wait()
