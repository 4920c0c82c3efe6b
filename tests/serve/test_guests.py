"""An application may configure logging as it likes: no secret comes out, and moda's lines stay."""

from __future__ import annotations

import io
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda.serve.guests import MAX_HELD, Guarded
from moda.serve.redact import HIDDEN
from raw import request as upgrade_request

from .conftest import frame, get

SECRET = "hunter2-S3cr3t"

# -- a stream


def written(*texts: str) -> str:
    below = io.StringIO()
    stream = Guarded(below)
    for text in texts:
        assert stream.write(text) == len(text)
    stream.flush()
    return below.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        f"GET /x?token={SECRET}\n",
        f'{{"event": "login", "password": "{SECRET}"}}\n',
        f"\x1b[36mpassword\x1b[0m=\x1b[35m{SECRET}\x1b[0m\n",
        f"authorization: Bearer {SECRET}",
        "first line\n" * 2000 + f"api_key='{SECRET}'\n",
        f"{'x' * 20_000} token={SECRET}\n",
    ],
)
def test_what_has_the_shape_of_a_secret_is_not_written(text):
    found = written(text)
    assert SECRET not in found
    assert HIDDEN in found


def test_a_line_is_seen_whole_although_it_is_written_in_pieces():
    assert SECRET not in written("token", "=", SECRET[:5], SECRET[5:], "\n")


@given(st.lists(st.text(alphabet=st.sampled_from("ab \n\x1b[0m\r=é"), max_size=40), max_size=20))
def test_everything_else_is_written_as_it_is_and_in_its_order(texts):
    assert written(*texts) == "".join(texts)


def test_a_text_without_an_end_waits_for_a_bounded_time():
    below = io.StringIO()
    stream = Guarded(below)
    stream.write("x" * MAX_HELD)
    assert below.getvalue() == ""
    stream.write("x")
    assert below.getvalue() == "x" * (MAX_HELD + 1)


def test_the_bytes_below_are_guarded_and_what_is_no_text_comes_through():
    below = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    stream = Guarded(below)
    stream.buffer.write(f"token={SECRET}\n".encode())
    stream.buffer.write(b"\x00\xff\xfe no text\n")
    stream.buffer.write(memoryview(b"no end"))
    stream.flush()
    assert below.buffer.getvalue() == f"token={HIDDEN}\n".encode() + b"\x00\xff\xfe no text\nno end"  # type: ignore[attr-defined]


def test_the_rest_is_the_streams_own(tmp_path):
    with (tmp_path / "log").open("w", encoding="latin-1") as file:
        stream = Guarded(file)
        assert (stream.fileno(), stream.isatty(), stream.encoding) == (
            file.fileno(),
            False,
            "latin-1",
        )
        with pytest.raises(TypeError, match="must be str, not bytes"):
            stream.write(b"x")  # type: ignore[arg-type]
        print("a", "b", file=stream)
        stream.writelines(["c", "\n"])
    assert (tmp_path / "log").read_text() == "a b\nc\n"


# -- applications

PLAIN = """
import json, logging, sys
import structlog
from moda import Gateway

{configure}

log = {logger}
gateway = Gateway(builtins=False)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({{"type": message["type"] + ".complete"}})
            if message["type"] == "lifespan.shutdown":
                return
    {later}
    query = scope["query_string"].decode()
    log.warning("guest spoke of ?" + query)
    print("guest printed", query, json.dumps({{"password": "{secret}"}}))
    print("guest erred", query, file=sys.stderr)
    if scope["path"] == "/crash":
        raise ValueError("bad " + query + " in " + repr(scope["headers"]))
    await send({{"type": "http.response.start", "status": 204, "headers": []}})
    await send({{"type": "http.response.body", "body": b""}})

gateway.mount(app)
"""

