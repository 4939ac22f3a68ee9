"""What is bet on a block is worth at most 1 on average under every null, whatever was seen before."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import comb, log

import numpy as np
import pytest

from modelcd.domain import means
from modelcd.domain.eprocess import FINE, WORSE, Table
from modelcd.domain.games import Game, MeanGame, MeanLimit, RateGame, RateLimit
from modelcd.domain.means import Moments

NUMBERS = (0.0, 0.3, 1.0)
"""The numbers that a metric gives in these tests."""


def rate_outcomes(nc: int, nb: int, challenger: float, baseline: float) -> Iterator[tuple[float, Table]]:
    """Return every outcome of two arms with how likely it is."""
    for kc, kb in product(range(nc + 1), range(nb + 1)):
        likely = comb(nc, kc) * challenger**kc * (1 - challenger) ** (nc - kc)
        likely *= comb(nb, kb) * baseline**kb * (1 - baseline) ** (nb - kb)
        yield likely, Table(kc, nc, kb, nb)


def weights(mean: float, chance: np.random.Generator) -> np.ndarray:
    """Return how likely each of `NUMBERS` is, so that their mean is *mean*."""
    middle = float(chance.uniform(0, min(mean / 0.3, (1 - mean) / 0.7)))
    top = mean - 0.3 * middle
    return np.array([1 - middle - top, middle, top])


def mean_outcomes(nc: int, nb: int, challenger: np.ndarray, baseline: np.ndarray) -> Iterator[tuple[float, Moments]]:
    """Return every outcome of two arms of numbers with how likely it is."""
    for drawn in product(range(3), repeat=nc + nb):
        likely, xs = 1.0, [NUMBERS[k] for k in drawn]
        for place, k in enumerate(drawn):
            likely *= (challenger if place < nc else baseline)[k]
        old, new = xs[nc:], xs[:nc]
        yield likely, Moments(nc, sum(new), sum(x * x for x in new), nb, sum(old), sum(x * x for x in old))


def worth(
    game: Game, seen: Table | Moments, outcomes: list[tuple[float, Table | Moments]], margin: float
) -> list[float]:
    """Return what both games' money is worth after one block, on average."""
    worse = sum(p * float(np.dot(WORSE, np.exp(game.worse(seen, block)))) for p, block in outcomes)
    fine = sum(p * float(np.dot(FINE, np.exp(game.fine(seen, block, margin)))) for p, block in outcomes)
    return [worse, fine]


def past(chance: np.random.Generator) -> Table:
    """Return what may have been seen before."""
    nc, nb = (int(n) for n in chance.integers(0, 400, 2))
    return Table(int(chance.integers(0, nc + 1)), nc, int(chance.integers(0, nb + 1)), nb)


def past_numbers(chance: np.random.Generator) -> Moments:
    """Return what numbers may have been seen before."""
    new, old = (chance.beta(*chance.uniform(0.3, 5, 2), int(n)) for n in chance.integers(0, 60, 2))
    return Moments(len(new), new.sum(), (new**2).sum(), len(old), old.sum(), (old**2).sum())


def test_two_rates_are_worth_no_more_than_they_cost() -> None:
    chance, most = np.random.default_rng(1), [0.0, 0.0]
    for _ in range(250):
        sizes, baseline = [int(n) for n in chance.integers(1, 6, 2)], chance.uniform(0, 1)
        margin = float(chance.choice([0.002, 0.01, 0.05, 0.3]))
        better = float(chance.choice([baseline, chance.uniform(0, baseline)]))
        worse = min(1.0, float(chance.choice([baseline + margin, chance.uniform(baseline + margin, 1.3)])))
        seen, game = past(chance), RateGame(0.02)
        if baseline + margin > 1:
            continue
        most[0] = max(most[0], worth(game, seen, [*rate_outcomes(*sizes, better, baseline)], margin)[0])
        most[1] = max(most[1], worth(game, seen, [*rate_outcomes(*sizes, worse, baseline)], margin)[1])

    assert max(most) <= 1 + 1e-6


def test_a_rate_and_a_limit_are_worth_no_more_than_they_cost() -> None:
    chance, most = np.random.default_rng(2), [0.0, 0.0]
    for _ in range(250):
        limit, n = float(chance.uniform(0.01, 0.9)), int(chance.integers(1, 8))
        keeps, breaks = float(chance.choice([limit, chance.uniform(0, limit)])), float(chance.uniform(limit, 1))
        seen, game = past(chance), RateLimit(limit, 0.02)
        most[0] = max(most[0], worth(game, seen, [*rate_outcomes(n, 1, keeps, 0.5)], 0)[0])
        most[1] = max(most[1], worth(game, seen, [*rate_outcomes(n, 1, breaks, 0.5)], 0)[1])

    assert max(most) <= 1 + 1e-6


