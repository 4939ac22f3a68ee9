"""What a check says: four outcomes, a reason in one sentence, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How a check ended, mildest first; the order of definition is the order of severity."""

    PASS = "pass"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    FAIL = "fail"


HOLDS = "holds"
"""The reason of an expectation of which there is nothing to tell."""


@dataclass(frozen=True)
class Finding:
    """One check's verdict with its reason (one sentence) and evidence (plain JSON values)."""

    name: str
    verdict: Verdict
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the most severe verdict; no verdicts at all prove nothing."""
    return max(verdicts, key=list(Verdict).index, default=Verdict.INCONCLUSIVE)


def finding_plain(finding: Finding) -> dict[str, Any]:
    """Return *finding* as JSON values."""
    evidence = dict(finding.evidence)
    return {"name": finding.name, "verdict": finding.verdict.value, "reason": finding.reason, "evidence": evidence}


def parts(finding: Finding) -> list[dict[str, Any]]:
    """Return the findings that *finding* sums up as JSON values, or itself where it is one alone."""
    return [dict(part) for part in finding.evidence.get("findings") or [finding_plain(finding)]]
