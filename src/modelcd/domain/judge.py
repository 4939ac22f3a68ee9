"""The judge of a rollout: promote, keep going, or roll back, from counts of both versions at the same time.

Each guard plays two sequential games (`eprocess`): one whose evidence says that the challenger is worse, and one per
tolerance of the ladder whose certificate says that it is not worse by that much.  All certificates run from the first
block on, so that what was learned at 5 % counts at 25 %.  The evidence of the guards is averaged, which is valid under
any dependence between them: a challenger no worse on any guard is ever rolled back with a chance of at most alpha,
one beyond a tolerance is ever promoted with a chance of at most beta, however often one looks.

The trade-off: each guard sees bad outcomes only (failed, wrong, slower than a quantile of the baseline), not sizes.
That needs no assumption about distributions and makes the state a few dozen numbers; it is plain data, so that a
verdict can be computed again from the journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, inf, lgamma, log
from typing import Any, assert_never

from modelcd.domain.eprocess import Table, log_sum
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.samples import BUCKETS, Block
from modelcd.domain.series import GRID_RATIO, Series, begin, factors
from modelcd.domain.verdict import Finding, Verdict

RATIO_LEVEL = 0.001
"""The chance that correctly divided traffic is ever called wrongly divided, per routing revision."""


@dataclass(frozen=True, slots=True)
class Split:
    """How requests and labels served under one routing were divided, to be held against the *share* asked for."""

    share: float
    requests: tuple[int, int] = (0, 0)
    labels: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Judge:
    """All that was learned so far; a value, `update` returns a new one.

    `policy` is what of the policy matters here.  `latencies` are the baseline's bucket counts since the start.
    """

    policy: Canary
    guards: tuple[tuple[Series, ...], ...]
    latencies: tuple[int, ...] = (0,) * BUCKETS
    latency_ticks: int = 0
    splits: tuple[tuple[str, Split], ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """Return JSON values; floats keep every digit, so that the verdict is the same after reading."""
        policy = self.policy
        return {
            "shares": list(policy.shares),
            "alpha": policy.alpha,
            "beta": policy.beta,
            "guards": [
                [
                    g.name,
                    g.kind.value,
                    g.margin,
                    [list(pair) for pair in g.ratios],
                    g.grace,
                    [s.to_plain() for s in series],
                ]
                for g, series in zip(policy.guards, self.guards, strict=True)
            ],
            "latencies": list(self.latencies),
            "latency_ticks": self.latency_ticks,
            "splits": {name: [s.share, *s.requests, *s.labels] for name, s in self.splits},
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Judge:
        """Read what `to_plain` wrote."""
        guards = tuple(
            Guard(name, GuardKind(kind), margin, tuple((q, r) for q, r in ratios), grace)
            for name, kind, margin, ratios, grace, _ in plain["guards"]
        )
        return cls(
            policy=Canary(tuple(plain["shares"]), guards, alpha=plain["alpha"], beta=plain["beta"]),
            guards=tuple(tuple(Series.from_plain(s) for s in guard[5]) for guard in plain["guards"]),
            latencies=tuple(plain["latencies"]),
            latency_ticks=plain["latency_ticks"],
            splits=tuple((n, Split(s[0], (s[1], s[2]), (s[3], s[4]))) for n, s in plain["splits"].items()),
        )


@dataclass(frozen=True)
class Judgement:
    """What the judge says now: the verdict, why in one sentence, and one finding per guard.

    `odds` is the evidence of all guards together that the challenger is worse, `bar` where it is rolled back; a
    finding's own odds are its part of that sum.  A finding named `split` follows when traffic is divided wrongly.
    """

    verdict: Verdict
    reason: str
    findings: tuple[Finding, ...]
    odds: float
    bar: float


def start(policy: Canary) -> Judge:
    """Return a judge that has seen nothing."""
    guards = tuple(replace(guard, function=None) for guard in policy.guards)
    kept = Canary(policy.shares, guards, alpha=policy.alpha, beta=policy.beta)
    return Judge(kept, tuple(begin(guard, kept) for guard in guards))


def update(judge: Judge, block: Block) -> Judge:
    """Return the judge after one tick's counts.

    Raises `ValueError` when the counts cannot be: negative, not whole, more failures than requests, another grid.
    """
    _check(block)
    latencies, ticks = judge.latencies, judge.latency_ticks
    compared = bool(sum(block.baseline.latency) and sum(block.challenger.latency))
    if compared:
        latencies = tuple(a + b for a, b in zip(latencies, block.baseline.latency, strict=True))
        ticks += 1
    # At 1, 2, 4, 8, ... ticks: a threshold that moved with every block would chase its own noise.
    refresh = compared and ticks & (ticks - 1) == 0
    guards = []
    for guard, all_series in zip(judge.policy.guards, judge.guards, strict=True):
        after = tuple(_play(series, guard, judge.policy, block) for series in all_series)
        if guard.kind is GuardKind.LATENCY and refresh:
            after = tuple(series.refreshed(latencies) for series in after)
        guards.append(after)
    return replace(judge, guards=tuple(guards), latencies=latencies, latency_ticks=ticks, splits=_divided(judge, block))


def _play(series: Series, guard: Guard, policy: Canary, block: Block) -> Series:
    bar = log(1 / policy.beta)
    match guard.kind:
        case GuardKind.ERRORS:
            new, old = block.challenger, block.baseline
            return series.after(Table(new.failures, new.requests, old.failures, old.requests), bar)
        case GuardKind.LATENCY:
            return series.after_latencies(block.baseline, block.challenger, bar)
        case GuardKind.SUCCESS:
            # In a fixed order, so that a reader of the journal computes the very same digits.
            for _, (baseline, challenger) in sorted(block.labels.items()):
                series = series.after(Table(challenger.bad, challenger.n, baseline.bad, baseline.n), bar)
            return series
        case _:
            assert_never(guard.kind)


def judgement(judge: Judge, step: int) -> Judgement:
    """Return the verdict for moving on from *step* (from 0) of the ladder.

    PASS when every guard is certified at that step's tolerance, the evidence against is far from its bar and traffic
    is divided as asked; FAIL when the evidence has reached the bar; ERROR when traffic is divided wrongly; else
    INCONCLUSIVE.
    """
    if step < 0:
        raise ValueError(f"a step counts from 0, got {step}")
    policy = judge.policy
    view = factors(policy).index(policy.tolerance_factor(step))
    bar = log(1 / policy.alpha)
    parts = [_against(series, view, len(judge.guards)) for series in judge.guards]
    total = log_sum(parts)
    failed = total >= bar
    to_blame = [failed and (part >= bar or part == max(parts)) for part in parts]
    findings = [_finding(judge, number, step, blamed=blamed) for number, blamed in enumerate(to_blame)] + _wrong_splits(
        judge
    )
    verdict, reason = _conclude(findings, to_blame, total, policy)
    return Judgement(verdict, reason, tuple(findings), _odds(total), 1 / policy.alpha)


def interval(judge: Judge, name: str) -> tuple[float, float] | None:
    """Return limits for the excess of bad outcomes of the guard *name*, valid at all times with chance 1 - alpha.

    For latency it is the excess beyond the quantile with the most evidence.  None when there is too little data.
    """
    for guard, series in zip(judge.policy.guards, judge.guards, strict=True):
        if guard.name == name:
            return _leading(series).excess.interval(judge.policy.alpha, guard.margin or 0.02)
    raise ValueError(f"no guard is called {name!r}; there are {', '.join(g.name for g in judge.policy.guards)}")


# Whether the evidence can be trusted.


def _check(block: Block) -> None:
    if block.step < 0:
        raise ValueError(f"a step counts from 0, got {block.step}")
    for arm, counters in (("baseline", block.baseline), ("challenger", block.challenger)):
        if len(counters.latency) != BUCKETS:
            raise ValueError(f"{arm}: {len(counters.latency)} latency buckets, the grid has {BUCKETS}")
        counts = (counters.requests, counters.failures, *counters.latency)
        if any(not (0 <= count < inf) or count != int(count) for count in counts):
            raise ValueError(f"{arm}: counts must be whole and not negative; read the metrics again")
        if counters.failures > counters.requests:
            raise ValueError(f"{arm}: {counters.failures} failures of {counters.requests} requests cannot be")
    for revision, pair in block.labels.items():
        for labels in pair:
            if any(not (0 <= c < inf) or c != int(c) for c in (labels.n, labels.bad)) or labels.bad > labels.n:
                raise ValueError(f"labels served under {revision}: {labels.bad} bad of {labels.n} cannot be")


def _divided(judge: Judge, block: Block) -> tuple[tuple[str, Split], ...]:
    splits, served = dict(judge.splits), (block.challenger.requests, block.baseline.requests)
    # Also blocks that only one arm had a request in: without them little traffic looks as if it were divided wrongly.
    if block.step < len(judge.policy.shares) and any(served):
        share = (judge.policy.shares[block.step] if block.share is None else block.share) / 100
        split = splits.get(block.revision, Split(share))
        added = (split.requests[0] + served[0], split.requests[1] + served[1])
        splits[block.revision] = replace(split, requests=added)
    for revision, (baseline, challenger) in block.labels.items():
        if revision in splits and (baseline.n or challenger.n):
            split = splits[revision]
            labelled = (split.labels[0] + challenger.n, split.labels[1] + baseline.n)
            splits[revision] = replace(split, labels=labelled)
    return tuple(splits.items())


def _mixture(challenger: int, baseline: int, share: float) -> float:
    """Return the logarithm of the evidence that the challenger's part is not *share*: a Beta mixture around it."""
    a, b = 1000 * share, 1000 * (1 - share)
    both = lgamma(a + challenger) + lgamma(b + baseline) - lgamma(a + b + challenger + baseline)
    return both - lgamma(a) - lgamma(b) + lgamma(a + b) - challenger * log(share) - baseline * log(1 - share)


