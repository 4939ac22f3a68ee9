"""Labels that were changed after a verdict used them: what is recorded, what follows, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_engine import GUARDS, World, good

from modelcd.adapters.memory import Prediction
from modelcd.cli.explaining import _why
from modelcd.control import release_plain
from modelcd.domain import judge as judging
from modelcd.domain.amended import Amended
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.records import Record
from modelcd.domain.release import Ending, Endpoint, Release, fold, misremembered
from modelcd.domain.restated import CHANGED, looks_of, restated
from modelcd.domain.samples import block_from
from modelcd.domain.story import timeline
from modelcd.domain.trace import trace
from modelcd.explaining import explained, verified
from modelcd.ports import Amendment, Label
from modelcd.replayed import replayed
from modelcd.steps.late import LATE_EVERY, judge_of
from modelcd.steps.outcomes import MOST_NAMED, OTHERS
from modelcd.steps.tick import tick_on
from modelcd.steps.watch import Watch

STREAM = "production/m"
LADDER = Canary(shares=(25, 50), guards=GUARDS[1:], keep_warm=0.0)
AT_ONCE = Canary(shares=(), keep_warm=0.0)
BY = Amendment("anna", "the sensor was broken", "2026-01-01T00:00:00+00:00")


class Labelled:
    """Version 2 on its ladder beside version 1, and labels of answers that both gave there."""

    def __init__(self, folder: Path, policy: Canary = LADDER) -> None:
        self.world = World(folder, {1: good, 2: good})
        assert self.world.live(self.world.open(1, AT_ONCE), requests=0).ending is Ending.PROMOTED
        self.watch = self.world.open(2, policy)
        self.log = self.world.memory.predictions
        self.count = 0
        while not self.release.rungs:
            self.look(0.5)

    @property
    def records(self) -> list[Record]:
        return self.world.memory.journal.read(STREAM)

    @property
    def endpoint(self) -> Endpoint:
        return fold(Endpoint(STREAM), self.records)

    @property
    def release(self) -> Release:
        found = self.endpoint.release("r2")
        assert found is not None
        return found

    @property
    def verdict(self) -> str:
        return str(self.release.judgement["verdict"])

    def tell(self, version: int, right: int, wrong: int = 0, by: str = "") -> list[str]:
        """Let *right* and *wrong* answers of *version* be labelled; returns the ids of the wrong ones."""
        revision = max(self.release.rungs.items(), key=lambda rung: rung[1])[0]
        ids = []
        for k in range(right + wrong):
            self.count += 1
            ids.append(f"a{self.count}")
            self.log.log(STREAM, [Prediction(ids[-1], "m", version, revision, 0.9 if k < right else 0.1)])
        self.log.label(STREAM, [Label(id, True) for id in ids], by=by)
        return ids[right:]

    def change(self, ids: list[str], value: Any = None) -> None:
        self.log.label(STREAM, [Label(id, value) for id in ids], BY)

    def look(self, seconds: float = 2.0) -> Release:
        self.world.memory.clock.sleep(seconds)
        tick_on(self.world.env, self.watch, actor="anna")
        return self.release

    def kinds(self, key: str) -> list[Any]:
        return [record.entry.body[key] for record in self.records if key in record.entry.body]

    def verify(self) -> None:
        """Every verdict computed again is the one that was recorded, by another reader and from the journal alone."""
        found = verified(STREAM, "r2", self.records, "")
        assert found["differences"] == []
        assert found["same"]
        assert misremembered(STREAM, self.records) == ""


@pytest.fixture
def told(tmp_path: Path) -> Labelled:
    return Labelled(tmp_path)


def test_a_label_that_is_changed_before_it_is_used_counts_as_it_is_now(told: Labelled) -> None:
    wrong = told.tell(2, 20, wrong=10)
    told.tell(1, 60)
    told.change(wrong[:4], False)
    told.change(wrong[4:7])

    release = told.look()

    (served,) = block_from(told.kinds("block")[-1]).labels["success"].values()
    assert [(arm.n, arm.bad) for arm in served] == [(60, 0), (27, 3)]
    assert (release.amended, told.kinds("amended")) == (Amended(used=87, told_by={"anna": 4}), [])
    told.verify()


def test_labels_that_are_changed_after_use_leave_the_block_as_it_was_and_are_told_with_who_and_why(
    told: Labelled,
) -> None:
    wrong = told.tell(2, 20, wrong=4)
    told.tell(1, 60)
    told.look()
    told.change(wrong[:2], False)
    told.change(wrong[2:3])

    release = told.look()

    assert (release.amended.used, release.amended.corrected, release.amended.withdrawn) == (84, 2, 1)
    (amended,) = told.kinds("amended")
    (revision,) = release.rungs
    assert list(amended["blocks"].values()) == [{"labels": {"success": {revision: [0, 0, -1, -3]}}}]
    said = (
        "3 of 84 labels that this verdict used were changed afterwards (2 corrected, 1 withdrawn; by anna: the sensor"
    )
    (finding,) = [f for f in release.judgement["findings"] if f["name"] == CHANGED]
    assert finding["reason"].startswith(said)
    assert release_plain(release)["labels"]["told"].startswith(said)
    assert any("2 corrected, 1 withdrawn (by anna" in moment.what for moment in timeline(told.records, "r2"))
    assert explained(told.records, release)["findings"][-1]["name"] == CHANGED
    told.verify()


def test_beside_the_evidence_that_was_seen_stands_that_of_the_labels_as_they_are_now(told: Labelled) -> None:
    wrong = told.tell(2, 20, wrong=6)
    told.tell(1, 60)
    told.look()
    told.tell(2, 10)
    told.tell(1, 10)
    told.change(wrong, False)
    told.look()

    policy = told.release.policy
    now = restated(policy, looks_of(told.records, "r2"))
    seen = judge_of(told.records, told.release)
    assert (seen.guards[0][0].seen[0].challenger_bad, now.guards[0][0].seen[0].challenger_bad) == (6, 0)
    other = Watch(STREAM)
    other.refresh(told.world.env)
    assert other.restated(told.world.env) == told.watch.restated(told.world.env) == now
    told.tell(1, 5)
    told.tell(2, 5)
    told.look()
    assert told.watch.restated(told.world.env) == restated(policy, looks_of(told.records, "r2"))


def poisoned(told: Labelled) -> list[str]:
    """Let wrong labels speak against version 2, not yet for certain, and withdraw them."""
    told.tell(1, 150, wrong=8)
    wrong = told.tell(2, 30, wrong=9)
    told.look()
    assert told.verdict == "inconclusive"
    told.change(wrong)
    return wrong


def test_labels_that_were_withdrawn_do_not_take_a_good_version_out(told: Labelled) -> None:
    poisoned(told)
    told.tell(1, 30, wrong=1)
    told.tell(2, 10, wrong=6)

    release = told.look()

    assert judging.finding(judge_of(told.records, release)).verdict == "fail"
    assert (release.ending, release.judgement["verdict"]) == (None, "inconclusive")
    told_of = "as they were seen, the version is worse; as they stand now, within what is tolerated"
    assert told_of in release.judgement["reason"]
    told.verify()


def test_people_are_told_whether_the_verdict_stands(told: Labelled) -> None:
    def said() -> str:
        lines = _why({**release_plain(told.release), **explained(told.records, told.release)})
        return next(line.strip() for line in lines if CHANGED in line)

    told.tell(1, 10)
    wrong = told.tell(2, 3, wrong=2)
    told.look()
    told.change(wrong[:1])
    told.look()
    told.tell(1, 1)
    told.look()
    assert said() == "changed labels: the verdict stands"
    poisoned(told)
    told.look()
    told.tell(1, 1)
    told.look()
    assert said() == "changed labels: the verdict does not stand"


def test_the_same_labels_take_it_out_where_nothing_was_withdrawn(told: Labelled) -> None:
    told.tell(1, 150, wrong=8)
    told.tell(2, 30, wrong=9)
    told.look()
    told.tell(1, 30, wrong=1)
    told.tell(2, 10, wrong=6)

    assert told.look().ending is Ending.ROLLED_BACK


def test_a_bad_version_that_labels_still_speak_against_is_taken_out_all_the_same(told: Labelled) -> None:
    poisoned(told)
    told.tell(1, 120, wrong=2)
    told.tell(2, 20, wrong=40)

    assert told.look().ending is Ending.ROLLED_BACK
    told.verify()


def test_labels_that_are_made_better_afterwards_promote_nothing(told: Labelled) -> None:
    wrong = told.tell(2, 30, wrong=8)
    told.tell(1, 110, wrong=4)
    told.look()
    assert told.verdict == "inconclusive"
    told.change(wrong, False)
    told.tell(1, 30)
    told.tell(2, 10)

    release = told.look()

    now = restated(release.policy, looks_of(told.records, "r2"))
    assert judging.finding(now, 0).verdict == "pass"
    assert (release.step, release.judgement["verdict"]) == (0, "inconclusive")
    assert "as they stand now, within what is tolerated, so nothing follows" in release.judgement["reason"]
    told.verify()


def test_a_few_changes_that_alter_nothing_hold_nothing_up(told: Labelled) -> None:
    told.tell(1, 20, wrong=1)
    told.tell(2, 10)
    told.look()
    told.change(["a1", "a2"], False)
    while told.release.ending is None:
        told.tell(1, 100, wrong=2)
        told.tell(2, 100, wrong=2)
        told.look()

    assert told.release.ending is Ending.PROMOTED
    assert told.release.amended.corrected == 2
    told.verify()


def test_changes_after_a_way_back_are_recorded_and_move_nothing(told: Labelled) -> None:
    told.tell(1, 150, wrong=3)
    wrong = told.tell(2, 20, wrong=60)
    assert told.look().ending is Ending.ROLLED_BACK
    told.change(wrong)

    release = told.look(LATE_EVERY[0])

    assert (told.endpoint.champion, told.endpoint.open, told.endpoint.reopened) == (1, None, "")
    assert (release.amended.withdrawn, release.ending) == (60, Ending.ROLLED_BACK)
    assert "so nothing follows" in release.judgement["reason"]
    assert told.kinds("closed") == [True]
    told.verify()
    told.look(LATE_EVERY[0])
    assert len(told.kinds("closed")) == 1


def test_changes_after_a_promotion_are_recorded_and_a_version_that_only_they_speak_against_stays(
    told: Labelled,
) -> None:
    while told.release.ending is None:
        told.tell(1, 100, wrong=2)
        told.tell(2, 100, wrong=2)
        told.look()
    used = [f"a{n}" for n in range(101, 181)]
    told.look(LATE_EVERY[0])
    told.change(used, False)

    release = told.look(LATE_EVERY[0])

    assert (told.endpoint.champion, release.amended.corrected) == (2, 80)
    assert release.judgement["verdict"] == "inconclusive"
    told.verify()


def test_numbers_of_a_metric_are_taken_away_and_added_where_they_were_counted(tmp_path: Path) -> None:
    cost = Guard("cost", GuardKind.METRIC, margin=0.1, low=0.0, high=1.0, higher_is_better=False)
    told = Labelled(tmp_path, replace(LADDER, guards=(cost,)))
    told.world.env.successes.functions["cost"] = lambda score, label: abs(score - label)  # type: ignore[attr-defined]
    wrong = told.tell(2, 8, wrong=2)
    told.tell(1, 10)
    told.look()
    told.change(wrong[:1], 0)
    told.change(wrong[1:])

    release = told.look()

    now = restated(release.policy, looks_of(told.records, "r2"))
    seen = now.guards[0][0].seen[0]
    assert (seen.challenger_n, round(seen.challenger_sum, 6)) == (9.0, 0.9)
    told.verify()


def test_a_release_says_who_told_the_labels_that_its_verdicts_rest_on(told: Labelled) -> None:
    told.tell(1, 60, by="the billing job")
    told.look()
    told.tell(2, 20, by="anna")
    told.tell(2, 10, by="the billing job")
    release = told.look()

    whose = [{"who": "the billing job", "labels": 70}, {"who": "anna", "labels": 20}]
    assert [block["told_by"] for block in told.kinds("block") if block and block["labels"]] == [
        {"the billing job": 60},
        {"anna": 20, "the billing job": 10},
    ]
    found = release_plain(release)
    assert found["labels"]["told_by"] == whose
    said = " ".join(_why({**found, **explained(told.records, release)}))
    assert "rest on 90 labels: 70 from the billing job, 20 from anna." in said
    told.verify()


def test_a_record_names_those_who_told_most_and_counts_the_others(told: Labelled) -> None:
    for k in range(MOST_NAMED + 5):
        told.tell(2, 1 + (k == 0), by=f"user {k}")

    whose = told.look().amended.told_by

    assert (len(whose), whose["user 0"], whose[OTHERS]) == (MOST_NAMED + 1, 2, 5)


def test_a_label_of_a_look_that_counted_nothing_was_not_used(told: Labelled) -> None:
    wrong = told.tell(2, 3, wrong=2)
    told.world.memory.runtime.unready(f"{STREAM}@2")
    told.look()
    assert told.kinds("block")[-1] is None
    told.change(wrong)
    told.world.memory.runtime.unready(f"{STREAM}@2", "")

    told.look()

    assert (told.release.amended.any, told.kinds("amended")) == (False, [])


def test_a_release_whose_labels_were_changed_is_replayed_on_what_was_seen(told: Labelled) -> None:
    wrong = told.tell(2, 20, wrong=4)
    told.tell(1, 60)
    told.look()
    told.change(wrong[:2], False)
    told.look()

    assert replayed(told.records, "r2")["replayed"]["ending"] == ""


# -- labels that cannot be judged --------------------------------------------------------------------------------------


def picky(score: Any, label: Any) -> bool:
    return {True: score >= 0.5, False: score < 0.5}[label]


def test_a_label_that_cannot_be_judged_keeps_no_honest_one_out_and_holds_until_it_is_mended(told: Labelled) -> None:
    told.world.env.successes.functions["success"] = picky  # type: ignore[attr-defined]
    told.tell(1, 300, wrong=6)
    told.tell(2, 299, wrong=6)
    (odd,) = told.tell(2, 0, wrong=1)
    told.change([odd], "perhaps")

    release = told.look()

    (served,) = block_from(told.kinds("block")[-1]).labels["success"].values()
    assert [arm.n for arm in served] == [306, 305]
    assert (release.step, release.judgement["verdict"], release.amended.unjudged) == (0, "error", 1)
    assert "1 label could not be judged (guard 'success' raised KeyError: 'perhaps'" in release.judgement["reason"]
    assert "correct or withdraw" in release.judgement["reason"]
    told.verify()

    told.change([odd], False)
    release = told.look()

    assert release.amended.unjudged == 0
    assert release.step > 0
    told.verify()


def test_a_bad_version_goes_back_though_a_label_cannot_be_judged(told: Labelled) -> None:
    told.world.env.successes.functions["success"] = picky  # type: ignore[attr-defined]
    (odd,) = told.tell(2, 0, wrong=1)
    told.change([odd], "perhaps")
    told.tell(1, 150, wrong=3)
    told.tell(2, 20, wrong=60)

    assert told.look().ending is Ending.ROLLED_BACK


def test_where_no_label_at_all_can_be_judged_nothing_is_taken(told: Labelled) -> None:
    told.world.env.successes.functions["success"] = picky  # type: ignore[attr-defined]
    (odd,) = told.tell(2, 0, wrong=1)
    told.change([odd], "perhaps")

    told.look()

    assert "could not be judged" in told.endpoint.trouble
    assert told.release.label_cursor == 0
    told.change([odd])
    told.look()
    assert told.endpoint.trouble == ""


def test_the_trace_of_a_release_shows_the_verdict_that_followed(told: Labelled) -> None:
    poisoned(told)
    told.tell(1, 30, wrong=1)
    told.tell(2, 10, wrong=6)
    told.look()

    last = trace(told.records, "r2").points[-1]

    assert (last.verdict, last.recorded) == ("inconclusive", "inconclusive")
    assert last.against > 1 / told.release.policy.alpha
