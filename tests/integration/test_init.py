"""What `modelcd init` writes goes through a project's commands as generated, for each kind and for other data."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits, load_iris

from modelcd.adapters.children import ChildProject
from modelcd.artifact import read_manifest
from modelcd.project.rows import plain_rows
from modelcd.project.training import scores_of
from modelcd.serving.inputs import Inputs

BUDGET = 120.0


def init(folder: Path, *arguments: str, name: str = "made") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modelcd.cli", "init", name, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def churn(folder: Path) -> tuple[str, ...]:
    """Write customers with a date, Unicode columns, missing categories and numbers, and a target of yes and no."""
    random = np.random.default_rng(3)
    age = random.integers(18, 90, 600).astype(float)
    stadt = random.choice(["Köln", "Zürich", "São Paulo"], 600)
    left = random.random(600) < 1 / (1 + np.exp((age - 50) / 8))
    rows = pd.DataFrame(
        {
            "kunde_id": range(9000, 9600),
            "datum": pd.date_range("2025-01-01", periods=600, freq="7h").strftime("%Y-%m-%d %H:%M"),
            "größe": np.where(random.random(600) < 0.1, np.nan, random.normal(170, 10, 600)),
            "age": age,
            "stadt": np.where(random.random(600) < 0.1, None, stadt),
            "member": random.random(600) < 0.5,
            "leer": None,
            "gekündigt": np.where(left, "yes", "no"),
        }
    )
    rows.to_csv(folder / "kunden.csv", index=False)
    return ("--data", "kunden.csv", "--target", "gekündigt")


def iris(folder: Path) -> tuple[str, ...]:
    """Write scikit-learn's iris as everybody has them: words as classes, sorted by them."""
    found = load_iris(as_frame=True)
    found.data.assign(species=found.target_names[found.target]).to_csv(folder / "iris data.csv", index=False)
    return ("--data", "iris data.csv", "--target", "species")


def digits(folder: Path) -> tuple[str, ...]:
    """Write scikit-learn's digits as parquet, with some truths missing."""
    found = load_digits(as_frame=True)
    found.data.assign(digit=found.target.where(found.target.index % 50 != 0)).to_parquet(folder / "digits.parquet")
    return ("--data", "digits.parquet", "--target", "digit")


def embedded(folder: Path) -> tuple[str, ...]:
    """Write embeddings of float32 beside a number and a word, as parquet."""
    random = np.random.default_rng(4)
    vectors = random.normal(size=(600, 8)).astype("float32")
    rows = pd.DataFrame({"emb": list(vectors), "größe": random.normal(size=600), "ort": random.choice(["a", "b"], 600)})
    rows["tags"] = [["x"] * (k % 3) for k in range(600)]
    rows.assign(gut=vectors[:, 0] > 0).to_parquet(folder / "embedded.parquet")
    return ("--data", "embedded.parquet", "--target", "gut")


def dashed(folder: Path) -> tuple[str, ...]:
    """Write rows in which a dash stands for what is missing, in a number and in the target."""
    random = np.random.default_rng(6)
    size = random.normal(size=600)
    rows = pd.DataFrame({"größe": [f"{value:.3f}" for value in size], "paid": np.where(size > 0, "ja", "nein")})
    rows.loc[::20, "größe"] = "-"
    rows.loc[5::20, "paid"] = "-"
    rows.to_csv(folder / "dashed.csv", index=False)
    return ("--data", "dashed.csv", "--target", "paid")


def mostly_one(folder: Path) -> tuple[str, ...]:
    """Write three classes, one of which has nearly nine of ten rows."""
    random = np.random.default_rng(9)
    found = random.choice(["usual", "late", "lost"], 900, p=[0.89, 0.06, 0.05])
    size = random.normal(size=900) * 0.2 + pd.Series(found).map({"usual": 0, "late": 3, "lost": -3})
    pd.DataFrame({"größe": size, "state": found}).to_csv(folder / "rows.csv", index=False)
    return ("--data", "rows.csv", "--target", "state")


def kind(name: str) -> Callable[[Path], tuple[str, ...]]:
    return lambda folder: ("--kind", name)