def _wrong_splits(judge: Judge) -> list[Finding]:
    findings = []
    for revision, split in judge.splits:
        for what, (challenger, baseline) in (("requests", split.requests), ("labels", split.labels)):
            log_odds = _mixture(challenger, baseline, split.share) if challenger and baseline else -inf
            if log_odds >= log(1 / RATIO_LEVEL):
                found = 100 * challenger / (challenger + baseline)
                reason = (
                    f"the challenger got {found:.1f} % of the {what} ({challenger:,} of {challenger + baseline:,}), "
                    f"not the {100 * split.share:g} % asked for: the arms cannot be compared; look at the router"
                )
                evidence = {"revision": revision, "share": split.share, "odds": _odds(log_odds)}
                evidence |= {"challenger_n": challenger, "baseline_n": baseline}
                findings.append(Finding("split", Verdict.ERROR, reason, evidence))
    return findings


# What is said about it.


def _odds(log_odds: float) -> float:
    return exp(min(log_odds, 700.0))


def _against(series: Sequence[Series], view: int, guards: int) -> float:
    """Return a guard's part (a logarithm) of the evidence: nothing from comparisons within their tolerance."""
    counted = [s.evidence.log_odds for s in series if s.evidence.exceeds(view)]
    return log_sum(counted) - log(len(series)) - log(guards)


