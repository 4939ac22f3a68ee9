"""What the journal says, for whoever reads and does not decide: told from the journal alone.

What stands now is read from each stream's newest checkpoint and the few records behind it, so that looking at a
thousand models costs as much as looking at a few; the past of one model is read whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelcd.domain.delivery import WORKSPACES, Builds, Delivery, fold_builds, is_endpoint, stream_of
from modelcd.domain.recorded import Recorded, recorded
from modelcd.domain.records import Head, Record, astray, rewritten, until
from modelcd.domain.release import Endpoint, Release, fold, misremembered, since
from modelcd.domain.story import ending, headline, why
from modelcd.errors import Tampered, UnknownName, UsageError
from modelcd.ports import Journal


@dataclass(frozen=True)
class History:
    """Everything that can be read from *journal*."""

    journal: Journal

    def models(self) -> list[str]:
        """Return the names of all models, sorted.

        A name becomes one with its first version: what only stands on a delivery that failed before is none.
        """
        streams = [stream for stream in self.journal.heads() if is_endpoint(stream)]
        released = {stream.split("/", 1)[1] for stream in streams}
        return sorted(
            released | {name for name in self.delivered() if name not in released and self.builds(name).built}
        )

    def delivered(self) -> list[str]:
        """Return the names under which anything was ever delivered, whether or not it got as far as a version."""
        beginning = stream_of("")
        return sorted(s.removeprefix(beginning) for s in self.journal.heads() if s.startswith(beginning))

    def standing(self, model: str = "") -> list[Endpoint]:
        """Return every endpoint, or those of *model*, as it stands; without the releases before its last checkpoint."""
        return [self._from_checkpoint(stream, head) for stream, head in self._heads(model).items()]

    def _heads(self, model: str = "") -> dict[str, Head]:
        """Return the heads of every endpoint, or of those of *model*."""
        return {
            stream: head
            for stream, head in self.journal.heads().items()
            if is_endpoint(stream) and model in ("", stream.split("/", 1)[1])
        }

    def endpoints(self, model: str, at: datetime | None = None) -> list[Endpoint]:
        """Return the endpoints of *model* with all their releases, as they are or as they were at the moment *at*."""
        return [fold(Endpoint(stream), until(self.journal.read(stream), at)) for stream in self._heads(model)]

    def builds(self, model: str) -> Builds:
        """Return the builds of *model*."""
        stream = stream_of(model)
        return fold_builds(Builds(stream), self.journal.read(stream))

    def downtimes(self) -> list[Record]:
        """Return when workspaces were taken down and brought back."""
        return [record for stream in self.journal.heads(WORKSPACES) for record in self.journal.read(stream)]

    def down(self, stream: str, at: datetime | None = None) -> dict[str, str] | None:
        """Return since when the workspace of *stream* is down, or was at the moment *at*, by whom and why; or None."""
        records = until(self.journal.read(stream), at)
        if not records or records[-1].entry.kind == "up":
            return None
        newest = records[-1].entry
        return {"since": newest.at, "by": newest.actor, "reason": newest.body["reason"]}

    def find(self, prefix: str) -> tuple[Endpoint, Release] | tuple[str, Delivery]:
        """Return the release with its endpoint, or the delivery with its model, whose id begins with *prefix*.

        Raises `UnknownName`.
        """
        known: list[str] = []
        if not prefix:
            raise UsageError("which release? its id is empty", help="see: modelcd history MODEL")
        for stream, head in self._heads().items():
            names = self._released(stream, head)
            if any(name.startswith(prefix) for name in names):
                endpoint = fold(Endpoint(stream), self.journal.read(stream))
                if (found := endpoint.release(prefix)) is not None:
                    return endpoint, found
            known += names
        for model in self.delivered():
            for delivery in self.builds(model).deliveries:
                if delivery.id.startswith(prefix):
                    return model, delivery
                known.append(delivery.id)
        is_model = f"{prefix} is a model; its releases: modelcd history {prefix}"
        raise UnknownName("release", prefix, known, help=is_model if prefix in self.delivered() else "")

    def recorded(self, prefix: str) -> tuple[str, str, list[Record], str]:
        """Return the stream and the id of the release whose id begins with *prefix*, its records, and what is broken.

        The last is a sentence that names the record, or nothing.  Nothing is understood on the way there: a record that
        was changed must not keep people from finding that out.  Raises `UnknownName`, and `UsageError` for a delivery.
        """
        unread: list[Tampered] = []
        for stream, head in self._heads().items() if prefix else ():
            try:
                found = next((name for name in self._released(stream, head) if name.startswith(prefix)), "")
            except Tampered as error:
                unread.append(error)
                continue
            if found:
                broken = self._astray(stream, head, None)
                with suppress(Tampered):
                    return stream, found, self.journal.read(stream), broken
                return stream, found, [], broken
        if unread:
            raise unread[0]
        where, _ = self.find(prefix)
        raise UsageError(f"{prefix} is a delivery, and no traffic was judged", help=f"see: modelcd history {where}")

    def traffic_of(self, model: str, environment: str) -> Recorded:
        """Return what the releases of *model* tell of the traffic that the next one will meet."""
        stream = f"{environment}/{model}"
        return recorded(stream, self.journal.read(stream))

    def verify(self, against: Mapping[str, Mapping[str, Any]], orphans: Iterable[str] = ()) -> Iterator[str]:
        """Give a sentence for each stream that does not hold, in itself or *against* the heads that were noted.

        *orphans* are the streams that have records and no head.
        """
        heads = self.journal.heads()
        for stream in sorted({*heads, *against, *orphans}):
            if trouble := self._astray(stream, heads.get(stream), against.get(stream)):
                yield trouble

    def _astray(self, stream: str, head: Head | None, noted: Mapping[str, Any] | None) -> str:
        try:
            records = self.journal.read(stream)
        except Tampered as error:
            return error.message
        after = head if head and len(records) == head.seq else self.journal.heads(stream).get(stream)
        if trouble := astray(stream, head, records, after):
            return trouble
        if noted and (trouble := rewritten(stream, noted["seq"], noted["digest"], records)):
            return trouble
        return misremembered(stream, records) if is_endpoint(stream) else ""

    def _from_checkpoint(self, stream: str, head: Head) -> Endpoint:
        """Follow *stream* from its newest checkpoint, or from its beginning when it has none."""
        endpoint = since(head.checkpoint) if head.checkpoint is not None else Endpoint(stream)
        return endpoint if endpoint.seq == head.seq else fold(endpoint, self.journal.read(stream, after=endpoint.seq))

    def _released(self, stream: str, head: Head) -> list[str]:
        """Return the ids of the releases that the records of *stream* name; nothing more is understood of those."""
        before = head.checkpoint.entry.body["releases"] if head.checkpoint is not None else ()
        behind = self.journal.read(stream, after=head.checkpoint.seq if head.checkpoint is not None else 0)
        return list(dict.fromkeys([*before, *(record.entry.release for record in behind if record.entry.release)]))


def release_plain(release: Release) -> dict[str, Any]:
    """Return *release* as JSON values for people and scripts."""
    return {
        "kind": "rollback" if release.by_rollback else "release",
        "release": release.id,
        "model": release.stream.split("/", 1)[1],
        "environment": release.stream.split("/", 1)[0],
        "version": release.version,
        "digest": release.digest,
        "champion": release.champion,
        "by": release.actor,
        "reason": release.reason,
        "opened": release.opened,
        "ended": release.ended,
        "ending": ending(release),
        "takes_out": release.takes_out,
        "headline": headline(release),
        "why": why(release),
        "share": release.share if not release.ending else None,
        "requests": release.exposed.requests,
        "failed": release.exposed.failures,
        "rescued": release.exposed.rescued,
        "judgement": dict(release.judgement),
        "evidence": [dict(finding) for finding in release.evidence],
        "way_back": release.way_back,
        "back_in": release.back_in,
        "crashes": release.crashes,
        "labels": release.amended.to_plain(),
    }


def delivery_plain(delivery: Any) -> dict[str, Any]:
    """Return a delivery as JSON values for people and scripts."""
    return {
        "kind": "delivery",
        "delivery": delivery.id,
        "version": delivery.version,
        "by": delivery.actor,
        "reason": delivery.reason or delivery.trigger,
        "opened": delivery.opened,
        "ended": delivery.ended,
        "ending": delivery.ending,
        "why": delivery.why,
        "help": delivery.help,
        "steps": [dict(step) for step in delivery.steps],
    }


def downtime_plain(record: Record) -> dict[str, Any]:
    """Return a record of a workspace that went down or came back as JSON values for people and scripts."""
    return {
        "kind": record.entry.kind,
        "workspace": record.stream.removeprefix(WORKSPACES),
        "by": record.entry.actor,
        "reason": record.entry.body.get("reason", ""),
        "opened": record.entry.at,
    }


def serving_plain(endpoint: Endpoint, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return what *endpoint* served as JSON values, *status* among them: what serves, since when, who put it there."""
    holder = next((r for r in endpoint.releases if r.id == endpoint.champion_release), None)
    return {
        **status,
        "routing": endpoint.served.to_plain() if endpoint.served else None,
        "routing_since": endpoint.served_since,
        "changing": endpoint.wanted is not None and not endpoint.confirmed,
        "put_there": release_plain(holder) if holder else None,
    }
