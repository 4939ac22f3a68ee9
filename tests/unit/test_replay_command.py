"""`modelcd replay` where it needs nothing that runs: what people read, what scripts get, what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from lived import FAILING, GOOD, LADDER, STREAM, Life

from modelcd.adapters.journal import SqlJournal
from modelcd.cli.app import run
from modelcd.control import connect
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.workspace import open_workspace

ERRORS_ONLY = """from modelcd import Canary, guard

rollout = Canary(shares=(10, 50), guards=[guard.errors(margin=0.3)], bake=20.0)
"""


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A workspace with a release that was promoted and one that was rolled back."""
    folder = tmp_path_factory.mktemp("replayed")
    life = Life(folder / "life", {1: GOOD, 2: GOOD, 3: FAILING})
    promoted = life.live(life.open(2, LADDER), rate=40)
    rolled_back = life.live(life.open(3, LADDER), rate=40)
    workspace = open_workspace(folder / "workspace")
    SqlJournal(workspace.journal).append(STREAM, 0, [record.entry for record in life.records])
    return {"workspace": workspace.path, "promoted": promoted.id, "rolled back": rolled_back.id}


@pytest.fixture(autouse=True)
def here(releases: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELCD_WORKSPACE", str(releases["workspace"]))
    monkeypatch.chdir(tmp_path)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as ended:
        run(["replay", *arguments])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def test_a_release_is_told_beside_its_replay(releases: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, releases["promoted"])

    first, live, again, *rest = out.splitlines()
    assert code == 0
    assert first.startswith(f"RELEASE {releases['promoted']}  version 2 of m in production, by anna")
    assert live.startswith("  live      promoted after ")
    assert again.startswith("  replayed  with its own policy: promoted, as recorded: the same steps at the same looks")
    assert [line.split()[:3] for line in rest if line and line.split()[0].isdigit()] == [
        ["1", "5", "%"],
        ["2", "25", "%"],
        ["3", "50", "%"],
        ["4", "100", "%"],
    ]


def test_another_policy_is_told_with_what_it_rests_on(
    releases: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "other.py").write_text(ERRORS_ONLY)

    code, out, _ = said(capsys, releases["rolled back"], "--policy", "other.py")

    assert code == 0
    assert "  live      rolled back at 5 % after " in out
    assert "  replayed  with other.py: undecided on the recorded traffic at 50 % after " in out
    assert " instead of rolled back: " in out
    assert "The counts are what they were, served at 5 %." in out


def test_scripts_get_everything(releases: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(ERRORS_ONLY)

    code, out, _ = said(capsys, releases["rolled back"], "--policy", "other.py", "--json")

    told = json.loads(out)
    assert code == 0
    assert (told["live"]["ending"], told["replayed"]["ending"]) == ("rolled back", "")
    assert told["policy"]["shares"] == [10.0, 50.0]
    assert (told["own_policy"], told["policy_file"], told["served_at"]) == (False, "other.py", [5.0])
    assert [rung["verdict"] for rung in told["replayed"]["rungs"]] == ["pass", "pass"]


def test_the_beginning_of_an_id_is_enough_and_a_rollout_may_be_passed_as_it_is(releases: dict[str, Any]) -> None:
    other = Canary(shares=(5,), guards=(Guard("errors", GuardKind.ERRORS, margin=0.01),))

    told = connect().replay(releases["promoted"][:-1], other)

    assert (told["release"], told["policy_file"]) == (releases["promoted"], "")
    assert told["replayed"]["ending"] == "promoted"


def test_a_replay_writes_nothing_into_the_journal(releases: dict[str, Any]) -> None:
    journal = SqlJournal(open_workspace(releases["workspace"]).journal)
    before = journal.read(STREAM)

    connect().replay(releases["promoted"])

    assert journal.read(STREAM) == before
    assert list(journal.heads()) == [STREAM]


def test_an_unknown_release_is_answered_as_explain_answers_it(
    releases: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = said(capsys, "nothing")
    with pytest.raises(SystemExit):
        run(["explain", "nothing"])

    assert code == 2
    assert err == capsys.readouterr().err
    assert "no release is named 'nothing'" in err


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        ("rollout = 5\n", "other.py has no rollout", "rollout = Canary("),
        (
            "from modelcd import Canary\nrollout = Canary(shares=(50, 5))\n",
            "other.py, line 2: rollout shares must rise",
            "",
        ),
        ("rollout = Canary()\n", "other.py, line 1: nothing is named 'Canary'", ""),
        ("rollout = 5\0\n", "other.py: source code string cannot contain null bytes", ""),
        ("raise SystemExit(3)\n", "other.py, line 1: called exit(3)", ""),
        (
            "from modelcd import Canary, guard\n"
            "rollout = Canary(guards=[guard.success(lambda score, label: True, name='liked')])\n",
            "the guard 'liked' cannot be replayed: the labels of this release were judged by the guard 'success'",
            "judge labels by the very guards of that release (success)",
        ),
    ],
)
def test_a_policy_that_cannot_be_used_is_answered_in_one_paragraph(
    releases: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, message: str, help: str
) -> None:
    (tmp_path / "other.py").write_text(text)

    code, out, err = said(capsys, releases["promoted"], "--policy", "other.py")

    assert (code, out) == (2, "")
    assert message in err
    assert help in err
    assert "Traceback" not in err


def test_a_file_that_is_not_there_is_said_to_be_missing(
    releases: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = said(capsys, releases["promoted"], "--policy", "othr.py")

    assert code == 2
    assert "there is no file" in err


def test_the_policy_of_a_project_is_read_in_a_child(releases: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "numbers_of_ours.py").write_text("SHARES = (20, 40)\n")
    (tmp_path / "pipeline.py").write_text(
        "import os\nfrom numbers_of_ours import SHARES\nfrom modelcd import Canary, Dataset, Model, guard\n"
        "os.environ['READ_BY'] = str(os.getpid())\n"
        "model = Model('m', artifact='m.joblib', data=Dataset('*.csv', target='y'),\n"
        "              rollout=Canary(shares=SHARES, guards=[guard.errors()]))\n"
    )

    by_folder, by_file = (connect().replay(releases["promoted"], path) for path in (tmp_path, tmp_path / "pipeline.py"))

    assert by_folder["policy"]["shares"] == by_file["policy"]["shares"] == [20.0, 40.0]
    assert "READ_BY" not in os.environ
