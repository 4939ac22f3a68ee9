"""What is bet on one block of outcomes: two arms or one arm and a limit, rates or means of bounded numbers.

A game turns a block into gains (nats) of the bets against "not worse" and against "too bad"; `eprocess` keeps the
books.  All four games are played on the same counts and by the same rules, so a guard is one line in `game`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any, Protocol

from modelcd.domain import means
from modelcd.domain.eprocess import (
    PRIOR_BASELINE,
    STEEPNESS,
    Null,
    Rates,
    Table,
    clip,
    fine_bets,
    growth,
    learned,
    log_e,
    worse_bets,
)
from modelcd.domain.intervals import Outcomes
from modelcd.domain.means import Moments
from modelcd.domain.policy import Guard, GuardKind

STEADY = 100.0
"""Pseudo-requests of an identical challenger in a forecast: it should not jump with every failure."""

_PRIOR = {GuardKind.ERRORS: 0.5 / 25, GuardKind.SUCCESS: 2.5 / 25}


class Game(Protocol):
    """How the outcomes of a guard are bet on; *seen* is what came before *block*."""

    @property
    def limit(self) -> float | None:
        """The limit that the challenger is held against, where more is worse; None where arms are compared."""
        ...

    def worse(self, seen: Any, block: Any) -> list[float]:
        """Return the gains of the bets against "not worse", one for each part of `eprocess.WORSE`."""
        ...

    def fine(self, seen: Any, block: Any, margin: float) -> list[float]:
        """Return the gains of the bets against "worse by *margin* or more", one for each part of `eprocess.FINE`."""
        ...

    def beyond(self, blocks: Sequence[Any], margins: Sequence[float]) -> list[float]:
        """Return the excess of each of *blocks* over its margin; or of both arms over a limit."""
        ...

    def pace(self, seen: Any, share: float, margin: float, same: float | None) -> float | None:
        """Return the nats per outcome of both arms that a certificate is likely to gain; None if none in sight.

        *share* is the challenger's part of the outcomes, *same* what rate an identical challenger would have.
        """
        ...

    def decline(self, seen: Any, share: float) -> float:
        """Return the nats per outcome of both arms that the evidence against the challenger is likely to gain."""
        ...


@dataclass(frozen=True)
class RateGame:
    """Two arms of yes/no outcomes; *prior* is the rate of bad ones expected before any were seen."""

    prior: float
    limit: None = None

    def worse(self, seen: Table, block: Table) -> list[float]:
        """Bet that the challenger's rate is higher."""
        return [log_e(block, rates, Null.NOT_WORSE) for rates in worse_bets(seen, self.prior)]

    def fine(self, seen: Table, block: Table, margin: float) -> list[float]:
        """Bet that the challenger's rate is higher by less than *margin*."""
        return [log_e(block, rates, Null.TOO_BAD, margin) for rates in fine_bets(seen, self.prior)]

    def beyond(self, blocks: Sequence[Table], margins: Sequence[float]) -> list[float]:
        """Weigh the excess over each margin."""
        return [block.beyond(margin) for block, margin in zip(blocks, margins, strict=True)]

    def pace(self, seen: Table, share: float, margin: float, same: float | None) -> float | None:
        """Forecast from the rates so far."""
        baseline = learned(seen, self.prior).baseline
        same = baseline if same is None else same
        challenger = clip((seen.challenger_bad + STEADY * same) / (seen.challenger_n + STEADY))
        return growth(Rates(challenger, baseline), share, margin) if challenger < baseline + margin else None

    def decline(self, seen: Table, share: float) -> float:
        """Forecast from the rates so far."""
        likely = learned(seen, self.prior)
        return growth(likely, share, 0.0) if likely.challenger > likely.baseline else 0.0


@dataclass(frozen=True)
class MeanGame:
    """Two arms of numbers in [0, 1] of which more is worse."""

    limit: None = None

    def worse(self, seen: Moments, block: Moments) -> list[float]:
        """Bet that the challenger's mean is higher."""
        return [means.log_e(block, guess, 0.0) for guess in means.worse_bets(seen)]

    def fine(self, seen: Moments, block: Moments, margin: float) -> list[float]:
        """Bet that the challenger's mean is higher by less than *margin*."""
        flipped = block.flipped
        return [means.log_e(flipped, guess.flipped, -margin) for guess in means.fine_bets(seen)]

    def beyond(self, blocks: Sequence[Moments], margins: Sequence[float]) -> list[float]:
        """Weigh the excess over each margin."""
        return [block.beyond(margin) for block, margin in zip(blocks, margins, strict=True)]

    def pace(self, seen: Moments, share: float, margin: float, same: float | None) -> float | None:
        """Forecast from means and variances so far."""
        guess = means.learned(seen)
        likely = guess._replace(gap=guess.gap * seen.challenger_n / (seen.challenger_n + STEADY))
        return means.growth(likely, share, margin) if likely.gap < margin else None

    def decline(self, seen: Moments, share: float) -> float:
        """Forecast from means and variances so far."""
        guess = means.learned(seen)
        return means.growth(guess, share, 0.0) if guess.gap > 0 else 0.0


