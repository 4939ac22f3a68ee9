"""Labels that come after a promotion: what is judged, what moves, who is told, over memory adapters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from test_engine import GUARDS, World, good

from modelcd.adapters.memory import Prediction
from modelcd.control import release_plain
from modelcd.domain.policy import Canary
from modelcd.domain.records import Entry, Record, until
from modelcd.domain.release import Ask, Ending, Endpoint, Release, fold, misremembered, since
from modelcd.domain.story import news, timeline, why
from modelcd.domain.verdict import Verdict
from modelcd.errors import Conflict, PredictionsError
from modelcd.ports import Label, Labelled
from modelcd.replayed import replayed
from modelcd.steps.late import LATE_EVERY, judge_of
from modelcd.steps.reconcile import ACTOR, Reconciler
from modelcd.steps.release import ask
from modelcd.steps.tick import tick, tick_on
from modelcd.steps.watch import Watch

STREAM = "production/m"
DAY = 86_400.0
LADDER = Canary(shares=(25, 50), guards=GUARDS, keep_warm=0.0)
AT_ONCE = Canary(shares=(), keep_warm=0.0)


@dataclass
class Late:
    """A promoted version, and requests that were served on its ladder and are labelled later."""

    world: World
    watch: Watch = field(default_factory=lambda: Watch(STREAM))
    labelled: int = 0

    @property
    def env(self) -> Any:
        return self.world.env

    @property
    def records(self) -> list[Record]:
        return self.world.memory.journal.read(STREAM)

    @property
    def endpoint(self) -> Endpoint:
        return Watch(STREAM).refresh(self.env)

    @property
    def promoted(self) -> Release:
        found = self.endpoint.release("r2")
        assert found is not None
        return found

    def labels(self, version: int, requests: int, wrong: int, revision: str = "") -> None:
        """Let the truth of *requests* to *version* on the ladder come, *wrong* of them wrong."""
        served = revision or max(self.promoted.rungs.items(), key=lambda rung: rung[1])[0]
        for k in range(requests):
            self.labelled += 1
            score = 0.1 if k < wrong else 0.9
            said = Prediction(f"late{self.labelled}", "m", version, served, score)
            self.world.memory.predictions.log(STREAM, [said])
            self.world.memory.predictions.label(STREAM, [Label(said.id, True)])

    def bad(self) -> None:
        """Let labels come by which version 2 is certainly worse."""
        self.labels(1, 300, 15)
        self.labels(2, 300, 120)

    def later(self, seconds: float = LATE_EVERY[0]) -> Endpoint:
        """Let a driver look when *seconds* have passed."""
        self.world.memory.clock.sleep(seconds)
        tick_on(self.env, self.watch, actor=ACTOR)
        return self.endpoint

    def kinds(self, kind: str) -> list[Entry]:
        return [record.entry for record in self.records if record.entry.kind == kind]

    def told(self) -> list[str]:
        return [f"{told[0]}: {told[1]}" for record in self.records if (told := news(record)) is not None]


def promoted(folder: Path, policy: Canary = LADDER, first: Canary | None = AT_ONCE) -> Late:
    world = World(folder, {1: good, 2: good, 3: good})
    assert first is None or world.live(world.open(1, first)).ending is Ending.PROMOTED
    assert world.live(world.open(2, policy)).ending is Ending.PROMOTED
    late = Late(world)
    late.later()
    return late


@pytest.fixture
def late(tmp_path: Path) -> Late:
    return promoted(tmp_path)


# -- what is judged ----------------------------------------------------------------------------------------------------


def test_late_labels_that_say_it_is_worse_take_a_promoted_version_out(late: Late) -> None:
    late.bad()

    endpoint = late.later()

    assert (endpoint.champion, endpoint.open, endpoint.reopened) == (1, None, "")
    back = endpoint.releases[-1]
    assert (back.id, back.version, back.takes_out, back.ending) == ("r2-back", 1, 2, Ending.PROMOTED)
    assert "late labels reopened the verdict on version 2: success" in back.reason
    assert (back.actor, back.policy.shares) == (ACTOR, ())
    assert [i.version for i in late.world.memory.runtime.instances(STREAM)] == [1]


def test_what_was_taken_out_by_late_labels_is_rejected_and_nothing_leads_back_to_it(late: Late) -> None:
    late.bad()

    endpoint = late.later()

    rejected = endpoint.rejected(2)
    assert rejected is not None
    assert (rejected.id, endpoint.before) == ("r2-back", None)


def test_late_labels_that_say_it_is_as_good_are_recorded_and_nothing_moves(late: Late) -> None:
    late.labels(1, 100, 5)
    late.labels(2, 100, 5)

    endpoint = late.later()

    (seen,) = late.kinds("late")
    assert (endpoint.champion, endpoint.releases[-1].id, seen.release) == (2, "r2", "r2")
    assert (seen.body["follows"], late.promoted.judgement["verdict"]) == ("", "pass")
    assert seen.body["cursor"] == late.promoted.label_cursor


def test_late_labels_are_judged_by_the_judge_of_the_release_against_the_same_bar(late: Late) -> None:
    before = judge_of(late.records, late.promoted)
    late.labels(1, 40, 2)
    late.labels(2, 40, 4)
    late.later()
    late.labels(2, 30, 3)
    late.labels(1, 30, 2)
    late.later()

    after = judge_of(late.records, late.promoted)

    assert len(late.kinds("late")) == 2
    assert after.guards[0] == before.guards[0]
    (was,), (now,) = before.guards[1], after.guards[1]
    assert now.seen[0] == was.seen[0].plus((7, 70, 4, 70))  # type: ignore[arg-type]
    assert late.watch.late is not None
    assert late.watch.late.judge == after


def test_another_driver_comes_to_the_same_verdict_from_the_journal_alone(late: Late) -> None:
    late.labels(1, 60, 3)
    late.labels(2, 60, 9)
    late.later()
    other = Late(late.world, labelled=late.labelled)
    other.labels(1, 60, 3)
    other.labels(2, 60, 10)

    other.later()
    late.later()

    assert other.watch.late is not None
    assert other.watch.late.judge == judge_of(late.records, late.promoted)
    assert len(late.kinds("late")) == 2


def test_labels_of_requests_that_were_served_at_a_hundred_per_cent_are_left_out(late: Late) -> None:
    routing = late.world.memory.router.read(STREAM)
    assert routing is not None
    late.labels(2, 500, 400, revision=routing.revision)
    whole = next(revision for revision, step in late.promoted.revisions.items() if step == 2)
    late.labels(2, 500, 400, revision=whole)

    endpoint = late.later()

    assert (endpoint.champion, late.kinds("late")) == (2, [])


def test_labels_behind_very_many_that_do_not_count_are_reached(late: Late, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = next(revision for revision, step in late.promoted.revisions.items() if step == 2)
    late.labels(2, 50, 0, revision=whole)
    late.bad()
    all_of_them = late.world.memory.predictions.labelled

    def few(endpoint: str, after: int = 0) -> list[Labelled]:
        return all_of_them(endpoint, after, limit=40)

    monkeypatch.setattr(late.world.memory.predictions, "labelled", few)
    late.later()
    assert late.kinds("late") == []

    for _ in range(20):
        late.later()

    assert late.endpoint.champion == 1


def test_labels_of_a_fallback_or_of_a_third_version_are_nobody_s_evidence(late: Late) -> None:
    late.labels(3, 200, 200)

    assert late.later().champion == 2
    assert late.kinds("late") == []


def test_late_labels_that_are_divided_otherwise_than_the_requests_were_move_nothing_and_are_trouble(late: Late) -> None:
    late.labels(1, 40, 2)
    late.labels(2, 600, 30)

    endpoint = late.later()

    assert (endpoint.champion, late.promoted.judgement["verdict"]) == (2, "error")
    assert "of the labels" in endpoint.trouble


# -- for how long, and how often ---------------------------------------------------------------------------------------


def test_labels_that_come_after_the_watch_change_nothing(late: Late) -> None:
    late.later(7 * DAY)
    late.bad()

    assert late.later(600.0).champion == 2
    assert late.kinds("late") == []


def test_labels_that_come_within_the_watch_count_days_later(late: Late) -> None:
    late.later(6 * DAY)
    late.bad()

    assert late.later(600.0).champion == 1


@pytest.mark.parametrize(
    "policy", [replace(LADDER, watch=0.0), replace(LADDER, guards=GUARDS[:1])], ids=["not watched", "no labels"]
)
def test_where_nothing_is_watched_for_labels_are_not_even_read(tmp_path: Path, policy: Canary) -> None:
    late = promoted(tmp_path, policy)
    asked = counting(late)
    late.bad()

    assert late.later().champion == 2
    assert asked == []


def counting(late: Late) -> list[str]:
    """Return a list that grows with each question for labels."""
    asked: list[str] = []
    answer = late.world.memory.predictions.labelled

    def labelled(endpoint: str, after: int = 0, limit: int = 100_000) -> list[Labelled]:
        asked.append(endpoint)
        return answer(endpoint, after, limit)

    late.world.memory.predictions.labelled = labelled  # type: ignore[method-assign]
    return asked


def test_the_prediction_log_is_read_once_a_minute_at_most_and_more_rarely_as_days_go_by(late: Late) -> None:
    asked, reconciler = counting(late), Reconciler({"production": late.env}, pytest.fail)

    def rounds(seconds: int) -> int:
        del asked[:]
        for _ in range(seconds):
            reconciler.round()
            late.world.memory.clock.sleep(1.0)
        return len(asked)

    assert rounds(600) == 10
    late.world.memory.clock.sleep(DAY)
    assert rounds(1200) in (2, 3)
    assert late.kinds("late") == []


def test_looks_that_find_nothing_write_nothing(late: Late) -> None:
    late.later()
    before = len(late.records)

    for _ in range(20):
        late.later()

    assert len(late.records) == before


def test_a_clock_that_was_set_back_does_not_keep_late_labels_from_being_seen(
    late: Late, monkeypatch: pytest.MonkeyPatch
) -> None:
    late.world.memory.clock.sleep(3600.0)
    late.later()
    hour_ago = late.world.memory.clock.now().replace(minute=0)
    monkeypatch.setattr(late.world.memory.clock, "_now", hour_ago)
    late.bad()

    tick_on(late.env, late.watch, actor=ACTOR)

    assert late.endpoint.champion == 1


def test_late_labels_that_cannot_be_judged_are_told_and_counted_once_they_can(
    late: Late, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise PredictionsError("the log is locked")

    with monkeypatch.context() as trouble:
        trouble.setattr(late.world.memory.predictions, "labelled", away)
        late.bad()
        late.later()
        for _ in range(10):
            late.later(1.0)
    assert late.endpoint.trouble == "late labels could not be judged: the log is locked"
    assert len(late.kinds("seen")) == 1

    assert (late.later().champion, late.endpoint.trouble) == (1, "")


# -- what moves --------------------------------------------------------------------------------------------------------


def test_nothing_moves_while_a_person_holds_and_it_goes_back_when_they_let_go(late: Late) -> None:
    ask(late.env, "m", Ask.HOLD, actor="bob")
    late.bad()
    endpoint = late.later()
    assert (endpoint.champion, endpoint.open) == (2, None)
    assert "success" in endpoint.reopened
    assert any("nothing moves while it is held by bob" in told for told in late.told())

    ask(late.env, "m", Ask.RESUME, actor="bob")

    assert late.later(1.0).champion == 1


def test_nothing_moves_while_another_release_is_under_way_and_it_goes_back_when_that_was_rolled_back(
    late: Late,
) -> None:
    late.watch = late.world.open(3)
    tick(late.env, late.watch, actor="anna")
    late.bad()
    endpoint = late.later()
    assert endpoint.open is not None
    assert (endpoint.open.id, endpoint.open.share, endpoint.champion) == ("r3", 5, 2)
    assert "success" in endpoint.reopened
    assert any("nothing moves until release r3, which is under way, is closed" in told for told in late.told())

    ask(late.env, "m", Ask.ROLL_BACK, actor="bob", reason="complaints")
    endpoint = late.later(1.0)

    assert [(r.id, r.ending) for r in endpoint.releases[-2:]] == [
        ("r3", Ending.ROLLED_BACK),
        ("r2-back", Ending.PROMOTED),
    ]
    assert endpoint.champion == 1


def test_the_promotion_of_another_version_settles_what_late_labels_said(late: Late) -> None:
    late.watch = late.world.open(3)
    tick(late.env, late.watch, actor="anna")
    late.bad()
    late.later()

    assert late.world.live(late.watch).ending is Ending.PROMOTED

    assert (late.later().champion, late.endpoint.reopened) == (3, "")


def test_who_drives_a_release_is_told_of_its_end_before_the_way_back_is_opened(late: Late) -> None:
    watch = late.world.open(3)
    tick(late.env, watch, actor="anna")
    late.bad()
    late.later()
    ask(late.env, "m", Ask.ROLL_BACK, actor="bob", reason="complaints")
    while watch.endpoint.open is not None:
        tick(late.env, watch, actor="anna")

    assert watch.endpoint.releases[-1].id == "r3"


def test_without_a_version_before_that_was_not_rejected_a_person_is_asked_once(late: Late) -> None:
    again = late.world.open(1, LADDER)
    tick(late.env, again, actor="anna")
    ask(late.env, "m", Ask.ROLL_BACK, actor="bob", reason="complaints")
    assert late.world.live(again).ending is Ending.ROLLED_BACK
    late.bad()

    endpoint = late.later()
    late.later()

    assert (endpoint.before, endpoint.champion, endpoint.open) == (None, 2, None)
    assert "there is no earlier version to go back to: a person must decide" in endpoint.asks
    assert len([told for told in late.told() if told.startswith("production/m: a person must decide")]) == 1


def test_a_version_brought_back_by_a_person_is_not_watched_for_late_labels(late: Late) -> None:
    late.world.live(late.world.open(3, AT_ONCE))
    late.world.live(late.world.open(2, AT_ONCE, again="bob knows it better", takes_out=3))

    assert late.endpoint.champion == 2
    assert late.endpoint.watched(late.world.memory.clock.now()) is None


def test_a_way_back_that_a_person_ended_is_not_opened_a_second_time(late: Late) -> None:
    late.bad()
    late.world.memory.clock.sleep(60.0)
    late.world.memory.runtime.unready(f"{STREAM}@1", "loading")
    tick_on(late.env, late.watch, actor=ACTOR)
    assert late.endpoint.open is not None
    ask(late.env, "m", Ask.ROLL_BACK, actor="bob", reason="we keep it")

    for _ in range(5):
        endpoint = late.later()

    assert [r.id for r in endpoint.releases].count("r2-back") == 1
    assert (endpoint.champion, endpoint.open) == (2, None)
    assert "the rollback, release r2-back, rolled back: a person must decide" in endpoint.asks


def test_a_dead_champion_that_late_labels_speak_against_is_not_started_first(late: Late) -> None:
    late.bad()
    late.world.memory.runtime.kill(f"{STREAM}@2")

    endpoint = late.later()

    started = [entry.body["version"] for entry in late.kinds("intended") if entry.body["effect"] == "start"]
    assert (endpoint.champion, started[-1]) == (1, 1)


def test_no_way_back_waits_for_the_prediction_log(late: Late) -> None:
    watch = late.world.open(3)
    tick(late.env, watch, actor="anna")
    late.world.memory.clock.sleep(60.0)
    ask(late.env, "m", Ask.ROLL_BACK, actor="bob", reason="complaints")
    asked = counting(late)

    tick(late.env, watch, actor="anna")

    routing = late.world.memory.router.read(STREAM)
    assert routing is not None
    assert (routing.share(2), asked) == (100, [])


def test_a_dead_champion_is_started_again_before_the_prediction_log_is_read(late: Late) -> None:
    late.world.memory.clock.sleep(60.0)
    late.world.memory.runtime.kill(f"{STREAM}@2")
    asked = counting(late)

    ticked = tick(late.env, late.watch, actor=ACTOR)

    assert ticked.moves
    assert asked == []


def test_two_drivers_that_see_it_at_once_open_one_way_back(late: Late, monkeypatch: pytest.MonkeyPatch) -> None:
    late.bad()
    late.world.memory.clock.sleep(60.0)
    other, append = Watch(STREAM), late.world.memory.journal.append

    def meddled(stream: str, expected: int, entries: list[Entry]) -> list[Record]:
        if entries[0].kind == "opened":
            monkeypatch.setattr(late.world.memory.journal, "append", append)
            other.refresh(late.env)
            append(stream, expected, [replace(entries[0], actor="the other one")])
        return append(stream, expected, entries)

    monkeypatch.setattr(late.world.memory.journal, "append", meddled)
    with pytest.raises(Conflict):
        tick_on(late.env, late.watch, actor=ACTOR)
    late.later(1.0)

    assert [r.id for r in late.endpoint.releases].count("r2-back") == 1
    assert late.endpoint.champion == 1


# -- what is told and kept ---------------------------------------------------------------------------------------------


def test_people_are_told_once_with_what_follows(late: Late) -> None:
    late.bad()
    late.later()
    late.later()

    about = [told for told in late.told() if "late labels reopened" in told.split(":")[1]]
    assert len(about) == 1
    assert about[0].startswith("production/m: late labels reopened the verdict of release r2: late labels reopened")
    assert any(
        told.startswith("production/m: release r2-back rolled back to version 1: reconciler rolled ve")
        for told in late.told()
    )


def test_the_story_of_the_release_goes_on_after_its_end(late: Late) -> None:
    late.labels(1, 20, 1)
    late.labels(2, 20, 1)
    late.later()
    late.bad()
    late.later()

    moments = [moment.what for moment in timeline(late.records, "r2")]
    assert moments[-2] == "promoted"
    assert moments[-1].startswith("late labels reopened the verdict on version 2: success")
    assert "; late labels reopened the verdict: success" in why(late.promoted)
    assert release_plain(late.promoted)["why"] == why(late.promoted)
    assert timeline(late.records, "r2-back")[0].what == f"opened by {ACTOR}"


def test_what_was_known_at_a_moment_before_the_late_labels_is_told_as_it_was(late: Late) -> None:
    late.world.memory.clock.sleep(10.0)
    before = late.world.memory.clock.now()
    late.bad()
    late.later()

    then = fold(Endpoint(STREAM), until(late.records, before))

    assert (then.champion, then.releases[-1].judgement["verdict"]) == (2, "pass")
    assert late.promoted.judgement["verdict"] == Verdict.FAIL


def test_a_checkpoint_keeps_that_a_verdict_was_reopened(late: Late) -> None:
    ask(late.env, "m", Ask.HOLD, actor="bob")
    late.bad()
    late.later()
    late.later()

    assert late.records[-1].entry.kind == "checkpoint"
    assert since(late.records[-1]).reopened == late.endpoint.reopened != ""
    assert misremembered(STREAM, late.records) == ""


def test_late_records_are_read_from_a_checkpoint_on_without_the_release_they_belong_to(late: Late) -> None:
    ask(late.env, "m", Ask.HOLD, actor="bob")
    late.later()
    place = next(k for k in range(len(late.records) - 1, 0, -1) if late.records[k].entry.kind == "checkpoint")
    late.bad()
    late.later()

    short = fold(since(late.records[place]), late.records[place + 1 :])

    assert short.reopened == late.endpoint.reopened != ""


@pytest.mark.parametrize("disturb", [Late.bad, lambda late: late.labels(1, 10, 0)], ids=["worse", "one arm only"])
def test_a_replay_of_the_release_ignores_what_came_after_its_closing(
    late: Late, disturb: Callable[[Late], None]
) -> None:
    disturb(late)
    late.later()

    told = replayed(late.records, "r2")

    assert (told["as_recorded"], told["live"]["ending"], told["replayed"]["ending"]) == (True, "promoted", "promoted")


def test_a_release_during_which_late_labels_came_for_the_one_before_is_replayed_as_it_was(late: Late) -> None:
    late.watch = late.world.open(3)
    tick(late.env, late.watch, actor="anna")
    late.labels(1, 40, 2)
    late.labels(2, 40, 2)
    late.later()
    assert late.world.live(late.watch).ending is Ending.PROMOTED
    assert len(late.kinds("late")) == 1

    told = replayed(late.records, "r3")

    assert (told["as_recorded"], told["replayed"]["ending"]) == (True, "promoted")


def test_late_labels_right_after_the_champion_died_do_not_change_what_a_replay_finds(late: Late) -> None:
    late.watch = late.world.open(3)
    tick(late.env, late.watch, actor="anna")
    late.labels(1, 40, 2)
    late.labels(2, 40, 2)
    # Each time it dies its next start is put off for longer, and in such a pause a driver has time for late labels.
    for seconds, dies in ((2.0, True), (1.1, True), (1.1, True), (0.95, False)):
        late.world.users(20)
        late.world.memory.clock.sleep(seconds)
        if dies:
            late.world.memory.runtime.kill(f"{STREAM}@2")
        tick(late.env, late.watch, actor="anna")
    told = [(r.entry.kind, r.entry.body.get("block", True) is None) for r in late.records]
    assert [("observed", True), ("late", False), ("repaired", False)] in [told[k : k + 3] for k in range(len(told))]
    assert late.world.live(late.watch).ending is Ending.PROMOTED

    replay = replayed(late.records, "r3")

    assert replay["as_recorded"]
    assert {fact["what"] for fact in replay["taken_over"]} == {"version 2 did not run and was started again"}


def test_the_way_back_is_replayed_as_any_other(late: Late) -> None:
    late.bad()
    late.later()

    told = replayed(late.records, "r2-back")

    assert (told["as_recorded"], told["replayed"]["ending"]) == (True, "promoted")
