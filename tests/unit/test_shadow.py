"""The judge of a shadow: only what was certified on the same requests passes, however often one looks."""

from __future__ import annotations

import json
from dataclasses import replace
from math import comb, exp, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcd.domain.eprocess import log_sum
from modelcd.domain.shadow.judge import Paired, evidence, finding, start, update
from modelcd.domain.shadow.pairs import MOST_SLICES, OTHER, Batch, Labelled, Pairing, Served, selection
from modelcd.domain.verdict import Finding, Verdict, worst

POLICY = Pairing(1, 2, success=0.02)
SLICED = replace(POLICY, column="carrier", values=("AA", "UA"), slice_margin=0.1)
NAN: Any = float("nan")


def batch(lost: int, won: int, same: int, wrong: int = 0, **more: Any) -> Batch:
    """Return labelled pairs: *lost* only the champion got right, *won* only the challenger, *same* both or neither.

    The truth is yes for every second pair of a kind, and decisions follow from who is right.
    """
    right = [(1, 0)] * lost + [(0, 1)] * won + [(1, 1)] * (same - wrong) + [(0, 0)] * wrong
    labels = [k % 2 for k in range(len(right))]
    champion = [0.8 if a == y else 0.2 for (a, _), y in zip(right, labels, strict=True)]
    challenger = [0.8 if b == y else 0.2 for (_, b), y in zip(right, labels, strict=True)]
    labelled = Labelled(champion, challenger, [a for a, _ in right], [b for _, b in right], **more)
    return Batch((1, 2), Served(champion, challenger), labelled)


def unlabelled(champion: list[float], challenger: list[float]) -> Batch:
    """Return pairs that have no label yet."""
    return Batch((1, 2), Served(champion, challenger))


def fed(policy: Pairing, *batches: Batch) -> Paired:
    """Return a judge that has seen *batches*."""
    state = start(policy)
    for one in batches:
        state = update(state, one)
    return state


def told(state: Paired, name: str) -> Finding:
    """Return the finding of that name."""
    return next(found for found in finding(state).findings if found.name == name)


