"""A release as its journal has it, taken apart for a replay; and a release told by its steps, to compare two of them.

A journal says what was decided, and by that also what the engine must have found: that a version was ready when it got
a share, that a process was dead when it was started again.  `Found` is such a finding, `Look` what was counted,
`Attempt` how an effect came out.  What a journal does not say (which of two versions did not answer for a moment) is
read in the way that could not have led to a larger share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelcd.domain.policy import FROM_LABELS, Canary, Guard
from modelcd.domain.records import Entry, Record
from modelcd.domain.release import Ending, Endpoint, Release, fold
from modelcd.domain.routing import Routing
from modelcd.domain.samples import Counters, Labels, Sums, block_from, counters_from

LOST = re.compile(r"the challenger, version \d+, (?P<how>died|was not ready)[^:]*: (?P<said>.*)", re.DOTALL)
"""How the reason of a way back begins when the challenger was lost (see `rollout.decide`)."""


@dataclass(frozen=True)
class Look:
    """What was counted since the look before, under the routing *revision* that gave the challenger *share* per cent.

    `evidence` says that it was judged: what was counted while a version did not answer is none.  `strange` are labels
    of third versions, `appeared` those of them that were seen with requests for the first time in this step.
    """

    seq: int
    revision: str
    share: float
    counted: Mapping[int, Counters]
    labels: Mapping[str, Mapping[str, tuple[Labels, Labels]]] = field(default_factory=dict)
    sums: Mapping[str, Mapping[str, tuple[Sums, Sums]]] = field(default_factory=dict)
    strange: Mapping[int, int] = field(default_factory=dict)
    appeared: frozenset[int] = frozenset()
    evidence: bool = True
    trouble: str = ""

    @property
    def empty(self) -> bool:
        """Say whether nothing was counted."""
        told = self.labels or self.sums or self.strange or self.appeared
        return not told and not any(counters.requests for counters in self.counted.values())


@dataclass(frozen=True)
class Attempt:
    """An effect that was tried, from its intent (record *begun*) to its outcome (record *ended*, at the time *at*).

    `subject` is the version or the routing's revision; `tail` what was counted between the last look and a shift.
    """

    effect: str
    subject: str
    begun: int
    ended: int
    at: str
    error: str = ""
    help: str = ""
    tail: Mapping[int, Counters] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What the engine must have found when it wrote record *seq* at the time *at*.

    `absent` runs not, `dead` and `unready` map a version to what was said of it, `answering` means that every other
    version answers, `adrift` that the gateway did not serve what was wanted; `early` was before the first share.
    """

    seq: int
    at: str
    absent: int | None = None
    dead: Mapping[int, str] = field(default_factory=dict)
    unready: Mapping[int, str] = field(default_factory=dict)
    answering: bool = False
    adrift: bool = False
    early: bool = False

    def told(self) -> list[str]:
        """Say in words what came from the world outside and was no decision of the engine."""
        return [
            *(f"version {version} died: {detail}" for version, detail in self.dead.items()),
            *(
                f"version {version} was not ready: {said}" if said else "a version did not answer, so nothing counted"
                for version, said in self.unready.items()
            ),
            *([f"version {self.absent} did not run and was started again"] if self.absent and not self.early else []),
            *(["the gateway did not serve what was wanted"] if self.adrift else []),
        ]


@dataclass(frozen=True)
class Recording:
    """One release as it was recorded; `before` is what stood in its stream, `records` are its own, `opened` first.

    `start` is the endpoint as it was before the release was opened.
    """

    release: str
    start: Endpoint
    before: tuple[Entry, ...]
    records: tuple[Record, ...]
    policy: Canary
    looks: tuple[Look, ...]
    attempts: tuple[Attempt, ...]
    found: tuple[Found, ...]
    asked: tuple[Record, ...]

    @property
    def opening(self) -> Entry:
        """The record with which it was opened."""
        return self.records[0].entry

    @property
    def version(self) -> int:
        """The challenger."""
        return int(self.opening.body["version"])


