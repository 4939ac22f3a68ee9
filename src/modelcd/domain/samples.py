"""What was counted, per version and stretch of time.

Latencies are counted on one logarithmic grid (ratio 1.15) that the gateway, the judge and the thresholds share, so
that a threshold is always a bucket's edge.  A stretch (`Block`) never straddles a change of share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import add as plus
from typing import Any

from modelcd.domain.routing import Unit

LATENCY_GRID: tuple[float, ...] = tuple(float(f"{0.0005 * 1.15**k:.4g}") for k in range(85))
"""Upper edges of the latency buckets in seconds, 0.5 ms to about 63 s; one more bucket holds what is slower."""

BUCKETS = len(LATENCY_GRID) + 1


@dataclass(frozen=True)
class Counters:
    """What one version answered since its counters began (cumulative).

    `requests` and `failures` are by assignment: answers of 499 (the client left) are in neither; failures are
    answers other than 2xx and 3xx, and answers cut in mid-body.  `latency` has `BUCKETS` plain (not cumulative)
    counts.  `rescued` of the failures were answered by the fallback, so no user saw them.  `epoch` names the life of
    the counter that this was read from: after a restart it is another one, however far the new counts have come.
    """

    requests: int = 0
    failures: int = 0
    latency: tuple[int, ...] = (0,) * BUCKETS
    rescued: int = 0
    epoch: str = ""

    def since(self, earlier: Counters) -> Counters:
        """Return what was counted after *earlier*; counters that began anew count from zero."""
        if self.began_after(earlier):
            return self
        return Counters(
            requests=self.requests - earlier.requests,
            failures=self.failures - earlier.failures,
            latency=tuple(max(0, b - a) for a, b in zip(earlier.latency, self.latency, strict=True)),
            rescued=max(0, self.rescued - earlier.rescued),
            epoch=self.epoch,
        )

    def began_after(self, earlier: Counters) -> bool:
        """Say whether these counters began anew after *earlier*: another epoch shows it, and so does a decrease."""
        restarted = bool(self.epoch and earlier.epoch) and self.epoch != earlier.epoch
        return restarted or self.requests < earlier.requests or self.failures < earlier.failures


@dataclass(frozen=True)
class Labels:
    """Answers whose truth is known: `n` of them, `bad` of them of the outcome that is not wanted."""

    n: int = 0
    bad: int = 0

    def plus(self, other: Labels) -> Labels:
        """Add the labels of *other*."""
        return Labels(self.n + other.n, self.bad + other.bad)


@dataclass(frozen=True)
class Sums:
    """Numbers that a metric gave for answers whose truth is known: how many, their sum, the sum of their squares."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def plus(self, other: Sums) -> Sums:
        """Add the numbers of *other*."""
        return Sums(self.n + other.n, self.total + other.total, self.squares + other.squares)


@dataclass(frozen=True)
class Block:
    """What the champion (`baseline`) and the challenger did at the same time under one and the same routing.

    `labels` maps the name of a guard and the routing revision *under which the requests were served* to (baseline,
    challenger) labels that arrived in this block, whenever they were served; `sums` does so for guards of numbers.
    `told_by` says how many of these labels came from whom.
    `share` is what the challenger was given under `revision`, in per cent, where that is not the share of `step`: in a
    replay under another policy.  `at` is when the counts were read, in seconds of a clock that never goes back; None
    where that was not kept.  `unit` is what the counts count.
    """

    revision: str
    step: int
    baseline: Counters = field(default_factory=Counters)
    challenger: Counters = field(default_factory=Counters)
    labels: Mapping[str, Mapping[str, tuple[Labels, Labels]]] = field(default_factory=dict)
    sums: Mapping[str, Mapping[str, tuple[Sums, Sums]]] = field(default_factory=dict)
    told_by: Mapping[str, int] = field(default_factory=dict)
    share: float | None = None
    at: float | None = None
    unit: Unit = Unit.REQUEST


def add(one: Counters, other: Counters) -> Counters:
    """Return the sum of two stretches of counts."""
    return Counters(
        requests=one.requests + other.requests,
        failures=one.failures + other.failures,
        latency=tuple(map(plus, one.latency, other.latency)),
        rescued=one.rescued + other.rescued,
        epoch=other.epoch or one.epoch,
    )


def counters_plain(counters: Counters) -> dict[str, Any]:
    """Return *counters* as JSON values, empty latency buckets left out."""
    return {
        "requests": counters.requests,
        "failures": counters.failures,
        "rescued": counters.rescued,
        "latency": {str(k): n for k, n in enumerate(counters.latency) if n},
        **({"epoch": counters.epoch} if counters.epoch else {}),
    }


def counters_from(plain: Mapping[str, Any]) -> Counters:
    """Read what `counters_plain` wrote."""
    latency = list(Counters().latency)
    for bucket, count in plain["latency"].items():
        latency[int(bucket)] = int(count)
    epoch = str(plain.get("epoch", ""))
    return Counters(int(plain["requests"]), int(plain["failures"]), tuple(latency), int(plain["rescued"]), epoch)


def block_plain(block: Block) -> dict[str, Any]:
    """Return *block* as JSON values."""
    return {
        "revision": block.revision,
        "step": block.step,
        "baseline": counters_plain(block.baseline),
        "challenger": counters_plain(block.challenger),
        "labels": {
            guard: {r: [base.n, base.bad, new.n, new.bad] for r, (base, new) in served.items()}
            for guard, served in block.labels.items()
        },
        **({"sums": {guard: _sums_plain(served) for guard, served in block.sums.items()}} if block.sums else {}),
        **({"told_by": dict(block.told_by)} if block.told_by else {}),
        **({"share": block.share} if block.share is not None else {}),
        **({"at": block.at} if block.at is not None else {}),
        **({"unit": block.unit.value} if block.unit is not Unit.REQUEST else {}),
    }


def _sums_plain(served: Mapping[str, tuple[Sums, Sums]]) -> dict[str, list[float]]:
    return {r: [b.n, b.total, b.squares, c.n, c.total, c.squares] for r, (b, c) in served.items()}


def block_from(plain: Mapping[str, Any]) -> Block:
    """Read what `block_plain` wrote."""
    return Block(
        revision=plain["revision"],
        step=plain["step"],
        baseline=counters_from(plain["baseline"]),
        challenger=counters_from(plain["challenger"]),
        labels={
            guard: {r: (Labels(n[0], n[1]), Labels(n[2], n[3])) for r, n in served.items()}
            for guard, served in plain["labels"].items()
        },
        sums={
            guard: {r: (Sums(int(n[0]), n[1], n[2]), Sums(int(n[3]), n[4], n[5])) for r, n in served.items()}
            for guard, served in plain.get("sums", {}).items()
        },
        told_by={who: int(count) for who, count in plain.get("told_by", {}).items()},
        share=plain.get("share"),
        at=plain.get("at"),
        unit=Unit(plain.get("unit", Unit.REQUEST.value)),
    )
