"""What the judge promises, as cases to be measured: our rule, the guards, and for each goal its traffic and its limit.

The numbers are those of the goals; "at" is the challenger's share of the requests.  Where a goal gives no tolerance,
failures may be 0.5, 1 and 2 points more at 0.5, 2 and 10 %, wrong answers 2 points more, p50, p90 and p99 1.25 times
as long.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, sqrt
from typing import Any, NamedTuple

from peers import UNDECIDED, Ending, ended
from scipy.stats import beta, binom
from streams import Arm, Labelling, Recording, Span, Traffic, peeked, record, steady

from modelcd.domain.judge import finding, start, update
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.samples import Block, Counters, Labels
from modelcd.domain.verdict import Verdict

SHARES = (0.05, 0.25, 0.50)
TOLERANCE = {0.5: 0.5, 2: 1.0, 10: 2.0}
"""Percentage points tolerated for a baseline's per cent of failures."""

NEXT_TO_NOTHING = 0.05
"""A tolerance in points that no run certifies and that holds no rollback back: the hardest test of false alarms."""


# -- our rule ----------------------------------------------------------------------------------------------------------


def errors(points: float) -> Guard:
    """A guard that tolerates so many percentage points more failures."""
    return Guard("errors", GuardKind.ERRORS, points / 100)


def accuracy(points: float) -> Guard:
    """A guard that tolerates so many percentage points more wrong answers."""
    return Guard("success", GuardKind.SUCCESS, points / 100)


def latency(p50: float, p90: float | None = None, p99: float | None = None) -> Guard:
    """A guard that tolerates these ratios; the first for all quantiles when it is alone."""
    return Guard("latency", GuardKind.LATENCY, ratios=((0.5, p50), (0.9, p90 or p50), (0.99, p99 or p50)))


ALL = (errors(1), latency(1.25), accuracy(2))
ABOUT_ALL = ("errors", "latency", "accuracy")


@dataclass(frozen=True)
class Judged:
    """Our judge under *guards*, looking after every tick; with `watch` only a rollback ends the run, not a PASS."""

    guards: tuple[Guard, ...]
    watch: bool = False

    def watches(self, about: tuple[str, ...]) -> bool:
        """Say whether this rule sees anything of such traffic."""
        return bool(about)

    def __call__(self, recording: Recording) -> Ending:
        """Judge one run."""
        judge = start(Canary((100 * float(recording.share[0]),), self.guards))
        for tick, block in enumerate(blocks(recording)):
            judge = update(judge, seen_by(block, self.guards))
            verdict = finding(judge, 0).verdict
            if verdict is Verdict.FAIL or (verdict is Verdict.PASS and not self.watch):
                return ended(verdict, recording, tick)
        return UNDECIDED


@dataclass(frozen=True)
class Climbed:
    """Our judge on a ladder: each PASS moves on to the next of *shares*, the last one promotes."""

    guards: tuple[Guard, ...]
    shares: tuple[float, ...] = SHARES

    def __call__(self, recording: Recording) -> Ending:
        """Judge one run, drawn anew for each share."""
        traffic, requests, exposed = recording.traffic, 0, 0
        judge = start(Canary(tuple(100 * share for share in self.shares), self.guards))
        for step, share in enumerate(self.shares):
            (span,) = traffic.spans
            here = record(
                replace(traffic, name=f"{traffic.name} {step}", spans=(span._replace(share=share),)), recording.seed
            )
            before = judge.at or 0.0
            for block in blocks(here, step):
                judge = update(judge, replace(seen_by(block, self.guards), at=before + (block.at or 0.0)))
                verdict = finding(judge, step).verdict
                requests += block.baseline.requests + block.challenger.requests
                exposed += block.challenger.requests
                if verdict is Verdict.FAIL:
                    return Ending(verdict, requests, exposed)
                if verdict is Verdict.PASS:
                    break
            else:
                return UNDECIDED
        return Ending(Verdict.PASS, requests, exposed)


