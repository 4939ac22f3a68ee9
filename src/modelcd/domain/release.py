"""The state of an endpoint and its releases: a fold of the journal's records, and nothing else.

An endpoint is `environment/model`.  Kinds of records in its stream::

    opened     a version wants into this place: policy, champion, actor, reason, offline evidence
    intended   an effect is about to be carried out         done / failed   ... and what came of it
    observed   what both versions did since the last look (a block), with the judgement on all evidence so far
    asked      a person wants something: roll_back, hold, resume
    repaired   the wanted state was restored (a dead process, a changed gateway)
    closed     how the release ended, and why
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from operator import add as plus
from typing import Any

from modelcd.domain.plain import from_plain
from modelcd.domain.policy import Canary
from modelcd.domain.records import Record
from modelcd.domain.routing import Routing
from modelcd.domain.samples import Counters

LONGEST_LOOK = 30.0
"""Seconds between two looks that count as watched at most: a night in which the machine slept is no bake time."""


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
    counters of each version at the last look, `exposed` what the challenger was given in all; `revisions` says at which
    step a routing's revision was in force, `baked` how many seconds the present step has been watched.  `launched` says
    that its process was started for this release: a dead one may be left of an earlier try.  `returning` is the reason
    of a way back that has begun; from then on there is no other way.
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
    intent: Mapping[str, Any] = field(default_factory=dict)
    step: int = -1
    step_since: str = ""
    baked: float = 0.0
    revisions: Mapping[str, int] = field(default_factory=dict)
    counted: Mapping[int, Counters] = field(default_factory=dict)
    exposed: Counters = field(default_factory=Counters)
    label_cursor: int = 0
    last_look: str = ""
    judgement: Mapping[str, Any] = field(default_factory=dict)
    next_step: int = -1
    started: str = ""
    launched: bool = False
    held: str = ""
    asked: str = ""
    asked_by: str = ""
    returning: str = ""
    ending: Ending | None = None
    ended: str = ""
    closing: Mapping[str, Any] = field(default_factory=dict)

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
    failures: int = 0
    failed_at: str = ""
    failure: str = ""

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
        endpoint = replace(_apply(endpoint, record), seq=record.seq, changed=record.entry.at)
    return endpoint


def _apply(endpoint: Endpoint, record: Record) -> Endpoint:
    entry, body = record.entry, record.entry.body
    if entry.kind == "opened":
        return replace(endpoint, releases=(*endpoint.releases, _opened(endpoint, record)))
    release = endpoint.open
    match entry.kind:
        case "intended":
            return _intended(endpoint, release, entry.at, body)
        case "done":
            return _done(endpoint, release, entry.at, body)
        case "failed":
            endpoint = replace(endpoint, failures=endpoint.failures + 1, failed_at=entry.at, failure=str(body["error"]))
            return _update(endpoint, release, intent={})
        case "observed":
            return _update(endpoint, release, **_observed(release, entry.at, body))
        case "asked":
            return _update(endpoint, release, **_asked(entry.actor, body))
        case "closed":
            ending = Ending(body["ending"])
            return _update(endpoint, release, ending=ending, ended=entry.at, closing=dict(body))
        case "repaired":
            return endpoint
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
    )


def _update(endpoint: Endpoint, release: Release | None, **changes: Any) -> Endpoint:
    if release is None:
        return endpoint
    return replace(endpoint, releases=(*endpoint.releases[:-1], replace(release, **changes)))


def _intended(endpoint: Endpoint, release: Release | None, at: str, body: Mapping[str, Any]) -> Endpoint:
    changes: dict[str, Any] = {"intent": dict(body)}
    if body["effect"] == "start" and release is not None and not release.started:
        changes["started"] = at
    if body["effect"] == "shift":
        endpoint = replace(endpoint, wanted=Routing.from_plain(body["routing"]), confirmed=False)
        changes["next_step"] = int(body["step"])
        if body["back"]:
            changes["returning"] = str(body["why"])
    return _update(endpoint, release, **changes)


def _done(endpoint: Endpoint, release: Release | None, at: str, body: Mapping[str, Any]) -> Endpoint:
    changes: dict[str, Any] = {"intent": {}}
    endpoint = replace(endpoint, failures=0, failure="")
    if body["effect"] == "shift":
        since = endpoint.served_since if endpoint.served == endpoint.wanted else at
        endpoint = replace(endpoint, confirmed=True, served=endpoint.wanted, served_since=since)
        if release is not None:
            changes |= _shifted(release, endpoint.wanted, at, body)
    elif body["effect"] == "start":
        routed = endpoint.wanted is not None and int(body["version"]) in endpoint.wanted.versions
        endpoint = replace(endpoint, confirmed=endpoint.confirmed and not routed)
        if release is not None and int(body["version"]) == release.version:
            changes["launched"] = True
    elif body["effect"] == "point":
        version, holder = int(body["version"]), release.id if release else ""
        endpoint = replace(endpoint, champion=version, champion_release=holder, champion_since=at)
    return _update(endpoint, release, **changes)


def _shifted(release: Release, routing: Routing | None, at: str, body: Mapping[str, Any]) -> dict[str, Any]:
    assert routing is not None, "a shift is intended before it is done"
    counted = {int(v): counters_from(c) for v, c in body["counters"].items()}
    tail = Counters()
    if release.version in counted and release.version in release.counted:
        tail = counted[release.version].since(release.counted[release.version])
    return {
        "step": release.next_step,
        "step_since": at if release.next_step != release.step else release.step_since,
        "baked": 0.0 if release.next_step != release.step else release.baked,
        "revisions": {**release.revisions, routing.revision: release.next_step},
        "counted": counted,
        "exposed": add(release.exposed, tail),
    }


def _observed(release: Release | None, at: str, body: Mapping[str, Any]) -> dict[str, Any]:
    assert release is not None, "only an open release is observed"
    counted, exposed = dict(release.counted), release.exposed
    for version, plain in body["counted"].items():
        delta = counters_from(plain)
        anew = version in body["anew"]
        exposed = add(exposed, delta) if int(version) == release.version else exposed
        counted[int(version)] = delta if anew else add(counted.get(int(version), Counters()), delta)
    return {
        "counted": counted,
        "exposed": exposed,
        "label_cursor": int(body["cursor"]),
        "last_look": at,
        "baked": release.baked + _watched(release, at),
        "judgement": dict(body["judgement"]),
    }


def _watched(release: Release, at: str) -> float:
    """Return the seconds between the last look and the one *at* that count: a gap is time when nobody watched."""
    since = max(release.last_look, release.step_since)
    seconds = (datetime.fromisoformat(at) - datetime.fromisoformat(since)).total_seconds() if since else 0.0
    return min(max(seconds, 0.0), LONGEST_LOOK)


def _asked(actor: str, body: Mapping[str, Any]) -> dict[str, Any]:
    match Ask(body["ask"]):
        case Ask.ROLL_BACK:
            return {"asked": str(body.get("reason") or "asked to"), "asked_by": actor}
        case Ask.HOLD:
            return {"held": actor}
        case Ask.RESUME:
            return {"held": ""}


def add(one: Counters, other: Counters) -> Counters:
    """Return the sum of two stretches of counts."""
    return Counters(
        requests=one.requests + other.requests,
        failures=one.failures + other.failures,
        latency=tuple(map(plus, one.latency, other.latency)),
        rescued=one.rescued + other.rescued,
        epoch=other.epoch or one.epoch,
    )


def counters_plain(counters: Counters) -> dict[str, Any]:
    """Return *counters* as JSON values, empty latency buckets left out."""
    return {
        "requests": counters.requests,
        "failures": counters.failures,
        "rescued": counters.rescued,
        "latency": {str(k): n for k, n in enumerate(counters.latency) if n},
        **({"epoch": counters.epoch} if counters.epoch else {}),
    }


def counters_from(plain: Mapping[str, Any]) -> Counters:
    """Read what `counters_plain` wrote."""
    latency = list(Counters().latency)
    for bucket, count in plain["latency"].items():
        latency[int(bucket)] = int(count)
    epoch = str(plain.get("epoch", ""))
    return Counters(int(plain["requests"]), int(plain["failures"]), tuple(latency), int(plain["rescued"]), epoch)
