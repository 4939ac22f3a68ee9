"""The engine over memory adapters on its worst days: crashes, hangs, drift, what cannot be read, people, sleep."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from test_engine import AT_ONCE, LADDER, World, failing_without_x2, good

from modelcd.adapters.memory import MemoryJournal, Prediction
from modelcd.domain.records import Entry, Record
from modelcd.domain.release import Ask, Ending, Endpoint, Release, fold, misremembered, since
from modelcd.domain.routing import Abilities, Arm, Routing
from modelcd.domain.samples import Counters
from modelcd.errors import Conflict, MetricsError, PredictionsError, Refused, RegistryError, RouterError
from modelcd.ports import Clock, Label, Metrics, Router, Still, always
from modelcd.steps.reconcile import Reconciler
from modelcd.steps.release import ask
from modelcd.steps.tick import tick, tick_on
from modelcd.steps.watch import Watch

STREAM = "production/m"


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, {1: good, 2: good, 3: failing_without_x2})
    assert world.live(world.open(1, AT_ONCE)).ending is Ending.PROMOTED
    return world


@dataclass
class Unreadable:
    """A source of counts that is away."""

    def counters(self, endpoint: str) -> Mapping[int, Counters]:
        """Raise."""
        raise MetricsError("connection refused")


@dataclass
class Forgetful:
    """A source that does not know the counts of *version* for one reading."""

    metrics: Metrics
    version: int

    def counters(self, endpoint: str) -> Mapping[int, Counters]:
        """Return what the source knows, the first time without *version*."""
        version, self.version = self.version, 0
        return {number: counts for number, counts in self.metrics.counters(endpoint).items() if number != version}


@dataclass
class Deaf:
    """A router that remembers what it was asked for, and refuses it from the *refuses*-th write on."""

    router: Router
    refuses: int = 1_000_000
    written: list[Routing] = field(default_factory=list)

    def write(self, endpoint: str, routing: Routing, addresses: Mapping[int, str], still: Still = always) -> None:
        """Pass it on, or raise."""
        if len(self.written) >= self.refuses:
            raise RouterError("not seen to be served")
        self.written.append(routing)
        self.router.write(endpoint, routing, addresses, still)

    def read(self, endpoint: str) -> Routing | None:
        """Pass it on."""
        return self.router.read(endpoint)

    def abilities(self) -> Abilities:
        """Pass it on."""
        return self.router.abilities()

    def url(self, endpoint: str) -> str:
        """Pass it on."""
        return self.router.url(endpoint)


@dataclass(frozen=True)
class Ahead:
    """A clock that goes as another one does, some seconds ahead."""

    clock: Clock
    seconds: float

    def now(self) -> datetime:
        """The other's time and some."""
        return self.clock.now() + timedelta(seconds=self.seconds)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self.clock.sleep(seconds)


class Meddled(MemoryJournal):
    """A journal into which somebody else writes right after each intent."""

    meddle: Callable[[], None] | None = None

    def append(self, stream: str, expected: int, entries: Sequence[Entry]) -> list[Record]:
        """Append, and let the other one write."""
        records = super().append(stream, expected, entries)
        if self.meddle is not None and entries and entries[0].kind == "intended":
            meddle, self.meddle = self.meddle, None
            meddle()
        return records


def routing_of(world: World) -> Routing:
    """What the gateway serves."""
    routing = world.memory.router.read(STREAM)
    assert routing is not None
    return routing


def canary(world: World, version: int = 2) -> Watch:
    """A release at its first share."""
    watch = world.open(version)
    tick(world.env, watch, actor="anna")
    assert routing_of(world).share(version) == 5
    return watch


def later(world: World, watch: Watch, seconds: float, every: float = 1.0) -> Release:
    """Tick for *seconds*."""
    for _ in range(int(seconds / every)):
        world.memory.clock.sleep(every)
        tick(world.env, watch, actor="anna")
    return watch.endpoint.releases[-1]


def kinds(world: World) -> list[str]:
    """Kinds of the records so far."""
    return [record.entry.kind for record in world.memory.journal.read(STREAM)]


# -- what dies ---------------------------------------------------------------------------------------------------------


