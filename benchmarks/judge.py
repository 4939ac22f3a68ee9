"""Whether the judge keeps its promises, and how the rules of others do on the same traffic.

Run as a script.  What is measured is in `goals.py`, the traffic (drawn with seeds) in `streams.py`, the others' rules
in `peers.py`.  Every goal is printed with a 95 % confidence interval: "ok" and "missed" are said when all of the
interval lies on one side of the goal, else "open", and more `--runs` would tell.  The exit code is 1 when a goal is
missed.  "Requests" are those of both versions until the verdict; a run that came to no verdict counts as "never".

`--markdown FILE` writes the tables into a document, each between the lines `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf, log
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from goals import (
    ALL,
    COMPLAINTS,
    DRIFT,
    FLAT,
    GOALS,
    LATE,
    RAMP,
    SHARES,
    TAIL,
    TOLERANCE,
    WIDE,
    Case,
    Goal,
    Judged,
    accuracy,
    blocks,
    errors,
    latency,
    middle,
    part,
    same_errors,
    seen_by,
    worse_errors,
)
from peers import Ending, Kayenta, Peeked, Window
from streams import Arm, Traffic, buckets, record, steady

from modelcd.domain import checks, samples, series
from modelcd.domain import judge as judging
from modelcd.domain.judge import Judge, finding, start, update
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.samples import Block, Counters
from modelcd.domain.verdict import Verdict

Row = tuple[str, ...]
Endings = Mapping[Case, Sequence[Ending]]

CHUNK = 10
"""Runs that a worker does in one go."""

FEW = 200
"""Below so many runs nothing can be told of a chance of 1 %: then a quarter is done of the long runs that count it."""


# -- running -----------------------------------------------------------------------------------------------------------


def work(task: tuple[Traffic, Sequence[Case], range]) -> list[tuple[Case, list[Ending]]]:
    """Do some runs of one traffic under several rules: each run is drawn once."""
    traffic, cases, seeds = task
    drawn = [record(traffic, seed) for seed in seeds] if len(cases) > 1 else []
    return [
        (case, [case.rule(drawn[k] if drawn else record(traffic, seed)) for k, seed in enumerate(seeds)])
        for case in cases
    ]


def endings_of(cases: Iterable[Case], runs: int, workers: int, ratio: float = 0.0) -> dict[Case, list[Ending]]:
    """Return how all runs of every case ended; with a *ratio*, under a judge with that grid of latencies."""
    endings: dict[Case, list[Ending]] = {case: [] for case in cases}
    kinds: dict[tuple[Traffic, float], list[Case]] = {}
    for case in endings:
        kinds.setdefault((case.traffic, case.effort), []).append(case)
    tasks = []
    for (traffic, effort), some in kinds.items():
        most = max(1, round(runs * effort))
        tasks += [(traffic, some, range(a, b)) for a, b in pairwise([*range(0, most, CHUNK), most])]
    if workers == 1 and not ratio:
        done: Iterable[list[tuple[Case, list[Ending]]]] = map(work, tasks)
        gather(endings, done)
    else:
        with get_context("spawn").Pool(workers, regrid, (ratio,)) as pool:
            gather(endings, pool.imap(work, tasks))
    return endings


def gather(endings: dict[Case, list[Ending]], done: Iterable[list[tuple[Case, list[Ending]]]]) -> None:
    """Put what workers have done to its cases."""
    for several in done:
        for case, some in several:
            endings[case] += some


def regrid(ratio: float) -> None:
    """Give this process's judge a grid of another *ratio*, to see what the gateway's costs; 0 leaves it."""
    if not ratio:
        return
    empty = (0,) * samples.BUCKETS
    grid = finer(ratio)
    for module in (samples, series, checks, judging):
        for name, value in (("LATENCY_GRID", grid), ("BUCKETS", len(grid) + 1), ("GRID_RATIO", ratio)):
            if hasattr(module, name):
                setattr(module, name, value)
    for made in (Counters, Judge):
        defaults = made.__init__.__defaults__ or ()
        wider = (0,) * (len(grid) + 1)
        new = {empty: wider, (empty, empty): (wider, wider)}
        made.__init__.__defaults__ = tuple(new.get(d, d) if isinstance(d, tuple) else d for d in defaults)


def finer(ratio: float) -> tuple[float, ...]:
    """Return a grid of *ratio* over about the range of the gateway's."""
    first, last = samples.LATENCY_GRID[0], samples.LATENCY_GRID[-1]
    return tuple(first * ratio**k for k in range(int(log(last / first) / log(ratio)) + 2))


