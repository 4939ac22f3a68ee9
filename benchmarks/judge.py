"""Whether the judge keeps its promises: how often it is wrong, and how many requests it takes.

Run as a script.  Every goal is measured on streams drawn with seeds (`streams.py`) and printed with a 95 % confidence
interval: `ok` and `missed` are said when the interval lies on one side of the goal, else `open`: more `--runs` would
tell.  The exit code is 1 when a goal is missed.  "Requests" are those of both versions; a run that came to no end
counts as the longest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from math import ceil, inf, sqrt
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import beta, binom
from streams import Arm, Labelling, Recording, Traffic, record, steady

from modelcd.domain.judge import judgement, start, update
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.samples import Block, Counters, Labels
from modelcd.domain.verdict import Verdict

SHARES = (0.05, 0.25, 0.50)


def errors(points: float) -> Guard:
    """A guard that tolerates so many percentage points more failures."""
    return Guard("errors", GuardKind.ERRORS, points / 100)


def accuracy(points: float) -> Guard:
    """A guard that tolerates so many percentage points more wrong answers."""
    return Guard("success", GuardKind.SUCCESS, points / 100)


def latency(ratio: float) -> Guard:
    """A guard that tolerates p50, p90 and p99 to be *ratio* times as long."""
    return Guard("latency", GuardKind.LATENCY, ratios=((0.5, ratio), (0.9, ratio), (0.99, ratio)))


# -- one run -----------------------------------------------------------------------------------------------------------


class Ending(NamedTuple):
    """How one run ended: the verdict (a value of `Verdict`), requests of both arms, requests of the challenger."""

    verdict: str
    requests: float
    exposed: float


@dataclass(frozen=True)
class Judged:
    """Our judge under *guards*; with `watch` a PASS does not end the run, only a rollback does."""

    guards: tuple[Guard, ...]
    watch: bool = False

    def __call__(self, recording: Recording) -> Ending:
        """Judge one run, looking after every tick."""
        judge = start(Canary((100 * float(recording.share[0]),), self.guards))
        for tick, block in enumerate(blocks(recording)):
            judge = update(judge, block)
            verdict = judgement(judge, 0).verdict
            if verdict is Verdict.FAIL or (verdict is Verdict.PASS and not self.watch):
                return ended(verdict, recording, tick)
        return Ending(Verdict.INCONCLUSIVE, inf, inf)


def ended(verdict: Verdict, recording: Recording, tick: int) -> Ending:
    """Return the ending of a run at the end of *tick*."""
    baseline, challenger = recording.requests[: tick + 1].sum(axis=0).tolist()
    return Ending(verdict, baseline + challenger, challenger)


def blocks(recording: Recording) -> Iterator[Block]:
    """The ticks of *recording* as the judge gets them."""
    ticks, at = len(recording.requests), recording.ended.tolist()
    requests, failures = recording.requests.tolist(), recording.failures.tolist()
    nothing = Counters().latency
    for tick in range(ticks):
        arms = [
            Counters(
                requests[tick][arm],
                failures[tick][arm],
                nothing if recording.latencies is None else tuple(recording.latencies[tick, arm].tolist()),
            )
            for arm in (0, 1)
        ]
        share = 100 * float(recording.share[tick])
        yield block(f"r{recording.stage[tick]}", share, arms, labels_of(recording, tick), 0.06 * at[tick])


def labels_of(recording: Recording, tick: int) -> dict[str, tuple[Labels, Labels]]:
    """The labels that arrive at *tick*, by the revision under which their requests were served."""
    if recording.labels is None or recording.wrong is None or not recording.labels[tick].any():
        return {}
    pairs = zip(recording.labels[tick].tolist(), recording.wrong[tick].tolist(), strict=True)
    return {
        f"r{stage}": (Labels(n[0], bad[0]), Labels(n[1], bad[1]))
        for stage, (n, bad) in enumerate(pairs)
        if n[0] or n[1]
    }


BLOCK = {item.name for item in fields(Block)}


def block(
    revision: str, share: float, arms: Sequence[Counters], labels: dict[str, Any], seconds: float, step: int = 0
) -> Block:
    """One tick; what the judge's block has no field for is left out."""
    made = Block(revision, step, arms[0], arms[1], share=share)
    if "sums" in BLOCK:
        made = replace(made, at=seconds, labels={"success": labels} if labels else {})
    else:
        made = replace(made, labels=labels)
    return made


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
    runs, hits = len(endings), sum(ending.verdict == verdict for ending in endings)
    low = float(beta.ppf(0.025, hits, runs - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, runs - hits)) if hits < runs else 1.0
    return Measured(hits / runs, low, high)