def test_two_means_are_worth_no_more_than_they_cost() -> None:
    chance, most = np.random.default_rng(3), [0.0, 0.0]
    for _ in range(250):
        sizes = int(chance.integers(1, 4)), int(chance.integers(1, 3))
        margin, baseline = float(chance.choice([0.01, 0.05, 0.3])), float(chance.uniform(0, 0.7))
        better = float(chance.choice([baseline, chance.uniform(0, baseline)]))
        worse = float(chance.choice([baseline + margin, chance.uniform(baseline + margin, 1.0)]))
        seen, game, theirs = past_numbers(chance), MeanGame(), weights(baseline, chance)
        most[0] = max(most[0], worth(game, seen, [*mean_outcomes(*sizes, weights(better, chance), theirs)], margin)[0])
        most[1] = max(most[1], worth(game, seen, [*mean_outcomes(*sizes, weights(worse, chance), theirs)], margin)[1])

    assert max(most) <= 1 + 1e-6


def test_a_mean_and_a_limit_are_worth_no_more_than_they_cost() -> None:
    chance, most = np.random.default_rng(4), [0.0, 0.0]
    for _ in range(250):
        limit, n = float(chance.uniform(0.05, 0.9)), int(chance.integers(1, 5))
        keeps, breaks = float(chance.choice([limit, chance.uniform(0, limit)])), float(chance.uniform(limit, 1))
        seen, game, theirs = past_numbers(chance), MeanLimit(limit), weights(0.5, chance)
        most[0] = max(most[0], worth(game, seen, [*mean_outcomes(n, 1, weights(keeps, chance), theirs)], 0)[0])
        most[1] = max(most[1], worth(game, seen, [*mean_outcomes(n, 1, weights(breaks, chance), theirs)], 0)[1])

    assert max(most) <= 1 + 1e-6


def test_bets_on_means_grow_when_they_are_right() -> None:
    chance, seen, wealth = np.random.default_rng(5), Moments(), 0.0
    for _ in range(60):
        new, old = np.clip(chance.normal(0.24, 0.05, 25), 0, 1), np.clip(chance.normal(0.2, 0.05, 75), 0, 1)
        block = Moments(25, new.sum(), (new**2).sum(), 75, old.sum(), (old**2).sum())
        wealth += means.log_e(block, means.learned(seen), 0.0)
        seen = seen.plus(block)

    assert wealth > 20


def test_numbers_that_vary_little_settle_sooner_than_yes_and_no_would() -> None:
    """A difference of 0.02 at a mean of 0.2 takes thousands of yes/no outcomes; a deviation of 0.05 makes it dozens."""
    spread = means.Guess(0.2, 0.0, 0.0025, 0.0025)

    assert log(20) / means.growth(spread, 0.25, 0.02) < 500


def test_what_is_taken_from_one_is_flipped() -> None:
    block = Moments(2, 0.5, 0.17, 1, 0.3, 0.09)

    assert block.flipped == pytest.approx(Moments(2, 1.5, 1.17, 1, 0.7, 0.49))
    assert block.flipped.flipped == pytest.approx(block)


@pytest.mark.parametrize("game", [RateGame(0.02), RateLimit(0.05, 0.02), MeanGame(), MeanLimit(0.5)])
def test_a_forecast_is_about_as_fast_as_the_game(game: Game) -> None:
    """The pace is what a certificate gains, per outcome of both arms."""
    chance, numbers = np.random.default_rng(6), isinstance(game, (MeanGame, MeanLimit))
    seen, won, margin = (Moments() if numbers else Table()), 0.0, 0.03
    for _ in range(200):
        if numbers:
            new, old = np.clip(chance.normal(0.4, 0.2, 25), 0, 1), np.clip(chance.normal(0.4, 0.2, 75), 0, 1)
            block = Moments(25, new.sum(), (new**2).sum(), 75, old.sum(), (old**2).sum())
        else:
            block = Table(int(chance.binomial(25, 0.02)), 25, int(chance.binomial(75, 0.02)), 75)  # type: ignore[assignment]
        won += log(float(np.dot(FINE, np.exp(game.fine(seen, block, margin)))))
        seen = seen.plus(block)  # type: ignore[arg-type]
    pace = game.pace(seen, 0.25, margin, None)

    assert pace is not None
    assert 0.4 < won / 20_000 / pace < 2.5
