"""Bets that no null hypothesis can lose to for long, checked by counting every outcome."""

from __future__ import annotations

from math import comb, exp, inf, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcd.domain.eprocess import (
    EMPTY,
    FINE,
    STEEPNESS,
    WORSE,
    Certificate,
    Evidence,
    Null,
    Rates,
    Table,
    down,
    fine_bets,
    growth,
    learned,
    log_e,
    log_sum,
    project,
    stake,
    worse_bets,
)

rates = st.floats(0.001, 0.999)
counts = st.integers(1, 400)


def expectation(null: Null, margin: float, truth: Rates, bet: Rates, sizes: tuple[int, int]) -> float:
    """Return what a bet is worth on average when *truth* holds, over every outcome that can be."""
    nc, nb = sizes
    total = 0.0
    for kc in range(nc + 1):
        likely = comb(nc, kc) * truth.challenger**kc * (1 - truth.challenger) ** (nc - kc)
        for kb in range(nb + 1):
            chance = likely * comb(nb, kb) * truth.baseline**kb * (1 - truth.baseline) ** (nb - kb)
            total += chance * exp(log_e(Table(kc, nc, kb, nb), bet, null, margin))
    return total


def draw_null(chance: np.random.Generator, null: Null, margin: float, edge: bool) -> Rates:
    """Return rates on the edge of the null, or anywhere inside it."""
    baseline = chance.uniform(0, 1 - margin)
    if edge:
        return Rates(baseline + margin, baseline)
    low, high = (0.0, baseline + margin) if null is Null.NOT_WORSE else (baseline + margin, 1.0)
    return Rates(chance.uniform(low, high), baseline)


@pytest.mark.parametrize("edge", [True, False], ids=["edge", "interior"])
@pytest.mark.parametrize("null", list(Null))
def test_no_null_lets_a_bet_grow_on_average(null: Null, edge: bool) -> None:
    chance, largest = np.random.default_rng(11), 0.0
    for trial in range(1000):
        margin = 0.0 if trial % 4 == 0 else chance.choice([0.002, 0.01, 0.05, 0.3])
        truth = draw_null(chance, null, margin, edge)
        bet = Rates(*chance.uniform(0.001, 0.999, 2)) if trial % 2 else Rates(*(chance.uniform(0.001, 0.1, 2)))
        sizes = int(chance.integers(1, 7)), int(chance.integers(1, 10))
        largest = max(largest, expectation(null, margin, truth, bet, sizes))

    assert largest <= 1 + 1e-6


def test_fractions_of_an_outcome_are_worth_no_more_than_whole_ones() -> None:
    bet, part, truth = Rates(0.5, 0.2), 0.3, 0.25
    total = 0.0
    for kc in range(6):
        for kb in range(6):
            chance = comb(5, kc) * comb(5, kb) * truth ** (kc + kb) * (1 - truth) ** (10 - kc - kb)
            total += chance * exp(log_e(Table(part * kc, 5, part * kb, 5), bet, Null.NOT_WORSE))

    assert total <= 1 + 1e-12


@given(rates, rates, counts, counts, st.floats(-0.3, 0.6))
def test_the_projection_is_the_nearest_point_of_the_edge(a: float, b: float, nc: int, nb: int, margin: float) -> None:
    found = project(Rates(a, b), nc, nb, margin)

    def distance(q: float) -> float:
        edge = q + margin
        return nc * (a * log(a / edge) + (1 - a) * log((1 - a) / (1 - edge))) + nb * (
            b * log(b / q) + (1 - b) * log((1 - b) / (1 - q))
        )

    best = distance(found.baseline)
    low, high = max(0.0, -margin), min(1.0, 1 - margin)
    others = [low + (high - low) * (k + 0.5) / 50 for k in range(50)]
    assert found.challenger == pytest.approx(found.baseline + margin, abs=1e-8)
    assert all(best <= distance(other) + 1e-7 * (1 + best) for other in others)


@given(counts, counts, rates, rates, st.sampled_from(list(Null)))
def test_rates_inside_the_null_gain_nothing(nc: int, nb: int, a: float, b: float, null: Null) -> None:
    low, high = sorted((a, b))
    inside = Rates(low, high) if null is Null.NOT_WORSE else Rates(high, low)

    assert log_e(Table(nc, nc, 0, nb), inside, null) == 0.0


@pytest.mark.parametrize("table", [Table(0, 0, 3, 10), Table(3, 10, 0, 0), EMPTY])
def test_an_empty_arm_gains_nothing(table: Table) -> None:
    assert log_e(table, Rates(0.5, 0.1), Null.NOT_WORSE) == 0.0


