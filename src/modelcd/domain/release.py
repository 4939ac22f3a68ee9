"""The state of an endpoint and its releases: a fold of the journal's records, and nothing else.

An endpoint is `environment/model`.  Kinds of records in its stream::

    opened     a version wants into this place: policy, champion, actor, reason, offline evidence
    intended   an effect is about to be carried out         done / failed   ... and what came of it
    observed   what both versions did since the last look (a block), with the judgement on all evidence so far
    seen       who serves and does not answer, what could not be read, what is waited for
    asked      a person wants something: roll_back, hold, resume
    repaired   what had drifted and is put right next (a dead process, a changed gateway, an alias)
    closed     how the release ended, and why
    late       labels that came after the promotion, of requests served before it, with the judgement on all evidence
    checkpoint what all records before it come to, so that a reader need not go through them
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from modelcd.domain.amended import Amended
from modelcd.domain.plain import from_plain
from modelcd.domain.policy import Canary
from modelcd.domain.records import Record
from modelcd.domain.routing import Routing
from modelcd.domain.samples import Counters, add, counters_from
from modelcd.domain.strangers import Strangers
from modelcd.domain.verdict import Verdict

LONGEST_LOOK = 30.0
"""Seconds between two records that count as watched at most: a night in which the machine slept is no time at all."""

STEADY = 300.0
"""Seconds after which a process that was started again is no longer thought to crash in a loop."""


class Ending(StrEnum):
    """How a release ended."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"
    """It never got a share: it did not start or was not ready in time."""


class Ask(StrEnum):
    """What a person can ask of an open release."""

    ROLL_BACK = "roll_back"
    HOLD = "hold"
    RESUME = "resume"


@dataclass(frozen=True)
class Release:
    """One version on its way into one environment.

    `step` is the rung of the ladder it is on: -1 before its first share, `len(shares)` at 100 %.  `counted` holds the
    counters of each version at the last look, `strangers` what came of a third version lately, `exposed` what the
    challenger was given in all; `revisions` says at which step a routing's revision was in force, `baked` how many
    seconds the present step has been watched.  `launched` says that its process was started for this release: a dead
    one may be left of an earlier try; `crashes` counts how often it was started again.
    `returning` is the reason of a way back that has begun, `returning_since` when; from then on there is no other way.
    `way_back` is how many seconds the rehearsed way back took, `back_in` the real one; `amended` is what became of its
    labels.  The `…_awake` are readings of the endpoint's watched time (see `Endpoint.awake`).
    """

    id: str
    stream: str
    version: int
    digest: str
    champion: int | None
    policy: Canary
    actor: str
    reason: str
    opened: str
    takes_out: int | None = None
    evidence: tuple[Mapping[str, Any], ...] = ()
    step: int = -1
    step_since: str = ""
    baked: float = 0.0
    revisions: Mapping[str, int] = field(default_factory=dict)
    counted: Mapping[int, Counters] = field(default_factory=dict)
    exposed: Counters = field(default_factory=Counters)
    label_cursor: int = 0
    strangers: Strangers = field(default_factory=dict)
    strange_awake: float = 0.0
    last_look: str = ""
    judgement: Mapping[str, Any] = field(default_factory=dict)
    next_step: int = -1
    started: str = ""
    launched: bool = False
    crashes: int = 0
    warm_up: str = ""
    warmed: bool = False
    way_back: float | None = None
    opened_awake: float = 0.0
    started_awake: float = 0.0
    step_awake: float = 0.0
    asked: str = ""
    asked_by: str = ""
    returning: str = ""
    returning_since: str = ""
    back_in: float | None = None
    ending: Ending | None = None
    ended: str = ""
    closing: Mapping[str, Any] = field(default_factory=dict)
    amended: Amended = field(default_factory=Amended)

    @property
    def by_rollback(self) -> bool:
        """Say whether it is the way back itself, from a champion that a person takes out: nothing may keep it."""
        return self.takes_out is not None

    @property
    def rungs(self) -> Mapping[str, int]:
        """The routing revisions that compared both versions, with the step of each; its other ones had no control."""
        return {revision: step for revision, step in self.revisions.items() if 0 <= step < len(self.policy.shares)}

    @property
    def reopened(self) -> bool:
        """Say whether it was promoted, and labels that came later say that it should not have been."""
        return self.ending is Ending.PROMOTED and self.judgement.get("verdict") == Verdict.FAIL.value

    @property
    def share(self) -> float:
        """The challenger's share in per cent at its step."""
        if self.step < 0:
            return 0.0
        return self.policy.shares[self.step] if self.step < len(self.policy.shares) else 100.0


