"""What labels say about the answers they belong to, guard by guard, version by version, routing by routing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelcd.domain.policy import FROM_LABELS, Guard, GuardKind
from modelcd.domain.release import Release
from modelcd.domain.samples import Labels, Sums
from modelcd.domain.strangers import strange_labels
from modelcd.environment import Environment
from modelcd.steps.watch import Watch


@dataclass(frozen=True)
class Outcomes:
    """Labels that came, judged: `labels` and `sums` as a `Block` has them, of `strangers` how many; the new cursor."""

    cursor: int
    labels: Mapping[str, Mapping[str, tuple[Labels, Labels]]] = field(default_factory=dict)
    sums: Mapping[str, Mapping[str, tuple[Sums, Sums]]] = field(default_factory=dict)
    strangers: Mapping[int, int] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        """Say whether a label came for an answer of champion or challenger."""
        return bool(self.labels or self.sums)


def outcomes_since(env: Environment, watch: Watch, release: Release) -> Outcomes:
    """Return what the labels after the cursor of *release* say of what it served.

    Raises `CannotTell` when they could not be read or judged.
    """
    guards = [guard for guard in release.policy.guards if guard.kind in FROM_LABELS]
    if not guards:
        return Outcomes(release.label_cursor)
    pairs = env.predictions.labelled(watch.stream, after=release.label_cursor)
    cursor = pairs[-1].cursor if pairs else release.label_cursor
    own = (release.champion, release.version)
    strangers = strange_labels(((p.revision, p.version) for p in pairs if p.leg == "main"), release.rungs, own)
    mine = [p for p in pairs if p.leg == "main" and p.revision in release.rungs and p.version in own]
    if not mine:
        return Outcomes(cursor, strangers=strangers)
    snapshot = Path(watch.openings[release.version]["snapshot"])
    labels, sums = {}, {}
    for guard in guards:
        values = env.successes.judge(snapshot, guard.name, [(p.score, p.value) for p in mine])
        arms: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
        for pair, value in zip(mine, values, strict=True):
            arms[pair.revision][pair.version == release.version].append(value)
        if guard.kind is GuardKind.METRIC:
            sums[guard.name] = {revision: (_summed(old), _summed(new)) for revision, (old, new) in arms.items()}
        else:
            labels[guard.name] = {r: (_counted(guard, old), _counted(guard, new)) for r, (old, new) in arms.items()}
    return Outcomes(cursor, labels, sums, strangers)


def _counted(guard: Guard, values: Sequence[float]) -> Labels:
    return Labels(len(values), sum(bool(value) != guard.higher_is_better for value in values))


def _summed(values: Sequence[float]) -> Sums:
    return Sums(len(values), sum(values), sum(value * value for value in values))
