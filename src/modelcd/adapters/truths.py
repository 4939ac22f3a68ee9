"""What every prediction log does to labels before it keeps them: which are new, which are changes, which are refused.

A truth may be told twice, and is changed only by who says that it is a change.  What is refused keeps no other label
out: one wrong row of a batch is its sender's to mend, and the rest are honest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelcd.domain.labels import impossible, nameless, same, shown
from modelcd.ports import Amendment, Label, Receipt, Refusal


@dataclass
class Settled:
    """A batch, settled: truths by prediction that are `new`, those that change a known one, and what was refused."""

    new: dict[str, Any] = field(default_factory=dict)
    changed: dict[str, Any] = field(default_factory=dict)
    again: int = 0
    refused: list[Refusal] = field(default_factory=list)

    def receipt(self, joined: int) -> Receipt:
        """Return what is answered when *joined* of the new ones met their prediction."""
        withdrawn = sum(value is None for value in self.changed.values())
        return Receipt(
            joined=joined,
            waiting=len(self.new) - joined,
            again=self.again,
            corrected=len(self.changed) - withdrawn,
            withdrawn=withdrawn,
            refused=tuple(self.refused),
        )


def first_of(id: str) -> str:
    """Return the id that the first row has when the prediction *id* answered many."""
    return f"{id}/0"


def around(ids: Iterable[str]) -> list[str]:
    """Return *ids*, and those that say how many rows their answers had: of the answer as a whole, and of first rows."""
    found: dict[str, None] = {}
    for id in ids:
        whole = _answer_of(id)
        found |= dict.fromkeys((id, first_of(id)))
        found |= dict.fromkeys((whole, first_of(whole))) if whole else {}
    return list(found)


def _answer_of(id: str) -> str:
    """Return the id of the answer when *id* is that of one of its rows; empty when it is not."""
    answer, _, row = id.rpartition("/")
    return answer if row.isdecimal() else ""


def settled(
    labels: Sequence[Label], known: Mapping[str, Any], served: Collection[str], amendment: Amendment | None
) -> Settled:
    """Settle *labels* against the truths that are *known* (None: withdrawn).

    *served* are those ids `around` theirs that are predictions.
    """
    found = Settled()
    for index, label in enumerate(labels):
        key, value = label.prediction, label.value
        if wrong := _unkeepable(label, served, amendment):
            found.refused.append(Refusal(index, shown(key) if not isinstance(key, str) else key, *wrong))
            continue
        told = found.new if key in found.new else found.changed
        if key in told:
            if same(told[key], value):
                found.again += 1
                continue
            why = f"this batch has two truths for it, {_said(told[key])} and {_said(value)}; the first was taken"
            found.refused.append(Refusal(index, key, why, "send one truth for each prediction"))
        elif key not in known:
            if value is None:
                found.refused.append(Refusal(index, key, "it has no label to withdraw", "is the id right?"))
            else:
                found.new[key] = value
        elif same(known[key], value):
            found.again += 1
        elif amendment is not None:
            found.changed[key] = value
        else:
            found.refused.append(_changed(index, key, known[key], value))
    return found


def _unkeepable(label: Label, served: Collection[str], amendment: Amendment | None) -> tuple[str, str] | None:
    if wrong := nameless(label.prediction):
        return wrong, "send the id that came with the answer (X-Prediction-Id)"
    id = label.prediction
    if first_of(id) in served:
        return "it answered many rows", f"label each by its number: {first_of(id)} is the first"
    if label.value is None and amendment is not None:
        return None
    if id not in served and (whole := _answer_of(id)):
        if whole in served:
            return "its answer had one row", f"label the answer itself: {whole}"
        if first_of(whole) in served:
            return "its answer had no such row", f"rows are numbered from 0: {first_of(whole)} is the first"
    wrong = impossible(label.value)
    return (f"its label {wrong}", "send true, false, a number, a text, or what the guard declares") if wrong else None


def _changed(index: int, key: str, before: Any, value: Any) -> Refusal:
    if before is None:
        return Refusal(index, key, "its label was withdrawn", "if it is right after all, correct it (--correct)")
    why = f"it is labelled {shown(before)}, and now {shown(value)}"
    return Refusal(index, key, why, "a truth is told once; if the first was wrong, correct or withdraw it (--correct)")


def _said(value: Any) -> str:
    return "withdrawn" if value is None else shown(value)
