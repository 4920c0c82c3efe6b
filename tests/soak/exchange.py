"""A price upstream that comes and goes: it delivers, resets, hangs, and is not there, in turns."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time

from market.resets import PHASES, TICK, answer, frame, head

SHORT = 0.2


class Moody:
    """``Moody(port).start()``; `counts` says what it has done."""

    def __init__(self, port: int, seconds: float) -> None:
        self._port = port
        self._end = time.monotonic() + seconds
        self.counts = dict.fromkeys(("delivered", "reset", "hung", "away"), 0)

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        while time.monotonic() < self._end:
            with socket.create_server(("127.0.0.1", self._port)) as listener:
                listener.settimeout(1.0)
                for _ in range(8):
                    with contextlib.suppress(OSError):
                        self._mood(listener)
            self.counts["away"] += 1
            time.sleep(random.uniform(0.2, 1.5))

    def _mood(self, listener: socket.socket) -> None:
        mood = random.choice(("deliver", "reset", "reset", "reset", "hang"))
        for _ in range(20 if mood == "reset" else 1):
            peer, _ = listener.accept()
            peer.settimeout(1.0)
            with contextlib.suppress(OSError):
                if mood == "deliver":
                    self._deliver(peer)
                elif mood == "reset":
                    random.choice(PHASES)(peer)
                    self.counts["reset"] += 1
                else:
                    self.counts["hung"] += 1
                    time.sleep(random.uniform(0.1, 1.5))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()

    def _deliver(self, peer: socket.socket) -> None:
        peer.sendall(answer(head(peer), b"Connection: keep-alive, Upgrade\r\n"))
        for n in range(random.randrange(5, 30)):
            later = TICK.replace(b"1740441600000", str(int(time.time() * 1000) + n).encode())
            peer.sendall(frame(1, later))
            self.counts["delivered"] += 1
            time.sleep(SHORT)
