"""The door for labels: each is checked by itself, kept or refused with the reason, corrected or withdrawn.

A label is checked when it comes, since one that cannot be judged would stand in the way of those behind it: against the
kind that the newest release's guards declare, and where they declare none, by the guards' functions themselves.  Trade-
off: a function is asked in a child process, whose start costs a second; a declared kind costs nothing.  A label that
comes before its prediction can be checked by its kind only.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from modelcd.domain.labels import instead, nameless, shown, unfit
from modelcd.domain.plain import from_plain
from modelcd.domain.policy import FROM_LABELS, Canary, Guard
from modelcd.environment import Environment
from modelcd.errors import CannotTell, UsageError
from modelcd.ports import Amendment, Label, Receipt, Refusal, Unjudged

BATCH = 20_000
"""Labels that are checked and kept at a time, each batch in one transaction."""

TOLD = 20
"""Refused labels that an answer names; it counts them all."""

COUNTS = ("joined", "waiting", "again", "corrected", "withdrawn")
"""What becomes of a label that is kept."""

FORM = 'a label is {"id": …, "label": …}, or in Python a pair (id, label)'

Plain = dict[str, Any]

_Item = tuple[int, Label] | Refusal


@dataclass(frozen=True)
class _Judging:
    """Who judges labels in a place: the guards of its newest release that has any, and where their functions are."""

    guards: tuple[Guard, ...] = ()
    snapshot: str = ""


@dataclass
class Labelling:
    """Labels into *env*; kept between calls, it reads of the journal only what is new."""

    env: Environment
    _judging: dict[str, _Judging] = field(default_factory=dict, init=False)
    _read: dict[str, int] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def take(
        self,
        model: str,
        labels: Iterable[Any],
        withdraw: Iterable[Any] = (),
        *,
        correct: bool = False,
        by: str,
        reason: str = "",
    ) -> Plain:
        """Keep *labels* told by *by*, and withdraw those of predictions in *withdraw*; see `Control.feedback`."""
        given = [_parsed(index, item) for index, item in enumerate(labels)]
        back = [_withdrawal(index, item) for index, item in enumerate(withdraw, start=len(given))]
        if not given and not back:
            raise UsageError("there are no labels", help=FORM)
        change = _amendment(by, reason, self.env.clock.now().isoformat()) if correct or back else None
        stream = self.env.stream(model)
        judging, answers = self._judging_of(stream), []
        for items, amendment in ((given, change if correct else None), (back, change)):
            for begin in range(0, len(items), BATCH):
                answers.append(self._take(stream, judging, items[begin : begin + BATCH], amendment, by))
        return _told(answers)

    def _take(
        self, stream: str, judging: _Judging, items: Sequence[_Item], amendment: Amendment | None, by: str
    ) -> tuple[Receipt, list[Refusal]]:
        refused = [item for item in items if isinstance(item, Refusal)]
        good, wrong = self._checked(stream, judging, [item for item in items if not isinstance(item, Refusal)])
        receipt = self.env.predictions.label(stream, [label for _, label in good], amendment, by=by)
        late = [replace(refusal, index=good[refusal.index][0]) for refusal in receipt.refused]
        return receipt, [*refused, *wrong, *late]

    def _checked(
        self, stream: str, judging: _Judging, items: Sequence[tuple[int, Label]]
    ) -> tuple[list[tuple[int, Label]], list[Refusal]]:
        wrong: dict[int, Refusal] = {}
        for index, label in items:
            if label.value is not None and (why := unfit(label.value, judging.guards)):
                wrong[index] = Refusal(
                    index, label.prediction, f"its label {why}", instead(label.value, judging.guards)
                )
        undeclared = [guard for guard in judging.guards if not (guard.label or guard.classes)]
        asked = [(index, label) for index, label in items if index not in wrong and label.value is not None]
        if undeclared and asked:
            wrong |= self._tried(stream, judging, undeclared, asked)
        good = [(index, label) for index, label in items if index not in wrong]
        return good, list(wrong.values())

    def _tried(
        self, stream: str, judging: _Judging, guards: Sequence[Guard], items: Sequence[tuple[int, Label]]
    ) -> dict[int, Refusal]:
        """Ask the functions of *guards* about labels whose prediction is known; what they cannot judge is refused."""
        scores = self.env.predictions.scores(stream, [label.prediction for _, label in items])
        known = [(index, label) for index, label in items if label.prediction in scores]
        pairs = [(scores[label.prediction], label.value) for _, label in known]
        wrong: dict[int, Refusal] = {}
        for guard in guards if pairs else ():
            # Functions that cannot be asked at all are no label's fault: the release will say so when it looks.
            with suppress(CannotTell):
                said = self.env.successes.judge(Path(judging.snapshot), guard.name, pairs)
                for (index, label), value in zip(known, said, strict=True):
                    if isinstance(value, Unjudged):
                        why = f"its label is {shown(label.value)}: {value.why}"
                        wrong.setdefault(index, Refusal(index, label.prediction, why, value.help))
        return wrong

    def _judging_of(self, stream: str) -> _Judging:
        with self._lock:
            for record in self.env.journal.read(stream, after=self._read.get(stream, 0)):
                self._read[stream] = record.seq
                if record.entry.kind == "opened":
                    policy = from_plain(Canary, record.entry.body["policy"])
                    guards = tuple(guard for guard in policy.guards if guard.kind in FROM_LABELS)
                    if guards:
                        self._judging[stream] = _Judging(guards, str(record.entry.body.get("snapshot", "")))
            return self._judging.get(stream, _Judging())


def _parsed(index: int, item: Any) -> _Item:
    if isinstance(item, Mapping) and "id" in item and "label" in item:
        key, value = item["id"], item["label"]
    elif isinstance(item, tuple) and len(item) == 2:
        key, value = item
    else:
        id = item.get("id", "") if isinstance(item, Mapping) else ""
        return Refusal(index, str(id), f"it is no label: {shown(item)}", FORM)
    value = value.item() if hasattr(value, "item") and hasattr(value, "dtype") else value
    if wrong := nameless(key):
        return Refusal(index, shown(key), wrong, "send the id that came with the answer (X-Prediction-Id)")
    if value is None:
        return Refusal(index, key, f"its label {unfit(None, ())}", "to take a label back, withdraw it")
    return index, Label(key, value)


def _withdrawal(index: int, id: Any) -> _Item:
    if wrong := nameless(id):
        return Refusal(index, shown(id), wrong, "send the id that came with the answer (X-Prediction-Id)")
    return index, Label(id, None)


def _told(receipts: Sequence[tuple[Receipt, Sequence[Refusal]]]) -> Plain:
    problems = sorted((refusal for _, refused in receipts for refusal in refused), key=lambda refusal: refusal.index)
    return {
        **{name: sum(getattr(receipt, name) for receipt, _ in receipts) for name in COUNTS},
        "refused": len(problems),
        "problems": [_problem(refusal) for refusal in problems[:TOLD]],
    }


def kept(told: Mapping[str, Any]) -> int:
    """Return how many labels an answer says were kept, those known already included."""
    return sum(int(told[name]) for name in COUNTS)


def _problem(refusal: Refusal) -> Plain:
    told = asdict(refusal)
    return {"index": told["index"], "id": told["prediction"][:64], "why": told["why"], "help": told["help"]}


def _amendment(by: str, why: str, at: str) -> Amendment:
    """Return who changes labels, and *why*; raises `UsageError` when that is not said."""
    if not why.strip():
        raise UsageError(
            "why are these labels changed? a verdict that used them will say so",
            help='--reason "the sensor was broken" (over HTTP and in Python: reason)',
        )
    return Amendment(by, why.strip()[:500], at)
