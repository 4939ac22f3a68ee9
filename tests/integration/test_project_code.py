"""A project run in real child processes: what it hands back, and what it cannot do to us."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import psutil
import pytest

from modelcd.adapters import children
from modelcd.adapters.children import ChildProject, ChildSuccesses, SuccessJudge, warm
from modelcd.artifact import digest_of, read_manifest
from modelcd.errors import ChildError, ProjectError
from modelcd.snapshot import place_of

BUDGET = 120.0

PIPELINE = """
import os
from modelcd import Canary, Dataset, Gate, Model, guard
from helper import INPUTS


def prepare(frame):
    return frame[frame["a"].notna()]


def expectations(expect):
    return [
        expect.ExpectColumnValuesToNotBeNull(column="b"),
        expect.ExpectColumnValuesToBeBetween(column="b", min_value=0, max_value=50),
    ]


def train(frame, parameters):
    from sklearn.linear_model import LogisticRegression

    print("training", len(frame))
    return LogisticRegression(C=parameters["C"]).fit(frame[INPUTS], frame["y"])


def correct(score, label):
    if score == "crash":
        os._exit(3)
    if score == "raise":
        raise KeyError("no such label")
    return None if score is None else (score >= 0.5) == label


def share_right(truth, scores):
    return float(((scores >= 0.5) == truth).mean())


model = Model(
    "toy",
    train=train,
    parameters={"C": 1.0},
    data=Dataset("data/*.csv", target="y", time="when", key="id", prepare=prepare, expectations=expectations),
    gates=[Gate("roc_auc").at_least(0.7), Gate("right", function=share_right).at_least(0.99)],
    acceptance="acceptance/",
    rollout=Canary(guards=[guard.success(correct)]),
)
"""

LIGHT = """
from modelcd import Dataset, Model

def train(frame):
    {train}

class Same:
    def predict(self, frame):
        return frame["b"].to_numpy()

