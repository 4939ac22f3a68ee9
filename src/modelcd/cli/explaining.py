"""The commands that answer for a release: what happened and why, and whether the journal's word can be relied on."""

from __future__ import annotations

import json
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click

from modelcd.cli.app import Taught, emit
from modelcd.cli.tables import ago, lasted, span
from modelcd.domain import figures
from modelcd.domain.policy import GuardKind
from modelcd.domain.restated import CHANGED
from modelcd.domain.telling import about, counted
from modelcd.domain.trace import GENERATION
from modelcd.domain.verdict import Verdict
from modelcd.errors import UsageError
from modelcd.explaining import evidence_line

WIDTH = 98
MOST_DIFFERENCES = 10
MOST_NAMED = 5

WORDS = {
    Verdict.PASS: "within what is tolerated",
    Verdict.INCONCLUSIVE: "cannot say yet",
    Verdict.ERROR: "cannot be judged",
    Verdict.FAIL: "worse",
}

CHECKED = {
    **WORDS,
    Verdict.PASS: "the verdict stands",
    Verdict.INCONCLUSIVE: "the verdict does not stand",
}
"""Of checks of the data, which compare no versions."""

JSON = click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, times absolute.")

Plain = dict[str, Any]


def _control() -> Any:
    from modelcd.control import connect

    return connect()


@contextmanager
def _saying(what: str) -> Iterator[None]:
    """Say *what* is being done to who waits for it at a terminal, once it has taken a second."""
    timer = threading.Timer(1.0, click.echo, (what,), {"err": True})
    if sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


# -- explain -----------------------------------------------------------------------------------------------------------


@click.command(cls=Taught)
@click.argument("release")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw the evidence: .svg or .png.")
@JSON
def explain(release: str, plot: Path | None, as_json: bool) -> None:
    """Explain one release: what happened, why, what it cost, what to do.

    \b
    modelcd explain 7f3a
    modelcd explain 7f3a --plot evidence.svg      the evidence over time, one panel a guard
    """
    if plot is not None:
        from modelcd.plots import format_of

        format_of(plot)
    with _saying(f"computing the evidence of {release} again, from its journal …"):
        found = _control().explain(release)
    if plot is not None:
        _draw(found, plot)
    if as_json:
        return emit(found)
    told = _delivery(found) if found["kind"] == "delivery" else _release(found)
    click.echo("\n".join(told))
    if plot is not None:
        click.echo(f"  The evidence over time is drawn in {plot}")


def _draw(found: Plain, plot: Path) -> None:
    from modelcd.plots import format_of, picture

    if not _points(found):
        why = found.get("trouble") or "it has not been looked at in live traffic"
        name = found.get("release") or f"delivery {found['delivery']}"
        raise UsageError(f"nothing of {name} can be drawn: {why}", help="see: modelcd history MODEL")
    plot.write_bytes(picture(found["evidence_over_time"], format_of(plot)))


def _delivery(found: Plain) -> Iterator[str]:
    ending = (found["ending"] or "under way").upper()
    version = f", version {found['version']}" if found["version"] else ""
    yield f"{ending}  delivery {found['delivery']} of {found['model']}{version}"
    yield f"  by {found['by']}, {ago(found['opened'])}: {found['reason']}"
    yield f"  {found['why']}\n" if found["why"] else ""
    for step in found["steps"]:
        yield f"  {step['name']:<13} {step['verdict']:<13} {step['seconds']:>6.1f} s  {step['reason']}"
    told = [f"  help: {line}" if k == 0 else f"        {line}" for k, line in enumerate(found["help"].splitlines())]
    told += [f"  {step['what']}: {step['command']}" for step in found["next"]]
    yield from ["", *told] if told else []


def _release(found: Plain) -> Iterator[str]:
    """Tell a release, paragraph by paragraph: what happened, why, what it cost, what was spent, what to do."""
    yield from _happened(found)
    for paragraph in (_why(found), _cost(found), _spent(found), _needed(found), _next(found)):
        lines = list(paragraph)
        yield from ["", *lines] if lines else []


def _happened(found: Plain) -> Iterator[str]:
    points = _points(found)
    share = f" at {points[-1]['share']:g} %" if found["ending"] == "rolled back" and points else ""
    took = f", after {lasted(found['opened'], found['ended'])}{share}" if found["ended"] else ""
    what = f"{found['model']} from version {found['takes_out']}" if found["kind"] == "rollback" else _version(found)
    yield f"{found['headline'].upper()}  {what} in {found['environment']}{took}"
    yield f"  by {found['by']}, {ago(found['opened'])}: {found['reason']}"
    yield from [f"  built from {found['commit']}"] * bool(found["commit"])
    yield from _wrapped(found["why"] or found["judgement"].get("reason", ""), "  ")
    yield ""
    for moment in found["timeline"]:
        given = f"   {moment['requests']:,} requests, {moment['failed']:,} failed" if moment["requests"] else ""
        yield f"  after {lasted(found['opened'], moment['at']):<7} {moment['what']}{given}"