def blocks(recording: Recording, step: int = 0) -> Iterator[Block]:
    """The ticks of *recording* as the judge gets them."""
    at, nothing = recording.ended.tolist(), Counters().latency
    requests, failures = recording.requests.tolist(), recording.failures.tolist()
    for tick, stage in enumerate(recording.stage.tolist()):
        baseline, challenger = (
            Counters(
                requests[tick][arm],
                failures[tick][arm],
                nothing if recording.latencies is None else tuple(recording.latencies[tick, arm].tolist()),
            )
            for arm in (0, 1)
        )
        made = Block(f"{step}.{stage}", step, baseline, challenger, share=100 * float(recording.share[tick]))
        labels = labels_of(recording, tick, step)
        yield replace(made, at=0.06 * at[tick], labels={"success": labels} if labels else {})


def seen_by(block: Block, guards: Sequence[Guard]) -> Block:
    """Return *block* without labels that none of *guards* is fed by."""
    names = {guard.name for guard in guards}
    return replace(block, labels={name: served for name, served in block.labels.items() if name in names})


def labels_of(recording: Recording, tick: int, step: int) -> dict[str, tuple[Labels, Labels]]:
    """The labels that arrive at *tick*, by the revision under which their requests were served."""
    if recording.labels is None or recording.wrong is None or not recording.labels[tick].any():
        return {}
    pairs = zip(recording.labels[tick].tolist(), recording.wrong[tick].tolist(), strict=True)
    return {
        f"{step}.{stage}": (Labels(n[0], bad[0]), Labels(n[1], bad[1]))
        for stage, (n, bad) in enumerate(pairs)
        if n[0] or n[1]
    }


# -- what is measured --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A rule on a kind of traffic; `effort` multiplies the number of runs."""

    traffic: Traffic
    rule: Callable[[Recording], Ending]
    effort: float = 1.0


class Measured(NamedTuple):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def part(endings: Sequence[Ending], verdict: Verdict) -> Measured:
    """How many runs ended so, with Clopper and Pearson's exact limits."""
    runs, hits = len(endings), sum(ending.verdict is verdict for ending in endings)
    low = float(beta.ppf(0.025, hits, runs - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, runs - hits)) if hits < runs else 1.0
    return Measured(hits / runs, low, high)


def middle(endings: Sequence[Ending], verdict: Verdict, quantile: float = 0.5, *, exposed: bool = False) -> Measured:
    """The quantile of the requests until *verdict*, with limits from order statistics; other endings count as never."""
    reached = [(e.exposed if exposed else e.requests) if e.verdict is verdict else inf for e in endings]
    sizes, runs = sorted(reached), len(endings)
    low, high = (int(binom.ppf(p, runs, quantile)) for p in (0.025, 0.975))
    limits = sizes[low - 1] if low else 0.0, sizes[high] if high < runs else inf
    return Measured(sizes[ceil(quantile * runs) - 1], *limits)


@dataclass(frozen=True)
class Goal:
    """What is promised of a case: of "part" (of the runs), "median" (of the requests) or "exposed" (the challenger's).

    A goal of None is a figure, printed and not enforced; `number` 0 is one that is no goal of the list.
    """

    number: int
    what: str
    case: Case
    verdict: Verdict
    goal: float | None = None
    stretch: float | None = None
    of: str = "median"
    at_least: bool = False

    def measured(self, endings: Sequence[Ending]) -> Measured:
        """Return what this goal is about."""
        if self.of == "part":
            return part(endings, self.verdict)
        return middle(endings, self.verdict, exposed=self.of == "exposed")

    def said(self, found: Measured, limit: float | None) -> str:
        """Say whether *limit* is kept, as far as the runs can tell."""
        if limit is None:
            return ""
        if self.at_least:
            kept, broken = found.low >= limit, found.high < limit
        else:
            kept, broken = found.high <= limit, found.low > limit
        return "ok" if kept else "missed" if broken else "open"


