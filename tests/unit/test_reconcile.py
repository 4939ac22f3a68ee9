"""The reconciler over memory adapters: what it finishes, repairs, closes, and what it leaves alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from modelcd.artifact import digest_of
from modelcd.domain.delivery import Builds, fold_builds
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.records import Entry
from modelcd.domain.release import Ask, Ending, Endpoint
from modelcd.domain.routing import Arm, Routing
from modelcd.domain.versions import Lineage
from modelcd.environments.memory import Memory
from modelcd.ports import Build
from modelcd.steps.reconcile import ACTOR, SILENCE, Reconciler
from modelcd.steps.release import Candidate, ask, open_release
from modelcd.steps.tick import tick
from modelcd.steps.watch import Watch

AT_ONCE = Canary(shares=(), keep_warm=5.0)
LADDER = Canary(shares=(50,), guards=(Guard("errors", GuardKind.ERRORS, margin=0.05),), keep_warm=5.0)
STREAM = "production/m"
BUILDS = "builds/m"


class World:
    """A place with one model in production, and a reconciler."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        models = {self.artifact(version): lambda rows: [0.5 for _ in rows] for version in (1, 2)}
        self.memory = Memory(models)
        self.env, self.clock = self.memory.environment, self.memory.clock
        self.said: list[str] = []
        self.reconciler = Reconciler({"production": self.env}, self.said.append)
        for version in (1, 2):
            lineage = Lineage(training=str(version), code="", data="")
            self.memory.registry.add(Build("m", folder / str(version), self.artifact(version), lineage))

    def artifact(self, version: int) -> str:
        """Return the digest of the artifact of *version*, made when it is not there."""
        folder = self.folder / str(version)
        folder.mkdir(exist_ok=True)
        (folder / "model").write_text(str(version))
        return digest_of(folder)

    def open(self, version: int, policy: Canary) -> Watch:
        """Open a release that nobody drives yet."""
        place = str(self.folder / str(version))
        candidate = Candidate("m", version, self.artifact(version), place, "", "snapshot", policy)
        return open_release(self.env, candidate, release=f"r{version}", actor="anna", reason="test")

    def rounds(self, count: int, requests: int = 0) -> Endpoint:
        """Let *count* rounds pass, a second and *requests* of users after each."""
        for _ in range(count):
            self.reconciler.round()
            for _ in range(requests):
                self.memory.send("m", {"x": 1})
            self.clock.sleep(1.0)
        return self.endpoint()

    def endpoint(self) -> Endpoint:
        """Return the endpoint as the journal has it."""
        return Watch(STREAM).refresh(self.env)

    def actors(self) -> list[str]:
        """Return who wrote each record."""
        return [record.entry.actor for record in self.memory.journal.read(STREAM)]

    def runs(self) -> list[int]:
        """Return the versions that run."""
        return sorted(i.version for i in self.memory.runtime.instances(STREAM) if i.alive)

    def build(self, kind: str, body: dict[str, str], release: str = "d1") -> None:
        """Write a record of a delivery."""
        seq = len(self.memory.journal.read(BUILDS))
        entry = Entry(kind, self.clock.now().isoformat(), "anna", release, body)
        self.memory.journal.append(BUILDS, seq, [entry])

    def builds(self) -> Builds:
        """Return what is known of the builds."""
        return fold_builds(Builds(BUILDS), self.memory.journal.read(BUILDS))