def recording(records: Sequence[Record], release: str) -> Recording:
    """Take apart what *records*, those of one stream from its first, have of *release*; it must have been opened."""
    first = next(k for k, r in enumerate(records) if r.entry.kind == "opened" and r.entry.release == release)
    last = next((k for k in range(first, len(records)) if records[k].entry.kind == "closed"), len(records) - 1)
    own = records[first : last + 1]
    endpoint = start = fold(Endpoint(own[0].stream), records[:first])
    looks: list[Look] = []
    attempts: list[Attempt] = []
    found: list[Found] = []
    begun, place = own[0], -1
    # Late labels belong to the champion's own release, wherever they stand.
    mine = [record for record in own if record.entry.kind != "late"]
    for record in own:
        kind, before = record.entry.kind, endpoint
        endpoint = fold(endpoint, [record])
        if kind == "late":
            continue
        place += 1
        if kind == "intended":
            begun = record
        elif kind in ("done", "failed"):
            attempts.append(_attempt(begun, record, before))
        elif kind == "observed":
            looks.append(_look(record, before))
        if kind not in ("opened", "asked"):
            found.append(_found(mine, place, before))
    return Recording(
        release=release,
        start=start,
        # The looks of earlier releases say nothing about where this one began.
        before=tuple(r.entry for r in records[:first] if r.entry.kind not in ("observed", "late")),
        records=tuple(own),
        policy=endpoint.releases[-1].policy,
        looks=tuple(looks),
        attempts=tuple(attempts),
        found=tuple(found),
        asked=tuple(r for r in own if r.entry.kind == "asked"),
    )


def _look(record: Record, before: Endpoint) -> Look:
    body, release = record.entry.body, before.open
    assert release is not None and before.wanted is not None, "only an open release with a share is observed"
    block = block_from(body["block"]) if body["block"] else None
    counted = {int(version): counters_from(plain) for version, plain in body["counted"].items()}
    appeared = set(counted).difference((release.champion, release.version), release.counted)
    strange = {int(v): n[1] - release.strangers.get(int(v), (0, 0))[1] for v, n in body.get("strangers", {}).items()}
    return Look(
        seq=record.seq,
        revision=before.wanted.revision,
        share=before.wanted.share(release.version),
        counted={version: counters for version, counters in counted.items() if version not in appeared},
        labels=block.labels if block else {},
        sums=block.sums if block else {},
        strange={version: count for version, count in strange.items() if count > 0},
        appeared=frozenset(appeared),
        evidence=body["block"] is not None,
        trouble=str(body["trouble"]),
    )


def _attempt(begun: Record, ended: Record, before: Endpoint) -> Attempt:
    body, release = ended.entry.body, before.open
    assert release is not None, "an effect of a release stands inside of it"
    subject = Routing.from_plain(body["routing"]).revision if "routing" in body else str(body["version"])
    tail = {}
    for version, plain in body.get("counters", {}).items():
        if int(version) in release.counted:
            tail[int(version)] = counters_from(plain).since(release.counted[int(version)])
    return Attempt(
        effect=str(body["effect"]),
        subject=subject,
        begun=begun.seq,
        ended=ended.seq,
        at=ended.entry.at,
        error=str(body.get("error", "")),
        help=str(body.get("help", "")),
        tail=tail,
    )


def _found(own: Sequence[Record], place: int, before: Endpoint) -> Found:
    """Return what the engine must have found when it wrote the record at *place*."""
    record, release = own[place], before.open
    assert release is not None, "these are records of an open release"
    return Found(
        record.seq, record.entry.at, **_shown(own, place, before, release), early=release.step < 0 > release.next_step
    )


def _shown(own: Sequence[Record], place: int, before: Endpoint, release: Release) -> dict[str, Any]:
    entry = own[place].entry
    match entry.kind:
        case "observed" if entry.body["block"] is not None:
            return {"answering": True}
        case "observed":
            return _gone(own, place, before, release)
        case "seen" if entry.body["unready"]:
            return {"unready": {int(version): str(why) for version, why in entry.body["unready"].items()}}
        case "seen" if release.step >= 0:
            return {"answering": True}
        case "repaired" if place + 1 < len(own):
            return _shown(own, place + 1, before, release)
        case "intended":
            return _needed(entry.body, before, release)
        case "closed" if entry.body["ending"] == Ending.FAILED.value:
            reason, version = str(entry.body["reason"]), release.version
            state = "dead" if reason.startswith(f"version {version} did not start") else "unready"
            return {state: {version: reason.partition(": ")[2]}}
        case _:
            return {}