def middle(endings: Sequence[Ending], verdict: Verdict, quantile: float = 0.5) -> Measured:
    """The quantile of the requests until *verdict*, with limits from order statistics; other endings count as never."""
    sizes = sorted(ending.requests if ending.verdict == verdict else inf for ending in endings)
    runs = len(sizes)
    low, high = (int(binom.ppf(p, runs, quantile)) for p in (0.025, 0.975))
    limits = sizes[max(0, low - 1)], sizes[high] if high < runs else inf
    return Measured(sizes[ceil(quantile * runs) - 1], *limits)


@dataclass(frozen=True)
class Goal:
    """What is promised of a case: a part of the runs, or the median of the requests, at most or at least so much."""

    number: int
    what: str
    case: Case
    verdict: Verdict
    goal: float
    stretch: float | None = None
    of: str = "median"
    at_least: bool = False

    def measured(self, endings: Sequence[Ending]) -> Measured:
        """Return what this goal is about."""
        return part(endings, self.verdict) if self.of == "part" else middle(endings, self.verdict)

    def said(self, found: Measured, limit: float) -> str:
        """Say whether *limit* is kept, as far as the runs can tell."""
        kept, broken = (
            (found.low >= limit, found.high < limit)
            if self.at_least
            else (
                found.high <= limit,
                found.low > limit,
            )
        )
        return "ok" if kept else "missed" if broken else "open"

    def shown(self, value: float | None) -> str:
        """Return *value* in this goal's unit."""
        if value is None:
            return ""
        if self.of == "part":
            return f"{100 * value:.3g} %"
        return "never" if value == inf else f"{value:,.0f}"


def fixed_n(bad: float, good: float, share: float, alpha: float = 0.01, power: float = 0.8) -> float:
    """Return how many requests of both arms a one-sided z-test needs that looks once, when the number is known."""
    z_alpha, z_power = statistics.NormalDist().inv_cdf(1 - alpha), statistics.NormalDist().inv_cdf(power)
    pooled = share * bad + (1 - share) * good
    null = pooled * (1 - pooled) * (1 / share + 1 / (1 - share))
    true = bad * (1 - bad) / share + good * (1 - good) / (1 - share)
    return float((z_alpha * sqrt(null) + z_power * sqrt(true)) ** 2 / (bad - good) ** 2)


def percent(share: float) -> str:
    """Return a share as people write it."""
    return f"at {100 * share:g} %"


TOLERANCE = {0.5: 0.5, 2: 1.0, 10: 2.0}
"""Percentage points tolerated for a baseline's per cent of failures."""


def wrong_promotions() -> Iterator[Goal]:
    """Goal 3: the challenger is worse by just the tolerance."""
    for rate, points in TOLERANCE.items():
        for share in SHARES:
            traffic = steady(f"on {rate}", share, Arm((rate + points) / 100), Arm(rate / 100))
            case = Case(traffic, Judged((errors(points),)))
            what = f"errors {rate:g} → {rate + points:g} %, +{points:g}pp tolerated, {percent(share)}"
            yield Goal(3, what, case, Verdict.PASS, 0.05, of="part")
    for share in (0.25, 0.50):
        traffic = steady("on latency", share, Arm(slow=1.25), Arm())
        case = Case(replace(traffic, latencies=True), Judged((latency(1.25),)))
        yield Goal(3, f"latency x1.25, x1.25 tolerated, {percent(share)}", case, Verdict.PASS, 0.05, of="part")


REGRESSIONS = ((0.5, 1), (0.5, 2.5), (2, 4), (2, 7), (2, 10), (2, 30))


def found_errors() -> Iterator[Goal]:
    """Goals 4, 5 and 6: more failures, with what is tolerated at such a rate."""
    tight = {(2, 4): {0.05: (5, 18_500, 14_900), 0.25: (5, 5_300, 4_000), 0.50: (5, 4_400, 3_400)}}
    tight[2, 30] = {0.05: (6, 540, 300)}
    for good, bad in REGRESSIONS:
        for share in SHARES:
            traffic = steady(f"{good} to {bad}", share, Arm(bad / 100), Arm(good / 100))
            case = Case(traffic, Judged((errors(TOLERANCE[good]),)))
            what, once = f"errors {good:g} → {bad:g} %, {percent(share)}", fixed_n(bad / 100, good / 100, share)
            stretch = 1.2 * once + 200 if bad == 2 * good else None
            yield Goal(4, what, case, Verdict.FAIL, 1.4 * once + 300, stretch)
            if share in tight.get((good, bad), {}):
                number, goal, further = tight[good, bad][share]
                yield Goal(number, what, case, Verdict.FAIL, goal, further)
    case = Case(steady("2 to 100", 0.05, Arm(1.0), Arm(0.02)), Judged((errors(1),)))
    yield Goal(6, "errors 2 → 100 %, at 5 %", case, Verdict.FAIL, 200, 100)


