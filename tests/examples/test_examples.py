"""Each example is a project that can be delivered: it describes itself, its own tests pass, and its model is tried."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelcd.adapters.children import ChildProject

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))
PREPARED = {"01-flights": [["get_data.py", "1"]], "02-finished-model": [["get_model.py"]]}
"""What the README of an example lets people run before they deliver."""

BUDGET = 240.0


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {}


@pytest.fixture
def example(request: pytest.FixtureRequest, copies: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, prepared once as its README says."""
    name = str(request.param)
    if name not in copies:
        folder = tmp_path_factory.mktemp("examples") / name
        shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__", "data", "*.joblib"))
        for command in PREPARED.get(name, []):
            subprocess.run([sys.executable, *command], cwd=folder, check=True)
        copies[name] = folder
    return copies[name]


each = pytest.mark.parametrize("example", NAMES, indirect=True)


def call(example: Path, command: str, **arguments: Any) -> dict[str, Any]:
    return dict(ChildProject(example).call(command, arguments, budget=BUDGET).value)


def test_examples_are_numbered_without_a_gap() -> None:
    assert [int(name.split("-")[0]) for name in NAMES] == list(range(1, len(NAMES) + 1))


@each
def test_an_example_says_what_it_shows(example: Path) -> None:
    readme = (example / "README.md").read_text(encoding="utf-8")

    assert readme.startswith(f"# {example.name[:2]}: ")
    assert "modelcd deliver" in readme
    assert [
        " ".join(["python", *command]) for command in PREPARED[example.name] if " ".join(command) not in readme
    ] == []


@each
def test_an_example_describes_itself(example: Path) -> None:
    spec = call(example, "describe")

    assert spec["name"]
    assert spec["gates"]


@each
def test_the_tests_of_an_example_pass(example: Path) -> None:
    found = call(example, "tests")

    assert found["verdict"] == "pass", found


@each
def test_the_model_of_an_example_becomes_an_artifact(example: Path, tmp_path: Path) -> None:
    files = call(example, "data")["files"]
    prepared = call(example, "prepare", out=str(tmp_path / "data"), files=files)

    trained = call(example, "train", data=prepared["data"], out=str(tmp_path / "artifact"))

    assert trained["method"] == "predict_proba"
    assert (tmp_path / "artifact" / "manifest.json").is_file()


@pytest.mark.parametrize("example", ["02-finished-model"], indirect=True)
def test_another_model_file_is_another_version_and_the_same_file_is_not(example: Path) -> None:
    before = call(example, "describe")["training_code"]
    subprocess.run([sys.executable, "get_model.py"], cwd=example, check=True)
    same = call(example, "describe")["training_code"]
    subprocess.run([sys.executable, "get_model.py", "0.01"], cwd=example, check=True)
    other = call(example, "describe")["training_code"]

    assert same == before
    assert other != before


@pytest.mark.parametrize("example", ["01-flights"], indirect=True)
def test_the_variant_of_the_flights_is_a_change_that_passes_its_tests(example: Path, tmp_path: Path) -> None:
    changed = tmp_path / "linear"
    shutil.copytree(example, changed)
    shutil.copy(changed / "variants" / "linear" / "pipeline.py", changed)

    assert call(changed, "tests")["verdict"] == "pass"
    assert call(changed, "describe")["training_code"] != call(example, "describe")["training_code"]
