"""Evaluates a guard's success function in a child that stays: one JSON line in, one JSON line out, on its own pipes.

A judge asks often and about few predictions, so starting a process each time would cost more than the answer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelcd.domain.policy import GuardKind
from modelcd.errors import ChildError, ModelcdError
from modelcd.project.child import failure
from modelcd.project.loading import calling, load


def judge(project: Path, read: int, write: int) -> None:
    """Answer batches until the pipe *read* ends; the first line written says that the project was loaded."""
    with os.fdopen(read, encoding="utf-8") as requests, os.fdopen(write, "w", encoding="utf-8", buffering=1) as answers:
        try:
            guards = load(project).rollout.guards
        except ModelcdError as error:
            answers.write(json.dumps(failure(error)) + "\n")
            return
        functions = {g.name: g.function for g in guards if g.kind is GuardKind.SUCCESS and g.function is not None}
        answers.write(json.dumps({"value": sorted(functions)}) + "\n")
        for line in requests:
            request = json.loads(line)
            answers.write(json.dumps(_answer(project, functions, request["guard"], request["pairs"])) + "\n")


def _answer(
    project: Path, functions: dict[str, Callable[[Any, Any], bool]], name: str, pairs: list[list[Any]]
) -> dict[str, Any]:
    try:
        if name not in functions:
            raise ChildError(f"the project has no success guard named {name!r}")
        with calling(f"guard {name!r}", project):
            return {"value": [_truth(name, functions[name](score, label)) for score, label in pairs]}
    except ModelcdError as error:
        return failure(error)


def _truth(name: str, value: Any) -> bool:
    plain = value.item() if hasattr(value, "item") else value
    if not isinstance(plain, bool):
        raise ChildError(f"guard {name!r} returned {plain!r}", help="a success function returns True or False")
    return plain
