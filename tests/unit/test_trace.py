"""The evidence of a release over time: the same as it was recorded, and what was changed in it shows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest
from lived import FAILING, GOOD, SLOW, WRONG, Life, any_of

from modelcd.domain.records import Entry, Record, broken, seal
from modelcd.domain.trace import GENERATION, Trace, thinned, trace
from modelcd.domain.verdict import Verdict


@dataclass(frozen=True)
class Lived:
    """All records of one place, and the ids of its releases by how they went."""

    records: list[Record]
    ids: dict[str, str]

    def trace(self, how: str) -> Trace:
        return trace(self.records, self.ids[how])

    def looks(self, how: str) -> list[Record]:
        return [r for r in self.records if r.entry.kind == "observed" and r.entry.release == self.ids[how]]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    life = Life(tmp_path_factory.mktemp("traced"), {1: GOOD, 2: GOOD, 3: FAILING, 4: SLOW, 5: WRONG, 6: GOOD})
    ids = {"first": life.records[0].entry.release}
    for how, version in (("promoted", 2), ("failing", 3), ("slow", 4), ("wrong", 5)):
        ids[how] = life.live(life.open(version), rate=60).id

    def shaken() -> None:
        life.router.away = 2

    ids["open"] = life.live(life.open(6), rate=60, seconds=40, events={10.0: any_of(shaken)}).id
    return Lived(life.records, ids)


def changed(records: Sequence[Record], seq: int, change: Callable[[dict[str, Any]], object]) -> list[Record]:
    """Write the history anew with record *seq* changed, every seal as it should be."""
    anew: list[Record] = []
    for record in records:
        body = copy.deepcopy(dict(record.entry.body))
        if record.seq == seq:
            change(body)
        entry = replace(record.entry, body=body)
        anew.append(seal(record.stream, record.seq, entry, anew[-1].digest if anew else ""))
    assert not broken(anew)
    return anew


@pytest.mark.parametrize("how", ["promoted", "failing", "slow", "wrong", "open"])
def test_every_verdict_is_recomputed_as_it_was_recorded(lived: Lived, how: str) -> None:
    found = lived.trace(how)

    assert found.differences == ()
    assert [point.seq for point in found.points] == [look.seq for look in lived.looks(how)]
    assert [point.verdict for point in found.points] == [point.recorded for point in found.points]
    assert found.generation == GENERATION


@pytest.mark.parametrize(("how", "guard"), [("failing", "errors"), ("slow", "latency"), ("wrong", "success")])
def test_evidence_reaches_its_bar_where_a_version_is_worse(lived: Lived, how: str, guard: str) -> None:
    found = lived.trace(how)

    number = [strand.name for strand in found.strands].index(guard)
    worst = max(found.strands, key=lambda s: found.points[-1].readings[found.strands.index(s)].against)
    assert worst.name == guard
    assert found.points[-1].readings[number].against >= found.strands[number].bar == 100
    assert all(point.verdict != Verdict.FAIL for point in found.points[:-1])
    assert found.strongest == found.points[-1]
    assert [(mark.share, mark.back, mark.ending) for mark in found.marks[-2:]] == [
        (0.0, True, ""),
        (0.0, True, "rolled back"),
    ]


def test_a_promoted_version_was_certified_by_every_guard_at_its_last_step(lived: Lived) -> None:
    found = lived.trace("promoted")

    certified = found.certified_at()
    assert set(certified) == {"errors", "latency", "success"}
    assert {point.share for point in certified.values()} == {50.0}
    assert [mark.share for mark in found.marks] == [5.0, 25.0, 50.0, 100.0, 100.0]
    assert [point.step for point in found.points] == sorted(point.step for point in found.points)


def test_requests_are_those_of_both_arms_by_then(lived: Lived) -> None:
    last = lived.trace("promoted").points[-1]

    counted = [look.entry.body["counted"] for look in lived.looks("promoted")]
    assert last.challenger == sum(both["2"]["requests"] for both in counted)
    assert last.baseline == sum(both["1"]["requests"] for both in counted)


def test_the_pace_is_what_came_within_the_present_step(lived: Lived) -> None:
    pace = lived.trace("open").pace()

    assert pace["errors"] == pytest.approx(60, rel=0.1)
    assert pace["success"] == pytest.approx(60, rel=0.1)
    assert replace(lived.trace("open"), points=()).pace() == {}


def test_the_evidence_is_that_of_the_recorded_findings(lived: Lived) -> None:
    (fail,) = (f for f in lived.looks("failing")[-1].entry.body["judgement"]["findings"] if f["verdict"] == "fail")

    found = {finding.name: finding for finding in lived.trace("failing").findings}
    assert found[fail["name"]].evidence["odds"] == pytest.approx(fail["evidence"]["odds"], rel=1e-12)
    assert found["latency"].evidence["challenger_n"] > 0


@pytest.mark.parametrize("says", ["pass", "fail"])
def test_labels_that_come_after_a_promotion_are_judged_as_part_of_it(lived: Lived, says: str) -> None:
    records, ids = lived.records, lived.ids
    upto = next(k for k, r in enumerate(records) if r.entry.release == ids["failing"]) + 3
    bad, last = (400 if says == "fail" else 0), records[upto - 1]
    revision = lived.looks("promoted")[-1].entry.body["block"]["revision"]
    nothing = {"requests": 0, "failures": 0, "rescued": 0, "latency": {}}
    block = {"revision": revision, "step": 2, "baseline": nothing, "challenger": nothing}
    block["labels"] = {"success": {revision: [500, 0, 500, bad]}}
    findings = [
        {"name": name, "verdict": says if name == "success" else "pass", "reason": "", "evidence": {}}
        for name in ("errors", "latency", "success")
    ]
    body = {"block": block, "judgement": {"verdict": says, "reason": "", "step": 2, "findings": findings}}
    late = seal(last.stream, last.seq + 1, Entry("late", last.entry.at, "anna", ids["promoted"], body), last.digest)

    promoted, failing = (trace([*records[:upto], late], ids[how]) for how in ("promoted", "failing"))

    assert (promoted.points[-1].seq, promoted.points[-1].verdict) == (late.seq, says)
    assert {difference.what.partition(" ")[0] for difference in promoted.differences} == {"reason"}
    assert late.seq not in [point.seq for point in failing.points]


# -- what was changed --------------------------------------------------------------------------------------------------


def test_failures_taken_out_of_a_sealed_history_are_found_at_the_looks_that_knew_them(lived: Lived) -> None:
    looks = lived.looks("failing")
    guilty = next(look for look in looks if look.entry.body["block"]["challenger"]["failures"])

    def clean(body: dict[str, Any]) -> None:
        body["block"]["challenger"]["failures"] = 0

    found = trace(changed(lived.records, guilty.seq, clean), lived.ids["failing"])

    assert found.differences
    assert min(difference.seq for difference in found.differences) >= guilty.seq
    assert any(difference.seq == looks[-1].seq for difference in found.differences)


def test_a_verdict_that_was_changed_is_named_with_what_it_must_be(lived: Lived) -> None:
    seq = lived.looks("promoted")[3].seq

    found = trace(
        changed(lived.records, seq, lambda body: body["judgement"].update(verdict="pass")), lived.ids["promoted"]
    )

    (difference,) = found.differences
    assert (difference.seq, difference.what) == (seq, "verdict")
    assert (difference.recorded, difference.recomputed) == ("pass", "inconclusive")


def test_traffic_that_moved_on_without_a_pass_is_found(lived: Lived) -> None:
    own = [r for r in lived.records if r.entry.release == lived.ids["promoted"]]
    move = next(r for r in own if r.entry.kind == "intended" and r.entry.body.get("step") == 1)
    before = [r for r in lived.looks("promoted") if r.seq < move.seq]

    def nothing(body: dict[str, Any]) -> None:
        for arm in ("challenger", "baseline"):
            body["block"][arm].update(requests=0, failures=0, latency={})

    records = lived.records
    for look in before:
        records = changed(records, look.seq, nothing)
    found = trace(records, lived.ids["promoted"])

    (moved,) = (difference for difference in found.differences if difference.seq == move.seq)
    assert (moved.what, moved.recomputed) == ("verdict that moved traffic on from 5 %", "inconclusive")


@pytest.mark.parametrize(("generation", "differ"), [(1, False), (GENERATION, True), (GENERATION + 1, False)])
def test_words_are_compared_within_one_generation_of_the_judge_only(
    lived: Lived, generation: int, differ: bool
) -> None:
    opened = next(r for r in lived.records if r.entry.release == lived.ids["promoted"] and r.entry.kind == "opened")
    seq = lived.looks("promoted")[-1].seq
    records = changed(lived.records, opened.seq, lambda body: body.update(judge=generation))
    records = changed(records, seq, lambda body: body["judgement"].update(reason="in other words"))

    assert bool(trace(records, lived.ids["promoted"]).differences) is differ


def test_a_release_that_says_nothing_of_its_judge_is_of_the_first_generation(lived: Lived) -> None:
    opened = next(r for r in lived.records if r.entry.release == lived.ids["promoted"] and r.entry.kind == "opened")

    found = trace(changed(lived.records, opened.seq, lambda body: body.pop("judge")), lived.ids["promoted"])

    assert found.generation == 1
    assert found.differences == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["block"]["challenger"].update(failures=10**6),
        lambda body: body["block"]["challenger"].pop("requests"),
        lambda body: body.pop("judgement"),
        lambda body: body.update(block="oops"),
    ],
)
def test_a_record_that_cannot_be_understood_is_named(lived: Lived, change: Callable[[dict[str, Any]], object]) -> None:
    seq = lived.looks("promoted")[2].seq

    with pytest.raises(ValueError, match=f"production/m: record {seq} cannot be understood"):
        trace(changed(lived.records, seq, change), lived.ids["promoted"])


def test_a_release_that_is_not_there_is_refused(lived: Lived) -> None:
    with pytest.raises(ValueError, match="release nobody was not opened"):
        trace(lived.records, "nobody")


def test_a_release_without_looks_has_no_evidence(lived: Lived) -> None:
    found = lived.trace("first")

    assert (found.points, found.strands, found.findings, found.differences) == ((), (), (), ())
    assert found.strongest is None
    assert found.certified_at() == {}
    assert [mark.ending for mark in found.marks] == ["", "promoted"]


# -- drawing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [2, 5, 20])
@pytest.mark.parametrize("how", ["promoted", "failing"])
def test_thinning_keeps_the_first_the_last_the_steps_and_the_strongest(lived: Lived, how: str, most: int) -> None:
    found = lived.trace(how)

    kept = thinned(found, most)

    assert [point.at for point in kept] == sorted(point.at for point in kept)
    assert (kept[0], kept[-1]) == (found.points[0], found.points[-1])
    assert {point.step for point in kept} == {point.step for point in found.points}
    for number in range(len(found.strands)):
        for reading in ("against", "certificate"):
            strongest = max(getattr(point.readings[number], reading) for point in found.points)
            assert max(getattr(point.readings[number], reading) for point in kept) == strongest


def test_a_long_release_is_thinned_to_a_few_hundred_looks(lived: Lived) -> None:
    short = lived.trace("failing")
    day = replace(short, points=tuple(replace(short.points[k % 5], seq=k, step=0) for k in range(8640)))

    assert len(thinned(day)) <= 300 + 2 * len(day.strands) + 1


def test_times_are_those_of_the_records(lived: Lived) -> None:
    found = lived.trace("failing")

    times = [datetime.fromisoformat(point.at) for point in found.points]
    assert times == [datetime.fromisoformat(look.entry.at) for look in lived.looks("failing")]
    assert found.points[-1].verdict == Verdict.FAIL


def test_records_of_another_release_are_no_business_of_this_one(lived: Lived) -> None:
    upto = next(k for k, r in enumerate(lived.records) if r.entry.release == lived.ids["failing"])
    last = lived.records[-1]
    more = seal(last.stream, last.seq + 1, Entry("asked", last.entry.at, "eve", "", {"ask": "hold"}), last.digest)

    assert trace(lived.records[:upto], lived.ids["promoted"]) == lived.trace("promoted")
    assert trace([*lived.records, more], lived.ids["promoted"]) == lived.trace("promoted")
