"""The engine: read what is, decide, write the intent, act, read back, write the outcome.

A tick is short and safe to repeat; it is the only thing that moves traffic.  Whoever calls it (a flow, a shell, the
reconciler) is only a driver: ticks of one endpoint exclude each other, and the journal refuses a writer who has not
read its newest record.  A `Watch` is a driver's reading of one endpoint; it may be thrown away at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, assert_never

from modelcd.artifact import digest_of
from modelcd.domain import judge as judging
from modelcd.domain.policy import GuardKind
from modelcd.domain.records import Entry, Record
from modelcd.domain.release import LONGEST_LOOK, Endpoint, Release, counters_from, counters_plain, fold
from modelcd.domain.rollout import Close, Judged, Move, Point, Shift, Start, Stop, Wait, World, decide
from modelcd.domain.samples import Block, Counters, Labels
from modelcd.domain.verdict import Finding, Verdict
from modelcd.environment import Environment
from modelcd.errors import CannotTell, ModelcdError, NotReady, RegistryError, RuntimeFailure
from modelcd.ports import Unit

LOOK_EVERY = (1.0, 10.0)
"""Seconds between two looks at the evidence: a thirtieth of the time that a step has lasted, within these bounds.

A release that is bad shows it early, and every look is a record: at one a second a day would have 86,400 of them.  The
moments depend on the clock alone, never on what was seen, or the evidence of a block would not be valid.
"""

MOVES = 12
"""Moves at most in one tick, so that it stays short whatever it is asked to do."""

NOTHING_YET = Judged(Verdict.INCONCLUSIVE, "no evidence yet")


@dataclass
class Watch:
    """What a driver has read of one endpoint: its state, the evidence of the open release, the newest findings.

    `as_served` says of a block under which routing it was really served, where that is not the one in force: in a
    replay.
    """

    stream: str
    as_served: Callable[[Block], Block] = lambda block: block
    endpoint: Endpoint = field(init=False)
    openings: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    _judge: judging.Judge | None = field(default=None, init=False, repr=False)
    _unjudged: list[Mapping[str, Any]] = field(default_factory=list, init=False, repr=False)
    _said: tuple[judging.Judge, int, judging.Judgement] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.endpoint = Endpoint(self.stream)

    def take(self, records: list[Record], judge: judging.Judge | None = None) -> None:
        """Follow the journal by *records*; *judge* is the judge after them, where that is known already."""
        for record in records:
            self.endpoint = fold(self.endpoint, [record])
            release = self.endpoint.open
            if record.entry.kind == "opened" and release is not None:
                self._judge, self._unjudged, self.findings = judging.start(release.policy), [], ()
                self.openings[release.version] = record.entry.body
            elif record.entry.kind == "observed" and record.entry.body["block"]:
                self._unjudged.append(record.entry.body["block"])
            elif record.entry.kind == "closed":
                self._judge, self._unjudged = None, []
        if judge is not None:
            self._judge, self._unjudged = judge, []

    @property
    def judge(self) -> judging.Judge:
        """What was learned of the open release; computed when it is asked for, since a day has thousands of blocks.

        Who only wants to write what a person asks, or to go back because of it, need not wait for that.
        """
        assert self._judge is not None, "a release is open"
        judge = self._judge
        for block in self._unjudged:
            judge = judging.update(judge, block_from(block))
        self._judge, self._unjudged = judge, []
        return judge

    def judgement(self, judge: judging.Judge, step: int) -> judging.Judgement:
        """Return what *judge* says of *step*; ticks between two looks do not compute it again."""
        if self._said is None or self._said[0] is not judge or self._said[1] != step:
            self._said = judge, step, judging.judgement(judge, step)
        return self._said[2]

    def refresh(self, env: Environment) -> Endpoint:
        """Read what was recorded since."""
        self.take(env.journal.read(self.stream, after=self.endpoint.seq))
        return self.endpoint


@dataclass(frozen=True)
class Ticked:
    """What a tick did, and what it waits for now."""

    endpoint: Endpoint
    moves: tuple[Move, ...]
    wait: Wait
    findings: tuple[Finding, ...] = ()


def tick(env: Environment, watch: Watch, *, actor: str, wait: float = 0.0) -> Ticked:
    """Bring the endpoint of *watch* as far as it can go now.

    Raises `Busy` when another tick of it does not end within *wait* seconds, `Conflict` when another writer was
    faster, and whatever a port could not find out.
    """
    with env.journal.exclusive(watch.stream, wait):
        watch.refresh(env)
        moves: list[Move] = []
        world = look(env, watch.endpoint)
        judged = observe(env, watch, world, actor)
        while len(moves) < MOVES:
            move = decide(watch.endpoint, world, judged, env.clock.now(), env.start_budget)
            if isinstance(move, Wait):
                return Ticked(watch.endpoint, tuple(moves), move, watch.findings)
            carry_out(env, watch, move, actor)
            moves.append(move)
            world, judged = look(env, watch.endpoint), NOTHING_YET
        return Ticked(watch.endpoint, tuple(moves), Wait("more to do"), watch.findings)


def record(
    env: Environment,
    watch: Watch,
    kind: str,
    actor: str,
    body: Mapping[str, Any],
    release: str = "",
    *,
    judge: judging.Judge | None = None,
) -> None:
    """Write one record behind everything that *watch* has read, of the open release unless *release* names another.

    *judge* is the judge after it, where it is known.
    """
    known = watch.endpoint.open
    entry = Entry(kind, env.clock.now().isoformat(), actor, release or (known.id if known else ""), body)
    watch.take(env.journal.append(watch.stream, watch.endpoint.seq, [entry]), judge)


# -- looking -----------------------------------------------------------------------------------------------------------


def look(env: Environment, endpoint: Endpoint) -> World:
    """Read what runs in this place, whether it answers as itself, and what the gateway serves."""
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
    return World(env.router.read(endpoint.stream), ready, dead)


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
        return _judged(watch, release)
    counters = env.metrics.counters(endpoint.stream)
    try:
        labels, cursor, trouble = *_labels(env, watch, release), ""
    except CannotTell as error:
        labels, cursor, trouble = {}, release.label_cursor, error.message
    block, counted, anew = _block(endpoint, release, counters, labels)
    gone = [v for v in (release.champion, release.version) if not world.answers(v)]
    idle = not (block.baseline.requests or block.challenger.requests or labels or trouble or gone)
    if known and idle and not _bakes(release, env.clock.now()):
        return _judged(watch, release)
    watched = None if gone else block
    _record_look(env, watch, actor, watched, (counted, anew, cursor), trouble)
    if trouble:
        return Judged(Verdict.ERROR, f"labels could not be judged: {trouble}")
    return _judged(watch, release)


def _bakes(release: Release, now: datetime) -> bool:
    """Say whether a look must be recorded although nothing came: time is watched only between two looks."""
    since = (now - datetime.fromisoformat(release.last_look)).total_seconds()
    return release.baked < release.policy.bake and since >= LONGEST_LOOK / 2


def _recent(release: Release, now: datetime) -> bool:
    if not release.last_look:
        return False
    often, seldom = LOOK_EVERY
    lasted, looked = (now - datetime.fromisoformat(at) for at in (release.step_since, release.last_look))
    return looked.total_seconds() < min(max(often, lasted.total_seconds() / 30), seldom)


def _judged(watch: Watch, release: Release) -> Judged:
    judgement = watch.judgement(watch.judge, release.step)
    watch.findings = judgement.findings
    return Judged(judgement.verdict, judgement.reason)


def _block(
    endpoint: Endpoint,
    release: Release,
    counters: Mapping[int, Counters],
    labels: Mapping[str, tuple[Labels, Labels]],
) -> tuple[Block, dict[int, Counters], list[str]]:
    assert endpoint.wanted is not None and release.champion is not None, "a step has a routing and a champion"
    counted, anew = {}, []
    for version in (release.champion, release.version):
        before, after = release.counted.get(version, Counters()), counters.get(version, Counters())
        counted[version] = after.since(before)
        if after.began_after(before) and before.requests:
            anew.append(str(version))
    block = Block(endpoint.wanted.revision, release.step, counted[release.champion], counted[release.version], labels)
    return block, counted, anew


def _record_look(
    env: Environment,
    watch: Watch,
    actor: str,
    block: Block | None,
    read: tuple[Mapping[int, Counters], list[str], int],
    trouble: str,
) -> None:
    counted, anew, cursor = read
    release = watch.endpoint.open
    assert release is not None, "only an open release is observed"
    block = watch.as_served(block) if block is not None else None
    after = judging.update(watch.judge, block) if block is not None else watch.judge
    judgement = watch.judgement(after, release.step)
    body = {
        "block": block_plain(block) if block is not None else None,
        "counted": {str(version): counters_plain(counters) for version, counters in counted.items()},
        "anew": anew,
        "cursor": cursor,
        "trouble": trouble,
        "judgement": {
            "verdict": judgement.verdict.value,
            "reason": judgement.reason,
            "step": release.step,
            "findings": [finding_plain(finding) for finding in judgement.findings],
        },
    }
    record(env, watch, "observed", actor, body, judge=after)


def _labels(env: Environment, watch: Watch, release: Release) -> tuple[dict[str, tuple[Labels, Labels]], int]:
    guard = next((g for g in release.policy.guards if g.kind is GuardKind.SUCCESS), None)
    if guard is None:
        return {}, release.label_cursor
    pairs = env.predictions.labelled(watch.stream, after=release.label_cursor)
    cursor = pairs[-1].cursor if pairs else release.label_cursor
    mine = [p for p in pairs if p.leg == "main" and p.revision in release.revisions]
    if not mine:
        return {}, cursor
    snapshot = Path(watch.openings[release.version]["snapshot"])
    good = env.successes.judge(snapshot, guard.name, [(p.score, p.value) for p in mine])
    sums: dict[str, dict[int, list[int]]] = {}
    for pair, success in zip(mine, good, strict=True):
        count = sums.setdefault(pair.revision, {}).setdefault(pair.version, [0, 0])
        count[0] += 1
        count[1] += not success
    assert release.champion is not None, "labels are compared with a champion's"
    return {
        revision: (Labels(*arms.get(release.champion, [0, 0])), Labels(*arms.get(release.version, [0, 0])))
        for revision, arms in sums.items()
    }, cursor


# -- acting ------------------------------------------------------------------------------------------------------------


def carry_out(env: Environment, watch: Watch, move: Move, actor: str) -> None:
    """Do *move*: the intent is recorded before it, the outcome after; a failure is recorded and raised."""
    if isinstance(move, Close):
        release = watch.endpoint.open
        exposed = counters_plain(release.exposed) if release else {}
        body = {"ending": move.ending.value, "reason": move.why, "exposed": exposed}
        return record(env, watch, "closed", actor, body)
    if watch.endpoint.open is None or (isinstance(move, Start) and move.version != watch.endpoint.open.version):
        record(env, watch, "repaired", actor, {"what": move.why, "move": type(move).__name__.lower()})
    record(env, watch, "intended", actor, _intent(move))
    try:
        result = _do(env, watch, move)
    except ModelcdError as error:
        record(env, watch, "failed", actor, {**_intent(move), "error": error.message, "help": error.help})
        raise
    record(env, watch, "done", actor, {**_intent(move), **result})


def _intent(move: Move) -> dict[str, Any]:
    match move:
        case Start():
            return {"effect": "start", "version": move.version, "why": move.why}
        case Shift():
            plain = move.routing.to_plain()
            return {"effect": "shift", "routing": plain, "step": move.step, "why": move.why, "back": move.back}
        case Point():
            return {"effect": "point", "version": move.version, "why": move.why}
        case Stop():
            return {"effect": "stop", "version": move.version, "why": move.why}
        case Close() | Wait():
            raise AssertionError("closing is one record, waiting is none")
        case _:
            assert_never(move)


def _do(env: Environment, watch: Watch, move: Move) -> dict[str, Any]:
    match move:
        case Start():
            return _start(env, watch, move.version)
        case Shift():
            return _shift(env, watch, move)
        case Point():
            return _point(env, watch, move.version)
        case Stop():
            for instance in env.runtime.instances(watch.stream):
                if instance.version == move.version:
                    env.runtime.stop(instance.id)
            return {}
        case Close() | Wait():
            raise AssertionError("closing is one record, waiting is none")
        case _:
            assert_never(move)


def _start(env: Environment, watch: Watch, version: int) -> dict[str, Any]:
    model = watch.endpoint.model
    opening = watch.openings.get(version)
    if opening is None:
        raise RuntimeFailure(f"version {version} was never released into {watch.endpoint.environment}")
    artifact = Path(opening["artifact"])
    if digest_of(artifact) != opening["digest"]:
        artifact = env.registry.fetch(model, version)
        if digest_of(artifact) != opening["digest"]:
            raise RuntimeFailure(
                f"version {version} of {model} is not what was released: its artifact has changed",
                help="restore it from a backup, or build and deliver it anew",
            )
    unit = Unit(watch.stream, model, version, opening["digest"], artifact, interpreter=opening["interpreter"])
    instance = env.runtime.start(unit)
    return {"instance": instance.id, "address": instance.address}


def _shift(env: Environment, watch: Watch, move: Shift) -> dict[str, Any]:
    routing = move.routing
    addresses = {i.version: i.address for i in env.runtime.instances(watch.stream)}
    env.router.write(watch.stream, routing, {v: addresses[v] for v in routing.versions if v in addresses})
    counters = env.metrics.counters(watch.stream)
    return {"counters": {str(v): counters_plain(counters.get(v, Counters())) for v in routing.versions}}


def _point(env: Environment, watch: Watch, version: int) -> dict[str, Any]:
    try:
        env.registry.point(watch.endpoint.model, env.name, version)
    except RegistryError as error:
        return {"alias": f"not moved: {error.message}"}
    return {"alias": env.name}


# -- plain values ------------------------------------------------------------------------------------------------------


def block_plain(block: Block) -> dict[str, Any]:
    """Return *block* as JSON values."""
    return {
        "revision": block.revision,
        "step": block.step,
        "baseline": counters_plain(block.baseline),
        "challenger": counters_plain(block.challenger),
        "labels": {r: [base.n, base.bad, new.n, new.bad] for r, (base, new) in block.labels.items()},
        **({"share": block.share} if block.share is not None else {}),
    }


def block_from(plain: Mapping[str, Any]) -> Block:
    """Read what `block_plain` wrote."""
    labels = {r: (Labels(n[0], n[1]), Labels(n[2], n[3])) for r, n in plain["labels"].items()}
    baseline, challenger = counters_from(plain["baseline"]), counters_from(plain["challenger"])
    return Block(plain["revision"], plain["step"], baseline, challenger, labels, plain.get("share"))


def finding_plain(finding: Finding) -> dict[str, Any]:
    """Return *finding* as JSON values."""
    evidence = dict(finding.evidence)
    return {"name": finding.name, "verdict": finding.verdict.value, "reason": finding.reason, "evidence": evidence}
