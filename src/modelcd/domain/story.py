"""A release told moment by moment from its records, for people: what happened, and what the challenger had by then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from modelcd.domain.records import Record
from modelcd.domain.release import Ending, Release
from modelcd.domain.routing import Routing


@dataclass(frozen=True)
class Moment:
    """Something that happened to a release *at* a time (ISO 8601).

    `requests` and `failed` are what the challenger had been given, and had failed at, by then.
    """

    at: str
    what: str
    requests: int = 0
    failed: int = 0


def timeline(records: Iterable[Record], release: str) -> list[Moment]:
    """Return the moments of *release*, oldest first; *records* are those of its endpoint's stream, in order."""
    version, requests, failed = 0, 0, 0
    moments: list[Moment] = []
    for record in records:
        entry = record.entry
        if entry.release != release:
            continue
        if entry.kind == "opened":
            version = int(entry.body["version"])
        seen = _seen(entry.kind, entry.body, version)
        requests, failed = requests + seen[0], failed + seen[1]
        if entry.kind in ("observed", "late") and (changed := _changed(entry.body)):
            moments.append(Moment(entry.at, changed, requests, failed))
        if what := _what(entry.kind, entry.actor, entry.body):
            moments.append(Moment(entry.at, what, requests, failed))
    return moments


def why(release: Release) -> str:
    """Say why *release* ended as it did, and what late labels said of it since."""
    late = f"; late labels reopened the verdict: {release.judgement['reason']}" if release.reopened else ""
    return str(release.closing.get("reason", "")) + late


def ending(release: Release) -> str:
    """Say in a word or two how *release* ended, empty while it goes on: a rollback that got through is no promotion."""
    if release.ending is Ending.PROMOTED and release.by_rollback:
        return str(Ending.ROLLED_BACK)
    return str(release.ending or "")


def headline(release: Release) -> str:
    """Say how *release* ended or where it stands, and for a rollback where it leads."""
    if release.by_rollback:
        return _of_rollback(release.ending, release.version)
    return str(release.ending or f"under way at {release.share:g} %")


def _of_rollback(ending: Ending | None, version: int) -> str:
    match ending:
        case Ending.PROMOTED:
            return f"rolled back to version {version}"
        case None:
            return f"rollback to version {version} under way"
        case _:
            return f"rollback to version {version} {ending}"


def _closed(body: Mapping[str, Any]) -> str:
    """Say of the record that closed a release how it ended; one that closed a rollback names where it led."""
    if body.get("takes_out") is not None:
        return _of_rollback(Ending(body["ending"]), int(body["version"]))
    return str(body["ending"])


def _seen(kind: str, body: Mapping[str, Any], version: int) -> tuple[int, int]:
    counted = body["counted"].get(str(version)) if kind == "observed" else None
    return (int(counted["requests"]), int(counted["failures"])) if counted else (0, 0)


def _changed(body: Mapping[str, Any]) -> str:
    """Say which labels that were used before a look's record were changed, by whom and why; empty for none."""
    amended = body.get("amended")
    if not amended:
        return ""
    told = ", ".join(f"{amended[how]:,} {how}" for how in ("corrected", "withdrawn") if amended[how])
    whose = "; ".join(f"by {who}: {why}" for who, why in amended["by"])
    return f"labels that were used were changed: {told} ({whose})"


def _what(kind: str, actor: str, body: Mapping[str, Any]) -> str:
    match kind:
        case "opened":
            return f"opened by {actor}"
        case "done":
            return _done(body)
        case "failed":
            return f"could not {body['effect']}: {body['error']}"
        case "asked":
            why = f": {body['reason']}" if body.get("reason") else ""
            return f"{actor} asked to {str(body['ask']).replace('_', ' ')}{why}"
        case "repaired":
            return f"repaired by {actor}: {body['what']}"
        case "seen":
            silent = [f"version {version} does not answer: {why}" for version, why in body["unready"].items()]
            return "; ".join([*silent, *(str(body[name]) for name in ("trouble", "asks") if body[name])])
        case "closed":
            return _closed(body)
        case "late":
            return str(body["follows"])
        case _:
            return ""


def _done(body: Mapping[str, Any]) -> str:
    match body["effect"]:
        case "start":
            return f"version {body['version']} started"
        case "shift":
            return shares(Routing.from_plain(dict(body["routing"])))
        case "rehearse":
            return f"rollback rehearsed in {body['seconds']:.2f} s"
        case "warm":
            return f"warmed up with {body['requests']} requests"
        case "point":
            return f"version {body['version']} is the champion"
        case _:
            return ""


def shares(routing: Routing) -> str:
    """Say who gets how much of the traffic."""
    return ", ".join(f"version {arm.version} gets {arm.share:g} %" for arm in routing.arms if arm.share)


def news(record: Record) -> tuple[str, str] | None:
    """Return subject and text for people when *record* is worth telling: endings, repairs, trouble, questions."""
    entry, body = record.entry, record.entry.body
    match entry.kind:
        case "closed" if "ending" in body:
            return f"{record.stream}: release {entry.release} {_closed(body)}", str(body["reason"])
        case "late" if body["follows"]:
            return f"{record.stream}: late labels reopened the verdict of release {entry.release}", str(body["follows"])
        case "repaired":
            return f"{record.stream}: put right", str(body["what"])
        case "failed":
            return f"{record.stream}: could not {body['effect']}", f"{body['error']}\n{body['help']}".strip()
        case "seen" if what := _what(entry.kind, entry.actor, body):
            return f"{record.stream}: {'a person must decide' if body['asks'] else 'trouble'}", what
        case _:
            return None
