"""One comparison that a guard makes: outcomes of both arms, block by block, with the evidence they add up to.

A guard of errors or success has one, a guard of latency one per quantile.  What is tolerated at each step of the
ladder is a margin (errors, success) or a shift on the latency grid; each has a certificate of its own.

A latency threshold is meant to be the baseline's quantile, but only buckets are counted.  An edge near the quantile
would do, were latencies spread out; those of a fast model often share one bucket, and then nearly all or none lie
beyond an edge and nothing can be certified.  So the bucket that holds the quantile counts in part, by the same part
in both arms, and a tolerance moves bucket and part along the grid together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import ceil, log
from typing import Any

from modelcd.domain.eprocess import Certificate, Evidence, Excess, Rates, Table, clip, growth, learned
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.samples import BUCKETS, LATENCY_GRID, Counters

GRID_RATIO = 1.15
"""The ratio of neighbouring edges of `LATENCY_GRID`."""

WIDEST = 0.5
"""A tolerance that is a multiple of a margin never grows beyond this fraction (unless the margin itself is wider)."""

STEADY = 100.0
"""Pseudo-requests of an identical challenger in a forecast: it should not jump with every failure."""

SLACK = 0.01
"""How much more of the challenger's requests may be slower at an early step, per multiple of the tolerance above 1.

A shifted threshold alone would not help p99 there: to show that less than 1 % is slower than anything takes 300
requests of the challenger, which are 6,000 of both arms at 5 %.  The last step, and rolling back, know no slack.
"""

_PRIOR = {GuardKind.ERRORS: 0.5 / 25, GuardKind.SUCCESS: 2.5 / 25}


@dataclass(frozen=True, slots=True)
class Series:
    """What one comparison has seen.

    `prior` is the rate of bad outcomes expected before any data.  For latency, `quantile` is above 0, `tolerances` are
    (ratio, seconds), of which the wider counts, and `threshold` is (bucket, part of that bucket counted as slower).
    """

    prior: float
    evidence: Evidence
    certificates: tuple[Certificate, ...]
    excess: Excess
    quantile: float = 0.0
    tolerances: tuple[tuple[float, float], ...] = ()
    threshold: tuple[int, float] | None = None

    def after(self, table: Table, bar: float) -> Series:
        """Add one block of failures or of wrong answers; *bar* is a certificate's, as a logarithm."""
        if table.one_sided:
            return self
        beyond = [table.beyond(certificate.margin) for certificate in self.certificates]
        return self._with(table, beyond, [table] * len(self.certificates), bar)

    def after_latencies(self, baseline: Counters, challenger: Counters, bar: float) -> Series:
        """Add one block of latencies; nothing is slower or faster than a threshold that is not known yet."""
        baseline_n, challenger_n = sum(baseline.latency), sum(challenger.latency)
        if self.threshold is None or not baseline_n or not challenger_n:
            return self
        bucket, part = self.threshold
        slow = slower(baseline.latency, bucket, part)
        table, *tolerated = (
            Table(slower(challenger.latency, bucket + shift, part), challenger_n, slow, baseline_n)
            for shift in (0, *self.shifts)
        )
        return self._with(table, [shifted.beyond(0.0) for shifted in tolerated], tolerated, bar)

    def _with(self, table: Table, beyond: Sequence[float], tolerated: Sequence[Table], bar: float) -> Series:
        certificates = zip(self.certificates, tolerated, strict=True)
        return replace(
            self,
            evidence=self.evidence.after(table, beyond, self.prior),
            certificates=tuple(certificate.after(block, self.prior, bar) for certificate, block in certificates),
            excess=self.excess.after(table),
        )

    def refreshed(self, latencies: Sequence[int]) -> Series:
        """Take the threshold for the next blocks from the baseline's bucket counts so far."""
        return replace(self, threshold=_threshold(latencies, self.quantile))

    @property
    def shifts(self) -> tuple[int, ...]:
        """The tolerances in edges of the grid, beyond the present threshold."""
        spare = self.seconds
        wanted = (max(ratio, 1 + grace / spare) if spare else ratio for ratio, grace in self.tolerances)
        return tuple(max(1, round(log(ratio) / log(GRID_RATIO))) for ratio in wanted)

    @property
    def seconds(self) -> float | None:
        """The latency threshold in seconds; None when there is none (yet)."""
        if self.threshold is None:
            return None
        bucket, part = self.threshold
        return LATENCY_GRID[min(bucket, len(LATENCY_GRID) - 1)] / float(GRID_RATIO**part)

    def needs(self, view: int, share: float, bar: float, latencies: Sequence[int]) -> int | None:
        """Return about how many more outcomes of both arms settle the certificate of index *view*.

        *share* is the challenger's part of them.  None when the challenger looks beyond the tolerance: then no
        number would.  A median (judge, 4.6).
        """
        certificate = self.certificates[view]
        if certificate.granted:
            return 0
        seen, likely = certificate.seen, learned(certificate.seen, self.prior)
        same = likely.baseline
        if self.threshold is not None:
            bucket, part = self.threshold
            same = slower(latencies, bucket + self.shifts[view], part) / sum(latencies)
        elif self.quantile:
            same = likely.baseline / 2
        challenger = clip((seen.challenger_bad + STEADY * same) / (seen.challenger_n + STEADY))
        if challenger >= likely.baseline + certificate.margin:
            return None
        pace = growth(Rates(challenger, likely.baseline), share, certificate.margin)
        return max(1, ceil((bar - certificate.log_odds) / pace)) if pace > 1e-12 else None

    def to_plain(self) -> list[Any]:
        """Return JSON values."""
        excess = self.excess
        return [
            self.prior,
            self.evidence.to_plain(),
            [certificate.to_plain() for certificate in self.certificates],
            [excess.difference, excess.weight, excess.p, excess.q],
            self.quantile,
            [list(pair) for pair in self.tolerances],
            list(self.threshold) if self.threshold else None,
        ]

    @classmethod
    def from_plain(cls, plain: Sequence[Any]) -> Series:
        """Read what `to_plain` wrote."""
        prior, evidence, certificates, excess, quantile, tolerances, threshold = plain
        return cls(
            prior,
            Evidence.from_plain(evidence),
            tuple(Certificate.from_plain(certificate) for certificate in certificates),
            Excess(*excess),
            quantile,
            tuple((ratio, grace) for ratio, grace in tolerances),
            (threshold[0], threshold[1]) if threshold else None,
        )


