"""Evidence about the means of two arms of bounded numbers, from counts, sums and sums of squares alone.

A number is scaled to [0, 1] so that more is worse.  A bet on one block multiplies `1 + c (x - qc)` over the
challenger's numbers and `1 - b (y - qb)` over the baseline's (betting on bounded means: Waudby-Smith and Ramdas,
arXiv 2010.09686).  With `nc c = nb b` and `qc = qb + margin` the expectation of the product is at most 1 whatever the
two means of the null are: the geometric mean of the factors' expectations is at most their arithmetic mean, which is
`1 + nc c (mean_c - mean_b - margin) / n`.  So no common level has to be known, and drift between blocks is harmless.

The trade-off: only sums travel, so each factor is replaced by a lower bound, `log(1 + l z) >= l z + l² g z²` for
`z >= -r` with `g = (log(1 - l r) + l r) / (l r)²` (Fan, Grama and Liu, 2015).  For the small bets that moderate
differences ask for that costs next to nothing.
"""

from __future__ import annotations

from math import inf, log1p, sqrt
from typing import NamedTuple

GAPS = (0.05, 0.1, 0.2, 0.45, 1.2)
"""How much worse the challenger's mean is in the fixed bets, in standard deviations."""

PRIOR = 10.0
"""Pseudo-numbers that hold mean and variance in place before any were seen."""

_PRIOR_MEAN, _PRIOR_VARIANCE = 0.5, 0.05
_BOLDEST = 0.5
"""The most of its money that a bet may lose on one number: bolder ones pay too much for the bound."""


class Moments(NamedTuple):
    """How many numbers each arm had in one stretch of time, their sum, and the sum of their squares."""

    challenger_n: float = 0.0
    challenger_sum: float = 0.0
    challenger_squares: float = 0.0
    baseline_n: float = 0.0
    baseline_sum: float = 0.0
    baseline_squares: float = 0.0

    def plus(self, other: Moments) -> Moments:
        """Add the numbers of *other*."""
        return Moments(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def one_sided(self) -> bool:
        """Say whether an arm is empty: then nothing can be compared."""
        return self.challenger_n <= 0 or self.baseline_n <= 0

    @property
    def flipped(self) -> Moments:
        """The same numbers taken from 1: what was worse is better."""
        nc, sc, zc, nb, sb, zb = self
        return Moments(nc, nc - sc, nc - 2 * sc + zc, nb, nb - sb, nb - 2 * sb + zb)

    def beyond(self, margin: float) -> float:
        """Weigh the difference of means over *margin* as Mantel and Haenszel do."""
        nc, sc, _, nb, sb, _ = self
        return (nb * sc - nc * sb - margin * nb * nc) / (nb + nc)


class Guess(NamedTuple):
    """What is thought of the arms: the baseline's mean, how much higher the challenger's is, both variances."""

    mean: float
    gap: float
    challenger_variance: float
    baseline_variance: float

    @property
    def spread(self) -> float:
        """The standard deviation of the baseline."""
        return sqrt(self.baseline_variance)

    @property
    def flipped(self) -> Guess:
        """The same for numbers taken from 1."""
        return self._replace(mean=1 - self.mean, gap=-self.gap)


def learned(seen: Moments) -> Guess:
    """Estimate means and variances from *seen*, the challenger's shrunk to the baseline's."""
    nc, sc, zc, nb, sb, zb = seen
    mean = (sb + PRIOR * _PRIOR_MEAN) / (nb + PRIOR)
    spread = _variance(nb, sb, zb, _PRIOR_VARIANCE)
    gap = (sc + 2 * PRIOR * mean) / (nc + 2 * PRIOR) - mean
    return Guess(mean, gap, _variance(nc, sc, zc, spread), spread)


def _variance(n: float, total: float, squares: float, prior: float) -> float:
    own = max(0.0, squares - total * total / n) if n > 0 else 0.0
    return max(1e-9, (own + PRIOR * prior) / (n + PRIOR))


def log_e(block: Moments, guess: Guess, margin: float) -> float:
    """Return what the bet on *guess* against "at most *margin* higher" gains from *block*, as a logarithm.

    Its exponential has an expectation of at most 1 under every pair of means of the null.  An empty arm, or a guess
    inside the null, gains nothing.
    """
    nc, sc, zc, nb, sb, zb = block
    excess = guess.gap - margin
    if nc <= 0 or nb <= 0 or excess <= 0:
        return 0.0
    low, high = max(0.0, -margin), min(1.0, 1.0 - margin)
    qb = min(max(guess.mean + excess * nc / (nc + nb), low), high)
    qc = qb + margin
    # Kelly's stake for numbers that lie around q, not around their own mean.
    own, other = excess * nb / (nc + nb), excess * nc / (nc + nb)
    stake = excess / ((guess.challenger_variance + own * own) / nc + (guess.baseline_variance + other * other) / nb)
    most = min(nc / qc if qc > 0 else inf, nb / (1 - qb) if qb < 1 else inf)
    stake = min(stake, _BOLDEST * most)
    return _gain(stake / nc, qc, sc - nc * qc, zc - 2 * qc * sc + nc * qc * qc) + _gain(
        stake / nb, 1 - qb, nb * qb - sb, zb - 2 * qb * sb + nb * qb * qb
    )


def log_e_limit(n: float, total: float, squares: float, guess: tuple[float, float], limit: float) -> float:
    """Return what the bet on *guess* (mean, variance) against a mean of at most *limit* gains from one arm's block."""
    mean, variance = guess
    if n <= 0 or mean <= limit:
        return 0.0
    stake = min((mean - limit) / (variance + (mean - limit) ** 2), _BOLDEST / limit if limit > 0 else inf)
    return _gain(stake, limit, total - n * limit, squares - 2 * limit * total + n * limit * limit)


def _gain(stake: float, reach: float, total: float, squares: float) -> float:
    """Return the lower bound for numbers of at least -*reach* with this sum and sum of squares, at this stake."""
    t = stake * reach
    penalty = (log1p(-t) + t) / (t * t) if t > 1e-6 else -0.5 - t / 3
    return stake * total + stake * stake * penalty * squares


def worse_bets(seen: Moments) -> tuple[Guess, ...]:
    """Return the guesses to bet on against "not worse" after *seen*, one for each part of `eprocess.WORSE`."""
    guess = learned(seen)
    return (*(guess._replace(gap=gap * guess.spread) for gap in GAPS), guess)


def fine_bets(seen: Moments) -> tuple[Guess, ...]:
    """Return the guesses to bet on against "too bad" after *seen*, one for each part of `eprocess.FINE`."""
    guess = learned(seen)
    return guess._replace(gap=0.0), guess._replace(gap=-0.1 * guess.spread), guess


def growth(guess: Guess, share: float, margin: float) -> float:
    """Return the evidence per number of both arms, in nats, against *margin* when *guess* is true (to second order)."""
    excess = guess.gap - margin
    spread = guess.challenger_variance / share + guess.baseline_variance / (1 - share) + excess * excess
    return excess * excess / (2 * spread)
