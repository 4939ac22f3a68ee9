"""Telling people what the journal says: each piece of news once for every record that is one.

Where the telling stands is a stream of the journal itself, so that whoever announces next goes on from there.  A
machine that dies between a message and its note tells it once more: better twice than never.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from modelcd.domain.delivery import NOTICES, is_endpoint
from modelcd.domain.records import Entry
from modelcd.domain.story import news
from modelcd.errors import Busy, Conflict
from modelcd.ports import Clock, Journal, Notifier

STREAM = f"{NOTICES}told"


@dataclass
class Announcer:
    """Follows the journal and tells *notifier*; what happened before the first round is nobody's news."""

    journal: Journal
    notifier: Notifier
    clock: Clock
    told: dict[str, int] = field(default_factory=dict)
    seq: int = 0

    def round(self) -> None:
        """Tell what was recorded since the last round; another one at work is left to it."""
        try:
            with self.journal.exclusive(STREAM):
                self._round()
        except (Busy, Conflict):
            return

    def _round(self) -> None:
        notes = self.journal.read(STREAM, after=self.seq)
        for note in notes:
            self.told.update({str(stream): int(seq) for stream, seq in note.entry.body["told"].items()})
            self.seq = note.seq
        heads = {s: h.seq for s, h in self.journal.heads().items() if is_endpoint(s)}
        first = not self.seq
        new = {stream: seq for stream, seq in heads.items() if seq > self.told.get(stream, 0)}
        if first:
            return self._note(heads)
        spoke = {}
        for stream in new:
            for record in self.journal.read(stream, after=self.told.get(stream, 0)):
                if (told := news(record)) is not None:
                    self.notifier.tell(*told)
                    spoke[stream] = record.seq
                self.told[stream] = record.seq
        if spoke:
            self._note(spoke)

    def _note(self, told: dict[str, int]) -> None:
        self.told.update(told)
        entry = Entry("told", self.clock.now().isoformat(), "modelcd", "", {"told": told})
        self.seq = self.journal.append(STREAM, self.seq, [entry])[-1].seq