model = Model("toy", train=train, data=Dataset("data/*.csv", target="y", time="when"))
"""


def write_rows(folder: Path, name: str, first: int, count: int) -> None:
    """Write *count* hourly rows from number *first* on."""
    chance = np.random.default_rng(first)
    b = chance.integers(0, 101, count).astype(float)
    rows = pd.DataFrame(
        {
            "id": range(first, first + count),
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(first, first + count), unit="h"),
            "a": np.where(chance.random(count) < 0.1, np.nan, chance.normal(size=count)),
            "b": b,
            "place": "here",
            "y": b + chance.normal(scale=20, size=count) > 50,
        }
    )
    folder.mkdir(exist_ok=True)
    rows.to_csv(folder / name, index=False)


def write_project(folder: Path, pipeline: str = PIPELINE) -> ChildProject:
    (folder / "pipeline.py").write_text(pipeline)
    (folder / "helper.py").write_text('INPUTS = ["a", "b"]\n')
    (folder / "acceptance").mkdir(exist_ok=True)
    write_rows(folder / "data", "1.csv", 0, 300)
    return ChildProject(folder)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[ChildProject]:
    project = write_project(tmp_path)
    with warm(tmp_path):
        yield project


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildProject]:
    """A project that no test changes."""
    project = write_project(tmp_path_factory.mktemp("whole"))
    with warm(project.project):
        yield project


@pytest.fixture(scope="module")
def prepared(whole: ChildProject, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("prepared")
    return dict(whole.call("prepare", {"out": str(out)}, budget=BUDGET).value)


@pytest.fixture(scope="module")
def trained(whole: ChildProject, prepared: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("artifact")
    return dict(whole.call("train", {"data": prepared["data"], "out": str(out)}, budget=BUDGET).value)


@pytest.fixture(scope="module")
def snapshot(whole: ChildProject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("snapshots")
    return place_of(root, whole.call("snapshot", {"snapshots": str(root)}, budget=BUDGET).value["snapshot"])


def trying(folder: Path, train: str) -> ChildProject:
    """Write a light project whose train function is *train*, with its data prepared in `out`."""
    project = write_project(folder, LIGHT.format(train=train))
    project.call("prepare", {"out": str(folder / "out")}, budget=BUDGET)
    return project


def run_train(project: ChildProject, **limits: Any) -> Any:
    arguments = {"data": str(project.project / "out"), "out": str(project.project / "built")}
    return project.call("train", arguments, **{"budget": BUDGET, **limits}).value


# -- what is declared --------------------------------------------------------------------------------------------------


def test_a_project_is_described_in_plain_values(whole: ChildProject) -> None:
    told = whole.call("describe", {}, budget=BUDGET).value

    assert (told["name"], told["parameters"], sorted(told["files"])) == (
        "toy",
        {"C": "1.0"},
        ["helper.py", "pipeline.py"],
    )


def test_a_change_of_the_ladder_changes_the_policy_and_not_the_training(project: ChildProject) -> None:
    before = project.call("describe", {}, budget=BUDGET).value
    path = project.project / "pipeline.py"
    path.write_text(path.read_text().replace("Canary(", "Canary(shares=(10, 50), "))
    after = project.call("describe", {}, budget=BUDGET).value

    assert before["training_code"] == after["training_code"]
    assert before["policy_digest"] != after["policy_digest"]


def test_what_the_model_is_for_is_said_by_its_target_and_the_docstring(project: ChildProject) -> None:
    path = project.project / "pipeline.py"
    before = project.call("describe", {}, budget=BUDGET).value
    path.write_text(f'"""Sorts toys\nby size.\n\nSee the handbook."""\n{path.read_text()}')
    after = project.call("describe", {}, budget=BUDGET).value

    assert after["about"].startswith("Predicts `")
    assert after["about"].endswith(". Sorts toys by size.")
    assert before["training_code"] == after["training_code"]


def test_a_parameter_from_outside_of_the_code_changes_the_training(
    project: ChildProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project.project / "pipeline.py"
    named = '{"C": float(os.environ.get("TOY_C", "1"))}, environment=["TOY_C"]'
    path.write_text(path.read_text().replace('{"C": 1.0}', named))
    before = project.call("describe", {}, budget=BUDGET).value["training_code"]
    monkeypatch.setenv("TOY_C", "2")

    assert project.call("describe", {}, budget=BUDGET).value["training_code"] != before


def test_a_mistake_in_pipeline_is_a_project_error_with_its_line(project: ChildProject) -> None:
    path = project.project / "pipeline.py"
    path.write_text(path.read_text().replace("guard.success", "guard.sucess"))

    with pytest.raises(ProjectError, match=r"pipeline\.py, line \d+: guard has no 'sucess'"):
        project.call("describe", {}, budget=BUDGET)


# -- data --------------------------------------------------------------------------------------------------------------


def test_new_data_are_seen_by_content(project: ChildProject, tmp_path: Path) -> None:
    cache = str(tmp_path / "hashes.json")
    before = project.call("data", {"cache": cache}, budget=BUDGET).value
    write_rows(project.project / "data", "2.csv", 300, 50)
    known = {file["path"]: file["sha256"] for file in before["files"]}
    after = project.call("data", {"cache": cache, "known": known}, budget=BUDGET).value

    assert after["digest"] != before["digest"] and after["compared"]["new"] == ["data/2.csv"]


def test_a_file_that_was_only_touched_is_not_new(project: ChildProject) -> None:
    before = project.call("data", {}, budget=BUDGET).value["digest"]
    os.utime(project.project / "data" / "1.csv", (1, 1))

    assert project.call("data", {}, budget=BUDGET).value["digest"] == before


def test_content_that_changed_under_the_same_time_and_size_is_new(project: ChildProject, tmp_path: Path) -> None:
    path, cache = project.project / "data" / "1.csv", str(tmp_path / "hashes.json")
    before, stat = project.call("data", {"cache": cache}, budget=BUDGET).value["digest"], path.stat()
    path.write_text(path.read_text().replace("True", "tRUE", 1))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert project.call("data", {"cache": cache}, budget=BUDGET).value["digest"] != before


def test_the_holdout_is_the_newest_part(prepared: dict[str, Any]) -> None:
    folder = Path(prepared["data"])
    train, holdout = (pd.read_parquet(folder / f"{part}.parquet") for part in ("train", "holdout"))

    assert train["when"].max() < holdout["when"].min() and len(holdout) == pytest.approx(0.2 * prepared["rows"], abs=1)


def test_rows_that_prepare_drops_are_counted(prepared: dict[str, Any]) -> None:
    assert prepared["raw_rows"] == 300 and 0 < prepared["dropped"] == 300 - prepared["rows"]


def test_data_other_than_those_looked_at_are_not_prepared(project: ChildProject, tmp_path: Path) -> None:
    files = project.call("data", {}, budget=BUDGET).value["files"]
    write_rows(project.project / "data", "2.csv", 300, 50)

    for command, more in (("prepare", {"out": str(tmp_path / "out")}), ("expect", {})):
        with pytest.raises(ChildError, match="changed since"):
            project.call(command, {"files": files, **more}, budget=BUDGET)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param('target="y"', 'target="yy"', "no column 'yy'", id="no target"),
        pytest.param('time="when"', 'time="b"', "holds numbers", id="a time that is none"),
        pytest.param('time="when"', 'time="place"', "cannot be read as times", id="text as time"),
        pytest.param('key="id"', 'key="place"', "is there twice", id="a key that is none"),
        pytest.param('frame["a"].notna()', 'frame["b"] > 1000', "left none of", id="prepare drops all"),
        pytest.param('frame["a"].notna()', 'frame["y"]', "all .* rows have y = True", id="one class"),
        pytest.param("data/*.csv", "date/*.csv", "no file matches", id="no file"),
        pytest.param('return frame[frame["a"].notna()]', "return 3", "prepare returned a int", id="no frame"),
    ],
)
def test_data_that_cannot_be_learned_from_are_refused(
    project: ChildProject, tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = project.project / "pipeline.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))

    with pytest.raises(ProjectError, match=message):
        project.call("prepare", {"out": str(tmp_path / "out")}, budget=BUDGET)


def test_files_of_different_shape_are_refused(project: ChildProject, tmp_path: Path) -> None:
    (project.project / "data" / "2.csv").write_text("id,when,y\n1,2024-01-01,True\n")

    with pytest.raises(ProjectError, match=r"data/2\.csv has no column 'a'"):
        project.call("prepare", {"out": str(tmp_path / "out")}, budget=BUDGET)


def test_rows_are_json_with_null_for_what_is_missing(prepared: dict[str, Any], whole: ChildProject) -> None:
    told = whole.call("rows", {"data": prepared["data"], "limit": 5}, budget=BUDGET).value

    assert (len(told["rows"]), len(told["truths"])) == (5, 5)
    assert set(told["rows"][0]) == {"when", "a", "b", "place"}


# -- checks ------------------------------------------------------------------------------------------------------------


def test_expectations_are_checked_on_the_rows_as_they_arrived(whole: ChildProject) -> None:
    files = whole.call("data", {}, budget=BUDGET).value["files"]
    told = whole.call("expect", {"files": files}, budget=BUDGET).value
    first, second = told["evidence"]["findings"]

    assert (told["verdict"], first["verdict"], second["verdict"]) == ("fail", "pass", "fail")
    assert second["evidence"]["rows"] == 300 and second["evidence"]["samples"]


def test_expectations_that_ask_for_nothing_prove_nothing(project: ChildProject) -> None:
    path = project.project / "pipeline.py"
    path.write_text(
        path.read_text().replace("    return [\n        expect.", "    return []\n    return [\n        expect.")
    )

    told = project.call("expect", {}, budget=BUDGET).value

    assert (told["verdict"], told["evidence"]["declared"]) == ("inconclusive", 0)
    assert "leave expectations away where none are wanted" in told["reason"]


def test_an_expectation_that_crashes_is_an_error(project: ChildProject) -> None:
    path = project.project / "pipeline.py"
    path.write_text(path.read_text().replace('NotBeNull(column="b")', 'NotBeNull(column="bb")'))

    first = project.call("expect", {}, budget=BUDGET).value["evidence"]["findings"][0]

    assert first["verdict"] == "error" and "could not be checked" in first["reason"]


def test_gates_are_checked_with_the_users_own_functions(
    whole: ChildProject, prepared: dict[str, Any], tmp_path: Path
) -> None:
    holdout = pd.read_parquet(Path(prepared["data"]) / "holdout.parquet")
    scores = tmp_path / "scores.json"
    scores.write_text(pd.Series({"challenger": (holdout["b"] / 100).tolist()}).to_json())
    told = whole.call("gates", {"data": prepared["data"], "scores": str(scores)}, budget=BUDGET).value

    assert [(f["name"].split()[0], f["verdict"]) for f in told["findings"]] == [
        ("roc_auc", "pass"),
        ("right", "fail"),
        ("success", "pass"),
    ]


def test_a_guard_that_certifies_anything_is_found_without_training(project: ChildProject, whole: ChildProject) -> None:
    path = project.project / "pipeline.py"
    path.write_text(path.read_text().replace("(score >= 0.5) == label", "bool(label) or True"))

    (sound,) = whole.call("try_guards", {}, budget=BUDGET).value["findings"]
    (found,) = project.call("try_guards", {}, budget=BUDGET).value["findings"]

    assert (sound["verdict"], found["verdict"]) == ("pass", "fail")
    assert "guard success is true for 54 of 54 rows, at any score; compare the two" in found["reason"]


def test_the_champion_delivered_once_more_is_not_said_to_have_no_champion(
    project: ChildProject, prepared: dict[str, Any], tmp_path: Path
) -> None:
    holdout = pd.read_parquet(Path(prepared["data"]) / "holdout.parquet")
    same = (holdout["b"] / 100).tolist()
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps({"challenger": same, "champion": same, "itself": True}))
    pipeline = project.project / "pipeline.py"
    pipeline.write_text(
        pipeline.read_text().replace('Gate("roc_auc").at_least(0.7)', 'Gate("roc_auc").no_worse_than_champion()')
    )
    told = project.call("gates", {"data": prepared["data"], "scores": str(scores)}, budget=BUDGET).value["findings"][0]

    assert told["verdict"] == "pass" and told["reason"].endswith("it is the champion itself")


def test_tests_are_counted_and_the_first_failure_is_told(project: ChildProject) -> None:
    (project.project / "tests").mkdir()
    (project.project / "tests" / "test_it.py").write_text("def test_a(): pass\n\ndef test_b(): assert 1 == 2\n")
    told = project.call("tests", {}, budget=BUDGET).value

    assert told["verdict"] == "fail" and "1 failed, 1 passed: tests/test_it.py::test_b" in told["reason"]


def test_a_folder_in_which_no_test_runs_proves_nothing_unless_none_are_wanted(project: ChildProject) -> None:
    folder, path = project.project / "tests", project.project / "pipeline.py"

    def told() -> tuple[str, str]:
        found = project.call("tests", {}, budget=BUDGET).value
        return found["verdict"], found["reason"]

    folder.mkdir()
    empty = told()
    (folder / "test_it.py").write_text("import pytest\n\n@pytest.mark.skip\ndef test_a(): pass\n")
    skipped = told()
    path.write_text(path.read_text().replace('    "toy",\n', '    "toy",\n    tests=None,\n'))
    unwanted = told()

    because = "so nothing was checked; tests=None says that none are wanted"
    assert empty == ("inconclusive", f"there is no test in tests/, {because}")
    assert skipped == ("inconclusive", f"every test in tests/ is skipped (1), {because}")
    assert unwanted == ("pass", "there are none")


def test_a_test_file_that_cannot_be_imported_is_a_failure(project: ChildProject) -> None:
    (project.project / "tests").mkdir()
    (project.project / "tests" / "test_it.py").write_text("import nowhere_at_all\n")

    assert project.call("tests", {}, budget=BUDGET).value["verdict"] == "fail"


def test_acceptance_tests_get_the_address(project: ChildProject) -> None:
    (project.project / "acceptance" / "test_it.py").write_text(
        "import os\n\ndef test_a(): assert os.environ['MODELCD_URL'] == 'http://here'\n"
    )

    assert project.call("accept", {"url": "http://here"}, budget=BUDGET).value["verdict"] == "pass"


def test_acceptance_tests_that_are_declared_and_not_there_are_a_mistake(project: ChildProject) -> None:
    (project.project / "acceptance").rename(project.project / "accept")

    with pytest.raises(ProjectError, match="there are no acceptance tests in acceptance/") as raised:
        project.call("describe", {}, budget=BUDGET)

    assert raised.value.help == "did you mean 'accept/'?"


# -- training ----------------------------------------------------------------------------------------------------------


def test_a_trained_model_is_an_artifact_that_can_be_loaded(trained: dict[str, Any]) -> None:
    folder = Path(trained["artifact"])
    manifest = read_manifest(folder)
    scores = joblib.load(folder / manifest.file).predict_proba(pd.DataFrame(manifest.warmup))

    assert trained["digest"] == digest_of(folder) and scores.shape == (3, 2)


def test_the_inputs_are_those_that_the_model_was_fitted_with(trained: dict[str, Any]) -> None:
    columns = read_manifest(Path(trained["artifact"])).inputs

    assert [(c.name, c.kind, c.nullable) for c in columns] == [("a", "double", True), ("b", "double", True)]


def test_the_toolchain_is_what_the_model_needs_and_no_more(trained: dict[str, Any]) -> None:
    assert {"python", "scikit-learn", "numpy", "pandas", "joblib"} <= set(trained["toolchain"])
    assert not {"modelcd", "pytest", "prefect", "mlflow"} & set(trained["toolchain"])


def test_the_artifact_has_the_code_without_its_policy(trained: dict[str, Any]) -> None:
    code = Path(trained["artifact"]) / "code"

    assert sorted(path.name for path in code.iterdir()) == ["helper.py", "pipeline.py"]
    assert "guard" not in (code / "pipeline.py").read_text()


def test_what_train_prints_is_output_and_not_result(
    whole: ChildProject, prepared: dict[str, Any], tmp_path: Path
) -> None:
    told = whole.call("train", {"data": prepared["data"], "out": str(tmp_path / "out")}, budget=BUDGET)

    assert "training" in told.output


def test_the_same_training_gives_the_same_artifact(
    whole: ChildProject, prepared: dict[str, Any], trained: dict[str, Any], tmp_path: Path
) -> None:
    again = whole.call("train", {"data": prepared["data"], "out": str(tmp_path / "out")}, budget=BUDGET).value

    assert again["digest"] == trained["digest"]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        pytest.param("return 3", "train returned a int without predict_proba or predict", id="no estimator"),
        pytest.param("s = Same(); s.hold = lambda: 1; return s", "cannot be saved", id="a lambda inside"),
        pytest.param(
            "s = Same(); s.feature_names_in_ = ['a', 'new']; return s", "column 'new' that the rows", id="a new column"
        ),
        pytest.param("open('notes.txt').read(); return Same()", "train reads notes.txt", id="a file nobody named"),
        pytest.param(
            "import importlib; importlib.import_module('hel' + 'per'); return Same()",
            "train imports helper.py",
            id="hidden",
        ),
    ],
)
def test_a_training_that_cannot_be_delivered_is_refused(tmp_path: Path, train: str, message: str) -> None:
    (tmp_path / "notes.txt").write_text("x")

    with pytest.raises(ProjectError, match=message):
        run_train(trying(tmp_path, train))


def test_a_file_that_is_named_may_be_read_and_trains_again_when_it_changes(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    project = trying(tmp_path, "open('notes.txt').read(); return Same()")
    path = tmp_path / "pipeline.py"
    path.write_text(path.read_text().replace("train=train,", "train=train, files=['notes.txt'],"))
    before = project.call("describe", {}, budget=BUDGET).value["training_code"]
    run_train(project)
    (tmp_path / "notes.txt").write_text("y")

    assert project.call("describe", {}, budget=BUDGET).value["training_code"] != before


def test_a_prepare_that_reads_a_file_nobody_named_is_refused(project: ChildProject, tmp_path: Path) -> None:
    path = project.project / "pipeline.py"
    path.write_text(path.read_text().replace("return frame[frame", "open('limits.txt').read(); return frame[frame"))
    (project.project / "limits.txt").write_text("1")

    with pytest.raises(ProjectError, match=r"prepare reads limits\.txt"):
        project.call("prepare", {"out": str(tmp_path / "out")}, budget=BUDGET)


def test_a_model_with_only_predict_gives_its_predictions(tmp_path: Path) -> None:
    assert run_train(trying(tmp_path, "return Same()"))["method"] == "predict"


# -- what user code does to itself -------------------------------------------------------------------------------------


@pytest.fixture(params=["started", "forked"])
def both_ways(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Run the test with new interpreters, and once more with forks of one that is kept."""
    with warm(tmp_path) if request.param == "forked" else nullcontext():
        yield


