"""What tells people keeps the contract."""

from __future__ import annotations

import pytest

from modelcd.adapters.memory import MemoryNotifier
from modelcd.testing.notifier import NotifierContract


class TestMemoryNotifier(NotifierContract):
    @pytest.fixture
    def notifier(self) -> MemoryNotifier:
        return MemoryNotifier()


def test_what_was_told_is_remembered_in_order() -> None:
    notifier = MemoryNotifier()
    notifier.tell("first", "one")
    notifier.tell("second", "two")

    assert notifier.told == [("first", "one"), ("second", "two")]
