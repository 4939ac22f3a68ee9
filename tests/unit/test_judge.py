"""The judge: only what was certified moves on, only what is worse goes back, however often one looks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcd.domain.judge import Judge, finding, start, update
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.samples import BUCKETS, LATENCY_GRID, Block, Counters, Labels
from modelcd.domain.verdict import Verdict

ERRORS = Guard("errors", GuardKind.ERRORS, 0.01)
LATENCY = Guard("latency", GuardKind.LATENCY, ratios=((0.5, 1.25), (0.99, 1.5)))
SUCCESS = Guard("success", GuardKind.SUCCESS, 0.05)
GOOD = Counters()


def counters(requests: int, failures: int = 0, seconds: float = 0.0) -> Counters:
    """Return counts of which every request took *seconds* (0: latency was not measured)."""
    latency = [0] * BUCKETS
    if seconds:
        latency[int(np.searchsorted(LATENCY_GRID, seconds))] = requests
    return Counters(requests, failures, tuple(latency))


class Traffic:
    """Requests of both arms under chance with a seed."""

    def __init__(self, seed: int) -> None:
        self.chance = np.random.default_rng(seed)

    def arm(self, requests: int, errors: float, scale: float) -> Counters:
        """Return what an arm with this rate of errors and *scale* times the usual latency answered."""
        seconds = 0.05 * scale * np.exp(0.5 * self.chance.normal(size=requests))
        latency = np.bincount(np.searchsorted(LATENCY_GRID, seconds), minlength=BUCKETS)
        return Counters(requests, int(self.chance.binomial(requests, errors)), tuple(latency.tolist()))

    def labels(self, requests: int, bad: float) -> Labels:
        """Return labels of all *requests*."""
        return Labels(requests, int(self.chance.binomial(requests, bad)))

    def block(self, policy: Canary, step: int, size: int, worse: dict[str, float] | None = None) -> Block:
        """Return a tick of *size* requests; *worse* says what the challenger does differently."""
        rates = {"errors": 0.02, "scale": 1.0, "bad": 0.12}
        new = rates | (worse or {})
        few = int(self.chance.binomial(size, policy.shares[step] / 100))
        many, revision = size - few, f"step-{step}"
        labelled = {revision: (self.labels(many, rates["bad"]), self.labels(few, new["bad"]))}
        return Block(
            revision,
            step,
            self.arm(many, rates["errors"], rates["scale"]),
            self.arm(few, new["errors"], new["scale"]),
            {"success": labelled} if SUCCESS in policy.guards else {},
        )


def climb(
    policy: Canary, seed: int, worse: dict[str, float] | None = None, *, size: int = 200, most: int = 40_000
) -> tuple[Verdict, int, Judge]:
    """Let a challenger climb the ladder; return how it ended, after how many requests, and the judge."""
    traffic, judge, step, requests = Traffic(seed), start(policy), 0, 0
    while requests < most:
        judge, requests = update(judge, traffic.block(policy, step, size, worse)), requests + size
        verdict = finding(judge, step).verdict
        if verdict is Verdict.PASS:
            step += 1
        if verdict is Verdict.FAIL or step == len(policy.shares):
            return verdict, requests, judge
    return Verdict.INCONCLUSIVE, requests, judge


def fed(policy: Canary, *blocks: Block) -> Judge:
    """Return a judge that has seen *blocks*."""
    judge = start(policy)
    for block in blocks:
        judge = update(judge, block)
    return judge


def test_nothing_seen_is_inconclusive() -> None:
    assert finding(start(Canary(guards=(ERRORS, LATENCY, SUCCESS))), 0).verdict is Verdict.INCONCLUSIVE


def test_a_policy_without_guards_never_passes() -> None:
    judge = start(Canary(shares=()))
    for _ in range(50):
        judge = update(judge, Block("r", 0, counters(1000), counters(1000)))

    assert finding(judge, 0).verdict is Verdict.INCONCLUSIVE


def test_a_challenger_that_answers_nothing_is_never_passed() -> None:
    judge = fed(Canary(guards=(ERRORS,)), *[Block("r", 0, counters(1000), counters(0))] * 50)

    assert finding(judge, 0).verdict is Verdict.ERROR
    assert "got 0.0 % of the requests (0 of 50,000), not the 5 % asked for" in finding(judge, 0).reason


def test_an_arm_alone_is_no_evidence() -> None:
    judge = fed(Canary(guards=(ERRORS, LATENCY, SUCCESS)), Block("r", 0, counters(95, 1, 0.1), counters(5, 0, 0.1)))
    lonely = Block("r", 0, counters(1000, 300, 0.9), counters(0), {"success": {"r": (Labels(50, 20), Labels())}})

    after = update(judge, lonely)
    assert after.latencies == judge.latencies
    assert [[s.evidence for s in g] for g in after.guards] == [[s.evidence for s in g] for g in judge.guards]
    assert [[s.seen for s in g] for g in after.guards] == [[s.seen for s in g] for g in judge.guards]


@pytest.mark.parametrize("seed", range(3))
def test_identical_arms_climb_to_the_top(seed: int) -> None:
    policy = Canary(shares=(25, 50), guards=(ERRORS, LATENCY, SUCCESS))

    assert climb(policy, seed)[0] is Verdict.PASS


@pytest.mark.parametrize("seed", range(5))
def test_ten_per_cent_errors_against_none_go_back_within_two_thousand_requests(seed: int) -> None:
    policy, chance = Canary(guards=(ERRORS, LATENCY, SUCCESS)), np.random.default_rng(seed)
    judge, requests = start(policy), 0
    while finding(judge, 0).verdict is not Verdict.FAIL:
        judge = update(judge, Block("r", 0, counters(95), counters(5, int(chance.binomial(5, 0.1)))))
        requests += 100

    assert requests <= 2000


def test_a_challenger_that_only_fails_goes_back_after_ten_of_its_requests() -> None:
    judge = fed(Canary(guards=(ERRORS,)), *[Block("r", 0, counters(95, 1), counters(5, 5))] * 2)

    assert finding(judge, 0).verdict is Verdict.FAIL


@pytest.mark.parametrize("worse", [{"errors": 0.06}, {"scale": 2.0}, {"bad": 0.3}], ids=["errors", "latency", "bad"])
def test_each_guard_sends_back_what_is_worse(worse: dict[str, float]) -> None:
    verdict, _, judge = climb(Canary(shares=(25,), guards=(ERRORS, LATENCY, SUCCESS)), 1, worse)
    failed = [f.name for f in finding(judge, 0).findings if f.verdict is Verdict.FAIL]

    expected = {"errors": "errors", "scale": "latency", "bad": "success"}[next(iter(worse))]
    assert (verdict, failed) == (Verdict.FAIL, [expected])


def test_identical_arms_are_rolled_back_at_most_as_often_as_promised() -> None:
    policy, chance, false = Canary(shares=(25,), guards=(ERRORS,)), np.random.default_rng(17), 0
    for _ in range(200):
        judge = start(policy)
        for _ in range(60):
            few = int(chance.binomial(300, 0.25))
            failed = chance.binomial([300 - few, few], 0.05)
            judge = update(judge, Block("r", 0, counters(300 - few, int(failed[0])), counters(few, int(failed[1]))))
            if finding(judge, 0).verdict is Verdict.FAIL:
                false += 1
                break

    assert false / 200 <= 0.01 + 3 * (0.01 * 0.99 / 200) ** 0.5


def test_a_challenger_on_the_tolerance_is_passed_at_most_as_often_as_promised() -> None:
    policy, passed = Canary(shares=(50,), guards=(Guard("errors", GuardKind.ERRORS, 0.03),)), 0
    chance = np.random.default_rng(23)
    for _ in range(150):
        judge = start(policy)
        for _ in range(30):
            failed = chance.binomial(200, [0.02, 0.05])
            judge = update(judge, Block("r", 0, counters(200, int(failed[0])), counters(200, int(failed[1]))))
        passed += judge.guards[0][0].certificates[0].granted

    assert passed / 150 <= 0.05 + 3 * (0.05 * 0.95 / 150) ** 0.5


def test_an_incident_that_straddles_a_step_blames_nobody() -> None:
    policy, chance = Canary(shares=(5, 50), guards=(ERRORS,)), np.random.default_rng(5)
    judge = start(policy)
    for step, rate in [(0, 0.02)] * 100 + [(0, 0.2)] * 3 + [(1, 0.2)] * 3 + [(1, 0.02)] * 60:
        few = int(chance.binomial(200, policy.shares[step] / 100))
        failed = chance.binomial([200 - few, few], rate)
        block = Block(f"r{step}", step, counters(200 - few, int(failed[0])), counters(few, int(failed[1])))
        judge = update(judge, block)
        assert finding(judge, step).verdict is not Verdict.FAIL


def test_complaints_that_come_first_blame_nobody_across_a_step() -> None:
    policy, judge = Canary(shares=(5, 50), guards=(SUCCESS,)), start(Canary(shares=(5, 50), guards=(SUCCESS,)))
    first = {"r0": (Labels(1900, 190), Labels(100, 10))}
    late = {"r0": (Labels(950, 0), Labels(50, 0)), "r1": (Labels(100, 60), Labels(100, 60))}
    for step, labels in [(0, first)] + [(1, late)] * 20:
        judge = update(judge, Block(f"r{step}", step, labels={"success": labels}))

    assert finding(judge, 1).odds < 10
    assert len(policy.shares) == 2


def test_evidence_of_earlier_steps_counts_at_later_ones() -> None:
    policy = Canary(shares=(25, 50), guards=(ERRORS,))
    judge = fed(policy, *[Block("r0", 0, counters(750), counters(250))] * 20)

    assert finding(judge, 1).verdict is Verdict.PASS


def test_what_passes_a_wide_tolerance_need_not_pass_a_narrow_one() -> None:
    judge = fed(Canary(shares=(5, 25, 50), guards=(ERRORS,)), *[Block("r0", 0, counters(950), counters(50))] * 3)

    assert [finding(judge, step).verdict for step in (0, 2)] == [Verdict.PASS, Verdict.INCONCLUSIVE]


def test_an_excess_within_the_tolerance_of_a_step_does_not_go_back_there() -> None:
    judge = fed(Canary(shares=(5, 25, 50), guards=(ERRORS,)), *[Block("r", 0, counters(950, 0), counters(50, 1))] * 20)

    assert [finding(judge, step).verdict for step in (0, 2)] == [Verdict.PASS, Verdict.FAIL]


def test_the_order_of_guards_does_not_matter() -> None:
    guards, ends = (ERRORS, LATENCY, SUCCESS), []
    for order in (guards, guards[::-1]):
        judge, traffic, policy = start(Canary(guards=order)), Traffic(3), Canary(guards=order)
        for _ in range(20):
            judge = update(judge, traffic.block(policy, 0, 300, {"errors": 0.05}))
        told = finding(judge, 0)
        ends.append((told.verdict, pytest.approx(told.odds), {f.name: f.verdict for f in told.findings}))

    assert ends[0] == ends[1]


def test_a_judge_read_back_from_json_goes_on_the_same() -> None:
    policy, traffic = Canary(guards=(ERRORS, LATENCY, SUCCESS)), Traffic(9)
    judge = start(policy)
    for _ in range(9):
        judge = update(judge, traffic.block(policy, 0, 200))
    read = Judge.from_plain(json.loads(json.dumps(judge.to_plain(), allow_nan=False)))
    block = traffic.block(policy, 0, 200)

    assert read == judge
    assert finding(update(read, block), 0) == finding(update(judge, block), 0)


def test_functions_of_users_are_not_kept() -> None:
    guard = replace(SUCCESS, function=lambda score, truth: score == truth)

    assert start(Canary(guards=(guard,))).policy.guards[0].function is None


def test_a_judge_is_small() -> None:
    judge = climb(Canary(guards=(ERRORS, LATENCY, SUCCESS)), 2, most=10_000)[2]
    sizes = [len(json.dumps([series.to_plain() for series in guard])) for guard in judge.guards]

    assert max(sizes) < 4096


def test_a_tick_in_two_halves_says_the_same() -> None:
    whole = fed(Canary(guards=(ERRORS,)), *[Block("r", 0, counters(190, 0), counters(10, 2))] * 6)
    halves = fed(Canary(guards=(ERRORS,)), *[Block("r", 0, counters(95, 0), counters(5, 1))] * 12)

    one, two = finding(whole, 0), finding(halves, 0)
    assert one.verdict is two.verdict is Verdict.FAIL
    assert one.findings[0].evidence["challenger_bad"] == two.findings[0].evidence["challenger_bad"]


def test_a_failure_in_words_has_rates_counts_and_odds() -> None:
    judge = fed(Canary(guards=(ERRORS,)), *[Block("r", 0, counters(931), counters(49, 5))] * 5)

    told = finding(judge, 0).findings[0].reason
    seen, _, said = told.partition(": ")
    assert seen == "errors 10.2 % (25 of 245) against 0.0 % (0 of 4,655)"
    assert said.startswith("worse by 10.2 points (99 % limits +4.4 to +18.7), 5 points tolerated; evidence ")
    assert told.endswith("the bar was 100 : 1")


def test_success_is_told_as_success() -> None:
    judge = fed(Canary(guards=(SUCCESS,)), Block("r", 0, labels={"success": {"r": (Labels(950, 114), Labels(50, 5))}}))

    assert "success 90.0 % (45 of 50) against 88.0 % (836 of 950)" in finding(judge, 0).reason


def test_what_is_missing_is_told_as_about_how_many_requests() -> None:
    told = finding(start(Canary(guards=(ERRORS,))), 0).findings[0]

    assert told.evidence["needs"] > 0
    assert told.evidence["unlucky"] > told.evidence["needs"]
    assert told.reason.startswith("errors: not enough requests to compare; needs about ")


def test_the_requests_that_are_still_needed_fall() -> None:
    policy, judge, needs = Canary(guards=(ERRORS,)), start(Canary(guards=(ERRORS,))), []
    for _ in range(8):
        judge = update(judge, Block("r", 0, counters(95), counters(5)))
        needs.append(finding(judge, 0).findings[0].evidence["needs"])

    assert needs == sorted(needs, reverse=True)
    assert policy.shares[0] == 5


def test_labels_are_asked_for_where_labels_are_missing() -> None:
    judge = fed(Canary(guards=(ERRORS, SUCCESS)), *[Block("r", 0, counters(950), counters(50))] * 5)

    told = finding(judge, 0).findings[1]
    assert (told.verdict, told.evidence["unit"]) == (Verdict.INCONCLUSIVE, "labels")


def test_latencies_that_share_a_bucket_are_certified() -> None:
    judge = fed(
        Canary(shares=(25,), guards=(LATENCY,)), *[Block("r", 0, counters(75, 0, 0.01), counters(25, 0, 0.01))] * 60
    )

    assert finding(judge, 0).verdict is Verdict.PASS


def test_the_slowest_of_a_hundred_do_not_hold_up_the_first_step() -> None:
    guard, traffic = Guard("latency", GuardKind.LATENCY, ratios=((0.99, 1.5),)), Traffic(6)
    policy = Canary(guards=(guard,))
    judge = fed(policy, *[traffic.block(policy, 0, 100) for _ in range(30)])

    assert [finding(judge, step).verdict for step in (0, 2)] == [Verdict.PASS, Verdict.INCONCLUSIVE]


def test_a_few_very_slow_answers_are_not_certified() -> None:
    slow = list(counters(24, 0, 0.01).latency)
    slow[60] = 1
    block = Block("r", 0, counters(75, 0, 0.01), Counters(25, 0, tuple(slow)))
    judge = fed(
        Canary(shares=(25,), guards=(Guard("latency", GuardKind.LATENCY, ratios=((0.99, 1.5),)),)), *[block] * 60
    )

    assert finding(judge, 0).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("grace", "seconds", "verdict"),
    [(0.005, 0.006, Verdict.PASS), (0.0, 0.006, Verdict.FAIL), (0.005, 0.015, Verdict.FAIL)],
    ids=["two milliseconds within the grace", "two milliseconds, no grace", "eleven milliseconds"],
)
def test_what_is_slower_by_less_than_the_grace_is_not_worse(grace: float, seconds: float, verdict: Verdict) -> None:
    guard = Guard("latency", GuardKind.LATENCY, ratios=((0.5, 1.25),), grace=grace)
    block = Block("r", 0, counters(75, 0, 0.004), counters(25, 0, seconds))
    judge = fed(Canary(shares=(25,), guards=(guard,)), *[block] * 60)

    assert finding(judge, 0).verdict is verdict
    assert finding(Judge.from_plain(judge.to_plain()), 0) == finding(judge, 0)


def test_latency_that_was_not_measured_is_inconclusive() -> None:
    judge = fed(Canary(shares=(25,), guards=(LATENCY,)), *[Block("r", 0, counters(75), counters(25))] * 60)

    assert finding(judge, 0).verdict is Verdict.INCONCLUSIVE


def test_latency_is_told_with_its_quantile_and_threshold() -> None:
    judge = climb(Canary(shares=(25,), guards=(LATENCY,)), 4, {"scale": 2.0})[2]

    assert "latency p50 86.2 % (93 of 108) slower than 49.6 ms against 49.0 %" in finding(judge, 0).reason


def test_latencies_beyond_the_grid_are_judged() -> None:
    judge = fed(
        Canary(shares=(50,), guards=(LATENCY,)), *[Block("r", 0, counters(50, 0, 1), counters(50, 0, 1000))] * 9
    )

    assert finding(judge, 0).verdict is Verdict.FAIL


def test_traffic_that_is_divided_otherwise_than_asked_is_an_error() -> None:
    judge = fed(Canary(shares=(25,), guards=(ERRORS,)), *[Block("r", 0, counters(700), counters(300))] * 10)

    told = finding(judge, 0)
    assert told.verdict is Verdict.ERROR
    assert "got 30.0 % of the requests (3,000 of 10,000), not the 25 % asked for" in told.reason


@pytest.mark.parametrize("requests", [1, 3, 10])
def test_a_small_share_of_little_traffic_is_not_called_wrongly_divided(requests: int) -> None:
    """In most blocks the challenger has no request; the others alone would give it far too large a share."""
    judge, chance = start(Canary(shares=(5, 50), guards=(ERRORS, SUCCESS))), np.random.default_rng(requests)
    for few in chance.binomial(requests, 0.05, 4_000):
        labels = {"success": {"r": (Labels(requests - int(few), 0), Labels(int(few), 0))}}
        judge = update(judge, Block("r", 0, counters(requests - int(few)), counters(int(few)), labels))

    assert finding(judge, 0).verdict is not Verdict.ERROR


def test_labels_that_only_one_arm_gets_are_an_error() -> None:
    block = Block("r", 0, counters(750), counters(250), {"success": {"r": (Labels(500, 5), Labels(10, 0))}})

    assert finding(fed(Canary(shares=(25,), guards=(SUCCESS,)), *[block] * 10), 0).verdict is Verdict.ERROR


def test_wrongly_divided_traffic_does_not_keep_a_bad_version() -> None:
    judge = fed(Canary(shares=(25,), guards=(ERRORS,)), *[Block("r", 0, counters(500), counters(500, 100))] * 10)

    assert finding(judge, 0).verdict is Verdict.FAIL


def test_after_the_ladder_the_narrowest_tolerance_holds() -> None:
    judge = fed(Canary(shares=(50,), guards=(ERRORS,)), *[Block("r", 1, counters(100), counters(900))] * 20)

    assert finding(judge, 1).verdict is Verdict.PASS


NAN: Any = float("nan")
IMPOSSIBLE = [
    Block("r", 0, Counters(10, 11), GOOD),
    Block("r", 0, GOOD, Counters(10, -1)),
    Block("r", 0, GOOD, Counters(-5, 0)),
    Block("r", 0, GOOD, Counters(NAN, 0)),
    Block("r", 0, GOOD, Counters(10, NAN)),
    Block("r", 0, Counters(10, 1, (-1,) * BUCKETS), GOOD),
    Block("r", 0, Counters(10, 1, (1, 2, 3)), GOOD),
    Block("r", 0, labels={"success": {"r": (Labels(5, 6), Labels())}}),
    Block("r", 0, labels={"success": {"r": (Labels(), Labels(NAN, 0))}}),
    Block("r", -1),
]


@pytest.mark.parametrize("block", IMPOSSIBLE)
def test_counts_that_cannot_be_are_refused(block: Block) -> None:
    with pytest.raises(ValueError, match=r"counts must|cannot be|the grid has|counts from 0"):
        update(start(Canary(guards=(ERRORS, LATENCY, SUCCESS))), block)


def test_a_step_below_the_first_is_refused() -> None:
    with pytest.raises(ValueError, match="counts from 0"):
        finding(start(Canary(guards=(ERRORS,))), -1)


def test_the_interval_of_a_guard_holds_its_excess() -> None:
    judge = fed(Canary(guards=(ERRORS,)), *[Block("r", 0, counters(931), counters(49, 5))] * 5)

    low, high = finding(judge, intervals=True).findings[0].evidence["interval"]
    assert 0 < low < 0.102 < high < 0.25


def test_without_intervals_the_verdict_is_the_same() -> None:
    judge = fed(Canary(guards=(ERRORS,)), *[Block("r", 0, counters(931), counters(49, 0))] * 5)
    quick, full = finding(judge), finding(judge, intervals=True)

    assert (quick.verdict, quick.reason, quick.odds) == (full.verdict, full.reason, full.odds)
    assert quick.findings[0].evidence["interval"] is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 300)] * 4), max_size=8), st.integers(0, 3))
def test_any_counts_give_plain_findings_and_never_a_pass_without_both_arms(
    ticks: list[tuple[int, int, int, int]], step: int
) -> None:
    judge = start(Canary(guards=(ERRORS, LATENCY, SUCCESS)))
    for n, m, bad, worse in ticks:
        base, new = counters(n, min(n, bad), 0.1), counters(m, min(m, worse), 0.2)
        labels = {"success": {"r": (Labels(n, min(n, bad)), Labels(m, min(m, worse)))}}
        judge = update(judge, Block("r", 0, base, new, labels))
    told = finding(judge, step)

    assert json.dumps([dict(found.evidence) for found in told.findings], allow_nan=False)
    assert told.verdict is not Verdict.PASS or any(n and m for n, m, _, _ in ticks)
