"""What a person reads on Prefect's pages: gates, the way of a release, its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelcd.domain import figures
from modelcd.domain.policy import GuardKind
from modelcd.domain.release import Endpoint, Release
from modelcd.domain.story import headline
from modelcd.domain.verdict import Finding
from modelcd.explaining import evidence_line
from modelcd.plots import embedded


def gates(findings: Sequence[Finding]) -> str:
    """Return the offline checks as a Markdown table."""
    rows = [f"| {f.name} | {f.verdict} | {_cell(f.reason)} |" for f in findings]
    return "\n".join(["# Gates", "", "| check | verdict | reason |", "|---|---|---|", *rows])


def release(endpoint: Endpoint, ended: Release, told: Mapping[str, Any]) -> str:
    """Return the story of a release as Markdown: what happened, why, when, what it cost, and a picture of the evidence.

    *told* is what `explained` says of it.  The picture travels inside of the page: Prefect's pages, old and new, show
    images of the kind `data:`.
    """
    exposed = ended.exposed
    lines = [
        f"# Version {ended.version} of {endpoint.model}: {headline(ended)}",
        "",
        str(ended.closing.get("reason", ended.judgement.get("reason", ""))),
        "",
        "| | |",
        "|---|---|",
        f"| release | {ended.id} into {endpoint.environment} |",
        f"| by | {ended.actor}: {_cell(ended.reason)} |",
        f"| champion | {f'version {ended.champion}' if ended.champion else 'none before'} |",
        f"| from, to | {ended.opened} … {ended.ended} |",
        f"| given to it | {exposed.requests:,} requests, {exposed.failures:,} failed,"
        f" {exposed.rescued:,} of those were answered by the champion |",
        *_evidence(ended, told),
        "",
        "| when | what | requests given to it by then | failed |",
        "|---|---|---|---|",
    ]
    for moment in told["timeline"]:
        lines.append(f"| {moment['at']} | {_cell(moment['what'])} | {moment['requests']:,} | {moment['failed']:,} |")
    return "\n".join(lines)


def _evidence(ended: Release, told: Mapping[str, Any]) -> list[str]:
    over_time = told["evidence_over_time"]
    guards = {guard["name"]: guard for guard in over_time.get("guards", ())}
    lines = [
        "",
        "| guard | verdict | reason | excess | that it is worse | that it is not |",
        "|---|---|---|---|---|---|",
    ]
    for finding in told["findings"]:
        guard, excess, odds = guards.get(finding["name"]), "", ["", ""]
        if guard is not None:
            excess = figures.excess(GuardKind(guard["kind"]), finding["evidence"], ended.policy.alpha)
            odds = [evidence_line(over_time, guard, against) for against in (True, False)]
        cells = (finding["name"], finding["verdict"], _cell(finding["reason"]), excess, *odds)
        lines.append(f"| {' | '.join(cells)} |")
    if over_time.get("points"):
        lines += ["", figures.LEGEND, "", embedded(over_time)]
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
