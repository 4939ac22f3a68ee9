"""The project that `modelcd init` writes: one template, and here all in which kinds of models differ.

What depends on the data (limits of gates, what counts as near enough) is measured by cross-validation of the very
pipeline that is written, on the rows that are not held out, so that the project goes through as generated.
"""

from __future__ import annotations

import json
import math
import runpy
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from modelcd.cli.folders import copy_project
from modelcd.cli.inference import Kind, Task, quoted, task_of
from modelcd.domain.gates import Holdout, check
from modelcd.domain.metrics import METRICS
from modelcd.domain.policy import Gate
from modelcd.project.rows import plain_rows, spread

SCAFFOLD = Path(__file__).with_name("scaffold")
VARIANTS = SCAFFOLD / "variants"

DRAWS, UNLUCKY = 40, 0.1
"""Holdouts that are drawn to see what they can show, and the part of them that is unlucky."""

MEASURED = 5_000
"""Rows that are measured at most."""

GET_DATA = "    python get_data.py            # the data it begins with\n"


SAMPLES: Mapping[Kind, tuple[str, str]] = {
    Kind.BINARY: ("measurements.csv", "benign"),
    Kind.MULTICLASS: ("wines.csv", "grower"),
    Kind.REGRESSION: ("patients.csv", "progression"),
    Kind.TEXT: ("docstrings.csv", "library"),
}
"""The file and the target of the data that `get_data.py` of each kind writes."""


def write_sample(kind: Kind, folder: Path) -> tuple[Path, str]:
    """Write the data of *kind* into *folder*, by a script that stays there; return their file and target."""
    file, target = SAMPLES[kind]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(VARIANTS / kind / "get_data.py", folder / "get_data.py")
    subprocess.run([sys.executable, "get_data.py"], cwd=folder, check=True)
    return folder / "data" / file, target


def write_project(name: str, folder: Path, file: Path, rows: pd.DataFrame, task: Task) -> list[str]:
    """Write the project *name* around its data, *file* in `data/`: code, tests, gates and guards that fit *task*.

    Returns what is worth knowing of what was measured.
    """
    given = not (folder / "get_data.py").exists()
    words = {"MODEL_NAME": name, **_columns(task), **_prepare(task), **_dataset(task, rows, file)}
    words |= _policy(task, measured := _measured(task, rows, words))
    for template in _templates(task):
        copy_project(template, folder, words)
    (folder / "gitignore").rename(folder / ".gitignore")
    if given:
        (folder / "get_data.py").unlink()
        readme = folder / "README.md"
        readme.write_text(readme.read_text(encoding="utf-8").replace(GET_DATA, ""), encoding="utf-8")
    (row,) = plain_rows(task.prepared(rows)[task.inputs].head(1))
    (folder / "row.json").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    return [measured.futile] if measured.futile else []


def look(file: Path, target: str, kind: Kind | None, positive: str | None = None) -> tuple[pd.DataFrame, Task]:
    """Read the rows of *file*, and find out what they ask for; raises `UsageError` for what cannot be learned."""
    import glob

    from modelcd.project.data import read
    from modelcd.project.declare import Dataset

    rows, _ = read(file.resolve().parent, Dataset(glob.escape(file.name), target=target))
    return rows, task_of(rows, target, kind, positive)


def _templates(task: Task) -> list[Path]:
    """Return the folders of which the project is put together; a later one replaces what an earlier one has."""
    return [SCAFFOLD, VARIANTS / task.kind, *([VARIANTS / "vectors"] if task.vectors else [])]


# -- what differs ------------------------------------------------------------------------------------------------------


def _estimator(task: Task) -> tuple[str, str]:
    return ("LogisticRegression", "max_iter=1000") if task.classes else ("Ridge", "")


