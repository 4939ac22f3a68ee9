"""What a shadow is asked and what it hands over: pairs of answers of two versions to the same requests, checked.

A pair comes once when it was served, and once more when its label has come, which may be days later.  Columns, not
objects: a batch of ten thousand pairs is checked and summed up in some milliseconds, and then it is gone.

Labels have to come to all pairs alike.  Where they come from what the champion did (a loan that was refused has no
label) or from complaints about it, the pairs that differ in one direction are labelled sooner or only, and no test of
success is worth anything.  That shows in which pairs have labels, so it is tested here, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np

from modelcd.domain.eprocess import log_sum
from modelcd.domain.shadow.means import NOTHING, Floats, Sums, summed

MOST_SLICES = 16
"""Values of the slicing column that are judged each by itself; the state stays small."""

MOST_BANDS = 8
"""Bands of scores in which the calibration is judged by itself."""

OTHER = "other"
"""The slice of all values that were not declared."""

SELECTIONS: Floats = np.log([1 / 8, 1 / 2, 2, 8])
"""The bets on selected labels: how many times likelier one kind of pair is labelled, as logarithms."""


@dataclass(frozen=True)
class Pairing:
    """Which two versions are compared in a shadow, and what is asked of the challenger.

    `success` is the tolerated loss in success, `disagreement` the tolerated part of requests on which decisions differ,
    `shift` how far apart the mean scores may be (in units of the score), `calibration` how far the challenger's mean
    score may be from the mean label, over all or in each band of scores between the edges `bands`; None asks for
    nothing.  `column` and `values` name the slices in which success may
    be lower by at most `slice_margin`; other values are pooled, watched, and need no certificate.  Scores lie from
    `low` to `high` and decide "yes" from `threshold` on; with `threshold=None` answers are classes.
    Raises `ValueError` for what cannot be meant.
    """

    champion: int
    challenger: int
    success: float | None = 0.02
    disagreement: float | None = None
    shift: float | None = None
    calibration: float | None = None
    bands: tuple[float, ...] = ()
    column: str = ""
    values: tuple[str, ...] = ()
    slice_margin: float = 0.05
    threshold: float | None = 0.5
    low: float = 0.0
    high: float = 1.0
    alpha: float = 0.01
    beta: float = 0.05

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        object.__setattr__(self, "bands", tuple(self.bands))
        for name in (f.name for f in fields(self) if f.type in ("float", "float | None")):
            given = getattr(self, name)
            if given is not None and (isinstance(given, bool) or not isinstance(given, Real) or not isfinite(given)):
                raise ValueError(f"Pairing({name}=…): a number is needed, got {given!r}")
        if any(isinstance(v, bool) or not isinstance(v, int) for v in (self.champion, self.challenger)):
            raise ValueError(f"versions are numbers, got {self.champion!r} and {self.challenger!r}")
        if self.champion == self.challenger:
            raise ValueError(f"version {self.champion} cannot be compared with itself")
        if not self.low < self.high:
            raise ValueError(f"scores lie from low to high, got {self.low:g} and {self.high:g}")
        most = {"shift": self.high - self.low}
        for name in ("success", "disagreement", "shift", "calibration", "slice_margin"):
            given, limit = getattr(self, name), most.get(name, 1.0)
            if given is not None and not 0 < given < limit:
                raise ValueError(f"Pairing({name}=…) lies between 0 and {limit:g}, got {given:g}")
        if self.threshold is None and (self.shift is not None or self.calibration is not None):
            raise ValueError("classes have neither a score shift nor a calibration; leave them out or give a threshold")
        if self.calibration is not None and not self.probabilities:
            raise ValueError("calibration is of probabilities: scores must lie from 0 to 1")
        edges = (0.0, *self.bands, 1.0)
        if len(edges) > MOST_BANDS + 1 or not all(a < b for a, b in pairwise(edges)):
            raise ValueError(f"bands are rising edges inside 0 and 1, at most {MOST_BANDS - 1}: (0.2, 0.8)")
        if not (0 < self.alpha < 0.5 and 0 < self.beta < 0.5):
            raise ValueError("alpha and beta are chances between 0 and 0.5")
        self._check_slices()

    @property
    def probabilities(self) -> bool:
        """Say whether scores may be read as probabilities of a yes."""
        return self.threshold is not None and (self.low, self.high) == (0, 1)

    @property
    def slices(self) -> tuple[str, ...]:
        """The slices that are watched, the pooled one last."""
        return (*self.values, OTHER) if self.values else ()

    def _check_slices(self) -> None:
        if bool(self.column) != bool(self.values):
            raise ValueError("slices need a column and the values to be judged: column='carrier', values=('AA', 'UA')")
        if len(self.values) > MOST_SLICES or len(set(self.values)) != len(self.values):
            raise ValueError(f"slices are at most {MOST_SLICES} different values, got {len(self.values)}")
        if any(not isinstance(value, str) or not 0 < len(value) <= 32 or value == OTHER for value in self.values):
            raise ValueError(f"a slice is named by 1 to 32 characters, not by {OTHER!r}")


@dataclass(frozen=True)
class Served:
    """What both versions answered to the same requests, in columns; each request once, when it was served."""

    champion: Sequence[Any] = ()
    challenger: Sequence[Any] = ()


@dataclass(frozen=True)
class Labelled:
    """Requests whose label has come, in columns; each once more, and after it was in `Served`.

    `champion_right` and `challenger_right` are what the success function says, `labels` (0 or 1; empty when success
    is all that is known) are for the calibration, `slices` is the value of the policy's column.
    """

    champion: Sequence[Any] = ()
    challenger: Sequence[Any] = ()
    champion_right: Sequence[bool] = ()
    challenger_right: Sequence[bool] = ()
    labels: Sequence[float] = ()
    slices: Sequence[str] = ()


@dataclass(frozen=True)
class Batch:
    """The pairs of one look: `versions` says which (champion, challenger) answered them."""

    versions: tuple[int, int]
    served: Served = field(default_factory=Served)
    labelled: Labelled = field(default_factory=Labelled)
    replayed: bool = False


@dataclass(frozen=True)
class Reading:
    """What a batch comes to.

    `served` and `labelled` sum up decisions: +1 where only the challenger says yes, -1 where only the champion does
    (for classes +1 wherever they differ).  `shifts` are challenger's minus champion's scores in parts of their range,
    `lost` is +1 where only the champion is right and -1 where only the challenger is, over all and per slice;
    `champion_bad` answers of the champion were wrong; `off` and `champion_off` are label minus
    score, per band of the version's own score.
    """

    served: Sums
    shifts: Sums
    labelled: Sums
    lost: Sums
    slices: Mapping[str, Sums]
    champion_bad: int
    off: tuple[Sums, ...]
    champion_off: tuple[Sums, ...]


def read(policy: Pairing, batch: Batch) -> Reading:
    """Return what *batch* comes to; raises `ValueError` for columns that hold no pairs."""
    old, new = _both(policy, batch.served.champion, batch.served.challenger, "served")
    given = batch.labelled
    old_answers, new_answers = _both(policy, given.champion, given.challenger, "labelled")
    old_right = _truths(given.champion_right, "champion_right")
    new_right = _truths(given.challenger_right, "challenger_right")
    _same_length("labelled", champion=old_answers, champion_right=old_right, challenger_right=new_right)
    lost = old_right - new_right
    off = champion_off = (NOTHING,) * (len(policy.bands) + 1)
    if len(given.labels):
        if not policy.probabilities:
            raise ValueError("labels are compared with probabilities; these answers are none: leave labels out")
        labels = _truths(given.labels, "labels")
        _same_length("labelled", champion=old_answers, labels=labels)
        off, champion_off = _off(policy, labels, new_answers), _off(policy, labels, old_answers)
    slices = _slices(policy, given.slices, len(lost))
    return Reading(
        served=summed(_directions(policy, old, new)),
        shifts=NOTHING if policy.threshold is None else summed((new - old) / (policy.high - policy.low)),
        labelled=summed(_directions(policy, old_answers, new_answers)),
        lost=summed(lost),
        slices={value: summed(lost[slices == value]) for value in policy.slices},
        champion_bad=int((1 - old_right).sum()),
        off=off,
        champion_off=champion_off,
    )


def _off(policy: Pairing, labels: Floats, scores: Floats) -> tuple[Sums, ...]:
    band = np.searchsorted(policy.bands, scores, side="right")
    return tuple(summed((labels - scores)[band == k]) for k in range(len(policy.bands) + 1))


def differing(directions: Sums) -> Sums:
    """Return the sums of "decisions differ" (0 or 1), which are the squares of directions."""
    return Sums(directions.n, directions.squares, directions.squares)


def _both(policy: Pairing, champion: Sequence[Any], challenger: Sequence[Any], where: str) -> tuple[Any, Any]:
    old = _answers(policy, champion, f"{where} champion")
    new = _answers(policy, challenger, f"{where} challenger")
    _same_length(where, champion=old, challenger=new)
    return old, new


def _answers(policy: Pairing, column: Sequence[Any], what: str) -> Any:
    if policy.threshold is not None:
        return _numbers(column, f"{what} scores", policy.low, policy.high)
    classes = np.empty(len(column), dtype=object)
    for row, answer in enumerate(column):
        # Not a number is the one value that is not equal to itself.
        if answer is None or bool(answer != answer):
            raise ValueError(f"{what}: a class is missing; every pair needs both answers")
        classes[row] = answer
    return classes


def _numbers(column: Sequence[Any], what: str, low: float, high: float) -> Floats:
    if any(isinstance(value, (str, bytes)) for value in column):
        raise ValueError(f"{what}: numbers are needed, not text")
    try:
        numbers = np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{what}: every pair needs one number") from None
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise ValueError(f"{what}: every pair needs one finite number")
    if len(numbers) and not (low <= numbers.min() and numbers.max() <= high):
        raise ValueError(f"{what}: must lie from {low:g} to {high:g}, got {numbers.min():g} to {numbers.max():g}")
    return numbers


def _truths(column: Sequence[Any], what: str) -> Floats:
    numbers = _numbers(column, what, 0.0, 1.0)
    if not np.isin(numbers, (0.0, 1.0)).all():
        raise ValueError(f"{what}: must be 0 or 1")
    return numbers


def _same_length(where: str, **columns: Any) -> None:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"{where} columns have different lengths ({said}): these are no pairs")


def _slices(policy: Pairing, column: Sequence[str], n: int) -> Any:
    if not policy.column:
        if len(column):
            raise ValueError("slices were given, but the policy declares no column")
        return np.array([], dtype=object)
    if len(column) != n:
        raise ValueError(f"{len(column)} values of {policy.column} for {n} labelled pairs: every pair needs one")
    if any(not isinstance(value, str) or not value for value in column):
        raise ValueError(f"{policy.column}: a value is missing or no text; a pair without it belongs to no slice")
    known = set(policy.values)
    return np.array([value if value in known else OTHER for value in column], dtype=object)


def _directions(policy: Pairing, champion: Any, challenger: Any) -> Floats:
    """Return +1 where only the challenger says yes, -1 where only the champion does, 0 where they decide alike."""
    if policy.threshold is None:
        return np.asarray(champion != challenger, dtype=np.float64)
    new, old = challenger >= policy.threshold, champion >= policy.threshold
    return np.asarray(new, dtype=np.float64) - np.asarray(old, dtype=np.float64)


# Whether the labels can be trusted.


def kinds(directions: Sums) -> Any:
    """Count the pairs decided alike, with a yes of the challenger alone, and with one of the champion alone."""
    n, total, squares = directions
    return np.array([n - squares, (squares + total) / 2, (squares - total) / 2])


def selection(wealth: Sequence[float], waiting: Any, drawn: Any) -> tuple[float, ...]:
    """Return the wealth of the bets that labels favour disagreement, or one direction of it, after *drawn* came.

    If labels come to all waiting pairs alike, their kinds are a draw without replacement: the bet is the likelihood
    ratio of Fisher's noncentral hypergeometric distribution, whose expectation is exactly 1.
    """
    if (drawn > waiting).any():
        raise ValueError(
            f"{int(drawn.sum()):,} labelled pairs, but of their kind only {int(waiting.sum()):,} are waiting for a "
            "label: each request comes once in served, then at most once in labelled"
        )
    differing = _gains(waiting[1] + waiting[2], waiting[0], drawn[1] + drawn[2], drawn[0])
    direction = _gains(waiting[1], waiting[2], drawn[1], drawn[2])
    return tuple(float(a + b) for a, b in zip(wealth, (*differing, *direction), strict=True))


def _gains(some: float, others: float, some_drawn: float, others_drawn: float) -> Floats:
    drawn = some_drawn + others_drawn
    least, most = max(0.0, drawn - others), min(some, drawn)
    k = np.arange(least, most)
    steps = np.log((some - k) * (drawn - k) / ((k + 1) * (others - drawn + k + 1)))
    chances = np.concatenate([[0.0], np.cumsum(steps)])
    counts = np.arange(least, most + 1)
    weighted = [log_sum((chances + odds * counts).tolist()) - log_sum(chances.tolist()) for odds in SELECTIONS]
    gains: Floats = SELECTIONS * some_drawn - np.array(weighted)
    return gains
