"""Telling people: a line in a file always, and a message by whatever service they named.

Apprise knows the services (mail, chat, paging) by one URL each.  Such a URL holds a secret, so it is never written
anywhere, and what a service answers is not repeated either.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path


class Notices:
    """A `Notifier` that writes JSON lines into *log* and sends to *urls*, as Apprise understands them."""

    def __init__(self, log: Path, urls: Sequence[str] = ()) -> None:
        self._log = log
        self._urls = tuple(urls)

    def tell(self, subject: str, text: str) -> None:
        """Announce *text* under *subject*; what could not be sent is said in the log, without the address."""
        undelivered = sum(not _sent(url, subject, text) for url in self._urls)
        line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "subject": subject, "text": text}
        if undelivered:
            line["undelivered"] = f"{undelivered} of {len(self._urls)} services did not take it"
        with contextlib.suppress(OSError):
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _sent(url: str, subject: str, text: str) -> bool:
    with contextlib.suppress(Exception):  # whatever a service's library raises must stop nothing
        from apprise import Apprise

        service = Apprise()
        return bool(service.add(url) and service.notify(title=subject, body=text or subject))
    return False