@dataclass(frozen=True)
class Endpoint:
    """What an environment knows of one model: who serves, what is wanted of the gateway, and every release.

    `wanted` was asked of the gateway and is `confirmed` once it was seen to be served; `served` is what was seen last.
    `pending` is an intent whose outcome is not known.  `reopened` says why late labels speak against the champion.
    `awake` is how many seconds the endpoint has been watched in all: gaps between records count in part only, so that
    neither a night asleep nor a clock that was set uses up a budget.  `held` says which person took over, until they
    let go.  `unready` maps versions that serve and do not answer to the watched time since when.  `restarts` maps
    versions to how often they were started again in a row, and when last.
    """

    stream: str
    seq: int = 0
    champion: int | None = None
    champion_release: str = ""
    champion_since: str = ""
    wanted: Routing | None = None
    confirmed: bool = False
    served: Routing | None = None
    served_since: str = ""
    releases: tuple[Release, ...] = ()
    changed: str = ""
    pending: Mapping[str, Any] = field(default_factory=dict)
    failures: int = 0
    failed_at: str = ""
    failure: str = ""
    awake: float = 0.0
    held: str = ""
    held_since: str = ""
    unready: Mapping[int, float] = field(default_factory=dict)
    trouble: str = ""
    asks: str = ""
    reopened: str = ""
    restarts: Mapping[int, tuple[int, str]] = field(default_factory=dict)
    checkpoint: int = 0

    def awake_at(self, now: datetime) -> float:
        """Return the watched time in seconds, up to the moment *now*."""
        return self.awake + _gap(self.changed, now)

    @property
    def open(self) -> Release | None:
        """The release under way, if there is one."""
        return self.releases[-1] if self.releases and self.releases[-1].ending is None else None

    @property
    def environment(self) -> str:
        """The environment's name."""
        return self.stream.split("/", 1)[0]

    @property
    def model(self) -> str:
        """The model's name."""
        return self.stream.split("/", 1)[1]

    @property
    def champions(self) -> tuple[int, ...]:
        """The versions that had all traffic here, in the order in which they got it."""
        return tuple(release.version for release in self.releases if release.ending is Ending.PROMOTED)

    @property
    def before(self) -> int | None:
        """The version that served before the champion and was not taken out since: where a rollback leads."""
        fit = (v for v in reversed(self.champions) if v != self.champion and self.rejected(v) is None)
        return next(fit, None)

    @property
    def promotion(self) -> Release | None:
        """The release that made the champion what it is."""
        newest = next((r for r in reversed(self.releases) if r.ending is Ending.PROMOTED), None)
        return newest if newest is not None and newest.version == self.champion else None

    def watched(self, now: datetime) -> Release | None:
        """Return the champion's release while labels of what was served during it can still reopen its verdict."""
        release = self.promotion
        if release is None or not release.policy.judged_by_labels or not release.rungs:
            return None
        since = (now - datetime.fromisoformat(release.ended)).total_seconds()
        return release if since < release.policy.watch else None

    def release(self, prefix: str) -> Release | None:
        """Return the release whose id begins with *prefix*."""
        return next((r for r in self.releases if r.id.startswith(prefix)), None)

    def rejected(self, version: int) -> Release | None:
        """Return the newest release that rolled *version* back or took it out, unless a later one promoted it."""
        for release in reversed(self.releases):
            if release.takes_out == version and release.ending is Ending.PROMOTED:
                return release
            if release.version == version and release.ending is not None:
                return release if release.ending is not Ending.PROMOTED else None
        return None


