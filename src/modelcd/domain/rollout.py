"""The one place that decides what happens next to an endpoint: a pure function from what is to the next move.

`decide` is asked again after every move, so it needs no memory of its own: what was wanted and what was seen to be
done stand in the journal.  Its order is its policy: the way back comes first, then repair, then waiting, and only a
PASS leads to a larger share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from modelcd.domain.policy import OnDoubt
from modelcd.domain.release import Ending, Endpoint, Release
from modelcd.domain.routing import Arm, Routing
from modelcd.domain.verdict import Verdict

RETIRE_AFTER = 2.0
"""Seconds that a version without traffic keeps running after a way back, so that its last requests are counted."""

LONGEST_PAUSE = 60.0
"""Seconds at most between two tries of an effect that keeps failing, or two starts of what keeps dying."""

CRASHES = 2
"""How often a challenger is started again while the champion answers in its stead; when it dies once more, it goes."""

PATIENCE = 5
"""How often in a row an effect may fail (half a minute) until a release without a share is given up, or a person asked.
"""

HUNG = 60.0
"""Seconds after which a champion that lives and does not answer is started anew; a challenger has its ready_budget."""


UNREAD = -1
"""No version's number: what the alias names was not read."""


@dataclass(frozen=True)
class World:
    """What is: `ready` maps each version that runs in this place to "" or to the reason why it does not answer.

    `dead` maps versions that were started here and whose process is gone to what is known of it.  `alias` is the
    version that the registry's alias of this place names; `UNREAD` when nobody asked the registry.
    """

    routing: Routing | None
    ready: Mapping[int, str] = field(default_factory=dict)
    dead: Mapping[int, str] = field(default_factory=dict)
    alias: int | None = UNREAD

    def answers(self, version: int) -> bool:
        """Say whether *version* runs here and answered its readiness probe as itself."""
        return self.ready.get(version) == ""

    def state(self, version: int) -> str:
        """Say in a few words how *version* is."""
        if version in self.dead:
            return f"its process died: {self.dead[version]}"
        return self.ready.get(version, "not started") or "ready"


@dataclass(frozen=True)
class Judged:
    """What the judge says of the present step: verdict and one sentence."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Start:
    """Start *version* in this place; *again* says that it ran here before and its process is gone."""

    version: int
    why: str
    again: bool = False


@dataclass(frozen=True)
class Warm:
    """Send *version* the first requests of its life, away from all traffic."""

    version: int
    why: str


@dataclass(frozen=True)
class Rehearse:
    """Go the way back before anybody depends on it: *there* is a routing without risk, *back* the way back, timed."""

    there: Routing
    back: Routing
    why: str


@dataclass(frozen=True)
class Shift:
    """Put *routing* in force; *step* is the rung it belongs to, *back* marks a way back.

    *retires* lets go of what has no share any more; nothing was wrong.
    """

    routing: Routing
    step: int
    why: str
    back: bool = False
    retires: bool = False


@dataclass(frozen=True)
class Point:
    """Let the environment's alias name *version*: it is the champion now."""

    version: int
    why: str


@dataclass(frozen=True)
class Stop:
    """Stop *version* in this place; *retires* says that nobody needs it, and nothing was wrong."""

    version: int
    why: str
    retires: bool = False


@dataclass(frozen=True)
class Close:
    """The release has ended."""

    ending: Ending
    why: str


@dataclass(frozen=True)
class Open:
    """Open *release*, the way back from the champion, *takes_out*, to *version*: late labels speak against it."""

    release: str
    version: int
    takes_out: int
    why: str


@dataclass(frozen=True)
class Wait:
    """Nothing to do now; *why* is for people, *asks* says that a person must decide."""

    why: str
    asks: bool = False


Move = Start | Warm | Rehearse | Shift | Point | Stop | Close | Open | Wait


def decide(endpoint: Endpoint, world: World, judged: Judged, now: datetime) -> Move:
    """Return the next move.  Only PASS ever moves traffic towards a challenger."""
    release = endpoint.open
    if release is None:
        return _at_rest(endpoint, world, now)
    if release.returning:
        return _go_back(endpoint, release, world, now)
    if reason := _must_go_back(endpoint, release, world, judged, now):
        return _way_back(endpoint, release, world, reason, now)
    if stays := _hands_off(endpoint, world) or _pause(endpoint, now):
        return stays
    # What a person takes out is not started first: the way from it is the repair.
    leaving = release.by_rollback and release.next_step < 0
    if not leaving and (repair := _repair(endpoint, world, now)):
        return repair
    if release.version not in world.ready:
        return _begin(release, world)
    if not world.answers(release.version):
        return Wait(f"version {release.version} is starting: {world.state(release.version)}")
    return _ahead(endpoint, release, world, judged, now)


