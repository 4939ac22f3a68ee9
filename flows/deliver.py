"""From a project to its users: the order of the steps, and what is left on Prefect's pages.

`deliver` walks everything that changed; `retrain` only goes on when there are new data.  `promote` and `rollback`
move a version that exists.  All are drivers: whatever kills them, the journal stands and the reconciler goes on.

The story itself (`deliver_in`, `promote_in`, `rollback_in`) goes in any `Place`, the functions at the top bind that
of a workspace, and `flows/visible.py` makes Prefect's flows of them.  Nothing here imports Prefect, which takes more
than a second: a delivery that finds nothing new is done by then.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from modelcd.domain import promotion
from modelcd.domain.delivery import SCHEDULED, stream_of
from modelcd.domain.release import Ending, Endpoint, Release
from modelcd.domain.verdict import Finding, Verdict, finding_plain, parts
from modelcd.environment import Environment
from modelcd.errors import Busy, Conflict, ModelcdError, Refused
from modelcd.explaining import explained
from modelcd.flows import _pages
from modelcd.flows._effects import Outcome, leave, listener, step
from modelcd.platform.environments import Platform
from modelcd.steps import build
from modelcd.steps.place import Place
from modelcd.steps.release import Candidate, busy, drive, open_release, refuse_held, refuse_rejected, settle, told_of
from modelcd.steps.rollback import begin_rollback, candidate_of, roll_back
from modelcd.steps.schedule import keep_schedule, read_schedule
from modelcd.steps.tick import Ticked
from modelcd.steps.watch import Watch
from modelcd.workspace import Workspace, actor, open_workspace

Told = dict[str, Any]
"""How a flow ended, as plain values: ending, why, and model, version, release, environment where there are any."""


@dataclass(frozen=True)
class Known:
    """What was read of a project before its delivery began: what `pipeline.py` says, and which data are there."""

    spec: Mapping[str, Any]
    data: Mapping[str, Any] | None = None


known: ContextVar[Known | None] = ContextVar("known", default=None)
"""What whoever runs the flow in this process has read already."""


def deliver(
    workspace: str, project: str, reason: str = "", trigger: str = "person", again: str = "", by: str = ""
) -> Told:
    """Walk the project at *project* from its data to the last environment, as far as it is good."""
    place, who, path = Platform(Workspace(Path(workspace))), by or actor(), Path(project)
    with place.warm(path):
        return deliver_in(place, path, who, reason=reason, trigger=trigger, again=again)


def retrain(workspace: str, project: str, trigger: str = "person", by: str = "") -> Told:
    """Deliver the project at *project* if there are data that its champion has not seen."""
    place, who, path = Platform(Workspace(Path(workspace))), by or actor(), Path(project)
    with place.warm(path):
        return deliver_in(place, path, who, trigger=trigger, new_data=True)


def retrain_delivered(model: str) -> Told:
    """Do the same for the folder from which a person delivered *model* last."""
    place = Platform(open_workspace())
    return retrain_in(place, model, actor(), warm=place.warm)


def promote(
    workspace: str, model: str, version: int, environment: str, reason: str = "", again: str = "", by: str = ""
) -> Told:
    """Release a proven version into *environment*: by the ladder of its policy, in the first of several at once."""
    place, who = Platform(Workspace(Path(workspace))), by or actor()
    return promote_in(place, model, version, environment, who, reason=reason, again=again)


def rollback(
    workspace: str, model: str, environment: str, reason: str = "", to: int | None = None, by: str = ""
) -> Told:
    """End the release under way, or bring back the version before."""
    place, who = Platform(Workspace(Path(workspace))), by or actor()
    return rollback_in(place, model, environment, who, reason=reason, to=to)


# -- the walk ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Way:
    """How one delivery goes: where, and what whoever wants it said."""

    place: Place
    again: str
    new_data: bool

    @property
    def first(self) -> Environment:
        """Where a version is accepted."""
        return self.place.environment(self.place.names[0])

    @property
    def by_the_ladder(self) -> list[Environment]:
        """Where it goes by the ladder of its policy, in their order; the last is what it is made for."""
        names = self.place.names
        return [self.place.environment(name) for name in names if promotion.by_the_ladder(names, name)]


def deliver_in(
    place: Place,
    project: Path,
    who: str,
    *,
    reason: str = "",
    trigger: str = "person",
    again: str = "",
    new_data: bool = False,
    only: str = "",
) -> Told:
    """Walk the project at *project* from its data through *place*; with *new_data* only if there are some.

    With *only*, raises `Refused` when the project is that of another model.
    """
    walk = place.walk(project, who, secrets.token_hex(3))
    env, way = walk.env, _Way(place, again, new_data)
    step("describe", lambda: _described(walk))
    build.refuse_misplanned(walk.spec["rollouts"], place.names)
    if only not in ("", walk.model):
        raise Refused(f"{project} is now the project of {walk.model}, not of {only}", help="deliver it by hand, once")
    try:
        with env.journal.exclusive(stream_of(walk.model), 1.0):
            walk.builds = build.read_builds(env, walk.model)
            build.open_delivery(walk, reason=reason, trigger=trigger)
            _scheduled(walk, trigger)
            return _recorded(walk, lambda: _walk(walk, way))
    except Busy as error:
        under_way = build.read_builds(env, walk.model).open
        if under_way is None or "delivery" in error.message:
            raise
        raise Busy(
            f"a delivery of {walk.model} is under way ({under_way.id}, by {under_way.actor},"
            f" since {under_way.opened[11:19]} UTC): {error.message}",
            help=f"watch it: modelcd status {walk.model}",
        ) from error


def retrain_in(
    place: Place,
    model: str,
    who: str,
    *,
    warm: Callable[[Path], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> Told:
    """Deliver *model* once more from the folder from which a person delivered it last, if there are new data.

    *warm* keeps what starts that folder's commands quickly.  Raises `Refused`, and reads nothing of any folder, for a
    model that no person has delivered in *place*.
    """
    project = build.read_builds(place.environment(place.names[-1]), model).delivered_from
    if not project:
        raise Refused(f"no person has delivered {model!r} here", help="run modelcd deliver in its project, once")
    with warm(Path(project)):
        return deliver_in(place, Path(project), who, trigger=SCHEDULED, new_data=True, only=model)


def _scheduled(walk: build.Walk, trigger: str) -> None:
    """Keep what a person's delivery says of retraining, whatever becomes of it; a retraining schedules nothing."""
    if trigger != SCHEDULED and (told := keep_schedule(walk)):
        listener.get()("schedule", "note", told, 0.0)