def test_a_challenger_that_dies_once_is_started_again_and_the_release_goes_on(world: World) -> None:
    watch = canary(world)
    world.memory.runtime.kill(f"{STREAM}@2")

    release = world.live(watch)

    assert (release.ending, release.crashes) == (Ending.PROMOTED, 1)
    assert "repaired" in kinds(world)


def test_a_challenger_that_keeps_dying_is_rolled_back(world: World) -> None:
    watch = canary(world)
    for _ in range(20):
        if any(i.version == 2 and i.alive for i in world.memory.runtime.instances(STREAM)):
            world.memory.runtime.kill(f"{STREAM}@2")
        later(world, watch, 2.0)

    release = watch.endpoint.releases[-1]
    assert (release.ending, release.crashes) == (Ending.ROLLED_BACK, 2)
    assert "died 3 times" in release.closing["reason"]
    assert routing_of(world).share(1) == 100


def test_a_machine_that_restarts_in_a_canary_blames_nobody(world: World) -> None:
    watch = canary(world)
    for version in (1, 2):
        world.memory.runtime.kill(f"{STREAM}@{version}")
    world.memory.clock.sleep(8 * 3600.0)

    assert world.live(watch).ending is Ending.PROMOTED


def test_a_champion_in_a_crash_loop_is_not_started_at_every_tick(world: World) -> None:
    watch = Watch(STREAM)
    starts = 0
    for _ in range(600):
        world.memory.clock.sleep(1.0)
        before = [i.version for i in world.memory.runtime.instances(STREAM) if i.alive]
        tick(world.env, watch, actor="anna")
        if not before:
            starts += any(i.alive for i in world.memory.runtime.instances(STREAM))
        if any(i.alive for i in world.memory.runtime.instances(STREAM)):
            world.memory.runtime.kill(f"{STREAM}@1")

    assert 6 <= starts <= 20
    assert watch.endpoint.restarts[1][0] == starts


def test_a_challenger_that_hangs_is_rolled_back_when_its_time_is_up(world: World) -> None:
    watch = canary(world)
    world.memory.runtime.unready(f"{STREAM}@2", "no answer within 2 s")

    release = later(world, watch, 20.0)

    assert release.ending is Ending.ROLLED_BACK
    assert "not ready" in release.closing["reason"]


def test_a_challenger_that_is_slow_for_a_moment_is_not(world: World) -> None:
    watch = canary(world)
    world.memory.runtime.unready(f"{STREAM}@2", "no answer within 2 s")
    later(world, watch, 10.0)
    world.memory.runtime.unready(f"{STREAM}@2", "")

    release = later(world, watch, 20.0)

    assert release.ending is None
    assert watch.endpoint.unready == {}


def test_a_champion_that_hangs_is_started_anew(world: World) -> None:
    watch = Watch(STREAM)
    tick(world.env, watch, actor="anna")
    world.memory.runtime.unready(f"{STREAM}@1", "no answer within 2 s")

    later(world, watch, 70.0)

    records = [r.entry for r in world.memory.journal.read(STREAM) if r.entry.kind == "intended"]
    assert [entry.body["effect"] for entry in records][-3:] == ["stop", "start", "shift"]
    assert world.memory.send("m", {"x": 1, "x2": 1}).status == 200


# -- what cannot be read -----------------------------------------------------------------------------------------------


def blind(world: World) -> None:
    """Take the gateway's counts away."""
    metrics: Metrics = Unreadable()
    world.env = replace(world.env, metrics=metrics)


def test_without_counts_nobody_is_promoted_and_the_reason_stands_in_the_status(world: World) -> None:
    watch = canary(world)
    blind(world)

    release = world.live(watch, ticks=50)

    assert (release.ending, release.share) == (None, 5)
    assert "connection refused" in watch.endpoint.trouble


@pytest.mark.parametrize("version", [1, 2])
def test_counts_that_are_missing_for_a_moment_are_counted_once(world: World, version: int) -> None:
    watch = world.open(2, replace(LADDER, shares=(50,), bake=600.0))
    world.live(watch, ticks=3, requests=100)
    metrics, before = world.env.metrics, watch.endpoint.trouble
    world.env = replace(world.env, metrics=Forgetful(metrics, version))

    world.live(watch, ticks=1, requests=100)
    told = watch.endpoint.trouble
    later(world, watch, 2.0)

    release = watch.endpoint.open
    assert release is not None
    assert (before, told) == ("", f"the gateway has no counts of version {version}")
    assert release.counted == metrics.counters(STREAM)
    assert release.exposed.requests == release.counted[2].requests


