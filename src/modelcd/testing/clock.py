"""What every clock must do: subclass `ClockContract`, give the fixture `clock`, add nothing."""

from __future__ import annotations

from datetime import timedelta

from modelcd.ports import Clock


class ClockContract:
    """Time in UTC that never runs backwards and passes at least as much as one slept."""

    def test_the_time_is_told_in_utc(self, clock: Clock) -> None:
        assert clock.now().utcoffset() == timedelta(0)

    def test_the_time_does_not_run_backwards(self, clock: Clock) -> None:
        assert clock.now() <= clock.now()

    def test_sleeping_passes_time(self, clock: Clock) -> None:
        before = clock.now()
        clock.sleep(0.002)

        assert clock.now() - before >= timedelta(seconds=0.0015)

    def test_sleeping_less_than_nothing_returns_at_once(self, clock: Clock) -> None:
        before = clock.now()
        clock.sleep(-3600)

        assert timedelta(0) <= clock.now() - before < timedelta(minutes=30)