def _must_go_back(endpoint: Endpoint, release: Release, world: World, judged: Judged, now: datetime) -> str:
    if release.asked:
        return f"{release.asked_by} rolled it back: {release.asked}"
    if release.step < 0:
        return _never_came_up(endpoint, release, world, now)
    if lost := _lost(endpoint, release, world, now):
        return lost
    on_ladder = release.step < len(release.policy.shares)
    return judged.reason if on_ladder and judged.verdict is Verdict.FAIL else ""


def _never_came_up(endpoint: Endpoint, release: Release, world: World, now: datetime) -> str:
    """Say why a challenger without a share will not get one: a budget is exceeded."""
    version, policy, awake = release.version, release.policy, endpoint.awake_at(now)
    if endpoint.failures >= PATIENCE and not release.by_rollback:
        return f"tried {endpoint.failures} times: {endpoint.failure}"
    begun = release.started_awake if release.started else release.opened_awake
    if not release.warmed and not world.answers(version) and awake - begun > policy.start_budget:
        state = world.state(version) if version in world.ready or not endpoint.failure else endpoint.failure
        return f"version {version} was not ready within {policy.start_budget:g} s: {state}"
    if awake - release.opened_awake > policy.budget:
        return f"version {version} got no share within {policy.budget:g} s: {endpoint.failure or 'it is held'}"
    return ""


def _lost(endpoint: Endpoint, release: Release, world: World, now: datetime) -> str:
    """Say how the challenger was lost, if it was and the champion was not: then the machine is not to blame."""
    version = release.version
    if release.champion is None or not world.answers(release.champion):
        return ""
    if version in world.dead:
        if release.policy.fallback and release.crashes < CRASHES:
            return ""
        times = f" {release.crashes + 1} times" if release.crashes else ""
        return f"the challenger, version {version}, died{times}: {world.dead[version]}"
    silent = _silent(endpoint, version, now)
    if silent > release.policy.ready_budget and not world.answers(version):
        return f"the challenger, version {version}, was not ready for {silent:.0f} s: {world.state(version)}"
    return ""


def _silent(endpoint: Endpoint, version: int, now: datetime) -> float:
    """Return for how many seconds *version* has served without answering its probe."""
    since = endpoint.unready.get(version)
    return endpoint.awake_at(now) - since if since is not None else 0.0


def _hands_off(endpoint: Endpoint, world: World) -> Wait | None:
    """Leave a place to the person who took over and changed its gateway by hand."""
    by_hand = world.routing is not None and endpoint.confirmed and world.routing != endpoint.wanted
    rolling_back = endpoint.open is not None and endpoint.open.by_rollback
    if not endpoint.held or not by_hand or rolling_back:
        return None
    return Wait(f"held by {endpoint.held}, who changed the gateway by hand: nothing is put right", asks=True)


def _way_back(endpoint: Endpoint, release: Release, world: World, reason: str, now: datetime) -> Move:
    if release.step < 0 and release.next_step < 0:
        return Close(Ending.ROLLED_BACK if release.asked else Ending.FAILED, reason)
    if release.champion is None:
        return Wait(f"{reason}; there is no earlier version to go back to", asks=True)
    if release.champion not in world.ready and release.champion not in world.dead:
        # Nobody lives there to be routed to (a workspace that was down): its address comes with its start.
        return _start_again(endpoint, release.champion, f"the rollback leads to version {release.champion}", now)
    known = (release.version,) if release.version in world.ready or release.version in world.dead else ()
    back = Routing.all_to(release.champion, keeping=known)
    return Shift(back, -1, reason, back=True)


def _go_back(endpoint: Endpoint, release: Release, world: World, now: datetime) -> Move:
    assert release.champion is not None and endpoint.wanted is not None, "a way back leads to a champion"
    if endpoint.confirmed and world.routing == endpoint.wanted:
        if endpoint.champion != release.champion:
            return Point(release.champion, release.returning)
        return Close(Ending.ROLLED_BACK, release.returning)
    if release.champion not in world.ready:
        return _start_again(endpoint, release.champion, f"the rollback leads to version {release.champion}", now)
    if not world.answers(release.champion):
        return _await_champion(endpoint, release.champion, world, now)
    return Shift(endpoint.wanted, -1, release.returning, back=True)


def _await_champion(endpoint: Endpoint, champion: int, world: World, now: datetime) -> Move:
    if (silent := _silent(endpoint, champion, now)) > HUNG:
        return Stop(champion, f"the champion has not answered for {silent:.0f} s: {world.state(champion)}")
    return Wait(f"the champion is starting: {world.state(champion)}")


