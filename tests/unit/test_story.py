"""A release told from its records."""

from __future__ import annotations

from typing import Any

from modelcd.domain.records import Entry, Record
from modelcd.domain.routing import Arm, Routing
from modelcd.domain.story import timeline

CANARY = Routing((Arm(1, 95.0), Arm(2, 5.0))).to_plain()
BACK = Routing.all_to(1, keeping=(2,)).to_plain()


def records(*told: tuple[str, dict[str, Any]], release: str = "r1") -> list[Record]:
    return [
        Record("production/m", seq, Entry(kind, f"2026-01-01T00:00:{seq:02d}+00:00", "anna", release, body), "", "")
        for seq, (kind, body) in enumerate(told, start=1)
    ]


def look(version: int, requests: int, failures: int) -> tuple[str, dict[str, Any]]:
    return "observed", {"counted": {str(version): {"requests": requests, "failures": failures}}}


WAY = records(
    ("opened", {"version": 2}),
    ("intended", {"effect": "start", "version": 2}),
    ("done", {"effect": "start", "version": 2}),
    ("done", {"effect": "shift", "routing": CANARY}),
    look(2, 30, 0),
    look(1, 500, 7),
    look(2, 12, 4),
    ("asked", {"ask": "roll_back", "reason": "complaints"}),
    ("failed", {"effect": "shift", "error": "the gateway does not answer"}),
    ("repaired", {"what": "version 1 serves here and does not run"}),
    ("done", {"effect": "shift", "routing": BACK}),
    ("closed", {"ending": "rolled back"}),
)


def test_a_release_is_told_moment_by_moment_with_what_the_challenger_was_given() -> None:
    told = [(moment.what, moment.requests, moment.failed) for moment in timeline(WAY, "r1")]

    assert told == [
        ("opened by anna", 0, 0),
        ("version 2 started", 0, 0),
        ("version 1 gets 95 %, version 2 gets 5 %", 0, 0),
        ("anna asked to roll back: complaints", 42, 4),
        ("could not shift: the gateway does not answer", 42, 4),
        ("repaired by anna: version 1 serves here and does not run", 42, 4),
        ("version 1 gets 100 %", 42, 4),
        ("rolled back", 42, 4),
    ]


def test_moments_have_the_time_of_their_record() -> None:
    assert [moment.at[17:19] for moment in timeline(WAY, "r1")][:3] == ["01", "03", "04"]


def test_other_releases_of_the_endpoint_are_left_out() -> None:
    assert timeline(records(("opened", {"version": 3}), release="r2"), "r1") == []
