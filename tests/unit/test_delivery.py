"""What is known of a model's builds, as a fold of what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stories import Stage

from modelcd.domain.delivery import Builds, fold_builds
from modelcd.domain.records import Entry, Record
from modelcd.environments.memory import Memory
from modelcd.errors import Refused
from modelcd.flows._effects import pages
from modelcd.flows.deliver import retrain_in
from modelcd.steps.build import Walk

VERSION = {"version": 1}
PASSED = [("built", VERSION), ("proven", VERSION), ("accepted", VERSION)]


def known(*entries: tuple[str, dict[str, Any]]) -> Builds:
    """Return the builds after one delivery that recorded *entries*."""
    opened = ("opened", {"reason": "", "trigger": "person", "project": "here"})
    records = [
        Record("builds/m", seq, Entry(kind, "2026-01-01T00:00:00+00:00", "anna", "d1", body), "", "")
        for seq, (kind, body) in enumerate([opened, *entries], start=1)
    ]
    return fold_builds(Builds("builds/m"), records)


@pytest.mark.parametrize("kept", range(len(PASSED)))
def test_a_version_is_accepted_only_at_the_end_of_its_way_through_staging(kept: int) -> None:
    assert known(*PASSED[:kept]).accepted == frozenset()
    assert known(*PASSED).accepted == {1}


def test_a_version_that_is_delivered_anew_must_be_accepted_anew() -> None:
    assert known(*PASSED, ("built", VERSION)).accepted == frozenset()
    assert known(*PASSED, ("built", {"version": 2})).accepted == {1}


def test_an_unknown_kind_of_record_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown kind 'approved'"):
        known(("approved", VERSION))


class Empty(Stage):
    """A place in which nothing was delivered, and where nothing may be read."""

    def walk(self, project_at: Path, actor: str, delivery: str) -> Walk:
        raise AssertionError(f"{project_at} was looked at")


def test_a_run_that_prefect_starts_reads_no_folder_that_no_person_has_delivered(tmp_path: Path) -> None:
    place = Empty(lambda name: Memory({}, name=name).environment, tmp_path)

    with pytest.raises(Refused, match="no person has delivered '/some/folder' here"):
        retrain_in(place, "/some/folder", "prefect")


def test_retraining_goes_on_from_the_folder_of_a_person() -> None:
    scheduled = ("opened", {"reason": "", "trigger": "schedule", "project": "elsewhere"})

    assert known(scheduled).delivered_from == "here"
    assert Builds("builds/m").delivered_from == ""


def test_a_folder_that_has_become_the_project_of_another_model_is_not_retrained(tmp_path: Path) -> None:
    env = Memory({}).environment
    opened = Entry("opened", "2026-01-01T00:00:00+00:00", "anna", "d1", {"reason": "", "trigger": "", "project": "x"})
    env.journal.append("builds/other", 0, [opened])

    without = pages.set(False)
    try:
        with pytest.raises(Refused, match="now the project of m, not of other"):
            retrain_in(Stage(lambda _: env, tmp_path), "other", "prefect")
    finally:
        pages.reset(without)
