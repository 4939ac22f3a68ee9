"""The gates: what a challenger must show on the holdout before it serves anybody.

A gate compares with a limit, with the champion on the same rows, or with the champion slice by slice.  It passes only
on what the rows can show: a bound decides, never the value alone, and a holdout too small to see the difference that
was asked for is inconclusive, with the number of rows that would do.  That holds for limits, too: half of the versions
that lie exactly on a limit would reach it by luck, so one passes when the bound of its value does.

The trade-off: a version a little better than its limit is inconclusive where a plain comparison would let it pass;
then the reason says how many rows, or which limit, would do.  Which method bounds which metric is told in
`docs/gates.md`; the methods are in `domain/paired.py`, the metrics in `domain/metrics.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, floor, inf, isfinite, log10
from statistics import NormalDist, median
from typing import Any

import numpy as np

from modelcd.domain.baseline import baseline, shares
from modelcd.domain.metrics import METRICS, Array, Metric, known, positives
from modelcd.domain.paired import Difference, Uncertain, difference
from modelcd.domain.policy import Bound, Gate
from modelcd.domain.vectors import Misfit, Side, formed
from modelcd.domain.verdict import Finding, Verdict

FEWEST = 30
"""Below this many rows no bound is believed."""

FEWEST_OF_A_CLASS = 20
"""Nor below this many rows of the rarer class, for metrics that need both."""

TELLING = 10
"""Versions that give the very same scores, with so many different ones among them, are the same function."""

POWER = NormalDist().inv_cdf(0.8)
"""What a holdout could see is what it would with a chance of 80 %."""

UNLUCKY = NormalDist().inv_cdf(0.9)
"""Nine of ten holdouts need at most the unlucky number of rows."""

JUDGED_PART = 0.5
"""At least this part of the rows must lie in slices that are shown to be no worse."""


@dataclass(frozen=True)
class Holdout:
    """Rows that no version was trained on: their truth, what each version scored, and columns to slice by.

    `itself` says that the challenger is the champion, by digest: then there is nothing to be shown of the difference.
    Truth and scores are one value a row, or one row of numbers; `classes` and `champion_classes` name the columns of
    scores that are chances.
    """

    truth: Array
    challenger: Array
    champion: Array | None = None
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    itself: bool = False
    classes: tuple[Any, ...] = ()
    champion_classes: tuple[Any, ...] = ()


class _Unjudged(Exception):
    """What was given cannot be judged; the message says why and what to do."""


Told = tuple[Verdict, str, dict[str, Any]]


def check(gate: Gate, holdout: Holdout) -> Finding:
    """Return what *gate* finds on *holdout*.

    Never raises for what it is given: values that are missing or not numbers, an unknown metric or column, lengths
    that differ, a metric of the user's that raises, are findings of verdict ERROR.
    """
    name = f"{gate.metric} {gate.bound.value if gate.bound else 'without a bound'}"
    name = f"{name} {gate.column}" if gate.column else name
    try:
        _usable(gate, holdout)
        metric, holdout = _formed(gate, holdout)
        match gate.bound:
            case Bound.AT_LEAST | Bound.AT_MOST:
                verdict, reason, evidence = _limit(gate, metric, holdout)
            case Bound.CHAMPION:
                verdict, reason, evidence = _champion(gate, metric, holdout)
            case Bound.SLICES:
                verdict, reason, evidence = _slices(gate, metric, holdout)
            case None:
                raise _Unjudged(f'nothing to compare with; add a bound: Gate("{gate.metric}").at_least(0.8)')
    except (_Unjudged, Uncertain, Misfit) as trouble:
        return Finding(name, Verdict.ERROR, f"{gate.metric}: {trouble}", {"metric": gate.metric})
    except Exception as error:  # a metric of the user's may raise anything
        reason = f"{gate.metric} could not be computed: {type(error).__name__}: {error}"
        return Finding(name, Verdict.ERROR, reason, {"metric": gate.metric})
    told = {"metric": gate.metric, "method": metric.method.value, "confidence": gate.confidence}
    return Finding(name, verdict, reason, {**told, **evidence})


def unreachable(gate: Gate) -> str | None:
    """Say why the limit of *gate* lies outside of what its metric can be; None when it does not, or nobody knows."""
    name = known(gate.metric) if gate.function is None else None
    if name is None or gate.bound not in (Bound.AT_LEAST, Bound.AT_MOST):
        return None
    low, high = METRICS[name].least, METRICS[name].most
    if low <= gate.limit <= high:
        return None
    lies = (
        f"from {low:g} to {high:g}"
        if isfinite(low + high)
        else f"{low:g} or more"
        if isfinite(low)
        else f"{high:g} or less"
    )
    return f"a limit of {gate.limit:g} says nothing: {gate.metric} is {lies}"


def value_of(gate: Gate, holdout: Holdout) -> float:
    """Return the metric of *gate* on the whole of *holdout*; raises whatever the metric raises of it."""
    metric, formed_holdout = _formed(gate, holdout)
    return float(metric.function(formed_holdout.truth, formed_holdout.challenger))


def _formed(gate: Gate, holdout: Holdout) -> tuple[Metric, Holdout]:
    """Return the metric of *gate*, and *holdout* as it takes it: a function of the user's takes it as it is."""
    if gate.function is not None:
        return Metric(_numeric(gate.function), gate.higher_is_better), holdout
    name = known(gate.metric)
    if name is None:
        raise _Unjudged(f"no such metric; there are {', '.join(METRICS)}, or give a function of your own")
    # An absolute limit is about the challenger alone, whatever the champion gives.
    against = holdout.champion if gate.bound in (Bound.CHAMPION, Bound.SLICES) else None
    champion = Side(against, holdout.champion_classes) if against is not None else None
    as_taken = formed(name, holdout.truth, Side(holdout.challenger, holdout.classes), champion)
    return as_taken.metric, replace(
        holdout,
        truth=as_taken.truth,
        challenger=as_taken.challenger.scores,
        champion=as_taken.champion.scores if as_taken.champion else None,
        classes=as_taken.challenger.classes,
    )


