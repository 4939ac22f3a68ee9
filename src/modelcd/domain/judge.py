"""The judge of a rollout: promote, keep going, or roll back, from counts of both versions at the same time.

Three functions over plain values: `start(policy)` gives a judge that has seen nothing, `update(judge, block)` one that
has seen a tick's counts, `finding(judge)` says what it thinks.

Each guard plays two sequential games (`games`, `eprocess`): one whose evidence says that the challenger is worse, and
one per tolerance of the ladder whose certificate says that it is not worse by that much.  All certificates run from the
first block on, so that what was learned at 5 % counts at 25 %.  The evidence of the guards is averaged, which is valid
under any dependence between them: a challenger no worse on any guard is ever rolled back with a chance of at most
alpha, one beyond a tolerance is ever promoted with a chance of at most beta, however often one looks.

The trade-off: of times each guard sees only what is slower than a quantile of the baseline, not sizes.  That needs no
assumption about distributions and makes the state a few dozen numbers; it is plain data, so that a verdict can be
computed again from the journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import ceil, log
from typing import Any, assert_never

from modelcd.domain import intervals
from modelcd.domain.checks import Split, divided, quiet, refuse_impossible, splits_from, splits_plain, wrong_splits
from modelcd.domain.eprocess import Table, as_odds, log_sum
from modelcd.domain.games import game
from modelcd.domain.means import Moments
from modelcd.domain.plain import from_plain, to_plain
from modelcd.domain.policy import FROM_LABELS, Canary, Guard, GuardKind
from modelcd.domain.samples import BUCKETS, Block, Sums
from modelcd.domain.series import GRID_RATIO, UNLUCKY, Series, begin, factors, position, seconds_at
from modelcd.domain.telling import conclude, reason_of
from modelcd.domain.verdict import Finding, Verdict

MEMORY = 2000.0
"""Of how many requests of late the latency histograms tell: thresholds follow the champion when load changes.

