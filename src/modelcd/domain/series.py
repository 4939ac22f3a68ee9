"""One comparison that a guard makes: outcomes block by block, with the evidence they add up to.

A guard of errors or success has one, a guard of latency one per quantile.  What is tolerated at each step of the
ladder is a margin or, for latency, a shift on the grid; each has a certificate of its own.

A latency threshold is meant to be the baseline's quantile, but only buckets are counted.  An edge near the quantile
would do, were latencies spread out; those of a fast model often share one bucket, and then nearly all or none lie
beyond an edge and nothing can be certified.  So a threshold is a *position* on the grid, in edges: the bucket that
holds it counts in part, by the same part in both arms, and a tolerance moves the position by as many edges (and parts
of one) as it is wide.  A tolerance narrower than the grid (15 %) is widened to it: buckets cannot show less.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, log
from typing import Any

from modelcd.domain.eprocess import FINE, WORSE, Certificate, Evidence, Table
from modelcd.domain.games import Game, nothing
from modelcd.domain.intervals import Outcomes, Stretch, grown
from modelcd.domain.means import Moments
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.samples import BUCKETS, LATENCY_GRID, Counters

GRID_RATIO = 1.15
"""The ratio of neighbouring edges of `LATENCY_GRID`."""

WIDEST = 0.5
"""A tolerance that is a multiple of a margin never grows beyond this fraction (unless the margin itself is wider)."""

SLACK = 0.01
"""How much more of the challenger's requests may be slower at an early step, per multiple of the tolerance above 1.

A shifted threshold alone would not help p99 there: to show that less than 1 % is slower than anything takes 300
requests of the challenger, which are 6,000 of both arms at 5 %.  The last step, and rolling back, know no slack.
"""

UNLUCKY = 2.5
"""Nine of ten certificates take at most so many times the median (judge, 4.6; by simulation)."""


@dataclass(frozen=True, slots=True)
class Series:
    """What one comparison has seen.

    `seen` holds all outcomes as they were compared; for latency also as they were tolerated at each step.  `waiting`
    holds, by routing, outcomes that wait for the other arm's: an arm alone shows nothing, but it is not lost.  For
    latency, `quantile` is above 0, `tolerances` are (ratio, seconds), of which the wider counts, and `threshold` is a
    position on the grid, None while none is known.
    """

    evidence: Evidence
    certificates: tuple[Certificate, ...]
    seen: tuple[Outcomes, ...]
    stretches: tuple[Stretch, ...] = ()
    waiting: tuple[tuple[str, tuple[Outcomes, ...]], ...] = ()
    quantile: float = 0.0
    tolerances: tuple[tuple[float, float], ...] = ()
    threshold: float | None = None

    def after(self, rules: Game, revision: str, blocks: Sequence[Outcomes], bar: float) -> Series:
        """Add one block served under *revision*; *bar* is a certificate's, as a logarithm.

        *blocks* holds the outcomes as compared and, for latency, as tolerated at each step.
        """
        if not _size(blocks[0]):
            return self
        # A series holds outcomes of one kind only, which its type does not say (the ignores below).
        for waited in (before for name, before in self.waiting if name == revision):
            blocks = [one.plus(other) for one, other in zip(waited, blocks, strict=True)]  # type: ignore[arg-type]
        others = tuple(entry for entry in self.waiting if entry[0] != revision)
        first, tolerated = blocks[0], [*blocks[1:]] or [blocks[0]] * len(self.certificates)
        if first.challenger_n <= 0 if rules.limit is not None else first.one_sided:
            return replace(self, waiting=(*others, (revision, tuple(blocks))))
        margins = [0.0 if self.tolerances else held.margin for held in self.certificates]
        known = [*self.seen[1:]] or [self.seen[0]] * len(self.certificates)
        certificates = tuple(
            held if held.granted else held.after(rules.fine(seen, block, held.margin), FINE, bar)
            for held, seen, block in zip(self.certificates, known, tolerated, strict=True)
        )
        return replace(
            self,
            evidence=self.evidence.after(rules.worse(self.seen[0], first), WORSE, rules.beyond(tolerated, margins)),
            certificates=certificates,
            seen=tuple(seen.plus(block) for seen, block in zip(self.seen, blocks, strict=True)),  # type: ignore[arg-type]
            stretches=grown(self.stretches, revision, self.seen[0], first),
            waiting=others,
        )

    def tables(self, baseline: Counters, challenger: Counters) -> list[Outcomes]:
        """Return what is slower than the threshold; nothing is slower or faster than one that is not known yet."""
        baseline_n, challenger_n = float(sum(baseline.latency)), float(sum(challenger.latency))
        if self.threshold is None:
            return [Table()] * (1 + len(self.shifts))
        slow = slower(baseline.latency, self.threshold)
        return [
            Table(slower(challenger.latency, self.threshold + shift), challenger_n, slow, baseline_n)
            for shift in (0.0, *self.shifts)
        ]

    def refreshed(self, upto: Sequence[float]) -> Series:
        """Take the threshold for the next blocks from the baseline's bucket counts of late, summed up."""
        return replace(self, threshold=position(upto, self.quantile))

    @property
    def shifts(self) -> tuple[float, ...]:
        """The tolerances in edges of the grid, beyond the present threshold; the grid can show no less than one."""
        spare = self.seconds
        wanted = (max(ratio, 1 + grace / spare) if spare else ratio for ratio, grace in self.tolerances)
        return tuple(max(1.0, log(ratio) / log(GRID_RATIO)) for ratio in wanted)

    @property
    def seconds(self) -> float | None:
        """The latency threshold in seconds; None when there is none (yet)."""
        return seconds_at(self.threshold) if self.threshold is not None else None

    @property
    def limited(self) -> bool:
        """Say whether it holds the challenger against a limit."""
        return not self.tolerances and len(self.certificates) < self.evidence.tolerances

    def certificate(self, view: int) -> Certificate:
        """Return the certificate for the tolerance of that index; a limit has one for all."""
        return self.certificates[min(view, len(self.certificates) - 1)]

    def needs(self, rules: Game, view: int, share: float, bar: float, latencies: Sequence[float]) -> int | None:
        """Return about how many more outcomes of both arms settle the certificate of index *view*: a median.

        *share* is the challenger's part of them.  None when the challenger looks beyond the tolerance: then no
        number would.  Nine of ten need at most `UNLUCKY` times as many.
        """
        held = self.certificate(view)
        if held.granted:
            return 0
        same, seen = None, self.seen[min(view + 1, len(self.seen) - 1)]
        if self.tolerances:
            same = (1 - self.quantile) / 2
            if self.threshold is not None and sum(latencies) > 0:
                same = slower(latencies, self.threshold + self.shifts[view]) / sum(latencies)
        pace = rules.pace(seen, share, held.margin, same)
        return max(1, ceil((bar - held.log_odds) / pace)) if pace is not None and pace > 1e-12 else None

    def to_plain(self) -> list[Any]:
        """Return JSON values."""
        return [
            self.evidence.to_plain(),
            [held.to_plain() for held in self.certificates],
            [list(seen) for seen in self.seen],
            [[name, list(known), list(seen)] for name, known, seen in self.stretches],
            [[name, [list(block) for block in blocks]] for name, blocks in self.waiting],
            self.quantile,
            [list(pair) for pair in self.tolerances],
            self.threshold,
        ]

    @classmethod
    def from_plain(cls, plain: Sequence[Any]) -> Series:
        """Read what `to_plain` wrote."""
        evidence, certificates, seen, stretches, waiting, quantile, tolerances, threshold = plain
        return cls(
            evidence=Evidence.from_plain(evidence),
            certificates=tuple(Certificate.from_plain(held) for held in certificates),
            seen=tuple(_outcomes(numbers) for numbers in seen),
            stretches=tuple(Stretch(name, tuple(known), _outcomes(numbers)) for name, known, numbers in stretches),
            waiting=tuple((name, tuple(_outcomes(numbers) for numbers in blocks)) for name, blocks in waiting),
            quantile=quantile,
            tolerances=tuple((ratio, grace) for ratio, grace in tolerances),
            threshold=threshold,
        )


