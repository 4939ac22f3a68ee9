"""What labels say about the answers they belong to, guard by guard, version by version, routing by routing.

A label that is new is an outcome.  One that changes what an earlier look has counted is none: what it takes away and
adds is told beside the block that counted it, and blocks stay as they were seen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelcd.domain.policy import FROM_LABELS, Guard, GuardKind
from modelcd.domain.release import Release
from modelcd.domain.restated import Look, counted_in
from modelcd.domain.samples import Labels, Sums
from modelcd.domain.strangers import strange_labels
from modelcd.environment import Environment
from modelcd.errors import ChildError
from modelcd.ports import Labelled, Unjudged
from modelcd.steps.watch import Watch

MOST_NAMED = 20
"""How many of those who told labels, and of pairs of who changed some and why, one record names."""

OTHERS = "others"
"""Whom labels come from beyond those that a record names."""


@dataclass(frozen=True)
class Changed:
    """A label that was changed after it was counted: what each guard says of the old one and of the new one.

    None for a guard, or for all, is no outcome: it was withdrawn, or could not be judged.
    """

    entry: Labelled
    challenger: bool
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True)
class Outcomes:
    """Labels that came, judged: `labels`, `sums`, `told_by` as a `Block` has them, `strangers`' count; the new cursor.

    `changed` are those that an earlier look had counted otherwise; `unjudged` is how many more there are now that no
    guard's function could judge, and why, of the first.
    """

    cursor: int
    labels: Mapping[str, Mapping[str, tuple[Labels, Labels]]] = field(default_factory=dict)
    sums: Mapping[str, Mapping[str, tuple[Sums, Sums]]] = field(default_factory=dict)
    told_by: Mapping[str, int] = field(default_factory=dict)
    strangers: Mapping[int, int] = field(default_factory=dict)
    changed: tuple[Changed, ...] = ()
    unjudged: tuple[int, str] = (0, "")

    @property
    def any(self) -> bool:
        """Say whether a label came, or was changed, of an answer of champion or challenger."""
        return bool(self.labels or self.sums or self.changed or self.unjudged[0])


def outcomes_since(env: Environment, watch: Watch, release: Release) -> Outcomes:
    """Return what the labels after the cursor of *release* say of what it served.

    Raises `CannotTell` when they could not be read or judged.
    """
    guards = [guard for guard in release.policy.guards if guard.kind in FROM_LABELS]
    if not guards:
        return Outcomes(release.label_cursor)
    entries = env.predictions.labelled(watch.stream, after=release.label_cursor)
    cursor = entries[-1].cursor if entries else release.label_cursor
    own = (release.champion, release.version)
    main = [entry for entry in entries if entry.leg == "main"]
    strange = ((entry.revision, entry.version) for entry in main if not entry.first)
    strangers = strange_labels(strange, release.rungs, own)
    mine = [entry for entry in main if entry.revision in release.rungs and entry.version in own]
    new, changed = _sorted(mine)
    if not (new or changed):
        return Outcomes(cursor, strangers=strangers)
    asked = [(entry.score, entry.value) for entry in new]
    asked += [(entry.score, value) for entry, before in changed for value in (before, entry.value)]
    verdicts, trouble = _judged(env, Path(watch.openings[release.version]["snapshot"]), guards, asked)
    if new and not changed and trouble and not any(verdicts):
        raise ChildError(f"no label could be judged: {trouble}", help="correct or withdraw what is wrong")
    said, unjudged = verdicts[: len(new)], sum(verdict is None for verdict in verdicts[: len(new)])
    found = []
    for number, (entry, earlier) in enumerate(changed):
        before, after = verdicts[len(new) + 2 * number : len(new) + 2 * number + 2]
        unjudged += (entry.value is not None and after is None) - (earlier is not None and before is None)
        found.append(Changed(entry, entry.version == release.version, before, after))
    labels, sums = _counts(guards, new, said, release.version)
    whose = _told_by(entry for entry, outcome in zip(new, said, strict=True) if outcome is not None)
    return Outcomes(cursor, labels, sums, whose, strangers, tuple(found), (unjudged, trouble if unjudged > 0 else ""))


def _told_by(entries: Iterable[Labelled]) -> dict[str, int]:
    """Return how many of *entries* came from whom, those with the most first."""
    counts = Counter(entry.by for entry in entries if entry.by)
    named = dict(counts.most_common(MOST_NAMED))
    rest = counts.total() - sum(named.values())
    return named | ({OTHERS: named.get(OTHERS, 0) + rest} if rest else {})


def _sorted(entries: Iterable[Labelled]) -> tuple[list[Labelled], list[tuple[Labelled, Any]]]:
    """Return labels that no look has seen, as they are now, and those that one has, with what was true until now."""
    new: list[Labelled] = []
    later: dict[int, list[Labelled]] = {}
    for entry in entries:
        later.setdefault(entry.first, []).append(entry) if entry.first else new.append(entry)
    new = [later.pop(entry.cursor, [entry])[-1] for entry in new]
    changed = [(chain[-1], chain[0].before) for chain in later.values() if chain[0].before != chain[-1].value]
    return [entry for entry in new if entry.value is not None], changed


def _judged(
    env: Environment, snapshot: Path, guards: Sequence[Guard], pairs: Sequence[tuple[Any, Any]]
) -> tuple[list[dict[str, Any] | None], str]:
    """Return what each guard says of each pair, None where one says nothing; and why, of the first such pair."""
    known = [pair for pair in pairs if pair[1] is not None]
    answers: list[dict[str, Any] | None] = [{} for _ in known]
    trouble = ""
    for guard in guards:
        for place, value in enumerate(env.successes.judge(snapshot, guard.name, known)):
            if isinstance(value, Unjudged):
                trouble, answers[place] = trouble or value.why, None
            elif (told := answers[place]) is not None:
                told[guard.name] = value
    given = iter(answers)
    return [next(given) if pair[1] is not None else None for pair in pairs], trouble


def _counts(
    guards: Sequence[Guard], entries: Sequence[Labelled], said: Sequence[Mapping[str, Any] | None], challenger: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    labels, sums = {}, {}
    for guard in guards:
        arms: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
        for entry, outcome in zip(entries, said, strict=True):
            if outcome is not None:
                arms[entry.revision][entry.version == challenger].append(outcome[guard.name])
        if not arms:
            continue
        if guard.kind is GuardKind.METRIC:
            sums[guard.name] = {revision: (_summed(old), _summed(new)) for revision, (old, new) in arms.items()}
        else:
            labels[guard.name] = {r: (_counted(guard, old), _counted(guard, new)) for r, (old, new) in arms.items()}
    return labels, sums


def _counted(guard: Guard, values: Sequence[float]) -> Labels:
    return Labels(len(values), sum(bool(value) != guard.higher_is_better for value in values))


def _summed(values: Sequence[float]) -> Sums:
    return Sums(len(values), sum(values), sum(value * value for value in values))


# -- what was changed --------------------------------------------------------------------------------------------------


def amendments(guards: Iterable[Guard], looks: Sequence[Look], changed: Sequence[Changed]) -> dict[str, Any]:
    """Return what the journal keeps of *changed* labels of a release with these *looks*; empty when none was used.

    `blocks` has, by the number of the record that counted them, what they take away and add there; `by` who and why.
    """
    blocks: dict[str, dict[str, Any]] = {}
    judging = {guard.name: guard for guard in guards if guard.kind in FROM_LABELS}
    used = [(change, seq) for change in changed if (seq := counted_in(looks, change.entry.first))]
    for change, seq in used:
        for sign, said in ((-1, change.before), (1, change.after)):
            for name, value in (said or {}).items():
                metric = judging[name].kind is GuardKind.METRIC
                served = blocks.setdefault(str(seq), {}).setdefault("sums" if metric else "labels", {})
                counts = served.setdefault(name, {}).setdefault(change.entry.revision, [0] * (6 if metric else 4))
                one = [1, value, value * value] if metric else [1, int(bool(value) != judging[name].higher_is_better)]
                for place, part in enumerate(one, start=len(one) * change.challenger):
                    counts[place] += sign * part
    if not used:
        return {}
    withdrawn = sum(change.entry.value is None for change, _ in used)
    by = dict.fromkeys((change.entry.by, change.entry.why) for change, _ in used)
    return {
        "corrected": len(used) - withdrawn,
        "withdrawn": withdrawn,
        "by": [list(who) for who in by][:MOST_NAMED],
        "blocks": blocks,
    }