def fixed_n(bad: float, good: float, share: float, alpha: float = 0.01, power: float = 0.8) -> float:
    """Return how many requests of both arms a one-sided z-test needs that looks once, when the number is known."""
    z_alpha, z_power = (statistics.NormalDist().inv_cdf(p) for p in (1 - alpha, power))
    pooled = share * bad + (1 - share) * good
    null = pooled * (1 - pooled) * (1 / share + 1 / (1 - share))
    true = bad * (1 - bad) / share + good * (1 - good) / (1 - share)
    return float((z_alpha * sqrt(null) + z_power * sqrt(true)) ** 2 / (bad - good) ** 2)


def at(share: float) -> str:
    """Return a share as people write it."""
    return f"at {100 * share:g} %"


def same_errors(rate: float, share: float) -> Traffic:
    """Two versions that fail equally often."""
    return steady(f"same, errors {rate:g} %", share, Arm(rate / 100))


def worse_errors(good: float, bad: float, share: float) -> Traffic:
    """A challenger that fails more often."""
    return steady(f"errors {good:g} to {bad:g} %", share, Arm(bad / 100), Arm(good / 100))


def false_rollbacks() -> Iterator[Goal]:
    """Goal 1: the challenger is the same, and all but nothing is tolerated."""
    tight = (errors(NEXT_TO_NOTHING),)
    limits: dict[str, Any] = {"verdict": Verdict.FAIL, "goal": 0.01, "of": "part"}
    for rate in TOLERANCE:
        for share in SHARES:
            yield Goal(
                1, f"errors {rate:g} %, {at(share)}", Case(same_errors(rate, share), Judged(tight, True)), **limits
            )
    for about, guards in (
        (("latency",), (latency(1.02),)),
        (("accuracy",), (accuracy(NEXT_TO_NOTHING),)),
        (ABOUT_ALL, (*tight, latency(1.02), accuracy(NEXT_TO_NOTHING))),
    ):
        name = about[0] if len(about) == 1 else "all guards"
        for share in SHARES:
            traffic = steady(f"same, {name}", share, Arm(), about=about)
            yield Goal(1, f"{name}, {at(share)}", Case(traffic, Judged(guards, True)), **limits)
    for tick, shares in ((10, (0.25,)), (1000, SHARES), (5000, SHARES)):
        for share in shares:
            case = Case(peeked(same_errors(2, share), tick), Judged(tight, True), effort=0.5 if tick == 10 else 1)
            yield Goal(1, f"errors 2 %, {at(share)}, a look every {tick:,}", case, **limits)


def ramp(name: str, spans: Sequence[tuple[int, Arm]], about: tuple[str, ...] = ("errors",), **more: Any) -> Traffic:
    """Identical versions over 5, 25 and 50 %, a third of the requests each, with *spans* of (until, both arms)."""
    cuts, made, begun = sorted({30_000, 60_000, 100_000, *(until for until, _ in spans)}), [], 0
    for cut in cuts:
        share = SHARES[0] if cut <= 30_000 else SHARES[1] if cut <= 60_000 else SHARES[2]
        arm = next(arm for until, arm in spans if cut <= until)
        made.append(Span(cut - begun, share, arm, arm))
        begun = cut
    return Traffic(name, tuple(made), about=about, **more)


CALM, INCIDENT = Arm(), Arm(0.20)
RAMP = ramp("incident over a step", ((57_500, CALM), (62_500, INCIDENT), (100_000, CALM)))
COMPLAINTS = ramp(
    "complaints first",
    ((100_000, CALM),),
    ("accuracy",),
    labels=Labelling(delay=20_000, wrong_delay=2_000, spread=True),
)
DRIFT = Traffic(
    "latency doubles for both",
    tuple(Span(n, 0.25, arm, arm) for n, arm in ((20_000, CALM), (30_000, Arm(slow=2.0)), (50_000, CALM))),
    about=("latency",),
)
FLAT = Traffic(
    "incident at 25 %",
    tuple(Span(n, 0.25, arm, arm) for n, arm in ((20_000, CALM), (5_000, INCIDENT), (75_000, CALM))),
)
LATE = Traffic("late", (Span(50_000, 0.25, CALM, CALM), Span(50_000, 0.25, CALM, Arm(0.04))))


