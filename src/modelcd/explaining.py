"""What can be told of one release beyond its record of itself: evidence over time, what was spent, what is needed.

Plain JSON values, computed from the journal alone, for the command line, Prefect's pages and scripts alike; and the
verification of a release, which is the same computation held against what was recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from modelcd.domain import figures
from modelcd.domain.delivery import Delivery
from modelcd.domain.records import Record
from modelcd.domain.release import Release
from modelcd.domain.story import headline, timeline
from modelcd.domain.trace import GENERATION, Point, Strand, Trace, elapsed, thinned, trace
from modelcd.domain.verdict import Finding, finding_plain

Plain = dict[str, Any]


def explained(records: Sequence[Record], release: Release) -> Plain:
    """Return what *records*, those of its stream, tell of *release*.

    `timeline`; `findings`, those of the last look with all their numbers; `evidence_over_time`, `budget` and
    `still_needed`.  Where the blocks cannot be judged, `trouble` says why and the last three are empty.
    """
    told: Plain = {"timeline": [asdict(moment) for moment in timeline(records, release.id)]}
    recorded = [dict(finding) for finding in release.judgement.get("findings", ())]
    try:
        found = trace(records, release.id)
    except ValueError as error:
        nothing: Plain = {"evidence_over_time": {}, "budget": {}, "still_needed": []}
        return {**told, "trouble": str(error), "findings": recorded, **nothing}
    return {
        **told,
        "trouble": "",
        "findings": _findings(recorded, found.findings),
        "evidence_over_time": _over_time(found, release),
        "budget": _budget(found, release),
        "still_needed": _needed(found) if release.ending is None else [],
    }


def _findings(recorded: Sequence[Plain], again: Sequence[Finding]) -> list[Plain]:
    """Return the findings as they were recorded, with the numbers that were no news and so were left out."""
    numbers = {finding.name: finding_plain(finding)["evidence"] for finding in again}
    return [{**finding, "evidence": finding["evidence"] or numbers.get(finding["name"], {})} for finding in recorded]


def _over_time(found: Trace, release: Release) -> Plain:
    """Return everything that a picture of the release needs."""
    place, model = release.stream.split("/", 1)
    ending = headline(release).upper()
    verdict = f" (verdict: {said})" if (said := release.judgement.get("verdict")) else ""
    return {
        "release": release.id,
        "title": f"{ending}{verdict}   version {release.version} of {model} in {place}",
        "opened": release.opened,
        "judge": found.generation,
        "looks": len(found.points),
        "differ": len({difference.seq for difference in found.differences}),
        "guards": [asdict(strand) for strand in found.strands],
        "points": [_point(point, found.strands) for point in thinned(found)],
        "marks": [asdict(mark) for mark in found.marks],
    }


def _point(point: Point, strands: Sequence[Strand]) -> Plain:
    readings = zip(strands, point.readings, strict=True)
    return {
        **{name: getattr(point, name) for name in ("at", "step", "share", "challenger", "baseline", "verdict")},
        "guards": {strand.name: asdict(reading) for strand, reading in readings},
    }


def _budget(found: Trace, release: Release) -> Plain:
    """Say what the release was allowed, and what the most was that ever spoke against it.

    One divided by the most that the evidence ever came to is a p-value that holds however often one looked (Ville).
    """
    most, last = found.strongest, found.points[-1] if found.points else None
    certified = found.certified_at()
    tolerances = {finding.name: finding.evidence.get("tolerance") for finding in found.findings}
    return {
        "alpha": release.policy.alpha,
        "beta": release.policy.beta,
        "strongest": most.against if most else None,
        "strongest_at": most.at if most else "",
        "p": min(1.0, 1 / most.against) if most and most.against else None,
        "share": last.share if last else 0.0,
        "certified": {
            name: {
                "at": point.at,
                "requests": point.challenger + point.baseline,
                "tolerance": tolerances.get(name),
            }
            for name, point in certified.items()
        },
    }


def _needed(found: Trace) -> list[Plain]:
    """Say what each guard that is not certified still needs at the present step, and how long that takes."""
    pace, needed = found.pace(), []
    for strand in found.strands:
        evidence = next(finding.evidence for finding in found.findings if finding.name == strand.name)
        if evidence["certified"]:
            continue
        median, unlucky = evidence.get("needs"), evidence.get("unlucky")
        speed = pace.get(strand.name, 0.0)
        line: Plain = {"guard": strand.name, "unit": strand.unit, "median": median, "unlucky": unlucky}
        seconds = {"seconds": median, "unlucky_seconds": unlucky}
        line |= {name: count / speed if count is not None and speed else None for name, count in seconds.items()}
        needed.append({**line, "per_second": speed})
    return needed


def evidence_line(over_time: Plain, guard: Plain, against: bool) -> str:
    """Draw a *guard* of `evidence_over_time` as one line: evidence *against* the challenger, or its certificate."""
    name, bar = ("against", guard["bar"]) if against else ("certificate", guard["certificate_bar"])
    points = over_time["points"]
    odds = [(elapsed(over_time["opened"], p["at"]), p["guards"][guard["name"]][name]) for p in points]
    return f"{figures.sparkline(odds, bar)}  {figures.ratio(odds[-1][1])}, bar {figures.ratio(bar)}"


# -- deliveries --------------------------------------------------------------------------------------------------------

_STOPPED = {
    "gates: signature": "Train on what users send the champion, or give the model another name",
    "expectations": "Bring data that meet them, or change expectations in pipeline.py",
    "tests": "Make the project's tests pass",
    "gates": "Train a better version, or change gates in pipeline.py",
    "acceptance": "Make it pass, or change acceptance in pipeline.py",
}
_ANY = "Put right what was found"


def next_steps(model: str, delivery: Delivery) -> list[dict[str, str]]:
    """Say what to do after *delivery* of *model* as it ended: a list of `what` and the `command` for it."""
    version, deliver = delivery.version, "modelcd deliver"
    released = any(step["name"] == "acceptance" and step["verdict"] == "pass" for step in delivery.steps)
    match delivery.ending:
        case "":
            steps = [("Watch it", f"modelcd status {model}")]
        case "promoted":
            steps = [("If it has to go", f"modelcd rollback {model}")]
        case "nothing new":
            steps = []
        case "stopped":
            at = delivery.why.partition(":")[0]
            mend = next((what for where, what in _STOPPED.items() if delivery.why.startswith(f"{where}:")), _ANY)
            steps = [("Each check in numbers", f"modelcd explain {delivery.id} --json")]
            accepted_in = [step["name"] for step in delivery.steps if "release" in step["evidence"]]
            if at == "acceptance" and accepted_in:
                steps.append(("Its log", f"modelcd logs {model} {version} --in {accepted_in[-1]}"))
            steps.append((f"{mend}, then", deliver))
            if version is not None:
                steps.append(
                    (
                        f"Until a delivery of version {version} passes, this refuses it",
                        f"modelcd promote {model} {version}",
                    )
                )
        case "rolled back" | "failed" if released:
            steps = [("Why", f"modelcd history {model}"), ("Try the same version again", f'{deliver} --again "why"')]
        case "waiting":
            steps = [("A person has to decide", f"modelcd status {model}")]
        case "interrupted" | "abandoned":
            steps = [("Start again; nothing is built twice", deliver)]
        case _:
            steps = [("Try again", deliver)]
    return [{"what": what, "command": command} for what, command in steps]


# -- verifying ---------------------------------------------------------------------------------------------------------


def verified(stream: str, release: str, records: Sequence[Record], broken: str) -> Plain:
    """Recompute every verdict of *release* from the *records* of its *stream*, and say what differs.

    *broken* says where the stream does not hold, in a sentence; what can be recomputed of it is, all the same.
    `same` is None where no verdict was needed, and `none` says why.
    """
    told: Plain = {
        "kind": "verification",
        "release": release,
        "stream": stream,
        "whole": not broken,
        "troubles": [broken] if broken else [],
        "judge": GENERATION,
    }
    try:
        found = trace(records, release)
    except ValueError as error:
        if not broken:
            told |= {"whole": False, "troubles": [str(error)]}
        return {**told, "judged_by": None, "verdicts": 0, "same": False, "differences": [], "none": ""}
    verdicts = len(found.points)
    return {
        **told,
        "judged_by": found.generation,
        "verdicts": verdicts,
        "same": not found.differences if verdicts or found.differences else None,
        "differences": [asdict(difference) for difference in found.differences],
        "none": "" if verdicts else _why_none(records, release, found),
    }


def _why_none(records: Sequence[Record], release: str, found: Trace) -> str:
    body = next(r.entry.body for r in records if r.entry.kind == "opened" and r.entry.release == release)
    if body.get("takes_out") is not None:
        return "it is a rollback, and nothing keeps those"
    if body["champion"] is None:
        return "it was the first version here, with none to compare it with"
    if not found.policy.shares:
        return "its policy gives it everything at once"
    if any(mark.share for mark in found.marks if not mark.ending):
        return "it ended before the first look"
    ended = next((mark.ending for mark in found.marks if mark.ending), "")
    return "it never had a share" if ended else "it has had no share yet"
