"""Configuration: read once, checked whole, frozen.

The environment outranks the file (``--config``, or ``MODA_CONFIG``), the file outranks the
defaults; an empty value is no value. Every mistake is reported at the same time, each with the
variable, what it got and what it takes: whoever fixes one wants to fix all.

The table of settings is in :mod:`moda.app.settings_table`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from moda.access import Authentication, EnvironmentKeys, JwtOptions, JwtVerifier, KeyRing, Tiers
from moda.app.settings_table import SPECS, Spec
from moda.errors import ConfigurationError
from moda.market.settings import MarketSettings
from moda.serve.addresses import AddressLimits
from moda.serve.door import DoorOptions
from moda.serve.drain import DrainOptions
from moda.serve.proxies import TrustedProxies
from moda.serve.server import ServerOptions
from moda.serve.tls import TlsOptions
from moda.telemetry import TelemetrySettings
from moda.wire.handshake import HandshakeOptions
from moda.wire.origin import OriginRule
from moda.wire.token import TokenMode, TokenRule

__all__ = ["CONFIG_VARIABLE", "Settings", "host_of", "load_settings", "unknown_variables"]

CONFIG_VARIABLE = "MODA_CONFIG"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything an operator decides. Times in seconds but where a name ends in ``_ms`` or says
    else.

    ``heartbeat_interval`` is in milliseconds, as its variable is. Secrets do not show in ``repr``.
    """

    host: str
    port: int
    public_host: str | None
    public_url: str | None
    tls_certificate: Path | None
    tls_key: Path | None
    trusted_proxies: tuple[str, ...]
    address_connections: int
    address_rate: int
    operators: tuple[str, ...]
    handshake_timeout: float
    max_head: int
    keep_alive: float
    drain_window: float
    drain_deadline: float
    console: bool
    max_connections: int
    heartbeat_interval: int
    origins: tuple[str, ...]
    socket_auth: TokenMode
    socket_tokens: tuple[str, ...] = field(repr=False)
    max_message: int
    idle_timeout: float
    ping_interval: float
    max_channels: int
    outbox_bytes: int
    outbox_burst: int
    stall_timeout: float
    outbox_total: int
    inbox_bytes: int
    inbox_total: int
    join_timeout: float
    handler_timeout: float
    burst_bytes: int
    history_bytes: int
    asyncapi: Path | None
    log_level: str
    log_format: Literal["auto", "json", "text"]
    log_buffer: int
    loop_blocked_ms: int
    metrics_enabled: bool
    database_url: str = field(repr=False)
    database_pool_size: int
    redis_url: str | None = field(repr=False)
    redis_cache_ttl: int
    nats_url: str | None = field(repr=False)
    internal_api_keys: tuple[str, ...] = field(repr=False)
    public_api_keys: tuple[str, ...] = field(repr=False)
    admin_api_keys: tuple[str, ...] = field(repr=False)
    rate_limit_internal: int
    rate_limit_public_free: int
    rate_limit_public_paid: int
    jwt_secret: str | None = field(repr=False)
    jwt_jwks: str | None
    jwt_issuer: str | None
    jwt_audience: tuple[str, ...]
    jwt_leeway: float
    jwt_algorithms: tuple[str, ...]
    telemetry_interval_ms: int
    telemetry_compat: Literal["beam", "none"]
    telemetry_window_ms: int
    market: MarketSettings

    def server_options(self) -> ServerOptions:
        """What the server is told."""
        tls = TlsOptions(self.tls_certificate, self.tls_key) if self.tls_certificate else None
        return ServerOptions(
            host=self.host,
            port=self.port,
            public_host=self.public_host,
            public_url=self.public_url,
            keep_alive=self.keep_alive,
            max_message=self.max_message,
            tls=tls,
            door=DoorOptions(
                max_connections=self.max_connections,
                handshake_timeout=self.handshake_timeout,
                max_head=self.max_head,
                trusted=TrustedProxies.parse(self.trusted_proxies),
                addresses=AddressLimits(
                    connections=self.address_connections,
                    rate=self.address_rate,
                    operators=TrustedProxies.parse(self.operators),
                ),
            ),
            drain=DrainOptions(window=self.drain_window, deadline=self.drain_deadline),
        )

    def handshake_options(self) -> HandshakeOptions:
        """What the built-in socket asks of a handshake."""
        origins = OriginRule.parse(self.origins).with_hosts(self.public_hosts())
        return HandshakeOptions(origins=origins)

    def public_hosts(self) -> list[str]:
        """The names under which clients know this gateway, whatever ``Host`` a proxy sends."""
        hosts = [] if self.public_host is None else [self.public_host]
        return hosts if self.public_url is None else [*hosts, host_of(self.public_url)]

    def token_rule(self) -> TokenRule:
        """Who the built-in socket lets in."""
        return TokenRule.of(self.socket_auth, self.socket_tokens, others=True)

    def jwt_options(self) -> JwtOptions:
        """Which JSON Web Tokens are taken."""
        return JwtOptions(
            secret=self.jwt_secret,
            jwks=self.jwt_jwks,
            issuer=self.jwt_issuer,
            audience=self.jwt_audience,
            leeway=self.jwt_leeway,
            algorithms=self.jwt_algorithms,
        )

    def authentication(self, ring: KeyRing | None = None) -> Authentication:
        """Who is who, on every transport. ConfigurationError for a key set that cannot be read."""
        options = self.jwt_options()
        verifier = JwtVerifier(options) if options.configured else None
        if verifier is not None:
            verifier.check()
        keys = EnvironmentKeys(
            internal=self.internal_api_keys,
            public=self.public_api_keys,
            admin=self.admin_api_keys,
            tokens=self.socket_tokens,
        )
        return Authentication(keys, jwt=verifier, ring=ring)

    def takes_credentials(self) -> bool:
        """Whether a key or a token's issuer is configured; keys of the database are not known here."""
        keys = (*self.internal_api_keys, *self.public_api_keys, *self.admin_api_keys)
        return bool(keys) or self.jwt_options().configured

    def tiers(self) -> Tiers:
        """How many HTTP requests a minute whom is given."""
        return Tiers(
            internal=self.rate_limit_internal,
            public_free=self.rate_limit_public_free,
            public_paid=self.rate_limit_public_paid,
        )

    def telemetry(self) -> TelemetrySettings:
        """What telemetry is told."""
        return TelemetrySettings(
            interval_ms=self.telemetry_interval_ms,
            compat=self.telemetry_compat,
            window_ms=self.telemetry_window_ms,
        )


