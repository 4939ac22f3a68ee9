"""Whether the evidence can be trusted: checks of the data, which hold a release and never send it back.

Counts that cannot be are refused when they come (`refuse_impossible`); what only time shows is a finding: traffic or
labels divided otherwise than asked, nothing counted for long.  The trade-off: an alarm about a division is latched for
its routing.  More requests would thin it out, but what was counted while the arms could not be compared stays in the
evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import lgamma, log
from numbers import Integral, Real
from typing import Any

from modelcd.domain.eprocess import as_odds
from modelcd.domain.policy import FROM_LABELS, Canary
from modelcd.domain.samples import BUCKETS, Block, Counters, Labels, Sums
from modelcd.domain.verdict import Finding, Verdict

RATIO_LEVEL = 0.001
"""The chance that correctly divided traffic is ever called wrongly divided, per routing revision."""

QUIET = 300.0
"""Seconds without a request after which nothing is concluded until one comes."""

MOST = 10**15
"""Counts beyond this are no counts: a float no longer tells one from the next."""

_PRIOR = 1000
"""How sharply the mixture that tests a share lies around it: of so many requests' weight."""


@dataclass(frozen=True, slots=True)
class Split:
    """How requests and labels served under one routing were divided, to be held against the *share* asked for.

    Pairs are (challenger, baseline).  `odds` holds the strongest evidence ever (a logarithm) that the requests, and
    that the labels, were not divided so.
    """

    share: float
    requests: tuple[int, int] = (0, 0)
    labels: tuple[int, int] = (0, 0)
    odds: tuple[float, float] = (0.0, 0.0)


def refuse_impossible(policy: Canary, block: Block, last: float | None) -> None:
    """Raise `ValueError`, saying what to do, for counts that cannot be; *last* is when the block before was read."""
    if not isinstance(block, Block):
        raise ValueError(f"a judge is given a Block, got {type(block).__name__}")
    steps = len(policy.shares)
    if not _integer(block.step) or not 0 <= block.step <= steps:
        raise ValueError(f"a step counts from 0 to {steps}, the number of shares, got {block.step!r}")
    if block.share is not None and not (_number(block.share) and 0 < block.share < 100):
        raise ValueError(f"a block's share is per cent, above 0 and below 100, got {block.share!r}")
    if block.at is not None and not _number(block.at):
        raise ValueError(f"a block's time is in seconds, got {block.at!r}")
    if block.at is not None and last is not None and float(block.at) < last:
        raise ValueError(f"the clock went back from {last:.1f} to {block.at:.1f} s; give blocks in order")
    if block.unit is not policy.unit:
        raise ValueError(
            f"assignment is by {policy.unit}, these counts are by {block.unit}: outcomes of one {policy.unit} are not "
            f"independent, so count one outcome per {policy.unit} (bad if any was)"
        )
    _refuse_counters(block)
    _refuse_labels(policy, block)


def _refuse_counters(block: Block) -> None:
    for arm, counters in (("baseline", block.baseline), ("challenger", block.challenger)):
        if not isinstance(counters, Counters) or not isinstance(counters.latency, tuple):
            raise ValueError(f"{arm}: Counters are needed, with a tuple of latencies, got {counters!r}")
        if len(counters.latency) != BUCKETS:
            raise ValueError(f"{arm}: {len(counters.latency)} latency buckets, the grid has {BUCKETS}")
        if not _whole(counters.requests, counters.failures, *counters.latency):
            raise ValueError(f"{arm}: counts must be whole and not negative; read the metrics again")
        if counters.failures > counters.requests:
            raise ValueError(f"{arm}: {counters.failures} failures of {counters.requests} requests cannot be")


def _refuse_labels(policy: Canary, block: Block) -> None:
    guards = {guard.name: guard for guard in policy.guards if guard.kind in FROM_LABELS}
    for given, kind in ((block.labels, Labels), (block.sums, Sums)):
        pairs = given.values() if isinstance(given, Mapping) else [given]
        arms = [pair for served in pairs for pair in (served.values() if isinstance(served, Mapping) else [None])]
        if any(not isinstance(p, tuple) or len(p) != 2 or not all(isinstance(a, kind) for a in p) for p in arms):
            name = kind.__name__
            raise ValueError(f"{name.lower()} map guard and routing to a pair (baseline, challenger) of {name}")
    for name in {*block.labels, *block.sums} - {*guards, ""}:
        raise ValueError(f"no guard that labels feed is called {name!r}; there are {', '.join(guards) or 'none'}")
    for revision, pair in ((r, pair) for served in block.labels.values() for r, pair in served.items()):
        for labels in pair:
            if not _whole(labels.n, labels.bad) or labels.bad > labels.n:
                raise ValueError(f"labels served under {revision}: {labels.bad} bad of {labels.n} cannot be")
    for name, served in block.sums.items():
        bounds = guards[name].low, guards[name].high
        for revision, sums in ((r, arm) for r, pair in served.items() for arm in pair):
            if not _whole(sums.n) or not _possible(sums.n, sums.total, sums.squares, bounds):
                raise ValueError(
                    f"{name}: {sums.n} numbers served under {revision} with the sum {sums.total} and the sum of squares"
                    f" {sums.squares} cannot lie between {bounds[0]:g} and {bounds[1]:g}"
                )


