"""When models are retrained by themselves: what a person's delivery said last, in the journal and nowhere else.

A working folder is read when somebody delivers it.  What it says later, or another folder says, schedules nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from modelcd.domain.delivery import SCHEDULES
from modelcd.domain.plain import from_plain
from modelcd.domain.records import Entry
from modelcd.domain.schedule import Retrain
from modelcd.ports import Journal

if TYPE_CHECKING:
    from modelcd.steps.build import Walk


@dataclass(frozen=True)
class Scheduled:
    """A model that is retrained by itself from the folder *project*, as somebody, *by*, delivered it *since* then."""

    model: str
    project: str
    retrain: Retrain
    by: str
    since: str

    def plain(self, now: datetime) -> dict[str, Any]:
        """Return it as JSON values, with the `next` run behind *now*."""
        return {
            "cron": self.retrain.cron,
            "timezone": self.retrain.timezone,
            "next": self.retrain.next(now).isoformat(),
            "project": self.project,
            "by": self.by,
            "since": self.since,
        }


def read_schedules(journal: Journal) -> dict[str, Scheduled]:
    """Return what is scheduled at present, by the model's name."""
    return {s.removeprefix(SCHEDULES): found for s in journal.heads(SCHEDULES) if (found := _newest(journal, s)[1])}


def read_schedule(journal: Journal, model: str) -> Scheduled | None:
    """Return what is scheduled at present of *model*."""
    return _newest(journal, f"{SCHEDULES}{model}")[1]


def keep_schedule(walk: Walk) -> str:
    """Record what the delivered `pipeline.py` says of retraining, and say what that changes; empty when nothing."""
    journal, stream, said = walk.env.journal, f"{SCHEDULES}{walk.model}", walk.spec.get("retrain")
    seq, before = _newest(journal, stream)
    retrain = from_plain(Retrain, said) if said else None
    if retrain == (before and before.retrain) and (before is None or before.project == str(walk.path)):
        return ""
    now = walk.env.clock.now()
    body = {"retrain": said, "project": str(walk.path)}
    journal.append(stream, seq, [Entry("scheduled", now.isoformat(), walk.actor, walk.delivery, body)])
    if retrain is None:
        assert before is not None, "what was not there cannot be taken away"
        return f"retrains no more by itself (it did at {_told(before.retrain)})"
    return f"retrains by itself at {_told(retrain)}; next {moment(retrain.next(now))}"


def moment(at: datetime) -> str:
    """Tell a moment as clocks show it where it is meant."""
    return f"{at:%a %d %b %Y %H:%M}"


def _told(retrain: Retrain) -> str:
    return f'"{retrain.cron}" {retrain.timezone}'


def _newest(journal: Journal, stream: str) -> tuple[int, Scheduled | None]:
    """Return the number of the newest record of *stream*, and what it schedules."""
    head = journal.heads(stream).get(stream)
    if head is None:
        return 0, None
    record = journal.read(stream, after=head.seq - 1)[-1]
    entry, body = record.entry, record.entry.body
    if not body["retrain"]:
        return record.seq, None
    retrain, model = from_plain(Retrain, body["retrain"]), stream.removeprefix(SCHEDULES)
    return record.seq, Scheduled(model, str(body["project"]), retrain, entry.actor, entry.at)