def through(project: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Take *project* through its commands; return what gates and guards find of the scores that are served."""
    child = ChildProject(project)
    prepared = child.call("prepare", {"out": str(folder / "rows")}, budget=BUDGET).value
    assert child.call("expect", {"data": prepared["data"]}, budget=BUDGET).value["verdict"] == "pass"
    assert child.call("tests", {}, budget=BUDGET).value["verdict"] == "pass"
    built = child.call("train", {"data": prepared["data"], "out": str(folder / "built")}, budget=BUDGET).value
    manifest = read_manifest(folder / "built")
    monkeypatch.syspath_prepend(str(folder / "built" / "code"))
    holdout = pd.read_parquet(folder / "rows" / "holdout.parquet")
    inputs = Inputs(manifest.inputs).of_rows(plain_rows(holdout[built["inputs"]]))
    given, _ = scores_of(joblib.load(folder / "built" / manifest.file), manifest.method, inputs, project)
    scores = given.tolist()
    assert len(Inputs(manifest.inputs).of_rows([json.loads((project / "row.json").read_text())])) == 1
    (folder / "scores.json").write_text(json.dumps({"challenger": scores}))
    told = child.call("gates", {"data": prepared["data"], "scores": str(folder / "scores.json")}, budget=BUDGET).value
    return list(told["findings"])


@pytest.mark.parametrize(
    ("given", "metrics"),
    [
        pytest.param(kind("binary"), ["roc_auc", "roc_auc"], id="binary"),
        pytest.param(kind("multiclass"), ["accuracy", "accuracy"], id="multiclass"),
        pytest.param(kind("regression"), ["r2", "mean_absolute_error"], id="regression"),
        pytest.param(kind("text"), ["accuracy", "accuracy"], id="text"),
        pytest.param(churn, ["roc_auc", "roc_auc"], id="dates, Unicode, gaps, yes and no"),
        pytest.param(iris, ["accuracy", "accuracy"], id="sorted by its classes"),
        pytest.param(embedded, ["roc_auc", "roc_auc"], id="lists of numbers"),
        pytest.param(dashed, ["roc_auc", "roc_auc"], id="a dash for what is missing"),
        pytest.param(mostly_one, ["balanced_accuracy", "balanced_accuracy"], id="most rows of one class"),
        pytest.param(digits, ["accuracy", "accuracy"], id="whole numbers as classes, some missing"),
    ],
)
def test_a_generated_project_keeps_its_own_gates_and_guards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Callable[[Path], tuple[str, ...]], metrics: list[str]
) -> None:
    made = init(tmp_path, *given(tmp_path))
    assert made.returncode == 0, made.stderr

    findings = through(tmp_path / "made", tmp_path, monkeypatch)

    assert [found["name"].split()[0] for found in findings] == [*metrics, "success"]
    assert [found["verdict"] for found in findings] == ["pass"] * 3, [found["reason"] for found in findings]


def test_what_was_decided_about_ones_own_data_is_said(tmp_path: Path) -> None:
    made = init(tmp_path, *churn(tmp_path))

    for said in (
        "binary: 'gekündigt' from 'größe', 'age', 'stadt', 'member'",
        "positive is gekündigt = 'yes'; labels and the target are then true and false",
        "the newest rows by 'datum' are held out",
        "'kunde_id' names the rows, and is no input",
        "left out: leer (empty)",
    ):
        assert said in made.stdout


def test_the_project_of_a_team_is_in_the_folder_that_was_named(tmp_path: Path) -> None:
    made = init(tmp_path, name="sales/churn")

    assert 'name="sales/churn"' in (tmp_path / "sales" / "churn" / "pipeline.py").read_text()
    assert "the model is sales/churn, of the team sales" in made.stdout and "cd sales/churn" in made.stdout


def test_a_zip_code_is_asked_for_as_it_is_written(tmp_path: Path) -> None:
    random = np.random.default_rng(12)
    codes = random.choice(["01234", "02139", "04105"], 300)
    rows = pd.DataFrame({"zip": codes, "paid": random.random(300) < np.where(codes == "02139", 0.9, 0.1)})
    rows.to_csv(tmp_path / "rows.csv", index=False)

    made = init(tmp_path, "--data", "rows.csv", "--target", "paid")

    assert "zeros in front in 'zip': text, in training as in requests" in made.stdout
    assert json.loads((tmp_path / "made" / "row.json").read_text())["zip"] in ("01234", "02139", "04105")


def test_a_model_that_is_no_better_than_a_constant_is_told(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    size = random.normal(size=300)
    rows = pd.DataFrame({"größe": size, "preis": size + random.standard_cauchy(300) ** 3})
    rows.to_csv(tmp_path / "rows.csv", index=False)

    made = init(tmp_path, "--data", "rows.csv", "--target", "preis")

    assert "the model is no better than the same answer always: r2 is -" in made.stdout
    assert "are there outliers in 'preis'" in made.stdout


def test_copies_of_rows_are_told_and_no_fault(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    size = random.normal(size=300)
    rows = pd.DataFrame({"größe": size, "paid": size + random.normal(size=300) > 0})
    pd.concat([rows, rows.head(60)]).to_csv(tmp_path / "rows.csv", index=False)

    made = init(tmp_path, "--data", "rows.csv", "--target", "paid")
    looked = subprocess.run(
        [sys.executable, "-m", "modelcd.cli", "check", "made"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    said = "60 of 101 holdout rows stand in training as well"
    assert said in made.stdout
    assert f"!   {said}" in looked.stdout and looked.returncode == 0


def test_at_a_terminal_the_kind_is_asked_for(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    os.write(master, b"regression\n")

    command = [sys.executable, "-m", "modelcd.cli", "init", "made"]
    made = subprocess.run(command, cwd=tmp_path, stdin=slave, stdout=slave, stderr=slave, check=False)

    assert made.returncode == 0
    assert b"What does it predict? (binary, multiclass, regression, text)" in os.read(master, 65536)
    assert (tmp_path / "made" / "data" / "patients.csv").is_file()
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize(
    ("arguments", "says", "help"),
    [
        (("--data", "rows.csv"), "which column is to be predicted?", "--data rows.csv --target COLUMN"),
        (("--data", "rows.csv", "--target", "z"), "no column is named 'z'", "known: x, y"),
        (("--data", "none.csv", "--target", "y"), "there is no file none.csv", "one file"),
        (("--data", "rows.txt", "--target", "y"), "rows.txt is neither a CSV nor a parquet file", "rows.csv"),
        (("--positive", "y"), "--positive names a class of --data", "--data rows.csv"),
        (("--target", "y"), "--target names a column of --data", "--data rows.csv"),
        (("--data", "rows.csv", "--target", "y"), "all 100 rows have y = 1, so there is nothing to learn", "--target"),
    ],
)
def test_what_cannot_be_made_a_project_is_said_and_nothing_is_written(
    tmp_path: Path, arguments: tuple[str, ...], says: str, help: str
) -> None:
    pd.DataFrame({"x": range(100), "y": 1}).to_csv(tmp_path / "rows.csv", index=False)

    made = init(tmp_path, *arguments)

    assert made.returncode == 2
    assert says in made.stderr and help in made.stderr
    assert not (tmp_path / "made").exists()