@pytest.mark.usefixtures("both_ways")
@pytest.mark.usefixtures("both_ways")
@pytest.mark.usefixtures("both_ways")
@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize(
    ("train", "message"),
    [
        pytest.param(
            "raise ValueError('bad rows')", r"train raised ValueError: bad rows \(pipeline.py, line 5\)", id="raise"
        ),
        pytest.param("raise SystemExit(4)", r"train called exit\(4\)", id="exit"),
        pytest.param("import os; os._exit(5)", r"train ended by itself \(exit status 5\)", id="os._exit"),
        pytest.param("import ctypes; ctypes.string_at(0)", "train was ended by SIGSEGV", id="a segmentation fault"),
        pytest.param("raise KeyboardInterrupt", "train raised KeyboardInterrupt", id="an interrupt"),
    ],
)
def test_user_code_that_fails_is_a_child_error(tmp_path: Path, train: str, message: str) -> None:
    with pytest.raises(ChildError, match=message):
        run_train(trying(tmp_path, train))


def test_the_line_of_user_code_is_the_help_and_its_traceback_a_note(tmp_path: Path) -> None:
    with pytest.raises(ChildError) as raised:
        run_train(trying(tmp_path, "return 1 / 0"))

    assert raised.value.help == "return 1 / 0"
    assert "ZeroDivisionError: division by zero" in raised.value.__notes__[0]