def _numeric(function: Callable[[Array, Array], Any]) -> Callable[[Array, Array], float]:
    """Return *function* with a text for an answer refused: `float` would read the number that it may hold."""

    def number(truth: Array, scores: Array) -> float:
        value = function(truth, scores)
        if isinstance(value, (str, bytes)):
            raise _Unjudged(f"its function returned the text {value!r}; return a number")
        return float(value)

    return number


def _usable(gate: Gate, holdout: Holdout) -> None:
    if not 0.5 < gate.confidence < 1 or not gate.margin >= 0 or not np.isfinite([gate.margin, gate.limit]).all():
        raise _Unjudged("confidence lies between 0.5 and 1, a margin is not negative, and a limit is a number")
    if outside := unreachable(gate):
        raise _Unjudged(outside)
    rows = len(holdout.truth)
    if not rows:
        raise _Unjudged("the holdout is empty; look at the data's split")
    sides = {"truth": holdout.truth, "challenger": holdout.challenger}
    if holdout.champion is not None and gate.bound in (Bound.CHAMPION, Bound.SLICES):
        sides["champion"] = holdout.champion
    for name, values in sides.items():
        if values.ndim not in (1, 2) or len(values) != rows:
            raise _Unjudged(f"{name} has the shape {values.shape} for {rows:,} rows; one value per row is needed")
        missing = _missing(values)
        if missing:
            raise _Unjudged(f"{missing:,} of {rows:,} values of {name} are missing or not finite")
    if rows > 1 and (holdout.challenger == holdout.challenger[0]).all():
        raise _Unjudged(
            f"the challenger scores every row {holdout.challenger[0]}: it does not look at the rows; is its input right"
        )


def _missing(values: Array) -> int:
    if values.dtype.kind in "fiub":
        return int((~np.isfinite(values)).sum())
    return sum(v is None or v != v or v in (inf, -inf) for v in values.tolist())


def _value(metric: Metric, truth: Array, scores: Array) -> float:
    value = float(metric.function(truth, scores))
    if not np.isfinite(value):
        raise _Unjudged(f"the value on {len(truth):,} rows is {value}; are both classes there, does the truth vary?")
    return value


def _enough(rows: int, found: Difference) -> bool:
    return rows >= FEWEST and found.weight >= FEWEST_OF_A_CLASS


def _plain(*values: float) -> list[float | None]:
    """Return *values* as JSON has them: what is not bounded is None."""
    return [value if isfinite(value) else None for value in values]


def _two_sided(confidence: float) -> float:
    """Return the one-sided confidence of each end of an interval that covers with *confidence*."""
    return (1 + confidence) / 2


# Limits.