def stress() -> Iterator[Goal]:
    """Goals 2 and 11: bad days that are not the challenger's fault, and one that is, late."""
    tight = (errors(NEXT_TO_NOTHING),)
    for what, traffic, guards in (
        ("a 5-minute incident of both, at 25 %", FLAT, tight),
        ("ramp 5, 25, 50 %, that incident over a step", RAMP, tight),
        ("ramp, wrong answers labelled 10 times sooner", COMPLAINTS, (accuracy(NEXT_TO_NOTHING),)),
        ("both arms' latency doubles for 30 minutes", DRIFT, (latency(1.02),)),
    ):
        yield Goal(2, f"{what}: rolled back", Case(traffic, Judged(guards, True)), Verdict.FAIL, 0.01, of="part")
    case = Case(LATE, Judged((errors(1),), True))
    yield Goal(11, "errors 2 → 4 % after 50,000 good requests", case, Verdict.FAIL, 62_000, 58_700)


def wrong_promotions() -> Iterator[Goal]:
    """Goal 3: the challenger is worse by just the tolerance."""
    limits: dict[str, Any] = {"verdict": Verdict.PASS, "goal": 0.05, "of": "part"}
    for rate, points in TOLERANCE.items():
        for share in SHARES:
            case = Case(worse_errors(rate, rate + points, share), Judged((errors(points),)))
            yield Goal(
                3, f"errors {rate:g} → {rate + points:g} %, +{points:g}pp tolerated, {at(share)}", case, **limits
            )
    for share in (0.25, 0.50):
        traffic = steady("latency x1.25", share, Arm(slow=1.25), Arm(), about=("latency",))
        case = Case(traffic, Judged((latency(1.25),)))
        yield Goal(3, f"latency x1.25, x1.25 tolerated, {at(share)}", case, **limits)
        traffic = steady("accuracy 90 to 88 %", share, Arm(wrong=0.12), Arm(), about=("accuracy",))
        yield Goal(
            3, f"accuracy 90 → 88 %, -2pp tolerated, {at(share)}", Case(traffic, Judged((accuracy(2),))), **limits
        )


REGRESSIONS = ((0.5, 1), (0.5, 2.5), (2, 4), (2, 7), (2, 10), (2, 30))


def found_errors() -> Iterator[Goal]:
    """Goals 4, 5 and 6: more failures, with what is tolerated at such a rate."""
    tight = {(2, 4): {0.05: (5, 18_500, 14_900), 0.25: (5, 5_300, 4_000), 0.50: (5, 4_400, 3_400)}}
    tight[2, 30] = {0.05: (6, 540, 300)}
    for good, bad in REGRESSIONS:
        for share in SHARES:
            case = Case(worse_errors(good, bad, share), Judged((errors(TOLERANCE[good]),)))
            what, once = f"errors {good:g} → {bad:g} %, {at(share)}", fixed_n(bad / 100, good / 100, share)
            stretch = 1.2 * once + 200 if bad == 2 * good else None
            yield Goal(4, what, case, Verdict.FAIL, 1.4 * once + 300, stretch)
            if share in tight.get((good, bad), {}):
                number, goal, further = tight[good, bad][share]
                yield Goal(number, what, case, Verdict.FAIL, goal, further)
    case = Case(worse_errors(2, 100, 0.05), Judged((errors(1),)))
    yield Goal(6, "errors 2 → 100 %, at 5 %", case, Verdict.FAIL, 200, 100)


WIDE, TAIL, SLOW = Arm(wide=1.5), Arm(tail=1.5), Arm(slow=1.2)