@dataclass(frozen=True)
class RateLimit:
    """The challenger's yes/no outcomes against a *limit* of their rate; the baseline is not compared with."""

    limit: float
    prior: float

    def worse(self, seen: Table, block: Table) -> list[float]:
        """Bet that the challenger's rate is above the limit."""
        edge = log(self.limit / (1 - self.limit))
        above = (*(1 / (1 + exp(-edge - d)) for d in STEEPNESS), self._guess(seen))
        return [self._gain(block, clip(rate)) if rate > self.limit else 0.0 for rate in above]

    def fine(self, seen: Table, block: Table, margin: float) -> list[float]:
        """Bet that the challenger's rate is below the limit."""
        guess = self._guess(seen)
        below = (min(guess, 0.8 * self.limit), guess / 2, guess)
        return [self._gain(block, clip(rate)) if rate < self.limit else 0.0 for rate in below]

    def beyond(self, blocks: Sequence[Table], margins: Sequence[float]) -> list[float]:
        """Count what is above the limit in each arm."""
        kc, nc, kb, nb = blocks[0]
        return [kc - self.limit * nc, kb - self.limit * nb]

    def pace(self, seen: Table, share: float, margin: float, same: float | None) -> float | None:
        """Forecast from the challenger's rate so far."""
        rate = clip(self._guess(seen))
        return self.growth(rate, share) if rate < self.limit else None

    def decline(self, seen: Table, share: float) -> float:
        """Forecast from the challenger's rate so far."""
        rate = clip(self._guess(seen))
        return self.growth(rate, share) if rate > self.limit else 0.0

    def growth(self, rate: float, share: float) -> float:
        """Return the evidence per outcome of both arms, in nats, when *rate* is true."""
        return share * (rate * log(rate / self.limit) + (1 - rate) * log((1 - rate) / (1 - self.limit)))

    def _guess(self, seen: Table) -> float:
        prior = min(self.prior, self.limit / 2)
        return (seen.challenger_bad + PRIOR_BASELINE * prior) / (seen.challenger_n + PRIOR_BASELINE)

    def _gain(self, block: Table, rate: float) -> float:
        bad, n = block.challenger_bad, block.challenger_n
        return bad * log(rate / self.limit) + (n - bad) * log((1 - rate) / (1 - self.limit))


@dataclass(frozen=True)
class MeanLimit:
    """The challenger's numbers in [0, 1], of which more is worse, against a *limit* of their mean."""

    limit: float

    def worse(self, seen: Moments, block: Moments) -> list[float]:
        """Bet that the challenger's mean is above the limit."""
        mean, variance = self._guess(seen)
        numbers = (block.challenger_n, block.challenger_sum, block.challenger_squares)
        above = (*(self.limit + gap * variance**0.5 for gap in means.GAPS), mean)
        return [means.log_e_limit(*numbers, (rate, variance), self.limit) for rate in above]

    def fine(self, seen: Moments, block: Moments, margin: float) -> list[float]:
        """Bet that the challenger's mean is below the limit."""
        mean, variance = self._guess(seen)
        n, total, squares = block.challenger_n, block.challenger_sum, block.challenger_squares
        flipped = (n, n - total, n - 2 * total + squares)
        below = (mean, self.limit - 0.2 * variance**0.5, self.limit - 0.05 * variance**0.5)
        return [means.log_e_limit(*flipped, (1 - rate, variance), 1 - self.limit) for rate in below]

    def beyond(self, blocks: Sequence[Moments], margins: Sequence[float]) -> list[float]:
        """Sum what is above the limit in each arm."""
        nc, sc, _, nb, sb, _ = blocks[0]
        return [sc - self.limit * nc, sb - self.limit * nb]

    def pace(self, seen: Moments, share: float, margin: float, same: float | None) -> float | None:
        """Forecast from the challenger's mean and variance so far."""
        mean, variance = self._guess(seen)
        return self.growth(mean, variance, share) if mean < self.limit else None

    def decline(self, seen: Moments, share: float) -> float:
        """Forecast from the challenger's mean and variance so far."""
        mean, variance = self._guess(seen)
        return self.growth(mean, variance, share) if mean > self.limit else 0.0

    def growth(self, mean: float, variance: float, share: float) -> float:
        """Return the evidence per number of both arms, in nats, when *mean* and *variance* are true (second order)."""
        gap = self.limit - mean
        return share * gap * gap / (2 * (variance + gap * gap))

    def _guess(self, seen: Moments) -> tuple[float, float]:
        guess = means.learned(seen)
        return min(max(guess.mean + guess.gap, 0.0), 1.0), guess.challenger_variance


def game(guard: Guard, quantile: float = 0.0) -> Game:
    """Return the game of *guard*, for latency at *quantile*."""
    if guard.kind is GuardKind.LATENCY:
        return RateLimit(1 - quantile, 1 - quantile) if guard.limit is not None else RateGame(1 - quantile)
    if guard.kind is GuardKind.METRIC:
        return MeanLimit(guard.badness(guard.limit)) if guard.limit is not None else MeanGame()
    if guard.limit is None:
        return RateGame(_PRIOR[guard.kind])
    good = guard.kind is GuardKind.SUCCESS and guard.higher_is_better
    return RateLimit(1 - guard.limit if good else guard.limit, _PRIOR[guard.kind])


def nothing(guard: Guard) -> Outcomes:
    """Return what *guard* has seen before any data."""
    return Moments() if guard.kind is GuardKind.METRIC else Table()
