"""Bets on a mean that no true mean lets grow, checked by counting every outcome; limits that hold at all times."""

from __future__ import annotations

import json
from itertools import pairwise, product
from math import comb, exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcd.domain.series import UNLUCKY
from modelcd.domain.shadow.means import (
    BETS,
    BOUNDED,
    PACE,
    RATE,
    SIGNED,
    Span,
    Sums,
    Tally,
    interval,
    log_odds,
    log_wealths,
    needs,
    summed,
)

MARGINS = (0.0, 0.002, 0.01, 0.05, 0.3)
ALIKE = Sums(50, 0.0, 5.0)
"""A usual challenger: one pair in ten differs, in both directions alike."""


def outcomes(n: int) -> list[tuple[int, int, int]]:
    """Return every way in which *n* draws fall on three values."""
    return [(a, b, n - a - b) for a, b in product(range(n + 1), repeat=2) if a + b <= n]


def expectation(chances: np.ndarray, values: np.ndarray, span: Span, mean: float, n: int, *, above: bool) -> float:
    """Return the largest money on average, over all bets and their mean, after *n* draws of three values."""
    worth = np.zeros(len(BETS) + 1)
    for counts in outcomes(n):
        a, b, c = counts
        likely = comb(n, a) * comb(n - a, b) * float(np.prod(chances ** np.array([a, b, c])))
        sums = Sums(n, float(np.dot(counts, values)), float(np.dot(counts, values**2)))
        each = np.exp(log_wealths(sums, span, mean, above=above))
        worth += likely * np.append(each, exp(log_odds(sums, span, mean, above=above)))
    return float(worth.max())


def draw(chance: np.random.Generator, values: np.ndarray, mean: float, *, above: bool, edge: bool) -> np.ndarray:
    """Return chances of *values* whose mean is at most (*above* false: at least) *mean*, or exactly that."""
    chances = chance.dirichlet(chance.choice([0.2, 1.0, 5.0]) * np.ones(3))
    off = float(chances @ values) - mean
    if edge or (off > 0) == above:
        # Mix with the value on the other side of the mean until the mean is on, or within, the edge.
        far = values.argmin() if off > 0 else values.argmax()
        part = off / (off + mean - values[far])
        part += 0.0 if edge else chance.uniform(0, 1 - part)
        chances = (1 - part) * chances + part * (np.arange(3) == far)
    return chances


@pytest.mark.parametrize("edge", [True, False], ids=["edge", "interior"])
@pytest.mark.parametrize("above", [True, False], ids=["against at most", "against at least"])
def test_no_null_of_pairs_lets_money_grow_on_average(above: bool, edge: bool) -> None:
    chance, largest, values = np.random.default_rng(5), 0.0, np.array([-1.0, 0.0, 1.0])
    for trial in range(300):
        mean = float(MARGINS[trial % 5]) * (1 if trial % 2 else -1)
        chances = draw(chance, values, mean, above=above, edge=edge)
        assert abs(chances @ values - mean) < 1e-9 if edge else (chances @ values - mean > 1e-9) != above
        largest = max(largest, expectation(chances, values, SIGNED, mean, int(chance.integers(1, 8)), above=above))

    assert 0.9 < largest <= 1 + 1e-6


@pytest.mark.parametrize("span", [RATE, BOUNDED, Span(0.0, 3.0)], ids=["rate", "bounded", "another range"])
@pytest.mark.parametrize("above", [True, False], ids=["against at most", "against at least"])
def test_no_null_of_bounded_values_lets_money_grow_on_average(above: bool, span: Span) -> None:
    chance, largest, width = np.random.default_rng(6), 0.0, span.high - span.low
    for trial in range(150):
        inner = chance.uniform(span.low, span.high)
        values = np.array([0.0, 1.0, 1.0]) if span.whole else np.array([span.low, inner, span.high])
        mean = span.low + width * float(chance.choice([0.02, 0.3, 0.55, 0.9]))
        chances = draw(chance, values, mean, above=above, edge=trial % 2 == 0)
        largest = max(largest, expectation(chances, values, span, mean, int(chance.integers(1, 6)), above=above))

    assert 0.5 < largest <= 1 + 1e-6


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.floats(-0.9, 0.9), st.booleans())
def test_three_sums_never_claim_more_money_than_was_won(values: list[float], mean: float, above: bool) -> None:
    x = np.array(values)
    z = (x - mean) / (mean + 1) if above else (mean - x) / (1 - mean)
    won = np.log1p(np.outer(BETS, z)).sum(axis=1)

    assert (log_wealths(summed(x), BOUNDED, mean, above=above) <= won + 1e-9).all()


def test_without_a_margin_it_is_a_likelihood_ratio_of_discordant_pairs() -> None:
    worth = log_wealths(Sums(1000, 10.0, 50.0), SIGNED, 0.0, above=True)
    direction = (1 + BETS) / 2

    assert worth == pytest.approx(30 * np.log(direction / 0.5) + 20 * np.log((1 - direction) / 0.5))


def test_pairs_that_agree_change_nothing_without_a_margin() -> None:
    few, many = Sums(50, 10.0, 50.0), Sums(50_000, 10.0, 50.0)

    assert log_odds(few, SIGNED, 0.0, above=True) == log_odds(many, SIGNED, 0.0, above=True)


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200), st.sampled_from(MARGINS))
def test_up_and_down_are_mirror_images(up: int, down: int, same: int, margin: float) -> None:
    seen, turned = (Sums(up + down + same, sign * (up - down), up + down) for sign in (1.0, -1.0))

    assert log_odds(seen, SIGNED, margin, above=True) == log_odds(turned, SIGNED, -margin, above=False)


