"""What everything that tells people must do: subclass, give the fixture `notifier`, add nothing."""

from __future__ import annotations

from modelcd.ports import Notifier


class NotifierContract:
    """A message that cannot be delivered never stops what it was about."""

    def test_telling_twice_is_allowed(self, notifier: Notifier) -> None:
        for _ in range(2):
            notifier.tell("release 7f3a", "version 2 was rolled back")

    def test_a_message_may_be_empty_or_long(self, notifier: Notifier) -> None:
        notifier.tell("", "")
        notifier.tell("évidence ❱ " * 100, "line\n" * 10_000)
