"""``moda key add|list|revoke``.

What is heavy is imported by the command that needs it: every command builds this parser.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from moda.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from moda.access.keys import KeyRecord
    from moda.app.database_keys import DatabaseKeys

__all__ = ["add_key_commands"]

T = TypeVar("T")

_SPAN = re.compile(r"([1-9][0-9]{0,5})([smhdwy])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}


def add_key_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``moda key add|list|revoke``."""
    key = commands.add_parser("key", help="make, list and revoke API keys")
    actions = key.add_subparsers(required=True, metavar="ACTION")
    add = actions.add_parser("add", help="make a key and print it, once")
    add.add_argument("--name", default="", help="whose it is, for the list")
    add.add_argument(
        "--kind", default="public", help="internal, public, admin, or a word of your own (public)"
    )
    add.add_argument(
        "--scope", action="append", metavar="SCOPE",
        help="what it may: read, publish, ingest, admin or paid; may be repeated (read)",
    )  # fmt: skip
    add.add_argument("--expires", metavar="SPAN", help="such as 12h, 90d or 1y (never)")
    for rule in ("subscribe", "publish"):
        add.add_argument(
            f"--{rule}", action="append", metavar="TOPIC",
            help="only this topic, or with a * behind it those that begin so; may be repeated",
        )  # fmt: skip
    add.set_defaults(command=_add)
    listing = actions.add_parser("list", help="all keys, without their secrets")
    listing.set_defaults(command=_list)
    revoke = actions.add_parser("revoke", help="end a key; gateways notice within seconds")
    revoke.add_argument("id", help="as `moda key list` shows it, or the key itself")
    revoke.set_defaults(command=_revoke)
    for action in (add, listing, revoke):
        action.add_argument("--config", metavar="FILE", help="settings in TOML (MODA_CONFIG)")


def _keys() -> DatabaseKeys:
    from moda.app.database_keys import DatabaseKeys
    from moda.app.settings import load_settings
    from moda.serve.logs import configure_logs

    settings = load_settings()
    # What goes wrong, to standard error: standard output is the answer's alone.
    configure_logs("warning", settings.log_format)
    return DatabaseKeys(settings.database_url)


def _add(options: argparse.Namespace) -> int:
    from moda.access.keys import KeyRecord, new_key

    now = time.time()
    key = new_key()
    try:
        record = KeyRecord.made(
            key,
            now=now,
            name=options.name,
            kind=options.kind,
            scopes=options.scope or ["read"],
            expires_at=None if options.expires is None else now + _span(options.expires),
            subscribe=options.subscribe,
            publish=options.publish,
        )
    except ValueError as error:
        raise ConfigurationError(f"moda key add: {error}") from None
    keys = _keys()

    async def work() -> None:
        try:
            await keys.add(record)
        finally:
            await keys.close()

    _run(work())
    # The key alone on standard output, so that `KEY=$(moda key add)` holds nothing else.
    print(key)
    return 0


def _list(_: argparse.Namespace) -> int:
    keys = _keys()

    async def work() -> list[KeyRecord]:
        try:
            return await keys.all()
        finally:
            await keys.close()

    records = _run(work())
    rows = [("ID", "KIND", "SCOPES", "STATE", "LAST USED", "NAME")]
    rows += [
        (
            record.id,
            record.kind,
            ",".join(sorted(record.scopes)),
            _state(record, time.time()),
            "never" if record.last_used_at is None else _day(record.last_used_at),
            record.name,
        )
        for record in records
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    return 0


def _revoke(options: argparse.Namespace) -> int:
    from moda.access.keys import PREFIX, read_key
    from moda.errors import Denied

    name = options.id
    if name.startswith(PREFIX):
        try:
            name = read_key(name)
        except Denied as denied:
            raise ConfigurationError(f"moda key revoke: got {denied}") from None
    keys = _keys()

    async def work() -> bool:
        try:
            return await keys.revoke(name, time.time())
        finally:
            await keys.close()

    if not _run(work()):
        raise ConfigurationError(
            f"moda key revoke: there is no key {name[:40]!r}; moda key list shows all"
        )
    print(f"{name} is revoked; gateways notice within seconds")
    return 0


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except StoreError as error:
        raise ConfigurationError(f"DATABASE_URL: {error}") from None


def _span(text: str) -> float:
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ValueError(f"got {text[:20]!r} for --expires; accepted: such as 12h, 90d or 1y")
    return float(int(found[1]) * _SECONDS[found[2]])


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def _state(record: KeyRecord, now: float) -> str:
    if record.revoked_at is not None:
        return f"revoked {_day(record.revoked_at)}"
    if record.expires_at is None:
        return "valid"
    return f"{'ended' if record.expires_at <= now else 'until'} {_day(record.expires_at)}"