def test_a_column_that_training_asks_for_in_vain_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="train needs a column 'bb', and the data has none") as raised:
        run_train(trying(tmp_path, "return frame['bb']"))

    assert raised.value.help.startswith("known: ") or "'b'" in raised.value.help


def test_code_that_changed_since_it_was_described_is_not_trained(tmp_path: Path) -> None:
    project = trying(tmp_path, "return Same()")
    described = project.call("describe", {}, budget=BUDGET).value["training_code"]
    arguments = {"data": str(tmp_path / "out"), "out": str(tmp_path / "built"), "code": described}
    (tmp_path / "pipeline.py").write_text(LIGHT.format(train="return Same() if True else None"))

    with pytest.raises(ChildError, match="changed since it was described"):
        project.call("train", arguments, budget=BUDGET)


def test_a_child_beyond_its_budget_is_ended_with_all_it_started(tmp_path: Path) -> None:
    code = (
        "import subprocess, time; p = subprocess.Popen(['sleep', '600'])\n"
        "open('pid', 'w').write(str(p.pid)); time.sleep(600)"
    )
    (tmp_path / "pipeline.py").write_text(code)
    began = time.monotonic()

    with pytest.raises(ChildError, match=r"describe did not end within 2 s \(budget\)"):
        ChildProject(tmp_path).call("describe", {}, budget=2)
    assert time.monotonic() - began < 10
    assert gone(int((tmp_path / "pid").read_text()))