def test_the_evidence_before_any_data_is_even() -> None:
    assert Tally().evidence(SIGNED, 0.0, above=True)[0] == pytest.approx(0.0)


def test_the_late_starts_never_have_more_money_than_there_is() -> None:
    """Pairs that agree win and lose nothing, so all the money there ever was can be counted."""
    tally, money = Tally(), []
    for _ in range(4000):
        tally = tally.after(Sums(PACE // 2, 0.0, 0.0), late=True)
        money.append(exp(tally.evidence(SIGNED, 0.0, above=True)[0]))

    assert max(money) <= 1 + 1e-9
    assert min(money) > 2 / 3
    assert len(tally.starts) < 16


def test_a_recent_start_is_always_kept() -> None:
    tally = Tally()
    for _ in range(300):
        tally = tally.after(Sums(PACE, 0.0, 0.0), late=True)
        ages = [(tally.seen.n - start.n) // PACE for start in tally.starts]
        assert all(newer <= 2 * older for newer, older in pairwise([1, *reversed(ages)])) or len(ages) < 2
        assert min(ages, default=1) <= 1
        assert all(b <= 4 * a for a, b in pairwise(sorted(ages)))


def test_what_breaks_late_is_found_by_a_late_start() -> None:
    tally = Tally()
    for _ in range(500):
        tally = tally.after(Sums(100, 0.0, 7.0), late=True)
    pairs = 0
    while tally.evidence(SIGNED, 0.0, above=True)[0] < log(100) and pairs < 20_000:
        tally, pairs = tally.after(Sums(100, 3.0, 7.0), late=True), pairs + 100
    odds, since = tally.evidence(SIGNED, 0.0, above=True)

    assert pairs < 4_000
    assert since.n < 6_000
    assert odds > log_odds(tally.seen, SIGNED, 0.0, above=True)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=2, max_size=60), st.integers(1, 59))
def test_neither_order_nor_batches_matter(values: list[float], cut: int) -> None:
    x = np.array(values)
    whole = Tally().after(summed(x), late=True)
    parts = Tally().after(summed(x[::-1][:cut]), late=True).after(summed(x[::-1][cut:]), late=True)

    assert whole == parts


def test_a_tally_read_back_from_json_is_the_same() -> None:
    tally, chance = Tally(), np.random.default_rng(2)
    for _ in range(30):
        tally = tally.after(summed(chance.uniform(-1, 1, 100)), late=True)

    assert Tally.from_plain(json.loads(json.dumps(tally.to_plain()))) == tally


@pytest.mark.parametrize("bounded", [False, True], ids=["whole", "bounded"])
def test_the_interval_holds_at_all_times(bounded: bool) -> None:
    chance, missed, span = np.random.default_rng(8), 0, BOUNDED if bounded else SIGNED
    for _ in range(60):
        seen, wrong = Sums(), False
        for _ in range(20):
            x = (
                chance.normal(0.03, 0.1, 60).clip(-1, 1)
                if bounded
                else chance.choice([-1, 0, 1], 60, p=[0.02, 0.93, 0.05])
            )
            seen = seen.plus(summed(x.astype(float)))
            low, high = interval(seen, span, 0.1)
            wrong = wrong or not low <= 0.03 <= high
        missed += wrong

    assert missed / 60 <= 0.1


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 3000))
def test_the_interval_holds_the_estimate_and_leaves_out_what_is_refuted(up: int, down: int, same: int) -> None:
    seen = Sums(up + down + same, float(up - down), float(up + down))
    low, high = interval(seen, SIGNED, 0.01)

    assert -1 <= low <= seen.mean <= high <= 1
    if low > -1:
        assert log_odds(seen, SIGNED, low, above=True) == pytest.approx(log(200), abs=1e-3)


def test_the_interval_of_nothing_is_everything() -> None:
    assert interval(Sums(), RATE, 0.01) == (0.0, 1.0)


def test_the_interval_narrows_as_pairs_come() -> None:
    widths = [
        high - low for low, high in (interval(Sums(n, 0.03 * n, 0.07 * n), SIGNED, 0.01) for n in (300, 3000, 30000))
    ]

    assert widths == sorted(widths, reverse=True)
    assert widths[2] < 0.02


def test_a_forecast_before_any_data_is_about_the_median() -> None:
    chance, took = np.random.default_rng(4), []
    for _ in range(120):
        seen = Sums()
        while log_odds(seen, SIGNED, 0.03, above=False) < log(20):
            k = chance.multinomial(20, [0.05, 0.05, 0.9])
            seen = seen.plus(Sums(20, float(k[0] - k[1]), float(k[0] + k[1])))
        took.append(seen.n)
    forecast = needs(Sums(), SIGNED, 0.03, log(20), above=False, usual=ALIKE)

    assert forecast is not None
    assert 0.6 < forecast / np.median(took) < 1.6
    assert np.mean(np.array(took) <= UNLUCKY * forecast) >= 0.85


def test_a_forecast_falls_and_is_nothing_once_the_bar_is_reached() -> None:
    found = [
        needs(Sums(n, 0.0, 0.1 * n), SIGNED, 0.05, log(20), above=False, usual=ALIKE) for n in (0, 50, 100, 200, 2000)
    ]

    assert found == sorted(found, key=lambda n: -(n or 0))
    assert found[-1] == 0


def test_values_beyond_the_tolerance_are_forecast_to_never_settle_it() -> None:
    assert needs(Sums(2000, 120.0, 200.0), SIGNED, 0.05, log(20), above=False, usual=ALIKE) is None
