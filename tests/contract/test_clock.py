"""Clocks: the one on the wall, and the one that stands still until somebody sleeps."""

from __future__ import annotations

import pytest

from modelcd.adapters.memory import MemoryClock
from modelcd.adapters.system import SystemClock
from modelcd.testing.clock import ClockContract


class TestSystemClock(ClockContract):
    @pytest.fixture
    def clock(self) -> SystemClock:
        return SystemClock()


class TestMemoryClock(ClockContract):
    @pytest.fixture
    def clock(self) -> MemoryClock:
        return MemoryClock()


def test_a_clock_in_memory_does_not_move_by_itself() -> None:
    clock = MemoryClock()

    assert clock.now() == clock.now()