def _leading(series: Sequence[Series]) -> Series:
    return max(series, key=lambda s: s.evidence.log_odds)


def _share(policy: Canary, step: int, seen: Table | None) -> float:
    if step < len(policy.shares):
        return policy.shares[step] / 100
    if seen and not seen.one_sided:
        return seen.challenger_n / (seen.challenger_n + seen.baseline_n)
    return 0.5


def _finding(judge: Judge, number: int, step: int, *, blamed: bool) -> Finding:
    policy, guard, all_series = judge.policy, judge.policy.guards[number], judge.guards[number]
    view = factors(policy).index(policy.tolerance_factor(step))
    series = _leading(all_series)
    seen, weight = series.evidence.seen, log(len(judge.guards))
    log_odds = log_sum([s.evidence.log_odds for s in all_series]) - log(len(all_series)) - weight
    certified = all(s.certificates[view].granted for s in all_series)
    share = _share(policy, step, seen)
    needs = [s.needs(view, share, log(1 / policy.beta), judge.latencies) for s in all_series]
    evidence: dict[str, Any] = {
        "challenger_bad": round(seen.challenger_bad, 1),
        "challenger_n": round(seen.challenger_n),
        "baseline_bad": round(seen.baseline_bad, 1),
        "baseline_n": round(seen.baseline_n),
        "challenger_rate": seen.challenger_bad / seen.challenger_n if seen.challenger_n else None,
        "baseline_rate": seen.baseline_bad / seen.baseline_n if seen.baseline_n else None,
        "excess": series.excess.value,
        "interval": interval(judge, guard.name),
        "odds": _odds(log_odds),
        "bar": 1 / policy.alpha,
        "beyond_tolerance": any(s.evidence.exceeds(view) for s in all_series),
        "certified": certified,
        "certificate_odds": _odds(min(s.certificates[view].log_odds for s in all_series)),
        "certificate_bar": 1 / policy.beta,
        "needs": None if None in needs else max(n for n in needs if n is not None),
        "unit": "labels" if guard.kind is GuardKind.SUCCESS else "requests",
    }
    if guard.kind is GuardKind.LATENCY:
        evidence["quantile"] = series.quantile
        evidence["threshold"] = series.seconds
        evidence["tolerance"] = GRID_RATIO ** series.shifts[view]
        evidence["slack"] = series.certificates[view].margin
        evidence["quantiles"] = [
            {"quantile": s.quantile, "threshold": s.seconds, "certified": s.certificates[view].granted}
            for s in all_series
        ]
    else:
        evidence["tolerance"] = series.certificates[view].margin
    verdict = Verdict.FAIL if blamed else Verdict.PASS if certified else Verdict.INCONCLUSIVE
    return Finding(guard.name, verdict, f"{_seen(guard, series)}: {_said(guard, verdict, evidence, policy)}", evidence)