def _number(value: Any) -> bool:
    # An integer too large for a float is no number either; what Real can be compared with is known to itself alone.
    return isinstance(value, Real) and not isinstance(value, bool) and bool(abs(value) < 1e300)  # type: ignore[operator]


def _integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _whole(*counts: Any) -> bool:
    """Say whether all *counts* are whole, not negative, and no larger than a float can count."""
    if set(map(type, counts)) <= {int}:
        return bool(min(counts) >= 0 and max(counts) <= MOST)
    return all(_number(count) and bool(0 <= count <= MOST and count == int(count)) for count in counts)


def _possible(n: int, total: float, squares: float, bounds: tuple[float, float]) -> bool:
    low, high = bounds
    if not (_number(total) and _number(squares)):
        return False
    near = 1e-6 * max(1.0, abs(low), abs(high)) ** 2 * max(1, n)
    if not n * low - near <= total <= n * high + near:
        return False
    # Between the squares of equal numbers with this sum and those of numbers that are all at a bound.
    least = total * total / n if n else 0.0
    return least - near <= squares <= (low + high) * total - n * low * high + near


def divided(splits: tuple[tuple[str, Split], ...], policy: Canary, block: Block) -> tuple[tuple[str, Split], ...]:
    """Return *splits* after *block*."""
    found, served = dict(splits), (block.challenger.requests, block.baseline.requests)
    # Also blocks that only one arm had a request in: without them little traffic looks as if it were divided wrongly.
    if block.step < len(policy.shares) and any(served):
        share = (policy.shares[block.step] if block.share is None else block.share) / 100
        split = found.get(block.revision, Split(share))
        found[block.revision] = replace(split, requests=_plus(split.requests, served))
    for revision, labelled in _labelled(block).items():
        if revision in found:
            found[revision] = replace(found[revision], labels=_plus(found[revision].labels, labelled))
    return tuple((revision, _looked(split)) for revision, split in found.items())


def _plus(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return int(one[0] + other[0]), int(one[1] + other[1])


def _labelled(block: Block) -> dict[str, tuple[int, int]]:
    """Return how many labels each arm got, by routing: every guard judges the same ones."""
    most: dict[str, tuple[int, int]] = {}
    counted = [(r, pair[1].n, pair[0].n) for served in block.labels.values() for r, pair in served.items()]
    counted += [(r, sums[1].n, sums[0].n) for served in block.sums.values() for r, sums in served.items()]
    for revision, challenger, baseline in counted:
        known = most.get(revision, (0, 0))
        most[revision] = max(known[0], challenger), max(known[1], baseline)
    return most


def _looked(split: Split) -> Split:
    now = (_mixture(*split.requests, split.share), _mixture(*split.labels, split.share))
    return replace(split, odds=(round(max(split.odds[0], now[0]), 6), round(max(split.odds[1], now[1]), 6)))


def _mixture(challenger: int, baseline: int, share: float) -> float:
    """Return the logarithm of the evidence that the challenger's part is not *share*: a Beta mixture around it."""
    a, b = _PRIOR * share, _PRIOR * (1 - share)
    both = lgamma(a + challenger) + lgamma(b + baseline) - lgamma(a + b + challenger + baseline)
    return both - lgamma(a) - lgamma(b) + lgamma(a + b) - challenger * log(share) - baseline * log(1 - share)


def wrong_splits(splits: Iterable[tuple[str, Split]]) -> list[Finding]:
    """Return an error for each routing whose requests or labels were at any time certainly divided otherwise."""
    findings = []
    for revision, split in splits:
        pairs = (("requests", split.requests), ("labels", split.labels))
        for (what, (challenger, baseline)), odds in zip(pairs, split.odds, strict=True):
            if odds < log(1 / RATIO_LEVEL):
                continue
            found = 100 * challenger / (challenger + baseline)
            reason = (
                f"the challenger got {found:.1f} % of the {what} ({challenger:,} of {challenger + baseline:,}), "
                f"not the {100 * split.share:g} % asked for: the arms cannot be compared; "
                + ("look at the router" if what == "requests" else "look at who gets labels")
                + ", roll back and deliver again"
            )
            evidence: dict[str, Any] = {"check": True, "revision": revision, "share": split.share}
            evidence |= {"odds": as_odds(odds), "challenger_n": challenger, "baseline_n": baseline}
            findings.append(Finding("split", Verdict.ERROR, reason, evidence))
    return findings


def quiet(since: float | None, now: float | None) -> list[Finding]:
    """Return a finding when no request was counted for long; both are in seconds of the same clock."""
    if since is None or now is None or now - since < QUIET:
        return []
    reason = f"nothing was counted for {(now - since) / 60:.0f} min: no data is no evidence, in neither direction"
    return [Finding("data", Verdict.INCONCLUSIVE, reason, {"check": True, "seconds": round(now - since, 1)})]


def splits_plain(splits: Iterable[tuple[str, Split]]) -> dict[str, list[float]]:
    """Return *splits* as JSON values."""
    return {name: [s.share, *s.requests, *s.labels, *s.odds] for name, s in splits}


def splits_from(plain: Mapping[str, Any]) -> tuple[tuple[str, Split], ...]:
    """Read what `splits_plain` wrote."""
    return tuple((n, Split(s[0], (s[1], s[2]), (s[3], s[4]), (s[5], s[6]))) for n, s in plain.items())
