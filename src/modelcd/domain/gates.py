"""The gates: what a challenger must show on the holdout before it serves anybody.

A gate compares with a limit, with the champion on the same rows, or with the champion slice by slice.  It passes only
on what the rows can show: a difference is judged by a confidence bound, never by the point value alone, and a holdout
too small to see the margin is inconclusive with the number of rows that would do.

The trade-off: bounds are normal, with the standard error from theory where there is one (DeLong for the area under the
curve, paired rows for metrics that are means) and from a seeded bootstrap otherwise.  That is exact enough from some
dozens of rows on; below, and where the rows show no variation at all, the standard error has a floor.

The metrics are scikit-learn's, written here so that judging needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, inf, sqrt
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelcd.domain.policy import Bound, Gate
from modelcd.domain.verdict import Finding, Verdict

Array = NDArray[Any]
Floats = NDArray[np.float64]
Function = Callable[[Array, Array], float]

FEWEST = 30
"""Below this many rows no bound on a difference is believed."""

RESAMPLES = 200
"""Bootstrap resamples for a standard error: its own error is then about 5 %."""

SEED = 20_240_501
"""The bootstrap's seed: the same rows give the same verdict."""

POWER = NormalDist().inv_cdf(0.8)
"""A forecast of rows is for an 80 % chance to see the difference."""


class Metric(NamedTuple):
    """A metric: the function of (truth, scores), whether more is better, and the least and most that it can be."""

    function: Function
    higher_is_better: bool
    least: float = -inf
    most: float = inf


@dataclass(frozen=True)
class Holdout:
    """Rows that no version was trained on: their truth, what each version scored, and columns to slice by."""

    truth: Array
    challenger: Array
    champion: Array | None = None
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)


class _Comparison(NamedTuple):
    """Values of both sides; how much the challenger is worse (negative: better), with its standard error."""

    challenger: float
    reference: float
    loss: float
    error: float


class _Unjudged(Exception):
    """What was given cannot be judged; the message says why and what to do."""


# The metrics.


def positives(truth: Array) -> NDArray[np.bool_]:
    """Return where *truth* is 1; raises `ValueError` unless it holds 0 and 1 (or -1 and 1) only."""
    numbers = _numbers(truth, "the truth")
    if not (np.isin(numbers, (0, 1)).all() or np.isin(numbers, (-1, 1)).all()):
        raise ValueError("this metric needs a truth of 0 and 1; write the target as such")
    return np.asarray(numbers == 1, dtype=bool)


def roc_auc(truth: Array, scores: Array) -> float:
    """Return the area under the ROC curve, ties counted half; not a number when a class is missing."""
    positive = positives(truth)
    if positive.all() or not positive.any():
        return float("nan")
    return float(_placements(positive, scores)[0].mean())


