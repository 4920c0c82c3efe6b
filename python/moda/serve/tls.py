"""TLS from a certificate file and a key file."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from moda.errors import ConfigurationError

__all__ = ["TlsOptions", "server_context"]


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """``certificate`` holds the chain, leaf first, in PEM; ``key`` its private key, unless it is in
    the same file.
    """

    certificate: Path
    key: Path | None = None


def server_context(options: TlsOptions) -> ssl.SSLContext:
    """A server's context: TLS 1.2 and up, HTTP/1.1 only (WebSocket over HTTP/2 is not spoken).

    ConfigurationError names the file that cannot be read or does not fit.
    """
    for name, path in (("certificate", options.certificate), ("key", options.key)):
        if path is not None and not path.is_file():
            raise ConfigurationError(f"the TLS {name} {path} is not a file that can be read")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(options.certificate, options.key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        holder = options.key or options.certificate
        if "PRIVATE KEY-----" not in holder.read_text(encoding="latin-1"):
            # OpenSSL says "PEM lib".
            what = (
                "MODA_TLS_KEY" if options.key else "MODA_TLS_CERT, without MODA_TLS_KEY beside it"
            )
            raise ConfigurationError(f"{holder} ({what}) holds no private key in PEM") from None
        raise ConfigurationError(
            f"the TLS certificate {options.certificate} and key {holder} cannot be used: {error}"
        ) from None
    return context


def _no_password() -> str:
    # Without this OpenSSL asks at the terminal, and a service waits there for ever.
    raise ValueError(
        "the key is encrypted, and moda takes no password: decrypt it with openssl pkey"
    )