Any threshold that was settled before the block is valid.  One from the whole past would lie far off once both arms
have become slower, and then nearly all requests are beyond it, whichever version answered.
"""


@dataclass(frozen=True)
class Judge:
    """All that was learned so far; a value, `update` returns a new one.

    `policy` is what of the policy matters here.  `latencies` are the bucket counts of late, (baseline, challenger).
    `step` and `at` are those of the newest block, `busy` when requests were last counted, `peak` the strongest evidence
    (a logarithm) that there ever was against the challenger.
    """

    policy: Canary
    guards: tuple[tuple[Series, ...], ...]
    latencies: tuple[tuple[float, ...], tuple[float, ...]] = ((0.0,) * BUCKETS, (0.0,) * BUCKETS)
    splits: tuple[tuple[str, Split], ...] = ()
    step: int = 0
    at: float | None = None
    busy: float | None = None
    peak: float = 0.0

    def to_plain(self) -> dict[str, Any]:
        """Return JSON values; floats keep every digit, so that the verdict is the same after reading."""
        return {
            "policy": to_plain(self.policy),
            "guards": [[series.to_plain() for series in guard] for guard in self.guards],
            "latencies": [_sparse(counts) for counts in self.latencies],
            "splits": splits_plain(self.splits),
            "step": self.step,
            "at": self.at,
            "busy": self.busy,
            "peak": self.peak,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Judge:
        """Read what `to_plain` wrote; raises `ValueError` for anything else."""
        try:
            return cls._read(plain)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"this is no judge's state: {type(error).__name__}: {error}") from error

    @classmethod
    def _read(cls, plain: Mapping[str, Any]) -> Judge:
        baseline, challenger = (_dense(counts) for counts in plain["latencies"])
        return cls(
            policy=from_plain(Canary, plain["policy"]),
            guards=tuple(tuple(Series.from_plain(series) for series in guard) for guard in plain["guards"]),
            latencies=(baseline, challenger),
            splits=splits_from(plain["splits"]),
            step=plain["step"],
            at=plain["at"],
            busy=plain["busy"],
            peak=plain["peak"],
        )


@dataclass(frozen=True)
class Judgement:
    """What the judge says now: the verdict, why in one sentence, and one finding per guard.

    `odds` is the evidence of all guards together that the challenger is worse, `bar` where it is rolled back; a
    finding's own odds are its part of that sum.  Findings of data checks follow, where one has something to say.
    `peak` is the strongest evidence that there ever was: 1/peak is an anytime-valid p-value of "no worse".
    """

    verdict: Verdict
    reason: str
    findings: tuple[Finding, ...]
    odds: float
    bar: float
    peak: float = 1.0


def start(policy: Canary) -> Judge:
    """Return a judge that has seen nothing; of *policy* it takes shares, guards, alpha, beta and unit."""
    guards = tuple(replace(guard, function=None) for guard in policy.guards)
    kept = Canary(policy.shares, guards, alpha=policy.alpha, beta=policy.beta, unit=policy.unit)
    return Judge(kept, tuple(begin(guard, kept) for guard in guards))


def update(judge: Judge, block: Block) -> Judge:
    """Return the judge after one tick's counts.

    A block is what came since the block before, never cumulative, and under one routing only.  Raises `ValueError` for
    what cannot be: counts that are negative, not whole or not finite, more failures than requests, another grid, labels
    of an unknown guard, numbers out of their bounds, a clock that went back, another unit than the policy's.
    """
    refuse_impossible(judge.policy, block, judge.at)
    guards, latencies = [], judge.latencies
    if sum(block.baseline.latency) and sum(block.challenger.latency):
        baseline, challenger = latencies
        latencies = _of_late(baseline, block.baseline.latency), _of_late(challenger, block.challenger.latency)
    upto = [*accumulate(latencies[0])]
    for guard, all_series in zip(judge.policy.guards, judge.guards, strict=True):
        after = tuple(_play(series, guard, judge.policy, block) for series in all_series)
        if guard.kind is GuardKind.LATENCY and guard.limit is None and latencies is not judge.latencies:
            after = tuple(series.refreshed(upto) for series in after)
        guards.append(after)
    served = block.challenger.requests or block.baseline.requests
    updated = replace(
        judge,
        guards=tuple(guards),
        latencies=latencies,
        splits=divided(judge.splits, judge.policy, block),
        step=block.step,
        at=judge.at if block.at is None else block.at,
        busy=block.at if served or judge.busy is None else judge.busy,
    )
    return replace(updated, peak=round(max(judge.peak, _total(updated, _view(judge.policy, block.step))), 6))


def finding(judge: Judge, step: int | None = None, *, intervals: bool = False, now: float | None = None) -> Judgement:
    """Return the verdict for moving on from *step* (from 0; the newest block's unless given) of the ladder.

    PASS when every guard is certified at that step's tolerance, the evidence against is far from its bar and all data
    checks are clean; FAIL when the evidence has reached the bar; ERROR when the evidence cannot be trusted, or when the
    champion breaks an absolute limit as well; else INCONCLUSIVE.  *now* (seconds of the blocks' clock) lets it notice
    that blocks no longer come.  *intervals* of the excess cost some 40 ms a guard; a guard that fails always has one.
    """
    step = judge.step if step is None else step
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise ValueError(f"a step counts from 0, got {step!r}")
    policy, view = judge.policy, _view(judge.policy, step)
    bar = log(1 / policy.alpha)
    parts = _parts(judge, view)
    total = log_sum(parts)
    failed = total >= bar
    blamed = [failed and (part >= bar or part == max(parts)) for part in parts]
    findings = [_finding(judge, number, step, blamed[number], intervals) for number in range(len(parts))]
    findings += wrong_splits(judge.splits) + quiet(judge.busy, judge.at if now is None else now)
    # Without guards a data check that is clean, or quiet, certifies nothing.
    told = findings if policy.guards else [found for found in findings if found.verdict is Verdict.ERROR]
    verdict, reason = conclude(told, total, policy.alpha, "guard")
    peak = as_odds(max(judge.peak, total))
    return Judgement(verdict, reason, tuple(findings), as_odds(total), 1 / policy.alpha, peak)


def _play(series: Series, guard: Guard, policy: Canary, block: Block) -> Series:
    bar, rules = log(1 / policy.beta), game(guard, series.quantile)
    baseline, challenger = block.baseline, block.challenger
    match guard.kind:
        case GuardKind.ERRORS:
            counts = (challenger.failures, challenger.requests, baseline.failures, baseline.requests)
            return series.after(rules, block.revision, [Table(*map(float, counts))], bar)
        case GuardKind.LATENCY:
            return series.after(rules, block.revision, series.tables(baseline, challenger), bar)
        case GuardKind.SUCCESS:
            # Each block of labels was served under one routing; pooled by arrival, early complaints would count twice.
            served = block.labels.get(guard.name, {})
            for revision, (base, new) in sorted(served.items()):
                counts = (new.bad, new.n, base.bad, base.n)
                series = series.after(rules, revision, [Table(*map(float, counts))], bar)
            return series
        case GuardKind.METRIC:
            for revision, (old, new_sums) in sorted(block.sums.get(guard.name, {}).items()):
                moments = Moments(*_scaled(guard, new_sums), *_scaled(guard, old))
                series = series.after(rules, revision, [moments], bar)
            return series
        case _:
            assert_never(guard.kind)


def _scaled(guard: Guard, sums: Sums) -> tuple[float, float, float]:
    """Return how many numbers, their sum and their sum of squares, on the scale from 0 (best) to 1 (worst)."""
    n, width = sums.n, guard.width
    zero, sign = (guard.high, -1.0) if guard.higher_is_better else (guard.low, 1.0)
    total = sign * (sums.total - n * zero) / width
    squares = (sums.squares - 2 * zero * sums.total + n * zero * zero) / (width * width)
    return float(n), round(max(0.0, float(total)), 9), round(max(0.0, float(squares)), 9)


def _of_late(before: Sequence[float], new: Sequence[int]) -> tuple[float, ...]:
    keep = max(0.0, 1 - sum(new) / MEMORY)
    return tuple(round((keep * old + one) * 1000) / 1000 for old, one in zip(before, new, strict=True))


def _view(policy: Canary, step: int) -> int:
    return factors(policy).index(policy.tolerance_factor(step))


def _parts(judge: Judge, view: int) -> list[float]:
    """Return each guard's part (a logarithm) of the evidence: nothing from comparisons within their tolerance."""
    return [_against(series, view) - log(len(judge.guards)) for series in judge.guards]


def _total(judge: Judge, view: int) -> float:
    return log_sum(_parts(judge, view))


def _against(all_series: Sequence[Series], view: int) -> float:
    counted = [s.evidence.log_odds for s in all_series if _counts(s, view)]
    return log_sum(counted) - log(len(all_series))


def _counts(series: Series, view: int) -> bool:
    """Say whether the evidence of *series* counts: beyond the tolerance; or beyond a limit that the baseline keeps."""
    if series.limited:
        return series.evidence.exceeds(0) and not series.evidence.beyond[1] > 0
    return series.evidence.exceeds(view)


def _environment(series: Series, bar: float) -> bool:
    """Say whether challenger and baseline both break the limit of *series*, for certain."""
    evidence = series.evidence
    return series.limited and evidence.log_odds >= bar and evidence.exceeds(0) and evidence.beyond[1] > 0


def _finding(judge: Judge, number: int, step: int, blamed: bool, with_intervals: bool) -> Finding:
    policy, guard, all_series = judge.policy, judge.policy.guards[number], judge.guards[number]
    view, bar = _view(policy, step), log(1 / policy.alpha)
    series = max(all_series, key=lambda s: s.evidence.log_odds)
    certified = all(s.certificate(view).granted for s in all_series)
    evidence = {
        **_counted(guard, series),
        **_tolerated(judge, guard, all_series, series, view),
        "interval": _interval(guard, series, policy.alpha) if with_intervals or blamed else None,
        "odds": as_odds(
            log_sum([s.evidence.log_odds for s in all_series]) - log(len(all_series)) - log(len(judge.guards))
        ),
        "bar": 1 / policy.alpha,
        "beyond_tolerance": any(_counts(s, view) for s in all_series),
        "certified": certified,
        "certificate_odds": as_odds(min(s.certificate(view).log_odds for s in all_series)),
        "certificate_bar": 1 / policy.beta,
        **_outlook(judge, guard, all_series, step),
    }
    verdict = Verdict.FAIL if blamed else Verdict.PASS if certified else Verdict.INCONCLUSIVE
    if not blamed and any(_environment(s, bar + log(len(judge.guards))) for s in all_series):
        verdict, evidence["environment"] = Verdict.ERROR, True
    return Finding(guard.name, verdict, reason_of(guard, verdict, evidence, policy), evidence)


def _counted(guard: Guard, series: Series) -> dict[str, Any]:
    """Return counts, rates (or means) and the estimated excess, in the guard's own unit."""
    seen, limit = series.seen[0], _limit(guard, series)
    excess = intervals.estimate(series.stretches, alone=series.limited)
    told: dict[str, Any] = {
        "challenger_n": round(seen.challenger_n),
        "baseline_n": round(seen.baseline_n),
        "excess": (excess - limit) * guard.width if excess is not None else None,
        "unit": "labels" if guard.kind in FROM_LABELS else "requests",
        "limit": guard.limit,
    }
    if isinstance(seen, Table):
        told |= {"challenger_bad": round(seen.challenger_bad, 1), "baseline_bad": round(seen.baseline_bad, 1)}
        totals = seen.challenger_bad, seen.baseline_bad
    else:
        totals = seen.challenger_sum, seen.baseline_sum
    for arm, n, total in (("challenger", seen.challenger_n, totals[0]), ("baseline", seen.baseline_n, totals[1])):
        rate = total / n if n else None
        if guard.kind is GuardKind.METRIC and rate is not None:
            rate = guard.high - rate * guard.width if guard.higher_is_better else guard.low + rate * guard.width
        told[f"{arm}_rate"] = rate
    return told


def _limit(guard: Guard, series: Series) -> float:
    """Return the limit on the scale on which more is worse; 0 where the champion is compared with."""
    return game(guard, series.quantile).limit or 0.0


def _tolerated(judge: Judge, guard: Guard, all_series: Sequence[Series], leading: Series, view: int) -> dict[str, Any]:
    """Return what is tolerated at a step: a limit, a margin, or for latency a ratio of each quantile."""
    threshold = {"quantile": leading.quantile, "threshold": leading.seconds} if leading.quantile else {}
    margin = leading.certificate(view).margin
    if guard.limit is not None:
        return {**threshold, "tolerance": guard.limit}
    if guard.kind is not GuardKind.LATENCY:
        return {"tolerance": margin * guard.width}
    upto = [[*accumulate(counts)] for counts in judge.latencies]
    quantiles = [
        {
            "quantile": s.quantile,
            "threshold": s.seconds,
            "certified": s.certificate(view).granted,
            **{
                arm: seconds_at(position(counts, s.quantile)) if counts[-1] else None
                for arm, counts in zip(("baseline", "challenger"), upto, strict=True)
            },
        }
        for s in all_series
    ]
    return {
        **threshold,
        "tolerance": GRID_RATIO ** leading.shifts[view],
        "ratio": leading.tolerances[view][0],
        "grace": leading.tolerances[view][1],
        "slack": margin,
        "quantiles": quantiles,
        "now": next(q for q in quantiles if q["quantile"] == leading.quantile),
    }


def _interval(guard: Guard, series: Series, level: float) -> tuple[float, float] | None:
    found, limit = intervals.interval(series.stretches, level, alone=series.limited), _limit(guard, series)
    return ((found[0] - limit) * guard.width, (found[1] - limit) * guard.width) if found is not None else None


def _outlook(judge: Judge, guard: Guard, all_series: Sequence[Series], step: int) -> dict[str, Any]:
    """Say how many more outcomes would settle it: the median, and what nine of ten need at most.

    `needs` leads to the certificate, `back` to a rollback where the challenger looks beyond what is tolerated.
    """
    policy, view = judge.policy, _view(judge.policy, step)
    share = _share(policy, step, all_series[0].seen[0])
    bar, latencies = log(1 / policy.beta), judge.latencies[0]
    needs = [s.needs(game(guard, s.quantile), view, share, bar, latencies) for s in all_series]
    most = None if None in needs else max(n for n in needs if n is not None)
    far = log(1 / policy.alpha) + 1 + log(len(all_series) * len(judge.guards))
    paces = [(s, game(guard, s.quantile).decline(s.seen[0], share)) for s in all_series if _counts(s, view)]
    back = min((max(1, ceil((far - s.evidence.log_odds) / pace)) for s, pace in paces if pace > 1e-9), default=None)
    return {"needs": most, "unlucky": round(UNLUCKY * most) if most is not None else None, "back": back}


def _share(policy: Canary, step: int, seen: intervals.Outcomes) -> float:
    if step < len(policy.shares):
        return policy.shares[step] / 100
    if not seen.one_sided:
        return seen.challenger_n / (seen.challenger_n + seen.baseline_n)
    return 0.5


def _sparse(counts: Sequence[float]) -> dict[str, float]:
    return {str(k): count for k, count in enumerate(counts) if count}


def _dense(counts: Mapping[str, float]) -> tuple[float, ...]:
    return tuple(float(counts.get(str(k), 0.0)) for k in range(BUCKETS))