def _version(found: Plain) -> str:
    return f"version {found['version']} of {found['model']}"


def _why(found: Plain) -> Iterator[str]:
    guards = {guard["name"]: guard for guard in found["evidence_over_time"].get("guards", [])}
    for finding in found["findings"]:
        guard, evidence = guards.get(finding["name"]), finding["evidence"]
        words = CHECKED if guard is None else WORDS
        yield f"  {finding['name']}: {words[Verdict(finding['verdict'])]}"
        if guard is None:
            yield from _wrapped(finding["reason"], "    ")
            continue
        kind = GuardKind(guard["kind"])
        rates = figures.rates(kind, evidence, found["version"], found["champion"])
        yield from _wrapped(rates or finding["reason"], "    ")
        size = [figures.excess(kind, evidence, found["budget"]["alpha"]), figures.tolerance(kind, evidence)]
        yield from _wrapped("; ".join(part for part in size if part), "    ")
        yield f"    evidence that it is worse  {evidence_line(found['evidence_over_time'], guard, True)}"
        if evidence.get("odds", 0.0) >= guard["bar"] and not evidence["beyond_tolerance"]:
            yield "      (by less than is tolerated, so it does not count)"
        yield f"    evidence that it is not    {evidence_line(found['evidence_over_time'], guard, False)}"
    if guards:
        yield f"  {figures.LEGEND}"
        yield from _doubts(found["evidence_over_time"], found["release"])
    if told_by := found["labels"]["told_by"]:
        whose = ", ".join(f"{one['labels']:,} from {one['who']}" for one in told_by[:MOST_NAMED])
        whose += f", and {sum(one['labels'] for one in told_by[MOST_NAMED:]):,} more" if told_by[MOST_NAMED:] else ""
        yield from _wrapped(f"Its verdicts rest on {counted(found['labels']['used'], 'label')}: {whose}.", "  ")
    if (told := found["labels"]["told"]) and not any(f["name"] == CHANGED for f in found["findings"]):
        yield from _wrapped(f"{told}.", "  ")
    if found["trouble"]:
        yield from _wrapped(f"The evidence cannot be computed again: {found['trouble']}", "  ")


def _doubts(over_time: Plain, release: str) -> Iterator[str]:
    """Say where what was recorded and what was computed just now are not the same."""
    if over_time["judge"] != GENERATION:
        yield "  It was judged by another generation of the judge; the evidence is as this one computes it."
    if count := over_time["differ"]:
        records = f"{count:,} records do" if count > 1 else "1 record does"
        yield f"  {records} not say what the blocks come to, see: modelcd verify {release}"


def _points(found: Plain) -> list[Plain]:
    points: list[Plain] = found.get("evidence_over_time", {}).get("points", [])
    return points


def _cost(found: Plain) -> Iterator[str]:
    if found["requests"]:
        given = f"{counted(found['requests'], 'request')} went to version {found['version']}"
        seen, by = found["failed"] - found["rescued"], f"were answered by version {found['champion']}"
        failed = f"; {found['failed']:,} failed, {found['rescued']:,} of them {by}, {seen:,} failed for users."
        yield from _wrapped(given + (failed if found["failed"] else ", and none failed."), "  ")
    if found["way_back"] is not None:
        took = f"; the real one took {found['back_in']:.2f} s" if found["back_in"] is not None else ""
        yield f"  The rollback was rehearsed in {found['way_back']:.2f} s{took}."
    if found["last_error"]:
        yield f"  Its last error: {found['last_error'].splitlines()[0]}"


def _spent(found: Plain) -> Iterator[str]:
    budget = found["budget"]
    if not budget or budget["strongest"] is None:
        return
    yield from _wrapped(
        f"Allowed: to roll back a version that is no worse with a chance of {100 * budget['alpha']:g} %, to promote one"
        f" beyond a tolerance with a chance of {100 * budget['beta']:g} %; valid under continuous monitoring.",
        "  ",
    )
    most = figures.ratio(budget["strongest"])
    if most != "none":
        when, p = lasted(found["opened"], budget["strongest_at"]), figures.chance(budget["p"])
        most += f", after {when} (p {p}, valid under continuous monitoring)"
    yield from _wrapped(f"The strongest evidence that counted against it, all guards together: {most}.", "  ")
    certified = [
        f"{name} after {lasted(found['opened'], at['at'])} and {at['requests']:,} requests"
        for name, at in budget["certified"].items()
    ]
    if certified:
        yield from _wrapped(f"Certified for {budget['share']:g} %: {', '.join(certified)}.", "  ")


