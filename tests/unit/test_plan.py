"""What a release will need: the forecast against the judge itself, and what it says of hopeless plans."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from itertools import pairwise
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcd.domain.forecast import Traffic, missing
from modelcd.domain.judge import finding, start, update
from modelcd.domain.plan import (
    CLEARLY,
    REGRESSION,
    Need,
    Obstacle,
    Plan,
    Remedy,
    exposed_at_worst,
    fastest,
    ladders,
    plan,
)
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.samples import BUCKETS, LATENCY_GRID, Block, Counters, Labels
from modelcd.domain.verdict import Verdict

ERRORS = Guard("errors", GuardKind.ERRORS, 0.01)
LATENCY = Guard("latency", GuardKind.LATENCY, ratios=((0.5, 1.25), (0.99, 1.5)))
SUCCESS = Guard("success", GuardKind.SUCCESS, 0.03)
KNOWN = Traffic(per_minute=1_000, errors=0.02, wrong={"success": 0.1}, labelled=0.2, label_delay=600.0)
AT_ONCE = replace(KNOWN, labelled=1.0, label_delay=0.0)
"""Every request gets its label at once, so that requests and labels are the same number."""

RUNS = 15

Truth = tuple[float, float, float]
"""Rates of failed and of wrong answers, and the ratio of latencies to 50 ms."""

GOOD: Truth = (0.02, 0.1, 1.0)


def answered(chance: np.random.Generator, requests: int, truth: Truth) -> tuple[Counters, Labels]:
    seconds = 0.05 * truth[2] * np.exp(0.5 * chance.normal(size=requests))
    latency = np.bincount(np.searchsorted(LATENCY_GRID, seconds), minlength=BUCKETS)
    labels = Labels(requests, int(chance.binomial(requests, truth[1])))
    return Counters(requests, int(chance.binomial(requests, truth[0])), tuple(latency.tolist())), labels


def simulated(policy: Canary, truth: Truth, ending: Verdict, tick: int, runs: int = RUNS) -> tuple[float, float]:
    """Requests, and requests to the challenger, until releases of a version like *truth* ended: medians."""
    lasted, exposed = [], []
    for seed in range(runs):
        chance, judge, step, requests, given_to_it = np.random.default_rng(seed), start(policy), 0, 0, 0
        verdict = Verdict.INCONCLUSIVE
        while verdict is not Verdict.FAIL and step < len(policy.shares) and requests < 400 * tick:
            new = int(chance.binomial(tick, policy.shares[step] / 100))
            (base, told), (bad, said) = answered(chance, tick - new, GOOD), answered(chance, new, truth)
            labels = {g.name: {f"r{step}": (told, said)} for g in policy.guards if g.kind is GuardKind.SUCCESS}
            judge = update(judge, Block(f"r{step}", step, base, bad, labels))
            verdict = finding(judge, step).verdict
            step, requests, given_to_it = step + (verdict is Verdict.PASS), requests + tick, given_to_it + new
        ended = verdict is ending
        lasted.append(requests if ended else math.inf)
        exposed.append(given_to_it if ended else math.inf)
    return statistics.median(lasted), statistics.median(exposed)


@pytest.mark.parametrize(
    "policy",
    [
        Canary((5,), (ERRORS,)),
        Canary((25,), (ERRORS,)),
        Canary((50,), (ERRORS,)),
        Canary((25,), (SUCCESS,)),
        Canary((25,), (LATENCY,)),
        Canary((5, 25, 50), (ERRORS,)),
        Canary((5, 25, 50), (ERRORS, LATENCY, SUCCESS)),
    ],
    ids=lambda policy: f"{'+'.join(g.name for g in policy.guards)} at {policy.shares}",
)
def test_an_identical_version_is_promoted_about_when_it_was_planned(policy: Canary) -> None:
    forecast = plan(policy, AT_ONCE)
    lasted, exposed = simulated(policy, GOOD, Verdict.PASS, tick=round(forecast.requests.median / 40))

    assert forecast.requests.median / 1.6 < lasted < 1.6 * forecast.requests.median
    assert forecast.exposed.median / 1.6 < exposed < 1.6 * forecast.exposed.median


@pytest.mark.parametrize(
    "policy",
    [
        Canary((5,), (ERRORS,)),
        Canary((25,), (ERRORS,)),
        Canary((50,), (ERRORS,)),
        Canary((25,), (SUCCESS,)),
        Canary((25,), (LATENCY,)),
        Canary((25,), (ERRORS, LATENCY, SUCCESS)),
    ],
    ids=lambda policy: f"{'+'.join(g.name for g in policy.guards)} at {policy.shares}",
)
def test_a_version_that_is_worse_is_rolled_back_about_when_it_was_planned(policy: Canary) -> None:
    forecast = plan(policy, AT_ONCE).regressions[0]
    requests = forecast.seconds.median * 1_000 / 60
    failing, wrong = (forecast.worse if forecast.guard == name else 0.0 for name in ("errors", "success"))
    truth = (GOOD[0] + failing, GOOD[1] + wrong, forecast.worse if forecast.guard == "latency" else 1.0)
    lasted, exposed = simulated(policy, truth, Verdict.FAIL, tick=max(20, round(requests / 40)))

    assert requests / 1.6 < lasted < 1.6 * requests
    assert forecast.exposed.median / 1.6 < exposed < 1.6 * forecast.exposed.median


def test_a_version_that_early_steps_tolerate_gets_about_the_requests_that_were_planned() -> None:
    policy = Canary((5, 25, 50), (ERRORS,))
    forecast = plan(policy, AT_ONCE).regressions[0]
    truth = (GOOD[0] + forecast.worse, GOOD[1], 1.0)
    _, exposed = simulated(policy, truth, Verdict.FAIL, tick=400, runs=60)

    assert forecast.exposed.median / 1.6 < exposed < 1.6 * forecast.exposed.median


def need(forecast: Plan, step: int, guard: str) -> Need:
    return next(found for found in forecast.steps[step].needs if found.guard == guard)


def test_the_plan_is_near_what_the_reference_was_measured_to_need() -> None:
    found = {share: plan(Canary((share,), (ERRORS,)), KNOWN).requests.median for share in (5, 25, 50)}

    assert found == {
        5: pytest.approx(30_000, rel=0.25),
        25: pytest.approx(7_200, rel=0.25),
        50: pytest.approx(5_500, rel=0.25),
    }


def test_what_an_early_step_showed_need_not_be_shown_again() -> None:
    ladder, alone = plan(Canary((5, 25, 50), (ERRORS,)), KNOWN), plan(Canary((50,), (ERRORS,)), KNOWN)

    assert 0 < need(ladder, 2, "errors").outcomes.median < need(alone, 0, "errors").outcomes.median
    assert [need(ladder, step, "errors").tolerated for step in range(3)] == pytest.approx([0.05, 0.02, 0.01])


def test_twice_the_traffic_needs_the_same_requests_and_half_the_time() -> None:
    policy = Canary((5, 25, 50), (ERRORS, LATENCY))
    one, two = plan(policy, KNOWN), plan(policy, replace(KNOWN, per_minute=2_000))

    assert two.requests == pytest.approx(one.requests)
    assert two.seconds == pytest.approx([part / 2 for part in one.seconds])
    assert two.exposed == pytest.approx(one.exposed)


def test_labels_are_waited_for_and_their_requests_are_exposed_meanwhile() -> None:
    policy = Canary((10,), (SUCCESS,))
    soon, late = plan(policy, replace(KNOWN, label_delay=0.0)), plan(policy, KNOWN)

    assert need(late, 0, "success").outcomes == pytest.approx(need(soon, 0, "success").outcomes)
    assert late.seconds.median == pytest.approx(soon.seconds.median + 600)
    assert late.exposed.median == pytest.approx(soon.exposed.median + 10 * 1_000 * 0.1)


def test_half_the_labels_take_twice_as_long() -> None:
    policy = Canary((10,), (SUCCESS,))
    many, few = (plan(policy, replace(KNOWN, labelled=part, label_delay=0.0)) for part in (0.2, 0.1))

    assert few.seconds.median == pytest.approx(2 * many.seconds.median)


def test_a_step_lasts_as_long_as_it_has_to_be_watched() -> None:
    policy = Canary((25, 50), (LATENCY,), bake=1_800.0)

    assert [step.seconds.median for step in plan(policy, KNOWN).steps] == [1_800.0, 1_800.0]


def test_more_guards_on_one_budget_take_longer_to_roll_back() -> None:
    few, many = (plan(Canary((25,), guards), AT_ONCE).regressions[0] for guards in ((ERRORS,), (ERRORS, LATENCY)))

    assert few.seconds.median < many.seconds.median < 1.5 * few.seconds.median


def test_recorded_latencies_of_the_assumed_shape_need_what_was_assumed() -> None:
    counts = tuple(round(1e6 * part) for part in answered_shape())
    recorded, assumed = (
        plan(Canary((25,), (LATENCY,)), replace(KNOWN, latencies=known)).requests.median for known in (counts, ())
    )

    assert recorded == pytest.approx(assumed, rel=0.2)


def answered_shape() -> list[float]:
    edges = [0.0, *[statistics.NormalDist().cdf(math.log(edge / 0.05) / 0.5) for edge in LATENCY_GRID], 1.0]
    return [high - low for low, high in pairwise(edges)]


def test_what_is_tolerated_is_never_said_to_be_caught() -> None:
    forecast = plan(Canary((5, 25, 50), (ERRORS, LATENCY, SUCCESS)), KNOWN)

    for step in forecast.steps:
        for found in step.needs:
            half, most = found.caught
            assert half is not None
            assert most is not None
            assert found.tolerated <= half < most


def test_a_short_budget_catches_only_what_is_large() -> None:
    short = plan(Canary((5,), (ERRORS,), step_budget=120.0), KNOWN)
    half, most = need(short, 0, "errors").caught
    long = plan(Canary((5,), (ERRORS,)), KNOWN)

    assert need(long, 0, "errors").caught == pytest.approx((0.01, 0.01 * CLEARLY))
    assert half is not None
    assert most is not None
    assert 0.03 < half < most
    assert need(plan(Canary((5,), (ERRORS,), step_budget=1.0), KNOWN), 0, "errors").caught == (None, None)


def test_a_plan_says_what_it_needs_to_know() -> None:
    policy = Canary((5, 25), (ERRORS, LATENCY, SUCCESS))

    assert missing(policy, Traffic()) == ("per_minute", "errors", "wrong success", "labelled", "label_delay")
    assert missing(policy, KNOWN) == ()
    assert missing(Canary((5,), (LATENCY,)), Traffic(per_minute=60)) == ()
    with pytest.raises(ValueError, match="needs to know: errors"):
        plan(Canary((5,), (ERRORS,)), Traffic(per_minute=60))


@pytest.mark.parametrize(
    "wrong",
    [
        {"per_minute": 0.0},
        {"per_minute": math.nan},
        {"errors": 1.1},
        {"errors": -0.1},
        {"labelled": 0.0},
        {"label_delay": math.inf},
        {"wrong": {"success": 2.0}},
        {"latencies": (1, 2)},
    ],
)
def test_traffic_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"cannot be|nothing can be planned|the grid has"):
        Traffic(**wrong)  # type: ignore[arg-type]


def test_a_guard_of_an_unknown_kind_is_named_and_not_skipped_in_silence() -> None:
    other = Guard("revenue", cast(GuardKind, "metric"), 0.1)

    assert plan(Canary((5,), (ERRORS, other)), KNOWN).unplanned == ("revenue",)


def test_everything_at_once_needs_nothing_and_proves_nothing() -> None:
    forecast = plan(Canary(()), Traffic(per_minute=60))

    assert (forecast.steps, forecast.seconds, forecast.hopeless) == ((), (0.0, 0.0), False)
    assert exposed_at_worst(Canary(()), Traffic(per_minute=60)) == math.inf


SLOW = replace(KNOWN, per_minute=20.0)
TIGHT = Canary((5, 25, 50), (ERRORS, LATENCY, SUCCESS), step_budget=3_600.0)


def obstacle(forecast: Plan, guard: str) -> Obstacle:
    return next(found for found in forecast.obstacles if found.guard == guard)


def remedied(policy: Canary, traffic: Traffic, guard: Guard, remedy: Remedy) -> Plan:
    """The plan for *guard* alone after one remedy."""
    match remedy.what:
        case "shares":
            policy = replace(policy, shares=remedy.values)
        case "margin":
            guard = replace(guard, margin=remedy.values[0])
        case "ratios":
            guard = replace(guard, ratios=tuple(zip(remedy.values[::2], remedy.values[1::2], strict=True)))
        case "per_minute":
            traffic = replace(traffic, per_minute=remedy.values[0])
        case "step_budget":
            policy = replace(policy, step_budget=remedy.values[0])
    return plan(replace(policy, guards=(guard,)), traffic)


@pytest.mark.parametrize("guard", TIGHT.guards, ids=lambda guard: guard.name)
@pytest.mark.parametrize("traffic", [SLOW, replace(KNOWN, per_minute=12.0)], ids=["20/min", "12/min"])
def test_each_remedy_makes_possible_what_was_not(guard: Guard, traffic: Traffic) -> None:
    alone = replace(TIGHT, guards=(guard,))
    forecast = plan(alone, traffic)
    found = obstacle(forecast, guard.name)

    assert found.seconds.unlucky > found.budget
    assert {"per_minute", "step_budget"} <= {remedy.what for remedy in found.remedies}
    for remedy in found.remedies:
        assert remedied(alone, traffic, guard, remedy).obstacles == (), remedy


def test_a_remedy_is_no_larger_than_it_has_to_be() -> None:
    alone = replace(TIGHT, guards=(ERRORS,))
    for remedy in obstacle(plan(alone, SLOW), "errors").remedies:
        if remedy.what in ("margin", "per_minute", "step_budget"):
            less = Remedy(remedy.what, (0.9 * remedy.values[0],))
            assert remedied(alone, SLOW, ERRORS, less).obstacles, less


def test_a_plan_is_hopeless_when_not_even_half_would_get_through() -> None:
    median = plan(Canary((5,), (ERRORS,)), KNOWN).seconds.median
    hopeless, risky, fine = (
        plan(Canary((5,), (ERRORS,), step_budget=times * median), KNOWN) for times in (0.9, 1.1, 3.0)
    )

    assert [forecast.hopeless for forecast in (hopeless, risky, fine)] == [True, False, False]
    assert [found.hopeless for found in hopeless.obstacles + risky.obstacles + fine.obstacles] == [True, False]


def test_labels_that_come_after_the_budget_have_no_remedy_but_time() -> None:
    late = replace(KNOWN, label_delay=7_200.0)
    found = obstacle(plan(replace(TIGHT, guards=(SUCCESS,)), late), "success")

    assert found.hopeless
    assert [remedy.what for remedy in found.remedies] == ["step_budget"]


def test_a_release_that_fits_its_steps_and_not_its_budget_is_said_to() -> None:
    tight = Canary((25, 50), (ERRORS,), bake=3_600.0, budget=7_000.0)
    found = obstacle(plan(tight, KNOWN), "")

    assert (found.hopeless, found.remedies) == (True, (Remedy("budget", (7_200.0,)),))
    assert plan(replace(tight, budget=7_200.0), KNOWN).obstacles == ()


def test_the_fastest_ladder_keeps_the_bound_and_no_other_is_sooner() -> None:
    policy = Canary((5, 25, 50), (ERRORS, LATENCY, SUCCESS))
    bound = exposed_at_worst(policy, KNOWN)
    found = ladders(policy, KNOWN)
    best = fastest(found, bound)

    assert best is not None
    assert best.exposed <= bound
    assert best.seconds <= plan(policy, KNOWN).seconds.median
    assert all(other.seconds >= best.seconds for other in found if other.exposed <= bound)
    again = plan(replace(policy, shares=best.shares), KNOWN)
    assert again.seconds.median == pytest.approx(best.seconds)
    assert max(bad.exposed.unlucky for bad in again.regressions) == pytest.approx(best.exposed)


def test_a_smaller_bound_is_never_faster() -> None:
    found = ladders(Canary((5,), (ERRORS,)), KNOWN)
    bounds = (500, 1_000, 2_000, 5_000)
    best = [ladder.seconds if (ladder := fastest(found, bound)) else math.inf for bound in bounds]

    assert best == sorted(best, reverse=True)
    assert fastest(found, 10) is None


def test_no_ladder_is_proposed_that_cannot_conclude() -> None:
    assert ladders(replace(TIGHT, step_budget=60.0), SLOW) == []


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from([0.5, 1, 5, 20, 50, 80, 99]), min_size=1, max_size=4, unique=True),
    st.tuples(*[st.floats(0, 1)] * 2),
    st.floats(1e-3, 0.9),
    st.tuples(st.floats(1e-2, 1e6), st.floats(1e-3, 1), st.floats(0, 1e6)),
    st.lists(st.integers(0, 50), min_size=BUCKETS, max_size=BUCKETS),
)
def test_whatever_is_known_the_unlucky_never_need_less(
    shares: list[float],
    rates: tuple[float, float],
    margin: float,
    comes: tuple[float, float, float],
    latencies: list[int],
) -> None:
    guards = (replace(ERRORS, margin=margin), LATENCY, replace(SUCCESS, margin=margin))
    known = Traffic(errors=rates[0], wrong={"success": rates[1]}, latencies=tuple(latencies))
    traffic = replace(known, per_minute=comes[0], labelled=comes[1], label_delay=comes[2])
    forecast = plan(Canary(tuple(sorted(shares)), guards), traffic)

    pairs = [forecast.seconds, forecast.requests, forecast.exposed]
    pairs += [pair for bad in forecast.regressions for pair in (bad.seconds, bad.exposed)]
    pairs += [found.seconds for step in forecast.steps for found in step.needs]
    assert all(0 <= pair.median <= pair.unlucky for pair in pairs)
    assert all(bad.worse <= REGRESSION for bad in forecast.regressions if bad.guard != "latency")


REVENUE = Guard("revenue", GuardKind.METRIC, 2.0, low=0.0, high=50.0)


def test_a_metric_is_planned_by_its_mean_and_variance() -> None:
    few, many = (
        plan(Canary((25,), (REVENUE,)), replace(AT_ONCE, numbers={"revenue": (20.0, variance)}))
        for variance in (50.0, 100.0)
    )

    assert need(few, 0, "revenue").tolerated == pytest.approx(2.0)
    assert need(few, 0, "revenue").unit == "labels"
    assert many.requests.median == pytest.approx(2 * few.requests.median, rel=0.1)
    assert few.regressions[0].worse == pytest.approx(REGRESSION * 2.0)


def test_a_metric_of_which_nothing_is_known_cannot_be_planned() -> None:
    assert plan(Canary((25,), (ERRORS, REVENUE)), KNOWN).unplanned == ("revenue",)


def test_a_limit_is_certified_the_sooner_the_more_the_champion_leaves_of_it() -> None:
    wide, narrow = (plan(Canary((25,), (ERRORS.at_most(limit),)), KNOWN) for limit in (0.1, 0.04))

    assert wide.requests.median < narrow.requests.median < math.inf
    assert narrow.steps[0].needs[0].tolerated == pytest.approx(0.02)


def test_a_limit_that_the_champion_breaks_can_never_be_certified() -> None:
    found = plan(Canary((25,), (ERRORS.at_most(0.01),)), KNOWN)

    assert found.seconds.median == math.inf
    assert [(o.hopeless, o.remedies) for o in found.obstacles] == [(True, ())]


def test_a_latency_limit_is_planned_on_recorded_latencies_only() -> None:
    slo = replace(LATENCY, grace=0.0).at_most(1.0)
    counts = tuple(round(1e6 * part) for part in answered_shape())

    assert plan(Canary((25,), (slo,)), KNOWN).unplanned == (slo.name,)
    assert 0 < plan(Canary((25,), (slo,)), replace(KNOWN, latencies=counts)).requests.median < math.inf