def found_latency() -> Iterator[Goal]:
    """Goal 7: slower."""
    for what, arm, goal, stretch in (
        ("p99 x1.5, the median the same", Arm(tail=1.5), 2_700, 1_900),
        ("all latencies +20 %", Arm(slow=1.2), 1_900, 1_300),
    ):
        traffic = replace(steady(what, 0.25, arm, Arm()), latencies=True)
        yield Goal(7, f"{what}, at 25 %", Case(traffic, Judged((latency(1.25),))), Verdict.FAIL, goal, stretch)


def promotions() -> Iterator[Goal]:
    """Goal 10: the challenger is the same."""
    for share, goal, stretch in ((0.25, 9_000, 7_200), (0.05, 36_000, 29_600)):
        case = Case(steady("same, 2", share, Arm()), Judged((errors(1),)))
        yield Goal(10, f"same, errors 2 %, +1pp, {percent(share)}", case, Verdict.PASS, goal, stretch)
    case = Case(replace(steady("same, latency", 0.25, Arm()), latencies=True), Judged((latency(1.25),)))
    yield Goal(10, "same, latency x1.25, at 25 %", case, Verdict.PASS, 10_000, 7_200)
    labelled = replace(steady("same, accuracy", 0.25, Arm()), labels=Labelling())
    case = Case(labelled, Judged((accuracy(2),)))
    yield Goal(10, "same, accuracy 90 %, -2pp, 20 % labels, at 25 %", case, Verdict.PASS, 60_000, 51_600)


TABLES: dict[str, Callable[[], Iterable[Goal]]] = {
    "wrong promotions": wrong_promotions,
    "found: errors": found_errors,
    "found: latency": found_latency,
    "promoted": promotions,
}


# -- running and telling -----------------------------------------------------------------------------------------------

CHUNK = 10
"""Runs that a worker does in one go."""


def work(task: tuple[Case, range]) -> tuple[Case, list[Ending]]:
    """Do some runs of a case."""
    case, seeds = task
    return case, [case.rule(record(case.traffic, seed)) for seed in seeds]


def endings_of(cases: Sequence[Case], runs: int, workers: int) -> dict[Case, list[Ending]]:
    """Return how all runs of every case ended."""
    tasks = []
    for case in cases:
        cuts = [*range(0, max(1, round(runs * case.effort)), CHUNK), max(1, round(runs * case.effort))]
        tasks += [(case, range(a, b)) for a, b in pairwise(cuts)]
    endings: dict[Case, list[Ending]] = {case: [] for case in cases}
    if workers == 1:
        done = map(work, tasks)
        for case, some in done:
            endings[case] += some
        return endings
    with get_context("spawn").Pool(workers) as pool:
        for case, some in pool.imap(work, tasks):
            endings[case] += some
    return endings


KEYS = ("number", "what", "measured", "interval", "goal", "said", "stretch", "stretch said", "runs")
HEAD = ("goal", "what", "measured", "95 % interval", "goal", "", "stretch", "", "runs")


def row(goal: Goal, endings: Sequence[Ending]) -> tuple[str, ...]:
    """One line of the table."""
    found = goal.measured(endings)
    sign = "≥ " if goal.at_least else "≤ "
    stretch = ("", "") if goal.stretch is None else (sign + goal.shown(goal.stretch), goal.said(found, goal.stretch))
    return (
        str(goal.number),
        goal.what,
        goal.shown(found.value),
        f"{goal.shown(found.low)} to {goal.shown(found.high)}",
        sign + goal.shown(goal.goal),
        goal.said(found, goal.goal),
        *stretch,
        f"{len(endings):,}",
    )


def table(rows: Sequence[Sequence[str]], head: Sequence[str], *, markdown: bool) -> str:
    """Return *rows* with *head* as text in columns, or as a table of Markdown."""
    if markdown:
        lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
        return "\n".join(lines)
    widths = [max(len(cells[column]) for cells in (head, *rows)) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in (head, *rows)
    )


def main(report: Callable[[str], None] = print) -> int:
    """Measure every goal, print the tables, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40, help="of each case")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--only", default="", metavar="NAME", help=f"one of: {', '.join(TABLES)}")
    parser.add_argument("--markdown", action="store_true", help="tables of Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was measured")
    given = parser.parse_args()
    missed, told, began = False, [], time.perf_counter()
    for name, goals_of in TABLES.items():
        if given.only not in name:
            continue
        goals = list(goals_of())
        endings = endings_of(list(dict.fromkeys(goal.case for goal in goals)), given.runs, given.workers)
        rows = [row(goal, endings[goal.case]) for goal in goals]
        missed = missed or any(cells[5] == "missed" for cells in rows)
        told += [
            dict(zip(("number", "what", "measured", "interval", "goal", "said"), cells, strict=False)) for cells in rows
        ]
        report(f"\n## {name}\n\n{table(rows, HEAD, markdown=given.markdown)}")
    report(f"\n{given.runs} runs, {time.perf_counter() - began:.0f} s")
    if given.json:
        given.json.write_text(json.dumps(told, indent=1), encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
