"""Every setting, once: its variable, what it takes, its default, what it is for.

``moda serve --help``, ``docs/configuration.md`` and the reading of the environment are all made
from :data:`SPECS`. The variables of telemetry and prices are listed here and read there: those
capabilities own their values and know their bounds.

Names without a prefix come from the contracts moda serves (and from Phoenix); moda's own begin
with ``MODA_``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moda.access.jwks import ALGORITHMS
from moda.app.kinds import (
    Kind,
    choice,
    file_path,
    flag,
    integer,
    listing,
    number,
    origin,
    shown_size,
    size,
    text,
    url,
)
from moda.errors import ConfigurationError
from moda.market.settings import VARIABLES as MARKET_VARIABLES
from moda.market.settings import MarketSettings
from moda.serve.logs import LEVELS
from moda.serve.proxies import TrustedProxies
from moda.telemetry import TelemetrySettings
from moda.wire.origin import OriginRule

__all__ = ["GROUPS", "SPECS", "Spec", "help_text", "markdown"]


@dataclass(frozen=True, slots=True)
class Spec:
    """One setting.

    ``field`` is its name in Settings, or "" where a capability reads the variable itself.
    """

    field: str
    name: str
    kind: Kind
    default: Any
    about: str
    secret: bool = False

    @property
    def shown_default(self) -> str:
        """The default as one would write it; "" where nothing is set."""
        value = self.default
        if value is None or value == ():
            return ""
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, tuple):
            return ",".join(value)
        if isinstance(value, int) and self.kind.takes.startswith("bytes"):
            return shown_size(value)
        return f"{value:g}" if isinstance(value, float) else str(value)


def _valid(check: Callable[[str], Any]) -> Callable[[str], Any]:
    """Makes a parser that explains itself one that merely refuses: the kind's words explain."""

    def read(raw: str) -> Any:
        try:
            return check(raw)
        except ConfigurationError as error:
            raise ValueError(raw) from error

    return read


_KEYS = listing("keys, comma separated")


def _algorithm(raw: str) -> None:
    if raw not in ALGORITHMS:
        raise ValueError(raw)


_SERVER = (
    Spec("host", "HOST", text(r"[^\s/]+", "an address or host name of this machine"), "127.0.0.1",
         "Address to listen on: `0.0.0.0` for every IPv4 interface, `::` for IPv6."),
    Spec("port", "PORT", integer(0, 65535), 4001, "Port to listen on; 0 takes a free one."),
    Spec("public_host", "PHX_HOST",
         text(r"[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\]", "a host name"), None,
         "The name clients use. Its pages pass the origin check although a proxy rewrites `Host`, and "
         "no other name's do."),
    Spec("public_url", "MODA_PUBLIC_URL", origin(hint="https://moda.example.com"), None,
         "Where clients reach it when a proxy stands in front: what `/asyncapi` and the start's "
         "message say. Its host counts as `PHX_HOST`."),
    Spec("tls_certificate", "MODA_TLS_CERT", file_path(), None,
         "Certificate chain in PEM; switches TLS on."),
    Spec("tls_key", "MODA_TLS_KEY", file_path(), None,
         "Its private key in PEM, unless the certificate's file holds it."),
    Spec("trusted_proxies", "MODA_TRUSTED_PROXIES",
         listing("addresses or networks, comma separated, such as 10.0.0.0/8",
                 _valid(lambda raw: TrustedProxies.parse([raw]))), (),
         "Who may say with `X-Forwarded-For` and `X-Forwarded-Proto` who the client is. Whoever "
         "connects from there is believed."),
    Spec("address_connections", "MODA_ADDRESS_CONNECTIONS", integer(0, 10_000_000), 2_000,
         "Connections of any kind one address may have open (an IPv6 /64 is one); 0 is no limit. "
         "Not for this machine's own addresses, `MODA_TRUSTED_PROXIES` and `MODA_OPERATORS`."),
    Spec("address_rate", "MODA_ADDRESS_RATE", integer(0, 1_000_000), 200,
         "New connections per second of one address, five seconds' worth of them at once; 0 is no "
         "limit. For whom as above."),
    Spec("operators", "MODA_OPERATORS",
         listing("addresses or networks, comma separated, such as 10.0.0.0/8",
                 _valid(lambda raw: TrustedProxies.parse([raw]))), (),
         "Who may use the last sockets when all others are taken: probes, metrics. This machine's "
         "own addresses always may."),
    Spec("handshake_timeout", "MODA_HANDSHAKE_TIMEOUT", number(0.1, 300), 10.0,
         "Seconds for a request's head to arrive, and for a connection to be decided."),
    Spec("max_head", "MODA_MAX_HEAD", size(1024, 1 << 20), 16_384, "Bytes of a request's head."),
    Spec("keep_alive", "MODA_KEEP_ALIVE", number(1, 3600), 20.0,
         "Seconds an idle HTTP connection is kept."),
    Spec("drain_window", "MODA_DRAIN_WINDOW", number(0, 600), 5.0,
         "Seconds over which clients are told to reconnect (1012) when the server stops."),
    Spec("drain_deadline", "MODA_DRAIN_DEADLINE", number(1, 3600), 30.0,
         "Seconds after which the process is gone, whatever is left."),
    Spec("console", "MODA_CONSOLE", flag(), True,
         "Serves the console at `/`. Off, `/` is the mounted application's."),
)  # fmt: skip