OPENED = {"reason": "", "trigger": "person", "project": "somewhere"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.open(1, AT_ONCE)
    world.clock.sleep(SILENCE)
    assert world.rounds(3).champion == 1
    return world


def test_a_release_that_nobody_drives_is_finished(world: World) -> None:
    world.open(2, LADDER)

    endpoint = world.rounds(30, requests=100)

    assert (endpoint.champion, endpoint.releases[-1].ending) == (2, Ending.PROMOTED)


def test_a_release_that_somebody_drives_is_left_to_them(world: World) -> None:
    watch = world.open(2, LADDER)
    before = len(world.actors())
    for _ in range(10):
        tick(world.env, watch, actor="anna")
        world.rounds(1, requests=20)

    assert set(world.actors()[before:]) == {"anna"}


def test_a_driver_that_falls_silent_is_replaced_within_seconds(world: World) -> None:
    watch = world.open(2, LADDER)
    tick(world.env, watch, actor="anna")
    before = len(world.actors())

    world.rounds(int(SILENCE) + 2, requests=20)

    assert ACTOR in world.actors()[before:]


def test_a_champion_that_died_is_started_again_and_served(world: World) -> None:
    world.memory.runtime.kill(f"{STREAM}@1")

    world.rounds(3)

    assert world.runs() == [1]
    assert world.memory.send("m", {"x": 1}).status == 200


def test_a_routing_that_somebody_changed_is_put_right(world: World) -> None:
    wanted = world.memory.router.read(STREAM)
    (instance,) = world.memory.runtime.instances(STREAM)
    world.memory.router.write(STREAM, Routing((Arm(1, 100.0),), salt="by hand"), {1: instance.address})

    world.rounds(2)

    assert world.memory.router.read(STREAM) == wanted


def test_what_was_stopped_as_a_whole_comes_back_in_the_middle_of_a_canary(world: World) -> None:
    watch = world.open(2, LADDER)
    tick(world.env, watch, actor="anna")
    for instance in world.memory.runtime.instances(STREAM):
        world.memory.runtime.stop(instance.id)
    world.clock.sleep(3600.0)

    endpoint = world.rounds(3)

    assert world.runs() == [1, 2]
    assert endpoint.open is not None
    assert endpoint.open.share == 50


def test_a_wish_to_go_back_is_granted_when_the_driver_is_dead(world: World) -> None:
    watch = world.open(2, LADDER)
    tick(world.env, watch, actor="anna")
    ask(world.env, "m", Ask.ROLL_BACK, actor="bob", reason="complaints")

    endpoint = world.rounds(int(SILENCE) + 3)

    assert (endpoint.champion, endpoint.releases[-1].ending) == (1, Ending.ROLLED_BACK)


def test_a_held_release_is_still_judged(world: World) -> None:
    watch = world.open(2, LADDER)
    tick(world.env, watch, actor="anna")
    ask(world.env, "m", Ask.HOLD, actor="bob")

    endpoint = world.rounds(20, requests=100)

    assert endpoint.open is not None
    assert (endpoint.open.share, endpoint.held) == (50, "bob")
    assert endpoint.open.exposed.requests > 500


def test_the_version_before_is_let_go_of_when_its_time_is_over(world: World) -> None:
    world.open(2, LADDER)

    world.rounds(40, requests=100)

    assert world.runs() == [2]


def test_a_delivery_whose_driver_is_gone_is_closed(world: World) -> None:
    world.build("opened", OPENED)

    world.rounds(1)

    assert [(d.ending, d.why) for d in world.builds().deliveries] == [
        ("interrupted", "its driver ended without a word")
    ]


def test_a_delivery_that_somebody_walks_is_left_to_them(world: World) -> None:
    world.build("opened", OPENED)
    with world.memory.journal.exclusive(BUILDS):
        world.rounds(5)

    delivery = world.builds().open

    assert delivery is not None
    assert delivery.id == "d1"


def test_trouble_with_one_endpoint_is_said_once_and_keeps_no_other_waiting(world: World) -> None:
    world.memory.journal.append(
        "production/a-broken-one", 0, [Entry("from the future", world.clock.now().isoformat(), "eve", "", {})]
    )
    world.memory.runtime.kill(f"{STREAM}@1")

    world.rounds(3)

    assert world.runs() == [1]
    assert [text.split(":")[0] for text in world.said] == ["production/a-broken-one"]


def test_a_long_pause_in_the_clock_is_no_reason_to_end_a_release(world: World) -> None:
    watch = world.open(2, LADDER)
    tick(world.env, watch, actor="anna")
    world.clock.sleep(timedelta(hours=12).total_seconds())

    endpoint = world.rounds(2)

    assert endpoint.open is not None
