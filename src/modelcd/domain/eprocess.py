"""Evidence about two arms of yes/no outcomes that may be looked at after every request.

The core of the judge.  A test is a game against a null hypothesis: the wealth of a player who bets against it grows
only when the null is wrong, and P(wealth ever >= 1/alpha) <= alpha when it is right, however often one looks (Ville).
A bet on one block of outcomes is the likelihood ratio of an alternative against its projection on the null's edge, an
exact two-sample e-variable (Turner, Ly and Grünwald, arXiv 2106.02693; with an effect size, arXiv 2203.09785).

The trade-off: several fixed bets and one that learns, averaged, instead of one optimal bet that nobody can know.
That costs some per cent more requests and needs no tuning.  Only rates *within* one block are taken as constant, so
drift that both arms share and changes of share between blocks are harmless.

Bad outcomes may be fractions of a request: the logarithm of a bet is linear in them, so by Jensen's inequality a bet
on expected counts is worth at most the bet on the random counts they are the expectation of.

`Evidence` and `Certificate` keep the books of the two games and know nothing of the outcomes that are bet on: means of
numbers and limits (`games`) are played by the same books.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import exp, floor, inf, log, log1p
from typing import Any, NamedTuple

STEEPNESS = (0.3, 0.6, 1.0, 1.9, 4.2)
"""How much worse the challenger is in the fixed bets, in log odds above the baseline."""

WORSE = (0.1, 0.266, 0.267, 0.15, 0.117, 0.1)
"""The part of the money on each bet against "not worse": those of `STEEPNESS`, then one that learns.

Most lies on moderate regressions, which take the most requests; a gross one is found within some dozens whatever it
has.  Found by simulation (a tenth fewer requests than equal parts), and of no weight for validity.
"""

FINE = (0.7, 0.1, 0.2)
"""The part of the money on each bet against "too bad": an identical challenger, one with half the rate, a learner."""

PRIOR_BASELINE = 25.0
"""Pseudo-requests that hold the baseline's rate in place before it was seen."""

PRIOR_CHALLENGER = 20.0
"""Pseudo-requests that pull the challenger's learned rate to the baseline's."""

AT_ONCE = 0.75
"""The part of the money that is in play from the first block on."""

_LATE_TOTAL = 0.4253
"""An upper bound of the sum over k >= 1 of 1/((k+10) ln²(k+10)): the stakes must not add up to more than 1."""

_TINY = 1e-9


class Table(NamedTuple):
    """Bad outcomes and all outcomes of both arms in one stretch of time; the bad ones may be fractions."""

    challenger_bad: float = 0.0
    challenger_n: float = 0.0
    baseline_bad: float = 0.0
    baseline_n: float = 0.0

    def plus(self, other: Table) -> Table:
        """Add the outcomes of *other*."""
        return Table(self[0] + other[0], self[1] + other[1], self[2] + other[2], self[3] + other[3])

    @property
    def one_sided(self) -> bool:
        """Say whether an arm is empty: then nothing can be compared."""
        return self.challenger_n <= 0 or self.baseline_n <= 0

    def beyond(self, margin: float) -> float:
        """Weigh the excess over *margin* as Mantel and Haenszel do; sums over blocks keep their sign's meaning."""
        kc, nc, kb, nb = self
        return (nb * kc - nc * kb - margin * nb * nc) / (nb + nc)


EMPTY = Table()


class Null(Enum):
    """What is bet against: the challenger's rate minus the baseline's is at most, or at least, the margin."""

    NOT_WORSE = "not worse"
    TOO_BAD = "too bad"


class Rates(NamedTuple):
    """A rate of bad outcomes for each arm, both strictly between 0 and 1."""

    challenger: float
    baseline: float

    def inside(self, null: Null, margin: float) -> bool:
        """Say whether these rates belong to the null hypothesis."""
        excess = self.challenger - self.baseline - margin
        return excess <= 0 if null is Null.NOT_WORSE else excess >= 0


