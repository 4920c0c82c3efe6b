"""What is served under ``/asyncapi``: bytes and headers, for whoever holds the socket.

    /asyncapi            the page                    ?view=client shows the client's side
    /asyncapi.yaml       the document                ?view=client is its exact mirror
    /asyncapi.json       the same as JSON
    /asyncapi/assets/    stylesheet, script, icon    versioned addresses, cached for good

Every answer is made once per view and kept: a document does not change while a server runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from urllib.parse import parse_qs

from moda.asyncapi.dump import to_json, to_yaml
from moda.asyncapi.fault import shown
from moda.asyncapi.model import Document
from moda.asyncapi.pages.page import Links, page
from moda.asyncapi.rewrite import mirror

ASSETS = Path(__file__).with_name("assets")
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
VIEWS = ("server", "client")
POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer to a GET. ``headers`` are all of them but the length, in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")


class Site:
    """The pages of one document. ``base`` is the path of the HTML page, ``/asyncapi``."""

    def __init__(self, document: Document, base: str = "/asyncapi") -> None:
        self._document = document
        self._base = base.rstrip("/") or "/asyncapi"
        self._views = {"server": document.root, "client": mirror(document.root)}
        self._assets = {
            asset.name: (asset.read_bytes(), TYPES[asset.suffix])
            for asset in sorted(ASSETS.iterdir())
            if asset.suffix in TYPES
        }
        self._made: dict[tuple[str, str], Answer] = {}

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that is answered, for a router that wants them by name."""
        named = (f"{self._base}/assets/{name}" for name in self._assets)
        return (self._base, f"{self._base}.yaml", f"{self._base}.json", *named)

    def answer(self, path: str, query: str = "", if_none_match: str = "") -> Answer | None:
        """The answer to ``GET path?query``, or None when the path is not one of :attr:`paths`.

        ``if_none_match`` is that request header; an unchanged answer is then a 304 without a body.
        A view that does not exist is a 400 that says which ones do.
        """
        makers: dict[str, Callable[[str], Answer]] = {
            self._base: self._page,
            f"{self._base}.yaml": lambda view: _made(
                to_yaml(self._views[view]), "application/yaml"
            ),
            f"{self._base}.json": lambda view: _made(
                to_json(self._views[view]), "application/json"
            ),
        }
        make = makers.get(path)
        if make is None:
            return self._asset(path, if_none_match)
        try:
            asked = parse_qs(query, keep_blank_values=True, max_num_fields=32).get(
                "view", ["server"]
            )
        except ValueError:
            asked = [""]
        if asked[-1] not in VIEWS:
            problem = f"view received {shown(asked[-1])}; accepted: {', '.join(VIEWS)}\n"
            return Answer(400, problem.encode(), _headers("text/plain; charset=utf-8"))
        key = (path, asked[-1])
        if key not in self._made:
            self._made[key] = make(asked[-1])
        return _unless_known(self._made[key], if_none_match)

    def _page(self, view: str) -> Answer:
        last = self._base.rsplit("/", 1)[1]
        assets = {
            name: f"{last}/assets/{name}?v={sha256(body).hexdigest()[:12]}"
            for name, (body, _) in self._assets.items()
        }
        links = Links(
            yaml=f"{last}.yaml", json=f"{last}.json", page=last, asset=MappingProxyType(assets)
        )
        return _made(page(self._document, view, links).encode(), "text/html; charset=utf-8")

    def _asset(self, path: str, if_none_match: str) -> Answer | None:
        found = self._assets.get(path.removeprefix(f"{self._base}/assets/"))
        if found is None or not path.startswith(f"{self._base}/assets/"):
            return None
        made = _made(*found, cache="public, max-age=31536000, immutable")
        return _unless_known(made, if_none_match)


def _made(body: bytes, content_type: str, cache: str = "no-cache") -> Answer:
    return Answer(
        200, body, {**_headers(content_type, cache), "etag": f'"{sha256(body).hexdigest()[:32]}"'}
    )


def _headers(content_type: str, cache: str = "no-store") -> dict[str, str]:
    return {
        "content-type": content_type,
        "cache-control": cache,
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }


def _unless_known(answer: Answer, if_none_match: str) -> Answer:
    """A 304 when the client has this answer; compared weakly, as RFC 9110 asks for here."""
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    if "*" not in tags and answer.headers["etag"] not in tags:
        return answer
    kept = {name: value for name, value in answer.headers.items() if name != "content-type"}
    return Answer(304, b"", kept)
