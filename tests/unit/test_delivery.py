"""What is known of a model's builds, as a fold of what was recorded."""

from __future__ import annotations

from typing import Any

import pytest

from modelcd.domain.delivery import Builds, fold_builds
from modelcd.domain.records import Entry, Record

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