def _repair(endpoint: Endpoint, world: World, now: datetime) -> Move | None:
    """Restore what the journal says is wanted: dead or hung processes of the routing, then the routing itself."""
    wanted = endpoint.wanted
    if wanted is None:
        return None
    for version in wanted.serving:
        if version not in world.ready:
            return _start_again(endpoint, version, f"version {version} serves here and does not run", now)
        if not world.answers(version) and (silent := _silent(endpoint, version, now)) > HUNG:
            return Stop(version, f"version {version} has not answered for {silent:.0f} s: {world.state(version)}")
    if endpoint.confirmed and world.routing == wanted:
        return None
    waiting = [version for version in wanted.serving if not world.answers(version)]
    if waiting:
        return Wait(f"version {waiting[0]} is starting: {world.state(waiting[0])}")
    step = endpoint.open.next_step if endpoint.open else -1
    why = "the gateway does not serve what is wanted" if endpoint.confirmed else "not seen to be served yet"
    known = tuple(arm for arm in wanted.arms if arm.share > 0 or arm.version in world.ready)
    return Shift(Routing(known, wanted.shadows, wanted.unit, wanted.salt, wanted.fallback), step, why)


def _start_again(endpoint: Endpoint, version: int, why: str, now: datetime) -> Move:
    """Start what ran before, after longer and longer pauses while it keeps dying."""
    times, last = endpoint.restarts.get(version, (0, ""))
    left = _left(min(2.0 ** (times - 1), LONGEST_PAUSE), last, now) if times else 0.0
    if left > 0:
        return Wait(f"version {version} died {times + 1} times in a row; starting it again in {left:.0f} s")
    return Start(version, why, again=True)


def _begin(release: Release, world: World) -> Move:
    if release.version in world.dead and release.launched:
        return Close(Ending.FAILED, f"version {release.version} did not start: {world.dead[release.version]}")
    return Start(release.version, f"release {release.id}")


def _ahead(endpoint: Endpoint, release: Release, world: World, judged: Judged, now: datetime) -> Move:
    policy, last = release.policy, len(release.policy.shares)
    if release.step == last:
        if endpoint.champion != release.version:
            return Point(release.version, f"release {release.id}")
        return Close(Ending.PROMOTED, _why_promoted(release))
    if endpoint.held and not release.by_rollback:
        return Wait(f"held by {endpoint.held}; guards keep running", asks=True)
    if release.step < 0:
        return _prepare(release) or _step_up(release, world, 0, "it is ready and answers as itself")
    if judged.verdict is Verdict.PASS:
        if release.baked >= policy.bake:
            return _step_up(release, world, release.step + 1, judged.reason)
        judged = Judged(judged.verdict, f"baked for {release.baked:.0f} of {policy.bake:g} s; {judged.reason}")
    return _undecided(endpoint, release, world, judged, now)


def _undecided(endpoint: Endpoint, release: Release, world: World, judged: Judged, now: datetime) -> Move:
    """Watch on while there is time, then do what the policy says."""
    policy, awake = release.policy, endpoint.awake_at(now)
    for since, budget in ((release.step_awake, policy.step_budget), (release.opened_awake, policy.budget)):
        if awake - since <= budget:
            continue
        if policy.on_doubt is OnDoubt.ROLL_BACK:
            return _way_back(endpoint, release, world, f"no answer within {budget:g} s: {judged.reason}", now)
        if policy.on_doubt is OnDoubt.EXTEND and awake - release.opened_awake <= policy.budget:
            return Wait(f"watching on after {budget:g} s at {release.share:g} %: {judged.reason}")
        return Wait(f"undecided at {release.share:g} % after {budget:g} s: {judged.reason}", asks=True)
    return Wait(judged.reason)


def _prepare(release: Release) -> Move | None:
    """What comes before the first share: requests that warm the challenger up, and the way back, gone and timed."""
    if release.warm_up and release.policy.warm_up and not release.warmed:
        return Warm(release.version, f"{release.policy.warm_up} synthetic requests")
    if release.champion in (None, release.version) or release.by_rollback or release.way_back is not None:
        return None
    assert release.champion is not None, "a way back leads to a champion"
    arms = (Arm(release.champion, 100.0), Arm(release.version, 0.0))
    fallback = release.champion if release.policy.fallback else None
    there = Routing(arms, unit=release.policy.unit, salt=release.id, fallback=fallback)
    back = Routing.all_to(release.champion, keeping=(release.version,))
    return Rehearse(there, back, "the rollback is rehearsed before the first share")


def _why_promoted(release: Release) -> str:
    if release.by_rollback:
        return f"{release.actor} rolled version {release.takes_out} back: {release.reason}"
    if release.champion is None:
        return "first version here: no champion to compare with"
    if release.champion == release.version:
        return "it served here before, too: nothing to compare"
    if not release.policy.shares:
        return "everything at once, as the policy says"
    return f"no guard found it worse than version {release.champion} at {release.policy.shares[-1]:g} %"


