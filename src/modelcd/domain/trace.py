"""The evidence of a release over time, recomputed: its recorded blocks once more through the judge, look by look.

One pass answers two questions: how the evidence grew (for pictures, and for telling what is still needed) and whether
each recorded verdict is the one that its blocks come to (for verifying).  The trade-off: nothing of the evidence over
time is recorded, so a reader pays for it again (well under a millisecond a look), and every picture is a verification.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import isclose
from typing import Any

from modelcd.domain.amended import Amended
from modelcd.domain.judge import Judge, Judgement, finding, start, update
from modelcd.domain.policy import Canary, GuardKind
from modelcd.domain.records import Record
from modelcd.domain.release import Endpoint, Release, fold
from modelcd.domain.restated import LOOKS, Look, restated, weighed
from modelcd.domain.samples import block_from
from modelcd.domain.strangers import doubted, strange_finding
from modelcd.domain.verdict import Finding, Verdict, finding_plain

GENERATION = 2
"""Which judge this is.  A release records it when it opens (`judge`; nothing stands for 1, the first).

Two judges of one generation say the same of the same blocks, word by word; another generation may choose other words
and weigh evidence otherwise, so that there only verdicts are compared.
"""

LATE = "late"
"""The kind of a record of labels that came after a promotion: a look as any other, but at no requests."""

PRECISION = 1e-9
"""How far a recomputed number may be from the recorded one, as a part of it: libraries differ in the last digits."""

DRAWN = 300
"""How many looks a picture has at most, beside those that it must not lose."""

RECENT = 600.0
"""Seconds before the last look that say what traffic is like at present."""


@dataclass(frozen=True, slots=True)
class Strand:
    """One guard: its name, what it counts, and the odds at which it decides against (`bar`) and for the challenger."""

    name: str
    kind: GuardKind
    unit: str
    bar: float
    certificate_bar: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What one guard had at a look: odds that the challenger is worse, odds of its certificate, outcomes seen."""

    against: float
    certificate: float
    certified: bool
    seen: float