def _needed(found: Plain) -> Iterator[str]:
    for line in found["still_needed"]:
        unit, unlucky = line["unit"], line["unlucky"]
        if line["median"] is None:
            yield from _wrapped(
                f"Still needed for {line['guard']}: no number of {unit} in sight would settle it.", "  "
            )
            continue
        could = f" (if unlucky {about(unlucky):,})" if unlucky else ""
        time = f"no {unit} come at present"
        if line["seconds"] is not None:
            late = f" (if unlucky {span(line['unlucky_seconds'])})" if line["unlucky_seconds"] else ""
            time = f"about {span(line['seconds'])}{late} at the present traffic"
        yield from _wrapped(
            f"Still needed for {line['guard']}: about {about(line['median']):,} more {unit}{could}, {time}.", "  "
        )


def _next(found: Plain) -> Iterator[str]:
    model, place = found["model"], f" --in {found['environment']}"
    if _points(found):
        yield f"  See the evidence: modelcd explain {found['release']} --plot evidence.svg"
    match found["ending"]:
        case "rolled back" | "failed" if found["kind"] == "rollback":
            out = found["takes_out"]
            yield f'  Try version {out} again: modelcd promote {model} {out} --again "why"'
        case "rolled back" | "failed":
            yield f"  Its log: modelcd logs {model} {found['version']}{place}"
            yield '  Try again: modelcd deliver --again "why"'
        case "promoted":
            if found["champion"] is not None:
                yield f"  If it has to go: modelcd rollback {model}{place}"
        case _:
            yield f"  Keep it where it is: modelcd hold {model}{place}   End it: modelcd rollback {model}{place}"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ") if text else []


# -- verify ------------------------------------------------------------------------------------------------------------


@click.command(cls=Taught)
@click.argument("release", default="")
@click.option("--against", type=click.File(), metavar="FILE", help="What --json printed earlier, kept elsewhere.")
@JSON
def verify(release: str, against: TextIO | None, as_json: bool) -> None:
    """Check that no record was changed, removed or reordered; of a RELEASE also that each verdict is what it must be.

    \b
    modelcd verify
    modelcd verify 7f3a                         computes every verdict of a release again, from the journal alone
    modelcd verify --json > heads.json          keep that file where nobody rewrites it, then later:
    modelcd verify --against heads.json         finds a history that was written anew, too
    """
    if release and against:
        raise UsageError("--against holds the whole journal against a file", help="leave RELEASE out, or --against")
    if release:
        return _verify_release(release, as_json)
    noted = _noted(against) if against else None
    control = _control()
    heads = control.heads()
    troubles = control.verify(noted)
    records = sum(head["seq"] for head in heads.values())
    if as_json:
        emit({"whole": not troubles, "troubles": troubles, "records": records, "streams": heads})
        sys.exit(1 if troubles else 0)
    for trouble in troubles:
        click.echo(trouble)
    if not troubles:
        kept = f"; {len(noted)} heads are as they were noted" if noted is not None else ""
        click.echo(f"the journal is whole: {counted(records, 'record')} in {counted(len(heads), 'stream')}{kept}")
    sys.exit(1 if troubles else 0)


def _verify_release(release: str, as_json: bool) -> None:
    with _saying(f"computing every verdict of {release} again, from its journal …"):
        found = _control().verify_release(release)
    good = found["whole"] and found["same"] is not False
    if as_json:
        emit(found)
        sys.exit(0 if good else 1)
    for trouble in found["troubles"]:
        click.echo(trouble)
    if found["same"] is not None and found["judged_by"] is not None:
        click.echo(_recomputed(found))
    elif found["none"]:
        click.echo(f"no verdict of release {found['release']} was needed: {found['none']}")
    for difference in found["differences"][:MOST_DIFFERENCES]:
        at = difference["at"][:19].replace("T", " ")
        click.echo(f"  record {difference['seq']}, {at} UTC: {difference['what']}")
        click.echo(f"    recorded    {difference['recorded']}\n    recomputed  {difference['recomputed']}")
    if (more := len(found["differences"]) - MOST_DIFFERENCES) > 0:
        click.echo(f"  and {more:,} more; all of them: modelcd verify {found['release']} --json")
    sys.exit(0 if good else 1)


def _recomputed(found: Plain) -> str:
    count = found["verdicts"]
    told = f"{counted(count, 'verdict')} of release {found['release']} recomputed from the journal:"
    differ = len({difference["seq"] for difference in found["differences"]})
    if found["same"]:
        told += (
            " all the same"
            if found["whole"]
            else " as they were recorded, by records that are not as they were written"
        )
    else:
        told += f" {differ:,} record{'s' * (differ != 1)} differ{'s' * (differ == 1)}"
    if found["judged_by"] != found["judge"]:
        told += (
            f"\n  it was judged by generation {found['judged_by']} of the judge, this is {found['judge']}:"
            " verdicts were compared, words and numbers were not"
        )
    return told


def _noted(file: TextIO) -> dict[str, Any]:
    try:
        noted = json.load(file)["streams"]
        if not all(int(head["seq"]) > 0 and isinstance(head["digest"], str) for head in noted.values()):
            raise ValueError("a head has a number above 0 and a digest")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{file.name} is not what modelcd verify --json prints: {error}", help="modelcd verify --json > FILE"
        ) from error
    return dict(noted)
