"""Each recipe's project does what its page says: it trains, is served, and passes its gates with the words shown."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from recipes import RECIPES, Recipe

from modelcd.adapters.children import ChildProject

BUDGET = 240.0

SCORES = """
import json, sys
from pathlib import Path
from modelcd.project.rows import plain_rows, read_rows
from modelcd.serving.loading import load_model

artifact, data, out = map(Path, sys.argv[1:])
model = load_model(artifact)
rows = plain_rows(read_rows(data / "holdout.parquet")[[column.name for column in model.manifest.inputs]])
scores = model.score(model.inputs.of_rows(rows))
out.write_text(json.dumps({"challenger": scores, "names": {"challenger": list(model.manifest.output.names)}}))
"""
"""The rows of the holdout as JSON, scored by the code that serves."""


NEEDS = {"lightgbm": {"lightgbm", "scikit-learn"}, "mlflow-model": {"mlflow", "scikit-learn"}}
"""What must be recorded as needed by the model, besides what every model needs."""


def masked(text: str) -> str:
    """*text* without its numbers: they may differ between versions of a library, the words may not."""
    return re.sub(r"[\d.,]*\d", "#", text)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_does_what_it_says(recipe: Recipe, tmp_path: Path) -> None:
    project = ChildProject(recipe.cook(tmp_path / recipe.name))

    def call(command: str, **arguments: str) -> dict[str, Any]:
        return dict(project.call(command, arguments, budget=BUDGET).value)

    prepared = call("prepare", out=str(tmp_path / "data"))
    trained = call("train", data=str(prepared["data"]), out=str(tmp_path / "artifact"))
    scores = str(tmp_path / "scores.json")
    score = [sys.executable, "-c", SCORES, str(trained["artifact"]), str(prepared["data"]), scores]
    subprocess.run(score, check=True, capture_output=True)
    checked = call("gates", data=str(prepared["data"]), scores=scores)

    assert set(trained["toolchain"]) >= NEEDS.get(recipe.name, {"scikit-learn"})
    assert checked["verdict"] == "pass", checked["findings"]
    said = [masked(str(finding["reason"])) for finding in checked["findings"]]
    assert [line for line in recipe.seen if masked(line) not in said] == [], checked["findings"]