def fold(endpoint: Endpoint, records: Iterable[Record]) -> Endpoint:
    """Return *endpoint* after *records*, which must follow what it has seen; an unknown kind is a `ValueError`."""
    for record in records:
        if record.seq != endpoint.seq + 1:
            raise ValueError(f"{endpoint.stream}: expected record {endpoint.seq + 1}, got {record.seq}")
        awake = endpoint.awake_at(datetime.fromisoformat(record.entry.at))
        endpoint = _apply(replace(endpoint, awake=awake), record)
        endpoint = replace(endpoint, seq=record.seq, changed=record.entry.at)
    return endpoint


def _gap(since: str, now: datetime) -> float:
    """Return the seconds from *since* to *now* that count as watched."""
    seconds = (now - datetime.fromisoformat(since)).total_seconds() if since else 0.0
    return min(max(seconds, 0.0), LONGEST_LOOK)


def _apply(endpoint: Endpoint, record: Record) -> Endpoint:
    entry, body = record.entry, record.entry.body
    if entry.kind == "opened":
        releases = (*endpoint.releases, _opened(endpoint, record))
        return replace(endpoint, releases=releases, failures=0, failure="")
    release = endpoint.open
    match entry.kind:
        case "intended":
            return _intended(endpoint, release, entry.at, body)
        case "done":
            return _done(endpoint, release, entry.at, body)
        case "failed":
            failures, why = endpoint.failures + 1, str(body["error"])
            return replace(endpoint, pending={}, failures=failures, failed_at=entry.at, failure=why)
        case "observed":
            return _update(endpoint, release, **_observed(endpoint, release, entry.at, body))
        case "seen":
            unready = {int(v): endpoint.unready.get(int(v), endpoint.awake) for v in body["unready"]}
            return replace(endpoint, unready=unready, trouble=str(body["trouble"]), asks=str(body["asks"]))
        case "asked":
            return _asked(endpoint, release, entry.at, entry.actor, body)
        case "late":
            return _late(endpoint, record)
        case "closed":
            ending = Ending(body["ending"])
            endpoint = replace(endpoint, reopened="" if ending is Ending.PROMOTED else endpoint.reopened)
            return _update(endpoint, release, ending=ending, ended=entry.at, closing=dict(body))
        case "repaired":
            return endpoint
        case "checkpoint":
            return replace(endpoint, checkpoint=record.seq)
        case _:
            raise ValueError(f"{record.stream}: record {record.seq} is of the unknown kind {entry.kind!r}")


def _opened(endpoint: Endpoint, record: Record) -> Release:
    body = record.entry.body
    return Release(
        id=record.entry.release,
        stream=record.stream,
        version=int(body["version"]),
        digest=str(body["digest"]),
        champion=endpoint.champion,
        policy=from_plain(Canary, body["policy"]),
        actor=record.entry.actor,
        reason=str(body.get("reason", "")),
        opened=record.entry.at,
        takes_out=body.get("takes_out"),
        evidence=tuple(body.get("evidence", ())),
        warm_up=str(body.get("warm_up", "")),
        opened_awake=endpoint.awake,
    )


def _update(endpoint: Endpoint, release: Release | None, **changes: Any) -> Endpoint:
    if release is None:
        return endpoint
    return replace(endpoint, releases=(*endpoint.releases[:-1], replace(release, **changes)))


def _intended(endpoint: Endpoint, release: Release | None, at: str, body: Mapping[str, Any]) -> Endpoint:
    changes: dict[str, Any] = {}
    endpoint = replace(endpoint, pending=dict(body))
    if body["effect"] == "start":
        # Wherever it will answer, the gateway has to be told: also when nobody lives to record the outcome.
        endpoint = _to_be_told(endpoint, int(body["version"]))
        mine = release is not None and int(body["version"]) == release.version
        if release is not None and mine and not release.started:
            changes |= {"started": at, "started_awake": endpoint.awake}
        if body.get("again"):
            endpoint = _started_again(endpoint, int(body["version"]), at)
            if release is not None and mine:
                changes["crashes"] = release.crashes + 1
    if body["effect"] == "shift":
        endpoint = replace(endpoint, wanted=Routing.from_plain(body["routing"]), confirmed=False)
        changes["next_step"] = int(body["step"])
        if body["back"] and release is not None and not release.returning:
            changes |= {"returning": str(body["why"]), "returning_since": at}
    return _update(endpoint, release, **changes)


