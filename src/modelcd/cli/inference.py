"""What a table asks for: the kind of model, and what each column is good for.

`modelcd init --data` looks at the rows once, before it writes anything, and answers in words what no model can learn.
The trade-off: where the rows can be meant in two ways it takes the likelier one and says so, and what it decided stands
in the generated project as code that can be read and changed.
"""

from __future__ import annotations

import json
import re
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

from modelcd.domain.gates import FEWEST, FEWEST_OF_A_CLASS
from modelcd.domain.telling import counted
from modelcd.domain.words import affirmative, missing_among
from modelcd.errors import ProjectError, UnknownName, UsageError
from modelcd.project.data import copied, is_code, is_numbers, rough_kind, times_of
from modelcd.project.declare import Dataset
from modelcd.project.rows import with_vectors


class Kind(StrEnum):
    """What a model predicts, and from what."""

    BINARY = "binary"
    """One of two classes, from columns."""
    MULTICLASS = "multiclass"
    """One of several classes, from columns."""
    REGRESSION = "regression"
    """A number, from columns."""
    TEXT = "text"
    """One of two or more classes, from a text."""


MOST_CLASSES = 50
WHOLE_CLASSES = 20
"""Up to so many different whole numbers are classes, if each is there ten times on average."""

MOST_OF_A_CLASS = 0.75
"""The share of one of several classes from which on each class counts the same, however many rows it has."""

NUMBER_WITH_COMMA = r"\s*[+-]?\d[\d.,]*,\d+\s*"
"""A number as many countries write it, with a comma before the decimals or between thousands."""

MOST_WORDS = 100
"""A column with more different words than this is left out: most of them were seen once."""

NO_VECTOR = "lists, but not of finite numbers and of one length"

PROSE = 4.0
"""Words in a text on average, from which on a column is prose."""

DATE = r"\d+[-/.]\d+[-/.]\d"

NEW = 0.001
"""The chance at which rows in any order would look sorted by the target."""


