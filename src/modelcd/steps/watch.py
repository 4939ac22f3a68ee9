"""A driver's reading of one endpoint: followed record by record, written to only behind what was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelcd.domain import judge as judging
from modelcd.domain.records import Entry, Record
from modelcd.domain.release import Endpoint, fold
from modelcd.domain.samples import block_from
from modelcd.domain.verdict import Finding
from modelcd.environment import Environment


@dataclass
class Watch:
    """What a driver has read of one endpoint: its state, the evidence of the open release, the newest findings."""

    stream: str
    endpoint: Endpoint = field(init=False)
    judge: judging.Judge | None = None
    openings: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        self.endpoint = Endpoint(self.stream)

    def take(self, records: list[Record]) -> None:
        """Follow the journal by *records*."""
        for record in records:
            self.endpoint = fold(self.endpoint, [record])
            release = self.endpoint.open
            if record.entry.kind == "opened" and release is not None:
                self.judge, self.findings = judging.start(release.policy), ()
                self.openings[release.version] = record.entry.body
            elif record.entry.kind == "observed" and self.judge is not None and record.entry.body["block"]:
                self.judge = judging.update(self.judge, block_from(record.entry.body["block"]))

    def refresh(self, env: Environment) -> Endpoint:
        """Read what was recorded since."""
        self.take(env.journal.read(self.stream, after=self.endpoint.seq))
        return self.endpoint


def record(env: Environment, watch: Watch, kind: str, actor: str, body: Mapping[str, Any], release: str = "") -> None:
    """Write one record behind everything that *watch* has read, of the open release unless *release* names another."""
    known = watch.endpoint.open
    entry = Entry(kind, env.clock.now().isoformat(), actor, release or (known.id if known else ""), body)
    watch.take(env.journal.append(watch.stream, watch.endpoint.seq, [entry]))