def _foreseen(walk: build.Walk) -> None:
    with suppress(BaseException):  # whoever needs it will be told of the same trouble, in its own place
        walk.foresee()


def _described(walk: build.Walk) -> Finding:
    before = known.get()
    build.describe(walk, before.spec if before else None)
    return Finding("describe", Verdict.PASS, f"{walk.model}, {len(walk.spec['gates'])} gates")


def _recorded(walk: build.Walk, go: Callable[[], Told]) -> Told:
    try:
        told = go()
    except Conflict as error:
        who = build.read_builds(walk.env, walk.model).deliveries[-1]
        why = f"delivery {walk.delivery} was taken for dead while it stood still, and is closed"
        said = f"{why}: {who.why}" if who.id == walk.delivery else f"{why}; delivery {who.id} goes on"
        raise Refused(said, help=f"how things stand: modelcd status {walk.model}") from error
    except ModelcdError as error:
        _closed(walk, "refused" if error.exit_code == 1 else "failed", error.message, help=error.help)
        raise
    except BaseException as error:
        _closed(walk, "interrupted", f"{type(error).__name__} in its driver")
        raise
    scheduled = read_schedule(walk.env.journal, walk.model)
    retrain = scheduled.plain(walk.env.clock.now()) if scheduled else None
    told = {**told, "delivery": walk.delivery, "model": walk.model, "retrain": retrain}
    _closed(walk, told["ending"], told["why"], told=told)
    return told


def _closed(walk: build.Walk, ending: str, why: str, *, help: str = "", told: Mapping[str, Any] | None = None) -> None:
    """Record how the delivery ended, and leave its page."""
    delivery = build.close_delivery(walk, ending, why, help)
    leave(f"delivery-{walk.model}-{walk.delivery}", lambda: _pages.delivery(walk.model, delivery, told or {}))


def _walk(walk: build.Walk, way: _Way) -> Told:
    environments = way.by_the_ladder
    endpoints = [Watch(env.stream(walk.model)).refresh(env) for env in environments]
    for endpoint in endpoints:
        if endpoint.open is not None:
            raise busy(endpoint, endpoint.open)
    before = known.get()
    _checked(walk, "data", lambda: build.find_data(walk, before.data if before else None))
    if told := nothing_new(walk, endpoints[-1], way.again, way.new_data):
        return told
    for endpoint in endpoints:
        refuse_held(endpoint)
    champion = champion_of(environments[-1], endpoints[-1])
    # What takes seconds to import is needed only once the children have done their work.
    threading.Thread(target=_foreseen, args=(walk,), daemon=True).start()
    for checks in (
        {
            "prepare": partial(build.prepare_data, walk),
            "expectations": partial(build.check_data, walk),
            "tests": partial(build.run_tests, walk),
        },
        {"train": partial(build.train, walk)},
        {"gates": partial(build.check_gates, walk, champion)},
    ):
        for name, finding in _side_by_side(walk, checks).items():
            if finding.verdict is not Verdict.PASS:
                return _stopped(walk, name, finding)
    candidate = build.prove(walk)
    finding = _accepted(walk, way, candidate)
    if finding.verdict is not Verdict.PASS:
        return _stopped(walk, "acceptance", finding)
    proven = {**walk.builds.proven[candidate.version], "findings": _all(walk)}
    for env in environments:
        if env is not environments[-1] and Watch(env.stream(walk.model)).refresh(env).champion == candidate.version:
            continue
        candidate = build.candidate_from(walk.model, proven, env.name)
        watch = step("open", partial(_open, env, candidate, walk.actor, _reason(walk), way.again))
        release = _drive(env, watch, walk.actor, way.place)
        if release.ending is not Ending.PROMOTED:
            break
    return told_of(release)


