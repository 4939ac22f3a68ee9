"""Bad input and bad days, from outside: one clear paragraph, the right exit code, nothing lost."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from desk import Cli, Delivered, both, replace

pytestmark = pytest.mark.timeout(600)

Change = Callable[[Path], object]

DATA = "data/measurements.csv"
LADDER = "shares=(5, 25, 50)"


def rows(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Change:
    """Return a change of the project's rows."""
    return lambda project: change(pd.read_csv(project / DATA)).to_csv(project / DATA, index=False)


def training(line: str) -> Change:
    """Return a change that puts *line* at the beginning of `train`."""
    return replace("pipeline.py", "    inputs = rows", f"    {line}\n    inputs = rows")


def budgets(text: str) -> Change:
    """Return a change that gives the project budgets."""
    return both(
        replace("pipeline.py", "import Canary", "import Budgets, Canary"),
        replace("pipeline.py", 'acceptance="acceptance/"', f'acceptance="acceptance/", budgets=Budgets({text})'),
    )


IMPORTS = (
    "from features import preprocessor",
    "from sklearn.linear_model import LogisticRegression",
    "from sklearn.pipeline import make_pipeline",
)


def plain(project: Path) -> None:
    """Leave away the checks before training, and import scikit-learn there only: neither is what is tried here."""
    replace("pipeline.py", "expectations=expectations, ", "")(project)
    replace("pipeline.py", "\n".join(IMPORTS), "\n" * (len(IMPORTS) - 1))(project)
    replace("pipeline.py", "    return make", "".join(f"    {line}\n" for line in IMPORTS) + "    return make")(project)
    shutil.rmtree(project / "tests")


def one_paragraph(ended: subprocess.CompletedProcess[str]) -> str:
    """Return the error that was told, which is the last thing told, told once and no traceback."""
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("error: ") == 1, ended.stderr
    return ended.stderr[ended.stderr.index("error: ") :]


def with_lines(message: str, file: Path) -> str:
    """Put the number of the first line of *file* that has `text` in the place of each `{text}`."""
    lines = file.read_text().splitlines()
    return re.sub(
        r"\{(.+?)\}", lambda found: str(next(n for n, line in enumerate(lines, 1) if found[1] in line)), message
    )


# -- pipeline.py, found before anything is started ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def scaffold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scaffold")
    made = Cli(folder / "workspace")("init", "tumour")
    assert made.returncode == 0, made.stderr
    return folder / "tumour"


@pytest.mark.parametrize(
    ("change", "message", "help"),
    [
        (
            replace("pipeline.py", "model = Model(", "model = Model(("),
            "line {model =}: '(' was never closed",
            "model = Model((",
        ),
        (
            replace("pipeline.py", "train=train", "train=trian"),
            "line {train=}: nothing is named 'trian'",
            "mean 'train'?",
        ),
        (replace("pipeline.py", "rollout=", "rolout="), "line {model =}: Model takes no 'rolout'", "mean 'rollout'?"),
        (replace("pipeline.py", "Canary, Dataset", "Canry, Dataset"), "modelcd has no 'Canry'", "mean 'Canary'?"),
        (
            replace("pipeline.py", "roc_auc", "roc_auk"),
            "line {model =}: no metric is named 'roc_auk'",
            "mean 'roc_auc'?",
        ),
        (
            replace("pipeline.py", LADDER, "shares=(5, 50, 25)"),
            "line {rollout=}: rollout shares must rise and stay below 100, got (5, 50, 25)",
            "help: shares=(5, 25, 50); 100 is added by itself",
        ),
        (
            replace("pipeline.py", LADDER, "shares=(5, 50, 120)"),
            "line {rollout=}: rollout shares must rise and stay below 100, got (5, 50, 120)",
            "help: shares=(5, 50); 100 is added by itself",
        ),
        (
            replace("pipeline.py", LADDER, 'shares="5"'),
            "line {rollout=}: rollout shares are per cents",
            "shares=(5, 25, 50)",
        ),
        (budgets('train="1h"'), "line {budgets=}: Budgets(train=…): a number is needed, got '1h'", "without quotes"),
        (replace("pipeline.py", "model = M", "exit(3)\nmodel = M"), "line {exit(3)}: called exit(3)", "only describes"),
        (replace("pipeline.py", '"acceptance/"', '"aceptance/"'), "no acceptance tests in aceptance/", "acceptance/"),
        (
            lambda project: (project / "features.py").unlink(),
            "line {from features}: no module is named 'features'",
            "features.py",
        ),
    ],
)
def test_a_mistake_in_pipeline_is_answered_with_its_line_before_anything_is_started(
    scaffold: Path, tmp_path: Path, fresh: Cli, change: Change, message: str, help: str
) -> None:
    project = tmp_path / "project"
    shutil.copytree(scaffold, project)
    change(project)

    ended = fresh("deliver", cwd=project)

    assert ended.returncode == 2
    told = one_paragraph(ended)
    assert with_lines(message, project / "pipeline.py") in told
    assert help in told
    assert not (fresh.workspace / "services").exists()


