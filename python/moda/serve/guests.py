"""What keeps redaction when a guest configures logging: an application, or a library it brings.

Litestar installs handlers of its own, ``logging.basicConfig(force=True)`` and ``dictConfig`` throw
ours out (and disable loggers that exist), ``structlog.configure`` replaces our processors. All of that
is a guest's right for its own lines, and none of it may decide what moda writes about its clients. Two
things hold, whatever is configured when:

- moda's own loggers live in a hierarchy of their own (:func:`own_logger`), which ``logging`` has no
  name for, and are bound to our processors before the application is imported (:func:`pin_loggers`).
  Their lines keep their form, their redaction and their place.
- Whatever is written to standard output and standard error passes :class:`Guarded`, which hides what
  looks like a secret inside a text. It is the last place all guests share: a StreamHandler, a logger
  that prints, ``print`` itself.

Refused: patching ``logging`` or ``structlog`` so that a guest's call does nothing. It would take lines
away that an operator counts on, and a library with a way of its own would not be met. Not covered: a
file or a network sink that a guest opens for its own lines, and bytes written to a descriptor.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from typing import Any

import structlog

from moda.serve.redact import hide

__all__ = ["Guarded", "guard_streams", "keep", "own_logger", "pin_loggers"]

MAX_HELD = 8192
"""Characters without a line's end that are held back to be seen whole."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

_UNBOUND = type(structlog.get_logger())
"""What structlog gives out until a logger is first used."""

_root = logging.RootLogger(logging.INFO)
_manager = logging.Manager(_root)
_root.manager = _manager
_manager.loggerClass = logging.Logger  # whatever class a guest sets for its own


def own_logger(*names: Any) -> logging.Logger:
    """The standard library's logger for a name, from moda's own hierarchy if the name is moda's.

    structlog's ``logger_factory``.
    """
    name = str(names[0]) if names else ""
    if name == "moda" or name.startswith("moda."):
        return _manager.getLogger(name)
    return logging.getLogger(name)


def keep(handler: logging.Handler, level: int) -> None:
    """Has moda's own lines written by this handler alone, from this level on."""
    _root.handlers[:] = [handler]
    _root.setLevel(level)


def pin_loggers() -> None:
    """Binds the loggers of all modules of moda that are imported to structlog's configuration of now.

    They are made when a module is imported and look for their processors when they are first used;
    for those not used yet that would be the guest's.
    """
    for name, module in list(sys.modules.items()):
        if name == "moda" or name.startswith("moda."):
            for value in list(vars(module).values()):
                if isinstance(value, _UNBOUND):
                    value.bind()


def guard_streams() -> None:
    """Puts :class:`Guarded` before standard output and standard error. Done twice it is done once.

    For the process that serves, before the application is imported.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Guarded):
            setattr(sys, name, Guarded(stream))


def _scrubbed(text: str) -> str:
    plain = _COLOURS.sub("", text) if "\x1b" in text else text
    hidden = hide(plain)
    # Colours part a name from its value; they go where something has to be hidden.
    return text if hidden == plain else hidden


class Guarded:
    """A text stream that writes no secret it can tell by its shape.

    It looks at whole lines, so what has no line's end waits for it, for a flush, or for
    :data:`MAX_HELD` characters. All else (``fileno``, ``isatty``, ``encoding``) is the stream's.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._held = ""
        self._bytes: _GuardedBytes | None = None
        # Of a thread that is in here already, too: a collection inside may run a __del__ that prints.
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)

    @property
    def buffer(self) -> _GuardedBytes:
        """The stream of bytes below, guarded as well."""
        below = self._stream.buffer
        if self._bytes is None:
            self._bytes = _GuardedBytes(self, below)
        return self._bytes

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with self._lock:
            held = self._held + text
            end = held.rfind("\n") + 1
            if len(held) - end > MAX_HELD:
                end = len(held)
            self._held = held[end:]
            if end:
                self._stream.write(_scrubbed(held[:end]))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with self._lock:
            held, self._held = self._held, ""
            if held:
                self._stream.write(_scrubbed(held))
            if self._bytes is not None:
                self._bytes.let_go()
            self._stream.flush()


class _GuardedBytes:
    """The same for bytes. What is no UTF-8 comes through as it is."""

    def __init__(self, text: Guarded, below: Any) -> None:
        self._text = text
        self._below = below
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        with self._text._lock:
            held = self._held + bytes(data)
            end = held.rfind(b"\n") + 1
            if len(held) - end > MAX_HELD:
                end = len(held)
            self._held = held[end:]
            self._pass(held[:end])
        return size

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._text.flush()
        self._below.flush()

    def let_go(self) -> None:
        """Writes what waits for its line's end."""
        held, self._held = self._held, b""
        self._pass(held)

    def _pass(self, data: bytes) -> None:
        if data:
            text = data.decode("utf-8", "surrogateescape")
            self._below.write(_scrubbed(text).encode("utf-8", "surrogateescape"))