# -- telling -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """A table, what of it goes into a file of JSON, and whether a goal of it was missed."""

    head: Row
    rows: list[Row]
    plain: list[dict[str, Any]]
    missed: bool = False

    def text(self, *, markdown: bool) -> str:
        """Return columns of text, or a table of Markdown."""
        if markdown:
            return "\n".join(
                "| " + " | ".join(cells) + " |" for cells in (self.head, ("---",) * len(self.head), *self.rows)
            )
        lines = [self.head, *self.rows]
        widths = [max(len(cells[column]) for cells in lines) for column in range(len(self.head))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in lines
        )


def percent(value: float) -> str:
    """Return a part of the runs as people write it."""
    return f"{100 * value:.2g} %" if 0 < value < 0.1 else f"{100 * value:.0f} %"


def count(value: float) -> str:
    """Return a number of requests."""
    return "never" if value == inf else f"{value:,.0f}"


def goals_told(goals: Sequence[Goal], endings: Endings) -> Told:
    """Return the table of some goals."""
    rows, plain = [], []
    for goal in goals:
        shown, sign = percent if goal.of == "part" else count, "≥ " if goal.at_least else "≤ "
        found = goal.measured(endings[goal.case])
        limits = [
            cell
            for limit in (goal.goal, goal.stretch)
            for cell in (
                "" if limit is None else sign + shown(limit),
                goal.said(found, limit),
            )
        ]
        interval = f"{shown(found.low)} to {shown(found.high)}"
        number = str(goal.number or "")
        rows.append((number, goal.what, shown(found.value), interval, *limits, count(len(endings[goal.case]))))
        plain.append(
            {"goal": goal.number, "what": goal.what, **found._asdict(), "at_most": goal.goal, "said": limits[1]}
        )
    head = ("goal", "what", "measured", "95 % interval", "wanted", "", "stretch", "", "runs")
    return Told(head, rows, plain, any(line["said"] == "missed" for line in plain))


OTHERS: dict[str, Any] = {
    "Argo Rollouts, as documented": Window(5, 4, errors=0.05),
    "Argo Rollouts, tuned, each minute": Window(1, 4, tuned=True),
    "Flagger, as documented, threshold 5": Window(1, 5, errors=0.01, p99=0.5),
    "Flagger, as documented, threshold 10": Window(1, 10, errors=0.01, p99=0.5),
    "Flagger, tuned, threshold 5": Window(1, 5, tuned=True),
    "Kayenta, each minute from 10": Kayenta(),
    "z-test, 1 %, peeked": Peeked(),
    "posterior > 99 %, peeked": Peeked(posterior=True),
}
"""The rules, watching all of a run."""

SCHEDULED: dict[str, Any] = {
    "Argo Rollouts, as documented (40 minutes)": Window(5, 4, errors=0.05, checks=8),
    "Argo Rollouts, tuned, each minute (40 minutes)": Window(1, 4, tuned=True, checks=40),
    "Flagger, as documented, threshold 5": Window(1, 5, errors=0.01, p99=0.5, good=10),
    "Flagger, as documented, threshold 10": Window(1, 10, errors=0.01, p99=0.5, good=10),
    "Flagger, tuned, threshold 5": Window(1, 5, tuned=True, good=10),
    "Kayenta, each minute from 10 to 60": Kayenta(until=60),
}
"""The rules that say when a version is promoted, until they do."""


@dataclass(frozen=True)
class Column:
    """A column of a comparison: one traffic, or the same at several shares; ours judges with *guards*."""

    name: str
    traffics: tuple[Traffic, ...]
    guards: tuple[Guard, ...]


def compared(columns: Sequence[Column], verdict: Verdict, shown: str, options: argparse.Namespace) -> Told:
    """Return a table of rules by traffic: the "part" of the runs with *verdict*, or the "median" requests until it."""
    promoting = verdict is Verdict.PASS
    rules = {"modelcd": None, **(SCHEDULED if promoting else OTHERS)}
    cells: dict[tuple[str, str], list[Case]] = {}
    for name, rule in rules.items():
        for column in columns:
            own = rule or Judged(column.guards, watch=shown == "part" and not promoting)
            if own.watches(column.traffics[0].about):
                cells[name, column.name] = [Case(traffic, own) for traffic in column.traffics]
    endings = endings_of([case for cases in cells.values() for case in cases], options.runs, options.workers)
    say = chance_of if shown == "part" else length_of
    rows = [
        (
            name,
            *(" / ".join(say(endings[c], verdict) for c in cells.get((name, col.name), ())) or "–" for col in columns),
        )
        for name in rules
    ]
    head = (f"rule, {options.runs:,} runs", *(column.name for column in columns))
    return Told(head, rows, [dict(zip(head, row, strict=True)) for row in rows])


def chance_of(endings: Sequence[Ending], verdict: Verdict) -> str:
    """Say how many runs ended so."""
    return percent(part(endings, verdict).value)