def average_precision(truth: Array, scores: Array) -> float:
    """Return the mean precision over the gains in recall, threshold by threshold; tied scores are one threshold."""
    positive, numbers = positives(truth), _numbers(scores, "scores")
    if not positive.any():
        return float("nan")
    order = np.argsort(-numbers, kind="stable")
    hits, ranked = np.cumsum(positive[order]), numbers[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    recalled, precision = hits[last] / hits[-1], hits[last] / (last + 1)
    return float(np.sum(np.diff(recalled, prepend=0.0) * precision))


def f1(truth: Array, scores: Array) -> float:
    """Return the harmonic mean of precision and recall of class 1; scores from 0 to 1 are cut at 0.5."""
    positive, predicted = positives(truth), _predicted(truth, scores)
    predicted = _numbers(scores, "scores") == 1 if predicted is None else predicted
    both = positive.sum() + predicted.sum()
    return float(2 * (positive & predicted).sum() / both) if both else float("nan")


def r2(truth: Array, scores: Array) -> float:
    """Return the part of the variance that is explained; not a number when the truth does not vary."""
    spread = ((_numbers(truth, "the truth") - _numbers(truth, "the truth").mean()) ** 2).sum()
    return float(1 - _squared(truth, scores).sum() / spread) if spread > 0 else float("nan")


def _wrong(truth: Array, scores: Array) -> Floats:
    predicted = _predicted(truth, scores)
    return np.asarray(scores != truth if predicted is None else predicted != positives(truth), dtype=float)


def _brier(truth: Array, scores: Array) -> Floats:
    return (positives(truth) - _probabilities(scores)) ** 2


def _surprise(truth: Array, scores: Array) -> Floats:
    tiny = np.finfo(float).eps
    likely = np.clip(_probabilities(scores), tiny, 1 - tiny)
    return -np.log(np.where(positives(truth), likely, 1 - likely))


def _absolute(truth: Array, scores: Array) -> Floats:
    return np.asarray(np.abs(_numbers(truth, "the truth") - _numbers(scores, "scores")))


def _squared(truth: Array, scores: Array) -> Floats:
    return (_numbers(truth, "the truth") - _numbers(scores, "scores")) ** 2


def _numbers(values: Array, what: str) -> Floats:
    try:
        return np.asarray(values).astype(float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"this metric needs numbers, {what}: {error}") from error


def _probabilities(scores: Array) -> Floats:
    numbers = _numbers(scores, "scores")
    if ((numbers < 0) | (numbers > 1)).any():
        raise ValueError("this metric needs probabilities from 0 to 1 as scores")
    return numbers


def _predicted(truth: Array, scores: Array) -> NDArray[np.bool_] | None:
    """Cut *scores* at 0.5 where they are probabilities of class 1; None where they are classes themselves."""
    if not np.issubdtype(scores.dtype, np.floating) or not ((scores >= 0) & (scores <= 1)).all():
        return None
    try:
        positives(truth)
    except ValueError:
        return None
    return np.asarray(scores >= 0.5, dtype=bool)


def _placements(positive: NDArray[np.bool_], scores: Array) -> tuple[Floats, Floats]:
    """Return, per positive, the part of negatives below it, and per negative, the part of positives above it."""
    numbers = _numbers(scores, "scores")
    above, below = numbers[positive], numbers[~positive]
    low, high = np.sort(below), np.sort(above)
    of_positives = (np.searchsorted(low, above, "left") + np.searchsorted(low, above, "right")) / (2 * len(low))
    of_negatives = 1 - (np.searchsorted(high, below, "left") + np.searchsorted(high, below, "right")) / (2 * len(high))
    return of_positives, of_negatives


_ROWWISE: dict[str, Callable[[Array, Array], Floats]] = {
    "accuracy": _wrong,
    "brier_score_loss": _brier,
    "log_loss": _surprise,
    "mean_absolute_error": _absolute,
    "mean_squared_error": _squared,
}
"""Loss per row of the metrics that are means of one."""

METRICS: dict[str, Metric] = {
    "roc_auc": Metric(roc_auc, True, 0.0, 1.0),
    "average_precision": Metric(average_precision, True, 0.0, 1.0),
    "accuracy": Metric(lambda truth, scores: 1 - float(_wrong(truth, scores).mean()), True, 0.0, 1.0),
    "f1": Metric(f1, True, 0.0, 1.0),
    "brier_score_loss": Metric(lambda truth, scores: float(_brier(truth, scores).mean()), False, 0.0, 1.0),
    "log_loss": Metric(lambda truth, scores: float(_surprise(truth, scores).mean()), False, 0.0),
    "r2": Metric(r2, True, most=1.0),
    "mean_absolute_error": Metric(lambda truth, scores: float(_absolute(truth, scores).mean()), False, 0.0),
    "mean_squared_error": Metric(lambda truth, scores: float(_squared(truth, scores).mean()), False, 0.0),
}
"""The metrics that a gate knows by name, which are scikit-learn's names."""


# The gates.


def check(gate: Gate, holdout: Holdout) -> Finding:
    """Return what *gate* finds on *holdout*.

    Never raises for what it is given: values that are missing or not numbers, an unknown metric or column, lengths
    that differ, a metric of the user's that raises, are findings of verdict ERROR.
    """
    name = f"{gate.metric} {gate.bound.value if gate.bound else 'without a bound'}"
    name = f"{name} {gate.column}" if gate.column else name
    try:
        metric = _metric(gate)
        _usable(gate, holdout)
        match gate.bound:
            case Bound.AT_LEAST | Bound.AT_MOST:
                verdict, reason, evidence = _limit(gate, metric, holdout)
            case Bound.CHAMPION:
                verdict, reason, evidence = _champion(gate, metric, holdout)
            case Bound.SLICES:
                verdict, reason, evidence = _slices(gate, metric, holdout)
            case None:
                raise _Unjudged(f'nothing to compare with; add a bound: Gate("{gate.metric}").at_least(0.8)')
    except _Unjudged as trouble:
        return Finding(name, Verdict.ERROR, f"{gate.metric}: {trouble}", {"metric": gate.metric})
    except Exception as error:  # a metric of the user's may raise anything
        reason = f"{gate.metric} could not be computed: {type(error).__name__}: {error}"
        return Finding(name, Verdict.ERROR, reason, {"metric": gate.metric})
    return Finding(name, verdict, reason, {"metric": gate.metric, **evidence})


def _metric(gate: Gate) -> Metric:
    if gate.function is not None:
        return Metric(gate.function, gate.higher_is_better)
    if gate.metric not in METRICS:
        raise _Unjudged(f"no such metric; there are {', '.join(METRICS)}, or give a function of your own")
    return METRICS[gate.metric]


def _usable(gate: Gate, holdout: Holdout) -> None:
    if not 0.5 < gate.confidence < 1 or not gate.margin >= 0 or not np.isfinite([gate.margin, gate.limit]).all():
        raise _Unjudged("confidence lies between 0.5 and 1, a margin is not negative, and a limit is a number")
    rows = len(holdout.truth)
    if not rows:
        raise _Unjudged("the holdout is empty; look at the data's split")
    sides = {"truth": holdout.truth, "challenger": holdout.challenger}
    if holdout.champion is not None and gate.bound in (Bound.CHAMPION, Bound.SLICES):
        sides["champion"] = holdout.champion
    for name, values in sides.items():
        if np.shape(values) != (rows,):
            raise _Unjudged(f"{name} has the shape {np.shape(values)} for {rows:,} rows; one value per row is needed")
        missing = sum(map(_missing, values.tolist()))
        if missing:
            raise _Unjudged(f"{missing:,} of {rows:,} values of {name} are missing or not finite")


def _missing(value: Any) -> bool:
    return value is None or value != value or value in (float("inf"), float("-inf"))


def _limit(gate: Gate, metric: Metric, holdout: Holdout) -> tuple[Verdict, str, dict[str, Any]]:
    value = _value(metric, holdout.truth, holdout.challenger)
    error = _error(gate, metric, holdout.truth, holdout.challenger, None)
    half = NormalDist().inv_cdf(0.975) * error
    low, high = max(value - half, metric.least), min(value + half, metric.most)
    least = gate.bound is Bound.AT_LEAST
    passed = value >= gate.limit if least else value <= gate.limit
    wanted = f"{'at least' if least else 'at most'} {gate.limit:g}"
    reason = (
        f"{gate.metric} {_shown(value, gate.limit)} (95 %: {low:.3f} to {high:.3f}) on "
        f"{len(holdout.truth):,} rows: {wanted if passed else 'not ' + wanted}"
    )
    evidence = {"value": value, "limit": gate.limit, "rows": len(holdout.truth)}
    return (
        Verdict.PASS if passed else Verdict.FAIL,
        reason,
        {**evidence, "interval": [low, high], "standard_error": error},
    )


def _shown(value: float, limit: float) -> str:
    """Write *value* with as many digits as tell it from *limit*, three at least."""
    for digits in range(3, 9):
        if value == limit or f"{value:.{digits}f}" != f"{limit:.{digits}f}":
            return f"{value:.{digits}f}"
    return repr(value)


def _champion(gate: Gate, metric: Metric, holdout: Holdout) -> tuple[Verdict, str, dict[str, Any]]:
    rows, z = len(holdout.truth), NormalDist().inv_cdf(gate.confidence)
    reference = holdout.champion if holdout.champion is not None else _constant(gate, holdout.truth)
    same = np.array_equal(reference, holdout.challenger)
    found = _compare(gate, metric, holdout.truth, holdout.challenger, reference)
    low, high = found.loss - z * found.error, found.loss + z * found.error
    enough = rows >= FEWEST
    verdict, needed = Verdict.INCONCLUSIVE, None
    if same or (enough and high < gate.margin):
        verdict = Verdict.PASS
    elif enough and low > gate.margin:
        verdict = Verdict.FAIL
    else:
        needed = _rows_needed(rows, gate.margin, found, z)
    whom = "" if holdout.champion is not None else " of a constant prediction (there is no champion)"
    compared = f"{gate.metric} {found.challenger:.3f} against {found.reference:.3f}{whom} on the same {rows:,} rows"
    said = "the scores are the same" if same else _said(verdict, gate, found.loss, low, needed)
    return (
        verdict,
        f"{compared}: {said}",
        {
            "challenger": found.challenger,
            "reference": found.reference,
            "against": "champion" if holdout.champion is not None else "constant",
            "rows": rows,
            "loss": found.loss,
            "bounds": [low, high],
            "standard_error": found.error,
            "margin": gate.margin,
            "confidence": gate.confidence,
            "rows_needed": needed,
        },
    )


def _said(verdict: Verdict, gate: Gate, loss: float, low: float, needed: int | None) -> str:
    sure = f"({100 * gate.confidence:g} %)"
    if verdict is Verdict.PASS:
        return f"no worse by {gate.margin:.3f} {sure}" if gate.margin else f"better {sure}"
    if verdict is Verdict.FAIL:
        return f"worse by {loss:.3f}, by more than {low:.3f} {sure}; {gate.margin:.3f} is tolerated"
    more = f"about {needed:,} rows would" if needed else "no number of rows in sight would"
    if gate.margin == 0 and loss <= 0:
        return f"not certainly better; {more} do, or a margin: no_worse_than_champion(margin=0.01)"
    if loss >= gate.margin:
        return f"looks worse by {loss:.3f}, {gate.margin:.3f} is tolerated; {more} say so for certain"
    return f"this holdout cannot see a difference of {gate.margin:g}; {more}"


def _rows_needed(rows: int, margin: float, found: _Comparison, z: float) -> int | None:
    """Return about how many rows settle it; an advantage seen so far is not relied upon unless it is all there is."""
    room = margin - max(0.0, found.loss)
    room = room if room > 0 else abs(found.loss - margin)
    if room <= 1e-4 * found.error:
        return None
    return max(FEWEST, ceil(rows * ((z + POWER) * found.error / room) ** 2))


def _slices(gate: Gate, metric: Metric, holdout: Holdout) -> tuple[Verdict, str, dict[str, Any]]:
    judged, small = _judged_slices(gate, metric, holdout)
    against = "the champion" if holdout.champion is not None else "a constant prediction (there is no champion)"
    if not judged:
        raise _Unjudged(
            f"no value of {gate.column} can be judged: each of {small} has fewer than {gate.min_rows:,} rows or only "
            "one class; take a coarser column or a smaller min_rows"
        )
    worse, level = [], 1 - gate.confidence
    # Holm: the surest slice against level / all, the next against level / (all - 1), until one fails to convince.
    for place, entry in enumerate(sorted(judged, key=lambda slice_: float(slice_["p"]))):
        if entry["p"] >= level / (len(judged) - place):
            break
        worse.append(entry)
    counted = f"per {gate.column}: {len(judged)} of {len(judged) + small} judged"
    counted += f", {small} too small to judge" if small else ""
    evidence = {
        "column": gate.column,
        "judged": len(judged),
        "too_small": small,
        "against": "champion" if holdout.champion is not None else "constant",
        "margin": gate.margin,
        "confidence": gate.confidence,
        "worse": [entry["value"] for entry in worse],
        "slices": judged,
    }
    if not worse:
        return (
            Verdict.PASS,
            f"{gate.metric} {counted}; none certainly worse than {against} by {gate.margin:g}",
            evidence,
        )
    named = ", ".join(
        f"{e['value']} ({e['challenger']:.3f} against {e['reference']:.3f}, {e['rows']:,} rows)" for e in worse[:5]
    )
    named += f" and {len(worse) - 5} more" if len(worse) > 5 else ""
    return (
        Verdict.FAIL,
        f"{gate.metric} {counted}; worse than {against} by more than {gate.margin:g}: {named}",
        evidence,
    )


def _judged_slices(gate: Gate, metric: Metric, holdout: Holdout) -> tuple[list[dict[str, Any]], int]:
    if gate.column not in holdout.columns:
        raise _Unjudged(f"the holdout has no column {gate.column!r} to slice by")
    column = holdout.columns[gate.column]
    if len(column) != len(holdout.truth):
        raise _Unjudged(f"column {gate.column} has {len(column):,} values for {len(holdout.truth):,} rows")
    groups: dict[str, list[int]] = {}
    for row, value in enumerate(column):
        if not _absent(value):
            groups.setdefault(str(value), []).append(row)
    if not groups:
        raise _Unjudged(f"column {gate.column} is empty, so there is nothing to slice by")
    judged, small = [], 0
    for value, members in sorted(groups.items()):
        found = _slice(gate, metric, holdout, np.asarray(members))
        if found is None:
            small += 1
            continue
        excess = found.loss - gate.margin
        p = 1 - NormalDist().cdf(excess / found.error) if found.error > 0 else float(excess <= 0)
        judged.append({"value": value, "rows": len(members), "p": p, **found._asdict()})
    return judged, small


def _absent(value: Any) -> bool:
    return value is None or str(value) == "" or (not isinstance(value, str) and str(value) in ("nan", "NaT", "<NA>"))


def _slice(gate: Gate, metric: Metric, holdout: Holdout, rows: Array) -> _Comparison | None:
    """Compare on some rows; None when they are too few, or of one class where the metric needs two."""
    if len(rows) < gate.min_rows:
        return None
    truth, challenger = holdout.truth[rows], holdout.challenger[rows]
    if gate.function is None and not np.isfinite(metric.function(truth, challenger)):
        return None
    champion = holdout.champion[rows] if holdout.champion is not None else _constant(gate, truth)
    return _compare(gate, metric, truth, challenger, champion)


# Differences and their standard errors.


def _value(metric: Metric, truth: Array, scores: Array) -> float:
    value = float(metric.function(truth, scores))
    if not np.isfinite(value):
        raise _Unjudged(f"the value on {len(truth):,} rows is {value}; are both classes there, does the truth vary?")
    return value


def _compare(gate: Gate, metric: Metric, truth: Array, challenger: Array, reference: Array) -> _Comparison:
    ours, theirs = _value(metric, truth, challenger), _value(metric, truth, reference)
    loss = theirs - ours if metric.higher_is_better else ours - theirs
    return _Comparison(ours, theirs, loss, _error(gate, metric, truth, challenger, reference))


def _error(gate: Gate, metric: Metric, truth: Array, scores: Array, reference: Array | None) -> float:
    """Return the standard error of the metric's value, or with a *reference* of the paired difference to it."""
    rowwise = None if gate.function is not None else _ROWWISE.get(gate.metric)
    rows = len(truth)
    if gate.function is None and gate.metric == "roc_auc":
        return _delong(truth, scores, reference)
    if rowwise is None:
        return _bootstrap(metric, truth, scores, reference)
    losses = rowwise(truth, scores) - (rowwise(truth, reference) if reference is not None else 0.0)
    error = float(losses.std(ddof=1)) / sqrt(rows) if rows > 1 else float(abs(losses[0])) or 1.0
    # Few rows on which two versions never differ do not show that they never will (about the rule of three).
    return max(error, sqrt(2) / rows) if gate.metric == "accuracy" else error


def _delong(truth: Array, scores: Array, reference: Array | None) -> float:
    """Return the standard error of one area, or of the difference of two on the same rows.

    DeLong, DeLong and Clarke-Pearson (Biometrics 1988), with a floor where the rows show (almost) no variation.
    """
    positive = positives(truth)
    ours = _placements(positive, scores)
    theirs = _placements(positive, reference) if reference is not None else tuple(np.zeros_like(part) for part in ours)
    variance, fewest = 0.0, min(len(part) for part in ours)
    for mine, other in zip(ours, theirs, strict=True):
        variance += float(np.var(mine - other, ddof=1)) / len(mine) if len(mine) > 1 else 1.0
    return max(sqrt(variance), 0.5 / fewest)


def _bootstrap(metric: Metric, truth: Array, scores: Array, reference: Array | None) -> float:
    chance, values = np.random.default_rng(SEED), []
    for _ in range(RESAMPLES):
        rows = chance.integers(0, len(truth), len(truth))
        value = float(metric.function(truth[rows], scores[rows]))
        if reference is not None:
            value -= float(metric.function(truth[rows], reference[rows]))
        values.append(value)
    usable = [value for value in values if np.isfinite(value)]
    if len(usable) < 0.9 * RESAMPLES:
        raise _Unjudged(f"{len(truth):,} rows are too few or too alike to say how certain the value is")
    return float(np.std(usable, ddof=1))


def _constant(gate: Gate, truth: Array) -> Array:
    """Return the best prediction that does not look at the rows, for the metric of *gate*."""
    values, counts = np.unique(truth, return_counts=True)
    if gate.metric == "accuracy" or not (np.issubdtype(truth.dtype, np.number) or truth.dtype == bool):
        return np.full(len(truth), values[counts.argmax()])
    if gate.metric == "f1":
        return np.ones(len(truth))
    if gate.metric in ("brier_score_loss", "log_loss"):
        return np.full(len(truth), positives(truth).mean())
    return np.full(len(truth), np.median(truth) if gate.metric == "mean_absolute_error" else truth.mean(dtype=float))
