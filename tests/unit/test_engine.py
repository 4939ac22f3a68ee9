"""The engine over memory adapters: a release from its opening to its ending, with users, crashes and time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from modelcd.artifact import digest_of
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.records import broken, until
from modelcd.domain.release import Ask, Ending, Endpoint, Release, fold
from modelcd.domain.versions import Lineage
from modelcd.environments.memory import Memory
from modelcd.errors import Busy, Rejected, RuntimeFailure
from modelcd.ports import Build
from modelcd.steps.release import Candidate, ask, open_release
from modelcd.steps.tick import tick, tick_on
from modelcd.steps.watch import Watch

GUARDS = (
    Guard("errors", GuardKind.ERRORS, margin=0.01),
    Guard("success", GuardKind.SUCCESS, margin=0.1),
)
LADDER = Canary(shares=(5, 25, 50), guards=GUARDS, keep_warm=0.0)
AT_ONCE = Canary(shares=())


def good(rows: Any) -> list[float]:
    return [0.9 if row["x"] > 0 else 0.1 for row in rows]


def failing_without_x2(rows: Any) -> list[float]:
    if any(row["x2"] is None for row in rows):
        raise ValueError("Input X contains NaN")
    return good(rows)


def wrong(rows: Any) -> list[float]:
    return [1 - score for score in good(rows)]


class World:
    """A place with one model and people around it."""

    def __init__(self, folder: Path, behaviours: dict[int, Any]) -> None:
        self.folder = folder
        self.digests = {}
        for version in behaviours:
            artifact = folder / str(version)
            artifact.mkdir()
            (artifact / "model").write_text(str(version))
            self.digests[version] = digest_of(artifact)
        models = {self.digests[version]: behaviour for version, behaviour in behaviours.items()}
        self.memory = Memory(models, {"success": lambda score, label: (score >= 0.5) == label})
        self.env = self.memory.environment
        for version, digest in self.digests.items():
            lineage = Lineage(training=str(version), code="", data="")
            self.memory.registry.add(Build("m", folder / str(version), digest, lineage))
        self.sent = self.failed = 0

    def open(self, version: int, policy: Canary = LADDER, again: str = "", takes_out: int | None = None) -> Watch:
        candidate = Candidate(
            "m", version, self.digests[version], str(self.folder / str(version)), "", "snapshot", policy
        )
        return open_release(
            self.env, candidate, release=f"r{version}", actor="anna", reason="test", again=again, takes_out=takes_out
        )

    def users(self, requests: int) -> None:
        for _ in range(requests):
            self.sent += 1
            x = 1 if self.sent % 3 else -1
            x2 = None if self.sent % 10 == 0 else 1.0
            answer = self.memory.send("m", {"x": x, "x2": x2}, label=x > 0)
            self.failed += answer.status != 200

    def live(self, watch: Watch, ticks: int = 200, requests: int = 200) -> Release:
        """Let users and ticks alternate until the newest release has ended."""
        for _ in range(ticks):
            tick(self.env, watch, actor="anna")
            release = watch.endpoint.releases[-1]
            if release.ending is not None:
                return release
            self.users(requests)
            self.memory.clock.sleep(2.0)
        return watch.endpoint.releases[-1]


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, {1: good, 2: good, 3: failing_without_x2, 4: wrong})
    assert world.live(world.open(1, AT_ONCE)).ending is Ending.PROMOTED
    return world


def test_a_first_version_is_promoted_without_a_champion(world: World) -> None:
    watch = Watch("production/m")

    assert watch.refresh(world.env).champion == 1


def test_an_equal_version_climbs_the_ladder_and_is_promoted(world: World) -> None:
    watch = world.open(2)

    release = world.live(watch)

    assert (release.ending, watch.endpoint.champion) == (Ending.PROMOTED, 2)


def test_a_version_that_fails_on_some_requests_is_rolled_back_by_the_errors_guard(world: World) -> None:
    watch = world.open(3)

    release = world.live(watch)

    assert (release.ending, watch.endpoint.champion) == (Ending.ROLLED_BACK, 1)
    assert "errors" in release.closing["reason"]


def test_the_fallback_keeps_users_from_seeing_what_the_challenger_fails_at(world: World) -> None:
    release = world.live(world.open(3))

    assert release.exposed.failures > 0
    assert (world.failed, release.exposed.rescued) == (0, release.exposed.failures)


def test_a_version_that_is_often_wrong_is_rolled_back_by_labels(world: World) -> None:
    watch = world.open(4)

    release = world.live(watch)

    assert (release.ending, watch.endpoint.champion) == (Ending.ROLLED_BACK, 1)
    assert "success" in release.closing["reason"]


def test_a_release_without_traffic_waits_and_is_never_promoted(world: World) -> None:
    watch = world.open(2)

    release = world.live(watch, ticks=50, requests=0)

    assert (release.ending, release.step) == (None, 0)


def test_a_rejected_version_needs_a_reason_to_be_tried_again(world: World) -> None:
    world.live(world.open(3))

    with pytest.raises(Rejected, match=r"rolled back, release r3: .*errors"):
        world.open(3)
    world.open(3, again="the feature store was fixed")


def test_a_way_back_leads_to_the_newest_version_that_served_and_was_not_taken_out(world: World) -> None:
    assert Watch("production/m").refresh(world.env).before is None
    assert world.live(world.open(2, AT_ONCE)).ending is Ending.PROMOTED
    assert Watch("production/m").refresh(world.env).before == 1

    world.live(world.open(1, AT_ONCE, takes_out=2))

    endpoint = Watch("production/m").refresh(world.env)
    assert (endpoint.champion, endpoint.champions, endpoint.before) == (1, (1, 2, 1), None)


def test_what_served_at_any_moment_stands_in_the_journal(world: World) -> None:
    before = world.memory.clock.now()
    world.memory.clock.sleep(1.0)
    watch = world.open(2)
    tick(world.env, watch, actor="anna")
    on_the_way = world.memory.clock.now()
    world.memory.clock.sleep(1.0)
    world.live(watch)

    records = world.memory.journal.read("production/m")
    served = [fold(Endpoint("production/m"), until(records, at)).served for at in (before, on_the_way, None)]

    assert [routing and routing.share(2) for routing in served] == [0.0, 5.0, 100.0]
    assert until(records, datetime(2000, 1, 1, tzinfo=UTC)) == []


def test_a_writer_whose_clock_is_behind_hides_no_record_before_its_own(world: World) -> None:
    records = world.memory.journal.read("production/m")
    late = [replace(r, entry=replace(r.entry, at="2100-01-01T00:00:00+00:00")) for r in records[:-1]]

    assert until([*late, records[-1]], world.memory.clock.now()) == [*late, records[-1]]


def test_two_releases_at_once_are_refused_with_who_is_at_it(world: World) -> None:
    world.open(2)

    with pytest.raises(Busy, match="anna"):
        world.open(3)


def test_another_driver_goes_on_where_the_first_left_off(world: World) -> None:
    first = world.open(2)
    for _ in range(3):
        tick(world.env, first, actor="anna")
        world.users(200)
        world.memory.clock.sleep(2.0)

    release = world.live(Watch("production/m"))

    assert release.ending is Ending.PROMOTED


def test_a_person_ends_a_release_and_traffic_goes_back(world: World) -> None:
    watch = world.open(2)
    tick(world.env, watch, actor="anna")
    ask(world.env, "m", Ask.ROLL_BACK, actor="bob", reason="complaints")

    release = world.live(watch)

    assert release.ending is Ending.ROLLED_BACK
    assert "bob rolled it back: complaints" in release.closing["reason"]


def test_a_process_left_dead_by_an_earlier_release_is_no_failure_of_the_next(world: World) -> None:
    watch = world.open(2, replace(LADDER, fallback=False))
    tick(world.env, watch, actor="anna")
    world.memory.runtime.kill("production/m@2")
    assert world.live(watch).ending is Ending.ROLLED_BACK

    release = world.live(world.open(2, again="the machine was at fault"))

    assert release.ending is Ending.PROMOTED, release.closing


def test_a_champion_that_dies_in_a_canary_is_started_again_and_the_release_goes_on(world: World) -> None:
    watch = world.open(2)
    tick(world.env, watch, actor="anna")
    world.memory.runtime.kill("production/m@1")

    release = world.live(watch)

    assert release.ending is Ending.PROMOTED


def test_after_a_rollback_only_the_champion_runs(world: World) -> None:
    watch = world.open(3)
    world.live(watch)
    world.memory.clock.sleep(5.0)

    tick_on(world.env, watch, actor="reconciler")

    assert [i.version for i in world.memory.runtime.instances("production/m")] == [1]


def test_every_effect_has_its_intent_before_and_its_outcome_after(world: World) -> None:
    world.live(world.open(2))
    kinds = [r.entry.kind for r in world.memory.journal.read("production/m")]
    effects = [kind for kind in kinds if kind in ("intended", "done", "failed")]

    assert effects == ["intended", "done"] * (len(effects) // 2)


def test_the_journal_of_a_release_is_a_whole_chain(world: World) -> None:
    world.live(world.open(2))

    assert broken(world.memory.journal.read("production/m")) == ""


def test_an_artifact_that_was_changed_after_its_release_is_not_started(world: World) -> None:
    watch = world.open(2)
    (world.folder / "2" / "model").write_text("something else")

    with pytest.raises(RuntimeFailure, match="not what was released"):
        tick(world.env, watch, actor="anna")


def test_a_night_in_which_the_machine_slept_is_no_bake_time(world: World) -> None:
    watch = world.open(2, replace(LADDER, shares=(50,), bake=120.0))
    for _ in range(30):
        tick(world.env, watch, actor="anna")
        world.users(200)
        world.memory.clock.sleep(1.0)

    world.memory.clock.sleep(8 * 3600.0)
    tick(world.env, watch, actor="anna")

    release = watch.endpoint.open
    assert release is not None
    assert release.judgement["verdict"] == "pass"
    assert (release.step, round(release.baked)) == (0, 29 + 30)


def test_time_without_requests_is_bake_time_while_somebody_watches(world: World) -> None:
    watch = world.open(2, replace(LADDER, shares=(50,), bake=120.0))
    for second in range(150):
        tick(world.env, watch, actor="anna")
        world.users(200 if second < 30 else 0)
        world.memory.clock.sleep(1.0)

    assert watch.endpoint.champion == 2


def test_looks_become_rarer_the_longer_a_step_lasts_and_none_is_more_than_ten_seconds_away(world: World) -> None:
    watch = world.open(2, replace(LADDER, bake=3600.0))
    for _ in range(4 * 600):
        tick(world.env, watch, actor="anna")
        world.users(2)
        world.memory.clock.sleep(0.25)

    records = world.memory.journal.read("production/m")
    looks = [datetime.fromisoformat(record.entry.at) for record in records if record.entry.kind == "observed"]
    gaps = [(b - a).total_seconds() for a, b in pairwise(looks)]
    assert gaps[:20] == [1.0] * 20
    assert gaps[-20:] == [10.0] * 20
    assert gaps == sorted(gaps)


def test_looks_that_saw_nothing_new_are_not_recorded(world: World) -> None:
    watch = world.open(2)
    world.live(watch, ticks=5)
    seen = len(world.memory.journal.read("production/m"))
    world.memory.clock.sleep(5.0)
    tick(world.env, watch, actor="anna")
    after = len(world.memory.journal.read("production/m"))

    world.live(watch, ticks=20, requests=0)

    records = world.memory.journal.read("production/m")[after:]
    assert (after - seen, [record.entry.kind for record in records]) == (1, ["seen", "seen"])