def factors(policy: Canary) -> tuple[float, ...]:
    """Return the distinct multiples of a margin that *policy* tolerates on its way to 100 %."""
    return tuple(dict.fromkeys(policy.tolerance_factor(step) for step in range(len(policy.shares) + 1)))


def begin(guard: Guard, policy: Canary) -> tuple[Series, ...]:
    """Return the comparisons of *guard* before any data."""
    multiples = factors(policy)
    if guard.kind is not GuardKind.LATENCY:
        margins = (min(guard.margin * f, max(guard.margin, WIDEST)) for f in multiples)
        certificates = tuple(Certificate(margin) for margin in margins)
        return (Series(_PRIOR[guard.kind], Evidence(len(multiples)), certificates, Excess()),)
    return tuple(
        Series(
            1 - quantile,
            Evidence(len(multiples)),
            tuple(Certificate(SLACK * (f - 1)) for f in multiples),
            Excess(),
            quantile,
            tuple((1 + (ratio - 1) * f, guard.grace * f) for f in multiples),
        )
        for quantile, ratio in guard.ratios
    )


def slower(counts: Sequence[int], bucket: int, part: float) -> float:
    """Count what is slower than a threshold inside *bucket*, of which *part* is; beyond the grid, its last bucket."""
    bucket = min(bucket, BUCKETS - 1)
    return sum(counts[bucket + 1 :]) + part * counts[bucket]


def _threshold(counts: Sequence[int], quantile: float) -> tuple[int, float]:
    below, rank = 0, quantile * sum(counts)
    for bucket, upto in enumerate(accumulate(counts)):
        if upto >= rank and upto > below:
            return bucket, (upto - rank) / (upto - below)
        below = upto
    return BUCKETS - 1, 0.0