def length_of(endings: Sequence[Ending], verdict: Verdict) -> str:
    """Say the median of the requests; where fewer than half came to it, how many did."""
    found = middle(endings, verdict).value
    return count(found) if found < inf else f"never ({percent(part(endings, verdict).value)})"


def others_same(options: argparse.Namespace) -> Told:
    """Identical versions rolled back."""
    tight = (errors(0.05),)
    columns = [
        Column(f"errors {rate:g} %", tuple(same_errors(rate, share) for share in SHARES), tight) for rate in TOLERANCE
    ]
    for name, guards in (("latency", (latency(1.02),)), ("accuracy", (accuracy(0.05),))):
        traffics = tuple(steady(f"same, {name}", share, Arm(), about=(name,)) for share in SHARES)
        columns.append(Column(name, traffics, guards))
    return compared(columns, Verdict.FAIL, "part", options)


def others_found(options: argparse.Namespace) -> Told:
    """Median requests until a regression is rolled back."""
    columns = [
        Column(
            f"errors {good:g} → {bad:g} %", tuple(worse_errors(good, bad, share) for share in SHARES), (errors(tol),)
        )
        for good, bad, tol in ((0.5, 1, 0.5), (2, 4, 1), (2, 10, 1))
    ]
    for name, arm in (("p99 x1.5, wider", WIDE), ("p99 x1.5, only above p90", TAIL)):
        traffics = tuple(steady(f"{arm}", share, arm, Arm(), about=("latency",)) for share in SHARES)
        columns.append(Column(name, traffics, (latency(1.25),)))
    return compared(columns, Verdict.FAIL, "median", options)


def others_promoted(options: argparse.Namespace) -> Told:
    """What is promoted at 25 %: the same, worse by just the tolerance, and worse by more."""
    columns = [
        Column(f"errors {good:g} → {bad:g} %", (worse_errors(good, bad, 0.25),), (errors(TOLERANCE[good]),))
        for good, bad in ((0.5, 0.5), (0.5, 1), (0.5, 2.5), (2, 2), (2, 3), (2, 4), (2, 7))
    ]
    return compared(columns, Verdict.PASS, "part", options)


def others_bad_days(options: argparse.Namespace) -> Told:
    """Identical versions on bad days."""
    tight = (errors(0.05),)
    return compared(
        [
            Column("incident of both", (FLAT,), tight),
            Column("incident over a ramp's step", (RAMP,), tight),
            Column("complaints first, ramp", (COMPLAINTS,), (accuracy(0.05),)),
            Column("latency doubles for both", (DRIFT,), (latency(1.02),)),
            Column("2 → 4 % after 50,000 good ones: found", (LATE,), (errors(1),)),
        ],
        Verdict.FAIL,
        "part",
        options,
    )


# -- what the grid costs -----------------------------------------------------------------------------------------------

FINE = 1.013
PHASES = 6


def grid(options: argparse.Namespace) -> Told:
    """What the snapping of latency thresholds to the gateway's buckets costs.

    The same versions with all latencies scaled, so that the thresholds fall on other places inside a bucket; and the
    same judge on a fine grid.
    """
    rows: list[Row] = []
    ratio = float(series.GRID_RATIO)
    for phase in (*range(PHASES), None):
        scale = ratio ** ((phase or 0) / PHASES)
        cases = []
        edges = finer(FINE) if phase is None else samples.LATENCY_GRID
        for arm, share in ((Arm(slow=scale), 0.25), (Arm(slow=1.25 * scale), 0.25), (Arm(slow=scale, wide=1.5), 0.25)):
            traffic = steady(f"grid {arm}", share, arm, Arm(slow=scale), about=("latency",))
            cases.append(Case(replace(traffic, grid=edges), Judged((latency(1.25),))))
        endings = endings_of(cases, options.runs, options.workers, FINE if phase is None else 0.0)
        same, just, wide = (endings[case] for case in cases)
        name = f"ratio {FINE:g}" if phase is None else f"ratio {ratio:g}, thresholds {phase}/{PHASES} of a bucket on"
        tolerated = ["" if phase is None else f"{effective(q, scale):.3f}" for q in (0.5, 0.9, 0.99)]
        rows.append(
            (
                name,
                *tolerated,
                length_of(same, Verdict.PASS),
                chance_of(just, Verdict.PASS),
                length_of(wide, Verdict.FAIL),
            )
        )
    head = (
        f"grid, {options.runs:,} runs",
        "p50 x1.25 is",
        "p90 x1.25 is",
        "p99 x1.25 is",
        "same: promoted",
        "x1.25: promoted",
        "p99 x1.5: found",
    )
    return Told(head, rows, [dict(zip(head, row, strict=True)) for row in rows])