def host_of(url: str) -> str:
    """The host of a URL as the ``Host`` header writes it, without a port; an IPv6 address in brackets."""
    host = urlsplit(url).hostname or ""
    return f"[{host}]" if ":" in host else host


def load_settings(
    environ: Mapping[str, str] | None = None, config: Path | str | None = None
) -> Settings:
    """Reads and checks all settings. ``config`` outranks ``MODA_CONFIG`` as the name of the file.

    Raises ConfigurationError whose message holds one line per mistake.
    """
    given = dict(os.environ if environ is None else environ)
    problems: list[str] = []
    path = config or given.get(CONFIG_VARIABLE) or None
    texts: dict[str, str] = {}
    if path is not None:
        texts.update(_read_file(Path(path), problems))
    texts.update({name: value.strip() for name, value in given.items() if value.strip()})

    values: dict[str, Any] = {}
    for spec in SPECS:
        if spec.field:
            values[spec.field] = spec.default
        raw = texts.get(spec.name, "")
        if not raw:
            continue
        try:
            value = spec.kind.read(raw)
        except ValueError:
            problems.append(f"{spec.name}: got {_shown(spec, raw)}, takes {spec.kind.takes}")
            texts.pop(spec.name)
            continue
        if spec.field:
            values[spec.field] = value
        else:
            texts[spec.name] = str(value)  # the capability reads it, and knows no 64k
    values["market"] = _market(texts, problems)
    problems.extend(_disagreements(values))
    if problems:
        raise ConfigurationError("\n".join(problems))
    return Settings(**values)


def _market(texts: Mapping[str, str], problems: list[str]) -> MarketSettings:
    """The market's settings, which stop at their first problem: asked again without it for the
    next.
    """
    rest = dict(texts)
    while True:
        try:
            return MarketSettings.from_environment(rest)
        except ConfigurationError as error:
            problems.append(str(error))
            named = str(error).partition(":")[0]
            if rest.pop(named, None) is None:
                return MarketSettings()


