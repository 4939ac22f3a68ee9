"""How certain a difference on the same rows is: a version on the margin passes no more often than is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from modelcd.domain.metrics import METRICS, Metric
from modelcd.domain.paired import Difference, difference, matched, student

SURE = 0.95


def pair(chance: Any, rows: int, rate: float, alike: float, strengths: tuple[float, float]) -> tuple[Any, Any, Any]:
    """Return truth and the scores of two versions that know it with *strengths* and share *alike* of their noise."""
    truth = (chance.random(rows) < rate).astype(int)
    shared, odds = chance.normal(size=rows), np.log(rate / (1 - rate))

    def scores(strength: float) -> Any:
        noise = np.sqrt(alike) * shared + np.sqrt(1 - alike) * chance.normal(size=rows)
        return 1 / (1 + np.exp(-(odds + strength * (strength * truth + noise) - strength**2 / 2)))

    return truth, scores(strengths[0]), scores(strengths[1])


def loss(metric: Metric, truth: Any, scores: Any, reference: Any) -> float:
    """Return how much worse *scores* are than *reference*."""
    apart = metric.function(truth, scores) - metric.function(truth, reference)
    return -apart if metric.higher_is_better else apart


@pytest.mark.parametrize("freedom", [1, 2, 3, 3.5, 4.7, 8, 20, 100, 1e4])
@pytest.mark.parametrize("sure", [0.55, 0.8, 0.95, 0.99, 0.9999])
def test_the_quantile_is_students(freedom: float, sure: float) -> None:
    assert student(sure, freedom) == pytest.approx(stats.t.ppf(sure, freedom), rel=2e-3)


@pytest.mark.parametrize("rows", [50, 200, 1000])
@pytest.mark.parametrize("margin", [0.005, 0.01, 0.02, 0.03, 0.05, 0.1])
@pytest.mark.parametrize("both", [0.0, 0.005, 0.02, 0.1])
def test_a_version_on_the_margin_of_accuracy_passes_at_most_as_often_as_said(
    rows: int, margin: float, both: float
) -> None:
    """Exactly: over all counts of rows on which one version alone is wrong, *both* being the champion's part."""
    passed, allowed, most = 0.0, 0, int(rows * both + 6 * np.sqrt(rows * both)) + 10
    for better in range(most if both else 1):
        # The more rows on which the champion alone is wrong, the more it may be the other way round.
        while allowed + better <= rows and matched(allowed, better, rows, SURE) < margin:
            allowed += 1
        champions = stats.binom.pmf(better, rows, both)
        passed += champions * stats.binom.cdf(allowed - 1, rows - better, (margin + both) / (1 - both))

    assert passed <= 0.0505


@pytest.mark.parametrize("kind", ["roc_auc", "average_precision", "accuracy", "f1", "brier_score_loss", "log_loss"])
@pytest.mark.parametrize(("rows", "rate"), [(50, 0.5), (200, 0.2), (1000, 0.05)])
@pytest.mark.parametrize("alike", [0.0, 0.8])
def test_a_version_on_the_margin_rarely_passes_by_any_metric(kind: str, rows: int, rate: float, alike: float) -> None:
    metric, chance, runs = METRICS[kind], np.random.default_rng(8), 200
    margin = loss(metric, *pair(np.random.default_rng(9), 300_000, rate, alike, (1.8, 2.5)))
    passed = 0
    for _ in range(runs):
        found = difference(metric, *pair(chance, rows, rate, alike, (1.8, 2.5)))
        passed += found.weight >= 20 and found.bounds(SURE)[1] < margin

    assert passed / runs <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize("kind", ["roc_auc", "average_precision", "accuracy", "f1", "brier_score_loss", "log_loss"])
def test_an_equal_version_passes_by_any_metric_once_there_are_the_rows(kind: str) -> None:
    metric, chance, passed = METRICS[kind], np.random.default_rng(8), 0
    for _ in range(20):
        found = difference(metric, *pair(chance, 8000, 0.3, 0.5, (2.0, 2.0)))
        passed += found.bounds(SURE)[1] < 0.02 if kind != "log_loss" else found.bounds(SURE)[1] < 0.04

    assert passed >= 16


@pytest.mark.parametrize("rows", [200, 2000])
@pytest.mark.parametrize("count", [1, 3, 10, 30])
@pytest.mark.parametrize("sure", [0.95, 0.997])
def test_a_few_rows_that_differ_are_bounded_as_by_the_exact_binomial(rows: int, count: int, sure: float) -> None:
    """Brier's loss of a version that is certain and wrong on *count* rows, where the champion is certain and right."""
    truth = np.tile([0, 1], rows // 2)
    scores = truth.astype(float)
    scores[:count] = 1 - scores[:count]

    found = difference(METRICS["brier_score_loss"], truth, scores, truth.astype(float)).bounds(sure)[1]
    exact = stats.beta.ppf(sure, count + 1, rows - count)
    assert exact < found < 1.15 * exact


def test_versions_that_never_differ_are_bounded_by_the_rule_of_three() -> None:
    truth = np.tile([0, 1], 100)
    scores = np.where(truth == 1, 0.9, 0.1)

    for name in ("brier_score_loss", "accuracy"):
        assert difference(METRICS[name], truth, scores, scores).bounds(SURE)[1] == pytest.approx(3 / 200, rel=0.07)
    assert difference(METRICS["roc_auc"], truth, scores, scores).bounds(SURE)[1] == pytest.approx(3 / 100, rel=0.01)


def test_versions_that_never_differ_in_a_metric_without_bounds_show_nothing() -> None:
    truth = np.linspace(0, 1, 200)

    for name in ("mean_squared_error", "r2", "median_absolute_error"):
        assert difference(METRICS[name], truth, truth + 1, truth + 1).bounds(SURE) == (-np.inf, np.inf)


@pytest.mark.parametrize("name", ["average_precision", "r2", "root_mean_squared_error"])
def test_an_influence_value_is_what_a_row_adds(name: str) -> None:
    chance, metric = np.random.default_rng(3), METRICS[name]
    truth = chance.integers(0, 2, 60) if metric.binary else chance.normal(size=60)
    scores = (truth + chance.normal(size=60)).round(1)
    assert metric.parts is not None
    influence = metric.parts(truth, scores)[0]

    assert influence.mean() == pytest.approx(metric.function(truth, scores), abs=1e-9)
    for row in (0, 7, 31):  # one row counted once more among very many copies of all
        many = np.append(np.tile(np.arange(60), 400), row)
        moved = metric.function(truth[many], scores[many]) - metric.function(truth, scores)
        assert moved * len(many) == pytest.approx(influence[row] - influence.mean(), rel=0.02, abs=1e-4)


def test_a_metric_of_ones_own_is_bounded_about_as_the_same_metric_of_ours() -> None:
    truth, scores, reference = pair(np.random.default_rng(4), 2000, 0.3, 0.5, (2.0, 2.2))
    ours = difference(METRICS["brier_score_loss"], truth, scores, reference)
    own = difference(Metric(METRICS["brier_score_loss"].function, False), truth, scores, reference)

    assert own.loss == pytest.approx(ours.loss)
    assert width(own) == pytest.approx(width(ours), rel=0.2)


def width(found: Difference) -> float:
    """Return how far the bounds lie apart."""
    low, high = found.bounds(SURE)
    return high - low