def _limit(gate: Gate, metric: Metric, holdout: Holdout) -> Told:
    rows, value = len(holdout.truth), _value(metric, holdout.truth, holdout.challenger)
    found = difference(metric, holdout.truth, holdout.challenger, None)

    def uncut(sure: float) -> tuple[float, float]:
        low, high = found.bounds(sure)
        return (-high, -low) if metric.higher_is_better else (low, high)

    def ends(sure: float) -> tuple[float, float]:
        low, high = uncut(sure)
        return max(low, metric.least), min(high, metric.most)

    (low, high), (below, above) = ends(gate.confidence), uncut(gate.confidence)
    least = gate.bound is Bound.AT_LEAST
    reached, missed = (low >= gate.limit, high < gate.limit) if least else (high <= gate.limit, low > gate.limit)
    verdict = Verdict.INCONCLUSIVE
    if _enough(rows, found) and (reached or missed):
        verdict = Verdict.PASS if reached else Verdict.FAIL
    apart = abs(value - gate.limit)
    half = value - below if value >= gate.limit else above - value
    evidence: dict[str, Any] = {
        "value": value,
        "limit": gate.limit,
        "rows": rows,
        "interval": _plain(*ends(_two_sided(gate.confidence))),
        "bounds": _plain(low, high),
        "standard_error": found.error,
        "detectable": _plain(half + POWER * found.error)[0],
        **_needs(verdict, rows, half, found.error, apart),
    }
    wanted = f"{'at least' if least else 'at most'} {gate.limit:g}"
    said = wanted if (value >= gate.limit if least else value <= gate.limit) else f"not {wanted}"
    if verdict is Verdict.INCONCLUSIVE:
        sure = low if least else high
        said += ", but not for certain; " + _more(evidence["rows_needed"])
        said += f"; a limit of {_outside(sure, least)} is certain" if _enough(rows, found) and isfinite(sure) else ""
    told = f"{gate.metric} {_shown(value, gate.limit)} ({_between(evidence['interval'], gate.confidence)})"
    return verdict, f"{told} on {rows:,} rows: {said}", evidence


def _between(interval: Sequence[float | None], confidence: float) -> str:
    low, high = ("any" if end is None else f"{end:.3f}" for end in interval)
    return f"{100 * confidence:g} %: {low} to {high}"


def _outside(bound: float, least: bool) -> str:
    """Write *bound* with three digits that count, rounded to the side on which it still holds."""
    digits = 2 - floor(log10(abs(bound))) if bound else 0
    return f"{(floor if least else ceil)(bound * 10**digits) / 10**digits:g}"


def _shown(value: float, limit: float) -> str:
    """Write *value* with as many digits as tell it from *limit*, three at least."""
    for digits in range(3, 9):
        if value == limit or f"{value:.{digits}f}" != f"{limit:.{digits}f}":
            return f"{value:.{digits}f}"
    return repr(value)


def _needs(verdict: Verdict, rows: int, half: float, error: float, room: float) -> dict[str, int | None]:
    """Return how many rows would settle what these do not: in the median case, and for nine of ten holdouts."""
    if verdict is not Verdict.INCONCLUSIVE or not isfinite(half) or room <= 1e-4 * half:
        return {"rows_needed": None, "rows_unlucky": None}
    median_case, unlucky = (max(FEWEST, ceil(rows * (reach / room) ** 2)) for reach in (half, half + UNLUCKY * error))
    # Where the bound would do but the rows are too few to believe it, more are needed all the same.
    return {"rows_needed": max(median_case, rows + 1), "rows_unlucky": max(unlucky, rows + 1)}


def _more(needed: int | None) -> str:
    return f"about {needed:,} rows would do" if needed else "no number of rows in sight would do"


# Against the champion.


def _champion(gate: Gate, metric: Metric, holdout: Holdout) -> Told:
    rows, reference = len(holdout.truth), _reference(gate, holdout, holdout.truth)
    ours, theirs = _value(metric, holdout.truth, holdout.challenger), _value(metric, holdout.truth, reference)
    found = difference(metric, holdout.truth, holdout.challenger, reference)
    low, high = found.bounds(gate.confidence)
    same = _same(holdout)
    verdict = Verdict.INCONCLUSIVE
    if same or (_enough(rows, found) and high < gate.margin):
        verdict = Verdict.PASS
    elif _enough(rows, found) and low > gate.margin:
        verdict = Verdict.FAIL
    # An advantage seen so far is not relied upon, unless it is all there is.
    room = gate.margin - max(0.0, found.loss)
    room = room if room > 0 else abs(found.loss - gate.margin)
    half = high - found.loss if found.loss <= gate.margin else found.loss - low
    evidence: dict[str, Any] = {
        "challenger": ours,
        "reference": theirs,
        "against": "champion" if holdout.champion is not None else "constant",
        "rows": rows,
        "loss": found.loss,
        "interval": _plain(*found.bounds(_two_sided(gate.confidence))),
        "bounds": _plain(low, high),
        "standard_error": found.error,
        "margin": gate.margin,
        "detectable": _plain(high - found.loss + POWER * found.error)[0],
        **_needs(verdict, rows, half, found.error, room),
    }
    whom = "" if holdout.champion is not None else " of a constant prediction (there is no champion)"
    compared = f"{gate.metric} {ours:.3f} against {theirs:.3f}{whom} on the same {rows:,} rows"
    return verdict, f"{compared}: {same or _said(verdict, gate, found, low, evidence['rows_needed'])}", evidence


