"""TLS from a certificate file and a key file."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from moda.errors import ConfigurationError
from moda.serve.door import Door
from moda.serve.front import Front
from moda.upgrade import Refused

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
    say a word hold six hundred descriptors nobody has counted. The door is asked before each
    handshake. With no descriptor left, a spare one is given up to accept the next in the queue and
    close it: who waits there for nothing would take it for a slow server.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        door: Door,
    ) -> None:
        self.sockets = (listener,)
        self._listener = listener
        self._context = context
        self._door = door
        self._shaking: set[_Handshake] = set()
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listener, self._accept)

    @property
    def handshaking(self) -> int:
        """Connections whose handshake is under way."""
        return len(self._shaking)

    def use(self, context: ssl.SSLContext) -> None:
        """Has handshakes from now on made with another certificate; others keep theirs."""
        self._context = context

    def close(self) -> None:
        """Accepts nobody any more; handshakes under way end."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        for one in list(self._shaking):
            one.task.cancel()

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                one, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE) and self._turn_one_away():
                    continue
                # No descriptor or no memory: the next turn would find the same.
                _log.error("accept.failed", error=str(error))
                self._loop.remove_reader(self._listener)
                self._loop.call_later(PAUSE, self._again)
                return
            address = self._door.admit(peer[0])
            if isinstance(address, Refused):
                self._door.turned_away(address)
                one.close()
                continue
            one.setblocking(False)
            self._shaking.add(_Handshake(self, one, Front(self._door, address)))

    def _turn_one_away(self) -> bool:
        """Accepts with the spare descriptor and closes. False if that cannot be done."""
        if self._spare is None:
            return False
        os.close(self._spare)
        self._spare = None
        try:
            self._listener.accept()[0].close()
        except OSError:
            return False
        finally:
            with suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY)
        self._door.on_refusal("sockets")
        return True

    def _again(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    async def shake(self, one: socket.socket, front: Front) -> None:
        """One handshake; OSError in every way in which it can fail, silence among them."""
        await self._loop.connect_accepted_socket(
            lambda: front,
            one,
            ssl=self._context,
            ssl_handshake_timeout=self._door.options.handshake_timeout,
        )

    def shaken(self, one: _Handshake, failed: bool) -> None:
        """A handshake has ended."""
        self._shaking.discard(one)
        self._door.unwatch(one)
        if failed:
            self._door.on_refusal("tls")


class _Handshake:
    """One TLS handshake that is under way. What it fails with does not outlive it."""

    __slots__ = ("_front", "_listener", "_socket", "task")

    expendable = True

    def __init__(self, listener: TlsListener, one: socket.socket, front: Front) -> None:
        self._listener = listener
        self._socket = one
        self._front = front
        self.task = asyncio.get_running_loop().create_task(listener.shake(one, front))
        self.task.add_done_callback(self._done)
        listener._door.watch(self)

    def _done(self, task: asyncio.Task[None]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if failed:
            self._front.leave()
            self._socket.close()  # before its first step a task has given it to nobody
        if failed and not task.cancelled() and not isinstance(task.exception(), OSError):
            _log.error("handshake.failed", error=type(task.exception()).__name__)
        self._listener.shaken(self, failed and not task.cancelled())

    def overdue(self) -> None:
        """uvloop's own timeout ends it."""

    def shed(self) -> None:
        """Ends for the sake of another."""
        self._front.leave()
        self.task.cancel()
