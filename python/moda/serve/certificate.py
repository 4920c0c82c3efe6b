"""When a certificate ends, and a new one in its place without a dropped connection.

Certificates are renewed every few weeks by a program that writes files. The files are looked at once
a minute and at SIGHUP; new ones that fit are used for handshakes from then on, and connections that
are open keep what they have. A pair that does not fit (one of the two is written, the other is not
yet) changes nothing and is looked at again.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from moda.errors import ConfigurationError
from moda.serve.tls import TlsOptions, server_context

__all__ = ["SOON_DAYS", "CertificateKeeper", "Validity", "validity"]

_log = structlog.get_logger("moda.tls")

SOON_DAYS = 14
"""Days before its end from which a certificate is called due. Renewals are usual at thirty."""

LOOK = 60.0
"""Seconds between two looks at the files."""

DAY = 86_400.0
MAX_CHAIN = 64
"""Certificates of one file that are read."""

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when a chain is valid, as Unix time: the latest begin, the earliest end."""

    begins: float
    ends: float

    def problem(self, now: float) -> str:
        """What is wrong with it now, or will be soon; "" for nothing."""
        if now >= self.ends:
            return f"expired on {_day(self.ends)}: clients refuse it"
        if now < self.begins:
            return f"not valid before {_day(self.begins)}: clients refuse it until then"
        left = (self.ends - now) / DAY
        if left < SOON_DAYS:
            return f"expires on {_day(self.ends)}, in {left:.1f} days"
        return ""


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def validity(path: Path) -> Validity:
    """The validity of the chain in a PEM file. ConfigurationError when it cannot be read."""
    try:
        chain = _PEM.findall(path.read_text(encoding="latin-1"))[:MAX_CHAIN]
        spans = [_span(ssl.PEM_cert_to_DER_cert(one)) for one in chain]
    except (OSError, ValueError, IndexError) as error:
        raise ConfigurationError(f"the TLS certificate {path} cannot be read: {error}") from None
    if not spans:
        raise ConfigurationError(f"{path} holds no certificate in PEM")
    return Validity(max(begin for begin, _ in spans), min(end for _, end in spans))


def _span(der: bytes) -> tuple[float, float]:
    """notBefore and notAfter of one certificate (RFC 5280, 4.1): the fifth part of its first part,
    or the fourth where no version is stated.
    """
    certificate = _inside(der, 0)
    position = _inside(der, certificate)
    if der[position] == 0xA0:
        position = _after(der, position)
    for _ in range(3):  # serial number, signature, issuer
        position = _after(der, position)
    begin = _inside(der, position)
    return _moment(der, begin), _moment(der, _after(der, begin))


def _length(der: bytes, position: int) -> tuple[int, int]:
    """(where the content begins, its length) of the element at ``position``."""
    first = der[position + 1]
    if first < 0x80:
        return position + 2, first
    size = first & 0x7F
    content = position + 2 + size
    if not 1 <= size <= 4 or content > len(der):
        raise ValueError("an element's length is malformed")
    return content, int.from_bytes(der[position + 2 : content], "big")


def _inside(der: bytes, position: int) -> int:
    return _length(der, position)[0]


def _after(der: bytes, position: int) -> int:
    content, size = _length(der, position)
    return content + size


def _moment(der: bytes, position: int) -> float:
    content, size = _length(der, position)
    text = der[content : content + size].decode("ascii")
    # UTCTime has two digits of the year, of 1950 to 2049 (RFC 5280, 4.1.2.5.1).
    if der[position] == 0x17:
        text = ("20" if text[:2] < "50" else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


class CertificateKeeper:
    """The certificate in use. ``context`` is for new handshakes; ``ends`` its end, as Unix time.

    ConfigurationError when the files cannot be used at the start.
    """

    def __init__(self, options: TlsOptions, now: Callable[[], float] = time.time) -> None:
        self._options = options
        self._now = now
        self._stamp = self._files()
        self._said = 0.0
        self.context = server_context(options)
        self.ends = validity(options.certificate).ends
        self.on_new: Callable[[ssl.SSLContext], None] = lambda context: None

    def _files(self) -> tuple[tuple[int, int, int], ...]:
        """What tells files apart from their predecessors; 0 for one that is not there."""
        found = []
        for path in (self._options.certificate, self._options.key):
            if path is None:
                continue
            try:
                stat = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((stat.st_mtime_ns, stat.st_ino, stat.st_size))
        return tuple(found)

    def reload(self) -> bool:
        """Uses what the files hold now. False when that cannot be used, and the log says why."""
        stamp = self._files()
        try:
            context = server_context(self._options)
            span = validity(self._options.certificate)
        except ConfigurationError as error:
            _log.error("tls.reload.failed", problem=str(error), in_use_until=_day(self.ends))
            return False
        self._stamp = stamp
        self.context, self.ends = context, span.ends
        self.on_new(context)
        _log.info("tls.reload.complete", expires=_day(span.ends))
        self._warn(span)
        return True

    async def run(self) -> None:
        """Looks at the files until cancelled, and says once a day that the end is near."""
        while True:
            await asyncio.sleep(LOOK)
            self.look()

    def look(self) -> None:
        """One look at the files: new ones are used."""
        if self._files() != self._stamp:
            self.reload()
        elif self._now() - self._said >= DAY:
            self._warn(Validity(0.0, self.ends))

    def _warn(self, span: Validity) -> None:
        problem = span.problem(self._now())
        if problem:
            self._said = self._now()
            _log.warning("tls.certificate", problem=problem)