def _accepted(walk: build.Walk, way: _Way, candidate: Candidate) -> Finding:
    """Accept the version in the first environment, which it gets at once; before any traffic where there is but one."""
    env = way.first
    if len(way.place.names) > 1:
        _stage(walk, way, candidate)
        url = env.router.url(env.stream(walk.model))
        return _checked(walk, "acceptance", lambda: build.accept_version(walk, env, url))

    def run() -> Finding:
        with build.before_traffic(walk, candidate) as url:
            return build.accept_version(walk, env, url)

    return _checked(walk, "acceptance", run)


def _stopped(walk: build.Walk, name: str, finding: Finding) -> Told:
    """Tell at which step a delivery stopped, and what the checks of that step found."""
    number = walk.version.number if walk.version else None
    why = f"{name}: {finding.reason}"
    return {"ending": "stopped", "why": why, "version": number, "at": name, "findings": parts(finding)}


def look(
    place: Place, project: Path, spec: Mapping[str, Any], *, again: str = "", new_data: bool = False
) -> tuple[Known, bool]:
    """See which data *project* has, and say whether there is something to deliver; nothing is recorded by this.

    Whatever else comes of it is to be said, too, by the delivery that looks again.
    """
    walk = place.walk(project, "", "")
    build.describe(walk, spec)
    try:
        build.find_data(walk)
        endpoint = Watch(walk.env.stream(walk.model)).refresh(walk.env)
        idle = endpoint.open is None and nothing_new(walk, endpoint, again, new_data) is not None
    except ModelcdError:
        return Known(spec), True
    return Known(spec, walk.data), not idle


def nothing_new(walk: build.Walk, endpoint: Endpoint, again: str, new_data: bool) -> Told | None:
    """Say why there is nothing to do, if there is not; raises `Rejected` for a version that was rolled back here."""
    training = build.training_digest(walk)
    built = {number: body for number, body in walk.builds.built.items() if body["training"] == training}
    champion = walk.builds.built.get(endpoint.champion or 0)
    if new_data and champion is not None and champion["data"] == walk.data["digest"]:
        why = f"no new data: version {endpoint.champion} in {endpoint.environment} learned from these very files"
        return {"ending": "nothing new", "why": why, "version": endpoint.champion}
    for number in built:
        if number == endpoint.champion and not again:
            why = f"version {number} in {endpoint.environment} was built from this very code, data and parameters"
            if walk.builds.proven[number]["policy_digest"] != walk.spec["policy_digest"]:
                why += "; what changed of its policy (gates, guards, acceptance) holds from the next release on"
            return {"ending": "nothing new", "why": why, "version": number}
        refuse_rejected(endpoint, number, again)
    return None


def _checked(walk: build.Walk, name: str, check: Callable[[], Finding]) -> Finding:
    finding, seconds = _timed(walk, name, check)
    build.note(walk, name, finding, seconds)
    return finding


