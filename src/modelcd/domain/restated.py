"""Labels that were changed after a verdict had used them: what is counted then, and what is said.

Blocks of evidence stay as they were seen.  Beside them the same judge is asked about the labels as they stand now, each
in the block in which it was counted, and a verdict moves traffic only where both say so.  That keeps what is promised
whichever of the two is true, and whoever chose, after seeing the evidence, what to change: if the labels were right as
they were seen, a wrong verdict still needs the error of the test on those; if they are right as they stand, it needs,
from the last change on, the error of the test on these.  The evidence on the new labels alone would promise nothing
where changes are selective.  The trade-off: where the two disagree nothing is concluded, and fresh labels, or a person,
must decide.

A label that the guard's function could not judge is in neither; as long as there is one, nothing is promoted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from modelcd.domain.amended import Amended
from modelcd.domain.judge import Judge, Judgement, start, update
from modelcd.domain.policy import Canary
from modelcd.domain.records import Record
from modelcd.domain.samples import Block, Labels, Sums, block_from
from modelcd.domain.verdict import Finding, Verdict

LOOKS = ("observed", "late")
"""The kinds of records that hold a block and the judgement on all evidence by then."""

CHANGED = "changed labels"
"""The name of the finding about labels that were changed after they were used."""

_WORDS = {
    Verdict.PASS: "within what is tolerated",
    Verdict.INCONCLUSIVE: "not decided",
    Verdict.ERROR: "not to be judged",
    Verdict.FAIL: "worse",
}

Look = tuple[int, Mapping[str, Any]]
"""The number of a look's record, and its body."""


def weighed(seen: Judgement, now: Judgement | None, amended: Amended) -> Judgement:
    """Return what follows from labels as they were *seen* and as they stand *now* (None: they are the same).

    Where the two verdicts differ nothing is concluded.
    """
    findings = seen.findings
    if now is not None:
        verdict, reason = _both(seen, now, amended)
        evidence = {"check": True, "now": now.verdict.value, "seen": seen.verdict.value, **amended.to_plain()}
        findings = (*findings, Finding(CHANGED, _stands(seen, now), reason, evidence))
        same = verdict is seen.verdict and seen.verdict is now.verdict
        seen = replace(seen, verdict=verdict, reason=seen.reason if same else reason, findings=findings)
    if not amended.unjudged:
        return seen
    count = f"{amended.unjudged:,} label{'s' * (amended.unjudged > 1)}"
    reason = f"{count} could not be judged ({amended.trouble}): correct or withdraw what is wrong"
    findings = (*findings, Finding("unjudged labels", Verdict.ERROR, reason, {"check": True, "n": amended.unjudged}))
    if seen.verdict is Verdict.FAIL:
        return replace(seen, findings=findings)
    return replace(seen, verdict=Verdict.ERROR, reason=reason, findings=findings)


def _both(seen: Judgement, now: Judgement, amended: Amended) -> tuple[Verdict, str]:
    if seen.verdict is now.verdict:
        return seen.verdict, f"{amended.told()}: as they stand now the verdict is the same"
    verdict = Verdict.ERROR if Verdict.ERROR in (seen.verdict, now.verdict) else Verdict.INCONCLUSIVE
    told = f"as they were seen, the version is {_WORDS[seen.verdict]}; as they stand now, {_WORDS[now.verdict]}"
    return verdict, f"{amended.told()}: {told}, so nothing follows"


def _stands(seen: Judgement, now: Judgement) -> Verdict:
    return Verdict.PASS if seen.verdict is now.verdict else Verdict.INCONCLUSIVE


# -- the labels as they stand now --------------------------------------------------------------------------------------


def looks_of(records: Iterable[Record], release: str) -> Iterator[Look]:
    """Give the looks of *release* that are among *records*, those of its stream in order."""
    for record in records:
        if record.entry.kind in LOOKS and record.entry.release == release:
            yield record.seq, record.entry.body


def counted_in(looks: Sequence[Look], cursor: int) -> int:
    """Return the number of the record whose block counted the label at *cursor*; 0 when none did."""
    seq, body = next((look for look in looks if int(look[1]["cursor"]) >= cursor), (0, {"block": None}))
    return seq if body["block"] else 0


def restated(policy: Canary, looks: Iterable[Look]) -> Judge:
    """Return the judge under *policy* who has seen every label of *looks* as it stands now, where it was counted."""
    looks = list(looks)
    deltas: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for _, body in looks:
        for of, delta in body.get("amended", {}).get("blocks", {}).items():
            deltas[int(of)].append(delta)
    judge = start(policy)
    for seq, body in looks:
        if body["block"]:
            block = block_from(body["block"])
            for delta in deltas.get(seq, ()):
                block = _changed(block, delta)
            judge = update(judge, block)
    return judge


def _changed(block: Block, delta: Mapping[str, Any]) -> Block:
    labels = {guard: dict(served) for guard, served in block.labels.items()}
    for guard, served in delta.get("labels", {}).items():
        for revision, n in served.items():
            old, new = labels.setdefault(guard, {}).get(revision, (Labels(), Labels()))
            labels[guard][revision] = _labels(old, n[0], n[1]), _labels(new, n[2], n[3])
    sums = {guard: dict(served) for guard, served in block.sums.items()}
    for guard, served in delta.get("sums", {}).items():
        for revision, n in served.items():
            first, second = sums.setdefault(guard, {}).get(revision, (Sums(), Sums()))
            sums[guard][revision] = _sums(first, n[:3]), _sums(second, n[3:])
    return replace(block, labels=labels, sums=sums)


def _labels(counted: Labels, n: int, bad: int) -> Labels:
    # A function that says another thing of the same pair than it did must not make counts that cannot be.
    whole = max(0, counted.n + n)
    return Labels(whole, min(whole, max(0, counted.bad + bad)))


def _sums(counted: Sums, change: Sequence[float]) -> Sums:
    n = max(0, counted.n + int(change[0]))
    return Sums(n, counted.total + change[1], counted.squares + change[2]) if n else Sums()
