"""The door for labels: each by itself, in Python, over HTTP and on the command line, over memory adapters."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_engine import AT_ONCE, LADDER, World, good

from modelcd import control as verbs
from modelcd import guard
from modelcd.api.app import application
from modelcd.cli.app import run
from modelcd.control import Control
from modelcd.domain.policy import Canary
from modelcd.errors import UnknownName, UsageError
from modelcd.labelling import BATCH, TOLD, Labelling
from modelcd.workspace import open_workspace

STREAM = "production/m"
NOTHING = {"joined": 0, "waiting": 0, "again": 0, "corrected": 0, "withdrawn": 0, "refused": 0, "problems": []}


class Here(Control):
    """The verbs over a place in this process."""

    def _known(self, model: str, environment: str, *, tried: bool = False) -> str:
        place = environment or "production"
        if place not in self._platform._bound:
            raise UnknownName("environment", place, self._platform._bound)
        if model != "m":
            raise UnknownName("model", model, ["m"])
        return place


def right(score: Any, label: Any) -> bool:
    return bool((score >= 0.5) == {"yes": True, "no": False, True: True, False: False}[label])


def place(tmp_path: Path, policy: Canary = LADDER) -> tuple[World, Here]:
    """A place whose version 2 is under way under *policy*, with a request p1 that was answered."""
    world = World(tmp_path, {1: good, 2: good})
    world.memory.environment.successes.functions["success"] = right  # type: ignore[attr-defined]
    world.live(world.open(1, AT_ONCE), requests=0)
    world.open(2, policy)
    here = Here(open_workspace(tmp_path / "workspace"))
    here._platform._bound["production"] = (here._platform.kinds[-1], world.env)
    for _ in range(3):
        world.memory.send("m", {"x": 1, "x2": 1.0})
    return world, here


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return place(tmp_path)[1]


def told(**counts: Any) -> dict[str, Any]:
    return {**NOTHING, **counts}


# -- each by itself ----------------------------------------------------------------------------------------------------


def test_good_labels_are_kept_and_each_bad_one_is_told_with_its_place_and_reason(here: Here) -> None:
    batch = [("p1", True), ("p2", float("nan")), {"id": "p3", "label": False}, ("", True), "what", ("q", {"a": [1]})]

    answer = here.feedback("m", batch)

    assert {**answer, "problems": []} == told(joined=2, refused=4)
    assert [(problem["index"], problem["id"]) for problem in answer["problems"]] == [
        (1, "p2"),
        (3, '""'),
        (4, ""),
        (5, "q"),
    ]
    assert all(problem["why"] and problem["help"] for problem in answer["problems"])
    assert "nothing says that labels are mappings" in answer["problems"][-1]["why"]


def test_the_same_batch_again_counts_once_and_is_refused_the_same(here: Here) -> None:
    batch = [("p1", True), ("p2", None), ("p3", False)]
    first = here.feedback("m", batch)

    again = here.feedback("m", batch)

    assert (first["joined"], again["joined"], again["again"]) == (2, 0, 2)
    assert again["problems"] == first["problems"]


def test_an_answer_names_the_first_refused_and_counts_all(here: Here) -> None:
    answer = here.feedback("m", [("", 1)] * (TOLD + 30) + [("p1", True)])

    assert (answer["refused"], len(answer["problems"]), answer["joined"]) == (TOLD + 30, TOLD, 1)


def test_places_are_right_behind_the_first_batch_that_is_kept_at_once(here: Here) -> None:
    answer = here.feedback("m", [*((f"w{n}", True) for n in range(BATCH)), ("p1", True), ("", 0), ("w0", False)])

    assert (answer["waiting"], answer["joined"]) == (BATCH, 1)
    assert [problem["index"] for problem in answer["problems"]] == [BATCH + 1, BATCH + 2]


def test_what_the_guard_s_function_cannot_judge_is_refused_with_what_it_raised(here: Here) -> None:
    answer = here.feedback("m", [("p1", "yes"), ("p2", "perhaps"), ("later", "perhaps")])

    assert (answer["joined"], answer["waiting"], answer["refused"]) == (1, 1, 1)
    assert "raised KeyError: 'perhaps'" in answer["problems"][0]["why"]


def test_a_declared_label_is_checked_before_its_prediction_is_known(tmp_path: Path) -> None:
    declared = guard.success(right, label=("yes", "no"))
    _, here = place(tmp_path, replace(LADDER, guards=(declared,)))

    answer = here.feedback("m", [("later", "yes"), ("p1", "no"), ("p2", True), ("too", "perhaps")])

    assert (answer["joined"], answer["waiting"]) == (1, 1)
    assert [problem["index"] for problem in answer["problems"]] == [2, 3]
    assert 'knows the classes "yes", "no"' in answer["problems"][0]["why"]


def test_a_function_that_cannot_be_asked_keeps_no_label_out(tmp_path: Path) -> None:
    world, here = place(tmp_path)
    world.memory.environment.successes.functions.clear()  # type: ignore[attr-defined]

    assert here.feedback("m", [("p1", True)])["joined"] == 1


def test_values_of_numpy_are_labels(here: Here) -> None:
    numpy = pytest.importorskip("numpy")

    assert here.feedback("m", [("p1", numpy.bool_(True)), ("p2", numpy.int64(1))])["joined"] == 2


# -- changing ----------------------------------------------------------------------------------------------------------


def test_a_label_is_corrected_and_withdrawn_by_who_says_why(here: Here) -> None:
    here.feedback("m", [("p1", True), ("p2", True), ("p3", True)])

    assert here.feedback("m", [("p1", False)])["refused"] == 1
    assert here.feedback("m", [("p1", False)], correct=True, reason="late after all") == told(corrected=1)
    assert here.feedback("m", withdraw=["p2", "p3"], reason="of another flight") == told(withdrawn=2)

    entries = here._platform.environment("production").predictions.labelled(STREAM)
    assert [(entry.prediction, entry.value, entry.why) for entry in entries[3:]] == [
        ("p1", False, "late after all"),
        ("p2", None, "of another flight"),
        ("p3", None, "of another flight"),
    ]
    assert all(entry.by for entry in entries[3:])


def test_labels_and_ids_to_withdraw_may_come_together(here: Here) -> None:
    here.feedback("m", [("p1", True), ("p2", True)])

    answer = here.feedback("m", [("p1", False), ("p3", True)], withdraw=["p2", "no"], correct=True, reason="mixed up")

    assert {**answer, "problems": []} == told(corrected=1, joined=1, withdrawn=1, refused=1)
    assert answer["problems"][0]["index"] == 3


@pytest.mark.parametrize("changes", [{"correct": True}, {"withdraw": ["p1"]}, {"withdraw": ["p1"], "reason": " "}])
def test_who_changes_labels_says_why(here: Here, changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="why are these labels changed"):
        here.feedback("m", [("p1", True)], **changes)


def test_no_labels_at_all_are_a_mistake(here: Here) -> None:
    with pytest.raises(UsageError, match="no labels"):
        here.feedback("m", [])


def test_the_guards_of_the_newest_release_check_and_its_records_are_read_once(tmp_path: Path) -> None:
    world, _ = place(tmp_path)
    door, read = Labelling(world.env), []
    journal = world.memory.journal
    whole = journal.read

    def counting(stream: str, after: int = 0) -> list[Any]:
        read.append(len(found := whole(stream, after)))
        return found

    object.__setattr__(world.env, "journal", type("Counting", (), {"read": staticmethod(counting)})())
    door.take("m", [("p1", True)], by="anna")
    door.take("m", [("p2", True)], by="anna")

    assert read[0] > 0
    assert read[1:] == [0]


# -- who told them -----------------------------------------------------------------------------------------------------


def tellers(here: Here) -> list[str]:
    return [entry.by for entry in here._platform.environment("production").predictions.labelled(STREAM)]


def test_labels_are_kept_with_who_told_them(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELCD_ACTOR", "anna")

    here.feedback("m", [("p1", True)])
    here.feedback("m", [("p1", False)], correct=True, reason="late", by="tom")
    post(here, labels=[{"id": "p2", "label": True}], by="the billing job")
    command(here, monkeypatch, capsys, "m", "p3=true")

    assert tellers(here) == ["anna", "tom", "the billing job", "anna"]


# -- over HTTP, and on the command line --------------------------------------------------------------------------------


def post(control: Control, model: str = "m", **body: Any) -> tuple[int, Any]:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(application(control))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.post(f"/v1/models/{model}/feedback", json=body)

    answer = asyncio.run(go())
    return answer.status_code, answer.json()


def test_over_http_the_answer_is_the_same_and_an_error_only_when_nothing_was_kept(here: Here) -> None:
    bad = {"id": "p2", "label": None}

    assert post(here, labels=[{"id": "p1", "label": True}]) == (200, told(joined=1))
    status, some = post(here, labels=[{"id": "p3", "label": True}, bad, 7, {"label": 1}])
    assert (status, some["joined"], some["refused"]) == (200, 1, 3)
    status, none = post(here, labels=[bad])
    assert (status, none["refused"], none["error"]) == (
        422,
        1,
        "the label was not kept: its label is null, which says nothing: leave the prediction out until"
        " its truth is known",
    )
    assert set(none) == {*NOTHING, "error", "help"}
    assert post(here, labels=[bad, bad])[1]["error"].startswith("none of 2 labels was kept; the first: its label")


def test_over_http_labels_are_corrected_and_withdrawn(here: Here) -> None:
    post(here, labels=[{"id": "p1", "label": True}, {"id": "p2", "label": True}])

    assert post(here, labels=[{"id": "p1", "label": False}], correct=True, reason="late")[1]["corrected"] == 1
    assert post(here, withdraw=["p2"], reason="of another")[1]["withdrawn"] == 1
    assert post(here, withdraw=["p2"])[0] == 422


def command(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str, typed: str = ""
) -> tuple[Any, Any, str]:
    """Run `modelcd feedback` over *here*: its exit code, what it printed, and what it said on standard error."""
    monkeypatch.setattr(verbs, "connect", lambda *_: here)
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    with pytest.raises(SystemExit) as ended:
        run(["feedback", *arguments])
    said = capsys.readouterr()
    return ended.value.code, json.loads(said.out) if said.out else None, said.err


def test_on_the_command_line_what_was_refused_is_told_and_the_exit_code_is_one(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ['{"id": "p1", "label": true}', "", "no json", '{"id": "p2", "label": NaN}', '{"id": "p3", "label": 0}']

    code, answer, said = command(here, monkeypatch, capsys, "m", typed="\n".join(lines))

    assert (code, answer["joined"], answer["refused"]) == (1, 2, 2)
    assert "error: 2 labels were refused; the other 2 were kept" in said
    assert 'line 3: (no id): it is no label: "no json"' in said
    assert "line 4: p2: its label is NaN: NaN and infinity are no truths" in said


def test_on_the_command_line_one_label_that_was_kept_beside_refused_ones_is_one(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, said = command(here, monkeypatch, capsys, "m", typed='{"id": "p1", "label": true}\nno json\n')

    assert "error: 1 label was refused; the other one was kept" in said


def test_on_the_command_line_labels_are_corrected_and_withdrawn(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(here, monkeypatch, capsys, "m", "p1=true", "p2=true", "p3=true")[:2] == (0, told(joined=3))
    code, answer, said = command(here, monkeypatch, capsys, "m", "p1=false")
    assert (code, answer["refused"]) == (1, 1)
    assert "it is labelled true, and now false" in said
    assert "--correct" in said
    assert command(here, monkeypatch, capsys, "m", "p1=false", "--correct", "--reason", "late")[1]["corrected"] == 1
    assert command(here, monkeypatch, capsys, "m", "p2", "--withdraw", "--reason", "mixed")[1]["withdrawn"] == 1
    typed = '{"id": "p3"}\n"p2"\n'
    assert command(here, monkeypatch, capsys, "m", "--withdraw", "--reason", "x", typed=typed)[1]["withdrawn"] == 1
    assert command(here, monkeypatch, capsys, "m", "p2", "--withdraw")[0] == 2
    assert command(here, monkeypatch, capsys, "m", "p2", "--withdraw", "--correct", "--reason", "x")[0] == 2


def test_a_model_or_an_environment_that_is_not_there_is_named(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(here, monkeypatch, capsys, "n", "p1=true")[0] == 2
    assert command(here, monkeypatch, capsys, "m", "p1=true", "--in", "prod")[0] == 2
    assert post(here, "n", labels=[{"id": "p1", "label": True}])[0] == 404
