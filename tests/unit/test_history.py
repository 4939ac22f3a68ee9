"""What is told of the past: which names there are, and what each release was."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from lived import AT_ONCE, GOOD, STREAM, Life

from modelcd.adapters.journal import SqlJournal
from modelcd.cli.app import run
from modelcd.cli.deliver import outcome
from modelcd.control import Control, connect
from modelcd.domain.delivery import stream_of
from modelcd.domain.records import Entry
from modelcd.domain.release import Ask
from modelcd.domain.story import news
from modelcd.errors import UnknownName
from modelcd.platform.downtime import note_down, note_up
from modelcd.steps.release import ask, told_of
from modelcd.workspace import open_workspace

AT = "2026-01-01T00:00:00+00:00"
BUILT = {"version": 1, "at": AT}


def deliveries(workspace: Path, model: str, *records: tuple[str, dict[str, Any]]) -> None:
    """Record one delivery of *model*."""
    opened = ("opened", {"reason": "", "trigger": "person", "project": "here"})
    entries = [Entry(kind, AT, "anna", f"{model}1", body) for kind, body in (opened, *records)]
    SqlJournal(open_workspace(workspace).journal).append(stream_of(model), 0, entries)


@pytest.fixture
def control(tmp_path: Path) -> Control:
    """Two names that were delivered: `churn` got as far as a version, `chrun` failed before."""
    deliveries(tmp_path, "churn", ("built", BUILT), ("closed", {"ending": "stopped", "why": "gates: too low"}))
    deliveries(tmp_path, "chrun", ("closed", {"ending": "stopped", "why": "expectations: no such column"}))
    return connect(tmp_path)


def test_a_name_that_never_got_a_version_is_no_model(control: Control) -> None:
    with pytest.raises(UnknownName) as unknown:
        control.status("churm")

    assert unknown.value.help == "did you mean 'churn'?"
    assert control.status("churn") == []


def test_whoever_asks_for_such_a_name_is_led_to_its_failed_delivery(control: Control) -> None:
    with pytest.raises(UnknownName) as unknown:
        control.versions("chrun")

    assert unknown.value.help.endswith("why: modelcd history chrun")
    (line,) = control.history("chrun")
    assert (line["ending"], line["why"]) == ("stopped", "expectations: no such column")
    assert control.explain("chrun1")["why"] == "expectations: no such column"


def test_a_history_of_all_models_names_them(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    assert {line["model"] for line in control.history()} == {"churn", "chrun"}
    assert [line["model"] for line in control.history("chrun")] == ["chrun"]
    with pytest.raises(UnknownName):
        control.history(environment="nowhere")
    lines = output(control, capsys, "history").splitlines()
    assert lines[0].split() == ["WHEN", "MODEL", "ID", "ENVIRONMENT", "VERSION", "ENDING", "BY", "WHY"]
    assert "churn1" in "".join(lines)


# -- rollbacks ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Control:
    """Version 2 was promoted, taken out by hand, tried once more and ended by hand, and is being taken out again."""
    folder = tmp_path_factory.mktemp("lived")
    life = Life(folder / "life", {1: GOOD, 2: GOOD})
    life.live(life.open(2, AT_ONCE))
    life.live(life.open(1, AT_ONCE, takes_out=2))
    watch = life.open(2, again="try")
    life.live(watch, rate=60, seconds=20)
    ask(life.env, "m", Ask.ROLL_BACK, actor="bob", reason="complaints")
    life.live(watch)
    life.live(life.open(2, AT_ONCE, again="try"))
    life.open(1, AT_ONCE, takes_out=2)
    SqlJournal(open_workspace(folder / "workspace").journal).append(STREAM, 0, [r.entry for r in life.records])
    return connect(folder / "workspace")


def test_a_rollback_by_hand_is_told_as_one_and_not_as_a_promotion(lived: Control) -> None:
    _, _, _, back, promoted, _ = lived.history("m")

    assert (promoted["kind"], promoted["ending"], promoted["takes_out"]) == ("release", "promoted", None)
    assert (back["kind"], back["ending"], back["takes_out"], back["version"]) == ("rollback", "rolled back", 2, 1)
    assert (back["headline"], back["why"]) == ("rolled back to version 1", "anna rolled version 2 back: test")
    assert lived.explain(back["release"])["timeline"][-1]["what"] == "rolled back to version 1"


def test_a_canary_that_a_person_ends_says_who_and_why(lived: Control) -> None:
    canary = lived.history("m")[2]

    assert (canary["kind"], canary["ending"], canary["headline"]) == ("release", "rolled back", "rolled back")
    assert canary["why"] == "bob rolled it back: complaints"


def test_a_rollback_under_way_is_told_as_one(lived: Control, capsys: pytest.CaptureFixture[str]) -> None:
    said = output(lived, capsys, "status", "m")

    assert "rollback to version 1 under way" in said
    assert f"production: POST {lived.url('m')}/predict" in said
    assert lived.history("m")[0]["ending"] == ""


def test_people_read_what_each_release_was(lived: Control, capsys: pytest.CaptureFixture[str]) -> None:
    lines = output(lived, capsys, "history", "m").splitlines()
    endings = ["rollback to version 1 under way", "promoted", "rolled back", "rolled back to version 1", "promoted"]
    told = output(lived, capsys, "explain", lived.history("m")[3]["release"])

    assert [ending in line for line, ending in zip(lines[1:], endings, strict=False)] == [True] * 5
    assert told.startswith("ROLLED BACK TO VERSION 1  m from version 2 in production, after ")
    assert "  anna rolled version 2 back: test" in told
    assert told.endswith('  Try version 2 again: modelcd promote m 2 --again "why"\n')


def test_people_are_told_of_a_rollback_as_one(lived: Control) -> None:
    subjects = [told[0] for record in lived._journal.read(STREAM) if (told := news(record)) is not None]
    back = lived.history("m")[3]["release"]

    assert f"{STREAM}: release {back} rolled back to version 1" in subjects


def test_what_a_rollback_came_to_is_told_as_a_rollback(lived: Control) -> None:
    back = lived._history.endpoints("m")[0].releases[2]

    told = told_of(back)

    assert (told["ending"], told["version"], told["takes_out"]) == ("rolled back", 1, 2)
    assert outcome(told).startswith("ROLLED BACK  version 2 of m: version 1 serves   anna rolled version 2 back: test")


# -- what was taken down -----------------------------------------------------------------------------------------------


def test_status_and_history_say_who_took_everything_down(
    lived: Control, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELCD_ACTOR", "carla")
    before = datetime.now(UTC)
    note_down(lived.workspace, "the office moves")
    now = datetime.now(UTC)

    down = lived.status("m")[0]["down"]
    assert (down["by"], down["reason"]) == ("carla", "the office moves")
    assert [lived.serving("m", at)[0]["down"] for at in (before, now)] == [None, down]
    assert ", by carla: the office moves\n" in output(lived, capsys, "status")
    assert ", by carla: the office moves; nothing was served\n" in output(
        lived, capsys, "history", "m", "--at", now.isoformat()
    )
    assert "taken down" in output(lived, capsys, "history").splitlines()[1]

    note_up(lived.workspace)

    assert lived.status("m")[0]["down"] is None
    assert "down since" not in output(lived, capsys, "status")
    assert "brought back" in output(lived, capsys, "history").splitlines()[1]


def output(control: Control, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a command prints."""
    with pytest.raises(SystemExit) as ended:
        run(["--workspace", str(control.workspace.path), *arguments])
    assert ended.value.code in (0, None)
    return capsys.readouterr().out
