"""A recorded release once more: as it went under its own policy, and otherwise under another one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lived import (
    AT_ONCE,
    ERRORS,
    FAILING,
    GOOD,
    LADDER,
    LATENCY,
    SLOW,
    STREAM,
    SUCCESS,
    WRONG,
    Kind,
    Life,
    any_of,
)

from modelcd.adapters.memory import Prediction
from modelcd.domain.policy import Canary, Guard, GuardKind, OnDoubt
from modelcd.domain.records import Record
from modelcd.domain.release import Ask
from modelcd.domain.replay import recording
from modelcd.domain.routing import Routing
from modelcd.domain.samples import Counters
from modelcd.errors import UsageError
from modelcd.ports import Label
from modelcd.replayed import Replayed, replayed
from modelcd.steps.release import ask
from modelcd.steps.replay import replay

Events = Mapping[float, Callable[[], object]]


@dataclass(frozen=True)
class Case:
    """A release that was lived through: of which version, under which policy and traffic, with what happening to it."""

    ending: str
    challenger: Kind = GOOD
    policy: Canary = LADDER
    rate: float = 40.0
    seconds: float = 900.0
    happens: Callable[[Life], Events] = field(default=lambda _: {})
    told: str = ""
    labelled: bool = True


def asking(*asks: tuple[float, Ask]) -> Callable[[Life], Events]:
    def happens(life: Life) -> Events:
        return {at: partial(ask, life.env, "m", what, actor="bob", reason="complaints") for at, what in asks}

    return happens


def killing(*versions: int, away: int = 0) -> Callable[[Life], Events]:
    def happens(life: Life) -> Events:
        kills = [partial(life.memory.runtime.kill, f"{STREAM}@{version}") for version in versions]
        return {10.0: any_of(*kills, partial(setattr, life.router, "away", away))}

    return happens


def dying(life: Life) -> Events:
    return {at: partial(life.memory.runtime.kill, f"{STREAM}@2") for at in (5.0, 10.0, 15.0)}


def silent(version: int, since: float, until: float) -> Callable[[Life], Events]:
    def happens(life: Life) -> Events:
        unready = partial(life.memory.runtime.unready, f"{STREAM}@{version}")
        return {since: unready, until: partial(unready, "")}

    return happens


def unjudged(life: Life) -> Events:
    functions: Any = life.env.successes
    known = dict(functions.functions)
    return {10.0: functions.functions.clear, 20.0: partial(functions.functions.update, known)}


def changed_by_hand(life: Life) -> Events:
    return {10.0: partial(life.router.write, STREAM, Routing.all_to(1), {1: f"memory://{STREAM}@1"})}


def driven_by_a_clock_behind(life: Life) -> Events:
    return {10.0: partial(setattr, life.clock, "behind", 45.0), 75.0: partial(setattr, life.clock, "behind", 0.0)}


def unreachable_at_first(life: Life) -> Events:
    return {0.0: partial(setattr, life.router, "away", 2)}


class Misrouting:
    """Counts of a gateway that gives requests to a third version from some moment until another."""

    def __init__(self, life: Life) -> None:
        self.metrics, self.life, self.strange, self.on = life.env.metrics, life, Counters(), False

    def counters(self, endpoint: str) -> Mapping[int, Counters]:
        if self.on:
            self.strange = replace(self.strange, requests=self.strange.requests + 3)
        found = dict(self.metrics.counters(endpoint))
        return {**found, 7: self.strange} if self.strange.requests else found


def misrouted(since: float, until: float = 1e9) -> Callable[[Life], Events]:
    def happens(life: Life) -> Events:
        gateway = Misrouting(life)
        life.env = replace(life.env, metrics=gateway)
        return {since: partial(setattr, gateway, "on", True), until: partial(setattr, gateway, "on", False)}

    return happens


def mislabelled(life: Life) -> Events:
    def log() -> None:
        routing = life.router.read(STREAM)
        assert routing is not None
        life.memory.predictions.log(STREAM, [Prediction("strange", "m", 7, routing.revision, 1)])
        life.memory.predictions.label(STREAM, [Label("strange", 1)])

    return {10.0: log, 15.0: log}


SLOWLY = replace(LADDER, bake=60.0)

CASES = {
    "promoted": Case("promoted"),
    "promoted in a hurry": Case("promoted", rate=800),
    "promoted after baking": Case("promoted", policy=replace(LADDER, bake=60.0)),
    "promoted at once": Case("promoted", policy=AT_ONCE),
    "rolled back by errors": Case("rolled back", FAILING),
    "rolled back by latency": Case("rolled back", SLOW),
    "rolled back by labels": Case("rolled back", WRONG, rate=300),
    "without an answer in time, rolled back": Case(
        "rolled back", policy=replace(LADDER, step_budget=60.0, on_doubt=OnDoubt.ROLL_BACK), rate=5
    ),
    "without traffic, rolled back": Case(
        "rolled back", policy=replace(LADDER, step_budget=60.0, on_doubt=OnDoubt.ROLL_BACK), rate=0
    ),
    "without an answer in time, held": Case("", policy=replace(LADDER, step_budget=60.0), rate=5, seconds=120),
    "without an answer in time, extended": Case(
        "promoted", policy=replace(LADDER, step_budget=10.0, on_doubt=OnDoubt.EXTEND)
    ),
    "extended until the release's budget is spent": Case(
        "", policy=replace(LADDER, step_budget=20.0, budget=70.0, on_doubt=OnDoubt.EXTEND), rate=5, seconds=120
    ),
    "a third version gets requests": Case("", happens=misrouted(40.0), seconds=120, policy=SLOWLY),
    "a third version got requests for a while": Case("promoted", happens=misrouted(40.0, 50.0), policy=SLOWLY),
    "a third version got labels for a while": Case("promoted", happens=mislabelled, policy=SLOWLY),
    "without labels": Case("", labelled=False, seconds=120),
    "held by a person": Case("", happens=asking((10, Ask.HOLD)), seconds=90, told="bob asked to hold"),
    "held, and let go on": Case(
        "promoted", happens=asking((10, Ask.HOLD), (70, Ask.RESUME)), told="bob asked to resume"
    ),
    "rolled back by a person": Case("rolled back", happens=asking((10, Ask.ROLL_BACK)), told="asked to roll back"),
    "the challenger dies": Case(
        "rolled back", policy=replace(LADDER, fallback=False), happens=killing(2), told="version 2 died: killed"
    ),
    "the challenger dies once": Case(
        "promoted", happens=killing(2), told="version 2 did not run and was started again"
    ),
    "the challenger keeps dying": Case("rolled back", happens=dying, told="version 2 died: killed"),
    "the champion dies": Case("promoted", happens=killing(1), told="version 1 did not run and was started again"),
    "both die, and the gateway is away": Case("promoted", happens=killing(1, 2, away=3), told="could not shift"),
    "the challenger is silent for a while": Case("promoted", happens=silent(2, 10, 14), told="did not answer"),
    "the champion is silent for a while": Case("promoted", happens=silent(1, 10, 14), told="did not answer"),
    "slow to start": Case("promoted", happens=silent(2, 0, 30)),
    "never ready": Case("failed", happens=silent(2, 0, 900), told="version 2 was not ready"),
    "changed by hand": Case("promoted", happens=changed_by_hand, told="the gateway did not serve what was wanted"),
    "the gateway is away at first": Case("promoted", happens=unreachable_at_first, told="could not rehearse"),
    "driven for a while by a clock that is behind": Case("promoted", happens=driven_by_a_clock_behind),
    "labels that cannot be judged": Case("promoted", happens=unjudged, told="labels could not be judged"),
}


@dataclass(frozen=True)
class Lived:
    """What was recorded of a release: everything in its stream, and its id."""

    case: Case
    records: list[Record]
    release: str

    def replayed(self, policy: Canary | None = None) -> dict[str, Any]:
        """Replay it."""
        return replayed(self.records, self.release, policy)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Lived]:
    """Return the release of a case; each is lived once."""
    known: dict[str, Lived] = {}

    def one(name: str) -> Lived:
        if name not in known:
            case = CASES[name]
            life = Life(tmp_path_factory.mktemp("life"), {1: GOOD, 2: case.challenger})
            watch = life.open(2, case.policy)
            release = life.live(watch, case.seconds, case.rate, case.happens(life), case.labelled)
            known[name] = Lived(case, life.records, release.id)
        return known[name]

    return one


Lives = Callable[[str], Lived]


# -- under its own policy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_release_goes_under_its_own_policy_as_it_went(lived: Lives, name: str) -> None:
    release = lived(name)

    told = release.replayed()

    assert told["live"]["ending"] == release.case.ending
    assert told["replayed"]["ending"] == release.case.ending
    assert told["replayed"]["rungs"] == told["live"]["rungs"]
    assert told["replayed"]["why"] == told["live"]["why"]
    assert told["as_recorded"]
    assert release.case.told in " ".join(fact["what"] for fact in told["taken_over"])
    assert not told["left_out"]


@pytest.mark.parametrize("name", CASES)
def test_a_replay_looks_when_the_live_release_looked_and_says_the_same(lived: Lives, name: str) -> None:
    def looks(records: list[Record]) -> list[Any]:
        return [(r.entry.at, r.entry.body) for r in records if r.entry.kind == "observed"]

    release = lived(name)
    recorded = recording(release.records, release.release)
    world = Replayed(recorded, recorded.policy)

    replay(world)

    live, again = looks(list(recorded.records)), looks(world.journal.read(STREAM))
    assert [at for at, _ in again] == [at for at, _ in live]
    for (_, body), (_, same) in zip(live, again, strict=True):
        assert same["judgement"] == body["judgement"]
        assert same["block"] == (body["block"] and {**body["block"], "labels": same["block"]["labels"]})


@pytest.mark.parametrize("name", CASES)
def test_replaying_twice_tells_the_same(lived: Lives, name: str) -> None:
    assert lived(name).replayed() == lived(name).replayed()
    other = Canary(shares=(10, 50), guards=(ERRORS,))
    assert lived(name).replayed(other) == lived(name).replayed(other)


@pytest.mark.parametrize("name", ["promoted", "rolled back by errors", "rolled back by a person"])
def test_a_journal_cut_in_the_middle_of_a_release_leaves_it_undecided(lived: Lives, name: str) -> None:
    release = lived(name)
    places = [k for k, r in enumerate(release.records) if r.entry.release == release.release]
    looks = [k for k in places if release.records[k].entry.kind == "observed"]

    for cut in range(places[0] + 1, looks[-1]):
        told = replayed(release.records[:cut], release.release)

        assert (told["live"]["ending"], told["replayed"]["ending"]) == ("", "")
        assert told["replayed"]["waits"]


def test_the_real_journal_is_left_as_it_is_and_what_is_replayed_is_marked(lived: Lives) -> None:
    release = lived("held, and let go on")
    before = list(release.records)
    recorded = recording(release.records, release.release)
    world = Replayed(recorded, recorded.policy)

    replay(world)

    assert release.records == before
    new = world.journal.read(STREAM)[len(recorded.before) :]
    assert new[0].entry.body["replayed"] == release.release
    assert all(r.entry.actor == "replay" or r.entry.body["replayed"] == release.release for r in new)


@pytest.mark.parametrize("name", [name for name in CASES if "third version" in name])
def test_where_a_third_version_was_seen_the_verdict_was_an_error(lived: Lives, name: str) -> None:
    looks = [r.entry.body["judgement"] for r in lived(name).records if r.entry.kind == "observed"]

    assert any(look["verdict"] == "error" and "version 7 got" in look["reason"] for look in looks)


def test_a_replay_needs_no_artifact(lived: Lives, tmp_path: Path) -> None:
    release = lived("the champion dies")
    gone = [
        replace(r, entry=replace(r.entry, body={**r.entry.body, "artifact": str(tmp_path / "gone")}))
        if r.entry.kind == "opened"
        else r
        for r in release.records
    ]

    assert replayed(gone, release.release)["as_recorded"]


def test_a_later_release_of_the_stream_is_replayed_on_what_stood_there_before(tmp_path: Path) -> None:
    life = Life(tmp_path, {1: GOOD, 2: GOOD, 3: FAILING})
    first = life.live(life.open(2), rate=40)
    second = life.live(life.open(3), rate=40)
    third = life.live(life.open(3, again="mended"), rate=40)

    told = [replayed(life.records, release.id) for release in (first, second, third)]

    assert [(one["live"]["ending"], one["as_recorded"]) for one in told] == [
        ("promoted", True),
        ("rolled back", True),
        ("rolled back", True),
    ]
    assert [one["champion"] for one in told] == [1, 2, 2]


def test_a_first_release_is_replayed_without_a_champion(tmp_path: Path) -> None:
    life = Life(tmp_path, {1: GOOD})
    (release,) = {r.entry.release for r in life.records} - {""}

    told = replayed(life.records, release)

    assert told["as_recorded"]
    assert told["replayed"]["ending"] == "promoted"


# -- under another policy ----------------------------------------------------------------------------------------------


def test_a_stricter_policy_rolls_back_what_a_lenient_one_promoted(tmp_path: Path) -> None:
    life = Life(tmp_path, {1: GOOD, 2: Kind(fails=20)})
    lenient = Canary(shares=(25, 50), guards=(Guard("errors", GuardKind.ERRORS, margin=0.2),), bake=60.0)
    release = life.live(life.open(2, lenient))
    strict = Canary(shares=(5, 25, 50), guards=(ERRORS,))

    told = replayed(life.records, release.id, strict)

    assert (told["live"]["ending"], told["replayed"]["ending"]) == ("promoted", "rolled back")
    assert "errors" in told["replayed"]["why"]
    assert 0 < told["replayed"]["requests"] < told["live"]["requests"]
    assert (told["replayed"]["share"], told["as_recorded"]) == (5.0, None)
    assert told["served_at"] == [25.0, 50.0]


def test_a_lenient_policy_promotes_what_a_strict_one_rolled_back_if_there_was_traffic_enough(lived: Lives) -> None:
    lenient = Canary(shares=(5, 50), guards=(Guard("errors", GuardKind.ERRORS, margin=0.45),))

    told = lived("rolled back by errors").replayed(lenient)

    assert told["replayed"]["ending"] in ("promoted", "")
    assert told["replayed"]["requests"] <= told["live"]["requests"]


def test_traffic_that_ends_before_a_decision_leaves_it_undecided_where_it_stood(lived: Lives) -> None:
    told = lived("promoted").replayed(replace(LADDER, bake=3600.0))

    assert told["replayed"]["ending"] == ""
    assert told["replayed"]["share"] == 5.0
    assert told["replayed"]["waits"].startswith("baked for ")


def test_a_budget_that_ends_after_the_traffic_is_not_waited_for(lived: Lives) -> None:
    patient = Canary(shares=(5, 25, 50), guards=(ERRORS,), bake=3600.0, step_budget=7200.0, on_doubt=OnDoubt.ROLL_BACK)

    assert lived("promoted").replayed(patient)["replayed"]["ending"] == ""


def test_a_budget_that_ends_within_the_traffic_is_kept_to_the_tick(lived: Lives) -> None:
    hasty = replace(LADDER, step_budget=20.0, on_doubt=OnDoubt.ROLL_BACK)

    told = lived("promoted").replayed(hasty)

    (rung,) = told["replayed"]["rungs"]
    lasted = datetime.fromisoformat(rung["until"]) - datetime.fromisoformat(rung["since"])
    assert told["replayed"]["ending"] == "rolled back"
    assert told["replayed"]["why"].startswith("no answer within 20 s")
    assert 20.0 < lasted.total_seconds() < 21.0


def test_where_another_policy_leaves_it_to_a_person_it_is_said(lived: Lives) -> None:
    told = lived("promoted").replayed(replace(LADDER, step_budget=20.0))

    assert told["asked"][0]["what"].startswith("undecided at 5 %")
    assert told["replayed"]["ending"] == "promoted"


@pytest.mark.parametrize("shares", [(50,), (10,), (1, 2, 5, 10, 20, 50), (5, 30, 60), (99,)])
def test_counts_served_at_other_shares_are_not_called_wrongly_divided(lived: Lives, shares: tuple[float, ...]) -> None:
    told = lived("promoted after baking").replayed(replace(LADDER, shares=shares))

    assert told["replayed"]["ending"] == "promoted"
    assert "error" not in {rung["verdict"] for rung in told["replayed"]["rungs"]}


def test_traffic_that_was_wrongly_divided_promotes_nothing_under_any_policy(lived: Lives) -> None:
    release = lived("promoted after baking")

    def skewed(record: Record) -> Record:
        if record.entry.kind != "observed":
            return record
        body = json.loads(json.dumps(record.entry.body))
        for arm in (body["block"]["challenger"], body["counted"]["2"]):
            arm["requests"] *= 3
            arm["latency"] = {bucket: 3 * n for bucket, n in arm["latency"].items()}
        return replace(record, entry=replace(record.entry, body=body))

    told = replayed([skewed(r) for r in release.records], release.release, replace(LADDER, shares=(10, 50)))

    assert told["replayed"]["ending"] == ""
    assert told["replayed"]["rungs"][-1]["verdict"] == "error"
    assert "not the 5 % asked for" in told["replayed"]["rungs"][-1]["reason"]


def test_no_block_is_made_of_traffic_that_was_served_at_two_shares(lived: Lives) -> None:
    """Else the hours of the day, which differ in both arms alike, would look like a difference between the arms."""
    release = lived("promoted")
    recorded = recording(release.records, release.release)
    # One long step: its looks become rarer than those of the live steps were.
    world = Replayed(recorded, replace(LADDER, shares=(40,), bake=3600.0, step_budget=7200.0))

    replay(world)

    blocks = [r.entry.body["block"] for r in world.journal.read(STREAM) if r.entry.kind == "observed"]
    live = {look.revision: look.share for look in recorded.looks}
    served = {revision: [0, 0] for revision in live}
    for block in blocks:
        if block["challenger"]["requests"] or block["baseline"]["requests"]:
            served[block["revision"]][0] += block["baseline"]["requests"]
            served[block["revision"]][1] += block["challenger"]["requests"]
            assert block["share"] == live[block["revision"]]
    for revision, counts in served.items():
        looks = [look.counted for look in recorded.looks if look.revision == revision]
        assert counts == [sum(counted[version].requests for counted in looks) for version in (1, 2)]
    assert len(blocks) < len(recorded.looks)


def test_labels_are_judged_by_the_routing_under_which_they_were_served(lived: Lives) -> None:
    release = lived("promoted")
    recorded = recording(release.records, release.release)
    world = Replayed(recorded, replace(LADDER, shares=(50,), bake=3600.0, step_budget=7200.0))

    replay(world)

    def sums(blocks: list[Any]) -> dict[str, list[int]]:
        total: dict[str, list[int]] = {}
        for block in blocks:
            for revision, counts in block["labels"].get("success", {}).items():
                total[revision] = [a + b for a, b in zip(total.get(revision, [0] * 4), counts, strict=True)]
        return total

    live, again = (
        sums([r.entry.body["block"] for r in records if r.entry.kind == "observed"])
        for records in (recorded.records, world.journal.read(STREAM))
    )
    assert again == live
    assert len(live) == 3


def test_everything_at_once_is_promoted_on_no_evidence(lived: Lives) -> None:
    told = lived("rolled back by errors").replayed(AT_ONCE)

    assert (told["replayed"]["ending"], told["replayed"]["requests"]) == ("promoted", 0)
    assert told["replayed"]["why"] == "everything at once, as the policy says"


def test_where_nothing_was_compared_live_nothing_is_decided(lived: Lives) -> None:
    told = lived("promoted at once").replayed(replace(LADDER, guards=(ERRORS, LATENCY)))

    assert told["replayed"]["ending"] == ""
    assert "not enough requests to compare" in told["replayed"]["waits"]


def test_what_people_asked_and_what_died_under_the_live_policy_is_left_out_under_another(lived: Lives) -> None:
    other = replace(LADDER, shares=(10, 50))

    held, died = lived("held, and let go on").replayed(other), lived("the challenger dies").replayed(other)

    assert [fact["what"] for fact in held["left_out"]] == [
        "bob asked to hold: complaints",
        "bob asked to resume: complaints",
    ]
    assert held["replayed"]["ending"] == "promoted"
    assert [fact["what"] for fact in died["left_out"]] == ["version 2 died: killed"]
    assert died["replayed"]["ending"] == ""


def test_what_was_counted_while_a_version_was_away_is_evidence_for_no_policy(lived: Lives) -> None:
    told = lived("the challenger is silent for a while").replayed(replace(LADDER, shares=(50,)))

    assert told["replayed"]["ending"] == "promoted"
    assert told["replayed"]["requests"] < told["live"]["requests"]


def test_a_version_that_never_started_fails_under_any_policy(lived: Lives) -> None:
    told = lived("never ready").replayed(replace(LADDER, shares=(10, 50)))

    assert told["replayed"]["ending"] == "failed"


def test_a_success_guard_of_another_name_is_refused_with_what_to_do(lived: Lives) -> None:
    other = replace(LADDER, guards=(ERRORS, Guard("liked", GuardKind.SUCCESS, margin=0.1)))

    with pytest.raises(UsageError, match=r"'liked' cannot be replayed: .* judged by the guard 'success'") as refused:
        lived("promoted").replayed(other)
    assert "the very guards of that release (success)" in refused.value.help


def test_a_success_guard_is_refused_where_no_labels_were_judged(lived: Lives) -> None:
    with pytest.raises(UsageError, match="judged by no guard"):
        lived("promoted at once").replayed(replace(LADDER, guards=(SUCCESS, LATENCY)))


def test_the_same_policy_written_anew_is_the_release_s_own(lived: Lives) -> None:
    told = lived("promoted").replayed(Canary(shares=[5, 25, 50], guards=[ERRORS, LATENCY, SUCCESS], keep_warm=0.0))

    assert (told["own_policy"], told["as_recorded"]) == (True, True)
