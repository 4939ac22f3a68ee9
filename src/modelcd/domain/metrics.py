"""The metrics that a gate knows: scikit-learn's, by scikit-learn's names, written so that judging needs numpy alone.

A metric is a function of truth and scores, and beside it whatever lets its uncertainty be computed without calling it
thousands of times: the parts of which it is a mean (so that differences are paired row by row), or a function of the
table of classes.  The trade-off: what cannot be defined (one class, a truth that does not vary) is not a number here,
and never scikit-learn's stand-in of 0, because a gate must not pass on a stand-in.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelcd.domain.words import affirmative

Array = NDArray[Any]
Floats = NDArray[np.float64]
Function = Callable[[Array, Array], float]
Parts = Callable[[Array, Array], tuple[Floats, ...]]


class Method(StrEnum):
    """How the uncertainty of a metric, and of a difference of two on the same rows, is computed."""

    DELONG = "DeLong"
    MEANS = "paired mean"
    LINEAR = "paired influence values"
    MATCHED = "matched proportions (Tango)"
    TABLE = "paired Bayesian bootstrap of the table of classes"
    RESAMPLED = "paired bootstrap of rows"


class Tally(NamedTuple):
    """A table of classes by its margins, one column per class, any number of tables at once."""

    hits: Floats
    predicted: Floats
    actual: Floats


class Metric(NamedTuple):
    """A metric, its direction, the least and most that it can be, and what its uncertainty is computed from.

    `parts` gives groups of numbers per row, each with the metric as its mean, which moves with each (one group for a
    mean over rows; positives and negatives for the area under the curve).  `adverse` is how many rows that speak
    against a claim are added to each group before it is believed: one, or one of each class.  `tallied` is the metric
    as a function of a `Tally`.  `binary`: it needs a truth of two classes, and rows of both; `every_class`: it needs
    rows of each.
    """

    function: Function
    higher_is_better: bool
    least: float = -inf
    most: float = inf
    method: Method = Method.RESAMPLED
    parts: Parts | None = None
    tallied: Callable[[Tally], Floats] | None = None
    binary: bool = False
    adverse: float = 1.0
    every_class: bool = False


def known(name: str) -> str | None:
    """Return the name in `METRICS` for *name*, with or without `_score`; None for an unknown one."""
    return next((known for known in (name, name.removesuffix("_score")) if known in METRICS), None)


# What truth and scores may be.


def numbers(values: Array, what: str) -> Floats:
    """Return *values* as floats; raises `ValueError` for words."""
    try:
        return np.asarray(values).astype(float)
    except (TypeError, ValueError) as error:
        word = next((value for value in np.ravel(values).tolist() if isinstance(value, str)), values[0])
        raise ValueError(
            f"numbers are needed, and {what} hold {word!r}; for classes there are {', '.join(SEVERAL_CLASSES)}"
        ) from error


def positives(truth: Array) -> NDArray[np.bool_]:
    """Return where *truth* is 1; raises `ValueError` unless it holds 0 and 1 (or -1 and 1) only."""
    given = truth
    if truth.dtype.kind not in "fiub":
        try:
            given = numbers(truth, "truths")
        except ValueError as error:
            raise ValueError(not_binary(truth)) from error
    if not (np.isin(given, (0, 1)).all() or np.isin(given, (-1, 1)).all()):
        raise ValueError(not_binary(truth))
    return np.asarray(given == 1, dtype=bool)


SEVERAL_CLASSES = ("accuracy", "balanced_accuracy", "f1_macro", "matthews_corrcoef")
"""Metrics of any classes, be they two or more, numbers or words."""

OF_CHANCES = ("log_loss", "roc_auc_ovr")
"""Metrics of the chances of all classes, where there are three or more."""

ALL_CHANCES = (
    "it needs the chances of all classes, of three or more;"
    ' Model(method="predict_proba") gives them; for two classes there is roc_auc'
)

OF_NUMBERS = ("r2", "mean_absolute_error", "root_mean_squared_error", "median_absolute_error")
"""Metrics of a target that is a number; there are more."""


def misfit(name: str, truth: Array, target: str, *, chances: bool = False) -> str:
    """Say why no score can be held against *truth*, the column *target*, by the metric *name*; empty when one can.

    *chances* says that the scores will be those of `predict_proba`: of three classes or more, a list.
    """
    metric = METRICS[name]
    if name in OF_CHANCES and chances and 2 < len(set(truth.tolist())) <= MOST_CLASSES:
        return ""
    if metric.every_class:
        return ALL_CHANCES
    try:
        if metric.binary:
            positives(truth)
        elif metric.tallied is not None or name == "accuracy":
            _labels(truth)
        else:
            numbers(truth, "truths")
    except ValueError as error:
        return not_binary(truth, target) if metric.binary else str(error)
    return ""


def not_binary(truth: Array, target: str = "target") -> str:
    """Say what *truth*, the column *target*, holds where 0 and 1 are needed, and what to do."""
    values = sorted(set(truth.tolist()), key=lambda value: (str(type(value)), value))
    if len(values) == 2:
        meant = affirmative(values)
        positive = values[1] if meant is None else meant
        line = f"return rows.assign(**{{{target!r}: rows[{target!r}] == {positive!r}}})"
        return (
            f"a truth of 0 and 1 is needed, and it holds {values[0]!r} and {values[1]!r};"
            f" say in prepare which one is positive: {line}"
        )
    if len(values) <= MOST_CLASSES:
        shown = ", ".join(map(repr, values[:5])) + (", …" if len(values) > 5 else "")
        return (
            f"a truth of 0 and 1 is needed, and it holds {len(values)} classes ({shown});"
            f" for several classes there are {', '.join(SEVERAL_CLASSES)},"
            f' and with Model(method="predict_proba") {", ".join(OF_CHANCES)}'
        )
    return (
        f"a truth of 0 and 1 is needed, and it holds {len(values):,} different values;"
        f" for numbers there are {', '.join(OF_NUMBERS)}"
    )


def classes(truth: Array, scores: Array) -> tuple[Array, Array]:
    """Return truth and predictions as classes: probabilities of class 1 are cut at 0.5, classes stay what they are."""
    try:
        positive = positives(truth)
    except ValueError:
        return truth, scores
    if np.issubdtype(scores.dtype, np.floating) and ((scores >= 0) & (scores <= 1)).all():
        return positive, np.asarray(scores >= 0.5, dtype=bool)
    try:
        return positive, positives(scores)
    except ValueError:
        return truth, scores


def _binary_classes(truth: Array, scores: Array) -> tuple[Array, Array]:
    actual, predicted = positives(truth), classes(truth, scores)[1]
    return actual, np.asarray(numbers(predicted, "scores") == 1, dtype=bool)


def _probabilities(scores: Array) -> Floats:
    given = numbers(scores, "scores")
    if ((given < 0) | (given > 1)).any():
        raise ValueError("this metric needs probabilities from 0 to 1 as scores")
    return given


# Means over rows.


def wrong(truth: Array, scores: Array) -> Floats:
    """Return 1 where the class is wrong, else 0."""
    actual, predicted = classes(truth, scores)
    return np.asarray(actual != predicted, dtype=float)


def _brier(truth: Array, scores: Array) -> Floats:
    return (positives(truth) - _probabilities(scores)) ** 2


def _surprise(truth: Array, scores: Array) -> Floats:
    tiny = np.finfo(float).eps
    likely = np.clip(_probabilities(scores), tiny, 1 - tiny)
    return -np.log(np.where(positives(truth), likely, 1 - likely))


def _absolute(truth: Array, scores: Array) -> Floats:
    return np.asarray(np.abs(numbers(truth, "truths") - numbers(scores, "scores")))


def _squared(truth: Array, scores: Array) -> Floats:
    return (numbers(truth, "truths") - numbers(scores, "scores")) ** 2


def _relative(truth: Array, scores: Array) -> Floats:
    size = np.abs(numbers(truth, "truths"))
    if not size.all():
        raise ValueError("the truth has zeros, of which nothing is a per cent; take mean_absolute_error")
    return _absolute(truth, scores) / size


def _mean(rowwise: Callable[[Array, Array], Floats], most: float = inf, binary: bool = False) -> Metric:
    """Return the metric that is the mean of *rowwise*, less being better."""
    return Metric(
        lambda truth, scores: float(rowwise(truth, scores).mean()),
        False,
        0.0,
        most,
        Method.MEANS,
        lambda truth, scores: (rowwise(truth, scores),),
        binary=binary,
    )


# Rankings.


def roc_auc(truth: Array, scores: Array) -> float:
    """Return the area under the ROC curve, ties counted half; not a number when a class is missing."""
    positive = positives(truth)
    if positive.all() or not positive.any():
        return float("nan")
    return float(_placements(truth, scores)[0].mean())


def _placements(truth: Array, scores: Array) -> tuple[Floats, Floats]:
    """Return, per positive, the part of negatives below it, and per negative, the part of positives above it."""
    positive = positives(truth)
    levels, at = np.unique(numbers(scores, "scores"), return_inverse=True)

    def below(side: NDArray[np.bool_]) -> Floats:
        there = np.bincount(at, weights=side, minlength=len(levels))
        return np.asarray((np.cumsum(there) - there / 2)[at] / side.sum())

    return below(~positive)[positive], 1 - below(positive)[~positive]


def _one_versus_rest(truth: Array, scores: Array) -> tuple[Floats]:
    """Return what each row adds to the mean area under the curves of each class against all others, to first order.

    *truth* is the number of a class, a column of *scores*.  The mean is the metric; not a number when a class is
    missing.
    """
    rows, added = len(truth), np.zeros(len(truth))
    for number in range(scores.shape[1]):
        positive = truth == number
        if positive.all() or not positive.any():
            return (np.full(rows, np.nan),)
        above, below = _placements(positive, scores[:, number])
        value = above.mean()
        added[positive] += value + (above - value) * rows / len(above)
        added[~positive] += value + (below - value) * rows / len(below)
    return (added / scores.shape[1],)


class _Ranked(NamedTuple):
    """Thresholds from the highest score down: positives and rows at or above each; the threshold of each row."""

    hits: Floats
    rows: Floats
    at: NDArray[np.intp]


def _ranked(positive: NDArray[np.bool_], scores: Array) -> _Ranked:
    levels, at = np.unique(-numbers(scores, "scores"), return_inverse=True)
    hits = np.cumsum(np.bincount(at, weights=positive, minlength=len(levels)))
    return _Ranked(hits.astype(float), np.cumsum(np.bincount(at, minlength=len(levels))).astype(float), at)


def average_precision(truth: Array, scores: Array) -> float:
    """Return the mean precision over the gains in recall, threshold by threshold; tied scores are one threshold."""
    positive = positives(truth)
    if not positive.any():
        return float("nan")
    ranked = _ranked(positive, scores)
    return float(np.sum(np.diff(ranked.hits, prepend=0.0) * ranked.hits / ranked.rows) / ranked.hits[-1])


def _precision_influence(truth: Array, scores: Array) -> tuple[Floats]:
    """Return what each row adds to the average precision, to first order; the mean is the average precision.

    The derivative of the mean over positives of (positives at or above it) / (rows at or above it) with respect to
    the weight of each row: a row counts as a positive, and in the precision at every threshold at or below its score.
    """
    positive = positives(truth)
    ranked, total, rows = _ranked(positive, scores), float(positive.sum()), len(truth)
    precision, gained = ranked.hits / ranked.rows, np.diff(ranked.hits, prepend=0.0)
    value = float((gained * precision).sum() / total)
    below = np.cumsum((gained / ranked.rows)[::-1])[::-1]
    lost = np.cumsum((gained * precision / ranked.rows)[::-1])[::-1]
    at = ranked.at
    influence = positive * (precision[at] - value) + positive * below[at] - lost[at]
    return (influence * rows / total + value,)


# Regressions that are no means.


def r2(truth: Array, scores: Array) -> float:
    """Return the part of the variance that is explained; not a number when the truth does not vary."""
    given = numbers(truth, "truths")
    spread = ((given - given.mean()) ** 2).sum()
    return float(1 - _squared(truth, scores).sum() / spread) if spread > 0 else float("nan")


def _r2_influence(truth: Array, scores: Array) -> tuple[Floats]:
    """Return what each row adds to r2, to first order: the derivative of a ratio of two means."""
    given, errors = numbers(truth, "truths"), _squared(truth, scores)
    spread = (given - given.mean()) ** 2
    unexplained = errors.mean() / spread.mean()
    return (1 - unexplained - (errors - unexplained * spread) / spread.mean(),)


def _root_influence(truth: Array, scores: Array) -> tuple[Floats]:
    errors = _squared(truth, scores)
    root = float(np.sqrt(errors.mean()))
    return (root + (errors - root**2) / (2 * root) if root else errors,)


# Classes.


def tally(actual: Array, predicted: Array, labels: Array) -> tuple[Floats, Floats, Floats]:
    """Return, per row and class of *labels*, whether it is a hit, predicted, and actual, as 0 and 1."""
    is_actual: Array = actual[:, None] == labels
    is_predicted: Array = predicted[:, None] == labels
    return (is_actual & is_predicted).astype(float), is_predicted.astype(float), is_actual.astype(float)


def _divided(part: Array, whole: Array) -> Floats:
    none = np.full(np.shape(whole), np.nan)
    return np.asarray(np.divide(part, whole, out=none, where=np.asarray(whole) > 0), dtype=float)


def _f1(table: Tally) -> Floats:
    return _divided(2 * table.hits, table.predicted + table.actual)


def _balanced(table: Tally) -> Floats:
    """Return the mean recall over the classes that are there."""
    return np.asarray(np.nanmean(_divided(table.hits, table.actual), axis=-1))


def _matthews(table: Tally) -> Floats:
    """Return the correlation of predicted and true classes; 0 when the prediction does not vary, as it then is."""
    rows = table.actual.sum(axis=-1)
    together = table.hits.sum(axis=-1) * rows - (table.predicted * table.actual).sum(axis=-1)
    truth, guess = (rows**2 - (side**2).sum(axis=-1) for side in (table.actual, table.predicted))
    return np.where(guess > 0, _divided(together, np.sqrt(truth * guess)), np.where(truth > 0, 0.0, np.nan))


def _of_class_one(of: Callable[[Tally], Floats], table: Tally) -> Floats:
    return of(Tally(*(side[..., -1] for side in table)))


def _of_table(of: Callable[[Tally], Floats], least: float = 0.0, binary: bool = False) -> Metric:
    """Return the metric that is *of* the table of classes; a *binary* one is about class 1 of the classes 0 and 1."""
    tallied = partial(_of_class_one, of) if binary else of

    def function(truth: Array, scores: Array) -> float:
        actual, predicted = _binary_classes(truth, scores) if binary else classes(truth, scores)
        labels = np.array([False, True]) if binary else _labels(actual, predicted)
        if len(labels) < 2 or (actual == actual[0]).all():
            return float("nan")
        return float(tallied(Tally(*(side.sum(axis=0) for side in tally(actual, predicted, labels)))))

    return Metric(function, True, least, 1.0, Method.TABLE, tallied=tallied, binary=binary)


def _labels(*sides: Array) -> Array:
    """Return every class that is there; raises `ValueError` for what is no class."""
    labels = np.unique(np.concatenate(sides))
    if len(labels) > MOST_CLASSES:
        raise ValueError(
            f"there are {len(labels):,} different classes, and this metric needs few;"
            f" for numbers there are {', '.join(OF_NUMBERS)}"
        )
    return labels


def labelled(metric: Metric, truth: Array, *scores: Array) -> tuple[Array, list[Array], Array]:
    """Return truth, each of *scores* as classes, and all the classes that there are, for a metric of the table."""
    if metric.binary:
        return positives(truth), [_binary_classes(truth, side)[1] for side in scores], np.array([False, True])
    pairs = [classes(truth, side) for side in scores]
    actual = pairs[0][0]
    if any(other.dtype != actual.dtype for other, _ in pairs):  # one side has probabilities, the other classes
        raise ValueError("one version gives probabilities and the other classes; compare the same")
    return actual, [side for _, side in pairs], _labels(actual, *(side for _, side in pairs))


MOST_CLASSES = 200
"""More different values than this are numbers, not classes."""

METRICS: dict[str, Metric] = {
    "roc_auc": Metric(roc_auc, True, 0.0, 1.0, Method.DELONG, _placements, binary=True),
    "average_precision": Metric(
        average_precision, True, 0.0, 1.0, Method.LINEAR, _precision_influence, binary=True, adverse=2.0
    ),
    "roc_auc_ovr": Metric(
        lambda truth, scores: float(_one_versus_rest(truth, scores)[0].mean()),
        True,
        0.0,
        1.0,
        Method.LINEAR,
        _one_versus_rest,
        adverse=2.0,
        every_class=True,
    ),
    "accuracy": Metric(lambda truth, scores: 1 - float(wrong(truth, scores).mean()), True, 0.0, 1.0, Method.MATCHED),
    "balanced_accuracy": _of_table(_balanced),
    "f1": _of_table(_f1, binary=True),
    "f1_macro": _of_table(lambda table: np.asarray(np.nanmean(_f1(table), axis=-1))),
    "precision": _of_table(lambda table: _divided(table.hits, table.predicted), binary=True),
    "recall": _of_table(lambda table: _divided(table.hits, table.actual), binary=True),
    "matthews_corrcoef": _of_table(_matthews, least=-1.0),
    "brier_score_loss": _mean(_brier, most=1.0, binary=True),
    "log_loss": _mean(_surprise, binary=True),
    "r2": Metric(r2, True, most=1.0, method=Method.LINEAR, parts=_r2_influence),
    "mean_absolute_error": _mean(_absolute),
    "mean_squared_error": _mean(_squared),
    "mean_absolute_percentage_error": _mean(_relative),
    "root_mean_squared_error": Metric(
        lambda truth, scores: float(np.sqrt(_squared(truth, scores).mean())),
        False,
        0.0,
        method=Method.LINEAR,
        parts=_root_influence,
    ),
    "median_absolute_error": Metric(lambda truth, scores: float(np.median(_absolute(truth, scores))), False, 0.0),
}
"""The metrics by name: those of `sklearn.metrics`, with or without `_score`; `f1_macro` is the name of its scorer."""