def project(rates: Rates, challenger_n: float, baseline_n: float, margin: float) -> Rates:
    """Return the point of the edge `challenger = baseline + margin` nearest to *rates* in likelihood.

    It minimises `n_c KL(rates_c || q + margin) + n_b KL(rates_b || q)`; for margin 0 that is the weighted mean,
    else the one root inside (0, 1) of a cubic, found by Newton's method kept inside a shrinking bracket.
    """
    ac, ab = rates
    if margin == 0.0:
        q = (challenger_n * ac + baseline_n * ab) / (challenger_n + baseline_n)
        return Rates(q, q)
    low, high = sorted((ab, ac - margin))
    low, high = max(low, 0.0, -margin), min(high, 1.0, 1.0 - margin)
    share = challenger_n / (challenger_n + baseline_n)
    q = min(max(share * (ac - margin) + (1 - share) * ab, low + 1e-12), high - 1e-12)
    for _ in range(60):
        c = q + margin
        off_c, room_c, off_b, room_b = c - ac, c * (1 - c), q - ab, q * (1 - q)
        value = share * off_c * room_b + (1 - share) * off_b * room_c
        low, high = (q, high) if value < 0 else (low, q)
        slope = share * (room_b + off_c * (1 - 2 * q)) + (1 - share) * (room_c + off_b * (1 - 2 * c))
        guess = q - value / slope if slope else low
        if not low < guess < high:
            guess = (low + high) / 2
        if abs(guess - q) <= 1e-11 * min(guess, 1 - guess):
            q = guess
            break
        q = guess
    return Rates(min(max(q + margin, _TINY), 1 - _TINY), min(max(q, _TINY), 1 - _TINY))


def log_e(table: Table, rates: Rates, null: Null, margin: float = 0.0) -> float:
    """Return what the bet on *rates* against *null* gains from *table*, as a logarithm.

    Its exponential has an expectation of at most 1 under every point of the null.  An empty arm, or rates inside
    the null, gain nothing.
    """
    kc, nc, kb, nb = table
    if nc <= 0 or nb <= 0 or rates.inside(null, margin):
        return 0.0
    ac, ab = rates
    qc, qb = project(rates, nc, nb, margin)
    return (
        kc * log(ac / qc)
        + (nc - kc) * log((1 - ac) / (1 - qc))
        + kb * log(ab / qb)
        + (nb - kb) * log((1 - ab) / (1 - qb))
    )


def growth(rates: Rates, share: float, margin: float) -> float:
    """Return the evidence per request, in nats, against the null's edge when *rates* are true.

    *share* is the challenger's part of the requests, from 0 to 1.  Divide the logarithm of a bar by it for the
    median number of requests of both arms together (judge, 4.6).
    """
    ac, ab = rates
    qc, qb = project(rates, share, 1 - share, margin)
    return share * _divergence(ac, qc) + (1 - share) * _divergence(ab, qb)


def _divergence(a: float, q: float) -> float:
    return a * log(a / q) + (1 - a) * log((1 - a) / (1 - q))


def clip(rate: float) -> float:
    """Keep *rate* strictly between 0 and 1."""
    return min(max(rate, _TINY), 1 - _TINY)


def learned(seen: Table, prior: float) -> Rates:
    """Estimate both rates from *seen*, the baseline's shrunk to *prior*, the challenger's to the baseline's."""
    baseline = (seen.baseline_bad + PRIOR_BASELINE * prior) / (seen.baseline_n + PRIOR_BASELINE)
    challenger = (seen.challenger_bad + PRIOR_CHALLENGER * baseline) / (seen.challenger_n + PRIOR_CHALLENGER)
    return Rates(clip(challenger), clip(baseline))


def stake(tick: int) -> float:
    """Return the part of a player's money that enters the game at *tick* (from 0); all parts add up to at most 1.

    The most enters at once.  The rest follows ever more slowly, so that a challenger that was good for long and then
    breaks is not protected by what the early bets lost.
    """
    if tick == 0:
        return AT_ONCE
    return (1 - AT_ONCE) / _LATE_TOTAL / ((tick + 10) * log(tick + 10) ** 2)


def down(nats: float) -> float:
    """Round *nats* down to seven digits behind the point, which keeps books short and what they say valid."""
    return floor(nats * 1e7) / 1e7 if nats > -inf else nats


def worse_bets(seen: Table, prior: float) -> tuple[Rates, ...]:
    """Return the alternatives to bet on against "not worse" after *seen*, one for each part of `WORSE`."""
    guess = learned(seen, prior)
    base = log(guess.baseline / (1 - guess.baseline))
    return (*(Rates(clip(1 / (1 + exp(-base - d))), guess.baseline) for d in STEEPNESS), guess)


def fine_bets(seen: Table, prior: float) -> tuple[Rates, ...]:
    """Return the alternatives to bet on against "too bad" after *seen*, one for each part of `FINE`."""
    bad = seen.challenger_bad + seen.baseline_bad + PRIOR_BASELINE * prior
    pooled = clip(bad / (seen.challenger_n + seen.baseline_n + PRIOR_BASELINE))
    return Rates(pooled, pooled), Rates(pooled / 2, pooled), learned(seen, prior)


def log_sum(values: Sequence[float]) -> float:
    """Return the logarithm of the sum of exponentials; of nothing it is minus infinity."""
    top = max(values, default=-inf)
    return top if top == -inf else top + log(sum(exp(value - top) for value in values))


