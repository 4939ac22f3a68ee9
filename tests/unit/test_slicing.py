"""What changes the training digest, and what must not."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path

import pytest

from modelcd.errors import ProjectError
from modelcd.project.environment import named
from modelcd.project.slicing import Part, cut

PIPELINE = '''
"""A project."""
import json
from numpy import mean
from features import widen
from checks import bounds
from modelcd import Canary, Dataset, Gate, Model, guard

SEED = 7  # a number
DEPTHS = {"tree": 3}
DEPTHS["forest"] = 5
limit = 0.8
ladder = (5, 25)


def seed():
    return SEED


def train(frame, parameters):
    """Fit."""
    from late import fit

    return fit(widen(frame), seed(), DEPTHS, mean)


def prepare(frame):
    return frame.dropna()


def expectations(expect):
    return bounds(expect)


def correct(score, label):
    return (score >= 0.5) == label


def own(truth, scores):
    return json.loads("1.0")


model = Model(
    name="toy",
    train=train,
    parameters={"rate": 0.1},
    data=Dataset("data/*.csv", target="y", prepare=prepare, expectations=expectations, holdout=0.2),
    gates=[Gate("own", function=own).at_least(limit)],
    rollout=Canary(shares=ladder, guards=[guard.success(correct, margin=0.05)]),
)
'''
FEATURES = "from deep.widths import WIDTH\n\ndef widen(frame):\n    return frame * WIDTH\n"
FILES = {
    "pipeline.py": PIPELINE,
    "features.py": FEATURES,
    "late.py": "def fit(*things):\n    return things\n",
    "checks.py": "def bounds(expect):\n    return []\n",
    "deep/__init__.py": "",
    "deep/widths.py": "WIDTH = 2\n",
    "unused.py": "X = 1\n",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def digest(project: Path, part: Part = Part.TRAINING) -> str:
    return cut(project, part).digest()


def edited(project: Path, file: str, old: str, new: str, part: Part = Part.TRAINING) -> bool:
    """Say whether replacing *old* by *new* in *file* changes the digest of *part*."""
    before = digest(project, part)
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new, 1))
    return digest(project, part) != before


POLICY_EDITS = [
    pytest.param("(5, 25)", "(5, 25, 50)", id="the ladder"),
    pytest.param("score >= 0.5", "score >= 0.6", id="a guard's function"),
    pytest.param("margin=0.05", "margin=0.02", id="a margin"),
    pytest.param("at_least(limit)", "at_least(0.9)", id="a gate"),
    pytest.param('json.loads("1.0")', 'json.loads("2.0")', id="a gate's function"),
    pytest.param("limit = 0.8", "limit = 0.7", id="a name only a gate uses"),
    pytest.param("return bounds(expect)", "return [*bounds(expect)]", id="the expectations"),
    pytest.param("rollout=Canary", "tests='checks/', rollout=Canary", id="the folder of tests"),
    pytest.param("guard.success(correct", "guard.errors(), guard.success(correct", id="one more guard"),
]
TRAINING_EDITS = [
    pytest.param("pipeline.py", "fit(widen(frame)", "fit(2 * widen(frame)", id="train"),
    pytest.param("pipeline.py", "frame.dropna()", "frame", id="prepare"),
    pytest.param("pipeline.py", "SEED = 7", "SEED = 8", id="a constant behind a function"),
    pytest.param("pipeline.py", '["forest"] = 5', '["forest"] = 6', id="an item set later"),
    pytest.param("pipeline.py", '{"rate": 0.1}', '{"rate": 0.2}', id="parameters"),
    pytest.param("pipeline.py", "holdout=0.2", "holdout=0.3", id="the holdout"),
    pytest.param("pipeline.py", 'target="y"', 'target="z"', id="the target"),
    pytest.param(
        "pipeline.py", "SEED = 7", "if True:\n    print(1)\nSEED = 7", id="a statement that could do anything"
    ),
    pytest.param("pipeline.py", "SEED = 7", "import unused\nSEED = 7", id="an import for its effect"),
    pytest.param("features.py", "frame * WIDTH", "frame + WIDTH", id="an imported helper"),
    pytest.param("late.py", "return things", "return None", id="a helper imported inside a function"),
    pytest.param("deep/widths.py", "WIDTH = 2", "WIDTH = 3", id="a helper of a helper"),
    pytest.param("deep/__init__.py", "", "import os\n", id="a package that an import runs"),
]
IDLE_EDITS = [
    pytest.param("pipeline.py", "  # a number", "  # another", id="a comment"),
    pytest.param("pipeline.py", '    """Fit."""\n', "", id="a docstring"),
    pytest.param("pipeline.py", "SEED = 7", "SEED  =  7", id="formatting"),
    pytest.param("features.py", "\n\ndef", "\n\n\n# why\ndef", id="a comment in a helper"),
    pytest.param("checks.py", "return []", "return [1]", id="a helper only the expectations reach"),
    pytest.param("unused.py", "X = 1", "X = 2", id="a file nobody imports"),
    pytest.param("pipeline.py", "SEED = 7", "if __name__ == '__main__':\n    print(1)\nSEED = 7", id="a main block"),
]


@pytest.mark.parametrize(("old", "new"), POLICY_EDITS)
def test_a_change_of_policy_does_not_train_again(project: Path, old: str, new: str) -> None:
    assert not edited(project, "pipeline.py", old, new)


@pytest.mark.parametrize(("old", "new"), POLICY_EDITS)
def test_a_change_of_policy_changes_the_policy(project: Path, old: str, new: str) -> None:
    assert edited(project, "pipeline.py", old, new, Part.POLICY)


@pytest.mark.parametrize(("file", "old", "new"), TRAINING_EDITS)
def test_a_change_of_training_trains_again(project: Path, file: str, old: str, new: str) -> None:
    assert edited(project, file, old, new)


@pytest.mark.parametrize(("file", "old", "new"), IDLE_EDITS)
def test_a_change_that_means_nothing_to_training_does_not_train_again(
    project: Path, file: str, old: str, new: str
) -> None:
    assert not edited(project, file, old, new)


def test_the_training_reaches_its_files_and_no_others(project: Path) -> None:
    files = cut(project).files

    assert files == ("deep/__init__.py", "deep/widths.py", "features.py", "late.py", "pipeline.py")


def test_the_whole_reaches_what_the_policy_imports_too(project: Path) -> None:
    assert "checks.py" in cut(project, Part.ALL).files


def test_the_reduced_pipeline_runs_by_itself(project: Path) -> None:
    source = cut(project).sources["pipeline.py"]

    compile(source, "pipeline.py", "exec")
    assert "guard" not in source and "train=train" in source


def test_the_distributions_that_the_code_imports_have_their_version(project: Path) -> None:
    import numpy as np

    assert cut(project).distributions == {"numpy": np.__version__}


def test_a_distribution_that_only_the_policy_imports_is_not_of_training(project: Path) -> None:
    (project / "checks.py").write_text("import pandas\n\ndef bounds(expect):\n    return []\n")

    assert "pandas" not in cut(project).distributions


def test_a_model_by_another_name_is_reduced_too(project: Path) -> None:
    text = (project / "pipeline.py").read_text()
    text = text.replace("Gate, Model, guard", "Gate, Model as Thing, guard").replace("= Model(", "= Thing(")
    (project / "pipeline.py").write_text(text)

    assert not edited(project, "pipeline.py", "(5, 25)", "(5, 25, 50)")


def test_where_code_looks_up_names_by_itself_everything_counts(project: Path) -> None:
    text = (project / "pipeline.py").read_text().replace("return SEED", 'return globals()["SEED"]')
    (project / "pipeline.py").write_text(text)

    assert edited(project, "pipeline.py", "limit = 0.8", "limit = 0.7")


def test_relative_imports_are_followed(project: Path) -> None:
    (project / "deep/widths.py").write_text("from .more import WIDTH\n")
    (project / "deep/more.py").write_text("WIDTH = 2\n")

    assert "deep/more.py" in cut(project).files


def test_a_file_that_is_no_python_is_named_with_its_line(project: Path) -> None:
    (project / "features.py").write_text("x = 1\ndef widen(:\n")

    with pytest.raises(ProjectError, match=r"features\.py, line 2"):
        cut(project)


def test_threads_may_read_a_project_at_the_same_time(tmp_path: Path) -> None:
    """Python 3.11 counts the depth of all threads together, and refuses where another one parses meanwhile."""
    (tmp_path / "pipeline.py").write_text("x = [1, 2, 3]\n" * 2000, encoding="utf-8")
    trouble: list[BaseException] = []

    def read(deeper: int) -> None:
        if deeper:
            return read(deeper - 1)
        try:
            named(tmp_path)
        except SystemError as error:
            trouble.append(error)

    def let_others(*_: object) -> None:
        time.sleep(0)

    before = gc.get_threshold()
    gc.callbacks.append(let_others)
    gc.set_threshold(50)
    try:
        threads = [threading.Thread(target=read, args=(7 * k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(let_others)

    assert trouble == []