def test_without_counts_a_person_can_still_go_back(world: World) -> None:
    watch = canary(world)
    blind(world)
    ask(world.env, "m", Ask.ROLL_BACK, actor="bob", reason="complaints")

    assert later(world, watch, 2.0).ending is Ending.ROLLED_BACK
    assert routing_of(world).share(1) == 100


def test_without_counts_what_hangs_still_goes_back(world: World) -> None:
    watch = canary(world)
    blind(world)
    world.memory.runtime.unready(f"{STREAM}@2", "no answer within 2 s")

    assert later(world, watch, 20.0).ending is Ending.ROLLED_BACK


def test_counts_that_come_back_are_believed_again(world: World) -> None:
    watch = canary(world)
    seeing = world.env
    blind(world)
    world.live(watch, ticks=5)
    world.env = seeing

    assert world.live(watch).ending is Ending.PROMOTED
    assert watch.endpoint.trouble == ""


def test_without_the_source_of_labels_nobody_is_promoted_and_labels_that_come_later_count(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = canary(world)
    with monkeypatch.context() as away:
        away.setattr(world.memory.predictions, "labelled", unreadable)
        release = world.live(watch, ticks=30)
    assert (release.ending, release.share) == (None, 5)
    assert "the log is locked" in watch.endpoint.trouble

    assert world.live(watch).ending is Ending.PROMOTED


def unreadable(*_: object, **__: object) -> None:
    """Be away."""
    raise PredictionsError("the log is locked")


def test_without_counts_a_challenger_that_is_dead_still_goes_back(world: World) -> None:
    watch = world.open(2, replace(LADDER, fallback=False))
    tick(world.env, watch, actor="anna")
    blind(world)
    world.memory.runtime.kill(f"{STREAM}@2")

    assert later(world, watch, 2.0).ending is Ending.ROLLED_BACK
    assert routing_of(world).share(1) == 100


@dataclass
class Misrouting:
    """A gateway that also gives requests to other versions, as many as `strange` says."""

    metrics: Metrics
    strange: dict[int, int]

    def counters(self, endpoint: str) -> Mapping[int, Counters]:
        """What was counted, and that."""
        return {**self.metrics.counters(endpoint), **{v: Counters(requests=n) for v, n in self.strange.items()}}


def misrouting(world: World, strange: dict[int, int]) -> dict[int, int]:
    """Let the gateway count *strange* requests; they may be changed."""
    world.env = replace(world.env, metrics=Misrouting(world.env.metrics, strange))
    return strange


SLOWLY = replace(LADDER, shares=(50,), bake=120.0)


def test_requests_of_a_third_version_hold_a_release_with_the_numbers_until_they_have_stopped(world: World) -> None:
    strange = misrouting(world, {7: 500})
    watch = world.open(2, SLOWLY)
    for second in range(180):
        tick(world.env, watch, actor="anna")
        world.users(100)
        world.memory.clock.sleep(1.0)
        strange[7] += 60 <= second < 130
    release = watch.endpoint.open
    assert release is not None
    assert release.judgement["verdict"] == "error"
    finding = release.judgement["findings"][-1]
    assert (finding["name"], finding["verdict"]) == ("version", "error")
    assert "version 7 got 70 requests while only versions 1 and 2" in watch.endpoint.trouble

    assert world.live(watch).ending is Ending.PROMOTED
    tick_on(world.env, watch, actor="anna")
    assert watch.endpoint.trouble == ""


def test_a_version_that_fails_goes_back_whoever_else_gets_requests(world: World) -> None:
    strange = misrouting(world, {7: 1})
    watch = world.open(3, replace(SLOWLY, bake=0.0))
    world.memory.clock.sleep(31.0)
    for _ in range(100):
        tick(world.env, watch, actor="anna")
        world.users(100)
        world.memory.clock.sleep(1.0)
        strange[7] += 1

    assert watch.endpoint.releases[-1].ending is Ending.ROLLED_BACK


def test_when_all_requests_go_to_a_third_version_it_is_said(world: World) -> None:
    strange = misrouting(world, {})
    watch = world.open(2, SLOWLY)
    for _ in range(40):
        tick(world.env, watch, actor="anna")
        world.memory.clock.sleep(1.0)
        strange[7] = strange.get(7, 0) + 5

    assert "version 7 got" in watch.endpoint.trouble


def test_requests_that_were_under_way_when_a_release_was_opened_and_versions_kept_warm_are_no_trouble(
    world: World,
) -> None:
    strange = misrouting(world, {7: 500, 8: 0, 9: 40})
    watch = world.open(2, SLOWLY)
    for second in range(60):
        tick(world.env, watch, actor="anna")
        world.users(20)
        world.memory.clock.sleep(1.0)
        strange[7] += second < 20

    release = watch.endpoint.open
    assert release is not None
    assert (release.strangers, watch.endpoint.trouble) == ({}, "")


def test_labels_of_a_third_version_hold_a_release(world: World) -> None:
    watch = world.open(2, SLOWLY)
    for second in range(150):
        tick(world.env, watch, actor="anna")
        world.users(20)
        world.memory.clock.sleep(1.0)
        if second == 100:
            said = [Prediction(f"s{k}", "m", 3, routing_of(world).revision, 0.9) for k in range(4)]
            world.memory.predictions.log(STREAM, said)
            world.memory.predictions.label(STREAM, [Label(one.id, True) for one in said])

    assert watch.endpoint.champion == 1
    assert "version 3 got 4 labels" in watch.endpoint.trouble
    assert world.live(watch).ending is Ending.PROMOTED


# -- the way back ------------------------------------------------------------------------------------------------------


def test_the_way_back_is_gone_before_the_first_share_and_its_time_is_kept(world: World) -> None:
    router = Deaf(world.env.router)
    world.env = replace(world.env, router=router)
    watch = canary(world)

    there, back, first = router.written[-3:]
    assert (there.share(2), back, first.share(2)) == (0.0, Routing.all_to(1, keeping=(2,)), 5.0)
    assert there.versions == (1, 2)
    release = watch.endpoint.open
    assert release is not None
    assert release.way_back is not None


def test_a_version_whose_way_back_cannot_be_gone_gets_no_share(world: World) -> None:
    watch = world.open(2)
    world.env = replace(world.env, router=Deaf(world.env.router, refuses=1))

    for _ in range(60):
        with contextlib.suppress(RouterError):
            tick(world.env, watch, actor="anna")
        assert routing_of(world).share(2) == 0
        world.memory.clock.sleep(1.0)

    release = watch.endpoint.releases[-1]
    assert release.ending is Ending.FAILED
    assert "not seen to be served" in release.closing["reason"]


def test_how_long_the_way_back_took_is_kept(world: World) -> None:
    release = world.live(world.open(3))

    assert release.ending is Ending.ROLLED_BACK
    assert release.back_in is not None


# -- what drifts, and people -------------------------------------------------------------------------------------------


def by_hand(world: World) -> Routing:
    """Change the gateway as an operator does, behind the engine's back."""
    routing = Routing((Arm(1, 70.0), Arm(2, 30.0)), salt="by hand")
    addresses = {i.version: i.address for i in world.memory.runtime.instances(STREAM)}
    world.memory.router.write(STREAM, routing, addresses)
    return routing


def test_who_holds_an_endpoint_is_not_fought_and_what_they_leave_is_put_right(world: World) -> None:
    watch = canary(world)
    ask(world.env, "m", Ask.HOLD, actor="bob")
    mine = by_hand(world)
    later(world, watch, 60.0)
    assert routing_of(world) == mine

    ask(world.env, "m", Ask.RESUME, actor="bob")
    later(world, watch, 2.0)

    assert routing_of(world).share(2) == 5
    repaired = [r.entry.body["what"] for r in world.memory.journal.read(STREAM) if r.entry.kind == "repaired"]
    assert repaired == ["the gateway does not serve what is wanted"]


def test_a_hold_outlives_drivers_and_keeps_deliveries_out(world: World) -> None:
    ask(world.env, "m", Ask.HOLD, actor="bob")

    with pytest.raises(Refused, match="held by bob"):
        world.open(2)
    ask(world.env, "m", Ask.RESUME, actor="bob")
    world.open(2)


def test_a_hold_outlives_the_release_in_which_it_was_taken(world: World) -> None:
    watch = canary(world)
    ask(world.env, "m", Ask.HOLD, actor="bob")
    ask(world.env, "m", Ask.ROLL_BACK, actor="bob", reason="complaints")

    assert later(world, watch, 2.0).ending is Ending.ROLLED_BACK
    mine = by_hand(world)
    later(world, watch, 30.0)
    assert (watch.endpoint.held, routing_of(world)) == ("bob", mine)


def test_a_rollback_works_while_somebody_else_holds(world: World) -> None:
    assert world.live(world.open(2, AT_ONCE)).ending is Ending.PROMOTED
    ask(world.env, "m", Ask.HOLD, actor="bob")

    watch = world.open(1, AT_ONCE, takes_out=2)

    assert later(world, watch, 2.0).ending is Ending.PROMOTED
    assert (routing_of(world).share(1), watch.endpoint.held) == (100, "bob")


def test_an_alias_that_was_moved_behind_the_back_is_put_right_and_recorded(world: World) -> None:
    reconciler = Reconciler({"production": world.env}, lambda _: None)
    reconciler.round()
    world.memory.registry.point("m", "production", 2)

    for _ in range(12):
        world.memory.clock.sleep(1.0)
        reconciler.round()

    named = [v.number for v in world.memory.registry.versions("m") if "production" in v.aliases]
    repaired = [r.entry.body["what"] for r in world.memory.journal.read(STREAM) if r.entry.kind == "repaired"]
    assert (named, repaired) == ([1], ["the alias names version 2, and version 1 serves"])


def test_a_registry_that_is_away_keeps_nothing_else_from_being_repaired(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(model: str) -> None:
        raise RegistryError("database is locked")

    monkeypatch.setattr(world.memory.registry, "versions", away)
    reconciler = Reconciler({"production": world.env}, pytest.fail)
    world.memory.runtime.kill(f"{STREAM}@1")

    for _ in range(3):
        world.memory.clock.sleep(1.0)
        reconciler.round()

    assert world.memory.send("m", {"x": 1, "x2": 1}).status == 200


# -- drivers and clocks ------------------------------------------------------------------------------------------------


def test_a_driver_that_stood_still_after_its_intent_does_nothing_when_it_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path, {1: good, 2: good})
    journal = Meddled()
    world.env = replace(world.env, journal=journal)
    world.live(world.open(1, AT_ONCE))
    frozen = world.open(2)
    before = routing_of(world)

    def another() -> None:
        watch = Watch(STREAM)
        watch.refresh(world.env)
        entry = Entry("asked", world.env.clock.now().isoformat(), "bob", "r2", {"ask": "roll_back", "reason": "no"})
        journal.append(STREAM, watch.endpoint.seq, [entry])

    journal.meddle = another
    with pytest.raises(Conflict, match="bob went on"):
        tick(world.env, frozen, actor="anna")

    assert [i.version for i in world.memory.runtime.instances(STREAM)] == [1]
    assert routing_of(world) == before
    assert later(world, frozen, 2.0).ending is Ending.ROLLED_BACK


@pytest.mark.parametrize("minute", [60.0, -60.0])
def test_drivers_whose_clocks_are_a_minute_apart_take_turns_and_nothing_changes(world: World, minute: float) -> None:
    bake = replace(LADDER, bake=30.0)
    watch = world.open(2, bake)
    other = replace(world.env, clock=Ahead(world.memory.clock, minute))
    for turn in range(400):
        tick(other if turn % 2 else world.env, watch, actor="anna")
        if watch.endpoint.open is None:
            break
        world.users(100)
        world.memory.clock.sleep(1.0)

    release = watch.endpoint.releases[-1]
    assert release.ending is Ending.PROMOTED
    assert watch.endpoint.awake < 400 * 31


def set_back(world: World, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set the wall clock back."""
    clock = world.memory.clock
    monkeypatch.setattr(clock, "_now", clock.now() - timedelta(seconds=seconds))


def test_guards_see_a_bad_version_although_the_clock_was_set_back_by_an_hour(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = world.open(3)
    tick(world.env, watch, actor="anna")
    world.users(20)
    world.memory.clock.sleep(2.0)
    tick(world.env, watch, actor="anna")
    assert "observed" in kinds(world)
    set_back(world, monkeypatch, 3600.0)

    release = world.live(watch, ticks=40)

    assert release.ending is Ending.ROLLED_BACK
    assert datetime.fromisoformat(release.ended) < datetime.fromisoformat(release.opened)


def test_bake_time_and_budgets_go_on_although_the_clock_was_set_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = world.open(2, replace(LADDER, shares=(50,), bake=60.0))
    world.live(watch, ticks=20)
    set_back(world, monkeypatch, 3600.0)
    for _ in range(60):
        tick(world.env, watch, actor="anna")
        world.memory.clock.sleep(1.0)

    assert watch.endpoint.champion == 2


def test_a_challenger_that_hangs_goes_back_although_the_clock_was_set_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = canary(world)
    world.memory.runtime.unready(f"{STREAM}@2", "no answer within 2 s")
    tick(world.env, watch, actor="anna")
    set_back(world, monkeypatch, 3600.0)

    assert later(world, watch, 20.0).ending is Ending.ROLLED_BACK


def test_a_pause_between_two_tries_is_not_prolonged_by_a_clock_that_was_set_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = world.env
    world.env = replace(world.env, router=Deaf(world.env.router, refuses=0))
    watch = world.open(2)
    for _ in range(3):
        with contextlib.suppress(RouterError):
            tick(world.env, watch, actor="anna")
        world.memory.clock.sleep(3.0)
    assert watch.endpoint.failures
    world.env = working
    set_back(world, monkeypatch, 3600.0)

    tick(world.env, watch, actor="anna")

    assert routing_of(world).share(2) == 5


def test_a_driver_that_died_before_the_clock_was_set_back_is_replaced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary(world)
    set_back(world, monkeypatch, 3600.0)
    reconciler, before = Reconciler({"production": world.env}, pytest.fail), len(kinds(world))

    for _ in range(5):
        reconciler.round()
        world.users(20)
        world.memory.clock.sleep(1.0)

    assert len(kinds(world)) > before


def test_a_night_asleep_while_a_version_starts_does_not_end_its_release(world: World) -> None:
    world.memory.runtime.unready(f"{STREAM}@2", "loading")
    watch = world.open(2)
    later(world, watch, 10.0)
    world.memory.clock.sleep(8 * 3600.0)
    later(world, watch, 10.0)
    world.memory.runtime.unready(f"{STREAM}@2", "")

    assert world.live(watch).ending is Ending.PROMOTED


# -- checkpoints -------------------------------------------------------------------------------------------------------


def test_a_checkpoint_says_what_all_records_before_it_come_to(world: World) -> None:
    watch = world.open(2)
    world.live(watch)
    later(world, watch, 5.0)
    records = world.memory.journal.read(STREAM)

    assert records[-1].entry.kind == "checkpoint"
    whole, short = fold(Endpoint(STREAM), records), since(records[-1])
    for name in ("seq", "champion", "champion_release", "champion_since", "wanted", "served", "served_since", "held"):
        assert getattr(whole, name) == getattr(short, name)
    assert misremembered(STREAM, records) == ""


def test_a_checkpoint_that_says_something_else_is_found(world: World) -> None:
    later(world, Watch(STREAM), 2.0)
    *records, last = world.memory.journal.read(STREAM)
    lie = replace(last, entry=replace(last.entry, body={**last.entry.body, "champion": 7}))

    assert "checkpoint" in misremembered(STREAM, [*records, lie])


def test_what_is_at_rest_writes_nothing_more(world: World) -> None:
    watch = Watch(STREAM)
    later(world, watch, 5.0)
    before = len(kinds(world))

    later(world, watch, 3600.0, every=10.0)

    assert len(kinds(world)) == before


def test_letting_go_of_what_nobody_needs_is_no_repair_and_no_news(world: World) -> None:
    watch = world.open(2)
    world.live(watch)
    later(world, watch, 60.0)

    assert [i.version for i in world.memory.runtime.instances(STREAM)] == [2]
    assert "repaired" not in kinds(world)
