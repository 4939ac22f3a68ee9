"""Starting services again that died: the control process does it for the others, Prefect's server for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from modelcd.errors import one_line
from modelcd.platform.services import Services

LOOK_EVERY = 0.5
"""Seconds between two looks at what runs."""

LONGEST_PAUSE = 60.0
"""Seconds between two tries of what keeps failing."""


def revive(services: Services, dead: Callable[[], list[str]], stop: threading.Event) -> None:
    """Start what *dead* names until *stop* is set, after longer and longer pauses while it keeps dying."""
    pause = LOOK_EVERY
    while not stop.wait(pause):
        names = dead()
        pause = min(pause * 2, LONGEST_PAUSE) if names else LOOK_EVERY
        if names:
            say(f"starting again: {', '.join(names)}")
            try:
                services.again(names)
            except Exception as error:  # whatever it was, the next try may do better, and there is nobody else
                say(one_line(error))


def say(text: str) -> None:
    """Write a line into this service's log."""
    print(datetime.now(UTC).isoformat(timespec="seconds"), text, flush=True)