def _to_be_told(endpoint: Endpoint, version: int) -> Endpoint:
    routed = endpoint.wanted is not None and version in endpoint.wanted.versions
    return replace(endpoint, confirmed=endpoint.confirmed and not routed)


def _started_again(endpoint: Endpoint, version: int, at: str) -> Endpoint:
    times, last = endpoint.restarts.get(version, (0, ""))
    calm = not last or datetime.fromisoformat(at) - datetime.fromisoformat(last) > timedelta(seconds=STEADY)
    unready = {other: since for other, since in endpoint.unready.items() if other != version}
    return replace(endpoint, restarts={**endpoint.restarts, version: (1 if calm else times + 1, at)}, unready=unready)


def _done(endpoint: Endpoint, release: Release | None, at: str, body: Mapping[str, Any]) -> Endpoint:
    changes: dict[str, Any] = {}
    endpoint = replace(endpoint, pending={}, failures=0, failure="")
    if body["effect"] == "shift":
        since = endpoint.served_since if endpoint.served == endpoint.wanted else at
        endpoint = replace(endpoint, confirmed=True, served=endpoint.wanted, served_since=since)
        if release is not None:
            changes |= _shifted(release, endpoint, at, body)
    elif body["effect"] == "rehearse":
        # The way back ends where the release has to begin, and was seen to be served.
        back = Routing.from_plain(body["routing"])
        endpoint = replace(endpoint, wanted=back, confirmed=True, served=back, served_since=endpoint.served_since or at)
        changes["way_back"] = float(body["seconds"])
    elif body["effect"] == "warm":
        changes["warmed"] = True
    elif body["effect"] == "start":
        endpoint = _to_be_told(endpoint, int(body["version"]))
        if release is not None and int(body["version"]) == release.version:
            changes["launched"] = True
    elif body["effect"] == "point":
        version, holder = int(body["version"]), release.id if release else ""
        endpoint = replace(endpoint, champion=version, champion_release=holder, champion_since=at)
    return _update(endpoint, release, **changes)


def _shifted(release: Release, endpoint: Endpoint, at: str, body: Mapping[str, Any]) -> dict[str, Any]:
    routing = endpoint.wanted
    assert routing is not None, "a shift is intended before it is done"
    counted = {int(v): counters_from(c) for v, c in body["counters"].items()}
    tail = Counters()
    if release.version in counted and release.version in release.counted:
        tail = counted[release.version].since(release.counted[release.version])
    return {
        "step": release.next_step,
        "step_since": at if release.next_step != release.step else release.step_since,
        "step_awake": endpoint.awake if release.next_step != release.step else release.step_awake,
        "baked": 0.0 if release.next_step != release.step else release.baked,
        "last_look": "" if release.next_step != release.step else release.last_look,
        "revisions": {**release.revisions, routing.revision: release.next_step},
        "counted": counted,
        "exposed": add(release.exposed, tail),
        "back_in": _between(release.returning_since, at) if release.returning else None,
    }


def _between(since: str, at: str) -> float:
    return max(0.0, (datetime.fromisoformat(at) - datetime.fromisoformat(since)).total_seconds())


def _observed(endpoint: Endpoint, release: Release | None, at: str, body: Mapping[str, Any]) -> dict[str, Any]:
    assert release is not None, "only an open release is observed"
    counted, exposed = dict(release.counted), release.exposed
    for version, plain in body["counted"].items():
        delta = counters_from(plain)
        anew = version in body["anew"]
        exposed = add(exposed, delta) if int(version) == release.version else exposed
        counted[int(version)] = delta if anew else add(counted.get(int(version), Counters()), delta)
    strangers = {int(version): (n[0], n[1]) for version, n in body.get("strangers", {}).items()}
    return {
        "counted": counted,
        "exposed": exposed,
        "strangers": strangers,
        "strange_awake": release.strange_awake if strangers == release.strangers else endpoint.awake,
        "label_cursor": int(body["cursor"]),
        "amended": release.amended.after(body),
        "last_look": at,
        "baked": release.baked + _watched(release, at),
        "judgement": dict(body["judgement"]),
    }