def _step_up(release: Release, world: World, step: int, why: str) -> Shift:
    shares, champion = release.policy.shares, release.champion
    if champion is None or champion == release.version:
        return Shift(Routing.all_to(release.version), len(shares), why)
    if step >= len(shares):
        known = (champion,) if champion in world.ready or champion in world.dead else ()
        return Shift(Routing.all_to(release.version, keeping=known), len(shares), why)
    arms = (Arm(champion, 100.0 - shares[step]), Arm(release.version, shares[step]))
    fallback = champion if release.policy.fallback else None
    return Shift(Routing(arms, unit=release.policy.unit, salt=release.id, fallback=fallback), step, why)


def reopened(endpoint: Endpoint, why: str) -> Open | Wait:
    """Return what follows when late labels say that the champion should never have been promoted, and *why*.

    The way back is opened once, and under the same name by whoever comes first: if it ends without the version before,
    that was a person's wish or did not work, and a person must decide.
    """
    release = endpoint.promotion
    assert release is not None, "late labels belong to the champion's release"
    told = f"late labels reopened the verdict on version {release.version}: {why}"
    back = f"{release.id}-back"
    tried = next((r for r in endpoint.releases if r.id == back), None)
    if endpoint.open is not None:
        return Wait(f"{told}; nothing moves until release {endpoint.open.id}, which is under way, is closed")
    if endpoint.held:
        return Wait(f"{told}; nothing moves while it is held by {endpoint.held}", asks=True)
    if tried is not None:
        return Wait(f"{told}; the rollback, release {back}, {tried.ending}: a person must decide", asks=True)
    if endpoint.before is None:
        return Wait(f"{told}; there is no earlier version to go back to: a person must decide", asks=True)
    return Open(back, endpoint.before, release.version, told)


def _at_rest(endpoint: Endpoint, world: World, now: datetime) -> Move:
    """Nobody is on the way: go back where late labels say so, else keep what is wanted true."""
    doubted = reopened(endpoint, endpoint.reopened) if endpoint.reopened else None
    if isinstance(doubted, Open):
        return doubted
    move = _keep(endpoint, world, now)
    # What a person must decide is said only where nothing is to be repaired, and nothing keeps failing.
    return doubted if doubted is not None and isinstance(move, Wait) and not endpoint.failures else move


def _keep(endpoint: Endpoint, world: World, now: datetime) -> Move:
    """Keep the champion served and let go of what nobody needs."""
    if endpoint.wanted is not None:
        if stays := _hands_off(endpoint, world) or _pause(endpoint, now):
            return stays
        if repair := _repair(endpoint, world, now):
            return repair
    if endpoint.held:
        return Wait(f"held by {endpoint.held}", asks=True)
    if endpoint.champion is not None and world.alias not in (UNREAD, endpoint.champion):
        named = f"version {world.alias}" if world.alias is not None else "nothing"
        return Point(endpoint.champion, f"the alias names {named}, and version {endpoint.champion} serves")
    last = endpoint.releases[-1] if endpoint.releases else None
    if last is None:
        return Wait("nothing was ever released here")
    warm = last.policy.keep_warm if last.ending is Ending.PROMOTED else RETIRE_AFTER
    idle = [arm.version for arm in endpoint.wanted.arms if arm.share == 0] if endpoint.wanted else []
    if _elapsed(last.ended, now) < warm:
        return Wait("the version before is kept warm" if idle else "nothing is under way")
    if idle and endpoint.champion is not None:
        return Shift(Routing.all_to(endpoint.champion), -1, "its time to be kept warm is over", retires=True)
    for version in (*world.ready, *world.dead):
        if endpoint.wanted is None or version not in endpoint.wanted.versions:
            return Stop(version, "it is not needed here any more", retires=True)
    return Wait("nothing is under way")


def _pause(endpoint: Endpoint, now: datetime) -> Wait | None:
    pause = min(2.0**endpoint.failures, LONGEST_PAUSE) if endpoint.failures else 0.0
    left = _left(pause, endpoint.failed_at, now) if pause else 0.0
    asks = endpoint.failures >= PATIENCE
    return Wait(f"trying again in {left:.0f} s: {endpoint.failure}", asks=asks) if left > 0 else None


def _left(pause: float, since: str, now: datetime) -> float:
    """Return the seconds left of a *pause* that began at *since*; a clock that was set back does not prolong it."""
    elapsed = (now - datetime.fromisoformat(since)).total_seconds() if since else pause
    return pause - elapsed if elapsed >= 0 else 0.0


def _elapsed(since: str, now: datetime) -> float:
    if not since:
        return 0.0
    return max(0.0, (now - datetime.fromisoformat(since)) / timedelta(seconds=1))
