"""What a release will need, before it starts: requests, time and exposed users for each step and guard.

A forecast of the judge by its own arithmetic.  A test gains `growth` nats per request while the rates are what they are
thought to be.  A certificate is granted after about ln(1/beta) of them, a regression is rolled back after ln(1/alpha)
+ 1, and after ln(guards) and ln(quantiles) more where several share one budget (their mean decides).
Certificates run from the first block on, so what an early step learned is counted at the later ones, and labels count
once they have come.

The trade-off: medians by formula instead of a simulation.  They cost a millisecond, so that whole ladders can be tried,
and are held against simulated ones in `tests/unit/test_plan.py`: within a factor of 1.6, mostly within 1.25.  The
unlucky case, which nine of ten releases do not exceed, is a factor on the median that was found by simulation.  Looks
are at most 10 s apart and are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import ceil, floor, inf, isfinite, log, log10
from typing import NamedTuple

from modelcd.domain.forecast import SLOWEST, Comparison, Traffic, missing, plannable, tests_of
from modelcd.domain.policy import FROM_LABELS, Canary, Guard, GuardKind
from modelcd.domain.series import UNLUCKY, factors

CONDEMNED_LATE = 2.1
"""Nine of ten regressions are rolled back within so many times the median."""

CLEARLY = 1.25
"""Nine of ten are rolled back in time from so many times the tolerance on.

