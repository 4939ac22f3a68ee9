"""Guards of every kind: limits, numbers, thresholds that follow the champion, and checks that hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modelcd import guard
from modelcd.domain.judge import Judge, finding, start, update
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.routing import Unit
from modelcd.domain.samples import BUCKETS, LATENCY_GRID, Block, Counters, Labels, Sums
from modelcd.domain.verdict import Verdict
from modelcd.errors import ProjectError

LIMIT = Guard("errors", GuardKind.ERRORS, 0.01).at_most(0.05)
VALUE = Guard("value", GuardKind.METRIC, 0.5, low=0.0, high=10.0)
GOOD = Guard("good", GuardKind.SUCCESS, 0.05)


def arms(old: tuple[int, int], new: tuple[int, int], **more: Any) -> Block:
    """Return a block of (requests, failures) of champion and challenger."""
    return Block("r", 0, Counters(*old), Counters(*new), **more)


def timed(seconds: np.ndarray) -> Counters:
    """Return counters with these latencies."""
    counts = np.bincount(np.searchsorted(LATENCY_GRID, seconds), minlength=BUCKETS)
    return Counters(len(seconds), 0, tuple(counts.tolist()))


def played(policy: Canary, block: Callable[[int], Block], blocks: int) -> Judge:
    """Return a judge that has seen *blocks*."""
    judge = start(policy)
    for number in range(blocks):
        judge = update(judge, block(number))
    return judge


def numbers(chance: np.random.Generator, n: int, mean: float) -> Sums:
    """Return the sums of *n* numbers around *mean*."""
    values = np.clip(chance.normal(mean, 1.0, n), 0, 10)
    return Sums(n, float(values.sum()), float((values**2).sum()))


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_challenger_beyond_a_limit_goes_back() -> None:
    told = finding(played(Canary((25,), (LIMIT,)), lambda _: arms((75, 1), (25, 3)), 30))

    assert told.verdict is Verdict.FAIL
    assert "beyond the limit of 5 %; evidence" in told.reason


def test_a_challenger_within_a_limit_passes() -> None:
    told = finding(played(Canary((25,), (LIMIT,)), lambda _: arms((75, 1), (25, 0)), 30))

    assert (told.verdict, told.findings[0].evidence["tolerance"]) == (Verdict.PASS, 0.05)
    assert "within the limit of 5 % (95 %)" in told.reason


def test_a_limit_that_the_champion_breaks_too_blames_the_environment() -> None:
    told = finding(played(Canary((25,), (LIMIT,)), lambda _: arms((75, 12), (25, 4)), 40))

    assert told.verdict is Verdict.ERROR
    assert "so is the champion: the environment is to blame" in told.reason


def test_a_limit_broken_in_an_incident_of_both_does_not_fail_afterwards() -> None:
    judge = start(Canary((25,), (LIMIT,)))
    for number in range(60):
        bad = 10 <= number < 20
        judge = update(judge, arms((75, 20 if bad else 1), (25, 7 if bad else 0)))
        assert finding(judge).verdict is not Verdict.FAIL

    assert finding(judge).verdict is Verdict.PASS


def test_a_latency_limit_is_one_of_seconds() -> None:
    chance, slow = np.random.default_rng(1), guard.latency().at_most(0.2, quantile=0.9)
    policy = Canary((25,), (slow,))

    def block(scale: float) -> Block:
        old, new = (0.05 * s * np.exp(0.5 * chance.normal(size=n)) for s, n in ((1, 75), (scale, 25)))
        return Block("r", 0, timed(old), timed(new))

    assert finding(played(policy, lambda _: block(1.0), 40)).verdict is Verdict.PASS
    assert finding(played(policy, lambda _: block(4.0), 40)).verdict is Verdict.FAIL


def test_a_success_at_least_so_much_is_a_limit() -> None:
    least = guard.success(lambda score, label: score == label).at_least(0.8)

    def told(bad: int) -> Verdict:
        labels = {least.name: {"r": (Labels(75, 8), Labels(25, bad))}}
        return finding(played(Canary((25,), (least,)), lambda _: Block("r", 0, labels=labels), 40)).verdict

    assert (least.name, told(2), told(9)) == ("success at least 0.8", Verdict.PASS, Verdict.FAIL)


def test_a_limit_in_the_wrong_direction_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\.at_most\(0\.05\)"):
        guard.errors().at_least(0.05)
    with pytest.raises(ValueError, match=r"\.at_least\(0\.8\)"):
        guard.success(lambda score, label: True).at_most(0.8)


@pytest.mark.parametrize("limit", [0.0, 1.0, 1.5, float("nan"), "0.5"])
def test_a_limit_that_cannot_be_is_refused(limit: Any) -> None:
    with pytest.raises(ValueError, match="limit"):
        guard.errors().at_most(limit)


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "verdict"), [(5.0, Verdict.PASS), (3.8, Verdict.FAIL)], ids=["the same", "less"])
def test_a_number_that_became_less_goes_back(mean: float, verdict: Verdict) -> None:
    chance = np.random.default_rng(2)

    def block(_: int) -> Block:
        return Block("r", 0, sums={"value": {"r": (numbers(chance, 75, 5.0), numbers(chance, 25, mean))}})

    told = finding(played(Canary((25,), (VALUE,)), block, 20), intervals=True)
    low, high = told.findings[0].evidence["interval"]
    assert told.verdict is verdict
    assert low <= 5.0 - mean <= high
    assert told.findings[0].evidence["challenger_rate"] == pytest.approx(mean, abs=0.2)


def test_a_number_of_which_less_is_better_has_the_other_direction() -> None:
    chance, cost = np.random.default_rng(3), replace(VALUE, name="cost", higher_is_better=False)

    def block(_: int) -> Block:
        return Block("r", 0, sums={"cost": {"r": (numbers(chance, 75, 5.0), numbers(chance, 25, 4.0))}})

    assert finding(played(Canary((25,), (cost,)), block, 20)).verdict is Verdict.PASS


def test_a_mean_of_at_least_so_much_is_a_limit() -> None:
    chance, least = np.random.default_rng(4), VALUE.at_least(4.0)

    def told(mean: float) -> Verdict:
        def block(_: int) -> Block:
            return Block("r", 0, sums={least.name: {"r": (numbers(chance, 75, 5.0), numbers(chance, 25, mean))}})

        return finding(played(Canary((25,), (least,)), block, 20)).verdict

    assert (told(5.0), told(3.0)) == (Verdict.PASS, Verdict.FAIL)


def test_equal_numbers_rarely_go_back() -> None:
    chance, false = np.random.default_rng(5), 0
    for _ in range(120):
        judge = start(Canary((25,), (VALUE,)))
        for _ in range(30):
            judge = update(
                judge, Block("r", 0, sums={"value": {"r": (numbers(chance, 75, 5.0), numbers(chance, 25, 5.0))}})
            )
        false += judge.peak >= np.log(100)

    assert false <= 4


@pytest.mark.parametrize(
    "sums",
    [
        Sums(5, 60.0, 720.0),
        Sums(5, -1.0, 1.0),
        Sums(5, float("nan"), 1.0),
        Sums(5, 5.0, float("inf")),
        Sums(-1, 0.0, 0.0),
        Sums(5, 25.0, 1.0),
        Sums(5, 25.0, 400.0),
    ],
)
def test_numbers_that_cannot_be_are_refused(sums: Sums) -> None:
    with pytest.raises(ValueError, match="cannot lie between 0 and 10"):
        update(start(Canary((25,), (VALUE,))), Block("r", 0, sums={"value": {"r": (Sums(), sums)}}))


def test_labels_for_a_guard_that_is_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="there are good"):
        update(start(Canary((25,), (GOOD,))), Block("r", 0, labels={"goood": {}}))


def test_two_guards_of_labels_are_judged_side_by_side() -> None:
    bad = Guard("complaint", GuardKind.SUCCESS, 0.05, higher_is_better=False)
    served = {"good": {"r": (Labels(75, 5), Labels(25, 1))}, "complaint": {"r": (Labels(75, 5), Labels(25, 12))}}
    told = finding(played(Canary((25,), (GOOD, bad)), lambda _: Block("r", 0, labels=served), 20))

    assert [f.verdict for f in told.findings] == [Verdict.PASS, Verdict.FAIL]
    assert "complaint 48.0 %" in told.reason


# -- little traffic, thresholds that follow ----------------------------------------------------------------------------


def test_one_request_a_look_adds_up() -> None:
    chance, judge = np.random.default_rng(6), start(Canary((25,), (Guard("errors", GuardKind.ERRORS, 0.01),)))
    looks = 0
    while finding(judge).verdict is not Verdict.FAIL and looks < 2000:
        new, looks = chance.random() < 0.25, looks + 1
        judge = update(judge, arms((0, 0), (1, int(chance.random() < 0.6))) if new else arms((1, 0), (0, 0)))

    assert looks < 200


def test_what_waits_for_the_other_arm_is_never_mixed_with_another_routing() -> None:
    judge = start(Canary((25, 50), (Guard("errors", GuardKind.ERRORS, 0.01),)))
    judge = update(judge, Block("a", 0, Counters(50, 50), Counters()))
    judge = update(judge, Block("b", 1, Counters(), Counters(50, 0)))

    assert judge.guards[0][0].seen[0].challenger_n == 0
    assert Judge.from_plain(json.loads(json.dumps(judge.to_plain()))) == judge


def test_a_threshold_follows_what_slows_both_down() -> None:
    """After both became four times slower a version that is alike is still certified."""
    chance, policy = np.random.default_rng(7), Canary((25,), (guard.latency(p50=1.25, p99=1.5),))

    def block(number: int) -> Block:
        scale = 0.05 if number < 3 else 0.2
        return Block("r", 0, *(timed(scale * np.exp(0.5 * chance.normal(size=n))) for n in (75, 25)))

    judge, told = start(policy), Verdict.INCONCLUSIVE
    for number in range(300):
        judge = update(judge, block(number))
        told = finding(judge).verdict
        if told is not Verdict.INCONCLUSIVE:
            break

    assert told is Verdict.PASS
    assert finding(judge).findings[0].evidence["now"]["baseline"] > 0.15


# -- checks ------------------------------------------------------------------------------------------------------------


def test_an_alarm_about_the_division_stays() -> None:
    judge = played(Canary((25,), (Guard("errors", GuardKind.ERRORS, 0.3),)), lambda _: arms((60, 0), (40, 0)), 10)
    assert finding(judge).verdict is Verdict.ERROR

    for _ in range(2000):
        judge = update(judge, arms((75, 0), (25, 0)))
    assert finding(judge).verdict is Verdict.ERROR
    assert finding(Judge.from_plain(json.loads(json.dumps(judge.to_plain())))) == finding(judge)


def test_nothing_counted_for_long_holds_what_was_certified() -> None:
    policy = Canary((25,), (Guard("errors", GuardKind.ERRORS, 0.3),))
    judge = played(policy, lambda number: arms((75, 0), (25, 0), at=float(number)), 20)

    assert finding(judge).verdict is Verdict.PASS
    assert finding(judge, now=900.0).verdict is Verdict.INCONCLUSIVE
    assert "nothing was counted for 15 min" in finding(update(judge, arms((0, 0), (0, 0), at=900.0))).reason


def test_a_clock_that_went_back_is_refused() -> None:
    judge = update(start(Canary((25,), (LIMIT,))), arms((75, 0), (25, 0), at=50.0))

    with pytest.raises(ValueError, match=r"went back from 50\.0 to 49\.0"):
        update(judge, arms((75, 0), (25, 0), at=49.0))


def test_requests_are_no_users() -> None:
    with pytest.raises(ValueError, match="count one outcome per user"):
        update(start(Canary((25,), (LIMIT,), unit=Unit.USER)), arms((75, 0), (25, 0)))

    users = replace(arms((75, 0), (25, 0)), unit=Unit.USER)
    assert update(start(Canary((25,), (LIMIT,), unit=Unit.USER)), users).guards[0][0].seen[0].challenger_n == 25


def test_counts_of_numpy_are_counts() -> None:
    policy = Canary((25,), (LIMIT, guard.latency(), GOOD, VALUE))
    n, k = np.int64(75), np.int64(1)
    latency = tuple(np.full(BUCKETS, np.int64(1)))
    block = Block(
        "r",
        0,
        Counters(n, k, latency),  # type: ignore[arg-type]
        Counters(np.int64(25), k, latency),  # type: ignore[arg-type]
        {"good": {"r": (Labels(n, k), Labels(n, k))}},  # type: ignore[arg-type]
        {"value": {"r": (Sums(np.int64(1), np.float64(5.0), np.float64(25.0)), Sums(1, 5.0, 25.0))}},  # type: ignore[arg-type]
    )
    judge = start(policy)
    for _ in range(3):
        judge = update(judge, block)

    assert Judge.from_plain(json.loads(json.dumps(judge.to_plain()))) == judge
    assert json.dumps([dict(found.evidence) for found in finding(judge, intervals=True).findings])


@pytest.mark.parametrize(
    "block",
    [
        None,
        {},
        Block("r", 7),
        Block("r", float("nan")),  # type: ignore[arg-type]
        Block("r", "0"),  # type: ignore[arg-type]
        Block("r", 0, share=float("nan")),
        Block("r", 0, share=-1.0),
        Block("r", 0, share=150.0),
        Block("r", 0, at="x"),  # type: ignore[arg-type]
        Block("r", 0, Counters("25", 0)),  # type: ignore[arg-type]
        Block("r", 0, Counters(None, 0)),  # type: ignore[arg-type]
        Block("r", 0, Counters(10**400, 0)),
        Block("r", 0, Counters(5, 0, None)),  # type: ignore[arg-type]
        Block("r", 0, labels=None),  # type: ignore[arg-type]
        Block("r", 0, labels=[]),  # type: ignore[arg-type]
        Block("r", 0, labels={"good": None}),  # type: ignore[dict-item]
        Block("r", 0, labels={"good": {"r": (Labels(1, 0),)}}),  # type: ignore[dict-item]
        Block("r", 0, labels={"good": {"r": ((1, 0), (1, 0))}}),  # type: ignore[dict-item]
        Block("r", 0, sums={"value": {"r": (Sums("5"), Sums())}}),  # type: ignore[arg-type]
        Block("r", 0, sums={"value": {"r": (Sums(5, None, 1.0), Sums())}}),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_block_is_refused_in_words(block: Any) -> None:
    with pytest.raises(ValueError, match=r"Block|step|share|time|counts|Counters|pair|cannot lie"):
        update(start(Canary((25,), (GOOD, VALUE))), block)


@pytest.mark.parametrize("plain", [None, {}, "x", {"guards": None}])
def test_what_is_no_state_is_refused(plain: Any) -> None:
    with pytest.raises(ValueError, match="no judge's state"):
        Judge.from_plain(plain)


@pytest.mark.parametrize("ratio", [float("nan"), float("inf"), 1.0, 1e9, "2"])
def test_a_ratio_that_tolerates_anything_is_refused(ratio: Any) -> None:
    with pytest.raises(ValueError, match=r"guard\.latency"):
        Guard("latency", GuardKind.LATENCY, ratios=((0.5, ratio),))


@pytest.mark.parametrize(("old", "new"), [((100, 0), (0, 0)), ((0, 0), (100, 100))])
def test_an_arm_that_gets_nothing_is_a_wrong_division(old: tuple[int, int], new: tuple[int, int]) -> None:
    judge = played(Canary((25,), (Guard("errors", GuardKind.ERRORS, 0.01),)), lambda _: arms(old, new), 50)

    assert finding(judge).verdict is Verdict.ERROR


def test_what_looks_worse_says_what_would_send_it_back() -> None:
    judge = played(Canary((25,), (Guard("errors", GuardKind.ERRORS, 0.01),)), lambda _: arms((75, 1), (25, 1)), 15)

    told = finding(judge)
    assert told.verdict is Verdict.INCONCLUSIVE
    assert "more requests like these would send it back" in told.reason


# -- declaring ---------------------------------------------------------------------------------------------------------


def test_a_guard_that_is_no_function_is_refused() -> None:
    with pytest.raises(ProjectError, match="needs a function"):
        guard.metric(0.5, 0.1, name="value")  # type: ignore[arg-type]


@pytest.mark.parametrize("margin", [0.0, 10.0, -1.0, float("nan")])
def test_a_margin_of_numbers_lies_within_their_bounds(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        guard.metric(lambda score, label: 1.0, margin, name="value", high=10.0)


@pytest.mark.parametrize("kind", ["errors", "latency", "good", "value", "limit"])
def test_the_state_of_every_guard_is_small(kind: str) -> None:
    chance = np.random.default_rng(8)
    guards = {
        "errors": Guard("errors", GuardKind.ERRORS, 0.01),
        "latency": guard.latency(p50=1.1, p90=1.15, p99=1.25),
        "good": GOOD,
        "value": VALUE,
        "limit": LIMIT,
    }
    chosen, judge = guards[kind], start(Canary((5, 25, 50), (guards[kind],)))
    for step in (0, 1, 2):
        for _ in range(700):
            few = int(chance.binomial(1000, (0.05, 0.25, 0.5)[step]))
            old, new = (0.05 * np.exp(0.5 * chance.normal(size=n)) for n in (1000 - few, few))
            pair = {f"revision-{step}": (Labels(1000 - few, 90), Labels(few, few // 11))}
            sums = {f"revision-{step}": (numbers(chance, 1000 - few, 5.0), numbers(chance, few, 5.0))}
            labels = {"good": pair} if kind == "good" else {}
            judge = update(
                judge,
                Block(
                    f"revision-{step}",
                    step,
                    timed(old),
                    replace(timed(new), failures=few // 60),
                    labels,
                    {"value": sums} if kind == "value" else {},
                ),
            )

    assert len(json.dumps([series.to_plain() for series in judge.guards[0]])) < 4096
    assert chosen.name == judge.policy.guards[0].name
