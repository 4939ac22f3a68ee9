"""How deliveries end, what is said of that, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stories
from test_schedule import Desk

from modelcd.adapters.journal import SqlJournal
from modelcd.cli.app import run
from modelcd.domain.delivery import Delivery, stream_of
from modelcd.errors import ChildError, UnknownName
from modelcd.explaining import next_steps
from modelcd.flows._effects import pages
from modelcd.history import History
from modelcd.workspace import open_workspace

NOT_LOOKED = {"verdict": "inconclusive", "reason": "all 2 were skipped", "evidence": {}}
BAD = {"verdict": "fail", "reason": "it is not", "evidence": {}}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    without = pages.set(False)
    yield Desk(tmp_path / "desk")
    pages.reset(without)


def learned_otherwise(arguments: Any) -> Any:
    stories.train(Path(arguments["out"]), "d2")
    return {"toolchain": {}, "seconds": 0.0, "source": {"snapshot": "sha256:code"}}


def explained(desk: Desk, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what `modelcd explain` prints of the newest delivery."""
    workspace = open_workspace(folder)
    records = desk.memory.journal.read(stream_of("m"))
    SqlJournal(workspace.journal).append(stream_of("m"), 0, [record.entry for record in records])
    monkeypatch.setenv("MODELCD_WORKSPACE", str(folder))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(["explain", records[-1].entry.release])
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("answers", "next_steps"),
    [
        ({"expect": BAD}, ["Bring data that meet them, or change expectations in pipeline.py, then: modelcd deliver"]),
        ({"tests": NOT_LOOKED}, ["Make the project's tests pass, then: modelcd deliver"]),
        ({"tests": BAD}, ["Make the project's tests pass, then: modelcd deliver"]),
        (
            {"gates": {"metrics": {"auc": 0.5}, "findings": [{"name": "auc", **BAD}]}},
            [
                "Train a better version, or change gates in pipeline.py, then: modelcd deliver",
                "Until a delivery of version 1 passes, this refuses it: modelcd promote m 1",
            ],
        ),
        (
            {"accept": BAD},
            [
                "Its log: modelcd logs m 1 --in staging",
                "Make it pass, or change acceptance in pipeline.py, then: modelcd deliver",
                "Until a delivery of version 1 passes, this refuses it: modelcd promote m 1",
            ],
        ),
    ],
)
def test_a_delivery_that_stopped_says_what_to_do_next(
    desk: Desk,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, Any],
    next_steps: list[str],
) -> None:
    told, _ = desk.deliver(None, answers=answers)

    said = explained(desk, tmp_path / "workspace", capsys, monkeypatch).splitlines()

    assert said[0].startswith("STOPPED  delivery ")
    assert said[len(said) - said[::-1].index("") :] == [
        f"  Each check in numbers: modelcd explain {told['delivery']} --json",
        *(f"  {step}" for step in next_steps),
    ]


def test_a_version_that_takes_other_requests_than_the_champion_is_told_how_to_take_them() -> None:
    why = "gates: signature: requests that suit the champion would fail: age; auc: 0.7"
    stopped = Delivery("5f", "anna", "", "person", "/p", "", ending="stopped", why=why)

    told = [step["what"] for step in next_steps("m", stopped)]

    assert "Train on what users send the champion, or give the model another name, then" in told


def test_the_log_of_a_version_that_was_staged_before_is_named_too(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        desk.deliver(None, answers={"accept": BAD})

    said = explained(desk, tmp_path / "workspace", capsys, monkeypatch)

    assert "version 1 is staged already" in said
    assert "Its log: modelcd logs m 1 --in staging" in said


def test_a_delivery_that_failed_says_again_what_its_error_said_to_do(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Any) -> Any:
        raise ChildError("train raised ZeroDivisionError", help="learning.py, line 3: 1 / 0\nlook there")

    with pytest.raises(ChildError):
        desk.deliver(None, commands={"train": fails})

    said = explained(desk, tmp_path / "workspace", capsys, monkeypatch)

    assert said.startswith("FAILED  delivery ")
    assert said.endswith("\n\n  help: learning.py, line 3: 1 / 0\n        look there\n  Try again: modelcd deliver\n")


def test_a_policy_that_changed_alone_is_said_to_hold_from_the_next_release_on(desk: Desk) -> None:
    desk.deliver(None, says={"policy_digest": "sha256:first"})
    same, _ = desk.deliver(None, says={"policy_digest": "sha256:first"})
    changed, _ = desk.deliver(None, says={"policy_digest": "sha256:second"})

    built = "version 1 in production was built from this very code, data and parameters"
    assert (same["ending"], same["why"]) == ("nothing new", built)
    assert (changed["ending"], changed["why"]) == (
        "nothing new",
        f"{built}; what changed of its policy (gates, guards, acceptance) holds from the next release on",
    )


def test_a_version_that_is_staged_is_said_to_start_before_it_answers(desk: Desk) -> None:
    _, said = desk.deliver(None, of="staging")

    assert said[:2] == [None, "starting version 1"]


def test_a_model_in_place_of_a_release_is_answered_with_where_its_releases_are(desk: Desk) -> None:
    desk.deliver(None)

    with pytest.raises(UnknownName) as unknown:
        History(desk.memory.journal).find("m")

    assert unknown.value.help == "m is a model; its releases: modelcd history m"


def test_a_version_is_staged_for_its_delivery_and_again_only_if_it_was_there_before(desk: Desk) -> None:
    one, other = {"training_code": "one"}, {"training_code": "other"}
    stopped = {"accept": BAD}

    first, _ = desk.deliver(None, says=one, answers=stopped)
    desk.deliver(None, says=other, answers=stopped, commands={"train": learned_otherwise})
    again, _ = desk.deliver(None, says=one, answers=stopped)

    records = desk.memory.journal.read("staging/m")
    reasons = [record.entry.body["reason"] for record in records if record.entry.kind == "opened"]
    assert (again["ending"], again["version"], len(reasons)) == ("stopped", 1, 3)
    assert reasons[0] == f"delivery {first['delivery']}"
    assert reasons[2] == f"delivery {again['delivery']}, to be accepted again"
