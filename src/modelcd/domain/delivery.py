"""The state of a model's builds: a fold of the records in the stream `builds/MODEL`.

Kinds of records: `opened` (somebody wants to deliver), `step` (one step with its finding), `built` (a version exists),
`proven` (a version passed its gates: everything that a release of it needs), `accepted` (it did what users
will ask), `closed` (how the delivery ended).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from modelcd.domain.records import Record

SCHEDULED = "schedule"
"""The trigger of a delivery that nobody asked for in person."""


@dataclass(frozen=True)
class Delivery:
    """One walk of a project through the process; `ending` is empty while it goes on; `about` is what the model does.

    `help` is what the error that ended it said to do; empty where none did.
    """

    id: str
    actor: str
    reason: str
    trigger: str
    project: str
    opened: str
    steps: tuple[Mapping[str, Any], ...] = ()
    version: int | None = None
    ending: str = ""
    why: str = ""
    ended: str = ""
    about: str = ""
    help: str = ""


@dataclass(frozen=True)
class Builds:
    """What is known of a model's builds: its deliveries, and what a release of each version needs.

    `accepted` holds the versions that users may get: those whose newest delivery accepted them.
    """

    stream: str
    seq: int = 0
    deliveries: tuple[Delivery, ...] = ()
    built: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    proven: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    accepted: frozenset[int] = frozenset()

    @property
    def open(self) -> Delivery | None:
        """The delivery that has not ended, if there is one."""
        return self.deliveries[-1] if self.deliveries and not self.deliveries[-1].ending else None

    @property
    def delivered_from(self) -> str:
        """The project folder of the newest delivery that a person asked for; empty when nobody ever did."""
        return next((d.project for d in reversed(self.deliveries) if d.trigger != SCHEDULED), "")


NOTICES = "notices/"
"""The beginning of the streams in which it stands what people were told."""


SCHEDULES = "schedules/"
"""The beginning of the streams in which it stands when a model is retrained by itself, and from which folder.

Their records, `scheduled`, have what a person's delivery last said, in whole; `retrain` is None when it said nothing.
"""


WORKSPACES = "workspaces/"
"""The beginning of the streams in which it stands who took a workspace down (`down`) and brought it back (`up`)."""


def is_endpoint(stream: str) -> bool:
    """Say whether *stream* is that of an endpoint, and of neither builds, schedules, notices nor workspaces."""
    return not stream.startswith((stream_of(""), NOTICES, SCHEDULES, WORKSPACES))


def stream_of(model: str) -> str:
    """Name the stream in which the builds of *model* are recorded."""
    return f"builds/{model}"


def fold_builds(builds: Builds, records: Iterable[Record]) -> Builds:
    """Return *builds* after *records*; an unknown kind is a `ValueError`."""
    for record in records:
        builds = replace(_apply(builds, record), seq=record.seq)
    return builds


def _apply(builds: Builds, record: Record) -> Builds:
    entry, body = record.entry, record.entry.body
    match entry.kind:
        case "opened":
            opened = Delivery(entry.release, entry.actor, body["reason"], body["trigger"], body["project"], entry.at)
            opened = replace(opened, about=body.get("about", ""))
            return replace(builds, deliveries=(*builds.deliveries, opened))
        case "step":
            last = builds.deliveries[-1]
            return _update(builds, steps=(*last.steps, {**body, "at": entry.at}))
        case "built":
            version = int(body["version"])
            before = builds.built.get(version)
            told = {**body, "at": entry.at, "by": entry.actor, "delivery": entry.release}
            if before is not None and body.get("reused"):  # it is what it was, also when others deliver it anew
                told = {**before, "artifact": body["artifact"]}
            built = {**builds.built, version: told}
            builds = replace(builds, built=built, accepted=builds.accepted - {version})
            return _update(builds, version=version)
        case "proven":
            return replace(builds, proven={**builds.proven, int(body["version"]): {**body, "at": entry.at}})
        case "accepted":
            return replace(builds, accepted=builds.accepted | {int(body["version"])})
        case "closed":
            return _update(builds, ending=body["ending"], why=body["why"], ended=entry.at, help=body.get("help", ""))
        case _:
            raise ValueError(f"{record.stream}: record {record.seq} is of the unknown kind {entry.kind!r}")


def _update(builds: Builds, **changes: Any) -> Builds:
    return replace(builds, deliveries=(*builds.deliveries[:-1], replace(builds.deliveries[-1], **changes)))