@dataclass(frozen=True, slots=True)
class Point:
    """One look, `at` its time (ISO 8601): where the release stood and what was known by then.

    `challenger` and `baseline` are requests since the first look, `readings` one for each strand; `verdict` is what the
    blocks so far come to, `recorded` what the journal says.  `against` are the odds of all guards together that the
    challenger is worse, as they count: nothing within what is tolerated.
    """

    seq: int
    at: str
    step: int
    share: float
    challenger: int
    baseline: int
    verdict: str
    recorded: str
    readings: tuple[Reading, ...]
    against: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A change of traffic that was seen to be served, or the end of the release (with its `ending`)."""

    at: str
    share: float
    back: bool = False
    ending: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """Record *seq* says *recorded* of *what*; recomputed it is *recomputed*."""

    seq: int
    at: str
    what: str
    recorded: str
    recomputed: str


@dataclass(frozen=True)
class Trace:
    """How the evidence of one release grew; `findings` are those of the last look, with all their numbers."""

    release: str
    generation: int
    policy: Canary
    strands: tuple[Strand, ...] = ()
    points: tuple[Point, ...] = ()
    marks: tuple[Mark, ...] = ()
    findings: tuple[Finding, ...] = ()
    differences: tuple[Difference, ...] = ()

    @property
    def same_judge(self) -> bool:
        """Say whether it was judged by a judge of this generation: then words and numbers are compared, too."""
        return self.generation == GENERATION

    @property
    def strongest(self) -> Point | None:
        """The look with the most evidence against the challenger; None without looks."""
        return max(self.points, key=lambda point: point.against, default=None)

    def certified_at(self) -> dict[str, Point]:
        """Return, per certified guard, the first look of the last step by which it was certified at its tolerance."""
        found: dict[str, Point] = {}
        for point in self.points:
            if point.step == self.points[-1].step:
                for strand, reading in zip(self.strands, point.readings, strict=True):
                    if reading.certified:
                        found.setdefault(strand.name, point)
        return found

    def pace(self) -> dict[str, float]:
        """Return, per guard, how many outcomes (requests or labels of both arms) a second come at present.

        Taken from the looks of the present step within `RECENT` seconds; empty with fewer than two.
        """
        last = self.points[-1] if self.points else None
        recent = [p for p in self.points if last and p.step == last.step and elapsed(p.at, last.at) <= RECENT]
        if len(recent) < 2 or (seconds := elapsed(recent[0].at, recent[-1].at)) <= 0:
            return {}
        ends = zip(self.strands, recent[0].readings, recent[-1].readings, strict=True)
        return {strand.name: max(0.0, after.seen - before.seen) / seconds for strand, before, after in ends}


@dataclass
class _Run:
    """A trace being made: the endpoint as it was by then, and the judge of its release."""

    endpoint: Endpoint
    opened: Record
    strands: tuple[Strand, ...] = ()
    points: list[Point] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    said: Judgement | None = None
    amended: Amended = field(default_factory=Amended)
    looks: list[Look] = field(default_factory=list)
    now: Judge | None = None

    def __post_init__(self) -> None:
        self.generation = int(self.opened.entry.body.get("judge", 1))
        self.endpoint = fold(self.endpoint, [self.opened])
        assert self.endpoint.open is not None, "it was opened just now"
        self.judge, self.judged_step = start(self.endpoint.open.policy), -1

    @property
    def release(self) -> Release:
        return self.endpoint.releases[-1]

    def take(self, record: Record) -> None:
        before, entry = self.release, record.entry
        moves = entry.kind == "intended" and entry.body["effect"] == "shift" and not entry.body["back"]
        # What was intended once may be tried again, whatever the evidence says meanwhile.
        if moves and int(entry.body["step"]) > before.next_step and before.step >= 0:
            self._moved(record, before)
        if entry.kind in LOOKS:
            # A look moves nothing, and there are thousands of them.
            self.endpoint = replace(self.endpoint, seq=record.seq)
            return self._look(record) if entry.release == self.opened.entry.release else None
        self.endpoint = fold(self.endpoint, [record])
        if entry.kind == "done" and entry.body["effect"] == "shift" and self.endpoint.served is not None:
            share = self.endpoint.served.share(before.version)
            if not self.marks or self.marks[-1].share != share:
                self.marks.append(Mark(entry.at, share, back=bool(self.release.returning)))
        elif entry.kind == "closed":
            share = self.marks[-1].share if self.marks else 0.0
            self.marks.append(Mark(entry.at, share, bool(before.returning), str(entry.body["ending"])))

    def _look(self, record: Record) -> None:
        body, release, step = record.entry.body, self.release, self._step(record)
        if body["block"] is not None:
            self.judge = update(self.judge, block_from(body["block"]))
        recorded = body["judgement"]
        if self.said is None or body["block"] is not None or step != self.judged_step:
            self.said, self.judged_step = finding(self.judge, step), step
        numbers = any(told["evidence"].get("interval") for told in recorded.get("findings", ()))
        if numbers and self.said.verdict is not Verdict.FAIL:  # there only what failed has an interval
            self.said = finding(self.judge, step, intervals=True)
        strangers = {int(v): (n[0], n[1]) for v, n in body.get("strangers", {}).items()}
        strange = strange_finding(strangers, release.champion, release.version)
        judgement = doubted(weighed(self.said, self._restated(record, step), self.amended), strange)
        self._compare(record, judgement)
        told = {f.name: f.evidence for f in self.said.findings if not f.evidence.get("check")}
        guards = [(guard, told[guard.name]) for guard in release.policy.guards]
        self.strands = self.strands or tuple(
            Strand(guard.name, guard.kind, evidence["unit"], evidence["bar"], evidence["certificate_bar"])
            for guard, evidence in guards
        )
        last, counted = self.points[-1] if self.points else None, body.get("counted", {})
        new, old = (int(counted.get(str(v), {"requests": 0})["requests"]) for v in (release.version, release.champion))
        self.points.append(
            Point(
                seq=record.seq,
                at=record.entry.at,
                step=step,
                share=release.policy.shares[step] if step < len(release.policy.shares) else 100.0,
                challenger=new + (last.challenger if last else 0),
                baseline=old + (last.baseline if last else 0),
                verdict=judgement.verdict.value,
                recorded=str(body["judgement"]["verdict"]),
                readings=tuple(_reading(evidence) for _, evidence in guards),
                against=self.said.odds,
            )
        )

    def _restated(self, record: Record, step: int) -> Judgement | None:
        """Return what the labels come to as they stand by *record*; None if none was changed after it was used."""
        body = record.entry.body
        self.amended = self.amended.after(body)
        self.looks.append((record.seq, body))
        if "amended" in body:
            self.now = restated(self.release.policy, self.looks)
        elif self.now is not None and body["block"] is not None:
            self.now = update(self.now, block_from(body["block"]))
        return finding(self.now, step) if self.now is not None else None

    def _step(self, record: Record) -> int:
        """Return the step that a look is about; late labels are about the last one that had a control group."""
        release = self.release
        if record.entry.kind != LATE:
            return release.step
        return max(step for step in release.revisions.values() if 0 <= step < len(release.policy.shares))

    def _compare(self, record: Record, said: Judgement) -> None:
        recorded = record.entry.body["judgement"]
        pairs = [("step", recorded.get("step"), self.judged_step)]
        pairs += _verdicts(recorded, said)
        if self.generation == GENERATION:
            pairs += _words(recorded, said)
        for what, was, now in pairs:
            if not _alike(was, now):
                self.differences.append(Difference(record.seq, record.entry.at, what, str(was), str(now)))

    def _moved(self, record: Record, before: Release) -> None:
        """Hold a larger share against the verdict before it: only a pass leads there."""
        last = self.points[-1] if self.points else None
        verdict = "none" if last is None or last.step != before.step else last.verdict
        if self.generation != GENERATION and last is not None:
            verdict = last.recorded
        if verdict != Verdict.PASS:
            what = f"verdict that moved traffic on from {before.share:g} %"
            self.differences.append(Difference(record.seq, record.entry.at, what, "pass", verdict))


def trace(records: Sequence[Record], release: str) -> Trace:
    """Recompute the evidence of *release* from *records*, those of its stream in order.

    Raises `ValueError` when the release is not in them, or naming the record that cannot be understood.
    """
    opening = (k for k, r in enumerate(records) if r.entry.kind == "opened" and r.entry.release == release)
    place = next(opening, None)
    if place is None:
        raise ValueError(f"release {release} was not opened in these records")
    opened = record = records[place]
    try:
        run = _Run(Endpoint(opened.stream, seq=opened.seq - 1, champion=opened.entry.body["champion"]), opened)
        for record in _own(records[place + 1 :], release):
            run.take(record)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise ValueError(f"{opened.stream}: record {record.seq} cannot be understood: {error}") from error
    return Trace(
        release=release,
        generation=run.generation,
        policy=run.release.policy,
        strands=run.strands,
        points=tuple(run.points),
        marks=tuple(run.marks),
        findings=finding(run.judge, run.judged_step, intervals=True).findings if run.said else (),
        differences=tuple(run.differences),
    )


def _own(records: Sequence[Record], release: str) -> Iterator[Record]:
    """Give the *records* that follow an opening to the end of that *release*, and its late labels from there on."""
    closed = False
    for record in records:
        if not closed or (record.entry.kind == LATE and record.entry.release == release):
            yield record
        closed = closed or record.entry.kind == "closed"


def _reading(evidence: Mapping[str, Any]) -> Reading:
    seen = (evidence.get("challenger_n") or 0) + (evidence.get("baseline_n") or 0)
    return Reading(evidence["odds"], evidence["certificate_odds"], bool(evidence["certified"]), seen)


# -- comparing ---------------------------------------------------------------------------------------------------------


def _verdicts(recorded: Mapping[str, Any], said: Judgement) -> list[tuple[str, Any, Any]]:
    was = {str(finding["name"]): finding["verdict"] for finding in recorded.get("findings", ())}
    now = {finding.name: finding.verdict.value for finding in said.findings}
    pairs: list[tuple[str, Any, Any]] = [("verdict", recorded.get("verdict"), said.verdict.value)]
    return pairs + [(f"verdict of {name}", was.get(name), now.get(name)) for name in {**now, **was}]


def _words(recorded: Mapping[str, Any], said: Judgement) -> list[tuple[str, Any, Any]]:
    pairs: list[tuple[str, Any, Any]] = [("reason", recorded.get("reason"), said.reason)]
    for was, now in zip(recorded.get("findings", ()), said.findings, strict=False):
        told = finding_plain(now)
        pairs.append((f"reason of {now.name}", was.get("reason"), told["reason"]))
        # Numbers are recorded when a verdict is news.
        if was.get("evidence"):
            names = {**told["evidence"], **was["evidence"]}
            pairs += [(f"{n} of {now.name}", was["evidence"].get(n), told["evidence"].get(n)) for n in names]
    return pairs


def _alike(was: Any, now: Any) -> bool:
    """Say whether two plain values are the same, numbers up to `PRECISION`; tuples come back from JSON as lists."""
    if isinstance(was, (list, tuple)) and isinstance(now, (list, tuple)):
        return len(was) == len(now) and all(map(_alike, was, now))
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        return set(was) == set(now) and all(_alike(was[name], now[name]) for name in was)
    if isinstance(was, float) and isinstance(now, (int, float)) and not isinstance(now, bool):
        return isclose(was, now, rel_tol=PRECISION, abs_tol=PRECISION)
    return bool(was == now)


# -- drawing -----------------------------------------------------------------------------------------------------------


def thinned(trace: Trace, most: int = DRAWN) -> tuple[Point, ...]:
    """Return about *most* of the looks, evenly, and always those that a picture must not lose.

    Those are the first and the last, the first of each step, where the verdict changed, and each guard's strongest
    evidence in either direction.
    """
    points = trace.points
    if len(points) <= most:
        return points
    last = len(points) - 1
    kept = {round(k * last / (most - 1)) for k in range(most)}
    kept |= {k for k in range(1, len(points)) if points[k].step != points[k - 1].step}
    kept |= {k for k in range(1, len(points)) if points[k].verdict != points[k - 1].verdict}
    for number in range(len(trace.strands)):
        kept.add(max(range(len(points)), key=lambda k: points[k].readings[number].against))
        kept.add(max(range(len(points)), key=lambda k: points[k].readings[number].certificate))
    kept.add(max(range(len(points)), key=lambda k: points[k].against))
    return tuple(points[k] for k in sorted(kept))


def elapsed(since: str, until: str) -> float:
    """Return the seconds from *since* to *until* (ISO 8601)."""
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds()
