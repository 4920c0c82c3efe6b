"""TLS from a certificate file and a key file."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from moda.errors import ConfigurationError

__all__ = ["TlsListener", "TlsOptions", "server_context"]

_log = structlog.get_logger("moda.door")

ACCEPTS = 16
"""Connections taken from one socket in one turn of the loop."""

PAUSE = 1.0
"""Seconds before another try when the system has no descriptor left."""


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


class TlsListener:
    """A listening socket whose connections are counted from their first moment.

    uvloop's own server makes a protocol once the handshake is over: six hundred clients that never
    say a word hold six hundred descriptors nobody has counted. ``enough`` is asked before each
    handshake; ``on_refusal`` counts by reason.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        protocol: Callable[[], asyncio.BaseProtocol],
        *,
        timeout: float,
        enough: Callable[[], bool],
        on_refusal: Callable[[str], None],
    ) -> None:
        self.sockets = (listener,)
        self._listener = listener
        self._context = context
        self._protocol = protocol
        self._timeout = timeout
        self._enough = enough
        self._on_refusal = on_refusal
        self._shaking: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listener, self._accept)

    @property
    def handshaking(self) -> int:
        """Connections whose handshake is under way."""
        return len(self._shaking)

    def close(self) -> None:
        """Accepts nobody any more; handshakes under way end."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()
        for task in self._shaking:
            task.cancel()

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                one, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptor or no memory: the next turn would find the same.
                _log.error("accept.failed", error=str(error))
                self._loop.remove_reader(self._listener)
                self._loop.call_later(PAUSE, self._again)
                return
            if self._enough():
                self._on_refusal("sockets")
                one.close()
                continue
            one.setblocking(False)
            task = self._loop.create_task(self._shake(one))
            self._shaking.add(task)
            task.add_done_callback(self._shaking.discard)

    def _again(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    async def _shake(self, one: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._protocol, one, ssl=self._context, ssl_handshake_timeout=self._timeout
            )
        except OSError:  # every way in which a handshake fails, silence among them
            self._on_refusal("tls")