def _seen(guard: Guard, series: Series) -> str:
    kc, nc, kb, nb = series.evidence.seen
    if not nc or not nb:
        return guard.name
    if guard.kind is GuardKind.SUCCESS:
        kc, kb = nc - kc, nb - kb
    name, slower = guard.name, ""
    if series.seconds is not None:
        name, slower = f"{name} p{100 * series.quantile:g}", f" slower than {_time(series.seconds)}"
    return (
        f"{name} {100 * kc / nc:.1f} % ({kc:,.0f} of {nc:,.0f}){slower} "
        f"against {100 * kb / nb:.1f} % ({kb:,.0f} of {nb:,.0f})"
    )


def _time(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _ratio(odds: float) -> str:
    if odds > 1e6:
        return "above 1,000,000 : 1"
    return f"{odds:,.0f} : 1" if odds >= 2 else "even" if odds > 0.5 else "none"


def _said(guard: Guard, verdict: Verdict, evidence: Mapping[str, Any], policy: Canary) -> str:
    odds, bar = evidence["odds"], evidence["bar"]
    if verdict is Verdict.FAIL:
        jointly = "" if odds >= bar else ", reached together with other guards"
        return f"worse; evidence {_ratio(odds)}, the bar was {_ratio(bar)}{jointly}"
    if verdict is Verdict.PASS:
        confidence = f"({100 * (1 - policy.beta):g} %)"
        if guard.kind is GuardKind.LATENCY:
            if evidence["slack"]:
                points = f"{100 * evidence['slack']:g} point{'' if evidence['slack'] == 0.01 else 's'}"
                return f"less than {points} more are slower than {evidence['tolerance']:.2f} times that {confidence}"
            return f"not slower by {evidence['tolerance']:.2f} times {confidence}"
        points = 100 * evidence["tolerance"]
        return f"no worse by {points:g} point{'' if points == 1 else 's'} {confidence}"
    needs, unit = evidence["needs"], evidence["unit"]
    more = (
        f"needs about {_about(needs):,} more {unit}" if needs else f"no number of {unit} in sight that would settle it"
    )
    if not evidence["challenger_n"] or not evidence["baseline_n"]:
        return f"not enough {unit} to compare; {more}"
    if odds >= 0.1 * bar and not evidence["beyond_tolerance"]:
        return f"worse, but within the tolerance; {more}"
    if odds >= 0.1 * bar:
        return f"looks worse; evidence {_ratio(odds)}, the bar is {_ratio(bar)}; {more}"
    return f"not enough {unit} to say; {more}"


def _about(count: int) -> int:
    """Round up to two digits: a forecast has no more."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // unit) * unit


def _conclude(
    findings: Sequence[Finding], to_blame: Sequence[bool], total: float, policy: Canary
) -> tuple[Verdict, str]:
    if any(to_blame):
        return Verdict.FAIL, "; ".join(f.reason for f in findings if f.verdict is Verdict.FAIL)
    errors = [finding.reason for finding in findings if finding.verdict is Verdict.ERROR]
    if errors:
        return Verdict.ERROR, "; ".join(errors)
    if not findings:
        return Verdict.INCONCLUSIVE, "no guard watches this release, so nothing can be certified"
    open_ones = [finding.reason for finding in findings if finding.verdict is not Verdict.PASS]
    if open_ones:
        return Verdict.INCONCLUSIVE, "; ".join(open_ones)
    if total >= log(0.1 / policy.alpha):
        odds = _ratio(_odds(total))
        return Verdict.INCONCLUSIVE, f"every guard is certified, but evidence of {odds} speaks against it: watching on"
    return Verdict.PASS, "; ".join(finding.reason for finding in findings)