def gone(pid: int) -> bool:
    """Wait until no process *pid* lives any more, 10 s at most."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
    return False


@pytest.mark.parametrize("kept", ["warm(Path(sys.argv[1]))", "contextlib.nullcontext()"], ids=["forked", "started"])
def test_a_child_ends_with_its_parent_and_leaves_nothing(tmp_path: Path, kept: str) -> None:
    (tmp_path / "pipeline.py").write_text(
        "import os, time\nopen('new', 'w').write(str(os.getpid()))\nos.rename('new', 'pid')\ntime.sleep(600)"
    )
    code = (
        "import contextlib, sys; from pathlib import Path; from modelcd.adapters.children import ChildProject, warm\n"
        f"with {kept}: ChildProject(Path(sys.argv[1])).call('describe', {{}}, budget=600)"
    )
    private = tmp_path / "private"
    private.mkdir()
    parent = psutil.Popen([sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "TMPDIR": str(private)})
    deadline = time.monotonic() + 20
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert list(private.iterdir()), "what the two tell each other"
    parent.kill()
    parent.wait()

    assert gone(int((tmp_path / "pid").read_text()))
    assert list(private.iterdir()) == []


def test_a_child_is_ended_after_what_it_would_have_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may end the parent right after it has ended the child: then nobody is left to remove anything."""
    private = tmp_path / "private"
    private.mkdir()
    (tmp_path / "pipeline.py").write_text("import time\ntime.sleep(600)")
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    left: list[list[Path]] = []
    end = children._Child.end
    monkeypatch.setattr(children._Child, "end", lambda child: (left.append(list(private.iterdir())), end(child))[1])

    with pytest.raises(ChildError, match="did not end within"):
        ChildProject(tmp_path).call("describe", {}, budget=1)
    assert left == [[]]


