"""Evaluates functions of guards that labels feed, in a child that stays, in lines of JSON on pipes of its own.

A judge asks often and about few predictions, so starting a process each time would cost more than the answer.  Each
pair is answered by a line of its own, so that whoever asks knows at which of them a function hung or ended the process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelcd.domain.policy import FROM_LABELS, Guard, GuardKind
from modelcd.errors import ChildError, ModelcdError, failure
from modelcd.project.loading import calling, load


def judge(project: Path, read: int, write: int) -> None:
    """Answer batches until the pipe *read* ends; the first line written says that the project was loaded."""
    with os.fdopen(read, encoding="utf-8") as requests, os.fdopen(write, "w", encoding="utf-8", buffering=1) as answers:
        try:
            guards = load(project).guards
        except ModelcdError as error:
            answers.write(json.dumps(failure(error)) + "\n")
            return
        judged = {g.name: g for g in guards if g.kind in FROM_LABELS}
        answers.write(json.dumps({"value": sorted(judged)}) + "\n")
        for line in requests:
            request = json.loads(line)
            for answer in _answers(project, judged, request["guard"], request["pairs"]):
                answers.write(json.dumps(answer) + "\n")


def _answers(project: Path, judged: dict[str, Guard], name: str, pairs: list[list[Any]]) -> Iterator[dict[str, Any]]:
    guard = judged.get(name)
    for score, label in pairs:
        if guard is None:
            yield failure(ChildError(f"the project has no guard of labels named {name!r}"))
        else:
            yield {"value": _judged(project, guard, score, label)}


def _judged(project: Path, guard: Guard, score: Any, label: Any) -> Any:
    """Return what the function of *guard* says of a pair, or why it says nothing: one pair is no other's trouble."""
    try:
        with calling(f"guard {guard.name!r}", project):
            assert guard.function is not None, "a guard of labels has one"
            return outcome(guard, guard.function(score, label))
    except ModelcdError as error:
        return {"unjudged": error.message, "help": error.help}


def outcome(guard: Guard, value: Any) -> bool | float:
    """Return what the function of *guard* returned, as a plain value; raises `ChildError` for the wrong kind."""
    plain = value.item() if hasattr(value, "item") else value
    if guard.kind is GuardKind.SUCCESS:
        if isinstance(plain, bool):
            return plain
        raise ChildError(f"guard {guard.name!r} returned {plain!r}", help="its function returns True or False")
    if isinstance(plain, bool) or not isinstance(plain, int | float) or not guard.low <= plain <= guard.high:
        raise ChildError(
            f"guard {guard.name!r} returned {plain!r}",
            help=f"its function returns a number from {guard.low:g} to {guard.high:g}; cut what lies beyond, or widen",
        )
    return float(plain)