_SOCKETS = (
    Spec("max_connections", "WS_MAX_CONNECTIONS", integer(1, 10_000_000), 10_000,
         "Open WebSockets; one more is answered 503 with `Retry-After`."),
    Spec("heartbeat_interval", "WS_HEARTBEAT_INTERVAL",
         integer(1000, 3_600_000, "milliseconds"), 30_000,
         "What the AsyncAPI document advises clients; each client's own setting decides "
         "(`heartbeatIntervalMs`). It closes nobody: `MODA_IDLE_TIMEOUT` does."),
    Spec("origins", "MODA_ORIGINS",
         listing("same, any, or origins, comma separated, such as https://*.example.com",
                 _valid(OriginRule.parse)), ("same",),
         "Which pages may connect. `same`: this gateway's own, see below."),
    Spec("socket_auth", "MODA_SOCKET_AUTH", choice("off", "optional", "required"), "off",
         "Whether a client shows a token or a key (`authToken` of the client, `Authorization: Bearer`, "
         "`X-API-Key` or `?token=`). `optional` refuses wrong ones and takes none."),
    Spec("socket_tokens", "MODA_SOCKET_TOKENS", listing("tokens, comma separated"), (),
         "The tokens taken.", secret=True),
    Spec("max_message", "MODA_MAX_MESSAGE", size(1024, 1 << 30), 1 << 20,
         "Bytes of one message from a client; a larger one closes with 1009."),
    Spec("idle_timeout", "MODA_IDLE_TIMEOUT", number(1, 86_400), 60.0,
         "Seconds without a byte from a client after which it is closed (1002)."),
    Spec("ping_interval", "MODA_PING_INTERVAL", number(0, 86_400), 0.0,
         "Seconds without a byte from a client after which it is sent a WebSocket ping, for clients "
         "that only listen. 0: never; Phoenix clients send heartbeats."),
    Spec("max_channels", "MODA_MAX_CHANNELS", integer(1, 1_000_000), 100,
         "Channels one connection may join."),
    Spec("outbox_bytes", "MODA_OUTBOX", size(4096, 1 << 30), 1 << 20,
         "Bytes that may wait for one slow client before its topics' policy acts."),
    Spec("outbox_burst", "MODA_OUTBOX_BURST", size(4096, 1 << 34), 16 << 20,
         "Bytes that may wait for a client that reads, only slower than a burst comes. Below "
         "`MODA_OUTBOX` it adds nothing."),
    Spec("stall_timeout", "MODA_STALL_TIMEOUT", number(0.1, 3600), 10.0,
         "Seconds in which a client takes nothing, after which `MODA_OUTBOX_BURST` does not apply to it."),
    Spec("outbox_total", "MODA_OUTBOX_TOTAL", size(1 << 20, 1 << 40), 256 << 20,
         "Bytes that may wait for all clients together; past it those who are owed most are closed "
         "(1013)."),
    Spec("inbox_bytes", "MODA_INBOX", size(65_536, 1 << 30), 8 << 20,
         "Bytes of joins and messages of one client that may wait for their handlers; what does not "
         "fit is answered `busy`."),
    Spec("inbox_total", "MODA_INBOX_TOTAL", size(1 << 20, 1 << 40), 256 << 20,
         "The same of all clients together. One may have as much as is still free."),
    Spec("join_timeout", "MODA_JOIN_TIMEOUT", number(0, 86_400), 60.0,
         "Seconds a join may take before it is answered `join timed out`; 0 is for ever."),
    Spec("handler_timeout", "MODA_HANDLER_TIMEOUT", number(0, 86_400), 300.0,
         "Seconds a channel's callback may take before the channel ends as in a crash; 0 is for ever."),
    Spec("burst_bytes", "MODA_BURST", size(65_536, 1 << 34), 64 << 20,
         "Bytes published in one turn of the loop, beyond which a publish sends at once."),
    Spec("history_bytes", "MODA_HISTORY", size(65_536, 1 << 40), 256 << 20,
         "Bytes kept as history of all topics together; past it the topics published to longest ago "
         "give first."),
    Spec("asyncapi", "MODA_ASYNCAPI", file_path(), None,
         "An AsyncAPI 3.0 document that declares more channels."),
)  # fmt: skip