def _rewrite(project: Path, change: Callable[[bytes], bytes]) -> None:
    path = project / "data" / "measurements.csv"
    path.write_bytes(change(path.read_bytes()))


# -- data, code, checks: the delivery ends, the champion serves on -----------------------------------------------------


def test_the_generated_project_goes_to_production(delivered: Delivered) -> None:
    assert delivered.told["ending"] == "promoted"


@pytest.mark.parametrize(
    ("change", "exit_code", "message"),
    [
        (
            lambda p: _rewrite(p, lambda text: text.replace(b"mean_texture", b"mean_radius", 1)),
            2,
            "data/measurements.csv has the column 'mean_radius' 2 times",
        ),
        (
            lambda p: _rewrite(p, lambda text: text.replace(b"mean_texture", b"mean_t\xe9xture", 1)),
            2,
            "data/measurements.csv is not text in UTF-8: byte",
        ),
        (rows(lambda r: r.rename(columns={"benign": "bening"})), 2, "the data has no column 'benign' (target)"),
        (training('rows["mean_radios"].mean()'), 2, "train needs a column 'mean_radios', and the data has none"),
        (training('float("much")'), 3, "could not convert string to float: 'much'"),
        (rows(lambda r: r.head(0)), 2, "there are no rows in data/*.csv"),
        (rows(lambda r: r[r.benign]), 2, "training rows have benign = True"),
        (
            training('raise RuntimeError("out of luck")'),
            3,
            "train raised RuntimeError: out of luck (pipeline.py, line {raise RuntimeError})",
        ),
        (training("return rows"), 2, "train returned a DataFrame without predict_proba or predict"),
        (both(training("while True: pass"), budgets("train=3")), 3, "train did not end within 3 s (budget)"),
        (training("import os; os._exit(4)"), 3, "train ended by itself (exit status 4)"),
        (both(training("bytearray(2**33)"), budgets("memory=4000")), 3, "train needed more than 4,000 MB (budget)"),
    ],
)
def test_what_cannot_be_delivered_is_told_and_the_champion_serves_on(
    delivered: Delivered, tmp_path: Path, change: Change, exit_code: int, message: str
) -> None:
    champion = delivered.modelcd.champion()

    project = delivered.copy(tmp_path / "project", both(plain, change))
    message = with_lines(message, project / "pipeline.py")

    ended = delivered.modelcd("deliver", "--json", cwd=project)

    assert ended.returncode == exit_code, ended.stdout + ended.stderr
    assert message in one_paragraph(ended)
    assert message in json.loads(ended.stdout)["error"]["message"]
    nothing_is_lost(delivered, champion, "failed")


def nothing_is_lost(delivered: Delivered, champion: int, ending: str) -> None:
    """Assert that the delivery has its ending, the journal is whole and the champion answers."""
    delivery = delivered.modelcd.newest_delivery()
    assert (delivery["ending"], bool(delivery["ended"])) == (ending, True)
    assert delivered.modelcd.control.verify() == []
    row = json.loads(pd.read_csv(delivered.generated / DATA).drop(columns=["benign"]).iloc[0].to_json())
    assert delivered.modelcd.control.predict("tumour", [row])["version"] == str(champion)


def test_data_that_change_while_they_are_read_are_not_learned_from(delivered: Delivered, tmp_path: Path) -> None:
    champion = delivered.modelcd.champion()
    slow = """import pandas

read_csv = pandas.read_csv


def read_and_be_overtaken(path, **how):
    rows = read_csv(path, **how)
    with open(path, "a") as file:
        file.write(open(path).readlines()[-1])
    return rows


pandas.read_csv = read_and_be_overtaken
model = Model("""
    project = delivered.copy(tmp_path / "project", both(plain, replace("pipeline.py", "model = Model(", slow)))

    ended = delivered.modelcd("deliver", cwd=project)

    assert ended.returncode == 3
    assert "the data changed while it was read" in one_paragraph(ended)
    nothing_is_lost(delivered, champion, "failed")


FAILING = "def test_that_two_is_three():\n    assert 2 == 3\n"


def failing(project: Path) -> None:
    (project / "tests").mkdir()
    (project / "tests" / "test_features.py").write_text(FAILING, encoding="utf-8")


def unacceptable(project: Path) -> None:
    (project / "acceptance" / "test_endpoint.py").write_text(FAILING, encoding="utf-8")


