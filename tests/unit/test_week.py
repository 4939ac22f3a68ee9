"""A rollout of a week: the whole engine under a virtual clock, and once more from its journal."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from lived import ERRORS, GOOD, LATENCY, Crowd, Kind, Life

from modelcd.domain.policy import Canary
from modelcd.domain.records import Record
from modelcd.domain.release import Ending, Release
from modelcd.replayed import replayed
from modelcd.steps.tick import tick

DAY = 86_400.0
WEEK = Canary((1, 2, 5, 10, 20, 35, 50), (ERRORS, LATENCY), bake=DAY, step_budget=3 * DAY, keep_warm=0.0)
EVERY = 30.0
"""Seconds between two ticks: as seldom as time still counts as watched, so that a week has 20,000 looks, not 60,000."""


def lived(folder: Path, happens: Callable[[Crowd, float], None]) -> tuple[list[Record], Release]:
    """Let a version in over a week, with fewer users by night; *happens* is called with the days that have passed."""
    life = Life(folder, {1: GOOD, 2: GOOD})
    crowd = Crowd(life.router, life.kinds)
    env, clock = replace(life.env, metrics=crowd), life.memory.clock
    watch, began = life.open(2, WEEK), clock.now()
    while watch.endpoint.releases[-1].ending is None:
        tick(env, watch, actor="anna")
        days = (clock.now() - began).total_seconds() / DAY
        assert days < 8, watch.endpoint.releases[-1].judgement["reason"]
        happens(crowd, days)
        crowd.come(40 if 7 <= clock.now().hour < 22 else 10)
        clock.sleep(EVERY)
    return life.records, watch.endpoint.releases[-1]


@dataclass(frozen=True)
class Week:
    """A week that went well, told live and once more, and how many seconds of real time each took."""

    told: dict[str, Any]
    living: float
    replaying: float


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Week:
    began = time.process_time()
    records, release = lived(tmp_path_factory.mktemp("week"), lambda *_: None)
    between = time.process_time()
    told = replayed(records, release.id)
    return Week(told, between - began, time.process_time() - between)


def test_a_rollout_of_a_week_takes_a_week_of_virtual_and_seconds_of_real_time(week: Week) -> None:
    live = week.told["live"]
    lasted = datetime.fromisoformat(live["ended"]) - datetime.fromisoformat(live["opened"])

    assert live["ending"] == Ending.PROMOTED
    assert timedelta(days=7) <= lasted < timedelta(days=7, hours=1)
    assert max(week.living, week.replaying) < lasted.total_seconds() / 2_000


def test_the_replay_of_a_week_decides_the_same_at_the_same_looks(week: Week) -> None:
    assert week.told["as_recorded"]
    assert week.told["replayed"]["rungs"] == week.told["live"]["rungs"]
    assert all(rung["looks"] > 2_800 for rung in week.told["live"]["rungs"][:-1])


def test_a_version_that_breaks_in_the_middle_of_the_week_is_found_within_minutes(tmp_path: Path) -> None:
    def breaks(crowd: Crowd, days: float) -> None:
        crowd.kinds[2] = Kind(fails=4) if days > 1.5 else GOOD

    records, release = lived(tmp_path, breaks)

    late = datetime.fromisoformat(release.ended) - datetime.fromisoformat(release.opened) - timedelta(days=1.5)
    assert release.ending is Ending.ROLLED_BACK
    assert timedelta() < late < timedelta(minutes=30)
    assert replayed(records, release.id)["as_recorded"]