_TOKENS = (
    Spec("jwt_secret", "MODA_JWT_SECRET", text(r"(?s:.{32,})", "a text of at least 32 characters"), None,
         "Verifies JSON Web Tokens signed with HS256.", secret=True),
    Spec("jwt_jwks", "MODA_JWT_JWKS",
         text(r"\S+", "a path, an https:// URL, or http:// on this machine"), None,
         "The issuer's key set (RFC 7517), for RS256, ES256 and EdDSA. A changed file is noticed within "
         "seconds; a URL is asked every ten minutes, and when a token names a key that is new."),
    Spec("jwt_issuer", "MODA_JWT_ISSUER", text(r"\S+", "a text without blanks"), None,
         "What a token's `iss` must be."),
    Spec("jwt_audience", "MODA_JWT_AUDIENCE", listing("names, comma separated"), (),
         "One of these must be in a token's `aud`."),
    Spec("jwt_leeway", "MODA_JWT_LEEWAY", number(0, 300), 10.0,
         "Seconds by which the issuer's clock may differ from this machine's."),
    Spec("jwt_algorithms", "MODA_JWT_ALGORITHMS",
         listing(f"{', '.join(ALGORITHMS)}, comma separated", _algorithm), ALGORITHMS,
         "Signatures taken. Which one a key verifies is the key's own; a token never chooses."),
)  # fmt: skip

_OPERATION = (
    Spec("log_level", "LOG_LEVEL",
         choice(*LEVELS, also={"warn": "warning", "fatal": "critical"}), "info",
         "Least level that is logged."),
    Spec("log_format", "MODA_LOG_FORMAT", choice("auto", "json", "text"), "auto",
         "`auto`: text at a terminal, else one JSON object per line."),
    Spec("log_buffer", "MODA_LOG_BUFFER", size(65_536, 1 << 30), 1 << 20,
         "Bytes of log lines that wait for whoever reads them; past it lines are left out and "
         "counted."),
    Spec("loop_blocked_ms", "MODA_LOOP_BLOCKED_MS", integer(0, 60_000, "milliseconds"), 250,
         "How long code may hold the loop before a line names it; 0 does not look."),
    Spec("metrics_enabled", "METRICS_ENABLED", flag(), True, "Serves `/metrics`."),
)  # fmt: skip

_STORAGE = (
    Spec("database_url", "DATABASE_URL",
         url("sqlite", "postgres", "postgresql",
             hint="sqlite:///data/moda.db or postgresql://user@host/name"),
         "sqlite:///data/moda.db", "Where durable things are kept, API keys among them.", secret=True),
    Spec("database_pool_size", "DATABASE_POOL_SIZE", integer(1, 1000), 20,
         "Connections to a PostgreSQL database."),
    Spec("redis_url", "REDIS_URL",
         url("redis", "rediss", "unix", hint="redis://localhost:6379"), None,
         "A Redis that carries messages between nodes.", secret=True),
    Spec("redis_cache_ttl", "REDIS_CACHE_TTL", integer(0, 86_400, "seconds"), 60,
         "How long an answer may be taken from the cache."),
    Spec("nats_url", "NATS_URL",
         url("nats", "tls", "ws", "wss", hint="nats://localhost:4222"), None,
         "A NATS server for events.", secret=True),
    Spec("internal_api_keys", "INTERNAL_API_KEYS", _KEYS, (),
         "Keys of internal services: scopes `read`, `publish` and `ingest`.",
         secret=True),
    Spec("public_api_keys", "PUBLIC_API_KEYS", _KEYS, (), "Keys of the public API: scope `read`.",
         secret=True),
    Spec("admin_api_keys", "ADMIN_API_KEYS", _KEYS, (),
         "Keys of administrators: everything, and no rate limit.",
         secret=True),
    Spec("rate_limit_internal", "RATE_LIMIT_INTERNAL", integer(1, 10_000_000), 5000,
         "HTTP requests per minute of an internal key."),
    Spec("rate_limit_public_free", "RATE_LIMIT_PUBLIC_FREE", integer(1, 10_000_000), 1000,
         "HTTP requests per minute of a public key, of a bearer of a token, and of an address that "
         "shows neither."),
    Spec("rate_limit_public_paid", "RATE_LIMIT_PUBLIC_PAID", integer(1, 10_000_000), 10_000,
         "HTTP requests per minute of a key with the scope `paid`."),
)  # fmt: skip

