"""Evidence from a wrong version: a release on its ladder is served by two versions, and a third has no business there.

Requests are counted by assignment, so what a third version got is in neither arm, and the comparison stays valid.  But
users' requests do not go where they were sent, and nobody knows since when: that holds a release (an error), and blames
nobody.  It is forgotten once nothing of the kind has come for a while.

Trade-off: counters do not say when a request began.  So what a stranger had at the first look of a step is only
remembered, and what ends soon after a release was opened is taken for requests that were under way by then.  Labels are
exact: each names the routing under which its request was served.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from modelcd.domain.judge import Judgement
from modelcd.domain.samples import Counters
from modelcd.domain.verdict import Finding, Verdict

TAIL = 30.0
"""Watched seconds after the opening of a release within which requests of before may still end."""

QUIET = 60.0
"""Watched seconds without a request or a label of a stranger after which it is forgotten."""

Strangers = Mapping[int, tuple[int, int]]
"""Requests and labels of each version that is neither champion nor challenger."""


def strange_requests(
    counted: Mapping[int, Counters], known: Iterable[int], own: Iterable[int | None]
) -> dict[int, int]:
    """Return the requests *counted* for versions other than *own* since the last look at which they were *known*."""
    strange = set(known) - set(own)
    return {version: counters.requests for version, counters in counted.items() if version in strange}


def strange_labels(
    served: Iterable[tuple[str, int]], revisions: Iterable[str], own: Iterable[int | None]
) -> dict[int, int]:
    """Count labels of versions other than *own* among pairs of (revision, version) *served* under *revisions*.

    Give those of the main leg only: a fallback and a shadow are answered by others on purpose.
    """
    here, mine = set(revisions), set(own)
    return dict(Counter(version for revision, version in served if revision in here and version not in mine))


def met(before: Strangers, requests: Mapping[int, int], labels: Mapping[int, int], quiet: float) -> Strangers:
    """Return the strangers met so far, those of *before* included unless nothing came for *quiet* seconds."""
    came = {version for counts in (requests, labels) for version, count in counts.items() if count}
    if not came:
        return before if quiet < QUIET else {}
    found = {version: before.get(version, (0, 0)) for version in {*before, *came}}
    return {v: (r + requests.get(v, 0), n + labels.get(v, 0)) for v, (r, n) in sorted(found.items())}


def strange_finding(strangers: Strangers, champion: int | None, challenger: int) -> Finding | None:
    """Return the error, named `version`, that *strangers* are; None when there are none."""
    if not strangers:
        return None
    told = [f"version {version} got {_counts(*counts)}" for version, counts in strangers.items()]
    reason = (
        f"{'; '.join(told)} while only versions {champion} and {challenger} are released here:"
        " traffic does not go where it was sent; look at the router"
    )
    counts = {str(version): {"requests": r, "labels": n} for version, (r, n) in strangers.items()}
    return Finding("version", Verdict.ERROR, reason, {"check": True, "versions": counts})


def _counts(requests: int, labels: int) -> str:
    return " and ".join(f"{n:,} {what}{'s' * (n > 1)}" for n, what in ((requests, "request"), (labels, "label")) if n)


def doubted(judgement: Judgement, finding: Finding | None) -> Judgement:
    """Return *judgement* with a data check's *finding*, which holds it and keeps nothing from going back."""
    if finding is None:
        return judgement
    findings = (*judgement.findings, finding)
    if judgement.verdict is Verdict.FAIL:
        return replace(judgement, findings=findings)
    reasons = [judgement.reason] if judgement.verdict is Verdict.ERROR else []
    return replace(judgement, verdict=Verdict.ERROR, reason="; ".join([*reasons, finding.reason]), findings=findings)
