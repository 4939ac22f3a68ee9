"""What the journal says, for whoever reads and does not decide: told from the journal alone.

What stands now is read from each stream's newest checkpoint and the few records behind it, so that looking at a
thousand models costs as much as looking at a few; the past of one model is read whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelcd.domain.delivery import NOTICES, Builds, Delivery, fold_builds, is_endpoint, stream_of
from modelcd.domain.recorded import Recorded, recorded
from modelcd.domain.records import Head, astray, rewritten, until
from modelcd.domain.release import Endpoint, Release, fold, misremembered, since
from modelcd.errors import Tampered, UnknownName, UsageError
from modelcd.ports import Journal


@dataclass(frozen=True)
class History:
    """Everything that can be read from *journal*."""

    journal: Journal

    def models(self) -> list[str]:
        """Return the names of all models, sorted."""
        return sorted({stream.split("/", 1)[1] for stream in self.journal.heads() if not stream.startswith(NOTICES)})

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

    def find(self, prefix: str) -> tuple[Endpoint, Release] | tuple[str, Delivery]:
        """Return the release with its endpoint, or the delivery with its model, whose id begins with *prefix*.

        Raises `UnknownName`.
        """
        known: list[str] = []
        if not prefix:
            raise UsageError("which release? its id is empty", help="see: modelcd history MODEL")
        for stream, head in self._heads().items():
            names = _released(head, self._from_checkpoint(stream, head))
            if any(name.startswith(prefix) for name in names):
                endpoint = fold(Endpoint(stream), self.journal.read(stream))
                found = endpoint.release(prefix)
                assert found is not None, "a checkpoint names releases of its stream"
                return endpoint, found
            known += names
        for model in self.models():
            for delivery in self.builds(model).deliveries:
                if delivery.id.startswith(prefix):
                    return model, delivery
                known.append(delivery.id)
        raise UnknownName("release", prefix, known)

    def recorded(self, model: str, environment: str = "production") -> Recorded:
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


def _released(head: Head, endpoint: Endpoint) -> list[str]:
    before = head.checkpoint.entry.body["releases"] if head.checkpoint is not None else ()
    return [*before, *(release.id for release in endpoint.releases)]


def release_plain(release: Release) -> dict[str, Any]:
    """Return *release* as JSON values for people and scripts."""
    return {
        "kind": "release",
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
        "ending": str(release.ending) if release.ending else "",
        "why": str(release.closing.get("reason", "")),
        "share": release.share if not release.ending else None,
        "requests": release.exposed.requests,
        "failed": release.exposed.failures,
        "rescued": release.exposed.rescued,
        "judgement": dict(release.judgement),
        "evidence": [dict(finding) for finding in release.evidence],
        "way_back": release.way_back,
        "back_in": release.back_in,
        "crashes": release.crashes,
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
        "steps": [dict(step) for step in delivery.steps],
    }
