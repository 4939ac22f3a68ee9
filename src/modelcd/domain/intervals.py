"""How much worse the challenger is, with limits that hold at all times together.

A limit is where a test stops to reject: the interval holds every margin that neither "it is worse by at most this" nor
"it is worse by at least this" has been refuted for (inversion of tests).  Margins cannot all be played tick by tick,
so what was seen is kept in a few *stretches*, each three times as long as all before it together and never across a
change of share.  What is bet in a stretch was settled when it began, from what had been seen by then; so the tests are
the same sequential tests as those that decide, only with fewer moments at which they learn.

The trade-off: about half as wide again as an interval that may be looked at once, and computed when somebody looks
(some milliseconds), not with every tick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, log
from typing import NamedTuple

from modelcd.domain import means
from modelcd.domain.eprocess import Null, Rates, Table, clip, learned, log_e, log_sum
from modelcd.domain.means import Guess, Moments

LONGER = 2.0
"""A stretch ends when it has this many times the outcomes of all others."""

CONTRASTS = (0.03, 0.1, 0.25, 0.6, 1.2, 2.5, 5.0)
"""How far beyond a margin the challenger is in the bets: log odds for rates, standard deviations for means."""

LEVELS = ((0.003,), (0.02,), (0.02,), (0.1,), (0.4,)), ((0.1, 0.01, 0.01), (0.4, 0.04, 0.04), (0.8, 0.04, 0.04))
"""What is thought possible where next to nothing was known: the baseline's rate; or its mean, and both variances."""

_ENOUGH = 50
_HALVINGS = 24

Outcomes = Table | Moments


class Stretch(NamedTuple):
    """Outcomes under the routing *revision*; *known* is what was known of the arms when it began."""

    revision: str
    known: tuple[float, ...]
    seen: Outcomes


def grown(stretches: Sequence[Stretch], revision: str, known: Outcomes, block: Outcomes) -> tuple[Stretch, ...]:
    """Return *stretches* with *block* in the open one of its revision, or in a new one that begins with *known*."""
    sizes = [_size(stretch.seen) for stretch in stretches]
    place = max((k for k, stretch in enumerate(stretches) if stretch.revision == revision), default=-1)
    if place < 0 or sizes[place] >= LONGER * (sum(sizes) - sizes[place]):
        return (*stretches, Stretch(revision, _known(known), block))
    added = stretches[place]._replace(seen=_add(stretches[place].seen, block))
    return (*stretches[:place], added, *stretches[place + 1 :])


def _add(one: Outcomes, other: Outcomes) -> Outcomes:
    total = (round(a + b, 4) for a, b in zip(one, other, strict=True))
    return Table(*total) if isinstance(one, Table) else Moments(*total)


def _total(seen: Outcomes) -> float:
    return seen.challenger_bad if isinstance(seen, Table) else seen.challenger_sum


def _size(seen: Outcomes) -> float:
    return seen.challenger_n + seen.baseline_n


def _known(seen: Outcomes) -> tuple[float, ...]:
    if _size(seen) < _ENOUGH:
        return ()
    if isinstance(seen, Table):
        return (float(f"{learned(seen, 0.02).baseline:.6g}"),)
    guess = means.learned(seen)
    return tuple(float(f"{value:.6g}") for value in (guess.mean, guess.challenger_variance, guess.baseline_variance))


def estimate(stretches: Sequence[Stretch], *, alone: bool = False) -> float | None:
    """Return the challenger's rate (or mean) minus the baseline's, stretch by stretch (Mantel-Haenszel); None if empty.

    *alone* asks for the challenger's own.
    """
    if alone:
        n = sum(stretch.seen.challenger_n for stretch in stretches)
        return sum(_total(stretch.seen) for stretch in stretches) / n if n else None
    compared = [stretch.seen for stretch in stretches if not stretch.seen.one_sided]
    weight = sum(s.challenger_n * s.baseline_n / _size(s) for s in compared)
    return sum(s.beyond(0.0) for s in compared) / weight if weight > 0 else None


def interval(stretches: Sequence[Stretch], level: float, *, alone: bool = False) -> tuple[float, float] | None:
    """Return a lower and an upper limit for the excess; None before any data.

    Each holds at all times together with a chance of 1 - *level*, as the verdict that it stands beside.  Fractions:
    0.01 is one percentage point of a rate, a hundredth of the range of a bounded number.  *alone* asks for limits of
    the challenger's own rate or mean.
    """
    value = estimate(stretches, alone=alone)
    if value is None:
        return None
    bar, least = log(1 / level), 0.0 if alone else -1.0
    low = _edge(lambda margin: _against(stretches, margin, Null.NOT_WORSE, alone) >= bar, value, least)
    high = _edge(lambda margin: _against(stretches, margin, Null.TOO_BAD, alone) >= bar, value, 1.0)
    return low, high


def _edge(refuted: Callable[[float], bool], inside: float, outside: float) -> float:
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if refuted(middle) else (middle, outside)
    return outside


def _against(stretches: Sequence[Stretch], margin: float, null: Null, alone: bool) -> float:
    """Return the logarithm of the evidence against an excess of at most, or at least, *margin*."""
    up = null is Null.NOT_WORSE
    wealths = []
    for contrast in CONTRASTS if up else [-contrast for contrast in CONTRASTS]:
        wealths.append(sum(_bet(stretch, margin, contrast, alone) for stretch in stretches))
    return log_sum(wealths) - log(len(CONTRASTS))


def _bet(stretch: Stretch, margin: float, contrast: float, alone: bool) -> float:
    levels = (stretch.known,) if stretch.known else LEVELS[isinstance(stretch.seen, Moments)]
    gain = _gain_alone if alone else _gain
    gains = [gain(stretch.seen, level, margin, contrast) for level in levels]
    return log_sum(gains) - log(len(gains))


def _gain(seen: Outcomes, level: tuple[float, ...], margin: float, contrast: float) -> float:
    if isinstance(seen, Table):
        null = Null.NOT_WORSE if contrast > 0 else Null.TOO_BAD
        return log_e(seen, Rates(_moved(level[0] + margin, contrast), clip(level[0])), null, margin)
    mean, challenger_variance, baseline_variance = level
    guess = Guess(mean, margin + contrast * baseline_variance**0.5, challenger_variance, baseline_variance)
    if contrast > 0:
        return means.log_e(seen, guess, margin)
    return means.log_e(seen.flipped, guess.flipped, -margin)


def _gain_alone(seen: Outcomes, level: tuple[float, ...], limit: float, contrast: float) -> float:
    if isinstance(seen, Table):
        rate, edge, n, bad = _moved(limit, contrast), clip(limit), seen.challenger_n, seen.challenger_bad
        return bad * log(rate / edge) + (n - bad) * log((1 - rate) / (1 - edge))
    seen, limit = (seen, limit) if contrast > 0 else (seen.flipped, 1 - limit)
    mean = min(limit + abs(contrast) * level[1] ** 0.5, 1.0)
    return means.log_e_limit(*seen[:3], (mean, level[1]), limit)


def _moved(edge: float, contrast: float) -> float:
    """Return the rate that lies *contrast* (log odds) from *edge*."""
    edge = min(max(edge, 1e-6), 1 - 1e-6)
    return clip(1 / (1 + exp(-log(edge / (1 - edge)) - contrast)))