@dataclass
class Task:
    """What was found: the target and its classes (none for numbers), and the columns.

    `positive` is the value that is made true, where the target is not true and false, or 0 and 1, already; `rarer`: it
    was chosen for being the rarer one.  `left_out` says of columns why they are no inputs.  `shuffled`: the rows are
    sorted, so that the last are unlike the others.  `gaps` has, by column, the words that stand for a missing value;
    `numbers` are those of these columns that hold numbers beside them.  `vectors` are the inputs that hold lists.
    `codes` have digits with zeros in front.  `uneven`: most rows are of one of several classes.  `copied` says
    how many held-out rows stand in training as well.
    """

    kind: Kind
    target: str
    classes: list[Any] = field(default_factory=list)
    positive: Any = None
    rarer: bool = False
    whole: bool = False
    missing: int = 0
    gaps: Mapping[str, list[str]] = field(default_factory=dict)
    numbers: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    vectors: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    time: str | None = None
    key: str | None = None
    shuffled: bool = False
    holdout: float = 0.25
    uneven: bool = False
    copied: str = ""

    @property
    def required(self) -> list[str]:
        """The columns without which a row is dropped: the target, and a text."""
        return [self.target, *(self.inputs if self.kind is Kind.TEXT else [])]

    @property
    def refused(self) -> list[str]:
        """The columns with which no row is prepared, even if no model learns from them."""
        return [name for name, why in self.left_out.items() if why == NO_VECTOR]

    @property
    def binary(self) -> bool:
        """Say whether there are two classes."""
        return len(self.classes) == 2

    def filled(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return *rows* with a missing value where a word stands for one."""
        for name, words in self.gaps.items():
            values = rows[name].mask(rows[name].isin(words))
            rows = rows.assign(**{name: values.astype(float) if name in self.numbers else values})
        return rows

    def prepared(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return *rows* as the generated `prepare` makes them, in order of time."""
        rows = with_vectors(self.filled(rows.drop(columns=self.refused))).dropna(subset=self.required)
        if self.shuffled:
            rows = rows.sample(frac=1.0, random_state=7)
        if self.time is not None:
            rows = rows.sort_values(self.time, key=times_of, kind="stable")
        if self.positive is not None:
            return rows.assign(**{self.target: rows[self.target] == self.positive})
        return rows.assign(**{self.target: rows[self.target].astype(int)}) if self.whole else rows

    def split(self, rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the prepared *rows*, without key and time: those to learn from, and those that are held out."""
        prepared = self.prepared(rows)[[*self.inputs, self.target]]
        cut = round(len(prepared) * (1 - self.holdout))
        return prepared.iloc[:cut], prepared.iloc[cut:]


def task_of(rows: pd.DataFrame, target: str, asked: Kind | None = None, positive: str | None = None) -> Task:
    """Return what *rows* ask for when *target* is to be predicted, and which of two classes is *positive*.

    Raises `UsageError` for what cannot be learned.
    """
    if target not in rows.columns:
        raise UnknownName("column", target, map(str, rows.columns))
    gaps, numbers = _gaps(rows, target)
    rows = Task(Kind.BINARY, target, gaps=gaps, numbers=numbers).filled(rows)
    values = rows[target].dropna()
    _enough(rows, values, target)
    task = Task(_kind(values, target), target, gaps=gaps, numbers=numbers)
    if task.kind is not Kind.REGRESSION:
        task.classes = sorted(values.unique().tolist(), key=lambda value: (str(type(value)), value))
        whole = pd.api.types.is_float_dtype(values) and not task.binary
        task.whole = whole
        task.classes = [int(value) for value in task.classes] if whole else task.classes
    _sort_columns(task, rows)
    task.kind = _as_asked(task, rows, asked)
    _choose_positive(task, values, positive)
    values = rows.dropna(subset=task.required)[target]
    task.missing = len(rows) - len(values)
    task.codes = [name for name in map(str, rows.columns) if name not in (task.key, task.time) and is_code(rows[name])]
    task.shuffled = task.time is None and _sorted_by_target(task, values)
    task.holdout = _holdout(task, values)
    task.uneven = len(task.classes) > 2 and bool(values.value_counts(normalize=True).max() > MOST_OF_A_CLASS)
    known, held_out = task.split(rows)
    task.copied = copied(Dataset("*", target=target), known, held_out)
    return task


def _gaps(rows: pd.DataFrame, target: str) -> tuple[dict[str, list[str]], list[str]]:
    """Return the words for a missing value in columns of numbers and in the target, and which of them are numbers."""
    gaps, numbers = {}, []
    for name in map(str, rows.columns):
        present = rows[name].dropna()
        if not len(present) or not isinstance(present.iloc[0], str):
            continue
        words = missing_among(present.unique())
        rest = present[~present.isin(words)]
        if words and (is_numbers(rest) or (name == target and rest.nunique() > 1)):
            gaps[name] = words
            numbers += [name] * is_numbers(rest)
    return gaps, numbers


# -- the target --------------------------------------------------------------------------------------------------------


def _enough(rows: pd.DataFrame, values: pd.Series, target: str) -> None:
    if values.empty:
        raise UsageError(f"none of {counted(len(rows), 'row')} has a {target!r}", help="another column? --target NAME")
    if len(values) < 2 * FEWEST:
        raise UsageError(
            f"{counted(len(values), 'row')} with a {target!r} are too few: {FEWEST} are held out at least, and as many"
            " are needed to learn from",
            help="bring more; a few hundred show differences of some per cent",
        )
    if values.nunique() == 1:
        raise UsageError(
            f"all {len(values):,} rows have {target} = {values.iloc[0]}, so there is nothing to learn",
            help="bring rows of both kinds, or name another column: --target NAME",
        )


def _kind(values: pd.Series, target: str) -> Kind:
    different, numeric = values.nunique(), pd.api.types.is_numeric_dtype(values)
    if different == 2:
        return Kind.BINARY
    if rough_kind(values) == "times":
        raise UsageError(f"{target!r} holds times", help="predict a number or a class: --target NAME")
    if not numeric:
        if different > MOST_CLASSES or different > len(values) / 5:
            raise UsageError(
                f"{target!r} has {different:,} different values in {counted(len(values), 'row')}: that is a name or an"
                " id, no class",
                help="name the column to predict: --target NAME",
            )
        return Kind.MULTICLASS
    whole = bool((values % 1 == 0).all())
    if whole and different == len(values) and values.max() - values.min() == len(values) - 1:
        raise UsageError(
            f"{target!r} numbers the rows, a different value in each of them: that is an id",
            help="name the column to predict: --target NAME",
        )
    return Kind.MULTICLASS if whole and different <= min(WHOLE_CLASSES, len(values) / 10) else Kind.REGRESSION


def _choose_positive(task: Task, values: pd.Series, asked: str | None) -> None:
    """Choose the value that is made true: none where JSON's true and false, or 0 and 1, are there already."""
    if asked is not None:
        found = (
            [value for value in task.classes if asked in (str(value), str(value).removesuffix(".0"))]
            if task.binary
            else []
        )
        if not found:
            classes = f"it has {', '.join(map(str, task.classes[:8]))}" if task.classes else "it holds numbers"
            raise UsageError(
                f"--positive names one of the two classes of {task.target!r}, and {classes}",
                help=f"--positive {shlex.quote(str(task.classes[1]))}" if task.binary else "leave --positive out",
            )
        task.positive = None if set(task.classes) == {0, 1} and found[0] == 1 else found[0]
    elif task.binary and set(task.classes) != {0, 1}:
        task.positive = affirmative(task.classes)
        if task.positive is None:
            task.positive = min(reversed(task.classes), key=lambda value: int((values == value).sum()))
            task.rarer = True


def _as_asked(task: Task, rows: pd.DataFrame, asked: Kind | None) -> Kind:
    """Return the kind that was *asked* for, or that fits; raises `UsageError` where the two contradict."""
    found = f"{task.target!r} has {len(task.classes)} classes" if task.classes else f"{task.target!r} holds numbers"
    prose = [name for name in task.left_out if task.left_out[name] == "a text"]
    if asked is Kind.REGRESSION and task.classes:
        if not pd.api.types.is_numeric_dtype(rows[task.target]) or pd.api.types.is_bool_dtype(rows[task.target]):
            raise UsageError(f"a regression predicts numbers, and {found}", help=f"--kind {task.kind}")
        task.classes, task.positive, task.whole = [], None, False
    elif asked in (Kind.BINARY, Kind.MULTICLASS) and task.kind is not asked:
        raise UsageError(f"{found}, so it is no {asked} target", help=f"--kind {task.kind}")
    elif asked is Kind.TEXT and not (task.classes and prose):
        why = found if not task.classes else "no column holds texts of several words"
        raise UsageError(f"a text classification reads a text and predicts a class: {why}", help=f"--kind {task.kind}")
    if task.classes and prose and asked in (None, Kind.TEXT):
        longest = max(prose, key=lambda name: rows[name].str.len().mean())
        unread = {name: "not the text" for name in task.inputs}
        task.left_out = {name: why for name, why in {**task.left_out, **unread}.items() if name != longest}
        task.inputs, task.vectors = [longest], []
        return Kind.TEXT
    if not task.inputs:
        raise UsageError("no column is left to learn from", help=_reasons(task.left_out))
    return asked or task.kind


def _sorted_by_target(task: Task, values: pd.Series) -> bool:
    """Say whether the last quarter of the rows is so unlike the others that it can be no holdout for them."""
    from scipy.stats import chi2_contingency, ks_2samp

    cut = round(0.75 * len(values))
    if not task.classes:
        return bool(ks_2samp(values.iloc[:cut], values.iloc[cut:]).pvalue < NEW)
    late = [k >= cut for k in range(len(values))]
    return bool(chi2_contingency(pd.crosstab(values.to_numpy(), late)).pvalue < NEW)


def _holdout(task: Task, values: pd.Series) -> float:
    """Return the share to hold out: a quarter, more where a quarter could show nothing."""
    share = max(0.25, min(0.5, 100 / len(values)))
    if not task.binary:
        return round(share, 2)
    rarer, rows = values.value_counts().idxmin(), int(values.value_counts().min())
    needed = 1.2 * FEWEST_OF_A_CLASS  # how many fall into the holdout is a matter of luck
    if rows < 2 * needed:
        raise UsageError(
            f"only {counted(rows, 'row')} have {task.target} = {rarer}: the holdout needs {FEWEST_OF_A_CLASS},"
            " and training as many",
            help="bring more of them",
        )
    return round(min(0.5, max(share, needed / rows)), 2)


# -- the columns -------------------------------------------------------------------------------------------------------


def _sort_columns(task: Task, rows: pd.DataFrame) -> None:
    """Say of each column what it is good for."""
    times = [name for name in rows.columns if name != task.target and _is_time(rows[name])]
    task.time = next((name for name in times if re.search("date|time|zeit|datum", name, re.IGNORECASE)), None)
    task.time = task.time or next(iter(times), None)
    for name in (str(name) for name in rows.columns if name not in (task.target, task.time)):
        why = "another time" if name in times else _useless(name, rows[name])
        if why == "an id" and task.key is None:
            task.key = name
        elif why:
            task.left_out[name] = why
        else:
            task.inputs.append(name)
            task.vectors += [name] * _lists(rows[name])


def _useless(name: str, values: pd.Series) -> str:
    present = values.dropna()
    if _lists(values):
        return _no_vector(values)
    try:
        different = present.nunique()
    except TypeError:
        return "mappings, or values of several kinds"
    if different < 2:
        return "empty" if present.empty else "always the same"
    unique = different == len(values)
    if pd.api.types.is_numeric_dtype(values):
        if values.isin([float("inf"), float("-inf")]).any():
            raise UsageError(
                f"column {name!r} holds infinity, which JSON does not have", help="leave those cells empty"
            )
        counts = unique and pd.api.types.is_integer_dtype(values)
        named = re.search(r"(^|[^a-z])(id|key|uuid|nr|no|index|unnamed: 0)$", name, re.IGNORECASE)
        return "an id" if counts and (named or present.max() - present.min() == len(values) - 1) else ""
    if present.map(lambda value: isinstance(value, str)).all():
        if present.str.fullmatch(NUMBER_WITH_COMMA).mean() >= 0.5:
            return f"numbers with commas like {present.iloc[0]!r}; write them like 1234.5 to learn from it"
        if present.str.split().str.len().mean() >= PROSE and different > len(present) / 10:
            return "a text"
        if present.str.match(DATE).all():
            return "a time that can be read in two ways: write 2026-01-31T12:00"
        if unique and not _mostly_numbers(present):
            return "an id"
        return _too_many(present) if different > min(MOST_WORDS, len(present) / 3) else ""
    return "" if pd.api.types.infer_dtype(present) == "boolean" else "values of several kinds"


def _too_many(texts: pd.Series) -> str:
    if not _mostly_numbers(texts):
        return "too many different words"
    odd = texts[pd.to_numeric(texts, errors="coerce").isna()]
    return f"numbers, beside {len(odd):,} like {odd.iloc[0]!r}; leave these cells empty to learn from it"


def _mostly_numbers(texts: pd.Series) -> bool:
    return not is_code(texts) and bool(pd.to_numeric(texts, errors="coerce").notna().mean() >= 0.5)


def _lists(values: pd.Series) -> bool:
    first = values.dropna().head(1)
    return len(first) > 0 and isinstance(first.iloc[0], list | tuple | np.ndarray)


def _no_vector(values: pd.Series) -> str:
    if values.isna().any():
        return "lists, which some rows lack"
    try:
        with_vectors(values.to_frame())
    except ProjectError:
        return NO_VECTOR
    return ""


def _is_time(values: pd.Series) -> bool:
    if values.isna().any() or len(values) == 0:
        return False
    if pd.api.types.is_datetime64_any_dtype(values):
        return True
    if not values.map(lambda value: isinstance(value, str) and bool(re.match(DATE, value))).all():
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it guesses the format, which is tried by reading all of them
        try:
            return bool(times_of(values).notna().all())
        except (ValueError, TypeError):
            return False


def quoted(value: Any) -> str:
    """Return *value* as the generated code writes it."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _reasons(left_out: dict[str, str]) -> str:
    return ", ".join(f"{name} ({why})" for name, why in left_out.items())


def _notes_of_inputs(task: Task) -> list[str]:
    told = []
    if task.codes:
        column = quoted(task.codes[0])
        told.append(
            f"zeros in front in {', '.join(map(repr, task.codes))}: text, in training as in requests; for a number, in"
            f" prepare, in pipeline.py: rows = rows.assign(**{{{column}: rows[{column}].astype(float)}})"
        )
    if task.vectors:
        told.append(
            f"{', '.join(map(repr, task.vectors))}: lists of numbers; features.py makes a column of each number"
        )
    return told


def notes(task: Task, rows: int) -> list[str]:
    """Say what was decided where it is not obvious."""
    told = [
        f"{' and '.join(map(repr, words))} in {name!r} is no "
        + ("number" if name in task.numbers else "class")
        + ": prepare makes it a missing value"
        for name, words in task.gaps.items()
        if name in (task.target, *task.inputs)
    ]
    told += _notes_of_inputs(task)
    if task.missing:
        lacking = " or no ".join(map(repr, task.required))
        told.append(f"{task.missing:,} of {counted(rows, 'row')} have no {lacking}; prepare drops them")
    if task.positive is not None:
        told.append(f"positive is {task.target} = {task.positive!r}; labels and the target are then true and false")
    if task.rarer:
        other = next(value for value in task.classes if value != task.positive)
        told.append(
            f"the words {task.positive!r} and {other!r} do not say which one is meant, so the rarer was taken; if that"
            f" is wrong: --positive {shlex.quote(str(other))}, or in prepare, in pipeline.py:"
            f" rows[{quoted(task.target)}] == {quoted(other)}"
        )
    if task.whole or (task.classes and not task.binary and all(isinstance(value, int) for value in task.classes)):
        told.append(f"{task.target} has {len(task.classes)} whole numbers, taken as classes; else: --kind regression")
    if task.time is not None:
        told.append(f"the newest rows by {task.time!r} are held out")
    if task.shuffled:
        told.append(f"the rows come sorted by {task.target!r}; prepare shuffles them")
    if task.key is not None:
        told.append(f"{task.key!r} names the rows, and is no input")
    if task.copied:
        told.append(f"{task.copied}: drop the copies in prepare, rows.drop_duplicates(…)")
    if task.uneven:
        told.append("most rows are of one class, so the gates take balanced_accuracy: all classes count the same")
    if task.left_out:
        told.append(f"left out: {_reasons(task.left_out)}")
    return told