At the tolerance itself chance decides on which side of it an estimate lies: half are rolled back as fast as any, and
one in ten was seen to take 3 to 17 times as long; at 1.1 times up to 1.5, from here on no longer than others.
"""

REGRESSION = 2.5
"""The regression whose cost is told, in tolerances of the last step: clearly beyond twice, which a step before has."""

SHARES = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 33.0, 50.0)
"""The shares that a search may choose; above 50 % the champion has too few requests to compare with."""

STEPS = 3
"""The most steps of a ladder that a search may choose: tolerances have three sizes."""


class Amount(NamedTuple):
    """A number in the median and in the unlucky case; infinite where there is no end."""

    median: float
    unlucky: float


@dataclass(frozen=True)
class Need:
    """What one guard needs at one step until it certifies an identical challenger there.

    `outcomes` counts requests or labels (`unit`) of both arms, `seconds` the time in which they come, `exposed` the
    challenger's requests in that time; all without what earlier steps have shown already.  `tolerated` is an excess
    of bad outcomes, or for latency a ratio; `caught` the smallest regression that is rolled back within the step's
    budget with a chance of one half and of nine in ten (None: none is).  A regression below `tolerated` never counts.
    """

    guard: str
    unit: str
    measure: str
    tolerated: float
    outcomes: Amount
    seconds: Amount
    exposed: Amount
    caught: tuple[float | None, float | None]


@dataclass(frozen=True)
class Step:
    """A step of the ladder: its share in per cent, how long it lasts with `bake`, and what each guard needs there."""

    share: float
    seconds: Amount
    exposed: Amount
    needs: tuple[Need, ...]


@dataclass(frozen=True)
class Regression:
    """What a challenger that is worse than the champion on one guard, by `worse`, costs until it is rolled back.

    `exposed` counts the requests that it gets.  Infinite where no step rolls it back within its budget.
    """

    guard: str
    measure: str
    worse: float
    seconds: Amount
    exposed: Amount


@dataclass(frozen=True)
class Remedy:
    """One change that lets a guard conclude in nine of ten releases.

    `what` is `shares`, `margin`, `per_minute`, `step_budget` or `budget` (one value), or `ratios` (pairs of quantile
    and ratio, one after the other).
    """

    what: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Obstacle:
    """A guard that does not conclude in time at a step (counted from 0): in half of all releases if `hopeless`.

    Without a guard it is the budget of the whole release that does not last.
    """

    guard: str
    step: int
    seconds: Amount
    budget: float
    hopeless: bool
    remedies: tuple[Remedy, ...]


@dataclass(frozen=True)
class Plan:
    """The forecast for a policy; `unplanned` names the guards that it leaves out because it does not know their kind.

    `seconds` is the time to 100 %, `requests` what comes in meanwhile, `exposed` how many of those the challenger
    gets.  `regressions` are `REGRESSION` times the tolerance, one per guard.
    """

    steps: tuple[Step, ...]
    seconds: Amount
    requests: Amount
    exposed: Amount
    regressions: tuple[Regression, ...]
    obstacles: tuple[Obstacle, ...]
    unplanned: tuple[str, ...]

    @property
    def hopeless(self) -> bool:
        """Say whether half of all good versions would not get through."""
        return any(obstacle.hopeless for obstacle in self.obstacles)


def plan(policy: Canary, traffic: Traffic) -> Plan:
    """Return what *policy* needs under *traffic*; raises `ValueError` for what is `missing`."""
    if lacking := missing(policy, traffic):
        raise ValueError(f"a plan needs to know: {', '.join(lacking)}")
    course, late = _course(policy, traffic, 1.0), _course(policy, traffic, UNLUCKY)
    steps = tuple(_step(course, late, number) for number in range(len(policy.shares)))
    total = _amount(course.starts[-1], late.starts[-1])
    return Plan(
        steps=steps,
        seconds=total,
        requests=Amount(*(seconds * course.per_second for seconds in total)),
        exposed=Amount(*(sum(step.exposed[k] for step in steps) for k in (0, 1))),
        regressions=tuple(regression(policy, traffic, guard) for guard in policy.guards if plannable(guard, traffic)),
        obstacles=tuple(_obstacles(policy, traffic, steps, total)),
        unplanned=tuple(guard.name for guard in policy.guards if not plannable(guard, traffic)),
    )


@dataclass(frozen=True)
class Ladder:
    """Shares that a release could take: the median seconds to 100 %, and `exposed_at_worst` under them."""

    shares: tuple[float, ...]
    seconds: float
    exposed: float


def ladders(policy: Canary, traffic: Traffic) -> list[Ladder]:
    """Return every ladder of `SHARES` on which the guards of *policy* conclude within their budgets (median)."""
    found = []
    for steps in range(1, STEPS + 1):
        for shares in combinations(SHARES, steps):
            changed = replace(policy, shares=shares)
            course = _course(changed, traffic, 1.0)
            if _in_time(course) and course.starts[-1] <= policy.budget:
                found.append(Ladder(shares, course.starts[-1], exposed_at_worst(changed, traffic)))
    return found


def fastest(found: Sequence[Ladder], exposed: float) -> Ladder | None:
    """Return the soonest of the *found* ladders that give a bad version at most *exposed* requests, if there is one."""
    fit = (ladder for ladder in found if ladder.exposed <= exposed)
    return min(fit, key=lambda ladder: (ladder.seconds, ladder.exposed), default=None)


def exposed_at_worst(policy: Canary, traffic: Traffic) -> float:
    """Return how many requests a challenger gets that is worse on one guard, the one that takes longest to see it.

    Worse by `REGRESSION` times the tolerance, until it is rolled back, in the unlucky case; infinite where it is not.
    """
    planned = [guard for guard in policy.guards if plannable(guard, traffic)]
    return max((regression(policy, traffic, guard).exposed.unlucky for guard in planned), default=inf)


def regression(policy: Canary, traffic: Traffic, guard: Guard) -> Regression:
    """Return what a challenger costs that is worse on *guard* by `REGRESSION` times the tolerance of the last step.

    Early steps tolerate more than later ones, so it may get on to a larger share before it is rolled back.
    """
    tests = [test for test in tests_of(policy, traffic) if test.guard == guard]
    worse = min(test.times(REGRESSION, factors(policy).index(1.0)) for test in tests)
    median, unlucky = (_rolled_back(policy, traffic, guard, worse, luck) for luck in (1.0, CONDEMNED_LATE))
    return Regression(guard.name, tests[0].measure, worse, *map(_amount, median, unlucky))


# Time: what happens when.


def _when(bar: float, paces: Sequence[float], starts: Sequence[float], delay: float) -> float:
    """Return when the evidence reaches *bar*, gained at *paces* (nats per second) from *starts* (seconds) on."""
    left = bar
    for k, pace in enumerate(paces):
        lasts = starts[k + 1] - starts[k] if k + 1 < len(paces) else inf
        if pace > 0 and left <= pace * lasts:
            return starts[k] + left / pace + delay
        left -= pace * lasts if pace > 0 else 0.0
    return inf


@dataclass(frozen=True)
class _Course:
    """How a release goes in time: when each step starts (and the last one ends), when each guard concludes there."""

    policy: Canary
    tests: tuple[Comparison, ...]
    per_second: float
    starts: tuple[float, ...]
    concluded: tuple[Mapping[str, float], ...]

    def lasts(self, step: int) -> float:
        """Seconds; for ever where a step before does not end either."""
        start, end = self.starts[step : step + 2]
        return end - start if isfinite(start) else inf

    def waits(self, step: int, guard: str) -> float:
        """Return how many seconds of the step *guard* waits for its evidence."""
        start = self.starts[step]
        return max(0.0, self.concluded[step][guard] - start) if isfinite(start) else inf


def _course(policy: Canary, traffic: Traffic, luck: float) -> _Course:
    """Let an identical challenger go up the ladder, at *luck* times the median evidence."""
    assert traffic.per_minute is not None, "what is missing was refused"
    tests, bar = tuple(tests_of(policy, traffic)), luck * log(1 / policy.beta)
    starts, concluded = [0.0], []
    for step in range(len(policy.shares)):
        view = factors(policy).index(policy.tolerance_factor(step))
        at: dict[str, float] = {}
        for test in tests:
            paces = [test.certifies(test.identical, view, share) for share in policy.shares[: step + 1]]
            at[test.guard.name] = max(at.get(test.guard.name, 0.0), _when(bar, paces, starts, test.delay))
        concluded.append(at)
        starts.append(max([starts[-1] + policy.bake, *at.values()]))
    return _Course(policy, tests, traffic.per_minute / 60, tuple(starts), tuple(concluded))


def _in_time(course: _Course) -> bool:
    budget = course.policy.step_budget
    return all(course.waits(k, guard) <= budget for k, at in enumerate(course.concluded) for guard in at)


def _rolled_back(policy: Canary, traffic: Traffic, guard: Guard, worse: float, luck: float) -> tuple[float, float]:
    """Return the seconds and the challenger's requests until one *worse* on *guard* goes back; infinite if never."""
    assert traffic.per_minute is not None, "what is missing was refused"
    tests = tuple(tests_of(policy, traffic))
    worse_ones = [test for test in tests if test.guard == guard]
    late = UNLUCKY if luck > 1 else 1.0
    starts, exposed = [0.0], 0.0
    for step, share in enumerate(policy.shares):
        view = factors(policy).index(policy.tolerance_factor(step))
        start, shares = starts[-1], policy.shares[: step + 1]
        passed = start + policy.bake
        for test in tests:
            size = worse if test.guard == guard else test.identical
            paces = [test.certifies(size, view, part) for part in shares]
            passed = max(passed, _when(late * log(1 / policy.beta), paces, starts, test.delay))
        back = start + _condemned_in(policy, worse_ones, step, worse, luck)
        end = min(passed, back)
        if end - start > policy.step_budget:
            break
        exposed += (end - start) * traffic.per_minute / 60 * share / 100
        if back <= passed:
            return end, exposed
        starts.append(end)
    return inf, inf