def as_odds(log_odds: float) -> float:
    """Return *log_odds* as odds, never too large for a float."""
    return exp(min(log_odds, 700.0))


@dataclass(frozen=True, slots=True)
class Bet:
    """One player against "not worse".

    `wealth` is the logarithm of the money in play.  `rise` is what was gained, in nats, since the bet's low point,
    and `beyond` the excess over each tolerance, summed over the blocks since that point.
    """

    wealth: float
    rise: float
    beyond: tuple[float, ...]

    def after(self, gain: float, opened: float, beyond: Sequence[float]) -> Bet:
        """Put the stake *opened* (a logarithm) into play, then play one block."""
        top, rest = max(self.wealth, opened), min(self.wealth, opened)
        wealth = down((top + log1p(exp(rest - top)) if rest > -inf else top) + gain)
        rise = down(self.rise + gain)
        if rise <= 0:
            return Bet(wealth, 0.0, (0.0,) * len(self.beyond))
        return Bet(wealth, rise, tuple(round(a + b, 6) for a, b in zip(self.beyond, beyond, strict=True)))


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence that the challenger is worse: wealth from bets against "not worse".

    `cash` is the part of the money that is not in play yet.
    """

    tolerances: int
    ticks: int = 0
    cash: float = 1.0
    bets: tuple[Bet, ...] = ()

    def after(self, gains: Sequence[float], parts: Sequence[float], beyond: Sequence[float]) -> Evidence:
        """Play one block: each bet has a *part* of the money and *gains* nats; *beyond* is the excess per tolerance."""
        bets = self.bets or (Bet(-inf, 0.0, (0.0,) * self.tolerances),) * len(gains)
        opened = stake(self.ticks)
        return Evidence(
            tolerances=self.tolerances,
            ticks=self.ticks + 1,
            cash=round(max(0.0, self.cash - opened), 12),
            bets=tuple(
                bet.after(gain, log(part * opened), beyond) for bet, gain, part in zip(bets, gains, parts, strict=True)
            ),
        )

    @property
    def log_odds(self) -> float:
        """The logarithm of all the money, what is not yet in play included; 0 before any data."""
        if not self.bets:
            return 0.0
        in_play = log_sum([bet.wealth for bet in self.bets])
        return log_sum([in_play, log(self.cash)]) if self.cash > 0 else in_play

    @property
    def beyond(self) -> tuple[float, ...]:
        """The excess over each tolerance since the low point of the bet that leads; empty while none has gained."""
        leading = max(self.bets, key=lambda bet: bet.wealth, default=None)
        return leading.beyond if leading is not None and leading.rise > 0 else ()

    def exceeds(self, tolerance: int) -> bool:
        """Say whether the excess since the leading bet's low point is at least the tolerance of that index."""
        return bool(self.beyond) and self.beyond[tolerance] >= 0

    def to_plain(self) -> list[Any]:
        """Return JSON values."""
        bets = [[bet.wealth, bet.rise, *bet.beyond] for bet in self.bets]
        return [self.tolerances, self.ticks, self.cash, bets]

    @classmethod
    def from_plain(cls, plain: Sequence[Any]) -> Evidence:
        """Read what `to_plain` wrote."""
        tolerances, ticks, cash, bets = plain
        return cls(tolerances, ticks, cash, tuple(Bet(b[0], b[1], tuple(b[2:])) for b in bets))


@dataclass(frozen=True, slots=True)
class Certificate:
    """The evidence that the challenger is *not* worse by a margin or more: bets against "too bad".

    `granted` stays once the wealth has reached the bar; the game ends there.
    """

    margin: float
    wealths: tuple[float, ...] = ()
    granted: bool = False

    def after(self, gains: Sequence[float], parts: Sequence[float], bar: float) -> Certificate:
        """Play one block; *bar* is the logarithm of the odds at which the certificate is granted."""
        if self.granted:
            return self
        before = self.wealths or tuple(log(part) for part in parts)
        wealths = tuple(down(wealth + gain) for wealth, gain in zip(before, gains, strict=True))
        return Certificate(self.margin, wealths, log_sum(wealths) >= bar)

    @property
    def log_odds(self) -> float:
        """The logarithm of all the money; 0 before any data."""
        return log_sum(self.wealths) if self.wealths else 0.0

    def to_plain(self) -> list[Any]:
        """Return JSON values."""
        return [self.margin, list(self.wealths), self.granted]

    @classmethod
    def from_plain(cls, plain: Sequence[Any]) -> Certificate:
        """Read what `to_plain` wrote."""
        margin, wealths, granted = plain
        return cls(margin, tuple(wealths), granted)
