"""A model that is no classifier of two classes goes the whole way, and a guard that would certify anything stops it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from desk import Delivered, both, replace

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def diabetes(delivered: Delivered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regression as `modelcd init` generates it, delivered beside the model of all tests."""
    folder = tmp_path_factory.mktemp("kinds")
    made = delivered.modelcd("init", "diabetes", "--kind", "regression", cwd=folder)
    assert made.returncode == 0, made.stderr
    told = delivered.modelcd.told("deliver", "--json", cwd=folder / "diabetes")
    assert told["ending"] == "promoted", told
    return folder / "diabetes"


def test_a_regression_goes_to_production_as_generated(delivered: Delivered, diabetes: Path) -> None:
    row = json.loads((diabetes / "row.json").read_text(encoding="utf-8"))

    (score,) = delivered.modelcd.control.predict("diabetes", [row])["scores"]

    known = pd.read_csv(diabetes / "data" / "patients.csv")["progression"]
    assert known.min() < score < known.max()


def test_a_guard_that_is_true_at_any_score_stops_the_delivery_by_name(delivered: Delivered, diabetes: Path) -> None:
    line = next(line for line in (diabetes / "pipeline.py").read_text().splitlines() if "abs(score" in line)
    wrong = replace("pipeline.py", line, "    return (score >= 0.5) == bool(label)")
    both(wrong, replace("pipeline.py", "Ridge()", "Ridge(alpha=2.0)"))(diabetes)

    checked = delivered.modelcd("check", cwd=diabetes)
    ended = delivered.modelcd("deliver", cwd=diabetes)

    says = "guard success is true for 110 of 110 rows, at any score"
    assert (checked.returncode, ended.returncode) == (1, 1)
    assert f"✗   {says}\n      compare the two, for example abs(score - label) <= " in checked.stdout
    assert says in " ".join(ended.stderr.split())
    assert says in " ".join(delivered.modelcd("history", "diabetes").stdout.split())
