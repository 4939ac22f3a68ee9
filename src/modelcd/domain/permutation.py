"""Is a guard's function worth anything?  Each is tried on the holdout before live labels are judged by it.

A function that is true at any score certifies any model, and nobody would notice: its guard simply passes.  So it is
asked about every score together with every truth of the holdout.  First, by counting alone: if one and the same score
suits all rows as well as the best score for each row does, the function does not compare the two; nor does one that
never tells two classes apart.  Then by a permutation test: the scores of the version must satisfy it better than the
same scores shuffled among the rows do.

The trade-off: a holdout with few rows of a class cannot always show the second.  A guard that passed the first then
goes on, and its finding says "cannot see"; what is refused is only what the rows do show.  See `docs/gates.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from modelcd.domain.gates import FEWEST
from modelcd.domain.labels import unfit
from modelcd.domain.metrics import Array, Floats
from modelcd.domain.paired import SEED
from modelcd.domain.policy import Guard, GuardKind
from modelcd.domain.verdict import Finding, Verdict

LEVEL = 0.01
"""The chance that shuffled scores, which mean nothing, look better than shuffled."""

SHUFFLES = 199
"""How often the scores are shuffled."""

LEAST = 0.05
"""A version shown (95 %) to get less than this part of the way from shuffled to best scores is no better than one."""

MOST_CALLS = 250_000
"""Pairs that a function is asked about at most; of a larger holdout, as many rows as fit, spread evenly."""

MOST_WHOLE = 20
"""More different whole numbers than this are no classes."""

SURE = NormalDist().inv_cdf(0.95)
ALIKE = 1e-9

Evaluate = Callable[[Any, Any], float]
"""What a guard's function says of (score, truth), true being 1; raises `Unusable`."""


class Unusable(Exception):
    """The function of a guard gave no answer for a pair; the message says for which, and what to do."""


@dataclass(frozen=True)
class _Table:
    """What the function says of each different score (those of the version first) and each different truth.

    `at_score` and `at_truth` are the places of each row's score and truth; `own` scores are the version's.
    """

    values: Floats
    scores: list[Any]
    truths: list[Any]
    at_score: Array
    at_truth: Array
    own: int

    @property
    def rows(self) -> int:
        return len(self.at_truth)


Told = tuple[Verdict, str, dict[str, Any]]


def check_guard(
    guard: Guard, scores: Sequence[Any], truths: Sequence[Any], evaluate: Evaluate, *, trained: bool = True
) -> Finding:
    """Return whether the function of *guard*, asked by *evaluate*, tells right answers from wrong ones.

    *scores* and *truths* are JSON values, one of each per row.  Not *trained*, the scores are stand-ins, and only
    their kind counts.  Never raises `Unusable`: that is a finding of verdict ERROR.
    """
    name = f"{guard.name} on the holdout"
    try:
        verdict, reason, evidence = _tried(guard, scores, _declared(guard, truths), evaluate, trained)
    except Unusable as trouble:
        verdict, reason, evidence = Verdict.ERROR, str(trouble), {}
    return Finding(name, verdict, f"guard {guard.name} {reason}", {"guard": guard.name, **evidence})


def _declared(guard: Guard, truths: Sequence[Any]) -> list[Any]:
    """Return *truths* as the labels that *guard* declares: live it is given nothing else; the target may be 0 and 1.

    Raises `Unusable` for truths that no such label says.
    """
    said = {"bool": bool, "int": int, "float": float}.get(guard.label)
    if said is not None and all(truth in (0, 1) for truth in truths):
        truths = [said(truth) for truth in truths]
    wrong = next((why for truth in truths if (why := unfit(truth, [guard]))), "")
    if wrong:
        raise Unusable(f"takes other labels than the target: a truth of the holdout {wrong}")
    return list(truths)


def _tried(guard: Guard, scores: Sequence[Any], truths: Sequence[Any], evaluate: Evaluate, trained: bool) -> Told:
    table = _table(scores, truths, evaluate)
    evidence: dict[str, Any] = {"rows": table.rows, "scores": table.own, "truths": len(table.truths)}
    if len(table.truths) < 2:
        only = f"was tried on {table.rows:,} rows, which all have the truth {_short(truths[0])}"
        return Verdict.INCONCLUSIVE, f"{only}: bring rows of both kinds", evidence
    wrong = _blind(guard, table) or _merged(guard, table)
    if wrong:
        return Verdict.FAIL, f"{wrong}; {_advice(table)}", evidence
    if not trained:
        return Verdict.PASS, f"tells right answers from wrong ones on {table.rows:,} rows (stand-in scores)", evidence
    return _shuffled(guard, table, evidence)


# -- the table ---------------------------------------------------------------------------------------------------------