LITESTAR = """
from litestar import Litestar, Request, get
from litestar.logging import LoggingConfig, StructLoggingConfig
from moda import Gateway

@get("/log")
async def show(request: Request) -> None:
    request.logger.warning("guest spoke of ?" + request.scope["query_string"].decode())

@get("/crash")
async def crash(request: Request) -> None:
    raise ValueError("bad " + request.scope["query_string"].decode() + repr(request.headers))

gateway = Gateway(builtins=False)
gateway.mount(Litestar([show, crash], logging_config={config}, debug={debug}))
"""

STANDARD = 'logging.getLogger("guest")'
STRUCTLOG = 'structlog.get_logger("guest")'

BASIC = "logging.basicConfig(force=True, level=logging.DEBUG, stream=sys.stdout)"
DICT = """
import logging.config
logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": True,
    "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
    "root": {"handlers": ["out"], "level": "DEBUG"},
})
logging.disable(logging.INFO)
class Theirs(logging.Logger):
    def isEnabledFor(self, level):
        return not self.name.startswith("moda")
logging.setLoggerClass(Theirs)
"""
UVICORN = "import uvicorn; uvicorn.Config('x:y')"
PRINTED = """
structlog.configure(
    processors=[structlog.dev.ConsoleRenderer(colors=True)],
    logger_factory=structlog.PrintLoggerFactory(),
    wrapper_class=structlog.BoundLogger,
)
"""
BYTES = """
structlog.configure(
    processors=[structlog.processors.JSONRenderer(serializer=lambda *a, **k: json.dumps(*a, **k).encode())],
    logger_factory=structlog.BytesLoggerFactory(),
    wrapper_class=structlog.BoundLogger,
)
"""


def plain(configure: str, logger: str = STANDARD, later: str = "pass") -> str:
    return PLAIN.format(configure=configure, logger=logger, later=later, secret=SECRET)