ANOTHER = replace("pipeline.py", "max_iter=1000", "max_iter=1001")
"""A change that trains again and is as good."""


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            rows(lambda r: r.assign(mean_radius=r.mean_radius.where(r.index > 5))),
            "expectations: 2 of 3 expectations; expect_column_values_to_not_be_null(mean_radius):"
            " mean_radius: 6 of 569 unexpected",
        ),
        (
            both(
                rows(lambda r: r.assign(mean_radius=r.mean_radius.where(r.index > 1, -7.5))),
                replace(
                    "pipeline.py",
                    "return [",
                    'return [expect.ExpectColumnValuesToBeBetween(column="mean_radius", min_value=0), ',
                ),
            ),
            "mean_radius: 2 of 569 unexpected, such as -7.5",
        ),
        (both(plain, ANOTHER, failing), "tests: 1 failed, 0 passed: tests/test_features.py::test_that_two_is_three"),
        (both(plain, ANOTHER, unacceptable), "acceptance tests: 1 failed, 0 passed: acceptance/test_endpoint.py"),
    ],
    ids=["missing values", "values out of range", "tests", "acceptance"],
)
def test_a_check_that_says_no_stops_the_delivery_with_its_numbers(
    delivered: Delivered, tmp_path: Path, change: Change, why: str
) -> None:
    champion = delivered.modelcd.champion()

    ended = delivered.modelcd("deliver", "--json", cwd=delivered.copy(tmp_path / "project", change))

    assert ended.returncode == 1, ended.stdout + ended.stderr
    told = json.loads(ended.stdout)
    assert told["ending"] == "stopped"
    assert why in told["why"]
    assert (told["version"] is None) == why.startswith(("expectations", "mean_radius", "tests")), "trained too early"
    nothing_is_lost(delivered, champion, "stopped")


def test_a_version_that_was_not_accepted_in_staging_is_not_let_into_production(
    delivered: Delivered, tmp_path: Path
) -> None:
    champion = delivered.modelcd.champion()
    changed = both(plain, replace("pipeline.py", "max_iter=1000", "max_iter=1003"), unacceptable)
    stopped = delivered.modelcd("deliver", "--json", cwd=delivered.copy(tmp_path / "project", changed))
    version = json.loads(stopped.stdout)["version"]

    ended = delivered.modelcd("promote", "tumour", str(version))

    assert (stopped.returncode, ended.returncode) == (1, 1), stopped.stderr + ended.stderr
    told = one_paragraph(ended)
    assert f"version {version} of tumour was not accepted in staging" in told
    assert "acceptance tests: 1 failed" in told
    assert delivered.modelcd.champion() == champion


# -- machine -----------------------------------------------------------------------------------------------------------


def test_a_taken_port_is_named_before_anything_is_started(fresh: Cli, scaffold: Path) -> None:
    assert fresh("status").returncode == 0, "a workspace and its ports are there now"
    port = json.loads((fresh.workspace / "workspace.json").read_text())["ports"]["prefect"]
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        up, deliver = fresh("up"), fresh("deliver", cwd=scaffold)

    for ended in (up, deliver):
        assert ended.returncode == 2
        assert f"port {port}, which prefect of this workspace uses, is taken by" in one_paragraph(ended)
        assert f"modelcd up --port prefect={port + 100}" in ended.stderr
    assert fresh("down").stdout == "nothing was running\n"


FULL = (
    "import os, resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\nos.execv(sys.argv[1], sys.argv[1:])"
)
"""Runs a command that cannot write a single byte to any file: the disk as it is when it is full."""


def test_a_full_disk_stops_a_release_before_it_begins(delivered: Delivered) -> None:
    before = delivered.modelcd.told("history", "tumour", "--json")
    release = ("promote", "tumour", "1", "--to", "staging", "--again", "the disk is full", "--json")

    ended = delivered.modelcd(*release, wrapper=("-c", FULL))

    assert ended.returncode == 3
    assert "the disk is full" in one_paragraph(ended)
    assert json.loads(ended.stdout)["error"]["exit"] == 3
    assert delivered.modelcd.told("history", "tumour", "--json") == before
    assert delivered.modelcd("verify").returncode == 0


def test_a_gate_that_says_no_stops_the_delivery_also_without_git(delivered: Delivered, tmp_path: Path) -> None:
    champion = delivered.modelcd.champion()
    blind = Cli(delivered.modelcd.workspace, {"PATH": str(tmp_path)})
    strict = replace("pipeline.py", "at_least(0.9)", "at_least(1.0)")
    another = replace("pipeline.py", "max_iter=1000", "max_iter=1002")

    ended = blind("deliver", cwd=delivered.copy(tmp_path / "project", both(plain, another, strict)))

    assert ended.returncode == 1, ended.stderr
    assert "not at least 1" in " ".join(ended.stderr.split())
    newest = blind.told("versions", "tumour", "--json")[0]
    refused = blind("promote", "tumour", str(newest["version"]))
    assert (refused.returncode, "did not pass its gates" in refused.stderr) == (1, True), refused.stderr
    assert (newest["commit"], newest["worktree"]) == ("", "git is not installed")
    compared = blind.told("diff", "tumour", "1", str(newest["version"]), "--json")
    assert (compared["code"]["verdict"], compared["commit"]["verdict"]) == ("differs", "unknown")
    assert "git is there\n      install git" in blind("check").stdout
    nothing_is_lost(delivered, champion, "stopped")