def _watched(release: Release, at: str) -> float:
    """Return the seconds between the last look and the one *at* that count: a gap is time when nobody watched."""
    return _gap(release.last_look or release.step_since, datetime.fromisoformat(at))


def _late(endpoint: Endpoint, record: Record) -> Endpoint:
    """Follow labels that came late; whoever reads from a checkpoint on does not have the release they belong to."""
    body = record.entry.body
    judgement = dict(body["judgement"])
    told: dict[str, Any] = {"label_cursor": int(body["cursor"]), "judgement": judgement}
    releases = tuple(
        replace(r, **told, amended=r.amended.after(body)) if r.id == record.entry.release else r
        for r in endpoint.releases
    )
    failed = judgement["verdict"] == Verdict.FAIL.value and not body.get("closed", False)
    return replace(endpoint, releases=releases, reopened=judgement["reason"] if failed else endpoint.reopened)


def _asked(endpoint: Endpoint, release: Release | None, at: str, actor: str, body: Mapping[str, Any]) -> Endpoint:
    match Ask(body["ask"]):
        case Ask.ROLL_BACK:
            why = str(body.get("reason") or "asked to")
            return _update(endpoint, release, asked=why, asked_by=actor)
        case Ask.HOLD:
            return replace(endpoint, held=actor, held_since=at)
        case Ask.RESUME:
            return replace(endpoint, held="", held_since="")


def summary(endpoint: Endpoint) -> dict[str, Any]:
    """Return what a checkpoint keeps of *endpoint* while no release is under way: what serves, since when, by whom."""
    return {
        "champion": endpoint.champion,
        "champion_release": endpoint.champion_release,
        "champion_since": endpoint.champion_since,
        "wanted": endpoint.wanted.to_plain() if endpoint.wanted else None,
        "confirmed": endpoint.confirmed,
        "served": endpoint.served.to_plain() if endpoint.served else None,
        "served_since": endpoint.served_since,
        "held": endpoint.held,
        "held_since": endpoint.held_since,
        "trouble": endpoint.trouble,
        **({"reopened": endpoint.reopened} if endpoint.reopened else {}),
        "releases": [release.id for release in endpoint.releases],
    }


def since(checkpoint: Record) -> Endpoint:
    """Return what *checkpoint* says of its endpoint, to be followed from there on: without the releases before it.

    Good for telling what serves, never for deciding: what was rejected is not in it.
    """
    body = checkpoint.entry.body
    wanted, served = (Routing.from_plain(body[name]) if body[name] else None for name in ("wanted", "served"))
    return Endpoint(
        checkpoint.stream,
        seq=checkpoint.seq,
        checkpoint=checkpoint.seq,
        changed=checkpoint.entry.at,
        champion=body["champion"],
        champion_release=body["champion_release"],
        champion_since=body["champion_since"],
        wanted=wanted,
        confirmed=body["confirmed"],
        served=served,
        served_since=body["served_since"],
        held=body["held"],
        held_since=body["held_since"],
        trouble=body["trouble"],
        reopened=body.get("reopened", ""),
    )


def _told(body: Mapping[str, Any]) -> str:
    return json.dumps(dict(body), sort_keys=True)


def misremembered(stream: str, records: Iterable[Record]) -> str:
    """Say which checkpoint in the whole *stream* does not say what the records before it come to; empty if all do."""
    endpoint = Endpoint(stream)
    for record in records:
        if record.entry.kind == "checkpoint" and _told(record.entry.body) != _told(summary(endpoint)):
            return f"{stream}: checkpoint {record.seq} does not say what the records before it come to"
        try:
            endpoint = fold(endpoint, [record])
        except (ValueError, KeyError, TypeError) as error:
            return f"{stream}: record {record.seq} cannot be understood: {error}"
    return ""