def found_others() -> Iterator[Goal]:
    """Goals 7, 8 and 9: slower, more often wrong, and with all guards on."""

    def of(arm: Arm, share: float, *guards: Guard, about: tuple[str, ...] = ("latency",)) -> Case:
        return Case(steady(f"{arm}", share, arm, Arm(), about=about), Judged(guards))

    small = latency(1.10, 1.15, 1.25)
    yield Goal(7, "p99 x1.5, wider, at 25 %", of(WIDE, 0.25, latency(1.25)), Verdict.FAIL, 2_700, 1_900)
    yield Goal(
        7, "latency +20 %, x1.10 x1.15 x1.25 tolerated, at 25 %", of(SLOW, 0.25, small), Verdict.FAIL, 1_900, 1_300
    )
    yield Goal(0, "p99 x1.5, only above p90, at 25 %", of(TAIL, 0.25, latency(1.25)), Verdict.FAIL)
    yield Goal(0, "latency +20 %, x1.25 tolerated, at 25 %", of(SLOW, 0.25, latency(1.25)), Verdict.FAIL, of="part")
    for share, goal in ((0.25, 0.85), (0.50, 0.90)):
        case = of(Arm(wrong=0.13), share, accuracy(2), about=("accuracy",))
        what = f"accuracy 90 → 87 %, 20 % labels, {at(share)}"
        yield Goal(8, f"{what}: rolled back", case, Verdict.FAIL, goal, goal + 0.09, of="part", at_least=True)
        yield Goal(0, what, case, Verdict.FAIL)
    case = of(Arm(0.04), 0.25, *ALL, about=ABOUT_ALL)
    yield Goal(9, "all guards, errors 2 → 4 %, at 25 %", case, Verdict.FAIL, 6_500, 5_800)
    yield Goal(
        9, "all guards, p99 x1.5, wider, at 25 %", of(WIDE, 0.25, *ALL, about=ABOUT_ALL), Verdict.FAIL, 3_000, 2_100
    )


def promotions() -> Iterator[Goal]:
    """Goal 10: the challenger is the same; and 12: it is worse by half the tolerance."""
    for share, goal, stretch in ((0.25, 9_000, 7_200), (0.05, 36_000, 29_600)):
        case = Case(same_errors(2, share), Judged((errors(1),)))
        yield Goal(10, f"same, errors 2 %, +1pp, {at(share)}", case, Verdict.PASS, goal, stretch)
    for name, guards, goal, stretch in (
        ("latency", (latency(1.25),), 10_000, 7_200),
        ("accuracy", (accuracy(2),), 60_000, 51_600),
    ):
        case = Case(steady(f"same, {name}", 0.25, Arm(), about=(name,)), Judged(guards))
        yield Goal(10, f"same, {name}, at 25 %", case, Verdict.PASS, goal, stretch)
    for share in SHARES[1:]:
        case = Case(worse_errors(2, 2.5, share), Judged((errors(1),)))
        yield Goal(12, f"half the tolerance, {at(share)}: rolled back", case, Verdict.FAIL, 0.25, of="part")
        case = replace(case, rule=Judged((errors(1),), True))
        yield Goal(12, f"the same, never promoted, {at(share)}: rolled back", case, Verdict.FAIL, 0.25, of="part")


def ladders() -> Iterator[Goal]:
    """Figures without a goal: the ladder of 5, 25, 50 %, on which 5, 2 and 1 times the tolerance are allowed."""
    for what, guards, about in (("errors 2 %", (errors(1),), ("errors",)), ("all guards", ALL, ABOUT_ALL)):
        case = Case(steady(f"ladder, {what}", 0.05, Arm(), about=about), Climbed(guards))
        yield Goal(0, f"same, {what}: promoted", case, Verdict.PASS, of="part", at_least=True)
        yield Goal(0, f"same, {what}: promoted after", case, Verdict.PASS)
    for bad in (4, 10, 30):
        case = Case(steady(f"ladder, {bad}", 0.05, Arm(bad / 100), Arm()), Climbed((errors(1),)))
        yield Goal(0, f"errors 2 → {bad} %: rolled back after", case, Verdict.FAIL)
        yield Goal(0, f"errors 2 → {bad} %: the challenger's requests", case, Verdict.FAIL, of="exposed")


GOALS: dict[str, Callable[[], Iterator[Goal]]] = {
    "promotions": promotions,
    "regressions in errors": found_errors,
    "other regressions": found_others,
    "wrong promotions": wrong_promotions,
    "ladder": ladders,
    "bad days": stress,
    "false rollbacks": false_rollbacks,
}