def effective(quantile: float, scale: float) -> float:
    """Return the slowdown up to which a tolerance of 1.25 at *quantile* is certified, had one infinite traffic."""
    guards = (Guard("latency", GuardKind.LATENCY, ratios=((quantile, 1.25),)),)
    low, high = 1.0, 2.0
    for _ in range(12):
        middle_ = (low + high) / 2
        baseline, challenger = Arm(slow=scale), Arm(slow=scale * middle_)
        passed = certain(guards, baseline, challenger) is Verdict.PASS
        low, high = (middle_, high) if passed else (low, middle_)
    return (low + high) / 2


def certain(guards: tuple[Guard, ...], baseline: Arm, challenger: Arm, n: int = 10**7) -> Verdict:
    """Return the verdict on expected counts of very much traffic."""
    judge = start(Canary((50,), guards))
    arms = []
    for arm in (baseline, challenger):
        latencies = tuple(round(n * p) for p in buckets(arm, samples.LATENCY_GRID))
        arms.append(Counters(sum(latencies), 0, latencies))
    for _ in range(6):
        judge = update(judge, Block("0", 0, *arms))
    return finding(judge, 0).verdict


# -- what it costs -----------------------------------------------------------------------------------------------------


def cost(_: argparse.Namespace) -> Told:
    """Time of a tick and a look, and size of the state."""
    rows: list[Row] = []
    for guard in ALL:
        recording = record(steady(f"cost {guard.name}", 0.25, Arm(), about=("errors", "latency", "accuracy")), 0)
        judge = start(Canary((25,), (guard,)))
        ticks = [seen_by(block, (guard,)) for block in blocks(recording)][:500]
        begun = time.perf_counter()
        for block in ticks:
            judge = update(judge, block)
        between = time.perf_counter()
        for _look in range(200):
            finding(judge, 0)
        ended = time.perf_counter()
        plain = json.loads(json.dumps(judge.to_plain()))
        same = finding(Judge.from_plain(plain), 0) == finding(judge, 0)
        shared = plain.pop("latencies", None)
        size, beside = len(json.dumps(plain)), len(json.dumps(shared))
        rows.append(
            (
                guard.name,
                f"{1000 * (between - begun) / len(ticks):.3f} ms",
                f"{1000 * (ended - between) / 200:.3f} ms",
                f"{size:,} bytes",
                f"{beside:,} bytes",
                "the same" if same else "ANOTHER",
            )
        )
    head = ("guard", "a tick", "a look", "state (4,000 at most)", "shared latencies", "verdict after JSON")
    return Told(head, rows, [dict(zip(head, row, strict=True)) for row in rows])


# -- the script --------------------------------------------------------------------------------------------------------


def goal_table(name: str) -> Callable[[argparse.Namespace], Told]:
    """Return what measures the goals called *name*."""

    def told(options: argparse.Namespace) -> Told:
        goals = list(GOALS[name]())
        chances = name in ("false rollbacks", "bad days") and options.runs < FEW
        runs = max(1, options.runs // 4) if chances else options.runs
        return goals_told(goals, endings_of([goal.case for goal in goals], runs, options.workers))

    return told


TABLES: dict[str, Callable[[argparse.Namespace], Told]] = {
    **{name: goal_table(name) for name in GOALS},
    "cost": cost,
    "grid": grid,
    "others: identical versions rolled back": others_same,
    "others: regressions found": others_found,
    "others: promoted": others_promoted,
    "others: bad days": others_bad_days,
}


def written(document: str, tables: Mapping[str, str]) -> str:
    """Return *document* with each of *tables* between its two lines."""
    for name, table in tables.items():
        begin, end = f"<!-- table: {name} -->\n", "<!-- end -->"
        found = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if not found.search(document):
            raise SystemExit(f"the document has no place for {name!r}: give it the lines {begin.strip()} and {end}")
        document = found.sub(lambda _, text=f"{begin}\n{table}\n\n{end}": text, document)
    return document


def main(report: Callable[[str], None] = print) -> int:
    """Measure, print the tables, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40, help="of each case (40)")
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")
    parser.add_argument("--only", default="", metavar="NAME", help=f"tables whose name begins so: {', '.join(TABLES)}")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also put the tables into this document")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was measured")
    options = parser.parse_args()
    chosen = {name: tell for name, tell in TABLES.items() if name.startswith(options.only)}
    if not chosen:
        parser.error(f"no table's name begins with {options.only!r}; there are {', '.join(TABLES)}")
    tables, plain, missed = {}, {}, False
    for name, tell in chosen.items():
        begun = time.perf_counter()
        told = tell(options)
        missed, plain[name], tables[name] = missed or told.missed, told.plain, told.text(markdown=True)
        report(f"\n{name} ({options.runs} runs, {time.perf_counter() - begun:.0f} s)\n\n{told.text(markdown=False)}")
    if options.markdown:
        document = options.markdown.read_text(encoding="utf-8")
        options.markdown.write_text(written(document, tables), encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(plain, indent=1, default=str), encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