_MARKET_ABOUT = {
    "source": ("simulated, binance or replay:FILE", "Where `chart:prices` come from."),
    "url": ("ws:// or wss:// with a host", "The exchange's stream endpoint."),
    "symbols": ("lower case symbols, comma separated", "The symbols shown."),
    "stale_after": ("seconds from 0.1 to 3600", "Silence after which the feed is called stale."),
    "rotate_after": (
        "seconds from 1 to 86400",
        "Age at which the upstream connection is replaced.",
    ),
    "reconnect_min": ("seconds from 0.01 to 60", "First delay before reconnecting."),
    "reconnect_max": ("seconds from 0.01 to 600", "Longest delay before reconnecting."),
    "connect_timeout": ("seconds from 0.1 to 60", "For TCP and TLS, and again for the upgrade."),
    "healthy_after": ("seconds from 0 to 3600", "Delivery after which failures are forgotten."),
    "handover": ("seconds from 0.1 to 60", "How long two upstream connections may overlap."),
    "max_message": ("", "Bytes of one upstream message."),
    "seed": ("a whole number", "Makes simulated prices repeatable."),
    "replay_speed": ("a factor from 0.001 to 100000", "1 replays at the recorded pace."),
    "replay_loop": ("on or off", "Starts a replay over at its end."),
}

# Where a text has a form of its own it is read here, and the capability is given the plain value.
_MARKET_KINDS = {"max_message": size(1024, 16 << 20)}


def _market() -> tuple[Spec, ...]:
    defaults = MarketSettings()
    return tuple(
        Spec(
            "",
            variable,
            _MARKET_KINDS.get(name) or Kind(_MARKET_ABOUT[name][0], str),
            getattr(defaults, name),
            _MARKET_ABOUT[name][1],
        )
        for name, variable in MARKET_VARIABLES.items()
    )


def _telemetry() -> tuple[Spec, ...]:
    defaults = TelemetrySettings()
    return (
        Spec("telemetry_interval_ms", "MODA_TELEMETRY_INTERVAL_MS",
             integer(250, 60_000, "milliseconds"), defaults.interval_ms,
             "Pace of `telemetry:metrics`; a join may ask for another."),
        Spec("telemetry_compat", "MODA_TELEMETRY_COMPAT", choice("beam", "none"), defaults.compat,
             "`beam` repeats memory and tasks under the names Phoenix dashboards look for."),
        Spec("telemetry_window_ms", "MODA_TELEMETRY_WINDOW_MS",
             integer(1000, 100_000, "milliseconds"), defaults.window_ms,
             "How far back percentiles look."),
    )  # fmt: skip


GROUPS: Sequence[tuple[str, str, tuple[Spec, ...]]] = (
    ("Server", "", _SERVER),
    ("Sockets and channels", "", _SOCKETS),
    ("Tokens", "See [access.md](access.md). Any of them switches JSON Web Tokens on.", _TOKENS),
    ("Telemetry", "", _telemetry()),
    ("Prices", "", _market()),
    ("Operation", "", _OPERATION),
    (
        "Storage, neighbours, access",
        "Read and checked at every start, so that an environment is checked as a whole. "
        "The database is opened for durable histories and API keys ([store.md](store.md)); the "
        "rest is for capabilities this version does not have.",
        _STORAGE,
    ),
)
SPECS: tuple[Spec, ...] = tuple(spec for _, _, specs in GROUPS for spec in specs)


def help_text() -> str:
    """All settings for a terminal."""
    lines = ["settings, from the environment or the same names in a TOML file (--config):"]
    for title, _, specs in GROUPS:
        lines += ["", f"  {title}"]
        for spec in specs:
            # "none" in the place of a value would be taken for one.
            shown = f"={spec.shown_default}" if spec.shown_default else " (not set)"
            lines.append(f"    {spec.name}{shown}")
            lines.append(f"        {spec.about.replace('`', '')} Takes {spec.kind.takes}.")
    return "\n".join(lines)


def markdown() -> str:
    """All settings as the tables of ``docs/configuration.md``."""
    lines: list[str] = []
    for title, note, specs in GROUPS:
        lines += [f"### {title}", ""]
        if note:
            lines += [note, ""]
        lines += ["| variable | default | takes | what for |", "|---|---|---|---|"]
        for spec in specs:
            takes = spec.kind.takes.replace("|", "\\|")
            mark = " Secret: never logged." if spec.secret else ""
            default = f"`{spec.shown_default}`" if spec.shown_default else "not set"
            lines.append(f"| `{spec.name}` | {default} | {takes} | {spec.about}{mark} |")
        lines.append("")
    return "\n".join(lines)


def write_documentation(path: Path) -> None:
    """Puts the tables between the marks of a documentation page."""
    begin, end = "<!-- settings: begin -->\n", "<!-- settings: end -->"
    head, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, _, tail = rest.partition(end)
    path.write_text(f"{head}{begin}\n{markdown()}\n{end}{tail}", encoding="utf-8")


if __name__ == "__main__":
    write_documentation(Path("docs/configuration.md"))
