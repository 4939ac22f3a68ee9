"""Looking: what runs and answers, what the gateway serves, and the evidence since the last look, judged.

Nothing here moves anything.  What a look saw is recorded as it was seen, so that a verdict can be computed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelcd.domain import judge as judging
from modelcd.domain.release import LONGEST_LOOK, Endpoint, Release
from modelcd.domain.restated import looks_of, restated, weighed
from modelcd.domain.rollout import UNREAD, Judged, World
from modelcd.domain.samples import Block, Counters, block_plain, counters_plain
from modelcd.domain.strangers import TAIL, Strangers, doubted, met, strange_finding, strange_requests
from modelcd.domain.verdict import Verdict, finding_plain
from modelcd.environment import Environment
from modelcd.errors import CannotTell, MetricsError, NotReady, RegistryError
from modelcd.steps.outcomes import Outcomes, amendments, outcomes_since
from modelcd.steps.watch import Watch, record

LOOK_EVERY = (1.0, 10.0)
"""Seconds between two looks at the evidence: a thirtieth of the time that a step has lasted, within these bounds.

A release that is bad shows it early, and every look is a record: at one a second a day would have 86,400 of them.  The
moments depend on the clock alone, never on what was seen, or the evidence of a block would not be valid.
"""

NOTHING_YET = Judged(Verdict.INCONCLUSIVE, "no evidence yet")


def look(env: Environment, endpoint: Endpoint, *, aliases: bool = False) -> World:
    """Read what runs in this place, whether it answers, what the gateway serves, and the alias if asked for."""
    ready: dict[int, str] = {}
    dead: dict[int, str] = {}
    digests = {release.version: release.digest for release in endpoint.releases}
    for instance in env.runtime.instances(endpoint.stream):
        if not instance.alive:
            dead[instance.version] = instance.detail or "gone"
        elif digests.get(instance.version, instance.digest) != instance.digest:
            ready[instance.version] = "another artifact runs under this version's name"
        else:
            ready[instance.version] = _answers(env, instance.address, endpoint.model, instance.version)
    alias = _alias(env, endpoint.model) if aliases and endpoint.champion is not None else UNREAD
    return World(env.router.read(endpoint.stream), ready, dead, alias)


def _alias(env: Environment, model: str) -> int | None:
    """Return the version that the alias of this place names; a registry that is away says nothing."""
    try:
        return next((v.number for v in env.registry.versions(model) if env.name in v.aliases), None)
    except RegistryError:
        return UNREAD


def _answers(env: Environment, address: str, model: str, version: int) -> str:
    try:
        said = env.scoring.ready(address)
    except NotReady as error:
        return error.message
    if str(said.get("model")) != model or str(said.get("version")) != str(version):
        return f"it says it is version {said.get('version')} of {said.get('model')}"
    return ""


def observe(env: Environment, watch: Watch, world: World, actor: str) -> Judged:
    """Take the evidence since the last look and judge the present step on all of it."""
    endpoint, release = watch.endpoint, watch.endpoint.open
    if release is None or release.asked or not 0 <= release.step < len(release.policy.shares):
        return NOTHING_YET
    if not endpoint.confirmed or world.routing != endpoint.wanted or release.champion is None:
        return Judged(Verdict.INCONCLUSIVE, "the gateway is being put right; nothing counts meanwhile")
    # What decides stands in the journal: the first judgement of a step is recorded even when nothing new was seen.
    known = release.judgement.get("step") == release.step
    if known and _recent(release, env.clock.now()):
        return _judged(env, watch)
    try:
        counters = env.metrics.counters(endpoint.stream)
    except MetricsError as error:
        # Without counts nobody is promoted; what dies, hangs or is asked for is seen to all the same.
        return Judged(Verdict.ERROR, f"the gateway's counts could not be read: {error.message}")
    if unknown := sorted({release.champion, release.version}.difference(counters)):
        # Not known is not none: with zeros, all that was counted so far would be counted again at the next look.
        return Judged(Verdict.ERROR, f"the gateway has no counts of version {unknown[0]}")
    try:
        outcomes, trouble = outcomes_since(env, watch, release), ""
    except CannotTell as error:
        outcomes, trouble = Outcomes(release.label_cursor), error.message
    counted, anew = _counted(release, counters)
    awake = endpoint.awake_at(env.clock.now())
    block = _block(endpoint, release, counted, outcomes, awake)
    strangers = _strangers(release, counted, outcomes.strangers, awake)
    gone = [v for v in (release.champion, release.version) if not world.answers(v)]
    nothing = not any(c.requests for c in counted.values()) and strangers == release.strangers
    if known and nothing and not (outcomes.any or trouble or gone) and not _bakes(release, env.clock.now()):
        return _judged(env, watch)
    watched = None if gone else block
    _record_look(env, watch, actor, watched, _Read(counted, anew, strangers, outcomes, trouble))
    if trouble:
        return Judged(Verdict.ERROR, f"labels could not be judged: {trouble}")
    return _judged(env, watch)


def _bakes(release: Release, now: datetime) -> bool:
    """Say whether a look must be recorded although nothing came: time is watched only between two looks."""
    since = (now - datetime.fromisoformat(release.last_look)).total_seconds()
    return release.baked < release.policy.bake and not 0 <= since < LONGEST_LOOK / 2


def _recent(release: Release, now: datetime) -> bool:
    """Say whether the last look is not long ago; one in the future was before the clock was set back."""
    if not release.last_look:
        return False
    often, seldom = LOOK_EVERY
    lasted, looked = (now - datetime.fromisoformat(at) for at in (release.step_since, release.last_look))
    return 0 <= looked.total_seconds() < min(max(often, lasted.total_seconds() / 30), seldom)


def _judged(env: Environment, watch: Watch) -> Judged:
    release = watch.endpoint.open
    assert release is not None, "only an open release is judged"
    strange = strange_finding(release.strangers, release.champion, release.version)
    seen, now = watch.judgement(watch.judge, release.step), watch.restated(env)
    stands = judging.finding(now, release.step) if now is not None else None
    judgement = doubted(weighed(seen, stands, release.amended), strange)
    watch.findings = judgement.findings
    return Judged(judgement.verdict, judgement.reason)


@dataclass(frozen=True)
class _Read:
    """What a look read: counts since the last one (of counters that began `anew`, all), strangers, labels."""

    counted: Mapping[int, Counters]
    anew: list[str]
    strangers: Strangers
    outcomes: Outcomes
    trouble: str


def _counted(release: Release, counters: Mapping[int, Counters]) -> tuple[dict[int, Counters], list[str]]:
    counted, anew = {}, []
    own = (release.champion, release.version)
    for version in (*own, *sorted(set(counters).difference(own))):
        assert version is not None, "a step has a champion"
        before, after = release.counted.get(version, Counters()), counters[version]
        since = after.since(before)
        if version not in own and not since.requests:
            continue  # a version that is kept warm, say
        counted[version] = since
        if after.began_after(before) and before.requests:
            anew.append(str(version))
    return counted, anew


def _block(
    endpoint: Endpoint, release: Release, counted: Mapping[int, Counters], outcomes: Outcomes, awake: float
) -> Block:
    assert endpoint.wanted is not None and release.champion is not None, "a step has a routing and a champion"
    return Block(
        revision=endpoint.wanted.revision,
        step=release.step,
        baseline=counted[release.champion],
        challenger=counted[release.version],
        labels=outcomes.labels,
        sums=outcomes.sums,
        told_by=outcomes.told_by,
        at=round(awake, 3),
        unit=endpoint.wanted.unit,
    )


def _strangers(release: Release, counted: Mapping[int, Counters], labels: Mapping[int, int], awake: float) -> Strangers:
    """Return what came of a third version lately; its requests right after the opening were under way before it."""
    requests = strange_requests(counted, release.counted, (release.champion, release.version))
    tail = awake - release.opened_awake < TAIL
    return met(release.strangers, {} if tail else requests, labels, awake - release.strange_awake)


def _record_look(env: Environment, watch: Watch, actor: str, block: Block | None, read: _Read) -> None:
    release = watch.endpoint.open
    assert release is not None, "only an open release is observed"
    block = watch.as_served(block) if block is not None else None
    after = judging.update(watch.judge, block) if block is not None else watch.judge
    body: dict[str, Any] = {
        "block": block_plain(block) if block is not None else None,
        "counted": {str(version): counters_plain(counters) for version, counters in read.counted.items()},
        "anew": read.anew,
        "cursor": read.outcomes.cursor,
        "trouble": read.trouble,
        **({"strangers": {str(v): list(counts) for v, counts in read.strangers.items()}} if read.strangers else {}),
        **told_of_labels(env, watch.stream, release, read.outcomes),
    }
    amended, now = release.amended.after(body), None
    if "amended" in body:
        looks = [*looks_of(env.journal.read(watch.stream), release.id), (watch.endpoint.seq + 1, body)]
        now = restated(release.policy, looks)
    elif (before := watch.restated(env)) is not None:
        now = judging.update(before, block) if block is not None else before
    judgement = watch.judgement(after, release.step)
    # What failed has its intervals already, and users wait for the way back.
    if judgement.verdict is not Verdict.FAIL and judgement.verdict.value != release.judgement.get("verdict"):
        judgement = judging.finding(after, release.step, intervals=True)
    judgement = weighed(judgement, judging.finding(now, release.step) if now is not None else None, amended)
    judgement = doubted(judgement, strange_finding(read.strangers, release.champion, release.version))
    body["judgement"] = judgement_plain(judgement, release.step, release.judgement)
    record(env, watch, "observed", actor, body, judge=after, restated=now)


def told_of_labels(env: Environment, stream: str, release: Release, outcomes: Outcomes) -> dict[str, Any]:
    """Return what a look's record says of labels beside its block: those changed after use, and those not judged."""
    told: dict[str, Any] = {}
    if outcomes.changed:
        looks = list(looks_of(env.journal.read(stream), release.id))
        changed = amendments(release.policy.guards, looks, outcomes.changed)
        told |= {"amended": changed} if changed else {}
    return told | ({"unjudged": list(outcomes.unjudged)} if outcomes.unjudged[0] else {})


def judgement_plain(judgement: judging.Judgement, step: int, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return *judgement* of *step* as JSON values; numbers of findings that are as *before* are left out."""
    known = {(told["name"], told["verdict"]) for told in before.get("findings", ())}
    return {
        "verdict": judgement.verdict.value,
        "reason": judgement.reason,
        "step": step,
        "findings": [_brief(finding_plain(finding), known) for finding in judgement.findings],
    }


def _brief(finding: dict[str, Any], known: set[tuple[str, str]]) -> dict[str, Any]:
    """Leave out the numbers of a finding whose verdict is no news: the blocks have them, and a day has 8,640 looks."""
    same = (finding["name"], finding["verdict"]) in known
    return {**finding, "evidence": {}} if same else finding