def test_a_child_beyond_its_memory_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text("x = bytearray(2 * 2**30)\n")

    with pytest.raises(ChildError, match=r"describe needed more than 1,000 MB \(budget\)"):
        ChildProject(tmp_path).call("describe", {}, budget=BUDGET, memory=1000)


def test_a_secret_of_the_environment_is_in_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_TOKEN", "hunter2hunter2")
    text = "import os\nif 0: Model(environment=('TOY_TOKEN',))\nraise RuntimeError(os.environ['TOY_TOKEN'])\n"
    (tmp_path / "pipeline.py").write_text(text)

    with pytest.raises(ProjectError) as raised:
        ChildProject(tmp_path).call("describe", {}, budget=BUDGET)
    assert "hunter2" not in raised.value.message + raised.value.help
    assert "<TOY_TOKEN>" in raised.value.message


def test_a_child_inherits_what_programs_need_and_what_the_project_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"TOY_KEY": "k" * 8, "TOY_URL": "there", "AWS_SECRET_ACCESS_KEY": "s" * 8, "LC_NUMERIC": "C"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "pipeline.py").write_text(
        "import os, subprocess\nif 0: model = Model('toy', environment=['TOY_URL', 'TOY_MISSING'])\n"
        "raise RuntimeError(sorted(line.split('=')[0] for line in subprocess.check_output('env', text=True).split()))\n"
    )

    with pytest.raises(ProjectError) as raised:
        ChildProject(tmp_path).call("describe", {}, budget=BUDGET)
    assert all(name in raised.value.message for name in ("PATH", "TOY_URL", "LC_NUMERIC", "OMP_NUM_THREADS"))
    assert not any(name in raised.value.message for name in ("TOY_KEY", "AWS_SECRET_ACCESS_KEY", "TOY_MISSING"))


