"""The engine once more on a release that was recorded: the very `tick`, under a clock that jumps.

It jumps to the next moment at which something can happen: a record of the live release (a look, an effect, an end), the
end of a step's budget, or the next tick of a driver that has just moved.  What was recorded ends somewhere; a release
that is undecided then stays so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Protocol

from modelcd.domain.plain import to_plain
from modelcd.domain.policy import FROM_LABELS, Canary
from modelcd.domain.release import Endpoint, Release, fold
from modelcd.domain.replay import Found, Look, Recording, Told, told, unfit
from modelcd.domain.samples import Block
from modelcd.environment import Environment
from modelcd.errors import CannotTell, UsageError
from modelcd.steps.observe import LOOK_EVERY
from modelcd.steps.release import TICK_EVERY
from modelcd.steps.tick import Ticked, tick
from modelcd.steps.watch import Watch

ACTOR = "replay"

Plain = dict[str, Any]


class World(Protocol):
    """What happened around the release, moment by moment."""

    recording: Recording
    environment: Environment
    own: bool
    reached: int
    taken_over: list[tuple[str, str]]
    left_out: list[tuple[str, str]]

    @property
    def waiting(self) -> str:
        """The routing under which was served what the engine has not looked at yet; empty when it has seen all."""
        ...

    def ask(self, upto: int) -> None:
        """Let people ask what they asked before record *upto*."""
        ...

    def go(self, found: Found) -> None:
        """Move on to a moment of the recording."""
        ...

    def as_served(self, block: Block) -> Block:
        """Return a block as it was really served."""
        ...


@dataclass
class Run:
    """A replay under way: `last` is what the engine said in its newest tick, `asked` when it left it to a person."""

    world: World
    watch: Watch
    last: Ticked | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def looks(self) -> Mapping[int, Look]:
        """The looks of the recording by their record."""
        return {look.seq: look for look in self.world.recording.looks}

    @property
    def release(self) -> Release:
        """The release as it stands."""
        return self.watch.endpoint.releases[-1]

    @property
    def ended(self) -> bool:
        """Say whether the release has ended."""
        return self.release.ending is not None

    @property
    def now(self) -> datetime:
        """The virtual time."""
        return self.world.environment.clock.now()

    def tick(self) -> None:
        """Tick once; an effect that fails here failed live, too, and is tried again when it was there."""
        failures, waited = self.watch.endpoint.failures, self.last is not None and self.last.wait.asks
        try:
            self.last = tick(self.world.environment, self.watch, actor=ACTOR)
        except CannotTell:
            if self.watch.endpoint.failures == failures:
                raise
            return
        if self.last.wait.asks and not (waited or self.ended or self.watch.endpoint.held):
            self.asked.append((self.now.isoformat(), self.last.wait.why))

    def pause(self, seconds: float) -> None:
        """Let *seconds* pass, and tick."""
        self.world.environment.clock.sleep(seconds)
        self.tick()


def refuse_unfit(policy: Canary, recorded: Canary) -> None:
    """Raise `UsageError` for a policy that cannot be replayed on what was recorded."""
    if why := unfit(policy, recorded):
        if policy.unit is not recorded.unit:
            raise UsageError(why, help="leave unit out of the policy")
        judged = [g.name for g in recorded.guards if g.kind in FROM_LABELS]
        named = f"judge labels by the very guards of that release ({', '.join(judged)}), or " if judged else ""
        raise UsageError(why, help=f"{named}leave it out of the policy")


def replay(world: World) -> Plain:
    """Let the engine decide once more, and tell what it decided beside what was decided live."""
    watch = Watch(world.recording.start.stream, world.as_served)
    watch.refresh(world.environment)
    run = Run(world, watch)
    for found in world.recording.found:
        world.ask(found.seq)
        if found.seq <= world.reached:
            continue
        if not world.own:
            _meanwhile(run, datetime.fromisoformat(found.at))
        _look_first(run, found)
        if run.ended:
            break
        world.go(found)
        run.tick()
        if run.ended:
            break
    if not run.ended:
        world.ask(world.recording.records[-1].seq + 1)
        run.tick() if run.last is None else None
        _finish(run)
    return _result(run)


def _meanwhile(run: Run, until: datetime) -> None:
    """Do before *until* what a driver does of itself: tick after a move, and when a budget is spent."""
    while run.last is not None and run.last.moves and not run.ended and run.now + _seconds(TICK_EVERY) < until:
        run.pause(TICK_EVERY)
    release = run.release
    if run.ended or not release.step_since or release.step < 0:
        return
    step, whole = release.policy.step_budget, release.policy.budget
    for since, budget in sorted(((release.step_since, step), (release.opened, whole)), key=lambda due: due[1]):
        due = datetime.fromisoformat(since) + _seconds(budget + TICK_EVERY)
        if run.now < due < until and not run.ended:
            run.pause((due - run.now).total_seconds())


def _look_first(run: Run, found: Found) -> None:
    """Let the engine look at what came under one routing before anything of the next one comes."""
    coming = run.looks.get(found.seq)
    if coming is None or coming.empty:
        return
    tries = int(LOOK_EVERY[1] / LOOK_EVERY[0]) + 1
    while not run.ended and tries and run.world.waiting not in ("", coming.revision):
        run.pause(LOOK_EVERY[0])
        tries -= 1


def _finish(run: Run) -> None:
    """Let the engine look at what is left, and do what follows from it at once."""
    tries = int(LOOK_EVERY[1] / LOOK_EVERY[0]) + 1
    while not run.world.own and not run.ended and tries and run.world.waiting:
        run.pause(LOOK_EVERY[0])
        tries -= 1
    while not run.ended and run.last is not None and run.last.moves:
        run.pause(TICK_EVERY)


def _seconds(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def _result(run: Run) -> Plain:
    recording, world, release = run.world.recording, run.world, run.release
    live = told(recording.start, recording.records)
    records = world.environment.journal.read(recording.start.stream)
    before = len(recording.before)
    again = told(fold(Endpoint(run.watch.stream), records[:before]), records[before:])
    return {
        "kind": "replay",
        "release": recording.release,
        "model": recording.start.model,
        "environment": recording.start.environment,
        "version": recording.version,
        "champion": recording.start.champion,
        "by": recording.opening.actor,
        "reason": str(recording.opening.body.get("reason", "")),
        "opened": recording.opening.at,
        "own_policy": world.own,
        "policy": to_plain(release.policy),
        "live": _plain(live, ""),
        "replayed": _plain(again, run.last.wait.why if run.last is not None else "nothing was recorded of it"),
        "as_recorded": again.course == live.course if world.own else None,
        "served_at": list(dict.fromkeys(look.share for look in recording.looks if not look.empty)),
        "asked": [{"at": at, "what": why} for at, why in run.asked],
        "taken_over": [{"at": at, "what": what} for at, what in world.taken_over],
        "left_out": [{"at": at, "what": what} for at, what in world.left_out],
    }


def _plain(story: Told, waits: str) -> Plain:
    return {**asdict(story), "rungs": [asdict(rung) for rung in story.rungs], "waits": "" if story.ending else waits}
