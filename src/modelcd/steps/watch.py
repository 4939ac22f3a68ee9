"""A driver's reading of one endpoint: followed record by record, written to only behind what was read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelcd.domain import judge as judging
from modelcd.domain import restated as restating
from modelcd.domain.records import Entry, Record
from modelcd.domain.release import Ask, Endpoint, fold
from modelcd.domain.samples import Block, block_from
from modelcd.domain.verdict import Finding, Verdict
from modelcd.environment import Environment
from modelcd.errors import JournalError


@dataclass(frozen=True)
class Late:
    """What a driver knows of the labels that come late for *release*: how far it read them, and when it looked last.

    `recorded` is how far they stand in the journal; `judge` has all of that, and is None until it is needed.
    """

    release: str
    recorded: int
    cursor: int
    looked: datetime | None = None
    judge: judging.Judge | None = None
    trouble: str = ""


@dataclass
class Watch:
    """What a driver has read of one endpoint: its state, the evidence of the open release, the newest findings.

    `as_served` says of a block under which routing it was really served, where that is not the one in force: in a
    replay.  `late` is kept between two looks at labels that come after a promotion, `late_back` after a way back.
    """

    stream: str
    as_served: Callable[[Block], Block] = lambda block: block
    late: Late | None = None
    late_back: Late | None = None
    endpoint: Endpoint = field(init=False)
    openings: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    _judge: judging.Judge | None = field(default=None, init=False, repr=False)
    _unjudged: list[Mapping[str, Any]] = field(default_factory=list, init=False, repr=False)
    _restated: judging.Judge | None = field(default=None, init=False, repr=False)
    _said: tuple[judging.Judge, int, judging.Judgement] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.endpoint = Endpoint(self.stream)

    def take(
        self, records: list[Record], judge: judging.Judge | None = None, restated: judging.Judge | None = None
    ) -> None:
        """Follow the journal by *records*; *judge* and *restated* are the judges after them, where they are known."""
        for record in records:
            self.endpoint = fold(self.endpoint, [record])
            release = self.endpoint.open
            if record.entry.kind == "opened" and release is not None:
                self._judge, self._unjudged, self.findings = judging.start(release.policy), [], ()
                self._restated = None
                self.openings[release.version] = record.entry.body
            elif record.entry.kind == "observed" and record.entry.body["block"]:
                self._unjudged.append(record.entry.body["block"])
                self._restated = None
            elif record.entry.kind == "closed":
                self._judge, self._unjudged, self._restated = None, [], None
        if judge is not None:
            self._judge, self._unjudged, self._restated = judge, [], restated

    @property
    def judge(self) -> judging.Judge:
        """What was learned of the open release; computed when it is asked for, since a day has thousands of blocks.

        Who only wants to write what a person asks, or to go back because of it, need not wait for that.
        """
        assert self._judge is not None, "a release is open"
        judge = self._judge
        for block in self._unjudged:
            judge = judging.update(judge, block_from(block))
        self._judge, self._unjudged = judge, []
        return judge

    def restated(self, env: Environment) -> judging.Judge | None:
        """Return the judge who has seen the labels of the open release as they stand now; None if none was changed."""
        release = self.endpoint.open
        if release is None or not release.amended.any:
            return None
        if self._restated is None:
            self._restated = restating.restated(
                release.policy, restating.looks_of(env.journal.read(self.stream), release.id)
            )
        return self._restated

    def judgement(self, judge: judging.Judge, step: int) -> judging.Judgement:
        """Return what *judge* says of *step*; ticks between two looks do not compute it again."""
        if self._said is None or self._said[0] is not judge or self._said[1] != step:
            self._said = judge, step, judging.finding(judge, step)
        return self._said[2]

    def refresh(self, env: Environment) -> Endpoint:
        """Read what was recorded since."""
        self.take(env.journal.read(self.stream, after=self.endpoint.seq))
        return self.endpoint


def record(
    env: Environment,
    watch: Watch,
    kind: str,
    actor: str,
    body: Mapping[str, Any],
    release: str = "",
    *,
    judge: judging.Judge | None = None,
    restated: judging.Judge | None = None,
) -> None:
    """Write one record behind everything that *watch* has read, of the open release unless *release* names another.

    *judge* is the judge after it, where it is known, and *restated* the one who saw labels as they stand by then.
    """
    known = watch.endpoint.open
    entry = Entry(kind, env.clock.now().isoformat(), actor, release or (known.id if known else ""), body)
    try:
        records = env.journal.append(watch.stream, watch.endpoint.seq, [entry])
    except JournalError:
        if not leads_back(watch.endpoint, entry) or not env.make_room():
            raise
        records = env.journal.append(watch.stream, watch.endpoint.seq, [entry])
    watch.take(records, judge, restated)


def leads_back(endpoint: Endpoint, entry: Entry) -> bool:
    """Say whether *entry* is part of a way back: for that, and for nothing else, room is kept on the disk."""
    release, body = endpoint.open, entry.body
    on_the_way = release is not None and bool(release.returning or release.asked or release.by_rollback)
    found = entry.kind in ("observed", "late") and body["judgement"]["verdict"] == Verdict.FAIL.value
    begun = entry.kind == "opened" and body.get("takes_out") is not None
    asked = entry.kind == "asked" and body["ask"] == Ask.ROLL_BACK.value
    return on_the_way or found or begun or asked or bool(body.get("back"))