def _table(scores: Sequence[Any], truths: Sequence[Any], evaluate: Evaluate) -> _Table:
    scores, truths = list(scores), list(truths)
    extra = _stand_ins(scores, truths)
    while (len(_different(scores)) + len(_different(extra))) * len(_different(truths)) > MOST_CALLS:
        scores, truths = scores[::2], truths[::2]
        extra = _stand_ins(scores, truths)
    own, labels = _different(scores), _different(truths)
    rows = [[evaluate(score, label) for label in labels.values()] for score in own.values()]
    others = {key: score for key, score in _different(extra).items() if key not in own}
    for key, score in list(others.items()):
        try:
            rows.append([evaluate(score, label) for label in labels.values()])
        except Unusable:  # the version never gave that score, so the function need not know it
            del others[key]
    place, at = ({key: k for k, key in enumerate(keys)} for keys in (own, labels))
    return _Table(
        np.array(rows, dtype=float),
        [*own.values(), *others.values()],
        list(labels.values()),
        np.array([place[repr(score)] for score in scores]),
        np.array([at[repr(truth)] for truth in truths]),
        len(own),
    )


def _different(values: Sequence[Any]) -> dict[str, Any]:
    return {repr(value): value for value in values}


def _stand_ins(scores: Sequence[Any], truths: Sequence[Any]) -> list[Any]:
    """Return scores that another version might give: the truths where scores look like them, both ends of chances."""
    if _chances(scores):
        return [0.0, 1.0]
    if _numbers(scores) and _numbers(truths):
        return [float(truth) for truth in truths] if any(isinstance(score, float) for score in scores) else [*truths]
    return [*truths] if {type(score) for score in scores} == {type(truth) for truth in truths} else []


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _chances(scores: Sequence[Any]) -> bool:
    return all(isinstance(score, float) and 0 <= score <= 1 for score in scores)


# -- by counting -------------------------------------------------------------------------------------------------------


def _blind(guard: Guard, table: _Table) -> str:
    """Say that a score which does not look at the rows does as well as the best for each; empty if none does."""
    good, weights = _good(guard, table), np.bincount(table.at_truth) / table.rows
    for_all = good @ weights
    if for_all.max() < (good.max(axis=0) @ weights) - ALIKE:
        return ""
    values, rows = table.values, f"{table.rows:,}"
    if np.ptp(values) <= ALIKE:
        return f"{_says(guard, values[0, 0])} for {rows} of {rows} rows, at any score"
    if (np.ptp(values, axis=0) <= ALIKE).all():
        return f"does not look at the score: {_counted(guard, table)} at any score"
    if (np.ptp(values, axis=1) <= ALIKE).all():
        return f"does not look at the truth: {_counted(guard, table)}, whatever their truth"
    best = _short(table.scores[int(for_all.argmax())])
    return f"is content with the score {best}, whatever the truth of each of {rows} rows"


def _merged(guard: Guard, table: _Table) -> str:
    """Say which two classes the function never tells apart; empty if there are none, or no classes."""
    if guard.kind is not GuardKind.SUCCESS or len(table.truths) < 3 or not _classes(table):
        return ""
    seen: dict[bytes, Any] = {}
    for place, truth in enumerate(table.truths):
        column = table.values[:, place].tobytes()
        if column in seen:
            rows = int((table.at_truth == place).sum() + (table.at_truth == table.truths.index(seen[column])).sum())
            pair = " and ".join(sorted(map(_short, (seen[column], truth))))
            return f"does not tell the classes {pair} apart ({rows:,} of {table.rows:,} rows)"
        seen[column] = truth
    return ""


def _classes(table: _Table) -> bool:
    """Say whether scores are classes: truths, and no numbers of which some are near enough to each other."""
    near = any(isinstance(truth, float) for truth in table.truths)
    near = near or (_numbers(table.truths) and len(table.truths) > MOST_WHOLE)
    return not near and set(map(repr, table.scores)) <= set(map(repr, table.truths))


def _good(guard: Guard, table: _Table) -> Floats:
    """Return the table on the scale from 0 (worst) to 1 (best)."""
    part = (table.values - guard.low) / guard.width
    return np.asarray(part if guard.higher_is_better else 1 - part)


# -- by shuffling ------------------------------------------------------------------------------------------------------