def test_names_of_variables_that_do_not_stand_as_text_are_refused(project: ChildProject) -> None:
    pipeline = project.project / "pipeline.py"
    text = pipeline.read_text().replace("    train=train", "    environment=(*NAMES,), train=train")
    text = "NAMES = ['TOY_URL']\n" + text
    pipeline.write_text(text)
    with pytest.raises(ProjectError, match="environment= names TOY_URL, which does not stand there as text"):
        project.call("describe", {}, budget=BUDGET)

    pipeline.write_text(text.replace("(*NAMES,)", "('TOY_URL',)"))
    assert project.call("describe", {}, budget=BUDGET).value["name"]


@pytest.mark.parametrize("name", ["", "TOY URL", "MODELCD_JOURNAL", "PREFECT_API_KEY"])
def test_a_variable_that_is_none_or_not_for_a_project_is_refused(project: ChildProject, name: str) -> None:
    pipeline = project.project / "pipeline.py"
    pipeline.write_text(pipeline.read_text().replace("    train=train", f"    environment=[{name!r}], train=train"))

    with pytest.raises(ProjectError, match="environment"):
        project.call("describe", {}, budget=BUDGET)


def test_what_a_child_writes_is_for_its_user_only(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text("open('written', 'w').close()\n")
    before = os.umask(0o022)
    try:
        with pytest.raises(ProjectError):
            ChildProject(tmp_path).call("describe", {}, budget=BUDGET)
    finally:
        os.umask(before)

    assert (tmp_path / "written").stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("both_ways")
def test_a_flood_of_output_is_kept_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text("import os\nprint('x' * 1_000_000)\nprint('the end')\nos._exit(1)\n")

    with pytest.raises(ChildError) as raised:
        ChildProject(tmp_path, log=tmp_path / "logs").call("describe", {}, budget=BUDGET)
    assert raised.value.help.endswith("the end")
    assert (tmp_path / "logs" / "describe.log").stat().st_size < 100_000


def test_a_python_without_modelcd_is_told_so(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)

    with pytest.raises(ChildError, match="modelcd is not installed for this Python"):
        ChildProject(tmp_path, str(bare)).call("describe", {}, budget=BUDGET)


def test_a_python_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="could not be started"):
        ChildProject(tmp_path, str(tmp_path / "nowhere")).call("describe", {}, budget=BUDGET)


