"""``moda tail TOPIC``: what is published on a topic, a line of JSON per event, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from moda.app.ask import Refused, Unreachable, add_target, base_url, call, fail, key_of
from moda.errors import ConfigurationError

if TYPE_CHECKING:
    from moda.app.tail import Tail

__all__ = ["add_tail"]

EPILOG = """\
examples:
  moda tail room:lobby
  moda tail log:disk --last 20
  moda tail log:disk --since 1764200000000000.41

prints a line of JSON per event: {"position": "epoch.offset", "event": ..., "payload": ...}; position
is null on a topic without history. The position of the last line is what --since takes.

exit codes: 1 refused, or nobody answers at the start (stderr says why);
            2 asked for wrongly; 130 ended by Ctrl-C
"""


def add_tail(commands: Any) -> None:
    """Adds the command to a parser's subcommands."""
    parser = commands.add_parser(
        "tail",
        help="print what is published on a topic of a running gateway",
        description="Subscribes to a topic over the plain JSON socket (/ws) and prints its events as they come.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("topic", metavar="TOPIC")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--since", metavar="EPOCH.OFFSET", help="begin behind this position")
    begin.add_argument(
        "--last", metavar="N", type=int, help="begin with the newest N that are kept"
    )
    add_target(parser)
    parser.set_defaults(command=tail)


def tail(options: argparse.Namespace) -> int:
    """Runs the command; its exit code."""
    try:
        url, key = base_url(options.url), key_of(options.key)
        since = None if options.since is None else _position(options.since)
        if options.last is not None and options.last < 1:
            raise ConfigurationError(f"--last: got {options.last}, takes a number from 1")
    except ConfigurationError as error:
        return fail("tail", error, 2)
    from moda.app.tail import ReaderGone, Tail  # imported here: other commands have no use for it

    try:
        if options.last is not None:
            since = _before_last(url, key, options.topic, options.last)
        return asyncio.run(_until_interrupted(Tail(url, key, options.topic, since)))
    except (Refused, Unreachable) as error:
        return fail("tail", error)
    except ReaderGone:
        # Python would flush what is left, and fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _position(text: str) -> tuple[int, int]:
    epoch, _, offset = text.partition(".")
    if not all(part.isascii() and part.isdigit() and len(part) <= 16 for part in (epoch, offset)):
        raise ConfigurationError(
            f"--since: got {text[:60]!r}, takes a position such as 1764200000000000.41"
        )
    return int(epoch), int(offset)


def _before_last(url: str, key: str | None, topic: str, count: int) -> tuple[int, int]:
    """The position before the newest ``count`` messages that are kept."""
    page = call(url, f"/topics/{quote(topic, safe='')}/history?last={count}&limit=1", key)
    messages = page["messages"]
    return page["epoch"], messages[0]["offset"] - 1 if messages else page["offset"]


async def _until_interrupted(work: Tail) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work.run())
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return 130
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    return 0
