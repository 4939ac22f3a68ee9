"""The journal in one SQLite file: what a laptop's workspace remembers.

One row per record, found by stream and number, so that reading what is new costs what is new.  The hold for a tick
is a file lock beside the database and not a row in it: it must end with its process, however that ends.  Several
machines need a journal on a server; this one is for processes that share a disk.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Column, Integer, MetaData, Row, String, Table, Text, select
from sqlalchemy.exc import IntegrityError

from modelcd.adapters.locks import held
from modelcd.adapters.sealing import sealed
from modelcd.adapters.sqlite import Database
from modelcd.domain.records import Entry, Record
from modelcd.errors import Conflict, JournalError, Tampered

FORMAT = 1

_TABLES = MetaData()
_RECORDS = Table(
    "records",
    _TABLES,
    Column("stream", String, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),
    Column("at", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("release", String, nullable=False),
    Column("body", Text, nullable=False),
    Column("previous", String, nullable=False),
    Column("digest", String, nullable=False),
)


class SqlJournal:
    """A `Journal` in the SQLite file *path*; writers wait up to *patience* seconds for each other."""

    def __init__(self, path: Path, *, patience: float = 10.0) -> None:
        self._path = path
        self._database = Database(
            path, _TABLES, what="the journal", fails=JournalError, format=FORMAT, patience=patience
        )

    def read(self, stream: str, after: int = 0) -> list[Record]:
        """Return the records of *stream* numbered above *after*, in order."""
        if not self._database.exists:
            return []
        query = select(_RECORDS).where(_RECORDS.c.stream == stream, _RECORDS.c.seq > after).order_by(_RECORDS.c.seq)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [_record(row) for row in rows]

    def append(self, stream: str, expected: int, entries: Sequence[Entry]) -> list[Record]:
        """Append *entries* behind record number *expected*, all or none; raises `Conflict`, `JournalError`."""
        newest = (
            select(_RECORDS.c.seq, _RECORDS.c.digest)
            .where(_RECORDS.c.stream == stream)
            .order_by(_RECORDS.c.seq.desc())
            .limit(1)
        )
        with self._database.writing() as connection:
            head = connection.execute(newest).first()
            seq, digest = (head.seq, head.digest) if head else (0, "")
            if seq != expected:
                raise _conflict(stream, expected, f"record {seq}")
            records = sealed(stream, seq, digest, entries)
            if records:
                try:
                    connection.execute(_RECORDS.insert(), [_row(record) for record in records])
                except IntegrityError as error:
                    raise _conflict(stream, expected, "another record in that place") from error
        return records

    def streams(self) -> list[str]:
        """Return the names of all streams, sorted."""
        if not self._database.exists:
            return []
        with self._database.reading() as connection:
            return list(connection.scalars(select(_RECORDS.c.stream).distinct().order_by(_RECORDS.c.stream)))

    def exclusive(self, stream: str, wait: float = 0.0) -> AbstractContextManager[None]:
        """Hold *stream* among all processes on this machine; raises `Busy`, saying who has it."""
        lock = self._path.with_name(self._path.name + ".locks") / f"{quote(stream, safe='')}.lock"
        return held(lock, stream, wait, JournalError)


def _conflict(stream: str, expected: int, found: str) -> Conflict:
    return Conflict(
        f"{stream}: wanted to write behind record {expected}, found {found}",
        help="somebody else wrote meanwhile: read again, decide again",
    )


def _row(record: Record) -> dict[str, object]:
    entry = record.entry
    return {
        "stream": record.stream,
        "seq": record.seq,
        "kind": entry.kind,
        "at": entry.at,
        "actor": entry.actor,
        "release": entry.release,
        "body": json.dumps(entry.body, ensure_ascii=False, sort_keys=True),
        "previous": record.previous,
        "digest": record.digest,
    }


def _record(row: Row[tuple[object, ...]]) -> Record:
    try:
        entry = Entry(kind=row.kind, at=row.at, actor=row.actor, release=row.release, body=json.loads(row.body))
    except ValueError as error:
        raise Tampered(
            f"{row.stream}: record {row.seq} was changed after it was written: its body is no JSON",
            help="restore the journal from a backup; keep the changed file",
        ) from error
    return Record(stream=row.stream, seq=row.seq, entry=entry, previous=row.previous, digest=row.digest)
