"""Killed anywhere, over memory adapters: every effect of every story, before and after, in virtual time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import stories

from modelcd.adapters.memory import MemoryClock
from modelcd.artifact import digest_of
from modelcd.domain.verdict import Finding, Verdict
from modelcd.environment import Environment
from modelcd.environments.memory import Memory
from modelcd.testing.faults import Moment
from modelcd.testing.kills import KillContract, Ran, Seen, Way

USERS = 6
"""Requests of users at each moment in which somebody waits."""


class Hours:
    """A `Clock` in which users come and accidents happen while somebody waits."""

    def __init__(self, world: MemoryWorld) -> None:
        self._world = world

    def now(self) -> Any:
        return self._world.clock.now()

    def sleep(self, seconds: float) -> None:
        self._world.clock.sleep(seconds)
        self._world.go_by()


class MemoryWorld:
    """A world in this process, in virtual time."""

    def __init__(self, story: str, folder: Path, digests: Mapping[str, str]) -> None:
        self.story = story
        behaviours = {
            digests[data]: (lambda rows, factor=factor: [row["x"] * factor for row in rows])
            for data, factor in (("d1", 0.1), ("d2", 0.2))
        }
        self.memory = Memory(behaviours, {"success": stories.right})
        self.clock: MemoryClock = self.memory.clock
        self.waits, self.accident = 0, 0
        contract = lambda url, rows: [Finding("ready", Verdict.PASS, "it is")]  # noqa: E731
        self.bound = replace(self.memory.environment, clock=Hours(self))
        self.stage = stories.Stage(self.environment, folder, contract=contract)
        log = partial(self.memory.predictions.log, stories.STREAM)
        stories.begin(story, self.stage, self.reconcile, self.memory.runtime.kill, log)
        if story == "promote in trouble":
            self.accident = self.waits + 3
            self.bound = replace(self.bound, router=stories.Refusing(self.memory.router, itertools.count(1).__next__))

    def environment(self, name: str) -> Environment:
        return replace(self.bound, name=name)

    @property
    def environments(self) -> dict[str, Environment]:
        return {name: self.environment(name) for name in stories.ENVIRONMENTS}

    def go_by(self) -> None:
        """Let users come, and what is to go wrong at this moment."""
        self.waits += 1
        champion = f"{stories.STREAM}@1"
        if self.waits == self.accident - 1:
            self.memory.runtime.unready(champion, "busy")
        if self.waits == self.accident:
            self.memory.runtime.unready(champion, "")
            self.memory.runtime.kill(champion)
        for row in range(USERS):
            self.memory.send(stories.MODEL, {"x": float(row)})

    def run(self, death: Moment | None = None) -> Ran:
        return stories.driven(self.story, self.stage, stories.dying(death))

    def reconcile(self) -> None:
        stories.rounds(self.environments)

    def look(self) -> Seen:
        return stories.look(self.environments, self._answers)

    def close(self) -> None:
        """Nothing outlives this process."""

    def _answers(self, stream: str) -> list[str]:
        if not stream.startswith("production/"):
            return []
        answers = [self.memory.send(stories.MODEL, {"x": 1.0}) for _ in range(4)]
        return [f"{answer.status} {answer.version}" for answer in answers]


class MemoryBinding:
    """Worlds in memory; what they write to disk is in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, itertools.count()
        self._digests = {}
        for data in ("d1", "d2"):
            stories.train(folder / data, data)
            self._digests[data] = digest_of(folder / data)

    def world(self, story: str) -> MemoryWorld:
        return MemoryWorld(story, self._folder / str(next(self._numbers)), self._digests)

    def sample(self, story: str, way: Way, moments: Sequence[Moment]) -> Sequence[Moment]:
        return moments


@pytest.fixture(scope="module")
def binding(tmp_path_factory: pytest.TempPathFactory) -> MemoryBinding:
    return MemoryBinding(tmp_path_factory.mktemp("kills"))


class TestMemory(KillContract):
    KNOWN: ClassVar[Mapping[str, str]] = stories.KNOWN