def _step(course: _Course, late: _Course, number: int) -> Step:
    policy, share = course.policy, course.policy.shares[number]
    names = dict.fromkeys(test.guard.name for test in course.tests)
    seconds = _amount(course.lasts(number), late.lasts(number))
    needs = []
    for name in names:
        tests = [test for test in course.tests if test.guard.name == name]
        view = factors(policy).index(policy.tolerance_factor(number))
        waits = _amount(course.waits(number, name), late.waits(number, name))
        labelled = tests[0].guard.kind in FROM_LABELS
        needs.append(
            Need(
                guard=name,
                unit="labels" if labelled else "requests",
                measure=tests[0].measure,
                tolerated=min(test.tolerated[view] for test in tests),
                outcomes=Amount(*(max(0.0, wait - tests[0].delay) * tests[0].per_second for wait in waits)),
                seconds=waits,
                exposed=_given(course, share, waits),
                caught=(_caught(policy, tests, number, 1.0), _caught(policy, tests, number, CONDEMNED_LATE)),
            )
        )
    return Step(share, seconds, _given(course, share, seconds), tuple(needs))


def _amount(median: float, unlucky: float) -> Amount:
    # A step that began late for the unlucky has what came meanwhile; that is no luck.
    return Amount(median, max(median, unlucky))


def _given(course: _Course, share: float, seconds: Amount) -> Amount:
    return Amount(*(part * course.per_second * share / 100 for part in seconds))


def _caught(policy: Canary, tests: Sequence[Comparison], step: int, luck: float) -> float | None:
    """Return the smallest regression that is rolled back within the budget of *step*; None when none is."""
    view = factors(policy).index(policy.tolerance_factor(step))

    def seen(worse: float) -> bool:
        return _condemned_in(policy, tests, step, worse, luck) <= policy.step_budget

    low = min(test.times(CLEARLY if luck > 1 else 1.0, view) for test in tests)
    high = max(test.most for test in tests)
    if not seen(high):
        return None
    return low if seen(low) else _least(seen, low, high)


def _counts(test: Comparison, worse: float, view: int, luck: float) -> bool:
    """Say whether a challenger *worse* by so much is beyond what is tolerated; clearly, where luck is bad."""
    return worse >= test.times(CLEARLY if luck > 1 else 1.0, view) * (1 - 1e-9)


