"""Where ``moda publish`` and ``moda tail`` find a gateway, and how they ask it: plain HTTP by the
standard library, so that a command starts in a fraction of a second.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from moda.errors import ConfigurationError

__all__ = ["Refused", "Unreachable", "add_target", "base_url", "call", "fail", "key_of"]

TIMEOUT = 30.0
API = "/api/v1"


class Unreachable(Exception):
    """Nobody answers at the gateway's address."""


class Refused(Exception):
    """The gateway answered with an error; ``status`` and its ``code``."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        self.status = status
        self.code = str(error.get("code", ""))
        words = [f"{error.get('message', 'no message')} ({self.code or status})"]
        words.extend(
            f"{name}: {json.dumps(error[name], ensure_ascii=False)}"
            for name in ("received", "accepted")
            if name in error
        )
        super().__init__("; ".join(words))


def add_target(parser: argparse.ArgumentParser) -> None:
    """The options that say which gateway, and with which key."""
    parser.add_argument(
        "--url",
        metavar="URL",
        help="the gateway, such as https://moda.example (MODA_URL; default http://127.0.0.1:PORT)",
    )
    parser.add_argument(
        "--key",
        metavar="KEY",
        help="an API key; better in MODA_KEY, where no list of processes shows it",
    )


def base_url(given: str | None) -> str:
    """The gateway's address. ConfigurationError for a text that is none."""
    text = (
        given or os.environ.get("MODA_URL") or f"http://127.0.0.1:{os.environ.get('PORT') or 4001}"
    )
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError(
            f"--url: got {text!r}, takes http:// or https:// and a host, such as http://127.0.0.1:4001"
        )
    return text.rstrip("/")


def key_of(given: str | None) -> str | None:
    """The key to show, if any. ConfigurationError for one that no header can carry."""
    key = given or os.environ.get("MODA_KEY") or None
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConfigurationError("--key: takes printable ASCII characters (it is not shown)")
    return key


def call(
    url: str,
    path: str,
    key: str | None,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """Asks the HTTP API; a body makes it a POST. Raises Unreachable or Refused."""
    # Imported here: `moda version` has no use for them.
    import urllib.error
    import urllib.request

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        """A redirect would carry the key to wherever it points."""

        def redirect_request(self, *_: Any) -> None:
            return None

    request = urllib.request.Request(f"{url}{API}{path}", body)  # noqa: S310 - http(s), see base_url
    for name, value in {"content-type": "application/json", **(headers or {})}.items():
        request.add_header(name, value)
    if key is not None:
        request.add_header("authorization", f"Bearer {key}")
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=TIMEOUT) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise Refused(error.code, _error_of(error.read())) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unreachable(
            f"no answer from {url}: {reason}; is `moda serve` running there?"
        ) from None


def _error_of(body: bytes) -> dict[str, Any]:
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return {"message": "an answer that is not moda's"}
    return error if isinstance(error, dict) else {"message": str(error)}


def fail(command: str, error: Exception, code: int = 1) -> int:
    """Says on stderr why a command failed; its exit code."""
    print(f"moda {command}: {error}", file=sys.stderr)
    return code