def _columns(task: Task) -> dict[str, str]:
    dropped = [name for name in (task.target, task.time, task.key, *task.left_out)]
    dropped = [name for name in dropped if name is not None and name not in task.refused]
    listed = "[" + ", ".join(json.dumps(name, ensure_ascii=False) for name in dropped) + "]"
    inputs = f"rows[[{quoted(task.inputs[0])}]]" if task.kind is Kind.TEXT else f"rows.drop(columns={listed})"
    estimator, settings = _estimator(task)
    return {
        "INPUT_COLUMNS": inputs,
        "TARGET_COLUMN": quoted(task.target),
        "TEXT_COLUMN": quoted(task.inputs[0]),
        "VECTOR_COLUMNS": _listed(task.vectors),
        "ESTIMATOR": estimator,
        "SETTINGS": settings,
    }


def _prepare(task: Task) -> dict[str, str]:
    target = quoted(task.target)
    lines = [f"rows = rows.drop(columns={_listed(task.refused)})"] if task.refused else []
    for name in (name for name in task.gaps if name in (task.target, *task.inputs)):
        column = f"rows[{quoted(name)}]"
        filled = f"{column}.mask({column}.isin({_listed(task.gaps[name])}))"
        number = ".astype(float)" if name in task.numbers else ""
        lines.append(f"rows = rows.assign(**{{{quoted(name)}: {filled}{number}}})")
    if task.missing:
        lines.append(f"rows = rows.dropna(subset={_listed(task.required)})")
    if task.shuffled:
        lines.append("rows = rows.sample(frac=1.0, random_state=7)  # they come sorted, and the last ones are held out")
    if task.positive is not None:
        lines.append(f"rows = rows.assign(**{{{target}: rows[{target}] == {quoted(task.positive)}}})")
    elif task.whole:
        lines.append(f"rows = rows.assign(**{{{target}: rows[{target}].astype(int)}})")
    if not lines:
        return {"PREPARE": ""}
    body = "".join(f"    {line}\n" for line in lines)
    return {
        "PREPARE": f'\ndef prepare(rows):\n    """Turn the rows as they arrive into those to learn from."""\n'
        f"{body}    return rows\n\n"
    }


def _dataset(task: Task, rows: pd.DataFrame, file: Path) -> dict[str, str]:
    suffix = next(end for end in (".csv.gz", ".parquet", ".csv") if file.name.endswith(end))
    said = [f'"data/*{suffix}"', f"target={quoted(task.target)}"]
    said += [f"{role}={quoted(name)}" for role, name in (("time", task.time), ("key", task.key)) if name]
    said += ["prepare=prepare"] * bool(_prepare(task)["PREPARE"])
    said += ["expectations=expectations", f"holdout={task.holdout:g}"]
    method = "" if task.binary or not task.classes else ',\n    method="predict"'
    whole = next((name for name in task.inputs if not (name in task.gaps or rows[name].isna().any())), None)
    never_null = [name for name in (whole, task.target if not task.missing else None) if name is not None]
    expected = [f"expect.ExpectColumnValuesToNotBeNull(column={quoted(name)})" for name in never_null]
    if task.classes:
        known = f"column={quoted(task.target)}, value_set={_listed([*task.classes, *task.gaps.get(task.target, [])])}"
        expected.append(f"expect.ExpectColumnValuesToBeInSet({known})")
    return {"DATASET": f"Dataset({', '.join(said)}){method}", "EXPECTATIONS": _lines(expected, 8)}


def _lines(values: list[str], indent: int) -> str:
    return "".join(f"\n{' ' * indent}{value}," for value in values)


def _listed(values: list[Any]) -> str:
    return "[" + ", ".join(map(quoted, values)) + "]"


def _policy(task: Task, measured: _Measured) -> dict[str, str]:
    metric = _metric(task)
    gates = [f'Gate("{metric}").at_least({measured.limit:g})'] if measured.limit is not None else []
    if not task.classes:
        gates.append(f'Gate("mean_absolute_error").no_worse_than_champion(margin={_rounded(measured.error / 10, 1)})')
        near = _rounded(measured.near, 2)
        right, fits, label = (
            f"abs(score - label) <= {near}  # half of the answers lie so near in cross-validation",
            "isinstance(score, float)",
            "float",
        )
    else:
        gates.append(f'Gate("{metric}").no_worse_than_champion(margin=0.05)')
        right = "(score >= 0.5) == label" if task.binary else "score == label"
        fits = "0 <= score <= 1" if task.binary else f"score in {_listed(task.classes)}"
        label = "bool" if task.binary else _listed(task.classes)
    return {"GATES": _lines(gates, 8), "IS_CORRECT": right, "SCORE_FITS": fits, "LABEL_TYPE": label}