def _condemned_in(policy: Canary, tests: Sequence[Comparison], step: int, worse: float, luck: float) -> float:
    """Return after how many seconds of *step* a challenger *worse* on the guard of *tests* is rolled back.

    What came at earlier steps is not counted: a challenger that passed them was tolerated there, or looked better than
    it is.
    """
    view = factors(policy).index(policy.tolerance_factor(step))
    # The mean over guards, and over a guard's quantiles, decides: the others' part is as good as lost.
    bar = luck * (log(1 / policy.alpha) + 1 + log(len(policy.guards)) + log(len(tests)))
    paces = [
        (test.condemns(worse, policy.shares[step]), test.delay) for test in tests if _counts(test, worse, view, luck)
    ]
    return min((bar / pace + delay for pace, delay in paces if pace > 0), default=inf)


def _least(enough: Callable[[float], bool], low: float, high: float) -> float:
    """Return the least number that is *enough*, within a per cent: *low* is not, *high* is."""
    while high - low > 0.01 * abs(high):
        middle = (low * high) ** 0.5 if low > 0 else (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


# What is in the way, and what would clear it.


def _obstacles(policy: Canary, traffic: Traffic, steps: Sequence[Step], total: Amount) -> Iterator[Obstacle]:
    for guard in policy.guards:
        late = [
            (number, need.seconds)
            for number, step in enumerate(steps)
            for need in step.needs
            if need.guard == guard.name and need.seconds.unlucky > policy.step_budget
        ]
        if not late:
            continue
        hopeless = [(number, seconds) for number, seconds in late if seconds.median > policy.step_budget]
        number, seconds = (hopeless or late)[0]
        remedies = tuple(_remedies(policy, traffic, guard, number))
        yield Obstacle(guard.name, number, seconds, policy.step_budget, bool(hopeless), remedies)
    if total.unlucky > policy.budget and all(step.seconds.median <= policy.step_budget for step in steps):
        remedies = (Remedy("budget", (_round_up(total.unlucky),)),) if isfinite(total.unlucky) else ()
        yield Obstacle("", len(steps) - 1, total, policy.budget, total.median > policy.budget, remedies)


def _remedies(policy: Canary, traffic: Traffic, guard: Guard, step: int) -> Iterator[Remedy]:
    """Give what lets *guard*, alone, conclude at every step in the unlucky case."""
    alone = replace(policy, guards=(guard,))

    def enough(changed: Canary, under: Traffic = traffic) -> bool:
        return _in_time(_course(changed, under, UNLUCKY))

    for share in SHARES:
        kept = (*(s for s in policy.shares[:step] if s < share), share, *(s for s in policy.shares if s > share))
        if share > policy.shares[step] and enough(replace(alone, shares=kept)):
            yield Remedy("shares", kept)
            break
    yield from _wider(alone, guard, enough)

    def enough_at(per_minute: float) -> bool:
        return enough(alone, replace(traffic, per_minute=per_minute))

    assert traffic.per_minute is not None, "what is missing was refused"
    if enough_at(1e6 * traffic.per_minute):
        yield Remedy("per_minute", (_round_up(_least(enough_at, traffic.per_minute, 1e6 * traffic.per_minute)),))
    course = _course(alone, traffic, UNLUCKY)
    longest = max(course.waits(k, guard.name) for k in range(len(policy.shares)))
    if isfinite(longest):
        yield Remedy("step_budget", (_round_up(longest),))


def _wider(alone: Canary, guard: Guard, enough: Callable[[Canary], bool]) -> Iterator[Remedy]:
    """Give the least margin, or the least ratio for each quantile, that is enough."""
    if guard.limit is not None:
        return
    if guard.kind is not GuardKind.LATENCY:
        widest = 0.5 * guard.width

        def with_margin(margin: float) -> bool:
            return enough(replace(alone, guards=(replace(guard, margin=margin),)))

        if with_margin(widest):
            yield Remedy("margin", (_round_up(_least(with_margin, guard.margin, widest)),))
        return
    wider: list[float] = []
    for quantile, ratio in guard.ratios:

        def with_ratio(given: float, quantile: float = quantile) -> bool:
            return enough(replace(alone, guards=(replace(guard, ratios=((quantile, given),)),)))

        if with_ratio(ratio):
            wider += (quantile, ratio)
        elif with_ratio(SLOWEST):
            wider += (quantile, _round_up(_least(with_ratio, ratio, SLOWEST)))
        else:
            return
    yield Remedy("ratios", tuple(wider))


def _round_up(value: float) -> float:
    """Round up to two digits: a forecast has no more."""
    unit = 10.0 ** (floor(log10(value)) - 1)
    return float(f"{ceil(value / unit - 1e-9) * unit:.6g}")