def _outcomes(numbers: Sequence[float]) -> Outcomes:
    return Table(*numbers) if len(numbers) == len(Table._fields) else Moments(*numbers)


def factors(policy: Canary) -> tuple[float, ...]:
    """Return the distinct multiples of a margin that *policy* tolerates on its way to 100 %."""
    return tuple(dict.fromkeys(policy.tolerance_factor(step) for step in range(len(policy.shares) + 1)))


def begin(guard: Guard, policy: Canary) -> tuple[Series, ...]:
    """Return the comparisons of *guard* before any data."""
    multiples = factors(policy)
    if guard.limit is not None:
        threshold = position_of(guard.limit) if guard.kind is GuardKind.LATENCY else None
        quantile = guard.quantile if guard.kind is GuardKind.LATENCY else 0.0
        return (Series(Evidence(2), (Certificate(0.0),), (nothing(guard),), quantile=quantile, threshold=threshold),)
    if guard.kind is not GuardKind.LATENCY:
        margin = guard.margin / guard.width
        held = tuple(Certificate(min(margin * f, max(margin, WIDEST))) for f in multiples)
        return (Series(Evidence(len(multiples)), held, (nothing(guard),)),)
    return tuple(
        Series(
            Evidence(len(multiples)),
            tuple(Certificate(SLACK * (f - 1)) for f in multiples),
            (Table(),) * (1 + len(multiples)),
            quantile=quantile,
            tolerances=tuple((1 + (ratio - 1) * f, guard.grace * f) for f in multiples),
        )
        for quantile, ratio in guard.ratios
    )


# Positions on the latency grid, in edges: k + f lies in bucket k, at the part f of its width.


def slower(counts: Sequence[float], place: float) -> float:
    """Count what is slower than the position *place*, in part within its bucket; beyond the grid, in its last one."""
    bucket = min(int(place), BUCKETS - 1)
    return float(sum(counts[bucket + 1 :]) + (1 - place % 1) * counts[bucket])


def position(upto: Sequence[float], quantile: float) -> float:
    """Return where *quantile* lies among bucket counts that were summed up bucket by bucket."""
    rank = quantile * upto[-1]
    bucket = min(bisect_left(upto, rank), BUCKETS - 1)
    below = upto[bucket - 1] if bucket else 0.0
    part = (rank - below) / (upto[bucket] - below) if upto[bucket] > below else 0.0
    return round(bucket + min(part, 0.9999), 4)


def position_of(seconds: float) -> float:
    """Return where a latency of *seconds* lies, snapped to the nearest edge that is not above it: the careful side."""
    return float(sum(edge <= seconds * (1 + 1e-9) for edge in LATENCY_GRID))


def seconds_at(place: float) -> float:
    """Return the latency in seconds at the position *place*."""
    return float(LATENCY_GRID[0] * GRID_RATIO ** (min(place, BUCKETS) - 1))


def _size(seen: Outcomes) -> float:
    return seen.challenger_n + seen.baseline_n