def _metric(task: Task) -> str:
    several = "balanced_accuracy" if task.uneven else "accuracy"
    return "r2" if not task.classes else "roc_auc" if task.binary else several


# -- what is measured --------------------------------------------------------------------------------------------------


class _Measured(NamedTuple):
    """A limit that versions like this one keep (None where chance does as well), and errors of a regression.

    `futile` says that the model is no better than one that always answers the same; else it is empty.
    """

    limit: float | None
    error: float
    near: float
    futile: str


def _measured(task: Task, rows: pd.DataFrame, words: Mapping[str, str]) -> _Measured:
    """Cross-validate the generated pipeline on the rows that are not held out, block by block, as time goes on."""
    import sklearn.linear_model
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    learned, held_out = task.split(rows)
    known = spread(learned, MEASURED)
    estimator, _ = _estimator(task)
    settings = {"max_iter": 1000} if task.classes else {}
    with tempfile.TemporaryDirectory() as folder:
        for template in _templates(task):
            copy_project(template, Path(folder), words)
        preprocessor = runpy.run_path(str(Path(folder) / "features.py"))["preprocessor"]
    model = make_pipeline(preprocessor(), getattr(sklearn.linear_model, estimator)(**settings))
    truth = known[task.target].to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer rows than folds, and of steps to convergence
        method = "predict_proba" if task.binary else "predict"
        scores = cross_val_predict(model, known[task.inputs], truth, cv=KFold(5), method=method)
    scores = scores[:, 1] if task.binary else scores
    off = np.abs(truth.astype(float) - scores) if not task.classes else np.zeros(1)
    limit = _limit(task, truth, scores, len(held_out))
    return _Measured(limit, float(off.mean()), float(np.median(off)), _futile(task, truth, scores))


def _futile(task: Task, truth: Any, scores: Any) -> str:
    """Say that *scores* are no better than one answer for all, and what to look at; empty when they are."""
    name = _metric(task)
    value, chance = METRICS[name].function(truth, np.asarray(scores)), _chance(name, truth)
    if value > chance:
        return ""
    extremes = f"are there outliers in {task.target!r}, or do" if not task.classes else "do"
    return (
        f"the model is no better than the same answer always: {name} is {value:.3g} in cross-validation, and"
        f" {chance:.3g} without a model; {extremes} other columns say more?"
    )


def _chance(name: str, truth: Any) -> float:
    """Return the value of the metric *name* for the best answer that is always the same."""
    shares = np.unique(truth, return_counts=True)[1] / len(truth)
    return {"r2": 0.0, "roc_auc": 0.5, "balanced_accuracy": 1 / len(shares)}.get(name, float(shares.max()))


def _limit(task: Task, truth: Any, scores: Any, held_out: int) -> float | None:
    """Return a limit that can be shown on *held_out* rows, whichever they are; None where chance reaches it, too."""
    name, random = _metric(task), np.random.default_rng(7)
    gate, scores = Gate(name).at_least(METRICS[name].most), np.asarray(scores)
    draws = [random.choice(len(truth), held_out) for _ in range(DRAWS)]
    found = [check(gate, Holdout(truth[rows], scores[rows])).evidence for rows in (np.arange(len(truth)), *draws)]
    lows = [(one.get("bounds") or [None])[0] for one in found]
    if None in lows:
        return None
    # The value itself is known up to its own bound, and the holdout shows it up to that of an unlucky draw.
    unlucky = float(np.quantile(lows[1:], UNLUCKY))
    limit = math.floor(20 * (lows[0] - (found[0]["value"] - unlucky))) / 20
    return limit if limit > _chance(name, truth) else None


def _rounded(value: float, digits: int) -> str:
    return f"{float(f'{max(value, 1e-9):.{digits}g}'):g}"
