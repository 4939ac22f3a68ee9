"""What people read of a model and its versions, folded from journals that were really lived."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from lived import AT_ONCE, FAILING, GOOD, STREAM, Life

from modelcd.domain.card import Card, Place, card_of
from modelcd.domain.delivery import Builds, fold_builds, stream_of
from modelcd.domain.records import Entry
from modelcd.domain.release import Ask, Endpoint, fold
from modelcd.ports import Journal
from modelcd.steps.release import ask

MODEL = "m"
GATES = {
    "champion": 1,
    "metrics": {"roc_auc": 0.8123},
    "champion_metrics": {"roc_auc": 0.9},
    "findings": [{"name": "roc_auc", "verdict": "fail", "reason": "0.81 is worse | by far", "evidence": {}}],
}


def built(version: int, **more: Any) -> dict[str, Any]:
    """Return the body of a record of a version that was built."""
    facts = {"code": f"code{version}", "data": "d" * 64, "rows": 1000 * version, "toolchain": {"python": "3.12"}}
    return {"version": version, "commit": "c" * 40, "worktree": "dirty", "parameters": {}, **facts, **more}


def delivered(
    journal: Journal, version: int, ending: str, why: str = "", gates: Mapping[str, Any] | None = None
) -> None:
    """Record a delivery of *version*, by carla."""
    stream, at = stream_of(MODEL), "2026-01-01T08:00:00+00:00"
    opened = {"reason": "more data", "trigger": "person", "project": "here", "about": "Predicts `late`."}
    records: list[tuple[str, dict[str, Any]]] = [("opened", opened), ("built", built(version))]
    if gates is not None:
        verdict = "pass" if ending == "promoted" else "fail"
        records.append(("step", {"name": "gates", "verdict": verdict, "reason": "", "evidence": gates, "seconds": 1}))
    records += [("accepted", {"version": version})] * (ending == "promoted") + [
        ("closed", {"ending": ending, "why": why})
    ]
    entries = [Entry(kind, at, "carla", f"d{version}", body) for kind, body in records]
    journal.append(stream, len(journal.read(stream)), entries)


def card(journal: Journal) -> Card:
    """Fold what *journal* has."""
    records = journal.read(STREAM)
    builds = fold_builds(Builds(stream_of(MODEL)), journal.read(stream_of(MODEL)))
    return card_of(MODEL, "", builds, [Place(Endpoint("staging/m")), Place(fold(Endpoint(STREAM), records), records)])


def states(journal: Journal) -> dict[int, str]:
    """Say where each version stands."""
    return {number: page.tags["modelcd.state"] for number, page in card(journal).versions.items()}


@pytest.fixture
def life(tmp_path: Path) -> Life:
    """Version 1 in production, version 2 accepted and not released yet."""
    life = Life(tmp_path, {1: GOOD, 2: GOOD})
    for version in (1, 2):
        delivered(life.env.journal, version, "promoted")
    return life


def test_the_champion_says_since_when_by_whom_and_why(life: Life) -> None:
    tags = card(life.env.journal).versions[1].tags

    assert tags["modelcd.state"] == "in production"
    assert (tags["modelcd.by"], tags["modelcd.delivery"], tags["modelcd.commit"]) == ("anna", "d1", "c" * 40 + "-dirty")
    assert tags["modelcd.since"].endswith(" UTC")
    assert "first version here" in tags["modelcd.why"]


def test_who_was_followed_is_retired_and_the_page_of_the_model_names_the_champion(life: Life) -> None:
    life.live(life.open(2, AT_ONCE))
    told = card(life.env.journal)

    assert states(life.env.journal) == {1: "retired from production, version 2 took over", 2: "in production"}
    assert "| production | **version 2** |" in told.page.text
    assert told.page.text.startswith("Predicts `late`.")
    assert told.page.tags == {"modelcd.production": "version 2"}


def test_who_was_taken_out_by_hand_says_by_whom_and_where_that_led(life: Life) -> None:
    life.live(life.open(2, AT_ONCE))
    life.live(life.open(1, AT_ONCE, takes_out=2))
    page = card(life.env.journal).versions[2]

    assert page.tags["modelcd.state"] == "taken out of production, rolled back to version 1"
    assert page.tags["modelcd.by"] == "anna"
    assert "**Production: rolled back to version 1**" in page.text
    assert states(life.env.journal)[1] == "in production"


def test_a_canary_that_went_back_has_the_verdict_its_steps_and_what_it_was_given(tmp_path: Path) -> None:
    life = Life(tmp_path, {1: GOOD, 2: FAILING})
    for version in (1, 2):
        delivered(life.env.journal, version, "promoted")
    life.live(life.open(2), rate=60, seconds=200)
    page = card(life.env.journal).versions[2]

    assert page.tags["modelcd.state"] == "rolled back in production"
    assert (page.tags["modelcd.by"], "errors" in page.tags["modelcd.why"]) == ("modelcd", True)
    assert "- **fail** errors: " in page.text
    assert "version 1 gets 95 %, version 2 gets 5 %" in page.text
    assert "requests, " in page.text


def test_a_release_under_way_says_at_which_share(life: Life) -> None:
    watch = life.open(2)
    life.live(watch, rate=60, seconds=20)

    assert states(life.env.journal)[2] == "release under way in production, at 5 %"
    assert f"release {watch.endpoint.releases[-1].id} of version 2 is under way" in card(life.env.journal).page.text


def test_a_canary_that_a_person_ended_says_who_and_why(life: Life) -> None:
    watch = life.open(2)
    life.live(watch, rate=60, seconds=20)
    ask(life.env, MODEL, Ask.ROLL_BACK, actor="bob", reason="complaints")
    life.live(watch)
    tags = card(life.env.journal).versions[2].tags

    assert (tags["modelcd.state"], tags["modelcd.by"]) == ("rolled back in production", "bob")
    assert "complaints" in tags["modelcd.why"]


def test_every_moment_of_a_promotion_can_be_told(life: Life) -> None:
    life.live(life.open(2, AT_ONCE))
    whole = life.env.journal.read(STREAM)
    builds = fold_builds(Builds(stream_of(MODEL)), life.env.journal.read(stream_of(MODEL)))
    told = [
        card_of(MODEL, "", builds, [Place(fold(Endpoint(STREAM), whole[:end]), whole[:end])]).versions[1]
        for end in range(len(whole) + 1)
    ]

    assert told[-1].tags["modelcd.state"].startswith("retired")


def test_a_version_that_stopped_at_its_gates_has_their_figures_beside_the_champions(life: Life) -> None:
    delivered(life.env.journal, 3, "stopped", "gates: roc_auc: 0.81 is worse", GATES)
    page = card(life.env.journal).versions[3]

    assert (page.tags["modelcd.state"], page.tags["modelcd.gates"]) == ("stopped at gates", "failed")
    assert "| roc_auc | 0.8123 | 0.9 |" in page.text
    assert "- **fail** roc_auc: 0.81 is worse \\| by far" in page.text


def test_what_changed_since_the_champion_is_said(life: Life) -> None:
    delivered(life.env.journal, 3, "stopped", "gates: too low", GATES)
    text = card(life.env.journal).versions[3].text

    assert "**What changed since version 1**" in text
    assert "- data: rows 1,000 → 3,000" in text
    assert "- parameters: the same" in text


def test_a_page_has_no_tags_of_html_from_elsewhere(life: Life) -> None:
    delivered(life.env.journal, 3, "stopped", "gates: <img src=x onerror=alert(1)>", GATES)

    assert "<img" not in str(card(life.env.journal))
