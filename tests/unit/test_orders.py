"""What happens in an environment follows from its place in the order, whatever it is called: in memory, end to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stories
from test_schedule import Stage

from modelcd.artifact import digest_of
from modelcd.domain.plain import to_plain
from modelcd.domain.policy import Canary
from modelcd.domain.release import Endpoint
from modelcd.domain.verdict import Finding, Verdict
from modelcd.environment import Environment
from modelcd.environments.memory import Memory
from modelcd.errors import ProjectError, Rejected
from modelcd.flows import deliver as flows
from modelcd.flows._effects import pages
from modelcd.steps.watch import Watch


class World:
    """Environments named *order*, in this process; users come to all of them while somebody waits."""

    def __init__(self, folder: Path, *order: str) -> None:
        digests = {}
        for data in ("d1", "d2"):
            stories.train(folder / data, data)
            digests[data] = digest_of(folder / data)
        models = {digests["d1"]: lambda rows: [0.1] * len(rows), digests["d2"]: lambda rows: [0.2] * len(rows)}
        self.memory = Memory(models, {"success": stories.right})
        self.bound = replace(self.memory.environment, clock=self)
        self.asked: list[str] = []
        self.good = True
        self.stage: stories.Stage = stories.Stage(self.environment, folder, contract=self.contract, order=order)

    def environment(self, name: str) -> Environment:
        return replace(self.bound, name=name)

    def contract(self, url: str, _rows: Sequence[Mapping[str, Any]]) -> Sequence[Finding]:
        self.asked.append(url)
        return [Finding("ready", Verdict.PASS if self.good else Verdict.FAIL, "it is as it is")]

    def now(self) -> Any:
        return self.memory.clock.now()

    def sleep(self, seconds: float) -> None:
        self.memory.clock.sleep(seconds)
        for name in self.stage.order:
            self.memory.environment = self.environment(name)
            for row in range(6):
                self.memory.send(stories.MODEL, {"x": float(row)})

    def deliver(self, data: str) -> dict[str, Any]:
        without = pages.set(False)
        try:
            return flows.deliver_in(replace(self.stage, data=data), self.stage.folder, "anna")
        finally:
            pages.reset(without)

    def at(self, name: str) -> Endpoint:
        env = self.environment(name)
        return Watch(env.stream(stories.MODEL)).refresh(env)

    def steps(self, name: str) -> int:
        """Return how many changes of traffic the newest release into *name* took."""
        env = self.environment(name)
        newest = self.at(name).releases[-1].id
        entries = [record.entry for record in env.journal.read(env.stream(stories.MODEL))]
        shifts = [one for one in entries if one.kind == "intended" and one.body["effect"] == "shift"]
        return sum(one.release == newest for one in shifts)


def test_of_two_the_first_accepts_and_the_second_goes_by_the_ladder(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")

    told = [world.deliver(data) for data in ("d1", "d2")]

    assert [(one["ending"], one["version"], one["environment"]) for one in told] == [
        ("promoted", 1, "b"),
        ("promoted", 2, "b"),
    ]
    assert world.asked == ["memory://gateway/a/m"] * 2
    assert (world.steps("a"), world.steps("b") > 1) == (1, True)


def planned(world: World, rollouts: Mapping[str, Canary]) -> World:
    """Let the project of *world* have *rollouts* by the names of environments."""
    said = {"rollouts": {name: to_plain(canary) for name, canary in rollouts.items()}}
    world.stage = Stage(**vars(world.stage), answers={"describe": said})
    return world


def test_each_environment_goes_by_its_own_ladder_and_by_the_one_of_all_others(tmp_path: Path) -> None:
    slowly = replace(stories.POLICY, shares=(5, 25))
    world = planned(World(tmp_path, "dev", "trial", "live"), {"live": slowly, "*": stories.POLICY})

    told = world.deliver("d1")

    assert (told["ending"], told["environment"]) == ("promoted", "live")
    assert [world.at(name).releases[-1].policy.shares for name in world.stage.order] == [(), (50.0,), (5.0, 25.0)]
    assert world.memory.journal.read("builds/m")[-1].entry.body["ending"] == "promoted"


@pytest.mark.parametrize(
    ("rollouts", "message", "help"),
    [
        ({"live": stories.POLICY}, "says nothing of trial: it has live", 'add "trial": Canary(…), or "*"'),
        ({"liv": stories.POLICY, "*": stories.POLICY}, "no environment is named 'liv'", "did you mean 'live'?"),
    ],
)
def test_a_rollout_that_does_not_fit_the_environments_begins_no_delivery(
    tmp_path: Path, rollouts: Mapping[str, Canary], message: str, help: str
) -> None:
    world = planned(World(tmp_path, "dev", "trial", "live"), rollouts)

    with pytest.raises(ProjectError, match=message) as refused:
        world.deliver("d1")

    assert help in refused.value.help
    assert world.memory.journal.read("builds/m") == []


def test_of_three_each_takes_what_the_one_before_has_gone_through(tmp_path: Path) -> None:
    world = World(tmp_path, "dev", "trial", "live")

    told = [world.deliver(data) for data in ("d1", "d2")]

    assert [(one["ending"], one["environment"]) for one in told] == [("promoted", "live")] * 2
    assert [world.at(name).champion for name in world.stage.order] == [2, 2, 2]
    assert (world.steps("dev"), world.steps("trial") > 1, world.steps("live") > 1) == (1, True, True)


def test_nobody_leaves_an_environment_out(tmp_path: Path) -> None:
    world = World(tmp_path, "dev", "trial", "live")
    world.deliver("d1")
    assert stories.driven("deliver", world.stage, stories.dying(stories.ACCEPTED)).died

    with pytest.raises(Rejected, match="version 2 of m has not got through trial, which comes before"):
        flows.promote_in(world.stage, stories.MODEL, 2, "live", "anna")
    without = pages.set(False)
    try:
        told = [flows.promote_in(world.stage, stories.MODEL, 2, name, "anna") for name in ("trial", "live")]
    finally:
        pages.reset(without)

    assert [one["ending"] for one in told] == ["promoted", "promoted"]


def test_what_was_taken_back_behind_it_is_let_in_nowhere_else(tmp_path: Path) -> None:
    world = World(tmp_path, "dev", "trial", "live")
    world.deliver("d1"), world.deliver("d2")
    without = pages.set(False)
    try:
        for name in ("live", "trial"):
            flows.rollback_in(world.stage, stories.MODEL, name, "bob", reason="complaints")
    finally:
        pages.reset(without)

    with pytest.raises(Rejected, match="has not got through trial"):
        flows.promote_in(world.stage, stories.MODEL, 2, "live", "anna", again="it will be fine")


def test_where_there_is_one_only_a_version_is_accepted_before_any_traffic_and_goes_by_the_ladder(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, "only")
    world.deliver("d1")

    told = world.deliver("d2")

    assert (told["ending"], told["version"], world.steps("only") > 1) == ("promoted", 2, True)
    assert not [url for url in world.asked if url.startswith("memory://gateway")], "no gateway leads there yet"
    assert not [one for one in world.memory.runtime.instances() if one.place.startswith("gates/") and one.alive]


def test_where_there_is_one_only_what_is_not_accepted_gets_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, "only")
    world.deliver("d1")
    world.good = False

    told = world.deliver("d2")

    assert (told["ending"], told["at"]) == ("stopped", "acceptance")
    assert (world.at("only").champion, len(world.at("only").releases)) == (1, 1)
    with pytest.raises(Rejected, match="version 2 of m was not accepted"):
        flows.promote_in(world.stage, stories.MODEL, 2, "only", "anna")
