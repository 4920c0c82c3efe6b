"""``moda publish TOPIC EVENT JSON``: one message to a running gateway, from a shell or a cron job."""

from __future__ import annotations

import argparse
import base64
import json
import sys
import uuid
from typing import Any

from moda.app.ask import API, Refused, Unreachable, add_target, base_url, call, fail, key_of
from moda.errors import ConfigurationError

__all__ = ["add_publish"]

MAX_INPUT = 8 << 20
"""Bytes read from standard input: what one request may hold."""

EPILOG = """\
examples:
  moda publish room:lobby said '{"text": "hello"}'
  date +'{"now": "%T"}' | moda publish clock tick -
  moda publish --binary frames:1 frame - < picture.jpg

prints where the message stands as epoch.offset, "-" for a topic without history.

exit codes: 0 published; 1 refused, or nobody answers (stderr says why);
            2 asked for wrongly
"""


def add_publish(commands: Any) -> None:
    """Adds the command to a parser's subcommands."""
    parser = commands.add_parser(
        "publish",
        help="send one message to a topic of a running gateway",
        description=f"Sends one message through POST {API}/publish.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("topic", metavar="TOPIC")
    parser.add_argument("event", metavar="EVENT")
    parser.add_argument(
        "payload", metavar="JSON", nargs="?", default="{}",
        help="a JSON object (default {}), or - to read it from standard input",
    )  # fmt: skip
    parser.add_argument(
        "--binary", action="store_true", help="the payload is bytes, not JSON: a file by -, or text"
    )
    add_target(parser)
    parser.set_defaults(command=publish)


def publish(options: argparse.Namespace) -> int:
    """Runs the command; its exit code."""
    try:
        url, key = base_url(options.url), key_of(options.key)
        body = _body(options)
    except ConfigurationError as error:
        return fail("publish", error, 2)
    try:
        # Not repeated here, but a proxy on the way may.
        told = call(url, "/publish", key, body, {"idempotency-key": uuid.uuid4().hex})
    except (Refused, Unreachable) as error:
        return fail("publish", error)
    print("-" if told["epoch"] is None else f"{told['epoch']}.{told['offset']}")
    return 0


def _body(options: argparse.Namespace) -> bytes:
    data = _given(options.payload)
    named = json.dumps({"topic": options.topic, "event": options.event}).encode()
    # JSON as it was given: decoded and written again, 1.10 would arrive as 1.1.
    payload = _bytes(data) if options.binary else _object(data)
    return named[:-1] + b', "payload": ' + payload + b"}"


def _given(payload: str) -> bytes:
    if payload != "-":
        return payload.encode("utf-8", "surrogateescape")
    data = sys.stdin.buffer.read(MAX_INPUT + 1)
    if len(data) > MAX_INPUT:
        raise ConfigurationError(f"JSON: standard input holds more than {MAX_INPUT} bytes")
    return data


def _bytes(data: bytes) -> bytes:
    return b'"' + base64.b64encode(data) + b'", "encoding": "base64"'


def _object(data: bytes) -> bytes:
    """The payload, looked at here so that a mistake shows where it was made."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"JSON: got {data[:60].decode('utf-8', 'replace')!r}, which is no JSON ({error}); takes an "
            """object such as '{"text": "hello"}' (--binary sends bytes)"""
        ) from None
    if not isinstance(value, dict):
        raise ConfigurationError(
            f"JSON: got {type(value).__name__}, takes an object such as "
            """'{"text": "hello"}'"""
        )
    return data
