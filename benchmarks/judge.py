"""How many requests the judge takes, and how often it is wrong.

Run as a script; `--runs 100` for less noise.  Every line is a scenario simulated with seeds: how often it ended as it
should, and after how many requests of both arms together (median and nine of ten).  "no end" counts as most.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from modelcd.domain.forecast import Traffic
from modelcd.domain.judge import judgement, start, update
from modelcd.domain.plan import plan
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.samples import BUCKETS, LATENCY_GRID, Block, Counters, Labels
from modelcd.domain.verdict import Verdict

ERRORS = Guard("errors", GuardKind.ERRORS, 0.01)
LATENCY = Guard("latency", GuardKind.LATENCY, ratios=((0.5, 1.25), (0.99, 1.5)))
SUCCESS = Guard("success", GuardKind.SUCCESS, 0.05)


@dataclass(frozen=True)
class Arm:
    """Rates of an arm; latencies are lognormal around 50 ms with a deviation of 0.5."""

    errors: float = 0.02
    scale: float = 1.0
    bad: float = 0.12


@dataclass(frozen=True)
class Scenario:
    """What is simulated, and how it should end (none: it should not be rolled back)."""

    name: str
    policy: Canary
    expected: Verdict | None = None
    champion: Arm = field(default_factory=Arm)
    challenger: Arm = field(default_factory=Arm)
    most: int = 40_000
    tick: int = 100


def counters(chance: np.random.Generator, arm: Arm, requests: int, *, timed: bool) -> Counters:
    """Return what *arm* answered."""
    latency = np.zeros(BUCKETS, dtype=int)
    if timed:
        seconds = 0.05 * arm.scale * np.exp(0.5 * chance.normal(size=requests))
        latency = np.bincount(np.searchsorted(LATENCY_GRID, seconds), minlength=BUCKETS)
    return Counters(requests, int(chance.binomial(requests, arm.errors)), tuple(latency.tolist()))


def run(scenario: Scenario, seed: int) -> tuple[Verdict, int, float]:
    """Return how one release ended, after how many requests, and the seconds the judge took per tick."""
    chance, policy = np.random.default_rng(seed), scenario.policy
    judge, step, requests, spent, ticks = start(policy), 0, 0, 0.0, 0
    kinds = {guard.kind for guard in policy.guards}
    timed = GuardKind.LATENCY in kinds
    while requests < scenario.most:
        new = int(chance.binomial(scenario.tick, policy.shares[step] / 100))
        old, revision, labels = scenario.tick - new, f"step-{step}", {}
        if GuardKind.SUCCESS in kinds:
            bad = chance.binomial([old, new], [scenario.champion.bad, scenario.challenger.bad])
            labels[revision] = (Labels(old, int(bad[0])), Labels(new, int(bad[1])))
        base = counters(chance, scenario.champion, old, timed=timed)
        block = Block(revision, step, base, counters(chance, scenario.challenger, new, timed=timed), labels)
        begun = time.perf_counter()
        judge = update(judge, block)
        verdict = judgement(judge, step).verdict
        spent, ticks, requests = spent + time.perf_counter() - begun, ticks + 1, requests + scenario.tick
        step += verdict is Verdict.PASS
        if verdict is Verdict.FAIL or step == len(policy.shares):
            return verdict, requests, spent / ticks
    return Verdict.INCONCLUSIVE, requests, spent / ticks


def one(share: float, *guards: Guard) -> Canary:
    """Return a ladder of one step."""
    return Canary((share,), guards)


def scenarios() -> list[Scenario]:
    """Return what is reported."""
    found, ladder = [], (5, 25, 50)
    for share in (5, 25, 50):
        calm = Guard(
            "errors", GuardKind.ERRORS, 0.0001
        )  # a margin no run certifies, so that each is watched to the end
        found.append(Scenario(f"identical, err 2 %, at {share} %", one(share, calm), most=20_000))
    for share in (5, 25, 50):
        found.append(
            Scenario(f"err 2 -> 4 % at {share} %", one(share, ERRORS), Verdict.FAIL, challenger=Arm(errors=0.04))
        )
    zero = Arm(errors=0.0)
    found.append(Scenario("err 0 -> 10 % at 5 %", one(5, ERRORS), Verdict.FAIL, zero, Arm(errors=0.1), tick=20))
    found.append(Scenario("err 0 -> 100 % at 5 %", one(5, ERRORS), Verdict.FAIL, zero, Arm(errors=1.0), tick=20))
    found.append(Scenario("latency x1.2 at 25 %", one(25, LATENCY), Verdict.FAIL, challenger=Arm(scale=1.2)))
    found.append(Scenario("latency x1.5 at 25 %", one(25, LATENCY), Verdict.FAIL, challenger=Arm(scale=1.5)))
    for share in (5, 25, 50):
        found.append(Scenario(f"identical promoted, err 2 % +1pp, {share} %", one(share, ERRORS), Verdict.PASS))
    found.append(Scenario("identical promoted, latency at 25 %", one(25, LATENCY), Verdict.PASS))
    for name, guards in (
        ("errors", (ERRORS,)),
        ("success", (SUCCESS,)),
        ("latency", (LATENCY,)),
        ("errors, success", (ERRORS, SUCCESS)),
        ("errors, latency, success", (ERRORS, LATENCY, SUCCESS)),
    ):
        found.append(Scenario(f"ladder, err 0, {name}", Canary(ladder, guards), Verdict.PASS, zero, zero))
    every = Canary(ladder, (ERRORS, LATENCY, SUCCESS))
    found.append(Scenario("ladder, err 0 -> 10 %, all", every, Verdict.FAIL, zero, Arm(errors=0.1), tick=20))
    found.append(Scenario("ladder, err 2 -> 4 %, all", every, Verdict.FAIL, challenger=Arm(errors=0.04)))
    found.append(Scenario("ladder, success 88 -> 70 %, all", every, Verdict.FAIL, challenger=Arm(bad=0.3)))
    return found


def main(report: Callable[[str], None] = print) -> None:
    """Simulate every scenario and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=40)
    runs = arguments.parse_args().runs
    report(f"{'scenario':46} {'as expected':>12} {'rolled back':>12} {'median':>8} {'9 of 10':>8} {'ms/tick':>8}")
    for scenario in scenarios():
        ends = [run(scenario, seed) for seed in range(runs)]
        back = sum(verdict is Verdict.FAIL for verdict, _, _ in ends) / runs
        right = sum(verdict is scenario.expected for verdict, _, _ in ends) / runs if scenario.expected else 1 - back
        lengths = sorted(requests for _, requests, _ in ends)
        pace = 1000 * statistics.mean(seconds for _, _, seconds in ends)
        median, long = statistics.median(lengths), lengths[int(0.9 * (runs - 1))]
        report(f"{scenario.name:46} {right:12.1%} {back:12.1%} {median:8,.0f} {long:8,.0f} {pace:8.2f}")
    known = Traffic(per_minute=1_000, errors=0.02)
    needs = {f"{s:g} %": round(plan(Canary((s,), (ERRORS,)), known).requests.median) for s in (5, 25, 50)}
    report(f"planned for err 2 % +1pp: {needs}")


if __name__ == "__main__":
    main()