APPLICATIONS = {
    "nothing": plain(""),
    "basicConfig": plain(BASIC),
    "basicConfig while it serves": plain("", later=BASIC),
    "dictConfig": plain(DICT),
    "uvicorn": plain(UVICORN),
    "structlog that prints": plain(PRINTED, STRUCTLOG),
    "structlog that prints, set up late": plain("", STRUCTLOG, later=PRINTED.replace("\n", "")),
    "structlog that writes bytes": plain(BYTES, STRUCTLOG),
    "litestar": LITESTAR.format(config="LoggingConfig(log_exceptions='always')", debug=False),
    "litestar by default": LITESTAR.format(config="LoggingConfig()", debug=True),
    "litestar with structlog": LITESTAR.format(
        config="StructLoggingConfig(log_exceptions='always')", debug=False
    ),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def talk(port: int, *requests: bytes) -> list[int]:
    """One connection for each request; the statuses."""
    statuses = []
    for request in requests:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(request)
            statuses.append(int(client.makefile("rb").readline().split()[1]))
    return statuses


def served(folder: Path, source: str, *requests: bytes) -> tuple[list[int], str, list[dict]]:
    """What a gateway answers, all it writes, and moda's own lines among that."""
    name = f"guest_{secrets.token_hex(4)}"
    (folder / f"{name}.py").write_text(source)
    port = free_port()
    environment = {**os.environ, "PORT": str(port), "MODA_DRAIN_WINDOW": "0", "LOG_LEVEL": "debug"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    out = folder / "out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "moda", "serve", f"{name}:gateway"],
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            until(lambda: b'"server.started"' in out.read_bytes() or process.poll() is not None)
            statuses = talk(port, *requests)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
    text = out.read_text()
    objects = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return statuses, text, [one for one in objects if str(one.get("logger")).startswith("moda.")]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("application", APPLICATIONS, ids=str)
def test_no_logging_of_a_guest_undoes_redaction_or_takes_modas_lines(tmp_path, application):
    statuses, text, lines = served(
        tmp_path,
        APPLICATIONS[application],
        get(f"/log?token={SECRET}&x=1"),
        get(f"/crash?password={SECRET}", f"authorization: Bearer {SECRET}"),
        upgrade_request("/socket/websocket?vsn=9.0.0"),
        upgrade_request(sec_websocket_protocol=SECRET),
        get(f"/log?api_key={SECRET}"),
    )
    assert statuses[1:4] == [500, 403, 403]
    assert "guest spoke of" in text
    assert SECRET not in text
    events = [line["event"] for line in lines]
    assert events.count("connect.refused") == 2
    assert "server.started" in events
    assert "drain.complete" in events


HOOKED = """
from moda import Channel, Gateway, Stream
gateway = Gateway(builtins=False)
gateway.socket("/plain")
gateway.socket("/now", connect=lambda asked: 1 / 0)
@gateway.connect
async def admit(asked):
    raise ValueError(f"cannot read {asked.params} {asked.headers} {asked.token} {asked!r}")

@gateway.channel("room:{room}", sockets=["/plain"])
class Room(Channel):
    async def join(self, payload):
        raise ValueError(f"cannot seat {self.socket.params}")

@gateway.channel("feed", sockets=["/plain"])
class Feed(Stream):
    async def join(self, request):
        raise ValueError(f"cannot feed {request.socket.params}")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["path"].startswith("/started"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
    raise KeyError(f"what of {scope['headers']} {scope['query_string']}")
gateway.mount(app)
"""

HEADERS = (
    "accept", "accept-encoding", "accept-language", "authorization", "cookie", "forwarded", "from",
    "if-none-match", "origin", "referer", "user-agent", "via", "x-anything", "x-forwarded-for",
)  # fmt: skip
QUERIES = (
    "{}", "{}=1", "a={}", "vsn={}", "vsn[]={}", "a[{}]=1", "token={}", "a=%41{}", "vsn=2.0.0&id={}",
)  # fmt: skip
NAMES = (
    "{}", "phoenix, {}", "base64url.bearer.phx.{}", "bearer, {}", "base64url.bearer.phx,{}", "a={}",
)  # fmt: skip


def test_what_a_client_sends_in_a_head_is_in_no_line_whatever_it_looks_like(tmp_path):
    sent: list[str] = []

    def secret() -> str:
        sent.append(secrets.token_urlsafe(12).replace("-", "x"))
        return sent[-1]

    requests: list[bytes] = []
    for name in HEADERS:
        header = name.replace("-", "_")
        requests += [
            get("/crash", f"{name}: {secret()}"),
            get("/started", f"{name}: {secret()}"),
            upgrade_request(**{header: secret()}),
        ]
    for form in QUERIES:
        requests.append(get("/crash?" + form.format(secret())))
        requests += [
            upgrade_request(f"{mount}/websocket?" + form.format(secret()))
            for mount in ("/socket", "/plain", "/now")
        ]
    requests += [upgrade_request(sec_websocket_protocol=form.format(secret())) for form in NAMES]
    for name in ("host", "connection", "upgrade", "sec_websocket_version", "sec_websocket_key"):
        page = "https://page.example"
        requests += [
            upgrade_request(**{name: secret()}),
            upgrade_request(**{name: secret(), "origin": page}),
        ]
    for topic in ("room:1", "feed"):
        join = frame(f'["1","1","{topic}","phx_join",{{}}]'.encode())
        requests.append(upgrade_request(f"/plain/websocket?vsn=2.0.0&id={secret()}") + join)
    _, text, lines = served(tmp_path, HOOKED, *requests)
    told = {(line["event"], line.get("reason")) for line in lines}
    for reason in ("origin", "subprotocol", "vsn"):
        assert ("connect.refused", reason) in told
    for event in ("channel.join.failed", "stream.join.failed", "connect.failed"):
        assert (event, None) in told
    assert ("http.failed", None) in told
    assert "Exception in ASGI application" in text
    assert [one for one in sent if one in text] == []
