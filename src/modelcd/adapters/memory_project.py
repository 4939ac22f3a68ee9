"""User code in this process, as plain functions: for tests and dry runs, where the code is one's own.

The real adapters run it in children because it is somebody else's.  Here nothing can be overrun or killed, so budgets
are not kept; what a function raises is translated as a child's report would be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelcd.errors import ChildError, ModelcdError
from modelcd.ports import ChildResult, Unjudged

Success = Callable[[Any, Any], bool | float]
Command = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass
class MemorySuccesses:
    """A `Successes` of functions in this process, by the guard's name."""

    functions: Mapping[str, Success] = field(default_factory=dict)

    def judge(self, snapshot: Path, guard: str, pairs: Sequence[tuple[Any, Any]]) -> list[Any]:
        """Judge (score, label) *pairs* by the function given for *guard*; raises `ChildError` when there is none."""
        if guard not in self.functions:
            raise ChildError(f"the project has no guard of labels named {guard!r}")
        return [self._judged(guard, score, label) for score, label in pairs]

    def _judged(self, guard: str, score: Any, label: Any) -> Any:
        try:
            answer = _called(f"guard {guard!r}", self.functions[guard], score, label)
        except ModelcdError as error:
            return Unjudged(error.message, error.help)
        if not isinstance(answer, bool | int | float):
            return Unjudged(
                f"guard {guard!r} returned {answer!r}", "a guard's function returns True or False, or a number"
            )
        return answer


@dataclass
class MemoryProject:
    """A `Project` whose commands are functions from arguments to plain values."""

    commands: Mapping[str, Command] = field(default_factory=dict)

    def call(self, command: str, arguments: Mapping[str, Any], *, budget: float, memory: int = 0) -> ChildResult:
        """Run the function given for *command*; raises `ChildError` for what it raised, or when there is none."""
        if command not in self.commands:
            raise ChildError(f"the project has no command {command!r}", help=f"known: {', '.join(self.commands)}")
        return ChildResult(_called(command, self.commands[command], arguments), "")


def _called(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except ModelcdError:
        raise
    except Exception as error:
        raise ChildError(f"{what} raised {type(error).__name__}: {error}") from error
