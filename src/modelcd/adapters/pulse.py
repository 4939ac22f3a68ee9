"""Signs of life: how a holder shows that it runs, and how one who waits for it sees that it does not.

One thread gives the signs for all holds of a process, because starting one costs more than a hold does.  Nothing but
a process that runs can give them, and who waits counts only what it saw itself, by its own clock.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

BEAT = 1.0
"""Seconds between two signs of life of a holder."""

STALE = 5.0
"""Seconds without a sign of life, seen by one who watches, after which a hold is taken over."""


class Pulse:
    """Calls what is kept alive once a `BEAT`, in a thread that runs while there is something."""

    def __init__(self) -> None:
        self._beats: dict[object, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def keeping(self, beat: Callable[[], object]) -> Iterator[None]:
        """Call *beat* once in a while during the block, and not any more after it; what it raises is not told."""
        key, beating = object(), threading.Lock()

        def alone() -> None:
            with beating:
                if key in self._beats:
                    with contextlib.suppress(Exception):
                        beat()

        with self._lock:
            self._beats[key] = alone
            # A process that was forked has the variable and not the thread.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="modelcd holds", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with beating, self._lock:
                del self._beats[key]

    def _run(self) -> None:
        while True:
            time.sleep(BEAT)
            with self._lock:
                beats = list(self._beats.values())
                if not beats:
                    self._thread = None
                    return
            for beat in beats:
                beat()


PULSE = Pulse()
"""That of this process."""


class Watched:
    """What one who waits has seen of a holder: its newest sign of life, and for how long there was no other.

    The time between two looks counts for no more than a beat: who was frozen itself has not watched.
    """

    def __init__(self) -> None:
        self._sign: object = None
        self._silent = 0.0
        self._looked = 0.0

    def see(self, sign: object) -> bool:
        """Look at the holder's *sign* and say whether it has been silent for too long."""
        now = time.monotonic()
        self._silent = self._silent + min(now - self._looked, BEAT) if sign == self._sign else 0.0
        self._sign, self._looked = sign, now
        return self._silent >= STALE
