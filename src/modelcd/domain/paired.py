"""How much worse one version is than another on the same rows, and how certain that is; or how certain one value is.

Each method gives a `Difference`: the loss, its standard error, and a function from a confidence to two bounds, each of
which holds by itself with that confidence.  Where there is a choice the wider bound is taken: a gate passes on what a
bound excludes, so a bound that is too narrow is the dangerous mistake.

The trade-off: all are large-sample methods, corrected for what small samples break.  Rows on which two versions differ
may be rare, and what rare rows show is skew and looks more certain than it is; so before a bound is drawn, a row that
speaks against it is added, as bad as the worst that was seen, and quantiles are Student's and move with the skewness.
On rows that differ in one direction this comes close to the exact binomial bound (`tests/unit/test_paired.py`).  It
costs some rows: bounds are wider by a fifth on 200 rows, by a twentieth on 5,000.  Rows of a kind that was never seen
cannot be bounded by any of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import exp, inf, log, pi, sqrt, tan
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from modelcd.domain.metrics import Array, Floats, Method, Metric, Tally, labelled, positives, tally, wrong

DRAWS = 4_000
"""Draws of the table of classes: enough to see a tail of 0.1 %."""

RESAMPLES = 500
"""Resamples of the rows for a metric that is any function: each costs two calls of it."""

SEED = 20_240_501
"""The seed of draws and resamples: the same rows give the same verdict."""

CONTINUITY = 0.25
"""Rows by which a count of rows that differ is moved: the smallest with which the size of the test was never above its
level in an enumeration of 150 cases."""

ADVERSE = 2.0
"""Rows that speak against a claim which are added to a table of classes: one for each of two classes."""

Bounds = Callable[[float], tuple[float, float]]


class Difference(NamedTuple):
    """How much worse the challenger is (negative: better), the standard error, and one-sided bounds by confidence.

    `weight` is how many rows carry it: of the rarer class where the metric needs both, else all.
    """

    loss: float
    error: float
    bounds: Bounds
    weight: int


class Uncertain(Exception):
    """The rows do not say how certain the value is; the message says why."""


def difference(metric: Metric, truth: Array, scores: Array, reference: Array | None) -> Difference:
    """Return how much worse *scores* are than *reference* on the rows of *truth* by *metric*.

    Without a *reference* the loss is the metric's own value (its negative, where more is better): the bounds are then
    those of the value.  Raises `ValueError` for values that the metric cannot be computed from.
    """
    weight = len(truth)
    if metric.binary:
        ones = int(positives(truth).sum())
        weight = min(ones, weight - ones)
    elif metric.every_class:
        weight = int(np.bincount(truth).min())
    elif (
        metric.method is Method.RESAMPLED
        and truth.ndim == 1
        and len(counts := np.unique(truth, return_counts=True)[1]) == 2
    ):
        weight = int(counts.min())  # nobody knows which class a function of the user's is about
    if metric.method is Method.MATCHED:
        return _matched(truth, scores, reference, weight)
    if metric.tallied is not None:
        return _of_tables(metric, metric.tallied, truth, scores, reference, weight)
    if metric.parts is None:
        return _resampled(metric, truth, scores, reference, weight)
    sign = -1.0 if metric.higher_is_better else 1.0
    ours = metric.parts(truth, scores)
    theirs = metric.parts(truth, reference) if reference is not None else tuple(np.zeros(len(part)) for part in ours)
    groups = [sign * (mine - other) for mine, other in zip(ours, theirs, strict=True)]
    # One row moves a mean over all rows by its part of them, a ranking by its part of its class.
    part = len(truth) if metric.method is Method.MEANS else max(weight, 1)
    return _student(groups, metric.adverse, (metric.most - metric.least) / part, weight)


# Sums of means.


class _Moments(NamedTuple):
    """Of the mean of a group, with what adverse rows add to it: the variance, the third central moment, freedom."""

    added: float
    variance: float
    third: float
    freedom: float


def _moments(group: Floats, adverse: float) -> _Moments:
    """Return the moments of the mean of *group* and *adverse* more rows like its largest."""
    rows, weight, worst = len(group), len(group) + adverse, float(group.max())
    mean = (float(group.sum()) + adverse * worst) / weight
    apart = group - mean
    second = (float((apart**2).sum()) + adverse * (worst - mean) ** 2) / weight
    third = (float((apart**3).sum()) + adverse * (worst - mean) ** 3) / weight
    if rows < 2:
        return _Moments(0.0, 0.0, 0.0, 1.0)
    return _Moments(mean - float(group.mean()), second / (weight - 1), third / weight**2, rows - 1.0)


def _student(groups: list[Floats], adverse: float, unseen: float, weight: int) -> Difference:
    """Bound a loss that is the mean of each of *groups*, and varies with the rows of each.

    Degrees of freedom: Satterthwaite (Biometrics Bulletin 1946).  Skewness: the first term of the Edgeworth expansion
    of Student's statistic (Johnson, JASA 1978; Hall, Annals of Statistics 1992), taken only where it widens.  Without
    any variation, *unseen* is the most by which one row could move the mean, and the bound is the rule of three
    (Hanley, Lippman-Hand, JAMA 1983).
    """
    loss, error = float(groups[0].mean()), sqrt(sum(_moments(group, 0.0).variance for group in groups))
    above = [_moments(group, adverse) for group in groups]
    below = [_moments(-group, adverse) for group in groups]

    def bounds(sure: float) -> tuple[float, float]:
        if error <= 0:
            return loss - unseen * log(1 / (1 - sure)), loss + unseen * log(1 / (1 - sure))
        return loss - _reach(below, sure), loss + _reach(above, sure)

    return Difference(loss, error, bounds, weight)


def _reach(groups: list[_Moments], sure: float) -> float:
    variance = sum(group.variance for group in groups)
    freedom = variance**2 / sum(group.variance**2 / group.freedom for group in groups)
    skew = sum(group.third for group in groups) / variance**1.5
    return sum(group.added for group in groups) + sqrt(variance) * (student(sure, freedom) + _skewed(skew, sure))


def _skewed(skew: float, sure: float) -> float:
    """Return by how many standard errors more the quantile *sure* lies when the mean has the skewness *skew*."""
    return max(0.0, skew * (2 * NormalDist().inv_cdf(sure) ** 2 + 1) / 6)


def student(sure: float, freedom: float) -> float:
    """Return the quantile *sure* (above 0.5) of Student's distribution, to four digits.

    Hill's expansion (Algorithm 396, CACM 1970) from three degrees of freedom on, exact for one and two; what lies
    between is rounded down, to the wider side.
    """
    if freedom < 2:
        return tan(pi * (sure - 0.5))
    if freedom < 3:
        return (2 * sure - 1) * sqrt(2 / (4 * sure * (1 - sure)))
    both, n = 2 * (1 - sure), freedom
    a = 1 / (n - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * sqrt(a * pi / 2) * n
    y = (d * both) ** (2 / n)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(both / 2)
        c += 0.3 * (n - 4.5) * (x + 0.6) if n < 5 else 0.0
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * x**2 + 6.3) * x**2 + 36) * x**2 + 94.5) / c - x**2 - 3) / b + 1) * x
        y = exp(a * y**2) - 1
    else:
        y = ((1 / (((n + 6) / (n * y) - 0.089 * d - 0.822) * (n + 2) * 3) + 0.5 / (n + 4)) * y - 1) * (n + 1) / (
            n + 2
        ) + 1 / y
    return sqrt(n * y)


# Matched proportions.


def _matched(truth: Array, scores: Array, reference: Array | None, weight: int) -> Difference:
    ours = wrong(truth, scores)
    theirs = wrong(truth, reference) if reference is not None else np.zeros(len(ours))
    worse, better, rows = int(((ours == 1) & (theirs == 0)).sum()), int(((ours == 0) & (theirs == 1)).sum()), len(ours)
    loss = (worse - better) / rows
    error = sqrt(max(worse + better - (worse - better) ** 2 / rows, 0.0)) / rows
    shift = 0.0 if reference is not None else -1.0  # without a reference the value is accuracy, 1 less the errors

    def bounds(sure: float) -> tuple[float, float]:
        return shift - matched(better, worse, rows, sure), shift + matched(worse, better, rows, sure)

    return Difference(shift + loss, error, bounds, weight)


def matched(worse: int, better: int, rows: int, sure: float) -> float:
    """Return the largest difference of two proportions on the same *rows* that *worse* and *better* do not exclude.

    The score interval of Tango (Statistics in Medicine 1998, 17:891), which inverts the score test of Nam (Biometrics
    1997, 53:1422), with a quarter of a row as continuity correction: without any, a version on the margin passes too
    often when few rows differ (at worst 6.7 % instead of 5 %, by analysis).  With *better* 0 it is Wilson's interval of
    a single proportion, so corrected.
    """
    z, low, high = NormalDist().inv_cdf(sure), (worse - better) / rows, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        if _score(worse, better, rows, middle) < -z:
            high = middle
        else:
            low = middle
    return high


def _score(worse: int, better: int, rows: int, margin: float) -> float:
    """Return the score statistic of the hypothesis that the difference is *margin*, corrected for continuity."""
    # The most likely part of rows on which only the reference is wrong, were the difference the margin.
    a, b, c = 2 * rows, -worse - better + (2 * rows - worse + better) * margin, -better * margin * (1 - margin)
    only = (sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = rows * (2 * only + margin * (1 - margin))
    apart = worse - better - rows * margin
    return min(0.0, apart + CONTINUITY) / sqrt(variance) if variance > 0 else 0.0


# Tables of classes.


def _of_tables(
    metric: Metric,
    of: Callable[[Tally], Floats],
    truth: Array,
    scores: Array,
    reference: Array | None,
    weight: int,
) -> Difference:
    """Bound a function of tables of classes by drawing tables that could have given these rows.

    The Bayesian bootstrap (Rubin, Annals of Statistics 1981) of the cells (truth, challenger, reference); for F1 see
    Goutte and Gaussier (ECIR 2005).  Before a bound is drawn, rows that speak against it are added, one for each of
    two classes: as in the exact interval of Clopper and Pearson (Biometrika 1934), no cell is known to be empty.
    """
    actual, sides, labels = labelled(metric, truth, scores, *([reference] if reference is not None else []))
    places = [np.searchsorted(labels, side) for side in (actual, *sides)]
    codes, counts = np.unique(np.ravel_multi_index(places, (len(labels),) * len(places)), return_counts=True)
    cells = np.stack(np.unravel_index(codes, (len(labels),) * len(places)))
    common = int(np.bincount(places[0], minlength=len(labels)).argmax())
    every = np.arange(len(labels))
    other = np.where(every == common, (common + 1) % max(len(labels), 2), common)
    against = np.stack([every, other, every][: len(cells)])
    in_favour = np.stack([every, every, other][: len(cells)])
    sign = -1.0 if metric.higher_is_better else 1.0

    def losses(all_cells: Array, weights: Floats) -> Floats:
        values = []
        for side in all_cells[1:]:
            hits, predicted, real = tally(all_cells[0], side, every)
            values.append(of(Tally(weights @ hits, weights @ predicted, weights @ real)))
        return sign * (values[0] - values[1] if len(values) == 2 else values[0])

    def drawn(added: Array) -> Floats:
        shape = np.concatenate([counts, np.full(len(every), ADVERSE / len(every))])
        weights = np.random.default_rng(SEED).standard_gamma(shape, (DRAWS, len(shape)))
        found = losses(np.concatenate([cells, added], axis=1), weights)
        return np.sort(found[np.isfinite(found)])

    below, above = drawn(in_favour), drawn(against)
    loss = float(losses(cells, counts.astype(float)[None, :])[0])

    def bounds(sure: float) -> tuple[float, float]:
        return min(loss, _outer(-below[::-1], sure, -1)), max(loss, _outer(above, sure, 1))

    return Difference(loss, float(np.concatenate([below, above]).std(ddof=1)), bounds, weight)


def _outer(ordered: Floats, sure: float, sign: int) -> float:
    """Return the quantile *sure* of *ordered* draws, times *sign*; beyond what they can show there is no bound."""
    place = int(np.ceil(sure * (len(ordered) + 1))) - 1
    return sign * (float(ordered[place]) if place < len(ordered) else inf)


# Any function.


def _resampled(metric: Metric, truth: Array, scores: Array, reference: Array | None, weight: int) -> Difference:
    """Bound any function of the rows: standard error, skewness and kurtosis from a seeded bootstrap of the pairs.

    The bound is Student's, with the degrees of freedom that the kurtosis leaves the variance, and moved by the skewness
    (Johnson, JASA 1978).  The worst row is added here, too; what a row adds is how its count in the resamples goes
    with their value (the infinitesimal jackknife of Efron, JASA 2014), less what chance alone would show.  A resample
    on which the metric is not a number (one class, say) is thrown away; raises `Uncertain` when one in ten is.
    """
    sign, rows = -1.0 if metric.higher_is_better else 1.0, len(truth)

    def loss_on(chosen: Array) -> float:
        value = float(metric.function(truth[chosen], scores[chosen]))
        return sign * (
            value - float(metric.function(truth[chosen], reference[chosen])) if reference is not None else value
        )

    loss, losses = loss_on(np.arange(rows)), np.array([loss_on(chosen) for chosen in _resamples(rows)])
    usable = np.isfinite(losses)
    if usable.sum() < 0.9 * RESAMPLES:
        raise Uncertain(f"{rows:,} rows are too few or too alike to say how certain the value is")
    apart = np.where(usable, losses - losses[usable].mean(), 0.0)
    second = float((apart**2).sum() / usable.sum())
    error = sqrt(second * rows / max(rows - 1, 1))
    if error <= 0 or rows < 2:
        return Difference(loss, 0.0, lambda _sure: (-inf, inf), weight)
    third, fourth = (float((apart**power).sum() / usable.sum()) for power in (3, 4))
    # The excess of the kurtosis shrinks with the rows as the variance of the variance does; noise is taken off.
    excess = max(fourth / second**2 - 3 - sqrt(24 / RESAMPLES), 0.0)
    freedom, skew = max(1.0, 2 / (excess + 2 / (rows - 1))), third / second**1.5
    influence, noise = np.zeros(rows), error * sqrt(2 * log(rows) / RESAMPLES)
    for chosen, value in zip(_resamples(rows), apart, strict=True):
        influence += value / RESAMPLES * np.bincount(chosen, minlength=rows)

    def reach(sure: float, sign: int) -> float:
        added = max(0.0, float((sign * influence).max()) - noise)
        return added + sqrt(error**2 + added**2) * (student(sure, freedom) + _skewed(sign * skew, sure))

    return Difference(loss, error, lambda sure: (loss - reach(sure, -1), loss + reach(sure, 1)), weight)


def _resamples(rows: int) -> Iterator[Array]:
    chance = np.random.default_rng(SEED)
    return (chance.integers(0, rows, rows) for _ in range(RESAMPLES))