def _gone(own: Sequence[Record], place: int, before: Endpoint, release: Release) -> dict[str, Any]:
    """Say who did not answer at a look that was no evidence; what was done next tells, or the challenger it was."""
    following = own[place + 1].entry if place + 1 < len(own) else None
    if following is not None and following.kind in ("intended", "repaired"):
        shown = _shown(own, place + 1, before, release)
        if shown.get("dead") or shown.get("absent"):
            return shown
        forward = following.body.get("effect") == "shift" and not following.body["back"]
        if forward and release.champion is not None:
            return {"unready": {release.champion: ""}}
    return {"unready": {release.version: ""}}


def _needed(body: Mapping[str, Any], before: Endpoint, release: Release) -> dict[str, Any]:
    """Say what must have been so that this was intended."""
    if body["effect"] == "start":
        return {"absent": int(body["version"])}
    if body["effect"] != "shift":
        return {"answering": True}
    lost = LOST.fullmatch(str(body["why"])) if body["back"] and not release.returning else None
    if lost is not None:
        return {"dead" if lost["how"].startswith("died") else "unready": {release.version: lost["said"]}}
    again = not body["back"] and int(body["step"]) == release.step
    return {"answering": True, "adrift": again and before.confirmed}


def unfit(policy: Canary, recorded: Canary) -> str:
    """Say why *policy* cannot be replayed on what was recorded under *recorded*; empty when it can."""
    if policy.unit is not recorded.unit:
        return f"a policy by {policy.unit} cannot be replayed: what was recorded is counted by {recorded.unit}"
    judged = {guard.name: guard for guard in recorded.guards if guard.kind in FROM_LABELS}
    by = f"by the guard{'s' * (len(judged) > 1)} {', '.join(map(repr, judged))}" if judged else "by no guard"
    for guard in policy.guards:
        if guard.kind not in FROM_LABELS:
            continue
        known = judged.get(guard.name)
        if known is None or _scale(known) != _scale(guard):
            return f"the guard {guard.name!r} cannot be replayed: the labels of this release were judged {by}"
    return ""


def _scale(guard: Guard) -> tuple[Any, ...]:
    return guard.kind, guard.higher_is_better, guard.low, guard.high


# -- telling -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rung:
    """One step of a release: its share from *since* until *until*, what the challenger had, the last verdict there."""

    step: int
    share: float
    since: str
    until: str = ""
    requests: int = 0
    failed: int = 0
    looks: int = 0
    verdict: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Told:
    """How a release went: `ending` is empty while there is none, `share` is where it was last before its end."""

    ending: str
    why: str
    opened: str
    ended: str
    share: float
    requests: int
    failed: int
    rescued: int
    rungs: tuple[Rung, ...]

    @property
    def course(self) -> tuple[Any, ...]:
        """What two releases that went alike have in common: the ending, and steps, counts and verdicts before it."""
        rungs = ((r.step, r.since, r.requests, r.failed, r.looks, r.verdict, r.reason) for r in self.rungs)
        return (self.ending, self.why, self.requests, self.failed, *rungs)


def told(endpoint: Endpoint, records: Iterable[Record]) -> Told:
    """Tell the release that *records* open and lead on, from the *endpoint* before it."""
    rungs: list[dict[str, Any]] = []
    release = None
    for record in records:
        was, endpoint = release, fold(endpoint, [record])
        release = endpoint.releases[-1]
        if was is None:
            continue
        at, kind = record.entry.at, record.entry.kind
        if rungs and not rungs[-1]["until"]:
            _go_on(rungs[-1], was, release, kind)
        if release.step != was.step or release.ending is not None:
            if rungs and not rungs[-1]["until"]:
                rungs[-1]["until"] = at
            if release.step >= 0 and release.step != was.step:
                rungs.append({"step": release.step, "share": release.share, "since": at, "until": ""})
    assert release is not None, "a release begins with its opening"
    return Told(
        ending=str(release.ending or ""),
        why=str(release.closing.get("reason", "")),
        opened=release.opened,
        ended=release.ended,
        share=rungs[-1]["share"] if rungs else 0.0,
        requests=release.exposed.requests,
        failed=release.exposed.failures,
        rescued=release.exposed.rescued,
        rungs=tuple(Rung(**rung) for rung in rungs),
    )


def _go_on(rung: dict[str, Any], was: Release, release: Release, kind: str) -> None:
    rung["requests"] = rung.get("requests", 0) + release.exposed.requests - was.exposed.requests
    rung["failed"] = rung.get("failed", 0) + release.exposed.failures - was.exposed.failures
    if kind == "observed":
        rung["looks"] = rung.get("looks", 0) + 1
        rung["verdict"], rung["reason"] = release.judgement["verdict"], release.judgement["reason"]
