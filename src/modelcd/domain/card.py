"""What people read of a model and its versions where they look models up: a fold of the journal, and nothing else.

A page is Markdown and a few short tags.  Of a version it says first where it stands, since when, by whom and why, then
what is different from the champion that it was measured against, what the gates found, and how its releases went.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modelcd.domain.delivery import Builds, Delivery
from modelcd.domain.lineage import DIFFERS, Part, compared, gates_of
from modelcd.domain.records import Record
from modelcd.domain.release import Ending, Endpoint, Release
from modelcd.domain.story import headline, timeline, why
from modelcd.domain.telling import counted
from modelcd.domain.verdict import Verdict
from modelcd.domain.versions import marked

MOMENTS = 12
"""Moments of a release that are told, from its beginning and from its end; `modelcd explain` tells all."""

ENDED_BADLY = frozenset({"stopped", "refused", "failed", "interrupted", "abandoned"})
"""How a delivery ends that brought its version nowhere."""

RELEASES = 3
"""Releases of a version that are told, the newest first."""


@dataclass(frozen=True)
class Page:
    """What people read of one thing: *text* is Markdown; an empty tag is one that is not there."""

    text: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """What people read of *model*, in all and version by version; *journal* names the records that it was made from."""

    model: str
    journal: str
    page: Page = Page()
    versions: Mapping[int, Page] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """Where a version stands: in a few words, since when (ISO 8601), by whom and why."""

    state: str
    since: str = ""
    by: str = ""
    why: str = ""
    release: str = ""


@dataclass(frozen=True)
class Place:
    """An environment's endpoint of a model, with the records that it is the fold of."""

    endpoint: Endpoint
    records: Sequence[Record] = ()

    @property
    def name(self) -> str:
        """The environment's name."""
        return self.endpoint.environment


def card_of(model: str, journal: str, builds: Builds, places: Sequence[Place]) -> Card:
    """Return the card of *model*; *places* are in the order of a promotion, the last one is where users are."""
    versions = {number: _version(number, builds, places) for number in sorted(builds.built)}
    return Card(model, journal, _model(model, builds, places), versions)


# -- where a version stands --------------------------------------------------------------------------------------------


def standing(number: int, builds: Builds, places: Sequence[Place]) -> Standing:
    """Return where version *number* stands: in the last of *places* if it got there, or else in its delivery."""
    if places and (found := _with_users(number, places[-1].endpoint)) is not None:
        return found
    delivery = _delivery(builds, number)
    if delivery is not None and delivery.ending in ENDED_BADLY:
        at = delivery.why.partition(": ")[0] if delivery.ending == "stopped" else ""
        state = f"{delivery.ending} at {at}" if at else f"delivery {delivery.ending}"
        return Standing(state, delivery.ended, delivery.actor, delivery.why)
    for place in reversed(places[:-1]):
        if (found := _serving(number, place.endpoint)) is not None:
            return replace(found, state=f"accepted, {found.state}") if number in builds.accepted else found
    if delivery is None:
        return Standing("built")
    told = delivery.ending or "under way"
    return Standing(f"delivery {told}", delivery.ended or delivery.opened, delivery.actor, delivery.why)


def _with_users(number: int, endpoint: Endpoint) -> Standing | None:
    """Return where *number* stands in the *endpoint* that users ask, which also knows what it was rid of."""
    if (found := _serving(number, endpoint)) is not None:
        return found
    if (refused := endpoint.rejected(number)) is not None:
        if refused.takes_out == number:
            told = f"taken out of {endpoint.environment}, rolled back to version {refused.version}"
            return Standing(told, refused.ended, refused.actor, refused.reason, refused.id)
        told = f"{refused.ending} in {endpoint.environment}"
        return Standing(told, refused.ended, refused.asked_by or "modelcd", why(refused), refused.id)
    if number in endpoint.champions:
        since = max(k for k, r in enumerate(endpoint.releases) if _promoted(r) and r.version == number)
        took = next((r for r in endpoint.releases[since + 1 :] if _promoted(r)), endpoint.releases[-1])
        told = f"retired from {endpoint.environment}, version {took.version} took over"
        return Standing(told, took.ended, took.actor, took.reason, took.id)
    return None