# -- success, judged later ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judge(snapshot: Path) -> Iterator[SuccessJudge]:
    with SuccessJudge(snapshot, budget=20) as judge:
        yield judge


def test_training_keeps_the_very_snapshot_that_is_taken_later(
    project: ChildProject, prepared: dict[str, Any], snapshot: Path, tmp_path: Path
) -> None:
    asked = {"data": prepared["data"], "out": str(tmp_path / "out"), "snapshots": str(snapshot.parent)}
    source = project.call("train", asked, budget=BUDGET).value["source"]

    assert place_of(snapshot.parent, source["snapshot"]) == snapshot and (snapshot / "helper.py").is_file()
    assert (source["commit"], source["worktree"]) == ("", "not a git repository")


def test_code_that_changed_since_it_was_described_is_not_kept(whole: ChildProject, tmp_path: Path) -> None:
    asked = {"snapshots": str(tmp_path), "files": {"helper.py": "another one"}}

    with pytest.raises(ChildError, match=r"helper\.py changed since it was described"):
        whole.call("snapshot", asked, budget=BUDGET)


def test_success_is_what_the_function_says(judge: SuccessJudge) -> None:
    assert judge.judge("success", [(0.9, True), (0.9, False), (0.1, False)]) == [True, False, True]


def test_many_pairs_are_judged_at_once(judge: SuccessJudge) -> None:
    assert sum(judge.judge("success", [(0.9, True)] * 50_000)) == 50_000


def test_a_guard_that_the_project_does_not_have_is_a_child_error(judge: SuccessJudge) -> None:
    with pytest.raises(ChildError, match="no guard of labels named 'sucess'"):
        judge.judge("sucess", [(0.5, True), (0.5, True)])

    assert judge.judge("success", [(0.9, True)]) == [True]


def test_a_pair_that_ends_the_process_is_unjudged_and_the_others_are_judged(judge: SuccessJudge) -> None:
    before, lost, after = judge.judge("success", [(0.9, True), ("crash", True), (0.9, False)])

    assert (before, after) == (True, False)
    assert "ended by itself" in lost.why


def test_a_function_that_ends_the_process_at_any_pair_is_a_child_error(judge: SuccessJudge) -> None:
    with pytest.raises(ChildError, match="ended by itself"):
        judge.judge("success", [("crash", True)] * 10)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ("raise", r"guard 'success' raised KeyError: .* \(pipeline.py, line \d+\)"),
        (None, "guard 'success' returned None"),
    ],
)
def test_a_pair_that_cannot_be_judged_says_why_and_the_others_are(
    judge: SuccessJudge, score: Any, message: str
) -> None:
    right, unjudged = judge.judge("success", [(0.9, True), (score, True)])

    assert right is True
    assert re.match(message, unjudged.why)


def test_a_judge_whose_child_has_ended_starts_another(judge: SuccessJudge) -> None:
    judge.judge("success", [("crash", True)])

    assert judge.judge("success", [(0.9, True)]) == [True]


def test_a_pair_at_which_a_function_hangs_is_unjudged_and_the_others_are_judged(tmp_path: Path) -> None:
    text = LIGHT.format(train="return 1").replace(
        'time="when"))', 'time="when"), rollout=Canary(guards=[guard.success(wait)]))'
    )
    (tmp_path / "pipeline.py").write_text(
        "import time\nfrom modelcd import Canary, guard\n"
        "def wait(score, label):\n    while label == 'for ever': time.sleep(600)\n    return label\n" + text
    )

    with SuccessJudge(tmp_path, budget=2) as judge:
        before, hung, after = judge.judge("success", [(0.5, True), (0.5, "for ever"), (0.5, False)])

    assert (before, after) == (True, False)
    assert re.search(r"in time \(budget\)", hung.why)


def test_the_port_judges_by_the_snapshot_it_is_given(snapshot: Path) -> None:
    successes = ChildSuccesses()
    try:
        assert successes.judge(snapshot, "success", [(0.9, True)]) == [True]
    finally:
        successes.close()
