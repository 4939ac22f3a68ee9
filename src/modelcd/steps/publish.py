"""Showing people, where they look models up, what the journal says of them: one writer, beside whoever announces.

The journal is the truth and the catalog a copy, which is made from the whole journal each time and names the records
that it was made from.  So there is nothing to remember: who is killed, or finds the catalog away, makes it again, and
who starts sees what is behind.  It runs by itself, so that a catalog that is slow or away keeps no release waiting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from modelcd.domain.card import Card, Place, card_of, mark_of
from modelcd.domain.delivery import NOTICES, Builds, fold_builds, is_endpoint, stream_of
from modelcd.domain.release import Endpoint, fold
from modelcd.errors import Busy
from modelcd.ports import Catalog, Clock, Journal

STREAM = f"{NOTICES}shown"
"""What is held while a card is shown, so that an older one never comes behind a newer."""

CALM = 2.0
"""Seconds without a record after which a card is made, unless a delivery is under way: it needs the machine itself."""

LONGEST = 15.0
"""Seconds after which a card is made though a delivery is under way, or records keep coming."""

PART, LONGEST_REST = 0.05, 60.0
"""How much of the time goes into the cards of one model: the longer its story, the rarer it is told, within limits."""


@dataclass
class Publisher:
    """Follows *journal* and lets *catalog* show each model; *environments* are in the order of a promotion."""

    journal: Journal
    catalog: Catalog
    environments: Sequence[str]
    clock: Clock
    shown: dict[str, str] = field(default_factory=dict)
    behind: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    rest: dict[str, tuple[float, float]] = field(default_factory=dict)

    def round(self) -> None:
        """Show the models whose journal went on and is calm; raises what kept the first of them from it."""
        troubles: list[Exception] = []
        for model, streams in self._streams().items():
            try:
                self._look(model, streams)
            except Busy:
                continue
            except Exception as error:  # whatever one model's pages make trouble with, the others' are shown
                troubles.append(error)
        if troubles:
            raise troubles[0]

    def _streams(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for stream, head in self.journal.heads().items():
            place, _, model = stream.partition("/")
            if stream == stream_of(model) or (is_endpoint(stream) and place in self.environments):
                found.setdefault(model, {})[stream] = head.seq
        return found

    def _look(self, model: str, streams: Mapping[str, int]) -> None:
        mark, now = mark_of(streams.items()), self.clock.now().timestamp()
        if mark == self.shown.get(model):
            return
        known = self.behind.get(model)
        since = now if known is None else known[1]
        changed = known[2] if known is not None and known[0] == mark else now
        self.behind[model] = (mark, since, changed)
        ended, pause = self.rest.get(model, (now, 0.0))
        # A time in the future is one from before the clock was set back.
        if 0 <= now - ended < pause or (0 <= now - since < LONGEST and self._busy(model, streams, now - changed)):
            return
        if model not in self.shown:
            self.shown[model] = self.catalog.shown(model)
        began = self.clock.now().timestamp()
        if self.shown[model] != mark:
            with self.journal.exclusive(STREAM):
                card = self._card(model)
                self.catalog.show(card)
            self.shown[model] = card.journal
        ended = self.clock.now().timestamp()
        self.rest[model] = (ended, min((ended - began) / PART, LONGEST_REST))
        del self.behind[model]

    def _busy(self, model: str, streams: Mapping[str, int], calm: float) -> bool:
        stream = stream_of(model)
        newest = self.journal.read(stream, after=streams[stream] - 1) if stream in streams else []
        return 0 <= calm < CALM or any(record.entry.kind != "closed" for record in newest[-1:])

    def _card(self, model: str) -> Card:
        builds = fold_builds(Builds(stream_of(model)), self.journal.read(stream_of(model)))
        places, newest = [], {builds.stream: builds.seq}
        for environment in self.environments:
            stream = f"{environment}/{model}"
            records = self.journal.read(stream)
            places.append(Place(fold(Endpoint(stream), records), records))
            newest[stream] = len(records)
        return card_of(model, mark_of((stream, seq) for stream, seq in newest.items() if seq), builds, places)