def _serving(number: int, endpoint: Endpoint) -> Standing | None:
    """Return since when, by whom and why *number* serves in *endpoint*, or is on its way there."""
    release, name = endpoint.open, endpoint.environment
    if endpoint.champion == number:
        holder = next((r for r in endpoint.releases if r.id == endpoint.champion_release), None)
        if holder is None:
            return Standing(f"in {name}", endpoint.champion_since)
        late = f"; late labels reopened the verdict: {endpoint.reopened}" if endpoint.reopened else ""
        ended = str(holder.closing.get("reason", ""))
        told = ended if holder.reason in ended else "; ".join(filter(None, (holder.reason, ended)))
        return Standing(f"in {name}", endpoint.champion_since, holder.actor, told + late, holder.id)
    if release is not None and release.version == number:
        told = f"release under way in {name}, at {release.share:g} %"
        return Standing(told, release.opened, release.actor, release.reason, release.id)
    return None


def _promoted(release: Release) -> bool:
    return release.ending is Ending.PROMOTED


def _delivery(builds: Builds, number: int) -> Delivery | None:
    return next((d for d in reversed(builds.deliveries) if d.version == number), None)


# -- the page of a version ---------------------------------------------------------------------------------------------


def _version(number: int, builds: Builds, places: Sequence[Place]) -> Page:
    now, body = standing(number, builds, places), builds.built[number]
    gates = gates_of(builds, number)
    lines = [_sentence(now)]
    lines += _changes(number, builds, gates)
    lines += _gates(number, gates)
    for place in reversed(places):
        mine = [r for r in place.endpoint.releases if number in (r.version, r.takes_out)]
        for release in reversed(mine[-RELEASES:]):
            lines += _release(release, place, told=place is places[-1])
    delivery = _delivery(builds, number)
    tags = {
        "modelcd.state": now.state,
        "modelcd.since": _moment(now.since),
        "modelcd.by": now.by,
        "modelcd.why": now.why,
        "modelcd.release": now.release,
        "modelcd.delivery": delivery.id if delivery else str(body.get("delivery", "")),
        "modelcd.gates": ("passed" if gates["verdict"] == Verdict.PASS.value else "failed") if gates else "",
        "modelcd.commit": marked(str(body.get("commit", "")), str(body.get("worktree", ""))),
        "modelcd.snapshot": str(body.get("snapshot", "")),
        "modelcd.data": str(body.get("data", "")),
    }
    return Page("\n".join(lines), {name: _plain(text) for name, text in tags.items()})


def _sentence(now: Standing) -> str:
    """Say where a version stands in one sentence, for whoever reads nothing more."""
    parts = [f"{now.state[:1].upper()}{now.state[1:]}"]
    parts += [f"since {_moment(now.since)}"] * bool(now.since) + [f"by {_plain(now.by)}"] * bool(now.by)
    parts += [f"(release {now.release})"] * bool(now.release)
    return " ".join(parts) + (f": {_plain(now.why)}" if now.why else "")


def _changes(number: int, builds: Builds, gates: Mapping[str, Any] | None) -> list[str]:
    old, new = (gates or {}).get("champion"), builds.built[number]
    lines = ["", "**What it is made of**", ""]
    if old is None or old not in builds.built or old == number:
        learned = f", {new['data_from']} to {new['data_until']}" if new.get("data_from") else ""
        commit = marked(str(new.get("commit", "")), str(new.get("worktree", "")))
        rows = f"{int(new['rows']):,} rows" if new.get("rows") else "not known"
        return [*lines, f"- code: commit {_short(commit) if commit else 'not known'}", f"- data: {rows}{learned}"]
    lines = ["", f"**What changed since version {old}**", ""]
    before = builds.built[old]
    same = before.get("code") == new.get("code")
    lines.append(f"- code that training reaches: {'the same' if same else 'changed'}")
    parts = compared(builds, old, number)
    return lines + [f"- {name}: {_part(parts[name])}" for name in ("commit", "data", "parameters", "toolchain")]


def _part(part: Part) -> str:
    if part.verdict != DIFFERS:
        return "the same" if not part.why else f"not known: {_plain(part.why)}"
    told = [f"{name} {_short(a)} → {_short(b)}".removeprefix("commit ") for name, (a, b) in part.changes.items()]
    return "; ".join([*told[:8], f"{len(told) - 8} more"] if len(told) > 8 else told)


def _short(value: Any) -> str:
    if value is None:
        return "none"
    text = f"{value:,}" if isinstance(value, int) else str(value)
    digest, _, mark = text.removeprefix("sha256:").partition("-")
    hexadecimal = len(digest) >= 40 and all(c in "0123456789abcdef" for c in digest)
    return f"`{digest[:12]}{'-' * bool(mark)}{mark}`" if hexadecimal else _plain(text)[:60] or "none"


