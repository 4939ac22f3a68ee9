"""What a person reads on Prefect's pages: gates, the way of a release, its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelcd.domain import figures
from modelcd.domain.delivery import Delivery
from modelcd.domain.policy import GuardKind
from modelcd.domain.release import Endpoint, Release
from modelcd.domain.story import headline
from modelcd.domain.verdict import Verdict
from modelcd.explaining import evidence_line, next_steps
from modelcd.plots import embedded


def delivery(model: str, ended: Delivery, told: Mapping[str, Any]) -> str:
    """Return how a delivery ended as Markdown: why, each step with what its checks found, and what to do.

    *told* is what its flow returned, empty where an error stopped it.
    """
    at = f" at {told['at']}" if "at" in told else ""
    version = f"version {ended.version} of {model}" if ended.version else model
    lines = [
        f"# {version[0].upper()}{version[1:]}: {ended.ending}{at}",
        "",
        _cell(ended.why),
        "",
        f"**What to do:** {_cell(_advice(model, ended))}",
        "",
        "| | |",
        "|---|---|",
        f"| delivery | {ended.id}, of {_cell(ended.project)} |",
        f"| by | {ended.actor}: {_cell(ended.reason or ended.trigger)} |",
        f"| from, to | {ended.opened} … {ended.ended} |",
        *([f"| release | {told['release']} into {told['environment']} |"] if "release" in told else []),
        "",
        "| step | verdict | seconds | what was found |",
        "|---|---|---|---|",
        *(f"| {s['name']} | {s['verdict']} | {s['seconds']:.1f} | {_cell(_brief(s))} |" for s in ended.steps),
    ]
    for one in ended.steps:
        if found := one["evidence"].get("findings"):
            lines += ["", f"## {one['name']}", "", "| check | verdict | reason | numbers |", "|---|---|---|---|"]
            lines += [_check(part) for part in found]
    return "\n".join(lines)


def _advice(model: str, ended: Delivery) -> str:
    steps = "; ".join(f"{step['what']}: `{step['command']}`" for step in next_steps(model, ended))
    return ". ".join(filter(None, (ended.help, steps))) or "nothing"


def _brief(step: Mapping[str, Any]) -> str:
    """Return what a step found, without what the table of its checks tells."""
    found = step["evidence"].get("findings")
    if not found:
        return str(step["reason"])
    bad = sum(part["verdict"] != Verdict.PASS.value for part in found)
    return f"{len(found) - bad} of {len(found)} checks passed"


def _check(part: Mapping[str, Any]) -> str:
    numbers = ", ".join(f"{k} {_number(v)}" for k, v in part["evidence"].items() if isinstance(v, int | float))
    return f"| {_cell(part['name'])} | {part['verdict']} | {_cell(part['reason'])} | {_cell(numbers)} |"


def _number(value: float) -> str:
    return str(value) if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


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