def test_the_stakes_never_add_up_to_more_than_all_the_money() -> None:
    opened = sum(stake(tick) for tick in range(300_000))

    assert 0.9 < opened <= 1


class Player:
    """Plays blocks of both games, as a guard does, at one margin."""

    def __init__(self, margin: float = 0.01) -> None:
        self.seen, self.evidence, self.certificate = EMPTY, Evidence(1), Certificate(margin)

    def play(self, *table: float, tolerance: float | None = None) -> Player:
        """Play one block."""
        block, held = Table(*table), self.certificate
        gains = [log_e(block, bet, Null.NOT_WORSE) for bet in worse_bets(self.seen, 0.02)]
        fine = [log_e(block, bet, Null.TOO_BAD, held.margin) for bet in fine_bets(self.seen, 0.02)]
        beyond = block.beyond(held.margin if tolerance is None else tolerance)
        self.evidence = self.evidence.after(gains, WORSE, [beyond])
        self.certificate = held.after(fine, FINE, log(20))
        self.seen = self.seen.plus(block)
        return self


@pytest.mark.parametrize("parts", [WORSE, FINE], ids=["worse", "fine"])
def test_the_parts_of_the_money_are_all_of_it(parts: tuple[float, ...]) -> None:
    assert sum(parts) == pytest.approx(1.0, abs=1e-12)


def test_books_are_rounded_down() -> None:
    assert down(1.23456789) == 1.2345678
    assert down(-1.23456781) == -1.2345679
    assert down(-inf) == -inf


def test_the_evidence_before_any_data_is_even() -> None:
    assert Evidence(1).log_odds == 0.0


def test_the_evidence_is_never_more_than_its_bets_won() -> None:
    player = Player()
    for _ in range(50):
        player.play(0, 5, 0, 95)

    assert player.evidence.log_odds <= 0


def test_there_is_a_bet_for_each_steepness_and_one_that_learns() -> None:
    assert len(Player().play(1, 10, 1, 90).evidence.bets) == len(STEEPNESS) + 1


def test_a_worse_challenger_raises_the_evidence() -> None:
    player = Player()
    for _ in range(20):
        player.play(1, 10, 1, 90)

    assert player.evidence.log_odds > log(100)
    assert player.evidence.exceeds(0)


def test_an_excess_within_the_tolerance_does_not_exceed_it() -> None:
    wide, narrow = Player(), Player()
    for _ in range(40):
        wide.play(30, 1000, 20, 1000, tolerance=0.02)
        narrow.play(30, 1000, 20, 1000, tolerance=0.005)

    assert (wide.evidence.exceeds(0), narrow.evidence.exceeds(0)) == (False, True)


def test_the_excess_forgets_what_was_before_the_low_point() -> None:
    player = Player()
    for kc in [0] * 200 + [8] * 12:
        player.play(kc, 100, 2, 100, tolerance=0.03)

    assert player.evidence.exceeds(0)


def test_a_challenger_that_breaks_late_is_still_found() -> None:
    player, ticks = Player(), 0
    for _ in range(500):
        player.play(2, 25, 6, 75)
    while player.evidence.log_odds < log(100) and ticks < 1000:
        player.play(6, 25, 6, 75)
        ticks += 1

    assert ticks < 60


def test_a_certificate_once_granted_stays() -> None:
    player = Player(0.05)
    while not player.certificate.granted:
        player.play(0, 50, 0, 50)

    held = player.certificate
    assert player.play(50, 50, 0, 50).certificate == held


def test_a_challenger_far_beyond_the_margin_gets_no_certificate() -> None:
    player = Player()
    for _ in range(500):
        player.play(5, 50, 1, 50)

    assert not player.certificate.granted


def test_the_certificate_of_two_clean_arms_takes_as_many_as_the_formula_says() -> None:
    player, requests = Player(), 0
    while not player.certificate.granted:
        player.play(0, 50, 0, 50)
        requests += 100

    forecast = log(20) / growth(Rates(1e-4, 1e-4), 0.5, 0.01)
    assert 0.8 * forecast < requests < 2.0 * forecast


@given(st.integers(0, 50), st.integers(0, 50))
def test_learned_rates_lie_between_zero_and_one(bad: int, more: int) -> None:
    challenger, baseline = learned(Table(bad, bad + more, more, bad + more), 0.02)

    assert 0 < challenger < 1
    assert 0 < baseline < 1


def test_the_sum_of_nothing_is_nothing() -> None:
    assert log_sum([]) == -inf