def _side_by_side(walk: build.Walk, checks: Mapping[str, Callable[[], Finding]]) -> dict[str, Finding]:
    """Run *checks* at the same time, and record them in their order."""
    outcomes = {name: Outcome() for name in checks}
    # Not a pool: leaving one waits for its threads, and Ctrl-C must not wait for a training.
    threads = [
        threading.Thread(target=copy_context().run, args=(_quietly, outcomes[name], walk, name, check), daemon=True)
        for name, check in checks.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    findings: dict[str, Finding] = {}
    for name, outcome in outcomes.items():
        findings[name], seconds = outcome.get()
        build.note(walk, name, findings[name], seconds)
    return findings


def _quietly(outcome: Outcome, walk: build.Walk, name: str, check: Callable[[], Finding]) -> None:
    with suppress(BaseException):
        outcome.of(lambda: _timed(walk, name, check))


def _timed(walk: build.Walk, name: str, check: Callable[[], Finding]) -> tuple[Finding, float]:
    began = walk.env.clock.now()
    finding = step(name, check)
    return finding, (walk.env.clock.now() - began).total_seconds()


def _stage(walk: build.Walk, way: _Way, candidate: Candidate) -> None:
    staging = way.first

    def run() -> Finding:
        watch = Watch(staging.stream(walk.model))
        if watch.refresh(staging).open is not None:  # the way back from what was taken back behind it
            drive(staging, watch, actor=walk.actor, revive=way.place.revive)
        if watch.endpoint.champion == candidate.version:
            there = {"release": watch.endpoint.champion_release}
            return Finding(staging.name, Verdict.PASS, f"version {candidate.version} is staged already", there)
        listener.get()(staging.name, "lasts", f"starting version {candidate.version}", 0.0)
        before = any(release.version == candidate.version for release in watch.endpoint.releases)
        again = f"delivery {walk.delivery}, to be accepted again" if before else ""
        watch = _open(staging, candidate, walk.actor, f"delivery {walk.delivery}", again)
        release = drive(staging, watch, actor=walk.actor, revive=way.place.revive)
        verdict = Verdict.PASS if release.ending is Ending.PROMOTED else Verdict.FAIL
        return Finding(staging.name, verdict, str(release.closing.get("reason", "")), {"release": release.id})

    finding = _checked(walk, staging.name, run)
    if finding.verdict is not Verdict.PASS:
        raise ModelcdError(f"version {candidate.version} did not come up in {staging.name}: {finding.reason}")


def _reason(walk: build.Walk) -> str:
    delivery = walk.builds.deliveries[-1]
    return delivery.reason or f"delivery {delivery.id}, {delivery.trigger}"


def _all(walk: build.Walk) -> list[dict[str, Any]]:
    return [finding_plain(finding) for finding in walk.findings]


# -- releases ----------------------------------------------------------------------------------------------------------


def promote_in(
    place: Place, model: str, version: int, environment: str, who: str, *, reason: str = "", again: str = ""
) -> Told:
    """Release the proven *version* of *model* into *environment* of *place*."""
    env = place.environment(environment)
    names, before = place.names, promotion.before(place.names, environment)
    by_the_ladder = promotion.by_the_ladder(names, environment)
    candidate = candidate_of(env, model, version, at_once=not by_the_ladder)
    if by_the_ladder and before in ("", names[0]):
        build.refuse_unaccepted(place.environment(names[0]), model, version)
    elif by_the_ladder:
        build.refuse_unserved(place.environment(before), model, version)
    endpoint = Watch(env.stream(model)).refresh(env)
    if endpoint.open is None and endpoint.champion == version and not again:
        why = f"version {version} serves {environment} already"
        return {"ending": "nothing new", "why": why, "model": model, "version": version}
    watch = step("open", lambda: _open(env, candidate, who, reason or "promoted by hand", again))
    return told_of(_drive(env, watch, who, place))


def rollback_in(
    place: Place, model: str, environment: str, who: str, *, reason: str = "", to: int | None = None
) -> Told:
    """End the release of *model* under way in *environment* of *place*, or bring back the version before."""
    env = place.environment(environment)
    watch = step("open", lambda: begin_rollback(env, model, who, reason, to, id=secrets.token_hex(3)))
    told = partial(listener.get(), env.name)
    look, say = (lambda what, state=state: told(state, what, 0.0) for state in ("look", "note"))
    came = step("rollback", lambda: roll_back(env, watch, actor=who, tell=look, say=say, revive=place.revive))
    _leave_release(env, watch)
    return came


def champion_of(env: Environment, endpoint: Endpoint) -> Candidate | None:
    """Return the champion of *endpoint* with everything that running it needs."""
    return None if endpoint.champion is None else candidate_of(env, endpoint.model, endpoint.champion, at_once=True)


def _open(env: Environment, candidate: Candidate, who: str, reason: str, again: str) -> Watch:
    return open_release(env, candidate, release=secrets.token_hex(3), actor=who, reason=reason, again=again)


def _drive(env: Environment, watch: Watch, who: str, place: Place) -> Release:
    """Drive the newest release to its end, one task a rung."""
    told = listener.get()

    def look(ticked: Ticked) -> None:
        told(env.name, "look", ticked, 0.0)

    release = watch.endpoint.releases[-1]
    while release.ending is None:
        rung = release.step
        name = f"{env.name} {release.share:g} %" if rung >= 0 else f"{env.name} start"

        def moved(now: Release, rung: int = rung) -> bool:
            return now.step != rung

        before = release
        release = step(name, partial(drive, env, watch, actor=who, tell=look, revive=place.revive, until=moved))
        if release.ending is None and release.step == before.step:
            break
    settle(env, watch, actor=who)
    _leave_release(env, watch)
    return release


def _leave_release(env: Environment, watch: Watch) -> None:
    release = watch.endpoint.releases[-1]

    def page() -> str:
        return _pages.release(watch.endpoint, release, explained(env.journal.read(watch.stream), release))

    leave(f"release-{release.id}", page)
