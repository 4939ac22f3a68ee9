"""The labels that a release used: who told them, and how many were changed afterwards, by whom and why.

It is folded from the records of looks, so that whoever reads a release can say it; what follows is `restated`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NAMED = 3
"""How many of those who changed labels a sentence names."""


@dataclass(frozen=True)
class Amended:
    """How many labels a release `used`, `told_by` whom, and what became of them since: `by` who, and why.

    `unjudged` labels came, but a guard's function could not judge them; `trouble` says why, of the first.
    """

    used: int = 0
    told_by: Mapping[str, int] = field(default_factory=dict)
    corrected: int = 0
    withdrawn: int = 0
    by: tuple[tuple[str, str], ...] = ()
    unjudged: int = 0
    trouble: str = ""

    @property
    def any(self) -> bool:
        """Say whether a label was changed after it was used."""
        return self.corrected + self.withdrawn > 0

    def after(self, body: Mapping[str, Any]) -> Amended:
        """Return this after the look whose record has *body*."""
        count, trouble = body.get("unjudged", (0, ""))
        unjudged = max(0, self.unjudged + int(count))
        changed = body.get("amended", {})
        told = tuple((str(who), str(why)) for who, why in changed.get("by", ()))
        return Amended(
            used=self.used + _labels_in(body["block"]),
            told_by=_added(self.told_by, (body["block"] or {}).get("told_by", {})),
            corrected=self.corrected + int(changed.get("corrected", 0)),
            withdrawn=self.withdrawn + int(changed.get("withdrawn", 0)),
            by=tuple(dict.fromkeys((*self.by, *told))),
            unjudged=unjudged,
            trouble=(self.trouble or str(trouble)) if unjudged else "",
        )

    def told(self) -> str:
        """Say in a sentence what was changed; empty when nothing was."""
        if not self.any:
            return ""
        kinds = ((self.corrected, "corrected"), (self.withdrawn, "withdrawn"))
        what = ", ".join(f"{count:,} {kind}" for count, kind in kinds if count)
        whose = "; ".join(f"by {who}: {why}" for who, why in self.by[-NAMED:])
        count = self.corrected + self.withdrawn
        were = "were" if count > 1 else "was"
        return f"{count:,} of {self.used:,} labels that this verdict used {were} changed afterwards ({what}; {whose})"

    def to_plain(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "used": self.used,
            "told_by": [{"who": who, "labels": count} for who, count in self.told_by.items()],
            "corrected": self.corrected,
            "withdrawn": self.withdrawn,
            "by": [{"who": who, "why": why} for who, why in self.by],
            "unjudged": self.unjudged,
            "told": self.told(),
        }


def _added(told: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    counts = {who: told.get(who, 0) + int(more.get(who, 0)) for who in (*told, *more)}
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _labels_in(block: Mapping[str, Any] | None) -> int:
    if not block:
        return 0
    labels = [sum(n[0] + n[2] for n in served.values()) for served in block["labels"].values()]
    sums = [sum(n[0] + n[3] for n in served.values()) for served in block.get("sums", {}).values()]
    return int(max([*labels, *sums], default=0))
