"""What a journal keeps: records chained by hash, so that a changed, removed or reordered one shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Entry:
    """What is to be recorded: `body` holds plain JSON values, `at` is ISO 8601 in UTC."""

    kind: str
    at: str
    actor: str
    release: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """An entry at its place: the `seq`-th of its stream (from 1), sealed with the digest of the one before."""

    stream: str
    seq: int
    entry: Entry
    previous: str
    digest: str


CHECKPOINT = "checkpoint"
"""The kind of a record that holds the fold of all records before it, so that a reader may begin with it."""


@dataclass(frozen=True)
class Head:
    """The end of a stream: number and digest of its newest record, and its newest record of kind `CHECKPOINT`."""

    seq: int
    digest: str
    checkpoint: Record | None = None

    def behind(self, records: Sequence[Record]) -> Head:
        """Return the head after *records* were appended."""
        newest = next((r for r in reversed(records) if r.entry.kind == CHECKPOINT), self.checkpoint)
        return Head(records[-1].seq, records[-1].digest, newest) if records else self


def seal(stream: str, seq: int, entry: Entry, previous: str) -> Record:
    """Put *entry* at its place; `digest` is sha256 over its canonical JSON and the digest before it."""
    text = json.dumps(
        [stream, seq, entry.kind, entry.at, entry.actor, entry.release, dict(entry.body), previous],
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    return Record(stream, seq, entry, previous, hashlib.sha256(text.encode()).hexdigest())


def broken(records: Iterable[Record]) -> str:
    """Say where the chain of one whole stream breaks, in a sentence; empty when it holds."""
    previous, expected = "", 1
    for record in records:
        if record.seq != expected:
            return f"{record.stream}: record {expected} is missing (found {record.seq} in its place)"
        if record.previous != previous:
            return f"{record.stream}: record {record.seq} does not follow the record before it"
        if seal(record.stream, record.seq, record.entry, record.previous).digest != record.digest:
            return f"{record.stream}: record {record.seq} was changed after it was written"
        previous, expected = record.digest, expected + 1
    return ""


def astray(stream: str, before: Head | None, records: Sequence[Record], after: Head | None) -> str:
    """Say where one whole stream does not agree with its head, in a sentence; empty when it does.

    The head was read *before* and *after* its *records*, because somebody may have written meanwhile.
    """
    if trouble := broken(records):
        return trouble
    number, newest = (before.seq if before else 0), (after.seq if after else 0)
    if len(records) < number:
        return f"{stream}: the newest {number - len(records)} of its {number} records are missing"
    if len(records) > newest:
        return f"{stream}: its head names record {newest}, and there are records behind it"
    if before and before != Head(0, "").behind(records[:number]):
        return f"{stream}: its head was changed and does not belong to its records"
    return ""


def rewritten(stream: str, seq: int, digest: str, records: Sequence[Record]) -> str:
    """Say whether record *seq* is not the one whose *digest* was noted elsewhere, in a sentence; empty when it is."""
    if len(records) < seq:
        return f"{stream}: record {seq} was noted elsewhere and is missing; there are {len(records)} records"
    if records[seq - 1].digest != digest:
        return f"{stream}: record {seq} is not the one that was noted elsewhere: this history was written anew"
    return ""


def until(records: Sequence[Record], moment: datetime | None) -> Sequence[Record]:
    """Return the *records* that were written by *moment*, in order; all of them without one.

    Writers' clocks may differ: what stands before a record that was written by then counts as written, too.
    """
    if moment is None:
        return records
    last = (k for k in range(len(records), 0, -1) if datetime.fromisoformat(records[k - 1].entry.at) <= moment)
    return records[: next(last, 0)]
