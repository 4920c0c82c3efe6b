"""The command line: ``moda serve``, ``check``, ``publish``, ``tail``, ``version``.

What a user gets wrong here is answered with what would be right: exit code 2 and a sentence, never
a traceback of ours. Imports wait until a command needs them, so that ``moda version`` is instant.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moda import __version__
from moda.app.publish_command import add_publish
from moda.app.tail_command import add_tail
from moda.errors import ConfigurationError

if TYPE_CHECKING:
    from moda.app.gateway import Gateway
    from moda.app.settings import Settings
    from moda.serve.preflight import Finding
    from moda.serve.server import Plan

__all__ = ["load_gateway", "main"]

MARKS = {"ok": "ok  ", "warning": "warn", "fatal": "FAIL"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 1 (it failed), 2 (asked for wrongly)."""
    _open_standard_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(with_settings="serve" in words).parse_args(words)
    _to_environment(options)
    try:
        return int(options.command(options))
    except ConfigurationError as error:
        _say_what_was_logged()
        with contextlib.suppress(OSError):
            print("moda: cannot start", file=sys.stderr)
            for line in str(error).splitlines():
                print(f"  {line}", file=sys.stderr)
        return 2
    finally:
        _give_up_stderr()


def _open_standard_streams() -> None:
    """Puts the null device where a standard stream was closed.

    Its number would otherwise go to the first socket, and what is written there to a client.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  # for the process's life


def _say_what_was_logged() -> None:
    """Before what is printed beside the log: a thread writes that one, and only to what is read."""
    logs = sys.modules.get("moda.serve.logs")
    if logs is not None:
        logs.flush_logs()


def _give_up_stderr() -> None:
    """Lets a log that cannot be written (a full disk, a reader that went away) not decide the exit
    code: Python ends with 120 if its last flush fails, and a supervisor takes that for a crash.
    """
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _parser(with_settings: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moda", description="A real-time gateway in one process on one port."
    )
    parser.add_argument("--version", action="version", version=f"moda {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    from moda.app.keys import add_key_commands

    epilog = None
    if with_settings:
        from moda.app.settings_table import help_text

        epilog = help_text().replace("%", "%%")
    serve = commands.add_parser(
        "serve",
        help="run the gateway",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.set_defaults(command=_serve)
    check = commands.add_parser(
        "check", help="look for what would keep it from running, and say how to fix it"
    )
    check.set_defaults(command=_check)
    for command in (serve, check):
        command.add_argument(
            "target",
            nargs="?",
            metavar="module:gateway",
            help="an application's Gateway; none: the built-in channels",
        )
        command.add_argument("--host", help="address to listen on (HOST)")
        command.add_argument("--port", help="port to listen on (PORT)")
        command.add_argument("--config", metavar="FILE", help="settings in TOML (MODA_CONFIG)")
    add_key_commands(commands)
    add_publish(commands)
    add_tail(commands)
    version = commands.add_parser("version", help="print the version")
    version.set_defaults(command=_version)
    return parser


def _to_environment(options: argparse.Namespace) -> None:
    """Flags become the variables they stand for: one road for every setting, an application's own
    reads included.
    """
    for flag, variable in (("host", "HOST"), ("port", "PORT"), ("config", "MODA_CONFIG")):
        value = getattr(options, flag, None)
        if value is not None:
            os.environ[variable] = value


def _version(_: argparse.Namespace) -> int:
    print(f"moda {__version__}")
    return 0


def _check(options: argparse.Namespace) -> int:
    """All that ``serve`` does up to the start of background work, the mounted application and the
    port. Nothing is connected to.
    """
    from moda.app.settings import load_settings, unknown_variables
    from moda.serve.logs import configure_logs

    settings = load_settings()
    configure_logs(settings.log_level, settings.log_format, buffer=settings.log_buffer)
    findings = findings_of(settings)
    findings.append(_check_gateway(options.target, settings, findings))
    for finding in findings:
        print(f"{MARKS[finding.level]}  {finding.name}: {finding.message}")
        if finding.fix:
            print(f"      fix: {finding.fix}")
    for sentence in unknown_variables():
        print(f"{MARKS['warning']}  settings: {sentence}")
    return 1 if any(finding.level == "fatal" for finding in findings) else 0


def _check_gateway(target: str | None, settings: Settings, found: Sequence[Finding]) -> Finding:
    """Whether the application and everything declared fit together: it is built as it would be to
    serve.
    """
    from moda.serve.preflight import Finding
    from moda.serve.server import Server

    name = target or "the built-in channels"
    if any(
        one.level == "fatal" and one.name in ("asyncapi", "tls", "descriptors") for one in found
    ):
        return Finding("gateway", "warning", f"{name}: not built, for what is wrong above")
    try:
        plan = planned(target, settings)
        Server(plan)
    except ConfigurationError as error:
        return Finding("gateway", "fatal", f"{name}: {error}", "moda serve would refuse it as well")
    except Exception as error:
        # The application's own, while it is imported: serve shows all of it, and so does this.
        traceback.print_exc()
        return Finding("gateway", "fatal", f"{name}: {type(error).__name__} while it was imported")
    sockets = ", ".join(mount.path for mount in plan.mounts)
    return Finding("gateway", "ok", f"{name} can be served on {sockets}")


def findings_of(settings: Settings) -> list[Finding]:
    """Everything the preflight looks at, with these settings."""
    from moda.app.access_checks import check_access
    from moda.app.assemble import CONSOLE
    from moda.serve import preflight

    options = settings.server_options()
    limit = preflight.raise_descriptor_limit(
        settings.max_connections + preflight.RESERVED_DESCRIPTORS
    )
    findings = [
        preflight.check_descriptors(settings.max_connections, limit),
        preflight.check_port(settings.host, settings.port),
        preflight.check_tls(options.tls),
        preflight.check_heartbeat(settings.heartbeat_interval, settings.idle_timeout),
        preflight.check_database(settings.database_url),
        _check_prices(settings),
        *_check_exposure(settings),
        *check_access(settings),
    ]
    if settings.asyncapi is not None:
        findings.append(_check_document(settings.asyncapi))
    if settings.console:
        findings.append(preflight.check_console(CONSOLE))
    return findings


def _check_exposure(settings: Settings) -> list[Finding]:
    """Whether a setting lets in whom its words do not name."""
    from moda.serve import exposure

    rule, trusted = settings.handshake_options().origins, settings.server_options().door.trusted
    loopback = exposure.is_loopback_host(settings.host)
    return [
        exposure.check_proxies(trusted),
        exposure.check_origins(rule, settings.socket_auth, loopback),
        exposure.check_names(rule, loopback, settings.public_hosts(), trusted),
        exposure.check_tokens(settings.socket_auth, settings.socket_tokens),
    ]


def _check_document(path: Path) -> Finding:
    """Whether the document is there and right by itself; what it clashes with shows at the start."""
    from moda import asyncapi
    from moda.serve.preflight import Finding

    try:
        document = asyncapi.load(path)
    except ConfigurationError as error:
        return Finding(
            "asyncapi",
            "fatal",
            f"MODA_ASYNCAPI: {error}",
            "mend it, or unset MODA_ASYNCAPI: it takes an AsyncAPI 3.0 document in YAML or JSON",
        )
    return Finding("asyncapi", "ok", f"{path} declares {len(document.channels)} channels")


def _check_prices(settings: Settings) -> Finding:
    """Whether a recording can be replayed. The error names the variable itself."""
    from moda import market
    from moda.serve.preflight import Finding

    try:
        market.check(settings.market)
    except ConfigurationError as error:
        return Finding(
            "prices",
            "fatal",
            str(error),
            "MODA_PRICES=replay:FILE takes one JSON event per line (docs/prices.md); "
            "MODA_PRICES=simulated needs no file",
        )
    return Finding("prices", "ok", settings.market.source)


def _serve(options: argparse.Namespace) -> int:
    import structlog

    from moda.app.settings import load_settings, unknown_variables
    from moda.serve.logs import configure_logs

    settings = load_settings()
    configure_logs(settings.log_level, settings.log_format, buffer=settings.log_buffer)
    log = structlog.get_logger("moda.start")
    for sentence in unknown_variables():
        log.warning("setting.unknown", problem=sentence)
    findings = findings_of(settings)
    for finding in findings:
        if finding.level == "warning":
            log.warning("preflight", check=finding.name, problem=finding.message, fix=finding.fix)
    fatal = [finding for finding in findings if finding.level == "fatal"]
    if fatal:
        raise ConfigurationError(
            "\n".join(f"{one.name}: {one.message}; fix: {one.fix}" for one in fatal)
        )

    import moda.app.assemble  # noqa: F401  # with all it imports: their loggers are pinned below
    from moda.serve.guests import guard_streams, pin_loggers
    from moda.serve.logs import install_hooks
    from moda.serve.process import run, wait_for_the_start

    install_hooks()
    # Before the application is imported: it may configure logging.
    pin_loggers()
    guard_streams()
    wait_for_the_start()
    return run(planned(options.target, settings))


def planned(target: str | None, settings: Settings) -> Plan:
    """What the server is to run: application, document and settings, put together and checked.

    ConfigurationError for what does not fit. ``serve`` runs it, ``check`` throws it away.
    """
    from moda.app.assemble import assemble

    return assemble(load_gateway(target, settings), settings)


def load_gateway(target: str | None, settings: Settings) -> Gateway:
    """The Gateway that ``module:attribute`` names, or a plain one with the built-in channels.

    ConfigurationError says which part of the target is wrong. What the module itself raises while
    it is imported is the application's and passes through.
    """
    from moda.app.gateway import Gateway

    # Before anything else: the handlers a document names are the application's modules as well.
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if target is None:
        return Gateway(asyncapi=settings.asyncapi)
    name, colon, attribute = target.partition(":")
    right = colon and all(part.isidentifier() for part in target.replace(":", ".").split("."))
    if not right or name.endswith(".py"):
        raise ConfigurationError(
            f"got {target!r}; takes module:attribute, such as {_suggested(target)} "
            "for a Gateway named gateway in that module"
        )
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise  # the module is there and misses another
        raise ConfigurationError(
            f"there is no module {error.name!r}, looked for in {folder} and among the installed "
            f"packages; {_neighbours(Path(folder))}"
        ) from None
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
        if found is None:
            raise ConfigurationError(f"{name} has no {attribute!r}; {_gateways(module, name)}")
    if callable(found) and not isinstance(found, Gateway):
        raise ConfigurationError(
            f"{target} is a {type(found).__name__}, takes a Gateway object and calls nothing: write "
            f"`gateway = {attribute}()` in {name} and serve {name}:gateway"
        )
    if not isinstance(found, Gateway):
        raise ConfigurationError(
            f"{target} is {type(found).__name__}, takes a Gateway; {_gateways(module, name)}"
        )
    return found


def _suggested(target: str) -> str:
    name, _, attribute = target.partition(":")
    path = Path(name.removesuffix(".py"))
    # Another folder's module is known by its name alone, from there.
    steps = [path.name] if path.is_absolute() or ".." in path.parts else list(path.parts)
    parts = [part for step in steps for part in step.split(".") if part.isidentifier()]
    right = all(part.isidentifier() for part in attribute.split("."))
    return f"{'.'.join(parts) or 'myapp'}:{attribute if right else 'gateway'}"


def _gateways(module: Any, name: str) -> str:
    """The Gateways a module does have, as targets."""
    from moda.app.gateway import Gateway

    names = [known for known, value in vars(module).items() if isinstance(value, Gateway)]
    if names:
        return "it has " + ", ".join(f"{name}:{known}" for known in names)
    return "it has no Gateway: write `gateway = Gateway()` in it"


def _neighbours(folder: Path) -> str:
    """The modules next to the user, who is probably one folder off."""
    names = sorted(path.stem for path in folder.glob("*.py"))[:5]
    return f"here are {', '.join(names)}" if names else "there is no Python file here"