def _shuffled(guard: Guard, table: _Table, evidence: dict[str, Any]) -> Told:
    good, rows = _good(guard, table), table.rows
    real = good[table.at_score, table.at_truth]
    own = np.bincount(table.at_score, minlength=len(good)) / rows
    truths = np.bincount(table.at_truth) / rows
    by_truth, by_score = own @ good, good @ truths
    chance, best = float(by_truth @ truths), float(good.max(axis=0) @ truths)
    # How far each row speaks for the version: what its own score is worth, beyond the shuffled scores' worth.
    gains = real - by_truth[table.at_truth] - by_score[table.at_score] + chance
    p = _chance_of(good, table, float(real.mean()))
    kappa, upper = _kappa(gains, best - chance, (good.max(axis=0) - by_truth).max())
    told, shuffled = (_mean(guard, value) for value in (float(real.mean()), chance))
    evidence |= {"value": told, "shuffled": shuffled, "p": p, "level": LEVEL, "kappa": kappa, "kappa_upper": upper}
    said = f"{_average(guard, told)} of {rows:,} rows" if guard.kind is GuardKind.SUCCESS else _average(guard, told)
    compared = f"{said}, {_average(guard, shuffled, short=True)} with shuffled scores"
    if p <= LEVEL:
        return Verdict.PASS, compared, evidence
    if rows >= FEWEST and upper < LEAST:
        if np.ptp(table.values[: table.own]) <= ALIKE:
            all_of = f"{_says(guard, table.values[0, 0])} for {rows:,} of {rows:,} rows, at each score of this version"
            return Verdict.FAIL, f"{all_of}; {_advice(table)}", evidence
        if (np.ptp(table.values[: table.own], axis=0) <= ALIKE).all():
            same = (
                f"any score from {_short(min(table.scores[: table.own]))} to {_short(max(table.scores[: table.own]))}"
            )
            return (
                Verdict.FAIL,
                f"{compared}: {same} gets the same answer; cut where this version's scores lie",
                evidence,
            )
        way = "is it the wrong way round?" if upper < -LEAST else "shuffled scores satisfy it as well"
        return Verdict.FAIL, f"{compared}: {way}; {_advice(table)}", evidence
    return Verdict.PASS, f"{compared}: these rows cannot show that it sees more than chance", evidence


def _chance_of(good: Floats, table: _Table, real: float) -> float:
    """Return the part of shuffles of the scores that satisfy as well as the *real* order."""
    random, scores = np.random.default_rng(SEED), table.at_score
    shuffles = (good[random.permutation(scores), table.at_truth].mean() for _ in range(SHUFFLES))
    return (1 + sum(float(shuffle) >= real - ALIKE for shuffle in shuffles)) / (1 + SHUFFLES)


def _kappa(gains: Floats, room: float, adverse: float) -> tuple[float, float]:
    """Return Cohen's kappa, 0 for shuffled scores and 1 for the best, and its upper bound (95 %).

    Where the rows hardly differ, the bound comes from one more row on which the version is right.
    """
    mean = float(gains.mean())
    more = np.append(gains, adverse)
    bound = float(more.mean() + SURE * more.std(ddof=1) / np.sqrt(len(more)))
    return mean / room, bound / room


# -- words -------------------------------------------------------------------------------------------------------------


def _mean(guard: Guard, good: float) -> float:
    """Return the value, in the guard's own unit, of a mean on the scale from 0 (worst) to 1 (best)."""
    return guard.low + guard.width * (good if guard.higher_is_better else 1 - good)


def _says(guard: Guard, value: float) -> str:
    return f"is {'true' if value else 'false'}" if guard.kind is GuardKind.SUCCESS else f"is {value:g}"


def _average(guard: Guard, value: float, *, short: bool = False) -> str:
    if guard.kind is GuardKind.SUCCESS:
        return f"{100 * value:.1f} %" if short else f"is true for {100 * value:.1f} %"
    return f"{value:.3g}" if short else f"is {value:.3g} on average"


def _counted(guard: Guard, table: _Table) -> str:
    real = table.values[table.at_score, table.at_truth]
    if guard.kind is GuardKind.SUCCESS:
        return f"it is true for {int(real.sum()):,} of {table.rows:,} rows"
    return f"it is {real.mean():.3g} on average on {table.rows:,} rows"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else repr(value)


def _advice(table: _Table) -> str:
    """Say how a function that compares could look."""
    scores, truths = table.scores[: table.own], table.truths
    if _numbers(scores) and _numbers(truths) and len(truths) > 2 and any(isinstance(s, float) for s in scores):
        off = sorted(abs(scores[s] - truths[t]) for s, t in zip(table.at_score, table.at_truth, strict=True))
        example = f"abs(score - label) <= {float(f'{off[len(off) // 2]:.2g}'):g}"
    elif all(isinstance(score, list) for score in scores):
        lists = all(isinstance(truth, list) for truth in truths)
        near, likeliest = (
            "all(abs(a - b) <= 1 for a, b in zip(score, label))",
            "CLASSES[score.index(max(score))] == label",
        )
        example = near if lists else likeliest
    elif _chances(scores) and all(isinstance(truth, str) for truth in truths):
        example = f"(score >= 0.5) == (label == {max(truths)!r})"
    else:
        example = "(score >= 0.5) == label" if _chances(scores) else "score == label"
    return f"compare the two, for example {example} (or .live_only() where labels are not the target)"
