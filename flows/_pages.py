"""What a person reads on Prefect's pages: gates, the way of a release, its verdict."""

from __future__ import annotations

from collections.abc import Sequence

from modelcd.domain.release import Endpoint, Release
from modelcd.domain.story import Moment
from modelcd.domain.verdict import Finding


def gates(findings: Sequence[Finding]) -> str:
    """Return the offline checks as a Markdown table."""
    rows = [f"| {f.name} | {f.verdict} | {_cell(f.reason)} |" for f in findings]
    return "\n".join(["# Gates", "", "| check | verdict | reason |", "|---|---|---|", *rows])


def release(endpoint: Endpoint, ended: Release, moments: Sequence[Moment]) -> str:
    """Return the story of a release as Markdown: what happened, why, when, what it cost."""
    exposed = ended.exposed
    lines = [
        f"# Version {ended.version} of {endpoint.model}: {ended.ending or 'under way'}",
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
        "",
        "| guard | verdict | reason |",
        "|---|---|---|",
    ]
    for finding in ended.judgement.get("findings", []):
        lines.append(f"| {finding['name']} | {finding['verdict']} | {_cell(finding['reason'])} |")
    lines += ["", "| when | what | requests given to it by then | failed |", "|---|---|---|---|"]
    for moment in moments:
        lines.append(f"| {moment.at} | {_cell(moment.what)} | {moment.requests:,} | {moment.failed:,} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