def _same(holdout: Holdout) -> str:
    """Say why the two versions are one, if they are: then there is no difference, however few the rows.

    Equal classes, or few different scores, may come of two versions that would differ on other rows.
    """
    if holdout.itself:
        return "it is the champion itself"
    champion, challenger = holdout.champion, holdout.challenger
    if champion is None or challenger.dtype.kind != "f" or not np.array_equal(champion, challenger):
        return ""
    return "the scores are the same" if len(np.unique(challenger)) >= TELLING else ""


def _said(verdict: Verdict, gate: Gate, found: Difference, low: float, needed: int | None) -> str:
    sure, loss = f"({100 * gate.confidence:g} %)", found.loss
    if verdict is Verdict.PASS:
        return f"no worse by {gate.margin:.3f} {sure}" if gate.margin else f"better {sure}"
    if verdict is Verdict.FAIL:
        return f"worse by {loss:.3f}, by more than {low:.3f} {sure}; {gate.margin:.3f} is tolerated"
    more = _more(needed)
    if gate.margin == 0 and loss <= 0:
        return f"not certainly better; {more}, or a margin: no_worse_than_champion(margin=0.01)"
    if loss >= gate.margin:
        return f"looks worse by {loss:.3f}, {gate.margin:.3f} is tolerated; {more} to say so for certain"
    return f"this holdout cannot see a difference of {gate.margin:g}; {more}"


def _reference(gate: Gate, holdout: Holdout, truth: Array, rows: Array | None = None) -> Array:
    if holdout.champion is not None:
        return holdout.champion if rows is None else holdout.champion[rows]
    name = known(gate.metric) if gate.function is None else None
    if holdout.challenger.ndim == 1 or truth.ndim == 2:
        return baseline(name, truth)
    if not holdout.classes:
        raise _Unjudged("there is no champion, and nothing says which classes the scores are of; take .at_least(…)")
    return shares(holdout.classes, truth)


# Slices.


def _slices(gate: Gate, metric: Metric, holdout: Holdout) -> Told:
    groups = _groups(gate, holdout)
    found = {value: _slice(gate, metric, holdout, rows) for value, rows in groups.items()}
    judged = {value: pair for value, pair in found.items() if pair is not None}
    if not judged:
        raise _Unjudged(
            f"no value of {gate.column} can be judged: each of {len(groups)} has fewer than {gate.min_rows:,} rows or "
            "too few of one class; take a coarser column or a smaller min_rows"
        )
    worse = _certain({v: _chance(f, gate.margin, worse=True) for v, (_, _, f) in judged.items()}, 1 - gate.confidence)
    fine = _certain({v: _chance(f, gate.margin, worse=False) for v, (_, _, f) in judged.items()}, 1 - gate.confidence)
    same = _same(holdout)
    if same:
        worse, fine = set(), set(judged)
    sure, entries = 1 - (1 - gate.confidence) / len(judged), []
    for value, rows in groups.items():
        entry: dict[str, Any] = {"value": value, "rows": len(rows), "says": "too small"}
        if value in judged:
            says = "worse" if value in worse else "no worse" if value in fine else "cannot see"
            entry |= {"says": says, **_told_of_slice(gate, judged[value], len(rows), sure)}
            entry |= {} if says == "cannot see" else {"rows_needed": None}
        entries.append(entry)
    shown = sum(entry["rows"] for entry in entries if entry["says"] == "no worse")
    part = shown / sum(len(rows) for rows in groups.values())
    verdict = Verdict.FAIL if worse else Verdict.PASS if part >= JUDGED_PART else Verdict.INCONCLUSIVE
    evidence = {
        "column": gate.column,
        "rows": len(holdout.truth),
        "judged": len(worse | fine),
        "cannot_see": len(judged) - len(worse | fine),
        "too_small": len(groups) - len(judged),
        "judged_part": part,
        "against": "champion" if holdout.champion is not None else "constant",
        "margin": gate.margin,
        "worse": [entry["value"] for entry in entries if entry["says"] == "worse"],
        "slices": entries,
    }
    return verdict, _said_of_slices(gate, evidence, verdict, same), evidence