def _disagreements(values: Mapping[str, Any]) -> list[str]:
    """Values that are each right and wrong together."""
    found = []
    if values["tls_key"] is not None and values["tls_certificate"] is None:
        found.append("MODA_TLS_KEY: got a key without MODA_TLS_CERT, takes one only beside it")
    if values["drain_window"] > values["drain_deadline"]:
        found.append(
            f"MODA_DRAIN_WINDOW: got {values['drain_window']:g}, takes at most "
            f"MODA_DRAIN_DEADLINE ({values['drain_deadline']:g})"
        )
    try:
        OriginRule.parse(values["origins"])
    except ConfigurationError as error:
        found.append(f"MODA_ORIGINS: {error}")
    if values["ping_interval"] >= values["idle_timeout"]:
        found.append(
            f"MODA_PING_INTERVAL: got {values['ping_interval']:g}, takes less than "
            f"MODA_IDLE_TIMEOUT ({values['idle_timeout']:g})"
        )
    if values["outbox_total"] < values["outbox_bytes"]:
        found.append(
            f"MODA_OUTBOX_TOTAL: got {values['outbox_total']}, takes at least "
            f"MODA_OUTBOX ({values['outbox_bytes']})"
        )
    found += _token_disagreements(values)
    return found


def _token_disagreements(values: Mapping[str, Any]) -> list[str]:
    options = JwtOptions(
        secret=values["jwt_secret"],
        jwks=values["jwt_jwks"],
        algorithms=values["jwt_algorithms"],
    )
    if not options.configured:
        return [
            f"{name}: got a value without MODA_JWT_SECRET or MODA_JWT_JWKS, takes one only beside them"
            for name, field in (
                ("MODA_JWT_ISSUER", "jwt_issuer"),
                ("MODA_JWT_AUDIENCE", "jwt_audience"),
            )
            if values[field]
        ]
    try:
        JwtVerifier(options)
    except ConfigurationError as error:
        return [str(error)]
    return []


def _shown(spec: Spec, raw: str) -> str:
    if spec.secret:
        return "(a value that is not shown)"
    return repr(raw if len(raw) <= 80 else raw[:77] + "...")


def _read_file(path: Path, problems: list[str]) -> dict[str, str]:
    """The file's values as the environment would hold them.

    Problems are added, nothing is raised.
    """
    try:
        if path.expanduser().exists() and not path.expanduser().is_file():
            problems.append(f"{CONFIG_VARIABLE}: got {str(path)!r}, which is no regular file")
            return {}
        with path.expanduser().open("rb") as stream:
            content = tomllib.load(stream)
    except OSError as error:
        problems.append(
            f"{CONFIG_VARIABLE}: got {str(path)!r}, which cannot be read ({error.strerror})"
        )
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{CONFIG_VARIABLE}: got {str(path)!r}, which is no TOML: {error}")
        return {}
    known = {spec.name: spec for spec in SPECS}
    texts: dict[str, str] = {}
    for name, value in content.items():
        if name not in known:
            problems.append(f"{path}: {name} is no setting{_suggestion(name)}")
            continue
        text = _as_text(value)
        if text is None:
            problems.append(
                f"{name}: got {type(value).__name__} in {path}, takes {known[name].kind.takes}"
            )
        else:
            texts[name] = text
    return texts


def _as_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(one, str | int) for one in value):
        return ",".join(str(one) for one in cast(list[object], value))
    return None


def _suggestion(name: str) -> str:
    near = difflib.get_close_matches(name.upper(), [spec.name for spec in SPECS], n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else "; `moda serve --help` lists all of them"


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """One sentence for each ``MODA_`` variable that no setting has: a typo sets nothing and says
    nothing.
    """
    known = {spec.name for spec in SPECS} | {CONFIG_VARIABLE}
    names = os.environ if environ is None else environ
    return [
        f"{name} is no setting{_suggestion(name)}"
        for name in sorted(names)
        if name.startswith("MODA_") and name not in known
    ]
