"""What everything that runs a project's code must do: subclass, give the fixtures, add nothing.

Fixtures: `project` (a `Project` named "echo"), `mistaken` (one whose `pipeline.py` raises `RuntimeError("no luck")`);
`successes` (a `Successes`) and `snapshot` (a project whose guard `right` says `score >= 0.5 == label`, raises
`KeyError("no such label")` for the score "raise" and returns None for None; whose guard of numbers `worth`, from 0 to
10, says `score * label`).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelcd.errors import ChildError, ModelcdError
from modelcd.ports import Project, Successes, Unjudged

BUDGET = 60.0


class ProjectContract:
    """What every adapter of the `Project` port must do."""

    def test_a_command_hands_back_its_value(self, project: Project) -> None:
        assert project.call("describe", {}, budget=BUDGET).value["name"] == "echo"

    def test_what_is_handed_back_is_plain(self, project: Project) -> None:
        value = dict(project.call("describe", {}, budget=BUDGET).value)

        assert json.loads(json.dumps(value)) == value

    def test_asking_twice_gives_the_same(self, project: Project) -> None:
        first, second = (project.call("describe", {}, budget=BUDGET).value for _ in range(2))

        assert first == second

    def test_a_command_that_nobody_has_is_refused(self, project: Project) -> None:
        with pytest.raises(ChildError, match="levitate"):
            project.call("levitate", {}, budget=BUDGET)

    def test_what_the_code_raised_is_in_the_message(self, mistaken: Project) -> None:
        with pytest.raises(ModelcdError, match="no luck"):
            mistaken.call("describe", {}, budget=BUDGET)


class SuccessesContract:
    """What every adapter of the `Successes` port must do."""

    def test_each_pair_is_judged_in_order(self, successes: Successes, snapshot: Path) -> None:
        assert successes.judge(snapshot, "right", [(0.9, True), (0.9, False), (0.1, False)]) == [True, False, True]

    def test_a_guard_of_numbers_answers_numbers(self, successes: Successes, snapshot: Path) -> None:
        assert successes.judge(snapshot, "worth", [(0.5, 3), (2.0, 2)]) == [1.5, 4.0]

    def test_nothing_asked_is_nothing_answered(self, successes: Successes, snapshot: Path) -> None:
        assert successes.judge(snapshot, "right", []) == []

    def test_a_pair_at_which_the_function_raised_is_unjudged_and_the_others_are_judged(
        self, successes: Successes, snapshot: Path
    ) -> None:
        before, unjudged, after = successes.judge(snapshot, "right", [(0.9, True), ("raise", True), (0.1, True)])

        assert (before, after) == (True, False)
        assert isinstance(unjudged, Unjudged)
        assert "no such label" in unjudged.why

    def test_an_answer_that_is_no_truth_value_is_unjudged(self, successes: Successes, snapshot: Path) -> None:
        (unjudged,) = successes.judge(snapshot, "right", [(None, True)])

        assert isinstance(unjudged, Unjudged)
        assert "returned None" in unjudged.why

    def test_a_guard_that_nobody_has_is_refused(self, successes: Successes, snapshot: Path) -> None:
        with pytest.raises(ChildError, match="wrong"):
            successes.judge(snapshot, "wrong", [(0.9, True)])
