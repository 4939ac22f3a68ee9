"""Two recipes from data to production, as their pages say; the others are tried in tests/examples/test_recipes.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from desk import Delivered
from recipes import RECIPES

pytestmark = pytest.mark.timeout(600)


def test_a_number_is_delivered_asked_for_and_told_the_truth(delivered: Delivered, tmp_path: Path) -> None:
    project, modelcd = RECIPES["regression"].cook(tmp_path / "regression"), delivered.modelcd

    told = modelcd.told("deliver", "--json", cwd=project)
    asked = modelcd.told("predict", "progression", "row.json", cwd=project)
    modelcd.told("feedback", "progression", f"{asked['prediction']}=151", cwd=project)

    assert (told["ending"], asked["version"]) == ("promoted", "1")
    assert 0 < asked["scores"][0] < 400


def test_a_model_from_mlflow_is_delivered_once_per_content(delivered: Delivered, tmp_path: Path) -> None:
    project = RECIPES["mlflow-model"].cook(tmp_path / "mlflow")

    first, same = (delivered.modelcd.told("deliver", "--json", cwd=project) for _ in range(2))

    assert [told["ending"] for told in (first, same)] == ["promoted", "nothing new"]
    assert delivered.modelcd.open_to_others() == [], "as little as of what was trained here"