def _said_of_slices(gate: Gate, evidence: dict[str, Any], verdict: Verdict, same: str) -> str:
    against = "the champion" if evidence["against"] == "champion" else "a constant prediction (there is no champion)"
    entries, unseen, small = evidence["slices"], evidence["cannot_see"], evidence["too_small"]
    counted = f"{gate.metric} per {gate.column}: {evidence['judged']} of {len(entries)} judged"
    counted += f", {unseen} cannot see a difference of {gate.margin:g}" if unseen else ""
    counted += f", {small} too small to judge" if small else ""
    if same:
        return f"{counted}; {same}"
    if verdict is Verdict.PASS:
        return f"{counted}; none certainly worse than {against} by {gate.margin:g}"
    if verdict is Verdict.INCONCLUSIVE:
        needed = [e["rows_needed"] for e in entries if e["says"] == "cannot see" and e["rows_needed"]]
        more = f"; a slice needs about {median(needed):,.0f} rows" if needed else ""
        return f"{counted}: only {100 * evidence['judged_part']:.0f} % of the rows are shown to be no worse{more}"
    worse = [entry for entry in entries if entry["says"] == "worse"]
    named = ", ".join(
        f"{e['value']} ({e['challenger']:.3f} against {e['reference']:.3f}, {e['rows']:,} rows)" for e in worse[:5]
    )
    named += f" and {len(worse) - 5} more" if len(worse) > 5 else ""
    return f"{counted}; worse than {against} by more than {gate.margin:g}: {named}"


def _told_of_slice(gate: Gate, judged: tuple[float, float, Difference], rows: int, sure: float) -> dict[str, Any]:
    ours, theirs, found = judged
    low, high = found.bounds(sure)
    half = high - found.loss
    # An advantage, or a small loss, seen on few rows is not relied upon: how many rows see the margin is asked.
    return {
        "challenger": ours,
        "reference": theirs,
        "loss": found.loss,
        "interval": _plain(low, high),
        "standard_error": found.error,
        "detectable": _plain(half + POWER * found.error)[0],
        "rows_needed": _needs(Verdict.INCONCLUSIVE, rows, half, found.error, gate.margin)["rows_needed"],
    }


def _groups(gate: Gate, holdout: Holdout) -> dict[str, Array]:
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
    return {value: np.asarray(members) for value, members in sorted(groups.items())}


def _absent(value: Any) -> bool:
    return value is None or str(value) == "" or (not isinstance(value, str) and str(value) in ("nan", "NaT", "<NA>"))


def _slice(gate: Gate, metric: Metric, holdout: Holdout, rows: Array) -> tuple[float, float, Difference] | None:
    """Compare on some rows; None when they are too few, or too few of one class where the metric needs both."""
    if len(rows) < max(gate.min_rows, FEWEST):
        return None
    truth, challenger = holdout.truth[rows], holdout.challenger[rows]
    if metric.binary and min(positives(truth).sum(), (~positives(truth)).sum()) < FEWEST_OF_A_CLASS:
        return None
    champion = _reference(gate, holdout, truth, rows)
    if gate.function is None and not all(np.isfinite(metric.function(truth, s)) for s in (challenger, champion)):
        return None
    ours, theirs = _value(metric, truth, challenger), _value(metric, truth, champion)
    found = difference(metric, truth, challenger, champion)
    return (ours, theirs, found) if _enough(len(rows), found) else None


def _chance(found: Difference, margin: float, *, worse: bool) -> float:
    """Return the p-value of the claim that the loss is beyond *margin* (or, not *worse*, that it is within)."""

    def excludes(level: float) -> bool:
        low, high = found.bounds(1 - level)
        return low > margin if worse else high < margin

    if not excludes(0.499):
        return 1.0
    low, high = -9.0, log10(0.499)
    if excludes(10**low):
        return 10**low
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if excludes(10**middle) else (middle, high)
    return float(10**high)


def _certain(chances: Mapping[str, float], level: float) -> set[str]:
    """Return which claims hold when all of them together may be wrong with probability *level*.

    Holm (Scandinavian Journal of Statistics 1979): the surest against level / all, the next against level / (all - 1),
    until one fails to convince.
    """
    held: set[str] = set()
    for place, (value, p) in enumerate(sorted(chances.items(), key=lambda item: (item[1], item[0]))):
        if p > level / (len(chances) - place):
            break
        held.add(value)
    return held
