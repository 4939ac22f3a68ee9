"""A project whose inputs, targets or scores are lists: prepared, trained, tried, compared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from modelcd import Canary, Dataset, Gate, Model, guard
from modelcd.artifact import Column, Manifest, Output, write_manifest
from modelcd.domain.verdict import Verdict
from modelcd.errors import ProjectError
from modelcd.project.checks import gate_findings
from modelcd.project.data import described, gates_fit, prepared
from modelcd.project.rows import columns_of, plain_rows, read_rows, truths_of, write_rows
from modelcd.project.training import inputs_of, tried
from modelcd.steps import validate

ROWS = 60


def frame(**columns: Any) -> pd.DataFrame:
    """Return rows with a list, a number, a truth of three classes and two of numbers."""
    chance = np.random.default_rng(0)
    x = chance.normal(size=(ROWS, 3))
    kinds = np.array(["ant", "bee", "cow"])[x.argmax(axis=1)]
    given = {"e": list(x.tolist()), "a": x[:, 0], "kind": kinds, "low": x.sum(axis=1), "high": x.sum(axis=1) + 2}
    return pd.DataFrame({**given, **columns})


def rows_of(target: Any = "kind", **columns: Any) -> pd.DataFrame:
    """Return the training rows as they are prepared for *target*."""
    return prepared(Path(), Dataset("*.parquet", target=target), frame(**columns)).train


def stacked(rows: pd.DataFrame) -> Any:
    """Return the lists of *rows* as a matrix."""
    return np.stack(list(rows["e"]))


def model_of(estimator: Any, target: Any, **settings: Any) -> tuple[Any, Model, pd.DataFrame]:
    """Return a fitted *estimator* over the lists, the model it is of, and its rows."""
    rows = rows_of(target)
    model = Model("m", train=lambda rows: None, data=Dataset("*.parquet", target=target), **settings)
    names = list(model.data.targets)
    pipeline = make_pipeline(FunctionTransformer(stacked), estimator)
    return pipeline.fit(rows[["e"]], rows[names if len(names) > 1 else names[0]]), model, rows


# -- rows --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda one: np.array(one, dtype="float32")])
def test_a_list_of_numbers_is_a_column_and_comes_back_from_where_rows_are_kept(kind: Any, tmp_path: Path) -> None:
    rows = rows_of(e=[kind([1.0, k]) for k in range(ROWS)])
    write_rows(rows, tmp_path / "rows.parquet")
    again = read_rows(tmp_path / "rows.parquet")

    assert columns_of(again, ["e"]) == (Column("e", "vector", nullable=False, length=2),)
    assert plain_rows(again[["e"]])[:2] == [{"e": [1.0, 0.0]}, {"e": [1.0, 1.0]}]
    assert again["e"][0].dtype == rows["e"][0].dtype == np.float64


def test_a_row_without_its_list_makes_the_column_one_that_takes_null() -> None:
    rows = rows_of(e=[None, *([[1.0, 2.0]] * (ROWS - 1))])

    assert columns_of(rows, ["e"]) == (Column("e", "vector", nullable=True, length=2),)
    assert plain_rows(rows[["e"]])[0] == {"e": None}


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ([1.0], "lists of 2 and of 1 numbers"),
        ([1.0, "x"], "row 1: not a plain list of finite numbers"),
        ([1.0, None], "row 1: not a plain list"),
        ([[1.0, 2.0]], "row 1: not a plain list"),
        ("[1, 2]", "row 1: not a plain list"),
        ([1.0, float("inf")], "row 1: not a plain list"),
    ],
)
def test_lists_that_no_request_could_bring_are_refused_by_name(odd: Any, message: str) -> None:
    with pytest.raises(ProjectError, match=f"column 'e'.*{message}") as refused:
        rows_of(e=[[1.0, 2.0], odd, *([[1.0, 2.0]] * (ROWS - 2))])

    assert "prepare" in refused.value.help


# -- several targets ---------------------------------------------------------------------------------------------------


def test_several_targets_are_a_list_of_truths_and_no_inputs() -> None:
    dataset = Dataset("*.parquet", target=["low", "high"])
    split = prepared(Path(), dataset, frame())
    model = Model("m", train=lambda rows: None, data=dataset)

    assert truths_of(split.train.head(1), dataset.targets) == [[split.train["low"][0], split.train["high"][0]]]
    assert inputs_of(object(), model, split.train) == ["e", "a", "kind"]
    assert described(dataset, split)["targets"] == ["low", "high"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (("low", "kind"), "'kind' holds no numbers"),
        (("low", "none"), "no column 'none'"),
        ("e", "the target 'e' holds lists"),
        (("low", "low"), "'low' is named twice"),
        ((), "a dataset needs a target"),
        ((1, "low"), "a dataset needs a target"),
    ],
)
def test_targets_that_cannot_be_are_refused(target: Any, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        rows_of(target)


def test_gates_get_the_truth_of_several_targets_as_rows_of_numbers() -> None:
    rows = rows_of(("low", "high"))
    gate = Gate("mean_absolute_error").at_most(0.5)
    model = Model("m", train=lambda rows: None, data=Dataset("*", target=("low", "high")), gates=[gate])
    scores = (rows[["low", "high"]] + 0.1).to_numpy().tolist()

    found = gate_findings(Path(), model, rows, {"challenger": scores})

    assert (found["verdict"], found["metrics"]) == ("pass", {"mean_absolute_error": pytest.approx(0.1)})


@pytest.mark.parametrize(
    ("target", "metric", "settings", "message"),
    [
        ("kind", "log_loss", {"method": "predict_proba"}, ""),
        ("kind", "roc_auc_ovr", {"method": "predict_proba"}, ""),
        ("kind", "roc_auc_ovr", {}, "it needs the chances of all classes"),
        ("kind", "log_loss", {}, "holds 3 classes"),
        ("kind", "roc_auc", {"method": "predict_proba"}, "holds 3 classes"),
        (("low", "high"), "r2", {}, ""),
        (("low", "high"), "roc_auc", {}, "there are 2 targets"),
    ],
)
def test_a_gate_that_cannot_fit_lists_is_refused_before_anything_is_trained(
    target: Any, metric: str, settings: Any, message: str
) -> None:
    dataset = Dataset("*", target=target)
    gate = Gate(metric).no_worse_than_champion()
    model = Model("m", train=lambda rows: None, data=dataset, gates=[gate], **settings)
    split = prepared(Path(), dataset, frame())

    if not message:
        gates_fit(model, split)
        return
    with pytest.raises(ProjectError, match=message) as refused:
        gates_fit(model, split)
    assert refused.value.help


def near(score: list[float], label: list[float]) -> bool:
    """Say whether each number of *score* is near that of *label*."""
    return all(abs(a - b) < 0.5 for a, b in zip(score, label, strict=True))


def first_is_near(score: list[float], label: list[float]) -> bool:
    """Say so of anything."""
    return len(score) == len(label)


@pytest.mark.parametrize(("function", "verdict"), [(near, "pass"), (first_is_near, "fail")])
def test_a_guards_function_of_lists_is_tried_like_any_other(function: Any, verdict: str) -> None:
    rows = rows_of(("low", "high"))
    rollout = Canary(guards=[guard.success(function, label=list[float])])
    model = Model("m", train=lambda rows: None, data=Dataset("*", target=("low", "high")), rollout=rollout)
    scores = (rows[["low", "high"]] + 0.1).to_numpy().tolist()

    found = gate_findings(Path(), model, rows, {"challenger": scores})["findings"][-1]

    assert (found["name"], found["verdict"]) == ("success on the holdout", verdict), found


# -- what a model gives ------------------------------------------------------------------------------------------------


def test_the_chances_of_all_classes_are_a_list_with_their_names() -> None:
    fitted, model, rows = model_of(LogisticRegression(), "kind", method="predict_proba")
    output = tried(fitted, "predict_proba", columns_of(rows, ["e"]), rows[["e"]], Path(), model.data.targets)

    assert output == Output("vector", 3, ("ant", "bee", "cow"))


def test_a_number_for_each_target_is_a_list_with_their_names() -> None:
    fitted, model, rows = model_of(LinearRegression(), ("low", "high"))
    output = tried(fitted, "predict", columns_of(rows, ["e"]), rows[["e"]], Path(), model.data.targets)

    assert output == Output("vector", 2, ("low", "high"))


def test_a_class_is_one_score() -> None:
    fitted, _, rows = model_of(LogisticRegression(), "kind")

    assert tried(fitted, "predict", columns_of(rows, ["e"]), rows[["e"]], Path(), ("kind",)) == Output("string")


class Gives:
    """A model that gives what it was made with, for each row."""

    def __init__(self, one: Any) -> None:
        self.one = one

    def predict(self, rows: pd.DataFrame) -> Any:
        """Return the same for each of *rows*."""
        return [self.one] * len(rows)


@pytest.mark.parametrize(
    ("one", "targets", "message"),
    [
        ({"low": 1.0}, ("low",), "predict gave a mapping for row 0"),
        (["ant", "bee"], ("low",), "predict gave a list with a text in it"),
        ([1.0, float("nan")], ("low",), "predict gave a list with NaN or infinity in it"),
        (None, ("low",), "predict gave null for row 0"),
        (1.0, ("low", "high"), "there are 2 targets, and predict gives numbers"),
        ([1.0, 2.0, 3.0], ("low", "high"), "there are 2 targets, and predict gives lists of 3 numbers"),
    ],
)
def test_what_is_no_score_is_refused_when_the_model_is_tried(one: Any, targets: Any, message: str) -> None:
    rows = rows_of()[["a"]]

    with pytest.raises(ProjectError, match=message):
        tried(Gives(one), "predict", columns_of(rows, ["a"]), rows, Path(), targets)


# -- against the champion ----------------------------------------------------------------------------------------------

PROBA = Output("vector", 3, ("ant", "bee", "cow"))


def artifact(folder: Path, output: Output = PROBA, length: int = 3) -> Path:
    """Write an artifact that takes a list of *length* and gives *output*."""
    folder.mkdir()
    joblib.dump(DummyClassifier(), folder / "model.joblib")
    inputs = (Column("e", "vector", nullable=False, length=length), Column("a", "double"))
    write_manifest(folder, Manifest("m", "object", "model.joblib", "predict", inputs, output=output))
    return folder


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, ""),
        ({"length": 4}, "requests that suit the champion would fail: e"),
        ({"output": Output("string")}, r"from a list of 3 numbers \(ant, bee, cow\) to a string"),
        ({"output": Output("vector", 4)}, "to a list of 4 numbers"),
        ({"output": Output("vector", 3, ("ant", "cow", "bee"))}, r"to a list of 3 numbers \(ant, cow, bee\)"),
    ],
)
def test_a_version_that_asks_for_or_answers_something_else_fails_its_signature(
    changed: Any, message: str, tmp_path: Path
) -> None:
    found = validate.signature(artifact(tmp_path / "new", **changed), artifact(tmp_path / "old"))

    assert found.verdict is (Verdict.FAIL if message else Verdict.PASS)
    assert re.search(message, found.reason)


def test_whole_numbers_and_fractions_are_the_same_answer(tmp_path: Path) -> None:
    new, old = artifact(tmp_path / "new", Output("long")), artifact(tmp_path / "old", Output("double"))

    assert validate.signature(new, old).verdict is Verdict.PASS


def test_wide_rows_are_fewer_and_are_sent_in_smaller_requests(tmp_path: Path) -> None:
    narrow, wide = artifact(tmp_path / "narrow"), artifact(tmp_path / "wide", length=1536)
    row = {"e": [0.123456789012] * 1536}

    assert validate.rows_at_most([narrow]) == validate.MOST_ROWS
    assert validate.rows_at_most([narrow, wide]) == validate.rows_at_most([wide]) == validate.MOST_VALUES // 1537
    assert [len(batch) for batch in validate.batches([{"a": 1.0}] * 501)] == [500, 1]
    assert max(len(str(batch)) for batch in validate.batches([row] * 300)) <= validate.BATCH_BYTES
    assert sum(len(batch) for batch in validate.batches([row] * 300)) == 300