def _gates(number: int, gates: Mapping[str, Any] | None) -> list[str]:
    if gates is None:
        return ["", "**Gates**", "", "Not checked."]
    old = gates.get("champion")
    said = "passed" if gates["verdict"] == Verdict.PASS.value else "not passed"
    lines = ["", f"**Gates: {said}, against {f'version {old}' if old else 'no champion'}**", ""]
    metrics, theirs = gates.get("metrics", {}), gates.get("champion_metrics", {})
    if metrics:
        other = f" version {old} |" if theirs else ""
        lines += [f"| on the holdout | version {number} |{other}", f"|---|---|{'---|' * bool(theirs)}"]
        for name, value in metrics.items():
            beside = f" {_number(theirs.get(name))} |" if theirs else ""
            lines.append(f"| {_plain(name)} | {_number(value)} |{beside}")
        lines.append("")
    return lines + [_finding(finding) for finding in gates.get("findings", ())]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "not known"


def _finding(finding: Mapping[str, Any]) -> str:
    return f"- **{finding['verdict']}** {_plain(finding['name'])}: {_plain(finding['reason'])}"


def _release(release: Release, place: Place, *, told: bool) -> list[str]:
    """Tell how *release* went: who wanted it (and why, if *told*), the verdict with what it rests on, and its steps."""
    lines = ["", f"**{place.name.capitalize()}: {headline(release)}** (release {release.id})", ""]
    wanted = f", because: {_plain(release.reason)}" if release.reason and told else ""
    lines.append(f"Opened by {_plain(release.actor)} at {_moment(release.opened)}{wanted}.")
    if release.exposed.requests:
        lines.append(f"It was given {_requests(release)}.")
    if release.ending:
        lines += ["", f"Ended at {_moment(release.ended)}: {_plain(why(release))}"]
    if findings := release.judgement.get("findings", ()):
        lines += ["", *map(_finding, findings)]
    moments = [m for m in timeline(place.records, release.id) if not m.what.startswith("opened by")]
    if len(moments) > 2 * MOMENTS:
        moments = [*moments[:MOMENTS], *moments[-MOMENTS:]]
    lines += ["", *(f"- {_moment(m.at, seconds=True)} {_plain(m.what)}" for m in moments)]
    return [*lines, "", f"All of it: `modelcd explain {release.id}`"]


def _requests(release: Release) -> str:
    exposed = release.exposed
    failed = f"{exposed.failures:,} failed" if exposed.failures else "none failed"
    return f"{counted(exposed.requests, 'request')}, {failed}"


# -- the page of the model ---------------------------------------------------------------------------------------------


def _model(model: str, builds: Builds, places: Sequence[Place]) -> Page:
    about = next((d.about for d in reversed(builds.deliveries) if d.about), "")
    lines = [about or f"The model {model}.", "", "| environment | version | since | put there by | why |"]
    lines.append("|---|---|---|---|---|")
    tags: dict[str, str] = {}
    for place in reversed(places):
        number = place.endpoint.champion
        if number is None:
            lines.append(f"| {place.name} | none | | | |")
            continue
        now = _serving(number, place.endpoint) or Standing("")
        reason = _plain(now.why) if place is places[-1] else ""  # elsewhere a delivery's, which says nothing of users
        told = "; ".join(text for text in (reason, _under_way(place)) if text)
        cells = (place.name, f"**version {number}**", _moment(now.since), _plain(now.by), told)
        lines.append(f"| {' | '.join(cells)} |")
        tags[f"modelcd.{place.name}"] = f"version {number}"
    lines += ["", "**Its versions**", "", "| version | where it stands | since | by |", "|---|---|---|---|"]
    for number in sorted(builds.built, reverse=True)[:20]:
        now = standing(number, builds, places)
        lines.append(f"| {number} | {now.state} | {_moment(now.since)} | {_plain(now.by)} |")
    return Page("\n".join(lines), tags)


def _under_way(place: Place) -> str:
    release = place.endpoint.open
    return f"release {release.id} of version {release.version} is under way" if release else ""


# -- words -------------------------------------------------------------------------------------------------------------


def _moment(at: str, *, seconds: bool = False) -> str:
    return f"{at[: 19 if seconds else 16].replace('T', ' ')} UTC" if at else ""


def _plain(text: Any) -> str:
    """Return *text* as one line in which no sign begins a table's cell or a tag of HTML."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def mark_of(streams: Iterable[tuple[str, int]]) -> str:
    """Name the records that a card is made from: each stream with its newest one."""
    return ", ".join(f"{stream} {seq}" for stream, seq in sorted(streams))
