"""Gates on scores that are lists: the chances of all classes, or a number for each of several targets.

Of chances, a metric of classes takes the likeliest class; `log_loss` and `roc_auc_ovr` take the chances themselves.  Of
several targets, a metric of numbers is the mean of what it is for each, as scikit-learn has it.  A function of the
user's own gets arrays of rows by numbers, as they are.  What fits nothing of this is refused by name: a metric of one
number, computed over all of a list, would be a number and say nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from modelcd.domain.metrics import ALL_CHANCES, METRICS, OF_CHANCES, SEVERAL_CLASSES, Array, Floats, Metric

OF_TARGETS = (
    *("r2", "mean_absolute_error", "mean_squared_error", "root_mean_squared_error"),
    *("mean_absolute_percentage_error", "median_absolute_error"),
)


class Misfit(Exception):
    """A metric that does not fit what truth and scores are; the message says which do."""


class Side(NamedTuple):
    """The scores of one version, and what each number of them is when they are chances of classes."""

    scores: Array
    classes: tuple[object, ...] = ()


class Formed(NamedTuple):
    """A metric with truth and scores as it takes them; `champion` is None where there is none."""

    metric: Metric
    truth: Array
    challenger: Side
    champion: Side | None


def formed(name: str, truth: Array, challenger: Side, champion: Side | None) -> Formed:
    """Bring truth and scores into the form that the built-in metric *name* takes; raises `Misfit`."""
    sides = [challenger] if champion is None else [challenger, champion]
    if truth.ndim == 2:
        return _of_targets(name, truth, sides)
    if all(side.scores.ndim == 1 for side in sides):
        if name == "roc_auc_ovr":
            raise Misfit(ALL_CHANCES)
        return _formed(METRICS[name], truth, sides)
    if name in SEVERAL_CLASSES:
        return _formed(METRICS[name], truth, [_likeliest(side, truth) for side in sides])
    if name in OF_CHANCES:
        return _of_chances(name, truth, sides)
    raise Misfit(
        f"the scores are lists; of chances of all classes there are {', '.join((*SEVERAL_CLASSES, *OF_CHANCES))}, "
        "of anything else a function of your own: Gate(name, function=f)"
    )


def _formed(metric: Metric, truth: Array, sides: list[Side]) -> Formed:
    return Formed(metric, truth, sides[0], sides[1] if len(sides) > 1 else None)


def several_targets(name: str, count: int) -> str:
    """Say why the metric *name* cannot be of *count* targets; empty when it can."""
    if name in OF_TARGETS:
        return ""
    known = ", ".join(OF_TARGETS)
    return f"there are {count} targets; of several there are {known}, or a function of your own: Gate(name, function=f)"


def _of_targets(name: str, truth: Array, sides: list[Side]) -> Formed:
    if wrong := several_targets(name, truth.shape[1]):
        raise Misfit(wrong)
    odd = next((side for side in sides if side.scores.shape != truth.shape), None)
    if odd is not None:
        raise Misfit(f"the truth has the shape {truth.shape}, the scores of a version {odd.scores.shape}")
    return _formed(averaged(METRICS[name]), truth, sides)


def averaged(metric: Metric) -> Metric:
    """Return *metric* of several targets: the mean of what it is for each column of truth and scores."""
    inner = metric.parts

    def function(truth: Array, scores: Array) -> float:
        return float(np.mean([metric.function(truth[:, k], scores[:, k]) for k in range(truth.shape[1])]))

    def parts(truth: Array, scores: Array) -> tuple[Floats, ...]:
        assert inner is not None, "only a metric with parts has those of several targets"
        found = [inner(truth[:, k], scores[:, k]) for k in range(truth.shape[1])]
        return tuple(np.mean(group, axis=0) for group in zip(*found, strict=True))

    return metric._replace(function=function, parts=parts if inner is not None else None)


def _known(side: Side) -> tuple[object, ...]:
    if side.scores.ndim != 2 or not side.classes:
        what = "one score a row" if side.scores.ndim == 1 else "lists of numbers, and nothing says of which classes"
        raise Misfit(f"a version gives {what}; chances of classes come from predict_proba of a model with classes_")
    return side.classes


def _likeliest(side: Side, truth: Array) -> Side:
    """Return the likeliest class of each row, as the truth has it; scores that are classes stay what they are."""
    if side.scores.ndim == 1:
        return side
    classes = np.array(_known(side), dtype=object if truth.dtype == object else None)
    return Side(classes[side.scores.argmax(axis=1)])


def _of_chances(name: str, truth: Array, sides: list[Side]) -> Formed:
    """Number the classes in the order of the challenger's, in the truth and in the columns of every side."""
    classes = _known(sides[0])
    aligned = []
    for side in sides:
        if set(_known(side)) != set(classes):
            raise Misfit(f"the versions know different classes: {_listed(classes)} and {_listed(_known(side))}")
        order = [side.classes.index(one) for one in classes]
        aligned.append(Side(side.scores[:, order], tuple(range(len(classes)))))
    numbered = np.full(len(truth), -1)
    for number, one in enumerate(classes):
        numbered[truth == one] = number
    if (unknown := truth[numbered < 0]).size:
        raise Misfit(f"{len(unknown):,} rows are of classes that the model does not know, such as {unknown[0]!r}")
    if any((side.scores < 0).any() or (np.abs(side.scores.sum(axis=1) - 1) > 1e-3).any() for side in aligned):
        raise Misfit("chances of all classes lie from 0 to 1 and add up to 1 in each row")
    return _formed(_CHANCES[name], numbered, aligned)


def _listed(classes: tuple[object, ...]) -> str:
    return ", ".join(map(str, classes[:8])) + (", …" if len(classes) > 8 else "")


# Metrics of chances: the truth is the number of a class, which is a column of the scores.


def _surprise(truth: Array, scores: Array) -> Floats:
    likely = scores[np.arange(len(truth)), truth]
    return np.asarray(-np.log(np.clip(likely, np.finfo(float).eps, 1)))


_CHANCES = {
    "log_loss": METRICS["log_loss"]._replace(
        function=lambda truth, scores: float(_surprise(truth, scores).mean()),
        parts=lambda truth, scores: (_surprise(truth, scores),),
        binary=False,
    ),
    "roc_auc_ovr": METRICS["roc_auc_ovr"],
}