def climb(policy: Pairing, seed: int, lost: float, won: float, most: int = 10_000) -> tuple[Verdict, int]:
    """Feed labelled pairs under chance until the verdict; return it and how many pairs it took."""
    chance, state, pairs = np.random.default_rng(seed), start(policy), 0
    while pairs < most:
        k = chance.multinomial(100, [lost, won, 1 - lost - won])
        state, pairs = update(state, batch(int(k[0]), int(k[1]), int(k[2]), wrong=int(k[2]) // 10)), pairs + 100
        verdict = finding(state).verdict
        if verdict is not Verdict.INCONCLUSIVE:
            return verdict, pairs
    return Verdict.INCONCLUSIVE, pairs


# -- what decides ------------------------------------------------------------------------------------------------------


def test_nothing_seen_is_inconclusive() -> None:
    assert finding(start(replace(POLICY, disagreement=0.1, shift=0.1, calibration=0.1))).verdict is Verdict.INCONCLUSIVE


def test_a_policy_that_asks_for_nothing_never_passes() -> None:
    state = fed(Pairing(1, 2, success=None), *[batch(0, 0, 1000)] * 20)

    assert (finding(state).verdict, finding(state).odds) == (Verdict.INCONCLUSIVE, 0.0)
    assert "decides nothing" in finding(state).reason


@pytest.mark.parametrize("seed", range(3))
def test_a_challenger_as_good_is_passed_within_a_few_thousand_labels(seed: int) -> None:
    verdict, pairs = climb(POLICY, seed, 0.035, 0.035)

    assert verdict is Verdict.PASS
    assert pairs <= 4_000


def test_three_points_of_success_are_found_with_fewer_labels_than_the_reference() -> None:
    """The reference needs 10.1k requests of which one in five is labelled, half of them the labels' delay."""
    took = []
    for seed in range(20):
        verdict, pairs = climb(POLICY, seed, 0.05, 0.02)
        assert verdict is Verdict.FAIL
        took.append(pairs)

    assert np.median(took) <= 1_200


def test_equal_versions_are_failed_at_most_as_often_as_promised() -> None:
    policy, chance, false = Pairing(1, 2, success=0.005), np.random.default_rng(31), 0
    for _ in range(120):
        state = start(policy)
        for k in chance.multinomial(100, [0.04, 0.04, 0.92], 25):
            state = update(state, batch(*map(int, k)))
            if log_sum(evidence(state)[1]) >= log(100):
                false += 1
                break

    assert false / 120 <= 0.01 + 3 * (0.01 * 0.99 / 120) ** 0.5


def test_a_challenger_on_the_margin_is_passed_at_most_as_often_as_promised() -> None:
    policy, chance, passed = Pairing(1, 2, success=0.04), np.random.default_rng(37), 0
    for _ in range(120):
        state = start(policy)
        for k in chance.multinomial(100, [0.06, 0.02, 0.92], 25):
            state = update(state, batch(*map(int, k)))
        passed += state.granted[0][0]

    assert passed / 120 <= 0.05 + 3 * (0.05 * 0.95 / 120) ** 0.5


def test_what_is_worse_within_the_tolerance_is_not_failed() -> None:
    state = fed(POLICY, *[batch(4, 3, 93)] * 300)

    assert log_sum(evidence(state)[0]) > log(100)
    assert finding(state).verdict is not Verdict.FAIL


def test_strong_evidence_below_the_bar_keeps_certified_checks_from_passing() -> None:
    state = fed(replace(POLICY, success=0.015), batch(0, 0, 400), batch(8, 0, 0))

    assert told(state, "success").verdict is Verdict.PASS
    assert finding(state).verdict is Verdict.INCONCLUSIVE
    assert "speaks against it: watching on" in finding(state).reason


def test_a_certificate_once_granted_stays() -> None:
    state = fed(POLICY, *[batch(0, 0, 500)] * 2)
    after = fed(POLICY, *[batch(0, 0, 500)] * 2, batch(15, 0, 0))

    assert told(state, "success").verdict is Verdict.PASS
    assert after.granted[0] == (True,)


def test_evidence_of_several_checks_is_averaged() -> None:
    alone, both = (fed(policy, batch(20, 0, 100)) for policy in (POLICY, replace(POLICY, disagreement=0.9)))

    assert told(both, "success").evidence["odds"] == pytest.approx(told(alone, "success").evidence["odds"] / 2)


# -- without labels ----------------------------------------------------------------------------------------------------


def test_without_labels_success_stays_open_and_the_reason_says_why() -> None:
    judged = finding(fed(POLICY, unlabelled([0.9] * 5000, [0.9] * 5000)))

    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "no labels yet, and how often both decide alike does not say who is right; needs about" in judged.reason


def test_agreement_alone_passes_only_where_labels_were_not_asked_for() -> None:
    pairs = unlabelled([0.9] * 990 + [0.9] * 10, [0.9] * 990 + [0.1] * 10)
    asked, not_asked = (replace(POLICY, success=margin, disagreement=0.05) for margin in (0.02, None))

    assert finding(fed(asked, pairs)).verdict is Verdict.INCONCLUSIVE
    judged = finding(fed(not_asked, pairs))
    assert judged.verdict is Verdict.PASS
    assert judged.reason.endswith("this says how alike the versions are, not that either is right")


def test_more_disagreement_than_tolerated_is_failed_without_a_label() -> None:
    state = fed(replace(POLICY, disagreement=0.05), unlabelled([0.9] * 400, [0.9] * 340 + [0.1] * 60))

    judged = finding(state)
    assert judged.verdict is Verdict.FAIL
    assert judged.reason.startswith(
        "decisions differ on 15.0 % (60 of 400 requests, only the challenger says yes in 0, the champion in 60): "
        "more than the tolerated 5 %; evidence "
    )


def test_the_direction_of_disagreement_is_told_with_its_interval() -> None:
    found = told(
        fed(POLICY, unlabelled([0.9] * 30 + [0.1] * 970, [0.1] * 30 + [0.9] * 90 + [0.1] * 880)), "disagreement"
    )

    assert (found.evidence["champion_yes"], found.evidence["challenger_yes"]) == (30, 90)
    low, high = found.evidence["direction_interval"]
    assert 0 < low < 0.06 < high < 0.12
    assert (found.verdict, found.evidence["decides"]) == (Verdict.INCONCLUSIVE, False)


def test_what_is_only_reported_is_never_a_pass() -> None:
    judged = finding(fed(POLICY, *[batch(0, 0, 1000)] * 3))

    reported = [found for found in judged.findings if not found.evidence["decides"]]
    assert [found.name for found in reported] == ["disagreement", "shift", "calibration"]
    assert {found.verdict for found in reported} == {Verdict.INCONCLUSIVE}
    assert all("reported only" in found.reason for found in reported)
    assert judged.verdict is Verdict.PASS


def test_classes_differ_without_a_direction() -> None:
    state = fed(replace(POLICY, threshold=None), Batch((1, 2), Served(["cat"] * 100, ["cat"] * 90 + ["dog"] * 10)))

    found = told(state, "disagreement")
    assert found.reason.startswith("decisions differ on 10.0 % (10 of 100 requests): reported only")
    assert found.evidence["challenger_yes"] is None
    assert [f.name for f in finding(state).findings] == ["success", "disagreement"]


@pytest.mark.parametrize(("by", "verdict"), [(0.06, Verdict.FAIL), (-0.06, Verdict.FAIL), (0.0, Verdict.PASS)])
def test_scores_that_moved_are_failed_in_either_direction(by: float, verdict: Verdict) -> None:
    chance = np.random.default_rng(3)
    scores = chance.uniform(0.2, 0.8, 6000)
    moved = scores + by + chance.normal(0, 0.02, 6000)
    state = fed(Pairing(1, 2, success=None, shift=0.02), unlabelled(list(scores), list(moved)))

    assert finding(state).verdict is verdict


def test_a_shift_is_told_in_units_of_the_score() -> None:
    policy = Pairing(1, 2, success=None, shift=2.0, threshold=50.0, low=0.0, high=100.0)
    found = told(fed(policy, unlabelled([40.0] * 2000, [48.0] * 2000)), "shift")

    assert found.verdict is Verdict.FAIL
    assert found.reason.startswith("scores 8 higher than the champion's on average (2,000 requests): more than")
    assert found.evidence["tolerance"] == pytest.approx(2.0)


# -- calibration -------------------------------------------------------------------------------------------------------


def probabilities(champion: float, challenger: float, truth: float, n: int = 4000) -> Batch:
    """Return labelled pairs of constant scores; *truth* of the labels are 1."""
    labels = [int(k < truth * n) for k in range(n)]
    old, new = [champion] * n, [challenger] * n
    return Batch((1, 2), Served(old, new), Labelled(old, new, labels, labels, labels))


@pytest.mark.parametrize(
    ("challenger", "verdict"),
    [(0.7, Verdict.PASS), (0.85, Verdict.FAIL), (0.55, Verdict.FAIL)],
    ids=["right", "high", "low"],
)
def test_scores_that_are_off_the_labels_are_failed(challenger: float, verdict: Verdict) -> None:
    policy = Pairing(1, 2, success=None, calibration=0.05)

    assert finding(fed(policy, probabilities(0.7, challenger, 0.7))).verdict is verdict


def test_a_champion_that_is_off_as_well_keeps_the_blame_from_the_challenger() -> None:
    policy = Pairing(1, 2, success=None, calibration=0.05)
    judged = finding(fed(policy, probabilities(0.8, 0.82, 0.6)))

    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "the champion is off by more than is tolerated, too" in judged.reason


def test_a_challenger_too_sure_of_itself_is_found_in_bands_only() -> None:
    """Half of its scores are too high, half are too low: on the whole it is right."""
    policy = Pairing(1, 2, success=None, calibration=0.05)
    both = [probabilities(0.3, 0.1, 0.3, 20), probabilities(0.7, 0.9, 0.7, 20)] * 200
    judged = finding(fed(replace(policy, bands=(0.5,)), *both))

    assert finding(fed(policy, *both)).verdict is Verdict.PASS
    assert judged.verdict is Verdict.FAIL
    assert judged.reason.startswith("scores 0 to 0.5: labels 0.2 above (4,000), 0.5 to 1: labels 0.2 below (4,000): ")


def test_what_broke_on_the_way_is_told_as_what_it_is_lately() -> None:
    state = fed(POLICY, *[batch(2, 2, 96)] * 200, *[batch(8, 2, 90)] * 15)
    judged = finding(state)

    assert judged.verdict is Verdict.FAIL
    assert "only the champion right 520 times, only the challenger 430): worse in the last 1,5" in judged.reason


def test_a_band_without_labels_keeps_the_calibration_open() -> None:
    policy = Pairing(1, 2, success=None, calibration=0.05, bands=(0.2, 0.5))
    judged = finding(fed(policy, probabilities(0.3, 0.3, 0.3), probabilities(0.7, 0.7, 0.7)))

    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.reason.startswith("scores 0 to 0.2 has no label yet: ")


def test_labels_that_are_not_known_leave_calibration_open() -> None:
    policy = Pairing(1, 2, calibration=0.05)
    judged = finding(fed(policy, *[batch(0, 0, 1000)] * 5))

    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "calibration: no labels yet; needs about" in judged.reason


# -- slices ------------------------------------------------------------------------------------------------------------


def test_a_slice_that_is_worse_fails_a_challenger_that_is_better_on_the_whole() -> None:
    pairs = batch(30, 60, 910, slices=["UA"] * 30 + ["AA"] * 970)
    judged = finding(fed(SLICED, pairs, pairs))

    assert judged.verdict is Verdict.FAIL
    assert judged.reason.startswith("carrier UA 100 points worse (60 labels): worse; evidence ")


def test_every_declared_slice_needs_a_certificate() -> None:
    judged = finding(fed(SLICED, batch(0, 0, 2000, slices=["AA"] * 2000)))

    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.reason == "carrier UA has no label yet: each part needs labels of its own"


def test_values_that_were_not_declared_are_pooled_and_need_no_certificate() -> None:
    state = fed(SLICED, batch(0, 0, 1010, slices=["AA"] * 500 + ["UA"] * 500 + ["B6"] * 4 + ["DL"] * 6))
    judged = finding(state)

    assert judged.verdict is Verdict.PASS
    assert told(state, "slices").evidence["parts"][-1]["n"] == 10
    assert "carrier, each of 2 parts: no worse by 10 points (95 %)" in judged.reason


def test_pooled_values_can_fail() -> None:
    pairs = batch(40, 0, 1000, slices=["DL"] * 40 + ["AA", "UA"] * 500)

    assert finding(fed(replace(SLICED, success=None), pairs)).reason.startswith(f"carrier {OTHER} 100 points worse")


def test_many_equal_slices_raise_no_more_alarms_than_one() -> None:
    values = tuple("abcdefgh")
    policy, chance, false = (
        Pairing(1, 2, success=0.02, column="s", values=values, slice_margin=0.02),
        np.random.default_rng(41),
        0,
    )
    for _ in range(60):
        state = start(policy)
        for k in chance.multinomial(200, [0.05, 0.05, 0.9], 12):
            state = update(state, batch(*map(int, k), slices=list(chance.choice(values, 200))))
            if log_sum(evidence(state)[1]) >= log(100):
                false += 1
                break

    assert false / 60 <= 0.01 + 3 * (0.01 * 0.99 / 60) ** 0.5


# -- whether the pairs can be trusted ----------------------------------------------------------------------------------


def test_pairs_of_other_versions_are_an_error_and_are_not_counted() -> None:
    before = fed(POLICY, *[batch(0, 0, 500)] * 3)
    after = update(before, replace(batch(500, 0, 0), versions=(1, 3)))

    assert finding(before).verdict is Verdict.PASS
    assert finding(after).verdict is Verdict.ERROR
    assert "answered by versions 1 and 3, not by 1 and 2" in finding(after).reason
    assert replace(after, foreign=None) == before
    assert finding(update(after, batch(0, 0, 10))).verdict is Verdict.PASS


def test_swapped_versions_are_other_versions() -> None:
    assert finding(fed(POLICY, replace(batch(0, 0, 900), versions=(2, 1)))).verdict is Verdict.ERROR


def test_replayed_traffic_is_refused() -> None:
    with pytest.raises(ValueError, match="replayed traffic is no evidence"):
        update(start(POLICY), replace(batch(0, 0, 900), replayed=True))


def differing(agree: int, new_yes: int, old_yes: int) -> tuple[list[float], list[float]]:
    """Return scores of both versions: so many pairs alike, with a yes of the challenger, and of the champion, alone."""
    return [0.9] * agree + [0.1] * new_yes + [0.9] * old_yes, [0.9] * agree + [0.9] * new_yes + [0.1] * old_yes


def test_labels_that_come_only_where_the_champion_says_yes_are_an_error() -> None:
    """As with loans: who was refused never shows whether that was right."""
    state = start(POLICY)
    for _ in range(10):
        served, labelled = differing(150, 25, 25), differing(150, 0, 25)
        right = [1] * 175
        state = update(state, Batch((1, 2), Served(*served), Labelled(*labelled, right, [1] * 150 + [0] * 25)))

    found = told(state, "labels")
    assert found.verdict is Verdict.ERROR
    assert "0 % where only the challenger says yes, 100 % where only the champion does" in found.reason
    assert finding(state).verdict is Verdict.FAIL


def test_labels_that_prefer_pairs_that_differ_are_an_error() -> None:
    state = start(POLICY)
    for _ in range(8):
        labelled = Labelled(*differing(10, 10, 10), [1] * 30, [1] * 30)
        state = update(state, Batch((1, 2), Served(*differing(400, 10, 10)), labelled))

    assert finding(state).verdict is Verdict.ERROR
    assert "labels do not come to all pairs alike (2 % where they decide alike, 100 % where" in finding(state).reason


def test_a_random_part_that_is_labelled_late_is_no_selection() -> None:
    chance, wrong = np.random.default_rng(12), 0
    for _ in range(30):
        state, waiting = start(POLICY), np.zeros(3, dtype=int)
        for _ in range(15):
            served = chance.multinomial(200, [0.9, 0.06, 0.04])
            waiting = waiting + served
            few = chance.multivariate_hypergeometric(waiting, 40)
            waiting = waiting - few
            labelled = Labelled(*differing(*map(int, few)), [1] * 40, [1] * 40)
            state = update(state, Batch((1, 2), Served(*differing(*map(int, served))), labelled))
        wrong += any(found.name == "labels" for found in finding(state).findings)

    assert wrong == 0


def test_the_bets_on_selected_labels_are_worth_one_on_average() -> None:
    waiting, drawn, worth = (9, 4, 3), 6, np.zeros(8)
    for a in range(drawn + 1):
        for b in range(drawn + 1 - a):
            kinds = (a, b, drawn - a - b)
            chance = np.prod([comb(w, k) for w, k in zip(waiting, kinds, strict=True)]) / comb(sum(waiting), drawn)
            if chance:
                worth += chance * np.exp(selection((0.0,) * 8, np.array(waiting, float), np.array(kinds, float)))

    assert worth == pytest.approx(np.ones(8))


def test_a_label_without_its_request_is_refused() -> None:
    with pytest.raises(ValueError, match="waiting for a label: each request comes once in served"):
        update(start(POLICY), replace(batch(3, 3, 10), served=Served([0.9] * 16, [0.9] * 16)))


GOOD = batch(1, 1, 2)
IMPOSSIBLE = [
    replace(GOOD, served=Served([0.1, NAN], [0.1, 0.2])),
    replace(GOOD, served=Served([0.1, 0.2], [0.1, float("inf")])),
    replace(GOOD, served=Served([0.1, 0.2], [0.1, 1.2])),
    replace(GOOD, served=Served([-0.1, 0.2], [0.1, 0.2])),
    replace(GOOD, served=Served([0.1, 0.2], [0.1])),
    replace(GOOD, served=Served([0.1, None], [0.1, 0.2])),
    replace(GOOD, served=Served(["0.1", "0.2"], [0.1, 0.2])),
    replace(GOOD, served=Served([[0.1, 0.9]], [[0.1, 0.9]])),
    replace(GOOD, labelled=replace(GOOD.labelled, champion_right=[1, 1, 0.5, 0])),
    replace(GOOD, labelled=replace(GOOD.labelled, challenger_right=[1, 1, NAN, 0])),
    replace(GOOD, labelled=replace(GOOD.labelled, challenger_right=[1, 1, 0])),
    replace(GOOD, labelled=replace(GOOD.labelled, labels=[1, 1, 0])),
    replace(GOOD, labelled=replace(GOOD.labelled, labels=[1, 1, 0, 2])),
    replace(GOOD, labelled=replace(GOOD.labelled, slices=["AA"] * 4)),
]


@pytest.mark.parametrize("impossible", IMPOSSIBLE)
def test_pairs_that_cannot_be_are_refused(impossible: Batch) -> None:
    with pytest.raises(
        ValueError, match=r"finite number|must (be|lie)|different lengths|one number|not text|no column"
    ):
        update(start(POLICY), impossible)


@pytest.mark.parametrize(
    "slices", [[], ["AA"] * 3, ["AA", "UA", "", "AA"], ["AA", "UA", None, "AA"], ["AA", 1, "AA", "AA"]]
)
def test_pairs_that_belong_to_no_slice_are_refused(slices: list[Any]) -> None:
    with pytest.raises(ValueError, match="carrier"):
        update(start(SLICED), replace(GOOD, labelled=replace(GOOD.labelled, slices=slices)))


def test_a_missing_class_is_refused() -> None:
    for missing in (None, NAN):
        with pytest.raises(ValueError, match="a class is missing"):
            update(start(replace(POLICY, threshold=None)), Batch((1, 2), Served(["cat", missing], ["cat", "dog"])))


def test_labels_of_classes_are_no_probabilities() -> None:
    labelled = Labelled(["cat"], ["cat"], [1], [1], labels=[1])
    with pytest.raises(ValueError, match="leave labels out"):
        update(start(replace(POLICY, threshold=None)), Batch((1, 2), Served(["cat"], ["cat"]), labelled))


@pytest.mark.parametrize(
    "wrong",
    [
        {"challenger": 1},
        {"challenger": "2"},
        {"success": 0.0},
        {"success": NAN},
        {"success": True},
        {"disagreement": 1.0},
        {"shift": -0.1},
        {"threshold": None, "shift": 0.1},
        {"calibration": 0.1, "high": 100.0},
        {"low": 1.0},
        {"alpha": 0.0},
        {"bands": (0.5, 0.5)},
        {"bands": (0.0, 0.5)},
        {"bands": tuple(k / 10 for k in range(1, 9))},
        {"column": "carrier"},
        {"column": "carrier", "values": ("AA", "AA")},
        {"column": "carrier", "values": (OTHER,)},
        {"column": "carrier", "values": tuple(map(str, range(MOST_SLICES + 1)))},
    ],
    ids=str,
)
def test_a_policy_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Pairing(**({"champion": 1, "challenger": 2} | wrong))


# -- the state ---------------------------------------------------------------------------------------------------------

FULL = Pairing(
    1,
    2,
    disagreement=0.2,
    shift=0.1,
    calibration=0.1,
    bands=(0.25, 0.5, 0.75),
    column="carrier",
    values=("AA", "UA", "DL", "B6", "WN", "EV", "MQ", "US"),
)


def traffic(chance: np.random.Generator, n: int) -> Batch:
    """Return pairs with everything that *FULL* asks for."""
    old = chance.uniform(0, 1, n)
    new = (old + chance.normal(0, 0.05, n)).clip(0, 1)
    labels = (chance.uniform(0, 1, n) < old).astype(int)
    slices = list(chance.choice((*FULL.values, "YV"), n))
    labelled = Labelled(old, new, (old >= 0.5) == labels, (new >= 0.5) == labels, labels, slices)
    return Batch((1, 2), Served(old, new), labelled)


def test_a_judge_read_back_from_json_goes_on_the_same() -> None:
    chance = np.random.default_rng(1)
    state = fed(FULL, *[traffic(chance, 300) for _ in range(12)])
    read = Paired.from_plain(json.loads(json.dumps(state.to_plain(), allow_nan=False)))
    more = traffic(chance, 300)

    assert read == state
    assert finding(read) == finding(state)
    assert finding(update(read, more)) == finding(update(state, more))
    assert Paired.from_plain(update(state, replace(more, versions=(1, 9))).to_plain()).foreign == (1, 9)


def test_the_state_is_small_after_a_million_pairs_and_does_not_grow_with_them() -> None:
    chance = np.random.default_rng(2)
    state = fed(FULL, *[traffic(chance, 20_000) for _ in range(50)])

    assert state.served.n == 1_000_000
    assert len(json.dumps(state.to_plain())) < 4096


def test_findings_are_plain_values() -> None:
    state = fed(FULL, traffic(np.random.default_rng(3), 500))

    for seen in (start(FULL), state):
        for found in finding(seen).findings:
            plain = json.loads(json.dumps(dict(found.evidence), allow_nan=False))
            assert {"n", "odds", "bar", "needs", "unlucky", "unit", "tolerance", "certified", "interval"} <= set(plain)


def test_a_batch_in_two_halves_says_the_same() -> None:
    whole, half = fed(POLICY, batch(20, 6, 174)), fed(POLICY, *[batch(10, 3, 87)] * 2)

    assert finding(whole).verdict is finding(half).verdict
    assert finding(whole).odds == pytest.approx(finding(half).odds)
    assert whole.tallies[0] == half.tallies[0]


def test_an_empty_batch_changes_nothing() -> None:
    state = fed(POLICY, batch(3, 2, 95))

    assert update(state, Batch((1, 2))) == state


def test_success_is_told_with_rates_counts_and_odds() -> None:
    reason = finding(fed(POLICY, batch(50, 10, 440, wrong=40))).reason

    assert reason.startswith(
        "success 82.0 % (410 of 500) against 90.0 % (450) on the same requests "
        "(only the champion right 50 times, only the challenger 10): worse; evidence "
    )
    assert reason.endswith(" : 1, the bar was 100 : 1")


def test_success_has_the_keys_of_a_canarys_guard() -> None:
    found = told(fed(POLICY, batch(5, 2, 93, wrong=3)), "success")

    shown = {name: found.evidence[name] for name in ("challenger_bad", "baseline_bad", "challenger_n", "baseline_n")}
    assert shown == {"challenger_bad": 8, "baseline_bad": 5, "challenger_n": 100, "baseline_n": 100}
    low, high = found.evidence["interval"]
    assert low < 0.03 < high


def test_what_is_missing_is_told_as_median_and_unlucky_case() -> None:
    found = told(fed(POLICY, batch(7, 7, 186)), "success")

    assert found.evidence["unlucky"] > found.evidence["needs"] > 0
    assert "more labels (could be " in found.reason


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 60)] * 3, st.integers(0, 400)), max_size=6),
    st.sampled_from(
        [POLICY, replace(POLICY, success=None, disagreement=0.3), replace(POLICY, shift=0.5, calibration=0.3)]
    ),
)
def test_any_pairs_give_plain_findings_and_never_a_pass_from_nothing(
    batches: list[tuple[int, int, int, int]], policy: Pairing
) -> None:
    state = start(policy)
    for lost, won, same, bare in batches:
        state = update(state, batch(lost, won, same))
        state = update(state, unlabelled([0.7] * bare, [0.6] * bare))
    judged = finding(state)

    assert all(json.dumps(dict(found.evidence), allow_nan=False) for found in judged.findings)
    deciding = [found.verdict for found in judged.findings if found.evidence.get("decides", True)]
    assert judged.verdict is worst(deciding) or judged.odds >= 10
    assert judged.verdict is not Verdict.PASS or state.served.n >= 5
    assert judged.odds == pytest.approx(exp(log_sum(evidence(state)[1])))
